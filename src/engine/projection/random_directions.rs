//! Directions that know nothing of the data: what any others must be better than.

use faer::Mat;

use super::directions::{Directions, mean_of, normalise};
use crate::engine::random::Random;
use crate::engine::trajectories::Row;

/// `dimension` directions drawn from the isotropic normal distribution, brought to unit length.
pub(super) fn random_directions(rows: &[&Row<'_>], dimension: usize, seed: u64) -> Directions {
    let mean = mean_of(rows);
    let mut random = Random::new(seed);
    let mut vectors = Mat::from_fn(mean.len(), dimension, |_, _| random.normal());
    normalise(&mut vectors);
    Directions::new(mean, vectors)
}
