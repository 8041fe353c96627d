//! Whether a combination of projection and lag is good enough.
//!
//! Predictability alone must not choose: at a long lag every contracting map looks perfect, and a constant coordinate
//! is the best predicted of all. A combination qualifies when, on whole runs left out, it predicts much better than
//! each of three simple guesses (the next point is the mean of all; nothing moves; all move alike); when its
//! coordinates tell the loss; and when motion in one lag exceeds a few cells of the grid, since otherwise every small
//! step is a fixed point at the grid's resolution.

use super::Coordinates;
use crate::engine::limits::{
    LEAST_LOSS_CORRELATION, LEAST_MOTION, LEAST_SKILL, LEAST_SKILL_OVER_PERSISTENCE,
};
use crate::engine::quality::Assessment;
use crate::engine::statistics::median;
use crate::engine::surrogate::{FittedMap, Search};
use crate::engine::trajectories::Pairs;
use crate::engine::{Candidate, Control, EngineError, Hyperparameters, Parameters};

/// Least length scale while candidates are compared, in spreads of the inputs.
const LEAST_SCALE: f64 = 0.5;

/// Hyperparameters by a quick search among smooth maps, by at most so many pairs, to compare combinations.
pub(super) fn quick_hyperparameters(
    pairs: &Pairs,
    most_pairs: usize,
    parameters: &Parameters,
    control: &Control,
) -> Result<Vec<Hyperparameters>, EngineError> {
    let search = Search { quick: Some(most_pairs), least_scale: LEAST_SCALE, start: None };
    FittedMap::hyperparameters(pairs, &parameters.surrogate, search, control)
}

/// What a combination is worth, from how its map predicts runs left out.
pub(super) fn candidate(
    coordinates: &Coordinates<'_>,
    learned: &Pairs,
    assessment: Assessment,
    loss_correlation: Option<f64>,
    motion_cells: f64,
) -> Candidate {
    let reasons = shortcomings(&assessment, motion_cells, loss_correlation);
    Candidate {
        projection: coordinates.projection.kind,
        lag_steps: learned.lag().steps,
        skill: assessment.skill,
        displacement_skill: assessment.displacement_skill,
        skill_over_persistence: assessment.skill_over_persistence,
        errors: assessment.errors,
        motion_cells,
        loss_correlation,
        qualifies: reasons.is_empty(),
        reason: reasons.join("; "),
    }
}

fn smallest(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// What is wrong with a candidate, in plain words.
fn shortcomings(assessment: &Assessment, motion: f64, loss_correlation: Option<f64>) -> Vec<String> {
    let mut reasons = Vec::new();
    let skill = smallest(&assessment.skill);
    if skill < LEAST_SKILL {
        reasons.push(format!(
            "where a run comes next is predicted hardly better than by the mean of all (R² {skill:.2}, less than {LEAST_SKILL})"
        ));
    }
    let skill = smallest(&assessment.displacement_skill);
    if skill < LEAST_SKILL {
        reasons.push(format!(
            "how far a run moves is predicted hardly better than by the mean of all (R² {skill:.2}, less than {LEAST_SKILL}): where a run is does not tell where it goes"
        ));
    }
    let removed = assessment.skill_over_persistence;
    if removed < LEAST_SKILL_OVER_PERSISTENCE {
        reasons.push(format!(
            "saying that nothing moves is nearly as good (the map removes {removed:.2} of that error, less than {LEAST_SKILL_OVER_PERSISTENCE})"
        ));
    }
    if motion < LEAST_MOTION {
        reasons.push(format!(
            "typical motion in one lag is {motion:.1} cells, less than {LEAST_MOTION}: small steps would look like fixed points"
        ));
    }
    if let Some(correlation) = loss_correlation.filter(|&correlation| correlation < LEAST_LOSS_CORRELATION) {
        reasons.push(format!(
            "the coordinates say little about the loss (rank correlation {correlation:.2}, less than {LEAST_LOSS_CORRELATION})"
        ));
    }
    reasons
}

/// Median motion in one lag along the axis of most motion, in cells of the grid.
pub(super) fn motion_in_cells(
    coordinates: &Coordinates<'_>,
    pairs: &Pairs,
    parameters: &Parameters,
) -> Result<f64, EngineError> {
    let grid = coordinates.grid(parameters)?;
    let along = |axis: usize| {
        let moved = pairs.from.column(axis).zip(pairs.to.column(axis)).map(|(from, to)| (to - from).abs());
        median(&mut moved.collect::<Vec<_>>()) / grid.cell_width(axis)
    };
    Ok((0..coordinates.dimension()).map(along).fold(0.0, f64::max))
}
