//! The agent: four stages that run beside each other, with the state between them.
//!
//! | stage | takes | leaves |
//! |---|---|---|
//! | [`source`], `tracked` | files that are new, in folders and at trackers | checkpoints, alerts |
//! | [`evaluation`] | checkpoints not evaluated yet | losses, predictions, alerts |
//! | [`pipeline`] | groups in which something is new | analyses |
//! | [`deliver`] | promises to sinks | reports |
//!
//! Each stage asks the state what there is to do, does it, writes what came of it in one transaction, and wakes the
//! next. What is to be done is never kept in memory alone, so a kill at any point costs the work under way and nothing
//! else. `doodl3 watch` runs the stages until it is told to stop ([`Agent`]), `doodl3 analyze` once in their order
//! ([`Once`]).

pub mod deliver;
pub mod evaluation;
pub mod groups;
pub mod ingest;
mod intake;
pub mod judge;
pub mod members;
pub mod pipeline;
mod post;
pub mod reconcile;
pub mod report;
pub mod source;
mod tracked;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Notify, broadcast};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::adapters::tracker::{Tracker, TrackerError};
use crate::alert::{Alert, Severity};
use crate::checkpoint::SketchParameters;
use crate::compute::ComputeError;
use crate::config::{GroupBy, Plan, SourcePlan};
use crate::engine::Cancel;
use crate::render::RenderError;
use crate::store::{GroupId, Store, StoreError};

use evaluation::Availability;
use groups::Groups;
use ingest::{IngestError, Rules};
use judge::Change;
use reconcile::Now;

