//! Boxes in phase space.

use super::MAX_DIMENSION;

/// A product of closed intervals. It lives on the stack: a map of millions of cells allocates nothing for them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rect {
    dimension: usize,
    lower: [f64; MAX_DIMENSION],
    upper: [f64; MAX_DIMENSION],
}

impl Rect {
    /// The box between two corners.
    ///
    /// # Panics
    /// If the corners differ in length, or have more than [`MAX_DIMENSION`] coordinates.
    pub fn new(lower: &[f64], upper: &[f64]) -> Self {
        assert_eq!(lower.len(), upper.len(), "both corners of a box have one dimension");
        let mut rect =
            Self { dimension: lower.len(), lower: [0.0; MAX_DIMENSION], upper: [0.0; MAX_DIMENSION] };
        rect.lower[..lower.len()].copy_from_slice(lower);
        rect.upper[..upper.len()].copy_from_slice(upper);
        rect
    }

    /// The box that is one point.
    ///
    /// # Panics
    /// If the point has more than [`MAX_DIMENSION`] coordinates.
    pub fn point(point: &[f64]) -> Self {
        Self::new(point, point)
    }

    /// Number of axes.
    #[inline]
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Lower end along each axis.
    #[inline]
    pub fn lower(&self) -> &[f64] {
        &self.lower[..self.dimension]
    }

    /// Upper end along each axis.
    #[inline]
    pub fn upper(&self) -> &[f64] {
        &self.upper[..self.dimension]
    }

    /// Length along an axis.
    pub fn width(&self, axis: usize) -> f64 {
        self.upper[axis] - self.lower[axis]
    }

    /// Grows so as to hold the box between `lower` and `upper`. NaN stays NaN, so that it is not lost.
    pub fn include(&mut self, lower: &[f64], upper: &[f64]) {
        for axis in 0..self.dimension {
            if lower[axis] < self.lower[axis] || lower[axis].is_nan() {
                self.lower[axis] = lower[axis];
            }
            if upper[axis] > self.upper[axis] || upper[axis].is_nan() {
                self.upper[axis] = upper[axis];
            }
        }
    }

    /// Moves both ends outward by `by[axis]`.
    pub fn widen(&mut self, by: &[f64]) {
        let ends = self.lower.iter_mut().zip(&mut self.upper).take(self.dimension);
        for ((lower, upper), by) in ends.zip(by) {
            *lower -= by;
            *upper += by;
        }
    }

    /// Whether the point lies inside or on the boundary.
    pub fn contains(&self, point: &[f64]) -> bool {
        (0..self.dimension).all(|axis| (self.lower[axis]..=self.upper[axis]).contains(&point[axis]))
    }
}
