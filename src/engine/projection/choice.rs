//! Which projection and lag to use, where that is left to us.
//!
//! Predictability alone must not choose: at a long lag every contracting map looks perfect, and a constant coordinate
//! is the best predicted of all. A combination qualifies when, on whole runs left out, it predicts the next point much
//! better than persistence and than a constant do; its coordinates tell the loss; and motion in one lag exceeds a few
//! cells of the grid, since otherwise every small step is a fixed point at the grid's resolution. The first projection
//! that qualifies is taken, at its shortest qualifying lag.

use rayon::prelude::*;

use super::{Coordinates, function_space, project};
use crate::engine::quality::{Assessment, assess, folds};
use crate::engine::random::{Random, spread_sample};
use crate::engine::statistics::{median, rank_correlation};
use crate::engine::surrogate::{FittedMap, Search};
use crate::engine::trajectories::{Group, Pairs, Path, common_stride, longest_span, pairs};
use crate::engine::{
    Candidate, Control, EngineError, Hyperparameters, LagChoice, Margin, Parameters, Points, PriorMean,
    ProjectionChoice, SurrogateParameters,
};

/// Least R² of the next point, of every coordinate, against a constant.
const LEAST_SKILL: f64 = 0.5;

/// Least share of the squared error of persistence that must be removed.
const LEAST_SKILL_OVER_PERSISTENCE: f64 = 0.5;

/// Least motion in one lag, in cells. Images of cells are three to four cells wide; where motion is not clearly more,
/// sets are recurrent only because they are seen through a coarse grid.
const LEAST_MOTION: f64 = 10.0;

/// Least rank correlation of the loss with what the coordinates tell of it.
const LEAST_LOSS_CORRELATION: f64 = 0.5;

/// Least length scales among which the smoothest sufficient one is sought, in spreads of the inputs.
const LEAST_SCALES: [f64; 4] = [1.0, 0.5, 0.25, 0.1];

/// What a smoother map may lose in log predictive density, in nats for each coordinate, before a less smooth one is
/// preferred.
const SMOOTHNESS_TOLERANCE: f64 = 0.03;

/// With this many runs or more, a quarter of them takes no part in the choice, so that quality can be taken on it.
const ENOUGH_RUNS: usize = 12;

/// Fewest pairs from which anything is learned.
pub(in crate::engine) const FEWEST_PAIRS: usize = 8;

/// The coordinates and pairs of an analysis.
#[derive(Debug)]
pub(in crate::engine) struct Choice<'a> {
    pub(in crate::engine) coordinates: Coordinates<'a>,
    pub(in crate::engine) pairs: Pairs,
    /// What was tried, if there was anything to choose.
    pub(in crate::engine) candidates: Vec<Candidate>,
    /// Where the search for hyperparameters may begin.
    hyperparameters: Option<Vec<Hyperparameters>>,
    /// Paths that took no part in the choice.
    pub(in crate::engine) reserved: Vec<usize>,
    /// Why nothing that was tried is good enough, if so.
    pub(in crate::engine) shortcomings: Option<String>,
}

