//! The Gaussian process, compared with scikit-learn's on the same data.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use doodl3::engine::surrogate::{GaussianProcess, Specification};
use doodl3::engine::{Control, Hyperparameters, Kernel, Points};
use serde::{Deserialize, Serialize};

#[derive(Serialize)]
struct Case {
    kernel: Kernel,
    paper: bool,
    inputs: Vec<Vec<f64>>,
    targets: Vec<Vec<f64>>,
    points: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct Fitted {
    #[serde(flatten)]
    hyperparameters: Hyperparameters,
    mean: Vec<Vec<f64>>,
    /// Of an observation: with noise.
    deviation: Vec<f64>,
}

/// A low-discrepancy sequence: numbers in [0, 1) that fill the unit cube evenly (Roberts 2018).
fn even(dimension: usize, number: usize) -> Vec<f64> {
    let root = (1..60).fold(2.0f64, |root, _| (1.0 + root).powf(1.0 / (dimension as f64 + 1.0)));
    (0..dimension).map(|axis| (0.5 + number as f64 * root.powi(-(axis as i32 + 1))).fract()).collect()
}

fn case(kernel: Kernel, paper: bool, dimension: usize) -> Case {
    let cube =
        |number: usize| -> Vec<f64> { even(dimension, number).iter().map(|x| 3.0 * x - 1.5).collect() };
    let inputs: Vec<Vec<f64>> = (0..60).map(cube).collect();
    let value = |(number, x): (usize, &Vec<f64>)| {
        let noise = 0.2 * (even(1, 7919 * number + 1)[0] - 0.5);
        let first = x.iter().zip(1..).map(|(x, i)| (f64::from(i) * 0.9 * x).sin()).sum::<f64>() + noise;
        // as in Eslami et al., both coordinates in one process
        if paper { vec![first, 0.5 * x[0] - noise] } else { vec![first] }
    };
    let targets = inputs.iter().enumerate().map(value).collect();
    Case {
        kernel,
        paper,
        targets,
        inputs,
        points: (100..140).map(|number| even(dimension, number)).collect(),
    }
}

#[test]
fn the_gaussian_process_is_scikit_learns() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("third_party/pytorch-venv/bin/python");
    if !python.exists() {
        eprintln!("skipped: there is no {}", python.display());
        return;
    }
    let mut cases = Vec::new();
    for kernel in [Kernel::Rbf, Kernel::Matern52] {
        for paper in [true, false] {
            cases.extend((1..=3).map(|dimension| case(kernel, paper, dimension)));
        }
    }
    let mut child = Command::new(python)
        .arg(root.join("tests/fixtures/gaussian_process.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&serde_json::to_vec(&cases).unwrap()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let theirs: Vec<Fitted> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(theirs.len(), cases.len());

    for (case, theirs) in cases.iter().zip(&theirs) {
        let dimension = case.inputs[0].len();
        let name = format!("{:?}, paper {}, dimension {dimension}", case.kernel, case.paper);
        let inputs = Points::from_rows(dimension, &case.inputs);
        let targets = Points::from_rows(case.targets[0].len(), &case.targets);
        let specification = if case.paper {
            Specification::paper(case.kernel, dimension)
        } else {
            Specification { restarts: 4, steps: 200, ..Specification::standard(case.kernel, dimension) }
        };
        let ours = specification.fit(&inputs, &targets, &Control::default()).unwrap();
        let difference = ours.log_marginal_likelihood - theirs.hyperparameters.log_marginal_likelihood;
        assert!(difference.abs() < 1e-3, "{name}: likelihood differs by {difference}: {ours:?}");

        let at = &theirs.hyperparameters;
        let likelihood = specification.log_marginal_likelihood(&inputs, &targets, at).unwrap();
        assert!((likelihood - at.log_marginal_likelihood).abs() < 1e-7, "{name}: {likelihood} {at:?}");
        let process = GaussianProcess::given(case.kernel, at.clone(), &inputs, &targets).unwrap();
        let prediction = process.predict(&Points::from_rows(dimension, &case.points));
        for (number, (mean, deviation)) in theirs.mean.iter().zip(&theirs.deviation).enumerate() {
            for (ours, theirs) in prediction.mean.row(number).iter().zip(mean) {
                assert!((ours - theirs).abs() < 1e-6, "{name}: mean {ours} {theirs}");
            }
            let ours = (prediction.variance[number] + at.noise_variance).sqrt();
            assert!((ours - deviation).abs() < 1e-6, "{name}: deviation {ours} {deviation}");
        }
    }
}
