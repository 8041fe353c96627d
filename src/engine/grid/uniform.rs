//! The uniform grid: all cells at one depth.

use std::ops::{ControlFlow, Range};

use super::{Cover, Level, MAX_SUBDIVISIONS, Rect, Rows};
use crate::engine::EngineError;

/// A [`Level`] with few enough cells to hold something of each, numbered in 32 bits.
#[derive(Clone, Debug, PartialEq)]
pub struct UniformGrid {
    level: Level,
}

impl UniformGrid {
    /// Cuts `domain` by `subdivisions` halvings, axes in turn.
    ///
    /// # Errors
    /// [`EngineError::Dimension`], [`EngineError::TooManyCells`], [`EngineError::Domain`].
    pub fn new(domain: Rect, subdivisions: u32) -> Result<Self, EngineError> {
        if subdivisions > MAX_SUBDIVISIONS {
            return Err(EngineError::TooManyCells { subdivisions });
        }
        Ok(Self { level: Level::new(domain, subdivisions)? })
    }

    /// The same with the two ends of some axes glued together.
    ///
    /// # Panics
    /// If there is not one flag for each axis.
    #[must_use]
    pub fn with_periodic_axes(self, periodic: &[bool]) -> Self {
        Self { level: self.level.with_periodic_axes(periodic) }
    }

    /// The level of the bisection.
    pub fn level(&self) -> &Level {
        &self.level
    }

    /// The region that is cut.
    pub fn domain(&self) -> &Rect {
        self.level.domain()
    }

    /// Number of axes.
    pub fn dimension(&self) -> usize {
        self.level.dimension()
    }

    /// Number of halvings.
    pub fn subdivisions(&self) -> u32 {
        self.level.depth()
    }

    /// Number of cells.
    pub fn cells(&self) -> u32 {
        1 << self.level.depth()
    }

    /// Number of cells along an axis.
    pub fn cells_along(&self, axis: usize) -> u32 {
        self.level.cells_along(axis)
    }

    /// Length of a cell along an axis.
    pub fn cell_width(&self, axis: usize) -> f64 {
        self.level.cell_width(axis)
    }

    /// Whether the two ends of an axis are glued together.
    pub fn is_periodic(&self, axis: usize) -> bool {
        self.level.is_periodic(axis)
    }

    /// A cell's coordinate along an axis, in `0..cells_along(axis)`.
    #[inline]
    pub fn coordinate(&self, cell: u32, axis: usize) -> u32 {
        self.level.coordinate(cell.into(), axis)
    }

    /// The cell with these coordinates.
    pub fn cell(&self, coordinates: &[u32]) -> u32 {
        self.level.cell(coordinates) as u32
    }

    /// Position of the grid's `index`-th hyperplane across an axis, `index` in `0..=cells_along(axis)`.
    pub fn hyperplane(&self, axis: usize, index: u32) -> f64 {
        self.level.hyperplane(axis, index)
    }

    /// A cell's region.
    pub fn rect(&self, cell: u32) -> Rect {
        self.level.rect(cell.into())
    }

    /// The cell in which a point lies (on a common face: the upper one), `None` outside the domain.
    pub fn cell_at(&self, point: &[f64]) -> Option<u32> {
        self.level.cell_at(point).map(|cell| cell as u32)
    }

    /// The cells that meet a closed box; see [`Level::cover`].
    pub fn cover(&self, image: &Rect) -> Cover {
        self.level.cover(image)
    }

    /// Calls `visit` with the runs of cells of a box, in increasing order, until it breaks off. Begins with the run in
    /// which `from` lies, if that is one of the box' cells.
    #[inline]
    pub(in crate::engine) fn try_for_each_rows<B>(
        &self,
        first: u32,
        last: u32,
        from: u32,
        mut visit: impl FnMut(Rows<u32>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let (first, last) = (first.into(), last.into());
        if !self.level.goes_across(first, last) {
            let narrow = |rows: Rows<u64>| Rows {
                start: rows.start as u32,
                length: rows.length as u32,
                stride: rows.stride as u32,
                count: rows.count as u32,
            };
            let from = first.max(from.into());
            return self.level.try_for_each_rows(first, last, from, |rows| visit(narrow(rows)));
        }
        let mut run = self.next_run(first as u32, last as u32, from);
        while !run.is_empty() {
            visit(Rows::one(run.clone()))?;
            run = self.next_run(first as u32, last as u32, run.end);
        }
        ControlFlow::Continue(())
    }

    /// The first run of a box, of its cells that are at least `from`; empty if there are none.
    #[inline]
    pub(in crate::engine) fn next_run(&self, first: u32, last: u32, from: u32) -> Range<u32> {
        let run = self.level.next_run(first.into(), last.into(), from.into());
        run.start as u32..run.end as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_not_taken_for_too_many_cells() {
        let unit = Rect::new(&[0.0], &[1.0]);
        assert_eq!(UniformGrid::new(unit, 40), Err(EngineError::TooManyCells { subdivisions: 40 }));
    }
}
