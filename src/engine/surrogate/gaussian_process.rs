//! Gaussian-process regression.

use faer::linalg::matmul::matmul;
use faer::linalg::solvers::{Llt, Solve as _};
use faer::linalg::triangular_inverse::invert_lower_triangular;
use faer::{Accum, Mat, Par, Side};

use super::likelihood::JITTER;
use crate::engine::columns::{column, column_mut};
use crate::engine::{EngineError, Hyperparameters, Kernel, Points};

/// Up to this many pairs the process is exact. Predicting a standard deviation costs the square of this number at
/// every vertex of the grid.
pub const EXACT_PAIRS: usize = 512;

/// With more pairs, the most that represent the process.
pub const MAX_CENTRES: usize = 256;

/// A projection stops short of [`MAX_CENTRES`] when no more than this share of the signal's variance is neglected.
const NEGLIGIBLE: f64 = 1e-8;

/// Points that are predicted together, as one product of matrices.
const BATCH: usize = 256;

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
/// those before). All pairs are learned from; what the span does not hold of a pair's variance counts as noise of that
/// pair, and what it does not hold of a point's variance is kept (Snelson and Ghahramani, *Sparse Gaussian processes
/// using pseudo-inputs*, 2006).
///
/// The variance is that of the function, without noise.
#[derive(Clone, Debug)]
pub struct GaussianProcess {
    pub(super) kernel: Kernel,
    pub(super) hyperparameters: Hyperparameters,
    /// For each input the centres' coordinates, in units of the length scale.
    pub(super) centres: Vec<Vec<f64>>,
    /// Row by output, column by centre: the mean is this times the covariances with the centres.
    pub(super) weights: Mat<f64>,
    /// The variance is the signal's less the squared length of this times the covariances with the centres.
    pub(super) reduction: Mat<f64>,
    pub(super) observed: Observed,
    norms: Vec<f64>,
    neglected: f64,
    /// What was observed, for whoever leaves part of it out.
    pub(super) evidence: Evidence,
    /// How well the trend that was taken out of the targets is known, if one was.
    pub(super) trend: Option<TrendUncertainty>,
}

/// What is not known of a trend c₀ + c₁x₁ + … that was fitted to the targets: to the variance at x it adds RᵀA⁻¹R, where
/// R = h(x) − HᵀK⁻¹k(x), A = HᵀK⁻¹H, h(x) are the trend's terms and H those of all pairs (Rasmussen and Williams,
/// equation 2.42, with nothing known of the coefficients before data).
#[derive(Clone, Debug)]
pub(super) struct TrendUncertainty {
    /// Row by term, column by centre: HᵀK⁻¹.
    pub(super) weights: Mat<f64>,
    /// L⁻¹ where `A = LLᵀ`.
    pub(super) factor: Mat<f64>,
}

/// The pairs, and the inverse K⁻¹ of their covariance with noise. Beside a trend with terms H, where nothing is known of
/// its coefficients, `P = K⁻¹ − TᵀT` takes its place, with T = L⁻¹HᵀK⁻¹ and `HᵀK⁻¹H = LLᵀ`.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    /// For each input the pairs' coordinates, in units of the length scale.
    pub(super) inputs: Vec<Vec<f64>>,
    /// Numbers of the pairs that are centres.
    pub(super) centres: Vec<usize>,
    /// How K⁻¹ was found; if not so, it is `RᵀR` with the reduction R.
    pub(super) woodbury: Option<Woodbury>,
    /// T, row by term, column by pair.
    pub(super) trend: Mat<f64>,
    /// Py, row by pair, column by output.
    pub(super) solved: Mat<f64>,
}

/// K⁻¹ = Λ⁻¹ − Λ⁻¹Φ B⁻¹ ΦᵀΛ⁻¹.
#[derive(Clone, Debug)]
pub(super) struct Woodbury {
    /// The diagonal of Λ⁻¹.
    pub(super) diagonal: Vec<f64>,
    /// Λ⁻¹Φ.
    pub(super) weighted: Mat<f64>,
    /// B.
    pub(super) gram: Llt<f64>,
}

