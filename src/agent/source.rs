//! The first stage: a directory is listed, and what is new in it is taken in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ingest::{Ingested, Outcome, ingest};
use super::reconcile::{Patience, Setback, Waiting, reconcile};
use super::{AgentError, Event, Shared};
use crate::adapters::directory::{Found, Listing, ScanError, Scanner};
use crate::checkpoint::FileIdentity;
use crate::config::DirectoryPlan;
use crate::watch::Watch;

/// Most files in a batch: what is written in one transaction.
const BATCH_FILES: usize = 64;
/// Most bytes in a batch, so that an alert on a small model does not wait for many large ones.
const BATCH_BYTES: u64 = 256 << 20;

/// Shortest time from one listing to the next.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// While files keep coming, at most one part in so many of the time goes into listings.
const LISTING_SHARE: u32 = 10;

/// A source as the agent knows it.
struct Source<'s> {
    shared: &'s Shared,
    plan: &'s DirectoryPlan,
    scanner: Scanner,
    /// Files that were dealt with.
    known: BTreeMap<String, FileIdentity>,
    waiting: BTreeMap<String, Waiting>,
    /// Metrics files as they were read last.
    metrics: BTreeMap<(String, String), (String, FileIdentity)>,
    /// What has been said, so that it is said once.
    told: BTreeSet<String>,
    /// How long the last listing took.
    listing_took: Duration,
}

/// Watches a source until the agent stops.
pub(super) async fn run(shared: Arc<Shared>, index: usize) -> Result<(), AgentError> {
    let plan = &shared.plan.sources[index];
    let bell = &shared.sources[index];
    bell.work();
    let mut source = Source::open(&shared, plan).await?;
    let mut watch = Watch::new(&plan.root);
    source.tell_polling(&watch);
    let mut woken = false;
    loop {
        bell.work();
        if watch.is_stale() {
            watch = Watch::new(&plan.root);
            source.tell_polling(&watch);
        }
        let again_in = source.pass(Patience::new(plan.settle, watch.is_local())).await?;
        let pause = (source.listing_took * LISTING_SHARE).max(SHORTEST_PAUSE);
        if again_in.is_none() {
            bell.rest();
        }
        let mut longest = again_in.unwrap_or_else(|| watch.rescan_every(plan.rescan_every));
        if woken {
            // A folder that is new is watched a moment after it was made; what was put into it before is found now.
            longest = longest.min(plan.settle + pause);
        }
        let disturbed = async {
            tokio::select! {
                () = watch.changed() => {}
                () = bell.wake.notified() => {}
            }
            tokio::time::sleep(pause).await;
        };
        woken = tokio::select! {
            () = shared.stop.cancelled() => return Ok(()),
            () = disturbed => true,
            () = tokio::time::sleep(longest) => false,
        };
    }
}

/// Takes in all that is there now.
pub(super) async fn once(shared: &Shared, index: usize) -> Result<(), AgentError> {
    let mut source = Source::open(shared, &shared.plan.sources[index]).await?;
    while source.pass(Patience::NONE).await?.is_some() && !shared.stop.is_cancelled() {
        let read_before =
            source.waiting.values().all(|waiting| matches!(waiting.setback, Setback::Unreadable { .. }));
        if read_before {
            break;
        }
    }
    Ok(())
}

impl<'s> Source<'s> {
    async fn open(shared: &'s Shared, plan: &'s DirectoryPlan) -> Result<Self, AgentError> {
        let name = plan.name.clone();
        let files = shared.store.read(move |tables| tables.files(&name)).await?;
        let known =
            files.into_iter().filter(|file| !file.again).map(|file| (file.path, file.identity)).collect();
        Ok(Self {
            shared,
            plan,
            scanner: Scanner::new(plan),
            known,
            waiting: BTreeMap::new(),
            metrics: BTreeMap::new(),
            told: BTreeSet::new(),
            listing_took: Duration::ZERO,
        })
    }

    /// Lists the folder and takes in what is ready. Returns when to come again although nothing changes; `None` when
    /// nothing waits.
    async fn pass(&mut self, patience: Patience) -> Result<Option<Duration>, AgentError> {
        let Some(listing) = self.list().await? else {
            return Ok(None);
        };
        let work = reconcile(&listing.found, &self.known, &self.waiting, patience, self.shared.now());
        self.waiting = work.waiting;
        let mut again_in = work.again_in;
        let mut batches = batches(work.read);
        if batches.is_empty() && self.metrics != listing.metrics {
            batches.push(Vec::new());
        }
        for batch in batches {
            if self.shared.stop.is_cancelled() {
                return Ok(None);
            }
            let given_up = |found: &&Found| {
                patience.broken_after.is_zero() || self.waiting[&found.path].setback == Setback::Incomplete
            };
            let last_chance = batch.iter().filter(given_up).map(|found| found.path.clone()).collect();
            let Shared { store, rules, cancel, .. } = self.shared;
            let ingested = ingest(store, rules, self.plan, batch, &last_chance, &listing, cancel).await?;
            if self.note(ingested) {
                again_in = Some(Duration::ZERO);
            }
        }
        self.metrics = listing.metrics;
        Ok(again_in)
    }

    async fn list(&mut self) -> Result<Option<Listing>, AgentError> {
        let mut scanner = std::mem::replace(&mut self.scanner, Scanner::new(self.plan));
        let listed = tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            let listing = scanner.scan();
            (scanner, listing, began.elapsed())
        });
        let (scanner, listing, took) =
            listed.await.map_err(|error| AgentError::Panicked(error.to_string()))?;
        self.scanner = scanner;
        self.listing_took = took;
        match listing {
            Ok(listing) => {
                self.told.remove(&self.plan.name);
                for (path, reason) in &listing.problems {
                    if self.told.insert(format!("{path}: {reason}")) {
                        tracing::warn!(source = self.plan.name, reason, path, "cannot be read");
                    }
                }
                Ok(Some(listing))
            }
            Err(ScanError { path, source }) => {
                if self.told.insert(self.plan.name.clone()) {
                    let (source_name, path) = (&self.plan.name, path.display().to_string());
                    tracing::warn!(source = source_name, reason = %source, path, "the folder cannot be read; waiting for it");
                }
                Ok(None)
            }
        }
    }

    /// Remembers what came of a batch, tells it, and wakes the next stages. Returns whether a file was put back and has
    /// to be looked at again.
    fn note(&mut self, ingested: Ingested) -> bool {
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
                    if self.told.insert(format!("{path}: {reason}")) {
                        tracing::warn!(source = self.plan.name, reason, path, "file is left out");
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
            if self.told.insert(format!("steps of {run}")) {
                tracing::warn!(
                    source = self.plan.name,
                    run,
                    "neither files nor names tell steps; counted by arrival"
                );
            }
        }
        if taken > 0 {
            tracing::debug!(source = self.plan.name, checkpoints = taken, "checkpoints taken in");
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

    fn tell_polling(&mut self, watch: &Watch) {
        if let Some(reason) = watch.polling()
            && self.told.insert(format!("polling {reason}"))
        {
            tracing::info!(source = self.plan.name, %reason, "the folder is listed every few seconds");
        }
    }
}

/// The files in batches of bounded number and size, in their order.
fn batches(files: Vec<Found>) -> Vec<Vec<Found>> {
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
