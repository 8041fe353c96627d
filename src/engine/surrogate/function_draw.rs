//! Functions drawn from a Gaussian process given data.
//!
//! A path of many steps meets the same function at each of them. To add fresh noise of the process' standard deviation
//! at every step would average its uncertainty out; so each path follows a function of its own.

use faer::{Col, Mat};

use super::GaussianProcess;
use super::gaussian_process::Observed;
use crate::engine::random::Random;
use crate::engine::{Hyperparameters, Kernel};

/// Waves of which a draw from the prior is made.
const WAVES: usize = 192;

/// One function, drawn.
///
/// By pathwise conditioning (Wilson et al., *Efficiently sampling functions from Gaussian process posteriors*, ICML 2020,
/// equation 13): with a draw p from the prior and errors ε as those of the data, the posterior mean plus
/// p(x) − k(x)ᵀ(K + σ²)⁻¹(p + ε). The prior is drawn as a sum of random waves (Rahimi and Recht, *Random features for
/// large-scale kernel machines*, NIPS 2007): where data tell the function its error is corrected away, far from data it
/// is of the order of 1/√[`WAVES`] of the variance. Where a trend was taken out of the targets its coefficients are drawn
/// too, with the covariance A⁻¹ of Rasmussen and Williams' equation 2.42.
#[derive(Clone, Debug)]
pub(super) struct FunctionDraw<'a> {
    process: &'a GaussianProcess,
    waves: Waves,
    /// What the covariances with the centres are multiplied by.
    weights: Vec<f64>,
    /// Coefficients of the terms 1, x₁, x₂, … by which the trend is drawn beside the one that was fitted.
    trend: Vec<f64>,
}

/// Σ aᵢ cos(ωᵢx + bᵢ), inputs in units of the length scales.
#[derive(Clone, Debug)]
struct Waves {
    amplitudes: Vec<f64>,
    phases: Vec<f64>,
    /// For each input the frequencies.
    frequencies: Vec<Vec<f64>>,
}

impl Waves {
    /// A draw from the prior: frequencies from the kernel's spectral density, which is normal for the squared
    /// exponential and Student's t with 2ν = 5 degrees of freedom for Matérn 5/2 (Rasmussen and Williams, section 4.2).
    fn draw(kernel: Kernel, hyperparameters: &Hyperparameters, random: &mut Random) -> Self {
        let inputs = hyperparameters.length_scales.len();
        let scale = (2.0 * hyperparameters.signal_variance / WAVES as f64).sqrt();
        let mut waves = Self {
            amplitudes: Vec::with_capacity(WAVES),
            phases: Vec::with_capacity(WAVES),
            frequencies: vec![Vec::with_capacity(WAVES); inputs],
        };
        for _ in 0..WAVES {
            let stretch = match kernel {
                Kernel::Rbf => 1.0,
                Kernel::Matern52 => {
                    let chi_squared: f64 = (0..5).map(|_| random.normal().powi(2)).sum();
                    (5.0 / chi_squared).sqrt()
                }
            };
            for frequencies in &mut waves.frequencies {
                frequencies.push(stretch * random.normal());
            }
            waves.phases.push(2.0 * std::f64::consts::PI * random.uniform());
            waves.amplitudes.push(scale * random.normal());
        }
        waves
    }

    fn at(&self, scaled: &[f64]) -> f64 {
        let mut arguments = self.phases.clone();
        for (frequencies, x) in self.frequencies.iter().zip(scaled) {
            for (argument, frequency) in arguments.iter_mut().zip(frequencies) {
                *argument += frequency * x;
            }
        }
        arguments.iter().zip(&self.amplitudes).map(|(argument, amplitude)| amplitude * argument.cos()).sum()
    }
}

