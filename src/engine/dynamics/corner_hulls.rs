//! Images of cells as hulls of the images of their corners, each corner evaluated once.

use rayon::prelude::*;

use super::adaptive_map::DeepImage;
use super::multivalued_map::{CELLS_PER_TASK, Image};
use super::{CornerImages, Corners, Lattice, Rule, Widening};
use crate::engine::grid::{Level, MAX_DIMENSION, UniformGrid};
use crate::engine::{Control, EngineError, Mode};

/// Vertices whose images are held in memory at once: as many as stay in a processor's cache.
const VERTICES_AT_ONCE: usize = 1 << 16;

/// Vertices that one task evaluates. Fixed, so that results do not depend on the number of threads.
const VERTICES_PER_TASK: usize = 1 << 10;

/// The image of each cell: the cells that meet the bounding box of the images of its corners, widened.
pub(super) fn corner_images<const D: usize>(
    grid: &UniformGrid,
    map: &impl Corners,
    widening: Widening<'_>,
    mode: Mode,
    control: &Control,
) -> Result<Vec<Image>, EngineError> {
    let hyperplanes: [Vec<f64>; D] = std::array::from_fn(|axis| {
        (0..=grid.cells_along(axis)).map(|index| grid.hyperplane(axis, index)).collect()
    });
    let by: [f64; D] = std::array::from_fn(|axis| widening.along(grid.level(), axis));
    let mut images = vec![Image::unknown(mode); grid.cells() as usize];
    // A slab is all vertices (or cells) with one coordinate along the first axis.
    let slab_vertices: usize = hyperplanes[1..].iter().map(Vec::len).product();
    let slab_cells = (grid.cells() / grid.cells_along(0)) as usize;
    let slabs_at_once = (VERTICES_AT_ONCE / slab_vertices).max(1);
    let mut corners = CornerBlock::<D>::default();
    for (block, images) in images.chunks_mut(slabs_at_once * slab_cells).enumerate() {
        let first_slab = block * slabs_at_once;
        let cell_slabs = images.len() / slab_cells;
        corners.advance(&hyperplanes, first_slab, cell_slabs + 1, slab_vertices, map, control);
        control.check()?;
        let first_cell = first_slab * slab_cells;
        let (strides, corners) = (strides(grid), &corners);
        // whole rows of cells along the last axis
        let row = grid.cells_along(D - 1) as usize;
        let rows_per_task = (CELLS_PER_TASK / row).max(1);
        images.par_chunks_mut(rows_per_task * row).enumerate().for_each(|(task, images)| {
            let first_cell = first_cell + task * rows_per_task * row;
            for (images, cell) in images.chunks_exact_mut(row).zip((first_cell..).step_by(row)) {
                let from = |axis| if axis == 0 { first_slab } else { 0 };
                let lowest: usize = (0..D)
                    .map(|axis| (grid.coordinate(cell as u32, axis) as usize - from(axis)) * strides[axis])
                    .sum();
                corners.hulls(strides, by, lowest, mode, images.iter_mut(), |image, hull| {
                    *image = Image::new(grid.level().cover_of_ends(&hull.lower, &hull.upper), mode);
                });
            }
        });
        control.check()?;
        control.report("map", f64::from((first_cell + images.len()) as u32) / f64::from(grid.cells()));
    }
    Ok(images)
}

/// How cells are sent to boxes: a map that is evaluated at their corners, and what is added to the hulls.
#[derive(Clone, Copy, Debug)]
pub struct CornerRule<'a, M> {
    /// The map.
    pub map: &'a M,
    /// How the hull of the corners' images is made larger.
    pub widening: Widening<'a>,
    /// Whether *exit* and *unknown* are told of.
    pub mode: Mode,
}

