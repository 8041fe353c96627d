//! Gaussian-process regression.

use faer::linalg::matmul::matmul;
use faer::linalg::solvers::{Llt, Solve as _};
use faer::linalg::triangular_inverse::invert_lower_triangular;
use faer::{Accum, Mat, Par, Side};

use super::fit::{Stop, maximise};
use super::likelihood::{JITTER, Layout, Likelihood};
use crate::engine::columns::{column, column_mut};
use crate::engine::random::{Random, spread_sample};
use crate::engine::{Control, EngineError, Hyperparameters, Kernel, Points};

/// Up to this many pairs the process is exact. Predicting a standard deviation costs the square of this number at
/// every vertex of the grid.
pub const EXACT_PAIRS: usize = 512;

/// With more pairs, the most that represent the process.
pub const MAX_CENTRES: usize = 256;

/// A projection stops short of [`MAX_CENTRES`] when no more than this share of the signal's variance is neglected.
const NEGLIGIBLE: f64 = 1e-8;

/// Points that are predicted together, as one product of matrices.
const BATCH: usize = 256;

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

/// A Gaussian process given data, for one or more outputs of the same hyperparameters.
///
/// ```
/// use doodl3::engine::surrogate::{GaussianProcess, Specification};
/// use doodl3::engine::{Control, Kernel, Points};
///
/// let inputs = Points::from_rows(1, (0..20).map(|i| [f64::from(i) * 0.3]));
/// let targets = Points::from_rows(1, inputs.rows().map(|x| [x[0].sin()]));
/// let specification = Specification::standard(Kernel::Matern52, 1);
/// let hyperparameters = specification.fit(&inputs, &targets, &Control::default())?;
/// let process = GaussianProcess::given(Kernel::Matern52, hyperparameters, &inputs, &targets)?;
/// let prediction = process.predict(&Points::from_rows(1, [[1.0], [50.0]]));
/// assert!((prediction.mean.row(0)[0] - 1f64.sin()).abs() < 1e-2);
/// assert!(prediction.variance[0] < 1e-4 && prediction.variance[1] > 0.1);
/// # Ok::<(), doodl3::engine::EngineError>(())
/// ```
///
/// With n ≤ [`EXACT_PAIRS`] pairs, mean k(x)ᵀK⁻¹y and variance k(x, x) − k(x)ᵀK⁻¹k(x), by Cholesky (Rasmussen and
/// Williams, algorithm 2.1). With more, the process is projected onto the span of k(·, xᵤ) for at most
/// [`MAX_CENTRES`] of the pairs, those that a pivoted Cholesky factorisation picks (each the one least determined by
/// those before); all pairs are learned from, and the variance that the span does not hold is kept where data are far
/// (Titsias, *Variational learning of inducing variables in sparse Gaussian processes*, 2009).
///
/// The variance is that of the function, without noise.
#[derive(Clone, Debug)]
pub struct GaussianProcess {
    kernel: Kernel,
    hyperparameters: Hyperparameters,
    /// For each input the centres' coordinates, in units of the length scale.
    centres: Vec<Vec<f64>>,
    /// Row by output, column by centre: the mean is this times the covariances with the centres.
    weights: Mat<f64>,
    /// The variance is the signal's less the squared length of this times the covariances with the centres.
    reduction: Mat<f64>,
    norms: Vec<f64>,
    neglected: f64,
}

/// Mean and variance at some points.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// One row a point, one column an output.
    pub mean: Points,
    /// Variance of the function (without noise) at each point, the same for all outputs.
    pub variance: Vec<f64>,
}

impl GaussianProcess {
    /// The process with these hyperparameters, given that `targets` were observed at `inputs`.
    ///
    /// # Errors
    /// [`EngineError::SingularCovariance`].
    pub fn given(
        kernel: Kernel,
        hyperparameters: Hyperparameters,
        inputs: &Points,
        targets: &Points,
    ) -> Result<Self, EngineError> {
        let scaled: Vec<Vec<f64>> = (0..inputs.dimension())
            .map(|axis| inputs.column(axis).map(|x| x / hyperparameters.length_scales[axis]).collect())
            .collect();
        let data = Data { kernel, scaled: &scaled, signal: hyperparameters.signal_variance };
        let targets = Mat::from_fn(inputs.len(), targets.dimension(), |i, output| targets.row(i)[output]);
        let noise = hyperparameters.noise_variance + JITTER;
        let solution = if inputs.len() <= EXACT_PAIRS {
            data.exact(&targets, noise)
        } else {
            data.projected(&targets, noise)
        };
        let Solution { centres, weights, reduction, norms, neglected } =
            solution.ok_or(EngineError::SingularCovariance { pairs: inputs.len() })?;
        let centres = scaled.iter().map(|axis| centres.iter().map(|&i| axis[i]).collect()).collect();
        Ok(Self { kernel, hyperparameters, centres, weights, reduction, norms, neglected })
    }

