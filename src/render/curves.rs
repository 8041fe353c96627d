//! Curves over the steps: losses, norms, updates, scores. Healthy runs are a quiet bundle, runs with alerts stand out.

use std::fmt::Write;

use super::axis::Axis;
use super::layers::isotonic;
use super::reading::{Reading, Run};
use super::svg::{Path, Picture, Svg, fit, text_width};
use super::thin::{by_columns, simplified};
use super::words::{count, figure, list};
use super::{RunView, Series};

/// One picture of curves.
#[derive(Clone, Debug)]
pub(super) struct Curves {
    /// What is drawn.
    pub(super) title: &'static str,
    /// What to make of it.
    pub(super) caption: &'static str,
    pub(super) picture: Picture,
}

/// What can be drawn: title, caption, unit of the axis, a level worth a line, the series.
type Kind = (&'static str, &'static str, Option<f64>, fn(&RunView) -> &Series);

const KINDS: [Kind; 5] = [
    (
        "Training loss, as logged",
        "What the trainer wrote down. A spike that does not come back, or a curve far above the bundle, needs a look.",
        None,
        |view| &view.logged_losses,
    ),
    (
        "Loss on the probe batch",
        "The loss of each checkpoint on the same fixed batch, so without the noise of changing batches.",
        None,
        |view| &view.evaluated_losses,
    ),
    (
        "Norm of the weights",
        "Growth that does not slow down ends in numbers that are not finite.",
        None,
        |view| &view.weight_norms,
    ),
    (
        "Update ratio",
        "Length of the update since the checkpoint before, by the norm of the weights. Jumps and steady growth come before most blow-ups.",
        None,
        |view| &view.update_ratios,
    ),
    (
        "Instability score",
        "The highest of the detectors' scores, each divided by its limit: from 1 upwards a detector is on, or about to be.",
        Some(1.0),
        |view| &view.instability,
    ),
];

/// A picture for each kind of series that any run has.
pub(super) fn all(reading: &Reading) -> Vec<Curves> {
    KINDS
        .iter()
        .filter_map(|&(title, caption, level, series)| {
            let picture = Plot::new(reading, title, level, series)?.draw();
            Some(Curves { title, caption, picture })
        })
        .collect()
}

const SIZE: (f64, f64) = (520.0, 260.0);
/// Left, top, right, bottom of the plot, where there are no names right of it.
const AREA: (f64, f64, f64, f64) = (56.0, 16.0, 508.0, 218.0);
/// Lines of the bundle may have this many points in all.
const POINTS: usize = 14_000;
/// A bundle of fewer runs has no band: its lines are seen one by one.
const BAND_FROM: usize = 8;
/// Columns of the band.
const COLUMNS: usize = 113;

struct Plot<'a> {
    reading: &'a Reading<'a>,
    title: &'static str,
    level: Option<f64>,
    series: fn(&RunView) -> &Series,
    axes: (Axis, Axis),
    /// The right end of the plot.
    right: f64,
}

impl<'a> Plot<'a> {
    fn new(
        reading: &'a Reading<'a>,
        title: &'static str,
        level: Option<f64>,
        series: fn(&RunView) -> &Series,
    ) -> Option<Self> {
        let of = |run: &&Run<'a>| run.view.map(series).into_iter().flatten().copied();
        let steps = || reading.runs.iter().flat_map(|run| of(&run)).map(|(step, _)| step);
        let (first, last) = (steps().min()?, steps().max()?);
        let values = |loud: bool| {
            let runs = reading.runs.iter().filter(move |run| run.stands_out() == loud);
            runs.flat_map(|run| of(&run)).map(|(_, value)| value).filter(|value| value.is_finite())
        };
        let vertical = range(values(false).collect(), values(true).collect(), level)?;
        // Names of runs that stand out get the room that they need, up to a fifth of the picture.
        let loud = reading.runs.iter().filter(|run| run.stands_out() && of(run).next().is_some());
        let widest = loud.map(|run| 30.0 + text_width(run.name, 12.5).min(74.0)).fold(0.0, f64::max);
        let right = AREA.2 - widest;
        let axes = (
            Axis::linear(first as f64, last as f64, (AREA.0, right)),
            Axis::of_values([vertical.0, vertical.1].into_iter(), (AREA.3, AREA.1 + 4.0))?,
        );
        Some(Self { reading, title, level, series, axes, right })
    }

