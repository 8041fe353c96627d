//! `report.html`: one file that needs nothing but itself, with the verdict first.

use std::fmt::Write;

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use serde::Serialize;

use super::curves;
use super::glossary::GLOSSARY;
use super::morse_graph::contracted;
use super::outcomes::{self, End, SetRow};
use super::reading::{Reading, Run, Standing};
use super::since;
use super::svg::{Picture, escape, style_sheet};
use super::trust::{self, CandidateRow, Figure};
use super::verdict::{State, Verdict};
use super::words::{count, figure, list};
use super::{RenderError, ReportInput, RunState};
use crate::alert::{Alert, AlertState, Severity};
use crate::artifact::Artifact;
use crate::detect::Detector;
use crate::engine::Analysis;

const TEMPLATE: &str = include_str!("templates/report.html");
const STYLE: &str = include_str!("templates/report.css");

/// Tables do not grow beyond this many lines; the data files have all.
const LINES: usize = 200;

/// The pictures of an analysis.
#[derive(Debug)]
pub(super) struct Pictures {
    pub(super) phase_portrait: Picture,
    pub(super) morse_graph: Picture,
}

/// Everything that the template names.
#[derive(Serialize)]
struct Page<'a> {
    styles: String,
    title: &'a str,
    state: StateWords,
    verdict: VerdictWords,
    parts: Vec<Part>,
    alerts: Vec<AlertRow<'a>>,
    alerts_left_out: String,
    no_alerts: &'static str,
    not_available: &'a [String],
    picture: Option<PictureWords>,
    no_analysis: &'a str,
    low_confidence: String,
    ends: Vec<End>,
    retraction: String,
    since: String,
    sets: Vec<SetRow>,
    sets_left_out: String,
    curves: Vec<CurveWords>,
    curves_caption: String,
    runs: Vec<RunRow<'a>>,
    runs_left_out: String,
    trust_summary: String,
    quality: Vec<Figure>,
    candidates: Vec<CandidateRow>,
    candidates_caption: String,
    facts: Vec<Fact>,
    skipped: Vec<Fact>,
    skipped_left_out: String,
    glossary: Vec<Fact>,
}

#[derive(Serialize)]
struct StateWords {
    word: &'static str,
    class: State,
    icon: &'static str,
}

#[derive(Serialize)]
struct VerdictWords {
    headline: String,
    outlook: String,
    change: String,
    advice: String,
    since_word: &'static str,
    since: String,
    certainty: String,
}

#[derive(Serialize)]
struct Part {
    id: &'static str,
    name: &'static str,
}

#[derive(Serialize)]
struct AlertRow<'a> {
    class: &'static str,
    severity: Severity,
    resolved: String,
    run: &'a str,
    headline: &'a str,
    evidence: &'a str,
    not_checked: String,
    since: String,
    last: String,
    score: String,
    threshold: String,
    last_good: String,
    advice: &'a str,
}

#[derive(Serialize)]
struct PictureWords {
    explanation: String,
    arrangement: &'static str,
    phase_portrait: String,
    portrait_caption: String,
    morse_graph: String,
    graph_caption: String,
}

#[derive(Serialize)]
struct CurveWords {
    title: &'static str,
    caption: &'static str,
    picture: String,
}

#[derive(Serialize)]
struct RunRow<'a> {
    name: &'a str,
    standing: String,
    place: String,
    checkpoints: usize,
    step: String,
    loss: String,
    norm: String,
    update: String,
}

/// A name and what is to be said of it.
#[derive(Serialize)]
struct Fact {
    name: String,
    value: String,
}

impl Fact {
    fn new(name: &str, value: impl Into<String>) -> Self {
        Self { name: name.to_owned(), value: value.into() }
    }
}

/// Writes the page.
pub(super) fn page(reading: &Reading, pictures: Option<&Pictures>) -> Result<Artifact, RenderError> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    // One way to escape for page and pictures: this one also takes out what hides or reverses text.
    environment.set_formatter(|out, _, value: &Value| {
        if value.is_safe() {
            out.write_str(&value.to_string())?;
        } else {
            out.write_str(&escape(&value.to_string()))?;
        }
        Ok(())
    });
    let html = environment
        .render_str(TEMPLATE, Serde(Page::of(reading, pictures)))
        .map_err(|source| RenderError::Template { source: Box::new(source) })?;
    Ok(Artifact::text("report.html", "text/html; charset=utf-8", html))
}

