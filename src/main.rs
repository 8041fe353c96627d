//! Parses the command line, runs a command, and turns its outcome into an exit code.

mod commands;

use std::process::ExitCode;

use clap::Parser;

use commands::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    cli.start_logging();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return commands::Failure::unusable(error).report(),
    };
    let outcome = runtime.block_on(commands::run(cli));
    // Threads that wait for the disk must not hold up the exit.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}