impl Choice<'_> {
    /// Hyperparameters of the map, among the smoothest that predict runs left out as well as any.
    ///
    /// The likelihood alone is a bad judge of length scales here. Points of one run share what the projection forgets,
    /// and the likelihood, which takes all pairs to be independent, explains that by a map that bends from run to run.
    /// So the length scales are bounded from below, as high as prediction of other runs allows.
    pub(in crate::engine) fn hyperparameters(
        &self,
        parameters: &SurrogateParameters,
        control: &Control,
    ) -> Result<Vec<Hyperparameters>, EngineError> {
        let start = self.hyperparameters.as_deref();
        let least_scale = match parameters.prior_mean {
            PriorMean::Zero => LEAST_SCALES[0],
            PriorMean::Affine | PriorMean::Displacement => self.smoothest(parameters, control)?,
        };
        let search = Search { quick: false, least_scale, start };
        FittedMap::hyperparameters(&self.pairs, parameters, search, control)
    }

    fn smoothest(&self, parameters: &SurrogateParameters, control: &Control) -> Result<f64, EngineError> {
        let own: Vec<usize> = (0..self.pairs.len()).filter(|&number| !self.is_reserved(number)).collect();
        let pairs = self.pairs.select(&own);
        let splits = folds(&pairs, 5);
        let density = |&least_scale: &f64| {
            let search = Search { quick: true, least_scale, start: self.hyperparameters.as_deref() };
            let hyperparameters = FittedMap::hyperparameters(&pairs, parameters, search, control)?;
            Ok(-assess(&pairs, &splits, parameters, &hyperparameters, control)?
                .negative_log_predictive_density)
        };
        let densities: Vec<f64> = LEAST_SCALES.par_iter().map(density).collect::<Result<_, EngineError>>()?;
        let best = densities.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let enough = densities.iter().position(|density| *density >= best - SMOOTHNESS_TOLERANCE);
        Ok(LEAST_SCALES[enough.unwrap_or(0)])
    }

    fn is_reserved(&self, pair: usize) -> bool {
        self.reserved.binary_search(&self.pairs.path[pair]).is_ok()
    }

    /// Prediction of runs left out: of those that took no part in the choice, where there are any, else of each run (or
    /// each of ten sets of runs) in turn.
    pub(in crate::engine) fn assess(
        &self,
        parameters: &SurrogateParameters,
        hyperparameters: &[Hyperparameters],
        control: &Control,
    ) -> Result<Assessment, EngineError> {
        let splits = if self.reserved.is_empty() {
            folds(&self.pairs, 10)
        } else {
            let (test, training) = (0..self.pairs.len()).partition(|&number| self.is_reserved(number));
            vec![(training, test)]
        };
        assess(&self.pairs, &splits, parameters, hyperparameters, control)
    }
}

