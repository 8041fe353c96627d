//! How far a process' standard deviations can be believed in each place, from pairs that are left out in blocks.
//!
//! Hyperparameters are those that fit all pairs together. Where the map is rougher than elsewhere deviations are then
//! too small, most of all far from pairs, as in a corner of the domain. A single pair left out hardly shows it: its
//! neighbours close the gap, and most of what is seen is noise. So each pair is left out together with the nearest of
//! it: 1, 2, 4, … at a time.
//!
//! Let K be the covariance of all pairs with their noise, H the terms of the trend, and
//! P = K⁻¹ − K⁻¹H (HᵀK⁻¹H)⁻¹ HᵀK⁻¹. The pairs of a block B differ from what all others say of them by `P_BB⁻¹ [Py]_B`, and
//! that has covariance `P_BB⁻¹` (Dubrule, *Cross validation of kriging in a unique neighborhood*, Math. Geology 15, 1983;
//! Ginsbourger and Schärer, *Fast calculation of Gaussian process multiple-fold cross-validation residuals and their
//! covariances*, 2021). Let z² be the square for the pair in the middle by its variance v, and φ = 1 − σ²/v the part of v
//! that is not noise. Were deviations of the map τ times what the process has them, z² would have the mean
//! 1 + φ (τ² − 1). With τ² − 1 of mean zero and variance one before any test, and 2 for the variance of z², the linear
//! estimate of least expected squared error from tests in one place, taken as independent, is
//!
//! τ² = 1 + Σ φ (z² − 1) / (Σ φ² + 2).
//!
//! Tests that see little but noise leave it at one, and enclosures are not made narrower where it is less. That variances
//! are set right by cross-validation rather than by likelihood where the kernel is not the map's: Bachoc, *Cross validation and maximum likelihood estimations of
//! hyper-parameters of Gaussian processes with model misspecification*, Comput. Stat. Data Anal. 66, 2013.
//!
//! *Where a pair contradicts the process* no factor mends it: a map that rises to its peak and falls to zero beyond the
//! last pair is not what the others say with larger errors. There the process is not believed at all. A pair contradicts
//! it if |z| of one of its tests that see more of the map than of noise, φ > ½, exceeds what all tests of all pairs stay
//! below, by the union bound, in nine of ten processes that are what they are taken for. As for τ, the nearest pairs speak
//! for a place, and one of them is enough.

use std::borrow::Cow;

use faer::linalg::solvers::{Llt, Solve as _};
use faer::linalg::triangular_solve::solve_lower_triangular_in_place;
use faer::{Mat, Par, Side};

use super::GaussianProcess;
use super::gaussian_process::{Evidence, Woodbury};
use super::likelihood::JITTER;
use crate::engine::columns::column;
use crate::engine::statistics::normal_upper_quantile;

/// Most pairs of a block.
const LARGEST_BLOCK: usize = 16;

/// No block holds more than one in so many of all pairs: more left out were another map to learn (as ten folds are the
/// usual choice in cross-validation).
const FOLDS: usize = 10;

/// So many of the nearest pairs make up what is said of a place: half of what the largest blocks take away.
const NEIGHBOURS: usize = LARGEST_BLOCK / 2;

/// Least share of a test's variance that is not noise, if it is to contradict the process.
const TELLING: f64 = 0.5;

/// A contradiction is what only this share of processes show anywhere.
const RARE: f64 = 0.1;

/// Variance of the square of a standard normal variable, by that of τ² − 1 before any test.
const WEIGHT_OF_PRIOR: f64 = 2.0;

/// P of a process.
struct Precision<'a> {
    /// Λ⁻¹ where `K⁻¹ = Λ⁻¹ − FᵀF`; with none `K⁻¹ = FᵀF`.
    diagonal: Option<&'a [f64]>,
    /// F, column by pair.
    factor: Cow<'a, Mat<f64>>,
    /// T where `P = K⁻¹ − TᵀT`, row by term of the trend, column by pair.
    trend: &'a Mat<f64>,
}

impl<'a> Precision<'a> {
    fn of(process: &'a GaussianProcess) -> Self {
        let Evidence { woodbury, trend, .. } = &process.evidence;
        match woodbury {
            None => Self { diagonal: None, factor: Cow::Borrowed(&process.reduction), trend },
            Some(Woodbury { diagonal, weighted, gram }) => {
                let mut factor = weighted.transpose().to_owned();
                solve_lower_triangular_in_place(gram.L(), factor.as_mut(), Par::Seq);
                Self { diagonal: Some(diagonal), factor: Cow::Owned(factor), trend }
            }
        }
    }

    fn entry(&self, i: usize, j: usize) -> f64 {
        let product = |matrix: &Mat<f64>| matrix.col(i).transpose() * matrix.col(j);
        let inverse = match self.diagonal {
            None => product(&self.factor),
            Some(diagonal) if i == j => diagonal[i] - product(&self.factor),
            Some(_) => -product(&self.factor),
        };
        inverse - product(self.trend)
    }
}

