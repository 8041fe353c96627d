//! Relative homology with a basis, and the class of a cycle in it.

use super::PrimeField;
use super::cubical_complex::CubicalComplex;
use super::reduction::{Chain, Matching, Scratch};
use super::sparse_matrix::{Echelon, ReducedMatrix, SparseVector};
use crate::engine::{Control, EngineError};

/// The homology H∗(X, A; ℤₚ) of an index pair.
///
/// A basis in each dimension is given by cycles of aces. A cycle's class is read off from the end: its last ace is
/// either the last of a boundary, of which a multiple is subtracted, or the last of a basis element, whose coefficient
/// is so found.
#[derive(Debug)]
pub(super) struct RelativeHomology<'a> {
    field: PrimeField,
    matching: Matching<'a>,
    degrees: Vec<Degree>,
}

#[derive(Debug)]
struct Degree {
    /// The boundary from one dimension more.
    boundaries: ReducedMatrix,
    /// Cycles that are a basis of homology.
    basis: Echelon,
}

impl<'a> RelativeHomology<'a> {
    /// Computes the homology of a complex.
    pub(super) fn new(
        complex: &'a CubicalComplex,
        field: PrimeField,
        control: &Control,
    ) -> Result<Self, EngineError> {
        let matching = Matching::new(complex, control)?;
        let dimension = complex.frame.dimension();
        let mut degrees = Vec::new();
        let mut cycles: Vec<SparseVector> =
            (0..matching.aces(0).len() as u32).map(SparseVector::unit).collect();
        for degree in 0..=dimension {
            let rows = matching.aces(degree).len();
            let mut boundaries = if degree < dimension {
                let matrix = matching.boundary(degree + 1, field, control)?;
                ReducedMatrix::new(rows, matrix, field, control)?
            } else {
                ReducedMatrix { image: Echelon::new(rows), ..ReducedMatrix::default() }
            };
            let mut basis = Echelon::new(rows);
            for cycle in cycles {
                let is_boundary = |(last, _)| boundaries.image.ending_at(last).is_some();
                if !cycle.last().is_some_and(is_boundary) {
                    basis.push(cycle, field);
                }
            }
            cycles = std::mem::take(&mut boundaries.kernel);
            degrees.push(Degree { boundaries, basis });
        }
        Ok(Self { field, matching, degrees })
    }

    /// Ranks of the homology groups, degree by degree.
    pub(super) fn betti_numbers(&self) -> Vec<usize> {
        self.degrees.iter().map(|degree| degree.basis.rank()).collect()
    }

    /// Room for what follows.
    pub(super) fn scratch(&self) -> Scratch {
        self.matching.scratch()
    }

    /// A cycle of the complex that represents an element of the basis.
    pub(super) fn representative(&self, degree: usize, element: usize, scratch: &mut Scratch) -> Chain {
        self.matching.lift(degree, &self.degrees[degree].basis.vectors()[element], self.field, scratch)
    }

    /// The class of a cycle, as coefficients of the basis. None if the chain is no cycle.
    pub(super) fn class(
        &self,
        degree: usize,
        cycle: impl IntoIterator<Item = (u64, u32)>,
        scratch: &mut Scratch,
    ) -> Option<SparseVector> {
        let mut rest = self.matching.lower(cycle, self.field, scratch, None);
        let Degree { boundaries, basis } = &self.degrees[degree];
        let mut class = Vec::new();
        while !rest.is_zero() {
            boundaries.image.reduce(&mut rest, self.field, |_, _| ());
            if let Some((last, value)) = rest.last() {
                let element = basis.ending_at(last)?;
                class.push((element, value));
                rest.add_scaled(self.field.neg(value), &basis.vectors()[element as usize], self.field);
            }
        }
        Some(SparseVector::new(class))
    }
}
