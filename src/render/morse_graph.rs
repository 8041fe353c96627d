//! The Morse graph as a picture, as DOT and as JSON.

use std::borrow::Borrow;
use std::fmt::Write;

use serde::Serialize;

use super::document::{SCHEMA, json};
use super::glyph;
use super::layers;
use super::palette::{self, Colour};
use super::reading::{Reading, role_word, set_name};
use super::svg::{Path, Picture, Svg, fit};
use super::words::{brief, count, percent, thousands};
use super::{RenderError, ReportInput};
use crate::artifact::Artifact;
use crate::engine::dynamics::ReducedMorseGraph;
use crate::engine::homology::ConleyIndex;
use crate::engine::{Analysis, Extent, LossSummary, MorseGraph, MorseSet, Role};

/// A picture of more Morse sets than this shows the most telling ones.
const SHOWN: usize = 25;

/// The content of `morse_graph.json`: the graph without the cells, which `analysis.json` has.
#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    id: &'a str,
    sets: Vec<Node<'a>>,
    edges: &'a [(usize, usize)],
    /// The sets that are not of trivial index, and the Hasse diagram among them.
    reduced: &'a ReducedMorseGraph,
}

#[derive(Serialize)]
struct Node<'a> {
    id: usize,
    role: Role,
    /// One string per degree; none where it is not defined.
    conley_index: Vec<String>,
    reading: String,
    cells: usize,
    volume_share: f64,
    /// What the order retraction gives to it.
    tile: Option<Extent>,
    lower: &'a [f64],
    upper: &'a [f64],
    loss: Option<LossSummary>,
    runs_ended: usize,
    runs_visited: usize,
    colour: String,
}

/// `morse_graph.json`: all Morse sets and the Hasse diagram, and which of them the pictures show.
pub(super) fn as_json(input: &ReportInput, analysis: &Analysis) -> Result<Artifact, RenderError> {
    let graph = &analysis.morse_graph;
    let colours = palette::assign(graph);
    let node = |(id, set): (usize, &'_ MorseSet)| Node {
        id,
        role: set.role,
        conley_index: set.conley_index.strings(),
        reading: set.conley_index.reading().to_string(),
        cells: set.size,
        volume_share: set.volume_share,
        tile: analysis.retraction.as_ref().and_then(|retraction| retraction.sets.get(id).copied()),
        lower: &analysis.morse_graph.sets[id].lower,
        upper: &analysis.morse_graph.sets[id].upper,
        loss: set.loss,
        runs_ended: ended(set),
        runs_visited: set.visits.len(),
        colour: palette::hex(colours[id]),
    };
    let sets = graph.sets.iter().enumerate().map(node).collect();
    let (edges, reduced) = (&graph.edges, &graph.reduced);
    json("morse_graph.json", &Document { schema: SCHEMA, id: &input.analysis_id, sets, edges, reduced })
}

/// `morse_graph.dot`: all Morse sets, for Graphviz.
pub(super) fn as_dot(graph: &MorseGraph) -> String {
    let colours = palette::assign(graph);
    let mut dot = String::from(
        "digraph morse_graph {\n  rankdir=TB;\n  node [fontname=\"sans-serif\", fontsize=11, style=filled, fillcolor=white, penwidth=2];\n",
    );
    for (id, set) in graph.sets.iter().enumerate() {
        let shape = match set.role {
            Role::Attractor => "shape=ellipse, peripheries=2",
            Role::Open => "shape=ellipse, style=\"filled,dashed\"",
            Role::Repeller => "shape=house",
            Role::Intermediate => "shape=box",
        };
        let lines = [vec![format!("{} {}", set_name(id), role_word(set.role))], facts(set)].concat();
        let _ = writeln!(
            dot,
            "  {} [{shape}, color=\"{}\", label=\"{}\"];",
            set_name(id),
            palette::hex(colours[id]),
            lines.join("\\n")
        );
    }
    for (from, to) in &graph.edges {
        let _ = writeln!(dot, "  {} -> {};", set_name(*from), set_name(*to));
    }
    let minimal: Vec<String> = (0..graph.sets.len())
        .filter(|id| graph.edges.iter().all(|(from, _)| from != id))
        .map(|id| set_name(id) + "; ")
        .collect();
    let _ = writeln!(dot, "  {{ rank=max; {}}}\n}}", minimal.concat());
    dot
}

/// Number of runs whose last checkpoint lies in a set.
pub(super) fn ended(set: &MorseSet) -> usize {
    set.visits.iter().filter(|visit| visit.ends_here).count()
}

