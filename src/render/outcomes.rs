//! Where runs end, and what the Morse sets are, as tables.

use serde::Serialize;

use super::forecast;
use super::glyph;
use super::morse_graph::ended;
use super::palette::{self, Colour};
use super::reading::{Destination, Reading, Run, role_word, set_name};
use super::svg::{Path, Svg};
use super::words::{count, figure, list, percent, thousands};
use crate::engine::dynamics::Existence;
use crate::engine::homology::ConleyIndex;
use crate::engine::{Analysis, Extent, Retraction, Role};

/// A destination with its runs.
#[derive(Serialize)]
pub(super) struct End {
    mark: String,
    name: String,
    meaning: String,
    count: String,
    dots: String,
    loss: String,
    some: String,
    more: String,
}

/// A Morse set.
#[derive(Serialize)]
pub(super) struct SetRow {
    mark: String,
    name: String,
    role: &'static str,
    /// The Conley index, and what it is like.
    index: String,
    reading: String,
    cells: String,
    share: String,
    /// Share of the cells that the order retraction gives to it.
    tile: String,
    median: String,
    best: String,
    visited: usize,
    ended: usize,
    below: String,
}

/// Where a run is and can go, in a few words.
pub(super) fn place(run: &Run) -> String {
    let passed = run.trajectory.and_then(|trajectory| trajectory.morse_sets.last().copied().flatten());
    let goes = match run.destination {
        Some(Destination::Inside(set)) => return format!("in {}", set_name(set)),
        Some(Destination::Toward(set)) => match forecast::ahead(&[run], set) {
            Some(ahead) => format!("on the way to {}, {ahead}", set_name(set)),
            None => format!("on the way to {}", set_name(set)),
        },
        Some(Destination::Undecided) => with_chances("undecided", run),
        Some(Destination::Escapes) => with_chances("may leave what is known", run),
        Some(Destination::Untrusted) => "too far from the others to say".to_owned(),
        Some(Destination::Outside) => "outside the picture".to_owned(),
        Some(Destination::Lost) => return "diverged".to_owned(),
        None => "not in the picture".to_owned(),
    };
    match passed {
        Some(set) => format!("in {}, {goes}", set_name(set)),
        None => goes,
    }
}

/// Words on a run that may end in several places, with where its paths do.
fn with_chances(words: &str, run: &Run) -> String {
    match run.forecast.filter(|forecast| !forecast.ends.is_empty()) {
        Some(forecast) => format!("{words}: {}", forecast::chances(forecast)),
        None => words.to_owned(),
    }
}

/// The loss at a run's end: of its last checkpoint where known, else the last logged one.
pub(super) fn last_loss(run: &Run) -> Option<f64> {
    let evaluated = run.view.and_then(|view| view.evaluated_losses.last()).map(|(_, loss)| *loss);
    let checkpoint = || run.trajectory.and_then(|trajectory| trajectory.losses.last().copied().flatten());
    let logged = || run.view.and_then(|view| view.logged_losses.last()).map(|(_, loss)| *loss);
    // A run that broke off is not flattered by what its last good checkpoint had.
    match logged() {
        Some(loss) if !loss.is_finite() => Some(loss),
        logged => evaluated.or_else(checkpoint).or(logged),
    }
}

/// What runs have in common that are listed on one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Set(usize),
    Elsewhere(Destination),
    Nowhere,
}

