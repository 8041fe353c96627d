//! Multivalued maps on the cells of a uniform grid.

use std::ops::Range;

use rayon::prelude::*;

use super::{CornerImages, Corners, Digraph, Lattice};
use crate::engine::grid::{Cover, MAX_DIMENSION, Rect, UniformGrid};
use crate::engine::{Control, EngineError, Mode};

/// How boxes around corner images are made larger.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Widening<'a> {
    /// Not at all.
    None,
    /// By the width of a cell on each side.
    CellWidth,
    /// By a length along each axis, on each side.
    By(&'a [f64]),
}

/// A map that sends each cell to a box of cells, with its images kept in eight bytes a cell.
///
/// A box of cells is known by two of its cells, the one with the smallest and the one with the largest coordinates;
/// its members are enumerated when asked for. In full mode a cell whose image leaves the domain has an edge to *exit*,
/// and one where the map is not trusted has no edge but to *unknown*; both are flags, not vertices.
#[derive(Clone, Debug, PartialEq)]
pub struct BoxMap {
    grid: UniformGrid,
    images: Vec<Image>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Image {
    /// First cell of the box, and flags in the bits above the largest index.
    first: u32,
    /// Last cell of the box.
    last: u32,
}

const EXITS: u32 = 1 << 31;
const UNKNOWN: u32 = 1 << 30;
const EMPTY: u32 = 1 << 29;
const INDEX: u32 = EMPTY - 1;

impl Image {
    /// Of a cell where nothing is known: in compatible mode it is sent nowhere.
    fn unknown(mode: Mode) -> Self {
        let unknown = if mode == Mode::Full { UNKNOWN } else { 0 };
        Self { first: unknown | EMPTY, last: 0 }
    }

    fn new(cover: Cover, mode: Mode) -> Self {
        let exits = if cover.exits && mode == Mode::Full { EXITS } else { 0 };
        match cover.cells {
            Some((first, last)) => Self { first: first | exits, last },
            None => Self { first: EMPTY | exits, last: 0 },
        }
    }
}

/// Vertices whose images are held in memory at once.
const VERTICES_AT_ONCE: usize = 1 << 20;

/// Vertices that one task evaluates. Fixed, so that results do not depend on the number of threads.
const VERTICES_PER_TASK: usize = 1 << 10;

/// Cells that one task covers.
const CELLS_PER_TASK: usize = 1 << 12;

impl BoxMap {
    /// Encloses the image of each cell by the bounding box of the images of its corners, widened.
    ///
    /// Every corner is evaluated once. The box holds the image of the whole cell if the map is monotone in each
    /// coordinate, or if `widening` bounds how far it bends inside a cell.
    ///
    /// # Errors
    /// [`EngineError::Cancelled`].
    pub fn from_corners(
        grid: &UniformGrid,
        map: &impl Corners,
        widening: Widening<'_>,
        mode: Mode,
        control: &Control,
    ) -> Result<Self, EngineError> {
        let dimension = grid.dimension();
        let hyperplanes: Vec<Vec<f64>> = (0..dimension)
            .map(|axis| (0..=grid.cells_along(axis)).map(|index| grid.hyperplane(axis, index)).collect())
            .collect();
        let mut by = [0.0; MAX_DIMENSION];
        for (axis, by) in by[..dimension].iter_mut().enumerate() {
            *by = match widening {
                Widening::None => 0.0,
                Widening::CellWidth => grid.cell_width(axis),
                Widening::By(lengths) => lengths[axis],
            };
        }
        let mut images = vec![Image::unknown(mode); grid.cells() as usize];
        // A slab is all vertices (or cells) with one coordinate along the first axis.
        let slab_vertices: usize = hyperplanes[1..].iter().map(Vec::len).product();
        let slab_cells = (grid.cells() / grid.cells_along(0)) as usize;
        let slabs_at_once = (VERTICES_AT_ONCE / slab_vertices).max(1);
        let mut corners = CornerBlock::new(dimension);
        for (block, images) in images.chunks_mut(slabs_at_once * slab_cells).enumerate() {
            let first_slab = block * slabs_at_once;
            let cell_slabs = images.len() / slab_cells;
            corners.advance(&hyperplanes, first_slab, cell_slabs + 1, slab_vertices, map, control);
            control.check()?;
            let first_cell = first_slab * slab_cells;
            let corners = &corners;
            images.par_chunks_mut(CELLS_PER_TASK).enumerate().for_each(|(task, images)| {
                let hulls = Hulls::new(grid, corners, first_slab);
                for (cell, image) in (first_cell + task * CELLS_PER_TASK..).zip(images) {
                    if let Some(mut hull) = hulls.of(cell as u32, mode) {
                        hull.widen(&by);
                        *image = Image::new(grid.cover(&hull), mode);
                    }
                }
            });
            control.check()?;
            control.report("map", f64::from((first_cell + images.len()) as u32) / f64::from(grid.cells()));
        }
        Ok(Self { grid: grid.clone(), images })
    }