/// What is written of a set: its runs, its loss, its size, its Conley index.
fn facts(set: &MorseSet) -> Vec<String> {
    let runs = match (ended(set), set.visits.len()) {
        (0, 0) => "no run was here".to_owned(),
        (0, visited) => format!("{} passed", count(visited, "run")),
        (ended, visited) if !matches!(set.role, Role::Attractor | Role::Open) => {
            format!("{ended} of {} still here", count(visited, "run"))
        }
        (ended, visited) if ended == visited => format!("{} ended here", count(ended, "run")),
        (ended, visited) => format!("{ended} of {visited} runs ended"),
    };
    let loss = set.loss.map(|loss| format!("loss {}, best {}", brief(loss.median), brief(loss.min)));
    let size = format!("{}, {}", count(set.size, "cell"), percent(set.volume_share));
    let index = match &set.conley_index {
        ConleyIndex::Undefined { .. } => None,
        index @ ConleyIndex::Defined { .. } => {
            Some(if index.is_trivial() { "trivial index".to_owned() } else { format!("index {index}") })
        }
    };
    [Some(runs), loss, Some(size), index].into_iter().flatten().collect()
}

/// The part of a graph that is drawn.
struct Shown {
    /// Morse sets, the most telling first.
    sets: Vec<usize>,
    /// Pairs of places in `sets`: the second can be reached from the first without passing a third.
    edges: Vec<(usize, usize)>,
}

/// The most telling sets of the reduced graph, and what can be reached from which of them, through hidden ones too.
fn shown(graph: &MorseGraph) -> Shown {
    let mut sets = palette::by_importance(graph);
    sets.retain(|set| graph.reduced.sets.binary_search(set).is_ok());
    if sets.len() <= SHOWN {
        let mut place = vec![0; graph.sets.len()];
        for (at, &set) in sets.iter().enumerate() {
            place[set] = at;
        }
        let edges = graph.reduced.edges.iter().map(|&(from, to)| (place[from], place[to])).collect();
        return Shown { sets, edges };
    }
    sets.truncate(SHOWN);
    let mut below: Vec<Vec<usize>> = vec![Vec::new(); graph.sets.len()];
    for &(from, to) in &graph.edges {
        below[from].push(to);
    }
    let reached: Vec<Vec<bool>> = sets
        .iter()
        .map(|&start| {
            let mut seen = vec![false; graph.sets.len()];
            let mut stack = below[start].clone();
            while let Some(set) = stack.pop() {
                if !std::mem::replace(&mut seen[set], true) {
                    stack.extend(&below[set]);
                }
            }
            sets.iter().map(|&set| seen[set]).collect()
        })
        .collect();
    let all = 0..sets.len();
    let between =
        |from: usize, to: usize| all.clone().any(|middle| reached[from][middle] && reached[middle][to]);
    let edges = all
        .clone()
        .flat_map(|from| all.clone().map(move |to| (from, to)))
        .filter(|&(from, to)| reached[from][to] && !between(from, to))
        .collect();
    Shown { sets, edges }
}

/// How much is written into a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detail {
    /// Name, role, runs, loss, size.
    Full,
    /// Name, runs, loss.
    Short,
    /// Name.
    Name,
}

impl Detail {
    /// As much as rows of `widest` nodes and `rows` of them leave room for.
    fn for_graph(widest: usize, rows: usize) -> Self {
        match (widest, rows) {
            (..=3, ..=5) => Self::Full,
            (..=9, ..=10) => Self::Short,
            _ => Self::Name,
        }
    }

    /// Size of a node's box.
    fn size(self) -> (f64, f64) {
        match self {
            Self::Full => (158.0, 84.0),
            Self::Short => (92.0, 54.0),
            Self::Name => (62.0, 26.0),
        }
    }

    /// Room around a box.
    fn gap(self) -> (f64, f64) {
        match self {
            Self::Full => (14.0, 46.0),
            Self::Short => (12.0, 34.0),
            Self::Name => (8.0, 30.0),
        }
    }
}

/// Least width of the picture.
const WIDTH: f64 = 520.0;