/// The destinations, Morse sets with the most runs first.
pub(super) fn ends(reading: &Reading) -> Vec<End> {
    let Some(analysis) = reading.analysis() else { return Vec::new() };
    let mut groups: std::collections::BTreeMap<Group, Vec<&Run>> = std::collections::BTreeMap::new();
    for run in &reading.runs {
        let group = match run.destination {
            Some(Destination::Inside(set) | Destination::Toward(set)) => Group::Set(set),
            Some(other) => Group::Elsewhere(other),
            None => Group::Nowhere,
        };
        groups.entry(group).or_default().push(run);
    }
    let mut groups: Vec<(Group, Vec<&Run>)> = groups.into_iter().collect();
    groups.sort_by_key(|(group, runs)| match group {
        Group::Set(_) => (0, usize::MAX - runs.len()),
        _ => (1, 0),
    });
    groups
        .into_iter()
        .map(|(group, runs)| {
            let (mark, name, meaning, colour) = match group {
                Group::Set(set) => {
                    let role = analysis.morse_graph.sets.get(set).map_or(Role::Open, |set| set.role);
                    let inside =
                        runs.iter().filter(|run| run.destination == Some(Destination::Inside(set))).count();
                    let meaning = match runs.len() - inside {
                        0 => "inside at the last checkpoint".to_owned(),
                        under_way if inside == 0 => {
                            format!("{} on the way", if under_way == 1 { "one" } else { "all" })
                        }
                        under_way => format!("{inside} inside, {under_way} on the way"),
                    };
                    let under_way: Vec<&Run> = runs
                        .iter()
                        .copied()
                        .filter(|run| run.destination == Some(Destination::Toward(set)))
                        .collect();
                    let meaning = match forecast::ahead(&under_way, set) {
                        Some(ahead) => format!("{meaning}: {ahead}"),
                        None => meaning,
                    };
                    let colour = reading.colours[set];
                    (icon(role, colour), format!("{} {}", role_word(role), set_name(set)), meaning, colour)
                }
                Group::Elsewhere(destination) => {
                    let (name, meaning) = match destination {
                        Destination::Undecided => {
                            ("undecided", "several attractors can be reached from there")
                        }
                        Destination::Escapes => {
                            ("may leave what is known", "the trusted region can be left from there")
                        }
                        Destination::Untrusted => ("too far from the others", "the map is not trusted there"),
                        Destination::Lost => ("diverged", "where it was last tells nothing of its end"),
                        _ => ("outside", "beyond the edge of the picture"),
                    };
                    let open = matches!(destination, Destination::Undecided | Destination::Escapes);
                    let meaning = match forecast::together(&runs).filter(|_| open) {
                        Some(paths) => format!("{meaning}; {paths}"),
                        None => meaning.to_owned(),
                    };
                    (String::new(), name.to_owned(), meaning, palette::NO_SET)
                }
                Group::Nowhere => {
                    let meaning = "too few or no usable checkpoints";
                    (String::new(), "not in the picture".to_owned(), meaning.to_owned(), palette::NO_SET)
                }
            };
            // Names worth reading first: those of runs that stand out.
            let mut names: Vec<&str> =
                runs.iter().filter(|run| run.stands_out()).map(|run| run.name).collect();
            names.extend(runs.iter().filter(|run| !run.stands_out()).map(|run| run.name));
            let long = names.len() > 4;
            End {
                mark,
                name,
                meaning,
                count: count(runs.len(), "run"),
                dots: dots(&runs, colour),
                loss: losses(&runs),
                some: list(&names, if long { 3 } else { 4 }),
                more: if long { names.join(", ") } else { String::new() },
            }
        })
        .collect()
}

fn losses(runs: &[&Run]) -> String {
    let all: Vec<f64> = runs.iter().filter_map(|run| last_loss(run)).collect();
    let mut finite: Vec<f64> = all.iter().copied().filter(|loss| loss.is_finite()).collect();
    finite.sort_by(f64::total_cmp);
    let broken = all.len() - finite.len();
    let text = match finite.as_slice() {
        [] => String::new(),
        [one] => figure(*one),
        [low, .., high] => {
            format!("{} ({} to {})", figure(finite[(finite.len() - 1) / 2]), figure(*low), figure(*high))
        }
    };
    match (text.is_empty(), broken) {
        (true, 0) => "unknown".to_owned(),
        (false, 0) => text,
        (true, _) => "not finite".to_owned(),
        (false, broken) => format!("{text}; {broken} not finite"),
    }
}

/// A dot for each run, those that stand out first and in the colour of alerts; a bar where they are too many.
fn dots(runs: &[&Run], colour: Colour) -> String {
    const PER_ROW: usize = 25;
    const PITCH: f64 = 11.0;
    let loud = runs.iter().filter(|run| run.stands_out()).count();
    let quiet = runs.len() - loud;
    if runs.len() > 400 {
        return String::new();
    }
    let columns = runs.len().min(PER_ROW);
    let rows = runs.len().div_ceil(PER_ROW);
    let place = |at: usize| ((at % PER_ROW) as f64 * PITCH + 5.0, (at / PER_ROW) as f64 * PITCH + 5.0);
    let path = |from: usize, to: usize| {
        let mut path = Path::new();
        for at in from..to {
            path.line(&[place(at)]);
        }
        path
    };
    let mut svg = Svg::new();
    if loud > 0 {
        svg.leaf("path", &[("class", &"dot loud"), ("d", &path(0, loud))]);
    }
    svg.leaf("path", &[("class", &format!("dot s{colour}")), ("d", &path(loud, runs.len()))]);
    let size = (columns as f64 * PITCH, rows as f64 * PITCH);
    let label = match loud {
        0 => count(quiet, "run"),
        _ => format!("{}, {loud} with alerts", count(runs.len(), "run")),
    };
    svg.finish(size, label).inline().replacen("<svg ", "<svg class=\"dots\" ", 1)
}

