//! The phase portrait: where training goes from each place, and the ways that the runs took.
//!
//! Two coordinates are drawn as they are; one against the steps; three as three projections onto two.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::axis::Axis;
use super::cells::{Cells, Kind};
use super::glyph::{self, Flow};
use super::labels::Labels;
use super::morse_graph::roles;
use super::palette::NO_SET;
use super::reading::{Reading, Run, Standing, set_name};
use super::svg::{Path, Picture, Svg, text_width};
use super::thin::simplified;
use super::words::{count, percent};
use crate::engine::{Analysis, MorseSet};

const WIDTH: f64 = 520.0;
const MARGIN: (f64, f64) = (50.0, 10.0);

/// What one coordinate of a panel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coordinate {
    /// The trainer's step.
    Step,
    /// A coordinate of the projection.
    Projected(usize),
}

/// One drawing within the picture.
struct Panel<'a> {
    reading: &'a Reading<'a>,
    analysis: &'a Analysis,
    coordinates: (Coordinate, Coordinate),
    axes: (Axis, Axis),
    /// Left, top, right, bottom.
    area: (f64, f64, f64, f64),
    /// Distinguishes the names of this panel's patterns from those of others.
    number: usize,
}

/// `phase_portrait.svg`.
pub(super) fn as_picture(reading: &Reading, analysis: &Analysis) -> Picture {
    let panels: &[(Coordinate, Coordinate)] = match analysis.grid.lower.len() {
        0 | 1 => &[(Coordinate::Step, Coordinate::Projected(0))],
        2 => &[(Coordinate::Projected(0), Coordinate::Projected(1))],
        _ => &[
            (Coordinate::Projected(0), Coordinate::Projected(1)),
            (Coordinate::Projected(0), Coordinate::Projected(2)),
            (Coordinate::Projected(1), Coordinate::Projected(2)),
        ],
    };
    let height = if panels.len() == 1 { 400.0 } else { 300.0 };
    let mut svg = Svg::new();
    let mut top = 8.0;
    let mut kinds = BTreeSet::new();
    for (number, &coordinates) in panels.iter().enumerate() {
        let area = (MARGIN.0, top, WIDTH - MARGIN.1, top + height);
        let panel = Panel::new(reading, analysis, coordinates, area, number);
        panel.draw(&mut svg, &mut kinds);
        top = area.3 + 46.0;
    }
    let bottom = legend(&mut svg, reading, analysis, &kinds, (12.0, top + 12.0)) + 10.0;
    svg.finish((WIDTH, bottom), describe(reading, analysis))
}

impl<'a> Panel<'a> {
    fn new(
        reading: &'a Reading<'a>,
        analysis: &'a Analysis,
        coordinates: (Coordinate, Coordinate),
        area: (f64, f64, f64, f64),
        number: usize,
    ) -> Self {
        let axis = |coordinate: Coordinate, pixels: (f64, f64)| match coordinate {
            Coordinate::Step => {
                let steps = analysis.trajectories.iter().flat_map(|trajectory| &trajectory.steps);
                let (first, last) = steps.fold((u64::MAX, 0), |(low, high), &s| (low.min(s), high.max(s)));
                Axis::linear(first.min(last) as f64, last as f64, pixels)
            }
            Coordinate::Projected(at) => {
                let of = |corner: &[f64]| corner.get(at).copied().unwrap_or(0.0);
                Axis::linear(of(&analysis.grid.lower), of(&analysis.grid.upper), pixels)
            }
        };
        let axes = (axis(coordinates.0, (area.0, area.2)), axis(coordinates.1, (area.3, area.1)));
        Self { reading, analysis, coordinates, axes, area, number }
    }

