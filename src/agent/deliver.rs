//! The last stage: reports go to the sinks that were promised one.
//!
//! A promise says that a sink does not show the latest of a group. The report is made when it is delivered, from what
//! the state holds then; so promises join, and a sink that was away gets the latest only.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{AgentError, Shared, post, report};
use crate::adapters::directory;
use crate::compute;
use crate::config::SinkPlan;
use crate::render::{self, ReportInput};
use crate::store::{Delivery, GroupId, StoreError};

/// Shortest time between two reports, so that many small changes are delivered together.
const PAUSE: Duration = Duration::from_secs(1);

/// Waiting times after failures: doubled from the first up to the last.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));

/// The name of a sink in the state.
pub(super) fn sink_name(sink: &SinkPlan) -> String {
    match sink {
        SinkPlan::Directory(folder) => {
            let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.clone());
            format!("directory:{}", folder.display())
        }
        SinkPlan::Tracker(_) => "tracker".into(),
    }
}

/// Delivers until the agent stops.
pub(super) async fn run(shared: Arc<Shared>) -> Result<(), AgentError> {
    shared.deliver.ring();
    let mut told = BTreeMap::new();
    loop {
        tokio::select! {
            () = shared.deliver.wake.notified() => {}
            () = shared.stop.cancelled() => return Ok(()),
        }
        shared.deliver.work();
        let failures = all(&shared, &mut told).await?;
        shared.deliver.rest();
        let pause = failures.map_or(PAUSE, back_off);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shared.answers.notified(), if failures.is_some() => {}
            () = shared.stop.cancelled() => return Ok(()),
        }
        if failures.is_some() {
            shared.deliver.wake.notify_one();
        }
    }
}

/// Delivers all that is promised now.
pub(super) async fn once(shared: &Shared) -> Result<(), AgentError> {
    all(shared, &mut BTreeMap::new()).await.map(drop)
}

fn back_off(failures: u32) -> Duration {
    BACK_OFF.0.saturating_mul(1 << failures.min(10)).min(BACK_OFF.1)
}

/// What was said last of each sink that does not take what it was promised.
type Told = BTreeMap<String, String>;

/// Keeps all promises. Returns, where some could not be kept, the fewest failures of one of them.
#[expect(clippy::redundant_closure_for_method_calls, reason = "the method is of one lifetime only")]
async fn all(shared: &Shared, told: &mut Told) -> Result<Option<u32>, AgentError> {
    shared.evaluator_tried().await;
    let sinks: BTreeMap<String, &SinkPlan> =
        shared.plan.sinks.iter().map(|sink| (sink_name(sink), sink)).collect();
    let mut failures: Option<u32> = None;
    for promises in group(shared.store.read(|tables| tables.promises()).await?) {
        if shared.stop.is_cancelled() {
            return Ok(None);
        }
        let id = promises[0].group;
        let sources = shared.plan.sources.clone();
        let Some((folder, input)) =
            shared.store.read(move |tables| report::input(tables, id, &sources)).await?
        else {
            continue;
        };
        let input = Arc::new(input);
        for promise in promises {
            let delivered = match sinks.get(&promise.sink) {
                Some(SinkPlan::Directory(sink)) => {
                    write(shared, &sink.join(&folder), Arc::clone(&input)).await?
                }
                Some(SinkPlan::Tracker(options)) => {
                    post::group(shared, id, &folder, Arc::clone(&input), options).await?
                }
                None => continue,
            };
            if delivered.is_err() && shared.stop.is_cancelled() {
                // It was broken off: the promise stands.
                return Ok(None);
            }
            if let Err(attempts) = settle(shared, promise, delivered, told).await? {
                failures = Some(failures.map_or(attempts, |least| least.min(attempts)));
            }
        }
    }
    Ok(failures)
}

/// Writes a report into a folder; an error is the folder's.
async fn write(
    shared: &Shared,
    folder: &Path,
    input: Arc<ReportInput>,
) -> Result<Result<(), String>, AgentError> {
    let artifacts = compute::run(&shared.cancel, move |_| render::artifacts(&input)).await??;
    let to = folder.to_owned();
    let written = tokio::task::spawn_blocking(move || directory::write(&to, &artifacts));
    Ok(match written.await.map_err(|error| AgentError::Panicked(error.to_string()))? {
        Ok(files) => {
            if files > 0 {
                tracing::info!(report = %folder.join("report.html").display(), "report is written");
            }
            Ok(())
        }
        Err(error) => Err(error.to_string()),
    })
}

/// Notes what came of a delivery; the number of failures before where it failed.
async fn settle(
    shared: &Shared,
    promise: Delivery,
    delivered: Result<(), String>,
    told: &mut Told,
) -> Result<Result<(), u32>, StoreError> {
    match delivered {
        Ok(()) => {
            told.remove(&promise.sink);
            shared.store.write(move |tables| tables.settle(&promise)).await?;
            Ok(Ok(()))
        }
        Err(error) => {
            let failures = promise.attempts;
            if told.insert(promise.sink.clone(), error.clone()).as_ref() != Some(&error) {
                tracing::warn!(
                    sink = promise.sink,
                    error,
                    "the report cannot be delivered; tried again later"
                );
            }
            shared.store.write(move |tables| tables.delivery_failed(&promise, &error)).await?;
            Ok(Err(failures))
        }
    }
}

/// Promises of one group together: its report is made once.
fn group(promises: Vec<Delivery>) -> Vec<Vec<Delivery>> {
    let mut groups: BTreeMap<GroupId, Vec<Delivery>> = BTreeMap::new();
    for promise in promises {
        groups.entry(promise.group).or_default().push(promise);
    }
    groups.into_values().collect()
}
