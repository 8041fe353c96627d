//! The verdict: is it all right, how sure is that, since when, and what is to be done. Every word follows from a number.

use super::forecast;
use super::reading::{Destination, Reading, Run, Standing, set_name};
use super::since;
use super::words::{count, figure, list, percent, thousands};
use crate::alert::{Alert, AlertState, Severity};
use crate::detect::Detector;
use crate::engine::{Analysis, Role};

/// Runs with fewer checkpoints than this are too young for a verdict: the detectors have nothing to compare with.
const WARM_UP: usize = 10;

/// The state of a group of runs in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Healthy,
    Watch,
    Unstable,
    Diverged,
    TooEarly,
}

impl State {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Healthy => "Healthy",
            Self::Watch => "Watch",
            Self::Unstable => "Unstable",
            Self::Diverged => "Diverged",
            Self::TooEarly => "Not enough data",
        }
    }
}

/// What the first screen says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) state: State,
    /// One or two sentences: which runs, out of how many.
    pub(super) headline: String,
    /// How much the verdict is worth.
    pub(super) certainty: String,
    /// Since when.
    pub(super) since: String,
    /// What to do.
    pub(super) advice: String,
    /// Where the runs go, if the picture can be trusted.
    pub(super) outlook: String,
    /// Whether attractors have come or gone since the analysis before.
    pub(super) change: String,
}

impl Verdict {
    pub(super) fn of(reading: &Reading) -> Self {
        let state = state(reading);
        // The alert that decides: the most urgent of the runs that do worst.
        let worst = reading.standing();
        let decisive = reading.alerts().into_iter().find(|alert| {
            reading.runs.iter().any(|run| run.name == alert.run && run.standing == worst)
                && worst > Standing::Healthy
        });
        Self {
            state,
            headline: headline(reading, state),
            certainty: certainty(reading, state, decisive),
            since: since(reading, decisive),
            advice: advice(reading, state, decisive),
            outlook: outlook(reading),
            change: since::headline(reading.input),
        }
    }
}

fn state(reading: &Reading) -> State {
    match reading.standing() {
        Standing::Diverged => State::Diverged,
        Standing::Unstable => State::Unstable,
        Standing::Watch | Standing::Recovered => State::Watch,
        Standing::Healthy if reading.runs.iter().all(|run| run.checkpoints() < WARM_UP) => State::TooEarly,
        Standing::Healthy => State::Healthy,
    }
}

fn headline(reading: &Reading, state: State) -> String {
    let all = reading.runs.len();
    let checkpoints: usize = reading.runs.iter().map(Run::checkpoints).sum();
    if state == State::TooEarly {
        let most = reading.runs.iter().map(Run::checkpoints).max().unwrap_or(0);
        return format!(
            "No verdict yet: {} so far, at most {} in a run. The detectors compare a run with its own past and need about {WARM_UP}.",
            count(checkpoints, "checkpoint"),
            thousands(most as u64),
        );
    }
    if state == State::Healthy {
        return format!(
            "Nothing unusual in {} of {}.",
            count(checkpoints, "checkpoint"),
            if all == 1 { "this run".to_owned() } else { count(all, "run") }
        );
    }
    let mut parts = Vec::new();
    for standing in [Standing::Diverged, Standing::Unstable, Standing::Watch, Standing::Recovered] {
        let names: Vec<&str> =
            reading.runs.iter().filter(|run| run.standing == standing).map(|run| run.name).collect();
        let one = names.len() == 1;
        let what = match standing {
            _ if names.is_empty() => continue,
            Standing::Diverged if one => "has diverged",
            Standing::Diverged => "have diverged",
            Standing::Unstable if one => "is unstable",
            Standing::Unstable => "are unstable",
            Standing::Watch if one => "behaves unusually",
            Standing::Watch => "behave unusually",
            _ if one => "was in trouble and has come back",
            _ => "were in trouble and have come back",
        };
        if all == 1 {
            return format!("Run {} {what}.", names[0]);
        }
        parts.push(format!("{} {what} ({})", thousands(names.len() as u64), list(&names, 3)));
    }
    let quiet = reading.runs.iter().filter(|run| !run.stands_out()).count();
    let rest = match quiet {
        0 => String::new(),
        1 => " The other one shows nothing unusual.".to_owned(),
        _ => format!(" The other {} show nothing unusual.", thousands(quiet as u64)),
    };
    format!("Of {}, {}.{rest}", count(all, "run"), list(&parts, parts.len()))
}

fn certainty(reading: &Reading, state: State, decisive: Option<&Alert>) -> String {
    let mut text = match decisive {
        Some(alert) => {
            let detectors: std::collections::BTreeSet<Detector> = reading
                .input
                .alerts
                .iter()
                .filter(|other| other.run == alert.run)
                .map(|other| other.detector)
                .collect();
            let others = match detectors.len() {
                0 | 1 => String::new(),
                number => format!(" {number} detectors spoke up on this run."),
            };
            strength(alert) + &others
        }
        None if state == State::TooEarly => "Nothing is known yet.".to_owned(),
        None => {
            let lost = reading.input.not_available.len();
            let missing = match lost {
                0 => String::new(),
                _ => format!(" {} could not be had; see below.", count(lost, "thing")),
            };
            format!("No detector is on. That rules out what they look for, not everything.{missing}")
        }
    };
    text += match reading.analysis() {
        None => " There is no picture of the dynamics yet.",
        Some(analysis) if !analysis.quality.low_confidence.is_empty() => {
            " The picture of the dynamics is of low confidence, and nothing here is concluded from it."
        }
        Some(_) => "",
    };
    text
}

