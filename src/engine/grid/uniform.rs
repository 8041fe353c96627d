//! The uniform grid: all cells at one depth.

use super::{MAX_DIMENSION, MAX_SUBDIVISIONS, Rect};
use crate::engine::EngineError;

/// Share of the domain's width by which boxes are taken to be larger when cells that meet them are sought, so that
/// rounding never loses a cell that is touched. CMGDB's rule, kept so that results agree edge by edge.
const SLACK: f64 = 1.0 / (1u64 << 50) as f64;

/// A domain cut into 2ᵏ equal cells.
///
/// Axis `j` of `d` is halved ⌈(k − j)/d⌉ times. Cells are numbered row by row (the last axis varies fastest), so the
/// index of a cell is the concatenation of its coordinates' bits; that is what the bit masks below rely on.
#[derive(Clone, Debug, PartialEq)]
pub struct UniformGrid {
    domain: Rect,
    subdivisions: u32,
    /// Halvings of each axis.
    bits: [u32; MAX_DIMENSION],
    /// Position of each axis' lowest bit in a cell's index.
    shift: [u32; MAX_DIMENSION],
    /// Axes whose ends are one and the same.
    periodic: [bool; MAX_DIMENSION],
}

/// The cells that meet a box: the box of cells between two corners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cover {
    /// First and last of them along every axis, if there are any. Along a periodic axis the first may come after the
    /// last: the box goes on across the ends of the domain.
    pub cells: Option<(u32, u32)>,
    /// Whether part of the box lies outside the domain.
    pub exits: bool,
}

impl UniformGrid {
    /// Cuts `domain` by `subdivisions` halvings, axes in turn.
    ///
    /// # Errors
    /// [`EngineError::Dimension`], [`EngineError::TooManyCells`], [`EngineError::Domain`].
    pub fn new(domain: Rect, subdivisions: u32) -> Result<Self, EngineError> {
        let dimension = domain.dimension();
        if dimension == 0 {
            return Err(EngineError::Dimension { dimension });
        }
        if subdivisions > MAX_SUBDIVISIONS {
            return Err(EngineError::TooManyCells { subdivisions });
        }
        for axis in 0..dimension {
            let (lower, upper) = (domain.lower()[axis], domain.upper()[axis]);
            if !(lower < upper && (upper - lower).is_finite()) {
                return Err(EngineError::Domain { axis: axis + 1, lower, upper });
            }
        }
        let (mut bits, mut shift) = ([0; MAX_DIMENSION], [0; MAX_DIMENSION]);
        let mut below = 0;
        for axis in (0..dimension).rev() {
            bits[axis] = (subdivisions + dimension as u32 - 1 - axis as u32) / dimension as u32;
            shift[axis] = below;
            below += bits[axis];
        }
        Ok(Self { domain, subdivisions, bits, shift, periodic: [false; MAX_DIMENSION] })
    }

    /// The same with the two ends of some axes glued together.
    ///
    /// # Panics
    /// If there is not one flag for each axis.
    #[must_use]
    pub fn with_periodic_axes(mut self, periodic: &[bool]) -> Self {
        assert_eq!(periodic.len(), self.dimension(), "one flag for each axis");
        self.periodic[..periodic.len()].copy_from_slice(periodic);
        self
    }

    /// Whether the two ends of any axis are glued together.
    pub(super) fn has_periodic_axes(&self) -> bool {
        self.periodic[..self.dimension()].contains(&true)
    }

    /// Whether the two ends of an axis are glued together.
    pub fn is_periodic(&self, axis: usize) -> bool {
        self.periodic[axis]
    }

    /// The region that is cut.
    pub fn domain(&self) -> &Rect {
        &self.domain
    }

    /// Number of axes.
    pub fn dimension(&self) -> usize {
        self.domain.dimension()
    }

    /// Number of halvings.
    pub fn subdivisions(&self) -> u32 {
        self.subdivisions
    }

    /// Number of cells.
    pub fn cells(&self) -> u32 {
        1 << self.subdivisions
    }

    /// Number of cells along an axis.
    pub fn cells_along(&self, axis: usize) -> u32 {
        1 << self.bits[axis]
    }

    /// Length of a cell along an axis.
    pub fn cell_width(&self, axis: usize) -> f64 {
        self.domain.width(axis) / f64::from(self.cells_along(axis))
    }

    /// The bits of a cell's index that hold its coordinate along an axis.
    pub fn mask(&self, axis: usize) -> u32 {
        (self.cells_along(axis) - 1) << self.shift[axis]
    }

