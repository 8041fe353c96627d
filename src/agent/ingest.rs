//! From files to rows: checkpoints are read, reduced, judged, and written, all of a batch in one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use super::judge::{Change, Judge};
use crate::adapters::directory::{Found, Listing};
use crate::adapters::metrics;
use crate::alert::Alert;
use crate::checkpoint::{CheckpointError, SketchParameters, Summary, summarize};
use crate::compute::{self, ComputeError};
use crate::config::{DirectoryPlan, GroupBy, Place};
use crate::detect;
use crate::engine::Cancel;
use crate::store::{FileRow, GroupId, LossPoint, NewCheckpoint, Run, RunId, Store, StoreError, Tables, Tail};

/// What ingestion needs to know beside the files.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Which runs are analysed together.
    pub group_by: GroupBy,
    /// The detectors' settings.
    pub detectors: detect::Settings,
    /// How sketches are made.
    pub sketch: SketchParameters,
    /// Names of the sinks that hear of alerts.
    pub sinks: Vec<String>,
}

/// Why a batch could not be taken in.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// Reading failed by a bug.
    #[error(transparent)]
    Compute(#[from] ComputeError),
    /// The state failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What came of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is a checkpoint, and its row is written.
    Taken,
    /// It cannot be used.
    Refused {
        /// Why, without the path.
        reason: String,
        /// Whether trying again may help although the file does not change.
        again: bool,
    },
    /// It ends too early; it may be growing.
    Incomplete,
    /// It changed while it was read.
    Changed,
    /// It is not there any more.
    Gone,
    /// The agent stops.
    Stopped,
}

/// What came of a batch.
#[derive(Clone, Debug, Default)]
pub struct Ingested {
    /// What came of each file, in the order of the batch.
    pub files: Vec<(Found, Outcome)>,
    /// Groups with new checkpoints, and how many.
    pub groups: BTreeMap<GroupId, u32>,
    /// Alerts that changed.
    pub alerts: Vec<(Alert, Change)>,
    /// Runs whose steps are the order of arrival, since nothing tells them.
    pub without_steps: BTreeSet<String>,
}

/// Where a batch comes from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The source's name.
    pub name: String,
    /// The folder below which its files are read.
    pub root: PathBuf,
    /// Whether a pattern of the user's tells steps: it stands above what files say of themselves.
    pub told_by_pattern: bool,
}

/// Losses of a run that were logged since they were last read.
#[derive(Clone, Debug)]
pub struct Logged {
    /// The run.
    pub run: Run,
    /// (step, value), NaN for what is not finite.
    pub losses: Vec<LossPoint>,
    /// The file that they were read from, and how far.
    pub tail: Option<(String, Tail)>,
}

/// Takes in a batch of files of a source, and the losses that were logged beside them. `last_chance` says which files
/// are refused, not waited for, if they end too early.
///
/// # Errors
/// [`IngestError`]: then nothing of the batch was written.
pub async fn ingest(
    store: &Store,
    rules: &Arc<Rules>,
    origin: &Origin,
    batch: Vec<Found>,
    last_chance: &BTreeSet<String>,
    logged: Vec<Logged>,
    cancel: &Cancel,
) -> Result<Ingested, IngestError> {
    let (root, sketch) = (origin.root.clone(), rules.sketch);
    let summaries = compute::read(cancel, move |cancel| -> Vec<(Found, Result<Summary, CheckpointError>)> {
        let summary = |found: Found| {
            let summary = summarize(&root.join(&found.path), &sketch, cancel);
            (found, summary)
        };
        batch.into_par_iter().map(summary).collect()
    });
    let summaries = summaries.await?;
    let (rules, last_chance, origin) = (Arc::clone(rules), last_chance.clone(), origin.clone());
    let writing = store.write(move |tables| {
        let mut writer = Writer { tables, rules: &rules, origin: &origin, ingested: Ingested::default() };
        let mut judge = Judge::new(tables, &rules.detectors);
        for logged in &logged {
            writer.losses(logged)?;
        }
        for (found, summary) in summaries {
            writer.file(found, summary, &last_chance, &mut judge)?;
        }
        for Logged { run, .. } in &logged {
            let id = tables.run(run)?;
            if let Some(signature) = tables.last_signature(id)? {
                judge.losses(id, &signature)?;
            }
        }
        writer.alerts(judge.finish()?)?;
        Ok(writer.ingested)
    });
    Ok(writing.await?)
}

/// Reads on in the metrics files of a folder that have grown.
///
/// # Errors
/// [`IngestError`]; a file that cannot be read is passed over.
pub async fn read_metrics(
    store: &Store,
    source: &DirectoryPlan,
    listing: &Listing,
    cancel: &Cancel,
) -> Result<Vec<Logged>, IngestError> {
    let name = source.name.clone();
    let files: Vec<_> = listing
        .metrics
        .iter()
        .map(|((experiment, run), (path, identity))| {
            let run = Run { source: name.clone(), experiment: experiment.clone(), name: run.clone() };
            (run, path.clone(), *identity)
        })
        .collect();
    let grown = store.read(move |tables| {
        let mut grown = Vec::new();
        for (run, path, identity) in files {
            let offset = tables.tail(&run.source, &path)?.map_or(0, |tail| tail.resume(identity));
            if offset < identity.size {
                grown.push((run, path, identity, offset));
            }
        }
        Ok(grown)
    });
    let (grown, root) = (grown.await?, source.root.clone());
    let read = compute::read(cancel, move |_| {
        grown
            .into_par_iter()
            .filter_map(|(run, path, identity, offset)| match metrics::read_on(&root.join(&path), offset) {
                Ok(metrics::Read { losses, offset }) => {
                    let tail = Tail { device: identity.device, inode: identity.inode, offset };
                    Some(Logged { run, losses, tail: Some((path, tail)) })
                }
                Err(error) => {
                    tracing::debug!(%error, path, "metrics cannot be read");
                    None
                }
            })
            .collect()
    });
    Ok(read.await?)
}

