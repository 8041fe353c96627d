//! Updates that grow steadily.
//!
//! The score is the slope, per checkpoint, of ln‖θₜ − θₜ₋₁‖ over six updates, if the newest update is above the largest
//! of the (up to 48) updates before these six by 0.3 in its logarithm, else zero; it must be reached twice in a row.
//! A distance that grows at a constant rate is what a linear unstable direction looks like: in the Morse graph, motion
//! along an unstable manifold. The comparison with the past spares whatever only returns to where it was; a linear
//! warm-up grows by less than 0.065 per checkpoint by the time the detector speaks.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    movement::{Moved, MovedTensor, Movement, UPDATES, say_moved},
    robust::slope,
    timeline::Timeline,
    wording::{Text, go_back_to, number, times},
};
use crate::alert::{Episode, Position, Severity};

/// Updates over which the slope is taken.
const SLOPE: usize = 6;
/// Updates needed before these.
const NEEDED: usize = 12;
/// How far, in its logarithm, the newest update must be above all before the slope's.
const ABOVE: f64 = 0.3;
/// Checkpoints kept until their loss is known.
const PENDING: usize = 64;
/// A checkpoint's losses are complete once the losses are this many checkpoints on.
const SETTLED: u64 = 1;

/// Settings of [`Detector::UpdateGrowth`](super::Detector::UpdateGrowth).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpdateGrowthSettings {
    /// Whether it runs.
    pub enabled: bool,
    /// Growth of ln update per checkpoint at which it turns on.
    pub threshold: f64,
}

impl Default for UpdateGrowthSettings {
    fn default() -> Self {
        Self { enabled: true, threshold: 0.1 }
    }
}

/// What stands behind a score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct GrowthEvidence {
    /// First and last checkpoint of the slope.
    from_step: u64,
    step: u64,
    slope: f64,
    /// Step of the last checkpoint to which an update led that was no larger than those before.
    last_good_step: u64,
    /// ln of the newest update over the largest before.
    log_above: f64,
    tensors: Vec<MovedTensor>,
}

/// The checkpoints at which an episode was on, until it is known whether the loss was falling there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct GrowthLoss {
    pending: VecDeque<u64>,
    /// Whether the loss was not falling at some checkpoint that is no more pending.
    not_falling: bool,
}

impl GrowthLoss {
    /// Notes a checkpoint at which the detector was on.
    pub(super) fn on(&mut self, index: u64) {
        if self.pending.len() == PENDING {
            self.pending.pop_front();
            self.not_falling = true;
        }
        self.pending.push_back(index);
    }

    /// Settles the checkpoints whose losses are all there.
    pub(super) fn settle(&mut self, timeline: &Timeline, newest_loss: Position) {
        while let Some(&index) = self.pending.front()
            && index + SETTLED <= newest_loss.index
        {
            self.pending.pop_front();
            self.not_falling |= timeline.loss_falls(index) != Some(true);
        }
    }

    /// Growth under a falling loss is how training leaves a plateau: worth knowing, no more. Where the loss is not known,
    /// it is a warning.
    pub(super) fn severity(&self, timeline: &Timeline) -> Severity {
        let falls = |&index: &u64| timeline.loss_falls(index) == Some(true);
        if self.not_falling || !self.pending.iter().all(falls) { Severity::Warning } else { Severity::Info }
    }
}

/// The score of the newest updates, or why there is none.
pub(super) fn score(movement: &Movement, moved: &Moved) -> Result<(f64, GrowthEvidence), String> {
    let updates = movement.updates();
    let past = updates.len().saturating_sub(SLOPE);
    let Some(newest) = updates.back().filter(|_| past >= NEEDED) else {
        return Err(format!("needs {} updates, has {}", NEEDED + SLOPE, updates.len()));
    };
    let sizes: Vec<f64> = updates.iter().map(|u| u.log_distance + u.log_stretch_to(newest)).collect();
    let (past, recent) = sizes.split_at(past);
    let largest = past.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log_above = newest.log_distance - largest;
    let slope = slope(recent);
    let usual = recent.iter().rposition(|size| *size <= largest).map_or(past.len() - 1, |i| past.len() + i);
    let evidence = GrowthEvidence {
        from_step: updates[updates.len() - SLOPE].step,
        step: newest.step,
        slope,
        last_good_step: updates[usual].step,
        log_above,
        tensors: moved.tensors.clone(),
    };
    Ok((if log_above > ABOVE { slope.max(0.0) } else { 0.0 }, evidence))
}

impl GrowthEvidence {
    /// Step of the last checkpoint before the growth.
    pub(super) fn last_good_step(&self) -> u64 {
        self.last_good_step
    }
}

/// The alert's words.
pub(super) fn text(
    episode: &Episode<GrowthEvidence>,
    severity: Severity,
    last_good_step: Option<u64>,
) -> Text {
    let e = &episode.evidence;
    let falling = severity == Severity::Info;
    let state = if falling { ", while the loss falls" } else { "" };
    Text {
        headline: format!(
            "From step {} to step {} the updates grew by {} per checkpoint{state}.",
            e.from_step,
            e.step,
            growth(e.slope),
        ),
        evidence: format!(
            "Slope of ln‖Δθ‖ over {SLOPE} checkpoints {}, threshold {}, twice in a row; the newest update is {} the largest \
             of up to {} before. {}",
            number(e.slope),
            number(episode.threshold),
            times(e.log_above),
            UPDATES - SLOPE,
            say_moved(&e.tensors),
        ),
        advice: if falling {
            "Nothing yet: this is how training leaves a plateau. Watch whether the updates settle.".into()
        } else {
            format!(
                "Growth at a constant rate ends in divergence. Lower the learning rate now, or stop a rate that is still \
                 rising; if the loss rises too, go back to {}.",
                go_back_to(last_good_step),
            )
        },
    }
}

/// A growth rate in words, from its logarithm.
fn growth(slope: f64) -> String {
    if slope > 1.0 { format!("{} each", times(slope)) } else { format!("{:.0} %", 100.0 * slope.exp_m1()) }
}
