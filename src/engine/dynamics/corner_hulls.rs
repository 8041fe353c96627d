//! Images of cells as hulls of the images of their corners, each corner evaluated once.

#![expect(
    clippy::inline_always,
    reason = "only what is inlined is compiled for the instructions of the loop around it"
)]

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::iter::repeat_n;
use rayon::prelude::*;

use super::adaptive_map::DeepImage;
use super::multivalued_map::{CELLS_PER_TASK, Image, UNWRITTEN, narrowed};
use super::{CornerImages, Corners, Lattice, Rule, Widening};
use crate::engine::grid::{Level, MAX_DIMENSION, Meeting, UniformGrid, larger, smaller};
use crate::engine::{Control, EngineError, Mode};

/// Vertices whose images are held in memory at once: as many as stay in a processor's cache.
const VERTICES_AT_ONCE: usize = 1 << 16;

/// Slabs are handled so many at once, even where there are more vertices in them, as the last one of each block is carried
/// over to the next …
const SLABS_AT_ONCE: usize = 4;

/// … unless they had more than one vertex for so many cells of the grid.
const CELLS_PER_VERTEX: usize = 64;

/// Cells of a row whose hulls are taken at once: as many as stay, with all their ends, in the innermost cache.
const CELLS_AT_ONCE: usize = 1 << 9;

/// Vertices that one task evaluates. Fixed, so that results do not depend on the number of threads.
const VERTICES_PER_TASK: usize = 1 << 10;

/// The image of each cell: the cells that meet the bounding box of the images of its corners, widened.
pub(super) fn corner_images<const D: usize>(
    grid: &UniformGrid,
    map: &impl Corners,
    widening: Widening,
    mode: Mode,
    control: &Control,
) -> Result<Vec<Image>, EngineError> {
    let hyperplanes: [Vec<f64>; D] = std::array::from_fn(|axis| {
        (0..=grid.cells_along(axis)).map(|index| grid.hyperplane(axis, index)).collect()
    });
    let seen = Seen {
        map,
        ends: ends(grid.level(), widening, grid.level()),
        mode,
        control,
        arch: pulp::Arch::new(),
    };
    let mut images = vec![UNWRITTEN; grid.cells() as usize];
    // A slab is all vertices (or cells) with one coordinate along the first axis.
    let slab_vertices: usize = hyperplanes[1..].iter().map(Vec::len).product();
    let slab_cells = (grid.cells() / grid.cells_along(0)) as usize;
    let affordable = (images.len() / CELLS_PER_VERTEX / slab_vertices).min(SLABS_AT_ONCE);
    let slabs_at_once = (VERTICES_AT_ONCE / slab_vertices).max(affordable).max(1);
    let mut corners = CornerBlock::<D>::default();
    for (block, images) in images.chunks_mut(slabs_at_once * slab_cells).enumerate() {
        let first_slab = block * slabs_at_once;
        let cell_slabs = images.len() / slab_cells;
        corners.advance(&hyperplanes, first_slab, cell_slabs + 1, slab_vertices, &seen);
        control.check()?;
        let first_cell = first_slab * slab_cells;
        let (strides, corners) = (strides(grid), &corners);
        // parts of rows along the last axis; the numbers of cells are powers of two
        let part = (grid.cells_along(D - 1) as usize).min(CELLS_AT_ONCE);
        let tasks = images.par_chunks_mut(CELLS_PER_TASK).enumerate();
        tasks.for_each_init(Row::default, |hulls, (task, images)| {
            let first_cell = first_cell + task * CELLS_PER_TASK;
            for (images, cell) in images.chunks_exact_mut(part).zip((first_cell..).step_by(part)) {
                let from = |axis| if axis == 0 { first_slab } else { 0 };
                let lowest: usize = (0..D)
                    .map(|axis| (grid.coordinate(cell as u32, axis) as usize - from(axis)) * strides[axis])
                    .sum();
                let hulls = hulls.images(corners, strides, lowest, part, &seen);
                images.iter_mut().zip(hulls).for_each(|(image, hull)| *image = narrowed(hull));
            }
        });
        control.check()?;
        control.report("map", f64::from((first_cell + images.len()) as u32) / f64::from(grid.cells()));
    }
    Ok(images)
}

/// The map at the corners of cells, and how it is seen.
struct Seen<'a, M, const D: usize> {
    map: &'a M,
    ends: [End; D],
    mode: Mode,
    control: &'a Control,
    /// The instructions that the machine has.
    arch: pulp::Arch,
}

