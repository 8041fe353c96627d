//! Covariance functions.

use crate::engine::Kernel;

impl Kernel {
    /// Correlation of the values at two points, from r², the sum over the inputs of the squared distance in units of
    /// the length scale.
    ///
    /// Squared exponential: exp(−r²/2). Matérn 5/2: (1 + s + s²/3) exp(−s) with s = √5 r. Rasmussen and Williams,
    /// *Gaussian Processes for Machine Learning*, equations 4.9 and 4.17.
    pub fn correlation(self, squared_distance: f64) -> f64 {
        match self {
            Kernel::Rbf => (-0.5 * squared_distance).exp(),
            Kernel::Matern52 => {
                let s = (5.0 * squared_distance).sqrt();
                (1.0 + s + s * s / 3.0) * (-s).exp()
            }
        }
    }

    /// The correlation c, and w such that ∂c/∂ln ℓⱼ = w dⱼ², where dⱼ is the distance along input j in units of ℓⱼ.
    pub(super) fn correlation_with_slope(self, squared_distance: f64) -> (f64, f64) {
        match self {
            Kernel::Rbf => {
                let correlation = (-0.5 * squared_distance).exp();
                (correlation, correlation)
            }
            Kernel::Matern52 => {
                let s = (5.0 * squared_distance).sqrt();
                let decay = (-s).exp();
                ((1.0 + s + s * s / 3.0) * decay, 5.0 / 3.0 * (1.0 + s) * decay)
            }
        }
    }

    /// Variance of the second derivative along an input of a process of unit variance and length scale: the fourth
    /// derivative of the correlation at zero.
    pub(super) fn curvature_variance(self) -> f64 {
        match self {
            Kernel::Rbf => 3.0,
            Kernel::Matern52 => 25.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_and_curvatures_are_those_of_the_correlation() {
        for kernel in [Kernel::Rbf, Kernel::Matern52] {
            assert_eq!(kernel.correlation(0.0), 1.0);
            let (distance, step) = (0.8f64, 1e-5);
            let at = |log_scale: f64| kernel.correlation((distance / log_scale.exp()).powi(2));
            let (correlation, slope) = kernel.correlation_with_slope(distance * distance);
            assert_eq!(correlation, kernel.correlation(distance * distance));
            let numeric = (at(step) - at(-step)) / (2.0 * step);
            assert!((slope * distance * distance - numeric).abs() < 1e-9);

            // Var(g(h) − 2g(0) + g(−h)) / h⁴ tends to the fourth derivative at zero
            let h = 1e-2f64;
            let [near, far] = [1.0, 2.0].map(|times: f64| kernel.correlation((times * h).powi(2)));
            let variance = (6.0 - 8.0 * near + 2.0 * far) / h.powi(4);
            assert!((variance / kernel.curvature_variance() - 1.0).abs() < 0.05, "{kernel:?} {variance}");
            assert!(variance <= kernel.curvature_variance());
        }
    }
}
