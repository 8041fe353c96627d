//! MLflow's own stores on this machine, without a server: a database (`sqlite:///mlflow.db`) or a folder (`mlruns/`).
//!
//! They are only read: who writes into a database beside its owner breaks it one day. Reports are files among a run's
//! artifacts, where the user interface finds them; tags, series and descriptions need a server.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OpenFlags};
use serde::Deserialize;

use super::files::{PASSED_OVER, Route};
use super::tracked;
use super::wire::{Metric, ModelOutput, Outputs, Run, RunData, RunInfo, Tag, as_stored};
use crate::adapters::directory;
use crate::adapters::http::HttpError;
use crate::adapters::names::{first_bytes, matches_glob};
use crate::adapters::tracker::{News, Post, Reach, RemoteFile, TrackedRun, TrackerError};
use crate::checkpoint::is_candidate;
use crate::config::{self, MlflowPlace, MlflowPlan};

/// How long a writer of the database is waited for.
const BUSY: Duration = Duration::from_secs(10);

/// Folders of artifacts that are looked into, one in the other.
const DEPTH: usize = 8;

/// A store on this machine.
#[derive(Clone, Debug)]
pub struct MlflowStore {
    plan: MlflowPlan,
}

/// What a store holds.
#[derive(Debug, Default)]
struct Contents {
    /// Names of experiments by id.
    experiments: BTreeMap<String, String>,
    runs: Vec<Run>,
}

impl MlflowStore {
    /// A store that has not been read yet.
    pub fn new(plan: &MlflowPlan) -> Self {
        Self { plan: plan.clone() }
    }

    /// What `doodl3 check` tells.
    ///
    /// # Errors
    /// [`TrackerError`] when the store cannot be read.
    pub(in crate::adapters) async fn reach(&self) -> Result<Reach, TrackerError> {
        let Contents { experiments, runs } = self.contents().await?;
        let experiments = experiments.into_values().collect();
        Ok(Reach { what: "the store".into(), experiments, runs: runs.len() })
    }

    /// All runs: reading them costs less than asking what has changed.
    pub(in crate::adapters) async fn runs(&self) -> Result<Vec<TrackedRun>, TrackerError> {
        let Contents { experiments, runs } = self.contents().await?;
        Ok(runs.iter().map(|run| tracked(&self.plan, run, &experiments)).collect())
    }

    async fn contents(&self) -> Result<Contents, TrackerError> {
        let plan = self.plan.clone();
        blocking(move || {
            let wanted = |id: &str, name: &str| {
                plan.experiments.iter().any(|pattern| pattern == id || matches_glob(pattern, name))
            };
            let mut contents = match &plan.place {
                MlflowPlace::Database(path) => from_database(path, &wanted)?,
                MlflowPlace::Folder(path) => from_folder(path, &wanted)?,
                MlflowPlace::Server(_) => Contents::default(),
            };
            contents.runs.sort_by_key(|run| run.info.start_time);
            Ok(contents)
        })
        .await
    }

    /// Losses since a step, and the files that may be checkpoints.
    pub(in crate::adapters) async fn news(
        &self,
        run: &TrackedRun,
        seen: Option<u64>,
    ) -> Result<News, TrackerError> {
        let (place, run) = (self.plan.place.clone(), run.clone());
        blocking(move || {
            let mut losses: Vec<(u64, f64)> = match (&run.loss, &place) {
                (Some(key), MlflowPlace::Database(path)) => losses_of_database(path, &run.key, key)?,
                (Some(key), MlflowPlace::Folder(path)) => {
                    let file = path.join(&run.experiment_key).join(&run.key).join("metrics").join(key);
                    history(key, &read(&file)?).filter_map(|metric| metric.point()).collect()
                }
                _ => Vec::new(),
            };
            losses.retain(|(step, _)| seen.is_none_or(|seen| *step > seen));
            losses.sort_by_key(|(step, _)| *step);
            let mut files = Vec::new();
            if let Route::Here(folder) = Route::to(&run.artifacts, "") {
                walk(&folder, &folder, DEPTH, &mut files)?;
            }
            Ok(News { files, losses })
        })
        .await
    }

    /// Copies a file of a run.
    pub(in crate::adapters) async fn download(
        &self,
        run: &TrackedRun,
        path: &str,
        to: &Path,
    ) -> Result<(), TrackerError> {
        let Route::Here(file) = Route::to(&run.artifacts, path) else {
            return Err(TrackerError::Gone);
        };
        let disk = |source| HttpError::Disk { path: file.clone(), source };
        tokio::fs::copy(&file, to).await.map_err(disk)?;
        Ok(())
    }

