//! The chain map that a multivalued map carries.

use super::PrimeField;
use super::cubical_complex::{CubicalComplex, IndexPair, Position};
use super::cubical_space::{CellBox, CubicalSpace, Image};
use super::reduction::Chain;
use crate::engine::grid::MAX_DIMENSION;
use crate::engine::homology::conley_index::Undefined;
use crate::engine::homology::images::Images;

/// A chain of cubes of the whole space.
type FreeChain = Vec<(Position, u32)>;

/// The acyclic carrier of a map: to a cube σ belongs the box in which the images of all cells around σ meet,
///
///   C(σ) = ⋂ { |F(ξ)| : ξ a cell of X, σ ⊂ ξ }.
///
/// A face of σ has more cells around it, so C grows from faces to cubes; its values are boxes, which are contractible.
/// By the theorem on acyclic carriers there is a chain map φ with φ(σ) ⊂ C(σ), unique up to homotopy, and every
/// continuous map f with f(ξ) ⊂ |F(ξ)| induces the same map on homology as φ. Where a cell of A is among those around
/// σ, C(σ) must hold cells, and only such of A. So φ sends chains of A to such, and induces a map on H∗(X, A).
///
/// Where the image of a cell of A is empty, f(σ) lies outside the space, and all images around σ reach beyond one of
/// its ends. Points outside are taken back to the nearest point of the space (which changes no index, since S does not
/// hold them): C(σ) is then the layer of cells at that end, which must be the only one that the others touch.
#[derive(Debug)]
pub(super) struct Carrier<'a, F> {
    pub(super) space: &'a CubicalSpace,
    pub(super) complex: &'a CubicalComplex,
    pub(super) pair: &'a IndexPair,
    pub(super) images: &'a Images<F>,
    pub(super) field: PrimeField,
}

