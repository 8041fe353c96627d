//! W&B's folder on this machine (`./wandb`), without a server: each run leaves a folder in it, whether it is sent or not.
//!
//! | in `wandb/` | what it is |
//! |---|---|
//! | `run-<time>-<id>/`, `offline-run-<time>-<id>/` | a run, or one of the pieces of a run that was resumed |
//! | `…/run-<id>.wandb` | what it logged, see `log.rs` |
//! | `…/files/` | the files that it saves |
//! | `…/doodl3/` | our reports; of the SDK's own files none is touched |
//!
//! A log is read on from where it was left, so a look at a run costs what is new in it. What was read is kept in memory, and
//! read again from the beginning after a restart. Files of artifacts are those that the SDK keeps until they are sent.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::JOB_TYPE;
use super::log::{self, Artifact, LogError, Missing, Position, Record, Row};
use super::names::{ARTIFACTS, LOSS_NAMES, SAVED, STEP_NAMES, told_step};
use crate::adapters::directory;
use crate::adapters::http::HttpError;
use crate::adapters::names::{first_bytes, matches_glob};
use crate::adapters::tracker::{News, Post, Reach, RemoteFile, RunStatus, TrackedRun, TrackerError};
use crate::checkpoint::is_candidate;
use crate::config::WandbPlan;

/// Beginnings of the names of runs' folders; the time and the id follow.
const FOLDERS: [&str; 2] = ["offline-run-", "run-"];

/// The folder for our reports.
const REPORTS: &str = "doodl3";

/// The project of runs that name none.
const NO_PROJECT: &str = "uncategorized";

/// Folders of saved files that are looked into, one in the other.
const DEPTH: usize = 8;

/// A W&B folder of this machine.
#[derive(Clone, Debug)]
pub struct WandbFolder {
    plan: WandbPlan,
    folder: PathBuf,
    /// What was read of the logs, by folder; shared by clones.
    pieces: Arc<Mutex<BTreeMap<PathBuf, Piece>>>,
}

/// What a log has told so far: a run, or a piece of a resumed one.
#[derive(Debug, Default)]
struct Piece {
    /// The time in the folder's name, by which pieces of a run are in order.
    time: String,
    /// The run's id.
    id: String,
    /// Length of the log, and when it was last written, as of the last reading.
    state: Option<(u64, SystemTime)>,
    position: Position,
    /// Whether anything was read.
    is_begun: bool,
    project: String,
    name: String,
    job_type: String,
    is_ended: bool,
    /// By the names under which the training loss may be logged.
    losses: BTreeMap<String, Series>,
    artifacts: Vec<Logged>,
    /// The step of the last row.
    last_step: Option<u64>,
    /// What was said of a log that cannot be read, so that it is said once.
    trouble: Option<String>,
}

/// Values of a metric: (step, value), NaN for what is not finite.
#[derive(Debug, Default)]
struct Series {
    /// Of rows that tell the trainer's step.
    told: Vec<(u64, f64)>,
    /// Of other rows, by W&B's step.
    counted: Vec<(u64, f64)>,
}

/// An artifact that may hold checkpoints.
#[derive(Debug)]
struct Logged {
    name: String,
    digest: String,
    /// The step that its metadata or its aliases tell.
    told: Option<u64>,
    /// The step of the last row before it.
    after: Option<u64>,
    files: Vec<log::ArtifactFile>,
}

impl WandbFolder {
    /// A folder that has not been read yet.
    pub fn new(plan: &WandbPlan, folder: &Path) -> Self {
        Self { plan: plan.clone(), folder: folder.into(), pieces: Arc::default() }
    }

    /// What `doodl3 check` tells.
    pub(in crate::adapters) async fn reach(&self) -> Result<Reach, TrackerError> {
        let runs = self.runs().await?;
        let projects: BTreeSet<String> = runs.iter().map(|run| run.experiment.clone()).collect();
        Ok(Reach {
            what: "W&B's folder".into(),
            experiments: projects.into_iter().collect(),
            runs: runs.len(),
        })
    }

