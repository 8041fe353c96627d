//! The report in a few lines of Markdown and in tags, for a tracker's page of a run.

use std::fmt::Write as _;

use super::ReportInput;
use super::reading::{Reading, set_name};
use super::verdict::{State, Verdict};
use super::words::count;
use crate::alert::{Alert, AlertState};

/// Alerts that are named; of more it tells the number.
const MOST_ALERTS: usize = 5;

/// What the list of runs can be filtered by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunTags {
    /// `healthy`, `watch`, `unstable`, `diverged` or `too_early`.
    pub state: String,
    /// The open alerts, most urgent first, such as `nonfinite (critical)`.
    pub alert: Option<String>,
    /// The attractor in which the run is, if it is in one and the picture can be trusted.
    pub attractor: Option<String>,
}

/// The verdict, the alerts and the picture in Markdown. `{artifacts}` stands for the address of the folder with the
/// artifacts, `{page}` for that of the page that shows them.
pub fn note(input: &ReportInput) -> String {
    let reading = Reading::new(input);
    let verdict = Verdict::of(&reading);
    let mut text = format!("**doodl3: {}.** {}", verdict.state.word(), verdict.headline);
    for part in [&verdict.since, &verdict.outlook] {
        if !part.is_empty() {
            let _ = write!(text, " {part}");
        }
    }
    text.push('\n');
    let open: Vec<&Alert> =
        reading.alerts().into_iter().filter(|alert| alert.state == AlertState::Open).collect();
    if !open.is_empty() {
        text.push('\n');
    }
    for alert in open.iter().take(MOST_ALERTS) {
        let run = if input.runs.len() > 1 { format!("{}, ", plain(&alert.run)) } else { String::new() };
        let _ = writeln!(
            text,
            "- **{}** {}, {run}since step {}: {} *{}*",
            severity(alert),
            alert.detector.name(),
            alert.opened_step,
            plain(&alert.headline),
            plain(&alert.advice)
        );
    }
    if open.len() > MOST_ALERTS {
        let _ = writeln!(text, "- and {} more", count(open.len() - MOST_ALERTS, "alert"));
    }
    if input.analysis.is_ok() {
        text += "\n![where training goes]({artifacts}/phase_portrait.svg)\n";
    }
    text + "\n[Report]({page}/report.html) · [Morse graph]({page}/morse_graph.svg)\n"
}

/// The report as tags.
pub fn tags(input: &ReportInput) -> RunTags {
    let reading = Reading::new(input);
    let state = match Verdict::of(&reading).state {
        State::Healthy => "healthy",
        State::Watch => "watch",
        State::Unstable => "unstable",
        State::Diverged => "diverged",
        State::TooEarly => "too_early",
    };
    let open: Vec<String> = reading
        .alerts()
        .into_iter()
        .filter(|alert| alert.state == AlertState::Open)
        .map(|alert| format!("{} ({})", alert.detector.name(), severity(alert)))
        .collect();
    RunTags {
        state: state.into(),
        alert: (!open.is_empty()).then(|| open.join(", ")),
        attractor: attractor(input),
    }
}

/// The attractor in which all runs end that end in one; `None` where they do not agree, or the picture cannot be trusted.
fn attractor(input: &ReportInput) -> Option<String> {
    let analysis =
        input.analysis.as_ref().ok().filter(|analysis| analysis.quality.low_confidence.is_empty())?;
    let graph = &analysis.morse_graph;
    let mut ends = analysis
        .trajectories
        .iter()
        .filter(|trajectory| input.runs.iter().any(|view| view.run == trajectory.run))
        .filter_map(|trajectory| trajectory.morse_sets.last().copied().flatten())
        .filter(|set| graph.sets[*set].role == crate::engine::Role::Attractor);
    let first = ends.next()?;
    ends.all(|set| set == first).then(|| set_name(first))
}

fn severity(alert: &Alert) -> String {
    format!("{:?}", alert.severity).to_lowercase()
}

/// Text in which nothing is markup.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\r' => plain.push(' '),
            '<' => plain += "&lt;",
            '>' => plain += "&gt;",
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '!' => plain.extend(['\\', character]),
            _ => plain.push(character),
        }
    }
    plain
}