impl<M: Corners> Rule for CornerRule<'_, M> {
    fn mode(&self) -> Mode {
        self.mode
    }

    /// Corners are evaluated once for all cells that follow each other along the last axis.
    fn images(
        &self,
        level: &Level,
        finest: &Level,
        keys: &[u64],
        control: &Control,
    ) -> Result<Vec<DeepImage>, EngineError> {
        match level.dimension() {
            1 => scattered::<1, M>(self, level, finest, keys, control),
            2 => scattered::<2, M>(self, level, finest, keys, control),
            3 => scattered::<3, M>(self, level, finest, keys, control),
            4 => scattered::<4, M>(self, level, finest, keys, control),
            5 => scattered::<5, M>(self, level, finest, keys, control),
            _ => scattered::<MAX_DIMENSION, M>(self, level, finest, keys, control),
        }
    }
}

fn scattered<const D: usize, M: Corners>(
    rule: &CornerRule<'_, M>,
    level: &Level,
    finest: &Level,
    keys: &[u64],
    control: &Control,
) -> Result<Vec<DeepImage>, EngineError> {
    let &CornerRule { map, widening, mode } = rule;
    let by: [f64; D] = std::array::from_fn(|axis| widening.along(level, axis));
    let fast = level.mask(D - 1);
    let mut images = vec![DeepImage::unknown(mode); keys.len()];
    let tasks = keys.par_chunks(CELLS_PER_TASK).zip(images.par_chunks_mut(CELLS_PER_TASK));
    tasks.for_each(|(keys, mut images)| {
        let mut corners = CornerBlock::<D>::default();
        for row in keys.chunk_by(|a, b| a + 1 == *b && a | fast == b | fast) {
            if control.check().is_err() {
                return;
            }
            let lowest: [u32; D] = std::array::from_fn(|axis| level.coordinate(row[0], axis));
            let ends: [[f64; 2]; D] = std::array::from_fn(|axis| {
                [lowest[axis], lowest[axis] + 1].map(|index| level.hyperplane(axis, index))
            });
            let last: Vec<f64> =
                (0..=row.len() as u32).map(|index| level.hyperplane(D - 1, lowest[D - 1] + index)).collect();
            let axes: [&[f64]; D] =
                std::array::from_fn(
                    |axis| if axis == D - 1 { last.as_slice() } else { ends[axis].as_slice() },
                );
            corners.evaluate(&axes, map, control);
            let strides =
                std::array::from_fn(|axis| if axis == D - 1 { 1 } else { last.len() << (D - 2 - axis) });
            let (of_row, rest) = images.split_at_mut(row.len());
            images = rest;
            corners.hulls(strides, by, 0, mode, of_row.iter_mut(), |image, hull| {
                *image = DeepImage::new(finest.cover_of_ends(&hull.lower, &hull.upper), mode);
            });
        }
    });
    control.check()?;
    Ok(images)
}

/// Distance of neighbouring vertices along each axis, in vertices.
fn strides<const D: usize>(grid: &UniformGrid) -> [usize; D] {
    let mut strides = [1; D];
    for axis in (1..D).rev() {
        strides[axis - 1] = strides[axis] * (grid.cells_along(axis) as usize + 1);
    }
    strides
}

/// Images of the corners in some slabs of vertices that follow each other.
#[derive(Default)]
struct CornerBlock<const D: usize> {
    slabs: usize,
    lower: Vec<f64>,
    upper: Vec<f64>,
    trusted: Vec<bool>,
}

