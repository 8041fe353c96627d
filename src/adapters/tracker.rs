//! Experiment trackers: what the agent asks of them, whichever it is.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::http::HttpError;
use super::mlflow::{Mlflow, MlflowStore};
use super::wandb::{Wandb, WandbFolder};
use crate::alert::Severity;
use crate::artifact::Artifact;
use crate::config::{MlflowPlace, SourcePlan, TrackerPlan, WandbPlace};

/// A run as its tracker tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackedRun {
    /// The tracker's own id of the run.
    pub key: String,
    /// Its name there, which may not be unique.
    pub name: String,
    /// The tracker's own id of the experiment.
    pub experiment_key: String,
    /// The experiment's name.
    pub experiment: String,
    /// Whether it goes on.
    pub status: RunStatus,
    /// Where its artifacts are, in the tracker's terms.
    pub artifacts: String,
    /// Changes when there may be something new: equal tokens, nothing to look for.
    pub token: String,
    /// The metric that is its training loss, once it has logged one.
    pub loss: Option<String>,
    /// Models that it has logged beside its artifacts, each with its step.
    pub models: Vec<(String, u64)>,
    /// When it gave its last sign of life, in seconds since 1970, where the tracker tells.
    #[serde(default)]
    pub last_sign_s: Option<i64>,
}

/// Whether a run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// It does.
    Running,
    /// It says so, but has been silent for long: the process is probably dead.
    Stale,
    /// It has ended, one way or another.
    Ended,
}

/// A file of a run that may be a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its path, unique among the files of the run.
    pub path: String,
    /// Its size in bytes, as it is listed.
    pub size: u64,
    /// Changes with its content where its name stays.
    pub version: u64,
    /// The step, as the tracker tells it.
    pub step: Option<u64>,
}

/// What is new in a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct News {
    /// All files that may be checkpoints.
    pub files: Vec<RemoteFile>,
    /// Losses since the step that was asked for: (step, value), NaN for what is not finite.
    pub losses: Vec<(u64, f64)>,
}

/// What a run is told of itself.
#[derive(Clone, Debug, Default)]
pub struct Post {
    /// Files below `doodl3/`, all of them.
    pub artifacts: Vec<Part<Artifact>>,
    /// Tags, all of them; those without a value are removed.
    pub tags: Vec<Part<(String, Option<String>)>>,
    /// Markdown for the run's description, where it is new. `{artifacts}` stands for the address of the folder of artifacts,
    /// `{page}` for that of the page that shows them.
    pub description: Option<String>,
    /// New points of series, at the checkpoints' steps.
    pub series: Vec<Point>,
    /// The latest point of each series, new or not.
    pub latest: Vec<Point>,
    /// New pictures over the steps.
    pub images: Vec<Image>,
    /// The last checkpoint that is told of: its step, and when it was written in milliseconds since 1970.
    pub at: Option<(u64, i64)>,
    /// Rows that were sent before, where a tracker keeps the history of a run in numbered rows.
    pub rows_before: u64,
    /// Paths of the checkpoints that are new among those it tells of.
    pub used: Vec<String>,
}

/// A part of a post that replaces what was sent before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<T> {
    /// As it is now.
    pub content: T,
    /// Whether it differs from what was sent.
    pub new: bool,
}

impl Post {
    /// The files that differ from what was sent.
    pub fn new_artifacts(&self) -> impl Iterator<Item = &Artifact> {
        self.artifacts.iter().filter(|part| part.new).map(|part| &part.content)
    }

    /// The tags that differ from what was sent.
    pub fn new_tags(&self) -> impl Iterator<Item = &(String, Option<String>)> {
        self.tags.iter().filter(|part| part.new).map(|part| &part.content)
    }

    /// The steps of the rows that it adds to a history of numbered rows: those of new points, and the last checkpoint's
    /// where a file is new.
    pub fn row_steps(&self) -> std::collections::BTreeSet<u64> {
        let at = self.at.filter(|_| self.new_artifacts().next().is_some());
        self.series.iter().map(|point| point.step).chain(at.map(|(step, _)| step)).collect()
    }
}

/// What a tracker is asked to tell people at once, by whatever way they have chosen there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// In a few words.
    pub title: String,
    /// All of it.
    pub text: String,
    /// How urgent it is.
    pub severity: Severity,
}

/// What `doodl3 check` tells of a tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// What answers, such as `MLflow 3.17.2`.
    pub what: String,
    /// Names of the experiments that are watched.
    pub experiments: Vec<String>,
    /// Number of their runs.
    pub runs: usize,
}

