//! Slow modes of few runs: the combinations of weights that are best told by what they were one checkpoint before.
//!
//! For a single run there is no covariance between runs. Time-lagged independent components (Molgedey and Schuster,
//! Phys. Rev. Lett. 72, 1994; as slow order parameters in Pérez-Hernández et al., J. Chem. Phys. 139, 2013) are the
//! directions of largest autocorrelation. Of a run that trains they show the drift first, then slow turns; noise of
//! batches comes last, however much it varies. What is lost: anything that changes faster than checkpoints are written.

use faer::Mat;

use super::directions::Directions;
use super::generalised_eigen::generalised_eigenvectors;
use super::pca::principal_components;
use crate::engine::statistics::mean;
use crate::engine::trajectories::Row;
use crate::engine::{Control, EngineError, ProjectionChoice};

/// Fewest checkpoints whose order says anything.
pub(in crate::engine) const FEWEST_CHECKPOINTS: usize = 40;

/// The span of the snapshots is cut to the directions of largest variance: to one for so many checkpoints, since in the
/// span of all of them some direction has any course that is wished for; and to so many at most.
const CHECKPOINTS_PER_DIRECTION: usize = 10;
const SPAN: usize = 32;

/// Share of the largest variance that is added to all, so that directions of next to none are not blown up.
const RIDGE: f64 = 1e-6;

/// The `dimension` directions w of largest wᵀC₁w / wᵀC₀w, where C₀ is the covariance of the checkpoints and C₁ that of
/// each checkpoint with the next of its run, made symmetric.
///
/// # Errors
/// [`EngineError::TooFewCheckpoints`], [`EngineError::TooFewCoordinates`], [`EngineError::Cancelled`].
pub(super) fn time_lagged_modes(
    rows: &[&Row<'_>],
    dimension: usize,
    control: &Control,
) -> Result<Directions, EngineError> {
    if rows.len() < FEWEST_CHECKPOINTS {
        return Err(EngineError::TooFewCheckpoints {
            projection: ProjectionChoice::TimeLaggedModes,
            found: rows.len(),
            needed: FEWEST_CHECKPOINTS,
        });
    }
    let most = (rows.len() / CHECKPOINTS_PER_DIRECTION).clamp(dimension, SPAN.max(dimension));
    let span = principal_components(rows, most.min(rows[0].width()), control)?;
    let rank = span.rank();
    if rank < dimension {
        return Err(EngineError::TooFewCoordinates { dimension, available: rank, what: "weights" });
    }
    let points = span.project(rows, rank, control)?;
    let successive: Vec<usize> = (1..rows.len()).filter(|&i| rows[i - 1].run == rows[i].run).collect();
    let centre = |axis: usize| {
        mean(successive.iter().map(|&i| f64::midpoint(points.row(i - 1)[axis], points.row(i)[axis])))
    };
    let centres: Vec<f64> = (0..rank).map(centre).collect();
    let matrix = |lag: usize| {
        Mat::from_fn(successive.len(), rank, |number, axis| {
            points.row(successive[number] - lag)[axis] - centres[axis]
        })
    };
    let (before, after) = (matrix(1), matrix(0));
    let mut own = before.transpose() * &before + after.transpose() * &after;
    let lagged = before.transpose() * &after;
    let lagged = &lagged + lagged.transpose();
    let largest = (0..rank).map(|axis| own[(axis, axis)]).fold(0.0, f64::max);
    (0..rank).for_each(|axis| own[(axis, axis)] += RIDGE * largest);
    let Some((_, vectors)) = generalised_eigenvectors(&lagged, &own) else {
        return Err(EngineError::IdenticalPoints { projection: ProjectionChoice::TimeLaggedModes, axis: 1 });
    };
    let slowest = Mat::from_fn(rank, dimension, |i, axis| vectors[(i, rank - 1 - axis)]);
    Ok(span.combined(&slowest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::random::Random;
    use crate::engine::statistics::rank_correlation;
    use crate::engine::trajectories::{Features, Group};
    use crate::engine::{Points, RunSeries, Snapshot};

    /// A run that relaxes slowly along one direction, and jumps about along another, further.
    fn run(checkpoints: usize) -> Vec<RunSeries> {
        let mut random = Random::new(4);
        let snapshots = (0..checkpoints).map(|step| {
            let (slow, jumps) = (0.96f64.powi(step as i32), 3.0 * random.normal());
            let weights = [0.8 * slow + 0.6 * jumps, 0.8 * jumps - 0.6 * slow, 0.01 * random.normal()];
            Snapshot {
                step: step as u64,
                weights: weights.map(|x| x as f32).to_vec(),
                predictions: None,
                loss: None,
            }
        });
        vec![RunSeries { run: "r".into(), snapshots: snapshots.collect(), disturbed: Vec::new() }]
    }

    fn points(runs: &[RunSeries]) -> Result<Points, EngineError> {
        let (rows, control) = (Group::new(runs)?.rows(Features::Weights)?, Control::default());
        let rows: Vec<&Row<'_>> = rows.rows.iter().collect();
        time_lagged_modes(&rows, 1, &control)?.project(&rows, 1, &control)
    }

    #[test]
    fn the_slow_direction_is_found_though_it_varies_less() {
        let points = points(&run(60)).unwrap();
        let time: Vec<f64> = (0..60).map(f64::from).collect();
        let course: Vec<f64> = points.column(0).collect();
        assert!(rank_correlation(&course, &time).abs() > 0.95);
    }

    #[test]
    fn of_few_checkpoints_nothing_is_said() {
        let error = points(&run(39)).unwrap_err();
        assert!(matches!(error, EngineError::TooFewCheckpoints { found: 39, .. }), "{error}");
    }
}
