//! Which projection and lag to use, where that is left to us, and how smooth the map is.

use std::cmp::Ordering;
use std::sync::Arc;

use rayon::prelude::*;

use super::candidate::{candidate, motion_in_cells, quick_hyperparameters};
use super::{Coordinates, function_space, project, relaxing};
use crate::engine::limits::{LEAST_GAIN, LEAST_LOSS_CORRELATION, LEAST_MOTION, MUCH_NEGLECTED};
use crate::engine::losses::KnownLosses;
use crate::engine::quality::{Assessment, FEW_PAIRS, Split, assess, folds};
use crate::engine::random::Random;
use crate::engine::surrogate::{FittedMap, Search};
use crate::engine::trajectories::{Features, Group, Pairs, Path, common_stride, longest_span, pairs};
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

/// Pairs by which hyperparameters are found, while maps are compared.
const QUICK_PAIRS: usize = 128;

/// The same, and pairs from which maps are learned, where runs move far enough that it matters how well they are predicted:
/// with few pairs what predicts well on all of them is easily missed.
const MORE_QUICK_PAIRS: usize = 256;
const MORE_PAIRS: usize = 600;

/// Least length scales among which the smoothest sufficient one is sought, in spreads of the inputs.
const LEAST_SCALES: [f64; 4] = [1.0, 0.5, 0.25, 0.1];

/// What a smoother map may lose in log predictive density, in nats for each coordinate, before a less smooth one is
/// preferred.
const SMOOTHNESS_TOLERANCE: f64 = 0.03;

/// A combination of projection and lag that was tried.
struct Tried<'a> {
    coordinates: Arc<Coordinates<'a>>,
    pairs: Pairs,
    /// Pairs of runs that take part in the choice, and of those that do not.
    split: Split,
    candidate: Candidate,
    hyperparameters: Vec<Hyperparameters>,
}

impl Tried<'_> {
    /// What it is worth beside the same projection at other lags and, as long as nothing qualifies, beside others: whether it
    /// qualifies, and if it does not, whether it tells the loss and how well it predicts. (Neither a long lag nor a
    /// constant coordinate helps there: the baselines adapt to them.)
    fn merit(&self) -> (bool, bool, f64) {
        let Candidate { qualifies, loss_correlation, errors, .. } = &self.candidate;
        if *qualifies {
            return (true, true, 0.0);
        }
        (false, loss_correlation.is_none_or(|loss| loss >= LEAST_LOSS_CORRELATION), errors.skill())
    }

    /// Whether the logarithm of the loss, which this has for a coordinate, helps where function space qualifies without.
    fn helps_beside(&self, without: &Self) -> bool {
        let gain = self.candidate.errors.skill() - without.candidate.errors.skill();
        self.candidate.qualifies && gain >= LEAST_GAIN
    }
}

/// Orders what was tried by merit.
fn merit_order(a: &Tried<'_>, b: &Tried<'_>) -> Ordering {
    let ((a_qualifies, a_told, a_skill), (b_qualifies, b_told, b_skill)) = (a.merit(), b.merit());
    (a_qualifies, a_told).cmp(&(b_qualifies, b_told)).then(a_skill.total_cmp(&b_skill))
}

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
    /// So the length scales are bounded from below, as high as prediction of other runs allows; and higher still where the
    /// map bends too much to be represented by its centres, which then were another map than the one that was assessed.
    pub(in crate::engine) fn hyperparameters(
        &self,
        parameters: &SurrogateParameters,
        control: &Control,
    ) -> Result<Vec<Hyperparameters>, EngineError> {
        let pairs = self.pairs.select(&self.split.0);
        let start = self.start.as_deref();
        let smoothest = match parameters.prior_mean {
            PriorMean::Zero => 0,
            PriorMean::Affine | PriorMean::Displacement => smoothest(&pairs, parameters, start, control)?,
        };
        let fit = |least_scale| {
            FittedMap::hyperparameters(
                &pairs,
                parameters,
                Search { quick: None, least_scale, start },
                control,
            )
        };
        for &least_scale in LEAST_SCALES[1..=smoothest].iter().rev() {
            let hyperparameters = fit(least_scale)?;
            let fitted = FittedMap::given(&self.pairs, parameters, &hyperparameters)?;
            if fitted.neglected_variance() <= MUCH_NEGLECTED {
                return Ok(hyperparameters);
            }
        }
        fit(LEAST_SCALES[0])
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
        assess(&self.pairs, &splits, FEW_PAIRS, parameters, hyperparameters, control)
    }
}

