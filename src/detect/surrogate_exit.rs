//! Weights that moved elsewhere than the run's own recent dynamics predict.
//!
//! The surrogate is local and linear: a first-order vector autoregression, z′ = Az + b, of the last 16 checkpoints, evenly
//! apart, in their first three principal directions. Its residual at the next checkpoint is taken in the plane of these
//! directions, ‖z′ − (Az + b)‖, and off it, both together as rₜ. The score is the robust z of ln rₜ among the 24
//! residuals before, spread at least 0.25. Residuals under 0.3 of the median update count as that much: on a smooth path
//! they are tiny, and ten times nothing is no exit. After an exit the map is learned anew, since what came before no
//! longer tells where the run goes. In the Morse graph: leaving what the map learned so far encloses.
//!
//! All that is needed are inner products of sketches, so they are kept folded to 512 numbers (norms hold within about
//! 3 %): 16 of them are 32 KiB whatever the model.

use std::collections::VecDeque;

use faer::{Mat, Side, linalg::solvers::Solve};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    movement::{Moved, MovedTensor, fold, say_moved},
    robust::{Baseline, median},
    wording::{Text, number, times},
};
use crate::alert::Episode;

/// Numbers kept of each checkpoint.
const DIMENSION: usize = 512;
/// Checkpoints that the map is fitted to.
const WINDOW: usize = 16;
/// Principal directions.
const DIRECTIONS: usize = 3;
/// Residuals that the newest one is compared with.
const RESIDUALS: usize = 24;
/// Residuals needed before the detector speaks.
const NEEDED: usize = 8;
/// Least spread of ln residual.
const FLOOR: f64 = 0.25;
/// Residuals below this share of the median update count as this much.
const LEAST_RESIDUAL: f64 = 0.3;
/// Regularisation of the fit, relative to the mean variance of a direction.
const RIDGE: f64 = 1e-6;
/// Principal directions with less than this share of the largest variance are noise of the numbers' precision.
const LEAST_VARIANCE: f64 = 1e-12;

/// Settings of [`Detector::SurrogateExit`](super::Detector::SurrogateExit).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SurrogateExitSettings {
    /// Whether it runs.
    pub enabled: bool,
    /// Robust z of ln residual at which it turns on.
    pub threshold: f64,
}

impl Default for SurrogateExitSettings {
    fn default() -> Self {
        Self { enabled: true, threshold: 5.0 }
    }
}

/// What stands behind a score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ExitEvidence {
    from_step: u64,
    step: u64,
    log_residual: f64,
    /// Share of the squared residual that is off the plane.
    off_plane: f64,
    baseline: Baseline,
    tensors: Vec<MovedTensor>,
}

/// The last checkpoints and residuals.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Surrogate {
    points: VecDeque<Point>,
    residuals: VecDeque<Residual>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Point {
    step: u64,
    sketch: Vec<f32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Residual {
    stride: u64,
    log: f64,
}

/// The residual of one prediction.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Miss {
    in_plane: f64,
    off_plane: f64,
    /// Median length of the updates that the map was fitted to.
    typical_update: f64,
}

impl Surrogate {
    /// Takes in a checkpoint of finite weights: its score, or why there is none. At or above the threshold the map is
    /// learned anew.
    pub(super) fn advance(
        &mut self,
        step: u64,
        sketch: &[f32],
        moved: Option<&Moved>,
        threshold: f64,
    ) -> Result<(f64, ExitEvidence), String> {
        let point = Point { step, sketch: fold(sketch, DIMENSION) };
        if self.points.back().is_some_and(|last| last.sketch.len() != point.sketch.len()) {
            *self = Self::default();
        }
        if self.is_uneven(step) {
            self.points.drain(..self.points.len() - 1);
        }
        let result = self.score(&point, moved);
        if result.as_ref().is_ok_and(|(score, _)| *score >= threshold) {
            self.points.clear();
        }
        if self.points.len() == WINDOW {
            self.points.pop_front();
        }
        self.points.push_back(point);
        result
    }

    /// Whether a checkpoint at this step is not as far from the last one as that is from the one before.
    fn is_uneven(&self, step: u64) -> bool {
        let mut newest = self.points.iter().rev().map(|point| point.step);
        let (last, before) = (newest.next(), newest.next());
        last.zip(before).is_some_and(|(last, before)| !same_stride(step - last, last - before))
    }

