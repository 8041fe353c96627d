//! Every environment variable that doodl3 reads.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use reqwest::Url;
use secrecy::SecretString;

use super::trackers::SAME_SERVICE;

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

/// Address of the W&B server, where a source names none; as W&B's own clients read it, like those that follow.
pub(super) const WANDB_BASE_URL: &str = "WANDB_BASE_URL";

/// API key for W&B.
pub(super) const WANDB_API_KEY: &str = "WANDB_API_KEY";

/// Team or user to whom the projects at W&B belong.
pub(super) const WANDB_ENTITY: &str = "WANDB_ENTITY";

/// `true`: any certificate of a W&B server is accepted.
pub(super) const WANDB_INSECURE_DISABLE_SSL: &str = "WANDB_INSECURE_DISABLE_SSL";

/// Where people look at a W&B server in a browser, where it is not at its address.
pub(super) const WANDB_APP_URL: &str = "WANDB_APP_URL";

/// Folder of W&B's settings, where it is not `~/.config/wandb`.
pub(super) const WANDB_CONFIG_DIR: &str = "WANDB_CONFIG_DIR";

/// File of W&B's keys, where it is not `~/.netrc`.
pub(super) const NETRC: &str = "NETRC";

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
        let username = setting(&text, "mlflow", "mlflow_tracking_username")?;
        Some((username.to_owned(), setting(&text, "mlflow", "mlflow_tracking_password")?.into()))
    }

    /// A setting of W&B's own clients.
    pub(super) fn wandb_setting(&self, name: &str) -> Option<String> {
        let folder = match self.get(WANDB_CONFIG_DIR) {
            Some(folder) => PathBuf::from(folder),
            None => self.home.as_ref()?.join(".config/wandb"),
        };
        let text = std::fs::read_to_string(folder.join("settings")).ok()?;
        setting(&text, "default", name).map(str::to_owned)
    }

    /// The key for a W&B server, as W&B's own clients look for it: in the environment, in the file of keys under its
    /// host or another name of the same service, in the settings.
    pub(super) fn wandb_key(&self, url: &Url) -> Option<SecretString> {
        if let Some(key) = self.get(WANDB_API_KEY) {
            return Some(key.into());
        }
        let host = url.host_str()?;
        let with_port = url.port().map(|port| format!("{host}:{port}"));
        let names = with_port.iter().map(String::as_str).chain([host]);
        let same = SAME_SERVICE.into_iter().filter(|_| SAME_SERVICE.contains(&host));
        let text = self.netrc().unwrap_or_default();
        let key = names.chain(same).find_map(|name| password(&text, name));
        key.map(SecretString::from).or_else(|| self.wandb_setting("api_key").map(SecretString::from))
    }

    fn netrc(&self) -> Option<String> {
        if let Some(file) = self.get(NETRC) {
            return std::fs::read_to_string(file).ok();
        }
        let home = self.home.as_ref()?;
        [".netrc", "_netrc"].into_iter().find_map(|name| std::fs::read_to_string(home.join(name)).ok())
    }
}

/// A value in a section of a file of settings (INI).
fn setting<'t>(text: &'t str, section: &str, name: &str) -> Option<&'t str> {
    let header = format!("[{section}]");
    text.lines()
        .map(str::trim)
        .skip_while(|line| *line != header)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once('='))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim())
}

/// The password for a machine in a file of keys (netrc). Macros, of which nobody makes one here, are not known.
fn password<'t>(text: &'t str, machine: &str) -> Option<&'t str> {
    let mut words = text
        .lines()
        .map(|line| if line.trim_start().starts_with('#') { "" } else { line })
        .flat_map(str::split_whitespace);
    let mut ours = false;
    while let Some(word) = words.next() {
        match word {
            "machine" => ours = words.next() == Some(machine),
            "password" => {
                let password = words.next();
                if ours {
                    return password;
                }
            }
            "login" | "account" => {
                words.next();
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
impl FromIterator<(&'static str, &'static str)> for Environment {
    fn from_iter<T: IntoIterator<Item = (&'static str, &'static str)>>(variables: T) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { variables, home: None }
    }
}

#[cfg(test)]
impl Environment {
    pub(super) fn with_home(self, home: &std::path::Path) -> Self {
        Self { home: Some(home.into()), ..self }
    }
}