/// `morse_graph.svg`.
pub(super) fn as_picture(reading: &Reading, analysis: &Analysis) -> Picture {
    let graph = &analysis.morse_graph;
    let shown = shown(graph);
    let rows = layers::rows(shown.sets.len(), &shown.edges);
    let height = rows.iter().max().map_or(0, |row| row + 1);
    let widest = (0..height).map(|row| rows.iter().filter(|other| **other == row).count()).max().unwrap_or(0);
    let detail = Detail::for_graph(widest, height);
    let (size, gap) = (detail.size(), detail.gap());
    let layout = layers::draw(shown.sets.len(), &shown.edges, (size.0 + gap.0, size.1 + gap.1));
    let width = (layout.size.0 + 16.0).max(WIDTH);
    let left = (width - layout.size.0) / 2.0;
    let mut svg = Svg::new();
    let top = 4.0;
    svg.open("g", &[("class", &"edges"), ("transform", &format!("translate({} {})", left.round(), top))]);
    let offset = (left.round(), top);
    let height_of = |at: usize| box_size(detail, facts(&graph.sets[shown.sets[at]]).len()).1;
    for (&(from, to), route) in shown.edges.iter().zip(&layout.routes) {
        edge(&mut svg, route, (height_of(from), height_of(to)));
    }
    svg.close();
    for (&set, centre) in shown.sets.iter().zip(&layout.centres) {
        let corner = (centre.0 + offset.0 - size.0 / 2.0, centre.1 + offset.1 - size.1 / 2.0);
        node(&mut svg, (set, &graph.sets[set]), reading.colours[set], detail, corner);
    }
    let mut bottom = top + layout.size.1.max(30.0);
    if shown.sets.is_empty() {
        svg.text(
            "text",
            &[("class", &"soft mid"), ("x", &(width / 2.0)), ("y", &24.0)],
            if graph.sets.is_empty() {
                "no Morse set was found"
            } else {
                "no Morse set is sure to hold anything"
            },
        );
    }
    let (hidden, contracted) = (graph.reduced.sets.len() - shown.sets.len(), contracted(graph));
    let notes = [
        (hidden, "not shown: smaller or less visited. Arrows pass through them; morse_graph.json has all."),
        (contracted, "of trivial index contracted: arrows pass through them. They may hold nothing."),
    ];
    for (number, what) in notes.into_iter().filter(|(number, _)| *number > 0) {
        let note = format!("{} {what}", count(number, "set"));
        bottom += 16.0;
        svg.text("text", &[("class", &"small soft mid"), ("x", &(width / 2.0)), ("y", &bottom)], &note);
    }
    let drawn: Vec<&MorseSet> = graph.reduced.sets.iter().map(|&set| &graph.sets[set]).collect();
    bottom = glyph::legend(&mut svg, &roles(&drawn), (12.0, bottom + 24.0), width) + 10.0;
    svg.finish((width, bottom), describe(graph, &drawn))
}

/// Number of sets that are not in the reduced graph.
pub(super) fn contracted(graph: &MorseGraph) -> usize {
    graph.sets.len() - graph.reduced.sets.len()
}

/// The roles that occur, in the order of a legend.
pub(super) fn roles<S: Borrow<MorseSet>>(sets: &[S]) -> Vec<Role> {
    [Role::Attractor, Role::Open, Role::Intermediate, Role::Repeller]
        .into_iter()
        .filter(|role| sets.iter().any(|set| set.borrow().role == *role))
        .collect()
}

/// The graph in a sentence, for those who do not see the picture.
fn describe(graph: &MorseGraph, drawn: &[&MorseSet]) -> String {
    let counted: Vec<String> = roles(drawn)
        .into_iter()
        .map(|role| {
            let number = drawn.iter().filter(|set| set.role == role).count();
            format!("{number} {}", role_word(role))
        })
        .collect();
    let more = match contracted(graph) {
        0 => String::new(),
        number => format!(" {} of trivial index contracted.", count(number, "set")),
    };
    format!(
        "Morse graph: {} ({}), {}.{more} The table of Morse sets has the same facts.",
        count(drawn.len(), "Morse set"),
        counted.join(", "),
        count(graph.reduced.edges.len(), "arrow"),
    )
}

/// An arrow through the points of a route, from below the first box to above the last.
fn edge(svg: &mut Svg, route: &[(f64, f64)], heights: (f64, f64)) {
    let [first, middle @ .., last] = route else { return };
    let tip = (last.0, last.1 - heights.1 / 2.0 - 3.0);
    let mut path = Path::new();
    let mut at = (first.0, first.1 + heights.0 / 2.0 + 1.0);
    path.line(&[at, (at.0, at.1 + 4.0)]);
    at.1 += 4.0;
    // Through the points in between as they lie, vertical at both ends (Catmull and Rom 1974).
    let points: Vec<(f64, f64)> = [&[at][..], middle, &[(tip.0, tip.1 - 6.0)]].concat();
    let last = points.len() - 1;
    let slope = |k: usize| match k {
        0 => (0.0, 1.5 * (points[1].1 - points[0].1)),
        k if k == last => (0.0, 1.5 * (points[k].1 - points[k - 1].1)),
        k => ((points[k + 1].0 - points[k - 1].0) / 2.0, (points[k + 1].1 - points[k - 1].1) / 2.0),
    };
    for k in 0..last {
        let (from, to, leaving, arriving) = (points[k], points[k + 1], slope(k), slope(k + 1));
        path.curve(
            (from.0 + leaving.0 / 3.0, from.1 + leaving.1 / 3.0),
            (to.0 - arriving.0 / 3.0, to.1 - arriving.1 / 3.0),
            to,
        );
    }
    svg.leaf("path", &[("class", &"edge"), ("d", &path)]);
    let mut head = Path::new();
    head.polygon(&[(tip.0 - 4.5, tip.1 - 8.0), (tip.0 + 4.5, tip.1 - 8.0), tip]);
    svg.leaf("path", &[("class", &"head"), ("d", &head)]);
}

