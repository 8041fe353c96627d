//! Where random paths of the map lead, in words.

use std::collections::BTreeMap;

use super::reading::{Run, set_name};
use super::words::{figure, list, percent};
use crate::engine::{End, Forecast};

/// Ends that are named; the rest is left out.
const MOST_ENDS: usize = 3;

/// What an end is called.
fn name(end: End) -> String {
    match end {
        End::Attractor(set) => format!("in {}", set_name(set)),
        End::Exit => "outside the picture".to_owned(),
        End::Unknown => "where the map is not trusted".to_owned(),
        End::Undecided => "nowhere yet".to_owned(),
    }
}

/// The ends of one run's paths, the likeliest first, with standard errors.
pub(super) fn chances(forecast: &Forecast) -> String {
    let mut ends = forecast.ends.clone();
    ends.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    let words: Vec<String> = ends
        .iter()
        .take(MOST_ENDS)
        .map(|e| format!("{} {} \u{b1} {}", name(e.end), percent(e.probability), percent(e.standard_error)))
        .collect();
    list(&words, MOST_ENDS)
}

/// How far it is to an attractor and what loss is to be expected there, if paths of these runs come to it.
pub(super) fn ahead(runs: &[&Run], set: usize) -> Option<String> {
    let ends = runs.iter().filter_map(|run| run.forecast).flat_map(|forecast| &forecast.ends);
    let (mut paths, mut lags, mut losses, mut known) = (0.0, 0.0, 0.0, 0.0);
    for ending in ends.filter(|ending| ending.end == End::Attractor(set) && ending.lags > 0.0) {
        let weight = ending.paths as f64;
        paths += weight;
        lags += weight * ending.lags;
        if let Some(loss) = ending.loss {
            losses += weight * loss;
            known += weight;
        }
    }
    (paths > 0.0).then(|| {
        let loss =
            if known > 0.0 { format!(", loss {} to expect", figure(losses / known)) } else { String::new() };
        format!("about {} to go{loss}", lags_in_words(lags / paths))
    })
}

fn lags_in_words(lags: f64) -> String {
    match lags.round() {
        one if one <= 1.0 => "one lag".to_owned(),
        more => format!("{more:.0} lags"),
    }
}

/// The ends of several runs' paths taken together, each run with the same weight, the likeliest first.
pub(super) fn together(runs: &[&Run]) -> Option<String> {
    let forecasts: Vec<&Forecast> = runs.iter().filter_map(|run| run.forecast).collect();
    let mut shares: BTreeMap<End, f64> = BTreeMap::new();
    for ending in forecasts.iter().flat_map(|forecast| &forecast.ends) {
        *shares.entry(ending.end).or_default() += ending.probability / forecasts.len() as f64;
    }
    let mut shares: Vec<(End, f64)> = shares.into_iter().collect();
    shares.sort_by(|a, b| b.1.total_cmp(&a.1));
    let words: Vec<String> = shares
        .iter()
        .take(MOST_ENDS)
        .map(|(end, share)| format!("{} ({})", name(*end), percent(*share)))
        .collect();
    (!words.is_empty()).then(|| format!("random paths of the map end {}", list(&words, MOST_ENDS)))
}
