//! Sparse vectors and matrices over a prime field, and the reduction that homology needs.

use super::PrimeField;
use crate::engine::{Control, EngineError};

/// A sparse vector: its entries that are not 0, by increasing index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SparseVector {
    entries: Vec<(u32, u32)>,
}

impl SparseVector {
    /// A vector from its entries, in any order, each index at most once.
    pub(super) fn new(mut entries: Vec<(u32, u32)>) -> Self {
        entries.retain(|entry| entry.1 != 0);
        entries.sort_unstable();
        Self { entries }
    }

    pub(super) fn unit(index: u32) -> Self {
        Self { entries: vec![(index, 1)] }
    }

    pub(super) fn entries(&self) -> &[(u32, u32)] {
        &self.entries
    }

    pub(super) fn is_zero(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry of largest index.
    pub(super) fn last(&self) -> Option<(u32, u32)> {
        self.entries.last().copied()
    }

    pub(super) fn pop(&mut self) -> Option<(u32, u32)> {
        self.entries.pop()
    }

    /// Adds `scale` times another vector.
    pub(super) fn add_scaled(&mut self, scale: u32, other: &Self, field: PrimeField) {
        if scale == 0 || other.is_zero() {
            return;
        }
        let (a, b) = (&self.entries, &other.entries);
        let mut sum = Vec::with_capacity(a.len() + b.len());
        let (mut i, mut j) = (0, 0);
        while i < a.len() || j < b.len() {
            if j == b.len() || i < a.len() && a[i].0 < b[j].0 {
                sum.push(a[i]);
                i += 1;
            } else if i == a.len() || b[j].0 < a[i].0 {
                sum.push((b[j].0, field.mul(scale, b[j].1)));
                j += 1;
            } else {
                let value = field.add(a[i].1, field.mul(scale, b[j].1));
                if value != 0 {
                    sum.push((a[i].0, value));
                }
                i += 1;
                j += 1;
            }
        }
        self.entries = sum;
    }

    /// Multiplies by a number.
    pub(super) fn scale(&mut self, by: u32, field: PrimeField) {
        for entry in &mut self.entries {
            entry.1 = field.mul(entry.1, by);
        }
        self.entries.retain(|entry| entry.1 != 0);
    }
}

/// A matrix, column by column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SparseMatrix {
    pub(super) columns: Vec<SparseVector>,
}

impl SparseMatrix {
    /// The matrix times a vector.
    pub(super) fn apply(&self, vector: &SparseVector, field: PrimeField) -> SparseVector {
        let mut image = SparseVector::default();
        for &(index, value) in vector.entries() {
            image.add_scaled(value, &self.columns[index as usize], field);
        }
        image
    }
}

/// Vectors of distinct last indices: a basis in echelon form, to which vectors are reduced.
#[derive(Clone, Debug, Default)]
pub(super) struct Echelon {
    /// For each index the position of the vector that ends there.
    ending: Vec<Option<u32>>,
    vectors: Vec<SparseVector>,
}

impl Echelon {
    pub(super) fn new(length: usize) -> Self {
        Self { ending: vec![None; length], vectors: Vec::new() }
    }

    /// Number of vectors.
    pub(super) fn rank(&self) -> usize {
        self.vectors.len()
    }

    /// The vectors, each with last entry 1, in the order in which they came.
    pub(super) fn vectors(&self) -> &[SparseVector] {
        &self.vectors
    }

    /// Position of the vector whose last entry has this index.
    pub(super) fn ending_at(&self, index: u32) -> Option<u32> {
        self.ending[index as usize]
    }

    /// Subtracts multiples of the vectors until the last index is none of theirs. Tells of each `(position, multiple)`.
    pub(super) fn reduce(
        &self,
        vector: &mut SparseVector,
        field: PrimeField,
        mut subtracted: impl FnMut(usize, u32),
    ) {
        while let Some((index, value)) = vector.last() {
            let Some(position) = self.ending[index as usize] else { return };
            vector.add_scaled(field.neg(value), &self.vectors[position as usize], field);
            subtracted(position as usize, value);
        }
    }

    /// Takes in a vector that is reduced and not 0. Returns by what it was multiplied.
    pub(super) fn push(&mut self, mut vector: SparseVector, field: PrimeField) -> u32 {
        let (index, value) = vector.last().unwrap_or_else(|| unreachable!("a vector that is not 0"));
        let scale = field.inverse(value);
        vector.scale(scale, field);
        self.ending[index as usize] = Some(self.vectors.len() as u32);
        self.vectors.push(vector);
        scale
    }
}

/// A matrix ∂ reduced by column operations: what it sends to what, and its kernel.
#[derive(Clone, Debug, Default)]
pub(super) struct ReducedMatrix {
    /// The image of ∂.
    pub(super) image: Echelon,
    /// For each vector of the image one that ∂ sends to it.
    pub(super) preimages: Vec<SparseVector>,
    /// The kernel, by increasing last index, each with last entry 1.
    pub(super) kernel: Vec<SparseVector>,
}

impl ReducedMatrix {
    /// Reduces a matrix of `rows` rows.
    ///
    /// Column `j` is changed by columns before it alone. So the kernel's vectors have distinct last indices, and the
    /// last index of every vector of the kernel is among these.
    pub(super) fn new(
        rows: usize,
        matrix: SparseMatrix,
        field: PrimeField,
        control: &Control,
    ) -> Result<Self, EngineError> {
        let mut reduced = Self { image: Echelon::new(rows), ..Self::default() };
        for (number, mut column) in matrix.columns.into_iter().enumerate() {
            control.check()?;
            let mut combination = SparseVector::unit(number as u32);
            reduced.image.reduce(&mut column, field, |position, multiple| {
                combination.add_scaled(field.neg(multiple), &reduced.preimages[position], field);
            });
            if column.is_zero() {
                reduced.kernel.push(combination);
            } else {
                let scale = reduced.image.push(column, field);
                combination.scale(scale, field);
                reduced.preimages.push(combination);
            }
        }
        Ok(reduced)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matrix(rows: u32, values: &[u32], prime: u32) -> SparseMatrix {
        let columns = values
            .chunks(rows as usize)
            .map(|column| {
                SparseVector::new((0..rows).zip(column.iter().map(|value| value % prime)).collect())
            })
            .collect();
        SparseMatrix { columns }
    }

    proptest! {
        #[test]
        fn kernel_and_image_are_what_they_are_called(
            rows in 1u32..7, values in prop::collection::vec(0u32..7, 0..49), prime in prop::sample::select(vec![2u32, 3, 5, 7])
        ) {
            let field = PrimeField::new(prime).unwrap();
            let values = &values[..values.len() - values.len() % rows as usize];
            let matrix = matrix(rows, values, prime);
            let reduced = ReducedMatrix::new(rows as usize, matrix.clone(), field, &Control::default()).unwrap();
            prop_assert_eq!(reduced.image.rank() + reduced.kernel.len(), matrix.columns.len());
            for vector in &reduced.kernel {
                prop_assert!(matrix.apply(vector, field).is_zero());
                prop_assert_eq!(vector.last().unwrap().1, 1);
            }
            prop_assert!(reduced.kernel.windows(2).all(|pair| pair[0].last() < pair[1].last()));
            for (image, preimage) in reduced.image.vectors().iter().zip(&reduced.preimages) {
                prop_assert_eq!(&matrix.apply(preimage, field), image);
            }
            for column in &matrix.columns {
                let mut rest = column.clone();
                reduced.image.reduce(&mut rest, field, |_, _| ());
                prop_assert!(rest.is_zero());
            }
        }
    }
}