/// How long the stages may take to stop.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// What ends the agent. Everything else is met where it happens: tried again, or told.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The state failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A computation failed by a bug.
    #[error(transparent)]
    Compute(#[from] ComputeError),
    /// A report could not be made, by a bug.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// A tracker cannot be asked as it is configured.
    #[error(transparent)]
    Tracker(#[from] TrackerError),
    /// A stage panicked.
    #[error("a part of the agent failed by a bug in doodl3: {0}")]
    Panicked(String),
}

impl From<IngestError> for AgentError {
    fn from(error: IngestError) -> Self {
        match error {
            IngestError::Compute(error) => error.into(),
            IngestError::Store(error) => error.into(),
        }
    }
}

/// What the agent tells whoever shows it to people. Nobody has to listen.
#[derive(Clone, Debug)]
pub enum Event {
    /// Checkpoints were taken in.
    Taken {
        /// How many.
        checkpoints: usize,
    },
    /// An alert changed.
    Alert(Alert, Change),
    /// A stage of an analysis goes on.
    Analysing {
        /// The stage.
        stage: &'static str,
        /// Share of it that is done.
        share: f64,
    },
    /// A group was analysed.
    Analysed(GroupId),
    /// A checkpoint was evaluated.
    Evaluated,
}

/// What the stages share.
#[derive(Debug)]
pub struct Shared {
    plan: Plan,
    store: Store,
    rules: Arc<Rules>,
    started: Instant,
    /// Whether we watch, so that alerts are news.
    live: bool,
    /// Raised to stop computations.
    cancel: Cancel,
    /// Cancelled to stop everything.
    stop: CancellationToken,
    groups: Mutex<Groups>,
    /// Cancelled once it is known whether there is an evaluator.
    evaluator_tried: CancellationToken,
    /// The trackers, by the names of their sources.
    trackers: BTreeMap<String, Tracker>,
    evaluate: Bell,
    analyse: Bell,
    deliver: Bell,
    /// A tracker answers again: what waits to be delivered need not wait longer.
    answers: Notify,
    /// One for each source.
    sources: Vec<Bell>,
    events: broadcast::Sender<Event>,
}

/// Wakes a stage, and knows whether it is at work.
#[derive(Debug, Default)]
struct Bell {
    wake: Notify,
    busy: AtomicBool,
    rung: AtomicBool,
}

impl Bell {
    fn ring(&self) {
        self.rung.store(true, Ordering::SeqCst);
        self.wake.notify_one();
    }

    fn work(&self) {
        self.busy.store(true, Ordering::SeqCst);
        self.rung.store(false, Ordering::SeqCst);
    }

    fn rest(&self) {
        self.busy.store(false, Ordering::SeqCst);
    }

    /// At rest, and nobody has rung since.
    fn is_quiet(&self) -> bool {
        !self.rung.load(Ordering::SeqCst) && !self.busy.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn new(plan: Plan, store: Store, live: bool) -> Result<Self, AgentError> {
        let rules = Rules {
            group_by: plan.group_by,
            detectors: plan.detectors.clone(),
            sketch: SketchParameters::default(),
            sinks: plan.sinks.iter().map(deliver::sink_name).collect(),
        };
        let mut trackers = BTreeMap::new();
        for source in &plan.sources {
            if let Some(tracker) = Tracker::of(source)? {
                trackers.insert(source.name().to_owned(), tracker);
            }
        }
        let groups = Mutex::new(Groups::new(plan.every));
        let sources = plan.sources.iter().map(|_| Bell::default()).collect();
        Ok(Self {
            plan,
            store,
            rules: Arc::new(rules),
            started: Instant::now(),
            live,
            cancel: Cancel::new(),
            stop: CancellationToken::new(),
            groups,
            evaluator_tried: CancellationToken::new(),
            trackers,
            evaluate: Bell::default(),
            analyse: Bell::default(),
            deliver: Bell::default(),
            answers: Notify::new(),
            sources,
            events: broadcast::Sender::new(1024),
        })
    }

    /// The folder through which the files of a tracker go.
    fn spool(&self, source: &str) -> PathBuf {
        let name: String = source.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
        self.plan.state_dir.join("spool").join(name)
    }

    /// Removes a file of a tracker that nothing needs any more, and its folders where they are empty.
    async fn unspool(&self, source: &str, path: &str) {
        let root = self.spool(source);
        let file = root.join(path);
        // What is left behind is removed at the next start.
        drop(tokio::fs::remove_file(&file).await);
        for folder in file.ancestors().skip(1).take_while(|folder| *folder != root) {
            if tokio::fs::remove_dir(folder).await.is_err() {
                break;
            }
        }
    }

    /// Makes the state fit the plan, and marks every group: what changed while the agent was away is found by comparing.
    async fn prepare(&self) -> Result<(), AgentError> {
        let rules = Arc::clone(&self.rules);
        let groups = self.store.write(move |tables| {
            let sketch = serde_json::to_string(&rules.sketch)
                .map_err(|error| StoreError::Damaged { what: "sketch", reason: error.to_string() })?;
            if tables.fact("sketch")?.is_some_and(|before| before != sketch) {
                tracing::warn!(
                    "sketches are made in another way now; all checkpoints that are there are read again"
                );
                tables.forget_all_that_was_read()?;
            }
            tables.set_fact("sketch", &sketch)?;
            let group_by = if rules.group_by == GroupBy::Run { "run" } else { "experiment" };
            if tables.fact("group_by")?.is_some_and(|before| before != group_by) {
                tables.regroup(rules.group_by == GroupBy::Run)?;
            }
            tables.set_fact("group_by", group_by)?;
            for sink in tables.set_sinks(&rules.sinks)? {
                tracing::info!(sink, "sink is gone from the configuration");
            }
            tables.groups()
        });
        let groups = groups.await?;
        let now = self.now().running;
        let mut marks = self.groups();
        for group in groups {
            marks.mark(group.id, 0, now);
        }
        Ok(())
    }

    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Now { running: self.started.elapsed(), wall_ns: wall.as_nanos() as i64 }
    }

    fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: Event) {
        // Nobody has to listen.
        drop(self.events.send(event));
    }

    /// Tells of alerts that changed, while watching also in the log, one line each with what to do, and has them
    /// delivered.
    fn tell_alerts(&self, alerts: Vec<(Alert, Change)>) {
        if alerts.is_empty() {
            return;
        }
        for (alert, change) in alerts {
            if self.live {
                log_alert(&alert, change);
            }
            self.tell(Event::Alert(alert, change));
        }
        self.deliver.ring();
    }

    /// Notes whether there is an evaluator: reports say so.
    async fn set_availability(&self, availability: Availability) -> Result<(), StoreError> {
        self.store.write(move |tables| report::put_availability(tables, &availability)).await?;
        self.evaluator_tried.cancel();
        Ok(())
    }

    /// Waits until it is known whether there is an evaluator.
    async fn evaluator_tried(&self) {
        tokio::select! {
            () = self.evaluator_tried.cancelled() => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Whether nothing is left to do, as far as the agent has looked.
    fn is_quiet(&self) -> bool {
        // In the order of the stages: each rings the next before it rests.
        self.sources.iter().all(Bell::is_quiet)
            && self.evaluate.is_quiet()
            && self.groups().is_empty()
            && self.analyse.is_quiet()
            && self.deliver.is_quiet()
    }
}

/// One line: what happened, and what to do.
fn log_alert(alert: &Alert, change: Change) {
    let what = match change {
        Change::Opened => "alert",
        Change::Escalated => "alert is more severe now",
        Change::Resolved => "alert is over",
        Change::Repeated => return,
    };
    let Alert { run, detector, opened_step, last_step, headline, advice, .. } = alert;
    let severity = format!("{:?}", alert.severity).to_lowercase();
    let step = match change {
        Change::Opened => *opened_step,
        _ => alert.resolved_step.unwrap_or(*last_step),
    };
    let detector = detector.name();
    match (change, alert.severity) {
        (Change::Resolved, _) => tracing::info!(run, detector, severity, step, headline, "{what}"),
        (_, Severity::Info) => tracing::info!(run, detector, severity, step, headline, advice, "{what}"),
        (_, Severity::Warning | Severity::High) => {
            tracing::warn!(run, detector, severity, step, headline, advice, "{what}");
        }
        (_, Severity::Critical) => {
            tracing::error!(run, detector, severity, step, headline, advice, "{what}");
        }
    }
}

/// The running agent.
#[derive(Debug)]
pub struct Agent {
    shared: Arc<Shared>,
    stages: JoinSet<Result<(), AgentError>>,
}

impl Agent {
    /// Starts the stages.
    ///
    /// # Errors
    /// [`AgentError`] when the state cannot be prepared.
    pub async fn start(plan: Plan, store: Store) -> Result<Self, AgentError> {
        let shared = Arc::new(Shared::new(plan, store, true)?);
        shared.prepare().await?;
        let mut stages = JoinSet::new();
        for (index, plan) in shared.plan.sources.iter().enumerate() {
            let shared = Arc::clone(&shared);
            match plan {
                SourcePlan::Directory(plan) => stages.spawn(source::run(shared, index, plan.clone())),
                SourcePlan::Tracker(plan) => stages.spawn(tracked::run(shared, index, (**plan).clone())),
            };
        }
        stages.spawn(evaluation::run(Arc::clone(&shared)));
        stages.spawn(pipeline::run(Arc::clone(&shared)));
        stages.spawn(deliver::run(Arc::clone(&shared)));
        Ok(Self { shared, stages })
    }

    /// What happens from now on. Events are lost on who does not keep up.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    /// The state.
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// Has all sources listed again; the future ends when nothing is left to do.
    pub fn settled(&self) -> impl Future<Output = ()> + use<> {
        let shared = Arc::clone(&self.shared);
        shared.sources.iter().for_each(Bell::ring);
        async move {
            while !shared.is_quiet() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Waits until a stage fails.
    ///
    /// # Errors
    /// Why it failed; always.
    pub async fn failed(&mut self) -> AgentError {
        loop {
            match self.stages.join_next().await {
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => return error,
                Some(Err(error)) => return AgentError::Panicked(error.to_string()),
                // All have ended in good order: there is nothing to wait for.
                None => std::future::pending().await,
            }
        }
    }

    /// Stops: no new work, computations are cancelled, ten seconds. What is left waits on disk.
    ///
    /// # Errors
    /// What a stage failed with meanwhile.
    pub async fn stop(mut self) -> Result<(), AgentError> {
        self.shared.stop.cancel();
        self.shared.cancel.raise();
        let ended = async {
            while let Some(stage) = self.stages.join_next().await {
                stage.map_err(|error| AgentError::Panicked(error.to_string()))??;
            }
            Ok(())
        };
        tokio::time::timeout(LAST_WORDS, ended).await.unwrap_or_else(|_late| {
            tracing::warn!(
                "some work did not stop in time and is abandoned; it is done again at the next start"
            );
            Ok(())
        })
    }
}

/// One pass over everything that is there: taken in, evaluated, analysed, delivered, in this order.
#[derive(Debug)]
pub struct Once(Shared);

impl Once {
    /// Nothing done yet.
    ///
    /// # Errors
    /// [`AgentError`] when a tracker cannot be asked as it is configured.
    pub fn new(plan: Plan, store: Store) -> Result<Self, AgentError> {
        Ok(Self(Shared::new(plan, store, false)?))
    }

    /// What happens from now on. Events are lost on who does not keep up.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.0.events.subscribe()
    }

    /// Does it.
    ///
    /// # Errors
    /// [`AgentError`]; a source that cannot be read is told in the log, as while watching.
    pub async fn run(self) -> Result<(), AgentError> {
        let Self(shared) = self;
        shared.prepare().await?;
        for plan in &shared.plan.sources {
            match plan {
                SourcePlan::Directory(plan) => source::once(&shared, plan).await?,
                SourcePlan::Tracker(plan) => tracked::once(&shared, plan).await?,
            }
        }
        evaluation::once(&shared).await?;
        pipeline::once(&shared).await?;
        deliver::once(&shared).await
    }
}
