//! The loss as a function of the coordinates, as far as it is known.

use rayon::prelude::*;

use super::Points;
use super::random::spread_sample;
use super::statistics::{mean, rank_correlation, standard_deviation};
use super::trajectories::Path;

/// Points by whose neighbours the loss is predicted, and points where it is.
const MOST_POINTS: usize = 500;

/// Nearest neighbours that are averaged.
const NEIGHBOURS: usize = 8;

/// Checkpoints whose loss is known, spread over runs and steps.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct KnownLosses {
    points: Points,
    /// Run and loss of each point.
    known: Vec<(usize, f64)>,
    /// Spread of the points along each axis.
    scales: Vec<f64>,
}

impl KnownLosses {
    /// Of runs that are not kept back; `None` where fewer than half of their points have a loss, or too few of them.
    pub(super) fn of(paths: &[Path<'_>]) -> Option<Self> {
        let mut all: Vec<(usize, &[f64], f64)> = Vec::new();
        let mut count = 0;
        for (number, path) in paths.iter().enumerate().filter(|(_, path)| !path.reserved) {
            for (place, point) in path.points.rows().enumerate().filter(|(place, _)| path.usable[*place]) {
                count += 1;
                all.extend(path.losses[place].map(|loss| (number, point, loss)));
            }
        }
        if all.len() < 4 * NEIGHBOURS || 2 * all.len() < count {
            return None;
        }
        let sample = || spread_sample(all.len(), MOST_POINTS, 2).into_iter().map(|number| all[number]);
        let points = Points::from_rows(all[0].1.len(), sample().map(|(_, point, _)| point));
        let scales = (0..points.dimension()).map(|axis| standard_deviation(points.column(axis))).collect();
        Some(Self { points, known: sample().map(|(run, _, loss)| (run, loss)).collect(), scales })
    }

    /// Mean loss of the checkpoints nearest to a point.
    pub(super) fn near(&self, point: &[f64]) -> f64 {
        self.mean_of_nearest(point, |_| true)
    }

    /// Rank correlation (absolute) of the loss with the mean loss of the nearest points of other runs (of a single run,
    /// of its other points).
    pub(super) fn correlation(&self) -> f64 {
        let single_run = self.known.iter().all(|(run, _)| *run == self.known[0].0);
        let predict = |number: usize| {
            let is_other = |place: usize| {
                if single_run { place != number } else { self.known[place].0 != self.known[number].0 }
            };
            self.mean_of_nearest(self.points.row(number), is_other)
        };
        let predicted: Vec<f64> = (0..self.known.len()).into_par_iter().map(predict).collect();
        let losses: Vec<f64> = self.known.iter().map(|(_, loss)| *loss).collect();
        rank_correlation(&predicted, &losses).abs()
    }

    fn mean_of_nearest(&self, point: &[f64], counts: impl Fn(usize) -> bool) -> f64 {
        let distance = |other: &[f64]| -> f64 {
            point.iter().zip(other).zip(&self.scales).map(|((a, b), scale)| ((a - b) / scale).powi(2)).sum()
        };
        let others = self.points.rows().zip(&self.known).enumerate().filter(|(place, _)| counts(*place));
        let mut near: Vec<(f64, f64)> =
            others.map(|(_, (other, (_, loss)))| (distance(other), *loss)).collect();
        if near.len() > NEIGHBOURS {
            near.select_nth_unstable_by(NEIGHBOURS, |a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
            near.truncate(NEIGHBOURS);
        }
        // sorted, so that the sum does not depend on how they were selected
        near.sort_unstable_by(|a, b| a.1.total_cmp(&b.1));
        mean(near.iter().map(|(_, loss)| *loss))
    }
}