    fn draw(&self, svg: &mut Svg, kinds: &mut BTreeSet<Kind>) {
        let (left, top, right, bottom) = self.area;
        let clip = format!("plot{}", self.number);
        svg.open("clipPath", &[("id", &clip)]);
        svg.leaf(
            "rect",
            &[("x", &left), ("y", &top), ("width", &(right - left)), ("height", &(bottom - top))],
        );
        svg.close();
        svg.open("g", &[("clip-path", &format!("url(#{clip})"))]);
        self.cells(svg, kinds);
        self.paths(svg);
        svg.close();
        self.frame(svg);
        let mut labels = Labels::within(self.area);
        self.points(svg, false);
        self.sets(svg, &mut labels);
        self.points(svg, true);
        self.names(svg, &mut labels);
    }

    /// Basins in tints, Morse sets in full colour, hatched where nothing is known.
    fn cells(&self, svg: &mut Svg, kinds: &mut BTreeSet<Kind>) {
        let (left, top, right, bottom) = self.area;
        let axis = |coordinate| match coordinate {
            Coordinate::Step => None,
            Coordinate::Projected(at) => Some(at),
        };
        let cells = Cells::of(self.analysis, axis(self.coordinates.0), axis(self.coordinates.1));
        let scale = (
            (right - left) / cells.raster.size.0.max(1) as f64,
            (bottom - top) / cells.raster.size.1.max(1) as f64,
        );
        let back = format!("scale({:.6} {:.6})", 1.0 / scale.0, 1.0 / scale.1);
        for (name, ground, class, data) in [
            ("untrusted", "page", "hatch", "M-2 10L10-2M-2 18L18-2"),
            ("escapes", "undecided", "dots", "M2 2h0M6 6h0"),
        ] {
            let id = format!("{name}{}", self.number);
            svg.open(
                "pattern",
                &[
                    ("id", &id),
                    ("width", &8.0),
                    ("height", &8.0),
                    ("patternUnits", &"userSpaceOnUse"),
                    ("patternTransform", &back),
                ],
            );
            svg.leaf("rect", &[("class", &ground), ("width", &8.0), ("height", &8.0)]);
            svg.leaf("path", &[("class", &class), ("d", &data)]);
            svg.close();
        }
        let transform = format!("translate({} {}) scale({:.6} {:.6})", left, top, scale.0, scale.1);
        svg.open("g", &[("class", &"cells"), ("transform", &transform)]);
        for (kind, data) in cells.outlines() {
            kinds.insert(kind);
            let title = kind.title(self.analysis);
            let (class, fill) = match kind {
                Kind::Basin(set) => (format!("t{}", self.reading.colours[set]), None),
                Kind::Set(set) => (format!("f{}", self.reading.colours[set]), None),
                Kind::Undecided | Kind::Mixed => ("undecided".to_owned(), None),
                Kind::Escapes => ("escapes".to_owned(), Some(format!("url(#escapes{})", self.number))),
                Kind::Untrusted => ("untrusted".to_owned(), Some(format!("url(#untrusted{})", self.number))),
            };
            match fill {
                Some(fill) => svg.titled("path", &[("class", &class), ("fill", &fill), ("d", &data)], &title),
                None => svg.titled("path", &[("class", &class), ("d", &data)], &title),
            }
        }
        svg.close();
    }

    /// The pixels of a run's points.
    fn pixels(&self, run: &Run) -> Vec<(f64, f64)> {
        let Some(trajectory) = run.trajectory else { return Vec::new() };
        let value = |coordinate: Coordinate, step: u64, point: &[f64]| match coordinate {
            Coordinate::Step => step as f64,
            Coordinate::Projected(at) => point.get(at).copied().unwrap_or(0.0),
        };
        let steps = trajectory.steps.iter().zip(&trajectory.points);
        steps
            .map(|(&step, point)| {
                let x = self.axes.0.position(value(self.coordinates.0, step, point));
                let y = self.axes.1.position(value(self.coordinates.1, step, point));
                (x, y)
            })
            .collect()
    }

