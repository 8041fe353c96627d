//! Every environment variable that doodl3 reads.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use secrecy::SecretString;

/// Filter of the log, such as `debug` or `doodl3=trace`; stands above `-v` and `-q`.
pub const LOG: &str = "DOODL3_LOG";

/// Form of the log: `text` or `json`; as `--log-format`.
pub const LOG_FORMAT: &str = "DOODL3_LOG_FORMAT";

/// The evaluator's binary, where it is neither beside this program nor in `PATH`.
pub const EVALUATOR: &str = "DOODL3_EVALUATOR";

/// Any value but the empty one: no colours.
pub const NO_COLOR: &str = "NO_COLOR";

/// Address of the MLflow server, where a source names none.
pub(super) const MLFLOW_TRACKING_URI: &str = "MLFLOW_TRACKING_URI";

/// User for MLflow, as its own clients read it.
pub(super) const MLFLOW_TRACKING_USERNAME: &str = "MLFLOW_TRACKING_USERNAME";

/// Password for MLflow.
pub(super) const MLFLOW_TRACKING_PASSWORD: &str = "MLFLOW_TRACKING_PASSWORD";

/// Token for MLflow, where there are no user and password.
pub(super) const MLFLOW_TRACKING_TOKEN: &str = "MLFLOW_TRACKING_TOKEN";

/// `true`: any certificate of an MLflow server is accepted.
pub(super) const MLFLOW_TRACKING_INSECURE_TLS: &str = "MLFLOW_TRACKING_INSECURE_TLS";

/// PEM file with the certificates that an MLflow server is trusted by.
pub(super) const MLFLOW_TRACKING_SERVER_CERT_PATH: &str = "MLFLOW_TRACKING_SERVER_CERT_PATH";

/// PEM file with the certificate and the key that are shown to an MLflow server.
pub(super) const MLFLOW_TRACKING_CLIENT_CERT_PATH: &str = "MLFLOW_TRACKING_CLIENT_CERT_PATH";

/// Workspace of an MLflow server that has workspaces.
pub(super) const MLFLOW_WORKSPACE: &str = "MLFLOW_WORKSPACE";

/// The environment, as far as a configuration is completed from it.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    home: Option<PathBuf>,
}

impl Environment {
    /// That of this process.
    pub fn of_process() -> Self {
        let text =
            |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        Self { variables: std::env::vars_os().filter_map(text).collect(), home: std::env::home_dir() }
    }

    /// A variable that is set and not empty.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.variables.get(name).filter(|value| !value.is_empty()).cloned()
    }

    /// User and password in `~/.mlflow/credentials`, which MLflow's own clients read.
    pub(super) fn mlflow_credentials(&self) -> Option<(String, SecretString)> {
        let text = std::fs::read_to_string(self.home.as_ref()?.join(".mlflow/credentials")).ok()?;
        let mut lines = text.lines().map(str::trim).skip_while(|line| *line != "[mlflow]").skip(1);
        let section: BTreeMap<&str, &str> = lines
            .by_ref()
            .take_while(|line| !line.starts_with('['))
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.trim(), value.trim()))
            .collect();
        let field = |name: &str| section.get(name).map(|&value| value.to_owned());
        Some((field("mlflow_tracking_username")?, field("mlflow_tracking_password")?.into()))
    }
}

#[cfg(test)]
impl FromIterator<(&'static str, &'static str)> for Environment {
    fn from_iter<T: IntoIterator<Item = (&'static str, &'static str)>>(variables: T) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { variables, home: None }
    }
}
