//! `doodl3 demo`

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use tokio::sync::watch;

use doodl3::agent::{Agent, AgentError};
use doodl3::evaluate::protocol::Training;
use doodl3::evaluate::{Evaluator, EvaluatorError, Settings};
use doodl3::store::Store;
use doodl3::{config, render};

use super::progress::Progress;
use super::watch::Stop;
use super::{Failure, say};

/// Train small networks beside the agent and see what it says: no server, no account, no data of yours
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Folder for the training and the reports; what an earlier demo left there is replaced
    #[arg(long, default_value = "doodl3-demo")]
    dir: PathBuf,
    /// Number of healthy networks; three more go wrong
    #[arg(long, default_value_t = 100)]
    runs: usize,
    /// Seed of all random numbers
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// The configuration that the demo works with. Its first line tells that a folder is ours.
const CONFIG: &str = include_str!("demo.yaml");

/// Epochs of each network, and a checkpoint after every so many.
const EPOCHS: (u64, u64) = (450, 10);

/// The training is stretched to this time at least, so that it can be watched.
const STRETCH: Duration = Duration::from_secs(20);

pub(super) async fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let folder = &arguments.dir;
    prepare(folder)?;
    let plan = config::parse(CONFIG, "demo.yaml")
        .map_err(Failure::usage)?
        .validate(folder)
        .map_err(Failure::usage)?;
    let (sources, sinks) = (plan.sources.clone(), plan.report_folders());
    let mut stop = Stop::listen()?;
    say(&format!(
        "Training {} small networks in {}, three of which go wrong, while the agent watches their folder.\n",
        arguments.runs + 3,
        folder.display()
    ));
    let (epochs, progress) = watch::channel((0, EPOCHS.0));
    let training = tokio::spawn(train(arguments.dir.clone(), arguments.runs, arguments.seed, epochs));
    // The agent evaluates on the probe batch, which the training writes before anything else.
    let probe = folder.join("probe.safetensors");
    while !probe.exists() && !training.is_finished() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let store = Store::open(&plan.state_dir).map_err(Failure::state)?;
    let mut agent = Agent::start(plan, store).await.map_err(Failure::unusable)?;
    let shown = Progress::show(agent.events(), Some(progress));
    let ended = tokio::select! {
        ended = to_the_end(&mut agent, training) => Some(ended),
        () = stop.asked() => None,
    };
    shown.clear();
    match ended {
        None => {
            agent.stop().await.map_err(Failure::unusable)?;
            return Ok(ExitCode::from(130));
        }
        Some(ended) => ended?,
    }
    let reports = super::show::reports(agent.store(), sources).await?;
    let mut texts: Vec<String> = reports.iter().map(|report| render::summary(&report.input)).collect();
    for sink in &sinks {
        texts.extend(reports.iter().map(|report| format!("Report: {}\n", report.path(sink).display())));
    }
    agent.stop().await.map_err(Failure::unusable)?;
    super::print(&texts.join("\n"));
    Ok(ExitCode::SUCCESS)
}

/// Waits until all is trained, read, evaluated, analysed and delivered, or something fails.
async fn to_the_end(
    agent: &mut Agent,
    training: tokio::task::JoinHandle<Result<(), EvaluatorError>>,
) -> Result<(), Failure> {
    tokio::select! {
        trained = training => {
            let trained = trained.map_err(|error| Failure::unusable(AgentError::Panicked(error.to_string())))?;
            trained.map_err(untrained)?;
        }
        error = agent.failed() => return Err(Failure::unusable(error)),
    }
    let settled = agent.settled();
    tokio::select! {
        () = settled => Ok(()),
        error = agent.failed() => Err(Failure::unusable(error)),
    }
}

fn untrained(error: EvaluatorError) -> Failure {
    Failure::unusable(error).hint("the demo trains through libtorch: `make demo` sets everything up")
}

/// Trains in a process of its own.
async fn train(
    directory: PathBuf,
    healthy: usize,
    seed: u64,
    progress: watch::Sender<(u64, u64)>,
) -> Result<(), EvaluatorError> {
    let (epochs, checkpoint_every) = EPOCHS;
    let stretch_ms = STRETCH.as_millis() as u64;
    let training = Training { directory, healthy, epochs, checkpoint_every, stretch_ms, seed };
    let trainer = Evaluator::start(Settings::default()).await?;
    trainer
        .train(training, |epoch, epochs| {
            progress.send_replace((epoch, epochs));
        })
        .await
}

/// Makes the folder, or clears out what an earlier demo left in it. Anything else is left alone.
fn prepare(folder: &Path) -> Result<(), Failure> {
    let file = folder.join(config::FILE_NAME);
    let failed = |error: std::io::Error| {
        Failure::unusable(anyhow::Error::new(error).context(format!("cannot use {}", folder.display())))
    };
    let empty = match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == ErrorKind::NotFound => true,
        Err(error) => return Err(failed(error)),
    };
    let first_line = |text: &str| text.lines().next().map(str::to_owned);
    let ours = fs::read_to_string(&file).is_ok_and(|text| first_line(&text) == first_line(CONFIG));
    if !empty && !ours {
        let error = anyhow!("{} is not empty and was not made by the demo", folder.display());
        return Err(Failure::usage(error).hint("name another folder with --dir"));
    }
    for name in ["runs", ".doodl3", "reports"] {
        match fs::remove_dir_all(folder.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    match fs::remove_file(folder.join("probe.safetensors")) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    fs::create_dir_all(folder).and_then(|()| fs::write(&file, CONFIG)).map_err(failed)
}