/// Chooses projection and lag, as far as the parameters leave them open: the first projection that qualifies, at its
/// shortest qualifying lag. Function space has the logarithm of the loss for a coordinate where it does not qualify without,
/// or where that helps ([`Tried::helps_beside`]). The projections that come after it are tried at the lag that was taken alone, so
/// that it can be told what was passed over. If nothing qualifies, what predicts best is taken.
///
/// # Errors
/// Those of [`project`] and [`pairs`] where nothing is possible.
pub(in crate::engine) fn choose<'a>(
    group: Group<'a>,
    parameters: &Parameters,
    control: &Control,
) -> Result<Choice<'a>, EngineError> {
    if parameters.projection != ProjectionChoice::Auto && parameters.lag != LagChoice::Auto {
        let coordinates = project(&group, parameters.projection, parameters.dimension, control)?;
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

    let reserved = reserved(&group);
    let group = group.reserving(|run| reserved.binary_search(&run).is_ok());
    let kinds = in_question(&group, parameters.projection);
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut best: Option<Tried<'a>> = None;
    let mut failure = None;
    for (number, &kind) in kinds.iter().enumerate() {
        control.report("choice", number as f64 / kinds.len() as f64);
        let taken = best.as_ref().filter(|best| best.candidate.qualifies);
        let lag = match (parameters.lag, taken) {
            (LagChoice::Auto, Some(taken)) if kind != ProjectionChoice::FunctionSpaceAndLoss => {
                LagChoice::Steps(taken.candidate.lag_steps)
            }
            (asked, _) => asked,
        };
        let mut tried = match try_all(&group, kind, lag, parameters, control) {
            Ok(tried) => tried,
            Err(EngineError::Cancelled) => return Err(EngineError::Cancelled),
            Err(error) => {
                failure = failure.or(Some(error));
                continue;
            }
        };
        // of equals the first, which has the shortest lag
        let Some(own) = (0..tried.len()).rev().max_by(|&a, &b| merit_order(&tried[a], &tried[b])) else {
            continue;
        };
        let is_taken = match &best {
            None => true,
            Some(best) if !best.candidate.qualifies => merit_order(&tried[own], best).is_gt(),
            Some(best) => kind == ProjectionChoice::FunctionSpaceAndLoss && tried[own].helps_beside(best),
        };
        candidates.extend(tried.iter().map(|tried| tried.candidate.clone()));
        if is_taken {
            best = Some(tried.swap_remove(own));
        }
    }
    let Some(Tried { coordinates, pairs, split, candidate, hyperparameters, .. }) = best else {
        return Err(failure.unwrap_or(EngineError::NoRuns));
    };
    Ok(Choice {
        coordinates: Arc::unwrap_or_clone(coordinates),
        pairs,
        shortcomings: (!candidate.qualifies).then_some(candidate.reason),
        candidates,
        start: Some(hyperparameters),
        split,
    })
}

/// The projections that come into question, in order of preference.
fn in_question(group: &Group<'_>, asked: ProjectionChoice) -> Vec<ProjectionChoice> {
    if asked != ProjectionChoice::Auto {
        return vec![asked];
    }
    let mut kinds = Vec::new();
    if function_space::count(group, Features::Predictions) > 1 {
        kinds.push(ProjectionChoice::FunctionSpace);
    }
    // after it: a loss that still falls has no fixed point, where predictions have long settled
    if function_space::count(group, Features::PredictionsWithLoss) > 1 {
        kinds.push(ProjectionChoice::FunctionSpaceAndLoss);
    }
    kinds.push(if group.runs().len() < relaxing::FEWEST_RUNS {
        ProjectionChoice::TimeLaggedModes
    } else {
        ProjectionChoice::RelaxingDirections
    });
    kinds.extend([ProjectionChoice::Pca, ProjectionChoice::SelectedWeights]);
    kinds
}

/// The pairs at one lag.
struct Combination {
    pairs: Pairs,
    /// Pairs of runs that take part in the choice, and of those that do not.
    split: Split,
}

