//! MLflow tracking servers: runs, losses and checkpoints come from them; reports, series, tags and a word in the
//! description go back, where people look.
//!
//! Nothing pushes: the server is asked what has changed, with the few filters that it has. Every request is listed in
//! `docs/mlflow.md` with its purpose. What the interface promises and what servers really do was measured on versions
//! 2.22 to 3.18; where an older server lacks a route, the next best is taken.

mod files;
mod post;
mod store;
mod wire;

pub use store::MlflowStore;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::json;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use self::files::Listings;
use self::wire::{Experiment, Metric, Page, Run, ServerInfo};
use super::http::{Client, HttpError, Repeat};
use super::names::{LOSS_NAMES, matches_glob};
use super::tracker::{News, Reach, RunStatus, TrackedRun, TrackerError};
use crate::config::MlflowPlan;

/// Where the REST interface begins.
const API: &str = "api/2.0/mlflow";

/// Tag of runs that this program makes: they are not watched.
const ROLE: &str = "doodl3.role";

/// The tag with which Lightning's and Keras' callback tells that it wrote a checkpoint.
const LATEST_CHECKPOINT: &str = "mlflow.latest_checkpoint_artifact";

/// Runs in a page.
const PAGE: usize = 500;
/// Points of a metric in a page.
const HISTORY_PAGE: usize = 5_000;
/// Most points that an interval gives; where it holds more they are thinned out.
const INTERVAL: usize = 2_500;
/// Most experiments that one search names.
const EXPERIMENTS: usize = 100;
/// How long the list of experiments is believed.
const EXPERIMENTS_KEPT: Duration = Duration::from_secs(15);
/// Clocks of trainers that differ by less lose no run.
const SLACK_MS: i64 = 600_000;

/// An MLflow server.
#[derive(Clone, Debug)]
pub struct Mlflow {
    client: Client,
    plan: MlflowPlan,
    /// Shared by clones: it is asked once.
    info: Arc<OnceCell<ServerInfo>>,
    /// Experiments by id, and when they were asked for.
    experiments: Option<(Instant, BTreeMap<String, String>)>,
    /// The latest start or end of a run that was seen, in milliseconds since 1970; `None` before the first listing.
    latest_ms: Option<i64>,
    listings: Listings,
}

impl Mlflow {
    /// A server that has not been asked yet.
    ///
    /// # Errors
    /// [`HttpError::Setup`] when a certificate or a header cannot be used.
    pub fn new(plan: &MlflowPlan, url: &Url) -> Result<Self, HttpError> {
        let mut headers = HeaderMap::new();
        if let Some(workspace) = &plan.workspace {
            let value = HeaderValue::from_str(workspace).map_err(|_invalid| HttpError::Setup {
                what: "the workspace's name cannot be sent".into(),
                path: workspace.into(),
            })?;
            headers.insert("x-mlflow-workspace", value);
        }
        let client = Client::new(url.clone(), &plan.watched, headers)?;
        Ok(Self {
            client,
            plan: plan.clone(),
            info: Arc::default(),
            experiments: None,
            latest_ms: None,
            listings: Listings::default(),
        })
    }

    /// Whether credentials travel where others can read them.
    pub(super) fn exposes_credentials(&self) -> bool {
        self.client.exposes_credentials()
    }

    /// Asks what `doodl3 check` tells.
    ///
    /// # Errors
    /// [`TrackerError`].
    pub(super) async fn reach(&mut self) -> Result<Reach, TrackerError> {
        let version = self.client.text("version").await?;
        let experiments = self.experiments().await?;
        let ids: Vec<&str> = experiments.keys().map(String::as_str).collect();
        let runs = self.search(&ids, None).await?.len();
        Ok(Reach {
            what: format!("MLflow {}", version.trim()),
            experiments: experiments.into_values().collect(),
            runs,
        })
    }

    /// Whether series, tags and artifacts may be written, tried with a request that changes nothing: the name of the
    /// experiment of the run that was tried, `None` where there is no run yet.
    ///
    /// # Errors
    /// [`TrackerError`], such as a refusal for want of a permission.
    pub(super) async fn may_write(&mut self) -> Result<Option<String>, TrackerError> {
        let experiments = self.experiments().await?;
        for (id, name) in &experiments {
            let body = json!({ "experiment_ids": [id], "max_results": 1 });
            let page: Page<Run> =
                self.client.post(&format!("{API}/runs/search"), &body, Repeat::Freely).await?;
            if let Some(run) = page.items.first() {
                let nothing = json!({ "run_id": run.info.run_id });
                let _: serde_json::Value =
                    self.client.post(&format!("{API}/runs/log-batch"), &nothing, Repeat::Freely).await?;
                return Ok(Some(format!("experiment {name}")));
            }
        }
        Ok(None)
    }

