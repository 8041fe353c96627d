//! Multivalued maps on cells that have a place.

use super::{AdaptiveMap, BoxMap, Digraph, RecurrentSet};
use crate::engine::grid::{CellSet, Level, Rect};

/// A multivalued map on the cells of a grid, uniform or adaptive: what else there is to ask than where edges lead.
pub trait CellMap: Digraph {
    /// The cell in which a point lies, `None` outside the domain.
    fn cell_at(&self, point: &[f64]) -> Option<u32>;

    /// A cell's region.
    fn rect(&self, cell: u32) -> Rect;

    /// Whether nothing is known of the image of a cell.
    fn is_unknown(&self, cell: u32) -> bool;

    /// Number of edges, those to *exit* and *unknown* not counted.
    fn edges(&self) -> u64;

    /// The levels on which cells lie, the shallowest first, each with the keys of these cells as runs (first, length).
    /// Cells are numbered in this order.
    fn levels(&self) -> Vec<(Level, Vec<(u64, u64)>)>;

    /// The bounding box of a Morse set.
    fn hull(&self, set: &RecurrentSet) -> Rect {
        let mut hull = self.rect(set.first());
        for cell in set.iter() {
            let rect = self.rect(cell);
            hull.include(rect.lower(), rect.upper());
        }
        hull
    }
}

impl CellMap for BoxMap {
    fn cell_at(&self, point: &[f64]) -> Option<u32> {
        self.grid().cell_at(point)
    }

    fn rect(&self, cell: u32) -> Rect {
        self.grid().rect(cell)
    }

    fn is_unknown(&self, cell: u32) -> bool {
        self.is_unknown(cell)
    }

    fn edges(&self) -> u64 {
        self.edges()
    }

    fn levels(&self) -> Vec<(Level, Vec<(u64, u64)>)> {
        vec![(self.grid().level().clone(), vec![(0, self.grid().cells().into())])]
    }
}

impl CellMap for AdaptiveMap {
    fn cell_at(&self, point: &[f64]) -> Option<u32> {
        self.grid().cell_at(point)
    }

    fn rect(&self, cell: u32) -> Rect {
        self.grid().rect(cell)
    }

    fn is_unknown(&self, cell: u32) -> bool {
        self.is_unknown(cell)
    }

    fn edges(&self) -> u64 {
        self.edges()
    }

    fn levels(&self) -> Vec<(Level, Vec<(u64, u64)>)> {
        let level = |set: &CellSet| {
            let runs = set.keys().chunk_by(|&a, &b| a + 1 == b).map(|run| (run[0], run.len() as u64));
            (set.level().clone(), runs.collect())
        };
        self.grid().sets().iter().map(level).collect()
    }
}
