//! The marginal likelihood of a Gaussian process' hyperparameters.

use faer::linalg::solvers::{DenseSolveCore as _, Llt, Solve as _};
use faer::{Mat, Side};

use crate::engine::columns::{column, column_mut};
use crate::engine::{Hyperparameters, Kernel, Points};

/// Added to the diagonal of every covariance matrix, against rounding (as scikit-learn's `alpha`).
pub(super) const JITTER: f64 = 1e-10;

/// Which hyperparameters are free: how they follow one another in a vector of logarithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) inputs: usize,
    /// One length scale for all inputs.
    pub(super) isotropic: bool,
    /// Whether the signal's variance is free, and not one.
    pub(super) amplitude: bool,
}

impl Layout {
    pub(super) fn scales(self) -> usize {
        if self.isotropic { 1 } else { self.inputs }
    }

    /// Length scales, then the signal's variance if it is free, then the noise's.
    pub(super) fn logarithms(self, values: &Hyperparameters) -> Vec<f64> {
        let scales = values.length_scales[..self.scales()].iter().copied();
        let signal = self.amplitude.then_some(values.signal_variance);
        scales.chain(signal).chain([values.noise_variance]).map(f64::ln).collect()
    }

    pub(super) fn hyperparameters(self, logarithms: &[f64], log_marginal_likelihood: f64) -> Hyperparameters {
        let mut values = logarithms.iter().map(|logarithm| logarithm.exp());
        let mut length_scales: Vec<f64> = values.by_ref().take(self.scales()).collect();
        length_scales.resize(self.inputs, length_scales[0]);
        let signal_variance = if self.amplitude { values.next().unwrap_or(1.0) } else { 1.0 };
        let noise_variance = values.next().unwrap_or(0.0);
        Hyperparameters { length_scales, signal_variance, noise_variance, log_marginal_likelihood }
    }
}

/// The data on which the likelihood is taken, with what does not change from one evaluation to the next.
pub(super) struct Likelihood<'a> {
    kernel: Kernel,
    layout: Layout,
    targets: &'a Points,
    /// For each input the squared distances of points j < i, column by column of the lower triangle.
    squares: Vec<Vec<f64>>,
}

impl<'a> Likelihood<'a> {
    pub(super) fn new(kernel: Kernel, layout: Layout, inputs: &Points, targets: &'a Points) -> Self {
        let squares = (0..layout.inputs)
            .map(|axis| {
                let column: Vec<f64> = inputs.column(axis).collect();
                let later = |j: usize| column[j + 1..].iter().map(move |x| (x, j));
                (0..column.len()).flat_map(later).map(|(x, j)| (x - column[j]).powi(2)).collect()
            })
            .collect();
        Self { kernel, layout, targets, squares }
    }

