//! `doodl3 init`

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use super::{Failure, say};

/// Write a commented configuration to start from
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The file to write
    #[arg(default_value = doodl3::config::FILE_NAME)]
    file: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let file = &arguments.file;
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(file)
        .and_then(|mut open| open.write_all(doodl3::config::EXAMPLE.as_bytes()));
    if let Err(error) = written {
        let exists = error.kind() == ErrorKind::AlreadyExists;
        let error = anyhow::Error::new(error).context(format!("cannot write {}", file.display()));
        let failure = Failure::unusable(error);
        return Err(if exists { failure.hint("it is left as it is; name another file") } else { failure });
    }
    say(&format!(
        "{} is written: set the path of your checkpoints in it, then `doodl3 check` and `doodl3 watch`.\n",
        file.display()
    ));
    Ok(ExitCode::SUCCESS)
}