    /// The runs' ways: quiet ones first, those with alerts upon them.
    fn paths(&self, svg: &mut Svg) {
        for loud in [false, true] {
            let few = self.reading.runs.len() <= 3;
            for run in self.reading.runs.iter().filter(|run| run.stands_out() == loud) {
                let mut path = Path::new();
                let mut length = 0.0;
                for stretch in self.visible(&self.pixels(run)) {
                    length += stretch.windows(2).map(|ends| distance(ends[0], ends[1])).sum::<f64>();
                    path.line(&simplified(&stretch, 0.35));
                }
                // A way that is many times as long as the picture covers what lies below it: it becomes faint.
                let dense = length > 12.0 * WIDTH;
                let class = match (loud, dense) {
                    (true, true) => "path loud dense",
                    (true, false) => "path loud",
                    (false, _) if few => "path few",
                    (false, _) => "path",
                };
                if !path.is_empty() {
                    svg.titled("path", &[("class", &class), ("d", &path)], run.name);
                }
            }
        }
    }

    /// The stretches of a path that start, end or stay in the picture. A run that jumps about far outside would else
    /// cross it from edge to edge, again and again, where it never was.
    fn visible(&self, pixels: &[(f64, f64)]) -> Vec<Vec<(f64, f64)>> {
        let seen = |a: &(f64, f64), b: &(f64, f64)| self.inside(a) || self.inside(b);
        let stretches =
            pixels.chunk_by(seen).filter(|stretch| stretch.iter().any(|point| self.inside(point)));
        stretches.map(<[(f64, f64)]>::to_vec).collect()
    }

    fn frame(&self, svg: &mut Svg) {
        let (left, top, right, bottom) = self.area;
        svg.leaf(
            "rect",
            &[
                ("class", &"frame"),
                ("x", &left),
                ("y", &top),
                ("width", &(right - left)),
                ("height", &(bottom - top)),
            ],
        );
        let ticks = |coordinate: Coordinate, axis: &Axis| match coordinate {
            Coordinate::Step => axis.step_ticks(5),
            Coordinate::Projected(_) => axis.ticks(5),
        };
        for (value, label) in ticks(self.coordinates.0, &self.axes.0) {
            let x = self.axes.0.position(value);
            svg.leaf("path", &[("class", &"tick"), ("d", &format!("M{x:.1} {bottom:.1}v4"))]);
            svg.text("text", &[("class", &"small soft mid"), ("x", &x), ("y", &(bottom + 16.0))], &label);
        }
        for (value, label) in ticks(self.coordinates.1, &self.axes.1) {
            let y = self.axes.1.position(value);
            svg.leaf("path", &[("class", &"tick"), ("d", &format!("M{left:.1} {y:.1}h-4"))]);
            svg.text(
                "text",
                &[("class", &"small soft end"), ("x", &(left - 7.0)), ("y", &(y + 4.0))],
                &label,
            );
        }
        let name = |coordinate: Coordinate| match coordinate {
            Coordinate::Step => "step".to_owned(),
            Coordinate::Projected(at) => axis_name(self.analysis, at),
        };
        let middle = f64::midpoint(left, right);
        let across = name(self.coordinates.0);
        svg.text("text", &[("class", &"small mid"), ("x", &middle), ("y", &(bottom + 34.0))], &across);
        let turn = format!("translate(13 {}) rotate(-90)", f64::midpoint(top, bottom));
        svg.text("text", &[("class", &"small mid"), ("transform", &turn)], &name(self.coordinates.1));
    }

    /// A mark and a name on each Morse set that is worth one.
    fn sets(&self, svg: &mut Svg, labels: &mut Labels) {
        let graph = &self.analysis.morse_graph;
        let order = super::palette::by_importance(graph);
        let mut anchors: Vec<(usize, (f64, f64))> = Vec::new();
        for &set in order.iter().take(12) {
            if let Some(place) = self.anchor(&graph.sets[set]) {
                labels.avoid(place, 8.0);
                anchors.push((set, place));
            }
        }
        for &(set, place) in anchors.iter().rev() {
            let role = graph.sets[set].role;
            glyph::mark(svg, role, self.reading.colours[set], place, 6.0);
        }
        for (set, place) in anchors {
            let must = self.reading.colours[set] != NO_SET;
            labels.write(svg, "strong", &set_name(set), place, must);
        }
    }