    fn score(&mut self, point: &Point, moved: Option<&Moved>) -> Result<(f64, ExitEvidence), String> {
        let Some(last) = self.points.back().filter(|_| self.points.len() == WINDOW) else {
            return Err(format!(
                "needs {WINDOW} checkpoints evenly apart before this one, has {}",
                self.points.len()
            ));
        };
        let (from_step, stride) = (last.step, point.step - last.step);
        let miss = self.miss(point)?;
        let squared = miss.in_plane.powi(2) + miss.off_plane.powi(2);
        let log = squared.sqrt().max(LEAST_RESIDUAL * miss.typical_update).ln();
        let comparable = self.residuals.iter().filter(|r| same_stride(r.stride, stride));
        let baseline = Baseline::of(comparable.map(|r| r.log), FLOOR).filter(|b| b.values >= NEEDED);
        if self.residuals.len() == RESIDUALS {
            self.residuals.pop_front();
        }
        self.residuals.push_back(Residual { stride, log });
        let Some(baseline) = baseline else {
            return Err(format!(
                "needs {NEEDED} forecasts to compare with, has {}",
                self.residuals.iter().filter(|r| same_stride(r.stride, stride)).count() - 1,
            ));
        };
        let evidence = ExitEvidence {
            from_step,
            step: point.step,
            log_residual: log,
            off_plane: miss.off_plane.powi(2) / squared,
            baseline,
            tensors: moved.map(|moved| moved.tensors.clone()).unwrap_or_default(),
        };
        Ok((baseline.z(log), evidence))
    }

    /// Fits the map to the window and compares its prediction with where the weights are now.
    fn miss(&self, point: &Point) -> Result<Miss, String> {
        let gram = self.centred_gram(point);
        let squared_update = |i: usize, j: usize| (gram[(i, i)] + gram[(j, j)] - 2.0 * gram[(i, j)]).max(0.0);
        let mut updates: Vec<f64> = (1..WINDOW).map(|i| squared_update(i - 1, i).sqrt()).collect();
        let typical_update = median(&mut updates).filter(|update| *update > 0.0);
        let typical_update = typical_update.ok_or("the weights hardly move")?;

        // Scores of the window's checkpoints, and of the new one, in the principal directions: with the eigenvectors q
        // and eigenvalues λ of the Gram matrix K of the window, checkpoint i has √λ·qᵢ, and a vector with inner products
        // k with the window has (k·q)/√λ.
        let window = gram.submatrix(0, 0, WINDOW, WINDOW);
        let eigen = window
            .self_adjoint_eigen(Side::Lower)
            .map_err(|_| "the principal directions could not be computed".to_string())?;
        let (values, vectors) = (eigen.S(), eigen.U());
        let value = |k: usize| values[WINDOW - 1 - k];
        let directions = (0..DIRECTIONS).take_while(|&k| value(k) > LEAST_VARIANCE * value(0)).count();
        let vector = |i: usize, k: usize| vectors[(i, WINDOW - 1 - k)];
        let score = |i: usize, k: usize| value(k).sqrt() * vector(i, k);
        let now: Vec<f64> = (0..directions)
            .map(|k| (0..WINDOW).map(|i| gram[(WINDOW, i)] * vector(i, k)).sum::<f64>() / value(k).sqrt())
            .collect();

        let predicted = predict(directions, score)?;
        let in_plane = predicted.iter().zip(&now).map(|(p, z)| (p - z).powi(2)).sum::<f64>();
        let off_plane = gram[(WINDOW, WINDOW)] - now.iter().map(|z| z * z).sum::<f64>();
        Ok(Miss { in_plane: in_plane.sqrt(), off_plane: off_plane.max(0.0).sqrt(), typical_update })
    }

    /// Inner products of the window's sketches and, last, the new one, all about the window's mean.
    fn centred_gram(&self, point: &Point) -> Mat<f64> {
        let length = point.sketch.len();
        let mut mean = vec![0.0; length];
        for p in &self.points {
            for (mean, x) in mean.iter_mut().zip(&p.sketch) {
                *mean += f64::from(*x) / WINDOW as f64;
            }
        }
        let rows: Vec<Vec<f64>> = self
            .points
            .iter()
            .chain([point])
            .map(|p| p.sketch.iter().zip(&mean).map(|(x, mean)| f64::from(*x) - mean).collect())
            .collect();
        Mat::from_fn(rows.len(), rows.len(), |i, j| rows[i].iter().zip(&rows[j]).map(|(x, y)| x * y).sum())
    }
}

