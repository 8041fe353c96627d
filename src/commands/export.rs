//! `doodl3 export`

use std::process::ExitCode;

use doodl3::store::Store;

use super::{ConfigArguments, Failure};

/// Print the state as canonical JSON: checkpoints, alerts, last analyses
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
}

#[expect(clippy::redundant_closure_for_method_calls, reason = "the method is of one lifetime only")]
pub(super) async fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let plan = arguments.config.plan(&[], None)?;
    let store = Store::open_read_only(&plan.state_dir).map_err(Failure::state)?;
    let export = store.read(|tables| tables.export()).await.map_err(Failure::state)?;
    let json = serde_json::to_string_pretty(&export).map_err(Failure::unusable)?;
    super::print(&(json + "\n"));
    Ok(ExitCode::SUCCESS)
}
