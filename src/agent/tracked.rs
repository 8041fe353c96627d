//! The first stage for trackers: their runs are asked for, and what is new in them is downloaded and taken in.
//!
//! Files go through a folder of the agent's own, the spool, and are removed once nothing needs them. A tracker that does
//! not answer is asked again after growing pauses; nothing is forgotten meanwhile, since a run counts as seen only when
//! all of it was taken in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::ingest::{IngestError, Logged, Origin, ingest};
use super::intake::{Intake, batches};
use super::reconcile::{Patience, Setback, Waiting, reconcile};
use super::{AgentError, Shared};
use crate::adapters::directory::Found;
use crate::adapters::tracker::{RemoteFile, RunStatus, TrackedRun, Tracker, TrackerError};
use crate::checkpoint::{FileIdentity, Pattern};
use crate::config::{Place, TrackerPlan, Watched};
use crate::store::{Run, StoreError, TrackedRow};

/// Runs that are looked at before what was found is taken in.
const AT_ONCE: usize = 16;

/// A run that goes on is looked at in one of so many polls although it has logged nothing: files alone change nothing that
/// a search tells.
const LOOK_ANYWAY: u32 = 4;

/// Pauses after failures: doubled from the first up to the last.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// Why a pass ended early.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    /// The agent cannot go on.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The tracker does not do what it is asked.
    #[error(transparent)]
    Tracker(#[from] TrackerError),
}

impl From<StoreError> for Stopped {
    fn from(error: StoreError) -> Self {
        Self::Agent(error.into())
    }
}

impl From<IngestError> for Stopped {
    fn from(error: IngestError) -> Self {
        Self::Agent(error.into())
    }
}

/// A tracker as the agent knows it.
struct Source<'s> {
    intake: Intake<'s>,
    origin: Origin,
    pattern: &'s Pattern,
    tracker: Tracker,
    /// Passes so far.
    passes: u32,
    /// Passes that failed since the last that did not.
    failures: u32,
    /// What was said last of why.
    said: Option<String>,
    /// Runs at which asking failed, and how often in a row, although the tracker answers otherwise.
    stubborn: BTreeMap<String, u32>,
}

/// A run in which something may be new.
struct Look {
    row: TrackedRow,
    found: Vec<Found>,
    logged: Logged,
}