/// How the centres were observed, for whoever draws functions: with R the reduction, Rᵀ R is the inverse of the
/// centres' covariance plus that of the errors with which they are known.
#[derive(Clone, Debug)]
pub(super) enum Observed {
    /// Each with an independent error of this standard deviation.
    Directly(f64),
    /// Through all pairs: Rᵀ R times the errors is Rᵀ times independent numbers of these standard deviations.
    ThroughPairs(Vec<f64>),
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
        Self::given_beside_trend(kernel, hyperparameters, inputs, targets, 0)
    }

    /// The same where the first `trend_terms` of the terms 1, x₁, x₂, … were fitted to the targets and taken out of them.
    pub(super) fn given_beside_trend(
        kernel: Kernel,
        hyperparameters: Hyperparameters,
        inputs: &Points,
        targets: &Points,
        trend_terms: usize,
    ) -> Result<Self, EngineError> {
        let scaled: Vec<Vec<f64>> = (0..inputs.dimension())
            .map(|axis| inputs.column(axis).map(|x| x / hyperparameters.length_scales[axis]).collect())
            .collect();
        let data = Data { kernel, scaled: &scaled, signal: hyperparameters.signal_variance };
        let outputs = targets.dimension();
        // the trend's terms are solved for as further targets are
        let columns = Mat::from_fn(inputs.len(), outputs + trend_terms, |i, column| match column {
            output if output < outputs => targets.row(i)[output],
            term if term == outputs => 1.0,
            term => inputs.row(i)[term - outputs - 1],
        });
        let noise = hyperparameters.noise_variance + JITTER;
        let solution = if inputs.len() <= EXACT_PAIRS {
            data.exact(&columns, noise)
        } else {
            data.projected(&columns, noise)
        };
        let Solution { centres, weights, reduction, observed, norms, woodbury, solved, neglected } =
            solution.ok_or(EngineError::SingularCovariance { pairs: inputs.len() })?;
        let terms = columns.subcols(outputs, trend_terms);
        let gram = terms.transpose() * solved.subcols(outputs, trend_terms);
        let trend = (trend_terms > 0).then(|| Llt::new(gram.as_ref(), Side::Lower).ok()).flatten();
        let trend = trend.map(|gram| {
            let mut factor = Mat::zeros(trend_terms, trend_terms);
            invert_lower_triangular(factor.as_mut(), gram.L(), Par::Seq);
            TrendUncertainty { weights: weights.subrows(outputs, trend_terms).to_owned(), factor }
        });
        let of_trend = trend.as_ref().map_or_else(
            || Mat::zeros(0, inputs.len()),
            |trend| &trend.factor * solved.subcols(outputs, trend_terms).transpose(),
        );
        let of_targets = &of_trend * columns.subcols(0, outputs);
        let solved = solved.subcols(0, outputs) - of_trend.transpose() * of_targets;
        Ok(Self {
            kernel,
            hyperparameters,
            centres: scaled.iter().map(|axis| centres.iter().map(|&i| axis[i]).collect()).collect(),
            weights: weights.subrows(0, outputs).to_owned(),
            reduction,
            observed,
            norms,
            neglected,
            evidence: Evidence { inputs: scaled, centres, woodbury, trend: of_trend, solved },
            trend,
        })
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
        let outputs = self.outputs();
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

    /// Number of outputs.
    pub(super) fn outputs(&self) -> usize {
        self.weights.nrows()
    }

    /// Working memory for predictions of many points.
    pub(super) fn batch(&self) -> Batch<'_> {
        let (centres, outputs) = (self.centres(), self.outputs());
        Batch {
            process: self,
            covariances: Mat::zeros(centres, BATCH),
            reduced: Mat::zeros(centres, BATCH),
            means: Mat::zeros(outputs, BATCH),
            terms: self.trend.as_ref().map(|trend| Mat::zeros(trend.weights.nrows(), BATCH)),
        }
    }
}

