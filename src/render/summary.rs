//! The report in a few lines of plain text, for terminals.

use std::fmt::Write as _;

use super::ReportInput;
use super::morse_graph::contracted;
use super::reading::{Reading, role_word, set_name};
use super::trust;
use super::verdict::{Verdict, ends};
use super::words::{count, figure, list, percent, thousands};
use crate::alert::{Alert, AlertState};
use crate::engine::{Analysis, MorseSet, Role};

/// Alerts that are named; of more it tells the number.
const MOST_ALERTS: usize = 20;
/// Morse sets that are named; of more it tells the number.
const MOST_SETS: usize = 12;

/// The report in plain text: the verdict, the alerts, the Morse graph in words, and how far it can be trusted.
pub fn summary(input: &ReportInput) -> String {
    let reading = Reading::new(input);
    let verdict = Verdict::of(&reading);
    let mut text = format!("{}: {}\n", input.title, verdict.state.word());
    let mut entry = |label: &str, words: &str| {
        if !words.is_empty() {
            let _ = writeln!(text, "  {label:<12}{words}");
        }
    };
    entry("", &verdict.headline);
    entry("How sure", &verdict.certainty);
    entry("Since", &verdict.since);
    entry("What to do", &verdict.advice);
    entry("Outlook", &verdict.outlook);
    entry("Change", &verdict.change);
    for missing in &input.not_available {
        entry("Missing", missing);
    }
    for (path, reason) in &input.skipped {
        entry("Left out", &format!("{path}: {reason}"));
    }
    text + &alerts(&reading) + &morse_graph(&reading)
}

fn alerts(reading: &Reading) -> String {
    let alerts = reading.alerts();
    if alerts.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{}\n", count(alerts.len(), "alert"));
    let width = |of: fn(&Alert) -> usize| alerts.iter().take(MOST_ALERTS).map(|a| of(a)).max().unwrap_or(0);
    let run = width(|alert| alert.run.chars().count());
    for alert in alerts.iter().take(MOST_ALERTS) {
        let when = match (alert.state, alert.resolved_step) {
            (AlertState::Open, _) => format!("since step {}", alert.opened_step),
            (AlertState::Resolved, Some(end)) => {
                format!("steps {} to {}, over", alert.opened_step, end)
            }
            (AlertState::Resolved, None) => format!("at step {}, over", alert.opened_step),
        };
        let severity = format!("{:?}", alert.severity).to_lowercase();
        let _ = writeln!(
            text,
            "  {:<run$}  {:<8}  {:<14}  {when}: {}",
            alert.run,
            severity,
            alert.detector.name(),
            alert.headline
        );
    }
    if alerts.len() > MOST_ALERTS {
        let _ = writeln!(text, "  and {} more", alerts.len() - MOST_ALERTS);
    }
    text
}

fn morse_graph(reading: &Reading) -> String {
    let analysis = match &reading.input.analysis {
        Ok(analysis) => analysis,
        Err(reason) => return format!("\nNo Morse graph: {reason}\n"),
    };
    let graph = &analysis.morse_graph;
    let id = reading.input.analysis_id.get(..12).unwrap_or(&reading.input.analysis_id);
    let mut text = format!("\nMorse graph {id}: {}", count(graph.reduced.sets.len(), "Morse set"));
    let _ = match contracted(graph) {
        0 => writeln!(text),
        number => writeln!(text, ", and {} of trivial index that may hold nothing", thousands(number as u64)),
    };
    let ends = ends(reading);
    let mut sets: Vec<(usize, &MorseSet)> =
        graph.reduced.sets.iter().map(|&set| (set, &graph.sets[set])).collect();
    sets.sort_by_key(|(index, set)| (importance(set.role), std::cmp::Reverse(set.size), *index));
    for (index, set) in sets.into_iter().take(MOST_SETS) {
        let runs = ends.iter().find(|(end, _)| *end == index).map_or(0, |(_, runs)| *runs);
        let _ = writeln!(text, "  {}", morse_set(analysis, index, set, runs));
    }
    if graph.reduced.sets.len() > MOST_SETS {
        let _ = writeln!(text, "  and {} more", graph.reduced.sets.len() - MOST_SETS);
    }
    let _ = writeln!(text, "  {}", trust::summary(analysis));
    text
}

fn importance(role: Role) -> u8 {
    match role {
        Role::Attractor => 0,
        Role::Open => 1,
        Role::Repeller => 2,
        Role::Intermediate => 3,
    }
}

fn morse_set(analysis: &Analysis, index: usize, set: &MorseSet, runs: usize) -> String {
    let below: Vec<String> = analysis
        .morse_graph
        .reduced
        .edges
        .iter()
        .filter(|(from, _)| *from == index)
        .map(|(_, to)| set_name(*to))
        .collect();
    let mut words = vec![format!(
        "{} {}, {} ({} of the picture)",
        set_name(index),
        role_word(set.role),
        count(set.size, "cell"),
        percent(set.volume_share)
    )];
    if let Some(loss) = set.loss {
        words.push(format!("median loss {}", figure(loss.median)));
    }
    if runs > 0 {
        words.push(format!("{} without alerts lead here", count(runs, "run")));
    }
    if !below.is_empty() {
        words.push(format!("leads to {}", list(&below, 6)));
    }
    words.join(", ")
}
