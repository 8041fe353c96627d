//! How far the weights move from one checkpoint to the next, in all and tensor by tensor.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{
    Observation,
    wording::{list, percent, tensor_name, times},
};
use crate::checkpoint::TensorStatistics;

/// Number of updates kept: what the growth of the updates looks back on.
pub(super) const UPDATES: usize = 54;

/// Numbers kept of all tensor sketches together; many tensors are kept more coarsely.
const TENSOR_NUMBERS: usize = 8192;
/// Tensors kept at most: the largest.
const TENSORS: usize = 1024;
/// Tensors named in an alert.
const NAMED: usize = 3;
/// Weight of the newest movement in a tensor's usual one.
const USUAL_RATE: f32 = 0.125;

/// One update: the way from one checkpoint to the next.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Update {
    /// Step of the checkpoint it led to.
    pub(super) step: u64,
    /// ln‖θₜ − θₜ₋₁‖.
    pub(super) log_distance: f64,
    /// ln‖θₜ₋₁‖.
    pub(super) log_norm: f64,
    /// ln of the number of steps.
    log_stride: f64,
}

impl Update {
    /// ln(‖θₜ − θₜ₋₁‖ / ‖θₜ₋₁‖).
    pub(super) fn log_ratio(&self) -> f64 {
        self.log_distance - self.log_norm
    }

    /// What to add to the logarithm of this update's size to compare it with that of another one.
    ///
    /// Over s times as many steps weights go between 1 time (they circle) and s times (they go straight) as far. The
    /// bound that makes the other one look smaller is taken, so that an uneven stride alone is never an alarm.
    pub(super) fn log_stretch_to(&self, other: &Self) -> f64 {
        (other.log_stride - self.log_stride).max(0.0)
    }
}

/// The part of one tensor in an update.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct MovedTensor {
    name: String,
    /// Share of ‖θₜ − θₜ₋₁‖².
    share: f64,
    /// ln of its movement over its usual one.
    log_unusual: Option<f64>,
}

/// One update as it happened.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Moved {
    /// Step of the checkpoint before.
    pub(super) from_step: u64,
    /// ‖θₜ − θₜ₋₁‖ / ‖θₜ₋₁‖.
    pub(super) ratio: f64,
    /// The tensors that moved most.
    pub(super) tensors: Vec<MovedTensor>,
}

/// The tensors that moved most, in words.
pub(super) fn say_moved(tensors: &[MovedTensor]) -> String {
    let say = |tensor: &MovedTensor| {
        let share = percent(tensor.share);
        match tensor.log_unusual {
            Some(log) => {
                format!(
                    "{} ({share} of the squared distance, {} its usual movement)",
                    tensor.name,
                    times(log)
                )
            }
            None => format!("{} ({share} of the squared distance)", tensor.name),
        }
    };
    match tensors {
        [] => "Which tensors moved is not known.".into(),
        tensors => format!("Moved most: {}.", list(&tensors.iter().map(say).collect::<Vec<_>>())),
    }
}