    /// A place within a Morse set: the middle of its cell that is nearest to the middle of all of them.
    fn anchor(&self, set: &MorseSet) -> Option<(f64, f64)> {
        let grid = &self.analysis.grid;
        let centre = |cell: usize| {
            let mut rest = cell;
            let mut point = vec![0.0; grid.cells_per_axis.len()];
            for (at, &cells) in grid.cells_per_axis.iter().enumerate().rev() {
                let width = (grid.upper[at] - grid.lower[at]) / cells.max(1) as f64;
                point[at] = grid.lower[at] + ((rest % cells.max(1)) as f64 + 0.5) * width;
                rest /= cells.max(1);
            }
            let along = |coordinate: Coordinate, axis: &Axis, room: (f64, f64)| match coordinate {
                Coordinate::Step => room.1 - 12.0,
                Coordinate::Projected(at) => axis.position(point[at]),
            };
            (
                along(self.coordinates.0, &self.axes.0, (self.area.0, self.area.2)),
                along(self.coordinates.1, &self.axes.1, (self.area.1, self.area.3)),
            )
        };
        let cells: Vec<(f64, f64)> =
            set.cells.iter().flat_map(|&(first, length)| first..first + length).map(centre).collect();
        let number = cells.len() as f64;
        let mean =
            cells.iter().fold((0.0, 0.0), |sum, cell| (sum.0 + cell.0 / number, sum.1 + cell.1 / number));
        let far = |cell: &(f64, f64)| (cell.0 - mean.0).hypot(cell.1 - mean.1);
        cells.into_iter().min_by(|a, b| far(a).total_cmp(&far(b)))
    }

    fn inside(&self, point: &(f64, f64)) -> bool {
        let (left, top, right, bottom) = self.area;
        (left..=right).contains(&point.0) && (top..=bottom).contains(&point.1)
    }

    /// First and last points, of the quiet runs or of those that stand out; with the rings of their alerts.
    fn points(&self, svg: &mut Svg, loud: bool) {
        for run in self.reading.runs.iter().filter(|run| run.stands_out() == loud) {
            let pixels = self.pixels(run);
            if let Some(first) = pixels.first().filter(|first| self.inside(first)) {
                let class = if loud { "first loud" } else { "first" };
                svg.leaf("circle", &[("class", &class), ("cx", &first.0), ("cy", &first.1), ("r", &2.4)]);
            }
            if let Some(last) = pixels.last().filter(|last| self.inside(last)) {
                let colour = self.reading.colour(run.destination);
                let class = if loud { "last alerted".to_owned() } else { format!("last f{colour}") };
                svg.titled(
                    "circle",
                    &[("class", &class), ("cx", &last.0), ("cy", &last.1), ("r", &3.4)],
                    run.name,
                );
            }
            self.alarms(svg, run, &pixels);
        }
    }

    /// The names of the runs that stand out.
    fn names(&self, svg: &mut Svg, labels: &mut Labels) {
        let mut loud: Vec<&Run> = self.reading.runs.iter().filter(|run| run.stands_out()).collect();
        loud.sort_by_key(|run| (std::cmp::Reverse(run.standing), run.name));
        for run in loud.into_iter().take(12) {
            if let Some(place) = self.exit(svg, &self.pixels(run)) {
                labels.write(svg, "loud", run.name, place, run.standing > Standing::Watch);
            }
        }
    }

