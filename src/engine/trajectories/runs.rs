//! The runs of a group, checked, and what of them can be learned from.

use crate::engine::random::spread_sample;
use crate::engine::statistics::{median, quantile};
use crate::engine::{EngineError, LeftOut, RunSeries, Snapshot};

/// A point further from the middle than this many times the extent of the median run is left out.
const FAR: f64 = 4.0;

/// Snapshots from which the middle is taken.
const MIDDLE_SAMPLE: usize = 256;

/// Runs that are analysed together: named apart, with finite values of matching lengths, sorted by name.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Group<'a> {
    runs: Vec<&'a RunSeries>,
    /// Whether all predictions lie between 0 and 1.
    probabilities: bool,
    /// Whether a run is kept back: it has no say in the choice of coordinates and lag, nor in what the coordinates are.
    reserved: Vec<bool>,
}

/// Which vectors of the snapshots are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Features {
    Weights,
    Predictions,
    /// Predictions, where the loss is known too and has a logarithm.
    PredictionsWithLoss,
}

/// A snapshot with features.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Row<'a> {
    /// Number of its run in the group.
    pub(in crate::engine) run: usize,
    pub(in crate::engine) snapshot: &'a Snapshot,
    features: &'a [f32],
    /// Whether the features' square roots are looked at.
    roots: bool,
    /// Whether something may be learned from it.
    pub(in crate::engine) usable: bool,
    /// Whether its run is kept back.
    pub(in crate::engine) reserved: bool,
}

/// All snapshots with features, by run and step.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Rows<'a> {
    pub(in crate::engine) rows: Vec<Row<'a>>,
    pub(in crate::engine) left_out: LeftOut,
}

impl<'a> Row<'a> {
    /// Number of features.
    pub(in crate::engine) fn width(&self) -> usize {
        self.features.len()
    }

    /// The features of these numbers: weights and scores as they are, of probabilities the square roots.
    ///
    /// The distance of roots is the Hellinger distance, in which a step from 0.01 to 0.02 counts as one from 0.2 to 0.24;
    /// between probabilities themselves all that models still learn once they are nearly right goes unseen.
    pub(in crate::engine) fn features(
        &self,
        numbers: std::ops::Range<usize>,
    ) -> impl ExactSizeIterator<Item = f64> + use<'a> {
        let roots = self.roots;
        self.features[numbers].iter().map(move |&x| if roots { f64::from(x).sqrt() } else { f64::from(x) })
    }
}

impl Rows<'_> {
    /// Those that say what the coordinates are: usable, and of runs that are not kept back. If there is none, all that
    /// are usable.
    pub(in crate::engine) fn teaching(&self) -> Vec<&Row<'_>> {
        let teaching: Vec<&Row<'_>> = self.rows.iter().filter(|row| row.usable && !row.reserved).collect();
        if teaching.is_empty() { self.rows.iter().filter(|row| row.usable).collect() } else { teaching }
    }
}

impl Features {
    pub(in crate::engine) fn of(self, snapshot: &Snapshot) -> Option<&[f32]> {
        match self {
            Features::Weights => Some(&snapshot.weights),
            Features::Predictions => snapshot.predictions.as_deref(),
            Features::PredictionsWithLoss => {
                snapshot.loss.filter(|&loss| loss > 0.0 && loss.is_finite())?;
                snapshot.predictions.as_deref()
            }
        }
    }

    pub(in crate::engine) fn name(self) -> &'static str {
        match self {
            Features::Weights => "weights",
            Features::Predictions | Features::PredictionsWithLoss => "predictions",
        }
    }
}

impl<'a> Group<'a> {
    /// Checks the runs; those without snapshots are passed over.
    pub(in crate::engine) fn new(runs: &'a [RunSeries]) -> Result<Self, EngineError> {
        let mut runs: Vec<&RunSeries> = runs.iter().filter(|run| !run.snapshots.is_empty()).collect();
        if runs.is_empty() {
            return Err(EngineError::NoRuns);
        }
        runs.sort_unstable_by(|a, b| a.run.cmp(&b.run));
        if let Some(pair) = runs.windows(2).find(|pair| pair[0].run == pair[1].run) {
            return Err(EngineError::DuplicateRun { run: pair[0].run.clone() });
        }
        for run in &runs {
            let mut steps = run.snapshots.windows(2).map(|pair| (pair[0].step, pair[1].step));
            if let Some((_, step)) = steps.find(|(before, after)| before >= after) {
                return Err(EngineError::StepsOutOfOrder { run: run.run.clone(), step });
            }
        }
        let predictions =
            runs.iter().flat_map(|run| &run.snapshots).filter_map(|snapshot| snapshot.predictions.as_ref());
        let probabilities = predictions.flatten().all(|value| (0.0..=1.0).contains(value));
        let group = Self { reserved: vec![false; runs.len()], probabilities, runs };
        group.check(Features::Weights)?;
        group.check(Features::Predictions)?;
        Ok(group)
    }