/// How the ends of images along one axis are turned into cells.
#[derive(Clone, Copy)]
struct End {
    meeting: Meeting,
    /// What is added to an image on each side.
    by: f64,
}

/// For images of cells of one level, in cells of another.
fn ends<const D: usize>(level: &Level, widening: Widening, finest: &Level) -> [End; D] {
    std::array::from_fn(|axis| End { meeting: finest.meeting(axis), by: widening.along(level, axis) })
}

/// How cells are sent to boxes: a map that is evaluated at their corners, and what is added to the hulls.
#[derive(Clone, Copy, Debug)]
pub struct CornerRule<'a, M> {
    /// The map.
    pub map: &'a M,
    /// How the hull of the corners' images is made larger.
    pub widening: Widening,
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
    let seen = Seen { map, ends: ends(level, widening, finest), mode, control, arch: pulp::Arch::new() };
    let fast = level.mask(D - 1);
    let mut images: Vec<_> = repeat_n(DeepImage::unknown(mode), keys.len()).collect();
    let tasks = keys.par_chunks(CELLS_PER_TASK).zip(images.par_chunks_mut(CELLS_PER_TASK));
    tasks.for_each(|(keys, mut images)| {
        let (mut corners, mut hulls) = (CornerBlock::<D>::default(), Row::default());
        let mut last = Vec::new();
        for row in keys.chunk_by(|a, b| a + 1 == *b && a | fast == b | fast) {
            if control.check().is_err() {
                return;
            }
            let lowest: [u32; D] = std::array::from_fn(|axis| level.coordinate(row[0], axis));
            let sides: [[f64; 2]; D] = std::array::from_fn(|axis| {
                [lowest[axis], lowest[axis] + 1].map(|index| level.hyperplane(axis, index))
            });
            last.clear();
            last.extend((0..=row.len() as u32).map(|index| level.hyperplane(D - 1, lowest[D - 1] + index)));
            let axes: [&[f64]; D] =
                std::array::from_fn(
                    |axis| if axis == D - 1 { last.as_slice() } else { sides[axis].as_slice() },
                );
            corners.of_row(&axes, &seen);
            let strides =
                std::array::from_fn(|axis| if axis == D - 1 { 1 } else { last.len() << (D - 2 - axis) });
            let (of_row, rest) = images.split_at_mut(row.len());
            images = rest;
            let hulls = hulls.images(&corners, strides, 0, row.len(), &seen);
            of_row.iter_mut().zip(hulls).for_each(|(image, hull)| *image = hull);
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

/// Images of vertices, in cells: along each axis the first and the last that the widened image meets.
///
/// Held axis by axis, so that hulls of many cells are taken at once.
struct Vertices<const D: usize> {
    first: [Vec<f64>; D],
    last: [Vec<f64>; D],
    /// What is wrong with an image: the flags of the image of a cell that has this corner.
    flaws: Vec<u64>,
}

impl<const D: usize> Default for Vertices<D> {
    fn default() -> Self {
        let none = || std::array::from_fn(|_| Vec::new());
        Self { first: none(), last: none(), flaws: Vec::new() }
    }
}

/// Part of the arrays of some vertices.
struct Part<'a, const D: usize> {
    first: [&'a mut [f64]; D],
    last: [&'a mut [f64]; D],
    flaws: &'a mut [u64],
}

impl<const D: usize> Vertices<D> {
    fn resize(&mut self, vertices: usize) {
        self.first.iter_mut().chain(&mut self.last).for_each(|ends| ends.resize(vertices, 0.0));
        self.flaws.resize(vertices, 0);
    }

    /// Moves some of them to the front.
    fn keep(&mut self, vertices: Range<usize>) {
        for ends in self.first.iter_mut().chain(&mut self.last) {
            ends.copy_within(vertices.clone(), 0);
        }
        self.flaws.copy_within(vertices, 0);
    }

    /// The vertices from `start` on, in parts of `length`; one part ends where a group of so many does.
    fn parts(&mut self, start: usize, group: usize, length: usize) -> Vec<Part<'_, D>> {
        let cut = |ends| grouped(ends, group, length);
        let mut first = self.first.each_mut().map(|ends| cut(&mut ends[start..]));
        let mut last = self.last.each_mut().map(|ends| cut(&mut ends[start..]));
        let part = |flaws| Part {
            first: first.each_mut().map(|parts| parts.next().unwrap_or_default()),
            last: last.each_mut().map(|parts| parts.next().unwrap_or_default()),
            flaws,
        };
        grouped(&mut self.flaws[start..], group, length).map(part).collect()
    }
}

/// Parts of `length`, of groups one after the other.
fn grouped<T>(all: &mut [T], group: usize, length: usize) -> impl Iterator<Item = &mut [T]> {
    all.chunks_mut(group).flat_map(move |group| group.chunks_mut(length))
}

/// Images of the corners in some slabs of vertices that follow each other.
struct CornerBlock<const D: usize> {
    slabs: usize,
    vertices: Vertices<D>,
    positions: Positions,
}

impl<const D: usize> Default for CornerBlock<D> {
    fn default() -> Self {
        Self { slabs: 0, vertices: Vertices::default(), positions: Positions::default() }
    }
}

impl<const D: usize> CornerBlock<D> {
    /// Moves on to the slabs `first..first + slabs`, of which the first is the last one of the block before (if any).
    fn advance<M: Corners>(
        &mut self,
        hyperplanes: &[Vec<f64>; D],
        first: usize,
        slabs: usize,
        slab_vertices: usize,
        seen: &Seen<'_, M, D>,
    ) {
        let kept = usize::from(self.slabs > 0);
        if kept == 1 {
            self.vertices.keep((self.slabs - 1) * slab_vertices..self.slabs * slab_vertices);
        }
        self.slabs = slabs;
        self.vertices.resize(slabs * slab_vertices);
        // whole slabs, or rows of one slab along its first axis
        let task_slabs = (VERTICES_PER_TASK / slab_vertices).max(1);
        let slab_rows = hyperplanes.get(1).map_or(1, Vec::len);
        let row_vertices = slab_vertices / slab_rows;
        let task_rows = (VERTICES_PER_TASK / row_vertices).clamp(1, slab_rows);
        let tasks_per_slab = slab_rows.div_ceil(task_rows);
        let group = task_slabs * slab_vertices;
        let length = if tasks_per_slab > 1 { task_rows * row_vertices } else { group };
        let tasks = self.vertices.parts(kept * slab_vertices, group, length);
        tasks.into_par_iter().enumerate().for_each_init(Positions::default, |positions, (number, part)| {
            if seen.control.check().is_err() {
                return;
            }
            let mut axes: [&[f64]; D] = std::array::from_fn(|axis| hyperplanes[axis].as_slice());
            let from = first + kept + number / tasks_per_slab * task_slabs;
            axes[0] = &axes[0][from..from + part.flaws.len().div_ceil(slab_vertices)];
            if let Some(rows) = axes.get_mut(1).filter(|_| tasks_per_slab > 1) {
                let from = number % tasks_per_slab * task_rows;
                *rows = &rows[from..from + part.flaws.len() / row_vertices];
            }
            positions.evaluate(&Lattice { axes: &axes }, part, seen);
        });
    }

    /// Evaluates the corners of one row of cells.
    fn of_row<M: Corners>(&mut self, axes: &[&[f64]; D], seen: &Seen<'_, M, D>) {
        let points = Lattice { axes };
        self.vertices.resize(points.len());
        for part in self.vertices.parts(0, points.len(), points.len()) {
            self.positions.evaluate(&points, part, seen);
        }
    }
}

/// Images of vertices as the map writes them.
#[derive(Default)]
struct Positions {
    lower: Vec<f64>,
    upper: Vec<f64>,
    trusted: Vec<bool>,
}

impl Positions {
    /// Evaluates the map, and turns what it writes into cells.
    fn evaluate<M: Corners, const D: usize>(
        &mut self,
        points: &Lattice<'_>,
        part: Part<'_, D>,
        seen: &Seen<'_, M, D>,
    ) {
        let count = points.len();
        let Self { lower, upper, trusted } = self;
        lower.resize(count * D, 0.0);
        upper.resize(count * D, 0.0);
        trusted.clear();
        trusted.resize(count, true);
        seen.map.images(points, CornerImages { lower, upper, trusted }, seen.control);
        let Part { first, last, flaws } = part;
        let doubt = if seen.mode == Mode::Full { DeepImage::UNKNOWN } else { 0 };
        for (flaws, &trusted) in flaws.iter_mut().zip(&*trusted) {
            *flaws = if trusted { 0 } else { doubt };
        }
        let (lower, upper) = (lower.as_chunks::<D>().0, upper.as_chunks::<D>().0);
        seen.arch.dispatch(InCells { ends: seen.ends, lower, upper, first, last, flaws });
    }
}

/// Counts the ends of images in cells.
struct InCells<'a, const D: usize> {
    ends: [End; D],
    lower: &'a [[f64; D]],
    upper: &'a [[f64; D]],
    first: [&'a mut [f64]; D],
    last: [&'a mut [f64]; D],
    flaws: &'a mut [u64],
}

impl<const D: usize> WithSimd for InCells<'_, D> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Self { ends, lower, upper, first, last, flaws } = self;
        for (axis, (first, last)) in first.into_iter().zip(last).enumerate().take(D) {
            let End { meeting, by } = ends[axis];
            lower.iter().zip(&mut *first).for_each(|(image, first)| *first = image[axis]);
            upper.iter().zip(&mut *last).for_each(|(image, last)| *last = image[axis]);
            meeting.count_ends(first, last, by, flaws, DeepImage::EMPTY);
        }
    }
}

/// The hulls of the corners' images, of the cells of a row along the last axis.
struct Row<const D: usize> {
    of_cells: Vertices<D>,
    /// Hulls across all axes but the last.
    across: (Vec<f64>, Vec<u64>),
    keys: Vec<(u64, u64)>,
}

impl<const D: usize> Default for Row<D> {
    fn default() -> Self {
        Self { of_cells: Vertices::default(), across: <(Vec<f64>, Vec<u64>)>::default(), keys: Vec::new() }
    }
}

impl<const D: usize> Row<D> {
    /// The images of some cells; `lowest` is the first corner of the first one.
    fn images<M>(
        &mut self,
        corners: &CornerBlock<D>,
        strides: [usize; D],
        lowest: usize,
        cells: usize,
        seen: &Seen<'_, M, D>,
    ) -> impl Iterator<Item = DeepImage> {
        let Self { of_cells, across, keys } = self;
        let edge = |corner: usize| {
            lowest + (0..D - 1).map(|axis| (corner >> axis & 1) * strides[axis]).sum::<usize>()
        };
        seen.arch.dispatch(Hulls {
            corners: &corners.vertices,
            edge,
            cells,
            ends: &seen.ends,
            of_cells,
            across,
            keys,
        });
        let mode = seen.mode;
        keys.iter().zip(&of_cells.flaws).map(move |(&keys, &flaws)| DeepImage::flagged(keys, flaws, mode))
    }
}

/// Takes the hulls of a row of cells; their corners lie on edges along the row.
struct Hulls<'a, E, const D: usize> {
    corners: &'a Vertices<D>,
    /// Where an edge begins.
    edge: E,
    cells: usize,
    ends: &'a [End; D],
    of_cells: &'a mut Vertices<D>,
    across: &'a mut (Vec<f64>, Vec<u64>),
    keys: &'a mut Vec<(u64, u64)>,
}

impl<E: Fn(usize) -> usize, const D: usize> WithSimd for Hulls<'_, E, D> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Self { corners, edge, cells, ends, of_cells, across: (across, flaws), keys } = self;
        let edges = || (0..1 << (D - 1)).map(&edge);
        keys.clear();
        keys.resize(cells, (0, 0));
        for (axis, end) in ends.iter().enumerate() {
            join(&mut of_cells.first[axis], across, &corners.first[axis], edges(), cells, smaller);
            join(&mut of_cells.last[axis], across, &corners.last[axis], edges(), cells, larger);
            let ends_of_cells = of_cells.first[axis].iter().copied().zip(of_cells.last[axis].iter().copied());
            end.meeting.place_ends(ends_of_cells, keys, DeepImage::EXITS, DeepImage::EMPTY);
        }
        join(&mut of_cells.flaws, flaws, &corners.flaws, edges(), cells, |a, b| a | b);
    }
}

/// For each cell of a row what its corners have, joined; the corners lie on edges along the row.
#[inline(always)]
fn join<T: Copy>(
    row: &mut Vec<T>,
    across: &mut Vec<T>,
    of: &[T],
    mut edges: impl Iterator<Item = usize>,
    cells: usize,
    join: impl Fn(T, T) -> T,
) {
    across.clear();
    for edge in edges.by_ref().take(1) {
        across.extend_from_slice(&of[edge..=edge + cells]);
    }
    for edge in edges {
        across.iter_mut().zip(&of[edge..=edge + cells]).for_each(|(all, &corner)| *all = join(*all, corner));
    }
    row.clear();
    row.extend(across.iter().zip(&across[1..]).map(|(&near, &far)| join(near, far)));
}
