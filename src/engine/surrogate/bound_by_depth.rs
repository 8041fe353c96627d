//! Boxes that hold the images of cells of several depths, with confidence.
//!
//! As for [`Simultaneous`]: the corners of the cells of all depths are among those of the deepest level, and the part of
//! the budget that speaks of these holds for all depths at once. What lies between is bounded for each depth on its own,
//! with an equal share of the other part, since the corners of a large cell say less of what happens inside.

use super::FittedMap;
use super::enclosure::{Simultaneous, caution};
use crate::engine::grid::Level;

/// What makes images hold for all cells of all depths at once.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::engine) struct BoundByDepth {
    /// For each axis the factor of standard deviations by which the image of each corner is widened.
    pub(in crate::engine) widening: Vec<f64>,
    /// What is added on each side of a cell's image along each axis, by its number of subdivisions.
    pub(in crate::engine) bending: Vec<Vec<f64>>,
}

impl BoundByDepth {
    /// Enclosures of a map on the cells of this level and of all above it, that hold with this probability. Cells have
    /// at least `init` subdivisions.
    pub(in crate::engine) fn new(map: &FittedMap, finest: &Level, init: u32, probability: f64) -> Self {
        let caution: Vec<f64> = (0..finest.dimension()).map(|axis| caution(map, axis)).collect();
        let factor = Simultaneous::factor(finest, 0, probability);
        let depths = f64::from(finest.depth() - init + 1);
        let at = |depth: u32| {
            let bending = Simultaneous::bending(map, &finest.ancestor_level(depth), 0, probability, depths);
            bending.iter().zip(&caution).map(|(bending, caution)| bending * caution).collect()
        };
        Self {
            widening: caution.iter().map(|caution| caution * factor).collect(),
            bending: (0..=finest.depth()).map(at).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::grid::{Rect, UniformGrid};
    use crate::engine::trajectories::Pairs;
    use crate::engine::{Points, SurrogateParameters};

    #[test]
    fn one_depth_is_a_uniform_grid_and_larger_cells_bend_more() {
        let from = Points::from_rows(1, (0..30).map(|i| [f64::from(i) / 15.0 - 1.0]));
        let to = Points::from_rows(1, from.rows().map(|x| [(2.0 * x[0]).sin()]));
        let pairs = Pairs::of_points(&from, &to).unwrap();
        let parameters = SurrogateParameters::default();
        let map =
            FittedMap::fit(&pairs.from, &pairs.to, &parameters, &crate::engine::Control::default()).unwrap();
        let grid = UniformGrid::new(Rect::new(&[-1.0], &[1.0]), 14).unwrap();
        let uniform = Simultaneous::new(&map, &grid, 0.95);
        assert_eq!(uniform.refinement, 0, "corners are dense enough");
        let one = BoundByDepth::new(&map, grid.level(), 14, 0.95);
        assert_eq!((&one.widening, &one.bending[14]), (&uniform.widening, &uniform.bending));
        let several = BoundByDepth::new(&map, grid.level(), 8, 0.95);
        assert_eq!(several.widening, uniform.widening);
        assert!(several.bending[14][0] > uniform.bending[0], "each depth has a share of the budget");
        for depth in 8..14 {
            let ratio = several.bending[depth][0] / several.bending[depth + 1][0];
            assert!((3.0..4.0).contains(&ratio), "halving cells quarters how far a map bends: {ratio}");
        }
    }
}
