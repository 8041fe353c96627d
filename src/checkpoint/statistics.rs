//! Exact statistics of tensors, in one pass.
//!
//! Sums run in [`COLUMNS`] `f64` lanes over pieces of [`PIECE`] elements; pieces are merged by the update formulas of
//! Chan, Golub and LeVeque (1983), so that the variance keeps its digits where the mean is large beside it. The order of
//! all additions is fixed, so the result is the same to the last bit whichever vector instructions the machine has.

#![expect(
    clippy::inline_always,
    reason = "the loops must become part of a function compiled for the machine"
)]

/// Elements that are summed before they are merged.
pub(super) const PIECE: usize = 4096;

/// A piece is taken as rows of so many elements, each of which has a lane of its own …
const COLUMNS: usize = 64;
/// … so many rows at a time.
const ROWS: usize = 8;

/// A number that tensors are made of.
pub(super) trait Real: Copy + PartialOrd {
    /// Zero.
    const ZERO: Self;
    /// Larger than all usable numbers.
    const INFINITY: Self;
    /// Smaller than all usable numbers.
    const NEG_INFINITY: Self;
    /// Whether it is a number that an `f32` can hold.
    fn is_usable(self) -> bool;
    /// As an `f64`, exactly.
    fn wide(self) -> f64;
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const INFINITY: Self = f32::INFINITY;
    const NEG_INFINITY: Self = f32::NEG_INFINITY;

    #[inline(always)]
    fn is_usable(self) -> bool {
        self.abs() <= f32::MAX
    }

    #[inline(always)]
    fn wide(self) -> f64 {
        f64::from(self)
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const INFINITY: Self = f64::INFINITY;
    const NEG_INFINITY: Self = f64::NEG_INFINITY;

    #[inline(always)]
    fn is_usable(self) -> bool {
        self.abs() <= f64::from(f32::MAX)
    }

    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }
}

/// Moments and extremes of the usable elements seen so far, and counts of all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Moments {
    count: u64,
    mean: f64,
    /// Sum of squared distances from the mean.
    scatter: f64,
    sum_of_squares: f64,
    min: f64,
    max: f64,
    zeros: u64,
    nonfinite: u64,
}

impl Moments {
    /// Of nothing.
    pub(super) fn new() -> Self {
        Self {
            count: 0,
            mean: 0.0,
            scatter: 0.0,
            sum_of_squares: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            zeros: 0,
            nonfinite: 0,
        }
    }

    /// Adds at most [`PIECE`] elements. Returns whether all of them were usable.
    ///
    /// `FUSED` says to square and add in one instruction. The square of an `f32` is exact in an `f64`, so for such
    /// elements the result is the same; on a machine without that instruction it would be slow.
    #[inline(always)]
    pub(super) fn add<T: Real, const FUSED: bool>(&mut self, piece: &[T]) -> bool {
        debug_assert!(piece.len() <= PIECE);
        let sums = Sums::of::<T, FUSED>(piece);
        let all_usable = sums.is_some();
        self.merge(&sums.unwrap_or_else(|| Sums::of_usable(piece)));
        all_usable
    }

    fn merge(&mut self, sums: &Sums) {
        self.zeros += sums.zeros;
        self.nonfinite += sums.nonfinite;
        if sums.count == 0 {
            return;
        }
        let (n, m) = (self.count as f64, sums.count as f64);
        let mean = sums.sum / m;
        let distance = mean - self.mean;
        self.scatter += (sums.squares - sums.sum * mean).max(0.0) + distance * distance * (n * m / (n + m));
        self.mean += distance * (m / (n + m));
        self.count += sums.count;
        self.sum_of_squares += sums.squares;
        self.min = self.min.min(sums.min);
        self.max = self.max.max(sums.max);
    }

    pub(super) fn norm(&self) -> f64 {
        self.sum_of_squares.sqrt()
    }

