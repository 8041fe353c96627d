//! How well a map predicts runs that it has not seen.

use rayon::prelude::*;

use super::random::{Random, spread_sample};
use super::statistics::{mean, normal_upper_quantile};
use super::surrogate::FittedMap;
use super::trajectories::Pairs;
use super::{Control, EngineError, Errors, Hyperparameters, SurrogateParameters};

/// Coverage at which intervals are checked.
pub(super) const NOMINAL_COVERAGE: f64 = 0.9;

/// Pairs from which a map is learned for a test among many.
pub(super) const FEW_PAIRS: usize = 240;

/// Pairs on which it is tested.
const TEST_PAIRS: usize = 1000;

/// Prediction of runs left out.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Assessment {
    /// R² of the next point against the constant, for each coordinate.
    pub(super) skill: Vec<f64>,
    /// R² of the displacement against the constant, for each coordinate.
    pub(super) displacement_skill: Vec<f64>,
    /// Share of the squared error of persistence that is removed, over all coordinates, each in units of its spread.
    pub(super) skill_over_persistence: f64,
    pub(super) errors: Errors,
    pub(super) negative_log_predictive_density: f64,
    pub(super) coverage: f64,
    /// Runs that were left out.
    pub(super) runs: usize,
}

/// Numbers of the pairs to learn from and to test on.
pub(super) type Split = (Vec<usize>, Vec<usize>);

/// Leaves each run out in turn, or each of `most` random sets of runs; of a single run each of five parts.
pub(super) fn folds(pairs: &Pairs, most: usize) -> Vec<Split> {
    let mut runs = pairs.paths();
    let fold_of: Vec<usize> = if let [_] = runs[..] {
        let parts = pairs.len().min(5);
        (0..pairs.len()).map(|number| number * parts / pairs.len()).collect()
    } else {
        Random::new(0).shuffle(&mut runs);
        let count = runs.len().min(most);
        let mut fold_of_run = vec![0; runs.iter().max().map_or(0, |last| last + 1)];
        for (place, &run) in runs.iter().enumerate() {
            fold_of_run[run] = place % count;
        }
        pairs.path.iter().map(|&run| fold_of_run[run]).collect()
    };
    let count = fold_of.iter().max().map_or(0, |last| last + 1);
    (0..count)
        .map(|fold| (0..pairs.len()).partition::<Vec<usize>, _>(|&number| fold_of[number] != fold))
        .filter(|(training, test)| !training.is_empty() && !test.is_empty())
        .collect()
}

/// Learns from at most so many pairs of each split and tests on the others, hyperparameters kept.
pub(super) fn assess(
    pairs: &Pairs,
    splits: &[Split],
    most: usize,
    parameters: &SurrogateParameters,
    hyperparameters: &[Hyperparameters],
    control: &Control,
) -> Result<Assessment, EngineError> {
    let tests: Vec<Test> = splits
        .par_iter()
        .map(|(training, test)| {
            control.check()?;
            let sample = |numbers: &[usize], most| {
                let chosen = spread_sample(numbers.len(), most, 1);
                pairs.select(&chosen.into_iter().map(|place| numbers[place]).collect::<Vec<_>>())
            };
            let training = sample(training, most);
            let test = sample(test, TEST_PAIRS.div_ceil(splits.len()).max(20));
            let map = FittedMap::given(&training, parameters, hyperparameters)?;
            Ok(Test::new(&map, &training, &test))
        })
        .collect::<Result<_, EngineError>>()?;
    Ok(Assessment { runs: assessed(pairs, splits), ..summary(&tests, pairs.from.dimension()) })
}

/// Number of runs that were left out at least once.
fn assessed(pairs: &Pairs, splits: &[Split]) -> usize {
    let mut runs: Vec<usize> =
        splits.iter().flat_map(|(_, test)| test).map(|&number| pairs.path[number]).collect();
    runs.sort_unstable();
    runs.dedup();
    runs.len()
}

/// Squared errors of one test, for each coordinate, with the sums that the figures need.
struct Test {
    model: Vec<f64>,
    constant: Vec<f64>,
    constant_displacement: Vec<f64>,
    persistence: Vec<f64>,
    inside: usize,
    density: f64,
    values: usize,
}

impl Test {
    fn new(map: &FittedMap, training: &Pairs, test: &Pairs) -> Self {
        let dimension = map.dimension();
        let images = map.images(&test.from);
        let factor = normal_upper_quantile((1.0 - NOMINAL_COVERAGE) / 2.0);
        let mut sums = Self {
            model: vec![0.0; dimension],
            constant: vec![0.0; dimension],
            constant_displacement: vec![0.0; dimension],
            persistence: vec![0.0; dimension],
            inside: 0,
            density: 0.0,
            values: test.len() * dimension,
        };
        for axis in 0..dimension {
            let next = mean(training.to.column(axis));
            let displacement = next - mean(training.from.column(axis));
            let noise = map.noise(axis).powi(2);
            for number in 0..test.len() {
                let (from, to) = (test.from.row(number)[axis], test.to.row(number)[axis]);
                let error = to - images.mean.row(number)[axis];
                let variance = images.deviation.row(number)[axis].powi(2) + noise;
                sums.model[axis] += error * error;
                sums.constant[axis] += (to - next).powi(2);
                sums.constant_displacement[axis] += (to - from - displacement).powi(2);
                sums.persistence[axis] += (to - from).powi(2);
                sums.inside += usize::from(error.abs() <= factor * variance.sqrt());
                sums.density +=
                    0.5 * ((2.0 * std::f64::consts::PI * variance).ln() + error * error / variance);
            }
        }
        sums
    }
}

fn summary(tests: &[Test], dimension: usize) -> Assessment {
    let total =
        |of: fn(&Test) -> &Vec<f64>, axis: usize| tests.iter().map(|test| of(test)[axis]).sum::<f64>();
    let removed = |left: f64, reference: f64| if reference > 0.0 { 1.0 - left / reference } else { 0.0 };
    let skill = |reference: fn(&Test) -> &Vec<f64>| -> Vec<f64> {
        (0..dimension).map(|axis| removed(total(|test| &test.model, axis), total(reference, axis))).collect()
    };
    // in units of each coordinate's spread, so that the widest does not decide alone
    let scale = |axis| total(|test| &test.constant, axis).max(f64::MIN_POSITIVE);
    let scaled =
        |of: fn(&Test) -> &Vec<f64>| (0..dimension).map(|axis| total(of, axis) / scale(axis)).sum::<f64>();
    let values: f64 = tests.iter().map(|test| test.values as f64).sum();
    let [model, constant, persistence] =
        [scaled(|test| &test.model), scaled(|test| &test.constant), scaled(|test| &test.persistence)];
    let in_spreads = |squares: f64| (squares / dimension as f64).sqrt();
    Assessment {
        skill: skill(|test| &test.constant),
        displacement_skill: skill(|test| &test.constant_displacement),
        skill_over_persistence: removed(model, persistence),
        errors: Errors {
            surrogate: in_spreads(model),
            persistence: in_spreads(persistence),
            constant: in_spreads(constant),
        },
        negative_log_predictive_density: tests.iter().map(|test| test.density).sum::<f64>() / values,
        coverage: tests.iter().map(|test| test.inside as f64).sum::<f64>() / values,
        runs: 0,
    }
}
