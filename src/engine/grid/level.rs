//! All cells at one depth.

use super::meeting::{Meeting, SLACK};
use super::{MAX_DEPTH, MAX_DIMENSION, Rect};
use crate::engine::EngineError;

/// Most halvings of one axis.
const MAX_BITS: u32 = 30;

/// A domain cut into 2ᵏ equal cells, k up to [`MAX_DEPTH`]: one level of its bisection.
///
/// Axis `j` of `d` is halved ⌈(k − j)/d⌉ times. Cells are numbered row by row (the last axis varies fastest), so the
/// *key* of a cell is the concatenation of its coordinates' bits; that is what the bit masks below rely on.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    domain: Rect,
    depth: u32,
    /// Halvings of each axis.
    bits: [u32; MAX_DIMENSION],
    /// Position of each axis' lowest bit in a cell's key.
    shift: [u32; MAX_DIMENSION],
    /// The bits of a key that hold each axis' coordinate.
    masks: [u64; MAX_DIMENSION],
    /// Axes whose ends are one and the same.
    periodic: [bool; MAX_DIMENSION],
    /// Whether there are any.
    is_periodic: bool,
}

/// The cells that meet a box: the box of cells between two corners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cover {
    /// First and last of them along every axis, if there are any. Along a periodic axis the first may come after the
    /// last: the box goes on across the ends of the domain.
    pub cells: Option<(u64, u64)>,
    /// Whether part of the box lies outside the domain.
    pub exits: bool,
}

impl Cover {
    /// Of a box that meets no cell.
    pub(in crate::engine) const NONE: Self = Self { cells: None, exits: true };
}

impl Level {
    /// Cuts `domain` by `depth` halvings, axes in turn.
    ///
    /// # Errors
    /// [`EngineError::Dimension`], [`EngineError::TooManyCells`], [`EngineError::Domain`].
    pub fn new(domain: Rect, depth: u32) -> Result<Self, EngineError> {
        let dimension = domain.dimension();
        if dimension == 0 {
            return Err(EngineError::Dimension { dimension });
        }
        if depth > MAX_DEPTH || depth.div_ceil(dimension as u32) > MAX_BITS {
            return Err(EngineError::TooDeep { depth });
        }
        for axis in 0..dimension {
            let (lower, upper) = (domain.lower()[axis], domain.upper()[axis]);
            if !(lower < upper && (upper - lower).is_finite()) {
                return Err(EngineError::Domain { axis: axis + 1, lower, upper });
            }
        }
        let none = [0; MAX_DIMENSION];
        let mut level = Self {
            domain,
            depth,
            bits: none,
            shift: none,
            masks: [0; MAX_DIMENSION],
            periodic: [false; MAX_DIMENSION],
            is_periodic: false,
        };
        level.lay_out();
        Ok(level)
    }

    /// Says where in a key the bits of each axis are.
    fn lay_out(&mut self) {
        let dimension = self.dimension();
        let mut below = 0;
        for axis in (0..dimension).rev() {
            self.bits[axis] = (self.depth + dimension as u32 - 1 - axis as u32) / dimension as u32;
            self.shift[axis] = below;
            self.masks[axis] = u64::from(self.cells_along(axis) - 1) << below;
            below += self.bits[axis];
        }
    }

    /// The same with the two ends of some axes glued together.
    ///
    /// # Panics
    /// If there is not one flag for each axis.
    #[must_use]
    pub fn with_periodic_axes(mut self, periodic: &[bool]) -> Self {
        assert_eq!(periodic.len(), self.dimension(), "one flag for each axis");
        self.periodic[..periodic.len()].copy_from_slice(periodic);
        self.is_periodic = periodic.contains(&true);
        self
    }

