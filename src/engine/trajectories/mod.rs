//! Runs as paths in few coordinates, and the pairs of points from which a map is learned.

mod pairs;
mod runs;

pub(super) use pairs::{Pairs, common_stride, longest_span, pairs};
pub(super) use runs::{Features, Group, Row, Rows};

use super::{Points, RunSeries};

/// A run in the coordinates of a projection.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Path<'a> {
    pub(super) run: &'a RunSeries,
    /// Whether the run is kept back from the choice of coordinates and lag.
    pub(super) reserved: bool,
    pub(super) steps: Vec<u64>,
    pub(super) points: Points,
    pub(super) losses: Vec<Option<f64>>,
    /// Whether something may be learned from each point.
    pub(super) usable: Vec<bool>,
}

impl Path<'_> {
    pub(super) fn usable_points(&self) -> impl Iterator<Item = &[f64]> + Clone {
        self.points.rows().zip(&self.usable).filter(|(_, usable)| **usable).map(|(point, _)| point)
    }
}
