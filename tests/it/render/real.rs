//! The report on real training: softmax regressions on Iris, analysed and watched as the agent does it. Two of the runs
//! are tampered with, so that there is something to alert.

use doodl3::checkpoint::TensorStatistics;
use doodl3::detect::{Observation, RunMonitor, Settings};
use doodl3::engine::{Control, Parameters, RunSeries, Snapshot, analyze};
use doodl3::render::{Group, ReportInput, RunState, RunView};

use crate::iris;

pub(super) fn report(healthy: usize) -> ReportInput {
    let mut series = iris::runs(healthy + 2, 0);
    let [.., spiked, hot] = series.as_mut_slice() else { unreachable!("at least two runs") };
    spiked.run = "bad-batch".into();
    for (after, snapshot) in spiked.snapshots[30..33].iter_mut().enumerate() {
        tamper(snapshot, 1.0 + 2.5 * 0.3f32.powi(after as i32));
    }
    hot.run = "hot".into();
    for (after, snapshot) in hot.snapshots.iter_mut().enumerate().skip(25) {
        let growth = 1.35f32.powi(after as i32 - 25);
        tamper(snapshot, if after % 2 == 0 { growth } else { 1.0 - growth });
    }
    let mut runs = Vec::new();
    let mut alerts = Vec::new();
    for series in &mut series {
        let (view, found) = watch(series);
        let spans = found.iter().map(|alert| (alert.opened_step, alert.resolved_step.unwrap_or(u64::MAX)));
        series.disturbed = spans.collect();
        runs.push(view);
        alerts.extend(found);
    }
    let analysis = analyze(&series, &Parameters::default(), &Control::default());
    ReportInput {
        title: "iris, one softmax layer".into(),
        focus: None,
        group: Group { source: "local".into(), experiment: "iris".into(), signature: "89f3".into() },
        analysis_id: "made for a test".into(),
        analysis: analysis.map_err(|error| error.to_string()),
        since: None,
        runs,
        alerts,
        skipped: Vec::new(),
        not_available: Vec::new(),
        versions: vec![("doodl3".into(), env!("CARGO_PKG_VERSION").into())],
    }
}

/// Multiplies the weights, and pushes predictions and loss as far.
fn tamper(snapshot: &mut Snapshot, factor: f32) {
    snapshot.weights.iter_mut().for_each(|weight| *weight *= factor);
    for prediction in snapshot.predictions.iter_mut().flatten() {
        *prediction = (0.5 + (*prediction - 0.5) * factor).clamp(-2.0, 3.0);
    }
    snapshot.loss = snapshot.loss.map(|loss| loss * f64::from(factor.abs()).max(0.7));
}

fn watch(series: &RunSeries) -> (RunView, Vec<doodl3::alert::Alert>) {
    let mut monitor = RunMonitor::new(series.run.clone());
    monitor.name_losses("loss on the probe batch");
    let mut view = RunView { run: series.run.clone(), state: RunState::Ended, ..RunView::default() };
    for snapshot in &series.snapshots {
        let losses: Vec<(u64, f64)> = snapshot.loss.map(|loss| (snapshot.step, loss)).into_iter().collect();
        let statistics = statistics(&snapshot.weights);
        let observation = Observation {
            step: snapshot.step,
            sketch: &snapshot.weights,
            statistics: &[statistics],
            losses: &losses,
        };
        let report = monitor.observe(&observation, &Settings::default());
        let at = |value: Option<f64>| value.map(|value| (snapshot.step, value));
        view.steps.push(snapshot.step);
        view.evaluated_losses.extend(losses);
        view.weight_norms.extend(at(report.norm));
        view.update_ratios.extend(at(report.update_ratio));
        view.instability.extend(at(report.instability));
    }
    (view, monitor.alerts())
}

fn statistics(weights: &[f32]) -> TensorStatistics {
    let number = weights.len() as f64;
    let mean = weights.iter().map(|w| f64::from(*w)).sum::<f64>() / number;
    TensorStatistics {
        name: "dense.weight".into(),
        shape: vec![weights.len()],
        norm: weights.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>().sqrt(),
        mean,
        variance: weights.iter().map(|w| (f64::from(*w) - mean).powi(2)).sum::<f64>() / number,
        min: weights.iter().copied().fold(f32::INFINITY, f32::min).into(),
        max: weights.iter().copied().fold(f32::NEG_INFINITY, f32::max).into(),
        zeros: 0,
        nonfinite: 0,
        sketch: weights.to_vec(),
    }
}
