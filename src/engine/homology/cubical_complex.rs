//! The cells of an index pair, of every dimension.

use std::ops::Range;

use rayon::prelude::*;

use super::cubical_space::{CellBox, CubicalSpace};
use super::key_set::KeySet;
use crate::engine::grid::MAX_DIMENSION;
use crate::engine::{Control, EngineError};

/// Cells that are looked at between two looks at the cancel flag.
const POLL_EVERY: usize = 1 << 10;

/// Cells that one task looks at, whose keys are joined with those of the others.
const CELLS_PER_TASK: usize = 1 << 11;

/// In no more parts than this the images of a set are looked at, since each marks a copy of the rim.
const MOST_PARTS: usize = 8;

/// The position of an elementary cube along each axis, in half cells: 2c is the lower end of cell c, 2c + 1 its inside.
/// So the dimension of a cube is the number of its odd positions.
pub(super) type Position = [u32; MAX_DIMENSION];

/// Keys of elementary cubes within the bounding box of a set of cells.
///
/// A key is the concatenation of positions along the axes, each in a field of bits of its own with room for one step
/// beyond the box, so that neighbours of a cube are one addition away.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    dimension: usize,
    /// Position at which the field's value is 0.
    origin: Position,
    /// The field's largest value, unshifted.
    largest: Position,
    shift: [u32; MAX_DIMENSION],
    /// The lowest bit of each field: set where the cube extends along the axis.
    unit: [u64; MAX_DIMENSION],
    field: [u64; MAX_DIMENSION],
}

impl Frame {
    /// The frame of all faces of these cells, or none if it needs more than 64 bits.
    fn new(space: &CubicalSpace, set: &[u64]) -> Option<Self> {
        let dimension = space.dimension();
        let mut frame = Self {
            dimension,
            origin: [0; MAX_DIMENSION],
            largest: [0; MAX_DIMENSION],
            shift: [0; MAX_DIMENSION],
            unit: [0; MAX_DIMENSION],
            field: [0; MAX_DIMENSION],
        };
        let mut below = 0;
        for axis in (0..dimension).rev() {
            let bits = if space.is_periodic(axis) {
                // the whole axis: steps wrap around within the field
                space.cells_along(axis).trailing_zeros() + 1
            } else {
                let coordinates = || set.iter().map(|&key| space.coordinate(key, axis));
                let (lowest, highest) = (coordinates().min().unwrap_or(0), coordinates().max().unwrap_or(0));
                frame.origin[axis] = (2 * lowest).wrapping_sub(2);
                u32::BITS - (2 * (highest - lowest) + 5).leading_zeros()
            };
            frame.largest[axis] = u32::MAX >> (u32::BITS - bits);
            frame.shift[axis] = below;
            below += bits;
            if below > u64::BITS {
                return None;
            }
            frame.unit[axis] = 1 << frame.shift[axis];
            frame.field[axis] = u64::from(frame.largest[axis]) << frame.shift[axis];
        }
        Some(frame)
    }

    pub(super) fn dimension(&self) -> usize {
        self.dimension
    }

    /// The key of the cube at this position, if it lies in the frame.
    pub(super) fn key(&self, position: &Position) -> Option<u64> {
        let mut key = 0;
        for (axis, position) in position.iter().enumerate().take(self.dimension) {
            let value = position.wrapping_sub(self.origin[axis]);
            if value > self.largest[axis] {
                return None;
            }
            key |= u64::from(value) << self.shift[axis];
        }
        Some(key)
    }

    pub(super) fn position(&self, key: u64) -> Position {
        let mut position = [0; MAX_DIMENSION];
        for (axis, position) in position.iter_mut().enumerate().take(self.dimension) {
            let value = (key & self.field[axis]) >> self.shift[axis];
            *position = (value as u32).wrapping_add(self.origin[axis]);
        }
        position
    }

    /// Whether the cube extends along the axis.
    pub(super) fn extends(&self, key: u64, axis: usize) -> bool {
        key & self.unit[axis] != 0
    }