    /// Log marginal likelihood, summed over the outputs, and its gradient by the logarithms of the hyperparameters.
    ///
    /// With K the covariance of the data and α = K⁻¹y: ln p = −½ yᵀα − ½ ln|K| − (n/2) ln 2π, and its derivative
    /// ½ tr((ααᵀ − K⁻¹) ∂K) (Rasmussen and Williams, equations 2.30 and 5.9). `None` if K is not positive definite.
    pub(super) fn evaluate(&self, logarithms: &[f64]) -> Option<(f64, Vec<f64>)> {
        let values = self.layout.hyperparameters(logarithms, 0.0);
        let (n, outputs) = (self.targets.len(), self.targets.dimension());
        let signal = values.signal_variance;
        let precisions: Vec<f64> = values.length_scales.iter().map(|scale| scale.powi(-2)).collect();
        let mut distances = vec![0.0; n * (n - 1) / 2];
        for (squares, precision) in self.squares.iter().zip(&precisions) {
            for (distance, square) in distances.iter_mut().zip(squares) {
                *distance += precision * square;
            }
        }
        let (correlations, slopes): (Vec<f64>, Vec<f64>) =
            distances.into_iter().map(|distance| self.kernel.correlation_with_slope(distance)).unzip();

        let mut covariance = Mat::zeros(n, n);
        let mut rest = correlations.as_slice();
        for j in 0..n {
            let below = &mut column_mut(&mut covariance, j)[j..];
            let (own, later) = rest.split_at(n - 1 - j);
            below[0] = signal + values.noise_variance + JITTER;
            for (entry, correlation) in below[1..].iter_mut().zip(own) {
                *entry = signal * correlation;
            }
            rest = later;
        }
        let factor = Llt::new(covariance.as_ref(), Side::Lower).ok()?;
        let targets = Mat::from_fn(n, outputs, |i, output| self.targets.row(i)[output]);
        let weights = factor.solve(&targets);
        let fit: f64 = (0..outputs).map(|output| weights.col(output).transpose() * targets.col(output)).sum();
        let log_determinant: f64 = 2.0 * (0..n).map(|i| factor.L()[(i, i)].ln()).sum::<f64>();
        let constant = n as f64 * (2.0 * std::f64::consts::PI).ln();
        let value = -0.5 * fit - 0.5 * outputs as f64 * (log_determinant + constant);

        // ααᵀ − K⁻¹, summed over the outputs: its trace, and its lower triangle times the signal's variance
        let inverse = factor.inverse();
        let mut trace = 0.0;
        let mut sensitivities = Vec::with_capacity(correlations.len());
        for j in 0..n {
            let from = sensitivities.len();
            let inverse = &column(&inverse, j)[j..];
            trace -= outputs as f64 * inverse[0];
            sensitivities.extend(inverse[1..].iter().map(|entry| -signal * outputs as f64 * entry));
            for output in 0..outputs {
                let weights = &column(&weights, output)[j..];
                trace += weights[0] * weights[0];
                for (sensitivity, weight) in sensitivities[from..].iter_mut().zip(&weights[1..]) {
                    *sensitivity += signal * weights[0] * weight;
                }
            }
        }
        let by_signal: f64 = sensitivities.iter().zip(&correlations).map(|(s, c)| s * c).sum();
        for (sensitivity, slope) in sensitivities.iter_mut().zip(&slopes) {
            *sensitivity *= slope;
        }
        let by_scale: Vec<f64> = self
            .squares
            .iter()
            .map(|squares| {
                sensitivities.iter().zip(squares).map(|(sensitivity, square)| sensitivity * square).sum()
            })
            .collect();
        let mut gradient: Vec<f64> =
            by_scale.iter().zip(&precisions).map(|(by, precision)| by * precision).collect();
        if self.layout.isotropic {
            gradient = vec![gradient.iter().sum()];
        }
        if self.layout.amplitude {
            gradient.push(by_signal + 0.5 * signal * trace);
        }
        gradient.push(0.5 * values.noise_variance * trace);
        value.is_finite().then_some((value, gradient))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::random::Random;

    #[test]
    fn gradients_are_those_of_the_value() {
        let mut random = Random::new(3);
        let inputs = Points::from_rows(2, (0..25).map(|_| [random.uniform() * 3.0, random.uniform()]));
        let targets =
            Points::from_rows(2, inputs.rows().map(|x| [(x[0] * x[1]).sin(), x[0] - random.uniform()]));
        for kernel in [Kernel::Rbf, Kernel::Matern52] {
            for (isotropic, amplitude) in [(true, false), (false, true), (true, true)] {
                let layout = Layout { inputs: 2, isotropic, amplitude };
                let likelihood = Likelihood::new(kernel, layout, &inputs, &targets);
                let at: Vec<f64> =
                    [-0.3, 0.2, 0.1, -1.0][4 - (layout.scales() + 1 + usize::from(amplitude))..].to_vec();
                let (_, gradient) = likelihood.evaluate(&at).unwrap();
                for (i, slope) in gradient.iter().enumerate() {
                    let value = |by: f64| {
                        let mut moved = at.clone();
                        moved[i] += by;
                        likelihood.evaluate(&moved).unwrap().0
                    };
                    let numeric = (value(1e-5) - value(-1e-5)) / 2e-5;
                    assert!(
                        (slope - numeric).abs() < 1e-5 * (1.0 + numeric.abs()),
                        "{kernel:?} {i}: {slope} {numeric}"
                    );
                }
            }
        }
    }
}
