//! A box or torus of cells at one depth, and what a map on it says of a cell.

use crate::engine::EngineError;
use crate::engine::grid::{Level, MAX_DIMENSION};

/// Cells in rows: 2ᵇ of them along each axis, some axes periodic.
///
/// A cell's *key* is the concatenation of its coordinates' bits, the last axis fastest, as in a uniform grid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CubicalSpace {
    dimension: usize,
    bits: [u32; MAX_DIMENSION],
    shift: [u32; MAX_DIMENSION],
    periodic: [bool; MAX_DIMENSION],
}

impl CubicalSpace {
    /// A space of 2^`bits[axis]` cells along each axis; `periodic[axis]` says whether the axis closes up.
    ///
    /// # Errors
    /// [`EngineError::Dimension`] for no axes or more than six, [`EngineError::Parameter`] for more than 30 bits along
    /// an axis or 64 in all.
    ///
    /// # Panics
    /// If the two differ in length.
    pub fn new(bits: &[u32], periodic: &[bool]) -> Result<Self, EngineError> {
        assert_eq!(bits.len(), periodic.len(), "both say something of every axis");
        let dimension = bits.len();
        if !(1..=MAX_DIMENSION).contains(&dimension) {
            return Err(EngineError::Dimension { dimension });
        }
        let refuse =
            |value: u32, need| Err(EngineError::Parameter { name: "bits", value: f64::from(value), need });
        if let Some(&most) = bits.iter().find(|&&bits| bits > 30) {
            return refuse(most, "at most 30 along an axis");
        }
        let total: u32 = bits.iter().sum();
        if total > 64 {
            return refuse(total, "at most 64 over all axes");
        }
        let mut space = Self {
            dimension,
            bits: [0; MAX_DIMENSION],
            shift: [0; MAX_DIMENSION],
            periodic: [false; MAX_DIMENSION],
        };
        let mut below = 0;
        for axis in (0..dimension).rev() {
            space.bits[axis] = bits[axis];
            space.periodic[axis] = periodic[axis];
            space.shift[axis] = below;
            below += bits[axis];
        }
        Ok(space)
    }

    /// All cells of one depth.
    pub(super) fn of_level(level: &Level) -> Result<Self, EngineError> {
        let (bits, periodic): (Vec<u32>, Vec<bool>) = (0..level.dimension())
            .map(|axis| (level.cells_along(axis).trailing_zeros(), level.is_periodic(axis)))
            .unzip();
        Self::new(&bits, &periodic)
    }

    /// Number of axes.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Number of cells along an axis.
    pub fn cells_along(&self, axis: usize) -> u32 {
        1 << self.bits[axis]
    }

    /// Whether an axis closes up.
    pub fn is_periodic(&self, axis: usize) -> bool {
        self.periodic[axis]
    }

    /// The key of the cell with these coordinates.
    pub fn key(&self, coordinates: &[u32]) -> u64 {
        (0..self.dimension).map(|axis| self.place(axis, coordinates[axis])).sum()
    }

    /// What a coordinate contributes to a key.
    pub(super) fn place(&self, axis: usize, coordinate: u32) -> u64 {
        // an axis of one cell may have its (empty) bits at position 64
        u64::from(coordinate).checked_shl(self.shift[axis]).unwrap_or(0)
    }

    /// The coordinate along an axis of the cell with this key.
    pub fn coordinate(&self, key: u64, axis: usize) -> u32 {
        (key.checked_shr(self.shift[axis]).unwrap_or(0) & (u64::from(self.cells_along(axis)) - 1)) as u32
    }

    /// `coordinate + by` along an axis, unless that lies outside.
    pub(super) fn moved(&self, axis: usize, coordinate: u32, by: i32) -> Option<u32> {
        let cells = i64::from(self.cells_along(axis));
        let moved = i64::from(coordinate) + i64::from(by);
        if self.periodic[axis] {
            Some(moved.rem_euclid(cells) as u32)
        } else {
            (0..cells).contains(&moved).then_some(moved as u32)
        }
    }
}

