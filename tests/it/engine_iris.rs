//! An analysis of real training, from weights and predictions to basins.

use doodl3::engine::{
    Analysis, Cancel, Control, EngineError, Fate, Parameters, ProjectionChoice, Role, RunSeries, analyze,
};

use crate::iris;

fn analysis(runs: &[RunSeries]) -> Analysis {
    analyze(runs, &Parameters::default(), &Control::default()).unwrap()
}

#[test]
fn a_hundred_softmax_regressions_have_one_attractor() {
    let analysis = analysis(&iris::runs(100, 0));
    assert_eq!(analysis.projection.kind, ProjectionChoice::FunctionSpace);
    assert_eq!(analysis.quality.low_confidence, [""; 0]);
    assert!(analysis.quality.skill.iter().all(|&skill| skill > 0.9), "{:?}", analysis.quality);
    assert!((0.8..1.0).contains(&analysis.quality.coverage));
    assert_eq!(analysis.quality.assessed_runs, 25);

    let taken = analysis.candidates.iter().find(|candidate| candidate.qualifies).unwrap();
    assert_eq!(taken.lag_steps, analysis.lag.steps);
    let short = &analysis.candidates[0];
    assert!(!short.qualifies && short.reason.contains("cells"), "{short:?}");
    assert!(analysis.candidates.iter().any(|candidate| candidate.projection == ProjectionChoice::Pca));

    let sets = &analysis.morse_graph.sets;
    let attractors: Vec<usize> = (0..sets.len()).filter(|&set| sets[set].role == Role::Attractor).collect();
    assert_eq!(attractors.len(), 1, "{sets:#?}");
    assert!(sets.len() <= 12, "{} Morse sets", sets.len());
    assert!(sets.iter().all(|set| set.role != Role::Open));
    let ends = analysis.basins.outlook.iter().map(|outlook| outlook.fate);
    assert!(
        ends.clone().all(|fate| fate == Some(Fate::Certain(attractors[0]))),
        "every run is on its way there"
    );
    // the best runs have come nearest: where the attractor is, the loss is low
    let best = analysis
        .trajectories
        .iter()
        .filter_map(|run| run.losses.last().copied().flatten())
        .fold(1.0, f64::min);
    if let Some(loss) = sets[attractors[0]].loss {
        assert!(loss.median < best + 0.03, "{loss:?} {best}");
    }
}

#[test]
fn neither_the_order_of_runs_nor_the_number_of_threads_matters() {
    let mut runs = iris::runs(20, 3);
    let first = analysis(&runs);
    runs.reverse();
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool.install(|| analysis(&runs)), first, "{threads} threads");
    }
}

#[test]
fn a_run_that_diverges_does_not_change_the_picture() {
    let mut runs = iris::runs(20, 3);
    let healthy = analysis(&runs);
    for (snapshot, at) in runs[7].snapshots.iter_mut().zip(0..).skip(20) {
        let growth = 10f32.powi(at - 19);
        snapshot.weights.iter_mut().for_each(|weight| *weight *= growth);
        snapshot.predictions.as_mut().unwrap().iter_mut().for_each(|p| *p = 1e3 * growth);
    }
    let disturbed = analysis(&runs);
    assert!(disturbed.quality.left_out.far >= 26);
    let last = &disturbed.basins.outlook[7];
    assert_eq!((last.run.as_str(), last.fate), ("seed-007", None), "it has left the domain");
    for axis in 0..2 {
        let width = |analysis: &Analysis| analysis.grid.upper[axis] - analysis.grid.lower[axis];
        assert!(width(&disturbed) < 1.5 * width(&healthy));
    }
}

#[test]
fn a_cancelled_analysis_stops() {
    let runs = iris::runs(6, 0);
    let cancel = Cancel::new();
    cancel.raise();
    let stopped = analyze(&runs, &Parameters::default(), &Control::new(cancel));
    assert_eq!(stopped.unwrap_err(), EngineError::Cancelled);
}
