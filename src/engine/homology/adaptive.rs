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
    let field = PrimeField::new(prime)?;
    let index = |set: &RecurrentSet| {
        let (level, cells) = at_greatest_depth(map, set);
        let (bits, periodic): (Vec<u32>, Vec<bool>) = (0..level.dimension())
            .map(|axis| (level.cells_along(axis).trailing_zeros(), level.is_periodic(axis)))
            .unzip();
        let space = CubicalSpace::new(&bits, &periodic)?;
        let image = |key: u64| image_at(map, rule, &level, key);
        conley_index(&space, &cells, image, field, control)
    };
    morse.sets().par_iter().map(index).collect()
}

/// The deepest level on which cells of a set lie, and the cells of that level that make up the set, by key.
fn at_greatest_depth(map: &AdaptiveMap, set: &RecurrentSet) -> (Level, Vec<u64>) {
    let grid = map.grid();
    let level = set.iter().map(|cell| grid.cell(cell).0).max_by_key(|level| level.depth());
    let level = level.unwrap_or(grid.finest()).clone();
    let mut cells = Vec::with_capacity(set.size);
    for cell in set.iter() {
        let (own, key) = grid.cell(cell);
        let (first, last) = own.descendants(key, &level);
        level.for_each_run(first, last, |run| cells.extend(run));
    }
    cells.sort_unstable();
    (level, cells)
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