impl<'a> Page<'a> {
    fn of(reading: &'a Reading<'a>, pictures: Option<&Pictures>) -> Self {
        let input = reading.input;
        let analysis = reading.analysis();
        let verdict = Verdict::of(reading);
        let alerts = reading.alerts();
        let shown = alerts.iter().take(LINES).map(|alert| alert_row(alert)).collect();
        let curves = curves::all(reading);
        let (sets, sets_left_out) = analysis.map(|_| outcomes::sets(reading, LINES)).unwrap_or_default();
        Self {
            styles: style_sheet() + STYLE,
            title: &input.title,
            state: StateWords { word: verdict.state.word(), class: verdict.state, icon: icon(verdict.state) },
            parts: parts(analysis.is_some()),
            alerts: shown,
            alerts_left_out: left_out(alerts.len(), "alert", "alerts.jsonl has all"),
            no_alerts: match verdict.state {
                State::TooEarly => "None so far.",
                _ => "None. No detector found anything worth a word.",
            },
            not_available: &input.not_available,
            picture: analysis.zip(pictures).map(|(analysis, pictures)| picture_words(analysis, pictures)),
            no_analysis: input.analysis.as_ref().err().map_or("", |reason| reason.trim_end_matches('.')),
            low_confidence: analysis
                .map(|analysis| analysis.quality.low_confidence.join("; "))
                .unwrap_or_default(),
            ends: outcomes::ends(reading),
            since: since::details(input),
            retraction: analysis.map(outcomes::retraction).unwrap_or_default(),
            sets,
            sets_left_out,
            curves_caption: curves_caption(reading),
            curves: curves.iter().map(curve_words).collect(),
            runs: reading.runs.iter().take(LINES).map(|run| run_row(run)).collect(),
            runs_left_out: left_out(
                reading.runs.len(),
                "run",
                "analysis.json has the paths of all that were analysed",
            ),
            trust_summary: analysis.map(trust::summary).unwrap_or_default(),
            quality: analysis.map(trust::figures).unwrap_or_default(),
            candidates: analysis.map(trust::candidates).unwrap_or_default(),
            candidates_caption: trust::candidates_caption(),
            facts: facts(reading),
            skipped: input.skipped.iter().take(LINES).map(|(file, reason)| Fact::new(file, reason)).collect(),
            skipped_left_out: left_out(input.skipped.len(), "file", "the log names them"),
            glossary: GLOSSARY.iter().map(|(word, meaning)| Fact::new(word, *meaning)).collect(),
            verdict: VerdictWords {
                since_word: match verdict.state {
                    State::Healthy | State::TooEarly => "What was seen",
                    State::Watch | State::Unstable | State::Diverged => "Since when",
                },
                headline: verdict.headline,
                outlook: verdict.outlook,
                change: verdict.change,
                advice: verdict.advice,
                since: verdict.since,
                certainty: verdict.certainty,
            },
        }
    }
}

fn left_out(all: usize, thing: &str, where_else: &str) -> String {
    match all.saturating_sub(LINES) {
        0 => String::new(),
        more => format!("{} more; {where_else}.", count(more, thing)),
    }
}

