//! The weights that differ most between runs (Eslami et al. 2021).

use crate::engine::Points;
use crate::engine::statistics::standard_deviation;
use crate::engine::trajectories::Row;

/// Numbers of the `dimension` weights of largest standard deviation over the runs' last snapshots; with one run, over
/// all of its snapshots. Of equal ones the first.
pub(super) fn most_spread(rows: &[&Row<'_>], dimension: usize) -> Vec<usize> {
    let by_run = rows.chunk_by(|a, b| a.run == b.run);
    let mut last: Vec<&Row<'_>> = by_run.filter_map(|run| run.last().copied()).collect();
    if last.len() < 2 {
        last = rows.to_vec();
    }
    let spread =
        |weight: usize| standard_deviation(last.iter().map(|row| row.features(weight..weight + 1).sum()));
    let mut weights: Vec<(usize, f64)> =
        (0..rows[0].width()).map(|weight| (weight, spread(weight))).collect();
    weights.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    weights.into_iter().take(dimension).map(|(weight, _)| weight).collect()
}

/// These weights as they are.
pub(super) fn selected(rows: &[&Row<'_>], weights: &[usize]) -> Points {
    let point = |row: &&Row<'_>| {
        weights.iter().map(|&weight| row.features(weight..weight + 1).sum()).collect::<Vec<f64>>()
    };
    Points::from_rows(weights.len(), rows.iter().map(point))
}