    /// A run's finite points in pixels, unbroken stretches apart.
    fn stretches(&self, run: &Run) -> Vec<Vec<(f64, f64)>> {
        let Some(view) = run.view else { return Vec::new() };
        let place =
            |&(step, value): &(u64, f64)| (self.axes.0.position(step as f64), self.axes.1.position(value));
        (self.series)(view)
            .split(|(_, value)| !value.is_finite())
            .filter(|stretch| !stretch.is_empty())
            .map(|stretch| stretch.iter().map(place).collect())
            .collect()
    }

    fn draw(&self) -> Picture {
        let mut svg = Svg::new();
        // Names must differ from picture to picture of a page.
        let clip = format!("curve-{}", self.title.to_lowercase().replace(|c: char| !c.is_alphabetic(), "-"));
        svg.open("clipPath", &[("id", &clip)]);
        svg.leaf(
            "rect",
            &[
                ("x", &AREA.0),
                ("y", &AREA.1),
                ("width", &(self.right - AREA.0)),
                ("height", &(AREA.3 - AREA.1)),
            ],
        );
        svg.close();
        self.frame(&mut svg);
        svg.open("g", &[("clip-path", &format!("url(#{clip})"))]);
        self.bundle(&mut svg);
        if let Some(level) = self.level {
            let y = self.axes.1.position(level);
            svg.leaf(
                "path",
                &[("class", &"level"), ("d", &format!("M{:.1} {y:.1}H{:.1}", AREA.0, self.right))],
            );
        }
        self.loud(&mut svg);
        svg.close();
        self.beyond(&mut svg);
        self.names(&mut svg);
        svg.finish(SIZE, self.describe())
    }

    fn frame(&self, svg: &mut Svg) {
        for (value, label) in self.axes.1.ticks(5) {
            let y = self.axes.1.position(value);
            svg.leaf(
                "path",
                &[("class", &"rule"), ("d", &format!("M{:.1} {y:.1}H{:.1}", AREA.0, self.right))],
            );
            svg.text(
                "text",
                &[("class", &"small soft end"), ("x", &(AREA.0 - 7.0)), ("y", &(y + 4.0))],
                &label,
            );
        }
        for (value, label) in self.axes.0.step_ticks(5) {
            let x = self.axes.0.position(value);
            svg.leaf("path", &[("class", &"tick"), ("d", &format!("M{x:.1} {:.1}v4", AREA.3))]);
            svg.text("text", &[("class", &"small soft mid"), ("x", &x), ("y", &(AREA.3 + 17.0))], &label);
        }
        svg.leaf(
            "path",
            &[("class", &"tick"), ("d", &format!("M{:.1} {:.1}H{:.1}", AREA.0, AREA.3, self.right))],
        );
        let middle = f64::midpoint(AREA.0, self.right);
        let scale = if self.axes.1.is_logarithmic() { "step (vertical axis logarithmic)" } else { "step" };
        svg.text("text", &[("class", &"small mid"), ("x", &middle), ("y", &(AREA.3 + 34.0))], scale);
    }

    fn quiet(&self) -> impl Iterator<Item = &'a Run<'a>> {
        let runs = self.reading.runs.iter().filter(|run| !run.stands_out());
        runs.filter(|run| run.view.is_some_and(|view| !(self.series)(view).is_empty()))
    }

    /// The runs that stand out, worst first.
    fn standing_out(&self) -> Vec<&'a Run<'a>> {
        let mut runs: Vec<&Run> = self.reading.runs.iter().filter(|run| run.stands_out()).collect();
        runs.sort_by_key(|run| (std::cmp::Reverse(run.standing), run.name));
        runs
    }