/// A picture of one step, in a series of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The series.
    pub name: String,
    /// The step.
    pub step: u64,
    /// When the checkpoint was written, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The picture.
    pub png: Vec<u8>,
    /// Whether it is the first of its series.
    pub first: bool,
}

/// A run that this program makes, and finds again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnRun {
    /// The experiment in which it is.
    pub experiment_key: String,
    /// What it is for: `experiment` or `run`.
    pub role: &'static str,
    /// The group or the run that it tells of.
    pub of: String,
    /// Its name.
    pub name: String,
    /// The run of which it is a child.
    pub parent: Option<String>,
}

/// A value of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The series, such as `doodl3/instability`.
    pub key: String,
    /// The step.
    pub step: u64,
    /// When the checkpoint was written, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The value, finite.
    pub value: f64,
}

/// Why a tracker cannot do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum TrackerError {
    /// Asking failed.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The run is gone.
    #[error("the run is deleted")]
    Gone,
    /// What was sent did not arrive where it can be seen.
    #[error("{0}")]
    Lost(String),
    /// The server says no, in words only.
    #[error("{what} was answered with: {message}")]
    Refused {
        /// The request.
        what: String,
        /// What it says.
        message: String,
    },
    /// The key is not known.
    #[error("{host} does not know the key")]
    UnknownKey {
        /// The server.
        host: String,
    },
}

impl TrackerError {
    /// Whether waiting may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Http(error) => error.is_transient(),
            Self::Refused { message, .. } => {
                says(message, &["rate limit", "timeout", "timed out", "internal server error"])
            }
            Self::Gone | Self::Lost(_) | Self::UnknownKey { .. } => false,
        }
    }

    /// Whether we may not do it.
    pub fn is_forbidden(&self) -> bool {
        match self {
            Self::Http(error) => matches!(error.status(), Some(401 | 403)),
            Self::Refused { message, .. } => {
                says(message, &["permission", "not authorized", "unauthorized", "forbidden"])
            }
            Self::UnknownKey { .. } => true,
            Self::Gone | Self::Lost(_) => false,
        }
    }

    /// What it says, with what to do.
    pub fn explained(&self) -> String {
        self.hint().map_or_else(|| self.to_string(), |hint| format!("{self} (hint: {hint})"))
    }

    /// What to do, where there is something to say.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Http(error) => error.hint(),
            Self::Refused { .. } if self.is_forbidden() => {
                Some("give the key's owner the right to do it, or name another key")
            }
            Self::UnknownKey { .. } => Some("check the key, and that it belongs to this server"),
            Self::Gone | Self::Lost(_) | Self::Refused { .. } => None,
        }
    }
}

/// Whether a message holds one of some words, in whatever case.
fn says(message: &str, words: &[&str]) -> bool {
    let message = message.to_ascii_lowercase();
    words.iter().any(|word| message.contains(word))
}

/// A tracker. Clones share its pace, each remembers for itself what it has seen.
#[derive(Clone, Debug)]
pub enum Tracker {
    /// An MLflow server.
    Mlflow(Box<Mlflow>),
    /// A store of MLflow's on this machine.
    MlflowStore(Box<MlflowStore>),
    /// A W&B server.
    Wandb(Box<Wandb>),
    /// A folder of this machine with logs of W&B's runs.
    WandbFolder(Box<WandbFolder>),
}

impl Tracker {
    /// The tracker of a source; `None` for a directory.
    ///
    /// # Errors
    /// [`TrackerError`] when a certificate cannot be read.
    pub fn of(plan: &SourcePlan) -> Result<Option<Self>, TrackerError> {
        match plan {
            SourcePlan::Directory(_) => Ok(None),
            SourcePlan::Tracker(plan) => Self::new(plan).map(Some),
        }
    }

    /// A tracker that has not been asked yet.
    ///
    /// # Errors
    /// [`TrackerError`] when a certificate cannot be read.
    pub fn new(plan: &TrackerPlan) -> Result<Self, TrackerError> {
        Ok(match plan {
            TrackerPlan::Mlflow(plan) => match &plan.place {
                MlflowPlace::Server(url) => Self::Mlflow(Box::new(Mlflow::new(plan, url)?)),
                MlflowPlace::Database(_) | MlflowPlace::Folder(_) => {
                    Self::MlflowStore(Box::new(MlflowStore::new(plan)))
                }
            },
            TrackerPlan::Wandb(plan) => match &plan.place {
                WandbPlace::Server(url) => Self::Wandb(Box::new(Wandb::new(plan, url)?)),
                WandbPlace::Folder(folder) => Self::WandbFolder(Box::new(WandbFolder::new(plan, folder))),
            },
        })
    }