    /// Whether the two ends of any axis are glued together.
    #[inline]
    pub(super) fn has_periodic_axes(&self) -> bool {
        self.is_periodic
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
    #[inline]
    pub fn dimension(&self) -> usize {
        self.domain.dimension()
    }

    /// Number of halvings.
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// Number of cells.
    pub fn cells(&self) -> u64 {
        1 << self.depth
    }

    /// The same domain, cut otherwise.
    ///
    /// # Errors
    /// [`EngineError::TooDeep`].
    pub fn at_depth(&self, depth: u32) -> Result<Self, EngineError> {
        Ok(Self { periodic: self.periodic, is_periodic: self.is_periodic, ..Self::new(self.domain, depth)? })
    }

    /// Number of cells along an axis.
    #[inline]
    pub fn cells_along(&self, axis: usize) -> u32 {
        1 << self.bits[axis]
    }

    /// Length of a cell along an axis.
    pub fn cell_width(&self, axis: usize) -> f64 {
        self.domain.width(axis) / f64::from(self.cells_along(axis))
    }

    /// The bits of a cell's key that hold its coordinate along an axis.
    #[inline]
    pub fn mask(&self, axis: usize) -> u64 {
        self.masks[axis]
    }

    /// A cell's coordinate along an axis, in `0..cells_along(axis)`.
    #[inline]
    pub fn coordinate(&self, cell: u64, axis: usize) -> u32 {
        (cell >> self.shift[axis]) as u32 & (self.cells_along(axis) - 1)
    }

    /// The cell with these coordinates.
    pub fn cell(&self, coordinates: &[u32]) -> u64 {
        (0..self.dimension()).map(|axis| u64::from(coordinates[axis]) << self.shift[axis]).sum()
    }

    /// Position of the grid's `index`-th hyperplane across an axis, `index` in `0..=cells_along(axis)`.
    pub fn hyperplane(&self, axis: usize, index: u32) -> f64 {
        let share = f64::from(index) / f64::from(self.cells_along(axis));
        self.domain.lower()[axis] + self.domain.width(axis) * share
    }

    /// A cell's region.
    pub fn rect(&self, cell: u64) -> Rect {
        let (mut lower, mut upper) = ([0.0; MAX_DIMENSION], [0.0; MAX_DIMENSION]);
        for axis in 0..self.dimension() {
            let at = self.coordinate(cell, axis);
            lower[axis] = self.hyperplane(axis, at);
            upper[axis] = self.hyperplane(axis, at + 1);
        }
        Rect::new(&lower[..self.dimension()], &upper[..self.dimension()])
    }

    /// The cell in which a point lies (on a common face: the upper one), `None` outside the domain.
    pub fn cell_at(&self, point: &[f64]) -> Option<u64> {
        let coordinate = |axis: usize| {
            let count = self.cells_along(axis);
            let mut at = self.in_cells(point[axis], axis);
            if self.periodic[axis] && at.is_finite() {
                at = at.rem_euclid(f64::from(count));
            }
            (0.0..=f64::from(count))
                .contains(&at)
                .then(|| u64::from((at as u32).min(count - 1)) << self.shift[axis])
        };
        (0..self.dimension()).map(coordinate).sum()
    }

    /// The cells that meet a closed box, where a shared face is enough to meet.
    ///
    /// A box with a NaN, or with an upper end below its lower one, meets none and counts as leaving the domain. Along a
    /// periodic axis a box meets a cell wherever any of its translates by whole periods does.
    ///
    /// # Panics
    /// If the box has not the dimension of the domain.
    pub fn cover(&self, image: &Rect) -> Cover {
        assert_eq!(
            image.dimension(),
            self.dimension(),
            "a box has the dimension of the domain that it is in"
        );
        self.cover_of_ends(image.lower(), image.upper())
    }

    /// The rule by which cells meet intervals, along one axis.
    pub(in crate::engine) fn meeting(&self, axis: usize) -> Meeting {
        let count = f64::from(self.cells_along(axis));
        Meeting {
            lower: self.domain.lower()[axis],
            width: self.domain.width(axis),
            count,
            slack: SLACK * count,
            is_periodic: self.periodic[axis],
            shift: self.shift[axis],
        }
    }

    /// [`Self::cover`] of the box between two corners.
    #[inline]
    fn cover_of_ends(&self, lower: &[f64], upper: &[f64]) -> Cover {
        let mut cover = Cover { cells: Some((0, 0)), exits: false };
        for (axis, (&lower, &upper)) in lower.iter().zip(upper).enumerate() {
            let meeting = self.meeting(axis);
            if !meeting.is_interval(lower, upper) {
                return Cover::NONE;
            }
            cover = meeting.add_to(cover, meeting.first(lower), meeting.last(upper));
        }
        cover
    }

    /// The two halves of a cell, keys one level deeper.
    #[inline]
    pub(in crate::engine) fn halves(&self, cell: u64) -> [u64; 2] {
        let axis = self.depth as usize % self.dimension();
        let below = self.shift[axis];
        let lower = cell >> below << (below + 1) | cell & ((1 << below) - 1);
        [lower, lower | 1 << below]
    }

    /// Whether two cells agree along the axis that is halved next and along all before it.
    pub(in crate::engine) fn is_beside(&self, a: u64, b: u64) -> bool {
        let below = self.shift[self.depth as usize % self.dimension()];
        a >> below == b >> below
    }

    /// The cell of a shallower level that holds a cell of this one.
    #[inline]
    pub(in crate::engine) fn ancestor(&self, cell: u64, shallower: &Self) -> u64 {
        (0..self.dimension())
            .map(|axis| {
                let at =
                    (cell & self.mask(axis)) >> self.shift[axis] >> (self.bits[axis] - shallower.bits[axis]);
                at << shallower.shift[axis]
            })
            .sum()
    }

    /// The box of cells of a shallower level that hold the cells of a box.
    #[inline]
    pub(in crate::engine) fn ancestor_box(&self, first: u64, last: u64, shallower: &Self) -> (u64, u64) {
        if self.depth == shallower.depth {
            return (first, last);
        }
        let (mut from, mut to) = (self.ancestor(first, shallower), self.ancestor(last, shallower));
        if self.goes_across(first, last) {
            for axis in 0..self.dimension() {
                let mask = shallower.mask(axis);
                // around the whole circle, back to the cell where it began
                if first & self.mask(axis) > last & self.mask(axis) && from & mask == to & mask {
                    (from, to) = (from & !mask, to | mask);
                }
            }
        }
        (from, to)
    }

    /// The level of a smaller depth, or this one.
    pub(in crate::engine) fn ancestor_level(&self, depth: u32) -> Self {
        let mut level = Self { depth: depth.min(self.depth), ..self.clone() };
        level.lay_out();
        level
    }

    /// First and last of the cells of a deeper level that lie in a cell of this one.
    pub(in crate::engine) fn descendants(&self, cell: u64, deeper: &Self) -> (u64, u64) {
        let mut ends = (0, 0);
        for axis in 0..self.dimension() {
            let more = deeper.bits[axis] - self.bits[axis];
            let at = u64::from(self.coordinate(cell, axis)) << more;
            ends.0 |= at << deeper.shift[axis];
            ends.1 |= (at | ((1 << more) - 1)) << deeper.shift[axis];
        }
        ends
    }

    /// The smallest key in a box.
    #[inline]
    pub(in crate::engine) fn least(&self, first: u64, last: u64) -> u64 {
        if self.goes_across(first, last) { 0 } else { first }
    }

    /// A position along an axis in units of cells, from the domain's lower end.
    fn in_cells(&self, position: f64, axis: usize) -> f64 {
        self.meeting(axis).in_cells(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square(subdivisions: u32) -> Level {
        Level::new(Rect::new(&[0.0, 0.0], &[1.0, 1.0]), subdivisions).unwrap()
    }

    #[test]
    fn axes_are_halved_in_turn() {
        let grid = Level::new(Rect::new(&[0.0; 3], &[1.0; 3]), 14).unwrap();
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
    fn halves_lie_in_their_cell() {
        for dimension in 1..=3 {
            let coarse = Level::new(Rect::new(&vec![0.0; dimension], &vec![1.0; dimension]), 5).unwrap();
            let fine = coarse.at_depth(6).unwrap();
            for cell in 0..coarse.cells() {
                let [lower, upper] = coarse.halves(cell).map(|half| fine.rect(half));
                let mut whole = lower;
                whole.include(upper.lower(), upper.upper());
                assert_eq!(whole, coarse.rect(cell));
                for half in coarse.halves(cell) {
                    assert_eq!(fine.ancestor(half, &coarse), cell);
                }
            }
        }
    }

    #[test]
    fn a_periodic_axis_has_no_ends() {
        let circle = Level::new(Rect::new(&[0.0], &[1.0]), 4).unwrap().with_periodic_axes(&[true]);
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
        assert_eq!(Level::new(unit, 70), Err(EngineError::TooDeep { depth: 70 }));
        let flat = Level::new(Rect::new(&[0.0, 1.0], &[1.0, 1.0]), 4);
        assert_eq!(flat, Err(EngineError::Domain { axis: 2, lower: 1.0, upper: 1.0 }));
        assert!(Level::new(Rect::new(&[0.0], &[f64::INFINITY]), 4).is_err());
    }
}