    /// The healthy runs: thin lines, the band that holds four of five, and their median.
    fn bundle(&self, svg: &mut Svg) {
        let band = self.band();
        if let Some((low, _, high)) = &band {
            let mut path = Path::new();
            path.polygon(&low.iter().chain(high.iter().rev()).copied().collect::<Vec<_>>());
            svg.titled("path", &[("class", &"band"), ("d", &path)], "four of five runs without alerts");
        }
        let lines: Vec<Named> = self.quiet().map(|run| (run.name, self.stretches(run))).collect();
        let thinned = |width: f64| -> Vec<Named> {
            let thin = |stretch: &Vec<(f64, f64)>| simplified(&by_columns(stretch, width), 0.4);
            lines.iter().map(|(name, stretches)| (*name, stretches.iter().map(thin).collect())).collect()
        };
        let points = |lines: &[Named]| -> usize {
            lines.iter().flat_map(|(_, stretches)| stretches).map(Vec::len).sum()
        };
        let mut width = 1.0;
        let mut thin = thinned(width);
        while points(&thin) > POINTS && width < 64.0 {
            width *= 2.0;
            thin = thinned(width);
        }
        let class = match thin.len() {
            _ if band.is_some() => "quiet faint",
            ..=3 => "quiet few",
            _ => "quiet",
        };
        for (name, stretches) in thin {
            let mut path = Path::new();
            for stretch in stretches {
                path.line(&stretch);
            }
            svg.titled("path", &[("class", &class), ("d", &path)], name);
        }
        if let Some((_, median, _)) = &band {
            let mut path = Path::new();
            path.line(&simplified(median, 0.3));
            svg.titled("path", &[("class", &"median"), ("d", &path)], "median of the runs without alerts");
        }
    }

    /// Lower decile, median and upper decile of the healthy runs, column by column; `None` for a few runs. A column
    /// counts where at least half of the runs have a value.
    fn band(&self) -> Option<(Line, Line, Line)> {
        let runs: Vec<&Run> = self.quiet().collect();
        if runs.len() < BAND_FROM {
            return None;
        }
        let width = (self.right - AREA.0) / COLUMNS as f64;
        let mut columns: Vec<Vec<f64>> = vec![Vec::new(); COLUMNS];
        for run in &runs {
            for (x, y) in self.medians(&self.stretches(run).concat()) {
                columns[(((x - AREA.0) / width) as usize).min(COLUMNS - 1)].push(y);
            }
        }
        let mut band = (Vec::new(), Vec::new(), Vec::new());
        for (column, values) in columns.iter_mut().enumerate() {
            if values.len() * 2 < runs.len() {
                continue;
            }
            // Columns at the ends reach to the ends, so that the band starts where the lines do.
            let share = match column {
                0 => 0.0,
                column if column + 1 == COLUMNS => 1.0,
                column => (column as f64 + 0.5) / COLUMNS as f64,
            };
            let x = AREA.0 + share * (self.right - AREA.0);
            band.0.push((x, quantile(values, 0.1)));
            band.1.push((x, quantile(values, 0.5)));
            band.2.push((x, quantile(values, 0.9)));
        }
        (band.0.len() > 1).then_some(band)
    }

    /// A line's median in each column, at the middle of what lies in it.
    fn medians(&self, points: &[(f64, f64)]) -> Line {
        let width = (self.right - AREA.0) / COLUMNS as f64;
        let column = |point: &(f64, f64)| (((point.0 - AREA.0) / width) as usize).min(COLUMNS - 1);
        let middle = |span: &[(f64, f64)]| {
            let mut values: Vec<f64> = span.iter().map(|point| point.1).collect();
            (f64::midpoint(span[0].0, span[span.len() - 1].0), quantile(&mut values, 0.5))
        };
        points.chunk_by(|a, b| column(a) == column(b)).map(middle).collect()
    }

    /// The runs with alerts, and rings where these opened.
    fn loud(&self, svg: &mut Svg) {
        let runs = self.standing_out();
        let width = if runs.len() > 12 { 4.0 } else { 1.0 };
        for (at, run) in runs.iter().enumerate() {
            let stretches = self.stretches(run);
            let thin: Vec<Line> =
                stretches.iter().map(|stretch| simplified(&by_columns(stretch, width), 0.4)).collect();
            // A line that goes up and down within a few pixels is a stain: it becomes faint, its middle is the line.
            let noisy = thin.iter().map(Vec::len).sum::<usize>() > 2 * COLUMNS;
            let lines = |stretches: &[Line]| {
                let mut path = Path::new();
                for stretch in stretches {
                    path.line(stretch);
                }
                path
            };
            let class = format!("loud dash{}", at % 4);
            if noisy {
                svg.titled("path", &[("class", &"loud raw"), ("d", &lines(&thin))], run.name);
                let middle: Vec<Line> = stretches.iter().map(|stretch| self.medians(stretch)).collect();
                svg.titled("path", &[("class", &class), ("d", &lines(&middle))], run.name);
            } else if !thin.is_empty() {
                svg.titled("path", &[("class", &class), ("d", &lines(&thin))], run.name);
            }
        }
        for run in runs {
            for alert in &run.alerts {
                if let Some(place) = self.place(run, alert.opened_step) {
                    svg.titled(
                        "circle",
                        &[("class", &"alarm"), ("cx", &place.0), ("cy", &place.1), ("r", &4.5)],
                        &format!("{}, step {}: {}", run.name, alert.opened_step, alert.headline),
                    );
                }
            }
        }
    }