    /// Whether credentials travel where others can read them.
    pub fn exposes_credentials(&self) -> bool {
        match self {
            Self::Mlflow(mlflow) => mlflow.exposes_credentials(),
            Self::Wandb(wandb) => wandb.exposes_credentials(),
            Self::MlflowStore(_) | Self::WandbFolder(_) => false,
        }
    }

    /// Asks what `doodl3 check` tells.
    ///
    /// # Errors
    /// [`TrackerError`].
    pub async fn reach(&mut self) -> Result<Reach, TrackerError> {
        match self {
            Self::Mlflow(mlflow) => mlflow.reach().await,
            Self::MlflowStore(store) => store.reach().await,
            Self::Wandb(wandb) => wandb.reach().await,
            Self::WandbFolder(folder) => folder.reach().await,
        }
    }

    /// Whether reports can be posted, tried where nothing is left behind: where to; `None` where there is nothing to try
    /// it on.
    ///
    /// # Errors
    /// [`TrackerError`], such as a refusal for want of a permission.
    pub async fn may_write(&mut self) -> Result<Option<String>, TrackerError> {
        match self {
            Self::Mlflow(mlflow) => mlflow.may_write().await,
            Self::Wandb(wandb) => wandb.may_write().await,
            Self::MlflowStore(_) | Self::WandbFolder(_) => Ok(None),
        }
    }

    /// The runs in which something may have changed since this was last called; at first all of them.
    ///
    /// # Errors
    /// [`TrackerError`]; then the next call tells what this one would have told.
    pub async fn runs(&mut self) -> Result<Vec<TrackedRun>, TrackerError> {
        match self {
            Self::Mlflow(mlflow) => mlflow.changed_runs().await,
            Self::MlflowStore(store) => store.runs().await,
            Self::Wandb(wandb) => wandb.changed_runs().await,
            Self::WandbFolder(folder) => folder.runs().await,
        }
    }

    /// What is new in a run, where losses up to the step `seen` are known.
    ///
    /// # Errors
    /// [`TrackerError`].
    pub async fn news(&mut self, run: &TrackedRun, seen: Option<u64>) -> Result<News, TrackerError> {
        match self {
            Self::Mlflow(mlflow) => mlflow.news(run, seen).await,
            Self::MlflowStore(store) => store.news(run, seen).await,
            Self::Wandb(wandb) => wandb.news(run, seen).await,
            Self::WandbFolder(folder) => folder.news(run, seen).await,
        }
    }

    /// Downloads a file of a run.
    ///
    /// # Errors
    /// [`TrackerError`].
    pub async fn download(
        &mut self,
        run: &TrackedRun,
        path: &str,
        size: Option<u64>,
        to: &Path,
    ) -> Result<(), TrackerError> {
        match self {
            Self::Mlflow(mlflow) => mlflow.download(run, path, size, to).await.map(drop),
            Self::MlflowStore(store) => store.download(run, path, to).await,
            Self::Wandb(wandb) => wandb.download(run, path, size, to).await,
            Self::WandbFolder(folder) => folder.download(run, path, to).await,
        }
    }

    /// Posts to a run.
    ///
    /// # Errors
    /// [`TrackerError`]; what was posted before it stays, and posting all of it again is harmless.
    pub async fn post(&mut self, run: &TrackedRun, post: &Post) -> Result<(), TrackerError> {
        match self {
            Self::Mlflow(mlflow) => mlflow.post(run, post).await,
            Self::MlflowStore(store) => store.post(run, post).await,
            Self::Wandb(wandb) => wandb.post(run, post).await,
            Self::WandbFolder(folder) => folder.post(run, post).await,
        }
    }

    /// Whether the tracker tells people of what is urgent.
    pub fn gives_notice(&self) -> bool {
        matches!(self, Self::Wandb(_))
    }

    /// Has the tracker tell people at once, where it does.
    ///
    /// # Errors
    /// [`TrackerError`].
    pub async fn notify(&mut self, run: &TrackedRun, notice: &Notice) -> Result<(), TrackerError> {
        match self {
            Self::Wandb(wandb) => wandb.notify(run, notice).await,
            Self::Mlflow(_) | Self::MlflowStore(_) | Self::WandbFolder(_) => Ok(()),
        }
    }

    /// A run of our own, made where it is not there; `None` where none can be made, or the tracker does so by itself.
    ///
    /// # Errors
    /// [`TrackerError`].
    pub async fn own_run(&mut self, own: &OwnRun) -> Result<Option<TrackedRun>, TrackerError> {
        match self {
            Self::Mlflow(mlflow) => mlflow.own_run(own).await.map(Some),
            Self::Wandb(_) => Ok(Wandb::own_run(own)),
            Self::MlflowStore(_) | Self::WandbFolder(_) => Ok(None),
        }
    }
}
