//! What a report tells, gathered from the state.

use super::evaluation::Availability;
use crate::adapters::tracker::RunStatus;
use crate::config::{Place, SourcePlan};
use crate::render::{self, ReportInput, RunState, RunView, Series};
use crate::store::{Analysed, CheckpointRow, Group, GroupId, StoreError, Tables};

/// The fact that says whether there is an evaluator.
const AVAILABILITY: &str = "evaluator";

/// Files left out that a report names; of more it tells the number.
const MOST_SKIPPED: usize = 50;

/// The report on a group: its folder below a sink, and what it tells. `None` for a group that is gone.
///
/// # Errors
/// [`StoreError`].
pub fn input(
    tables: &Tables<'_>,
    id: GroupId,
    sources: &[SourcePlan],
) -> Result<Option<(String, ReportInput)>, StoreError> {
    let Some(group) = tables.groups()?.into_iter().find(|group| group.id == id) else {
        return Ok(None);
    };
    let rows = tables.checkpoints(id)?;
    let availability = availability(tables)?;
    let none_yet = || Analysed {
        name: String::new(),
        result: Err("the first analysis is not done yet".into()),
        since: None,
    };
    let Analysed { name, result, since } = tables.last_analysis(id)?.unwrap_or_else(none_yet);
    let runs = rows
        .chunk_by(|a, b| a.run == b.run)
        .map(|rows| run_view(tables, &group, rows))
        .collect::<Result<_, _>>()?;
    let title = if group.run.is_empty() { &group.experiment } else { &group.run };
    let input = ReportInput {
        title: title.clone(),
        focus: None,
        analysis_id: name,
        analysis: result,
        since,
        runs,
        alerts: tables.group_alerts(id)?,
        skipped: skipped(tables, &group, sources)?,
        not_available: not_available(&rows, &availability),
        versions: versions(&availability),
        group: render::Group {
            source: group.source,
            experiment: group.experiment,
            signature: group.signature,
        },
    };
    Ok(Some((group.folder, input)))
}

/// Notes whether losses and predictions can be had.
pub(super) fn put_availability(tables: &Tables<'_>, availability: &Availability) -> Result<(), StoreError> {
    tables.set_fact(AVAILABILITY, &serde_json::to_string(availability).map_err(damaged)?)
}

fn availability(tables: &Tables<'_>) -> Result<Availability, StoreError> {
    match tables.fact(AVAILABILITY)? {
        Some(json) => serde_json::from_str(&json).map_err(damaged),
        None => Ok(Availability::Off { reason: "the evaluator was not tried yet".into() }),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn damaged(error: serde_json::Error) -> StoreError {
    StoreError::Damaged { what: "note on the evaluator", reason: error.to_string() }
}

/// Whether a run goes on, where its tracker tells.
fn state(tables: &Tables<'_>, group: &Group, run: &str) -> Result<RunState, StoreError> {
    let tracked = tables.tracked_by_name(&group.source, &group.experiment, run)?;
    Ok(match tracked.map(|row| row.run.status) {
        Some(RunStatus::Running) => RunState::Training,
        Some(RunStatus::Ended) => RunState::Ended,
        Some(RunStatus::Stale) | None => RunState::Unknown,
    })
}

fn run_view(tables: &Tables<'_>, group: &Group, rows: &[CheckpointRow]) -> Result<RunView, StoreError> {
    let series = |value: fn(&CheckpointRow) -> Option<f64>| -> Series {
        rows.iter().filter_map(|row| Some((row.step, value(row)?))).collect()
    };
    Ok(RunView {
        run: rows[0].run.clone(),
        state: state(tables, group, &rows[0].run)?,
        steps: rows.iter().map(|row| row.step).collect(),
        logged_losses: tables.losses(rows[0].run_id)?,
        evaluated_losses: series(|row| {
            let evaluated = row.model.is_some() && row.evaluation_error.is_none();
            evaluated.then(|| row.loss.unwrap_or(f64::NAN))
        }),
        weight_norms: series(|row| if row.finite { row.norm } else { Some(f64::NAN) }),
        update_ratios: series(|row| row.update_ratio),
        instability: series(|row| row.instability),
    })
}

/// Files of the group's experiment that could not be used.
fn skipped(
    tables: &Tables<'_>,
    group: &Group,
    sources: &[SourcePlan],
) -> Result<Vec<(String, String)>, StoreError> {
    let Some(source) = sources.iter().find(|source| source.name() == group.source) else {
        return Ok(Vec::new());
    };
    let mut skipped: Vec<(String, String)> = tables
        .files(&group.source)?
        .into_iter()
        .filter(|file| file.error.is_some())
        .filter_map(|file| {
            let place = match source {
                SourcePlan::Directory(plan) => plan.place(file.path.as_ref())?,
                SourcePlan::Tracker(_) => tracked_place(tables, &group.source, &file.path)?,
            };
            let ours =
                place.experiment == group.experiment && (group.run.is_empty() || place.run == group.run);
            Some((file.path, file.error.filter(|_| ours)?))
        })
        .collect();
    if skipped.len() > MOST_SKIPPED {
        let more = skipped.len() - MOST_SKIPPED;
        skipped.truncate(MOST_SKIPPED);
        skipped.push((format!("{more} more"), "left out as well".into()));
    }
    Ok(skipped)
}

/// The place of a tracker's file, whose path begins with its run's id.
fn tracked_place(tables: &Tables<'_>, source: &str, path: &str) -> Option<Place> {
    let (key, _) = path.split_once('/')?;
    let row = tables.tracked_by_key(source, key).ok()??;
    Some(Place { experiment: row.experiment, run: row.name, step: None, epoch: None })
}

fn not_available(rows: &[CheckpointRow], availability: &Availability) -> Vec<String> {
    let mut missing = Vec::new();
    if let Availability::Off { reason } = availability {
        missing.push(format!("loss and predictions on the probe batch: {reason}"));
    }
    let mut failed = rows.iter().filter_map(|row| row.evaluation_error.as_ref().map(|error| (row, error)));
    if let Some((row, error)) = failed.next() {
        let more = match failed.count() {
            0 => String::new(),
            n => format!(" (and {n} more checkpoints)"),
        };
        missing.push(format!("loss and predictions of run {} at step {}: {error}{more}", row.run, row.step));
    }
    missing
}

fn versions(availability: &Availability) -> Vec<(String, String)> {
    let mut versions = vec![("doodl3".to_owned(), env!("CARGO_PKG_VERSION").to_owned())];
    if let Availability::On { libtorch } = availability {
        versions.push(("libtorch".into(), libtorch.clone()));
    }
    versions
}