/// What a map says of a cell: the box of cells that its image meets.
///
/// ```
/// use doodl3::engine::homology::{CubicalSpace, Image};
///
/// let circle = CubicalSpace::new(&[3], &[true])?;
/// // cells 6, 7, 0, 1 of eight
/// let image = Image::cells(circle.key(&[6]), circle.key(&[1]));
/// assert_eq!(image.escape, None);
/// # Ok::<(), doodl3::engine::EngineError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// Keys of the first and the last cell of the box, if it holds any. Along a periodic axis the box goes up from the
    /// first coordinate to the last, through the end of the axis where the last is the smaller.
    pub cells: Option<(u64, u64)>,
    /// Whether the image is not contained in these cells.
    pub escape: Option<Escape>,
}

/// Where an image goes that is not contained in a box of cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// Part of it lies outside the space.
    Exit,
    /// It may lie anywhere: nothing is known of it.
    Unknown,
}

impl Image {
    /// An image within the box of cells between two corners.
    pub fn cells(first: u64, last: u64) -> Self {
        Self { cells: Some((first, last)), escape: None }
    }

    /// An image without cells. Of a space that forgets what leaves it, as the peer's do.
    pub const EMPTY: Self = Self { cells: None, escape: None };

    /// An image of which nothing is known.
    pub const UNKNOWN: Self = Self { cells: None, escape: Some(Escape::Unknown) };

    /// The same box, of an image that is partly outside the space.
    #[must_use]
    pub fn exiting(self) -> Self {
        Self { escape: Some(Escape::Exit), ..self }
    }
}

/// A box of cells, axis by axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CellBox {
    pub(super) first: [u32; MAX_DIMENSION],
    /// Number of cells along each axis, at least 1 unless the box is a common face of others.
    pub(super) length: [u32; MAX_DIMENSION],
}

impl CellBox {
    pub(super) fn new(space: &CubicalSpace, (first, last): (u64, u64)) -> Self {
        let mut cells = Self { first: [0; MAX_DIMENSION], length: [1; MAX_DIMENSION] };
        for axis in 0..space.dimension {
            let (from, to) = (space.coordinate(first, axis), space.coordinate(last, axis));
            assert!(from <= to || space.periodic[axis], "a box goes up along an axis that is not periodic");
            cells.first[axis] = from;
            cells.length[axis] = (to.wrapping_sub(from) & (space.cells_along(axis) - 1)) + 1;
        }
        cells
    }

    /// Whether it is contractible: it does not close up around a periodic axis.
    pub(super) fn is_contractible(&self, space: &CubicalSpace) -> bool {
        (0..space.dimension).all(|axis| !space.periodic[axis] || self.length[axis] < space.cells_along(axis))
    }

    /// What two boxes have in common as closed sets, if it is a box: nothing is not, and two pieces across a period
    /// are not. Along an axis where they only touch its length is 0.
    pub(super) fn intersection(&self, other: &Self, space: &CubicalSpace) -> Option<Self> {
        let mut common = *self;
        for axis in 0..space.dimension {
            let period = u64::from(space.cells_along(axis));
            let (first, length) = (u64::from(self.first[axis]), u64::from(self.length[axis]));
            let (other_first, other_length) = (u64::from(other.first[axis]), u64::from(other.length[axis]));
            let (first, length) = if !space.periodic[axis] {
                let start = first.max(other_first);
                (start, (first + length).min(other_first + other_length).checked_sub(start)?)
            } else if length == period {
                (other_first, other_length)
            } else if other_length == period {
                (first, length)
            } else {
                // once around, counted from the start of `self`: `other` may begin inside it, or come back into it
                let start = (other_first + period - first) % period;
                let begins = length.min(start + other_length).checked_sub(start);
                let returns = (start + other_length).checked_sub(period).map(|end| end.min(length));
                match (begins, returns) {
                    (Some(length), None) => ((first + start) % period, length),
                    (None, Some(length)) => (first, length),
                    _ => return None,
                }
            };
            common.first[axis] = first as u32;
            common.length[axis] = length as u32;
        }
        Some(common)
    }

    /// Whether it holds a cell, and is not only a common face of cells.
    pub(super) fn has_cells(&self) -> bool {
        self.length.iter().all(|&length| length > 0)
    }

