//! A trainer to watch: runs that settle down, one of which is thrown off, as files on disk.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::fixtures::write_checkpoint;

/// A small generator of random numbers (Knuth's MMIX constants), the same on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next number, uniform on (−1, 1).
    pub(crate) fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f32) / (1 << 23) as f32 - 1.0
    }

    /// A whole number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        (f64::from(self.uniform() + 1.0) / 2.0 * bound as f64) as u64
    }
}

/// Several runs of one experiment, trained side by side.
#[derive(Debug)]
pub(crate) struct Training {
    folder: PathBuf,
    weights: Vec<Vec<f32>>,
    random: Random,
    step: u64,
    run: usize,
}

impl Training {
    /// Runs that begin somewhere; `faulty` of them jumps away at step 300.
    pub(crate) fn new(folder: &Path, runs: usize) -> Self {
        let mut random = Random(1);
        let weights = (0..runs).map(|_| (0..4).map(|_| 2.0 * random.uniform()).collect()).collect();
        Self { folder: folder.into(), weights, random, step: 0, run: 0 }
    }

    /// Goes on by one checkpoint of one run: a line of metrics, then the weights.
    pub(crate) fn checkpoint(&mut self) -> PathBuf {
        let (run, step) = (self.run, self.step);
        let last = run + 1 == self.weights.len();
        let mut loss = 0.01;
        for weight in &mut self.weights[run] {
            *weight = 0.9 * *weight + 0.05 + 0.02 * self.random.uniform();
            if last && step == 300 {
                *weight += 5.0;
            }
            loss += (*weight - 0.5).powi(2);
        }
        let folder = self.folder.join(format!("run-{run}"));
        std::fs::create_dir_all(&folder).unwrap();
        let mut metrics =
            OpenOptions::new().create(true).append(true).open(folder.join("metrics.jsonl")).unwrap();
        writeln!(metrics, r#"{{"step": {step}, "train/loss": {loss}}}"#).unwrap();
        let path = folder.join(format!("step-{step}.safetensors"));
        write_checkpoint(&path, &self.weights[run]);
        self.run = if last { 0 } else { run + 1 };
        if last {
            self.step += 10;
        }
        path
    }

    /// Goes on by so many steps of all runs.
    pub(crate) fn steps(&mut self, steps: usize) {
        for _ in 0..steps * self.weights.len() {
            self.checkpoint();
        }
    }
}