/// The last checkpoint with finite weights, and the updates up to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Movement {
    previous: Option<Previous>,
    updates: VecDeque<Update>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Previous {
    step: u64,
    norm: f64,
    sketch: Vec<f32>,
    tensors: Vec<Tensor>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tensor {
    name: String,
    sketch: Vec<f32>,
    /// Running mean of ln of its movement.
    log_usual: Option<f32>,
}

impl Movement {
    /// Step of the last checkpoint with finite weights.
    pub(super) fn last_step(&self) -> Option<u64> {
        self.previous.as_ref().map(|previous| previous.step)
    }

    /// The updates so far, oldest first, the newest last; at most [`UPDATES`].
    pub(super) fn updates(&self) -> &VecDeque<Update> {
        &self.updates
    }

    /// Takes in a checkpoint of finite weights: the update that led to it, or why there is none to speak of.
    pub(super) fn advance(&mut self, observation: &Observation<'_>, norm: f64) -> Result<Moved, String> {
        let mut tensors = tracked(observation.statistics);
        let previous = self.previous.take();
        let result = previous
            .ok_or_else(|| "this is the run's first checkpoint with finite weights".into())
            .and_then(|previous| self.update_from(&previous, observation, &mut tensors));
        self.previous =
            Some(Previous { step: observation.step, norm, sketch: observation.sketch.to_vec(), tensors });
        result
    }

    fn update_from(
        &mut self,
        previous: &Previous,
        observation: &Observation<'_>,
        tensors: &mut [Tensor],
    ) -> Result<Moved, String> {
        if previous.sketch.len() != observation.sketch.len() {
            self.updates.clear();
            return Err("the model is not that of the checkpoint before".into());
        }
        let squared = squared_distance(&previous.sketch, observation.sketch);
        if squared == 0.0 {
            return Err("the weights are those of the checkpoint before".into());
        }
        if previous.norm == 0.0 {
            return Err("the weights of the checkpoint before are all zero".into());
        }
        let update = Update {
            step: observation.step,
            log_distance: 0.5 * squared.ln(),
            log_norm: previous.norm.ln(),
            log_stride: ((observation.step - previous.step) as f64).ln(),
        };
        if self.updates.len() == UPDATES {
            self.updates.pop_front();
        }
        self.updates.push_back(update);
        Ok(Moved {
            from_step: previous.step,
            ratio: update.log_ratio().exp(),
            tensors: moved_tensors(&previous.tensors, tensors, squared),
        })
    }
}

/// The tensors that are followed, as coarsely as their number asks for.
fn tracked(statistics: &[TensorStatistics]) -> Vec<Tensor> {
    let followed = |s: &&TensorStatistics| s.sketch.iter().all(|x| x.is_finite()) && !looks_like_a_counter(s);
    let mut largest: Vec<&TensorStatistics> = statistics.iter().filter(followed).collect();
    // Stable, so that equal sizes keep the file's order.
    largest.sort_by_key(|s| std::cmp::Reverse(s.shape.iter().product::<usize>()));
    largest.truncate(TENSORS);
    let dimension = (TENSOR_NUMBERS / largest.len().max(1)).max(1).ilog2();
    largest
        .into_iter()
        .map(|s| Tensor {
            name: tensor_name(&s.name),
            sketch: fold(&s.sketch, 1 << dimension),
            log_usual: None,
        })
        .collect()
}

/// Whether a tensor holds whole numbers only, such as the number of batches seen. Weights do so at most before they first
/// move.
fn looks_like_a_counter(statistics: &TensorStatistics) -> bool {
    let whole = |x: f64| x.fract() == 0.0;
    whole(statistics.min) && whole(statistics.max) && statistics.sketch.iter().all(|x| whole(f64::from(*x)))
}

/// The tensors that moved most; carries on what is usual for each.
fn moved_tensors(before: &[Tensor], after: &mut [Tensor], squared: f64) -> Vec<MovedTensor> {
    let mut moved: Vec<MovedTensor> = Vec::with_capacity(after.len());
    for (before, after) in before.iter().zip(after) {
        if before.name != after.name || before.sketch.len() != after.sketch.len() {
            continue;
        }
        let own = squared_distance(&before.sketch, &after.sketch);
        if own == 0.0 {
            after.log_usual = before.log_usual;
            continue;
        }
        let log = 0.5 * own.ln();
        after.log_usual =
            Some(before.log_usual.map_or(log as f32, |usual| usual + USUAL_RATE * (log as f32 - usual)));
        moved.push(MovedTensor {
            name: after.name.clone(),
            share: own / squared,
            log_unusual: before.log_usual.map(|usual| log - f64::from(usual)),
        });
    }
    moved.sort_by(|a, b| b.share.total_cmp(&a.share));
    moved.truncate(NAMED);
    moved
}

/// A sketch of a sketch: coordinate i is added, with a sign of its own, to sum i modulo `dimension`, a power of two.
///
/// Distances then hold within about √(2 / `dimension`), relative to their square; vectors that are no longer than
/// `dimension` are returned as they are.
pub(super) fn fold(values: &[f32], dimension: usize) -> Vec<f32> {
    if values.len() <= dimension {
        return values.to_vec();
    }
    let mut sums = vec![0.0; dimension];
    for (i, value) in values.iter().enumerate() {
        let sign = if is_negative(i as u64) { -1.0 } else { 1.0 };
        sums[i % dimension] += sign * f64::from(*value);
    }
    sums.into_iter().map(|sum: f64| sum.clamp(f32::MIN.into(), f32::MAX.into()) as f32).collect()
}

/// A random bit of its argument: the top one of SplitMix64's finaliser (Steele, Lea and Flood 2014).
fn is_negative(counter: u64) -> bool {
    let mut z = counter.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) >> 63 == 1
}

fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics(name: &str, sketch: &[f32]) -> TensorStatistics {
        TensorStatistics {
            name: name.into(),
            shape: vec![sketch.len()],
            norm: 0.0,
            mean: 0.0,
            variance: 0.0,
            min: f64::from(sketch.iter().copied().fold(f32::INFINITY, f32::min)),
            max: f64::from(sketch.iter().copied().fold(f32::NEG_INFINITY, f32::max)),
            zeros: 0,
            nonfinite: 0,
            sketch: sketch.to_vec(),
        }
    }

    fn advance(movement: &mut Movement, step: u64, tensors: &[(&str, &[f32])]) -> Result<Moved, String> {
        let statistics: Vec<_> = tensors.iter().map(|(name, values)| statistics(name, values)).collect();
        let sketch: Vec<f32> = tensors.iter().flat_map(|(_, values)| values.iter().copied()).collect();
        let norm = sketch.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        movement.advance(&Observation { step, sketch: &sketch, statistics: &statistics, losses: &[] }, norm)
    }

    #[test]
    fn updates_are_distances_and_tensors_share_them() {
        let mut movement = Movement::default();
        assert!(advance(&mut movement, 10, &[("a", &[3.5, 4.5]), ("b", &[0.5])]).is_err());
        let moved = advance(&mut movement, 20, &[("a", &[3.5, 7.5]), ("b", &[4.5])]).unwrap();
        assert_eq!(moved.from_step, 10);
        assert!((moved.ratio - 5.0 / f64::sqrt(3.5 * 3.5 + 4.5 * 4.5 + 0.25)).abs() < 1e-12);
        let shares: Vec<_> =
            moved.tensors.iter().map(|t| (t.name.as_str(), t.share, t.log_unusual)).collect();
        assert_eq!(shares, [("b", 0.64, None), ("a", 0.36, None)]);

        let moved = advance(&mut movement, 30, &[("a", &[3.5, 7.5]), ("b", &[12.5])]).unwrap();
        let [only] = &moved.tensors[..] else { panic!("only b moved") };
        assert!((only.log_unusual.unwrap() - 2.0_f64.ln()).abs() < 1e-6, "twice as far as before");
        assert!(advance(&mut movement, 40, &[("a", &[3.5, 7.5]), ("b", &[12.5])]).is_err(), "nothing moved");
        assert_eq!(movement.updates().len(), 2);
    }

    #[test]
    fn counters_are_not_weights() {
        let mut movement = Movement::default();
        for step in [10, 20] {
            let count = [step as f32];
            let moved =
                advance(&mut movement, step, &[("batches", &count), ("w", &[0.25 * step as f32 + 0.1])]);
            if let Ok(moved) = moved {
                assert_eq!(moved.tensors.len(), 1);
                assert_eq!(moved.tensors[0].name, "w");
            }
        }
    }

    #[test]
    fn folding_keeps_distances_about_as_they_are() {
        let a: Vec<f32> = (0..4096).map(|i| (i as f32 * 0.37).sin()).collect();
        let b: Vec<f32> = (0..4096).map(|i| (i as f32 * 0.91).cos()).collect();
        let (exact, folded) = (squared_distance(&a, &b), squared_distance(&fold(&a, 512), &fold(&b, 512)));
        assert!((folded / exact - 1.0).abs() < 0.2, "{}", folded / exact);
        assert_eq!(fold(&a[..300], 512), a[..300]);
    }
}