/// The prediction from the window's last checkpoint by the map z′ = Az + b, fitted by least squares to the pairs of
/// neighbours; `score` gives coordinate k of checkpoint i.
fn predict(directions: usize, score: impl Fn(usize, usize) -> f64) -> Result<Vec<f64>, String> {
    let pairs = 0..WINDOW - 1;
    let count = pairs.len() as f64;
    let mean = |offset: usize, k: usize| pairs.clone().map(|i| score(i + offset, k)).sum::<f64>() / count;
    let before: Vec<f64> = (0..directions).map(|k| mean(0, k)).collect();
    let after: Vec<f64> = (0..directions).map(|k| mean(1, k)).collect();
    let mut normal = Mat::from_fn(directions, directions, |k, l| {
        pairs.clone().map(|i| (score(i, k) - before[k]) * (score(i, l) - before[l])).sum::<f64>()
    });
    let ridge = RIDGE * (0..directions).map(|k| normal[(k, k)]).sum::<f64>() / directions as f64;
    for k in 0..directions {
        normal[(k, k)] += ridge;
    }
    let products = Mat::from_fn(directions, directions, |k, l| {
        pairs.clone().map(|i| (score(i, k) - before[k]) * (score(i + 1, l) - after[l])).sum::<f64>()
    });
    let factor = normal.llt(Side::Lower).map_err(|_| "the local map could not be fitted".to_string())?;
    let map = factor.solve(&products);
    let from = |k: usize| score(WINDOW - 1, k) - before[k];
    Ok((0..directions)
        .map(|l| after[l] + (0..directions).map(|k| from(k) * map[(k, l)]).sum::<f64>())
        .collect())
}

/// Whether two numbers of steps are within a tenth of each other.
fn same_stride(a: u64, b: u64) -> bool {
    10 * a.abs_diff(b) <= a.max(b)
}

/// The alert's words.
pub(super) fn text(episode: &Episode<ExitEvidence>, last_good_step: Option<u64>) -> Text {
    let e = &episode.evidence;
    let off_plane =
        if e.off_plane > 0.5 { "mostly in a new direction" } else { "along its usual directions" };
    Text {
        headline: format!(
            "At step {} the weights are not where the run's own course leads: the forecast missed by {} the usual, {off_plane}.",
            e.step,
            times(e.log_residual - e.baseline.median),
        ),
        evidence: format!(
            "Residual of a linear forecast from the {WINDOW} checkpoints up to step {}: {}, median of the {} before {}; \
             robust z of its logarithm {}, threshold {}. {}",
            e.from_step,
            number(e.log_residual.exp()),
            e.baseline.values,
            number(e.baseline.median.exp()),
            number(episode.peak),
            number(episode.threshold),
            say_moved(&e.tensors),
        ),
        advice: format!(
            "If the learning rate, the data or the batch size was changed on purpose here, nothing is wrong. Otherwise \
             compare the loss before and after{}.",
            last_good_step
                .map(|step| format!(", and keep the checkpoint at step {step} until it is clear"))
                .unwrap_or_default(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A spiral in the plane of two axes among five, with a little of everything else.
    fn spiral(t: u64) -> Vec<f32> {
        let (radius, angle) = (0.97_f64.powi(t as i32), 0.4 * t as f64);
        let jitter = |k: f64| 1e-3 * (t as f64 * 12.9898 * k).sin();
        [radius * angle.cos(), radius * angle.sin(), jitter(1.0), jitter(2.0), jitter(3.0)]
            .map(|x| x as f32)
            .to_vec()
    }

    #[test]
    fn a_linear_course_is_foreseen_and_leaving_it_is_seen() {
        let mut surrogate = Surrogate::default();
        for t in 0..60 {
            match surrogate.advance(10 * t, &spiral(t), None, 5.0) {
                Ok((score, evidence)) => {
                    assert!(t >= 24);
                    assert!(score.abs() < 3.0, "checkpoint {t}: {score}");
                    let update = 0.4 * 0.97_f64.powi(t as i32);
                    assert!(evidence.log_residual.exp() < 0.4 * update, "small beside the update");
                }
                Err(why) => assert!(t < 24, "checkpoint {t}: {why}"),
            }
        }
        // Two and a half usual updates in a direction it never took.
        let mut elsewhere = spiral(59);
        elsewhere[3] += 0.97_f32.powi(59);
        let (score, evidence) = surrogate.advance(600, &elsewhere, None, 5.0).unwrap();
        assert!(score > 5.0, "{score}");
        assert!(evidence.off_plane > 0.5);
        let why = surrogate.advance(610, &elsewhere, None, 5.0).unwrap_err();
        assert_eq!(why, "needs 16 checkpoints evenly apart before this one, has 1");
    }

    #[test]
    fn a_new_stride_begins_anew() {
        let mut surrogate = Surrogate::default();
        for t in 0..40 {
            drop(surrogate.advance(10 * t, &spiral(t), None, 5.0));
        }
        assert!(surrogate.advance(400, &spiral(40), None, 5.0).is_ok());
        let why = surrogate.advance(800, &spiral(80), None, 5.0).unwrap_err();
        assert_eq!(why, "needs 16 checkpoints evenly apart before this one, has 1");
    }

    #[test]
    fn weights_that_hardly_move_give_no_score() {
        let mut surrogate = Surrogate::default();
        for t in 0..60 {
            assert!(surrogate.advance(t, &[1.0, 2.0, 3.0], None, 5.0).is_err());
        }
    }
}
