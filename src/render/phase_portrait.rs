//! The phase portrait: where training goes from each place, and the ways that the runs took.
//!
//! Two coordinates are drawn as they are; one against the steps; three as three projections onto two.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::cells::{Kind, Window, columns};
use super::glyph::{self, Flow};
use super::morse_graph::roles;
use super::palette::NO_SET;
use super::panel::{Coordinate, Panel, axis_name, is_named};
use super::reading::{Destination, Reading, set_name};
use super::svg::{Picture, Svg, text_width};
use super::words::{count, list, percent};
use crate::engine::{Analysis, Fate, MorseSet, Places};

const WIDTH: f64 = 520.0;
const MARGIN: (f64, f64) = (50.0, 10.0);

/// `phase_portrait.svg`.
pub(super) fn as_picture(reading: &Reading, analysis: &Analysis) -> Picture {
    let mut svg = Svg::new();
    let mut kinds = BTreeSet::new();
    let area = |top: f64, height: f64| (MARGIN.0, top, WIDTH - MARGIN.1, top + height);
    let mut top = 8.0;
    // Room below a panel for its labels.
    let below = 46.0;
    let plane = (Coordinate::Projected(0), Coordinate::Projected(1));
    match analysis.grid.lower.len() {
        0 | 1 => {
            let coordinates = (Coordinate::Step, Coordinate::Projected(0));
            Panel::new(reading, analysis, coordinates, area(top, 400.0), None, 0).draw(&mut svg, &mut kinds);
            top += 400.0 + below;
        }
        2 => {
            let whole = Panel::new(reading, analysis, plane, area(top, 400.0), None, 0);
            let Some(window) = crowded(reading, analysis) else {
                whole.draw(&mut svg, &mut kinds);
                return finish(svg, reading, analysis, &kinds, top + 400.0 + below);
            };
            let whole = whole.briefly();
            whole.draw(&mut svg, &mut kinds);
            let (left, upper, right, lower) = whole.place_of(window);
            let (width, height) = (right - left, lower - upper);
            svg.leaf(
                "rect",
                &[("class", &"lens"), ("x", &left), ("y", &upper), ("width", &width), ("height", &height)],
            );
            top += 400.0 + below + 22.0;
            svg.text("text", &[("class", &"small strong"), ("x", &MARGIN.0), ("y", &(top - 9.0))], ENLARGED);
            Panel::new(reading, analysis, plane, area(top, 300.0), Some(window), 1)
                .draw(&mut svg, &mut kinds);
            top += 300.0 + below;
        }
        _ => {
            let third = Coordinate::Projected(2);
            for (number, coordinates) in [plane, (plane.0, third), (plane.1, third)].into_iter().enumerate() {
                let panel = Panel::new(reading, analysis, coordinates, area(top, 300.0), None, number);
                panel.draw(&mut svg, &mut kinds);
                top += 300.0 + below;
            }
        }
    }
    finish(svg, reading, analysis, &kinds, top)
}

const ENLARGED: &str = "Enlarged: the dashed frame, where runs end";

fn finish(mut svg: Svg, reading: &Reading, analysis: &Analysis, kinds: &BTreeSet<Kind>, top: f64) -> Picture {
    let bottom = legend(&mut svg, reading, analysis, kinds, (12.0, top + 12.0)) + 10.0;
    svg.finish((WIDTH, bottom), describe(reading, analysis))
}

/// The part of the plane where the runs without alerts end, with the attractors that they lead to, if that is so small
/// a part that it has to be enlarged to be seen.
fn crowded(reading: &Reading, analysis: &Analysis) -> Option<Window> {
    let grid = &analysis.grid;
    let mut corners: Vec<[f64; 2]> = Vec::new();
    for run in reading.runs.iter().filter(|run| !run.stands_out()) {
        if let Some(Destination::Inside(set) | Destination::Toward(set)) = run.destination {
            let last = run.trajectory.and_then(|trajectory| trajectory.points.last());
            let ends = analysis.morse_graph.sets.get(set).map(|set| [&set.lower, &set.upper]);
            let ends = ends.into_iter().flatten().chain(last);
            corners.extend(ends.filter_map(|end| Some([*end.first()?, *end.get(1)?])));
        }
    }
    let span = |axis: usize| {
        let (low, high) = corners
            .iter()
            .map(|corner| corner[axis])
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        let cells = columns(*grid.cells_per_axis.get(axis)?);
        let cell =
            |value: f64| (value - grid.lower[axis]) / (grid.upper[axis] - grid.lower[axis]) * cells as f64;
        let (low, high) = (cell(low), cell(high));
        // A fifth more on each side, and never fewer than a dozen cells.
        let room = ((high - low) * 0.2).max((12.0 - (high - low)) / 2.0);
        let within = |value: f64| value.clamp(0.0, cells as f64) as usize;
        (low <= high).then(|| (within((low - room).floor()), within((high + room).ceil())))
    };
    let (across, up) = (span(0)?, span(1)?);
    let all: usize = grid.cells_per_axis.iter().map(|&cells| columns(cells)).product();
    let share = (across.1 - across.0) as f64 * (up.1 - up.0) as f64 / all.max(1) as f64;
    (share > 0.0 && share < 0.06).then_some((across, up))
}