    /// Runs that may have changed since the last call: those that run, and those that began or ended since. Filters know
    /// neither OR nor the time of a change, so these are three searches.
    pub(super) async fn changed_runs(&mut self) -> Result<Vec<TrackedRun>, TrackerError> {
        let experiments = self.experiments().await?;
        let ids: Vec<&str> = experiments.keys().map(String::as_str).collect();
        let runs = match self.latest_ms {
            None => self.search(&ids, None).await?,
            Some(latest) => {
                let since = latest - SLACK_MS;
                let mut runs = self.search(&ids, Some("attributes.status = 'RUNNING'")).await?;
                for field in ["start_time", "end_time"] {
                    runs.extend(self.search(&ids, Some(&format!("attributes.{field} > {since}"))).await?);
                }
                runs
            }
        };
        let times = runs.iter().flat_map(|run| [Some(run.info.start_time), run.info.end_time]).flatten();
        let latest = times.chain(self.latest_ms).max().unwrap_or(0);
        let mut seen = BTreeSet::new();
        let changed = runs
            .into_iter()
            .filter(|run| run.info.lifecycle_stage != "deleted" && run.data.tag(ROLE).is_none())
            .filter(|run| seen.insert(run.info.run_id.clone()))
            .map(|run| tracked(&self.plan, &run, &experiments))
            .collect();
        self.latest_ms = Some(latest);
        Ok(changed)
    }

    /// Losses since a step, and the files that may be checkpoints.
    pub(super) async fn news(&mut self, run: &TrackedRun, seen: Option<u64>) -> Result<News, TrackerError> {
        let losses = match &run.loss {
            Some(key) => self.losses(&run.key, key, seen).await?,
            None => Vec::new(),
        };
        let files = self.files(run).await?;
        if run.status == RunStatus::Ended {
            self.listings.forget(&run.key);
        }
        Ok(News { files, losses })
    }

    /// The experiments that the configuration names, by id.
    async fn experiments(&mut self) -> Result<BTreeMap<String, String>, TrackerError> {
        if let Some((asked, experiments)) = &self.experiments
            && asked.elapsed() < EXPERIMENTS_KEPT
            && !experiments.is_empty()
        {
            return Ok(experiments.clone());
        }
        let body = |token: Option<String>| json!({ "max_results": 1000, "page_token": token, "view_type": "ACTIVE_ONLY" });
        let all: Vec<Experiment> = self.pages("experiments/search", body).await?;
        let wanted = |experiment: &Experiment| {
            let fits = |pattern: &String| {
                *pattern == experiment.experiment_id || matches_glob(pattern, &experiment.name)
            };
            self.plan.experiments.iter().any(fits)
        };
        let experiments: BTreeMap<String, String> =
            all.into_iter().filter(wanted).map(|e| (e.experiment_id, e.name)).collect();
        self.experiments = Some((Instant::now(), experiments.clone()));
        Ok(experiments)
    }

    /// The runs of experiments that fit a condition, beside the configuration's own, oldest first.
    async fn search(&self, experiments: &[&str], condition: Option<&str>) -> Result<Vec<Run>, TrackerError> {
        let conditions: Vec<&str> = self.plan.filter.as_deref().into_iter().chain(condition).collect();
        let filter = conditions.join(" AND ");
        let mut runs = Vec::new();
        for experiments in experiments.chunks(EXPERIMENTS) {
            let body = |token: Option<String>| {
                json!({
                    "experiment_ids": experiments,
                    "filter": filter,
                    "max_results": PAGE,
                    "order_by": ["attributes.start_time ASC"],
                    "page_token": token,
                })
            };
            runs.extend(self.pages("runs/search", body).await?);
        }
        Ok(runs)
    }

    /// All pages of a search.
    async fn pages<T: serde::de::DeserializeOwned>(
        &self,
        route: &str,
        body: impl Fn(Option<String>) -> serde_json::Value,
    ) -> Result<Vec<T>, TrackerError> {
        let (mut items, mut token) = (Vec::new(), None);
        loop {
            let page: Page<T> =
                self.client.post(&format!("{API}/{route}"), &body(token), Repeat::Freely).await?;
            items.extend(page.items);
            token = page.next_page_token.filter(|token| !token.is_empty());
            if token.is_none() {
                return Ok(items);
            }
        }
    }