    /// Where a run's curve is at a step: at the last finite value up to it, kept within the picture.
    fn place(&self, run: &Run, step: u64) -> Option<(f64, f64)> {
        let series = (self.series)(run.view?);
        let before = &series[..series.partition_point(|(other, _)| *other <= step)];
        let (_, value) = before.iter().rev().find(|(_, value)| value.is_finite())?;
        let y = self.axes.1.position(*value).clamp(AREA.1 + 5.0, AREA.3 - 5.0);
        Some((self.axes.0.position(step as f64).clamp(AREA.0, self.right), y))
    }

    /// Marks at the top edge for what is not finite or lies beyond the scale, and at the bottom for what lies below.
    fn beyond(&self, svg: &mut Svg) {
        for run in &self.reading.runs {
            let Some(view) = run.view else { continue };
            let class = if run.stands_out() { "alerted" } else { "beyond" };
            let above = |value: f64| !value.is_finite() || self.axes.1.position(value) < AREA.1 - 0.5;
            let below = |value: f64| value.is_finite() && self.axes.1.position(value) > AREA.3 + 0.5;
            self.edge_marks(svg, run, view, class, &above, (AREA.1 - 2.0, -7.0));
            self.edge_marks(svg, run, view, class, &below, (AREA.3 + 1.0, 6.0));
        }
    }

    fn edge_marks(
        &self,
        svg: &mut Svg,
        run: &Run,
        view: &RunView,
        class: &str,
        beyond: &dyn Fn(f64) -> bool,
        (edge, tip): (f64, f64),
    ) {
        let mut last = f64::NEG_INFINITY;
        let mut path = Path::new();
        let mut first: Option<(u64, f64)> = None;
        for &(step, value) in (self.series)(view).iter().filter(|(_, value)| beyond(*value)) {
            let x = self.axes.0.position(step as f64);
            first = first.or(Some((step, value)));
            if x - last >= 9.0 {
                path.polygon(&[(x - 4.0, edge), (x + 4.0, edge), (x, edge + tip)]);
                last = x;
            }
        }
        if let Some((step, value)) = first {
            let title = format!("{}, from step {step}: {}", run.name, figure(value));
            svg.titled("path", &[("class", &class), ("d", &path)], &title);
        }
    }

    /// The names of the runs that stand out, right of the plot, each as near to the height of its curve's end as the
    /// others let it, with a piece of its line.
    fn names(&self, svg: &mut Svg) {
        const PITCH: f64 = 15.0;
        let runs = self.standing_out();
        let mut named: Vec<(f64, usize, &Run)> = runs
            .iter()
            .enumerate()
            .filter_map(|(at, run)| Some((self.place(run, (self.series)(run.view?).last()?.0)?.1, at, *run)))
            .take(((AREA.3 - AREA.1) / PITCH) as usize)
            .collect();
        named.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let count = named.len();
        let wishes: Vec<f64> =
            named.iter().enumerate().map(|(at, name)| name.0 - at as f64 * PITCH).collect();
        let lowest = AREA.3 - 4.0 - count.saturating_sub(1) as f64 * PITCH;
        for (at, ((_, place, run), wish)) in named.iter().zip(isotonic(&wishes)).enumerate() {
            let y = wish.clamp(AREA.1 + 4.0, lowest.max(AREA.1 + 4.0)) + at as f64 * PITCH;
            let line = format!("M{:.1} {y:.1}h16", self.right + 7.0);
            svg.leaf("path", &[("class", &format!("loud dash{}", place % 4)), ("d", &line)]);
            let left = self.right + 27.0;
            let text = fit(run.name, 12.0, SIZE.0 - left - 2.0);
            svg.text("text", &[("class", &"label loud"), ("x", &left), ("y", &(y + 4.2))], &text);
        }
    }

