//! The commands, a file for each. With `main.rs` the only place that prints: results on standard output, all else on
//! standard error.
//!
//! Exit codes: 0 done · 1 an alert at or above `--fail-on` · 2 wrong command line or configuration · 3 a source, a sink
//! or the state cannot be used · 101 a bug in doodl3.

mod analyze;
mod check;
mod completions;
mod config;
mod demo;
mod export;
mod init;
mod inspect;
mod progress;
mod show;
mod status;
mod watch;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use doodl3::config::{Config, DirectorySource, FILE_NAME, Plan, Sink, Source};
use doodl3::store::StoreError;
use doodl3::telemetry;

/// Tells what neural-network training is really doing: Morse graphs and alerts from checkpoints.
#[derive(Debug, Parser)]
#[command(name = "doodl3", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Say more; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Say warnings and errors only; twice for errors only
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "verbose")]
    quiet: u8,
    /// Form of the log
    #[arg(long, global = true, value_enum, default_value_t, env = doodl3::config::LOG_FORMAT)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum LogFormat {
    #[default]
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Arguments),
    Watch(watch::Arguments),
    Analyze(analyze::Arguments),
    Status(status::Arguments),
    Show(show::Arguments),
    Inspect(inspect::Arguments),
    Init(init::Arguments),
    Check(check::Arguments),
    Export(export::Arguments),
    Config(config::Arguments),
    Completions(completions::Arguments),
}

impl Cli {
    /// Starts logging as the command line asks.
    pub(crate) fn start_logging(&self) {
        let format = match self.log_format {
            LogFormat::Text => telemetry::Format::Text,
            LogFormat::Json => telemetry::Format::Json,
        };
        telemetry::start(self.verbose.min(9) as i8 - self.quiet.min(9) as i8, format);
    }
}

/// Runs a command.
pub(crate) async fn run(cli: Cli) -> Result<ExitCode, Failure> {
    match cli.command {
        Command::Demo(arguments) => demo::run(&arguments).await,
        Command::Watch(arguments) => watch::run(&arguments).await,
        Command::Analyze(arguments) => analyze::run(&arguments).await,
        Command::Status(arguments) => status::run(&arguments).await,
        Command::Show(arguments) => show::run(&arguments).await,
        Command::Inspect(arguments) => inspect::run(&arguments).await,
        Command::Init(arguments) => init::run(&arguments),
        Command::Check(arguments) => check::run(&arguments).await,
        Command::Export(arguments) => export::run(&arguments).await,
        Command::Config(arguments) => config::run(&arguments),
        Command::Completions(arguments) => completions::run(&arguments),
    }
}

/// Why a command ended, as its user is told.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    error: anyhow::Error,
    hint: Option<String>,
}

impl Failure {
    /// The command line or the configuration is wrong: exit code 2.
    pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self { code: 2, error: error.into(), hint: None }
    }

    /// A source, a sink or the state cannot be used: exit code 3.
    pub(crate) fn unusable(error: impl Into<anyhow::Error>) -> Self {
        Self { code: 3, error: error.into(), hint: None }
    }

    /// The state cannot be used: exit code 3, with the state's own hint.
    pub(crate) fn state(error: StoreError) -> Self {
        let hint = error.hint().map(str::to_owned);
        Self { hint, ..Self::unusable(error) }
    }

    /// Adds what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Prints the error, its causes and the hint, and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        let mut lines = vec![format!("error: {}", self.error)];
        lines.extend(self.error.chain().skip(1).map(|cause| format!("  because: {cause}")));
        lines.extend(self.hint.map(|hint| format!("hint: {hint}")));
        say(&(lines.join("\n") + "\n"));
        ExitCode::from(self.code)
    }
}

/// Prints a result. A reader that has gone away (`| head`) ends the program quietly.
fn print(text: &str) {
    if io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()).is_err() {
        std::process::exit(0);
    }
}

/// Says something to a person on standard error, above the progress bars.
fn say(text: &str) {
    // Nobody is there to be told when standard error is gone.
    drop(telemetry::bars().suspend(|| io::stderr().write_all(text.as_bytes())));
}

/// Which configuration to use.
#[derive(Debug, Args)]
struct ConfigArguments {
    /// The configuration; by default doodl3.yaml in this folder, where there is one
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the agent's own state
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

impl ConfigArguments {
    /// The configuration as written, and the folder from which its paths are taken.
    fn load(&self) -> Result<(Config, PathBuf), Failure> {
        let file = match &self.config {
            Some(file) => file.clone(),
            None if Path::new(FILE_NAME).exists() => FILE_NAME.into(),
            None => return Ok((Config::default(), PathBuf::new())),
        };
        tracing::debug!(file = %file.display(), "configuration read");
        let config = doodl3::config::load(&file).map_err(|error| {
            Failure::usage(error)
                .hint("`doodl3 init` writes a commented example, `doodl3 config schema` tells every field")
        })?;
        let base = file.parent().unwrap_or(Path::new("")).to_owned();
        Ok((config, base))
    }

    /// The configuration with what the command line says: `paths` replace its sources, `output` its sinks.
    fn plan(&self, paths: &[PathBuf], output: Option<&Path>) -> Result<Plan, Failure> {
        let (mut config, base) = self.load()?;
        let here = |path: &Path| {
            std::path::absolute(path).map_err(|error| Failure::usage(error).hint("name an existing folder"))
        };
        if !paths.is_empty() {
            config.sources = Vec::new();
            for path in paths {
                let mut source = DirectorySource::new(here(path)?);
                // Folders of one name are told apart by their paths.
                if paths.iter().any(|other| other != path && other.file_name() == path.file_name()) {
                    source.name = Some(path.display().to_string());
                }
                config.sources.push(Source::Directory(source));
            }
        }
        if let Some(output) = output {
            config.sinks = vec![Sink::Directory(doodl3::config::DirectorySink { path: here(output)? })];
        }
        if let Some(state_dir) = &self.state_dir {
            config.state_dir = here(state_dir)?;
        }
        config.validate(&base).map_err(Failure::usage)
    }
}

/// Rows of cells as columns of text, the first three to the left, numbers to the right.
fn columns(rows: impl Iterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = rows.collect();
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if column < 3 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// A number of things: `1 run`, `2 runs`.
fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}
