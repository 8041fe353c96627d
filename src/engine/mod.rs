//! The mathematics: from trajectories to a Morse graph.
//!
//! Pure: no tokio, no files, no clock, no network, no logging. The same input gives the same bytes, with one thread
//! and with many. The method is that of Eslami, Eramian, Gameiro, Kalies and Mischaikow, *Extracting Global Dynamics
//! of Loss Landscape in Deep Learning Models* (2021, arXiv 2106.07683), carried further.

mod analysis;
mod cancel;
mod columns;
mod comparison;
mod control;
mod describe;
pub mod dynamics;
mod error;
mod forecast;
pub mod grid;
pub mod homology;
pub mod limits;
mod losses;
mod places;
mod points;
mod projection;
mod quality;
mod random;
mod statistics;
pub mod surrogate;
mod trajectories;

pub use analysis::*;
pub use cancel::Cancel;
pub use comparison::{Comparison, Rebasing, Since, compare};
pub use control::Control;
pub use error::EngineError;
pub use places::{Place, Places};
pub use points::Points;

use describe::Findings;
use dynamics::{MorseDecomposition, OrderRetraction};
use grid::{MAX_DIMENSION, Rect, UniformGrid};
use homology::conley_indices;
use projection::{Coordinates, choose};
use surrogate::{FittedMap, Simultaneous, box_map};
use trajectories::Group;

/// Conley indices have coefficients in the field of so many elements, as CMGDB's have: over that of two x + 1 and x − 1
/// were the same.
const CONLEY_PRIME: u32 = 5;

/// Analyses runs that belong together: from their checkpoints to a Morse graph, the basins of its attractors, and how
/// far both can be trusted.
///
/// The runs may come in any order; those without checkpoints are passed over.
///
/// # Errors
/// [`EngineError`] says what to change: in the runs, in the parameters, or by waiting for more checkpoints.
pub fn analyze(
    runs: &[RunSeries],
    parameters: &Parameters,
    control: &Control,
) -> Result<Analysis, EngineError> {
    check(parameters)?;
    let group = Group::new(runs)?;

    control.report("projection", 0.0);
    let choice = choose(group, parameters, control)?;

    control.report("surrogate", 0.0);
    let surrogate = &parameters.surrogate;
    let hyperparameters = choice.hyperparameters(surrogate, control)?;
    let fitted = FittedMap::given(&choice.pairs, surrogate, &hyperparameters)?;

    control.report("map", 0.0);
    let grid =
        UniformGrid::new(domain(&choice.coordinates, parameters.grid.margin), parameters.grid.subdivisions)?;
    let bound = match surrogate.enclosure {
        Enclosure::Padding => None,
        Enclosure::Confidence(probability) => Some(Simultaneous::new(&fitted, &grid, probability)),
    };
    let map = box_map(&fitted, &grid, bound.as_ref(), surrogate.trust, parameters.grid.mode, control)?;

    control.report("recurrence", 0.0);
    let morse = MorseDecomposition::of(&map, control)?;

    control.report("index", 0.0);
    let conley_indices = conley_indices(&grid, &map, &morse, CONLEY_PRIME, control)?;

    control.report("retraction", 0.0);
    let retraction = match OrderRetraction::of(&map, &morse, control) {
        Ok(retraction) => Some(retraction),
        Err(EngineError::OrderTooWide { .. }) => None,
        Err(error) => return Err(error),
    };

    control.report("quality", 0.0);
    let assessment = choice.assess(surrogate, &hyperparameters, control)?;
    Findings {
        parameters,
        choice: &choice,
        fitted: &fitted,
        widening: bound.as_ref().map(|bound| bound.widening.iter().copied().fold(0.0, f64::max)),
        bending: bound.map(|bound| bound.bending),
        map: &map,
        morse: &morse,
        conley_indices,
        retraction,
        assessment,
    }
    .describe(control)
}

/// How well coordinates at a lag predict fresh runs: both are fixed in the parameters, the coordinates, the map and its
/// smoothness are learned from `runs` alone, and the figures are taken on `fresh`. So what an automatic choice is worth
/// can be measured on runs that took no part in it, beside everything that it might have chosen.
///
/// # Errors
/// As [`analyze`]; [`EngineError::LeftOpen`].
pub fn score(
    runs: &[RunSeries],
    fresh: &[RunSeries],
    parameters: &Parameters,
    control: &Control,
) -> Result<Candidate, EngineError> {
    check(parameters)?;
    if parameters.projection == ProjectionChoice::Auto || parameters.lag == LagChoice::Auto {
        return Err(EngineError::LeftOpen);
    }
    let mut names: Vec<&str> = fresh.iter().map(|run| run.run.as_str()).collect();
    names.sort_unstable();
    let all: Vec<RunSeries> = runs.iter().chain(fresh).cloned().collect();
    let group = Group::new(&all)?.reserving(|run| names.binary_search(&run).is_ok());
    projection::score(&group, parameters, control)
}

/// Refuses parameters before memory is taken.
fn check(parameters: &Parameters) -> Result<(), EngineError> {
    let Parameters { dimension, surrogate, grid, .. } = parameters;
    if !(1..=MAX_DIMENSION).contains(dimension) {
        return Err(EngineError::Dimension { dimension: *dimension });
    }
    if grid.subdivisions > grid::MAX_SUBDIVISIONS {
        return Err(EngineError::TooManyCells { subdivisions: grid.subdivisions });
    }
    let refuse = |name, value, need| Err(EngineError::Parameter { name, value, need });
    if surrogate.trust.is_nan() || surrogate.trust <= 0.0 {
        return refuse("trust", surrogate.trust, "above 0");
    }
    if let Enclosure::Confidence(probability) = surrogate.enclosure
        && !(probability > 0.0 && probability < 1.0)
    {
        return refuse("confidence", probability, "between 0 and 1, both excluded");
    }
    let (Margin::Share(margin) | Margin::Absolute(margin)) = grid.margin;
    if !(margin >= 0.0 && margin.is_finite()) {
        return refuse("margin", margin, "finite and not below 0");
    }
    if parameters.lag == LagChoice::Steps(0) {
        return refuse("lag", 0.0, "at least 1 step");
    }
    Ok(())
}

/// The bounding box of what may be learned from, with a margin on each side.
fn domain(coordinates: &Coordinates<'_>, margin: Margin) -> Rect {
    let ends = |axis| {
        let (low, high) = coordinates.range(axis);
        let margin = match margin {
            Margin::Share(share) => share * (high - low),
            Margin::Absolute(length) => length,
        };
        (low - margin, high + margin)
    };
    let (lower, upper): (Vec<f64>, Vec<f64>) = (0..coordinates.dimension()).map(ends).unzip();
    Rect::new(&lower, &upper)
}
