//! The detectors on real training: softmax regressions on Iris, trained here as the demonstration trains them (nine
//! weights, batches of five, 450 epochs, a checkpoint every ten), healthy ones and such in which something goes wrong.

use doodl3::{
    alert::{Alert, Severity},
    checkpoint::TensorStatistics,
    detect::{Detector, Observation, RunMonitor, Settings},
};

const EPOCHS: u64 = 450;
const EPOCHS_PER_CHECKPOINT: u64 = 10;
const BATCH: usize = 5;
const STEPS_PER_EPOCH: u64 = 15;
const CLASSES: usize = 3;
/// Two petal measurements and a constant, for each class.
const WEIGHTS: usize = 3 * CLASSES;

/// Half of the flowers: petal length and width, standardised, and 1; and the species.
fn flowers() -> Vec<([f32; 3], usize)> {
    let table = include_str!("../../src/bin/doodl3-evaluator/train/iris.csv");
    let species = ["setosa", "versicolor", "virginica"];
    let rows: Vec<([f32; 2], usize)> = table
        .lines()
        .skip(1)
        .map(|line| {
            let fields: Vec<&str> = line.trim().split(',').collect();
            let class = species.iter().position(|name| fields[4].ends_with(name)).unwrap();
            ([fields[2].parse().unwrap(), fields[3].parse().unwrap()], class)
        })
        .collect();
    assert_eq!(rows.len(), 150);
    let moments = [0, 1].map(|i| {
        let mean = rows.iter().map(|(x, _)| x[i]).sum::<f32>() / 150.0;
        let variance = rows.iter().map(|(x, _)| (x[i] - mean).powi(2)).sum::<f32>() / 150.0;
        (mean, variance.sqrt())
    });
    let standardised = |i: usize, x: f32| (x - moments[i].0) / moments[i].1;
    rows.iter()
        .step_by(2)
        .map(|&(x, class)| ([standardised(0, x[0]), standardised(1, x[1]), 1.0], class))
        .collect()
}

/// Random numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn uniform(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * (self.next() >> 40) as f32 / (1_u64 << 24) as f32
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, (self.next() % (i as u64 + 1)) as usize);
        }
    }
}

#[derive(Clone, Copy)]
enum Optimizer {
    Adam,
    Sgd { weight_decay: f32 },
}

/// Mean loss of a batch, and its gradient.
fn loss_and_gradient(weights: &[f32; WEIGHTS], batch: &[([f32; 3], usize)]) -> (f32, [f32; WEIGHTS]) {
    let (mut loss, mut gradient) = (0.0, [0.0; WEIGHTS]);
    for (x, class) in batch {
        let logits: [f32; CLASSES] =
            std::array::from_fn(|c| (0..3).map(|i| x[i] * weights[CLASSES * i + c]).sum());
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let powers = logits.map(|z| (z - highest).exp());
        let sum: f32 = powers.iter().sum();
        loss -= (logits[*class] - highest - sum.ln()) / batch.len() as f32;
        for c in 0..CLASSES {
            let error = powers[c] / sum - f32::from(u8::from(c == *class));
            for i in 0..3 {
                gradient[CLASSES * i + c] += error * x[i] / batch.len() as f32;
            }
        }
    }
    (loss, gradient)
}

/// Trains one network under the eyes of the detectors; `rate` gives the learning rate of each step.
fn train(seed: u64, optimizer: Optimizer, rate: impl Fn(u64) -> f32) -> RunMonitor {
    let (mut flowers, mut random) = (flowers(), Random(seed));
    let mut weights: [f32; WEIGHTS] =
        std::array::from_fn(|i| if i < 2 * CLASSES { random.uniform(-2.0, 2.0) } else { 0.0 });
    let (mut mean, mut square) = ([0.0_f32; WEIGHTS], [0.0_f32; WEIGHTS]);
    let (mut step, mut losses, settings) = (0_u64, Vec::new(), Settings::default());
    let mut monitor = RunMonitor::new(format!("seed-{seed}"));
    show(&mut monitor, 0, &weights, &[], &settings);
    for epoch in 1..=EPOCHS {
        random.shuffle(&mut flowers);
        let mut epoch_loss = 0.0;
        for batch in flowers.chunks(BATCH) {
            let (loss, gradient) = loss_and_gradient(&weights, batch);
            let rate = rate(step);
            step += 1;
            epoch_loss += f64::from(loss) / STEPS_PER_EPOCH as f64;
            for i in 0..WEIGHTS {
                weights[i] -= rate
                    * match optimizer {
                        Optimizer::Sgd { weight_decay } => gradient[i] + weight_decay * weights[i],
                        Optimizer::Adam => {
                            mean[i] = 0.9 * mean[i] + 0.1 * gradient[i];
                            square[i] = 0.999 * square[i] + 0.001 * gradient[i].powi(2);
                            let debiased = square[i] / (1.0 - 0.999_f32.powi(step as i32));
                            mean[i] / (1.0 - 0.9_f32.powi(step as i32)) / (debiased.sqrt() + 1e-8)
                        }
                    };
            }
        }
        losses.push((step, epoch_loss));
        if epoch % EPOCHS_PER_CHECKPOINT == 0 {
            show(&mut monitor, step, &weights, &losses, &settings);
            losses.clear();
        }
    }
    monitor
}

