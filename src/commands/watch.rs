//! `doodl3 watch`

use std::path::PathBuf;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use doodl3::agent::Agent;
use doodl3::config::SourcePlan;
use doodl3::store::Store;

use super::{ConfigArguments, Failure};

/// Watch training: read checkpoints as they come, raise alerts, keep reports up to date
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Folders into which trainers write; instead of the configuration's sources
    paths: Vec<PathBuf>,
    #[command(flatten)]
    config: ConfigArguments,
    /// Folder for reports; instead of the configuration's sinks
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub(super) async fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let plan = arguments.config.plan(&arguments.paths, arguments.output.as_deref())?;
    let mut stop = Stop::listen()?;
    let store = Store::open(&plan.state_dir).map_err(Failure::state)?;
    for source in &plan.sources {
        match source {
            SourcePlan::Directory(plan) => {
                tracing::info!(source = plan.name, path = %plan.root.display(), "watching");
            }
            SourcePlan::Tracker(plan) => {
                tracing::info!(source = plan.watched().name, at = %plan.place(), "watching");
            }
        }
    }
    let mut agent = Agent::start(plan, store).await.map_err(Failure::unusable)?;
    tokio::select! {
        error = agent.failed() => Err(Failure::unusable(error)),
        () = stop.asked() => {
            tracing::info!("stopping; what is left waits on disk (once more to stop at once)");
            tokio::select! {
                stopped = agent.stop() => stopped.map(|()| ExitCode::SUCCESS).map_err(Failure::unusable),
                () = stop.asked() => std::process::exit(130),
            }
        }
    }
}

/// The signals that ask a program to stop.
pub(super) struct Stop {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Stop {
    /// From now on the signals do not end the program by themselves.
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(Failure::unusable);
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Waits for the next one.
    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