    /// The picture in a few sentences, for those who do not see it.
    fn describe(&self) -> String {
        let mut text = format!("{} over the steps of {}.", self.title, count(self.reading.runs.len(), "run"));
        let mut ends: Vec<f64> = self
            .quiet()
            .filter_map(|run| (self.series)(run.view?).iter().rev().find(|(_, value)| value.is_finite()))
            .map(|(_, value)| *value)
            .collect();
        if !ends.is_empty() {
            let ended = ends.len();
            let _ = write!(
                text,
                " Runs without alerts end between {} and {}, median {} ({}).",
                figure(quantile(&mut ends, 0.0)),
                figure(quantile(&mut ends, 1.0)),
                figure(quantile(&mut ends, 0.5)),
                count(ended, "run"),
            );
        }
        let loud: Vec<&str> = self.standing_out().iter().map(|run| run.name).collect();
        if !loud.is_empty() {
            let _ = write!(text, " Runs with alerts: {}.", list(&loud, 6));
        }
        text
    }
}

type Line = Vec<(f64, f64)>;

/// The name of a run and the unbroken stretches of its curve.
type Named<'a> = (&'a str, Vec<Line>);

/// The range of values that is drawn. Runs with alerts may widen what the others span, but not so far that these become
/// a line at the bottom; what lies beyond is marked at the edge.
fn range(quiet: Vec<f64>, loud: Vec<f64>, level: Option<f64>) -> Option<(f64, f64)> {
    let ends = |mut values: Vec<f64>, share: f64| {
        (!values.is_empty()).then(|| (quantile(&mut values, share), quantile(&mut values, 1.0 - share)))
    };
    let (low, high) = match (ends(quiet, 0.0), ends(loud.clone(), 0.0)) {
        (Some(quiet), Some(loud)) => {
            let (low, high) = (quiet.0.min(loud.0), quiet.1.max(loud.1));
            if quiet.0 > 0.0 {
                (low.max(quiet.0 * 0.1), high.min(quiet.1 * 100.0))
            } else {
                let span = (quiet.1 - quiet.0).max(1e-12);
                (low.max(quiet.0 - 3.0 * span), high.min(quiet.1 + 3.0 * span))
            }
        }
        (Some(quiet), None) => quiet,
        (None, Some(all)) => {
            let (low, high) = ends(loud.clone(), 0.05).unwrap_or(all);
            if low > 0.0 { (all.0, all.1.min(high * 1e4)) } else { all }
        }
        (None, None) => return None,
    };
    Some(match level {
        Some(level) => (
            low.min(level),
            ends(loud, 0.0).map_or(high, |all| high.max(all.1.min(level * 5.0))).max(level * 1.1),
        ),
        None => (low, high),
    })
}

/// The value below which a share of the values lies: the nearest of them. The values must not be empty.
fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share).round() as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blow_up_does_not_flatten_the_others() {
        let (low, high) = range(vec![0.1, 1.0], vec![0.2, 1e30], None).expect("a range");
        assert_eq!((low, high), (0.1, 100.0));
        let (low, high) = range(vec![-1.0, 1.0], vec![-1e9, 50.0], None).expect("a range");
        assert_eq!((low, high), (-7.0, 7.0));
        assert!(range(Vec::new(), Vec::new(), None).is_none());
        assert_eq!(range(vec![0.1, 0.2], Vec::new(), Some(1.0)), Some((0.1, 1.1)));
        assert_eq!(range(vec![0.1, 0.2], vec![0.1, 99.0], Some(1.0)), Some((0.1, 20.0)));
    }

    #[test]
    fn quantiles_are_values() {
        let mut values = vec![3.0, 1.0, 2.0, 5.0, 4.0];
        assert_eq!(
            [0.0, 0.1, 0.5, 0.9, 1.0].map(|share| quantile(&mut values, share)),
            [1.0, 1.0, 3.0, 5.0, 5.0]
        );
    }
}
