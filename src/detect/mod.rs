//! Detectors: scores per checkpoint that say when training goes wrong.
//!
//! The *fast path*: each works on one run, checkpoint by checkpoint, in state of fixed size that survives a restart.

use serde::{Deserialize, Serialize};

use crate::checkpoint::TensorStatistics;

/// The detectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Detector {
    /// NaN or infinity in the weights or the loss.
    Nonfinite,
    /// The loss is far above its recent level.
    LossSpike,
    /// The update between two checkpoints is far larger than the recent ones.
    UpdateJump,
    /// The updates grow steadily.
    UpdateGrowth,
    /// The weights moved elsewhere than the run's own recent dynamics predict.
    SurrogateExit,
}

/// What the detectors see at one checkpoint.
#[derive(Clone, Debug)]
pub struct Observation<'a> {
    /// The trainer's step; strictly increasing within a run.
    pub step: u64,
    /// Sketch of the weights: distances in it are distances of weights.
    pub sketch: &'a [f32],
    /// Exact statistics of each tensor.
    pub statistics: &'a [TensorStatistics],
    /// Step losses logged since the checkpoint before, up to this one, by step; may hold NaN and infinities.
    pub losses: &'a [(u64, f64)],
}