/// Tests in the place of each centre of a process, all block sizes together.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct HeldOut {
    /// Σ φ (z² − 1), for each output and centre.
    excess: Vec<Vec<f64>>,
    /// Σ φ², for each centre.
    weight: Vec<f64>,
    /// Whether one of them contradicts the process, for each output and centre.
    contradicted: Vec<Vec<bool>>,
}

/// What tests near a point say of the deviation there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Caution {
    /// τ, where it is more than one: by how much the deviation is to be multiplied.
    pub(super) factor: f64,
    /// Whether the process is not believed there.
    pub(super) is_contradicted: bool,
}

impl HeldOut {
    /// Leaves out blocks around each of the centres.
    pub(super) fn of(process: &GaussianProcess) -> Self {
        let Evidence { inputs, centres, solved, .. } = &process.evidence;
        let precision = Precision::of(process);
        let noise = process.hyperparameters.noise_variance + JITTER;
        let largest = (solved.nrows() / FOLDS).clamp(1, LARGEST_BLOCK);
        let of_outputs = vec![vec![0.0; centres.len()]; solved.ncols()];
        let (mut excess, mut largest_errors) = (of_outputs.clone(), of_outputs);
        let mut weight = vec![0.0; centres.len()];
        let mut telling = 0;
        for (place, &centre) in centres.iter().enumerate() {
            let block = nearest(inputs, centre, largest);
            let entries = Mat::from_fn(largest, largest, |i, j| {
                if j <= i { precision.entry(block[i], block[j]) } else { 0.0 }
            });
            for size in (0..).map(|doublings| 1usize << doublings).take_while(|&size| size <= largest) {
                // the first row of P_BB⁻¹; where rounding has left no inverse, nothing is tested
                let Ok(factor) = Llt::new(entries.submatrix(0, 0, size, size), Side::Lower) else { continue };
                let row = factor.solve(&Mat::from_fn(size, 1, |i, _| if i == 0 { 1.0 } else { 0.0 }));
                let variance = row[(0, 0)];
                let share = (1.0 - noise / variance).max(0.0);
                weight[place] += share * share;
                telling += usize::from(share > TELLING);
                for (output, (excess, largest)) in excess.iter_mut().zip(&mut largest_errors).enumerate() {
                    let solved = column(solved, output);
                    let residual: f64 = block[..size]
                        .iter()
                        .zip(column(&row, 0))
                        .map(|(&pair, entry)| entry * solved[pair])
                        .sum();
                    let error = residual.abs() / variance.sqrt();
                    excess[place] += share * (error * error - 1.0);
                    if share > TELLING {
                        largest[place] = error.max(largest[place]);
                    }
                }
            }
        }
        let limit = normal_upper_quantile(RARE / (2 * telling.max(1)) as f64);
        let exceeds = |errors: Vec<f64>| errors.into_iter().map(|error| error > limit).collect();
        Self { excess, weight, contradicted: largest_errors.into_iter().map(exceeds).collect() }
    }

    /// What is said of a point that has these covariances with the centres.
    pub(super) fn caution(&self, output: usize, covariances: &[f64]) -> Caution {
        let mut near = [(f64::NEG_INFINITY, usize::MAX); NEIGHBOURS];
        for (centre, &covariance) in covariances.iter().enumerate() {
            if covariance > near[NEIGHBOURS - 1].0 {
                let place = near.partition_point(|&(nearer, _)| nearer >= covariance);
                near[place..].rotate_right(1);
                near[place] = (covariance, centre);
            }
        }
        let (mut excess, mut weight) = (0.0, WEIGHT_OF_PRIOR);
        let mut is_contradicted = false;
        for &(_, centre) in near.iter().filter(|&&(_, centre)| centre < covariances.len()) {
            excess += self.excess[output][centre];
            weight += self.weight[centre];
            is_contradicted |= self.contradicted[output][centre];
        }
        Caution { factor: (1.0 + excess / weight).max(1.0).sqrt(), is_contradicted }
    }
}