    pub(super) fn dimension_of(&self, key: u64) -> usize {
        (0..self.dimension).filter(|&axis| self.extends(key, axis)).count()
    }

    /// The cube half a cell further up or down along an axis.
    pub(super) fn step(&self, key: u64, axis: usize, up: bool) -> u64 {
        let moved = if up { key.wrapping_add(self.unit[axis]) } else { key.wrapping_sub(self.unit[axis]) };
        key & !self.field[axis] | moved & self.field[axis]
    }

    /// Whether the face one step along `axis` from a cube has incidence +1 (else −1):
    /// ∂(I×J) = ∂I×J + (−1)^(dim I) I×∂J, and ∂\[a, b\] = b − a.
    pub(super) fn is_positive(&self, key: u64, axis: usize, up: bool) -> bool {
        let before = (0..axis).filter(|&earlier| self.extends(key, earlier)).count();
        (before % 2 == 0) == up
    }
}

/// The relative cubical complex of an index pair (X, A): the faces of cells of S = X \ A that are faces of no cell of A.
///
/// Both are sets of cells; their faces of all dimensions are the elementary cubes of which the chain groups
/// C(X, A) = C(X)/C(A) are made.
#[derive(Clone, Debug)]
pub(super) struct CubicalComplex {
    pub(super) frame: Frame,
    /// Its cubes.
    pub(super) cubes: KeySet,
}

/// S and the part of A that touches it.
#[derive(Clone, Debug)]
pub(super) struct IndexPair {
    /// S, by keys of cells.
    pub(super) set: KeySet,
    /// The cells of A with a face in common with a cell of S.
    pub(super) collar: KeySet,
}

impl IndexPair {
    /// The pair (S ∪ F(S), F(S) \ S), of which only cells near S are kept.
    pub(super) fn new(
        space: &CubicalSpace,
        set: &[u64],
        image_of: impl Fn(usize) -> Option<CellBox> + Sync,
        control: &Control,
    ) -> Result<Self, EngineError> {
        let members = KeySet::from_sorted(set);
        let mut rim = gathered(set, |cell, visit| for_each_neighbour(space, cell, visit), control)?;
        for &cell in set {
            rim.remove(cell);
        }
        rim.compact();
        let marked = |numbers: Range<usize>| {
            let mut marked = rim.none_of();
            for number in numbers {
                poll(number, control)?;
                if let Some(image) = image_of(number) {
                    image.for_each_row(space, |first, last| rim.mark(first, last, &mut marked));
                }
            }
            Ok(marked)
        };
        let mut collar = KeySet::default();
        if rim.len() > 0 {
            let cells = set.len().div_ceil(MOST_PARTS).max(CELLS_PER_TASK);
            let parts = (0..set.len()).into_par_iter().step_by(cells);
            let marked = parts.map(|start| marked(start..set.len().min(start + cells)));
            collar = marked.try_reduce(KeySet::default, |a, b| Ok(a.union(b)))?;
        }
        collar.compact();
        Ok(Self { set: members, collar })
    }
}

impl CubicalComplex {
    /// The complex of all faces of a set, of which [`Self::remove_faces`] makes that of a pair; none if keys of its cubes
    /// need more than 64 bits.
    pub(super) fn of_faces(
        space: &CubicalSpace,
        set: &[u64],
        control: &Control,
    ) -> Result<Option<Self>, EngineError> {
        let Some(frame) = Frame::new(space, set) else { return Ok(None) };
        let cubes = gathered(set, |cell, visit| frame.for_each_face(space, cell, visit), control)?;
        Ok(Some(Self { frame, cubes }))
    }

    /// Takes out the faces of some cells.
    pub(super) fn remove_faces(
        &mut self,
        space: &CubicalSpace,
        of: &KeySet,
        control: &Control,
    ) -> Result<(), EngineError> {
        for (number, cell) in of.iter().enumerate() {
            poll(number, control)?;
            self.frame.for_each_face(space, cell, |face| self.cubes.remove(face));
        }
        self.cubes.compact();
        Ok(())
    }