    /// The points of a metric after a step, by step; all of them where none is known.
    async fn losses(&self, run: &str, key: &str, seen: Option<u64>) -> Result<Vec<(u64, f64)>, TrackerError> {
        let mut points = match seen {
            Some(seen) => {
                let start = (seen + 1).to_string();
                let query = [
                    ("run_ids", run),
                    ("metric_key", key),
                    ("start_step", &start),
                    // The greatest that JavaScript's numbers hold, with which servers were tried.
                    ("end_step", "9007199254740991"),
                ];
                let path = format!("{API}/metrics/get-history-bulk-interval");
                let page: Page<Metric> = self.client.get(&path, &query).await?;
                page.items
            }
            None => Vec::new(),
        };
        if seen.is_none() || points.len() >= INTERVAL {
            points = self.history(run, key).await?;
        }
        let mut losses: Vec<(u64, f64)> = points
            .iter()
            .filter_map(Metric::point)
            .filter(|(step, _)| seen.is_none_or(|seen| *step > seen))
            .collect();
        losses.sort_by_key(|(step, _)| *step);
        Ok(losses)
    }

    /// All points of a metric, page by page: a server with one worker stands still while it writes a long answer.
    async fn history(&self, run: &str, key: &str) -> Result<Vec<Metric>, TrackerError> {
        let (mut points, mut token) = (Vec::new(), String::new());
        let size = HISTORY_PAGE.to_string();
        loop {
            let mut query = vec![("run_id", run), ("metric_key", key), ("max_results", &size)];
            if !token.is_empty() {
                query.push(("page_token", &token));
            }
            let page: Page<Metric> = self.client.get(&format!("{API}/metrics/get-history"), &query).await?;
            points.extend(page.items);
            match page.next_page_token.filter(|token| !token.is_empty()) {
                Some(next) => token = next,
                None => return Ok(points),
            }
        }
    }

    /// What the server can do. Servers before 3.9 do not say.
    async fn info(&self) -> Result<&ServerInfo, TrackerError> {
        let ask = || async {
            match self.client.get("api/3.0/mlflow/server-info", &()).await {
                Ok(info) => Ok(info),
                Err(error) if matches!(error.status(), Some(404 | 405)) => Ok(ServerInfo::default()),
                Err(error) => Err(error.into()),
            }
        };
        self.info.get_or_try_init(ask).await
    }
}

/// A run as the agent knows it.
fn tracked(plan: &MlflowPlan, run: &Run, experiments: &BTreeMap<String, String>) -> TrackedRun {
    let Run { info, data, outputs } = run;
    let ours = |metric: &&Metric| metric.key.starts_with("doodl3/");
    let metrics: Vec<&Metric> = data.metrics.iter().filter(|metric| !ours(metric)).collect();
    let logs = |name: &str| metrics.iter().any(|metric| metric.key == name);
    let loss = match &plan.watched.loss {
        Some(name) => logs(name).then(|| name.clone()),
        None => LOSS_NAMES.into_iter().find(|name| logs(name)).map(str::to_owned),
    };
    let newest_ms = metrics.iter().map(|metric| metric.timestamp).max();
    let status = match info.status.as_str() {
        "RUNNING" | "SCHEDULED" => {
            let last_ms = newest_ms.unwrap_or(info.start_time).max(info.start_time);
            let silent = now_ms().saturating_sub(last_ms).max(0) as u64;
            let stale = Duration::from_millis(silent) > plan.watched.stale_after;
            if stale { RunStatus::Stale } else { RunStatus::Running }
        }
        _ => RunStatus::Ended,
    };
    let last_step = metrics.iter().map(|metric| metric.step).max();
    let models: Vec<(String, u64)> = outputs
        .model_outputs
        .iter()
        .filter_map(|output| Some((output.model_id.clone(), u64::try_from(output.step).ok()?)))
        .collect();
    let latest = data.tag(LATEST_CHECKPOINT);
    let token = format!(
        "{} {:?} {} {newest_ms:?} {last_step:?} {} {latest:?}",
        info.status,
        info.end_time,
        metrics.len(),
        models.len()
    );
    let experiment = experiments.get(&info.experiment_id);
    TrackedRun {
        key: info.run_id.clone(),
        name: if info.run_name.is_empty() { info.run_id.clone() } else { info.run_name.clone() },
        experiment_key: info.experiment_id.clone(),
        experiment: experiment.unwrap_or(&info.experiment_id).clone(),
        status,
        artifacts: info.artifact_uri.clone(),
        token,
        loss,
        models,
        last_sign_s: None,
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}
