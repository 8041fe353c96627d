//! The second stage: the evaluator computes the loss and the predictions of each checkpoint, by step and run.
//!
//! It works beside the fast path and never delays it. Where there is no evaluator, or no model is configured, everything
//! else goes on, and the report says what is missing.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::judge::Judge;
use super::{AgentError, Event, Shared, tracked};
use crate::adapters::tracker::TrackerError;
use crate::checkpoint::FileIdentity;
use crate::config::{ModelPlan, SourcePlan};
use crate::evaluate::protocol::{Model, Program};
use crate::evaluate::{Evaluator, EvaluatorError, LoadedModel, Settings};
use crate::store::{Evaluation, StoreError, ToEvaluate};

/// Crashes of the evaluator at one checkpoint after which it is not tried again.
const CRASHES: u32 = 2;

/// Checkpoints that are asked for at once.
const BATCH: usize = 64;

/// Whether losses and predictions can be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Availability {
    /// They can.
    On {
        /// Version of libtorch.
        libtorch: String,
    },
    /// They cannot.
    Off {
        /// Why, in words for a person.
        reason: String,
    },
}

/// What keeps a checkpoint from being evaluated that is not its own fault.
#[derive(Debug, thiserror::Error)]
enum Obstacle {
    #[error(transparent)]
    Evaluator(#[from] EvaluatorError),
    #[error(transparent)]
    Tracker(#[from] TrackerError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A model that is loaded.
struct Stage<'s> {
    shared: &'s Shared,
    evaluator: Evaluator,
    loaded: LoadedModel,
    /// Names the model in the state.
    digest: String,
    /// Whether the user was told that checkpoints cannot be evaluated.
    told: bool,
}

/// Evaluates until the agent stops.
pub(super) async fn run(shared: Arc<Shared>) -> Result<(), AgentError> {
    shared.evaluate.work();
    let opened = tokio::select! {
        opened = open(&shared) => opened?,
        () = shared.stop.cancelled() => None,
    };
    let Some(mut stage) = opened else {
        shared.evaluate.rest();
        // Nothing to do, ever: rings are answered, so that nobody waits for us.
        loop {
            tokio::select! {
                () = shared.evaluate.wake.notified() => { shared.evaluate.work(); shared.evaluate.rest(); }
                () = shared.stop.cancelled() => return Ok(()),
            }
        }
    };
    loop {
        shared.evaluate.work();
        let usable = tokio::select! {
            usable = stage.all() => usable?,
            () = shared.stop.cancelled() => return Ok(()),
        };
        shared.evaluate.rest();
        let pause = async {
            if !usable {
                tokio::time::sleep(std::time::Duration::from_secs(60)).await;
            }
            shared.evaluate.wake.notified().await;
        };
        tokio::select! {
            () = pause => {}
            () = shared.stop.cancelled() => return Ok(()),
        }
    }
}

/// Evaluates all that is there now.
pub(super) async fn once(shared: &Shared) -> Result<(), AgentError> {
    if let Some(mut stage) = open(shared).await? {
        stage.all().await?;
    }
    Ok(())
}

/// Starts the evaluator and loads the model, and tells the other stages whether that went well.
async fn open(shared: &Shared) -> Result<Option<Stage<'_>>, AgentError> {
    let Some(plan) = &shared.plan.model else {
        let reason = "no model is configured (`model` in doodl3.yaml)".into();
        shared.set_availability(Availability::Off { reason }).await?;
        return Ok(None);
    };
    match start(plan).await {
        Ok((evaluator, loaded, digest)) => {
            let model = digest.clone();
            let forgotten = shared.store.write(move |tables| tables.forget_evaluations_but(&model)).await?;
            if forgotten > 0 {
                tracing::info!(checkpoints = forgotten, "the model is another one now; evaluating again");
            }
            let libtorch = evaluator.libtorch().to_owned();
            tracing::debug!(libtorch, "evaluator is ready");
            shared.set_availability(Availability::On { libtorch }).await?;
            Ok(Some(Stage { shared, evaluator, loaded, digest, told: false }))
        }
        Err(reason) => {
            tracing::warn!(reason, "losses and predictions are not evaluated");
            shared.set_availability(Availability::Off { reason }).await?;
            Ok(None)
        }
    }
}

/// Starts the evaluator with a model; also the model's digest.
///
/// # Errors
/// Why it cannot be used, in words for a person.
pub async fn start(plan: &ModelPlan) -> Result<(Evaluator, LoadedModel, String), String> {
    let digest = digest(&plan.model)?;
    let settings = Settings { timeout: plan.timeout, ..Settings::default() };
    let evaluator = Evaluator::start(settings).await.map_err(|error| error.to_string())?;
    let loaded = evaluator.load(plan.model.clone()).await.map_err(|error| error.to_string())?;
    Ok((evaluator, loaded, digest))
}

/// Digest of everything that an evaluation depends on beside the checkpoint.
fn digest(model: &Model) -> Result<String, String> {
    let read = |path: &PathBuf| std::fs::read(path).map_err(|error| format!("{error}: {}", path.display()));
    let mut hasher = blake3::Hasher::new();
    let mut part = |name: &str, bytes: &[u8]| {
        hasher.update(format!("{name} {}\n", bytes.len()).as_bytes());
        hasher.update(bytes);
    };
    match &model.program {
        Program::Exported(path) => part("program", &read(path)?),
        Program::Module(path) => part("module", &read(path)?),
        Program::Architecture(layers) => {
            part("architecture", &serde_json::to_vec(layers).map_err(|error| error.to_string())?);
        }
    }
    part("probe", &read(&model.probe_batch)?);
    part("loss", &serde_json::to_vec(&model.loss).map_err(|error| error.to_string())?);
    part("device", model.device.as_bytes());
    Ok(hasher.finalize().to_hex().to_string())
}

impl Stage<'_> {
    /// Evaluates until nothing waits. Returns whether the evaluator is of use.
    async fn all(&mut self) -> Result<bool, AgentError> {
        loop {
            let batch = self.shared.store.read(|tables| tables.to_evaluate(BATCH)).await?;
            if batch.is_empty() {
                return Ok(true);
            }
            for checkpoint in batch {
                match self.one(&checkpoint).await {
                    Ok(evaluation) => self.write(checkpoint, evaluation).await?,
                    Err(Obstacle::Evaluator(error)) if error.is_fatal() => {
                        let id = checkpoint.id;
                        if self.shared.store.write(move |tables| tables.count_crash(id)).await? >= CRASHES {
                            let reason = format!("quarantined after {CRASHES} attempts: {error}");
                            self.write(checkpoint, Evaluation::Failed { reason }).await?;
                        }
                        // It comes again as the first of the next batch.
                        break;
                    }
                    Err(Obstacle::Store(error)) => return Err(error.into()),
                    Err(error) => {
                        tracing::warn!(%error, "losses and predictions cannot be evaluated at the moment");
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// Evaluates one checkpoint. An error is about the evaluator or the tracker; what is wrong with the checkpoint is an
    /// [`Evaluation::Failed`].
    async fn one(&self, checkpoint: &ToEvaluate) -> Result<Evaluation, Obstacle> {
        let failed = |reason: &str| Ok(Evaluation::Failed { reason: reason.to_owned() });
        let source = self.shared.plan.sources.iter().find(|source| source.name() == checkpoint.source);
        let path = match source {
            None => return failed("its source is gone from the configuration"),
            Some(SourcePlan::Directory(plan)) => plan.root.join(&checkpoint.path),
            Some(SourcePlan::Tracker(plan)) => {
                match self.fetch(&plan.watched().name, &checkpoint.path).await? {
                    Ok(path) => path,
                    Err(reason) => return failed(&reason),
                }
            }
        };
        let ours = self.shared.trackers.contains_key(&checkpoint.source);
        let as_it_was_read = || ours || FileIdentity::of(&path).ok() == checkpoint.identity;
        if !as_it_was_read() {
            return failed("the file was gone or changed before it could be evaluated");
        }
        match self.evaluator.evaluate(self.loaded.id, &path).await {
            Ok(_) if !as_it_was_read() => failed("the file was gone or changed while it was evaluated"),
            Ok(evaluation) => {
                Ok(Evaluation::Done { loss: evaluation.loss, predictions: evaluation.predictions })
            }
            Err(EvaluatorError::Failed { message }) => failed(&message),
            Err(error) => Err(error.into()),
        }
    }

    /// A tracker's file in the spool, downloaded where it is no longer there; or why it cannot be had any more.
    async fn fetch(&self, source: &str, path: &str) -> Result<Result<PathBuf, String>, Obstacle> {
        let file = self.shared.spool(source).join(path);
        if file.exists() {
            return Ok(Ok(file));
        }
        let Some((key, below)) = path.split_once('/') else {
            return Ok(Err("its run is not known".into()));
        };
        let (name, run) = (source.to_owned(), key.to_owned());
        let row = self.shared.store.read(move |tables| tables.tracked_by_key(&name, &run)).await?;
        let tracker = self.shared.trackers.get(source).cloned();
        let (Some(row), Some(mut tracker)) = (row, tracker) else {
            return Ok(Err("its run is not known".into()));
        };
        match tracked::spool(&mut tracker, &row.run, below, None, &file).await {
            Ok(()) => Ok(Ok(file)),
            Err(error) if error.is_transient() => Err(error.into()),
            Err(error) => Ok(Err(format!("it cannot be downloaded any more: {error}"))),
        }
    }

    async fn write(&mut self, checkpoint: ToEvaluate, evaluation: Evaluation) -> Result<(), AgentError> {
        if let Evaluation::Failed { reason } = &evaluation
            && !std::mem::replace(&mut self.told, true)
        {
            let ToEvaluate { run, path, .. } = &checkpoint;
            tracing::warn!(
                run,
                reason,
                path,
                "checkpoint cannot be evaluated; others like it are told in the report"
            );
        }
        if self.shared.trackers.contains_key(&checkpoint.source) {
            self.shared.unspool(&checkpoint.source, &checkpoint.path).await;
        }
        let (model, rules) = (self.digest.clone(), Arc::clone(&self.shared.rules));
        let written = self.shared.store.write(move |tables| {
            let Some((run, group, signature)) = tables.put_evaluation(checkpoint.id, &model, &evaluation)?
            else {
                return Ok(None);
            };
            let mut judge = Judge::new(tables, &rules.detectors);
            if let Evaluation::Done { loss, .. } = evaluation {
                judge.evaluated(run, &signature, checkpoint.step, loss)?;
            }
            let alerts = judge.finish()?;
            if !alerts.is_empty() {
                tables.promise(&rules.sinks, group)?;
            }
            let alerts: Vec<_> = alerts.into_iter().map(|(_, alert, change)| (alert, change)).collect();
            Ok::<_, StoreError>(Some((group, alerts)))
        });
        if let Some((group, alerts)) = written.await? {
            self.shared.groups().mark(group, 0, self.shared.now().running);
            self.shared.tell_alerts(alerts);
            self.shared.analyse.ring();
            self.shared.tell(Event::Evaluated);
        }
        Ok(())
    }
}
