//! The third stage: a group is analysed, as `ARCHITECTURE.md` draws it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::groups::Next;
use super::members::Members;
use super::{AgentError, Event, Shared};
use crate::compute;
use crate::engine::{self, Analysis, Control, EngineError, RunSeries, Since};
use crate::store::{Analysed, GroupId, StoreError};

/// Analyses groups, one at a time, until the agent stops.
pub(super) async fn run(shared: Arc<Shared>) -> Result<(), AgentError> {
    shared.evaluator_tried().await;
    loop {
        shared.analyse.work();
        let next = shared.groups().next(shared.now().running);
        let pause = match next {
            Next::Analyse(group) => {
                let began = Instant::now();
                analyse(&shared, group).await?;
                shared.groups().analysed(group, began.elapsed(), shared.now().running);
                Duration::ZERO
            }
            Next::Wait(pause) => pause,
            Next::Nothing => Duration::MAX,
        };
        if !pause.is_zero() {
            shared.analyse.rest();
        }
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
            () = shared.analyse.wake.notified() => {}
        }
    }
}

/// Analyses every group once.
#[expect(clippy::redundant_closure_for_method_calls, reason = "the method is of one lifetime only")]
pub(super) async fn once(shared: &Shared) -> Result<(), AgentError> {
    for group in shared.store.read(|tables| tables.groups()).await? {
        analyse(shared, group.id).await?;
    }
    Ok(())
}

/// One analysis, stage after stage.
async fn analyse(shared: &Shared, group: GroupId) -> Result<(), AgentError> {
    let Some(Task { name, series, before }) = gather(shared, group).await? else {
        return Ok(());
    };
    let Some((result, since)) = compute(shared, series, before).await? else {
        return Ok(());
    };
    record(shared, group, Analysed { name, result, since }).await?;
    shared.deliver.ring();
    shared.tell(Event::Analysed(group));
    Ok(())
}

/// What there is to analyse.
struct Task {
    name: String,
    series: Vec<RunSeries>,
    /// The last analysis that found something, and its name.
    before: Option<(String, Analysis)>,
}

/// What there is to analyse; `None` where that was done already.
async fn gather(shared: &Shared, group: GroupId) -> Result<Option<Task>, StoreError> {
    let parameters = shared.plan.parameters.clone();
    let gathered = shared.store.read(move |tables| {
        let members = Members::of(tables, group)?;
        let name = members
            .name(&parameters)
            .map_err(|error| StoreError::Damaged { what: "parameter", reason: error.to_string() })?;
        if tables.last_analysis_name(group)?.as_ref() == Some(&name) {
            return Ok(None);
        }
        Ok(Some(Task { name, series: members.series(tables)?, before: tables.last_found(group)? }))
    });
    gathered.await
}

/// The engine's answer, or why it has none, and what has changed since the analysis before; `None` where it was stopped.
async fn compute(
    shared: &Shared,
    series: Vec<RunSeries>,
    before: Option<(String, Analysis)>,
) -> Result<Option<(Result<Analysis, String>, Option<Since>)>, AgentError> {
    let (parameters, events) = (shared.plan.parameters.clone(), shared.events.clone());
    let found = compute::run(&shared.cancel, move |cancel| {
        let control = Control::new(cancel.clone()).on_progress(move |stage, share| {
            // Nobody has to listen.
            drop(events.send(Event::Analysing { stage, share }));
        });
        let analysis = engine::analyze(&series, &parameters, &control)?;
        let since = before.map(|(id, before)| {
            let comparison = engine::compare(&before, &analysis, &control)?;
            Ok::<_, EngineError>(Since { id, comparison })
        });
        Ok::<_, EngineError>((analysis, since.transpose()?))
    });
    Ok(match found.await? {
        Ok((analysis, since)) => Some((Ok(analysis), since)),
        Err(EngineError::Cancelled) => None,
        Err(error) => Some((Err(error.to_string()), None)),
    })
}

/// Writes the analysis and promises it to the sinks.
async fn record(shared: &Shared, group: GroupId, analysed: Analysed) -> Result<(), StoreError> {
    let rules = Arc::clone(&shared.rules);
    let name = analysed.name.clone();
    let quality = match &analysed.result {
        Ok(analysis) if analysis.quality.low_confidence.is_empty() => String::new(),
        Ok(analysis) => format!("low confidence: {}", analysis.quality.low_confidence.join("; ")),
        Err(reason) => reason.clone(),
    };
    let written = shared.store.write(move |tables| {
        tables.put_analysis(group, &analysed)?;
        tables.promise(&rules.sinks, group)
    });
    written.await?;
    tracing::debug!(analysis = name, quality, "group is analysed");
    Ok(())
}
