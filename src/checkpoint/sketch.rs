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
//! (Charikar, Chen and Farach-Colton 2002); only the tails differ, since whole blocks meet together.

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
#[expect(clippy::inline_always, reason = "must become part of the vectorised loop")]
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
    #[expect(clippy::inline_always, reason = "vectorised for the machine by the caller")]
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
    #[expect(clippy::inline_always, reason = "vectorised for the machine by the caller")]
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
#[expect(clippy::inline_always, reason = "must become part of the vectorised loop")]
fn turned(x: f32, word: u32) -> f32 {
    f32::from_bits(x.to_bits() ^ (word & 0x8000_0000))
}

/// The signs of group number `group`: bit 31 - r of word c is that of element 64 r + c.
#[inline(always)]
#[expect(clippy::inline_always, reason = "must become part of the vectorised loop")]
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
