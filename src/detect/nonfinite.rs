//! NaN or infinity in the weights or the loss.
//!
//! One such value is enough: the alert is critical, and latched (it never resolves, since nothing that was computed from
//! such weights can be used). Five losses in a row that are exactly zero are a warning: some trainers log zero where the
//! loss was NaN. In the Morse graph: the run has left every compact block.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Observation,
    wording::{Text, go_back_to, list, tensor_name},
};
use crate::alert::{Opening, Severity};

/// Zero losses in a row that make a warning.
const ZEROS: u32 = 5;
/// Tensors named in an alert.
const NAMED: usize = 3;

/// Settings of [`Detector::Nonfinite`](super::Detector::Nonfinite): it has no threshold, one value that is not finite is
/// enough.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NonfiniteSettings {
    /// Whether it runs.
    pub enabled: bool,
}

impl Default for NonfiniteSettings {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// What was found so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Nonfinite {
    weights: Option<Found<Weights>>,
    loss: Option<Found<Value>>,
    zeros: Option<Found<()>>,
    /// The present run of losses that are exactly zero: its first step and length.
    zero_run: Option<(u64, u32)>,
}

/// One kind of finding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Found<T> {
    first_step: u64,
    last_step: u64,
    /// Number of checkpoints, or of losses.
    times: u32,
    last_good_step: Option<u64>,
    not_checked: Vec<String>,
    /// What was seen first.
    what: T,
}

/// Non-finite weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Weights {
    elements: u64,
    of: u64,
    tensors: u64,
    /// The first tensors, in the file's order, and their number of non-finite elements.
    named: Vec<(String, u64)>,
}

/// A non-finite loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Value {
    Nan,
    Infinite,
}

impl<T> Found<T> {
    fn at(step: u64, opening: Opening, what: T) -> Self {
        let Opening { last_good_step, not_checked } = opening;
        Self { first_step: step, last_step: step, times: 1, last_good_step, not_checked, what }
    }

    fn again(&mut self, step: u64) {
        self.last_step = step;
        self.times += 1;
    }
}

/// The alert, all kinds of findings together.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Summary {
    pub(super) severity: Severity,
    pub(super) first_step: u64,
    pub(super) last_step: u64,
    pub(super) times: u32,
    pub(super) elements: Option<u64>,
    pub(super) last_good_step: Option<u64>,
    pub(super) not_checked: Vec<String>,
    /// Whether it was first seen in the weights.
    pub(super) in_weights: bool,
}

impl Nonfinite {
    /// Number of non-finite weights of a checkpoint.
    pub(super) fn count(observation: &Observation<'_>) -> u64 {
        observation.statistics.iter().map(|s| s.nonfinite).sum()
    }

    /// Takes in a checkpoint. `opening` is asked with the step at which the trouble began.
    pub(super) fn see_weights(
        &mut self,
        observation: &Observation<'_>,
        opening: impl FnOnce(u64) -> Opening,
    ) {
        let elements = Self::count(observation);
        if elements == 0 {
            // The loss may be ahead of the weights: what comes before it is good.
            for (first_step, last_good_step) in [
                self.loss.as_mut().map(|f| (f.first_step, &mut f.last_good_step)),
                self.zeros.as_mut().map(|f| (f.first_step, &mut f.last_good_step)),
            ]
            .into_iter()
            .flatten()
            {
                if observation.step < first_step {
                    *last_good_step = Some(observation.step);
                }
            }
            return;
        }
        if let Some(found) = &mut self.weights {
            return found.again(observation.step);
        }
        let holding = || observation.statistics.iter().filter(|s| s.nonfinite > 0);
        let what = Weights {
            elements,
            of: observation
                .statistics
                .iter()
                .map(|s| s.shape.iter().map(|&n| n as u64).product::<u64>())
                .sum(),
            tensors: holding().count() as u64,
            named: holding().take(NAMED).map(|s| (tensor_name(&s.name), s.nonfinite)).collect(),
        };
        self.weights = Some(Found::at(observation.step, opening(observation.step), what));
    }

    /// Takes in a loss. `opening` is asked with the step at which the trouble began.
    pub(super) fn see_loss(&mut self, step: u64, loss: f64, opening: impl FnOnce(u64) -> Opening) {
        if !loss.is_finite() {
            self.zero_run = None;
            if let Some(found) = &mut self.loss {
                return found.again(step);
            }
            let what = if loss.is_nan() { Value::Nan } else { Value::Infinite };
            self.loss = Some(Found::at(step, opening(step), what));
        } else if loss == 0.0 {
            let (first_step, length) = self.zero_run.map_or((step, 1), |(first, length)| (first, length + 1));
            self.zero_run = Some((first_step, length));
            if length < ZEROS {
                return;
            }
            if let Some(found) = &mut self.zeros {
                return found.again(step);
            }
            self.zeros = Some(Found { last_step: step, ..Found::at(first_step, opening(first_step), ()) });
        } else {
            self.zero_run = None;
        }
    }

