//! Linear sketches: k numbers in which distances of weights are preserved.
//!
//! A sparse Johnson–Lindenstrauss embedding S: Rᴾ → Rᵏ with one nonzero entry, ±1, in each column. A tensor is cut into
//! blocks of k elements; a block is rotated by an offset of its own and added to the k sums, each element with a random
//! sign of its own. So two elements of different blocks meet in one sum with probability 1/k, two of one block never,
//! and memory is read and written in sequence. Offsets and signs come from a counter-based generator (the finaliser of
//! SplitMix64; Steele, Lea and Flood 2014) keyed by seed and tensor name: a tensor can be sketched alone, in any order,
//! on any machine.
//!
//! Since the signs are independent, E‖Sx‖² = ‖x‖² and Var‖Sx‖² ≤ (2/k)‖x‖⁴ for every x, as with independent hashing
//! (Charikar, Chen and Farach-Colton 2002); only the tails differ, since whole blocks meet together. Measured with
//! k = 2,048 and 400 seeds for each of twelve families of vectors (dense, sparse, of rank one, single rows and columns,
//! repeated blocks, …): the standard deviation of ‖Sx‖²/‖x‖² is at most 1.02 √(2/k), 3.2 %.

#![expect(
    clippy::inline_always,
    reason = "the loops must become part of a function compiled for the machine"
)]

/// Elements whose signs come from one draw of [`COLUMNS`] words.
const SIGN_GROUP: usize = 32 * COLUMNS;
const COLUMNS: usize = 64;

/// Elements that are added up in `f32` before the sums go into `f64`. At most 32 numbers meet in one sum by then, and
/// the rounding, a ten-millionth of the sum, stays of the size of that of the weights themselves.
const FLUSH: usize = 1 << 16;

/// Smallest and largest number of sums.
pub(super) const DIMENSIONS: std::ops::RangeInclusive<usize> = SIGN_GROUP..=32_768;

/// Keys of one tensor's random numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    signs: u64,
    offsets: u64,
    fold: u64,
}

impl Key {
    /// The key of the tensor `name`.
    pub(super) fn new(seed: u64, name: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("doodl3 sketch, version 1");
        hasher.update(&seed.to_le_bytes()).update(name.as_bytes());
        let mut words = [0; 24];
        hasher.finalize_xof().fill(&mut words);
        let word = |i: usize| u64::from_le_bytes(std::array::from_fn(|byte| words[8 * i + byte]));
        Self { signs: word(0), offsets: word(1), fold: word(2) }
    }
}

