//! Fisher's Iris data (1936; public domain), petals only, standardised and split in two halves.

use tch::Tensor;

use super::random::Random;

/// Number of species.
pub(super) const CLASSES: usize = 3;
/// Numbers measured of each flower: length and width of its petals.
pub(super) const FEATURES: usize = 2;

/// The split is part of the experiment: it stays the same whatever the seed of the training.
const SPLIT_SEED: u64 = 1936;

/// Flowers and their species.
pub(super) struct Examples {
    /// Standardised measurements.
    pub(super) inputs: Vec<[f32; FEATURES]>,
    /// Indices of species.
    pub(super) targets: Vec<i64>,
}

impl Examples {
    /// Number of flowers.
    pub(super) fn len(&self) -> usize {
        self.targets.len()
    }

    /// The inputs as a tensor of shape (flowers, 2).
    pub(super) fn input_tensor(&self) -> Tensor {
        Tensor::from_slice(self.inputs.as_flattened()).view([self.len() as i64, FEATURES as i64])
    }

    /// The targets as a tensor of shape (flowers).
    pub(super) fn target_tensor(&self) -> Tensor {
        Tensor::from_slice(&self.targets)
    }
}

/// The 75 flowers to train on and the 75 held out, 25 of each species in both.
///
/// Each measurement is standardised by mean and deviation of the training half.
pub(super) fn halves() -> (Examples, Examples) {
    let flowers = read();
    let mut random = Random::new(SPLIT_SEED, 0);
    let (mut train, mut held_out) = (Vec::new(), Vec::new());
    for class in 0..CLASSES as i64 {
        let mut members: Vec<_> = flowers.iter().copied().filter(|flower| flower.1 == class).collect();
        random.shuffle(&mut members);
        let (first, second) = members.split_at(members.len() / 2);
        train.extend_from_slice(first);
        held_out.extend_from_slice(second);
    }
    let scale: [(f64, f64); FEATURES] = std::array::from_fn(|feature| {
        let n = train.len() as f64;
        let mean = train.iter().map(|flower| flower.0[feature]).sum::<f64>() / n;
        let variance = train.iter().map(|flower| (flower.0[feature] - mean).powi(2)).sum::<f64>() / n;
        (mean, variance.sqrt())
    });
    let standardise = |flowers: Vec<([f64; FEATURES], i64)>| Examples {
        inputs: flowers
            .iter()
            .map(|flower| std::array::from_fn(|i| ((flower.0[i] - scale[i].0) / scale[i].1) as f32))
            .collect(),
        targets: flowers.iter().map(|flower| flower.1).collect(),
    };
    (standardise(train), standardise(held_out))
}

/// Petal length and width in centimetres, and the species.
fn read() -> Vec<([f64; FEATURES], i64)> {
    include_str!("iris.csv")
        .lines()
        .skip(1)
        .map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            let number = |column: usize| fields[column].parse().expect("the data hold numbers");
            let class = ["setosa", "versicolor", "virginica"].iter().position(|name| *name == fields[4]);
            ([number(2), number(3)], class.expect("the data hold three species") as i64)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_stratified_and_standardised() {
        let (train, held_out) = halves();
        for half in [&train, &held_out] {
            assert_eq!(half.len(), 75);
            for class in 0..CLASSES as i64 {
                assert_eq!(half.targets.iter().filter(|target| **target == class).count(), 25);
            }
        }
        for feature in 0..FEATURES {
            let values: Vec<f64> = train.inputs.iter().map(|input| f64::from(input[feature])).collect();
            let mean = values.iter().sum::<f64>() / 75.;
            let variance = values.iter().map(|value| value * value).sum::<f64>() / 75. - mean * mean;
            assert!(mean.abs() < 1e-6 && (variance - 1.).abs() < 1e-6, "{mean} {variance}");
        }
        assert!(read().contains(&([1.4, 0.2], 0)));
    }
}