    /// The covariance function.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// The hyperparameters.
    pub fn hyperparameters(&self) -> &Hyperparameters {
        &self.hyperparameters
    }

    /// Number of pairs that represent the process.
    pub fn centres(&self) -> usize {
        self.reduction.ncols()
    }

    /// Largest share of the signal's variance at any pair that the centres do not determine; zero if exact.
    pub fn neglected_variance(&self) -> f64 {
        self.neglected
    }

    /// Norm of each output's mean in the kernel's own space of functions: any linear functional of the mean is at most
    /// this times the functional's standard deviation before data.
    pub fn norms(&self) -> &[f64] {
        &self.norms
    }

    /// Mean and variance at each point.
    pub fn predict(&self, points: &Points) -> Prediction {
        let outputs = self.weights.nrows();
        let mut mean = Points::new(outputs);
        let mut variance = Vec::with_capacity(points.len());
        let mut batch = self.batch();
        let rows: Vec<&[f64]> = points.rows().collect();
        for rows in rows.chunks(BATCH) {
            batch.predict(rows.iter().copied());
            for (number, _) in rows.iter().enumerate() {
                let row: Vec<f64> = (0..outputs).map(|output| batch.mean(number, output)).collect();
                mean.push(&row);
                variance.push(batch.variance(number));
            }
        }
        Prediction { mean, variance }
    }

    /// Working memory for predictions of many points.
    pub(super) fn batch(&self) -> Batch<'_> {
        let (centres, outputs) = (self.centres(), self.weights.nrows());
        Batch {
            process: self,
            covariances: Mat::zeros(centres, BATCH),
            reduced: Mat::zeros(centres, BATCH),
            means: Mat::zeros(outputs, BATCH),
        }
    }
}

/// At most [`BATCH`] points, predicted together.
pub(super) struct Batch<'a> {
    process: &'a GaussianProcess,
    covariances: Mat<f64>,
    reduced: Mat<f64>,
    means: Mat<f64>,
}

impl Batch<'_> {
    pub(super) const SIZE: usize = BATCH;

    pub(super) fn predict<'p>(&mut self, points: impl Iterator<Item = &'p [f64]>) {
        let process = self.process;
        let Hyperparameters { length_scales, signal_variance, .. } = &process.hyperparameters;
        let mut count = 0;
        for point in points {
            let covariances = column_mut(&mut self.covariances, count);
            covariances.fill(0.0);
            for ((centres, x), scale) in process.centres.iter().zip(point).zip(length_scales) {
                let x = x / scale;
                for (square, centre) in covariances.iter_mut().zip(centres) {
                    *square += (x - centre) * (x - centre);
                }
            }
            for covariance in covariances {
                *covariance = signal_variance * process.kernel.correlation(*covariance);
            }
            count += 1;
        }
        let covariances = self.covariances.subcols(0, count);
        let (reduced, means) = (self.reduced.subcols_mut(0, count), self.means.subcols_mut(0, count));
        matmul(reduced, Accum::Replace, process.reduction.as_ref(), covariances, 1.0, Par::Seq);
        matmul(means, Accum::Replace, process.weights.as_ref(), covariances, 1.0, Par::Seq);
    }

    pub(super) fn mean(&self, number: usize, output: usize) -> f64 {
        self.means[(output, number)]
    }

    pub(super) fn variance(&self, number: usize) -> f64 {
        (self.process.hyperparameters.signal_variance - self.reduced.col(number).squared_norm_l2()).max(0.0)
    }
}

/// Where the process was observed, with its prior.
struct Data<'a> {
    kernel: Kernel,
    /// Inputs in units of the length scales, one list for each.
    scaled: &'a [Vec<f64>],
    signal: f64,
}

/// What predictions need.
struct Solution {
    /// Numbers of the pairs that are centres.
    centres: Vec<usize>,
    weights: Mat<f64>,
    reduction: Mat<f64>,
    norms: Vec<f64>,
    neglected: f64,
}