/// Chooses projection and lag, as far as the parameters leave them open.
///
/// # Errors
/// Those of [`project`] and [`pairs`] where nothing is possible.
pub(in crate::engine) fn choose<'a>(
    group: &Group<'a>,
    parameters: &Parameters,
    control: &Control,
) -> Result<Choice<'a>, EngineError> {
    let kinds = match parameters.projection {
        ProjectionChoice::Auto if function_space::is_possible(group) => {
            vec![ProjectionChoice::FunctionSpace, ProjectionChoice::Pca]
        }
        ProjectionChoice::Auto => vec![ProjectionChoice::Pca],
        fixed => vec![fixed],
    };
    let open = kinds.len() > 1 || parameters.lag == LagChoice::Auto;
    let mut possible = Vec::new();
    let mut failure = None;
    for kind in kinds {
        match project(group, kind, parameters.dimension, control) {
            Ok(coordinates) => possible.push(coordinates),
            Err(EngineError::Cancelled) => return Err(EngineError::Cancelled),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    let Some(first) = possible.first() else { return Err(failure.unwrap_or(EngineError::NoRuns)) };
    if !open {
        let pairs = pairs(&first.paths, parameters.dimension, parameters.lag)?;
        let coordinates = possible.swap_remove(0);
        let (candidates, reserved) = (Vec::new(), Vec::new());
        return Ok(Choice {
            coordinates,
            pairs,
            candidates,
            hyperparameters: None,
            reserved,
            shortcomings: None,
        });
    }

    let mut combinations = Vec::new();
    for (number, coordinates) in possible.iter().enumerate() {
        let pairs_at = |lag| pairs(&coordinates.paths, parameters.dimension, lag);
        match parameters.lag {
            LagChoice::Auto => {
                let found = ladder(&coordinates.paths)
                    .into_iter()
                    .filter_map(|lag| pairs_at(LagChoice::Steps(lag)).ok());
                let before = combinations.len();
                combinations
                    .extend(found.filter(|pairs| pairs.len() >= FEWEST_PAIRS).map(|pairs| (number, pairs)));
                if combinations.len() == before {
                    let stride = common_stride(&coordinates.paths).unwrap_or(1);
                    combinations.extend(pairs_at(LagChoice::Steps(stride)).ok().map(|pairs| (number, pairs)));
                }
            }
            fixed => combinations.extend(pairs_at(fixed).ok().map(|pairs| (number, pairs))),
        }
    }
    if combinations.is_empty() {
        // says which distances there are
        pairs(&first.paths, parameters.dimension, parameters.lag.or_stride(&first.paths))?;
    }
    let done = std::sync::atomic::AtomicUsize::new(0);
    let tried: Vec<Tried> = combinations
        .par_iter()
        .map(|(number, pairs)| {
            let tried = Tried::new(&possible[*number], pairs, parameters, control)?;
            let done = done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
            control.report("choice", done as f64 / combinations.len() as f64);
            Ok(tried)
        })
        .collect::<Result<_, EngineError>>()?;
    let best = tried.iter().position(|tried| tried.candidate.qualifies).unwrap_or_else(|| {
        (0..tried.len())
            .reduce(|best, other| if tried[other].beats(&tried[best]) { other } else { best })
            .unwrap_or(0)
    });
    let (number, pairs) = combinations.swap_remove(best);
    let coordinates = possible.swap_remove(number);
    let reserved = reserved(&pairs);
    let hyperparameters = Some(tried[best].hyperparameters.clone());
    let shortcomings = (!tried[best].candidate.qualifies).then(|| tried[best].candidate.reason.clone());
    let candidates = tried.into_iter().map(|tried| tried.candidate).collect();
    Ok(Choice { coordinates, pairs, candidates, hyperparameters, reserved, shortcomings })
}

impl LagChoice {
    fn or_stride(self, paths: &[Path<'_>]) -> Self {
        if self == LagChoice::Auto { LagChoice::Steps(common_stride(paths).unwrap_or(1)) } else { self }
    }
}

/// Multiples 1, 2, 3, 5, 7, 10, 15, 20, 30, … of the common stride, up to half the longest run.
fn ladder(paths: &[Path<'_>]) -> Vec<u64> {
    let Some(stride) = common_stride(paths) else { return Vec::new() };
    let longest = longest_span(paths) / 2;
    let decade = |power: u32| [10, 15, 20, 30, 50, 70].map(|tens| tens * 10u64.pow(power));
    let multiples = [1, 2, 3, 5, 7].into_iter().chain((0..12).flat_map(decade));
    multiples
        .map_while(|multiple| multiple.checked_mul(stride))
        .take_while(|&lag| lag <= longest.max(stride))
        .collect()
}

/// A quarter of the runs, where there are enough.
fn reserved(pairs: &Pairs) -> Vec<usize> {
    let mut runs = pairs.paths();
    if runs.len() < ENOUGH_RUNS {
        return Vec::new();
    }
    Random::new(1).shuffle(&mut runs);
    runs.truncate(runs.len() / 4);
    runs.sort_unstable();
    runs
}

struct Tried {
    candidate: Candidate,
    hyperparameters: Vec<Hyperparameters>,
    /// How many of the conditions hold, then how well the next point is predicted.
    merit: (usize, f64),
}

impl Tried {
    fn new(
        coordinates: &Coordinates<'_>,
        pairs: &Pairs,
        parameters: &Parameters,
        control: &Control,
    ) -> Result<Self, EngineError> {
        let reserved = reserved(pairs);
        let own: Vec<usize> =
            (0..pairs.len()).filter(|&i| reserved.binary_search(&pairs.path[i]).is_err()).collect();
        let lag_steps = pairs.lag().steps;
        let pairs = pairs.select(&own);
        let surrogate = &parameters.surrogate;
        let search = Search { quick: true, least_scale: LEAST_SCALES[1], start: None };
        let hyperparameters = FittedMap::hyperparameters(&pairs, surrogate, search, control)?;
        let assessment = assess(&pairs, &folds(&pairs, 5), surrogate, &hyperparameters, control)?;
        let motion_cells = motion_in_cells(coordinates, &pairs, parameters);
        let loss_correlation = loss_correlation(&coordinates.paths, &reserved);
        let conditions = conditions(&assessment, motion_cells, loss_correlation);
        let reasons: Vec<String> = conditions.iter().flatten().cloned().collect();
        let worst = assessment.skill.iter().copied().fold(assessment.skill_over_persistence, f64::min);
        let candidate = Candidate {
            projection: coordinates.projection.kind,
            lag_steps,
            skill: assessment.skill,
            skill_over_persistence: assessment.skill_over_persistence,
            motion_cells,
            loss_correlation,
            qualifies: reasons.is_empty(),
            reason: reasons.join("; "),
        };
        let held = conditions.iter().filter(|condition| condition.is_none()).count();
        Ok(Self { candidate, hyperparameters, merit: (held, worst) })
    }

    fn beats(&self, other: &Self) -> bool {
        self.merit.0 > other.merit.0 || self.merit.0 == other.merit.0 && self.merit.1 > other.merit.1
    }
}

/// What is wrong with a candidate, condition by condition.
fn conditions(assessment: &Assessment, motion: f64, loss_correlation: Option<f64>) -> [Option<String>; 4] {
    let skill = assessment.skill.iter().copied().fold(f64::INFINITY, f64::min);
    let over_persistence = assessment.skill_over_persistence;
    [
        (skill < LEAST_SKILL).then(|| {
            format!("on runs left out, a coordinate of the next point is predicted hardly better than by its mean (R² {skill:.2}, at least {LEAST_SKILL} is needed)")
        }),
        (over_persistence < LEAST_SKILL_OVER_PERSISTENCE).then(|| {
            format!("predicting that nothing moves is nearly as good (the map removes {over_persistence:.2} of that error, at least {LEAST_SKILL_OVER_PERSISTENCE} is needed)")
        }),
        (motion < LEAST_MOTION).then(|| {
            format!("typical motion in one lag is {motion:.1} cells, less than {LEAST_MOTION}: every small step would look like a fixed point")
        }),
        loss_correlation.filter(|&correlation| correlation < LEAST_LOSS_CORRELATION).map(|correlation| {
            format!("the coordinates say little about the loss (rank correlation {correlation:.2}, at least {LEAST_LOSS_CORRELATION} is needed)")
        }),
    ]
}

/// Median motion in one lag along the axis of most motion, in cells of the grid.
fn motion_in_cells(coordinates: &Coordinates<'_>, pairs: &Pairs, parameters: &Parameters) -> f64 {
    let dimension = coordinates.dimension() as u32;
    let along = |axis: usize| {
        let (low, high) = coordinates.range(axis);
        let width = match parameters.grid.margin {
            Margin::Share(share) => (high - low) * (1.0 + 2.0 * share),
            Margin::Absolute(length) => high - low + 2.0 * length,
        };
        let halvings = (parameters.grid.subdivisions + dimension - 1 - axis as u32) / dimension;
        let moved = pairs.from.column(axis).zip(pairs.to.column(axis)).map(|(from, to)| (to - from).abs());
        median(&mut moved.collect::<Vec<_>>()) / width * 2f64.powi(halvings as i32)
    };
    (0..coordinates.dimension()).map(along).fold(0.0, f64::max)
}

/// Points by whose neighbours the loss is predicted, and points where it is.
const LOSS_POINTS: usize = 600;

/// Nearest neighbours that are averaged.
const NEIGHBOURS: usize = 8;

/// Rank correlation of the loss with the mean loss of the nearest points of other runs; `None` where fewer than half of
/// the points have a loss, or there are too few of them.
fn loss_correlation(paths: &[Path<'_>], reserved: &[usize]) -> Option<f64> {
    let mut known: Vec<(usize, &[f64], f64)> = Vec::new();
    let mut points = 0;
    for (number, path) in
        paths.iter().enumerate().filter(|(number, _)| reserved.binary_search(number).is_err())
    {
        for (place, point) in path.points.rows().enumerate().filter(|(place, _)| path.usable[*place]) {
            points += 1;
            known.extend(path.losses[place].map(|loss| (number, point, loss)));
        }
    }
    if known.len() < 4 * NEIGHBOURS || 2 * known.len() < points {
        return None;
    }
    let known: Vec<_> = spread_sample(known.len(), LOSS_POINTS, 2).into_iter().map(|i| known[i]).collect();
    let dimension = known[0].1.len();
    let all = Points::from_rows(dimension, known.iter().map(|(_, point, _)| point));
    let scales: Vec<f64> =
        (0..dimension).map(|axis| crate::engine::statistics::standard_deviation(all.column(axis))).collect();
    let single_run = known.iter().all(|(run, ..)| *run == known[0].0);
    let predicted: Vec<f64> = known
        .par_iter()
        .enumerate()
        .map(|(i, (run, point, _))| {
            let distance = |other: &[f64]| -> f64 {
                let scaled =
                    point.iter().zip(other).zip(&scales).map(|((a, b), scale)| ((a - b) / scale).powi(2));
                scaled.sum()
            };
            let others = known
                .iter()
                .enumerate()
                .filter(|(j, (other, ..))| if single_run { i != *j } else { other != run });
            let mut near: Vec<(f64, f64)> =
                others.map(|(_, (_, other, loss))| (distance(other), *loss)).collect();
            near.sort_by(|(a, _), (b, _)| a.total_cmp(b));
            near.truncate(NEIGHBOURS);
            near.iter().map(|(_, loss)| loss).sum::<f64>() / near.len().max(1) as f64
        })
        .collect();
    let losses: Vec<f64> = known.iter().map(|(.., loss)| *loss).collect();
    Some(rank_correlation(&predicted, &losses).abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::RunSeries;

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
