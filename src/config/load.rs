//! Reading and writing the YAML. The only file that names `serde_yaml` (serde-saphyr under that name, see Cargo.toml).

use std::io;
use std::path::{Path, PathBuf};

use super::Config;

/// Why a configuration file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be opened or read.
    #[error("cannot read the configuration: {source}: {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is no valid configuration; the message shows the line.
    #[error("{origin}: {message}")]
    Parse {
        /// Where the text came from.
        origin: String,
        /// What is wrong, with line, column and the names that would be right.
        message: String,
    },
}

/// Reads the configuration in `path`.
///
/// # Errors
/// [`LoadError`] says which file, and which line of it.
pub fn load(path: &Path) -> Result<Config, LoadError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| LoadError::Read { path: path.into(), source })?;
    parse(&text, &path.display().to_string())
}

/// Parses a configuration; `origin` names it in messages.
///
/// ```
/// use doodl3::config;
///
/// let config = config::parse("version: 1\nsources: [directory: {path: runs}]", "example").unwrap();
/// assert_eq!(config.analysis.every, 20);
///
/// let error = config::parse("version: 1\nsorces: []", "example").unwrap_err().to_string();
/// assert!(error.contains("line 2") && error.contains("sources"), "{error}");
/// ```
///
/// # Errors
/// [`LoadError::Parse`] with line, column and what was expected.
pub fn parse(text: &str, origin: &str) -> Result<Config, LoadError> {
    serde_yaml::from_str(text).map_err(|error| {
        let message = error.to_string();
        let message = message.strip_prefix("error: ").unwrap_or(&message).replace("<input>", origin);
        LoadError::Parse { origin: origin.to_owned(), message }
    })
}

/// Reads a small YAML file of somebody else's; the error is one line.
pub(crate) fn yaml<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_yaml::from_str(text).map_err(|error| error.to_string())
}

/// Writes a configuration as YAML.
///
/// # Errors
/// [`LoadError::Parse`], should a value have no form in YAML: a bug in doodl3.
pub fn to_yaml(config: &Config) -> Result<String, LoadError> {
    serde_yaml::to_string(config).map_err(|error| LoadError::Parse {
        origin: "the configuration in memory".into(),
        message: error.to_string(),
    })
}
