//! The loss is far above its recent level.
//!
//! The score of each loss is the robust z of its logarithm among the 200 losses before, spread at least 0.25: a loss 7.4 times
//! the median scores 8 at most. Losses at or above the threshold stay out of the window, up to 200 in a row, so that
//! a burst does not become the level it is measured against. An excursion that returns stays in its basin; one that is
//! still there three checkpoints later is `high`. Works on step losses and on one loss per checkpoint.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    robust::Baseline,
    wording::{Text, go_back_to, number, times},
};
use crate::alert::{Episode, LifeCycle, Opening, Position, Severity, Signal};

/// Losses that the newest one is compared with.
const WINDOW: usize = 200;
/// Losses needed before the detector speaks.
pub(super) const NEEDED: usize = 20;
/// Least spread of ln loss.
const FLOOR: f64 = 0.25;
/// Checkpoints after which a loss that has not come back is urgent.
const NOT_BACK: u64 = 3;
/// Low losses in a row that make it back.
const BACK: u32 = 3;

/// Settings of [`Detector::LossSpike`](super::Detector::LossSpike).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LossSpikeSettings {
    /// Whether it runs.
    pub enabled: bool,
    /// Robust z of ln loss at which it turns on.
    pub threshold: f64,
}

impl Default for LossSpikeSettings {
    fn default() -> Self {
        Self { enabled: true, threshold: 8.0 }
    }
}

/// What stands behind a score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SpikeEvidence {
    step: u64,
    loss: f64,
    baseline: Baseline,
}

/// The recent losses, and the alerts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct LossSpike {
    /// ln of the recent losses.
    window: VecDeque<f64>,
    /// Losses in a row that were kept out of the window.
    kept_out: usize,
    /// Low losses in a row.
    low: u32,
    /// Index at which the present excursion began.
    excursion: Option<u64>,
    /// Step of the first loss that was scored.
    speaks_from: Option<u64>,
    life: LifeCycle<SpikeEvidence>,
}

impl LossSpike {
    /// Takes in a positive, finite loss; returns its score, `None` while there are too few to compare with.
    pub(super) fn advance(
        &mut self,
        at: Position,
        loss: f64,
        settings: &LossSpikeSettings,
        cooldown: u32,
        opening: impl FnOnce() -> Opening,
    ) -> Option<f64> {
        let log = loss.ln();
        let baseline =
            Baseline::of(self.window.iter().copied(), FLOOR).filter(|baseline| baseline.values >= NEEDED);
        let Some(baseline) = baseline.filter(|_| settings.enabled) else {
            self.remember(log);
            return None;
        };
        self.speaks_from.get_or_insert(at.step);
        let score = baseline.z(log);
        let on = score >= settings.threshold;
        self.low = if score < LifeCycle::<()>::LOW * settings.threshold { self.low + 1 } else { 0 };
        if self.low >= BACK {
            self.excursion = None;
        }
        let began = if on { *self.excursion.get_or_insert(at.index) } else { at.index };
        let stays = at.index >= began + NOT_BACK;
        let signal = Signal {
            at,
            score,
            threshold: settings.threshold,
            on_since: on.then_some(at),
            severity: if stays { Severity::High } else { Severity::Warning },
        };
        self.life.advance(signal, cooldown, || SpikeEvidence { step: at.step, loss, baseline }, opening);
        if on {
            self.kept_out += 1;
            if self.kept_out == WINDOW {
                // What has stayed so long is the level from now on.
                self.forget_level();
            }
        } else {
            self.kept_out = 0;
            self.remember(log);
        }
        Some(score)
    }

    /// Forgets the level that losses are compared with.
    pub(super) fn forget_level(&mut self) {
        self.window.clear();
        self.kept_out = 0;
    }

    /// Number of losses to compare with.
    pub(super) fn known(&self) -> usize {
        self.window.len()
    }

    /// Step of the first loss that was scored.
    pub(super) fn speaks_from(&self) -> Option<u64> {
        self.speaks_from
    }

    /// The alerts.
    pub(super) fn life(&self) -> &LifeCycle<SpikeEvidence> {
        &self.life
    }

    fn remember(&mut self, log: f64) {
        if self.window.len() == WINDOW {
            self.window.pop_front();
        }
        self.window.push_back(log);
    }
}

/// The alert's words; `series` is the loss's name.
pub(super) fn text(series: &str, episode: &Episode<SpikeEvidence>, last_good_step: Option<u64>) -> Text {
    let e = &episode.evidence;
    let state = if episode.severity >= Severity::High { ", and has not come back" } else { "" };
    Text {
        headline: format!(
            "At step {} {series} was {} its recent level{state}.",
            e.step,
            times(e.loss.ln() - e.baseline.median),
        ),
        evidence: format!(
            "{series} {}, median of the {} before {}: robust z of its logarithm {}, threshold {}.",
            number(e.loss),
            e.baseline.values,
            number(e.baseline.median.exp()),
            number(episode.peak),
            number(episode.threshold),
        ),
        advice: format!(
            "Look at the batches and the learning rate of that step. A spike that returns within a few checkpoints does no \
             lasting harm; if it stays, go back to {}, skip those batches or lower the rate.",
            go_back_to(last_good_step),
        ),
    }
}