    fn check(&self, kind: Features) -> Result<(), EngineError> {
        let what = kind.name();
        let mut expected = None;
        for run in &self.runs {
            for snapshot in &run.snapshots {
                let Some(features) = kind.of(snapshot) else { continue };
                let (run, step, found) = (|| run.run.clone(), snapshot.step, features.len());
                let expected = *expected.get_or_insert(found);
                if found != expected {
                    return Err(EngineError::LengthMismatch { run: run(), step, what, expected, found });
                }
                if features.iter().any(|value| !value.is_finite()) {
                    return Err(EngineError::NonFinite { run: run(), step, what });
                }
            }
        }
        Ok(())
    }

    /// The same, with some runs kept back.
    pub(in crate::engine) fn reserving(mut self, is_reserved: impl Fn(&str) -> bool) -> Self {
        self.reserved = self.runs.iter().map(|run| is_reserved(&run.run)).collect();
        self
    }

    /// Whether a run is kept back, by its number.
    pub(in crate::engine) fn is_reserved(&self, run: usize) -> bool {
        self.reserved[run]
    }

    /// The runs, by name.
    pub(in crate::engine) fn runs(&self) -> &[&'a RunSeries] {
        &self.runs
    }

    /// The snapshots that have these features. Those that an alert covers, and those far from all others, are marked
    /// as not to be learned from: where a run diverges, another map is at work, and one such run would make all the
    /// others a single cell.
    pub(in crate::engine) fn rows(&self, kind: Features) -> Result<Rows<'a>, EngineError> {
        let mut left_out = LeftOut::default();
        let mut rows = Vec::new();
        for (number, run) in self.runs.iter().enumerate() {
            for snapshot in &run.snapshots {
                let Some(features) = kind.of(snapshot) else {
                    match snapshot.predictions {
                        None => left_out.without_predictions += 1,
                        Some(_) => left_out.without_loss += 1,
                    }
                    continue;
                };
                let disturbed = is_disturbed(run, snapshot.step, snapshot.step);
                left_out.disturbed += usize::from(disturbed);
                rows.push(Row {
                    roots: kind != Features::Weights && self.probabilities,
                    run: number,
                    snapshot,
                    features,
                    usable: !disturbed,
                    reserved: self.reserved[number],
                });
            }
        }
        left_out.far = mark_far(&mut rows);
        if !rows.iter().any(|row| row.usable) {
            return Err(EngineError::NothingToLearnFrom {
                checkpoints: rows.len(),
                disturbed: left_out.disturbed,
            });
        }
        Ok(Rows { rows, left_out })
    }
}

/// Whether an alert covers any of the steps `first..=last` of a run.
pub(super) fn is_disturbed(run: &RunSeries, first: u64, last: u64) -> bool {
    run.disturbed.iter().any(|&(from, to)| from <= last && first <= to)
}

