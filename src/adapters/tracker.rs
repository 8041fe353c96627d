//! Experiment trackers: what the agent asks of them, whichever it is.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::http::HttpError;
use super::mlflow::{Mlflow, MlflowStore};
use crate::artifact::Artifact;
use crate::config::{MlflowPlace, SourcePlan};

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
    /// Files below `doodl3/`.
    pub artifacts: Vec<Artifact>,
    /// Tags to set; those without a value are removed.
    pub tags: Vec<(String, Option<String>)>,
    /// Markdown for the run's description. `{artifacts}` stands for the address of the folder of artifacts, `{page}` for that of
    /// the page that shows them.
    pub description: Option<String>,
    /// Series at the checkpoints' steps.
    pub series: Vec<Point>,
    /// Pictures over the steps.
    pub images: Vec<Image>,
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
}

impl TrackerError {
    /// Whether waiting may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Http(error) if error.is_transient())
    }

    /// Whether we may not do it.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Http(error) if matches!(error.status(), Some(401 | 403)))
    }

    /// What it says, with what to do.
    pub fn explained(&self) -> String {
        self.hint().map_or_else(|| self.to_string(), |hint| format!("{self} (hint: {hint})"))
    }

    /// What to do, where there is something to say.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Http(error) => error.hint(),
            Self::Gone | Self::Lost(_) => None,
        }
    }
}

/// A tracker. Clones share its pace, each remembers for itself what it has seen.
#[derive(Clone, Debug)]
pub enum Tracker {
    /// An MLflow server.
    Mlflow(Box<Mlflow>),
    /// A store of MLflow's on this machine.
    MlflowStore(Box<MlflowStore>),
}

impl Tracker {
    /// The tracker of a source; `None` for a directory.
    ///
    /// # Errors
    /// [`TrackerError`] when a certificate cannot be read.
    pub fn of(plan: &SourcePlan) -> Result<Option<Self>, TrackerError> {
        Ok(match plan {
            SourcePlan::Directory(_) => None,
            SourcePlan::Mlflow(plan) => Some(match &plan.place {
                MlflowPlace::Server(url) => Self::Mlflow(Box::new(Mlflow::new(plan, url)?)),
                MlflowPlace::Database(_) | MlflowPlace::Folder(_) => {
                    Self::MlflowStore(Box::new(MlflowStore::new(plan)))
                }
            }),
        })
    }

    /// Whether credentials travel where others can read them.
    pub fn exposes_credentials(&self) -> bool {
        match self {
            Self::Mlflow(mlflow) => mlflow.exposes_credentials(),
            Self::MlflowStore(_) => false,
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
        }
    }

    /// A run of our own, made where it is not there; `None` where none can be made.
    ///
    /// # Errors
    /// [`TrackerError`].
    pub async fn own_run(&mut self, own: &OwnRun) -> Result<Option<TrackedRun>, TrackerError> {
        match self {
            Self::Mlflow(mlflow) => mlflow.own_run(own).await.map(Some),
            Self::MlflowStore(_) => Ok(None),
        }
    }
}
