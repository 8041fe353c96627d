//! Where runs end, on a system that can be worked out: a noisy double well.

use doodl3::engine::{
    Analysis, Control, End, LagChoice, Parameters, ProjectionChoice, Role, RunSeries, Snapshot, analyze,
};

use super::iris::Random;

/// z ↦ z + (z − z³)/2 + noise: near zero the distance grows by half in each step, at ±1 it is forgotten at once.
fn step(z: f64, random: &mut Random) -> f64 {
    z + 0.5 * (z - z.powi(3)) + NOISE * random.normal()
}

const NOISE: f64 = 0.1;
const GROWTH: f64 = 1.5;

/// Loss 0.1 on the right, 0.5 on the left.
fn loss(z: f64) -> f64 {
    0.3 - 0.2 * (3.0 * z).tanh()
}

fn run(name: String, course: impl Iterator<Item = f64>) -> RunSeries {
    let snapshot = |(step, z): (u64, f64)| Snapshot {
        step,
        weights: vec![z as f32],
        predictions: None,
        loss: Some(loss(z)),
    };
    RunSeries { run: name, snapshots: (0..).zip(course).map(snapshot).collect(), disturbed: Vec::new() }
}

/// Sixty runs to learn from, and runs of a single checkpoint at these places.
fn analysis(places: &[f64]) -> Analysis {
    let mut random = Random(11);
    let mut runs: Vec<RunSeries> = (0..60)
        .map(|number| {
            let start = 3.0 * random.uniform() - 1.5;
            let course: Vec<f64> =
                std::iter::successors(Some(start), |&z| Some(step(z, &mut random))).take(12).collect();
            run(format!("learned-{number:02}"), course.into_iter())
        })
        .collect();
    runs.extend(places.iter().enumerate().map(|(i, &z)| run(format!("placed-{i}"), std::iter::once(z))));
    let parameters = Parameters {
        projection: ProjectionChoice::Pca,
        dimension: 1,
        lag: LagChoice::Steps(1),
        ..Parameters::default()
    };
    analyze(&runs, &parameters, &Control::default()).unwrap()
}

/// Number, probability and standard error, lags and loss of the attractors on the left and on the right.
fn ends(analysis: &Analysis, run: &str) -> [(f64, f64, f64, Option<f64>); 2] {
    let sets = &analysis.morse_graph.sets;
    let attractors: Vec<usize> = (0..sets.len()).filter(|&set| sets[set].role == Role::Attractor).collect();
    assert_eq!(attractors.len(), 2, "{sets:?}");
    let forecast = &analysis.basins.outlook.iter().find(|outlook| outlook.run == run).unwrap().forecast;
    assert_eq!(forecast.ends.iter().map(|ending| ending.paths).sum::<usize>(), forecast.paths);
    [attractors[0], attractors[1]].map(|set| {
        let ending = forecast.ends.iter().find(|ending| ending.end == End::Attractor(set));
        ending.map_or((0.0, 0.0, 0.0, None), |e| (e.probability, e.standard_error, e.lags, e.loss))
    })
}

/// The noise of all steps adds up, scaled back by the growth, to one normal number of variance σ²/(λ² − 1); a run at z
/// goes right if that does not outweigh z.
fn probability_of_right(z: f64) -> f64 {
    let mut random = Random(5);
    let deviation = NOISE / (GROWTH * GROWTH - 1.0).sqrt();
    let right = (0..20_000).filter(|_| z + deviation * random.normal() > 0.0).count();
    right as f64 / 20_000.0
}

#[test]
fn probabilities_are_those_of_a_noisy_double_well() {
    let places = [-0.2, -0.06, 0.0, 0.06, 0.2];
    let analysis = analysis(&places);
    for (number, &z) in places.iter().enumerate() {
        let [left, right] = ends(&analysis, &format!("placed-{number}"));
        let expected = probability_of_right(z);
        // three standard errors, and what the learned saddle may be off
        let tolerance = 3.0 * right.1.max(left.1) + 0.08;
        assert!((right.0 - expected).abs() < tolerance, "from {z}: {right:?}, not {expected}");
        assert!((right.0 + left.0 - 1.0).abs() < 0.05, "from {z}: {left:?} {right:?}");
        if z == 0.0 {
            assert!((2.0..12.0).contains(&right.2) && (2.0..12.0).contains(&left.2), "{left:?} {right:?}");
            assert!((right.3.unwrap() - 0.1).abs() < 0.05 && (left.3.unwrap() - 0.5).abs() < 0.05);
        }
    }
}

#[test]
fn a_run_that_has_arrived_needs_no_paths_and_one_outside_has_left() {
    let analysis = analysis(&[1.0, -1.0, 40.0]);
    let [left, right] = ends(&analysis, "placed-0");
    assert_eq!((right.0, right.2, left.0), (1.0, 0.0, 0.0));
    assert!(right.1 > 0.0, "a count of all is no certainty");
    assert_eq!(ends(&analysis, "placed-1")[0].0, 1.0);
    let away = &analysis.basins.outlook.last().unwrap().forecast.ends;
    assert_eq!((away.len(), away[0].end, away[0].loss), (1, End::Exit, None));
}
