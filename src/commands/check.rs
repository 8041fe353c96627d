//! `doodl3 check`

use std::path::Path;
use std::process::ExitCode;

use doodl3::adapters::directory::{self, Scanner};
use doodl3::adapters::mlflow::{Mlflow, MlflowStore};
use doodl3::adapters::tracker::TrackerError;
use doodl3::agent::evaluation;
use doodl3::config::{DirectoryPlan, MlflowPlace, MlflowPlan, ModelPlan, Plan, SinkPlan, SourcePlan};
use doodl3::evaluate::{Evaluator, Settings};
use doodl3::store::Store;

use super::{ConfigArguments, Failure, count};

/// Check the configuration, and whether every source, sink and the evaluator can be used
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Check the configuration alone, and touch nothing
    #[arg(long)]
    offline: bool,
}

/// One line of the answer: what was checked, and what came of it.
struct Line {
    what: String,
    outcome: Result<String, String>,
}

pub(super) async fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let plan = arguments.config.plan(&[], None)?;
    let mut lines = vec![Line { what: "configuration".into(), outcome: Ok("is valid".into()) }];
    if !arguments.offline {
        for plan in &plan.sources {
            lines.push(match plan {
                SourcePlan::Directory(plan) => source(plan),
                SourcePlan::Mlflow(plan) => mlflow(plan).await,
            });
        }
        lines.push(state(&plan.state_dir));
        for sink in &plan.sinks {
            match sink {
                SinkPlan::Directory(path) => lines.push(folder(path)),
                SinkPlan::Tracker(_) => lines.extend(trackers(&plan).await),
            }
        }
        lines.push(evaluator(plan.model.as_ref()).await);
    }
    let text: Vec<String> = lines
        .iter()
        .map(|Line { what, outcome }| match outcome {
            Ok(found) => format!("ok      {what}: {found}\n"),
            Err(problem) => format!("FAILED  {what}: {problem}\n"),
        })
        .collect();
    super::print(&text.concat());
    let failed = lines.iter().any(|line| line.outcome.is_err());
    Ok(if failed { ExitCode::from(3) } else { ExitCode::SUCCESS })
}

fn source(plan: &DirectoryPlan) -> Line {
    let outcome = Scanner::new(plan).scan().map_err(|error| error.to_string()).and_then(|listing| {
        let unreadable = listing.problems.first().map(|(path, why)| format!("{why}: {path}"));
        unreadable.map_or_else(|| Ok(describe(&listing)), Err)
    });
    Line { what: format!("source {}", plan.name), outcome }
}

fn describe(listing: &directory::Listing) -> String {
    let Some(first) = listing.found.first() else {
        return "is readable; no checkpoints yet".into();
    };
    let runs: std::collections::BTreeSet<_> =
        listing.found.iter().map(|found| (&found.place.experiment, &found.place.run)).collect();
    let step =
        first.place.step.map_or_else(|| "in the file or by order of arrival".into(), |step| step.to_string());
    let metrics = match listing.metrics.len() {
        0 => "no metrics.jsonl".into(),
        n => format!("metrics.jsonl of {}", count(n, "run")),
    };
    format!(
        "{} of {}, {metrics}; the first, {}, is read as experiment {}, run {}, step {step}",
        count(listing.found.len(), "checkpoint"),
        count(runs.len(), "run"),
        first.path,
        first.place.experiment,
        first.place.run,
    )
}

fn state(folder: &Path) -> Line {
    let outcome = match Store::open(folder) {
        Ok(_) => Ok(format!("{} can be written", folder.display())),
        Err(error) => {
            Err(error.hint().map_or_else(|| error.to_string(), |hint| format!("{error} (hint: {hint})")))
        }
    };
    Line { what: "state".into(), outcome }
}

/// What an MLflow server, or a store of MLflow's, lets us see.
async fn mlflow(plan: &MlflowPlan) -> Line {
    let asked = async {
        Ok::<_, TrackerError>(match &plan.place {
            MlflowPlace::Server(url) => Mlflow::new(plan, url)?.reach().await?,
            MlflowPlace::Database(_) | MlflowPlace::Folder(_) => MlflowStore::new(plan).reach().await?,
        })
    };
    let outcome = asked.await.map_err(|error| error.explained()).and_then(|reach| {
        let what = reach.version.map_or_else(|| "the store".into(), |version| format!("MLflow {version}"));
        if reach.experiments.is_empty() {
            return Err(format!(
                "{what} at {} can be read, but no experiment fits {} (hint: correct `experiments`, or check that this \
                 user may read them)",
                plan.place,
                plan.experiments.join(", ")
            ));
        }
        let names: Vec<&str> = reach.experiments.iter().take(3).map(String::as_str).collect();
        let more = if reach.experiments.len() > names.len() { ", …" } else { "" };
        let plainly = if reach.exposes_credentials {
            "; WARNING: user and password travel unencrypted (hint: use https)"
        } else {
            ""
        };
        Ok(format!(
            "{what} at {} shows {} in {} ({}{more}){plainly}",
            plan.place,
            count(reach.runs, "run"),
            count(reach.experiments.len(), "experiment"),
            names.join(", ")
        ))
    });
    Line { what: format!("source {}", plan.name), outcome }
}

/// Whether reports can be posted back: tried where nothing is left behind.
async fn trackers(plan: &Plan) -> Vec<Line> {
    let mut lines = Vec::new();
    for source in &plan.sources {
        let SourcePlan::Mlflow(plan) = source else { continue };
        let asked = async {
            match &plan.place {
                MlflowPlace::Server(url) => Mlflow::new(plan, url)?.may_write().await,
                MlflowPlace::Database(_) | MlflowPlace::Folder(_) => Ok(None),
            }
        };
        let outcome = match asked.await {
            Ok(Some(experiment)) => Ok(format!("may post to experiment {experiment}")),
            Ok(None) => {
                Ok("nothing to try it on: no run yet, or a store, where only files are put beside runs"
                    .into())
            }
            Err(error) => Err(error.explained()),
        };
        lines.push(Line { what: format!("sink tracker, {}", plan.name), outcome });
    }
    if lines.is_empty() {
        let outcome =
            Err("no source is a tracker (hint: add an `mlflow` source, or remove this sink)".into());
        lines.push(Line { what: "sink tracker".into(), outcome });
    }
    lines
}

fn folder(path: &Path) -> Line {
    let outcome = directory::probe(path)
        .map(|()| "can be written".into())
        .map_err(|error| format!("{error} (hint: check its permissions, or name another folder)"));
    Line { what: format!("sink {}", path.display()), outcome }
}

async fn evaluator(model: Option<&ModelPlan>) -> Line {
    let outcome = match model {
        Some(model) => evaluation::start(model).await.map(|(evaluator, loaded, _)| {
            let shapes = match loaded.parameters.len() {
                0 => String::new(),
                n => format!(", {n} parameters and buffers"),
            };
            format!("libtorch {} starts and loads the model{shapes}", evaluator.libtorch())
        }),
        // Nobody needs it: it is no failure if there is none.
        None => Ok(match Evaluator::start(Settings::default()).await {
            Ok(evaluator) => format!("libtorch {} starts; no model is configured", evaluator.libtorch()),
            Err(_) => "there is none, and no model is configured: doodl3 works from the weights alone".into(),
        }),
    };
    Line { what: "evaluator".into(), outcome }
}