/// The pairs nearest to one of them, which comes first.
fn nearest(scaled: &[Vec<f64>], pair: usize, count: usize) -> Vec<usize> {
    let distance = |other: usize| -> f64 {
        scaled.iter().map(|axis| (axis[other] - axis[pair]) * (axis[other] - axis[pair])).sum()
    };
    let mut others: Vec<(f64, usize)> =
        (0..scaled[0].len()).filter(|&other| other != pair).map(|other| (distance(other), other)).collect();
    let order = |a: &(f64, usize), b: &(f64, usize)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
    if count - 1 < others.len() {
        others.select_nth_unstable_by(count - 1, order);
        others.truncate(count - 1);
    }
    others.sort_unstable_by(order);
    std::iter::once(pair).chain(others.into_iter().map(|(_, other)| other)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::random::Random;
    use crate::engine::{Hyperparameters, Kernel, Points};

    fn hyperparameters(scale: f64, noise: f64) -> Hyperparameters {
        Hyperparameters {
            length_scales: vec![scale],
            signal_variance: 1.5,
            noise_variance: noise,
            log_marginal_likelihood: 0.0,
        }
    }

    /// Sums for one centre, by conditioning on the other pairs alone.
    #[test]
    fn tests_are_those_of_processes_that_have_not_seen_the_block() {
        let mut random = Random::new(5);
        let inputs = Points::from_rows(1, (0..43).map(|_| [3.0 * random.uniform()]));
        let targets = Points::from_rows(1, inputs.rows().map(|x| [(3.0 * x[0]).sin()]));
        let given = |numbers: &[usize]| {
            let (inputs, targets) = (inputs.select(numbers), targets.select(numbers));
            GaussianProcess::given(Kernel::Matern52, hyperparameters(0.9, 0.01), &inputs, &targets).unwrap()
        };
        let all: Vec<usize> = (0..43).collect();
        let tests = HeldOut::of(&given(&all));
        let scaled = [inputs.column(0).map(|x| x / 0.9).collect::<Vec<_>>()];
        for centre in [0, 7, 42] {
            let (mut excess, mut weight) = (0.0, 0.0);
            for size in [1, 2, 4] {
                let block = nearest(&scaled, centre, size);
                let others: Vec<usize> = all.iter().copied().filter(|pair| !block.contains(pair)).collect();
                let told = given(&others).predict(&inputs.select(&[centre]));
                let variance = told.variance[0] + 0.01 + JITTER;
                let share = told.variance[0] / variance;
                let residual = told.mean.row(0)[0] - targets.row(centre)[0];
                excess += share * (residual * residual / variance - 1.0);
                weight += share * share;
            }
            assert!((tests.weight[centre] / weight - 1.0).abs() < 1e-6, "{} {weight}", tests.weight[centre]);
            assert!((tests.excess[0][centre] - excess).abs() < 1e-6 * (1.0 + excess.abs()));
        }
    }

    /// A map that is rough in one half and smooth in the other: there deviations stay, here they grow.
    #[test]
    fn caution_is_where_the_map_is_rougher_than_the_process() {
        let inputs = Points::from_rows(1, (0..60).map(|i| [f64::from(i) / 10.0]));
        let map = |x: f64| if x < 3.0 { 0.3 * x } else { 0.9 + 2.0 * (6.0 * (x - 3.0)).sin() };
        let targets = Points::from_rows(1, inputs.rows().map(|x| [map(x[0])]));
        let process =
            GaussianProcess::given(Kernel::Matern52, hyperparameters(1.5, 1e-3), &inputs, &targets).unwrap();
        let mut batch = process.batch();
        batch.predict([&[0.5][..], &[5.5][..]].into_iter());
        let tests = HeldOut::of(&process);
        let caution = |number: usize| tests.caution(0, batch.covariances(number));
        assert_eq!(caution(0), Caution { factor: 1.0, is_contradicted: false });
        assert!(caution(1).factor > 1.5 && caution(1).is_contradicted, "{:?}", caution(1));
    }

    /// Where nothing but noise is seen, nothing is said against the process.
    #[test]
    fn noise_gives_no_reason_for_caution() {
        let mut random = Random::new(1);
        let inputs = Points::from_rows(1, (0..80).map(|i| [f64::from(i) / 80.0]));
        let targets = Points::from_rows(1, inputs.rows().map(|_| [0.5 * random.normal()]));
        let mut flat = hyperparameters(2.0, 0.25);
        flat.signal_variance = 1e-4;
        let process = GaussianProcess::given(Kernel::Rbf, flat, &inputs, &targets).unwrap();
        let mut batch = process.batch();
        batch.predict(inputs.rows());
        let tests = HeldOut::of(&process);
        for number in 0..80 {
            let caution = tests.caution(0, batch.covariances(number));
            assert!(caution.factor < 1.01 && !caution.is_contradicted);
        }
    }

    /// Maps drawn from the very process that they are taken for.
    #[test]
    fn few_processes_that_are_what_they_are_taken_for_are_contradicted() {
        for kernel in [Kernel::Rbf, Kernel::Matern52] {
            let mut contradicted = 0;
            for seed in 0..200 {
                let mut random = Random::new(seed);
                let x: Vec<f64> = (0..40).map(|_| 4.0 * random.uniform()).collect();
                let covariance = Mat::from_fn(40, 40, |i, j| {
                    1.5 * kernel.correlation(((x[i] - x[j]) / 0.9).powi(2)) + if i == j { 1e-3 } else { 0.0 }
                });
                let factor = Llt::new(covariance.as_ref(), Side::Lower).unwrap();
                let drawn = factor.L() * Mat::from_fn(40, 1, |_, _| random.normal());
                let inputs = Points::from_rows(1, x.iter().map(|&x| [x]));
                let targets = Points::from_rows(1, (0..40).map(|i| [drawn[(i, 0)]]));
                let process =
                    GaussianProcess::given(kernel, hyperparameters(0.9, 1e-3), &inputs, &targets).unwrap();
                contradicted += usize::from(HeldOut::of(&process).contradicted[0].contains(&true));
            }
            assert!(contradicted <= 20, "{kernel:?}: {contradicted} of 200, where at most one in ten should");
        }
    }
}
