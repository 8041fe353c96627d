//! A discrete Morse function on a cubical complex by coreductions: a small complex with the same homology, and chain
//! maps between the two.

use std::collections::{BinaryHeap, VecDeque};

use super::PrimeField;
use super::cubical_complex::CubicalComplex;
use super::sparse_matrix::{SparseMatrix, SparseVector};
use crate::engine::{Control, EngineError};

/// Cubes that are looked at between two looks at the cancel flag.
const POLL_EVERY: u32 = 1 << 12;

/// A chain: cubes with coefficients, each cube once.
pub(super) type Chain = Vec<(u64, u32)>;

/// What a cube is in the matching.
const FREE: u8 = 0;
const ACE: u8 = 1;
/// Matched with a cube of one dimension more; the direction to it in the bits below.
const QUEEN: u8 = 0x40;
/// Matched with a cube of one dimension less.
const KING: u8 = 0x80;

/// An acyclic matching of a complex' cubes: pairs of a *king* and a *queen*, a face of it with incidence ±1; *aces* are
/// left alone.
///
/// The pairs are coreductions, found one after the other: a king has exactly one face that is still there, its queen,
/// and both are removed (M. Mrozek and B. Batko, *Coreduction homology algorithm*, 2009). When there are none, a cube
/// of smallest dimension becomes an ace. The boundary of a king so consists of its queen and of cubes that were removed
/// earlier, which makes the gradient paths of discrete Morse theory finite. Aces span a complex with the same homology
/// (S. Harker, K. Mischaikow, M. Mrozek and V. Nanda, *Discrete Morse theoretic algorithms for computing homology of
/// complexes and maps*, 2014).
#[derive(Debug)]
pub(super) struct Matching<'a> {
    complex: &'a CubicalComplex,
    /// By a cube's number.
    rank: Vec<u8>,
    /// When a queen was removed.
    removed: Vec<u32>,
    /// Aces by dimension, in the order in which they were found.
    aces: Vec<Vec<u64>>,
    /// The number of an ace within its dimension.
    ace_number: Vec<u32>,
}

/// Coefficients of cubes, and the queens among them that are still to be dealt with.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// By a cube's number, all 0 between uses.
    coefficients: Vec<u32>,
    /// Queens by time of removal.
    queens: BinaryHeap<(u32, u64)>,
}

impl<'a> Matching<'a> {
    /// Matches the cubes of a complex.
    pub(super) fn new(complex: &'a CubicalComplex, control: &Control) -> Result<Self, EngineError> {
        let size = complex.cubes.len();
        let dimension = complex.frame.dimension();
        let mut matching = Self {
            complex,
            rank: vec![FREE; size],
            removed: vec![0; size],
            aces: vec![Vec::new(); dimension + 1],
            ace_number: Vec::new(),
        };
        let mut until_poll = POLL_EVERY;
        let mut poll = || {
            until_poll -= 1;
            if until_poll == 0 {
                until_poll = POLL_EVERY;
                control.check()?;
            }
            Ok::<(), EngineError>(())
        };
        let mut time = 0;
        let mut waiting: VecDeque<u64> = VecDeque::new();
        for cube in complex.cubes.iter() {
            poll()?;
            if matching.only_free_face(cube).is_some() {
                waiting.push_back(cube);
            }
        }
        for ace_dimension in 0..=dimension {
            let mut candidates = complex.cubes.iter().enumerate();
            loop {
                while let Some(king) = waiting.pop_front() {
                    poll()?;
                    if !matching.is_free(king) {
                        continue;
                    }
                    if let Some((queen, direction)) = matching.only_free_face(king) {
                        matching.pair(king, queen, direction, time);
                        time += 1;
                        matching.push_cofaces(queen, &mut waiting);
                        matching.push_cofaces(king, &mut waiting);
                    }
                }
                let ace = candidates.find(|&(number, cube)| {
                    matching.rank[number] == FREE && complex.frame.dimension_of(cube) == ace_dimension
                });
                let Some((number, cube)) = ace else { break };
                matching.rank[number] = ACE;
                matching.aces[ace_dimension].push(cube);
                matching.push_cofaces(cube, &mut waiting);
            }
            control.check()?;
        }
        matching.ace_number = vec![0; if matching.aces.iter().all(Vec::is_empty) { 0 } else { size }];
        for aces in &matching.aces {
            for (ace, number) in aces.iter().zip(0..) {
                if let Some(index) = complex.cubes.index(*ace) {
                    matching.ace_number[index] = number;
                }
            }
        }
        Ok(matching)
    }

