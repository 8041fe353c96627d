//! Which runs a filter means, and in which order they come.

use std::cmp::Ordering;

use serde_json::Value;

use super::ENTITY;
use super::state::{Artifact, Run};

/// What a filter looks at: the value of a name, null where there is none.
pub(super) trait Look {
    fn look(&self, name: &str) -> Result<Value, String>;
}

impl Look for Run {
    fn look(&self, name: &str) -> Result<Value, String> {
        if let Some(key) = name.strip_prefix("config.") {
            return Ok(inside(&self.configured().into(), key.strip_suffix(".value").unwrap_or(key)));
        }
        if let Some(key) =
            name.strip_prefix("summary_metrics.").or_else(|| name.strip_prefix("summaryMetrics."))
        {
            return Ok(inside(&self.summed(), key));
        }
        Ok(match name {
            "name" => self.name.as_str().into(),
            "displayName" | "display_name" => self.display_name.as_str().into(),
            "state" => self.state.as_str().into(),
            "jobType" | "job_type" => self.job_type.clone().into(),
            "group" => self.group.clone().into(),
            "host" => self.host.clone().into(),
            "createdAt" | "created_at" => self.created_at.as_str().into(),
            "heartbeatAt" | "heartbeat_at" => self.heartbeat_at.as_str().into(),
            "tags" => self.tags.clone().into(),
            "username" | "entity" => ENTITY.into(),
            _ => return Err(format!("unknown filter \"{name}\"")),
        })
    }
}

impl Look for Artifact {
    fn look(&self, name: &str) -> Result<Value, String> {
        Ok(match name {
            "state" => self.state.as_str().into(),
            "digest" => self.digest.as_str().into(),
            "createdAt" | "created_at" => self.created_at.as_str().into(),
            "versionIndex" | "version_index" => self.version.into(),
            "alias" => self.aliases.iter().cloned().collect(),
            "tag" => self.tags.iter().cloned().collect(),
            _ => return Err(format!("unknown filter \"{name}\"")),
        })
    }
}

/// A value by a path with dots, or by a key that has dots itself.
fn inside(value: &Value, path: &str) -> Value {
    if let Some(found) = value.get(path) {
        return found.clone();
    }
    let Some((first, rest)) = path.split_once('.') else { return Value::Null };
    value.get(first).map_or(Value::Null, |value| inside(value, rest))
}

/// A filter as it comes: JSON, empty where there is none.
pub(super) fn read(text: Option<&Value>) -> Result<Value, String> {
    let text = text.and_then(Value::as_str).unwrap_or("{}");
    let filter = serde_json::from_str(if text.is_empty() { "{}" } else { text });
    filter.map_err(|error| format!("invalid filters: {error}"))
}

/// Whether a filter means this one.
pub(super) fn matches(filter: &Value, one: &dyn Look) -> Result<bool, String> {
    let filter = filter.as_object().ok_or("invalid filters: an object is expected")?;
    for (key, condition) in filter {
        let parts = || condition.as_array().ok_or_else(|| format!("{key} needs a list"));
        let holds = match key.as_str() {
            "$and" => all(parts()?, one)?,
            "$or" => any(parts()?, one)?,
            "$nor" => !any(parts()?, one)?,
            "$not" => !matches(condition, one)?,
            name => condition_holds(name, &one.look(name)?, condition)?,
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}

fn all(parts: &[Value], one: &dyn Look) -> Result<bool, String> {
    parts.iter().try_fold(true, |holds, part| Ok(holds & matches(part, one)?))
}

fn any(parts: &[Value], one: &dyn Look) -> Result<bool, String> {
    parts.iter().try_fold(false, |holds, part| Ok(holds | matches(part, one)?))
}

fn condition_holds(name: &str, value: &Value, condition: &Value) -> Result<bool, String> {
    let operators = condition.as_object().filter(|object| object.keys().any(|key| key.starts_with('$')));
    let Some(operators) = operators else { return Ok(equals(name, value, condition)) };
    for (operator, wanted) in operators {
        let list = || wanted.as_array().ok_or_else(|| format!("{operator} needs a list"));
        let compared = || compare(name, value, wanted);
        let holds = match operator.as_str() {
            "$eq" => equals(name, value, wanted),
            "$ne" => !equals(name, value, wanted),
            "$gt" => compared() == Some(Ordering::Greater),
            "$gte" => compared().is_some_and(Ordering::is_ge),
            "$lt" => compared() == Some(Ordering::Less),
            "$lte" => compared().is_some_and(Ordering::is_le),
            "$in" => list()?.iter().any(|wanted| equals(name, value, wanted)),
            "$nin" => !list()?.iter().any(|wanted| equals(name, value, wanted)),
            "$exists" => value.is_null() != wanted.as_bool().unwrap_or(true),
            "$regex" => {
                let pattern = wanted.as_str().ok_or("$regex needs a text")?;
                let pattern = regex::Regex::new(pattern).map_err(|error| error.to_string())?;
                texts(value).iter().any(|text| pattern.is_match(text))
            }
            "$not" => !condition_holds(name, value, wanted)?,
            _ => return Err(format!("unknown operator \"{operator}\"")),
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}

fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        value => value.as_str().into_iter().collect(),
    }
}

fn equals(name: &str, value: &Value, wanted: &Value) -> bool {
    match value {
        Value::Array(items) if !wanted.is_array() => items.contains(wanted),
        _ => value == wanted || compare(name, value, wanted) == Some(Ordering::Equal),
    }
}

/// Times that are not written as the server writes them are equal to none, and neither before nor after any.
fn compare(name: &str, value: &Value, wanted: &Value) -> Option<Ordering> {
    if let (Some(value), Some(wanted)) = (value.as_f64(), wanted.as_f64()) {
        return value.partial_cmp(&wanted);
    }
    let (value, wanted) = (value.as_str()?, wanted.as_str()?);
    let is_time = ["createdAt", "created_at", "heartbeatAt", "heartbeat_at"].contains(&name);
    (!is_time || wanted.ends_with('Z')).then(|| value.cmp(wanted))
}

/// Sorts by names with a sign each, separated by commas; those without a value count as the smallest.
pub(super) fn sort<T: Look>(them: &mut [&T], order: &str) -> Result<(), String> {
    for key in order.split(',').rev().map(str::trim).filter(|key| !key.is_empty()) {
        let (name, falls) = match key.strip_prefix('-') {
            Some(name) => (name, true),
            None => (key.strip_prefix('+').unwrap_or(key), false),
        };
        for one in them.iter() {
            one.look(name)?;
        }
        them.sort_by(|one, other| {
            let (one, other) = (one.look(name).unwrap_or_default(), other.look(name).unwrap_or_default());
            let order = compare("", &one, &other).unwrap_or_else(|| other.is_null().cmp(&one.is_null()));
            if falls { order.reverse() } else { order }
        });
    }
    Ok(())
}
