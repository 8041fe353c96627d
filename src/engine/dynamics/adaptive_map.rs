//! Multivalued maps on cells of several depths.

use std::ops::Range;

use super::Digraph;
use crate::engine::Mode;
use crate::engine::grid::{AdaptiveGrid, Cover};

/// A map that sends each cell of an adaptive grid to the cells that meet a box, with its images kept in sixteen bytes a
/// cell, as boxes of cells of the deepest level.
///
/// In full mode a cell whose image leaves the domain has an edge to *exit*, and one where the map is not trusted has no
/// edge but to *unknown*; both are flags, not vertices.
#[derive(Clone, Debug, PartialEq)]
pub struct AdaptiveMap {
    grid: AdaptiveGrid,
    images: Vec<DeepImage>,
}

/// The image of a cell, in cells of the deepest level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DeepImage {
    /// First cell of the box, and flags in the bits above the largest key.
    first: u64,
    /// Last cell of the box.
    last: u64,
}

const EXITS: u64 = 1 << 63;
const UNKNOWN: u64 = 1 << 62;
const EMPTY: u64 = 1 << 61;
const KEY: u64 = EMPTY - 1;

impl DeepImage {
    /// Of a cell where nothing is known: in compatible mode it is sent nowhere.
    pub(super) fn unknown(mode: Mode) -> Self {
        let unknown = if mode == Mode::Full { UNKNOWN } else { 0 };
        Self { first: unknown | EMPTY, last: 0 }
    }

    pub(super) fn new(cover: Cover, mode: Mode) -> Self {
        let exits = if cover.exits && mode == Mode::Full { EXITS } else { 0 };
        match cover.cells {
            Some((first, last)) => Self { first: first | exits, last },
            None => Self { first: EMPTY | exits, last: 0 },
        }
    }

    #[inline]
    fn cells(self) -> Option<(u64, u64)> {
        (self.first & EMPTY == 0).then_some((self.first & KEY, self.last))
    }
}

impl AdaptiveMap {
    /// The map that sends the cells of a grid to these images.
    pub(super) fn new(grid: AdaptiveGrid, images: Vec<DeepImage>) -> Self {
        debug_assert_eq!(grid.cells() as usize, images.len());
        Self { grid, images }
    }

    /// The cells.
    pub fn grid(&self) -> &AdaptiveGrid {
        &self.grid
    }

    /// First and last along every axis of the cells of the grid's deepest level to which a cell is sent, if there are
    /// any. Along a periodic axis the first may come after the last: the box goes on across the ends of the domain.
    pub fn image(&self, cell: u32) -> Option<(u64, u64)> {
        self.images[cell as usize].cells()
    }

    pub(super) fn images(&self) -> &[DeepImage] {
        &self.images
    }

    /// Whether the image of a cell leaves the domain (full mode; never in compatible mode).
    pub fn exits(&self, cell: u32) -> bool {
        self.images[cell as usize].first & EXITS != 0
    }

    /// Whether nothing is known of the image of a cell.
    pub fn is_unknown(&self, cell: u32) -> bool {
        self.images[cell as usize].first & UNKNOWN != 0
    }

    /// Number of edges, those to *exit* and *unknown* not counted.
    pub fn edges(&self) -> u64 {
        let mut edges = 0;
        for cell in 0..self.vertices() {
            self.for_each_run(cell, |run| edges += run.len() as u64);
        }
        edges
    }
}

impl Digraph for AdaptiveMap {
    fn vertices(&self) -> u32 {
        self.grid.cells()
    }

    fn successors(&self, cell: u32, from: u32) -> Range<u32> {
        self.image(cell).map_or(0..0, |(first, last)| self.grid.next_run(first, last, from))
    }

    #[inline]
    fn for_each_run(&self, cell: u32, visit: impl FnMut(Range<u32>)) {
        if let Some((first, last)) = self.image(cell) {
            self.grid.for_each_run(first, last, visit);
        }
    }

    fn escapes(&self, cell: u32) -> bool {
        self.images[cell as usize].first & (EXITS | UNKNOWN) != 0
    }
}
