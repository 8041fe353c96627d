//! From a set of cells to its Conley index: the index pair, its homology, the map on it, its class.

use rayon::prelude::*;

use super::carrier::Carrier;
use super::conley_index::{ConleyIndex, Undefined};
use super::cubical_complex::{CubicalComplex, IndexPair};
use super::cubical_space::{CubicalSpace, Image};
use super::frobenius::shift_class;
use super::images::Images;
use super::reduction::{Chain, Scratch};
use super::relative::RelativeHomology;
use super::sparse_matrix::{SparseMatrix, SparseVector};
use super::{Polynomial, PrimeField};
use crate::engine::{Control, EngineError};

/// Cubes that are carried between two looks at the cancel flag.
const POLL_EVERY: usize = 1 << 8;

/// The Conley index of a set of cells under a map.
///
/// `set` holds the keys of the cells in increasing order. It must be a Morse set, that is a strongly connected component
/// of the map's graph, or at least a set such that no path leads out of it and back; then (S ∪ F(S), F(S) \ S) is an
/// index pair. `image` is asked once for each cell of the set, and for some of the cells beside it.
///
/// # Errors
/// [`EngineError::Cancelled`].
///
/// # Panics
/// If the keys do not increase.
///
/// ```
/// use doodl3::engine::Control;
/// use doodl3::engine::homology::{CubicalSpace, Image, PrimeField, conley_index};
///
/// // x ↦ 2x near 0, on 16 cells of width 1/8 from -1 to 1; images meet one cell more on each side
/// let space = CubicalSpace::new(&[4], &[false])?;
/// let double = |cell: u64| match cell {
///     5..11 => Image::cells(2 * cell - 9, 2 * cell - 6),
///     _ => Image::EMPTY,
/// };
/// let index = conley_index(&space, &[7, 8], double, PrimeField::new(5)?, &Control::default())?;
/// assert_eq!(index.to_string(), "(0, x-1)");
/// # Ok::<(), doodl3::engine::EngineError>(())
/// ```
pub fn conley_index(
    space: &CubicalSpace,
    set: &[u64],
    image: impl Fn(u64) -> Image + Sync,
    field: PrimeField,
    control: &Control,
) -> Result<ConleyIndex, EngineError> {
    assert!(set.is_sorted_by(|a, b| a < b), "keys of cells increase");
    let undefined = |reason| Ok(ConleyIndex::Undefined { reason });
    let images = match Images::new(space, set, image, control)? {
        Ok(images) => images,
        Err(reason) => return undefined(reason),
    };
    let (pair, complex) = rayon::join(
        || IndexPair::new(space, set, |number| images.of_member(number), control),
        || CubicalComplex::of_faces(space, set, control),
    );
    let (pair, Some(mut complex)) = (pair?, complex?) else {
        return undefined(Undefined::TooLarge);
    };
    complex.remove_faces(space, &pair.collar, control)?;
    let homology = RelativeHomology::new(&complex, field, control)?;
    let carrier = Carrier { space, complex: &complex, pair: &pair, images: &images, field };

    let mut degrees = Vec::new();
    for (degree, betti) in homology.betti_numbers().into_iter().enumerate() {
        let columns: Result<Vec<Result<SparseVector, Undefined>>, EngineError> = (0..betti)
            .into_par_iter()
            .map_init(
                || homology.scratch(),
                |scratch, element| image_class(&homology, &carrier, (degree, element), scratch, control),
            )
            .collect();
        let columns = match columns?.into_iter().collect() {
            Ok(columns) => columns,
            Err(reason) => return undefined(reason),
        };
        let factors = shift_class(SparseMatrix { columns }, field, control)?;
        degrees.push(factors.iter().map(|factor| factor.balanced(field)).collect::<Vec<Polynomial>>());
    }
    Ok(ConleyIndex::Defined { prime: field.prime(), degrees })
}

/// The class of the image of a basis element.
fn image_class<F: Fn(u64) -> Image + Sync>(
    homology: &RelativeHomology<'_>,
    carrier: &Carrier<'_, F>,
    (degree, element): (usize, usize),
    scratch: &mut Scratch,
    control: &Control,
) -> Result<Result<SparseVector, Undefined>, EngineError> {
    let cycle = homology.representative(degree, element, scratch);
    let mut carried = Chain::new();
    for (number, &(cube, value)) in cycle.iter().enumerate() {
        if number.is_multiple_of(POLL_EVERY) {
            control.check()?;
        }
        if let Err(reason) = carrier.carry(cube, &mut carried, value) {
            return Ok(Err(reason));
        }
    }
    Ok(homology.class(degree, carried, scratch).ok_or(Undefined::FibreNotAcyclic))
}