/// Marks the usable rows that lie too far out as not usable; returns their number. Runs kept back are measured, but do
/// not make the measure.
///
/// The measure is made by runs, not by snapshots: most snapshots of a group lie where training has settled, and by
/// their spread every start would be an outlier. Of each run the largest distance from the middle counts, and the
/// median run says what is usual; of a single run its 90th percentile.
fn mark_far(rows: &mut [Row<'_>]) -> usize {
    let all_reserved = rows.iter().all(|row| !row.usable || row.reserved);
    let makes = |row: &Row<'_>| row.usable && (all_reserved || !row.reserved);
    let measure: Vec<usize> = (0..rows.len()).filter(|&i| makes(&rows[i])).collect();
    if measure.is_empty() {
        return 0;
    }
    let sample: Vec<usize> =
        spread_sample(measure.len(), MIDDLE_SAMPLE, 0).into_iter().map(|i| measure[i]).collect();
    let mut column = vec![0.0; sample.len()];
    let middle: Vec<f64> = (0..rows[measure[0]].width())
        .map(|coordinate| {
            for (value, &i) in column.iter_mut().zip(&sample) {
                *value = rows[i].features(coordinate..coordinate + 1).sum();
            }
            median(&mut column)
        })
        .collect();
    let distance = |row: &Row<'_>| {
        let squares = row.features(0..row.width()).zip(&middle).map(|(x, middle)| (x - middle).powi(2));
        squares.sum::<f64>().sqrt()
    };
    let distances: Vec<f64> = rows.iter().map(|row| if row.usable { distance(row) } else { 0.0 }).collect();
    let mut extents: Vec<f64> = measure
        .chunk_by(|&i, &j| rows[i].run == rows[j].run)
        .map(|run| run.iter().fold(0.0, |extent: f64, &i| extent.max(distances[i])))
        .collect();
    let usual = match extents.as_mut_slice() {
        [_] => quantile(&mut measure.iter().map(|&i| distances[i]).collect::<Vec<_>>(), 0.9),
        extents => median(extents),
    };
    let mut far = 0;
    for (row, distance) in rows.iter_mut().zip(distances) {
        if row.usable && distance > FAR * usual {
            row.usable = false;
            far += 1;
        }
    }
    far
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str, points: &[f32]) -> RunSeries {
        let snapshots = points
            .iter()
            .zip(0..)
            .map(|(&x, step)| Snapshot { step, weights: vec![x, 1.0], predictions: None, loss: None })
            .collect();
        RunSeries { run: name.into(), snapshots, disturbed: Vec::new() }
    }

    fn usable(runs: &[RunSeries]) -> Vec<bool> {
        Group::new(runs).unwrap().rows(Features::Weights).unwrap().rows.iter().map(|row| row.usable).collect()
    }

    #[test]
    fn a_run_that_diverges_is_left_out_from_where_it_leaves() {
        let settled = [8.0, 3.0, 1.0, 0.5, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1];
        let runs = [run("a", &settled), run("b", &settled.map(|x| -x)), run("c", &[7.0, 5.0, 1e3, 1e30])];
        let usable = usable(&runs);
        assert!(usable[..22].iter().all(|&usable| usable), "starts are no outliers");
        assert_eq!(usable[22..], [false, false]);
    }

    #[test]
    fn what_alerts_cover_is_not_learned_from() {
        let mut runs = [run("a", &[3.0, 2.0, 1.0]), run("b", &[3.0, 2.0, 1.0])];
        runs[1].disturbed = vec![(1, 1)];
        assert_eq!(usable(&runs), [true, true, true, true, false, true]);
        runs[1].disturbed = vec![(0, 9)];
        runs[0].disturbed = vec![(0, 9)];
        let error = Group::new(&runs).unwrap().rows(Features::Weights).unwrap_err();
        assert_eq!(error, EngineError::NothingToLearnFrom { checkpoints: 6, disturbed: 6 });
    }

    #[test]
    fn runs_kept_back_say_nothing_of_what_is_usual() {
        let near = [3.0, 2.0, 1.0];
        let runs = [
            run("a", &near),
            run("b", &near.map(|x| -x)),
            run("c", &near.map(|x| 100.0 * x)),
            run("d", &near.map(|x| -90.0 * x)),
            run("e", &near.map(|x| 95.0 * x)),
        ];
        let group = Group::new(&runs).unwrap().reserving(|name| name > "b");
        let rows = group.rows(Features::Weights).unwrap();
        assert_eq!(rows.left_out.far, 9);
        assert_eq!(rows.teaching().len(), 6);
        let all = group.reserving(|_| true).rows(Features::Weights).unwrap();
        assert!(all.teaching().len() > 6, "where all are kept back, all must serve");
    }

    #[test]
    fn bad_input_is_named() {
        assert_eq!(Group::new(&[]).unwrap_err(), EngineError::NoRuns);
        let twice = [run("a", &[1.0]), run("a", &[2.0])];
        assert_eq!(Group::new(&twice).unwrap_err(), EngineError::DuplicateRun { run: "a".into() });
        let error = Group::new(&[run("a", &[1.0, f32::NAN])]).unwrap_err();
        assert_eq!(error, EngineError::NonFinite { run: "a".into(), step: 1, what: "weights" });
        let mut ragged = [run("a", &[1.0, 2.0])];
        ragged[0].snapshots[1].weights.push(0.0);
        assert!(matches!(Group::new(&ragged).unwrap_err(), EngineError::LengthMismatch { step: 1, .. }));
        let mut backward = [run("a", &[1.0, 2.0])];
        backward[0].snapshots[1].step = 0;
        assert!(matches!(Group::new(&backward).unwrap_err(), EngineError::StepsOutOfOrder { step: 0, .. }));
    }
}
