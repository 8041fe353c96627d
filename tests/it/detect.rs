//! The detectors on made-up runs: what they say, and that it does not depend on chance.

use doodl3::{
    alert::{Alert, AlertState, Severity},
    checkpoint::TensorStatistics,
    detect::{Detector, Observation, Report, RunMonitor, Settings},
};
use proptest::prelude::*;

/// A tensor's statistics, as a reader of checkpoints gives them.
fn statistics(name: &str, values: &[f32]) -> TensorStatistics {
    let finite: Vec<f64> = values.iter().copied().filter(|x| x.is_finite()).map(f64::from).collect();
    let mean = finite.iter().sum::<f64>() / finite.len().max(1) as f64;
    TensorStatistics {
        name: name.into(),
        shape: vec![values.len()],
        norm: finite.iter().map(|x| x * x).sum::<f64>().sqrt(),
        mean,
        variance: finite.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / finite.len().max(1) as f64,
        min: finite.iter().copied().reduce(f64::min).unwrap_or_default(),
        max: finite.iter().copied().reduce(f64::max).unwrap_or_default(),
        zeros: finite.iter().filter(|x| **x == 0.0).count() as u64,
        nonfinite: (values.len() - finite.len()) as u64,
        sketch: values.iter().map(|x| if x.is_finite() { *x } else { 0.0 }).collect(),
    }
}

/// Shows a checkpoint of two tensors to the monitor: the first weight is the bias.
fn show(
    monitor: &mut RunMonitor,
    step: u64,
    weights: &[f32],
    losses: &[(u64, f64)],
    settings: &Settings,
) -> Report {
    let statistics = [statistics("fc.bias", &weights[..1]), statistics("fc.weight", &weights[1..])];
    let sketch: Vec<f32> = statistics.iter().flat_map(|s| s.sketch.clone()).collect();
    monitor.observe(&Observation { step, sketch: &sketch, statistics: &statistics, losses }, settings)
}

/// Numbers between -1 and 1, always the same ones (SplitMix64).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as i64 as f32 / i64::MAX as f32
    }
}

/// A healthy run: weights that relax to a minimum and jitter about it, a loss that falls.
struct Healthy {
    noise: Noise,
    weights: Vec<f32>,
}

impl Healthy {
    fn new(seed: u64) -> Self {
        let mut noise = Noise(seed);
        let weights = (0..12).map(|_| 2.0 * noise.next()).collect();
        Self { noise, weights }
    }

    fn advance(&mut self, size: f32) -> Vec<f32> {
        for (i, weight) in self.weights.iter_mut().enumerate() {
            let minimum = (i as f32).sin();
            *weight += size * (0.1 * (minimum - *weight) + 0.02 * self.noise.next());
        }
        self.weights.clone()
    }

    fn loss(&mut self, checkpoint: u64) -> f64 {
        (0.2 + (-(checkpoint as f64) / 15.0).exp()) * f64::from(1.0 + 0.1 * self.noise.next())
    }
}

const STRIDE: u64 = 100;

/// Shows `count` checkpoints of a run in which the update of checkpoint t is `size(t)` times the usual one, with one loss
/// each.
fn run(count: u64, size: impl Fn(u64) -> f32, with_losses: bool) -> RunMonitor {
    let mut monitor = RunMonitor::new("run-7");
    monitor.name_losses("train/loss");
    let mut healthy = Healthy::new(7);
    for t in 1..=count {
        let weights = healthy.advance(size(t));
        let loss = [(STRIDE * t, healthy.loss(t))];
        let losses = if with_losses { &loss[..] } else { &[] };
        show(&mut monitor, STRIDE * t, &weights, losses, &Settings::default());
    }
    monitor
}

/// An alert as a person reads it.
fn said(alert: &Alert) -> String {
    let Alert { detector, episode, state, severity, headline, evidence, advice, .. } = alert;
    format!(
        "{severity:?} {detector} #{episode}, {state:?}, steps {}-{}, resolved {:?}, {} checkpoint(s), good {:?}\n\
         {headline}\n{evidence}\n{advice}\nnot checked: {:?}",
        alert.opened_step,
        alert.last_step,
        alert.resolved_step,
        alert.repeats,
        alert.last_good_step,
        alert.not_checked,
    )
}