impl Data<'_> {
    /// Covariances of point `j` with the points from `first` on.
    fn covariances(&self, j: usize, first: usize, covariances: &mut [f64]) {
        covariances.fill(0.0);
        for axis in self.scaled {
            for (square, x) in covariances.iter_mut().zip(&axis[first..]) {
                *square += (x - axis[j]) * (x - axis[j]);
            }
        }
        for covariance in covariances {
            *covariance = self.signal * self.kernel.correlation(*covariance);
        }
    }

    /// Weights K⁻¹y and reduction L⁻¹, where `K = LLᵀ`.
    fn exact(&self, targets: &Mat<f64>, noise: f64) -> Option<Solution> {
        let n = targets.nrows();
        let mut covariance = Mat::zeros(n, n);
        for j in 0..n {
            let below = &mut column_mut(&mut covariance, j)[j..];
            self.covariances(j, j, below);
            below[0] += noise;
        }
        let factor = Llt::new(covariance.as_ref(), Side::Lower).ok()?;
        let weights = factor.solve(targets);
        let mut reduction = Mat::zeros(n, n);
        invert_lower_triangular(reduction.as_mut(), factor.L(), Par::Seq);
        // the function's part of K is K less the noise
        let norm = |output| {
            let (weights, targets) = (weights.col(output), targets.col(output));
            (weights.transpose() * targets - noise * weights.squared_norm_l2()).max(0.0).sqrt()
        };
        let norms = (0..targets.ncols()).map(norm).collect();
        Some(Solution {
            centres: (0..n).collect(),
            weights: weights.transpose().to_owned(),
            reduction,
            norms,
            neglected: 0.0,
        })
    }

    /// With `K ≈ ΦΦᵀ` by r pivots, where Φ holds the factor Lᵤ of the pivots' own covariance, and B = 1 + ΦᵀΦ/σ²:
    /// weights Lᵤ⁻ᵀ B⁻¹ Φᵀy/σ², and reduction (1 − B⁻¹)^½ Lᵤ⁻¹ from the eigenvalues of B.
    fn projected(&self, targets: &Mat<f64>, noise: f64) -> Option<Solution> {
        let (features, pivots, residual) = self.pivoted_cholesky(MAX_CENTRES);
        let r = pivots.len();
        let mut gram = Mat::<f64>::identity(r, r);
        matmul(gram.as_mut(), Accum::Add, features.transpose(), features.as_ref(), 1.0 / noise, Par::Seq);
        let own = Mat::from_fn(r, r, |i, j| if j <= i { features[(pivots[i], j)] } else { 0.0 });
        let mut inverse = Mat::zeros(r, r);
        invert_lower_triangular(inverse.as_mut(), own.as_ref(), Par::Seq);

        let mut projected = Mat::zeros(r, targets.ncols());
        matmul(
            projected.as_mut(),
            Accum::Replace,
            features.transpose(),
            targets.as_ref(),
            1.0 / noise,
            Par::Seq,
        );
        let coefficients = Llt::new(gram.as_ref(), Side::Lower).ok()?.solve(&projected);
        let weights = inverse.transpose() * &coefficients;
        let eigen = gram.self_adjoint_eigen(Side::Lower).ok()?;
        let shrink: Vec<f64> = (0..r).map(|i| (1.0 - 1.0 / eigen.S()[i]).max(0.0).sqrt()).collect();
        let rotation = Mat::from_fn(r, r, |i, j| shrink[i] * eigen.U()[(j, i)]);
        let norms = (0..targets.ncols()).map(|output| coefficients.col(output).norm_l2()).collect();
        Some(Solution {
            centres: pivots,
            weights: weights.transpose().to_owned(),
            reduction: rotation * inverse,
            norms,
            neglected: residual / self.signal,
        })
    }

    /// Columns of a factorisation `K ≈ ΦΦᵀ`, the pivots in order, and the largest variance that is left at any point.
    fn pivoted_cholesky(&self, most: usize) -> (Mat<f64>, Vec<usize>, f64) {
        let n = self.scaled[0].len();
        let mut features = Mat::<f64>::zeros(n, most);
        let mut left = vec![self.signal; n];
        let mut entries = vec![0.0; n];
        let mut pivots = Vec::with_capacity(most);
        let largest =
            |left: &[f64]| (0..n).reduce(|best, i| if left[i] > left[best] { i } else { best }).unwrap_or(0);
        while pivots.len() < most {
            let pivot = largest(&left);
            if left[pivot] <= NEGLIGIBLE * self.signal {
                break;
            }
            let at = pivots.len();
            self.covariances(pivot, 0, &mut entries);
            for before in 0..at {
                let feature = column(&features, before);
                let factor = feature[pivot];
                for (entry, feature) in entries.iter_mut().zip(feature) {
                    *entry -= factor * feature;
                }
            }
            let scale = left[pivot].sqrt();
            for ((feature, left), entry) in
                column_mut(&mut features, at).iter_mut().zip(&mut left).zip(&entries)
            {
                *feature = entry / scale;
                *left -= *feature * *feature;
            }
            features[(pivot, at)] = scale;
            // what a pivot determines is zero, not a rounding error; rows of earlier pivots stay triangular
            for &earlier in &pivots {
                features[(earlier, at)] = 0.0;
            }
            left[pivot] = 0.0;
            pivots.push(pivot);
        }
        let residual = left[largest(&left)].max(0.0);
        (features.subcols(0, pivots.len()).to_owned(), pivots, residual)
    }
}
