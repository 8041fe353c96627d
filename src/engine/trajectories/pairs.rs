//! Pairs of checkpoints one lag apart.

use std::collections::BTreeMap;

use super::Path;
use super::runs::is_disturbed;
use crate::engine::statistics::median;
use crate::engine::{EngineError, Lag, LagChoice, Points};

/// Relative tolerance of a lag.
const TOLERANCE: f64 = 0.1;

/// Points of runs, and where the same runs were one lag later; by run and step.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::engine) struct Pairs {
    pub(in crate::engine) from: Points,
    pub(in crate::engine) to: Points,
    /// Number of the path of each pair.
    pub(in crate::engine) path: Vec<usize>,
    /// Distance in steps of each pair.
    pub(in crate::engine) steps: Vec<u64>,
}

impl Pairs {
    /// Pairs of points that belong to no runs, one step apart.
    ///
    /// # Errors
    /// [`EngineError::Parameter`] if there are none, if they differ in number or dimension, or if one is not finite.
    pub(in crate::engine) fn of_points(from: &Points, to: &Points) -> Result<Self, EngineError> {
        let refuse = |value, need| Err(EngineError::Parameter { name: "pairs", value, need });
        if from.is_empty() {
            return refuse(0.0, "at least one");
        }
        if from.len() != to.len() || from.dimension() != to.dimension() {
            return refuse(to.len() as f64, "as many images as points, of the same dimension");
        }
        if let Some(&value) = from.rows().chain(to.rows()).flatten().find(|value| !value.is_finite()) {
            return refuse(value, "finite numbers");
        }
        let len = from.len();
        Ok(Self { from: from.clone(), to: to.clone(), path: (0..len).collect(), steps: vec![1; len] })
    }

    pub(in crate::engine) fn len(&self) -> usize {
        self.path.len()
    }

    pub(in crate::engine) fn select(&self, numbers: &[usize]) -> Self {
        Self {
            from: self.from.select(numbers),
            to: self.to.select(numbers),
            path: numbers.iter().map(|&number| self.path[number]).collect(),
            steps: numbers.iter().map(|&number| self.steps[number]).collect(),
        }
    }

    /// The paths that gave a pair, in order.
    pub(in crate::engine) fn paths(&self) -> Vec<usize> {
        let mut paths = self.path.clone();
        paths.dedup();
        paths
    }

    /// What the lag turned out to be.
    pub(in crate::engine) fn lag(&self) -> Lag {
        let mut steps: Vec<f64> = self.steps.iter().map(|&steps| steps as f64).collect();
        Lag { steps: median(&mut steps) as u64, pairs: self.len(), runs: self.paths().len() }
    }
}

