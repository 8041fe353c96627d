//! Conley indices of the Morse sets of a map on a uniform grid.

use rayon::prelude::*;

use super::{ConleyIndex, CubicalSpace, Image, PrimeField, conley_index};
use crate::engine::dynamics::{BoxMap, MorseDecomposition, RecurrentSet};
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
    assert_eq!(grid, map.grid(), "a map has one grid");
    let index = |set: &RecurrentSet| {
        let cells: Vec<u32> = set.iter().collect();
        conley_index_of_cells(map, &cells, prime, control)
    };
    morse.sets().par_iter().map(index).collect()
}

/// The Conley index of some cells, in increasing order: a Morse set, several with all that lies between them, or any
/// cells such that no path leads out of them and back.
///
/// # Errors
/// [`EngineError::Cancelled`], [`EngineError::Parameter`] for a `prime` that is none.
///
/// # Panics
/// If the cells do not increase.
///
/// ```
/// use doodl3::engine::dynamics::{BoxMap, MorseDecomposition, PointMap, Widening};
/// use doodl3::engine::grid::{Rect, UniformGrid};
/// use doodl3::engine::homology::conley_index_of_cells;
/// use doodl3::engine::{Control, Mode};
///
/// // both stable fixed points of the time-one map of ẋ = x − x³, the unstable one, and the orbits from it to them:
/// // together an attractor that is like a point
/// let flow = PointMap::new(|x: &[f64], image: &mut [f64]| {
///     image[0] = x[0] / (x[0] * x[0] + (1.0 - x[0] * x[0]) * f64::exp(-2.0)).sqrt();
/// });
/// let grid = UniformGrid::new(Rect::new(&[-2.0], &[2.0]), 8)?;
/// let control = Control::default();
/// let map = BoxMap::from_corners(&grid, &flow, Widening::None, Mode::Full, &control)?;
/// let morse = MorseDecomposition::of(&map, &control)?;
/// let all = morse.connecting_cells(&map, &[0, 1, 2], &[0, 1, 2], &control)?;
/// assert_eq!(conley_index_of_cells(&map, &all, 5, &control)?.to_string(), "(x-1, 0)");
/// # Ok::<(), doodl3::engine::EngineError>(())
/// ```
pub fn conley_index_of_cells(
    map: &BoxMap,
    cells: &[u32],
    prime: u32,
    control: &Control,
) -> Result<ConleyIndex, EngineError> {
    let field = PrimeField::new(prime)?;
    let space = CubicalSpace::of_level(map.grid().level())?;
    let image = |cell: u64| {
        let cell = cell as u32;
        if map.is_unknown(cell) {
            return Image::UNKNOWN;
        }
        let cells = map.image(cell).map(|(first, last)| (u64::from(first), u64::from(last)));
        let image = Image { cells, escape: None };
        if map.exits(cell) { image.exiting() } else { image }
    };
    let cells: Vec<u64> = cells.iter().map(|&cell| cell.into()).collect();
    conley_index(&space, &cells, image, field, control)
}
