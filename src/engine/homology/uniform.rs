//! Conley indices of the Morse sets of a map on a uniform grid.

use rayon::prelude::*;

use super::{ConleyIndex, CubicalSpace, Image, PrimeField, conley_index};
use crate::engine::dynamics::{BoxMap, MorseDecomposition};
use crate::engine::grid::UniformGrid;
use crate::engine::{Control, EngineError};

/// The Conley index of each Morse set, in order.
///
/// # Errors
/// [`EngineError::Cancelled`], [`EngineError::Parameter`] for a `prime` that is none.
///
/// # Panics
/// If the map or its Morse sets belong to another grid.
///
/// ```
/// use doodl3::engine::dynamics::{BoxMap, MorseDecomposition, PointMap, Widening};
/// use doodl3::engine::grid::{Rect, UniformGrid};
/// use doodl3::engine::homology::conley_indices;
/// use doodl3::engine::{Control, Mode};
///
/// // the time-one map of ẋ = x − x³: two stable fixed points, and an unstable one between them
/// let flow = PointMap::new(|x: &[f64], image: &mut [f64]| {
///     image[0] = x[0] / (x[0] * x[0] + (1.0 - x[0] * x[0]) * f64::exp(-2.0)).sqrt();
/// });
/// let grid = UniformGrid::new(Rect::new(&[-2.0], &[2.0]), 8)?;
/// let control = Control::default();
/// let map = BoxMap::from_corners(&grid, &flow, Widening::None, Mode::Full, &control)?;
/// let morse = MorseDecomposition::of(&map, &control)?;
/// let indices = conley_indices(&grid, &map, &morse, 5, &control)?;
/// let strings: Vec<String> = indices.iter().map(ToString::to_string).collect();
/// assert_eq!(strings, ["(x-1, 0)", "(0, x-1)", "(x-1, 0)"]);
/// # Ok::<(), doodl3::engine::EngineError>(())
/// ```
pub fn conley_indices(
    grid: &UniformGrid,
    map: &BoxMap,
    morse: &MorseDecomposition,
    prime: u32,
    control: &Control,
) -> Result<Vec<ConleyIndex>, EngineError> {
    let field = PrimeField::new(prime)?;
    let dimension = grid.dimension();
    let (bits, periodic): (Vec<u32>, Vec<bool>) =
        (0..dimension).map(|axis| (grid.cells_along(axis).trailing_zeros(), grid.is_periodic(axis))).unzip();
    let space = CubicalSpace::new(&bits, &periodic)?;
    let image = |cell: u64| {
        let cell = cell as u32;
        if map.is_unknown(cell) {
            return Image::UNKNOWN;
        }
        let cells = map.image(cell).map(|(first, last)| (u64::from(first), u64::from(last)));
        let image = Image { cells, escape: None };
        if map.exits(cell) { image.exiting() } else { image }
    };
    morse
        .sets()
        .par_iter()
        .map(|set| {
            let cells: Vec<u64> = set.iter().map(u64::from).collect();
            conley_index(&space, &cells, image, field, control)
        })
        .collect()
}
