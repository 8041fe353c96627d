//! Which projection and lag to use, where that is left to us, and how smooth the map is.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::candidate::{Tried, loss_correlation};
use super::{Coordinates, function_space, project};
use crate::engine::quality::{Assessment, Split, assess, folds};
use crate::engine::random::Random;
use crate::engine::surrogate::{FittedMap, Search};
use crate::engine::trajectories::{Group, Pairs, Path, common_stride, longest_span, pairs};
use crate::engine::{
    Candidate, Control, EngineError, Hyperparameters, LagChoice, Parameters, PriorMean, ProjectionChoice,
    SurrogateParameters,
};

/// With this many runs or more, a quarter of them takes no part in the choice, so that quality can be taken on it.
const ENOUGH_RUNS: usize = 12;

/// Fewest pairs at which a lag is tried.
const FEWEST_PAIRS: usize = 8;

/// Sets of runs that are left out in turn, to compare what was tried and in the end.
const QUICK_FOLDS: usize = 5;
const FOLDS: usize = 10;

/// Least length scales among which the smoothest sufficient one is sought, in spreads of the inputs.
const LEAST_SCALES: [f64; 4] = [1.0, 0.5, 0.25, 0.1];

/// What a smoother map may lose in log predictive density, in nats for each coordinate, before a less smooth one is
/// preferred.
const SMOOTHNESS_TOLERANCE: f64 = 0.03;

/// The coordinates and pairs of an analysis.
#[derive(Debug)]
pub(in crate::engine) struct Choice<'a> {
    pub(in crate::engine) coordinates: Coordinates<'a>,
    pub(in crate::engine) pairs: Pairs,
    /// What was tried, if there was anything to choose.
    pub(in crate::engine) candidates: Vec<Candidate>,
    /// Why nothing that was tried is good enough, if so.
    pub(in crate::engine) shortcomings: Option<String>,
    /// Where the search for hyperparameters may begin.
    start: Option<Vec<Hyperparameters>>,
    /// Numbers of the pairs of runs that took part in the choice, and of those that did not.
    split: Split,
}

impl Choice<'_> {
    /// Hyperparameters of the map, among the smoothest that predict runs left out as well as any. Runs that are kept
    /// for the assessment have no say.
    ///
    /// The likelihood alone is a bad judge of length scales here. Points of one run share what the projection forgets,
    /// and the likelihood, which takes all pairs to be independent, explains that by a map that bends from run to run.
    /// So the length scales are bounded from below, as high as prediction of other runs allows.
    pub(in crate::engine) fn hyperparameters(
        &self,
        parameters: &SurrogateParameters,
        control: &Control,
    ) -> Result<Vec<Hyperparameters>, EngineError> {
        let pairs = self.pairs.select(&self.split.0);
        let start = self.start.as_deref();
        let least_scale = match parameters.prior_mean {
            PriorMean::Zero => LEAST_SCALES[0],
            PriorMean::Affine | PriorMean::Displacement => smoothest(&pairs, parameters, start, control)?,
        };
        FittedMap::hyperparameters(&pairs, parameters, Search { quick: false, least_scale, start }, control)
    }

    /// Prediction of runs left out: of those that took no part in the choice, where there are any, else of each run (or
    /// each of ten sets of runs) in turn.
    pub(in crate::engine) fn assess(
        &self,
        parameters: &SurrogateParameters,
        hyperparameters: &[Hyperparameters],
        control: &Control,
    ) -> Result<Assessment, EngineError> {
        let splits =
            if self.split.1.is_empty() { folds(&self.pairs, FOLDS) } else { vec![self.split.clone()] };
        assess(&self.pairs, &splits, parameters, hyperparameters, control)
    }
}