fn show(
    monitor: &mut RunMonitor,
    step: u64,
    weights: &[f32; WEIGHTS],
    losses: &[(u64, f64)],
    settings: &Settings,
) {
    let finite = weights.map(|x| if x.is_finite() { x } else { 0.0 });
    let statistics = [TensorStatistics {
        name: "linear.weight".into(),
        shape: vec![3, CLASSES],
        norm: finite.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt(),
        mean: 0.0,
        variance: 0.0,
        min: finite.iter().copied().fold(f32::INFINITY, f32::min).into(),
        max: finite.iter().copied().fold(f32::NEG_INFINITY, f32::max).into(),
        zeros: 0,
        nonfinite: weights.iter().filter(|x| !x.is_finite()).count() as u64,
        sketch: finite.to_vec(),
    }];
    monitor.observe(&Observation { step, sketch: &finite, statistics: &statistics, losses }, settings);
}

/// Alerts of severity warning and above.
fn warnings(monitor: &RunMonitor) -> Vec<Alert> {
    monitor.alerts().into_iter().filter(|alert| alert.severity >= Severity::Warning).collect()
}

#[test]
fn a_hundred_healthy_trainings_are_left_alone() {
    for seed in 0..100 {
        assert_eq!(train(seed, Optimizer::Adam, |_| 1e-3).alerts(), [], "seed {seed}");
    }
    for seed in 0..20 {
        let sgd = Optimizer::Sgd { weight_decay: 0.0 };
        assert_eq!(train(seed, sgd, |_| 0.05).alerts(), [], "seed {seed}, SGD");
    }
}

#[test]
fn weights_that_blow_up_are_critical() {
    for seed in 0..10 {
        let monitor = train(seed, Optimizer::Sgd { weight_decay: 0.1 }, |_| 20.6);
        let [alert] = &warnings(&monitor)[..] else { panic!("{:#?}", monitor.alerts()) };
        assert_eq!((alert.detector, alert.severity), (Detector::Nonfinite, Severity::Critical));
        assert!(alert.opened_step < 20 * EPOCHS_PER_CHECKPOINT * STEPS_PER_EPOCH);
    }
}

#[test]
fn twenty_steps_at_a_thousand_times_the_rate_are_alerted_at_the_next_checkpoint() {
    let start = 220 * STEPS_PER_EPOCH;
    let spike = |step: u64| if (start..start + 20).contains(&step) { 1000.0 } else { 1.0 };
    for seed in 0..10 {
        let sgd = Optimizer::Sgd { weight_decay: 0.0 };
        for monitor in [
            train(seed, Optimizer::Adam, |step| 1e-3 * spike(step)),
            train(seed, sgd, |step| 0.05 * spike(step)),
        ] {
            let warnings = warnings(&monitor);
            let first = warnings.iter().map(|alert| alert.opened_step).min();
            assert!(first.is_some_and(|step| (start..=230 * STEPS_PER_EPOCH).contains(&step)), "seed {seed}");
            let jump = warnings.iter().find(|alert| alert.detector == Detector::UpdateJump).unwrap();
            assert!(jump.severity >= Severity::High);
            assert_eq!(jump.last_good_step, Some(start));
        }
    }
}

#[test]
fn a_rate_that_grows_and_grows_is_alerted() {
    for seed in 0..10 {
        let monitor = train(seed, Optimizer::Adam, |step| {
            let stages = (step / STEPS_PER_EPOCH / EPOCHS_PER_CHECKPOINT + 1).saturating_sub(15);
            1e-3 * 1.3_f32.powi(stages as i32)
        });
        let warnings = warnings(&monitor);
        assert!(!warnings.is_empty(), "seed {seed}");
        assert!(warnings.iter().all(|alert| alert.opened_step > 150 * STEPS_PER_EPOCH), "seed {seed}");
    }
}
