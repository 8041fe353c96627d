//! Alerts: what a person is told, and how it changes over time.

use serde::{Deserialize, Serialize};

use crate::detect::Detector;

/// How urgent an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Worth a look today.
    Warning,
    /// Worth a look now.
    High,
    /// The run is lost unless somebody acts.
    Critical,
}

/// Where an alert is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// The detector is on.
    Open,
    /// The score has stayed low since.
    Resolved,
}

/// One episode of one detector on one run; its key is (run, detector, episode). Updated in place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The run's name.
    pub run: String,
    /// Which detector.
    pub detector: Detector,
    /// Number of the episode on this run, from 1.
    pub episode: u32,
    /// Open or resolved.
    pub state: AlertState,
    /// Highest severity reached.
    pub severity: Severity,
    /// Step at which the score first crossed its threshold.
    pub opened_step: u64,
    /// Step of the latest checkpoint at which the detector was on.
    pub last_step: u64,
    /// Step at which it was resolved.
    pub resolved_step: Option<u64>,
    /// Number of checkpoints at which the detector was on.
    pub repeats: u32,
    /// Highest score; `None` where it is not finite.
    pub peak_score: Option<f64>,
    /// Score at which the detector turns on.
    pub threshold: f64,
    /// One sentence: what happened, where.
    pub headline: String,
    /// The evidence: value against threshold, which series, which tensors.
    pub evidence: String,
    /// What to do.
    pub advice: String,
    /// Step of the last checkpoint before the trouble, to go back to.
    pub last_good_step: Option<u64>,
    /// Detectors that could not run at that time, and why.
    pub not_checked: Vec<String>,
}
