//! A run's history as the server gives it: whole rows, samples of some keys, and what keys there are.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::state::{Run, finite};

/// Rows as they were sent, those with `from` ≤ step < `to`, thinned out to `samples`.
pub(super) fn lines(run: &Run, from: Option<i64>, to: Option<i64>, samples: usize) -> Vec<String> {
    let lines = run.history.iter().filter(|line| {
        let step = step(line);
        step.is_some_and(|step| from.is_none_or(|from| step >= from) && to.is_none_or(|to| step < to))
    });
    thinned(lines.cloned().collect(), samples)
}

/// Rows that have all the keys, with nothing else: `{"keys", "samples", "minStep", "maxStep"}`.
pub(super) fn sampled(run: &Run, spec: &str) -> Result<Value, String> {
    let spec: Value = serde_json::from_str(spec).map_err(|error| format!("invalid spec: {error}"))?;
    let keys = spec["keys"].as_array().ok_or("invalid spec: keys are missing")?;
    let keys: Vec<&str> = keys.iter().filter_map(Value::as_str).collect();
    let (from, to) = (spec["minStep"].as_i64(), spec["maxStep"].as_i64());
    let mut rows = Vec::new();
    for row in run.rows() {
        let step = row["_step"].as_i64().unwrap_or_default();
        if from.is_some_and(|from| step < from) || to.is_some_and(|to| step > to) {
            continue;
        }
        let found: Option<Map<String, Value>> =
            keys.iter().map(|key| Some(((*key).to_owned(), inside(&row, key)?))).collect();
        rows.extend(found.map(Value::Object));
    }
    let samples = spec["samples"].as_u64().unwrap_or(500);
    Ok(thinned(rows, samples as usize).into())
}

/// `{"lastStep", "keys": {name: …}, "sets"}`; null where nothing was logged.
pub(super) fn keys(run: &Run) -> Value {
    let rows = run.rows();
    let last = rows.iter().filter_map(|row| row["_step"].as_i64()).max();
    let mut counts: BTreeMap<String, (&str, usize)> = BTreeMap::new();
    for row in &rows {
        names(row, "", &mut counts);
    }
    let keys: Map<String, Value> = counts
        .into_iter()
        .map(|(name, (kind, count))| (name, json!({ "typeCounts": [{ "type": kind, "count": count }] })))
        .collect();
    last.map_or(Value::Null, |last| json!({ "lastStep": last, "sets": [], "keys": keys }))
}

/// The last row, in a list, as trainers ask for when they go on.
pub(super) fn tail(lines: &[String]) -> String {
    let last: Vec<String> =
        lines.iter().rev().find(|line| !line.is_empty()).map(|line| finite(line)).into_iter().collect();
    json!(last).to_string()
}

fn names(row: &Value, prefix: &str, counts: &mut BTreeMap<String, (&str, usize)>) {
    for (key, value) in row.as_object().into_iter().flatten() {
        let name = format!("{prefix}{key}");
        match value {
            Value::Object(inner) if !inner.contains_key("_type") => {
                names(value, &format!("{name}."), counts);
            }
            value => {
                let kind = if value.is_number() {
                    "number"
                } else if value.is_string() {
                    "string"
                } else {
                    "other"
                };
                counts.entry(name).or_insert((kind, 0)).1 += 1;
            }
        }
    }
}

fn step(line: &str) -> Option<i64> {
    serde_json::from_str::<Value>(&finite(line)).ok()?["_step"].as_i64()
}

fn inside(row: &Value, key: &str) -> Option<Value> {
    if let Some(found) = row.get(key) {
        return Some(found.clone());
    }
    let (first, rest) = key.split_once('.')?;
    inside(row.get(first)?, rest)
}

/// At most so many, evenly spread.
fn thinned<T>(all: Vec<T>, samples: usize) -> Vec<T> {
    let count = all.len();
    let wanted = |place: usize| (place * samples) / count != ((place + 1) * samples) / count;
    let thin = count > samples;
    all.into_iter().enumerate().filter(|(place, _)| !thin || wanted(*place)).map(|(_, one)| one).collect()
}
