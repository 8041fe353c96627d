//! `doodl3 config show|schema`

use std::process::ExitCode;

use clap::Subcommand;

use super::{ConfigArguments, Failure};

/// Show the configuration that is in force, or the schema of the file
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the configuration with all defaults
    Show(ConfigArguments),
    /// Print the JSON schema of the configuration file
    Schema,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let text = match &arguments.what {
        What::Show(which) => {
            let (config, base) = which.load()?;
            config.validate(&base).map_err(Failure::usage)?;
            doodl3::config::to_yaml(&config).map_err(Failure::usage)?
        }
        What::Schema => {
            let schema =
                serde_json::to_string_pretty(&doodl3::config::schema()).map_err(Failure::unusable)?;
            schema + "\n"
        }
    };
    super::print(&text);
    Ok(ExitCode::SUCCESS)
}
