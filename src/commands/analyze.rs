//! `doodl3 analyze`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;

use doodl3::adapters::directory;
use doodl3::agent::Once;
use doodl3::alert::Severity;
use doodl3::store::Store;

use super::progress::Progress;
use super::watch::Stop;
use super::{ConfigArguments, Failure};

/// Analyse finished training once: read all checkpoints, print what they say, write the report
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Folders with checkpoints, of many runs or of one
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    config: ConfigArguments,
    /// Folder for reports; instead of the configuration's sinks
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// End with exit code 1 if there was an alert of this severity or above
    #[arg(long, value_enum, value_name = "SEVERITY")]
    fail_on: Option<FailOn>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FailOn {
    Info,
    Warning,
    High,
    Critical,
}

impl From<FailOn> for Severity {
    fn from(severity: FailOn) -> Self {
        match severity {
            FailOn::Info => Self::Info,
            FailOn::Warning => Self::Warning,
            FailOn::High => Self::High,
            FailOn::Critical => Self::Critical,
        }
    }
}

pub(super) async fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    for path in &arguments.paths {
        if !path.is_dir() {
            let error = anyhow::anyhow!("this is no folder: {}", path.display());
            return Err(Failure::unusable(error).hint("`doodl3 inspect FILE` looks into a single checkpoint"));
        }
    }
    let mut plan = arguments.config.plan(&arguments.paths, arguments.output.as_deref())?;
    plan.sources = directory::runs_together(plan.sources);
    let (sources, sinks) = (plan.sources.clone(), plan.report_folders());
    let store = Store::open_temporary().map_err(Failure::state)?;
    let once = Once::new(plan, store.clone()).map_err(Failure::unusable)?;
    let mut stop = Stop::listen()?;
    let progress = Progress::show(once.events(), None);
    tokio::select! {
        outcome = once.run() => outcome.map_err(Failure::unusable)?,
        () = stop.asked() => return Ok(ExitCode::from(130)),
    }
    progress.clear();
    let reports = super::show::reports(&store, sources).await?;
    if reports.is_empty() {
        let error = anyhow::anyhow!("there is no checkpoint that can be read");
        return Err(Failure::unusable(error).hint("`doodl3 check` tells what is found where"));
    }
    let mut texts: Vec<String> =
        reports.iter().map(|report| doodl3::render::summary(&report.input)).collect();
    for sink in &sinks {
        texts.extend(reports.iter().map(|report| format!("Report: {}\n", report.path(sink).display())));
    }
    super::print(&texts.join("\n"));
    let alerts = reports.iter().flat_map(|report| &report.input.alerts);
    let worst = alerts.map(|alert| alert.severity).max();
    let failed = arguments.fail_on.is_some_and(|limit| worst >= Some(limit.into()));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