fn of(monitor: &RunMonitor, detector: Detector) -> Vec<Alert> {
    monitor.alerts().into_iter().filter(|alert| alert.detector == detector).collect()
}

fn only(monitor: &RunMonitor, detector: Detector) -> Alert {
    let alerts = of(monitor, detector);
    assert_eq!(alerts.len(), 1, "{alerts:#?}");
    alerts.into_iter().next().unwrap()
}

#[test]
fn healthy_runs_are_left_alone() {
    for seed in 0..50 {
        let mut monitor = RunMonitor::new("healthy");
        let mut healthy = Healthy::new(seed);
        for t in 1..=200 {
            let weights = healthy.advance(1.0);
            let losses: Vec<(u64, f64)> = (0..5).map(|i| (STRIDE * t - 4 + i, healthy.loss(t))).collect();
            let report = show(&mut monitor, STRIDE * t, &weights, &losses, &Settings::default());
            assert_eq!(report.alerts, [], "seed {seed}, checkpoint {t}");
        }
    }
}

#[test]
fn a_jump_is_alerted_confirmed_by_the_forecast_and_resolved() {
    let monitor = run(60, |t| if t == 40 { 40.0 } else { 1.0 }, false);
    insta::assert_snapshot!(said(&only(&monitor, Detector::UpdateJump)));
    insta::assert_snapshot!(said(&only(&monitor, Detector::SurrogateExit)));
}

#[test]
fn growing_updates_are_a_warning_unless_the_loss_falls() {
    let growth = |t: u64| if t < 70 { 1.0 } else { 1.25_f32.powi(t as i32 - 69) };
    insta::assert_snapshot!(said(&only(&run(78, growth, false), Detector::UpdateGrowth)));

    let mut monitor = run(78, growth, false);
    assert!(only(&monitor, Detector::UpdateGrowth).severity >= Severity::Warning);
    // The losses come after all checkpoints, and they fall: the warning is taken back to what it is worth.
    let falling: Vec<(u64, f64)> = (1..=78).map(|t| (STRIDE * t, (-(t as f64) / 10.0).exp())).collect();
    let report = monitor.observe_losses(&falling, &Settings::default());
    let told: Vec<_> = report.alerts.iter().map(|alert| (alert.detector, alert.severity)).collect();
    assert!(told.contains(&(Detector::UpdateGrowth, Severity::Info)), "{told:?}");
    insta::assert_snapshot!(said(&only(&monitor, Detector::UpdateGrowth)));
}

#[test]
fn weights_that_are_not_finite_are_critical_for_good() {
    let mut monitor = run(30, |_| 1.0, true);
    let bad = [0.5, f32::NAN, f32::INFINITY, 1.0, 2.0, 3.0];
    let report = show(&mut monitor, 31 * STRIDE, &bad, &[(31 * STRIDE, f64::NAN)], &Settings::default());
    assert_eq!(report.alerts.len(), 1);
    assert_eq!(report.instability, Some(100.0));
    let silent = |detector| report.readings.iter().any(|r| r.detector == detector && r.score.is_none());
    assert!([Detector::UpdateJump, Detector::UpdateGrowth, Detector::SurrogateExit].into_iter().all(silent));
    for t in 32..80 {
        let report = show(&mut monitor, t * STRIDE, &[1.0; 12], &[], &Settings::default());
        assert!(report.alerts.iter().all(|alert| alert.detector != Detector::Nonfinite), "said once");
    }
    let alert = only(&monitor, Detector::Nonfinite);
    assert_eq!(alert.state, AlertState::Open);
    insta::assert_snapshot!(said(&alert));
}

