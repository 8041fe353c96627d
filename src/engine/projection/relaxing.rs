//! Directions in which runs forget where they began.
//!
//! Between runs the weights differ. Along some directions that difference shrinks while they train, because training
//! acts on it; along others it stays for ever, since nothing does (a constant added to all class weights changes no
//! prediction). The variance between the runs' last checkpoints against that between their first tells which is which.
//! What is kept: what training decides. What is lost: how hidden units are permuted between seeds is a difference
//! between runs too, and never shrinks.

use faer::Mat;

use super::directions::Directions;
use super::generalised_eigen::generalised_eigenvectors;
use super::pca::principal_components;
use crate::engine::statistics::mean;
use crate::engine::trajectories::Row;
use crate::engine::{Control, EngineError, Points, ProjectionChoice};

/// Fewest runs whose covariance says anything.
pub(super) const FEWEST_RUNS: usize = 8;

/// The span of the snapshots is cut to this many directions of largest variance.
const SPAN: usize = 64;

/// The `dimension` directions w of least wᵀC₁w / wᵀC₀w, where C₀ and C₁ are the covariances between runs of their first
/// and last checkpoints, in the span of all snapshots.
///
/// There are fewer runs than coordinates as a rule, so both covariances are shrunk towards a multiple of the identity
/// ([`shrunk_covariance`]): a direction of which the runs say nothing is not taken for one that relaxes.
///
/// # Errors
/// [`EngineError::TooFewRuns`], [`EngineError::TooFewCoordinates`], [`EngineError::Cancelled`].
pub(super) fn relaxing_directions(
    rows: &[&Row<'_>],
    dimension: usize,
    control: &Control,
) -> Result<Directions, EngineError> {
    let by_run = rows.chunk_by(|a, b| a.run == b.run).filter(|run| run.len() > 1);
    let (first, last): (Vec<_>, Vec<_>) = by_run.map(|run| (run[0], run[run.len() - 1])).unzip();
    if first.len() < FEWEST_RUNS {
        return Err(EngineError::TooFewRuns {
            projection: ProjectionChoice::RelaxingDirections,
            found: first.len(),
            needed: FEWEST_RUNS,
        });
    }
    let span = principal_components(rows, SPAN.min(rows[0].width()), control)?;
    let rank = span.rank();
    if rank < dimension {
        return Err(EngineError::TooFewCoordinates { dimension, available: rank, what: "weights" });
    }
    let covariance = |rows: &[&Row<'_>]| Ok(shrunk_covariance(&span.project(rows, rank, control)?));
    let (first, last) = (covariance(&first)?, covariance(&last)?);
    let Some((_, vectors)) = generalised_eigenvectors(&last, &first) else {
        return Err(EngineError::IdenticalPoints {
            projection: ProjectionChoice::RelaxingDirections,
            axis: 1,
        });
    };
    Ok(span.combined(&vectors.subcols(0, dimension).to_owned()))
}

/// The covariance of some points, shrunk towards a multiple of the identity by as much as minimises the expected
/// squared error (Ledoit and Wolf, *A well-conditioned estimator for large-dimensional covariance matrices*, J.
/// Multivariate Analysis 88, 2004).
fn shrunk_covariance(points: &Points) -> Mat<f64> {
    let (n, m) = (points.len() as f64, points.dimension());
    let means: Vec<f64> = (0..m).map(|axis| mean(points.column(axis))).collect();
    let centred = Mat::from_fn(points.len(), m, |i, axis| points.row(i)[axis] - means[axis]);
    let sample = centred.transpose() * &centred / n;
    let level = (0..m).map(|axis| sample[(axis, axis)]).sum::<f64>() / m as f64;
    let identity = Mat::<f64>::identity(m, m);
    let distance = (&sample - &identity * level).squared_norm_l2();
    // mean of |xxᵀ − S|² over the points x
    let squares = (0..points.len()).map(|i| {
        let x = centred.row(i);
        x.squared_norm_l2().powi(2) - 2.0 * (x * &sample * x.transpose())
    });
    let error = (mean(squares) + sample.squared_norm_l2()) / n;
    let share = if distance > 0.0 { (error / distance).clamp(0.0, 1.0) } else { 1.0 };
    sample * (1.0 - share) + identity * (share * level)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::random::Random;
    use crate::engine::trajectories::{Features, Group};
    use crate::engine::{RunSeries, Snapshot};

    /// Runs that keep where they began along two directions of wide spread, and forget it along the one between.
    fn forgetful(count: usize) -> Vec<RunSeries> {
        let mut random = Random::new(9);
        let mut run = |number: usize| {
            let start: [f64; 3] = std::array::from_fn(|_| 2.0 * random.uniform() - 1.0);
            let snapshots = (0..10).map(|step| {
                let kept = [4.0 * start[0], 3.0 * start[1]];
                let forgotten = 2.0 * start[2] * 0.6f64.powi(step);
                let weights =
                    [kept[0] + 0.6 * forgotten, kept[1], 0.8 * forgotten].map(|x| x as f32).to_vec();
                Snapshot { step: step as u64, weights, predictions: None, loss: None }
            });
            RunSeries { run: format!("{number:02}"), snapshots: snapshots.collect(), disturbed: Vec::new() }
        };
        (0..count).map(&mut run).collect()
    }

    fn points(runs: &[RunSeries]) -> Result<Points, EngineError> {
        let (rows, control) = (Group::new(runs)?.rows(Features::Weights)?, Control::default());
        let rows: Vec<&Row<'_>> = rows.rows.iter().collect();
        relaxing_directions(&rows, 1, &control)?.project(&rows, 1, &control)
    }

    #[test]
    fn the_direction_that_is_forgotten_is_found_though_it_varies_least() {
        let runs = forgetful(30);
        let points = points(&runs).unwrap();
        let spread = |step: usize| {
            crate::engine::statistics::standard_deviation(points.column(0).skip(step).step_by(10))
        };
        assert!(spread(9) < 0.05 * spread(0), "{} {}", spread(0), spread(9));
    }

    #[test]
    fn of_few_runs_nothing_is_said() {
        let error = points(&forgetful(5)).unwrap_err();
        assert!(matches!(error, EngineError::TooFewRuns { found: 5, needed: FEWEST_RUNS, .. }), "{error}");
    }

    #[test]
    fn covariances_of_few_points_are_shrunk_and_of_many_kept() {
        let mut random = Random::new(2);
        let mut cloud = |count: usize| {
            Points::from_rows(
                3,
                (0..count).map(|_| [3.0 * random.normal(), random.normal(), random.normal()]),
            )
        };
        let many = shrunk_covariance(&cloud(20_000));
        assert!((many[(0, 0)] - 9.0).abs() < 0.3 && many[(0, 1)].abs() < 0.1, "{many:?}");
        let few = shrunk_covariance(&cloud(3));
        let eigen = few.self_adjoint_eigen(faer::Side::Lower).unwrap();
        assert!(eigen.S()[0] > 0.1 * eigen.S()[2], "three points leave nothing singular");
    }
}
