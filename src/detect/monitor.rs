//! The detectors of one run, together.

use serde::{Deserialize, Serialize};

use super::{
    Detector, Observation, Reading, Report, Settings, loss_spike, losses::Losses, nonfinite::Nonfinite,
    surrogate_exit, timeline::Timeline, update_growth, update_jump, weights::Weights, wording::Text,
};
use crate::alert::{Alert, AlertState, Episode, Opening, Severity};

/// Most that a headline score says; weights or losses that are not finite say this.
const HIGHEST: f64 = 100.0;

/// Groups that fire within this many checkpoints of each other confirm each other.
const TOGETHER: u64 = 3;

/// The detectors' state on one run: of bounded size, written after each checkpoint, and enough to go on after a
/// restart.
///
/// Weights and losses are two streams, each in the order of steps. However they interleave, state and alerts come out
/// the same (as long as losses are at most 2,048 checkpoints behind the weights and at most 4,096 losses ahead):
/// whatever joins them is computed from what each has found, never from what came first. So an alert may change when
/// losses come late, and the row then says so.
///
/// Size: a copy of the sketch (16 KiB for 4,096 numbers), 16 sketches folded to 512 numbers (32 KiB), 8,192 numbers for
/// tensors (32 KiB and their names), the recent checkpoints (40 bytes each, usually some 16, at most 2,048), waiting
/// losses (16 bytes each, at most 4,096), and at most 32 episodes of each detector: under half a megabyte for any model
/// and run, a few kilobytes for a small one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunMonitor {
    run: String,
    series: String,
    timeline: Timeline,
    weights: Weights,
    losses: Losses,
    nonfinite: Nonfinite,
}

impl RunMonitor {
    /// The state before a run's first checkpoint.
    pub fn new(run: impl Into<String>) -> Self {
        Self {
            run: run.into(),
            series: "the loss".into(),
            timeline: Timeline::default(),
            weights: Weights::default(),
            losses: Losses::default(),
            nonfinite: Nonfinite::default(),
        }
    }

    /// Names the series that the losses come from, as alerts shall say it: `train/loss`, or the loss on the probe batch.
    ///
    /// Losses of different series do not compare: a change of name, once losses have come, begins the comparison anew.
    pub fn name_losses(&mut self, series: &str) {
        if self.series != series {
            self.series = series.into();
            self.losses.forget_level();
        }
    }

    /// The run's name.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Step of the newest checkpoint.
    pub fn step(&self) -> Option<u64> {
        self.timeline.last()
    }

    /// Step of the newest loss.
    pub fn loss_step(&self) -> Option<u64> {
        self.losses.newest()
    }

    /// Takes in one checkpoint, and the losses that come with it. A checkpoint whose step is not above the last one's
    /// changes nothing.
    pub fn observe(&mut self, observation: &Observation<'_>, settings: &Settings) -> Report {
        if self.step().is_some_and(|step| observation.step <= step) {
            return Report::default();
        }
        let before = self.alerts();
        let bad = Nonfinite::count(observation);
        let norm = observation.sketch.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let at = self.timeline.push(observation.step, bad > 0);
        let last_good_step = self.weights.last_finite_step();
        let mut seen = self.weights.advance(at, observation, bad > 0, norm, settings);
        if settings.nonfinite.enabled {
            let not_checked = std::mem::take(&mut seen.not_checked);
            self.nonfinite.see_weights(observation, |_| Opening { last_good_step, not_checked });
        }
        let (bad_losses, spike) = self.take_losses(observation.losses, settings);

        let mut readings = self.loss_readings(bad + bad_losses, spike, settings);
        readings.extend(seen.readings);
        Report {
            instability: headline(&readings),
            readings,
            alerts: self.changed_since(&before),
            update_ratio: seen.update_ratio,
            norm: Some(norm),
        }
    }

    /// Takes in losses, by step, that are not part of their checkpoint's observation: late metrics, or the evaluator's
    /// loss on the probe batch (only where the run logs none itself). Points at or before the newest step that has come
    /// change nothing; those after the newest checkpoint wait for theirs, save that one which is not finite is alerted at
    /// once.
    pub fn observe_losses(&mut self, points: &[(u64, f64)], settings: &Settings) -> Report {
        let before = self.alerts();
        let (bad, spike) = self.take_losses(points, settings);
        Report {
            readings: self.loss_readings(bad, spike, settings),
            alerts: self.changed_since(&before),
            ..Report::default()
        }
    }