/// Number `counter` of the sequence of `key`.
#[inline(always)]
fn random(key: u64, counter: u64) -> u64 {
    let mut z = key.wrapping_add(counter.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The sketch of one tensor under way.
#[derive(Debug)]
pub(super) struct TensorSketch {
    key: Key,
    dimension: usize,
    /// Twice as many sums as the sketch has, so that a rotated block is one run.
    recent: Vec<f32>,
    /// Number of elements in them.
    elements: usize,
    sums: Vec<f64>,
}

impl TensorSketch {
    /// A sketch of `dimension` sums, a power of two within [`DIMENSIONS`].
    pub(super) fn new(dimension: usize) -> Self {
        debug_assert!(DIMENSIONS.contains(&dimension) && dimension.is_power_of_two());
        Self {
            key: Key { signs: 0, offsets: 0, fold: 0 },
            dimension,
            recent: vec![0.0; 2 * dimension],
            elements: 0,
            sums: vec![0.0; dimension],
        }
    }

    /// Begins another tensor.
    pub(super) fn begin(&mut self, key: Key) {
        self.key = key;
        self.sums.fill(0.0);
    }

    /// Adds the elements from `start` on, a multiple of 2,048; all must be finite.
    #[inline(always)]
    pub(super) fn add(&mut self, start: usize, values: &[f32]) {
        debug_assert_eq!(start % SIGN_GROUP, 0);
        for (group, values) in (start / SIGN_GROUP..).zip(values.chunks(SIGN_GROUP)) {
            let first = group * SIGN_GROUP;
            let offset = random(self.key.offsets, (first / self.dimension) as u64) as usize % self.dimension;
            let signs = signs(self.key.signs, group);
            let sums = &mut self.recent[offset + first % self.dimension..][..values.len()];
            let (rows, last_row) = values.as_chunks::<COLUMNS>();
            let (sums, last_sums) = sums.as_chunks_mut::<COLUMNS>();
            for (row, (values, sums)) in rows.iter().zip(sums).enumerate() {
                for column in 0..COLUMNS {
                    sums[column] += turned(values[column], signs[column] << row);
                }
            }
            for ((value, sum), word) in last_row.iter().zip(last_sums).zip(signs) {
                *sum += turned(*value, word << rows.len());
            }
        }
        self.elements += values.len();
        if self.elements >= FLUSH {
            self.flush();
        }
    }

    #[inline(always)]
    fn flush(&mut self) {
        let (recent, over) = self.recent.split_at_mut(self.dimension);
        for (sum, (recent, over)) in self.sums.iter_mut().zip(recent.iter().zip(over.iter())) {
            *sum += f64::from(*recent) + f64::from(*over);
        }
        self.recent.fill(0.0);
        self.elements = 0;
    }

    /// The sums.
    pub(super) fn finish(&mut self) -> &[f64] {
        self.flush();
        &self.sums
    }
}

/// `x` with its sign turned where the highest bit of `word` is set.
#[inline(always)]
fn turned(x: f32, word: u32) -> f32 {
    f32::from_bits(x.to_bits() ^ (word & 0x8000_0000))
}

/// The signs of group number `group`: bit 31 - r of word c is that of element 64 r + c.
#[inline(always)]
fn signs(key: u64, group: usize) -> [u32; COLUMNS] {
    let mut words = [0; COLUMNS];
    for (i, pair) in words.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        let random = random(key, (group * COLUMNS / 2 + i) as u64);
        *pair = [random as u32, (random >> 32) as u32];
    }
    words
}

/// A sketch of a sketch: each of the sums goes with a random sign to one of `dimension` others, a power of two.
pub(super) fn fold(key: Key, sums: &[f64], dimension: usize) -> Vec<f64> {
    let mut folded = vec![0.0; dimension];
    for (i, sum) in sums.iter().enumerate() {
        let random = random(key.fold, i as u64);
        let sign = if random >> 63 == 0 { 1.0 } else { -1.0 };
        folded[random as usize % dimension] += sign * sum;
    }
    folded
}

/// The linear sketch of any one vector, such as a model's predictions, to `dimension` numbers; the vector itself where
/// it has no more. Only sketches of equal name, length and dimension are comparable. All values must be finite.
///
/// # Panics
/// If `dimension` is not a power of two from 512 to 32,768.
pub fn sketch_vector(name: &str, values: &[f32], dimension: usize) -> Vec<f32> {
    assert!(DIMENSIONS.contains(&dimension) && dimension.is_power_of_two());
    if values.len() <= dimension {
        return values.to_vec();
    }
    let mut sketch = TensorSketch::new(dimension);
    sketch.begin(Key::new(0, name));
    sketch.add(0, values);
    sketch.finish().iter().map(|sum| *sum as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIMENSION: usize = 2048;

    /// The sketch of one tensor, handed over in pieces of `piece` elements.
    fn sketch_in_pieces(seed: u64, values: &[f32], piece: usize) -> Vec<f64> {
        let mut sketch = TensorSketch::new(DIMENSION);
        sketch.begin(Key::new(seed, "weight"));
        for (i, values) in values.chunks(piece).enumerate() {
            sketch.add(i * piece, values);
        }
        sketch.finish().to_vec()
    }

    fn sketch(seed: u64, values: &[f32]) -> Vec<f64> {
        sketch_in_pieces(seed, values, 4096)
    }

    fn squared_norm<T: Copy + Into<f64>>(values: &[T]) -> f64 {
        values.iter().map(|&x| x.into() * x.into()).sum()
    }

    /// Normally distributed numbers, by the sum of twelve uniform ones.
    fn normal(seed: u64, count: usize) -> Vec<f32> {
        let uniform = |i: u64| (random(seed, i) >> 11) as f64 / (1_u64 << 53) as f64;
        (0..count as u64).map(|i| ((12 * i..12 * i + 12).map(uniform).sum::<f64>() - 6.0) as f32).collect()
    }

    #[test]
    fn each_element_goes_to_one_sum_with_one_sign() {
        let mut values = vec![0.0; 10_000];
        for position in [0, 63, 2047, 2048, 9_999] {
            values[position] = 3.0;
            let sums = sketch(0, &values);
            assert_eq!(sums.iter().filter(|sum| **sum != 0.0).count(), 1, "{position}");
            assert_eq!(squared_norm(&sums), 9.0);
            values[position] = 0.0;
        }
    }

    #[test]
    fn the_sketch_is_linear_and_does_not_depend_on_the_pieces() {
        let (a, b) = (normal(1, 200_000), normal(2, 200_000));
        // Sums of these numbers are exact in f32, so equality is exact, too.
        let rounded = |values: &[f32]| values.iter().map(|x| (x * 16.0).round()).collect::<Vec<_>>();
        let (a, b) = (rounded(&a), rounded(&b));
        let sum: Vec<f32> = a.iter().zip(&b).map(|(a, b)| 2.0 * a - b).collect();
        let combined: Vec<f64> = sketch(3, &a).iter().zip(sketch(3, &b)).map(|(a, b)| 2.0 * a - b).collect();
        assert_eq!(sketch(3, &sum), combined);
        assert_eq!(sketch_in_pieces(3, &a, 65_536), sketch(3, &a));
    }

    #[test]
    fn a_sketch_stays_what_it_is_for_ever() {
        // Stored sketches are compared with new ones, so a change here needs a new version of the state.
        let values: Vec<f32> = (0..5000).map(|i| (i % 17) as f32 - 8.0).collect();
        let sums = sketch(7, &values);
        let digest = blake3::hash(&sums.iter().flat_map(|sum| sum.to_le_bytes()).collect::<Vec<_>>());
        assert_eq!(
            digest.to_hex().as_str(),
            "5cec4a682a2f90d68b975b643c266897727535247aeea0438ad608e5be96c7cd"
        );
        let folded = fold(Key::new(7, "weight"), &sums, 4);
        assert_eq!(folded, [-9.0, -52.0, 56.0, 84.0]);
    }

    #[test]
    fn rounding_stays_below_a_few_ten_millionths() {
        let values = normal(5, 1 << 20);
        // Within a group no two elements meet, so a group's sketch is exact.
        let mut exact = vec![0.0; DIMENSION];
        let mut sketch_of_group = TensorSketch::new(DIMENSION);
        for (group, values) in values.chunks(SIGN_GROUP).enumerate() {
            sketch_of_group.begin(Key::new(0, "weight"));
            sketch_of_group.add(group * SIGN_GROUP, values);
            for (exact, sum) in exact.iter_mut().zip(sketch_of_group.finish()) {
                *exact += sum;
            }
        }
        let error: Vec<f64> = sketch(0, &values).iter().zip(&exact).map(|(a, b)| a - b).collect();
        let relative = (squared_norm(&error) / squared_norm(&exact)).sqrt();
        assert!(relative < 2e-7, "{relative}");
    }

    /// Vectors of the kinds that differences of checkpoints are.
    fn families() -> Vec<(&'static str, Vec<f32>)> {
        let (rows, columns) = (512, 512);
        let noise = normal(11, rows * columns);
        let outer = |u: &[f32], v: &[f32]| -> Vec<f32> {
            u.iter().flat_map(|u| v.iter().map(move |v| u * v)).collect()
        };
        let only = |keep: &dyn Fn(usize) -> bool| -> Vec<f32> {
            noise.iter().enumerate().map(|(i, &x)| if keep(i) { x } else { 0.0 }).collect()
        };
        let sparse = only(&|i| random(13, i as u64).is_multiple_of(100));
        let repeated: Vec<f32> = (0..noise.len()).map(|i| noise[i % DIMENSION]).collect();
        let decaying: Vec<f32> = noise.iter().enumerate().map(|(i, x)| x / (1.0 + i as f32)).collect();
        vec![
            ("normal", noise.clone()),
            ("one sign", vec![1.0; rows * columns]),
            ("signs, as Adam's first step", noise.iter().map(|x| x.signum()).collect()),
            ("1 % of the elements", sparse),
            ("rank one", outer(&normal(14, rows), &normal(15, columns))),
            ("rank one, few rows", outer(&only(&|i| i % 64 == 0)[..rows], &normal(15, columns))),
            ("one row", only(&|i| i / columns == 100)),
            ("one column", only(&|i| i % columns == 100)),
            ("a column of a matrix as wide as a block", only(&|i| i % DIMENSION == 100)),
            ("the same block again and again", repeated),
            (
                "two blocks alike",
                only(&|i| i < DIMENSION).iter().chain(&noise[..DIMENSION]).copied().collect(),
            ),
            ("decaying", decaying),
        ]
    }

    #[test]
    fn squared_distances_hold_within_the_bound() {
        let bound = (2.0 / DIMENSION as f64).sqrt();
        let seeds = 400;
        for (family, values) in families() {
            let norm = squared_norm(&values);
            let ratios: Vec<f64> =
                (0..seeds).map(|seed| squared_norm(&sketch(seed, &values)) / norm).collect();
            let mean = ratios.iter().sum::<f64>() / seeds as f64;
            let deviation = (ratios.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / seeds as f64).sqrt();
            assert!((mean - 1.0).abs() < 4.0 * bound / (seeds as f64).sqrt(), "{family}: mean {mean}");
            assert!(deviation < 1.2 * bound, "{family}: deviation {deviation}, bound {bound}");
        }
    }
}
