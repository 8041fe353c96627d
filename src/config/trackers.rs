//! Trackers as sources and as sinks: what is written, and what is true.

mod mlflow;
mod wandb;

pub use mlflow::{MlflowPlace, MlflowPlan, MlflowSource};
pub(super) use wandb::SAME_SERVICE;
pub use wandb::{WandbPlace, WandbPlan, WandbSource};

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::environment::Environment;
use super::validate::Problems;
use crate::alert::Severity;
use crate::checkpoint::Pattern;

/// A secret, which never stands in the configuration itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Secret {
    /// The environment variable that holds it.
    Env(String),
    /// The file that holds it; white space around it does not count.
    File(PathBuf),
}

/// Back to where the runs came from: each run of a tracker gets its report, pictures, series, tags and a word in its
/// description; each experiment a run of its own with the whole. Runs of directories are not concerned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrackerSink {
    /// Into the run itself, or into a child of it.
    pub post_to: PostTo,
    /// Whether the run's description gets a block with the picture and the verdict.
    pub description: bool,
    /// Whether `doodl3/…` series and the phase portrait are logged at the checkpoints' steps.
    pub series: bool,
    /// Whether each experiment gets a run of its own with the whole analysis.
    pub experiment_run: bool,
    /// The least urgent alerts that the tracker sends to people, where it can (Weights & Biases); `null` for none.
    pub alerts: Option<Severity>,
}

impl Default for TrackerSink {
    fn default() -> Self {
        Self {
            post_to: PostTo::Run,
            description: true,
            series: true,
            experiment_run: true,
            alerts: Some(Severity::Warning),
        }
    }
}

/// Where what is told of a run goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PostTo {
    /// Into the run itself, where people look.
    #[default]
    Run,
    /// Into a child run, so that the run itself is left alone.
    Child,
}

/// How to sign in to a tracker. Never shown: `Debug` hides the secrets.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// Not at all.
    None,
    /// With user and password.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: SecretString,
    },
    /// With a token.
    Bearer(SecretString),
}

/// Whom to trust.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM file with certificates to trust.
    pub certificates: Option<PathBuf>,
    /// PEM file with a client's certificate and key.
    pub client_certificate: Option<PathBuf>,
    /// Whether any certificate is accepted.
    pub insecure: bool,
}

/// A tracker that has been checked.
#[derive(Clone, Debug)]
pub enum TrackerPlan {
    /// MLflow.
    Mlflow(MlflowPlan),
    /// Weights & Biases.
    Wandb(WandbPlan),
}

impl TrackerPlan {
    /// What is said of any tracker.
    pub fn watched(&self) -> &Watched {
        match self {
            Self::Mlflow(plan) => &plan.watched,
            Self::Wandb(plan) => &plan.watched,
        }
    }

    /// Where it is, without credentials.
    pub fn place(&self) -> &dyn fmt::Display {
        match self {
            Self::Mlflow(plan) => &plan.place,
            Self::Wandb(plan) => &plan.place,
        }
    }
}

/// What is said of any tracker.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Its name, unique among the sources.
    pub name: String,
    /// Which artifacts are checkpoints, and their steps.
    pub pattern: Pattern,
    /// The metric that is the training loss; `None`: found by its name.
    pub loss: Option<String>,
    /// How to sign in.
    pub credentials: Credentials,
    /// Whom to trust.
    pub tls: Tls,
    /// How often it is asked what is new.
    pub poll_every: Duration,
    /// Most requests in a second.
    pub requests_per_second: f64,
    /// After this long without a sign of life a running run is taken to be dead.
    pub stale_after: Duration,
}

impl Watched {
    /// Checks what is wrong whatever the tracker.
    fn check(&self, place: &str, names: &mut BTreeSet<String>, problems: &mut Problems) {
        super::validate::unique(&self.name, place, names, problems);
        if self.poll_every.is_zero() {
            problems.add(
                &format!("{place}.poll_every"),
                "asking every 0 seconds would never rest",
                "write a duration such as `30s`",
            );
        }
        if !(self.requests_per_second > 0.0 && self.requests_per_second.is_finite()) {
            problems.add(
                &format!("{place}.requests_per_second"),
                format!("{} is no number of requests", self.requests_per_second),
                "write a positive number, such as 10",
            );
        }
    }
}

/// The address of a server, whose path ends with `/`, and the user and password that stood in it; `None` where the text
/// is no such address.
fn server(text: &str) -> Option<(Url, Option<(String, SecretString)>)> {
    let mut url =
        Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())?;
    let username = url.username().to_owned();
    let signed_in = url.password().map(|password| (username, SecretString::from(password.to_owned())));
    // Neither fails for an address with a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Some((url, signed_in))
}

/// A path of this machine, which stands on its own.
fn here(base: &Path, path: &Path) -> PathBuf {
    let path = base.join(path);
    std::path::absolute(&path).unwrap_or(path)
}

impl Secret {
    fn read(
        &self,
        place: &str,
        base: &Path,
        environment: &Environment,
        problems: &mut Problems,
    ) -> Option<SecretString> {
        let found = match self {
            Self::Env(name) => {
                environment.get(name).ok_or_else(|| (format!("{name} is not set"), "set the variable"))
            }
            Self::File(path) => std::fs::read_to_string(base.join(path))
                .map(|text| text.trim().to_owned())
                .map_err(|error| (format!("{error}: {}", path.display()), "name a file that can be read")),
        };
        match found {
            Ok(text) if text.is_empty() => {
                problems.add(place, "the secret is empty", "put the secret where the configuration says");
                None
            }
            Ok(text) => Some(text.into()),
            Err((what, hint)) => {
                problems.add(place, what, hint);
                None
            }
        }
    }
}
