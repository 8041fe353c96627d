//! One panel of a phase portrait: cells, ways, Morse sets and names, over two coordinates.

use std::collections::BTreeSet;

use super::axis::Axis;
use super::cells::{Cells, Kind, Window};
use super::glyph;
use super::labels::{Area, Labels};
use super::palette::NO_SET;
use super::reading::{Destination, Reading, Run, Standing, set_name};
use super::svg::{Path, Svg};
use super::thin::simplified;
use super::words::percent;
use crate::engine::{Analysis, MorseSet, Role};

/// What one coordinate of a panel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coordinate {
    /// The trainer's step.
    Step,
    /// A coordinate of the projection.
    Projected(usize),
}

impl Coordinate {
    fn axis(self) -> Option<usize> {
        match self {
            Self::Step => None,
            Self::Projected(at) => Some(at),
        }
    }
}

/// Which Morse sets are marked and named. The colour of the others is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Naming {
    /// Attractors and open sets.
    Ends,
    /// Those, and of the others the ones that a run met, or that are large.
    Telling,
    /// All.
    All,
}

/// One drawing within the picture.
pub(super) struct Panel<'a> {
    reading: &'a Reading<'a>,
    analysis: &'a Analysis,
    coordinates: (Coordinate, Coordinate),
    axes: (Axis, Axis),
    /// Left, top, right, bottom.
    area: Area,
    cells: Cells,
    naming: Naming,
    /// Distinguishes the names of this panel's patterns from those of others.
    number: usize,
}

/// Whether a Morse set may be where training ends.
fn can_end(set: &MorseSet) -> bool {
    matches!(set.role, Role::Attractor | Role::Open)
}

/// Whether a Morse set has a mark and a name in pictures: what may hold nothing, and is passed, has a tint alone.
pub(super) fn is_named(set: &MorseSet) -> bool {
    can_end(set) || !set.conley_index.is_trivial()
}

impl<'a> Panel<'a> {
    /// The whole domain, or a window of it, in `area`.
    pub(super) fn new(
        reading: &'a Reading<'a>,
        analysis: &'a Analysis,
        coordinates: (Coordinate, Coordinate),
        area: Area,
        window: Option<Window>,
        number: usize,
    ) -> Self {
        let all = Cells::of(analysis, coordinates.0.axis(), coordinates.1.axis());
        let size = all.raster.size;
        let shown = window.unwrap_or(((0, size.0), (0, size.1)));
        let axis = |coordinate: Coordinate, pixels: (f64, f64), (from, to): (usize, usize), cells: usize| {
            let Some(at) = coordinate.axis() else {
                let steps = analysis.trajectories.iter().flat_map(|trajectory| &trajectory.steps);
                let (first, last) = steps.fold((u64::MAX, 0), |(low, high), &s| (low.min(s), high.max(s)));
                return Axis::linear(first.min(last) as f64, last as f64, pixels);
            };
            let of = |corner: &[f64]| corner.get(at).copied().unwrap_or(0.0);
            let (low, high) = (of(&analysis.grid.lower), of(&analysis.grid.upper));
            let edge = |cell: usize| low + (high - low) * cell as f64 / cells.max(1) as f64;
            Axis::linear(edge(from), edge(to), pixels)
        };
        let axes = (
            axis(coordinates.0, (area.0, area.2), shown.0, size.0),
            axis(coordinates.1, (area.3, area.1), shown.1, size.1),
        );
        let naming = if window.is_some() { Naming::All } else { Naming::Telling };
        let cells = if window.is_some() { all.within(shown) } else { all };
        Self { reading, analysis, coordinates, axes, area, cells: cells.coarse_enough(), naming, number }
    }

    /// Names attractors and open sets only: the others are named where they are enlarged.
    pub(super) fn briefly(self) -> Self {
        Self { naming: Naming::Ends, ..self }
    }

    /// Where a window lies in this panel: left, top, right, bottom.
    pub(super) fn place_of(&self, ((left, right), (low, high)): Window) -> Area {
        let size = self.cells.full;
        let at = |edge: usize, cells: usize, (from, to): (f64, f64)| {
            from + (to - from) * edge as f64 / cells.max(1) as f64
        };
        let across = (self.area.0, self.area.2);
        let up = (self.area.3, self.area.1);
        (at(left, size.0, across), at(high, size.1, up), at(right, size.0, across), at(low, size.1, up))
    }

    /// Draws everything, and notes which kinds of cells there are.
    pub(super) fn draw(&self, svg: &mut Svg, kinds: &mut BTreeSet<Kind>) {
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
        let cells = &self.cells;
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
                let dense = length > 12.0 * (self.area.2 - self.area.0);
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
        let named = |set: &&usize| {
            let set = &graph.sets[**set];
            let telling = !set.visits.is_empty() || set.volume_share > 0.002;
            match self.naming {
                Naming::Ends => can_end(set),
                Naming::Telling => can_end(set) || is_named(set) && telling,
                Naming::All => is_named(set),
            }
        };
        let placed = |&set: &usize| Some((set, self.anchor(&graph.sets[set])?));
        let seen = |anchor: &(usize, (f64, f64))| self.inside(&anchor.1);
        let anchors: Vec<(usize, (f64, f64))> =
            order.iter().filter(named).filter_map(placed).filter(seen).take(12).collect();
        for (_, place) in &anchors {
            labels.avoid(*place, 8.0);
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
                if run.destination == Some(Destination::Lost) {
                    let cross = format!("M{:.1} {:.1}l8 8m0-8l-8 8", last.0 - 4.0, last.1 - 4.0);
                    svg.titled("path", &[("class", &"lost"), ("d", &cross)], run.name);
                    self.alarms(svg, run, &pixels);
                    continue;
                }
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
pub(super) fn axis_name(analysis: &Analysis, axis: usize) -> String {
    let projection = &analysis.projection;
    let name = projection.axes.get(axis).cloned().unwrap_or_else(|| format!("coordinate {}", axis + 1));
    match projection.explained_variance.get(axis) {
        Some(share) => format!("{name} ({} of variance)", percent(*share)),
        None => name,
    }
}