    /// All runs, oldest first.
    pub(in crate::adapters) async fn runs(&self) -> Result<Vec<TrackedRun>, TrackerError> {
        self.blocking(|folder| {
            folder.read_on()?;
            let pieces = folder.pieces();
            let mut runs: Vec<(&str, TrackedRun)> = Vec::new();
            for (key, parts) in by_run(&pieces) {
                if let Some((_, first)) = parts.first()
                    && let Some(run) = folder.tracked(key, &parts)
                {
                    runs.push((&first.time, run));
                }
            }
            runs.sort_by(|(time, run), (other_time, other)| (time, &run.key).cmp(&(other_time, &other.key)));
            Ok(runs.into_iter().map(|(_, run)| run).collect())
        })
        .await
    }

    /// Losses since a step, and the files that may be checkpoints.
    pub(in crate::adapters) async fn news(
        &self,
        run: &TrackedRun,
        seen: Option<u64>,
    ) -> Result<News, TrackerError> {
        let run = run.clone();
        self.blocking(move |folder| {
            let pieces = folder.known(&run.key)?;
            let parts = parts_of(&pieces, &run.key);
            let mut losses = Vec::new();
            if let Some(loss) = &run.loss {
                let series = || parts.iter().filter_map(|(_, part)| part.losses.get(loss));
                let is_told = series().any(|series| !series.told.is_empty());
                for series in series() {
                    losses.extend(if is_told { &series.told } else { &series.counted });
                }
            }
            losses.retain(|(step, _): &(u64, f64)| seen.is_none_or(|seen| *step > seen));
            losses.sort_by_key(|(step, _)| *step);
            let mut files = Vec::new();
            for (path, (_, metadata)) in saved(&parts) {
                files.push(RemoteFile {
                    path: format!("{SAVED}/{path}"),
                    size: metadata.len(),
                    version: first_bytes(&format!("{:?}", changed(&metadata))),
                    step: None,
                });
            }
            files.extend(folder.in_artifacts(&parts).into_iter().map(|(file, _)| file));
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
        let (key, path, to) = (run.key.clone(), path.to_owned(), to.to_owned());
        self.blocking(move |folder| {
            let pieces = folder.known(&key)?;
            let parts = parts_of(&pieces, &key);
            let from = if let Some(below) = path.strip_prefix(SAVED).and_then(|path| path.strip_prefix('/')) {
                saved(&parts).remove(below).map(|(file, _)| file)
            } else {
                let mut files = folder.in_artifacts(&parts).into_iter();
                files.find(|(file, _)| file.path == path).map(|(_, from)| from)
            };
            drop(pieces);
            // Nothing but what was listed, so no path leads elsewhere.
            let from = from.ok_or_else(|| TrackerError::Lost(format!("{path} is no longer there")))?;
            fs::copy(&from, &to).map_err(|source| HttpError::Disk { path: from, source })?;
            Ok(())
        })
        .await
    }

    /// Puts files into a folder of our own beside what the run saves; what needs a server is left out.
    pub(in crate::adapters) async fn post(&self, run: &TrackedRun, post: &Post) -> Result<(), TrackerError> {
        let folder = PathBuf::from(&run.artifacts);
        let artifacts: Vec<_> = post.new_artifacts().cloned().collect();
        self.blocking(move |_| {
            if !folder.is_dir() {
                return Err(TrackerError::Gone);
            }
            let folder = folder.join(REPORTS);
            directory::write(&folder, &artifacts)
                .map_err(|source| HttpError::Disk { path: folder.clone(), source })?;
            Ok(())
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, TrackerError> + Send + 'static,
    ) -> Result<T, TrackerError> {
        let folder = self.clone();
        tokio::task::spawn_blocking(move || work(&folder)).await.map_err(|error| {
            TrackerError::Lost(format!("reading the folder failed by a bug in doodl3: {error}"))
        })?
    }

    fn pieces(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Piece>> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was read, with a run in it; the folder is read where the run is not known yet.
    fn known(&self, key: &str) -> Result<MutexGuard<'_, BTreeMap<PathBuf, Piece>>, TrackerError> {
        let mut pieces = self.pieces();
        if parts_of(&pieces, key).is_empty() {
            drop(pieces);
            self.read_on()?;
            pieces = self.pieces();
        }
        if parts_of(&pieces, key).is_empty() { Err(TrackerError::Gone) } else { Ok(pieces) }
    }

    /// Reads on in all logs that have changed.
    fn read_on(&self) -> Result<(), TrackerError> {
        let listed = fs::read_dir(&self.folder)
            .map_err(|source| HttpError::Disk { path: self.folder.clone(), source })?;
        let mut pieces = self.pieces();
        let mut there = BTreeSet::new();
        for entry in listed.flatten() {
            // `latest-run` is a link, and no name of a run's folder.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Some((time, id)) = FOLDERS
                .iter()
                .find_map(|beginning| name.strip_prefix(beginning))
                .and_then(|rest| rest.split_once('-'))
            else {
                continue;
            };
            let folder = entry.path();
            let log = folder.join(format!("run-{id}.wandb"));
            let Ok(metadata) = fs::metadata(&log) else { continue };
            let piece = pieces.entry(folder.clone()).or_default();
            if piece.id.is_empty() {
                (piece.time, piece.id) = (time.to_owned(), id.to_owned());
            }
            let state = (metadata.len(), changed(&metadata));
            if piece.state != Some(state) {
                self.read_log(piece, &log);
                piece.state = Some(state);
            }
            there.insert(folder);
        }
        pieces.retain(|folder, _| there.contains(folder));
        Ok(())
    }

    /// Reads on in a log. What cannot be read is told in the agent's own log, once, and leaves other runs alone.
    fn read_log(&self, piece: &mut Piece, path: &Path) {
        let read = log::read_on(path, piece.position, &mut |record| piece.take(&self.plan, record));
        let read = match read {
            Err(LogError::Shorter { .. }) => {
                *piece = Piece {
                    time: std::mem::take(&mut piece.time),
                    id: std::mem::take(&mut piece.id),
                    ..Piece::default()
                };
                log::read_on(path, piece.position, &mut |record| piece.take(&self.plan, record))
            }
            read => read,
        };
        match read {
            Ok(read) => {
                piece.position = read.next;
                piece.trouble = None;
                tell_missing(&piece.id, path, &read.missing);
            }
            Err(error) => {
                let said = error.to_string();
                if piece.trouble.as_ref() != Some(&said) {
                    let hint = error.hint().unwrap_or_default();
                    tracing::warn!(run = piece.id, %error, hint, "run is left out");
                    piece.trouble = Some(said);
                }
            }
        }
    }

    /// A run as the agent knows it; `None` for one that is not watched.
    fn tracked(&self, key: String, parts: &Parts<'_>) -> Option<TrackedRun> {
        let (folder, last) = parts.last()?;
        let is_wanted = self.plan.projects.iter().any(|pattern| matches_glob(pattern, &last.project));
        if !is_wanted || parts.iter().any(|(_, part)| part.job_type == JOB_TYPE) {
            return None;
        }
        let logs = |name: &str| parts.iter().any(|(_, part)| part.losses.contains_key(name));
        let loss = names_of_loss(&self.plan).find(|name| logs(name)).map(str::to_owned);
        let silent = last.state.and_then(|(_, changed)| changed.elapsed().ok()).unwrap_or_default();
        let status = match last.is_ended {
            true => RunStatus::Ended,
            false if silent > self.plan.watched.stale_after => RunStatus::Stale,
            false => RunStatus::Running,
        };
        let logs: Vec<_> = parts.iter().map(|(_, part)| part.state).collect();
        let files = saved(parts);
        let files: Vec<_> = files.iter().map(|(path, (_, file))| (path, file.len(), changed(file))).collect();
        let token = format!("{logs:?} {files:?}");
        Some(TrackedRun {
            key,
            name: if last.name.is_empty() { last.id.clone() } else { last.name.clone() },
            experiment_key: last.project.clone(),
            experiment: last.project.clone(),
            status,
            artifacts: folder.display().to_string(),
            token: blake3::hash(token.as_bytes()).to_hex().to_string(),
            loss,
            models: Vec::new(),
            last_sign_s: None,
        })
    }

    /// The files in a run's artifacts that may be checkpoints and are still here, each with the place where it is. Versions
    /// are counted as a server does: an artifact with the content of an earlier one is no new version.
    fn in_artifacts(&self, parts: &Parts<'_>) -> Vec<(RemoteFile, PathBuf)> {
        let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let mut files = Vec::new();
        for artifact in parts.iter().flat_map(|(_, part)| &part.artifacts) {
            let versions = versions.entry(&artifact.name).or_default();
            if versions.contains(&artifact.digest.as_str()) {
                continue;
            }
            let version = versions.len();
            versions.push(&artifact.digest);
            for file in &artifact.files {
                let Some(from) = file.local_path.as_ref().filter(|path| path.is_file()) else { continue };
                let naming = self.plan.watched.pattern.matches(Path::new(&file.path));
                let is_named = naming.is_some_and(|naming| naming.step.is_some() || naming.epoch.is_some());
                let remote = RemoteFile {
                    path: format!("{ARTIFACTS}/{}:v{version}/{}", artifact.name, file.path),
                    size: file.size,
                    version: first_bytes(&file.digest),
                    // The name of the file comes before the place in the history at which it was logged.
                    step: artifact.told.or_else(|| artifact.after.filter(|_| !is_named)),
                };
                files.push((remote, from.clone()));
            }
        }
        files
    }
}

impl Piece {
    /// What a record adds.
    fn take(&mut self, plan: &WandbPlan, record: Record) {
        if !std::mem::replace(&mut self.is_begun, true) && self.project.is_empty() {
            // The record of the run itself may be what cannot be read.
            NO_PROJECT.clone_into(&mut self.project);
        }
        match record {
            Record::Run(run) => {
                if !run.project.is_empty() {
                    self.project = run.project;
                }
                (self.name, self.job_type, self.is_ended) = (run.name, run.job_type, false);
            }
            Record::History(row) => self.row(plan, &row),
            Record::Artifact(artifact) if plan.artifact_types.contains(&artifact.kind) => {
                self.artifact(artifact);
            }
            Record::Exit { .. } => self.is_ended = true,
            Record::Artifact(_) | Record::Config(_) | Record::Summary(_) | Record::Alert(_) => {}
        }
    }

    fn row(&mut self, plan: &WandbPlan, row: &Row) {
        let told = told_by(plan, row);
        let counted = row.step.and_then(|step| u64::try_from(step).ok());
        self.last_step = told.or(counted).or(self.last_step);
        for name in names_of_loss(plan) {
            let Some(value) = row.number(name) else { continue };
            if !self.losses.contains_key(name) {
                self.losses.insert(name.to_owned(), Series::default());
            }
            let Some(series) = self.losses.get_mut(name) else { continue };
            let value = if value.is_finite() { value } else { f64::NAN };
            match (told, counted) {
                (Some(step), _) => series.told.push((step, value)),
                (None, Some(step)) => series.counted.push((step, value)),
                (None, None) => {}
            }
        }
    }

    fn artifact(&mut self, artifact: Artifact) {
        let Artifact { name, digest, aliases, metadata, mut files, .. } = artifact;
        files.retain(|file| {
            let path = Path::new(&file.path);
            is_candidate(path) && path.components().all(|part| matches!(part, Component::Normal(_)))
        });
        if files.is_empty() {
            return;
        }
        let told = told_step(&metadata.into(), aliases.iter().map(String::as_str));
        self.artifacts.push(Logged { name, digest, told, after: self.last_step, files });
    }
}

/// The pieces of a run, each with its folder, in order of time.
type Parts<'p> = Vec<(&'p Path, &'p Piece)>;

/// The runs, by the key under which the agent knows them.
fn by_run(pieces: &BTreeMap<PathBuf, Piece>) -> BTreeMap<String, Parts<'_>> {
    let keys: BTreeSet<String> = pieces.values().filter(|piece| piece.is_begun).map(key).collect();
    keys.into_iter().map(|wanted| (wanted.clone(), parts_of(pieces, &wanted))).collect()
}

fn parts_of<'p>(pieces: &'p BTreeMap<PathBuf, Piece>, wanted: &str) -> Parts<'p> {
    let is_part = |piece: &Piece| piece.is_begun && key(piece) == wanted;
    let parts = pieces.iter().filter(|(_, piece)| is_part(piece));
    let mut parts: Parts<'_> = parts.map(|(folder, piece)| (folder.as_path(), piece)).collect();
    parts.sort_by_key(|(folder, part)| (&part.time, *folder));
    parts
}

/// The id of a run and its project, since ids are unique in a project only.
fn key(piece: &Piece) -> String {
    format!("{}:{}", piece.id, piece.project)
}

/// The names under which the training loss may be logged, the most telling first.
fn names_of_loss(plan: &WandbPlan) -> impl Iterator<Item = &str> {
    let found_by_name = if plan.watched.loss.is_none() { &LOSS_NAMES[..] } else { &[] };
    plan.watched.loss.as_deref().into_iter().chain(found_by_name.iter().copied())
}

/// The trainer's step as a row tells it beside W&B's own.
fn told_by(plan: &WandbPlan, row: &Row) -> Option<u64> {
    let found_by_name = if plan.step.is_none() { &STEP_NAMES[..] } else { &[] };
    let mut names = plan.step.as_deref().into_iter().chain(found_by_name.iter().copied());
    let step = names.find_map(|name| row.number(name))?;
    // Whole numbers that a float holds exactly.
    (step >= 0.0 && step.fract() == 0.0 && step < 9e15).then_some(step as u64)
}

/// The files that a run saves and that may be checkpoints, by their path below `files/`; of those of the same name the one
/// of the latest piece.
fn saved(parts: &Parts<'_>) -> BTreeMap<String, (PathBuf, fs::Metadata)> {
    let mut files = BTreeMap::new();
    for (folder, _) in parts {
        let root = folder.join(SAVED);
        walk(&root, &root, DEPTH, &mut files);
    }
    files
}

fn walk(root: &Path, folder: &Path, depth: usize, files: &mut BTreeMap<String, (PathBuf, fs::Metadata)>) {
    let listed = match fs::read_dir(folder) {
        Ok(listed) => listed,
        Err(error) => {
            // One folder that may not be read leaves other runs alone.
            if error.kind() != io::ErrorKind::NotFound {
                tracing::debug!(folder = %folder.display(), %error, "a folder cannot be read");
            }
            return;
        }
    };
    for entry in listed.flatten() {
        let path = entry.path();
        // `wandb.save` leaves links to files elsewhere: they are followed.
        let Ok(metadata) = path.metadata() else { continue };
        let below = path.strip_prefix(root).unwrap_or(&path);
        if metadata.is_dir() {
            if depth > 0 {
                walk(root, &path, depth - 1, files);
            }
        } else if is_candidate(below)
            && let Some(text) = below.to_str()
        {
            files.insert(text.to_owned(), (path, metadata));
        }
    }
}

fn changed(metadata: &fs::Metadata) -> SystemTime {
    metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH)
}

fn tell_missing(run: &str, path: &Path, missing: &[Missing]) {
    if let Some(first) = missing.first() {
        let (log, places) = (path.display(), missing.len());
        tracing::warn!(run, %log, %first, places, "part of a run's log cannot be read and is left out");
    }
}

#[cfg(test)]
mod tests;