#[test]
fn weights_that_grow_beyond_all_bounds_are_alerted_before_they_are_infinite() {
    let settings = Settings::default();
    let mut monitor = RunMonitor::new("explodes");
    let mut healthy = Healthy::new(5);
    let mut scale = 1.0_f32;
    for t in 1..=80 {
        scale *= if t > 40 { 100.0 } else { 1.0 };
        let weights: Vec<f32> = healthy.advance(1.0).iter().map(|x| x * scale).collect();
        show(&mut monitor, STRIDE * t, &weights, &[], &settings);
        let state = serde_json::to_string(&monitor).unwrap();
        assert_eq!(serde_json::from_str::<RunMonitor>(&state).unwrap(), monitor, "checkpoint {t}");
    }
    assert_eq!(only(&monitor, Detector::UpdateJump).opened_step, 4100);
    let infinite = only(&monitor, Detector::Nonfinite);
    assert_eq!((infinite.opened_step, infinite.last_good_step), (6000, Some(4000)));
}

#[test]
fn a_loss_that_is_not_finite_is_alerted_before_its_checkpoint() {
    let mut monitor = run(30, |_| 1.0, true);
    let report = monitor.observe_losses(&[(3050, 0.2), (3060, f64::INFINITY)], &Settings::default());
    assert_eq!(report.alerts.len(), 1);
    insta::assert_snapshot!(said(&only(&monitor, Detector::Nonfinite)));
}

#[test]
fn zero_losses_in_a_row_are_a_warning() {
    let mut monitor = run(30, |_| 1.0, true);
    let four: Vec<(u64, f64)> = (3001..3005).map(|step| (step, 0.0)).collect();
    assert_eq!(monitor.observe_losses(&four, &Settings::default()).alerts, []);
    assert_eq!(monitor.observe_losses(&[(3005, 0.0)], &Settings::default()).alerts.len(), 1);
    insta::assert_snapshot!(said(&only(&monitor, Detector::Nonfinite)));
}

#[test]
fn a_spike_that_returns_is_a_warning_and_one_that_stays_is_high() {
    let with_spike = |length: u64| {
        let mut monitor = run(120, |_| 1.0, true);
        let mut healthy = Healthy::new(8);
        for t in 121..=140 {
            let high = if t < 121 + length { 30.0 } else { 1.0 };
            monitor.observe_losses(&[(STRIDE * t - 20, high * healthy.loss(60))], &Settings::default());
            show(&mut monitor, STRIDE * t, &healthy.advance(1.0), &[], &Settings::default());
        }
        only(&monitor, Detector::LossSpike)
    };
    let returned = with_spike(1);
    assert_eq!((returned.opened_step, returned.state), (12080, AlertState::Resolved));
    insta::assert_snapshot!(said(&returned));
    insta::assert_snapshot!(said(&with_spike(6)));
}

#[test]
fn one_loss_for_each_checkpoint_is_enough_and_the_detector_says_from_when() {
    let mut monitor = RunMonitor::new("evaluated");
    let mut healthy = Healthy::new(1);
    let mut first = None;
    for t in 1..=30 {
        show(&mut monitor, STRIDE * t, &healthy.advance(1.0), &[], &Settings::default());
        let report = monitor.observe_losses(&[(STRIDE * t, healthy.loss(t))], &Settings::default());
        let reading = report.readings.iter().find(|r| r.detector == Detector::LossSpike).unwrap();
        if reading.score.is_some() {
            first = first.or(Some(t));
        } else {
            assert_eq!(
                reading.why_not.as_deref(),
                Some(format!("speaks after 20 losses, {t} are known").as_str())
            );
        }
    }
    assert_eq!(first, Some(21));
}

#[test]
fn loss_and_weights_lift_each_other_whichever_comes_first() {
    let story = |loss_late: bool| {
        let mut monitor = RunMonitor::new("both");
        let mut healthy = Healthy::new(3);
        let mut late = Vec::new();
        for t in 1..=50 {
            let weights = healthy.advance(if t == 40 { 40.0 } else { 1.0 });
            let spike = if t == 41 { 40.0 } else { 1.0 };
            let loss = (STRIDE * t, spike * healthy.loss(60));
            if loss_late {
                late.push(loss);
                show(&mut monitor, STRIDE * t, &weights, &[], &Settings::default());
            } else {
                show(&mut monitor, STRIDE * t, &weights, &[loss], &Settings::default());
            }
        }
        monitor.observe_losses(&late, &Settings::default());
        monitor
    };
    let (live, late) = (story(false), story(true));
    assert_eq!(live.alerts(), late.alerts());
    assert_eq!(only(&live, Detector::LossSpike).severity, Severity::High, "lifted from a warning");
    assert_eq!(only(&live, Detector::UpdateJump).severity, Severity::Critical, "lifted from high");
}

