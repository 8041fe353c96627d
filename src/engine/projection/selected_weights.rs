//! The weights that differ most between runs (Eslami et al. 2021).

use super::Linear;
use crate::engine::statistics::standard_deviation;
use crate::engine::trajectories::{Features, Row, Rows};
use crate::engine::{EngineError, Points};

/// The `dimension` weights of largest standard deviation over the runs' last snapshots; with one run, over all of its
/// snapshots. Of equal ones the first.
///
/// # Errors
/// [`EngineError::TooFewCoordinates`].
pub(super) fn most_spread(rows: &Rows<'_>, dimension: usize) -> Result<Linear, EngineError> {
    let usable: Vec<&Row<'_>> = rows.rows.iter().filter(|row| row.usable).collect();
    let available = usable[0].features.len();
    if available < dimension {
        return Err(EngineError::TooFewCoordinates { dimension, available, what: Features::Weights.name() });
    }
    let by_run = usable.chunk_by(|a, b| a.run == b.run);
    let mut last: Vec<&Row<'_>> = by_run.filter_map(|run| run.last().copied()).collect();
    if last.len() < 2 {
        last.clone_from(&usable);
    }
    let spread = |rows: &[&Row<'_>], weight: usize| {
        standard_deviation(rows.iter().map(|row| f64::from(row.features[weight])))
    };
    let mut weights: Vec<(usize, f64)> =
        (0..available).map(|weight| (weight, spread(&last, weight))).collect();
    weights.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    weights.truncate(dimension);

    let variance = |weight: usize| spread(&usable, weight).powi(2);
    let total: f64 = (0..available).map(variance).sum();
    let point = |row: &Row<'_>| {
        weights.iter().map(|&(weight, _)| f64::from(row.features[weight])).collect::<Vec<_>>()
    };
    Ok(Linear {
        points: Points::from_rows(dimension, rows.rows.iter().map(point)),
        axes: weights.iter().map(|(weight, _)| format!("weight {weight}")).collect(),
        explained_variance: weights
            .iter()
            .map(|&(weight, _)| if total > 0.0 { variance(weight) / total } else { 0.0 })
            .collect(),
    })
}