    /// Aces of each dimension.
    pub(super) fn aces(&self, dimension: usize) -> &[u64] {
        &self.aces[dimension]
    }

    /// Room for the chain maps below.
    pub(super) fn scratch(&self) -> Scratch {
        Scratch { coefficients: vec![0; self.complex.cubes.len()], queens: BinaryHeap::new() }
    }

    fn is_free(&self, cube: u64) -> bool {
        self.complex.cubes.index(cube).is_some_and(|number| self.rank[number] == FREE)
    }

    /// The face of a free cube that is still there, and the direction to it, if there is exactly one.
    fn only_free_face(&self, cube: u64) -> Option<(u64, u8)> {
        let frame = &self.complex.frame;
        let mut only = None;
        for axis in (0..frame.dimension()).filter(|&axis| frame.extends(cube, axis)) {
            for up in [false, true] {
                let face = frame.step(cube, axis, up);
                if self.is_free(face) {
                    if only.is_some() {
                        return None;
                    }
                    only = Some((face, direction(axis, up)));
                }
            }
        }
        only
    }

    fn push_cofaces(&self, cube: u64, waiting: &mut VecDeque<u64>) {
        let frame = &self.complex.frame;
        for axis in (0..frame.dimension()).filter(|&axis| !frame.extends(cube, axis)) {
            for up in [false, true] {
                let coface = frame.step(cube, axis, up);
                if self.is_free(coface) {
                    waiting.push_back(coface);
                }
            }
        }
    }

    fn pair(&mut self, king: u64, queen: u64, direction: u8, time: u32) {
        let cubes = &self.complex.cubes;
        if let (Some(king), Some(queen)) = (cubes.index(king), cubes.index(queen)) {
            self.rank[king] = KING;
            self.rank[queen] = QUEEN | direction;
            self.removed[queen] = time;
        }
    }

    /// A queen's king, and the incidence of the two.
    fn king_of(&self, queen: u64, rank: u8) -> (u64, bool) {
        let frame = &self.complex.frame;
        let (axis, up) = (usize::from(rank & 0x3f) / 2, rank & 1 == 1);
        // the direction leads from the king to the queen
        let king = frame.step(queen, axis, !up);
        (king, frame.is_positive(king, axis, up))
    }

    /// Adds to a cube's coefficient.
    fn add(&self, (cube, number): (u64, usize), value: u32, field: PrimeField, scratch: &mut Scratch) {
        if self.rank[number] & QUEEN != 0 {
            let coefficient = &mut scratch.coefficients[number];
            if *coefficient == 0 {
                scratch.queens.push((self.removed[number], cube));
            }
            *coefficient = field.add(*coefficient, value);
        }
    }

    /// The next queen with a coefficient, the one removed last; it is taken out. Returns its king and what multiple of
    /// the king's boundary cancels the queen.
    fn next_king(&self, field: PrimeField, scratch: &mut Scratch) -> Option<(u64, u32)> {
        while let Some((_, queen)) = scratch.queens.pop() {
            let Some(number) = self.complex.cubes.index(queen) else { continue };
            let coefficient = std::mem::take(&mut scratch.coefficients[number]);
            if coefficient != 0 {
                let (king, is_positive) = self.king_of(queen, self.rank[number]);
                return Some((king, field.mul(coefficient, field.sign(!is_positive))));
            }
        }
        None
    }

