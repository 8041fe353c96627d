//! Which coordinates and which lag the automatic choice takes, and what that is worth on fresh runs, beside everything
//! that it might have taken.
//!
//! ```text
//! cargo run --release --example projection_table -- FOLDER
//! ```
//!
//! FOLDER holds `CASE.runs.safetensors`, which the choice sees, and `CASE.fresh.safetensors`, on which all figures are
//! taken; `benches/projection_runs.py` trains some and calls this. Coordinates and map are learned from the former alone.

#![expect(clippy::print_stdout, reason = "its purpose")]

use std::path::Path;

use anyhow::{Context, Result};
use doodl3::engine::{
    Candidate, Control, LagChoice, Parameters, ProjectionChoice, Role, RunSeries, Snapshot, analyze, score,
};
use safetensors::SafeTensors;

const PROJECTIONS: [ProjectionChoice; 6] = [
    ProjectionChoice::FunctionSpace,
    ProjectionChoice::FunctionSpaceAndLoss,
    ProjectionChoice::RelaxingDirections,
    ProjectionChoice::Pca,
    ProjectionChoice::SelectedWeights,
    ProjectionChoice::Random(0),
];

fn main() -> Result<()> {
    let folder = std::env::args().nth(1).context("usage: projection_table FOLDER")?;
    let mut cases: Vec<String> = std::fs::read_dir(&folder)?
        .filter_map(|entry| {
            Some(entry.ok()?.file_name().to_str()?.strip_suffix(".runs.safetensors")?.to_owned())
        })
        .collect();
    cases.sort();
    for case in cases {
        let read = |kind: &str| read(&Path::new(&folder).join(format!("{case}.{kind}.safetensors")), kind);
        table(&case, &read("runs")?, &read("fresh")?)?;
    }
    Ok(())
}

/// Prints what each combination is worth, and which the automatic choice takes.
fn table(case: &str, runs: &[RunSeries], fresh: &[RunSeries]) -> Result<()> {
    let control = Control::default();
    let analysis = analyze(runs, &Parameters::default(), &control)?;
    let taken = (analysis.projection.kind, analysis.lag.steps);
    let confidence = if analysis.quality.low_confidence.is_empty() { "" } else { ", of low confidence" };
    println!("## {case}: {} runs, scored on {} fresh ones{confidence}\n", runs.len(), fresh.len());
    println!(
        "| coordinates | lag | skill | error | nothing moves | mean | motion (cells) | loss told | good enough |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut scored: Vec<Candidate> = Vec::new();
    for projection in PROJECTIONS {
        for lag in lags(runs) {
            let parameters = Parameters { projection, lag: LagChoice::Steps(lag), ..Parameters::default() };
            let candidate = score(runs, fresh, &parameters, &control)?;
            let mark = if (projection, candidate.lag_steps) == taken { "**" } else { "" };
            println!(
                "| {mark}{projection:?}{mark} | {lag} | {:.3} | {:.3} | {:.3} | {:.3} | {:.1} | {} | {} |",
                candidate.errors.skill(),
                candidate.errors.surrogate,
                candidate.errors.persistence,
                candidate.errors.constant,
                candidate.motion_cells,
                candidate.loss_correlation.map_or("-".into(), |loss| format!("{loss:.2}")),
                if candidate.qualifies { "yes" } else { "" },
            );
            scored.push(candidate);
        }
    }
    let own = scored.iter().find(|candidate| (candidate.projection, candidate.lag_steps) == taken);
    let own = own.context("the choice is not in the table")?;
    let best = |among: &dyn Fn(&&Candidate) -> bool| {
        let skill = |candidate: &Candidate| candidate.errors.skill();
        scored.iter().filter(among).max_by(|a, b| skill(a).total_cmp(&skill(b)))
    };
    println!("\nTaken: {:?} at lag {}, skill {:.3}.", taken.0, taken.1, own.errors.skill());
    if !own.qualifies {
        println!("Not good enough: {}.", own.reason);
    }
    let sets = &analysis.morse_graph.sets;
    let attractors = sets.iter().filter(|set| set.role == Role::Attractor).count();
    println!("Morse sets: {}; attractors: {attractors}.", sets.len());
    let tell = |words: &str, among: &dyn Fn(&&Candidate) -> bool| {
        if let Some(best) = best(among) {
            println!(
                "{words}: {:?} at lag {}, skill {:.3}, better by {:.3}.",
                best.projection,
                best.lag_steps,
                best.errors.skill(),
                best.errors.skill() - own.errors.skill()
            );
        }
    };
    tell("Best in hindsight that is good enough", &|candidate| candidate.qualifies);
    tell("Best in hindsight at this lag", &|candidate| candidate.lag_steps == taken.1);
    tell("Best in hindsight of all", &|_| true);
    println!();
    Ok(())
}

/// Multiples of the distance between checkpoints, up to half a run.
fn lags(runs: &[RunSeries]) -> Vec<u64> {
    let steps: Vec<u64> = runs[0].snapshots.iter().map(|snapshot| snapshot.step).collect();
    let (stride, span) = (steps[1] - steps[0], steps[steps.len() - 1] - steps[0]);
    [1, 2, 3, 5, 7, 10, 15, 20, 30]
        .map(|times| times * stride)
        .into_iter()
        .filter(|lag| 2 * lag <= span)
        .collect()
}

fn read(path: &Path, kind: &str) -> Result<Vec<RunSeries>> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let file = SafeTensors::deserialize(&bytes)?;
    let numbers = |name: &str| -> Result<Vec<f32>> {
        let data = file.tensor(name)?.data();
        Ok(data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    };
    let eights = |name: &str| -> Result<Vec<[u8; 8]>> {
        Ok(file.tensor(name)?.data().chunks_exact(8).map(|b| std::array::from_fn(|i| b[i])).collect())
    };
    let steps: Vec<u64> = eights("steps")?.into_iter().map(u64::from_le_bytes).collect();
    let losses: Vec<f64> = eights("loss")?.into_iter().map(f64::from_le_bytes).collect();
    let (weights, predictions) = (numbers("weights")?, numbers("predictions")?);
    let (p, q) = (weights.len() / losses.len(), predictions.len() / losses.len());
    let run = |number: usize| RunSeries {
        run: format!("{kind}-{number:03}"),
        snapshots: steps
            .iter()
            .zip(number * steps.len()..)
            .map(|(&step, at)| Snapshot {
                step,
                weights: weights[at * p..(at + 1) * p].to_vec(),
                predictions: Some(predictions[at * q..(at + 1) * q].to_vec()),
                loss: Some(losses[at]),
            })
            .collect(),
        disturbed: Vec::new(),
    };
    Ok((0..losses.len() / steps.len()).map(run).collect())
}