    /// A cell's coordinate along an axis, in `0..cells_along(axis)`.
    pub fn coordinate(&self, cell: u32, axis: usize) -> u32 {
        (cell >> self.shift[axis]) & (self.cells_along(axis) - 1)
    }

    /// The cell with these coordinates.
    pub fn cell(&self, coordinates: &[u32]) -> u32 {
        (0..self.dimension()).map(|axis| coordinates[axis] << self.shift[axis]).sum()
    }

    /// Position of the grid's `index`-th hyperplane across an axis, `index` in `0..=cells_along(axis)`.
    pub fn hyperplane(&self, axis: usize, index: u32) -> f64 {
        let share = f64::from(index) / f64::from(self.cells_along(axis));
        self.domain.lower()[axis] + self.domain.width(axis) * share
    }

    /// A cell's region.
    pub fn rect(&self, cell: u32) -> Rect {
        let (mut lower, mut upper) = ([0.0; MAX_DIMENSION], [0.0; MAX_DIMENSION]);
        for axis in 0..self.dimension() {
            let at = self.coordinate(cell, axis);
            lower[axis] = self.hyperplane(axis, at);
            upper[axis] = self.hyperplane(axis, at + 1);
        }
        Rect::new(&lower[..self.dimension()], &upper[..self.dimension()])
    }

    /// The cell in which a point lies (on a common face: the upper one), `None` outside the domain.
    pub fn cell_at(&self, point: &[f64]) -> Option<u32> {
        let coordinate = |axis: usize| {
            let count = self.cells_along(axis);
            let mut at = self.in_cells(point[axis], axis);
            if self.periodic[axis] && at.is_finite() {
                at = at.rem_euclid(f64::from(count));
            }
            (0.0..=f64::from(count)).contains(&at).then(|| (at as u32).min(count - 1) << self.shift[axis])
        };
        (0..self.dimension()).map(coordinate).sum()
    }

    /// The cells that meet a closed box, where a shared face is enough to meet.
    ///
    /// A box with a NaN, or with an upper end below its lower one, meets none and counts as leaving the domain. Along a
    /// periodic axis a box meets a cell wherever any of its translates by whole periods does.
    pub fn cover(&self, image: &Rect) -> Cover {
        self.cover_of_ends(image.lower(), image.upper())
    }

    /// [`Self::cover`] of the box between two corners.
    #[inline]
    pub(in crate::engine) fn cover_of_ends(&self, lower: &[f64], upper: &[f64]) -> Cover {
        let (mut first, mut last, mut exits) = (0, 0, false);
        for axis in 0..lower.len() {
            let count = f64::from(self.cells_along(axis));
            let slack = SLACK * count;
            let low = self.in_cells(lower[axis], axis) - slack;
            let high = self.in_cells(upper[axis], axis) + slack;
            let (from, to) = if self.periodic[axis] {
                match wrapped(low, high, count) {
                    Some(ends) => ends,
                    None => return Cover { cells: None, exits: true },
                }
            } else {
                let is_met = low <= count && high >= 0.0 && low <= high;
                if !is_met {
                    return Cover { cells: None, exits: true };
                }
                exits |= low < -2.0 * slack || high > count + 2.0 * slack;
                (below(low), high.min(count - 1.0) as u32)
            };
            first |= from << self.shift[axis];
            last |= to << self.shift[axis];
        }
        Cover { cells: Some((first, last)), exits }
    }

    /// A position along an axis in units of cells, from the domain's lower end.
    fn in_cells(&self, position: f64, axis: usize) -> f64 {
        (position - self.domain.lower()[axis]) / self.domain.width(axis) * f64::from(self.cells_along(axis))
    }
}

/// The last cell that begins before a position (the first one if none does).
fn below(position: f64) -> u32 {
    let cell = position as u32;
    if f64::from(cell) < position { cell } else { cell.saturating_sub(1) }
}

