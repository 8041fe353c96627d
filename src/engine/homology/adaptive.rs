//! Conley indices of the Morse sets of a map on an adaptive grid.

use rayon::prelude::*;

use super::{ConleyIndex, CubicalSpace, Image, PrimeField, conley_index};
use crate::engine::dynamics::{AdaptiveMap, MorseDecomposition, RecurrentSet, Rule};
use crate::engine::grid::Level;
use crate::engine::{Control, EngineError};

/// The Conley index of each Morse set, in order, on cells of the set's greatest depth: shallower ones are cut, and where
/// the map is not known at that depth the `rule` is asked again from which it was made.
///
/// # Errors
/// [`EngineError::Cancelled`], [`EngineError::Parameter`] for a `prime` that is none.
pub fn adaptive_conley_indices(
    map: &AdaptiveMap,
    rule: &impl Rule,
    morse: &MorseDecomposition,
    prime: u32,
    control: &Control,
) -> Result<Vec<ConleyIndex>, EngineError> {
    let index = |set: &RecurrentSet| {
        let cells: Vec<u32> = set.iter().collect();
        adaptive_conley_index_of_cells(map, rule, &cells, prime, control)
    };
    morse.sets().par_iter().map(index).collect()
}

/// The Conley index of some cells, in increasing order: a Morse set, several with all that lies between them, or any
/// cells such that no path leads out of them and back; on cells of their greatest depth, as above.
///
/// # Errors
/// [`EngineError::Cancelled`], [`EngineError::Parameter`] for a `prime` that is none.
pub fn adaptive_conley_index_of_cells(
    map: &AdaptiveMap,
    rule: &impl Rule,
    cells: &[u32],
    prime: u32,
    control: &Control,
) -> Result<ConleyIndex, EngineError> {
    let field = PrimeField::new(prime)?;
    let (level, keys) = at_greatest_depth(map, cells);
    let space = CubicalSpace::of_level(&level)?;
    let image = |key: u64| image_at(map, rule, &level, key);
    conley_index(&space, &keys, image, field, control)
}

/// The deepest level on which some cells lie, and the cells of that level that make them up, by key.
fn at_greatest_depth(map: &AdaptiveMap, cells: &[u32]) -> (Level, Vec<u64>) {
    let grid = map.grid();
    let level = cells.iter().map(|&cell| grid.cell(cell).0).max_by_key(|level| level.depth());
    let level = level.unwrap_or(grid.finest()).clone();
    let mut keys = Vec::with_capacity(cells.len());
    for &cell in cells {
        let (own, key) = grid.cell(cell);
        let (first, last) = own.descendants(key, &level);
        level.for_each_run(first, last, |run| keys.extend(run));
    }
    keys.sort_unstable();
    (level, keys)
}

fn image_at(map: &AdaptiveMap, rule: &impl Rule, level: &Level, key: u64) -> Image {
    match map.grid().position(level, key) {
        Some(cell) if map.is_unknown(cell) => Image::UNKNOWN,
        Some(cell) => {
            let to_level = |(first, last)| map.grid().finest().ancestor_box(first, last, level);
            let image = Image { cells: map.image(cell).map(to_level), escape: None };
            if map.exits(cell) { image.exiting() } else { image }
        }
        None => match rule.cover(level, key) {
            None => Image::UNKNOWN,
            Some(cover) => {
                let image = Image { cells: cover.cells, escape: None };
                if cover.exits { image.exiting() } else { image }
            }
        },
    }
}