#[test]
fn a_score_that_flickers_makes_one_alert_and_a_later_one_a_new_episode() {
    let jumps = |t: u64| if [60, 63, 67, 90].contains(&t) { 40.0 } else { 1.0 };
    let monitor = run(100, jumps, false);
    let alerts = of(&monitor, Detector::UpdateJump);
    let told: Vec<_> = alerts.iter().map(|alert| (alert.episode, alert.opened_step)).collect();
    assert_eq!(told, [(1, 6000), (2, 9000)]);
    assert!(alerts[0].repeats >= 3, "{}", alerts[0].repeats);
}

#[test]
fn an_uneven_stride_alone_is_no_alarm() {
    let settings = Settings::default();
    for straight in [false, true] {
        let mut monitor = RunMonitor::new("uneven");
        let mut noise = Noise(4);
        let mut weights = vec![1.0_f32; 12];
        let mut step = 0;
        for t in 0..120 {
            // Mostly every 100 steps, now and then after 10 or after 1,000.
            let stride = if t % 17 == 16 {
                10
            } else if t % 23 == 22 {
                1000
            } else {
                100
            };
            for _ in 0..stride {
                for weight in &mut weights {
                    *weight += 1e-4 * if straight { 1.0 + noise.next() } else { noise.next() };
                }
            }
            step += stride;
            show(&mut monitor, step, &weights, &[], &settings);
        }
        let jumps = of(&monitor, Detector::UpdateJump);
        assert_eq!(jumps, [], "straight: {straight}");
        assert_eq!(of(&monitor, Detector::UpdateGrowth), []);
        assert_eq!(of(&monitor, Detector::SurrogateExit), []);
    }
}

#[test]
fn a_detector_that_is_off_is_silent_and_named() {
    let mut settings = Settings::default();
    settings.surrogate_exit.enabled = false;
    settings.loss_spike.enabled = false;
    let mut monitor = RunMonitor::new("some off");
    let mut healthy = Healthy::new(7);
    for t in 1..=41 {
        let weights = healthy.advance(if t == 40 { 40.0 } else { 1.0 });
        let report = show(&mut monitor, STRIDE * t, &weights, &[(STRIDE * t, 1.0)], &settings);
        assert!(report.readings.iter().all(|r| r.detector != Detector::SurrogateExit));
    }
    let alert = only(&monitor, Detector::UpdateJump);
    assert_eq!(alert.not_checked, ["surrogate_exit: switched off", "loss_spike: switched off"]);
    assert_eq!(alert.severity, Severity::High, "nothing confirms it");
}

#[test]
fn the_state_stays_small() {
    let settings = Settings::default();
    let mut monitor = RunMonitor::new("large");
    let mut noise = Noise(2);
    for t in 1..=60 {
        let mut tensor = |i| {
            let values: Vec<f32> = (0..64).map(|_| noise.next()).collect();
            statistics(&format!("model.layers.{i}.mlp.down_proj.weight"), &values)
        };
        let tensors: Vec<TensorStatistics> = (0..2000).map(&mut tensor).collect();
        let sketch: Vec<f32> = (0..4096).map(|_| noise.next()).collect();
        let losses: Vec<(u64, f64)> = (0..500).map(|i| (1000 * t + i, 1.0)).collect();
        let observation =
            Observation { step: 1000 * t, sketch: &sketch, statistics: &tensors, losses: &losses };
        monitor.observe(&observation, &settings);
    }
    let large = serde_json::to_vec(&monitor).unwrap().len();
    assert!(large < 700_000, "{large} bytes of JSON for a large model");
    let small = serde_json::to_vec(&run(200, |_| 1.0, true)).unwrap().len();
    assert!(small < 20_000, "{small} bytes of JSON for a small one");
}