    /// Encloses the image of each cell by what `enclose` returns for its region; `None` means that nothing is known.
    ///
    /// # Errors
    /// [`EngineError::Cancelled`].
    pub fn from_rects(
        grid: &UniformGrid,
        enclose: impl Fn(&Rect) -> Option<Rect> + Sync,
        mode: Mode,
        control: &Control,
    ) -> Result<Self, EngineError> {
        let mut images = vec![Image::unknown(mode); grid.cells() as usize];
        images.par_chunks_mut(CELLS_PER_TASK).enumerate().for_each(|(task, images)| {
            if control.check().is_err() {
                return;
            }
            for (cell, image) in (task * CELLS_PER_TASK..).zip(images) {
                if let Some(rect) = enclose(&grid.rect(cell as u32)) {
                    *image = Image::new(grid.cover(&rect), mode);
                }
            }
        });
        control.check()?;
        Ok(Self { grid: grid.clone(), images })
    }

    /// The grid on which the map lives.
    pub fn grid(&self) -> &UniformGrid {
        &self.grid
    }

    /// Corners (smallest and largest coordinates) of the box of cells to which a cell is sent, if it is not empty.
    pub fn image(&self, cell: u32) -> Option<(u32, u32)> {
        let Image { first, last } = self.images[cell as usize];
        (first & EMPTY == 0).then_some((first & INDEX, last))
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
        let count = |image: &Image| {
            if image.first & EMPTY != 0 {
                return 0;
            }
            (0..self.grid.dimension())
                .map(|axis| {
                    let (first, last) = (image.first & INDEX, image.last);
                    u64::from(self.grid.coordinate(last, axis) - self.grid.coordinate(first, axis) + 1)
                })
                .product()
        };
        self.images.par_iter().map(count).sum()
    }

    /// Number of cells of which something is known.
    pub fn known_cells(&self) -> usize {
        self.images.par_iter().filter(|image| image.first & UNKNOWN == 0).count()
    }
}

impl Digraph for BoxMap {
    fn vertices(&self) -> u32 {
        self.grid.cells()
    }

    fn successors(&self, cell: u32, from: u32) -> Range<u32> {
        let Image { first, last } = self.images[cell as usize];
        if first & EMPTY != 0 {
            return 0..0;
        }
        let first = first & INDEX;
        let Some(start) = next_in_box(&self.grid, first, last, from) else { return 0..0 };
        // the run goes on to the end of the box along the last axis
        let fast = self.grid.mask(self.grid.dimension() - 1);
        start..(start & !fast | last & fast) + 1
    }

    fn escapes(&self, cell: u32) -> bool {
        self.images[cell as usize].first & (EXITS | UNKNOWN) != 0
    }
}

/// The smallest cell of the box between `first` and `last` that is at least `from`.
///
/// Coordinates are compared in place: masked, but not shifted.
fn next_in_box(grid: &UniformGrid, first: u32, last: u32, from: u32) -> Option<u32> {
    if from <= first {
        return Some(first);
    }
    if from > last {
        return None;
    }
    for axis in 0..grid.dimension() {
        let mask = grid.mask(axis);
        // all bits of this axis and the faster ones
        let tail = mask | (mask & mask.wrapping_neg()).wrapping_sub(1);
        if from & mask < first & mask {
            return Some(from & !tail | first & tail);
        }
        if from & mask > last & mask {
            // back to the start along this axis and the faster ones, one further along the last slower axis that allows it
            return (0..axis).rev().find_map(|slower| {
                let mask = grid.mask(slower);
                let faster = (mask & mask.wrapping_neg()).wrapping_sub(1);
                let unit = faster.wrapping_add(1);
                (from & mask < last & mask).then(|| ((from & !faster) + unit) | first & faster)
            });
        }
    }
    Some(from)
}

/// Images of the corners in some slabs of vertices that follow each other.
struct CornerBlock {
    dimension: usize,
    slabs: usize,
    lower: Vec<f64>,
    upper: Vec<f64>,
    trusted: Vec<bool>,
}

impl CornerBlock {
    fn new(dimension: usize) -> Self {
        Self { dimension, slabs: 0, lower: Vec::new(), upper: Vec::new(), trusted: Vec::new() }
    }

