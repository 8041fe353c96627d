//! What the model does, rather than what its weights are.
//!
//! Hidden units may be permuted, and constants added to all class weights, without changing a single prediction. Weight
//! space shows such differences, and they never shrink, since nothing acts on them; in the space of predictions on a
//! fixed probe batch they do not exist. Where predictions are probabilities their square roots are taken, so that
//! distances are Hellinger's.
//!
//! Where all models predict nearly the same they can still differ in how sure they are, and the logarithm of the loss
//! tells that. As a coordinate it spreads out what the components of the predictions crowd together.

use super::pca::principal_components;
use crate::engine::trajectories::{Features, Group, Row, Rows};
use crate::engine::{Control, EngineError, Points};

/// The group's snapshots by their predictions, or of these the ones with a loss whose logarithm can be taken.
///
/// # Errors
/// [`EngineError::NoPredictions`], [`EngineError::NoLosses`] with fewer than two.
pub(super) fn rows<'a>(group: &Group<'a>, kind: Features) -> Result<Rows<'a>, EngineError> {
    let snapshots = group.runs().iter().map(|run| run.snapshots.len()).sum();
    let found = count(group, Features::Predictions);
    if found < 2 {
        return Err(EngineError::NoPredictions { found, snapshots });
    }
    let found = count(group, kind);
    if found < 2 {
        return Err(EngineError::NoLosses { found, snapshots });
    }
    group.rows(kind)
}

/// Number of snapshots that have these features.
pub(super) fn count(group: &Group<'_>, kind: Features) -> usize {
    let snapshots = group.runs().iter().flat_map(|run| &run.snapshots);
    snapshots.filter(|snapshot| kind.of(snapshot).is_some()).count()
}

/// `dimension − 1` principal components of the predictions, and the natural logarithm of the loss.
pub(super) fn components_and_loss(
    rows: &[&Row<'_>],
    teaching: &[&Row<'_>],
    dimension: usize,
    control: &Control,
) -> Result<Points, EngineError> {
    let logarithm = |row: &Row<'_>| row.snapshot.loss.unwrap_or(f64::NAN).ln();
    if dimension == 1 {
        return Ok(Points::from_rows(1, rows.iter().map(|row| [logarithm(row)])));
    }
    let components = principal_components(teaching, dimension - 1, control)?;
    let components = components.project(rows, dimension - 1, control)?;
    let point = |(row, components): (&&Row<'_>, &[f64])| -> Vec<f64> {
        components.iter().copied().chain([logarithm(row)]).collect()
    };
    Ok(Points::from_rows(dimension, rows.iter().zip(components.rows()).map(point)))
}