    pub(super) fn mean(&self) -> f64 {
        // Rounding must not carry the mean out of the range of the elements.
        if self.count == 0 { 0.0 } else { self.mean.clamp(self.min, self.max) }
    }

    pub(super) fn variance(&self) -> f64 {
        if self.count == 0 || self.min == self.max { 0.0 } else { self.scatter / self.count as f64 }
    }

    pub(super) fn min(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.min }
    }

    pub(super) fn max(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.max }
    }

    pub(super) fn zeros(&self) -> u64 {
        self.zeros
    }

    pub(super) fn nonfinite(&self) -> u64 {
        self.nonfinite
    }
}

/// Sums over one piece.
struct Sums {
    count: u64,
    sum: f64,
    squares: f64,
    min: f64,
    max: f64,
    zeros: u64,
    nonfinite: u64,
}

impl Sums {
    /// Of elements that are all usable, else nothing.
    ///
    /// The loops over columns go over memory in order and carry nothing from one column to the next; that is what the
    /// compiler turns into vector instructions, whatever their width.
    #[inline(always)]
    fn of<T: Real, const FUSED: bool>(piece: &[T]) -> Option<Self> {
        let mut sum = [0.0; COLUMNS];
        let mut squares = [0.0; COLUMNS];
        let mut min = [T::INFINITY; COLUMNS];
        let mut max = [T::NEG_INFINITY; COLUMNS];
        let mut zeros = [0_u32; COLUMNS];
        let (rows, rest) = piece.as_chunks::<COLUMNS>();
        let (groups, rows) = rows.as_chunks::<ROWS>();
        for group in groups {
            for column in 0..COLUMNS {
                let (mut s, mut q) = (0.0, 0.0);
                for row in group {
                    let x = row[column].wide();
                    s += x;
                    q = if FUSED { x.mul_add(x, q) } else { q + x * x };
                }
                sum[column] += s;
                squares[column] += q;
            }
        }
        for group in groups {
            for column in 0..COLUMNS {
                for row in group {
                    let x = row[column];
                    min[column] = if x < min[column] { x } else { min[column] };
                    max[column] = if x > max[column] { x } else { max[column] };
                    zeros[column] += u32::from(x == T::ZERO);
                }
            }
        }
        for row in rows.iter().map(<[T; COLUMNS]>::as_slice).chain([rest]) {
            for (column, &x) in row.iter().enumerate() {
                sum[column] += x.wide();
                squares[column] += x.wide() * x.wide();
                min[column] = if x < min[column] { x } else { min[column] };
                max[column] = if x > max[column] { x } else { max[column] };
                zeros[column] += u32::from(x == T::ZERO);
            }
        }
        let sums = Self {
            count: piece.len() as u64,
            sum: fold(sum, |a, b| a + b),
            squares: fold(squares, |a, b| a + b),
            min: fold(min, |a, b| if b < a { b } else { a }).wide(),
            max: fold(max, |a, b| if b > a { b } else { a }).wide(),
            zeros: fold(zeros, |a, b| a + b).into(),
            nonfinite: 0,
        };
        // A NaN or an infinity spoils the squares; an f64 beyond the range of f32 is an extreme.
        let usable = |x: f64| x.abs() <= f64::from(f32::MAX);
        let empty = piece.is_empty();
        (empty || sums.squares.is_finite() && usable(sums.min) && usable(sums.max)).then_some(sums)
    }

    /// Of the usable elements among any.
    #[cold]
    fn of_usable<T: Real>(piece: &[T]) -> Self {
        let mut sums = Self {
            count: 0,
            sum: 0.0,
            squares: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            zeros: 0,
            nonfinite: 0,
        };
        for x in piece {
            if !x.is_usable() {
                sums.nonfinite += 1;
                continue;
            }
            let x = x.wide();
            sums.count += 1;
            sums.sum += x;
            sums.squares += x * x;
            sums.min = sums.min.min(x);
            sums.max = sums.max.max(x);
            sums.zeros += u64::from(x == 0.0);
        }
        sums
    }
}

