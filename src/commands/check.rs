//! `doodl3 check`

use std::path::Path;
use std::process::ExitCode;

use doodl3::adapters::directory::{self, Scanner};
use doodl3::adapters::tracker::{Tracker, TrackerError};
use doodl3::agent::evaluation;
use doodl3::config::{DirectoryPlan, ModelPlan, Plan, SinkPlan, SourcePlan, TrackerPlan};
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
                SourcePlan::Tracker(plan) => tracker(plan).await,
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

/// What a tracker lets us see.
async fn tracker(plan: &TrackerPlan) -> Line {
    let asked = async {
        let mut tracker = Tracker::new(plan)?;
        Ok::<_, TrackerError>((tracker.reach().await?, tracker.exposes_credentials()))
    };
    let place = plan.place();
    let outcome = asked.await.map_err(|error| error.explained()).and_then(|(reach, exposed)| {
        let what = reach.what;
        if reach.experiments.is_empty() {
            let (patterns, field) = match plan {
                TrackerPlan::Mlflow(plan) => (&plan.experiments, "experiments"),
                TrackerPlan::Wandb(plan) => (&plan.projects, "projects"),
            };
            return Err(format!(
                "{what} at {place} can be read, but nothing there fits {} (hint: correct `{field}`, or check that this \
                 user may read them)",
                patterns.join(", ")
            ));
        }
        let names: Vec<&str> = reach.experiments.iter().take(3).map(String::as_str).collect();
        let more = if reach.experiments.len() > names.len() { ", …" } else { "" };
        let plainly = if exposed {
            "; WARNING: password, token or key travels unencrypted (hint: use https)"
        } else {
            ""
        };
        let kind = match plan {
            TrackerPlan::Mlflow(_) => "experiment",
            TrackerPlan::Wandb(_) => "project",
        };
        Ok(format!(
            "{what} at {place} shows {} in {} ({}{more}){plainly}",
            count(reach.runs, "run"),
            count(reach.experiments.len(), kind),
            names.join(", ")
        ))
    });
    Line { what: format!("source {}", plan.watched().name), outcome }
}

/// Whether reports can be posted back: tried where nothing is left behind.
async fn trackers(plan: &Plan) -> Vec<Line> {
    let mut lines = Vec::new();
    for source in &plan.sources {
        let SourcePlan::Tracker(plan) = source else { continue };
        let asked = async { Tracker::new(plan)?.may_write().await };
        let outcome = match asked.await {
            Ok(Some(place)) => Ok(format!("may post to {place}")),
            Ok(None) => {
                Ok("nothing to try it on: no run yet, or runs on this machine, where only files are put \
                 beside them"
                    .into())
            }
            Err(error) => Err(error.explained()),
        };
        lines.push(Line { what: format!("sink tracker, {}", plan.watched().name), outcome });
    }
    if lines.is_empty() {
        let outcome =
            Err("no source is a tracker (hint: add an `mlflow` or a `wandb` source, or remove this sink)"
                .into());
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
