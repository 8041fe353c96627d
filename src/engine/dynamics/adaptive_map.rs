//! Multivalued maps on cells of several depths.

use std::ops::{ControlFlow, Range};

use rayon::prelude::*;

use super::Digraph;
use crate::engine::grid::{AdaptiveGrid, Cover, Rows};
use crate::engine::{Control, EngineError, Mode};

/// A map that sends each cell of an adaptive grid to the cells that meet a box.
///
/// On cells of several depths it takes a search to say which cells meet a box, so that is done once: kept are the boxes, in
/// sixteen bytes a cell, and the runs of cells that meet them, in eight bytes a run.
///
/// In full mode a cell whose image leaves the domain has an edge to *exit*, and one where the map is not trusted has no
/// edge but to *unknown*; both are flags, not vertices.
#[derive(Clone, Debug, PartialEq)]
pub struct AdaptiveMap {
    grid: AdaptiveGrid,
    images: Vec<DeepImage>,
    /// The rows of [`CELLS_PER_BLOCK`] cells each.
    rows: Vec<RowBlock>,
    /// Cells of one component, known from when there were no others.
    connected: Vec<u32>,
}

/// Cells whose rows are sought by one task, and lie together.
const CELLS_PER_BLOCK: usize = 1 << 12;

/// The cells that meet the images of some cells.
#[derive(Clone, Debug, PartialEq)]
struct RowBlock {
    /// Where each cell's row starts in `runs`, and at last where the last one ends.
    ends: Box<[u32]>,
    /// First and one after the last of cells that follow each other, increasing.
    runs: Box<[(u32, u32)]>,
}

/// The image of a cell, in cells of the deepest level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeepImage {
    /// First cell of the box, and flags in the bits above the largest key.
    first: u64,
    /// Last cell of the box.
    last: u64,
}

/// Set in the last key of the image of a cell that recurs on its own level.
const RECURS: u64 = 1 << 63;

const KEY: u64 = DeepImage::EMPTY - 1;

impl DeepImage {
    /// Set in the first key where the image leaves the domain.
    pub(super) const EXITS: u64 = 1 << 63;
    /// Set in the first key where nothing is known.
    pub(super) const UNKNOWN: u64 = 1 << 62;
    /// Set in the first key where there is no cell in the image.
    pub(super) const EMPTY: u64 = 1 << 61;

    /// Of a cell where nothing is known: in compatible mode it is sent nowhere.
    pub(super) fn unknown(mode: Mode) -> Self {
        let unknown = if mode == Mode::Full { Self::UNKNOWN } else { 0 };
        Self { first: unknown | Self::EMPTY, last: 0 }
    }

    /// Between two keys, the first of which has [`Self::EXITS`] and [`Self::EMPTY`] set where that is so; with the flags of
    /// what is wrong with it.
    #[inline]
    pub(super) fn flagged((first, last): (u64, u64), flaws: u64, mode: Mode) -> Self {
        let exits = if mode == Mode::Full { Self::EXITS } else { 0 };
        if flaws & Self::UNKNOWN != 0 {
            Self::unknown(mode)
        } else if (first | flaws) & Self::EMPTY != 0 {
            Self { first: Self::EMPTY | exits, last: 0 }
        } else {
            Self { first: first & (KEY | exits), last }
        }
    }

    /// First key with its flags, and last key.
    pub(super) fn parts(self) -> (u64, u64) {
        (self.first, self.last)
    }

    pub(super) fn new(cover: Cover, mode: Mode) -> Self {
        let exits = if cover.exits && mode == Mode::Full { DeepImage::EXITS } else { 0 };
        match cover.cells {
            Some((first, last)) => Self { first: first | exits, last },
            None => Self { first: DeepImage::EMPTY | exits, last: 0 },
        }
    }

    /// What it was made of; `None` if nothing is known.
    pub(super) fn cover(&self) -> Option<Cover> {
        (self.first & DeepImage::UNKNOWN == 0)
            .then(|| Cover { cells: self.cells(), exits: self.first & DeepImage::EXITS != 0 })
    }

