//! What is fitted: the kernel, the bounds of its hyperparameters, and how they are sought.

use super::EXACT_PAIRS;
use super::fit::{Stop, maximise};
use super::likelihood::{Layout, Likelihood};
use crate::engine::random::{Random, spread_sample};
use crate::engine::{Control, EngineError, Hyperparameters, Kernel, Points};

/// What is fitted, and within which bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Specification {
    /// The covariance function.
    pub kernel: Kernel,
    /// One length scale for all inputs, rather than one for each.
    pub isotropic: bool,
    /// Where the search starts. All inputs start from the first length scale unless there is one for each.
    pub start: Hyperparameters,
    /// Bounds of the length scales.
    pub length_scales: (f64, f64),
    /// Bounds of the signal's variance; fixed at its start if there are none.
    pub signal_variance: Option<(f64, f64)>,
    /// Bounds of the noise's variance.
    pub noise_variance: (f64, f64),
    /// Number of further, random starts.
    pub restarts: usize,
    /// Most pairs on which the likelihood is taken, a sample of all: its cost grows as their cube.
    pub pairs: usize,
    /// Most steps of the search.
    pub steps: usize,
}

impl Specification {
    /// For standardised inputs and outputs: a length scale for each input, free signal and noise.
    pub fn standard(kernel: Kernel, inputs: usize) -> Self {
        Self {
            kernel,
            isotropic: false,
            start: start(inputs, 1.0, 0.1),
            length_scales: (0.05, 20.0),
            signal_variance: Some((1e-2, 1e3)),
            noise_variance: (1e-6, 2.0),
            restarts: 1,
            pairs: 192,
            steps: 40,
        }
    }

    /// As scikit-learn fits `RBF(0.5, (0.01, 2)) + WhiteKernel()` (or Matérn with the same scale) to raw data; so in
    /// Eslami et al. 2021.
    pub fn paper(kernel: Kernel, inputs: usize) -> Self {
        Self {
            kernel,
            isotropic: true,
            start: start(inputs, 0.5, 1.0),
            length_scales: (0.01, 2.0),
            signal_variance: None,
            noise_variance: (1e-5, 1e5),
            restarts: 0,
            pairs: EXACT_PAIRS,
            steps: 200,
        }
    }

    /// Hyperparameters of largest marginal likelihood, summed over the columns of `targets`.
    ///
    /// # Errors
    /// [`EngineError::SingularCovariance`] if no start can be evaluated, [`EngineError::Cancelled`].
    pub fn fit(
        &self,
        inputs: &Points,
        targets: &Points,
        control: &Control,
    ) -> Result<Hyperparameters, EngineError> {
        let sample = spread_sample(inputs.len(), self.pairs, SEED);
        let (inputs, targets) = (inputs.select(&sample), targets.select(&sample));
        let layout = self.layout(inputs.dimension());
        let likelihood = Likelihood::new(self.kernel, layout, &inputs, &targets);
        let mut bounds = vec![self.length_scales; layout.scales()];
        bounds.extend(self.signal_variance);
        bounds.push(self.noise_variance);
        let bounds: Vec<(f64, f64)> = bounds.into_iter().map(|(low, high)| (low.ln(), high.ln())).collect();

        // A cancelled evaluation reads as one that failed; the flag is looked at again below.
        let evaluate = |x: &[f64]| control.check().ok().and_then(|()| likelihood.evaluate(x));
        let mut random = Random::new(SEED);
        let first = layout.logarithms(&self.start);
        let others = (0..self.restarts).map(|_| {
            let around = first.iter().zip(&bounds);
            around.map(|(x, (low, high))| (x + 4.0 * (random.uniform() - 0.5)).clamp(*low, *high)).collect()
        });
        let stop = Stop { steps: self.steps, gradient: 1e-3 };
        let best = std::iter::once(first.clone())
            .chain(others)
            .filter_map(|start: Vec<f64>| maximise(&evaluate, &start, &bounds, stop))
            .reduce(|best, found| if found.1 > best.1 { found } else { best });
        control.check()?;
        let (logarithms, value) = best.ok_or(EngineError::SingularCovariance { pairs: inputs.len() })?;
        Ok(layout.hyperparameters(&logarithms, value))
    }

    /// Log marginal likelihood of some hyperparameters, summed over the columns of `targets`; `None` if the covariance
    /// matrix is not positive definite.
    pub fn log_marginal_likelihood(
        &self,
        inputs: &Points,
        targets: &Points,
        at: &Hyperparameters,
    ) -> Option<f64> {
        let layout = self.layout(inputs.dimension());
        let likelihood = Likelihood::new(self.kernel, layout, inputs, targets);
        likelihood.evaluate(&layout.logarithms(at)).map(|(value, _)| value)
    }

    fn layout(&self, inputs: usize) -> Layout {
        Layout { inputs, isotropic: self.isotropic, amplitude: self.signal_variance.is_some() }
    }
}

const SEED: u64 = 0x2106_7683;

fn start(inputs: usize, length_scale: f64, noise_variance: f64) -> Hyperparameters {
    Hyperparameters {
        length_scales: vec![length_scale; inputs],
        signal_variance: 1.0,
        noise_variance,
        log_marginal_likelihood: f64::NEG_INFINITY,
    }
}