    /// Puts files among a run's artifacts; what needs a server is left out.
    pub(in crate::adapters) async fn post(&self, run: &TrackedRun, post: &Post) -> Result<(), TrackerError> {
        let Route::Here(folder) = Route::to(&run.artifacts, "doodl3") else {
            return Err(TrackerError::Gone);
        };
        let artifacts: Vec<_> = post.new_artifacts().cloned().collect();
        blocking(move || {
            directory::write(&folder, &artifacts)
                .map_err(|source| TrackerError::from(HttpError::Disk { path: folder.clone(), source }))?;
            Ok(())
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TrackerError> + Send + 'static,
) -> Result<T, TrackerError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        TrackerError::Lost(format!("reading the store failed by a bug in doodl3: {error}"))
    })?
}

fn read(path: &Path) -> Result<String, TrackerError> {
    let read = std::fs::read_to_string(path);
    Ok(read.map_err(|source| HttpError::Disk { path: path.into(), source })?)
}

/// The folders in a folder, by name.
fn folders(path: &Path) -> Result<Vec<PathBuf>, TrackerError> {
    let listed = std::fs::read_dir(path).map_err(|source| HttpError::Disk { path: path.into(), source })?;
    let mut folders: Vec<PathBuf> =
        listed.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    Ok(folders)
}

fn walk(root: &Path, folder: &Path, depth: usize, files: &mut Vec<RemoteFile>) -> Result<(), TrackerError> {
    let listed = match std::fs::read_dir(folder) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(HttpError::Disk { path: folder.into(), source }.into()),
    };
    for entry in listed.flatten() {
        let path = entry.path();
        let Ok(metadata) = path.metadata() else { continue };
        let below = path.strip_prefix(root).unwrap_or(&path);
        if metadata.is_dir() {
            let passed_over = PASSED_OVER.iter().any(|folder| below == Path::new(folder));
            if !passed_over && depth > 0 {
                walk(root, &path, depth - 1, files)?;
            }
        } else if is_candidate(below)
            && let Some(text) = below.to_str()
        {
            let changed = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            files.push(RemoteFile {
                path: text.to_owned(),
                size: metadata.len(),
                version: first_bytes(&format!("{changed:?}")),
                step: None,
            });
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(())
}

fn open(path: &Path) -> Result<Connection, TrackerError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags)
        .and_then(|connection| connection.busy_timeout(BUSY).map(|()| connection))
        .map_err(|error| damaged(path, &error))
}

fn damaged(path: &Path, error: &rusqlite::Error) -> TrackerError {
    HttpError::Setup { what: format!("MLflow's database cannot be read: {error}"), path: path.into() }.into()
}

/// The value of a metric as the database holds it: NaN as a mark.
fn value(number: f64, is_nan: bool) -> f64 {
    if is_nan { f64::NAN } else { as_stored(number) }
}

fn from_database(path: &Path, wanted: &dyn Fn(&str, &str) -> bool) -> Result<Contents, TrackerError> {
    let connection = open(path)?;
    let read = || -> rusqlite::Result<Contents> {
        let mut experiments = BTreeMap::new();
        let mut statement = connection.prepare(
            "SELECT CAST(experiment_id AS TEXT), name FROM experiments WHERE lifecycle_stage = 'active'",
        )?;
        for row in statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))? {
            let (id, name) = row?;
            if wanted(&id, &name) {
                experiments.insert(id, name);
            }
        }
        let mut statement = connection.prepare(
            "SELECT run_uuid, CAST(experiment_id AS TEXT), coalesce(name, ''), coalesce(status, ''),
                coalesce(start_time, 0), end_time, coalesce(artifact_uri, '') FROM runs
            WHERE lifecycle_stage = 'active'",
        )?;
        let infos = statement.query_map([], |row| {
            Ok(RunInfo {
                run_id: row.get(0)?,
                experiment_id: row.get(1)?,
                run_name: row.get(2)?,
                status: row.get(3)?,
                start_time: row.get(4)?,
                end_time: row.get(5)?,
                artifact_uri: row.get(6)?,
                lifecycle_stage: "active".into(),
            })
        })?;
        let mut runs = Vec::new();
        for info in infos {
            let info = info?;
            if experiments.contains_key(&info.experiment_id) {
                let data = data_of_database(&connection, &info.run_id)?;
                runs.push(Run { info, data, outputs: Outputs::default() });
            }
        }
        Ok(Contents { experiments, runs })
    };
    read().map_err(|error| damaged(path, &error))
}