    /// Rings where alerts opened.
    fn alarms(&self, svg: &mut Svg, run: &Run, pixels: &[(f64, f64)]) {
        let Some(trajectory) = run.trajectory else { return };
        let mut rung: Vec<(u64, Vec<&str>)> = Vec::new();
        for alert in &run.alerts {
            match rung.iter_mut().find(|(step, _)| *step == alert.opened_step) {
                Some((_, headlines)) => headlines.push(&alert.headline),
                None => rung.push((alert.opened_step, vec![&alert.headline])),
            }
        }
        for (step, headlines) in rung {
            let at = trajectory.steps.partition_point(|other| *other < step);
            if let Some(place) = pixels.get(at).filter(|place| self.inside(place)) {
                svg.titled(
                    "circle",
                    &[("class", &"alarm"), ("cx", &place.0), ("cy", &place.1), ("r", &5.5)],
                    &headlines.join(" "),
                );
            }
        }
    }

    /// Where a run's name goes: its last point, or the place where it leaves the picture, which gets an arrow head.
    fn exit(&self, svg: &mut Svg, pixels: &[(f64, f64)]) -> Option<(f64, f64)> {
        let inside = |point: &(f64, f64)| self.inside(point);
        let last = pixels.last()?;
        if inside(last) {
            return Some(*last);
        }
        let from = pixels.iter().rposition(inside)?;
        let (mut within, mut beyond) = (pixels[from], pixels[from + 1]);
        for _ in 0..24 {
            let middle = (f64::midpoint(within.0, beyond.0), f64::midpoint(within.1, beyond.1));
            *(if inside(&middle) { &mut within } else { &mut beyond }) = middle;
        }
        let (dx, dy) = (pixels[from + 1].0 - pixels[from].0, pixels[from + 1].1 - pixels[from].1);
        let length = dx.hypot(dy).max(1e-9);
        let (dx, dy) = (dx / length, dy / length);
        let mut head = Path::new();
        let base = (within.0 - 9.0 * dx, within.1 - 9.0 * dy);
        head.polygon(&[
            within,
            (base.0 - 4.5 * dy, base.1 + 4.5 * dx),
            (base.0 + 4.5 * dy, base.1 - 4.5 * dx),
        ]);
        svg.leaf("path", &[("class", &"alerted"), ("d", &head)]);
        Some(within)
    }
}

fn distance(a: (f64, f64), b: (f64, f64)) -> f64 {
    (a.0 - b.0).hypot(a.1 - b.1)
}

/// `predictions, component 1 (63 % of variance)`.
fn axis_name(analysis: &Analysis, axis: usize) -> String {
    let projection = &analysis.projection;
    let name = projection.axes.get(axis).cloned().unwrap_or_else(|| format!("coordinate {}", axis + 1));
    match projection.explained_variance.get(axis) {
        Some(share) => format!("{name} ({} of variance)", percent(*share)),
        None => name,
    }
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
    let mut others = false;
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
                    swatch(svg, x, y, "", None);
                    let lines = format!("M{:.1} {:.1}l8-8m-1 11l8-8", x + 1.0, y - 1.5);
                    svg.leaf("path", &[("class", &"hatch"), ("d", &lines)]);
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
    let below = flow.baseline() + 19.0;
    glyph::legend(svg, &roles(&analysis.morse_graph), (corner.0, below), WIDTH)
}

/// The picture in a few sentences, for those who do not see it.
fn describe(reading: &Reading, analysis: &Analysis) -> String {
    let axes: Vec<String> = (0..analysis.grid.lower.len()).map(|axis| axis_name(analysis, axis)).collect();
    let mut text = format!(
        "Phase portrait of {} over {}.",
        count(analysis.trajectories.len(), "run"),
        axes.join(" and ")
    );
    for &(set, certain, _) in &analysis.basins.sizes {
        let share = certain as f64 / analysis.grid.cells.max(1) as f64;
        let _ = write!(text, " From {} of the area every path ends in {}.", percent(share), set_name(set));
    }
    let loud: Vec<&str> = reading.runs.iter().filter(|run| run.stands_out()).map(|run| run.name).collect();
    if !loud.is_empty() {
        let _ = write!(text, " Runs with alerts: {}.", super::words::list(&loud, 6));
    }
    text
}
