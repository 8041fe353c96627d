//! What the model does, rather than what its weights are.
//!
//! Hidden units may be permuted, and constants added to all class weights, without changing a single prediction. Weight
//! space shows such differences, and they never shrink, since nothing acts on them; in the space of predictions on a
//! fixed probe batch they do not exist.

use crate::engine::EngineError;
use crate::engine::trajectories::{Features, Group, Rows};

/// The group's snapshots by their predictions.
///
/// # Errors
/// [`EngineError::NoPredictions`] with fewer than two.
pub(super) fn rows<'a>(group: &Group<'a>) -> Result<Rows<'a>, EngineError> {
    let snapshots = group.runs().iter().map(|run| run.snapshots.len()).sum();
    let found = count(group);
    if found < 2 {
        return Err(EngineError::NoPredictions { found, snapshots });
    }
    group.rows(Features::Predictions)
}

/// Whether the coordinates can be made at all.
pub(super) fn is_possible(group: &Group<'_>) -> bool {
    count(group) >= 2
}

fn count(group: &Group<'_>) -> usize {
    let snapshots = group.runs().iter().flat_map(|run| &run.snapshots);
    snapshots.filter(|snapshot| Features::Predictions.of(snapshot).is_some()).count()
}