    /// Its cells at the end of the space, if it reaches one end, of one axis, and no other.
    pub(super) fn end_layer(&self, space: &CubicalSpace) -> Option<Self> {
        let mut layer = None;
        for axis in (0..space.dimension).filter(|&axis| !space.periodic[axis]) {
            let last = space.cells_along(axis) - 1;
            let is_at_start = self.first[axis] == 0;
            let is_at_end = self.first[axis] + self.length[axis] > last;
            if is_at_start && is_at_end || layer.is_some() && (is_at_start || is_at_end) {
                return None;
            }
            if is_at_start || is_at_end {
                let mut cells = *self;
                cells.first[axis] = if is_at_start { 0 } else { last };
                cells.length[axis] = 1;
                layer = Some(cells);
            }
        }
        layer.filter(|_| self.has_cells())
    }

    /// Calls `visit` with the first and last key of each run of cells along the last axis.
    pub(super) fn for_each_row(&self, space: &CubicalSpace, mut visit: impl FnMut(u64, u64)) {
        let fast = space.dimension - 1;
        let cells = space.cells_along(fast);
        let end = self.first[fast] + self.length[fast];
        let mut at = self.first;
        loop {
            at[fast] = 0;
            let row = space.key(&at[..space.dimension]);
            visit(row + u64::from(self.first[fast]), row + u64::from(end.min(cells) - 1));
            if end > cells {
                visit(row, row + u64::from(end - cells - 1));
            }
            // the next row: count up the slower axes, within the box
            let mut axis = fast;
            loop {
                if axis == 0 {
                    return;
                }
                axis -= 1;
                let position = (at[axis].wrapping_sub(self.first[axis]) & (space.cells_along(axis) - 1)) + 1;
                if position < self.length[axis] {
                    at[axis] = (self.first[axis] + position) & (space.cells_along(axis) - 1);
                    break;
                }
                at[axis] = self.first[axis];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn members(cells: &CellBox, space: &CubicalSpace) -> BTreeSet<u64> {
        let mut members = BTreeSet::new();
        cells.for_each_row(space, |first, last| members.extend(first..=last));
        members
    }

    proptest! {
        #[test]
        fn intersections_are_intersections(
            periodic in prop::array::uniform2(any::<bool>()), corners in prop::array::uniform8(0u32..8)
        ) {
            let space = CubicalSpace::new(&[3, 3], &periodic).unwrap();
            let make = |c: &[u32]| {
                let mut c = [c[0], c[1], c[2], c[3]];
                for axis in 0..2 {
                    if !periodic[axis] && c[axis] > c[axis + 2] {
                        c.swap(axis, axis + 2);
                    }
                }
                CellBox::new(&space, (space.key(&c[..2]), space.key(&c[2..])))
            };
            let (a, b) = (make(&corners[..4]), make(&corners[4..]));
            let both: BTreeSet<u64> = members(&a, &space).intersection(&members(&b, &space)).copied().collect();
            prop_assert_eq!(members(&a, &space).len(), (a.length[0] * a.length[1]) as usize);
            match a.intersection(&b, &space) {
                Some(common) if common.has_cells() => prop_assert_eq!(members(&common, &space), both),
                Some(_) => prop_assert!(both.is_empty(), "they touch"),
                None => prop_assert!(both.is_empty() || periodic != [false; 2]),
            }
        }
    }

    #[test]
    fn two_arcs_may_meet_in_two_pieces() {
        let circle = CubicalSpace::new(&[3], &[true]).unwrap();
        let arc = |first, last| CellBox::new(&circle, (first, last));
        assert_eq!(arc(0, 5).intersection(&arc(4, 1), &circle), None);
        assert_eq!(arc(6, 2).intersection(&arc(1, 4), &circle), Some(arc(1, 2)));
        let touching = arc(0, 3).intersection(&arc(4, 5), &circle).unwrap();
        assert_eq!((touching.first[0], touching.length[0]), (4, 0));
        assert_eq!(arc(0, 3).intersection(&arc(5, 6), &circle), None);
        assert!(arc(6, 4).is_contractible(&circle) && !arc(6, 5).is_contractible(&circle));
    }

    #[test]
    fn impossible_spaces_are_refused() {
        assert!(CubicalSpace::new(&[], &[]).is_err());
        assert!(CubicalSpace::new(&[31], &[false]).is_err());
        assert!(CubicalSpace::new(&[30, 30, 5], &[false; 3]).is_err());
        let most = CubicalSpace::new(&[30, 30, 4], &[false; 3]).unwrap();
        let key = most.key(&[(1 << 30) - 1, 5, 15]);
        assert_eq!([0, 1, 2].map(|axis| most.coordinate(key, axis)), [(1 << 30) - 1, 5, 15]);
    }
}