    #[inline]
    fn cells(self) -> Option<(u64, u64)> {
        (self.first & DeepImage::EMPTY == 0).then_some((self.first & KEY, self.last & KEY))
    }

    /// The image of a cell that recurs on its own level.
    pub(super) fn recurring(self) -> Self {
        Self { last: self.last | RECURS, ..self }
    }
}

impl AdaptiveMap {
    /// The map that sends the cells of a grid to these images; `connected` are cells of one component.
    pub(super) fn new(
        grid: AdaptiveGrid,
        images: Vec<DeepImage>,
        connected: Vec<u32>,
        control: &Control,
    ) -> Result<Self, EngineError> {
        debug_assert_eq!(grid.cells() as usize, images.len());
        let seek = |runs: &mut Vec<(u32, u32)>, images: &[DeepImage]| {
            control.check()?;
            runs.clear();
            let mut ends = Vec::with_capacity(images.len() + 1);
            ends.push(0);
            for image in images {
                let row = runs.len();
                if let Some((first, last)) = image.cells() {
                    grid.for_each_run(first, last, |run| append(runs, row, run));
                }
                ends.push(runs.len() as u32);
            }
            Ok(RowBlock { ends: ends.into(), runs: runs.as_slice().into() })
        };
        let rows = images.par_chunks(CELLS_PER_BLOCK).map_init(Vec::new, seek).collect::<Result<_, _>>()?;
        Ok(Self { grid, images, rows, connected })
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
        self.images[cell as usize].first & DeepImage::EXITS != 0
    }

    /// Whether nothing is known of the image of a cell.
    pub fn is_unknown(&self, cell: u32) -> bool {
        self.images[cell as usize].first & DeepImage::UNKNOWN != 0
    }

    /// Number of edges, those to *exit* and *unknown* not counted.
    pub fn edges(&self) -> u64 {
        let runs = self.rows.iter().flat_map(|block| &block.runs);
        runs.map(|&(start, end)| u64::from(end - start)).sum()
    }
}

impl AdaptiveMap {
    #[inline]
    fn row(&self, cell: u32) -> &[(u32, u32)] {
        let (block, at) = (&self.rows[cell as usize / CELLS_PER_BLOCK], cell as usize % CELLS_PER_BLOCK);
        &block.runs[block.ends[at] as usize..block.ends[at + 1] as usize]
    }
}

/// Appends a run to those of a row, the last of which it may continue.
#[inline]
fn append(runs: &mut Vec<(u32, u32)>, row: usize, run: Range<u32>) {
    match runs[row..].last_mut() {
        Some((_, end)) if *end == run.start => *end = run.end,
        _ => runs.push((run.start, run.end)),
    }
}

impl Digraph for AdaptiveMap {
    fn vertices(&self) -> u32 {
        self.grid.cells()
    }

    #[inline]
    fn successors(&self, cell: u32, from: u32) -> Range<u32> {
        let run = self.row(cell).iter().find(|&&(_, end)| end > from);
        run.map_or(0..0, |&(start, end)| start.max(from)..end)
    }

    #[inline]
    fn try_for_each_rows<B>(
        &self,
        cell: u32,
        from: u32,
        mut visit: impl FnMut(Rows<u32>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let runs = self.row(cell).iter();
        runs.skip_while(|&&(_, end)| end <= from).try_for_each(|&(start, end)| visit(Rows::one(start..end)))
    }

    fn connected(&self) -> &[u32] {
        &self.connected
    }

    /// In compatible mode only cells that recur on their own level: images that do not shrink with their cells can make
    /// others appear to.
    fn may_recur(&self, cell: u32) -> bool {
        self.images[cell as usize].last & RECURS != 0
    }

    fn escapes(&self, cell: u32) -> bool {
        self.images[cell as usize].first & (DeepImage::EXITS | DeepImage::UNKNOWN) != 0
    }
}