/// How strong the evidence of an alert is.
fn strength(alert: &Alert) -> String {
    if alert.detector == Detector::Nonfinite && alert.severity == Severity::Critical {
        return "Certain: a number that is not finite is a fact, not an estimate.".to_owned();
    }
    let seen = count(alert.repeats as usize, "checkpoint");
    let Some(peak) = alert.peak_score else {
        return format!("Certain: the score left every scale, at {seen}.");
    };
    let ratio = peak / alert.threshold;
    let word = if ratio >= 2.0 { "Strong" } else { "Moderate" };
    let weight = if alert.repeats > 1 { "" } else { ": a single event so far" };
    format!(
        "{word}: the score reached {} where {} is the limit, at {seen}{weight}.",
        figure(peak),
        figure(alert.threshold)
    )
}

fn since(reading: &Reading, decisive: Option<&Alert>) -> String {
    if let Some(alert) = decisive {
        let ended = match (alert.state, alert.resolved_step) {
            (AlertState::Resolved, Some(step)) => format!(" to step {step}"),
            (AlertState::Resolved, None) => ", over since".to_owned(),
            (AlertState::Open, _) => String::new(),
        };
        // Trouble often begins with a milder alert.
        let same = |other: &&Alert| {
            other.run == alert.run && other.state == alert.state && other.severity > Severity::Info
        };
        let alerts = reading.input.alerts.iter().filter(same);
        let first = alerts.map(|other| other.opened_step).min().unwrap_or(alert.opened_step);
        let worst = match alert.opened_step {
            step if step == first => String::new(),
            step => format!(" At its worst since step {step}."),
        };
        return format!("Step {first}{ended}, run {}.{worst}", alert.run);
    }
    let steps: Vec<u64> =
        reading.runs.iter().filter_map(|run| run.view).flat_map(|view| &view.steps).copied().collect();
    match (steps.iter().min(), steps.iter().max()) {
        (Some(first), Some(last)) if first < last => {
            format!("Steps {first} to {last} were seen.")
        }
        (Some(only), _) => format!("Step {only} was seen."),
        _ => "No checkpoint has been seen.".to_owned(),
    }
}

fn advice(reading: &Reading, state: State, decisive: Option<&Alert>) -> String {
    let Some(alert) = decisive else {
        return match state {
            State::TooEarly => "Let it train on.".to_owned(),
            _ => "Nothing needs to be done.".to_owned(),
        };
    };
    let more = reading.input.alerts.iter().filter(|other| other.state == AlertState::Open).count();
    let others = if more > 1 { " The table has a line for each alert." } else { "" };
    format!("{}{others}", alert.advice)
}

/// Number of runs at or before each attractor or open set, most first.
pub(super) fn ends(reading: &Reading) -> Vec<(usize, usize)> {
    let mut ends: std::collections::BTreeMap<usize, usize> = std::collections::BTreeMap::new();
    for run in reading.runs.iter().filter(|run| !run.stands_out()) {
        if let Some(Destination::Inside(set) | Destination::Toward(set)) = run.destination {
            *ends.entry(set).or_default() += 1;
        }
    }
    let mut ends: Vec<(usize, usize)> = ends.into_iter().collect();
    ends.sort_by_key(|&(set, runs)| (std::cmp::Reverse(runs), set));
    ends
}

fn outlook(reading: &Reading) -> String {
    let Some(analysis) = reading.analysis() else {
        return String::new();
    };
    if !analysis.quality.low_confidence.is_empty() {
        return String::new();
    }
    let quiet = reading.runs.iter().filter(|run| !run.stands_out() && run.destination.is_some()).count();
    let holds =
        |set: usize| analysis.morse_graph.sets.get(set).is_some_and(|set| set.role == Role::Attractor);
    let ends: Vec<(usize, usize)> = ends(reading).into_iter().filter(|(set, _)| holds(*set)).collect();
    let toward = |set: usize, runs: usize| {
        let verb = if runs == 1 { "is" } else { "are" };
        format!("{verb} in or on the way to attractor {}{}", set_name(set), loss(analysis, set))
    };
    let confidence = match analysis.quality.confidence {
        Some(confidence) => format!(", with confidence {}", percent(confidence)),
        None => String::new(),
    };
    let which = if reading.runs.iter().any(Run::stands_out) { " without alerts" } else { "" };
    let open: Vec<&Run> = reading
        .runs
        .iter()
        .filter(|run| !run.stands_out())
        .filter(|run| matches!(run.destination, Some(Destination::Undecided | Destination::Escapes)))
        .collect();
    let chances = match forecast::together(&open) {
        Some(paths) => format!(" Of {} it is open where they end; {paths}.", count(open.len(), "run")),
        None => String::new(),
    };
    let certain = match ends.as_slice() {
        [] => String::new(),
        [(set, 1)] if quiet == 1 && reading.runs.len() == 1 => format!("It {}{confidence}.", toward(*set, 1)),
        [(set, runs)] if *runs == quiet && quiet > 1 => {
            format!("All {}{which} {}{confidence}.", count(quiet, "run"), toward(*set, *runs))
        }
        several => {
            let parts: Vec<String> = several
                .iter()
                .map(|&(set, runs)| format!("{} {}", thousands(runs as u64), toward(set, runs)))
                .collect();
            let places = match parts.len() {
                1 => String::new(),
                number => format!(" So training ends in {number} places."),
            };
            format!("Of {}{which}, {}{confidence}.{places}", count(quiet, "run"), list(&parts, 4))
        }
    };
    format!("{certain}{chances}").trim_start().to_owned()
}

fn loss(analysis: &Analysis, set: usize) -> String {
    let summary = analysis.morse_graph.sets.get(set).and_then(|set| set.loss);
    summary.map_or_else(String::new, |loss| format!(" (median loss {})", figure(loss.median)))
}