/// At most [`BATCH`] points, predicted together.
pub(super) struct Batch<'a> {
    process: &'a GaussianProcess,
    covariances: Mat<f64>,
    reduced: Mat<f64>,
    means: Mat<f64>,
    /// R of [`TrendUncertainty`].
    terms: Option<Mat<f64>>,
}

impl Batch<'_> {
    pub(super) const SIZE: usize = BATCH;

    /// Means and variances.
    pub(super) fn predict<'p>(&mut self, points: impl Iterator<Item = &'p [f64]> + Clone) {
        let count = self.predict_means(points.clone());
        let process = self.process;
        let covariances = self.covariances.subcols(0, count);
        let reduced = self.reduced.subcols_mut(0, count);
        matmul(reduced, Accum::Replace, process.reduction.as_ref(), covariances, 1.0, Par::Seq);
        if let (Some(terms), Some(trend)) = (&mut self.terms, &process.trend) {
            for (number, point) in points.enumerate() {
                let terms = column_mut(terms, number).iter_mut();
                terms.zip(std::iter::once(&1.0).chain(point)).for_each(|(term, x)| *term = *x);
            }
            let terms = terms.subcols_mut(0, count);
            matmul(terms, Accum::Add, trend.weights.as_ref(), covariances, -1.0, Par::Seq);
        }
    }

    /// Means alone, of which there are as many as points: their number is returned.
    pub(super) fn predict_means<'p>(&mut self, points: impl Iterator<Item = &'p [f64]>) -> usize {
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
        let (covariances, means) = (self.covariances.subcols(0, count), self.means.subcols_mut(0, count));
        matmul(means, Accum::Replace, process.weights.as_ref(), covariances, 1.0, Par::Seq);
        count
    }

    pub(super) fn mean(&self, number: usize, output: usize) -> f64 {
        self.means[(output, number)]
    }

    pub(super) fn variance(&self, number: usize) -> f64 {
        let process = self.process;
        let signal = process.hyperparameters.signal_variance;
        let of_trend = match (&self.terms, &process.trend) {
            (Some(terms), Some(trend)) => (&trend.factor * terms.col(number)).squared_norm_l2(),
            _ => 0.0,
        };
        (signal - self.reduced.col(number).squared_norm_l2()).max(0.0) + of_trend
    }

    /// Covariances with the centres.
    pub(super) fn covariances(&self, number: usize) -> &[f64] {
        column(&self.covariances, number)
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
    observed: Observed,
    norms: Vec<f64>,
    woodbury: Option<Woodbury>,
    /// K⁻¹ times the targets.
    solved: Mat<f64>,
    neglected: f64,
}

