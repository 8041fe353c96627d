//! Alerts: what a person is told, and how it changes over time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::detect::Detector;

/// How urgent an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
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
    /// Highest severity reached, by all that is known: it sinks only when losses that came late show a falling loss.
    pub severity: Severity,
    /// Step at which the score first crossed its threshold.
    pub opened_step: u64,
    /// Step of the latest checkpoint (or loss) at which the detector was on.
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

/// A place in a run: a step, and the checkpoint it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The trainer's step.
    pub step: u64,
    /// Index of the first checkpoint at or after it, from 0: the clock of everything that follows.
    pub index: u64,
}

/// A detector's score at one place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Signal {
    /// Where.
    pub at: Position,
    /// The score.
    pub score: f64,
    /// Score at which the detector turns on.
    pub threshold: f64,
    /// Where the score first crossed the threshold, if the detector is on: as often as it asks for, up to here.
    pub on_since: Option<Position>,
    /// How urgent this is, if it is on.
    pub severity: Severity,
}

/// One episode of one detector, with its evidence `E` at the highest score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Episode<E> {
    /// Where the score first crossed its threshold.
    pub opened: Position,
    /// The latest place at which the detector was on.
    pub last_on: Position,
    /// The latest place at which the score was not low.
    pub last_loud: Position,
    /// Step at which it was resolved.
    pub resolved_step: Option<u64>,
    /// Number of checkpoints at which the detector was on.
    pub repeats: u32,
    /// The highest score.
    pub peak: f64,
    /// Score at which the detector turned on.
    pub threshold: f64,
    /// Highest severity reached.
    pub severity: Severity,
    /// Step of the last checkpoint before the trouble.
    pub last_good_step: Option<u64>,
    /// Detectors that could not run when it opened, and why.
    pub not_checked: Vec<String>,
    /// The evidence at the highest score.
    pub evidence: E,
}

/// What is noted once, when an episode opens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Opening {
    /// Step of the last checkpoint before the trouble.
    pub last_good_step: Option<u64>,
    /// Detectors that could not run, and why.
    pub not_checked: Vec<String>,
}

/// The life cycle of one detector's alerts on one run.
///
/// An episode opens when the detector turns on, and is resolved when its score has stayed below 0.6 of the threshold for
/// five checkpoints. For a cool-down after it was last on, the detector opens no new episode: should it turn on again,
/// the last one is open again, so that a score that flickers makes one alert and nothing is hidden. After
/// [`LifeCycle::EPISODES`] episodes the last one stands for all that follow, which bounds the state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LifeCycle<E> {
    episodes: Vec<Episode<E>>,
}

impl<E> Default for LifeCycle<E> {
    fn default() -> Self {
        Self { episodes: Vec::new() }
    }
}

impl<E> LifeCycle<E> {
    /// Most episodes of one detector on one run.
    pub const EPISODES: usize = 32;
    /// Share of the threshold below which a score is low.
    pub const LOW: f64 = 0.6;
    /// Number of checkpoints for which the score must stay low.
    pub const QUIET: u64 = 5;

    /// All episodes so far, oldest first: the number of an episode is its place, from 1.
    pub fn episodes(&self) -> &[Episode<E>] {
        &self.episodes
    }

    /// The episodes, for what becomes known of them later.
    pub fn episodes_mut(&mut self) -> &mut [Episode<E>] {
        &mut self.episodes
    }

    /// Whether an episode is open.
    pub fn is_open(&self) -> bool {
        self.episodes.last().is_some_and(|episode| episode.resolved_step.is_none())
    }

