//! Training for the demonstration: softmax regressions on Iris from many initial weights.
//!
//! One dense layer from two petal measurements to three species, nine parameters, as Eslami, Eramian, Gameiro, Kalies
//! and Mischaikow (2021) train it: kernels uniform on (-2, 2), Adam at its default rate, batches of five,
//! cross-entropy. Three further runs go wrong. All runs are trained at once, as one batch of networks; what is on disk
//! looks as if each had been trained by a program of its own.

mod folder;
mod iris;
mod networks;
mod random;
mod recipe;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use doodl3::evaluate::protocol::Training;
use serde_json::json;

use self::folder::{Folder, StoredTensor, write_safetensors};
use self::iris::Examples;
use self::networks::{Batch, Networks, to_vec};
use self::random::Random;
use self::recipe::{BATCH, Recipe};

/// Why training ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrainError {
    /// The numbers asked for make no training.
    #[error("epochs and checkpoint_every must be at least 1")]
    Empty,
    /// The runs of another training are there.
    #[error("there are runs already: remove them or choose another directory: {}", path.display())]
    NotEmpty { path: PathBuf },
    /// A file could not be written.
    #[error("cannot write the runs (is there room on the disk?): {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// The agent does not listen any more.
    #[error("cannot report progress")]
    Report(#[source] io::Error),
}

/// Trains all runs and writes their folders; `progress` hears the number of epochs done after each.
pub(crate) fn train(
    training: &Training,
    mut progress: impl FnMut(u64) -> io::Result<()>,
) -> Result<(), TrainError> {
    if training.epochs == 0 || training.checkpoint_every == 0 {
        return Err(TrainError::Empty);
    }
    let recipes = recipe::recipes(training.healthy);
    let (train, held_out) = iris::halves();
    let mut folders = create_folders(&training.directory, &recipes, &held_out)?;

    // Each run has its own stream: its course does not depend on how many others there are.
    let mut random: Vec<_> = (0..recipes.len()).map(|run| Random::new(training.seed, run as u64)).collect();
    let mut networks = Networks::new(&recipes, &mut random);
    let (all, probe) = (Batch::all(&train), Batch::all(&held_out));
    let steps_per_epoch = train.len().div_ceil(BATCH);
    let steps = training.epochs * steps_per_epoch as u64;
    let started = Instant::now();

    folders.record(&networks, &probe, 0, 0, None)?;
    for epoch in 1..=training.epochs {
        let batch = all.in_orders(&orders(&mut random, train.len()));
        let mut losses = None;
        for in_epoch in 0..steps_per_epoch {
            let step = (epoch - 1) * steps_per_epoch as u64 + in_epoch as u64;
            let rates: Vec<f32> = recipes.iter().map(|recipe| recipe.rate(step, steps) as f32).collect();
            let start = in_epoch * BATCH;
            let loss = networks.step(&batch.narrow(start, BATCH.min(train.len() - start)), &rates);
            losses = Some(losses.map_or_else(|| loss.shallow_clone(), |sum: tch::Tensor| sum + &loss));
        }
        let train_loss = losses.map(|sum| to_vec(&(sum / steps_per_epoch as f64)));
        let step = epoch * steps_per_epoch as u64;
        if epoch % training.checkpoint_every == 0 || epoch == training.epochs {
            folders.record(&networks, &probe, step, epoch, train_loss.as_deref())?;
        } else if let Some(losses) = train_loss {
            folders.log(step, &[("train/loss", &losses)])?;
        }
        progress(epoch).map_err(TrainError::Report)?;
        let due = Duration::from_millis(training.stretch_ms).mul_f64(epoch as f64 / training.epochs as f64);
        std::thread::sleep(due.saturating_sub(started.elapsed()));
    }
    Ok(())
}

/// A fresh order of the examples for each run, one after the other.
fn orders(random: &mut [Random], examples: usize) -> Vec<i64> {
    let mut orders = Vec::with_capacity(random.len() * examples);
    for random in random {
        let start = orders.len();
        orders.extend(0..examples as i64);
        random.shuffle(&mut orders[start..]);
    }
    orders
}

/// The folders of all runs.
struct Folders {
    path: PathBuf,
    runs: Vec<Folder>,
}

fn create_folders(directory: &Path, recipes: &[Recipe], held_out: &Examples) -> Result<Folders, TrainError> {
    let path = directory.join("runs");
    if path.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(TrainError::NotEmpty { path });
    }
    let failed = |source| TrainError::Write { path: directory.to_owned(), source };
    std::fs::create_dir_all(&path).map_err(failed)?;
    write_probe(&directory.join("probe.safetensors"), held_out).map_err(failed)?;
    let runs: io::Result<_> = recipes.iter().map(|recipe| Folder::create(path.join(&recipe.name))).collect();
    Ok(Folders { runs: runs.map_err(failed)?, path })
}

fn write_probe(path: &Path, held_out: &Examples) -> io::Result<()> {
    let (examples, features) = (held_out.len(), iris::FEATURES);
    let (input_shape, target_shape) = ([examples, features], [examples]);
    write_safetensors(
        path,
        json!({ "description": "Iris: standardised petal length and width of the flowers held out, and their species" }),
        &[
            StoredTensor::new("target", "I64", &target_shape, &held_out.targets, i64::to_le_bytes),
            StoredTensor::new("input", "F32", &input_shape, held_out.inputs.as_flattened(), f32::to_le_bytes),
        ],
    )
}

impl Folders {
    /// Writes metrics and then the checkpoint of every run, so that a checkpoint's metrics are there when it appears.
    fn record(
        &mut self,
        networks: &Networks,
        probe: &Batch,
        step: u64,
        epoch: u64,
        train_loss: Option<&[f32]>,
    ) -> Result<(), TrainError> {
        let eval_loss = to_vec(&tch::no_grad(|| networks.losses(probe)));
        match train_loss {
            Some(train_loss) => self.log(step, &[("train/loss", train_loss), ("eval/loss", &eval_loss)])?,
            None => self.log(step, &[("eval/loss", &eval_loss)])?,
        }
        for (run, (weight, bias)) in self.runs.iter().zip(networks.weights()) {
            run.save(step, epoch, &weight, &bias).map_err(|source| self.failed(source))?;
        }
        Ok(())
    }

    /// Appends a line to the metrics of every run; each series holds one number for each run.
    fn log(&mut self, step: u64, series: &[(&str, &[f32])]) -> Result<(), TrainError> {
        for run in 0..self.runs.len() {
            let values: Vec<_> = series.iter().map(|(name, values)| (*name, values[run])).collect();
            self.runs[run].log(step, &values).map_err(|source| self.failed(source))?;
        }
        Ok(())
    }

    fn failed(&self, source: io::Error) -> TrainError {
        TrainError::Write { path: self.path.clone(), source }
    }
}