    /// Calls `visit` with each face of a cube in the complex of one dimension less: its key, number, whether its
    /// incidence is +1.
    pub(super) fn for_each_in_boundary(&self, cube: u64, mut visit: impl FnMut(u64, usize, bool)) {
        for axis in (0..self.frame.dimension).filter(|&axis| self.frame.extends(cube, axis)) {
            for up in [false, true] {
                let face = self.frame.step(cube, axis, up);
                if let Some(index) = self.cubes.index(face) {
                    visit(face, index, self.frame.is_positive(cube, axis, up));
                }
            }
        }
    }
}

impl Frame {
    /// Calls `visit` with the key of each of a cell's 3ᵈ faces (itself among them) that lies in the frame.
    fn for_each_face(&self, space: &CubicalSpace, cell: u64, mut visit: impl FnMut(u64)) {
        let mut centre = [0; MAX_DIMENSION];
        for (axis, position) in centre.iter_mut().enumerate().take(self.dimension) {
            *position = 2 * space.coordinate(cell, axis) + 1;
        }
        let mut ends = [[None; 3]; MAX_DIMENSION];
        for axis in 0..self.dimension {
            for (end, by) in ends[axis].iter_mut().zip([-1, 0, 1]) {
                let value = centre[axis].wrapping_sub(self.origin[axis]).wrapping_add_signed(by);
                let value = if space.is_periodic(axis) { value & self.largest[axis] } else { value };
                *end = (value <= self.largest[axis]).then(|| u64::from(value) << self.shift[axis]);
            }
        }
        for_each_choice(&ends[..self.dimension], &mut visit);
    }
}

/// Calls `visit` with the key of each of a cell's neighbours (itself among them).
fn for_each_neighbour(space: &CubicalSpace, cell: u64, mut visit: impl FnMut(u64)) {
    let mut ends = [[None; 3]; MAX_DIMENSION];
    for (axis, ends) in ends.iter_mut().enumerate().take(space.dimension()) {
        let coordinate = space.coordinate(cell, axis);
        for (end, by) in ends.iter_mut().zip([-1, 0, 1]) {
            *end = space.moved(axis, coordinate, by).map(|moved| space.place(axis, moved));
        }
    }
    for_each_choice(&ends[..space.dimension()], &mut visit);
}

/// Calls `visit` with each sum of one part per axis, the last axis fastest.
fn for_each_choice(parts: &[[Option<u64>; 3]], visit: &mut impl FnMut(u64)) {
    let choices = 3usize.pow(parts.len() as u32);
    for choice in 0..choices {
        let mut rest = choice;
        let mut sum = Some(0);
        for part in parts.iter().rev() {
            sum = sum.zip(part[rest % 3]).map(|(sum, part)| sum | part);
            rest /= 3;
        }
        if let Some(sum) = sum {
            visit(sum);
        }
    }
}

/// The keys with which `for_each` calls its second argument, for some cells.
fn gathered(
    cells: &[u64],
    for_each: impl Fn(u64, &mut dyn FnMut(u64)) + Sync,
    control: &Control,
) -> Result<KeySet, EngineError> {
    let of_task = |cells: &[u64]| {
        control.check()?;
        let mut words = Vec::new();
        let mut note = |key| {
            if words.last() != Some(&(key >> 6)) {
                words.push(key >> 6);
            }
        };
        for &cell in cells {
            for_each(cell, &mut note);
        }
        let mut keys = KeySet::with_room(words);
        for &cell in cells {
            for_each(cell, &mut |key| keys.insert(key));
        }
        Ok(keys)
    };
    let tasks = cells.par_chunks(CELLS_PER_TASK).map(of_task);
    let mut keys = tasks.try_reduce(KeySet::default, |a, b| Ok(a.union(b)))?;
    keys.compact();
    Ok(keys)
}

fn poll(number: usize, control: &Control) -> Result<(), EngineError> {
    if number.is_multiple_of(POLL_EVERY) { control.check() } else { Ok(()) }
}