impl<F: Fn(u64) -> Image + Sync> Carrier<'_, F> {
    /// φ(z) for a chain z of cubes of one dimension, as a chain of the complex: what lies in A is dropped.
    ///
    /// Each cube's boundary is carried first, face by face from the vertices up, and then filled within C(σ).
    pub(super) fn carry(&self, cube: u64, carried: &mut Chain, value: u32) -> Result<(), Undefined> {
        for (position, coefficient) in self.chain_over(cube)? {
            if let Some(key) = self.complex.frame.key(&position) {
                carried.push((key, self.field.mul(coefficient, value)));
            }
        }
        Ok(())
    }

    /// φ(σ).
    fn chain_over(&self, cube: u64) -> Result<FreeChain, Undefined> {
        let position = self.complex.frame.position(cube);
        let axes: Vec<usize> = (0..self.space.dimension()).filter(|&axis| position[axis] % 2 == 1).collect();
        // Faces are numbered in base 3, a digit for each axis along which the cube extends: 0 the lower end, 1 the
        // inside, 2 the upper end. A face comes after its own faces if counted by the number of digits 1.
        let faces = 3usize.pow(axes.len() as u32);
        let digit = |face: usize, axis: usize| face / 3usize.pow(axis as u32) % 3;
        let inside = |face: usize| (0..axes.len()).filter(move |&axis| digit(face, axis) == 1);
        let mut order: Vec<usize> = (0..faces).collect();
        order.sort_by_key(|&face| inside(face).count());
        let mut chains: Vec<FreeChain> = vec![Vec::new(); faces];
        for face in order {
            let mut at = position;
            for (place, &axis) in axes.iter().enumerate() {
                at[axis] = self.half_step(axis, position[axis], digit(face, place));
            }
            let cells = self.value_at(&at)?;
            if inside(face).next().is_none() {
                let mut vertex = [0; MAX_DIMENSION];
                for (vertex, first) in vertex.iter_mut().zip(cells.first) {
                    *vertex = 2 * first;
                }
                chains[face] = vec![(vertex, 1)];
                continue;
            }
            let mut boundary = FreeChain::new();
            for (before, place) in inside(face).enumerate() {
                let power = 3usize.pow(place as u32);
                for (end, is_upper) in [(face - power, false), (face + power, true)] {
                    let sign = self.field.sign((before % 2 == 0) == is_upper);
                    boundary
                        .extend(chains[end].iter().map(|&(cube, value)| (cube, self.field.mul(value, sign))));
                }
            }
            chains[face] = self.filling(boundary, &cells);
        }
        Ok(chains.swap_remove(faces / 2))
    }

    /// The position half a cell down, here, or half a cell up.
    fn half_step(&self, axis: usize, position: u32, digit: usize) -> u32 {
        let moved = position + digit as u32 - 1;
        if self.space.is_periodic(axis) { moved & (2 * self.space.cells_along(axis) - 1) } else { moved }
    }

    /// C(σ) of the cube at this position.
    fn value_at(&self, at: &Position) -> Result<CellBox, Undefined> {
        let dimension = self.space.dimension();
        let free: Vec<usize> = (0..dimension).filter(|&axis| at[axis].is_multiple_of(2)).collect();
        let mut common: Option<CellBox> = None;
        let (mut is_in_exit, mut leaves) = (false, false);
        for choice in 0..1u32 << free.len() {
            let Some(key) = self.cell_at(at, &free, choice) else { continue };
            let image = match self.pair.set.index(key) {
                Some(number) => self.images.of_member(number),
                None if self.pair.collar.contains(key) => {
                    is_in_exit = true;
                    self.images.of_collar(key)?
                }
                None => continue,
            };
            let Some(image) = image else {
                leaves = true;
                continue;
            };
            let narrowed = common.map_or(Some(image), |common| common.intersection(&image, self.space));
            common = Some(narrowed.ok_or(Undefined::FibreNotAcyclic)?);
        }
        if leaves {
            common = common.and_then(|cells| cells.end_layer(self.space));
        }
        common
            .filter(|cells| cells.is_contractible(self.space))
            .filter(|cells| !is_in_exit || cells.has_cells() && !self.meets_set(cells))
            .ok_or(Undefined::FibreNotAcyclic)
    }

    /// Whether a cell of S lies in a box.
    fn meets_set(&self, cells: &CellBox) -> bool {
        let mut meets = false;
        cells.for_each_row(self.space, |first, last| meets |= self.pair.set.meets(first, last));
        meets
    }

    /// A cell around the cube at a position: along each of the axes `free`, across which the cube lies, the cell below
    /// it or (where `choice` has a bit) the one above. None beyond the end of the space.
    fn cell_at(&self, at: &Position, free: &[usize], choice: u32) -> Option<u64> {
        let mut cell = at.map(|position| position / 2);
        for (bit, &axis) in free.iter().enumerate() {
            let by = if choice >> bit & 1 == 1 { 0 } else { -1 };
            cell[axis] = self.space.moved(axis, cell[axis], by)?;
        }
        Some(self.space.key(&cell[..self.space.dimension()]))
    }

    /// A chain in a box of cells with a given boundary (for vertices: of coefficients that add up to 0).
    ///
    /// The box is contracted to its first corner, along one axis after the other. On an interval s(v) is the sum of the
    /// edges from the first vertex to v, and π sends all vertices to the first; then ∂s + s∂ = 1 − π, and
    /// s⊗1⊗1 + π⊗s⊗1 + π⊗π⊗s does the same for the box.
    fn filling(&self, boundary: FreeChain, cells: &CellBox) -> FreeChain {
        let dimension = self.space.dimension();
        let mut filling = FreeChain::new();
        for (mut cube, value) in self.collect(boundary) {
            for axis in 0..dimension {
                if cube[axis] % 2 == 1 {
                    break;
                }
                let start = 2 * cells.first[axis];
                let end = cube[axis];
                let mut at = start;
                while at != end {
                    cube[axis] = at + 1;
                    filling.push((cube, value));
                    at = self.half_step(axis, at + 1, 2);
                }
                cube[axis] = start;
            }
        }
        self.collect(filling)
    }

    /// Adds up the coefficients of each cube.
    fn collect(&self, mut chain: FreeChain) -> FreeChain {
        chain.sort_unstable();
        chain.dedup_by(|later, earlier| {
            let is_same = later.0 == earlier.0;
            if is_same {
                earlier.1 = self.field.add(earlier.1, later.1);
            }
            is_same
        });
        chain.retain(|entry| entry.1 != 0);
        chain
    }
}
