//! Losses out of a run's history.
//!
//! The history is sampled where a question covers more rows than it asks for; so it is asked in windows that hold fewer,
//! and one that comes back full is asked again in two halves. W&B's step counts calls of `log`; where the trainer logs its own step beside, that one counts.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::files::Look;
use super::names::{LOSS_NAMES, STEP_NAMES, as_step};
use super::{Wandb, id};
use crate::adapters::http::Repeat;
use crate::adapters::tolerant;
use crate::adapters::tracker::{TrackedRun, TrackerError};

/// Rows that are asked for at once, and steps in a window.
const WINDOW: i64 = 10_000;

const HISTORY: &str =
    "query History($entity: String!, $project: String!, $run: String!, $specs: [JSONString!]!) {
    project(name: $project, entityName: $entity) { run(name: $run) { sampledHistory(specs: $specs) } }
}";

/// The names of the metrics that count in a run.
struct Series {
    loss: String,
    /// The metric that is the trainer's step; `None`: W&B's own step.
    step: Option<String>,
}

/// What a row tells.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    /// W&B's step.
    row: i64,
    /// The step that counts.
    step: u64,
    /// NaN for what is not finite.
    loss: f64,
}

impl Wandb {
    /// The losses of a run after the step `seen`, by step.
    pub(super) async fn losses(
        &self,
        run: &TrackedRun,
        look: &Look,
        seen: Option<u64>,
    ) -> Result<Vec<(u64, f64)>, TrackerError> {
        let Some(mut series) = self.series(&look.keys) else {
            return Ok(Vec::new());
        };
        if self.known().counts_rows(&run.key) {
            series.step = None;
        }
        let last = look.last_step.unwrap_or_else(|| look.rows.saturating_sub(1) as i64);
        let (first, told_before) = match (&series.step, seen) {
            (None, Some(seen)) => (seen as i64 + 1, false),
            (None, None) => (0, false),
            // What is stored says how far the history was taken in, not how far it was read.
            (Some(_), seen) => self.known().rows_taken_in(&run.key, seen),
        };
        let mut points = self.points(run, &series, look.rows, first, last).await?;
        if points.is_empty() && series.step.is_some() && self.plan.step.is_none() && !told_before {
            // It is logged, but never in one row with the loss.
            series.step = None;
            let first = seen.map_or(0, |seen| seen as i64 + 1);
            points = self.points(run, &series, look.rows, first, last).await?;
            if !points.is_empty() {
                self.known().count_rows(&run.key);
            }
        }
        let scale = points.iter().filter(|_| series.step.is_some()).map(|point| (point.row, point.step));
        self.known().extend_scale(&run.key, scale);
        let mut losses: Vec<(u64, f64)> = points.iter().map(|point| (point.step, point.loss)).collect();
        losses.retain(|(step, _)| seen.is_none_or(|seen| *step > seen));
        losses.sort_by_key(|(step, _)| *step);
        Ok(losses)
    }

    fn series(&self, keys: &BTreeSet<String>) -> Option<Series> {
        let named = |written: &Option<String>, names: &[&str]| match written {
            Some(name) => keys.contains(name).then(|| name.clone()),
            None => names.iter().find(|name| keys.contains(**name)).map(|&name| name.to_owned()),
        };
        let loss = named(&self.plan.watched.loss, &LOSS_NAMES)?;
        Some(Series { loss, step: named(&self.plan.step, &STEP_NAMES) })
    }

    async fn points(
        &self,
        run: &TrackedRun,
        series: &Series,
        rows: u64,
        first: i64,
        last: i64,
    ) -> Result<Vec<Point>, TrackerError> {
        let entity = self.entity().await?;
        // Of few rows there are no samples, however far apart their steps are; of many, windows are chosen that would be
        // half full if the steps were evenly spaced.
        let span = u128::try_from(last.saturating_sub(first)).unwrap_or(0) + 1;
        let window = match u128::from(rows) {
            rows if rows <= WINDOW as u128 => i64::MAX,
            rows => i64::try_from(span * WINDOW as u128 / (2 * rows)).unwrap_or(i64::MAX).max(WINDOW),
        };
        let mut points = Vec::new();
        let mut ranges = Vec::new();
        let mut from = first;
        while from <= last {
            let to = from.saturating_add(window - 1).min(last);
            ranges.push((from, to));
            from = to.saturating_add(1);
        }
        ranges.reverse();
        while let Some((from, to)) = ranges.pop() {
            let keys: Vec<&str> = [Some("_step"), Some(series.loss.as_str()), series.step.as_deref()]
                .into_iter()
                .flatten()
                .collect();
            let spec = json!({ "keys": keys, "samples": WINDOW, "minStep": from, "maxStep": to });
            let variables = json!({
                "entity": entity,
                "project": run.experiment_key,
                "run": id(run),
                "specs": [spec.to_string()],
            });
            let data = self.graphql.ask(HISTORY, &variables, Repeat::Freely).await?;
            let Some(found) = data.pointer("/project/run/sampledHistory/0").and_then(Value::as_array) else {
                return Err(self.why_not_shown(&data, run).await);
            };
            if found.len() as i64 >= WINDOW && to - from >= WINDOW {
                // It may be a sample.
                let middle = from + (to - from) / 2;
                ranges.extend([(middle + 1, to), (from, middle)]);
                continue;
            }
            points.extend(found.iter().filter_map(|row| point(row, series)));
        }
        Ok(points)
    }
}

fn point(row: &Value, series: &Series) -> Option<Point> {
    let number = row["_step"].as_i64()?;
    let step = as_step(&row[series.step.as_deref().unwrap_or("_step")])?;
    let loss = tolerant::number(&row[series.loss.as_str()])?;
    Some(Point { row: number, step, loss: if loss.is_finite() { loss } else { f64::NAN } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_points() {
        let series = |step: Option<&str>| Series { loss: "loss".into(), step: step.map(str::to_owned) };
        let row = json!({ "_step": 3, "loss": 0.5, "trainer/global_step": 300.0 });
        assert_eq!(point(&row, &series(None)), Some(Point { row: 3, step: 3, loss: 0.5 }));
        let told = series(Some("trainer/global_step"));
        assert_eq!(point(&row, &told), Some(Point { row: 3, step: 300, loss: 0.5 }));
        let Point { step, loss, .. } =
            point(&json!({ "_step": 4, "loss": "-Infinity" }), &series(None)).unwrap();
        assert!(step == 4 && loss.is_nan());
        for row in [
            json!({ "_step": -1, "loss": 1 }),
            json!({ "_step": 1, "loss": {} }),
            json!({ "_step": 1.5, "loss": 1 }),
        ] {
            assert_eq!(point(&row, &series(None)), None, "{row}");
        }
    }
}