/// Pulls from a tracker until the agent stops.
pub(super) async fn run(shared: Arc<Shared>, index: usize, plan: TrackerPlan) -> Result<(), AgentError> {
    let bell = &shared.sources[index];
    bell.work();
    let mut source = Source::open(&shared, &plan).await?;
    loop {
        bell.work();
        let pause = tokio::select! {
            passed = source.pass() => match passed {
                Ok(again_in) => {
                    source.answered().await?;
                    again_in.unwrap_or(plan.watched().poll_every)
                }
                Err(Stopped::Agent(error)) => return Err(error),
                Err(Stopped::Tracker(error)) => source.failed(&error).await?,
            },
            () = shared.stop.cancelled() => return Ok(()),
        };
        bell.rest();
        tokio::select! {
            () = shared.stop.cancelled() => return Ok(()),
            () = bell.wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Takes in all that is there now.
pub(super) async fn once(shared: &Shared, plan: &TrackerPlan) -> Result<(), AgentError> {
    let mut source = Source::open(shared, plan).await?;
    match source.pass().await {
        Ok(_) => Ok(()),
        Err(Stopped::Agent(error)) => Err(error),
        Err(Stopped::Tracker(error)) => {
            source.failed(&error).await?;
            Ok(())
        }
    }
}

impl<'s> Source<'s> {
    async fn open(shared: &'s Shared, plan: &'s TrackerPlan) -> Result<Self, AgentError> {
        let Watched { name, pattern, .. } = plan.watched();
        let Some(tracker) = shared.trackers.get(name).cloned() else {
            return Err(AgentError::Panicked(format!("no tracker is called {name}")));
        };
        if tracker.exposes_credentials() {
            tracing::warn!(source = name, at = %plan.place(), "password, token or key travels unencrypted; use https");
        }
        let root = shared.spool(name);
        // What an evaluation still needs is downloaded again.
        drop(tokio::fs::remove_dir_all(&root).await);
        let told_by_pattern = *pattern != Pattern::default();
        Ok(Self {
            intake: Intake::open(shared, name).await?,
            origin: Origin { name: name.clone(), root, told_by_pattern },
            pattern,
            tracker,
            passes: 0,
            failures: 0,
            said: None,
            stubborn: BTreeMap::new(),
        })
    }

    /// Asks what has changed and takes it in. Returns when to come again before the next poll.
    async fn pass(&mut self) -> Result<Option<Duration>, Stopped> {
        let runs = self.tracker.runs().await?;
        self.passes += 1;
        let rows = self.track(runs).await?;
        let mut again_in: Option<Duration> = None;
        for rows in rows.chunks(AT_ONCE) {
            let mut looks = Vec::with_capacity(rows.len());
            for row in rows {
                match self.look(row).await {
                    Ok(look) => {
                        self.stubborn.remove(&row.run.key);
                        looks.extend(look);
                    }
                    Err(Stopped::Tracker(error)) if self.is_set_aside(row, &error) => {}
                    Err(error) => {
                        // What has come is not thrown away.
                        self.take(looks).await?;
                        return Err(error);
                    }
                }
            }
            let again = self.take(looks).await?;
            again_in = again.into_iter().chain(again_in).min();
        }
        Ok(again_in)
    }

    /// Whether a run is left alone for this time, since asking for it failed before too: one run that a server cannot
    /// tell of does not keep the others waiting.
    fn is_set_aside(&mut self, row: &TrackedRow, error: &TrackerError) -> bool {
        let times = self.stubborn.entry(row.run.key.clone()).or_default();
        *times += 1;
        let set_aside = *times > 1;
        if set_aside && self.intake.first_time(format!("{} is set aside", row.run.key)) {
            let (source, run) = (&self.origin.name, &row.name);
            tracing::warn!(source, run, %error, "the tracker cannot tell of a run; tried again now and then");
        }
        set_aside
    }

    /// Notes the runs, and returns those in which there may be something new: also those of which a pass before did not
    /// get all, whether or not the tracker names them again.
    async fn track(&self, runs: Vec<TrackedRun>) -> Result<Vec<TrackedRow>, StoreError> {
        let source = self.origin.name.clone();
        let rules = Arc::clone(&self.intake.shared.rules);
        let anyway = self.passes % LOOK_ANYWAY == 1;
        let waits = |waiting: &Waiting| waiting.setback != Setback::None;
        let behind = anyway || self.failures > 0 || self.intake.waiting.values().any(waits);
        let tracked = self.intake.shared.store.write(move |tables| {
            let (mut rows, mut promised) = (Vec::new(), false);
            for run in runs {
                let before = tables.tracked_by_key(&source, &run.key)?.map(|row| row.run.status);
                let row = tables.track(&source, &run)?;
                if before.is_some_and(|before| before != run.status) {
                    // Its report says whether it goes on.
                    let id = tables.run(&known_as(&source, &row))?;
                    for group in tables.groups_of(id)? {
                        tables.promise(&rules.sinks, group)?;
                        promised = true;
                    }
                }
                let looked_at = anyway && run.status == RunStatus::Running;
                if looked_at || row.seen.as_ref() != Some(&run.token) {
                    rows.push(row);
                }
            }
            if behind {
                let keys: BTreeSet<String> = rows.iter().map(|row| row.run.key.clone()).collect();
                let unseen = tables.unseen(&source)?;
                rows.extend(unseen.into_iter().filter(|row| !keys.contains(&row.run.key)));
            }
            Ok((rows, promised))
        });
        let (rows, promised) = tracked.await?;
        if promised {
            self.intake.shared.deliver.ring();
        }
        Ok(rows)
    }

    /// What is new in a run; `None` where the tracker does not tell of it.
    async fn look(&mut self, row: &TrackedRow) -> Result<Option<Look>, Stopped> {
        let run = known_as(&self.origin.name, row);
        let asked = run.clone();
        let seen = self
            .intake
            .shared
            .store
            .write(move |tables| {
                let id = tables.run(&asked)?;
                tables.last_loss(id)
            })
            .await?;
        let news = match self.tracker.news(&row.run, seen).await {
            Ok(news) => news,
            Err(error) if error.is_transient() => return Err(error.into()),
            Err(error) => {
                if self.intake.first_time(format!("{}: {error}", row.run.key)) {
                    let hint = error.hint().unwrap_or_default();
                    tracing::warn!(source = self.origin.name, run = row.name, %error, hint, "run is left out");
                }
                if let TrackerError::Gone = error {
                    // It is not asked for again.
                    self.set_seen(vec![(row.run.key.clone(), row.run.token.clone())]).await?;
                }
                return Ok(None);
            }
        };
        let found = news.files.iter().filter_map(|file| self.found(row, file)).collect();
        Ok(Some(Look { row: row.clone(), found, logged: Logged { run, losses: news.losses, tail: None } }))
    }

    /// A file as the intake knows it: the run's id and the path below its artifacts.
    fn found(&self, row: &TrackedRow, file: &RemoteFile) -> Option<Found> {
        let path = format!("{}/{}", row.run.key, file.path);
        if !stays_below(&path) {
            return None;
        }
        let naming = self.pattern.matches(Path::new(&path));
        if file.step.is_none() && naming.is_none() {
            return None;
        }
        let (step, epoch) = naming.map_or((None, None), |naming| (naming.step, naming.epoch));
        Some(Found {
            place: Place {
                experiment: row.experiment.clone(),
                run: row.name.clone(),
                step: file.step.or(step),
                epoch: epoch.map(|epoch| epoch as u64),
            },
            identity: FileIdentity { device: 0, inode: file.version, size: file.size, modified_ns: 0 },
            path,
        })
    }

    /// Downloads and takes in what is new in some runs.
    async fn take(&mut self, looks: Vec<Look>) -> Result<Option<Duration>, Stopped> {
        let shared = self.intake.shared;
        let found: Vec<Found> = looks.iter().flat_map(|look| look.found.iter().cloned()).collect();
        let work = reconcile(&found, &self.intake.known, &self.intake.waiting, Patience::NONE, shared.now());
        self.intake.waiting.extend(work.waiting);
        let mut logged: Vec<Logged> =
            looks.iter().map(|look| look.logged.clone()).filter(|logged| !logged.losses.is_empty()).collect();
        let mut batches = batches(work.read);
        if batches.is_empty() && !logged.is_empty() {
            batches.push(Vec::new());
        }
        let mut trouble = None;
        for batch in batches {
            let mut here = Vec::with_capacity(batch.len());
            for file in batch {
                match self.fetch(&looks, &file).await {
                    Ok(true) => here.push(file),
                    Ok(false) => {}
                    Err(error) if self.is_put_off(&looks, &file, &error) => {}
                    Err(error) => {
                        trouble = Some(error);
                        break;
                    }
                }
            }
            // What has come is taken in before anything else is asked for: an alert does not wait for a slow server.
            let refused_at_once = here.iter().map(|found| found.path.clone()).collect();
            let Shared { store, rules, cancel, .. } = shared;
            let logged = std::mem::take(&mut logged);
            let ingested = ingest(store, rules, &self.origin, here, &refused_at_once, logged, cancel).await?;
            let paths: Vec<String> = ingested.files.iter().map(|(found, _)| found.path.clone()).collect();
            self.intake.note(ingested);
            if shared.plan.model.is_none() {
                for path in paths {
                    shared.unspool(&self.origin.name, &path).await;
                }
            }
            if trouble.is_some() {
                break;
            }
        }
        if let Some(error) = trouble {
            return Err(error.into());
        }
        self.seen(&looks).await?;
        Ok(work.again_in)
    }

    /// Downloads a file into the spool; whether it is there.
    async fn fetch(&mut self, looks: &[Look], file: &Found) -> Result<bool, TrackerError> {
        let Some((row, path)) = row_of(looks, file) else {
            return Ok(false);
        };
        let to = self.origin.root.join(&file.path);
        match spool(&mut self.tracker, &row.run, path, Some(file.identity.size), &to).await {
            Ok(()) => Ok(true),
            Err(error) if error.is_transient() => Err(error),
            Err(error) => {
                let now = self.intake.shared.now().running;
                if self.intake.first_time(format!("{}: {error}", file.path)) {
                    let (source, path) = (&self.origin.name, &file.path);
                    tracing::warn!(source, %error, path, "checkpoint cannot be downloaded; tried again later");
                }
                if let Some(waiting) = self.intake.waiting.get_mut(&file.path) {
                    waiting.setback = waiting.setback.unreadable_again(now);
                }
                Ok(false)
            }
        }
    }

    /// Whether a file is put off, since its run is set aside.
    fn is_put_off(&mut self, looks: &[Look], file: &Found, error: &TrackerError) -> bool {
        let Some((row, _)) = row_of(looks, file) else { return false };
        if !self.is_set_aside(row, error) {
            return false;
        }
        let now = self.intake.shared.now().running;
        if let Some(waiting) = self.intake.waiting.get_mut(&file.path) {
            waiting.setback = waiting.setback.unreadable_again(now);
        }
        true
    }

    /// Notes the runs of which nothing waits.
    async fn seen(&self, looks: &[Look]) -> Result<(), StoreError> {
        let waits = |path: &String| {
            self.intake.waiting.get(path).is_some_and(|waiting| waiting.setback != Setback::None)
        };
        let whole: Vec<(String, String)> = looks
            .iter()
            .filter(|look| !look.found.iter().any(|found| waits(&found.path)))
            .filter(|look| look.row.seen.as_ref() != Some(&look.row.run.token))
            .map(|look| (look.row.run.key.clone(), look.row.run.token.clone()))
            .collect();
        self.set_seen(whole).await
    }

    async fn set_seen(&self, whole: Vec<(String, String)>) -> Result<(), StoreError> {
        if whole.is_empty() {
            return Ok(());
        }
        let source = self.origin.name.clone();
        let noted = self.intake.shared.store.write(move |tables| {
            whole.iter().try_for_each(|(key, token)| tables.set_seen(&source, key, token))
        });
        noted.await
    }

    async fn answered(&mut self) -> Result<(), StoreError> {
        self.said = None;
        if std::mem::take(&mut self.failures) > 0 {
            tracing::info!(source = self.origin.name, "the tracker answers again");
            self.intake.shared.answers.notify_one();
        }
        self.intake.note_trouble(None).await
    }

    /// Tells, once for each reason, that the tracker does not do what it is asked; how long to wait.
    async fn failed(&mut self, error: &TrackerError) -> Result<Duration, StoreError> {
        let pause = BACK_OFF.0.saturating_mul(1 << self.failures.min(10)).min(BACK_OFF.1);
        let text = error.to_string();
        if self.said.as_ref() != Some(&text) {
            self.said = Some(text);
            let hint = error.hint().unwrap_or_default();
            tracing::warn!(source = self.origin.name, %error, hint, "the tracker cannot be used; tried again later");
        }
        self.failures += 1;
        self.intake.note_trouble(Some((error.to_string(), error.hint()))).await?;
        Ok(pause)
    }
}

/// Whether a path that a server names leads nowhere but below the folder to which it is joined.
fn stays_below(path: &str) -> bool {
    Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

/// The run of a file, and the file's path below it.
fn row_of<'l>(looks: &'l [Look], file: &'l Found) -> Option<(&'l TrackedRow, &'l str)> {
    looks.iter().find_map(|look| {
        let path = file.path.strip_prefix(look.row.run.key.as_str())?.strip_prefix('/')?;
        Some((&look.row, path))
    })
}

/// The run as the state knows it.
fn known_as(source: &str, row: &TrackedRow) -> Run {
    Run { source: source.to_owned(), experiment: row.experiment.clone(), name: row.name.clone() }
}

/// Downloads a file whole: under another name, then renamed.
pub(super) async fn spool(
    tracker: &mut Tracker,
    run: &TrackedRun,
    path: &str,
    size: Option<u64>,
    to: &Path,
) -> Result<(), TrackerError> {
    let disk = |source| crate::adapters::http::HttpError::Disk { path: to.into(), source };
    if let Some(folder) = to.parent() {
        tokio::fs::create_dir_all(folder).await.map_err(disk)?;
    }
    let mut part = to.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let downloaded = tracker.download(run, path, size, &part).await;
    if downloaded.is_err() {
        drop(tokio::fs::remove_file(&part).await);
    }
    downloaded?;
    tokio::fs::rename(&part, to).await.map_err(disk)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::stays_below;

    #[test]
    fn paths_of_servers_lead_nowhere_else() {
        for path in ["run:mnist/artifacts/model:v0/a/step-1.pt", "run/a..b/c.pt", "run/files//c.pt"] {
            assert!(stays_below(path), "{path}");
        }
        for path in ["run/../../c.pt", "/etc/c.pt", "run/artifacts/model:v0/../../../c.pt", "..", "./c.pt"] {
            assert!(!stays_below(path), "{path}");
        }
    }
}