impl<const D: usize> CornerBlock<D> {
    /// Moves on to the slabs `first..first + slabs`, of which the first is the last one of the block before (if any).
    fn advance(
        &mut self,
        hyperplanes: &[Vec<f64>; D],
        first: usize,
        slabs: usize,
        slab_vertices: usize,
        map: &impl Corners,
        control: &Control,
    ) {
        let kept = usize::from(self.slabs > 0);
        if kept == 1 {
            let last = (self.slabs - 1) * slab_vertices;
            let end = self.slabs * slab_vertices;
            self.lower.copy_within(last * D..end * D, 0);
            self.upper.copy_within(last * D..end * D, 0);
            self.trusted.copy_within(last..end, 0);
        }
        self.slabs = slabs;
        self.lower.resize(slabs * slab_vertices * D, 0.0);
        self.upper.resize(slabs * slab_vertices * D, 0.0);
        self.trusted.resize(slabs * slab_vertices, true);
        let fresh = kept * slab_vertices;
        self.trusted[fresh..].fill(true);
        let task_slabs = (VERTICES_PER_TASK / slab_vertices).max(1);
        let task = task_slabs * slab_vertices;
        let tasks = (
            self.lower[fresh * D..].par_chunks_mut(task * D),
            self.upper[fresh * D..].par_chunks_mut(task * D),
            self.trusted[fresh..].par_chunks_mut(task),
        );
        tasks.into_par_iter().enumerate().for_each(|(number, (lower, upper, trusted))| {
            if control.check().is_err() {
                return;
            }
            let from = first + kept + number * task_slabs;
            let mut axes: [&[f64]; D] = std::array::from_fn(|axis| hyperplanes[axis].as_slice());
            axes[0] = &axes[0][from..from + trusted.len() / slab_vertices];
            map.images(&Lattice { axes: &axes }, CornerImages { lower, upper, trusted }, control);
        });
    }
}

/// The hull of some images.
#[derive(Clone, Copy)]
struct Hull<const D: usize> {
    lower: [f64; D],
    upper: [f64; D],
    trusted: bool,
}

impl<const D: usize> Hull<D> {
    /// NaN stays NaN, so that it is not lost.
    fn join(mut self, other: &Self) -> Self {
        for axis in 0..D {
            let (lower, upper) = (other.lower[axis], other.upper[axis]);
            self.lower[axis] =
                if lower < self.lower[axis] || lower.is_nan() { lower } else { self.lower[axis] };
            self.upper[axis] =
                if upper > self.upper[axis] || upper.is_nan() { upper } else { self.upper[axis] };
        }
        self.trusted &= other.trusted;
        self
    }
}

impl<const D: usize> CornerBlock<D> {
    /// Evaluates the corners of one row of cells.
    fn evaluate(&mut self, axes: &[&[f64]; D], map: &impl Corners, control: &Control) {
        let points = Lattice { axes };
        let count = points.len();
        self.lower.resize(count * D, 0.0);
        self.upper.resize(count * D, 0.0);
        self.trusted.clear();
        self.trusted.resize(count, true);
        let Self { lower, upper, trusted, .. } = self;
        map.images(&points, CornerImages { lower, upper, trusted }, control);
    }

    /// Hands each cell of a row along the last axis the hull of its corners' images, widened; `lowest` is the first
    /// corner of the first cell. In full mode cells of which a corner is not trusted are passed over.
    #[inline]
    fn hulls<T>(
        &self,
        strides: [usize; D],
        by: [f64; D],
        lowest: usize,
        mode: Mode,
        row: impl Iterator<Item = T>,
        mut visit: impl FnMut(T, Hull<D>),
    ) {
        let mut near = self.across(strides, lowest);
        for (cell, number) in row.zip(lowest + 1..) {
            let far = self.across(strides, number);
            let mut hull = near.join(&far);
            near = far;
            if !hull.trusted && mode == Mode::Full {
                continue;
            }
            for ((lower, upper), by) in hull.lower.iter_mut().zip(&mut hull.upper).zip(by) {
                *lower -= by;
                *upper += by;
            }
            visit(cell, hull);
        }
    }

    /// Hull of the images of the vertices of a cell's face that starts at a vertex, across the last axis.
    #[inline]
    fn across(&self, strides: [usize; D], vertex: usize) -> Hull<D> {
        let mut hull = self.at(vertex);
        for corner in 1..1 << (D - 1) {
            let offset: usize = (0..D - 1).map(|axis| (corner >> axis & 1) * strides[axis]).sum();
            hull = hull.join(&self.at(vertex + offset));
        }
        hull
    }

    #[inline]
    fn at(&self, vertex: usize) -> Hull<D> {
        let ends = |ends: &[f64]| ends.as_chunks::<D>().0[vertex];
        Hull { lower: ends(&self.lower), upper: ends(&self.upper), trusted: self.trusted[vertex] }
    }
}