    /// Takes in a score. Signals come in the order of their positions.
    ///
    /// `evidence` is asked for at the first crossing and at each new highest score, `opening` when an episode opens.
    pub fn advance(
        &mut self,
        signal: Signal,
        cooldown: u32,
        evidence: impl FnOnce() -> E,
        opening: impl FnOnce() -> Opening,
    ) {
        let Signal { at, score, threshold, .. } = signal;
        let full = self.episodes.len() == Self::EPISODES;
        let last = self.episodes.last_mut();
        let Some(since) = signal.on_since else {
            if let Some(open) = last.filter(|episode| episode.resolved_step.is_none()) {
                if score >= Self::LOW * threshold {
                    open.last_loud = at;
                } else if at.index >= open.last_loud.index + Self::QUIET {
                    open.resolved_step = Some(at.step);
                }
            }
            return;
        };
        let continues = |episode: &Episode<E>| {
            episode.resolved_step.is_none() || full || at.index <= episode.last_on.index + u64::from(cooldown)
        };
        if let Some(episode) = last.filter(|episode| continues(episode)) {
            episode.repeats += u32::from(at.index > episode.last_on.index);
            episode.resolved_step = None;
            (episode.last_on, episode.last_loud) = (at, at);
            episode.severity = episode.severity.max(signal.severity);
            if score > episode.peak {
                episode.peak = score;
                episode.evidence = evidence();
            }
            return;
        }
        let Opening { last_good_step, not_checked } = opening();
        self.episodes.push(Episode {
            opened: since,
            last_on: at,
            last_loud: at,
            resolved_step: None,
            repeats: 1,
            peak: score,
            threshold,
            severity: signal.severity,
            last_good_step,
            not_checked,
            evidence: evidence(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLD: f64 = 5.0;
    const COOLDOWN: u32 = 10;

    /// The life cycle of one score for each checkpoint, checkpoint t at step 10 t.
    fn live(scores: &[f64]) -> LifeCycle<usize> {
        let mut life = LifeCycle::default();
        for (t, &score) in scores.iter().enumerate() {
            let at = Position { step: 10 * t as u64, index: t as u64 };
            let on_since = (score >= THRESHOLD).then_some(at);
            let severity = if score >= 8.0 { Severity::High } else { Severity::Warning };
            let signal = Signal { at, score, threshold: THRESHOLD, on_since, severity };
            life.advance(signal, COOLDOWN, || t, Opening::default);
        }
        life
    }

    #[test]
    fn an_episode_opens_rises_and_resolves_after_five_low_scores() {
        let mut scores = vec![0.0, 6.0, 9.0, 4.0, 5.5];
        scores.extend([1.0; 4]);
        assert!(live(&scores).is_open());
        scores.push(1.0);
        let life = live(&scores);
        let [episode] = life.episodes() else { panic!("one episode") };
        assert_eq!((episode.opened.step, episode.last_on.step, episode.resolved_step), (10, 40, Some(90)));
        assert_eq!((episode.repeats, episode.peak, episode.severity), (3, 9.0, Severity::High));
        assert_eq!(episode.evidence, 2, "of the highest score");
    }

    #[test]
    fn a_score_between_low_and_threshold_keeps_it_open() {
        let mut scores = vec![6.0];
        scores.extend([3.0, 1.0, 1.0, 1.0, 1.0].repeat(8));
        assert!(live(&scores).is_open(), "3.0 is 0.6 of the threshold");
    }

    #[test]
    fn the_cooldown_holds_back_a_new_episode_but_hides_nothing() {
        let with_second_at = |t: usize| {
            let mut scores = vec![0.0; 60];
            (scores[5], scores[t]) = (6.0, 9.0);
            live(&scores)
        };
        let within = with_second_at(15);
        assert_eq!(within.episodes().len(), 1);
        assert_eq!(within.episodes()[0].severity, Severity::High, "an escalation is never held back");
        assert_eq!(within.episodes()[0].resolved_step, Some(200));
        assert_eq!(with_second_at(16).episodes().len(), 2);
    }

    #[test]
    fn the_last_episode_stands_for_all_that_follow() {
        let mut scores = vec![0.0; 20 * LifeCycle::<usize>::EPISODES + 200];
        for score in scores.iter_mut().step_by(20) {
            *score = 6.0;
        }
        let life = live(&scores);
        assert_eq!(life.episodes().len(), LifeCycle::<usize>::EPISODES);
        assert_eq!(life.episodes().last().map(|episode| episode.repeats), Some(11));
    }
}