/// A sign for each state: told apart by shape, not by colour alone.
fn icon(state: State) -> &'static str {
    match state {
        State::Healthy => {
            r#"<svg viewBox="0 0 24 24" aria-hidden="true"><circle cx="12" cy="12" r="10.5" fill="none" stroke="currentColor" stroke-width="2.5"/><path d="M7 12.4l3.5 3.5 6.6-7.3" fill="none" stroke="currentColor" stroke-width="2.7"/></svg>"#
        }
        State::Watch => {
            r#"<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M12 2.2L22.8 21.5H1.2z" fill="none" stroke="currentColor" stroke-width="2.4" stroke-linejoin="round"/><path d="M12 9v6.2m0 2.2v.4" fill="none" stroke="currentColor" stroke-width="2.6"/></svg>"#
        }
        State::Unstable => {
            r#"<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M12 1.2L22.8 12 12 22.8 1.2 12z" fill="none" stroke="currentColor" stroke-width="2.4" stroke-linejoin="round"/><path d="M12 6.5v7.2m0 2.6v.6" fill="none" stroke="currentColor" stroke-width="2.8"/></svg>"#
        }
        State::Diverged => {
            r#"<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M7.5 1.5h9l6 6v9l-6 6h-9l-6-6v-9z" fill="currentColor"/><path d="M7.7 7.7l8.6 8.6m0-8.6l-8.6 8.6" fill="none" stroke="var(--page)" stroke-width="2.8"/></svg>"#
        }
        State::TooEarly => {
            r#"<svg viewBox="0 0 24 24" aria-hidden="true"><circle cx="12" cy="12" r="10.5" fill="none" stroke="currentColor" stroke-width="2.5" stroke-dasharray="4 3"/><path d="M12 6.5v6l4 2.4" fill="none" stroke="currentColor" stroke-width="2.4"/></svg>"#
        }
    }
}

fn parts(analysed: bool) -> Vec<Part> {
    let all = [
        ("alerts", "Alerts", true),
        ("dynamics", "What training does here", true),
        ("curves", "Curves", true),
        ("trust", "How far to trust this", analysed),
        ("data", "Data and provenance", true),
        ("words", "The words", true),
    ];
    all.into_iter().filter(|part| part.2).map(|(id, name, _)| Part { id, name }).collect()
}

fn alert_row(alert: &Alert) -> AlertRow<'_> {
    let resolved = match (alert.state, alert.resolved_step) {
        (AlertState::Open, _) => String::new(),
        (AlertState::Resolved, Some(step)) => format!("over at step {step}"),
        (AlertState::Resolved, None) => "over".to_owned(),
    };
    let broken = alert.detector == Detector::Nonfinite && alert.severity == Severity::Critical;
    AlertRow {
        class: if alert.state == AlertState::Open { "open" } else { "resolved" },
        severity: alert.severity,
        resolved,
        run: &alert.run,
        headline: &alert.headline,
        evidence: &alert.evidence,
        not_checked: alert.not_checked.join("; "),
        since: alert.opened_step.to_string(),
        last: if alert.last_step > alert.opened_step { alert.last_step.to_string() } else { String::new() },
        score: match alert.peak_score {
            Some(score) if !broken => figure(score),
            _ => "not finite".to_owned(),
        },
        threshold: if broken { String::new() } else { figure(alert.threshold) },
        last_good: alert
            .last_good_step
            .map_or_else(|| "none known".to_owned(), |step| format!("step {step}")),
        advice: &alert.advice,
    }
}

fn picture_words(analysis: &Analysis, pictures: &Pictures) -> PictureWords {
    let dimension = analysis.grid.lower.len();
    let coordinates = match dimension {
        1 => "one number".to_owned(),
        2 => "two numbers".to_owned(),
        3 => "three numbers".to_owned(),
        other => format!("{other} numbers"),
    };
    let explanation = format!(
        "Each checkpoint is reduced to {coordinates} ({}). From {} of how these change in {}, a map is learned that says where training goes next, and from that map where it can be caught.",
        trust::projection_words(analysis.projection.kind),
        count(analysis.lag.pairs, "example"),
        count(analysis.lag.steps as usize, "step"),
    );
    let portrait_caption = match dimension {
        1 => {
            "Each line is a run. The tint behind it tells where training ends from there; hatched is where there was too little to learn from."
        }
        2 => {
            "Each grey line is a run, from its hollow first point to its filled last one. The tint behind it tells where training ends from there; hatched is where there was too little to learn from."
        }
        4.. => {
            "The space of the first three coordinates from three sides; along the others one looks through, and Morse sets are shown as their shadows. A tint is shown where all trusted cells behind one another agree; hatched is where there was too little to learn from."
        }
        _ => {
            "The space of the first three coordinates from three sides. A tint is shown where all trusted cells behind one another agree; hatched is where there was too little to learn from."
        }
    };
    let contracted = match contracted(&analysis.morse_graph) {
        0 => String::new(),
        1 => " One set of trivial index, which may hold nothing, is left out; it is grey in the picture of where training goes.".to_owned(),
        number => format!(
            " {} of trivial index, which may hold nothing, are left out; they are grey in the picture of where training goes.",
            count(number, "set")
        ),
    };
    PictureWords {
        explanation,
        arrangement: if pictures.morse_graph.size.0 > 640.0 { "stacked" } else { "" },
        phase_portrait: pictures.phase_portrait.inline(),
        portrait_caption: portrait_caption.to_owned(),
        morse_graph: pictures.morse_graph.inline(),
        graph_caption: format!(
            "Regions in which training can linger, and the ways between them, downwards. Those at the bottom are where it can end.{contracted}"
        ),
    }
}