/// One step of a made-up run: how far it moves (in usual updates), the steps since the last checkpoint, and the losses in
/// between.
#[derive(Clone, Debug)]
struct Leg {
    size: f32,
    nonfinite: bool,
    stride: u64,
    losses: Vec<f64>,
}

fn legs() -> impl Strategy<Value = Vec<Leg>> {
    let loss = prop_oneof![
        20 => 0.5..1.5f64,
        1 => 20.0..200.0f64,
        1 => Just(0.0),
    ];
    let size = prop_oneof![15 => Just(1.0f32), 1 => 10.0..60.0f32];
    let stride = prop_oneof![8 => Just(20u64), 1 => 5..60u64];
    let leg = (size, prop::bool::weighted(0.01), stride, prop::collection::vec(loss, 0..4))
        .prop_map(|(size, nonfinite, stride, losses)| Leg { size, nonfinite, stride, losses });
    prop::collection::vec(leg, 30..90)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// However losses and checkpoints interleave, and wherever the agent is restarted, state and alerts come out the same,
    /// and the reports told of every change.
    #[test]
    fn interleaving_does_not_matter(
        legs in legs(),
        nan_loss in prop::option::weighted(0.3, 0usize..200),
        choices in prop::collection::vec((0u8..4, 0usize..12), 400),
    ) {
        let settings = Settings::default();
        let mut healthy = Healthy::new(11);
        let (mut step, mut checkpoints, mut points) = (0, Vec::new(), Vec::new());
        for leg in &legs {
            for (i, loss) in leg.losses.iter().enumerate() {
                let bad = nan_loss == Some(points.len());
                points.push((step + 1 + i as u64, if bad { f64::NAN } else { *loss }));
            }
            step += leg.stride;
            let mut weights = healthy.advance(leg.size);
            if leg.nonfinite {
                weights[3] = f32::NAN;
            }
            checkpoints.push((step, weights));
        }

        let mut in_order = RunMonitor::new("run");
        let mut given = 0;
        for (step, weights) in &checkpoints {
            let due = points.partition_point(|(at, _)| at <= step);
            show(&mut in_order, *step, weights, &points[given..due], &settings);
            given = due;
        }

        let mut shuffled = RunMonitor::new("run");
        let mut told: Vec<Alert> = Vec::new();
        let (mut checkpoint, mut given) = (0, 0);
        let mut hear = |report: Report| {
            for alert in report.alerts {
                told.retain(|old| (old.detector, old.episode) != (alert.detector, alert.episode));
                told.push(alert);
            }
        };
        for (choice, count) in choices {
            match choice {
                0 => {
                    let end = points.len().min(given + count);
                    hear(shuffled.observe_losses(&points[given..end], &settings));
                    given = end;
                }
                1 if checkpoint < checkpoints.len() => {
                    // With its losses, and, once more, with some that were given before.
                    let (step, weights) = &checkpoints[checkpoint];
                    let due = points.partition_point(|(at, _)| at <= step).max(given);
                    hear(show(&mut shuffled, *step, weights, &points[given.saturating_sub(3)..due], &settings));
                    (given, checkpoint) = (due, checkpoint + 1);
                }
                2 => {
                    let state = serde_json::to_string(&shuffled).unwrap();
                    shuffled = serde_json::from_str(&state).unwrap();
                }
                _ if checkpoint < checkpoints.len() => {
                    let (step, weights) = &checkpoints[checkpoint];
                    hear(show(&mut shuffled, *step, weights, &[], &settings));
                    checkpoint += 1;
                }
                _ => {}
            }
        }
        for (step, weights) in &checkpoints[checkpoint..] {
            hear(show(&mut shuffled, *step, weights, &[], &settings));
        }
        hear(shuffled.observe_losses(&points[given..], &settings));

        prop_assert_eq!(in_order.alerts(), shuffled.alerts());
        prop_assert_eq!(&in_order, &shuffled);
        told.sort_by_key(|alert| (alert.detector, alert.episode));
        prop_assert_eq!(told, shuffled.alerts());
    }
}