/// A factorisation `K ≈ ΦΦᵀ` by some columns of K.
struct Pivoted {
    features: Mat<f64>,
    /// Numbers of the columns, in the order in which they were picked.
    pivots: Vec<usize>,
    /// What is left of each diagonal entry.
    left: Vec<f64>,
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
            observed: Observed::Directly(noise.sqrt()),
            norms,
            woodbury: None,
            solved: weights,
            neglected: 0.0,
        })
    }

    /// With `K ≈ ΦΦᵀ` by r pivots, where Φ holds the factor Lᵤ of the pivots' own covariance, Λ the noise and what the
    /// pivots do not determine of each pair, and B = 1 + ΦᵀΛ⁻¹Φ: weights Lᵤ⁻ᵀ B⁻¹ ΦᵀΛ⁻¹y, and reduction
    /// (1 − B⁻¹)^½ Lᵤ⁻¹ from the eigenvalues of B.
    fn projected(&self, targets: &Mat<f64>, noise: f64) -> Option<Solution> {
        let Pivoted { features, pivots, left } = self.pivoted_cholesky(MAX_CENTRES);
        let r = pivots.len();
        let own = Mat::from_fn(r, r, |i, j| if j <= i { features[(pivots[i], j)] } else { 0.0 });
        let mut inverse = Mat::zeros(r, r);
        invert_lower_triangular(inverse.as_mut(), own.as_ref(), Par::Seq);

        let precisions: Vec<f64> = left.iter().map(|left| 1.0 / (noise + left)).collect();
        let mut weighted = features.clone();
        for axis in 0..r {
            for (feature, precision) in column_mut(&mut weighted, axis).iter_mut().zip(&precisions) {
                *feature *= precision;
            }
        }
        let mut gram = Mat::<f64>::identity(r, r);
        matmul(gram.as_mut(), Accum::Add, weighted.transpose(), features.as_ref(), 1.0, Par::Seq);
        let projected = weighted.transpose() * targets;
        let factor = Llt::new(gram.as_ref(), Side::Lower).ok()?;
        let coefficients = factor.solve(&projected);
        // the same by Woodbury's identity: K⁻¹ = Λ⁻¹ − Λ⁻¹Φ B⁻¹ ΦᵀΛ⁻¹
        let mut residuals = targets - &features * &coefficients;
        for output in 0..residuals.ncols() {
            for (residual, precision) in column_mut(&mut residuals, output).iter_mut().zip(&precisions) {
                *residual *= precision;
            }
        }
        let weights = inverse.transpose() * &coefficients;
        let eigen = gram.self_adjoint_eigen(Side::Lower).ok()?;
        let shrink: Vec<f64> = (0..r).map(|i| (1.0 - 1.0 / eigen.S()[i]).max(0.0).sqrt()).collect();
        let rotation = Mat::from_fn(r, r, |i, j| shrink[i] * eigen.U()[(j, i)]);
        let norms = (0..targets.ncols()).map(|output| coefficients.col(output).norm_l2()).collect();
        Some(Solution {
            centres: pivots,
            weights: weights.transpose().to_owned(),
            reduction: rotation * inverse,
            observed: Observed::ThroughPairs((0..r).map(|i| (1.0 / eigen.S()[i]).sqrt()).collect()),
            norms,
            woodbury: Some(Woodbury { diagonal: precisions, weighted, gram: factor }),
            solved: residuals,
            neglected: left.iter().copied().fold(0.0, f64::max) / self.signal,
        })
    }

    fn pivoted_cholesky(&self, most: usize) -> Pivoted {
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
        let features = features.subcols(0, pivots.len()).to_owned();
        Pivoted { features, pivots, left: left.into_iter().map(|left| left.max(0.0)).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::random::Random;

    fn hyperparameters() -> Hyperparameters {
        Hyperparameters {
            length_scales: vec![0.7, 1.1],
            signal_variance: 2.0,
            noise_variance: 0.01,
            log_marginal_likelihood: 0.0,
        }
    }

    fn cloud(count: usize, seed: u64) -> Points {
        let mut random = Random::new(seed);
        Points::from_rows(2, (0..count).map(|_| [4.0 * random.uniform(), 4.0 * random.uniform()]))
    }

    #[test]
    fn a_projected_process_is_near_the_exact_one() {
        let inputs = cloud(EXACT_PAIRS, 1);
        let mut random = Random::new(2);
        let targets = Points::from_rows(
            1,
            inputs.rows().map(|x| [(2.0 * x[0]).sin() + x[1] + 0.2 * (random.uniform() - 0.5)]),
        );
        // half of the pairs as centres: what they neglect is less than the noise, and makes the process more cautious
        for kernel in [Kernel::Rbf, Kernel::Matern52] {
            let exact = GaussianProcess::given(kernel, hyperparameters(), &inputs, &targets).unwrap();
            let scaled: Vec<Vec<f64>> = (0..2)
                .map(|axis| inputs.column(axis).map(|x| x / hyperparameters().length_scales[axis]).collect())
                .collect();
            let data = Data { kernel, scaled: &scaled, signal: 2.0 };
            let column = Mat::from_fn(inputs.len(), 1, |i, _| targets.row(i)[0]);
            let Solution { centres, weights, reduction, observed: _, norms, neglected, .. } =
                data.projected(&column, 0.01).unwrap();
            assert!(centres.len() <= MAX_CENTRES && neglected < 1e-3, "{} {neglected}", centres.len());
            assert!(
                (norms[0] / exact.norms[0] - 1.0).abs() < 0.05,
                "{norms:?} {:?} {neglected}",
                exact.norms
            );
            let centres = scaled.iter().map(|axis| centres.iter().map(|&i| axis[i]).collect()).collect();
            let projected =
                GaussianProcess { centres, weights, reduction, norms, neglected, ..exact.clone() };

            let points =
                Points::from_rows(2, cloud(200, 3).rows().map(|x| [1.5 * x[0] - 1.0, 1.5 * x[1] - 1.0]));
            let (exact, projected) = (exact.predict(&points), projected.predict(&points));
            for number in 0..points.len() {
                let deviation = exact.variance[number].sqrt();
                let moved = (projected.mean.row(number)[0] - exact.mean.row(number)[0]).abs();
                assert!(moved < 0.2 * deviation, "{kernel:?} {:?} {moved} {deviation}", points.row(number));
                let ratio = projected.variance[number].sqrt() / deviation;
                assert!((0.9..1.25).contains(&ratio), "{kernel:?} {:?} {ratio}", points.row(number));
            }
        }
    }

    #[test]
    fn far_from_data_the_process_is_as_it_was_before_them() {
        let inputs = cloud(EXACT_PAIRS + 1, 1);
        let targets = Points::from_rows(1, inputs.rows().map(|x| [x[0]]));
        let process = GaussianProcess::given(Kernel::Matern52, hyperparameters(), &inputs, &targets).unwrap();
        let far = process.predict(&Points::from_rows(2, [[50.0, 50.0]]));
        assert!(far.mean.row(0)[0].abs() < 1e-9);
        assert!((far.variance[0] - 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_trend_is_known_no_better_than_its_pairs_tell() {
        // with next to no signal, what is left is the line of least squares through noisy pairs
        let inputs = Points::from_rows(1, (0..30).map(|i| [f64::from(i) / 10.0]));
        let targets = Points::from_rows(1, inputs.rows().map(|_| [0.0]));
        let noise = Hyperparameters {
            length_scales: vec![1.0],
            signal_variance: 1e-12,
            noise_variance: 0.04,
            log_marginal_likelihood: 0.0,
        };
        let process =
            GaussianProcess::given_beside_trend(Kernel::Matern52, noise, &inputs, &targets, 2).unwrap();
        let mean = inputs.column(0).sum::<f64>() / 30.0;
        let scatter: f64 = inputs.column(0).map(|x| (x - mean).powi(2)).sum();
        for x in [-1.0, 0.5, 4.0] {
            let expected = 0.04 * (1.0 / 30.0 + (x - mean).powi(2) / scatter);
            let found = process.predict(&Points::from_rows(1, [[x]])).variance[0];
            assert!((found / expected - 1.0).abs() < 1e-6, "{x}: {found} {expected}");
        }
    }

    #[test]
    fn points_that_coincide_do_no_harm() {
        let inputs = Points::from_rows(1, [[1.0]; 6]);
        let targets = Points::from_rows(1, [[1.0], [3.0], [1.0], [3.0], [1.0], [3.0]]);
        let one = Hyperparameters { length_scales: vec![1.0], ..hyperparameters() };
        let process = GaussianProcess::given(Kernel::Rbf, one, &inputs, &targets).unwrap();
        let prediction = process.predict(&inputs);
        assert!((prediction.mean.row(0)[0] - 2.0).abs() < 0.01);
    }
}