/// Tries a projection at all lags.
fn try_all<'a>(
    group: &Group<'a>,
    kind: ProjectionChoice,
    lag: LagChoice,
    parameters: &Parameters,
    control: &Control,
) -> Result<Vec<Tried<'a>>, EngineError> {
    let coordinates = Arc::new(project(group, kind, parameters.dimension, control)?);
    let combinations = combinations(&coordinates.paths, lag, parameters)?;
    let loss_correlation = KnownLosses::of(&coordinates.paths).map(|losses| losses.correlation());
    let try_one = |Combination { pairs, split }: Combination| {
        let own = pairs.select(&split.0);
        let motion = motion_in_cells(&coordinates, &own, parameters)?;
        let (to_fit, to_learn) =
            if motion < LEAST_MOTION { (QUICK_PAIRS, FEW_PAIRS) } else { (MORE_QUICK_PAIRS, MORE_PAIRS) };
        let splits = folds(&own, QUICK_FOLDS);
        let hyperparameters = quick_hyperparameters(&own, to_fit, parameters, control)?;
        let assessment = assess(&own, &splits, to_learn, &parameters.surrogate, &hyperparameters, control)?;
        let candidate = candidate(&coordinates, &own, assessment, loss_correlation, motion);
        Ok(Tried { coordinates: Arc::clone(&coordinates), pairs, split, candidate, hyperparameters })
    };
    combinations.into_par_iter().map(try_one).collect()
}

fn combinations(
    paths: &[Path<'_>],
    lag: LagChoice,
    parameters: &Parameters,
) -> Result<Vec<Combination>, EngineError> {
    let at = |lag| -> Result<Combination, EngineError> {
        let pairs = pairs(paths, parameters.dimension, lag)?;
        let (kept, own): (Vec<usize>, Vec<usize>) =
            (0..pairs.len()).partition(|&number| paths[pairs.path[number]].reserved);
        // with few pairs nothing can be put by
        let split = if kept.is_empty() || own.len() < FEWEST_PAIRS {
            ((0..pairs.len()).collect(), Vec::new())
        } else {
            (own, kept)
        };
        Ok(Combination { pairs, split })
    };
    if lag != LagChoice::Auto {
        return Ok(vec![at(lag)?]);
    }
    let enough = |combination: &Combination| combination.pairs.len() >= FEWEST_PAIRS;
    let all: Vec<Combination> =
        ladder(paths).into_iter().filter_map(|lag| at(LagChoice::Steps(lag)).ok()).filter(enough).collect();
    if all.is_empty() { Ok(vec![at(LagChoice::Steps(common_stride(paths).unwrap_or(1)))?]) } else { Ok(all) }
}

/// How well a projection and a lag predict runs that took no part in anything: coordinates, smoothness and map are
/// learned as for an analysis, from all pairs of the runs that are not kept back, and tested on those that are.
pub(in crate::engine) fn score(
    group: &Group<'_>,
    parameters: &Parameters,
    control: &Control,
) -> Result<Candidate, EngineError> {
    let coordinates = project(group, parameters.projection, parameters.dimension, control)?;
    let loss_correlation = KnownLosses::of(&coordinates.paths).map(|losses| losses.correlation());
    let Combination { pairs, split } =
        combinations(&coordinates.paths, parameters.lag, parameters)?.swap_remove(0);
    let choice =
        Choice { coordinates, pairs, candidates: Vec::new(), shortcomings: None, start: None, split };
    let surrogate = &parameters.surrogate;
    let hyperparameters = choice.hyperparameters(surrogate, control)?;
    let splits = std::slice::from_ref(&choice.split);
    let assessment = assess(&choice.pairs, splits, usize::MAX, surrogate, &hyperparameters, control)?;
    let own = choice.pairs.select(&choice.split.0);
    let motion = motion_in_cells(&choice.coordinates, &own, parameters)?;
    Ok(candidate(&choice.coordinates, &own, assessment, loss_correlation, motion))
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

/// Number of the largest least length scale at which runs left out are predicted as well as at any other.
fn smoothest(
    pairs: &Pairs,
    parameters: &SurrogateParameters,
    start: Option<&[Hyperparameters]>,
    control: &Control,
) -> Result<usize, EngineError> {
    let splits = folds(pairs, QUICK_FOLDS);
    if splits.is_empty() {
        return Ok(0);
    }
    let density = |&least_scale: &f64| {
        let search = Search { quick: Some(QUICK_PAIRS), least_scale, start };
        let hyperparameters = FittedMap::hyperparameters(pairs, parameters, search, control)?;
        Ok(-assess(pairs, &splits, FEW_PAIRS, parameters, &hyperparameters, control)?
            .negative_log_predictive_density)
    };
    let densities: Vec<f64> = LEAST_SCALES.par_iter().map(density).collect::<Result<_, EngineError>>()?;
    let best = densities.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let enough = densities.iter().position(|&density| density >= best - SMOOTHNESS_TOLERANCE);
    Ok(enough.unwrap_or(0))
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
            reserved: false,
            points: Points::from_rows(1, steps.iter().map(|&step| [step as f64])),
            losses: vec![None; steps.len()],
            usable: vec![true; steps.len()],
            steps,
        };
        assert_eq!(ladder(&[path]), [10, 20, 30, 50, 70, 100, 150, 200]);
    }
}
