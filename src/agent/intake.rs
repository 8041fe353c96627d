//! What the agent remembers of a source's files while it takes them in, and what it says of them.

use std::collections::{BTreeMap, BTreeSet};

use super::ingest::{Ingested, Outcome};
use super::reconcile::{Setback, Waiting};
use super::{AgentError, Event, Shared};
use crate::adapters::directory::Found;
use crate::checkpoint::FileIdentity;
use crate::store::{StoreError, Trouble};

/// Most files in a batch: what is written in one transaction.
const BATCH_FILES: usize = 64;
/// Most bytes in a batch, so that an alert on a small model does not wait for many large ones.
const BATCH_BYTES: u64 = 256 << 20;

/// The files of a source, as far as they were dealt with.
pub(super) struct Intake<'s> {
    pub(super) shared: &'s Shared,
    pub(super) name: &'s str,
    /// Files that were dealt with.
    pub(super) known: BTreeMap<String, FileIdentity>,
    pub(super) waiting: BTreeMap<String, Waiting>,
    /// What has been said, so that it is said once.
    pub(super) told: BTreeSet<String>,
    /// What the state says is wrong with the source.
    trouble: Option<String>,
}

impl<'s> Intake<'s> {
    /// What the state knows of a source.
    pub(super) async fn open(shared: &'s Shared, name: &'s str) -> Result<Self, AgentError> {
        let source = name.to_owned();
        let (files, trouble) =
            shared.store.read(move |tables| Ok((tables.files(&source)?, tables.trouble(&source)?))).await?;
        let trouble = trouble.map(|trouble| trouble.error);
        let known =
            files.into_iter().filter(|file| !file.again).map(|file| (file.path, file.identity)).collect();
        Ok(Self { shared, name, known, waiting: BTreeMap::new(), told: BTreeSet::new(), trouble })
    }

    /// Remembers what came of a batch, tells it, and wakes the next stages. Returns whether a file was put back and has
    /// to be looked at again.
    pub(super) fn note(&mut self, ingested: Ingested) -> bool {
        let now = self.shared.now().running;
        let mut put_back = false;
        let mut taken = 0;
        for (Found { path, identity, .. }, outcome) in ingested.files {
            match outcome {
                Outcome::Taken => {
                    taken += 1;
                    self.waiting.remove(&path);
                    self.known.insert(path, identity);
                }
                Outcome::Refused { reason, again } => {
                    if self.first_time(format!("{path}: {reason}")) {
                        tracing::warn!(source = self.name, reason, path, "file is left out");
                    }
                    if again {
                        put_back = true;
                        if let Some(waiting) = self.waiting.get_mut(&path) {
                            waiting.setback = waiting.setback.unreadable_again(now);
                        }
                    } else {
                        self.waiting.remove(&path);
                        self.known.insert(path, identity);
                    }
                }
                Outcome::Incomplete => {
                    put_back = true;
                    if let Some(waiting) = self.waiting.get_mut(&path) {
                        waiting.setback = Setback::Incomplete;
                    }
                }
                Outcome::Changed => {
                    put_back = true;
                    if let Some(waiting) = self.waiting.get_mut(&path) {
                        waiting.since = now;
                    }
                }
                Outcome::Gone | Outcome::Stopped => {
                    self.waiting.remove(&path);
                }
            }
        }
        for run in ingested.without_steps {
            if self.first_time(format!("steps of {run}")) {
                tracing::warn!(
                    source = self.name,
                    run,
                    "neither files nor names tell steps; counted by arrival"
                );
            }
        }
        if taken > 0 {
            tracing::debug!(source = self.name, checkpoints = taken, "checkpoints taken in");
            self.shared.tell(Event::Taken { checkpoints: taken });
        }
        for (group, checkpoints) in ingested.groups {
            self.shared.groups().mark(group, checkpoints, now);
        }
        self.shared.tell_alerts(ingested.alerts);
        self.shared.evaluate.ring();
        self.shared.analyse.ring();
        put_back
    }

    /// Notes what is wrong with the source, and what to do; `None`: nothing.
    pub(super) async fn note_trouble(
        &mut self,
        trouble: Option<(String, Option<&'static str>)>,
    ) -> Result<(), StoreError> {
        if self.trouble.as_ref() == trouble.as_ref().map(|(error, _)| error) {
            return Ok(());
        }
        self.trouble = trouble.as_ref().map(|(error, _)| error.clone());
        let (source, since) = (self.name.to_owned(), self.shared.now().wall_ns / 1_000_000_000);
        let trouble = trouble.map(|(error, hint)| Trouble { error, hint: hint.map(str::to_owned), since });
        self.shared.store.write(move |tables| tables.set_trouble(&source, trouble.as_ref())).await
    }

    /// Whether this is the first time that it is to be said.
    pub(super) fn first_time(&mut self, text: String) -> bool {
        self.told.insert(text)
    }
}

/// The files in batches of bounded number and size, in their order.
pub(super) fn batches(files: Vec<Found>) -> Vec<Vec<Found>> {
    let mut batches: Vec<Vec<Found>> = Vec::new();
    let mut bytes = 0;
    for file in files {
        bytes += file.identity.size;
        match batches.last_mut() {
            Some(batch) if batch.len() < BATCH_FILES && bytes <= BATCH_BYTES => batch.push(file),
            _ => {
                bytes = file.identity.size;
                batches.push(vec![file]);
            }
        }
    }
    batches
}