    /// Whether the alert is open: it never closes.
    pub(super) fn is_open(&self) -> bool {
        self.weights.is_some() || self.loss.is_some() || self.zeros.is_some()
    }

    /// All findings together; `None` where there is none.
    pub(super) fn summary(&self) -> Option<Summary> {
        let of = |f: &Found<()>, severity, in_weights| Summary {
            severity,
            first_step: f.first_step,
            last_step: f.last_step,
            times: f.times,
            elements: None,
            last_good_step: f.last_good_step,
            not_checked: f.not_checked.clone(),
            in_weights,
        };
        let weights = self.weights.as_ref().map(|f| Summary {
            elements: Some(f.what.elements),
            ..of(&f.without_what(), Severity::Critical, true)
        });
        let loss = self.loss.as_ref().map(|f| of(&f.without_what(), Severity::Critical, false));
        let zeros = self.zeros.as_ref().map(|f| of(f, Severity::Warning, false));
        [weights, loss, zeros].into_iter().flatten().reduce(|a, b| {
            let (first, second) = if b.first_step < a.first_step { (&b, &a) } else { (&a, &b) };
            Summary {
                severity: a.severity.max(b.severity),
                first_step: first.first_step,
                last_step: a.last_step.max(b.last_step),
                times: a.times + b.times,
                elements: a.elements.or(b.elements),
                last_good_step: first.last_good_step.min(second.last_good_step),
                not_checked: first.not_checked.clone(),
                in_weights: first.in_weights,
            }
        })
    }

    /// The alert's words; `series` is the loss's name.
    pub(super) fn text(&self, series: &str, last_good_step: Option<u64>) -> Text {
        let mut what = Vec::new();
        let mut evidence = Vec::new();
        if let Some(f) = &self.weights {
            what.push((f.first_step, format!("since step {} weights are NaN or infinite", f.first_step)));
            let named: Vec<String> =
                f.what.named.iter().map(|(name, count)| format!("{name} ({count})")).collect();
            let more = f.what.tensors - f.what.named.len() as u64;
            let more = if more > 0 { format!(" and {more} more tensors") } else { String::new() };
            evidence.push(format!(
                "At step {} {} of {} weights are not finite: {}{more}; so at {} checkpoint(s), last at step {}.",
                f.first_step,
                f.what.elements,
                f.what.of,
                if more.is_empty() { list(&named) } else { named.join(", ") },
                f.times,
                f.last_step,
            ));
        }
        if let Some(f) = &self.loss {
            let value = match f.what {
                Value::Nan => "NaN",
                Value::Infinite => "infinite",
            };
            what.push((f.first_step, format!("since step {} {series} is {value}", f.first_step)));
            evidence.push(format!(
                "{series} is not finite at {} point(s), from step {} to step {}.",
                f.times, f.first_step, f.last_step
            ));
        }
        if let Some(f) = &self.zeros {
            what.push((f.first_step, format!("since step {} {series} is exactly zero", f.first_step)));
            evidence.push(format!(
                "{series} is exactly 0 for {ZEROS} points in a row from step {}, last at step {}: some trainers log zero \
                 for a loss that is NaN.",
                f.first_step, f.last_step
            ));
        }
        // Stable: at the same step the weights come first.
        what.sort_by_key(|(step, _)| *step);
        let what: Vec<String> = what.into_iter().map(|(_, what)| what).collect();
        let lost = self.weights.is_some() || self.loss.is_some();
        Text {
            headline: sentence(&list(&what)),
            evidence: evidence.join(" "),
            advice: if lost {
                format!(
                    "Stop this run: what it computes from here on cannot be used. Go back to {} and go on with a lower \
                     learning rate or clipped gradients; with half precision look at the loss scale first.",
                    go_back_to(last_good_step),
                )
            } else {
                "Look at the loss before it is logged. If it is NaN there, stop the run; if it is truly zero, the training \
                 data is fitted exactly and nothing is left to learn from this loss."
                    .into()
            },
        }
    }
}

impl<T> Found<T> {
    fn without_what(&self) -> Found<()> {
        Found {
            first_step: self.first_step,
            last_step: self.last_step,
            times: self.times,
            last_good_step: self.last_good_step,
            not_checked: self.not_checked.clone(),
            what: (),
        }
    }
}

/// A clause as a sentence.
fn sentence(clause: &str) -> String {
    let mut letters = clause.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).chain(['.']).collect()).unwrap_or_default()
}