/// The mark of a role beside a name.
fn icon(role: Role, colour: Colour) -> String {
    let mut svg = Svg::new();
    glyph::mark(&mut svg, role, colour, (9.0, 9.0), 7.0);
    svg.finish((18.0, 18.0), role_word(role)).inline().replacen("<svg ", "<svg class=\"mark-icon\" ", 1)
}

/// The Morse sets, the most telling first, at most `limit`; and a word on the others.
pub(super) fn sets(reading: &Reading, limit: usize) -> (Vec<SetRow>, String) {
    let Some(analysis) = reading.analysis() else { return (Vec::new(), String::new()) };
    let graph = &analysis.morse_graph;
    let mut below: Vec<Vec<String>> = vec![Vec::new(); graph.sets.len()];
    for &(from, to) in &graph.edges {
        below[from].push(set_name(to));
    }
    let dash = || "\u{2013}".to_owned();
    let tile = |id: usize| analysis.retraction.as_ref()?.sets.get(id);
    let rows = palette::by_importance(graph).into_iter().take(limit).map(|id| {
        let set = &graph.sets[id];
        SetRow {
            mark: icon(set.role, reading.colours[id]),
            name: set_name(id),
            role: role_word(set.role),
            index: set.conley_index.to_string(),
            reading: match set.conley_index {
                ConleyIndex::Undefined { reason } => reason.to_string(),
                ConleyIndex::Defined { .. } => set.conley_index.reading().to_string(),
            },
            cells: thousands(set.size as u64),
            share: percent(set.volume_share),
            tile: tile(id).filter(|tile| tile.cells > 0).map_or_else(dash, |tile| percent(tile.volume_share)),
            median: set.loss.map_or_else(dash, |loss| figure(loss.median)),
            best: set.loss.map_or_else(dash, |loss| figure(loss.min)),
            visited: set.visits.len(),
            ended: ended(set),
            below: if below[id].is_empty() { dash() } else { list(&below[id], 6) },
        }
    });
    let more = graph.sets.len().saturating_sub(limit);
    let left_out = if more > 0 {
        format!("{} more; morse_graph.json has all.", count(more, "set"))
    } else {
        String::new()
    };
    (rows.collect(), left_out)
}

/// Tiles that are named in words; of more it tells the number.
const MOST_TILES: usize = 6;

/// Whether every cell can be given to the Morse set that organises it, and how much each gets.
pub(super) fn retraction(analysis: &Analysis) -> String {
    let Some(Retraction { existence, sets, escape, uncoloured, .. }) = &analysis.retraction else {
        return "It was not sought which Morse set organises which cell: there are too many sets in too wide an order."
            .to_owned();
    };
    let left_over =
        format!("{} ({} of the picture)", count(uncoloured.cells, "cell"), percent(uncoloured.volume_share));
    let found = match existence {
        Existence::Found => {
            "Every cell can be given to the Morse set that organises it, so that paths lead to the same set or to those below."
                .to_owned()
        }
        Existence::Impossible => format!(
            "Not every cell can be given to a Morse set so that paths lead to the same set or to those below; left over: {left_over}."
        ),
        Existence::Unknown => format!(
            "Whether every cell can be given to the Morse set that organises it is not known: the search was given up; left over: {left_over}."
        ),
    };
    let mut tiles: Vec<(usize, &Extent)> =
        sets.iter().enumerate().filter(|(_, tile)| tile.cells > 0).collect();
    tiles.sort_by_key(|&(set, tile)| (std::cmp::Reverse(tile.cells), set));
    let share = |(set, tile): &(usize, &Extent)| {
        format!("{} belongs to {}", percent(tile.volume_share), set_name(*set))
    };
    let mut shares: Vec<String> = tiles.iter().map(share).collect();
    if escape.cells > 0 {
        shares.insert(0, format!("{} only leads out of what is known", percent(escape.volume_share)));
    }
    if shares.is_empty() { found } else { format!("{found} Of the picture {}.", list(&shares, MOST_TILES)) }
}
