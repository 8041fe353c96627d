//! Softmax regressions on Fisher's Iris data, trained here: what an analysis of real training looks like.
//!
//! As in Eslami et al. 2021: petals only, standardised, half of the flowers to train on, nine weights, kernel uniform on
//! (−2, 2), Adam at its default rate, batches of five, 450 epochs, a checkpoint every ten.

use doodl3::engine::{RunSeries, Snapshot};

const CLASSES: usize = 3;
const WEIGHTS: usize = 9;

type Flower = ([f64; 2], usize);

/// Trains `count` runs from different initial weights, in batches of different order.
pub(crate) fn runs(count: usize, seed: u64) -> Vec<RunSeries> {
    let (train, held_out) = halves();
    (0..count).map(|run| train_one(run, seed, &train, &held_out)).collect()
}

fn halves() -> (Vec<Flower>, Vec<Flower>) {
    let data = include_str!("../../src/bin/doodl3-evaluator/train/iris.csv");
    let mut flowers: Vec<Flower> = data
        .lines()
        .skip(1)
        .map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            let species =
                ["setosa", "versicolor", "virginica"].iter().position(|name| *name == fields[4]).unwrap();
            ([fields[2].parse().unwrap(), fields[3].parse().unwrap()], species)
        })
        .collect();
    for axis in 0..2 {
        let mean = flowers.iter().map(|flower| flower.0[axis]).sum::<f64>() / flowers.len() as f64;
        let variance =
            flowers.iter().map(|flower| (flower.0[axis] - mean).powi(2)).sum::<f64>() / flowers.len() as f64;
        for flower in &mut flowers {
            flower.0[axis] = (flower.0[axis] - mean) / variance.sqrt();
        }
    }
    let half = |odd: usize| flowers.iter().skip(odd).step_by(2).copied().collect();
    (half(0), half(1))
}

fn train_one(run: usize, seed: u64, train: &[Flower], held_out: &[Flower]) -> RunSeries {
    let mut random = Random(seed + run as u64);
    let mut weights: [f64; WEIGHTS] =
        std::array::from_fn(|i| if i < 6 { 4.0 * random.uniform() - 2.0 } else { 0.0 });
    let (mut first, mut second) = ([0.0; WEIGHTS], [0.0; WEIGHTS]);
    let mut snapshots = vec![snapshot(0, &weights, held_out)];
    let mut order: Vec<usize> = (0..train.len()).collect();
    let mut updates = 0;
    for epoch in 1..=450 {
        for last in (1..order.len()).rev() {
            order.swap(last, (random.uniform() * (last + 1) as f64) as usize);
        }
        for batch in order.chunks(5) {
            let mut gradient = [0.0; WEIGHTS];
            for &(x, species) in batch.iter().map(|&i| &train[i]) {
                let probabilities = predict(&weights, x);
                for class in 0..CLASSES {
                    let error =
                        (probabilities[class] - f64::from(u8::from(class == species))) / batch.len() as f64;
                    gradient[2 * class] += error * x[0];
                    gradient[2 * class + 1] += error * x[1];
                    gradient[6 + class] += error;
                }
            }
            updates += 1;
            for i in 0..WEIGHTS {
                first[i] = 0.9 * first[i] + 0.1 * gradient[i];
                second[i] = 0.999 * second[i] + 0.001 * gradient[i] * gradient[i];
                let mean = first[i] / (1.0 - 0.9f64.powi(updates));
                let square = second[i] / (1.0 - 0.999f64.powi(updates));
                weights[i] -= 1e-3 * mean / (square.sqrt() + 1e-8);
            }
        }
        if epoch % 10 == 0 {
            snapshots.push(snapshot(epoch, &weights, held_out));
        }
    }
    RunSeries { run: format!("seed-{run:03}"), snapshots, disturbed: Vec::new() }
}

fn snapshot(epoch: u64, weights: &[f64; WEIGHTS], held_out: &[Flower]) -> Snapshot {
    let predictions: Vec<[f64; CLASSES]> = held_out.iter().map(|flower| predict(weights, flower.0)).collect();
    let losses =
        predictions.iter().zip(held_out).map(|(probabilities, flower)| -probabilities[flower.1].ln());
    Snapshot {
        step: epoch,
        weights: weights.iter().map(|&weight| weight as f32).collect(),
        loss: Some(losses.sum::<f64>() / held_out.len() as f64),
        predictions: Some(predictions.as_flattened().iter().map(|&p| p as f32).collect()),
    }
}

fn predict(weights: &[f64; WEIGHTS], x: [f64; 2]) -> [f64; CLASSES] {
    let score =
        |class: usize| (weights[2 * class] * x[0] + weights[2 * class + 1] * x[1] + weights[6 + class]).exp();
    let scores: [f64; CLASSES] = std::array::from_fn(score);
    scores.map(|score| score / scores.iter().sum::<f64>())
}

/// `SplitMix64`.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// With mean 0 and variance 1.
    pub(super) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (2.0 * std::f64::consts::PI * self.uniform()).cos()
    }
}