fn data_of_database(connection: &Connection, run: &str) -> rusqlite::Result<RunData> {
    let sql = "SELECT key, value, timestamp, step, is_nan FROM latest_metrics WHERE run_uuid = ?1";
    let metrics = connection
        .prepare_cached(sql)?
        .query_map([run], |row| {
            Ok(Metric {
                key: row.get(0)?,
                value: value(row.get(1)?, row.get(4)?),
                timestamp: row.get::<_, Option<i64>>(2)?.unwrap_or(0),
                step: row.get(3)?,
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    let tags = connection
        .prepare_cached("SELECT key, coalesce(value, '') FROM tags WHERE run_uuid = ?1")?
        .query_map([run], |row| Ok(Tag { key: row.get(0)?, value: row.get(1)? }))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(RunData { metrics, tags })
}

fn losses_of_database(path: &Path, run: &str, key: &str) -> Result<Vec<(u64, f64)>, TrackerError> {
    let connection = open(path)?;
    let read = || -> rusqlite::Result<Vec<(u64, f64)>> {
        let sql = "SELECT step, value, is_nan FROM metrics WHERE run_uuid = ?1 AND key = ?2 AND step >= 0";
        let mut statement = connection.prepare(sql)?;
        let points = statement.query_map([run, key], |row| {
            let value = value(row.get(1)?, row.get(2)?);
            Ok((row.get::<_, i64>(0)? as u64, if value.is_finite() { value } else { f64::NAN }))
        })?;
        points.collect()
    };
    read().map_err(|error| damaged(path, &error))
}

/// The file that says what an experiment or a run is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Meta {
    name: Option<String>,
    run_name: Option<String>,
    artifact_uri: Option<String>,
    /// 1 running, 2 scheduled, 3 finished, 4 failed, 5 killed.
    status: i64,
    start_time: i64,
    end_time: Option<i64>,
    lifecycle_stage: Option<String>,
}

fn meta(folder: &Path) -> Option<Meta> {
    config::yaml(&std::fs::read_to_string(folder.join("meta.yaml")).ok()?).ok()
}

fn from_folder(root: &Path, wanted: &dyn Fn(&str, &str) -> bool) -> Result<Contents, TrackerError> {
    let mut contents = Contents::default();
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    for folder in folders(root)? {
        // `.trash` and the registry's `models` are no experiments: they have no meta.yaml of one.
        let Some(experiment) = meta(&folder).filter(|_| !name(&folder).starts_with('.')) else { continue };
        let id = name(&folder);
        let called = experiment.name.unwrap_or_else(|| id.clone());
        if experiment.lifecycle_stage.as_deref() == Some("deleted") || !wanted(&id, &called) {
            continue;
        }
        for run in folders(&folder)? {
            let Some(meta) = meta(&run).filter(|meta| meta.lifecycle_stage.as_deref() != Some("deleted"))
            else {
                continue;
            };
            contents.runs.push(Run {
                info: RunInfo {
                    run_id: name(&run),
                    experiment_id: id.clone(),
                    run_name: meta.run_name.unwrap_or_default(),
                    status: if meta.status <= 2 { "RUNNING" } else { "FINISHED" }.into(),
                    start_time: meta.start_time,
                    end_time: meta.end_time,
                    // The folder may have been copied from elsewhere: what lies beside the run counts.
                    artifact_uri: beside(&run, meta.artifact_uri),
                    lifecycle_stage: "active".into(),
                },
                data: RunData {
                    metrics: latest(&run.join("metrics"), &run.join("metrics")),
                    tags: tags(&run),
                },
                outputs: Outputs { model_outputs: Vec::<ModelOutput>::new() },
            });
        }
        contents.experiments.insert(id, called);
    }
    Ok(contents)
}

fn beside(run: &Path, written: Option<String>) -> String {
    let folder = run.join("artifacts");
    match (folder.is_dir(), written) {
        (false, Some(written)) => written,
        _ => folder.display().to_string(),
    }
}

fn tags(run: &Path) -> Vec<Tag> {
    let listed = std::fs::read_dir(run.join("tags")).into_iter().flatten().flatten();
    let tag = |entry: std::fs::DirEntry| {
        let value = std::fs::read_to_string(entry.path()).ok()?;
        Some(Tag { key: entry.file_name().into_string().ok()?, value })
    };
    listed.filter_map(tag).collect()
}

/// The last point of each metric: a file for each, those with a slash in their name in folders.
fn latest(root: &Path, folder: &Path) -> Vec<Metric> {
    let mut metrics = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            metrics.extend(latest(root, &path));
        } else if let (Some(key), Ok(text)) =
            (path.strip_prefix(root).ok().and_then(Path::to_str), std::fs::read_to_string(&path))
        {
            metrics.extend(history(key, &text).last());
        }
    }
    metrics
}

/// The points in a metric's file: `timestamp value step` a line; a torn last line is left for the next time.
fn history<'t>(key: &'t str, text: &'t str) -> impl Iterator<Item = Metric> + 't {
    text.split_inclusive('\n').filter(|line| line.ends_with('\n')).filter_map(move |line| {
        let mut fields = line.split_whitespace();
        let (timestamp, value) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let step = fields.next().map_or(Some(0), |step| step.parse().ok())?;
        Some(Metric { key: key.to_owned(), value, timestamp, step })
    })
}