    /// All alerts of this run so far, by detector and episode.
    pub fn alerts(&self) -> Vec<Alert> {
        let mut rows = Vec::new();
        rows.extend(self.nonfinite_row());
        let spike = self.losses.spike.life();
        rows.extend(spike.episodes().iter().map(|e| Row::of(Detector::LossSpike, e, e.severity)));
        rows.extend(
            self.weights.jump.episodes().iter().map(|e| Row::of(Detector::UpdateJump, e, e.severity)),
        );
        rows.extend(self.weights.growth.episodes().iter().zip(&self.weights.growth_loss).map(|(e, loss)| {
            let severity = loss.severity(&self.timeline);
            Row::of(Detector::UpdateGrowth, e, severity)
        }));
        rows.extend(
            self.weights.exit.episodes().iter().map(|e| Row::of(Detector::SurrogateExit, e, e.severity)),
        );
        let mut episode = 0;
        (0..rows.len())
            .map(|i| {
                let first = i == 0 || rows[i].detector != rows[i - 1].detector;
                episode = if first { 0 } else { episode + 1 };
                self.alert(&rows, i, episode)
            })
            .collect()
    }

    fn alert(&self, rows: &[Row], i: usize, episode: usize) -> Alert {
        let row = &rows[i];
        let last_good_step = row.last_good_step(rows);
        let severity = row.lifted(rows);
        let text = self.text(row.detector, episode, severity, last_good_step);
        Alert {
            run: self.run.clone(),
            detector: row.detector,
            episode: episode as u32 + 1,
            state: if row.resolved_step.is_some() { AlertState::Resolved } else { AlertState::Open },
            severity,
            opened_step: row.opened_step,
            last_step: row.last_step,
            resolved_step: row.resolved_step,
            repeats: row.repeats,
            peak_score: row.peak,
            threshold: row.threshold,
            headline: text.headline,
            evidence: text.evidence,
            advice: text.advice,
            last_good_step,
            not_checked: self.not_checked(row),
        }
    }

    fn text(
        &self,
        detector: Detector,
        episode: usize,
        severity: Severity,
        last_good_step: Option<u64>,
    ) -> Text {
        let weights = &self.weights;
        match detector {
            Detector::Nonfinite => self.nonfinite.text(&self.series, last_good_step),
            Detector::LossSpike => {
                let spike = &self.losses.spike.life().episodes()[episode];
                loss_spike::text(&self.series, spike, last_good_step)
            }
            Detector::UpdateJump => update_jump::text(&weights.jump.episodes()[episode], last_good_step),
            Detector::UpdateGrowth => {
                update_growth::text(&weights.growth.episodes()[episode], severity, last_good_step)
            }
            Detector::SurrogateExit => {
                surrogate_exit::text(&weights.exit.episodes()[episode], last_good_step)
            }
        }
    }

    fn nonfinite_row(&self) -> Option<Row> {
        let summary = self.nonfinite.summary()?;
        Some(Row {
            detector: Detector::Nonfinite,
            severity: summary.severity,
            opened_step: summary.first_step,
            // It joins no group, so its place on the clock of checkpoints does not matter.
            span: None,
            last_step: summary.last_step,
            resolved_step: None,
            until: Some(summary.last_step),
            repeats: summary.times,
            peak: summary.elements.map(|n| n as f64),
            threshold: 1.0,
            last_good_step: summary.last_good_step,
            not_checked: summary.not_checked,
            from_weights: summary.in_weights,
        })
    }

    /// What could not be checked when a row's episode opened. What the other stream had to say is looked up now: it may
    /// have come late.
    fn not_checked(&self, row: &Row) -> Vec<String> {
        let step = row.opened_step;
        if !row.from_weights {
            return [Detector::UpdateJump, Detector::UpdateGrowth, Detector::SurrogateExit]
                .into_iter()
                .filter(|detector| self.weights.speaks_from(*detector).is_none_or(|from| from > step))
                .map(|detector| format!("{detector}: no score up to step {step}"))
                .collect();
        }
        let mut not_checked = row.not_checked.clone();
        let spike = Detector::LossSpike;
        if !not_checked.iter().any(|line| line.starts_with(spike.name())) {
            if self.losses.newest().is_none_or(|newest| newest < step) {
                not_checked.push(format!("{spike}: no loss is known for step {step}"));
            } else if self.losses.spike.speaks_from().is_none_or(|from| from > step) {
                not_checked.push(format!("{spike}: needs {} losses to compare with", loss_spike::NEEDED));
            }
        }
        not_checked
    }

    /// Takes in losses; returns how many of them are not finite, and the highest score among those judged now.
    fn take_losses(&mut self, points: &[(u64, f64)], settings: &Settings) -> (u64, Option<f64>) {
        let mut bad = 0;
        for &(step, loss) in self.losses.take_new(points) {
            if settings.nonfinite.enabled {
                bad += u64::from(!loss.is_finite());
                let timeline = &self.timeline;
                self.nonfinite.see_loss(step, loss, |step| Opening {
                    last_good_step: timeline.last_good_before(step),
                    not_checked: Vec::new(),
                });
            }
            self.losses.wait(step, loss);
        }
        let (highest, newest) = self.losses.judge(&mut self.timeline, settings);
        if let Some(newest) = newest {
            for growth in &mut self.weights.growth_loss {
                growth.settle(&self.timeline, newest);
            }
        }
        (bad, highest)
    }