    /// The chain of aces to which a chain flows: each queen is replaced by the rest of its king's boundary until none
    /// is left, and kings are dropped.
    ///
    /// With `moved` the multiples of kings are collected whose boundaries were added.
    pub(super) fn lower(
        &self,
        chain: impl IntoIterator<Item = (u64, u32)>,
        field: PrimeField,
        scratch: &mut Scratch,
        mut moved: Option<&mut Chain>,
    ) -> SparseVector {
        let mut aces: Vec<(u32, u32)> = Vec::new();
        let mut add = |(cube, number): (u64, usize), value: u32, scratch: &mut Scratch| {
            if self.rank[number] == ACE {
                aces.push((self.ace_number[number], value));
            } else {
                self.add((cube, number), value, field, scratch);
            }
        };
        for (cube, value) in chain {
            if let Some(number) = self.complex.cubes.index(cube) {
                add((cube, number), value, scratch);
            }
        }
        while let Some((king, multiple)) = self.next_king(field, scratch) {
            if let Some(moved) = moved.as_mut() {
                moved.push((king, multiple));
            }
            self.complex.for_each_in_boundary(king, |face, number, is_positive| {
                if self.rank[number] & QUEEN == 0 || self.king_of(face, self.rank[number]).0 != king {
                    add((face, number), field.mul(multiple, field.sign(is_positive)), scratch);
                }
            });
        }
        aces.sort_unstable();
        let sums = aces.chunk_by(|a, b| a.0 == b.0);
        let total = |ace: &[(u32, u32)]| ace.iter().fold(0, |sum, entry| field.add(sum, entry.1));
        SparseVector::new(sums.map(|ace| (ace[0].0, total(ace))).collect())
    }

    /// The chain of the complex that corresponds to a chain of aces: the aces, and kings that take the queens out of
    /// its boundary. A cycle is sent to a cycle.
    pub(super) fn lift(
        &self,
        dimension: usize,
        aces: &SparseVector,
        field: PrimeField,
        scratch: &mut Scratch,
    ) -> Chain {
        let mut chain: Chain =
            aces.entries().iter().map(|&(ace, value)| (self.aces[dimension][ace as usize], value)).collect();
        for &(ace, value) in &chain {
            self.add_boundary(ace, value, None, field, scratch);
        }
        while let Some((king, multiple)) = self.next_king(field, scratch) {
            chain.push((king, multiple));
            self.add_boundary(king, multiple, Some(king), field, scratch);
        }
        chain
    }

    /// Adds the queens in a cube's boundary, but for the one that is matched with `except`.
    fn add_boundary(
        &self,
        cube: u64,
        value: u32,
        except: Option<u64>,
        field: PrimeField,
        scratch: &mut Scratch,
    ) {
        self.complex.for_each_in_boundary(cube, |face, number, is_positive| {
            let rank = self.rank[number];
            if rank & QUEEN != 0 && except.is_none_or(|king| self.king_of(face, rank).0 != king) {
                self.add((face, number), field.mul(value, field.sign(is_positive)), field, scratch);
            }
        });
    }

    /// The boundary from aces of one dimension to those of one less.
    pub(super) fn boundary(
        &self,
        dimension: usize,
        field: PrimeField,
        control: &Control,
    ) -> Result<SparseMatrix, EngineError> {
        let mut scratch = self.scratch();
        let mut matrix = SparseMatrix::default();
        for &ace in &self.aces[dimension] {
            control.check()?;
            let mut faces = Chain::new();
            self.complex.for_each_in_boundary(ace, |face, _, is_positive| {
                faces.push((face, field.sign(is_positive)));
            });
            matrix.columns.push(self.lower(faces, field, &mut scratch, None));
        }
        Ok(matrix)
    }
}

fn direction(axis: usize, up: bool) -> u8 {
    2 * axis as u8 + u8::from(up)
}
