//! One update far larger than the recent ones.
//!
//! The score is the robust z of xₜ = ln(‖θₜ − θₜ₋₁‖ / ‖θₜ₋₁‖) among the 24 updates before: (xₜ − median) / max(1.4826 ·
//! MAD, 0.2). The ratio of update to weights is an old rule of thumb for learning rates; taking it against the run's
//! own past makes it independent of model and optimiser. In the Morse graph: a jump to another cell, perhaps to
//! another basin.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    movement::{Moved, MovedTensor, Movement, say_moved},
    robust::Baseline,
    wording::{Text, go_back_to, number, times},
};
use crate::alert::Episode;

/// Updates that the newest one is compared with.
const WINDOW: usize = 24;
/// Updates needed before the detector speaks.
const NEEDED: usize = 5;
/// Least spread of ln ratio.
const FLOOR: f64 = 0.2;

/// Settings of [`Detector::UpdateJump`](super::Detector::UpdateJump).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpdateJumpSettings {
    /// Whether it runs.
    pub enabled: bool,
    /// Robust z of ln (update / weights) at which it turns on.
    pub threshold: f64,
    /// Robust z at which the alert is `high`.
    pub high: f64,
}

impl Default for UpdateJumpSettings {
    fn default() -> Self {
        Self { enabled: true, threshold: 4.5, high: 8.0 }
    }
}

/// What stands behind a score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct JumpEvidence {
    from_step: u64,
    step: u64,
    log_ratio: f64,
    baseline: Baseline,
    tensors: Vec<MovedTensor>,
}

/// The score of the newest update, or why there is none.
pub(super) fn score(movement: &Movement, moved: &Moved) -> Result<(f64, JumpEvidence), String> {
    let updates = movement.updates();
    let past = updates.len().saturating_sub(1);
    let Some(newest) = updates.back().filter(|_| past >= NEEDED) else {
        return Err(format!("needs {NEEDED} updates to compare with, has {past}"));
    };
    let recent = updates.iter().rev().skip(1).take(WINDOW);
    let baseline = Baseline::of(recent.map(|u| u.log_ratio() + u.log_stretch_to(newest)), FLOOR)
        .ok_or("no update is known")?;
    let log_ratio = newest.log_ratio();
    let evidence = JumpEvidence {
        from_step: moved.from_step,
        step: newest.step,
        log_ratio,
        baseline,
        tensors: moved.tensors.clone(),
    };
    Ok((baseline.z(log_ratio), evidence))
}

/// The alert's words.
pub(super) fn text(episode: &Episode<JumpEvidence>, last_good_step: Option<u64>) -> Text {
    let e = &episode.evidence;
    Text {
        headline: format!(
            "Between steps {} and {} the weights moved {} as far as usual.",
            e.from_step,
            e.step,
            times(e.log_ratio - e.baseline.median),
        ),
        evidence: format!(
            "Update over weights {}, median of the {} updates before {}: robust z of its logarithm {}, threshold {}. {}",
            number(e.log_ratio.exp()),
            e.baseline.values,
            number(e.baseline.median.exp()),
            number(episode.peak),
            number(episode.threshold),
            say_moved(&e.tensors),
        ),
        advice: format!(
            "Look at the learning rate, the gradient norm and the batches between these steps. If the loss does not come \
             back within a few checkpoints, go back to {} and go on with a lower rate or clipped gradients.",
            go_back_to(last_good_step),
        ),
    }
}
