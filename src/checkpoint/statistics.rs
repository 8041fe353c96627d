//! Exact statistics of tensors, in one pass.
//!
//! Sums run in sixteen `f64` lanes over pieces of [`PIECE`] elements; pieces are merged by the update formulas of Chan,
//! Golub and LeVeque (1983), so that the variance keeps its digits where the mean is large beside it. The number of
//! lanes is fixed, so the result is the same to the last bit whichever vector instructions the machine has.

/// Elements that are summed before they are merged.
pub(super) const PIECE: usize = 4096;

const LANES: usize = 16;

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
    /// The same with the sign turned where the highest bit of `mask` is set.
    fn turned(self, mask: u32) -> f64;
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const INFINITY: Self = f32::INFINITY;
    const NEG_INFINITY: Self = f32::NEG_INFINITY;

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "must become part of the vectorised loop")]
    fn is_usable(self) -> bool {
        self.abs() <= f32::MAX
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "must become part of the vectorised loop")]
    fn wide(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "must become part of the vectorised loop")]
    fn turned(self, mask: u32) -> f64 {
        f64::from(f32::from_bits(self.to_bits() ^ (mask & 0x8000_0000)))
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const INFINITY: Self = f64::INFINITY;
    const NEG_INFINITY: Self = f64::NEG_INFINITY;

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "must become part of the vectorised loop")]
    fn is_usable(self) -> bool {
        self.abs() <= f64::from(f32::MAX)
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "must become part of the vectorised loop")]
    fn wide(self) -> f64 {
        self
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "must become part of the vectorised loop")]
    fn turned(self, mask: u32) -> f64 {
        f64::from_bits(self.to_bits() ^ (u64::from(mask & 0x8000_0000) << 32))
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
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "vectorised for the machine by the caller")]
    pub(super) fn add<T: Real>(&mut self, piece: &[T]) -> bool {
        debug_assert!(piece.len() <= PIECE);
        let sums = Sums::of(piece);
        let all_usable = sums.nonfinite == 0;
        self.merge(&if all_usable { sums } else { Sums::of_usable(piece) });
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
    /// Of elements that are all usable; if `nonfinite` comes out above 0, nothing else in it means anything.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "vectorised for the machine by the caller")]
    fn of<T: Real>(piece: &[T]) -> Self {
        let mut sum = [0.0; LANES];
        let mut squares = [0.0; LANES];
        let mut min = [T::INFINITY; LANES];
        let mut max = [T::NEG_INFINITY; LANES];
        let mut zeros = [0_u32; LANES];
        let mut nonfinite = [0_u32; LANES];
        let (chunks, rest) = piece.as_chunks::<LANES>();
        let mut add = |lane: usize, x: T| {
            let wide = x.wide();
            sum[lane] += wide;
            squares[lane] += wide * wide;
            min[lane] = if x < min[lane] { x } else { min[lane] };
            max[lane] = if x > max[lane] { x } else { max[lane] };
            zeros[lane] += u32::from(x == T::ZERO);
            nonfinite[lane] += u32::from(!x.is_usable());
        };
        for chunk in chunks {
            for (lane, &x) in chunk.iter().enumerate() {
                add(lane, x);
            }
        }
        for (lane, &x) in rest.iter().enumerate() {
            add(lane, x);
        }
        Self {
            count: piece.len() as u64,
            sum: sum.iter().sum(),
            squares: squares.iter().sum(),
            min: min.iter().fold(f64::INFINITY, |least, x| least.min(x.wide())),
            max: max.iter().fold(f64::NEG_INFINITY, |most, x| most.max(x.wide())),
            zeros: zeros.iter().map(|&count| u64::from(count)).sum(),
            nonfinite: nonfinite.iter().map(|&count| u64::from(count)).sum(),
        }
    }

    /// Of the usable elements among any.
    #[cold]
    fn of_usable<T: Real>(piece: &[T]) -> Self {
        let usable: Vec<f64> = piece.iter().filter(|x| x.is_usable()).map(|x| x.wide()).collect();
        Self { nonfinite: (piece.len() - usable.len()) as u64, ..Self::of(&usable) }
    }
}
