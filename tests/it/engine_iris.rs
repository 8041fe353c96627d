//! An analysis of real training, from weights and predictions to basins.

use doodl3::engine::limits::LEAST_GAIN;
use doodl3::engine::{
    Analysis, Cancel, Candidate, Control, EngineError, Fate, GridParameters, LagChoice, Parameters,
    ProjectionChoice, Role, RunSeries, Subdivisions, analyze, score,
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
    let skill = |candidate: &Candidate| candidate.errors.skill();
    let with_loss: Vec<&Candidate> = (analysis.candidates.iter())
        .filter(|candidate| {
            candidate.projection == ProjectionChoice::FunctionSpaceAndLoss && candidate.qualifies
        })
        .collect();
    assert!(with_loss.len() > 1, "the loss is tried as a coordinate at every lag");
    assert!(skill(with_loss[0]) < skill(taken) + LEAST_GAIN, "where it is not taken, it adds too little");
    let short = &analysis.candidates[0];
    assert!(!short.qualifies && short.reason.contains("cells"), "{short:?}");
    let pca =
        analysis.candidates.iter().find(|candidate| candidate.projection == ProjectionChoice::Pca).unwrap();
    assert!(
        !pca.qualifies && pca.reason.contains("where a run is does not tell where it goes"),
        "{}",
        pca.reason
    );
    for candidate in &analysis.candidates {
        let errors = candidate.errors;
        assert!(errors.surrogate < errors.persistence && errors.surrogate < errors.constant, "{candidate:?}");
    }

    let sets = &analysis.morse_graph.sets;
    let attractors: Vec<usize> = (0..sets.len()).filter(|&set| sets[set].role == Role::Attractor).collect();
    assert_eq!(attractors.len(), 1, "{sets:#?}");
    let (index, lasting) =
        (&sets[attractors[0]].conley_index, sets.iter().filter(|set| !set.conley_index.is_trivial()));
    assert_eq!(index.strings(), ["x-1", "0", "0"], "a fixed point");
    assert_eq!(lasting.count(), 1, "what else recurs may hold nothing: {sets:#?}");
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
fn every_projection_can_be_asked_for_in_one_to_five_dimensions() {
    let runs = iris::runs(12, 5);
    for (dimension, projection) in [
        (1, ProjectionChoice::FunctionSpaceAndLoss),
        (2, ProjectionChoice::RelaxingDirections),
        (2, ProjectionChoice::SelectedWeights),
        (3, ProjectionChoice::Random(7)),
        (4, ProjectionChoice::Pca),
        (5, ProjectionChoice::FunctionSpace),
        (5, ProjectionChoice::TimeLaggedModes),
    ] {
        let grid = GridParameters { subdivisions: Subdivisions::Uniform(10), ..GridParameters::default() };
        let parameters =
            Parameters { projection, dimension, grid, lag: LagChoice::Steps(100), ..Parameters::default() };
        let analysis = analyze(&runs, &parameters, &Control::default()).unwrap();
        assert_eq!(analysis.projection.kind, projection);
        assert_eq!(analysis.projection.axes.len(), dimension);
        let explained = &analysis.projection.explained_variance;
        assert!(explained.iter().all(|share| *share >= 0.0) && explained.iter().sum::<f64>() < 1.0 + 1e-9);
        assert_eq!(analysis.trajectories[0].points[0].len(), dimension);
        let json = serde_json::to_string(&analysis).unwrap();
        assert_eq!(serde_json::from_str::<Analysis>(&json).unwrap(), analysis);
    }
}

#[test]
fn a_single_run_is_seen_in_slow_modes_and_of_a_short_one_nothing_is_believed() {
    let mut runs = iris::runs(1, 5);
    for snapshot in &mut runs[0].snapshots {
        snapshot.predictions = None;
    }
    let whole = analysis(&runs);
    assert_eq!(whole.candidates[0].projection, ProjectionChoice::TimeLaggedModes);
    assert!(!whole.quality.low_confidence.is_empty(), "one run tells nothing of another");
    runs[0].snapshots.truncate(30);
    let short = analysis(&runs);
    assert!(
        short.candidates.iter().all(|candidate| candidate.projection != ProjectionChoice::TimeLaggedModes)
    );
    assert!(short.quality.low_confidence.iter().any(|doubt| doubt.contains("at least 40 checkpoints")));
}

#[test]
fn coordinates_are_scored_on_runs_that_took_no_part() {
    let runs = iris::runs(24, 5);
    let fixed = |projection| Parameters { projection, lag: LagChoice::Steps(150), ..Parameters::default() };
    let scored = |runs: &[RunSeries], fresh: &[RunSeries], projection| {
        score(runs, fresh, &fixed(projection), &Control::default()).unwrap()
    };
    let (own, fresh) = runs.split_at(16);
    let function_space = scored(own, fresh, ProjectionChoice::FunctionSpace);
    assert!(function_space.errors.skill() > 0.7, "{function_space:?}");
    let mut spoiled = fresh.to_vec();
    for (number, snapshot) in spoiled.iter_mut().flat_map(|run| &mut run.snapshots).enumerate() {
        let predictions = snapshot.predictions.as_mut().unwrap();
        predictions.rotate_left(number * 7 % 30);
    }
    let unknown = scored(own, &spoiled, ProjectionChoice::FunctionSpace);
    assert!(unknown.errors.skill() < function_space.errors.skill());
    let left_open = score(own, fresh, &Parameters::default(), &Control::default());
    assert_eq!(left_open.unwrap_err(), EngineError::LeftOpen);
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