/// First and last of the cells around a circle of `count` cells that meet an interval, `None` for no interval.
fn wrapped(low: f64, high: f64, count: f64) -> Option<(u32, u32)> {
    if !(low <= high) {
        return None;
    }
    let (from, to) = (low.ceil() - 1.0, high.floor());
    // also where the ends are infinite, or too large for their difference to be exact
    if !(to - from + 1.0 < count) {
        return Some((0, count as u32 - 1));
    }
    Some((from.rem_euclid(count) as u32, to.rem_euclid(count) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square(subdivisions: u32) -> UniformGrid {
        UniformGrid::new(Rect::new(&[0.0, 0.0], &[1.0, 1.0]), subdivisions).unwrap()
    }

    #[test]
    fn axes_are_halved_in_turn() {
        let grid = UniformGrid::new(Rect::new(&[0.0; 3], &[1.0; 3]), 14).unwrap();
        assert_eq!([0, 1, 2].map(|axis| grid.cells_along(axis)), [32, 32, 16]);
        assert_eq!(grid.cells(), 1 << 14);
    }

    #[test]
    fn a_cell_lies_where_its_index_says() {
        let grid = square(5);
        for cell in 0..grid.cells() {
            let rect = grid.rect(cell);
            let centre = [0, 1].map(|axis| f64::midpoint(rect.lower()[axis], rect.upper()[axis]));
            assert_eq!(grid.cell_at(&centre), Some(cell));
            assert_eq!(grid.cell(&[grid.coordinate(cell, 0), grid.coordinate(cell, 1)]), cell);
        }
        assert_eq!(grid.cell_at(&[1.0, 1.0]), Some(grid.cells() - 1));
        assert_eq!(grid.cell_at(&[1.01, 0.5]), None);
        assert_eq!(grid.cell_at(&[f64::NAN, 0.5]), None);
    }

    #[test]
    fn a_point_on_a_grid_line_meets_the_cells_on_both_sides() {
        let grid = square(4);
        let cover = grid.cover(&Rect::point(&[0.25, 0.6]));
        assert_eq!(cover, Cover { cells: Some((grid.cell(&[0, 2]), grid.cell(&[1, 2]))), exits: false });
        let corner = grid.cover(&Rect::point(&[1.0, 1.0]));
        assert_eq!(corner, Cover { cells: Some((grid.cells() - 1, grid.cells() - 1)), exits: false });
    }

    #[test]
    fn what_leaves_the_domain_exits() {
        let grid = square(4);
        assert_eq!(grid.cover(&Rect::new(&[-0.1, 0.1], &[0.1, 0.2])).cells, Some((0, 0)));
        assert!(grid.cover(&Rect::new(&[-0.1, 0.1], &[0.1, 0.2])).exits);
        for image in
            [Rect::point(&[1.1, 0.5]), Rect::point(&[f64::NAN, 0.5]), Rect::new(&[0.6, 0.6], &[0.4, 0.6])]
        {
            assert_eq!(grid.cover(&image), Cover { cells: None, exits: true });
        }
        let all = grid.cover(&Rect::new(&[f64::NEG_INFINITY; 2], &[f64::INFINITY; 2]));
        assert_eq!(all, Cover { cells: Some((0, 15)), exits: true });
    }

    #[test]
    fn a_periodic_axis_has_no_ends() {
        let circle = UniformGrid::new(Rect::new(&[0.0], &[1.0]), 4).unwrap().with_periodic_axes(&[true]);
        let cells = |low: f64, high: f64| circle.cover(&Rect::new(&[low], &[high])).cells;
        assert_eq!(cells(0.3, 0.5), Some((4, 8)));
        assert_eq!(cells(0.9, 1.1), Some((14, 1)), "across the ends");
        assert_eq!(cells(0.0, 0.0), Some((15, 0)), "the ends are one point");
        assert_eq!(cells(-1.72, -1.65), Some((4, 5)), "several periods away");
        assert_eq!(cells(2.3, 2.35), Some((4, 5)));
        assert_eq!(cells(-0.2, 1.3), Some((0, 15)), "wider than the period");
        assert_eq!(cells(f64::NEG_INFINITY, 0.0), Some((0, 15)));
        assert_eq!(cells(f64::NAN, 0.0), None);
        assert!(!circle.cover(&Rect::new(&[0.9], &[1.1])).exits);
        assert_eq!(circle.cell_at(&[-0.05]), Some(15));
        assert_eq!(circle.cell_at(&[7.3]), Some(4));
        assert_eq!(circle.cell_at(&[f64::INFINITY]), None);
    }

    #[test]
    fn impossible_grids_are_refused() {
        let unit = Rect::new(&[0.0], &[1.0]);
        assert_eq!(UniformGrid::new(unit, 40), Err(EngineError::TooManyCells { subdivisions: 40 }));
        let flat = UniformGrid::new(Rect::new(&[0.0, 1.0], &[1.0, 1.0]), 4);
        assert_eq!(flat, Err(EngineError::Domain { axis: 2, lower: 1.0, upper: 1.0 }));
        assert!(UniformGrid::new(Rect::new(&[0.0], &[f64::INFINITY]), 4).is_err());
    }
}