impl<'a> FunctionDraw<'a> {
    /// Draws one of the process' outputs.
    pub(super) fn new(process: &'a GaussianProcess, output: usize, random: &mut Random) -> Self {
        let waves = Waves::draw(process.kernel, &process.hyperparameters, random);
        let count = process.centres();
        let mut prior = Col::from_fn(count, |centre| {
            let scaled: Vec<f64> = process.centres.iter().map(|axis| axis[centre]).collect();
            waves.at(&scaled)
        });
        let reduction: &Mat<f64> = &process.reduction;
        let reduced = match &process.observed {
            Observed::Directly(deviation) => {
                prior.iter_mut().for_each(|value| *value += deviation * random.normal());
                reduction * prior
            }
            Observed::ThroughPairs(deviations) => {
                let mut reduced = reduction * prior;
                reduced
                    .iter_mut()
                    .zip(deviations)
                    .for_each(|(x, deviation)| *x += deviation * random.normal());
                reduced
            }
        };
        let correction = reduction.transpose() * reduced;
        let mut weights: Vec<f64> =
            (0..count).map(|centre| process.weights[(output, centre)] - correction[centre]).collect();
        let mut trend = Vec::new();
        if let Some(uncertainty) = &process.trend {
            let standard = Col::from_fn(uncertainty.factor.ncols(), |_| random.normal());
            let coefficients = uncertainty.factor.transpose() * standard;
            let told_by_data = uncertainty.weights.transpose() * &coefficients;
            weights.iter_mut().zip(told_by_data.iter()).for_each(|(weight, told)| *weight -= told);
            trend = coefficients.iter().copied().collect();
        }
        Self { process, waves, weights, trend }
    }

    /// The function's value at a point, by way of some working memory.
    pub(super) fn at(&self, point: &[f64], squares: &mut Vec<f64>) -> f64 {
        let Hyperparameters { length_scales, signal_variance, .. } = &self.process.hyperparameters;
        let scaled: Vec<f64> = point.iter().zip(length_scales).map(|(x, scale)| x / scale).collect();
        squares.clear();
        squares.resize(self.weights.len(), 0.0);
        for (centres, x) in self.process.centres.iter().zip(&scaled) {
            for (square, centre) in squares.iter_mut().zip(centres) {
                *square += (x - centre) * (x - centre);
            }
        }
        let kernel = self.process.kernel;
        let terms =
            squares.iter().zip(&self.weights).map(|(&square, weight)| weight * kernel.correlation(square));
        let trend = self.trend.iter().zip(std::iter::once(&1.0).chain(point)).map(|(c, term)| c * term);
        self.waves.at(&scaled) + signal_variance * terms.sum::<f64>() + trend.sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Points;
    use crate::engine::surrogate::{EXACT_PAIRS, MAX_CENTRES};

    /// Draws have the mean and the covariance of the process, near data and far from them, exact and projected.
    #[test]
    fn draws_are_distributed_as_the_process_says() {
        for (kernel, pairs, terms) in [
            (Kernel::Rbf, 40, 0),
            (Kernel::Matern52, 40, 3),
            (Kernel::Matern52, EXACT_PAIRS + 100, 0),
            (Kernel::Matern52, EXACT_PAIRS + 100, 3),
        ] {
            let mut random = Random::new(8);
            let inputs = Points::from_rows(2, (0..pairs).map(|_| [3.0 * random.uniform(), random.normal()]));
            let targets = Points::from_rows(1, inputs.rows().map(|x| [x[0].sin() + 0.3 * random.normal()]));
            let hyperparameters = Hyperparameters {
                length_scales: vec![1.0, 2.0],
                signal_variance: 1.5,
                noise_variance: 0.1,
                log_marginal_likelihood: 0.0,
            };
            let process =
                GaussianProcess::given_beside_trend(kernel, hyperparameters, &inputs, &targets, terms)
                    .unwrap();
            assert!(process.centres() <= MAX_CENTRES.max(pairs.min(EXACT_PAIRS)));
            let points = Points::from_rows(2, [[1.0, 0.0], [4.0, 1.0], [9.0, 9.0]]);
            let expected = process.predict(&points);
            let draws = 2000;
            let mut sums = [(0.0, 0.0); 3];
            let mut squares = Vec::new();
            for _ in 0..draws {
                let draw = FunctionDraw::new(&process, 0, &mut random);
                for (sum, point) in sums.iter_mut().zip(points.rows()) {
                    let value = draw.at(point, &mut squares);
                    *sum = (sum.0 + value, sum.1 + value * value);
                }
            }
            for (number, (sum, squares)) in sums.into_iter().enumerate() {
                let (mean, n) = (sum / f64::from(draws), f64::from(draws));
                let variance = squares / n - mean * mean;
                let (expected, of) = (expected.variance[number], expected.mean.row(number)[0]);
                assert!((mean - of).abs() < 4.0 * (expected / n).sqrt(), "{kernel:?} {pairs} {mean} {of}");
                assert!((variance / expected - 1.0).abs() < 0.2, "{kernel:?} {pairs}: {variance} {expected}");
            }
        }
    }
}