/// Writes a batch inside its transaction.
struct Writer<'t> {
    tables: &'t Tables<'t>,
    rules: &'t Rules,
    origin: &'t Origin,
    ingested: Ingested,
}

impl Writer<'_> {
    fn losses(&self, logged: &Logged) -> Result<(), StoreError> {
        let id = self.tables.run(&logged.run)?;
        self.tables.put_losses(id, &logged.losses)?;
        match &logged.tail {
            Some((path, tail)) => self.tables.put_tail(&self.origin.name, path, *tail),
            None => Ok(()),
        }
    }

    fn file(
        &mut self,
        found: Found,
        summary: Result<Summary, CheckpointError>,
        last_chance: &BTreeSet<String>,
        judge: &mut Judge<'_>,
    ) -> Result<(), StoreError> {
        let outcome = match summary {
            Ok(summary) => {
                self.checkpoint(&found, &summary, judge)?;
                Outcome::Taken
            }
            Err(error) => refusal(&error, last_chance.contains(&found.path)),
        };
        let (error, again) = match &outcome {
            Outcome::Taken => (None, false),
            Outcome::Refused { reason, again } => (Some(reason.clone()), *again),
            Outcome::Incomplete | Outcome::Changed | Outcome::Gone | Outcome::Stopped => {
                self.ingested.files.push((found, outcome));
                return Ok(());
            }
        };
        let row = FileRow { path: found.path.clone(), identity: found.identity, error, again };
        self.tables.put_file(&self.origin.name, &row)?;
        self.ingested.files.push((found, outcome));
        Ok(())
    }

    /// Writes a checkpoint and has it judged. What is known already, under this path or another, is left as it is.
    fn checkpoint(
        &mut self,
        found: &Found,
        summary: &Summary,
        judge: &mut Judge<'_>,
    ) -> Result<(), StoreError> {
        let Place { experiment, run, .. } = &found.place;
        let source = &self.origin.name;
        let id = self.tables.run(&Run {
            source: source.clone(),
            experiment: experiment.clone(),
            name: run.clone(),
        })?;
        let step = self.step(id, found, summary)?;
        if let Some(before) = self.tables.checkpoint(id, step)? {
            let same = before.digest == summary.digest;
            // Two files of one step: the newer one counts, whichever was found first.
            let older = before.path != found.path
                && (before.modified_ns, &before.path) > (summary.identity.modified_ns, &found.path);
            if same {
                // It can be read now; perhaps it can be evaluated too.
                self.tables.forget_failed_evaluation(before.id)?;
            }
            if same || older {
                return Ok(());
            }
        }
        let scope = if self.rules.group_by == GroupBy::Run { run.as_str() } else { "" };
        let group = self.tables.group(source, experiment, scope, &summary.signature)?.id;
        self.tables.put_checkpoint(&NewCheckpoint {
            run: id,
            group,
            step,
            epoch: found.place.epoch.map(|epoch| epoch as f64).or(summary.epoch),
            path: &found.path,
            summary,
        })?;
        *self.ingested.groups.entry(group).or_default() += 1;
        judge.checkpoint(id, &summary.signature, step)
    }

    /// The step: as a pattern of the user's tells it, else as the file does, else as its name does; else the epoch;
    /// else the order of arrival.
    fn step(&mut self, run: RunId, found: &Found, summary: &Summary) -> Result<u64, StoreError> {
        let named = found.place.step;
        let told = if self.origin.told_by_pattern { named.or(summary.step) } else { summary.step.or(named) };
        let whole = |epoch: f64| (epoch >= 0.0 && epoch.fract() == 0.0).then_some(epoch as u64);
        let epoch = || found.place.epoch.or(summary.epoch.and_then(whole));
        if let Some(step) = told.or_else(epoch) {
            return Ok(step);
        }
        self.ingested.without_steps.insert(found.place.run.clone());
        Ok(self.tables.last_step(run)?.map_or(0, |last| last + 1))
    }

    fn alerts(&mut self, changes: Vec<(RunId, Alert, Change)>) -> Result<(), StoreError> {
        for (run, alert, change) in changes {
            for group in self.tables.groups_of(run)? {
                self.tables.promise(&self.rules.sinks, group)?;
                self.ingested.groups.entry(group).or_default();
            }
            self.ingested.alerts.push((alert, change));
        }
        Ok(())
    }
}

fn refusal(error: &CheckpointError, last_chance: bool) -> Outcome {
    let again = match error {
        CheckpointError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            return Outcome::Gone;
        }
        CheckpointError::Io { .. } => true,
        CheckpointError::Incomplete { .. } if !last_chance => return Outcome::Incomplete,
        CheckpointError::Changing { .. } => return Outcome::Changed,
        CheckpointError::Cancelled { .. } => return Outcome::Stopped,
        _ => false,
    };
    Outcome::Refused { reason: without_path(error, error.path()), again }
}

/// The message without the path at its end, which stands beside it wherever it is shown.
fn without_path(error: &CheckpointError, path: &Path) -> String {
    let text = error.to_string();
    text.strip_suffix(&format!(": {}", path.display())).unwrap_or(&text).to_owned()
}