/// Chooses projection and lag, as far as the parameters leave them open: the first projection that qualifies, at its
/// shortest qualifying lag. If nothing qualifies, what meets most conditions.
///
/// # Errors
/// Those of [`project`] and [`pairs`] where nothing is possible.
pub(in crate::engine) fn choose<'a>(
    group: &Group<'a>,
    parameters: &Parameters,
    control: &Control,
) -> Result<Choice<'a>, EngineError> {
    let mut possible = projections(group, parameters, control)?;
    if parameters.projection != ProjectionChoice::Auto && parameters.lag != LagChoice::Auto {
        let coordinates = possible.swap_remove(0);
        let pairs = pairs(&coordinates.paths, parameters.dimension, parameters.lag)?;
        let split = ((0..pairs.len()).collect(), Vec::new());
        return Ok(Choice {
            coordinates,
            pairs,
            candidates: Vec::new(),
            shortcomings: None,
            start: None,
            split,
        });
    }

    let reserved = reserved(group);
    let mut combinations = combinations(&possible, &reserved, parameters)?;
    let loss_correlations: Vec<Option<f64>> =
        possible.iter().map(|coordinates| loss_correlation(&coordinates.paths, &reserved)).collect();
    let done = AtomicUsize::new(0);
    let mut tried: Vec<Tried> = combinations
        .par_iter()
        .map(|Combination { projection, pairs, split }| {
            let (coordinates, own) = (&possible[*projection], pairs.select(&split.0));
            let splits = folds(&own, QUICK_FOLDS);
            let tried =
                Tried::new(coordinates, &own, &splits, loss_correlations[*projection], parameters, control)?;
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            control.report("choice", done as f64 / combinations.len() as f64);
            Ok(tried)
        })
        .collect::<Result<_, EngineError>>()?;
    let best = tried.iter().position(|tried| tried.candidate.qualifies).unwrap_or_else(|| {
        let better = |best: usize, other: usize| if tried[other].beats(&tried[best]) { other } else { best };
        (0..tried.len()).reduce(better).unwrap_or(0)
    });
    let Combination { projection, pairs, split } = combinations.swap_remove(best);
    let shortcomings = (!tried[best].candidate.qualifies).then(|| tried[best].candidate.reason.clone());
    let start = Some(std::mem::take(&mut tried[best].hyperparameters));
    let candidates = tried.into_iter().map(|tried| tried.candidate).collect();
    Ok(Choice {
        coordinates: possible.swap_remove(projection),
        pairs,
        candidates,
        shortcomings,
        start,
        split,
    })
}

