//! The first stage: a directory is listed, and what is new in it is taken in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ingest::{Origin, ingest, read_metrics};
use super::intake::{Intake, batches};
use super::reconcile::{Patience, Setback, reconcile};
use super::{AgentError, Shared};
use crate::adapters::directory::{Found, Listing, ScanError, Scanner};
use crate::checkpoint::{FileIdentity, Pattern};
use crate::config::DirectoryPlan;
use crate::watch::Watch;

/// Shortest time from one listing to the next.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// While files keep coming, at most one part in so many of the time goes into listings.
const LISTING_SHARE: u32 = 10;

/// A source as the agent knows it.
struct Source<'s> {
    plan: &'s DirectoryPlan,
    origin: Origin,
    intake: Intake<'s>,
    scanner: Scanner,
    /// Metrics files as they were read last.
    metrics: BTreeMap<(String, String), (String, FileIdentity)>,
    /// How long the last listing took.
    listing_took: Duration,
}

/// Watches a source until the agent stops.
pub(super) async fn run(shared: Arc<Shared>, index: usize, plan: DirectoryPlan) -> Result<(), AgentError> {
    let bell = &shared.sources[index];
    bell.work();
    let mut source = Source::open(&shared, &plan).await?;
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
pub(super) async fn once(shared: &Shared, plan: &DirectoryPlan) -> Result<(), AgentError> {
    let mut source = Source::open(shared, plan).await?;
    while source.pass(Patience::NONE).await?.is_some() && !shared.stop.is_cancelled() {
        let read_before = source
            .intake
            .waiting
            .values()
            .all(|waiting| matches!(waiting.setback, Setback::Unreadable { .. }));
        if read_before {
            break;
        }
    }
    Ok(())
}

impl<'s> Source<'s> {
    async fn open(shared: &'s Shared, plan: &'s DirectoryPlan) -> Result<Self, AgentError> {
        Ok(Self {
            plan,
            origin: Origin {
                name: plan.name.clone(),
                root: plan.root.clone(),
                told_by_pattern: plan.pattern != Pattern::default(),
            },
            intake: Intake::open(shared, &plan.name).await?,
            scanner: Scanner::new(plan),
            metrics: BTreeMap::new(),
            listing_took: Duration::ZERO,
        })
    }

    /// Lists the folder and takes in what is ready. Returns when to come again although nothing changes; `None` when
    /// nothing waits.
    async fn pass(&mut self, patience: Patience) -> Result<Option<Duration>, AgentError> {
        let Some(listing) = self.list().await? else {
            return Ok(None);
        };
        let Self { intake, origin, plan, .. } = self;
        let shared = intake.shared;
        let work = reconcile(&listing.found, &intake.known, &intake.waiting, patience, shared.now());
        intake.waiting = work.waiting;
        let mut again_in = work.again_in;
        let mut batches = batches(work.read);
        if batches.is_empty() && self.metrics != listing.metrics {
            batches.push(Vec::new());
        }
        for batch in batches {
            if shared.stop.is_cancelled() {
                return Ok(None);
            }
            let given_up = |found: &&Found| {
                patience.broken_after.is_zero() || intake.waiting[&found.path].setback == Setback::Incomplete
            };
            let last_chance = batch.iter().filter(given_up).map(|found| found.path.clone()).collect();
            let Shared { store, rules, cancel, .. } = shared;
            let logged = read_metrics(store, plan, &listing, cancel).await?;
            let ingested = ingest(store, rules, origin, batch, &last_chance, logged, cancel).await?;
            if intake.note(ingested) {
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
                self.intake.told.remove(&self.plan.name);
                self.intake.note_trouble(None).await?;
                for (path, reason) in &listing.problems {
                    if self.intake.first_time(format!("{path}: {reason}")) {
                        tracing::warn!(source = self.plan.name, reason, path, "cannot be read");
                    }
                }
                Ok(Some(listing))
            }
            Err(ScanError { path, source }) => {
                let error = format!("the folder cannot be read: {source}: {}", path.display());
                let hint = "make the folder, or correct its path in the configuration";
                self.intake.note_trouble(Some((error, Some(hint)))).await?;
                if self.intake.first_time(self.plan.name.clone()) {
                    let (source_name, path) = (&self.plan.name, path.display().to_string());
                    tracing::warn!(source = source_name, reason = %source, path, "the folder cannot be read; waiting for it");
                }
                Ok(None)
            }
        }
    }

    fn tell_polling(&mut self, watch: &Watch) {
        if let Some(reason) = watch.polling()
            && self.intake.first_time(format!("polling {reason}"))
        {
            tracing::info!(source = self.plan.name, %reason, "the folder is listed every few seconds");
        }
    }
}
