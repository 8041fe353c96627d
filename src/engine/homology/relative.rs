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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::cubical_complex::IndexPair;
    use super::super::cubical_space::{CellBox, CubicalSpace};
    use super::super::sparse_matrix::SparseMatrix;
    use super::*;

    /// A set of cells, and a box that cuts some of the cells beside it off as A.
    fn complex(bits: &[u32], periodic: &[bool], set: &[u64], cut: (u64, u64)) -> CubicalComplex {
        let space = CubicalSpace::new(bits, periodic).unwrap();
        let image = Some(CellBox::new(&space, cut));
        let pair = IndexPair::new(&space, set, |_| image, &Control::default()).unwrap();
        let mut complex = CubicalComplex::of_faces(&space, set, &Control::default()).unwrap().unwrap();
        complex.remove_faces(&space, &pair.collar, &Control::default()).unwrap();
        complex
    }

    fn of_dimension(complex: &CubicalComplex, dimension: usize) -> Vec<u64> {
        complex.cubes.iter().filter(|&cube| complex.frame.dimension_of(cube) == dimension).collect()
    }

    /// The boundary of all cubes of one dimension, in full.
    fn boundary(complex: &CubicalComplex, dimension: usize, field: PrimeField) -> ReducedMatrix {
        let mut columns = Vec::new();
        for cube in of_dimension(complex, dimension) {
            let mut faces = Vec::new();
            complex.for_each_in_boundary(cube, |_, index, is_positive| {
                faces.push((index as u32, field.sign(is_positive)));
            });
            columns.push(SparseVector::new(faces));
        }
        ReducedMatrix::new(complex.cubes.len(), SparseMatrix { columns }, field, &Control::default()).unwrap()
    }

    fn complexes() -> impl Strategy<Value = CubicalComplex> {
        let shapes = vec![vec![5], vec![3, 3], vec![2, 2, 2], vec![1, 2, 1, 2], vec![2, 2, 1, 1, 1]];
        (
            prop::sample::select(shapes),
            any::<[bool; 5]>(),
            prop::collection::btree_set(0u64..64, 0..40),
            any::<[u32; 10]>(),
        )
            .prop_map(|(bits, mut periodic, set, corners)| {
                let total: u32 = bits.iter().sum();
                let set: Vec<u64> = set.into_iter().filter(|key| key >> total == 0).collect();
                for (axis, bits) in bits.iter().enumerate() {
                    // a circle needs three cells for faces of a cell to differ, and four to be sure of neighbours too
                    periodic[axis] &= *bits > 1;
                }
                let periodic = &periodic[..bits.len()];
                let space = CubicalSpace::new(&bits, periodic).unwrap();
                let corner = |from: usize| -> Vec<u32> {
                    (0..bits.len()).map(|axis| corners[from + axis] % space.cells_along(axis)).collect()
                };
                let (mut first, mut last) = (corner(0), corner(5));
                for axis in (0..bits.len()).filter(|&axis| !periodic[axis]) {
                    if first[axis] > last[axis] {
                        std::mem::swap(&mut first[axis], &mut last[axis]);
                    }
                }
                complex(&bits, periodic, &set, (space.key(&first), space.key(&last)))
            })
    }

    proptest! {
        #[test]
        fn betti_numbers_are_those_of_the_whole_complex(
            complex in complexes(), prime in prop::sample::select(vec![2u32, 3, 5, 7])
        ) {
            let field = PrimeField::new(prime).unwrap();
            let dimension = complex.frame.dimension();
            let homology = RelativeHomology::new(&complex, field, &Control::default()).unwrap();
            let betti = homology.betti_numbers();
            let ranks: Vec<usize> =
                (0..=dimension + 1).map(|d| if d > dimension { 0 } else { boundary(&complex, d, field).image.rank() }).collect();
            for d in 0..=dimension {
                prop_assert_eq!(betti[d], of_dimension(&complex, d).len() - ranks[d] - ranks[d + 1]);
            }
            let alternating = |counts: &mut dyn Iterator<Item = usize>| -> i64 {
                counts.enumerate().map(|(d, count)| if d % 2 == 0 { count as i64 } else { -(count as i64) }).sum()
            };
            let euler = alternating(&mut (0..=dimension).map(|d| of_dimension(&complex, d).len()));
            prop_assert_eq!(euler, alternating(&mut betti.into_iter()));
        }

        #[test]
        fn classes_of_cycles_are_what_they_were_made_of(
            complex in complexes(), prime in prop::sample::select(vec![2u32, 3, 5, 7]), weights in prop::collection::vec(0u32..7, 40)
        ) {
            let field = PrimeField::new(prime).unwrap();
            let homology = RelativeHomology::new(&complex, field, &Control::default()).unwrap();
            let mut scratch = homology.scratch();
            for (degree, betti) in homology.betti_numbers().into_iter().enumerate() {
                let mut cycle = SparseVector::default();
                let mut made_of = Vec::new();
                for element in 0..betti {
                    let weight = weights[element % weights.len()] % prime;
                    made_of.push((element as u32, weight));
                    let representative = homology.representative(degree, element, &mut scratch);
                    let indexed = representative.iter().map(|&(cube, value)| (complex.cubes.index(cube).unwrap() as u32, value));
                    cycle.add_scaled(weight, &SparseVector::new(indexed.collect()), field);
                }
                // and a boundary, which changes no class
                for (number, cube) in of_dimension(&complex, degree + 1).into_iter().enumerate() {
                    let mut faces = Vec::new();
                    complex.for_each_in_boundary(cube, |_, index, is_positive| faces.push((index as u32, field.sign(is_positive))));
                    cycle.add_scaled(weights[number % weights.len()] % prime, &SparseVector::new(faces), field);
                }
                let cubes: Vec<u64> = complex.cubes.iter().collect();
                let mut its_boundary = SparseVector::default();
                for &(index, value) in cycle.entries() {
                    let mut faces = Vec::new();
                    complex.for_each_in_boundary(cubes[index as usize], |_, index, is_positive| faces.push((index as u32, field.sign(is_positive))));
                    its_boundary.add_scaled(value, &SparseVector::new(faces), field);
                }
                prop_assert!(its_boundary.is_zero(), "representatives are cycles");
                let chain = cycle.entries().iter().map(|&(index, value)| (cubes[index as usize], value));
                prop_assert_eq!(homology.class(degree, chain, &mut scratch), Some(SparseVector::new(made_of)));
            }
        }
    }

    #[test]
    fn a_hollow_shell_and_a_frame() {
        let field = PrimeField::new(5).unwrap();
        let betti = |bits: &[u32], set: &[u64]| {
            // the cut lies far away
            let complex = complex(bits, &vec![false; bits.len()], set, (set[0], set[0]));
            RelativeHomology::new(&complex, field, &Control::default()).unwrap().betti_numbers()
        };
        let space = CubicalSpace::new(&[2, 2, 2], &[false; 3]).unwrap();
        let all = (0..3).flat_map(|x| (0..3).flat_map(move |y| (0..3).map(move |z| [x, y, z])));
        let ones = |cell: &[u32; 3]| cell.iter().filter(|&&c| c == 1).count();
        let keys = |kept: &dyn Fn(&[u32; 3]) -> bool| -> Vec<u64> {
            all.clone().filter(|cell| kept(cell)).map(|cell| space.key(&cell)).collect()
        };
        assert_eq!(betti(&[2, 2, 2], &keys(&|cell| ones(cell) < 3)), [1, 0, 1, 0], "a sphere");
        assert_eq!(betti(&[2, 2, 2], &keys(&|cell| ones(cell) < 2)), [1, 5, 0, 0], "the edges of a cube");
        assert_eq!(betti(&[3], &[1, 2, 4, 7]), [3, 0]);
    }
}