/// The projections that come into question, in order of preference.
fn projections<'a>(
    group: &Group<'a>,
    parameters: &Parameters,
    control: &Control,
) -> Result<Vec<Coordinates<'a>>, EngineError> {
    let kinds = match parameters.projection {
        ProjectionChoice::Auto if function_space::is_possible(group) => {
            vec![ProjectionChoice::FunctionSpace, ProjectionChoice::Pca]
        }
        ProjectionChoice::Auto => vec![ProjectionChoice::Pca],
        fixed => vec![fixed],
    };
    let mut possible = Vec::new();
    let mut failure = None;
    for kind in kinds {
        match project(group, kind, parameters.dimension, control) {
            Ok(coordinates) => possible.push(coordinates),
            Err(EngineError::Cancelled) => return Err(EngineError::Cancelled),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    match failure {
        Some(error) if possible.is_empty() => Err(error),
        _ => Ok(possible),
    }
}

/// A projection (its number) and the pairs at one lag.
struct Combination {
    projection: usize,
    pairs: Pairs,
    /// Pairs of runs that take part in the choice, and of those that do not.
    split: Split,
}

fn combinations(
    possible: &[Coordinates<'_>],
    reserved: &[&str],
    parameters: &Parameters,
) -> Result<Vec<Combination>, EngineError> {
    let mut combinations = Vec::new();
    let mut failure = None;
    for (projection, coordinates) in possible.iter().enumerate() {
        let paths = &coordinates.paths;
        let mut add = |lag, fewest| match pairs(paths, parameters.dimension, lag) {
            Ok(pairs) if pairs.len() >= fewest => {
                let is_reserved = |&number: &usize| is_reserved(&paths[pairs.path[number]], reserved);
                let (kept, own): (Vec<usize>, Vec<usize>) = (0..pairs.len()).partition(is_reserved);
                // with few pairs nothing can be put by
                let split = if kept.is_empty() || own.len() < FEWEST_PAIRS {
                    ((0..pairs.len()).collect(), Vec::new())
                } else {
                    (own, kept)
                };
                combinations.push(Combination { projection, pairs, split });
                true
            }
            Ok(_few) => false,
            Err(error) => {
                failure = Some(error);
                false
            }
        };
        match parameters.lag {
            LagChoice::Auto => {
                let found =
                    ladder(paths).into_iter().filter(|&lag| add(LagChoice::Steps(lag), FEWEST_PAIRS)).count();
                if found == 0 {
                    add(LagChoice::Steps(common_stride(paths).unwrap_or(1)), 1);
                }
            }
            fixed => {
                add(fixed, 1);
            }
        }
    }
    match failure {
        Some(error) if combinations.is_empty() => Err(error),
        _ => Ok(combinations),
    }
}

/// Multiples 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, … of the common stride, up to half the longest run.
fn ladder(paths: &[Path<'_>]) -> Vec<u64> {
    let Some(stride) = common_stride(paths) else { return Vec::new() };
    let longest = (longest_span(paths) / 2).max(stride);
    let decade = |power: u32| [10, 15, 20, 30, 50, 70].map(|tens| tens * 10u64.pow(power));
    let multiples = [1, 2, 3, 5, 7].into_iter().chain((0..12).flat_map(decade));
    multiples.map_while(|multiple| multiple.checked_mul(stride)).take_while(|&lag| lag <= longest).collect()
}

/// Names of a quarter of the runs, where there are enough; sorted.
fn reserved<'a>(group: &Group<'a>) -> Vec<&'a str> {
    let mut runs: Vec<&str> = group.runs().iter().map(|run| run.run.as_str()).collect();
    if runs.len() < ENOUGH_RUNS {
        return Vec::new();
    }
    Random::new(1).shuffle(&mut runs);
    runs.truncate(runs.len() / 4);
    runs.sort_unstable();
    runs
}

/// Whether a run takes no part in the choice.
pub(super) fn is_reserved(path: &Path<'_>, reserved: &[&str]) -> bool {
    reserved.binary_search(&path.run.run.as_str()).is_ok()
}

/// The largest least length scale at which runs left out are predicted as well as at any other.
fn smoothest(
    pairs: &Pairs,
    parameters: &SurrogateParameters,
    start: Option<&[Hyperparameters]>,
    control: &Control,
) -> Result<f64, EngineError> {
    let splits = folds(pairs, QUICK_FOLDS);
    if splits.is_empty() {
        return Ok(LEAST_SCALES[0]);
    }
    let density = |&least_scale: &f64| {
        let search = Search { quick: true, least_scale, start };
        let hyperparameters = FittedMap::hyperparameters(pairs, parameters, search, control)?;
        Ok(-assess(pairs, &splits, parameters, &hyperparameters, control)?.negative_log_predictive_density)
    };
    let densities: Vec<f64> = LEAST_SCALES.par_iter().map(density).collect::<Result<_, EngineError>>()?;
    let best = densities.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let enough = densities.iter().position(|&density| density >= best - SMOOTHNESS_TOLERANCE);
    Ok(LEAST_SCALES[enough.unwrap_or(0)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Points, RunSeries};

    #[test]
    fn lags_are_multiples_of_the_stride_up_to_half_a_run() {
        let run = RunSeries { run: "r".into(), snapshots: Vec::new(), disturbed: Vec::new() };
        let steps: Vec<u64> = (0..46).map(|i| i * 10).collect();
        let path = Path {
            run: &run,
            points: Points::from_rows(1, steps.iter().map(|&step| [step as f64])),
            losses: vec![None; steps.len()],
            usable: vec![true; steps.len()],
            steps,
        };
        assert_eq!(ladder(&[path]), [10, 20, 30, 50, 70, 100, 150, 200]);
    }
}
