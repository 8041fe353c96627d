//! Runs the detectors over finished runs as if live, and writes what was alerted when.
//!
//! ```text
//! cargo run --example replay_detectors -- RUNS [--weights-only] [--every N] [--settings SETTINGS.json] > alarms.json
//! ```
//!
//! RUNS holds, at any depth, one folder a run: checkpoints with increasing names and, if there is one, `metrics.jsonl`
//! (one JSON object a line with `step` and `train/loss`). The result is one JSON object: for each folder's name its
//! alarms (an episode that opened, or became more severe) and the headline score of each checkpoint.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use doodl3::{
    alert::Severity,
    checkpoint::{SketchParameters, is_candidate, summarize},
    detect::{Detector, Observation, RunMonitor, Settings},
    engine::Cancel,
};
use rayon::prelude::*;
use serde_json::{Value, json};

/// What the command line asks for.
struct Options {
    runs: PathBuf,
    weights_only: bool,
    every: usize,
    settings: Settings,
}

fn main() -> Result<()> {
    let options = options()?;
    let mut folders = Vec::new();
    find_runs(&options.runs, &mut folders)?;
    folders.sort();
    let replayed: BTreeMap<String, Value> =
        folders.par_iter().map(|folder| replay(folder, &options)).collect::<Result<_>>()?;
    serde_json::to_writer(std::io::stdout().lock(), &replayed)?;
    Ok(())
}

fn options() -> Result<Options> {
    let mut runs = None;
    let mut options =
        Options { runs: PathBuf::new(), weights_only: false, every: 1, settings: Settings::default() };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--weights-only" => options.weights_only = true,
            "--every" => options.every = value()?.parse()?,
            "--settings" => options.settings = serde_json::from_str(&fs::read_to_string(value()?)?)?,
            other if other.starts_with('-') => bail!("unknown option {other}"),
            path => runs = Some(PathBuf::from(path)),
        }
    }
    options.settings.validate()?;
    options.runs = runs.context("which folder of runs?")?;
    Ok(options)
}

/// Collects the folders that hold checkpoints.
fn find_runs(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let mut holds_checkpoints = false;
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            find_runs(&path, found)?;
        } else {
            holds_checkpoints |= is_candidate(&path);
        }
    }
    if holds_checkpoints {
        found.push(folder.into());
    }
    Ok(())
}

fn replay(folder: &Path, options: &Options) -> Result<(String, Value)> {
    let name = folder.file_name().context("a run's folder has a name")?.to_string_lossy().into_owned();
    let mut checkpoints: Vec<PathBuf> = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .filter(|path: &Result<PathBuf>| path.as_ref().is_ok_and(|path| is_candidate(path)))
        .collect::<Result<_>>()?;
    checkpoints.sort();
    let losses = if options.weights_only { Vec::new() } else { train_losses(&folder.join("metrics.jsonl"))? };
    let mut losses = losses.as_slice();

    let mut monitor = RunMonitor::new(&name);
    monitor.name_losses("train/loss");
    let mut severities: BTreeMap<(Detector, u32), Severity> = BTreeMap::new();
    let (mut alarms, mut scores) = (Vec::new(), Vec::new());
    for (index, path) in checkpoints.iter().enumerate().step_by(options.every) {
        let summary = summarize(path, &SketchParameters::default(), &Cancel::new())?;
        let step = summary.step.with_context(|| format!("no step is known of {}", path.display()))?;
        let (due, later) = losses.split_at(losses.partition_point(|(at, _)| *at <= step));
        losses = later;
        let observation = Observation {
            step,
            sketch: &summary.sketch.values,
            statistics: &summary.statistics,
            losses: due,
        };
        let report = monitor.observe(&observation, &options.settings);
        scores.push(report.instability);
        for alert in report.alerts {
            let before = severities.insert((alert.detector, alert.episode), alert.severity);
            if before.is_none_or(|before| alert.severity > before) {
                alarms.push(json!({
                    "checkpoint": index, "step": step, "detector": alert.detector, "severity": alert.severity,
                    "headline": alert.headline,
                }));
            }
        }
    }
    Ok((name, json!({ "alarms": alarms, "scores": scores })))
}

/// The series `train/loss` by step; `null` stands for a value that is not finite.
fn train_losses(path: &Path) -> Result<Vec<(u64, f64)>> {
    let Ok(text) = fs::read_to_string(path) else { return Ok(Vec::new()) };
    let mut losses = Vec::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line)?;
        if let (Some(step), Some(loss)) = (line["step"].as_u64(), line.get("train/loss")) {
            losses.push((step, loss.as_f64().unwrap_or(f64::NAN)));
        }
    }
    losses.sort_by_key(|(step, _)| *step);
    Ok(losses)
}