fn curve_words(curves: &curves::Curves) -> CurveWords {
    CurveWords { title: curves.title, caption: curves.caption, picture: curves.picture.inline() }
}

fn curves_caption(reading: &Reading) -> String {
    let quiet = reading.runs.iter().filter(|run| !run.stands_out()).count();
    let loud = reading.runs.len() - quiet;
    let mut text = match quiet {
        0 => String::new(),
        1..8 => "Runs without alerts are grey.".to_owned(),
        _ => "Runs without alerts are grey: the band holds four of five of them, the darker line is their median.".to_owned(),
    };
    if loud > 0 {
        text += " Runs with alerts are in colour, with a ring where each alert opened.";
    }
    text += " A triangle at an edge marks values that are not finite or lie beyond the scale.";
    text.trim_start().to_owned()
}

fn run_row<'a>(run: &Run<'a>) -> RunRow<'a> {
    let last = |series: fn(&super::RunView) -> &super::Series| {
        run.view.and_then(|view| series(view).last()).map(|(_, value)| *value)
    };
    let shown = |value: Option<f64>| value.map_or_else(|| "\u{2013}".to_owned(), figure);
    let standing = match run.standing {
        Standing::Healthy => "nothing unusual",
        Standing::Recovered => "was in trouble",
        Standing::Watch => "watch",
        Standing::Unstable => "unstable",
        Standing::Diverged => "diverged",
    };
    let goes_on = match run.view.map(|view| view.state) {
        Some(RunState::Training) => ", training",
        Some(RunState::Ended) => ", ended",
        Some(RunState::Unknown) | None => "",
    };
    let steps = run.view.map(|view| view.steps.as_slice()).unwrap_or_default();
    RunRow {
        name: run.name,
        standing: format!("{standing}{goes_on}"),
        place: outcomes::place(run),
        checkpoints: run.checkpoints(),
        step: steps.last().map_or_else(|| "\u{2013}".to_owned(), ToString::to_string),
        loss: shown(outcomes::last_loss(run)),
        norm: shown(last(|view| &view.weight_norms)),
        update: shown(last(|view| &view.update_ratios)),
    }
}

fn facts(reading: &Reading) -> Vec<Fact> {
    let ReportInput { group, versions, analysis_id, skipped, .. } = reading.input;
    let checkpoints: usize = reading.runs.iter().map(Run::checkpoints).sum();
    let mut data = format!("{}, {}", count(reading.runs.len(), "run"), count(checkpoints, "checkpoint"));
    if !skipped.is_empty() {
        let _ = write!(data, ", {} left out", count(skipped.len(), "file"));
    }
    let programs: Vec<String> = versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let mut facts = vec![
        Fact::new("Data", data),
        Fact::new("Source", &group.source),
        Fact::new("Experiment", &group.experiment),
        Fact::new("Model's signature", &group.signature),
        Fact::new("Analysis", analysis_id),
        Fact::new("Programs", list(&programs, programs.len())),
    ];
    if let Some(analysis) = reading.analysis() {
        facts.extend(trust::settings(analysis).into_iter().map(|(name, value)| Fact::new(name, value)));
    }
    facts.retain(|fact| !fact.value.is_empty());
    facts
}
