//! Which coordinates and which lag the automatic choice takes, and what that is worth on fresh runs, beside everything
//! that it might have taken.
//!
//! ```text
//! cargo run --release --example projection_table -- FOLDER...
//! ```
//!
//! A FOLDER holds `CASE.runs.safetensors`, which the choice sees, and `CASE.fresh.safetensors`, on which all figures are
//! taken; `benches/projection_runs.py` trains some and calls this. Coordinates and map are learned from the former alone.

#![expect(clippy::print_stdout, reason = "its purpose")]

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use doodl3::engine::{
    Analysis, Candidate, Control, LagChoice, Parameters, ProjectionChoice, Role, RunSeries, Snapshot,
    analyze, score,
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

/// What the choice may lose in skill to the best that is good enough.
const MOST_LOST: f64 = 0.05;

/// What came of one kind of training.
struct Outcome {
    name: String,
    confident: bool,
    taken: Candidate,
    /// Of what is good enough on the fresh runs, what predicts them best.
    best_good: Option<Candidate>,
    /// Of everything.
    best_of_all: Candidate,
    picture: String,
}

fn main() -> Result<()> {
    let folders: Vec<PathBuf> = std::env::args().skip(1).map(PathBuf::from).collect();
    ensure!(!folders.is_empty(), "usage: projection_table FOLDER...");
    let mut outcomes = Vec::new();
    for folder in &folders {
        let mut cases: Vec<String> = std::fs::read_dir(folder)
            .with_context(|| folder.display().to_string())?
            .filter_map(|entry| {
                Some(entry.ok()?.file_name().to_str()?.strip_suffix(".runs.safetensors")?.to_owned())
            })
            .collect();
        cases.sort();
        let of = folder.file_name().unwrap_or_default().to_string_lossy();
        for case in cases {
            let read = |kind: &str| read(&folder.join(format!("{case}.{kind}.safetensors")), kind);
            outcomes.push(table(format!("{case}, {of}"), &read("runs")?, &read("fresh")?)?);
        }
    }
    summary(&outcomes);
    Ok(())
}

/// Prints what each projection is worth at the lag that is taken, and whether anything were better at another.
fn table(name: String, runs: &[RunSeries], fresh: &[RunSeries]) -> Result<Outcome> {
    let control = Control::default();
    let analysis = analyze(runs, &Parameters::default(), &control)?;
    let taken = (analysis.projection.kind, analysis.lag.steps);
    let confident = analysis.quality.low_confidence.is_empty();
    let mut scored: Vec<Candidate> = Vec::new();
    println!(
        "### {name}: lag {} epochs, {} runs, scored on {} fresh ones{}\n",
        taken.1,
        runs.len(),
        fresh.len(),
        if confident { "" } else { " (low confidence)" }
    );
    println!(
        "| coordinates | skill | error | of persistence | of the constant | R² of the displacement | motion, cells | loss told | good enough | Morse sets, of non-trivial index | attractors |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for projection in PROJECTIONS {
        for lag in lags(runs) {
            let parameters = Parameters { projection, lag: LagChoice::Steps(lag), ..Parameters::default() };
            let candidate = score(runs, fresh, &parameters, &control)?;
            if lag == taken.1 {
                let is_taken = projection == taken.0;
                let other = if is_taken { None } else { Some(analyze(runs, &parameters, &control)?) };
                row(&candidate, is_taken, other.as_ref().unwrap_or(&analysis));
            }
            scored.push(candidate);
        }
    }
    println!();
    let own = scored.iter().find(|candidate| (candidate.projection, candidate.lag_steps) == taken);
    let own = own.context("the choice is not in the table")?.clone();
    let best = |among: &dyn Fn(&&Candidate) -> bool| {
        let skill = |candidate: &Candidate| candidate.errors.skill();
        scored.iter().filter(among).max_by(|a, b| skill(a).total_cmp(&skill(b))).cloned()
    };
    if !own.qualifies {
        println!("- On fresh runs it is not good enough: {}.", own.reason);
    }
    let best_good = best(&|candidate| candidate.qualifies);
    let best_of_all = best(&|_| true).context("nothing was scored")?;
    for (words, best) in [("that is good enough", &best_good), ("of all", &Some(best_of_all.clone()))] {
        if let Some(best) = best {
            println!("- Best in hindsight {words}: {}, better by {:.3}.", told(best), lost(&own, best));
        }
    }
    let pca = analysis.candidates.iter().find(|candidate| candidate.projection == ProjectionChoice::Pca);
    if let Some(pca) = pca.filter(|pca| !pca.qualifies) {
        println!("- PCA of the weights was not taken: {}.", pca.reason);
    }
    println!();
    Ok(Outcome { name, confident, taken: own, best_good, best_of_all, picture: attractors(&analysis) })
}

fn row(candidate: &Candidate, is_taken: bool, analysis: &Analysis) {
    let mark = if is_taken { "**" } else { "" };
    let sets = &analysis.morse_graph.sets;
    println!(
        "| {mark}{}{mark} | {:.3} | {:.3} | {:.3} | {:.3} | {} | {:.1} | {} | {} | {}, {} | {} |",
        words(candidate.projection),
        candidate.errors.skill(),
        candidate.errors.surrogate,
        candidate.errors.persistence,
        candidate.errors.constant,
        candidate.displacement_skill.iter().map(|skill| format!("{skill:.2}")).collect::<Vec<_>>().join(" "),
        candidate.motion_cells,
        candidate.loss_correlation.map_or("-".into(), |loss| format!("{loss:.2}")),
        if candidate.qualifies { "yes" } else { "" },
        sets.len(),
        sets.iter().filter(|set| !set.conley_index.is_trivial()).count(),
        attractors(analysis),
    );
}

/// The Conley indices of the attractors.
fn attractors(analysis: &Analysis) -> String {
    let attractors = analysis.morse_graph.sets.iter().filter(|set| set.role == Role::Attractor);
    let indices: Vec<String> = attractors.map(|set| format!("`{}`", set.conley_index)).collect();
    if indices.is_empty() { "none".into() } else { indices.join(", ") }
}

/// Prints every choice on a line, and what all of them are worth together.
fn summary(outcomes: &[Outcome]) {
    println!("### all choices\n");
    println!(
        "| runs | taken | skill | best that is good enough | better by | best of all | better by | attractors |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for Outcome { name, confident, taken, best_good, best_of_all, picture } in outcomes {
        let doubt = if *confident { "" } else { " (low confidence)" };
        let (good, by) = best_good
            .as_ref()
            .map_or(("none".into(), "-".into()), |best| (told(best), format!("{:.3}", lost(taken, best))));
        println!(
            "| {name} | {}, lag {}{doubt} | {:.3} | {good} | {by} | {} | {:.3} | {picture} |",
            words(taken.projection),
            taken.lag_steps,
            taken.errors.skill(),
            told(best_of_all),
            lost(taken, best_of_all),
        );
    }
    let count = |holds: &dyn Fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| holds(outcome)).count();
    println!(
        "\nOf {} choices {} beat persistence and the constant; {} lose no more than {MOST_LOST} to the best that is good enough (where anything is), {} to the best of all.",
        outcomes.len(),
        count(&|outcome| outcome.taken.errors.skill() > 0.0),
        count(&|outcome| outcome
            .best_good
            .as_ref()
            .is_none_or(|best| lost(&outcome.taken, best) <= MOST_LOST)),
        count(&|outcome| lost(&outcome.taken, &outcome.best_of_all) <= MOST_LOST),
    );
}

fn told(candidate: &Candidate) -> String {
    format!("{} at lag {}, {:.3}", words(candidate.projection), candidate.lag_steps, candidate.errors.skill())
}

fn lost(taken: &Candidate, best: &Candidate) -> f64 {
    best.errors.skill() - taken.errors.skill()
}

fn words(projection: ProjectionChoice) -> &'static str {
    match projection {
        ProjectionChoice::Auto => "automatic",
        ProjectionChoice::FunctionSpace => "function space",
        ProjectionChoice::FunctionSpaceAndLoss => "function space and log loss",
        ProjectionChoice::RelaxingDirections => "relaxing directions",
        ProjectionChoice::TimeLaggedModes => "time-lagged modes",
        ProjectionChoice::Pca => "PCA of the weights",
        ProjectionChoice::SelectedWeights => "selected weights",
        ProjectionChoice::Random(_) => "random directions",
    }
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
