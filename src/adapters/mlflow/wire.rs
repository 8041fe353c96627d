//! What MLflow's REST interface says, as far as we ask.
//!
//! Empty lists and strings are left out of its answers, so every field may be missing. Numbers that are not finite come
//! as strings, infinities also as the largest number that there is.

use serde::{Deserialize, Deserializer, Serialize};

/// A page of something.
#[derive(Debug, Deserialize)]
pub(super) struct Page<T> {
    #[serde(
        default = "Vec::new",
        alias = "experiments",
        alias = "runs",
        alias = "metrics",
        alias = "models",
        alias = "files"
    )]
    pub(super) items: Vec<T>,
    #[serde(default)]
    pub(super) next_page_token: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Experiment {
    pub(super) experiment_id: String,
    #[serde(default)]
    pub(super) name: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Run {
    pub(super) info: RunInfo,
    #[serde(default)]
    pub(super) data: RunData,
    #[serde(default)]
    pub(super) outputs: Outputs,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct RunInfo {
    pub(super) run_id: String,
    pub(super) experiment_id: String,
    #[serde(default)]
    pub(super) run_name: String,
    #[serde(default)]
    pub(super) status: String,
    /// Milliseconds since 1970.
    #[serde(default)]
    pub(super) start_time: i64,
    #[serde(default)]
    pub(super) end_time: Option<i64>,
    #[serde(default)]
    pub(super) artifact_uri: String,
    #[serde(default)]
    pub(super) lifecycle_stage: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct RunData {
    /// The latest value of each.
    #[serde(default)]
    pub(super) metrics: Vec<Metric>,
    #[serde(default)]
    pub(super) tags: Vec<Tag>,
}

impl RunData {
    pub(super) fn tag(&self, key: &str) -> Option<&str> {
        self.tags.iter().find(|tag| tag.key == key).map(|tag| tag.value.as_str())
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Outputs {
    #[serde(default)]
    pub(super) model_outputs: Vec<ModelOutput>,
}

/// A logged model, and the step at which it was logged.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ModelOutput {
    pub(super) model_id: String,
    #[serde(default)]
    pub(super) step: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Tag {
    pub(super) key: String,
    #[serde(default)]
    pub(super) value: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Metric {
    pub(super) key: String,
    /// NaN where it is not finite.
    #[serde(deserialize_with = "number_or_name")]
    pub(super) value: f64,
    /// Milliseconds since 1970.
    #[serde(default)]
    pub(super) timestamp: i64,
    #[serde(default)]
    pub(super) step: i64,
}

impl Metric {
    /// (step, value), NaN for what is not finite; `None` before step 0.
    pub(super) fn point(&self) -> Option<(u64, f64)> {
        let value = if self.value.is_finite() { self.value } else { f64::NAN };
        Some((u64::try_from(self.step).ok()?, value))
    }
}

/// The largest number stands for an infinity, which SQL cannot hold.
pub(super) fn as_stored(value: f64) -> f64 {
    if value.abs() == f64::MAX { f64::INFINITY.copysign(value) } else { value }
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct File {
    pub(super) path: String,
    #[serde(default)]
    pub(super) is_dir: bool,
    /// Missing where it is 0.
    #[serde(default, rename = "file_size")]
    pub(super) bytes: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct LoggedModel {
    pub(super) model: Model,
}

#[derive(Debug, Deserialize)]
pub(super) struct Model {
    pub(super) info: ModelInfo,
}

#[derive(Debug, Deserialize)]
pub(super) struct ModelInfo {
    #[serde(default)]
    pub(super) artifact_uri: String,
    #[serde(default)]
    pub(super) status: ModelStatus,
}

/// Named by old servers, told by name with a prefix or by number by others.
#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
pub(super) enum ModelStatus {
    Name(String),
    Number(i64),
    #[default]
    Missing,
}

impl ModelStatus {
    pub(super) fn is_ready(&self) -> bool {
        match self {
            Self::Name(name) => name.ends_with("READY"),
            Self::Number(number) => *number == 2,
            Self::Missing => true,
        }
    }
}

/// What a server can do; older ones do not say.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ServerInfo {
    pub(super) workspaces_enabled: bool,
    pub(super) artifacts_presigned_only: bool,
    pub(super) presigned_upload_run_id_supported: bool,
}

/// A number, or the name of one that is not finite.
fn number_or_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Value {
        Number(f64),
        Name(String),
    }
    Ok(match Value::deserialize(deserializer)? {
        Value::Number(value) => as_stored(value),
        Value::Name(name) => name.parse().unwrap_or(f64::NAN),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_not_finite_are_understood() {
        let value = |json: &str| -> f64 {
            let text = format!("{{\"key\": \"loss\", \"value\": {json}}}");
            serde_json::from_str::<Metric>(&text).unwrap().value
        };
        assert_eq!(value("0.25"), 0.25);
        assert!(value("\"NaN\"").is_nan());
        assert_eq!(value("\"-Infinity\""), f64::NEG_INFINITY);
        assert_eq!(value("1.7976931348623157e308"), f64::INFINITY);
        assert_eq!(value("\"0.5\""), 0.5);
    }

    #[test]
    fn an_empty_answer_is_an_empty_page() {
        let page: Page<Run> = serde_json::from_str("{}").unwrap();
        assert!(page.items.is_empty() && page.next_page_token.is_none());
    }
}