    fn loss_readings(&self, bad: u64, spike: Option<f64>, settings: &Settings) -> Vec<Reading> {
        let mut readings = Vec::new();
        if settings.nonfinite.enabled {
            readings.push(Reading {
                detector: Detector::Nonfinite,
                score: Some(bad as f64),
                threshold: 1.0,
                on: self.nonfinite.is_open(),
                why_not: None,
            });
        }
        if settings.loss_spike.enabled {
            readings.push(Reading {
                detector: Detector::LossSpike,
                score: spike,
                threshold: settings.loss_spike.threshold,
                on: self.losses.spike.life().is_open(),
                why_not: spike.is_none().then(|| self.losses.why_not()),
            });
        }
        readings
    }

    fn changed_since(&self, before: &[Alert]) -> Vec<Alert> {
        self.alerts().into_iter().filter(|alert| !before.contains(alert)).collect()
    }
}

/// The headline score: the largest of all scores over their thresholds. `None` while only [`Detector::Nonfinite`] can
/// speak and is silent.
fn headline(readings: &[Reading]) -> Option<f64> {
    let score = |reading: &Reading| match reading.detector {
        Detector::Nonfinite => (reading.score? > 0.0).then_some(HIGHEST),
        _ => Some((reading.score? / reading.threshold).clamp(0.0, HIGHEST)),
    };
    readings.iter().filter_map(score).reduce(f64::max)
}

/// Detectors that look at the same thing; two groups that fire together confirm each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    Loss,
    Weights,
    Surrogate,
}

/// What an alert says apart from words and from what other alerts add.
#[derive(Clone, Debug)]
struct Row {
    detector: Detector,
    severity: Severity,
    opened_step: u64,
    /// First and last checkpoint at which it was on, by index.
    span: Option<(u64, u64)>,
    last_step: u64,
    resolved_step: Option<u64>,
    /// Step up to which it explains other alerts; `None` while it is open.
    until: Option<u64>,
    repeats: u32,
    peak: Option<f64>,
    threshold: f64,
    last_good_step: Option<u64>,
    not_checked: Vec<String>,
    from_weights: bool,
}

impl Row {
    fn of<E>(detector: Detector, episode: &Episode<E>, severity: Severity) -> Self {
        Self {
            detector,
            severity,
            opened_step: episode.opened.step,
            span: Some((episode.opened.index, episode.last_on.index)),
            last_step: episode.last_on.step,
            resolved_step: episode.resolved_step,
            until: episode.resolved_step,
            repeats: episode.repeats,
            peak: Some(episode.peak),
            threshold: episode.threshold,
            last_good_step: episode.last_good_step,
            not_checked: episode.not_checked.clone(),
            from_weights: detector != Detector::LossSpike,
        }
    }

    fn group(&self) -> Option<Group> {
        match self.detector {
            Detector::Nonfinite => None,
            Detector::LossSpike => Some(Group::Loss),
            Detector::UpdateJump | Detector::UpdateGrowth => Some(Group::Weights),
            Detector::SurrogateExit => Some(Group::Surrogate),
        }
    }

    /// The severity, one level up where an independent group fired within three checkpoints. What two views of the
    /// weights agree on is `high` at most: only the loss can confirm that a run is lost.
    fn lifted(&self, rows: &[Self]) -> Severity {
        if self.severity < Severity::Warning {
            return self.severity;
        }
        let confirms = |other: &&Self| {
            other.severity >= Severity::Warning
                && other.group().is_some_and(|group| self.group().is_some_and(|own| own != group))
                && self.is_near(other)
        };
        let with_loss = |other: &Self| [self.group(), other.group()].contains(&Some(Group::Loss));
        rows.iter()
            .filter(confirms)
            .map(|other| match self.severity {
                Severity::Info | Severity::Warning => Severity::High,
                Severity::High if with_loss(other) => Severity::Critical,
                severity => severity,
            })
            .max()
            .unwrap_or(self.severity)
    }

    fn is_near(&self, other: &Self) -> bool {
        let (Some((a, b)), Some((c, d))) = (self.span, other.span) else { return false };
        a <= d + TOGETHER && c <= b + TOGETHER
    }

    /// The last good checkpoint: before this episode, and before others that were open when it opened.
    fn last_good_step(&self, rows: &[Self]) -> Option<u64> {
        rows.iter()
            .filter(|other| {
                other.severity >= Severity::Warning
                    && other.opened_step <= self.opened_step
                    && other.until.is_none_or(|until| until >= self.opened_step)
            })
            .map(|other| other.last_good_step)
            .chain([self.last_good_step])
            .min()
            .flatten()
    }
}
