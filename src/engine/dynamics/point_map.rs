//! What a map does to the corners of cells.

use crate::engine::Control;
use crate::engine::grid::MAX_DIMENSION;

/// The points whose coordinates come from one list for each axis; the last axis varies fastest.
///
/// Corners of cells are handed over in this form, and not one by one, since a map may use it: a squared exponential
/// kernel is a product over the axes.
#[derive(Clone, Copy, Debug)]
pub struct Lattice<'a> {
    /// Coordinates along each axis.
    pub axes: &'a [&'a [f64]],
}

impl Lattice<'_> {
    /// Number of points.
    pub fn len(&self) -> usize {
        self.axes.iter().map(|axis| axis.len()).product()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the coordinates of the point of this number.
    pub fn point(&self, number: usize, point: &mut [f64]) {
        let mut rest = number;
        for (coordinate, axis) in point.iter_mut().zip(self.axes).rev() {
            *coordinate = axis[rest % axis.len()];
            rest /= axis.len();
        }
    }
}

/// Where the images of a lattice's points are written: for each point the ends of a box, `dimension` numbers each.
#[derive(Debug)]
pub struct CornerImages<'a> {
    /// Lower ends.
    pub lower: &'a mut [f64],
    /// Upper ends.
    pub upper: &'a mut [f64],
    /// Whether the map is known at each point; all are when it is called.
    pub trusted: &'a mut [bool],
}

/// A map that is evaluated at the corners of cells, each corner once.
pub trait Corners: Sync {
    /// Encloses the image of every point.
    ///
    /// Where this takes long it looks at `control`'s cancel flag, and may return early once it is raised: the result
    /// is thrown away then.
    fn images(&self, points: &Lattice<'_>, images: CornerImages<'_>, control: &Control);
}

/// A map given as a closure that writes the image of a point.
///
/// ```
/// use doodl3::engine::dynamics::PointMap;
///
/// let logistic = PointMap::new(|x: &[f64], image: &mut [f64]| image[0] = 3.83 * x[0] * (1.0 - x[0]));
/// # let _ = logistic;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct PointMap<F>(F);

impl<F: Fn(&[f64], &mut [f64]) + Sync> PointMap<F> {
    /// The map that `evaluate(point, image)` computes.
    pub fn new(evaluate: F) -> Self {
        Self(evaluate)
    }
}

impl<F: Fn(&[f64], &mut [f64]) + Sync> Corners for PointMap<F> {
    fn images(&self, points: &Lattice<'_>, images: CornerImages<'_>, _control: &Control) {
        let dimension = points.axes.len();
        let Some(&last) = points.axes.last() else { return };
        let row = last.len() * dimension;
        let mut point = [0.0; MAX_DIMENSION];
        let rows = images.lower.chunks_exact_mut(row).zip(images.upper.chunks_exact_mut(row));
        for (number, (lower, upper)) in rows.enumerate() {
            points.point(number * last.len(), &mut point[..dimension]);
            for (image, &x) in lower.chunks_exact_mut(dimension).zip(last) {
                point[dimension - 1] = x;
                (self.0)(&point[..dimension], image);
            }
            upper.copy_from_slice(lower);
        }
    }
}