/// What the colours and marks mean, of those that occur; returns the last baseline.
fn legend(
    svg: &mut Svg,
    reading: &Reading,
    analysis: &Analysis,
    kinds: &BTreeSet<Kind>,
    corner: (f64, f64),
) -> f64 {
    let mut flow = Flow::new(corner, WIDTH);
    let mut item = |svg: &mut Svg, text: &str, draw: &dyn Fn(&mut Svg, f64, f64)| {
        let (x, y) = flow.place(24.0 + text_width(text, 12.0));
        draw(svg, x, y);
        svg.text("text", &[("class", &"small"), ("x", &(x + 21.0)), ("y", &y)], text);
    };
    let swatch = |svg: &mut Svg, x: f64, y: f64, class: &str, fill: Option<&str>| {
        let class = format!("swatch {class}");
        let (y, fill) = (y - 10.0, fill.unwrap_or_default());
        let mut attributes: Vec<(&'static str, &dyn super::svg::Value)> =
            vec![("class", &class), ("x", &x), ("y", &y), ("width", &15.0), ("height", &12.0)];
        if !fill.is_empty() {
            attributes.push(("fill", &fill));
        }
        svg.leaf("rect", &attributes);
    };
    let sets = &analysis.morse_graph.sets;
    let (mut others, mut passing) = (false, false);
    for kind in kinds {
        match kind {
            Kind::Basin(set) if reading.colours[*set] != NO_SET => {
                let text = format!("leads to {}", set_name(*set));
                let class = format!("t{}", reading.colours[*set]);
                item(svg, &text, &|svg, x, y| swatch(svg, x, y, &class, None));
            }
            Kind::Basin(_) if !others => {
                others = true;
                let class = format!("t{NO_SET}");
                item(svg, "leads to another attractor", &|svg, x, y| swatch(svg, x, y, &class, None));
            }
            Kind::Undecided => {
                item(svg, "undecided", &|svg, x, y| swatch(svg, x, y, "undecided", None));
            }
            Kind::Mixed => {
                item(svg, "differs in depth", &|svg, x, y| swatch(svg, x, y, "undecided", None));
            }
            Kind::Escapes => {
                item(svg, "may leave what is known", &|svg, x, y| {
                    // Patterns are in pixels of the panel that they fill; here a few dots do.
                    swatch(svg, x, y, "undecided", None);
                    let dots = format!("M{:.1} {:.1}h0m4 4h0m4-4h0m-8 6h0m8 0h0", x + 3.5, y - 7.0);
                    svg.leaf("path", &[("class", &"dots"), ("d", &dots)]);
                });
            }
            Kind::Untrusted => {
                item(svg, "not trusted: too far from data", &|svg, x, y| {
                    swatch(svg, x, y, "empty", None);
                    let lines = format!("M{:.1} {:.1}l8-8m-1 11l8-8", x + 1.0, y - 1.5);
                    svg.leaf("path", &[("class", &"hatch"), ("d", &lines)]);
                });
            }
            Kind::Set(set) if !passing && !is_named(&sets[*set]) => {
                passing = true;
                let class = format!("f{}", reading.colours[*set]);
                item(svg, "recurs on this grid, may hold nothing", &|svg, x, y| {
                    swatch(svg, x, y, &class, None);
                });
            }
            Kind::Basin(_) | Kind::Set(_) => {}
        }
    }
    item(svg, "first checkpoint", &|svg, x, y| {
        svg.leaf("circle", &[("class", &"first"), ("cx", &(x + 8.0)), ("cy", &(y - 4.0)), ("r", &2.6)]);
    });
    item(svg, "last, coloured by where it leads", &|svg, x, y| {
        svg.leaf("circle", &[("class", &"last f6"), ("cx", &(x + 8.0)), ("cy", &(y - 4.0)), ("r", &3.6)]);
    });
    if reading.runs.iter().any(|run| run.stands_out() && run.trajectory.is_some()) {
        item(svg, "run with an alert, ring where it opened", &|svg, x, y| {
            svg.leaf("path", &[("class", &"path loud"), ("d", &format!("M{x:.1} {:.1}h16", y - 4.0))]);
            svg.leaf("circle", &[("class", &"alarm"), ("cx", &(x + 8.0)), ("cy", &(y - 4.0)), ("r", &4.5)]);
        });
    }
    if reading.runs.iter().any(|run| run.destination == Some(Destination::Lost)) {
        item(svg, "last usable checkpoint of a run that diverged", &|svg, x, y| {
            let cross = format!("M{:.1} {:.1}l8 8m0-8l-8 8", x + 4.0, y - 8.0);
            svg.leaf("path", &[("class", &"lost"), ("d", &cross)]);
        });
    }
    let below = flow.baseline() + 19.0;
    let named: Vec<&MorseSet> = sets.iter().filter(|set| is_named(set)).collect();
    glyph::legend(svg, &roles(&named), (corner.0, below), WIDTH)
}

/// The picture in a few sentences, for those who do not see it.
fn describe(reading: &Reading, analysis: &Analysis) -> String {
    let axes: Vec<String> = (0..analysis.grid.lower.len()).map(|axis| axis_name(analysis, axis)).collect();
    let mut text = format!(
        "Phase portrait of {} over {}.",
        count(analysis.trajectories.len(), "run"),
        axes.join(" and ")
    );
    let places = Places::of(&analysis.grid);
    for &(set, ..) in &analysis.basins.sizes {
        let mut first = 0;
        let mut share = 0.0;
        for &(fate, length) in &analysis.basins.fates {
            if fate == Fate::Certain(set) {
                share += places.volume_share([(first, length)]);
            }
            first += length;
        }
        let _ = write!(text, " From {} of the area every path ends in {}.", percent(share), set_name(set));
    }
    let loud: Vec<&str> = reading.runs.iter().filter(|run| run.stands_out()).map(|run| run.name).collect();
    if !loud.is_empty() {
        let _ = write!(text, " Runs with alerts: {}.", list(&loud, 6));
    }
    text
}