/// Halves the columns until one is left.
#[inline(always)]
fn fold<T: Copy>(mut columns: [T; COLUMNS], merge: impl Fn(T, T) -> T) -> T {
    let mut half = COLUMNS / 2;
    while half > 0 {
        for column in 0..half {
            columns[column] = merge(columns[column], columns[column + half]);
        }
        half /= 2;
    }
    columns[0]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn moments(values: &[f32]) -> Moments {
        let mut moments = Moments::new();
        for piece in values.chunks(PIECE) {
            moments.add::<_, false>(piece);
        }
        moments
    }

    fn close(a: f64, b: f64, scale: f64) -> bool {
        (a - b).abs() <= 1e-12 * scale
    }

    #[test]
    fn of_nothing_everything_is_zero() {
        let none = moments(&[]);
        assert_eq!(
            (none.norm(), none.mean(), none.variance(), none.min(), none.max()),
            (0.0, 0.0, 0.0, 0.0, 0.0)
        );
        let no_number = moments(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
        assert_eq!(
            (no_number.norm(), no_number.min(), no_number.max(), no_number.nonfinite()),
            (0.0, 0.0, 0.0, 3)
        );
    }

    #[test]
    fn the_variance_survives_a_large_mean() {
        // Spacing of f32 near 2^20 is 1/8: two values, one step apart.
        let values: Vec<f32> =
            (0..100_000).map(|i| 1_048_576.0 + if i % 2 == 0 { 0.0 } else { 0.125 }).collect();
        let moments = moments(&values);
        assert!((moments.variance() / 0.003_906_25 - 1.0).abs() < 1e-2, "{}", moments.variance());
        assert_eq!(super::tests::moments(&vec![0.1; 5000]).variance(), 0.0);
    }

    #[test]
    fn an_f64_beyond_f32_counts_as_no_number() {
        let mut moments = Moments::new();
        assert!(!moments.add::<_, false>(&[1.0, 1e100, -1e300, 2.0]));
        assert_eq!((moments.nonfinite(), moments.max(), moments.mean()), (2, 2.0, 1.5));
    }

    #[test]
    fn squaring_and_adding_in_one_instruction_changes_no_bit() {
        let values: Vec<f32> = (0..PIECE).map(|i| (i as f32 * 0.37).sin() * 1e-3).collect();
        let (mut plain, mut fused) = (Moments::new(), Moments::new());
        plain.add::<_, false>(&values);
        fused.add::<_, true>(&values);
        assert_eq!(plain, fused);
    }

    proptest! {
        #[test]
        fn sums_agree_with_the_definitions(
            values in prop::collection::vec(
                prop_oneof![8 => -10.0_f32..10.0, 1 => Just(0.0), 1 => Just(f32::NAN), 1 => Just(f32::INFINITY)],
                0..10_000,
            ),
        ) {
            let moments = moments(&values);
            let finite: Vec<f64> = values.iter().filter(|x| x.is_finite()).map(|&x| f64::from(x)).collect();
            prop_assert_eq!(moments.nonfinite(), (values.len() - finite.len()) as u64);
            prop_assert_eq!(moments.zeros(), finite.iter().filter(|&&x| x == 0.0).count() as u64);
            let n = finite.len().max(1) as f64;
            let mean = finite.iter().sum::<f64>() / n;
            let scatter = finite.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
            let norm = finite.iter().map(|x| x * x).sum::<f64>().sqrt();
            prop_assert!(close(moments.mean(), mean, 10.0));
            prop_assert!(close(moments.variance(), scatter, 100.0));
            prop_assert!(close(moments.norm(), norm, norm));
            if !finite.is_empty() {
                prop_assert_eq!(moments.min(), finite.iter().copied().fold(f64::INFINITY, f64::min));
                prop_assert_eq!(moments.max(), finite.iter().copied().fold(f64::NEG_INFINITY, f64::max));
            }
        }
    }
}
