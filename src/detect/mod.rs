//! Detectors: scores per checkpoint that say when training goes wrong.
//!
//! The *fast path*: each works on one run, checkpoint by checkpoint, in state of fixed size that survives a restart.
//! [`RunMonitor`] holds them for one run; [`Settings`] switches them and sets their thresholds; a [`Report`] says what
//! they read at a checkpoint and which alerts changed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{alert::Alert, checkpoint::TensorStatistics};

mod loss_spike;
mod losses;
mod monitor;
mod movement;
mod nonfinite;
mod robust;
mod surrogate_exit;
mod timeline;
mod update_growth;
mod update_jump;
mod weights;
mod wording;

pub use loss_spike::LossSpikeSettings;
pub use monitor::RunMonitor;
pub use nonfinite::NonfiniteSettings;
pub use surrogate_exit::SurrogateExitSettings;
pub use update_growth::UpdateGrowthSettings;
pub use update_jump::UpdateJumpSettings;

/// The detectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
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

impl Detector {
    /// All detectors, in the order in which they are reported.
    pub const ALL: [Self; 5] =
        [Self::Nonfinite, Self::LossSpike, Self::UpdateJump, Self::UpdateGrowth, Self::SurrogateExit];

    /// The name that configuration, alerts and tables use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nonfinite => "nonfinite",
            Self::LossSpike => "loss_spike",
            Self::UpdateJump => "update_jump",
            Self::UpdateGrowth => "update_growth",
            Self::SurrogateExit => "surrogate_exit",
        }
    }
}

impl std::fmt::Display for Detector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
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

/// What one detector read at one checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reading {
    /// Which detector.
    pub detector: Detector,
    /// Its score; `None` where it could not run.
    pub score: Option<f64>,
    /// Score at which it turns on.
    pub threshold: f64,
    /// Whether its episode is open after this checkpoint.
    pub on: bool,
    /// Why it could not run, in words for a person.
    pub why_not: Option<String>,
}

/// What the detectors say after one checkpoint, or after losses that came late.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// One per enabled detector that this input concerned, in the order of [`Detector::ALL`].
    pub readings: Vec<Reading>,
    /// Alerts that are new or changed, whole rows: replace what is stored under (run, detector, episode).
    pub alerts: Vec<Alert>,
    /// Headline instability score of this checkpoint: 1 and more is alarming. `None` while no detector can speak, and
    /// for losses that came late.
    pub instability: Option<f64>,
    /// ‖θₜ − θₜ₋₁‖ / ‖θₜ₋₁‖, from one checkpoint to the next; `None` at the first one and where weights are not finite.
    pub update_ratio: Option<f64>,
    /// ‖θₜ‖, as the sketch has it, NaN and infinities as zero; `None` for losses that came late.
    pub norm: Option<f64>,
}

/// Settings of the detectors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// NaN and infinity in weights or loss.
    pub nonfinite: NonfiniteSettings,
    /// Loss far above its recent level.
    pub loss_spike: LossSpikeSettings,
    /// One update far larger than the recent ones.
    pub update_jump: UpdateJumpSettings,
    /// Updates that grow steadily.
    pub update_growth: UpdateGrowthSettings,
    /// Weights that moved elsewhere than the run's recent dynamics predict.
    pub surrogate_exit: SurrogateExitSettings,
    /// Checkpoints, after a detector was last on, in which it opens no new episode on that run.
    pub cooldown: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            nonfinite: NonfiniteSettings::default(),
            loss_spike: LossSpikeSettings::default(),
            update_jump: UpdateJumpSettings::default(),
            update_growth: UpdateGrowthSettings::default(),
            surrogate_exit: SurrogateExitSettings::default(),
            cooldown: 10,
        }
    }
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} must be a positive number")]
pub struct SettingsError {
    /// The field, such as `update_jump.threshold`.
    pub field: &'static str,
}

impl Settings {
    /// Checks what the types cannot: thresholds are positive, finite numbers.
    ///
    /// # Errors
    /// [`SettingsError`] names the first field that is not.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let thresholds = [
            ("loss_spike.threshold", self.loss_spike.threshold),
            ("update_jump.threshold", self.update_jump.threshold),
            ("update_jump.high", self.update_jump.high),
            ("update_growth.threshold", self.update_growth.threshold),
            ("surrogate_exit.threshold", self.surrogate_exit.threshold),
        ];
        match thresholds.iter().find(|(_, value)| !(value.is_finite() && *value > 0.0)) {
            Some(&(field, _)) => Err(SettingsError { field }),
            None => Ok(()),
        }
    }
}
