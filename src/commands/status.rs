//! `doodl3 status`

use std::process::ExitCode;

use serde::Serialize;

use doodl3::store::{Backlog, Intake, Store, Trouble};

use super::{ConfigArguments, Failure, count};

/// How the agent does: what was taken in, what is wrong, what waits
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What is told.
#[derive(Debug, Serialize)]
struct Status {
    sources: Vec<Source>,
    sinks: Vec<Backlog>,
    to_evaluate: u64,
}

#[derive(Debug, Serialize)]
struct Source {
    name: String,
    #[serde(flatten)]
    intake: Intake,
    trouble: Option<Trouble>,
}

pub(super) async fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let plan = arguments.config.plan(&[], None)?;
    let store = Store::open_read_only(&plan.state_dir).map_err(Failure::state)?;
    let names: Vec<String> = plan.sources.iter().map(|source| source.name().to_owned()).collect();
    let evaluates = plan.model.is_some();
    let status = store.read(move |tables| {
        let mut sources = Vec::new();
        for name in names {
            let (intake, trouble) = (tables.intake(&name)?, tables.trouble(&name)?);
            sources.push(Source { name, intake, trouble });
        }
        let to_evaluate = if evaluates { tables.count_to_evaluate()? } else { 0 };
        Ok(Status { sources, sinks: tables.backlogs()?, to_evaluate })
    });
    let status = status.await.map_err(Failure::state)?;
    if arguments.json {
        let json = serde_json::to_string_pretty(&status).map_err(Failure::unusable)?;
        super::print(&(json + "\n"));
    } else {
        super::print(&text(&status));
    }
    let failed = status.sources.iter().any(|source| source.trouble.is_some())
        || status.sinks.iter().any(|sink| sink.attempts > 0);
    Ok(if failed { ExitCode::from(3) } else { ExitCode::SUCCESS })
}

fn text(status: &Status) -> String {
    let mut lines = Vec::new();
    for Source { name, intake, trouble } in &status.sources {
        let taken = format!(
            "{} of {}",
            count(intake.checkpoints as usize, "checkpoint"),
            count(intake.runs as usize, "run")
        );
        lines.push(match trouble {
            None => format!("ok      source {name}: {taken}\n"),
            Some(Trouble { error, hint, since }) => {
                let hint = hint.as_ref().map_or_else(String::new, |hint| format!(" (hint: {hint})"));
                let since = jiff::Timestamp::from_second(*since)
                    .map_or_else(|_| String::new(), |at| format!(" since {at}"));
                format!("FAILED  source {name}: {error}{hint}{since}; {taken}\n")
            }
        });
    }
    for Backlog { sink, reports, attempts, error } in &status.sinks {
        let waiting = count(*reports as usize, "report");
        lines.push(match error {
            Some(error) if *attempts > 0 => {
                format!(
                    "FAILED  sink {sink}: {waiting} wait, tried {}: {error}\n",
                    count(*attempts as usize, "time")
                )
            }
            _ => format!("ok      sink {sink}: {waiting} to be delivered\n"),
        });
    }
    if status.to_evaluate > 0 {
        lines.push(format!(
            "ok      evaluation: {} to go\n",
            count(status.to_evaluate as usize, "checkpoint")
        ));
    }
    lines.concat()
}