    /// Moves on to the slabs `first..first + slabs`, of which the first is the last one of the block before (if any).
    fn advance(
        &mut self,
        hyperplanes: &[Vec<f64>],
        first: usize,
        slabs: usize,
        slab_vertices: usize,
        map: &impl Corners,
        control: &Control,
    ) {
        let d = self.dimension;
        let kept = usize::from(self.slabs > 0);
        if kept == 1 {
            let last = (self.slabs - 1) * slab_vertices;
            self.lower.copy_within(last * d.., 0);
            self.upper.copy_within(last * d.., 0);
            self.trusted.copy_within(last.., 0);
        }
        self.slabs = slabs;
        self.lower.resize(slabs * slab_vertices * d, 0.0);
        self.upper.resize(slabs * slab_vertices * d, 0.0);
        self.trusted.resize(slabs * slab_vertices, true);
        let fresh = kept * slab_vertices;
        self.trusted[fresh..].fill(true);
        let task_slabs = (VERTICES_PER_TASK / slab_vertices).max(1);
        let task = task_slabs * slab_vertices;
        let tasks = (
            self.lower[fresh * d..].par_chunks_mut(task * d),
            self.upper[fresh * d..].par_chunks_mut(task * d),
            self.trusted[fresh..].par_chunks_mut(task),
        );
        tasks.into_par_iter().enumerate().for_each(|(number, (lower, upper, trusted))| {
            if control.check().is_err() {
                return;
            }
            let from = first + kept + number * task_slabs;
            let mut axes: Vec<&[f64]> = hyperplanes.iter().map(Vec::as_slice).collect();
            axes[0] = &axes[0][from..from + trusted.len() / slab_vertices];
            map.images(&Lattice { axes: &axes }, CornerImages { lower, upper, trusted }, control);
        });
    }
}

/// Bounding boxes of corner images, cell by cell.
struct Hulls<'a> {
    grid: &'a UniformGrid,
    corners: &'a CornerBlock,
    first_slab: usize,
    /// Distance of neighbouring vertices along each axis, in vertices.
    stride: [usize; MAX_DIMENSION],
    /// Distances of a cell's corners from its lowest one, in vertices.
    offsets: Vec<usize>,
}

impl<'a> Hulls<'a> {
    fn new(grid: &'a UniformGrid, corners: &'a CornerBlock, first_slab: usize) -> Self {
        let dimension = grid.dimension();
        let mut stride = [0; MAX_DIMENSION];
        let mut size = 1;
        for axis in (0..dimension).rev() {
            stride[axis] = size;
            size *= grid.cells_along(axis) as usize + 1;
        }
        let offset = |corner: usize| (0..dimension).map(|axis| (corner >> axis & 1) * stride[axis]).sum();
        Self { grid, corners, first_slab, stride, offsets: (0..1 << dimension).map(offset).collect() }
    }

    /// `None` where a corner is not trusted (in full mode).
    fn of(&self, cell: u32, mode: Mode) -> Option<Rect> {
        let d = self.grid.dimension();
        let lowest: usize = (0..d)
            .map(|axis| {
                let from = if axis == 0 { self.first_slab } else { 0 };
                (self.grid.coordinate(cell, axis) as usize - from) * self.stride[axis]
            })
            .sum();
        if mode == Mode::Full && self.offsets.iter().any(|offset| !self.corners.trusted[lowest + offset]) {
            return None;
        }
        let ends = |vertex: usize| {
            let range = vertex * d..(vertex + 1) * d;
            (&self.corners.lower[range.clone()], &self.corners.upper[range])
        };
        let (lower, upper) = ends(lowest);
        let mut hull = Rect::new(lower, upper);
        for offset in &self.offsets[1..] {
            let (lower, upper) = ends(lowest + offset);
            hull.include(lower, upper);
        }
        Some(hull)
    }
}