/// All pairs of usable points of one run that are one lag apart, within 10 %. Each point starts at most one pair, with
/// the point nearest to one lag later. Pairs during which an alert was open do not count.
///
/// # Errors
/// [`EngineError::NoPairs`].
pub(in crate::engine) fn pairs(
    paths: &[Path<'_>],
    dimension: usize,
    lag: LagChoice,
) -> Result<Pairs, EngineError> {
    let mut pairs = Pairs {
        from: Points::new(dimension),
        to: Points::new(dimension),
        path: Vec::new(),
        steps: Vec::new(),
    };
    for (number, path) in paths.iter().enumerate() {
        let usable: Vec<usize> = (0..path.steps.len()).filter(|&i| path.usable[i]).collect();
        for (place, &from) in usable.iter().enumerate() {
            let to = match lag {
                LagChoice::FirstToLast => (place == 0 && usable.len() > 1).then(|| usable[usable.len() - 1]),
                LagChoice::Steps(lag) => nearest(path, &usable[place + 1..], path.steps[from], lag),
                LagChoice::Auto => unreachable!("a lag was chosen before"),
            };
            let Some(to) = to else { continue };
            if !is_disturbed(path.run, path.steps[from], path.steps[to]) {
                pairs.from.push(path.points.row(from));
                pairs.to.push(path.points.row(to));
                pairs.path.push(number);
                pairs.steps.push(path.steps[to] - path.steps[from]);
            }
        }
    }
    if pairs.len() == 0 {
        let lag = match lag {
            LagChoice::Steps(steps) => steps.to_string(),
            _ => "any number of".into(),
        };
        return Err(EngineError::NoPairs { lag, strides: in_words(&strides(paths)) });
    }
    Ok(pairs)
}

/// Of `later` points the one whose distance from step `start` is nearest to `lag`, if it is near enough.
fn nearest(path: &Path<'_>, later: &[usize], start: u64, lag: u64) -> Option<usize> {
    let miss = |&i: &usize| (path.steps[i] - start).abs_diff(lag);
    let best = later.iter().copied().min_by_key(miss)?;
    (miss(&best) as f64 <= TOLERANCE * lag as f64).then_some(best)
}

/// The distance between successive usable points that is met most often; of several the smallest.
pub(in crate::engine) fn common_stride(paths: &[Path<'_>]) -> Option<u64> {
    strides(paths)
        .into_iter()
        .max_by_key(|&(stride, count)| (count, std::cmp::Reverse(stride)))
        .map(|(stride, _)| stride)
}

/// Steps between the first and the last usable point of the longest run.
pub(in crate::engine) fn longest_span(paths: &[Path<'_>]) -> u64 {
    let span = |path: &Path<'_>| {
        let mut steps =
            path.steps.iter().zip(&path.usable).filter(|(_, usable)| **usable).map(|(step, _)| step);
        let first = steps.next()?;
        Some(steps.next_back()? - first)
    };
    paths.iter().filter_map(span).max().unwrap_or(0)
}

fn strides(paths: &[Path<'_>]) -> BTreeMap<u64, usize> {
    let mut strides = BTreeMap::new();
    for path in paths {
        let steps: Vec<u64> = path
            .steps
            .iter()
            .zip(&path.usable)
            .filter(|(_, usable)| **usable)
            .map(|(step, _)| *step)
            .collect();
        for pair in steps.windows(2) {
            *strides.entry(pair[1] - pair[0]).or_default() += 1;
        }
    }
    strides
}

fn in_words(strides: &BTreeMap<u64, usize>) -> String {
    if strides.is_empty() {
        return "not known, since no run has two usable checkpoints".into();
    }
    let mut by_count: Vec<(u64, usize)> = strides.iter().map(|(&stride, &count)| (stride, count)).collect();
    by_count.sort_unstable_by_key(|&(stride, count)| (std::cmp::Reverse(count), stride));
    let shown: Vec<String> = by_count.iter().take(5).map(|(stride, _)| stride.to_string()).collect();
    let more = if by_count.len() > shown.len() { ", …" } else { "" };
    format!("{}{more} steps", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::RunSeries;

    fn run(disturbed: &[(u64, u64)]) -> RunSeries {
        RunSeries { run: "r".into(), snapshots: Vec::new(), disturbed: disturbed.to_vec() }
    }

    fn path<'a>(run: &'a RunSeries, steps: &[u64]) -> Path<'a> {
        Path {
            run,
            reserved: false,
            steps: steps.to_vec(),
            points: Points::from_rows(1, steps.iter().map(|&step| [step as f64])),
            losses: vec![None; steps.len()],
            usable: vec![true; steps.len()],
        }
    }

    fn spans(pairs: &Pairs) -> Vec<(f64, f64)> {
        pairs.from.column(0).zip(pairs.to.column(0)).collect()
    }

    #[test]
    fn pairs_are_one_lag_apart_and_never_mix_runs() {
        let run = run(&[]);
        let paths = [path(&run, &[0, 10, 21, 30]), path(&run, &[100, 119])];
        let found = pairs(&paths, 1, LagChoice::Steps(20)).unwrap();
        assert_eq!(spans(&found), [(0.0, 21.0), (10.0, 30.0), (100.0, 119.0)]);
        assert_eq!(found.path, [0, 0, 1]);
        assert_eq!(found.lag(), Lag { steps: 20, pairs: 3, runs: 2 });
        let ends = pairs(&paths, 1, LagChoice::FirstToLast).unwrap();
        assert_eq!(spans(&ends), [(0.0, 30.0), (100.0, 119.0)]);
    }

    #[test]
    fn pairs_keep_clear_of_alerts() {
        let run = run(&[(12, 13)]);
        let paths = [path(&run, &[0, 10, 20, 30])];
        assert_eq!(spans(&pairs(&paths, 1, LagChoice::Steps(10)).unwrap()), [(0.0, 10.0), (20.0, 30.0)]);
    }

    #[test]
    fn a_lag_that_does_not_exist_is_answered_by_those_that_do() {
        let run = run(&[]);
        let paths = [path(&run, &[0, 10, 20, 35])];
        let error = pairs(&paths, 1, LagChoice::Steps(7)).unwrap_err();
        assert_eq!(error, EngineError::NoPairs { lag: "7".into(), strides: "10, 15 steps".into() });
        assert_eq!((common_stride(&paths), longest_span(&paths)), (Some(10), 35));
    }
}
