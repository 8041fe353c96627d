//! Where losses lie between checkpoints.
//!
//! Weights and losses come as two streams, each in the order of steps; how they interleave in time is chance (the
//! evaluator is slow, metrics are flushed late, a trainer logs ahead of its checkpoints). What is said must not depend
//! on it. So the clock of everything is the checkpoint: a loss belongs to the first checkpoint at or after its step, and
//! waits until that one is there.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::alert::Position;

/// Number of checkpoints kept behind the newest loss: enough for what looks back (6 for the fall of the loss).
const BEHIND: u64 = 16;

/// Number of checkpoints kept at most, when losses lag behind (or never come).
const LIMIT: usize = 2048;

/// By how much ln loss must have fallen over [`Timeline::LOOK_BACK`] checkpoints to count as falling: a tenth of it.
const FALL: f64 = 0.1;

/// One checkpoint, and what is known of the losses since the one before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Mark {
    step: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    nonfinite: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    losses: Option<LogLosses>,
}

/// Positive losses between two checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct LogLosses {
    /// Sum of ln loss.
    sum: f64,
    /// Number of losses.
    count: u32,
}

/// The recent checkpoints of a run, by their index from 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Timeline {
    /// Index of the first mark.
    first: u64,
    marks: VecDeque<Mark>,
}

impl Timeline {
    /// Number of checkpoints over which the loss must have fallen: those that the growth of the updates is taken over.
    const LOOK_BACK: u64 = 6;

    /// Adds a checkpoint; `nonfinite` says that its weights are not finite.
    pub(super) fn push(&mut self, step: u64, nonfinite: bool) -> Position {
        if self.marks.len() == LIMIT {
            self.marks.pop_front();
            self.first += 1;
        }
        self.marks.push_back(Mark { step, nonfinite, losses: None });
        Position { step, index: self.first + self.marks.len() as u64 - 1 }
    }

    /// Step of the newest checkpoint.
    pub(super) fn last(&self) -> Option<u64> {
        self.marks.back().map(|mark| mark.step)
    }

    /// Step of the newest checkpoint of finite weights before a step.
    pub(super) fn last_good_before(&self, step: u64) -> Option<u64> {
        self.marks.range(..self.place(step)).rev().find(|mark| !mark.nonfinite).map(|mark| mark.step)
    }

    /// Where a loss at this step belongs: the index is that of the first checkpoint at or after it (the next one, where
    /// there is none yet).
    pub(super) fn position(&self, step: u64) -> Position {
        Position { step, index: self.first + self.place(step) as u64 }
    }

    /// Adds a positive loss to its checkpoint.
    pub(super) fn add_loss(&mut self, position: Position, log_loss: f64) {
        if let Some(mark) = self.get_mut(position.index) {
            let losses = mark.losses.get_or_insert(LogLosses { sum: 0.0, count: 0 });
            losses.sum += log_loss;
            losses.count += 1;
        }
    }

    /// Forgets checkpoints that no later loss can ask for.
    pub(super) fn forget_before(&mut self, position: Position) {
        while self.first + BEHIND < position.index && self.marks.len() > 1 {
            self.marks.pop_front();
            self.first += 1;
        }
    }

    /// Whether the mean of ln loss fell by a tenth over the six checkpoints up to this one. `None` while it cannot be
    /// told.
    pub(super) fn loss_falls(&self, index: u64) -> Option<bool> {
        let mean = |index| {
            let losses = self.get(index)?.losses?;
            Some(losses.sum / f64::from(losses.count))
        };
        let (now, before) = (mean(index)?, mean(index.checked_sub(Self::LOOK_BACK)?)?);
        Some(now < before - FALL)
    }

    /// Number of marks before this step, by bisection.
    fn place(&self, step: u64) -> usize {
        self.marks.partition_point(|mark| mark.step < step)
    }

    fn get(&self, index: u64) -> Option<&Mark> {
        self.marks.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    fn get_mut(&mut self, index: u64) -> Option<&mut Mark> {
        self.marks.get_mut(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(steps: impl IntoIterator<Item = u64>) -> Timeline {
        let mut timeline = Timeline::default();
        for step in steps {
            timeline.push(step, step == 30);
        }
        timeline
    }

    #[test]
    fn a_loss_belongs_to_the_first_checkpoint_at_or_after_it() {
        let timeline = timeline([10, 20, 30, 40]);
        let index = |step| timeline.position(step).index;
        assert_eq!([index(1), index(10), index(11), index(40), index(41)], [0, 0, 1, 3, 4]);
        let good = [10, 11, 40, 41].map(|step| timeline.last_good_before(step));
        assert_eq!(good, [None, Some(10), Some(20), Some(40)], "the one at step 30 is not finite");
    }

    #[test]
    fn indices_outlive_what_is_forgotten() {
        let mut timeline = timeline((1..=5000).map(|t| 10 * t));
        assert_eq!(timeline.marks.len(), LIMIT);
        let at = timeline.position(49_985);
        assert_eq!(at.index, 4998);
        timeline.forget_before(at);
        assert_eq!(timeline.position(49_985), at);
        assert_eq!(timeline.marks.len() as u64, BEHIND + 2);
    }

    #[test]
    fn a_loss_falls_when_it_lost_a_tenth_over_six_checkpoints() {
        let mut timeline = timeline((1..=20).map(|t| 10 * t));
        for (step, loss) in [(5, 1.0), (65, 0.95), (66, 0.95), (70, 0.6), (71, 0.9)] {
            let at = timeline.position(step);
            timeline.add_loss(at, f64::ln(loss));
        }
        assert_eq!(timeline.loss_falls(6), Some(true), "the mean of three");
        assert_eq!(timeline.loss_falls(7), None, "nothing is known six checkpoints before");
        assert_eq!(timeline.loss_falls(3), None);
    }
}
