//! The detectors that look at the loss, on one run.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{
    Settings,
    loss_spike::{LossSpike, NEEDED},
    timeline::Timeline,
};
use crate::alert::{Opening, Position};

/// Losses that may wait for their checkpoint.
const WAITING: usize = 4096;

/// State of the detectors that look at the loss.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Losses {
    /// Step of the newest loss that has come.
    newest: Option<u64>,
    /// Finite losses whose checkpoint is not there yet.
    waiting: VecDeque<(u64, f64)>,
    /// Whether the last loss was not positive, so that it has no logarithm.
    not_positive: bool,
    pub(super) spike: LossSpike,
}

impl Losses {
    /// Step of the newest loss that has come.
    pub(super) fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// The points that have not come before, for good.
    pub(super) fn take_new<'a>(&mut self, points: &'a [(u64, f64)]) -> Vec<&'a (u64, f64)> {
        let mut new = Vec::with_capacity(points.len());
        for point in points {
            if self.newest.is_none_or(|newest| point.0 > newest) {
                self.newest = Some(point.0);
                new.push(point);
            }
        }
        new
    }

    /// Lets a loss wait for its checkpoint.
    pub(super) fn wait(&mut self, step: u64, loss: f64) {
        if loss.is_finite() {
            self.waiting.push_back((step, loss));
        }
    }

    /// Judges the losses whose checkpoint is there; returns the highest score and the place of the newest loss.
    pub(super) fn judge(
        &mut self,
        timeline: &mut Timeline,
        settings: &Settings,
    ) -> (Option<f64>, Option<Position>) {
        let (mut highest, mut newest) = (None::<f64>, None);
        while let Some(&(step, loss)) = self.waiting.front()
            && (timeline.last().is_some_and(|last| step <= last) || self.waiting.len() > WAITING)
        {
            self.waiting.pop_front();
            let at = timeline.position(step);
            timeline.forget_before(at);
            newest = Some(at);
            self.not_positive = loss <= 0.0;
            if self.not_positive {
                continue;
            }
            timeline.add_loss(at, loss.ln());
            let opening =
                || Opening { last_good_step: timeline.last_good_before(step), not_checked: Vec::new() };
            let score = self.spike.advance(at, loss, &settings.loss_spike, settings.cooldown, opening);
            highest = match (highest, score) {
                (Some(a), Some(b)) => Some(a.max(b)),
                (a, b) => a.or(b),
            };
        }
        (highest, newest)
    }

    /// Forgets the level that losses are compared with.
    pub(super) fn forget_level(&mut self) {
        self.spike.forget_level();
    }

    /// Why there is no score.
    pub(super) fn why_not(&self) -> String {
        match self.newest {
            None => "no loss is known".into(),
            Some(_) if self.not_positive => "the loss is not positive and has no logarithm".into(),
            Some(step) if self.spike.speaks_from().is_some() && self.spike.known() >= NEEDED => {
                format!("no loss has come since step {step}")
            }
            Some(_) => format!("speaks after {NEEDED} losses, {} are known", self.spike.known()),
        }
    }
}