/// The size of a box with this many lines of facts.
fn box_size(detail: Detail, facts: usize) -> (f64, f64) {
    let (width, height) = detail.size();
    match detail {
        // The height is meant for three lines.
        Detail::Full => (width, height + 17.5 * (facts as f64 - 3.0)),
        Detail::Short | Detail::Name => (width, height),
    }
}

/// A box: its outline tells the role, and so do the mark and the word in it.
fn node(svg: &mut Svg, (id, set): (usize, &MorseSet), colour: Colour, detail: Detail, corner: (f64, f64)) {
    let (x, y) = corner;
    let facts = facts(set);
    let (width, height) = box_size(detail, facts.len());
    let y = y + (detail.size().1 - height) / 2.0;
    svg.open("g", &[("class", &"node")]);
    svg.text("title", &[], &format!("{}, {}: {}", set_name(id), role_word(set.role), facts.join("; ")));
    outline(svg, set.role, colour, (x, y), (width, height));
    let full = detail == Detail::Full;
    let base = y + if full { 22.0 } else { 18.0 };
    let name = set_name(id);
    match detail {
        Detail::Full => {
            glyph::mark(svg, set.role, colour, (x + 19.0, base - 5.0), 7.0);
            svg.text("text", &[("class", &"strong"), ("x", &(x + 33.0)), ("y", &base)], &name);
            let word = role_word(set.role);
            svg.text("text", &[("class", &"soft end"), ("x", &(x + width - 13.0)), ("y", &base)], word);
        }
        Detail::Short | Detail::Name => {
            glyph::mark(svg, set.role, colour, (x + 14.0, base - 5.0), 5.5);
            svg.text(
                "text",
                &[("class", &"strong"), ("x", &(x + 23.0)), ("y", &base)],
                &fit(&name, 13.0, width - 24.0),
            );
        }
    }
    let lines: Vec<String> = match detail {
        Detail::Full => facts,
        Detail::Short => {
            let runs = match (ended(set), set.visits.len()) {
                (0, 0) => "no runs".to_owned(),
                (0, passed) => format!("{} passed", thousands(passed as u64)),
                (ended, _) => format!("{} now here", thousands(ended as u64)),
            };
            let loss = set.loss.map(|loss| format!("loss {}", brief(loss.median)));
            [Some(runs), loss].into_iter().flatten().collect()
        }
        Detail::Name => Vec::new(),
    };
    let left = x + if full { 13.0 } else { 10.0 };
    for (at, line) in lines.iter().enumerate() {
        let y = base + (at as f64 + 1.0) * if full { 17.5 } else { 14.0 };
        svg.text("text", &[("class", &"small"), ("x", &left), ("y", &y)], &fit(line, 12.0, width - 20.0));
    }
    svg.close();
}

fn outline(svg: &mut Svg, role: Role, colour: Colour, (x, y): (f64, f64), (width, height): (f64, f64)) {
    let class = |kind: &str| format!("box {kind} s{colour}");
    let rounded = |svg: &mut Svg, class: &str, inset: f64| {
        svg.leaf(
            "rect",
            &[
                ("class", &class),
                ("x", &(x + inset)),
                ("y", &(y + inset)),
                ("width", &(width - 2.0 * inset)),
                ("height", &(height - 2.0 * inset)),
                ("rx", &(if height > 40.0 { 16.0 } else { 12.0 } - inset)),
            ],
        );
    };
    let polygon = |svg: &mut Svg, points: &[(f64, f64)]| {
        let mut path = Path::new();
        path.polygon(&points.iter().map(|(a, b)| (x + a, y + b)).collect::<Vec<_>>());
        svg.leaf("path", &[("class", &class("solid")), ("d", &path)]);
    };
    match role {
        Role::Attractor => {
            rounded(svg, &class("solid"), 0.0);
            rounded(svg, &class("inner"), 3.5);
        }
        Role::Open => rounded(svg, &class("dashed"), 0.0),
        Role::Intermediate => polygon(svg, &[(0.0, 0.0), (width, 0.0), (width, height), (0.0, height)]),
        Role::Repeller => {
            let cut = 12.0;
            polygon(
                svg,
                &[(cut, 0.0), (width - cut, 0.0), (width, cut), (width, height), (0.0, height), (0.0, cut)],
            );
        }
    }
}
