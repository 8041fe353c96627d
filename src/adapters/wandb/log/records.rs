//! The records of a log: the part of W&B's `wandb_internal.Record` that matters here, with the field numbers of SDK 0.31.
//!
//! Fields and kinds of record that are not declared are passed over, as protobuf wants it.

use std::path::PathBuf;

use prost::Message;
use serde_json::Map;

/// A record of a log.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// The run; it comes again when something about it changes.
    Run(Run),
    /// What was logged at a step.
    History(Row),
    /// The configuration has changed.
    Config(Change),
    /// The summary has changed.
    Summary(Change),
    /// An artifact was logged.
    Artifact(Artifact),
    /// An alert was raised.
    Alert(Alert),
    /// The run has ended.
    Exit {
        /// The process's exit code.
        code: i32,
    },
}

/// What a log tells of its run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// Its id, unique in its project.
    pub id: String,
    /// Whose it is; empty where the server is to choose.
    pub entity: String,
    /// Its project; empty where none was given.
    pub project: String,
    /// The name that people see; empty where the server is to choose.
    pub name: String,
    /// Runs that belong together.
    pub group: String,
    /// What it is for, such as `train`.
    pub job_type: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// The configuration with which it began; `_wandb` is the SDK's own.
    pub config: Vec<(String, Value)>,
    /// When it began, in seconds since 1970.
    pub started: i64,
}

/// What was logged at a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// W&B's own step, which counts calls of `log` unless the trainer says otherwise; `None` in shared mode.
    pub step: Option<i64>,
    /// The values by name, in the log's order. Names of nested ones are joined by dots, a slash in a name stays. `_step`,
    /// `_timestamp` and `_runtime` (seconds) are the SDK's own.
    pub values: Vec<(String, Value)>,
}

impl Row {
    /// The number under a name; NaN and infinities as they are.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.values.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.number())
    }
}

/// A value that was logged or configured.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Python's `None`.
    Null,
    /// Yes or no.
    Bool(bool),
    /// An integer within 64 bits.
    Integer(i64),
    /// Any other number.
    Number(f64),
    /// Text.
    Text(String),
    /// A list or an object as it was written, in which Python's `NaN` and `Infinity` may stand.
    Json(String),
}

impl Value {
    /// The number that it is; text that only looks like one is none.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Integer(integer) => Some(*integer as f64),
            Self::Number(number) => Some(*number),
            Self::Null | Self::Bool(_) | Self::Text(_) | Self::Json(_) => None,
        }
    }

    /// Reads JSON as Python writes it; `None` for what is neither.
    fn of_json(text: &str) -> Option<Self> {
        use serde_json::Value as Json;
        let text = text.trim();
        if text.starts_with(['[', '{']) {
            return Some(Self::Json(text.to_owned()));
        }
        Some(match text {
            "NaN" => Self::Number(f64::NAN),
            "Infinity" => Self::Number(f64::INFINITY),
            "-Infinity" => Self::Number(f64::NEG_INFINITY),
            _ => match serde_json::from_str(text).ok()? {
                Json::Null => Self::Null,
                Json::Bool(value) => Self::Bool(value),
                Json::String(value) => Self::Text(value),
                Json::Number(number) => match number.as_i64() {
                    Some(integer) => Self::Integer(integer),
                    None => Self::Number(number.as_f64()?),
                },
                Json::Array(_) | Json::Object(_) => return None,
            },
        })
    }
}

/// A change of the configuration or of the summary.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// New values by name.
    pub set: Vec<(String, Value)>,
    /// Names that are gone.
    pub removed: Vec<String>,
}

/// An artifact as it was logged; the server knows its version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Artifact {
    /// Its type, such as `model`.
    pub kind: String,
    /// Its name, without a version.
    pub name: String,
    /// The digest of its manifest.
    pub digest: String,
    /// Its aliases, such as `latest`.
    pub aliases: Vec<String>,
    /// What its author says of it; empty where that cannot be read.
    pub metadata: Map<String, serde_json::Value>,
    /// Its files; none where the manifest is so long that the SDK keeps it in a file of its own.
    pub files: Vec<File>,
}

/// A file of an artifact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    /// Its path in the artifact.
    pub path: String,
    /// Its digest, base64 of MD5 or, where the artifact says so, XXH128; of a reference whatever its place gives.
    pub digest: String,
    /// Where it is, for files that W&B does not keep.
    pub reference: Option<String>,
    /// Its size in bytes.
    pub size: u64,
    /// The copy that the SDK keeps until it is sent; it may be gone.
    pub local_path: Option<PathBuf>,
}

/// An alert that the trainer raised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alert {
    /// Its title.
    pub title: String,
    /// What it says.
    pub text: String,
    /// `INFO`, `WARN` or `ERROR`.
    pub level: String,
    /// For how long the same is not to be said again, in milliseconds.
    pub wait_ms: i64,
}

/// A record's number and, if its kind is one of those above, what it tells. `None` for bytes that are no record.
pub(super) fn decode(bytes: &[u8]) -> Option<(i64, Option<Record>)> {
    use wire::record::Kind;
    let wire::Record { num, kind } = wire::Record::decode(bytes).ok()?;
    let record = kind.and_then(|kind| {
        Some(match kind {
            Kind::History(history) => Record::History(history.into()),
            Kind::Summary(change) => Record::Summary(change.into()),
            Kind::Config(change) => Record::Config(change.into()),
            Kind::Artifact(artifact) => Record::Artifact((*artifact).into()),
            Kind::Alert(wire::Alert { title, text, level, wait_duration }) => {
                Record::Alert(Alert { title, text, level, wait_ms: wait_duration })
            }
            Kind::Run(run) => Record::Run((*run).into()),
            Kind::Exit(exit) if exit.not_complete => return None,
            Kind::Exit(exit) => Record::Exit { code: exit.exit_code },
        })
    });
    Some((num, record))
}

/// The messages.
mod wire {
    use prost::{Message, Oneof};

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Record {
        #[prost(int64, tag = "1")]
        pub(super) num: i64,
        #[prost(oneof = "record::Kind", tags = "2, 3, 5, 8, 10, 17, 18")]
        pub(super) kind: Option<record::Kind>,
    }

    pub(super) mod record {
        #[derive(Clone, PartialEq, super::Oneof)]
        pub(in super::super) enum Kind {
            #[prost(message, tag = "2")]
            History(super::History),
            #[prost(message, tag = "3")]
            Summary(super::Change),
            #[prost(message, tag = "5")]
            Config(super::Change),
            #[prost(message, boxed, tag = "8")]
            Artifact(Box<super::Artifact>),
            #[prost(message, tag = "10")]
            Alert(super::Alert),
            #[prost(message, boxed, tag = "17")]
            Run(Box<super::Run>),
            #[prost(message, tag = "18")]
            Exit(super::Exit),
        }
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct History {
        #[prost(message, repeated, tag = "1")]
        pub(super) item: Vec<HistoryItem>,
        #[prost(message, optional, tag = "2")]
        pub(super) step: Option<Step>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct HistoryItem {
        #[prost(string, tag = "1")]
        pub(super) key: String,
        #[prost(string, repeated, tag = "2")]
        pub(super) nested_key: Vec<String>,
        #[prost(oneof = "Typed", tags = "3, 4, 5, 6, 7, 8")]
        pub(super) typed: Option<Typed>,
        #[prost(string, tag = "16")]
        pub(super) value_json: String,
    }

    #[derive(Clone, PartialEq, Oneof)]
    pub(super) enum Typed {
        #[prost(int32, tag = "3")]
        None(i32),
        #[prost(bool, tag = "4")]
        Boolean(bool),
        #[prost(sint64, tag = "5")]
        Integer(i64),
        #[prost(double, tag = "6")]
        Number(f64),
        #[prost(string, tag = "7")]
        Text(String),
        #[prost(string, tag = "8")]
        Json(String),
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Step {
        #[prost(int64, tag = "1")]
        pub(super) num: i64,
    }

    /// `ConfigRecord` and `SummaryRecord`.
    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Change {
        #[prost(message, repeated, tag = "1")]
        pub(super) update: Vec<Item>,
        #[prost(message, repeated, tag = "2")]
        pub(super) remove: Vec<Item>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Item {
        #[prost(string, tag = "1")]
        pub(super) key: String,
        #[prost(string, repeated, tag = "2")]
        pub(super) nested_key: Vec<String>,
        #[prost(string, tag = "16")]
        pub(super) value_json: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Run {
        #[prost(string, tag = "1")]
        pub(super) id: String,
        #[prost(string, tag = "2")]
        pub(super) entity: String,
        #[prost(string, tag = "3")]
        pub(super) project: String,
        #[prost(message, optional, tag = "4")]
        pub(super) config: Option<Change>,
        #[prost(string, tag = "6")]
        pub(super) group: String,
        #[prost(string, tag = "7")]
        pub(super) job_type: String,
        #[prost(string, tag = "8")]
        pub(super) display_name: String,
        #[prost(string, repeated, tag = "10")]
        pub(super) tags: Vec<String>,
        #[prost(message, optional, tag = "17")]
        pub(super) start_time: Option<Timestamp>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Timestamp {
        #[prost(int64, tag = "1")]
        pub(super) seconds: i64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Artifact {
        #[prost(string, tag = "4")]
        pub(super) r#type: String,
        #[prost(string, tag = "5")]
        pub(super) name: String,
        #[prost(string, tag = "6")]
        pub(super) digest: String,
        #[prost(string, tag = "8")]
        pub(super) metadata: String,
        #[prost(string, repeated, tag = "11")]
        pub(super) aliases: Vec<String>,
        #[prost(message, optional, tag = "12")]
        pub(super) manifest: Option<Manifest>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Manifest {
        #[prost(message, repeated, tag = "4")]
        pub(super) contents: Vec<Entry>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Entry {
        #[prost(string, tag = "1")]
        pub(super) path: String,
        #[prost(string, tag = "2")]
        pub(super) digest: String,
        #[prost(string, tag = "3")]
        pub(super) r#ref: String,
        #[prost(int64, tag = "4")]
        pub(super) size: i64,
        #[prost(string, tag = "6")]
        pub(super) local_path: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Alert {
        #[prost(string, tag = "1")]
        pub(super) title: String,
        #[prost(string, tag = "2")]
        pub(super) text: String,
        #[prost(string, tag = "3")]
        pub(super) level: String,
        #[prost(int64, tag = "4")]
        pub(super) wait_duration: i64,
    }

    #[derive(Clone, Copy, PartialEq, Eq, Message)]
    pub(super) struct Exit {
        #[prost(int32, tag = "1")]
        pub(super) exit_code: i32,
        #[prost(bool, tag = "3")]
        pub(super) not_complete: bool,
    }
}

/// A name: the parts of a nested one joined by dots, as W&B shows it.
fn name(key: String, nested: &[String]) -> String {
    if nested.is_empty() { key } else { nested.join(".") }
}

impl From<wire::History> for Row {
    fn from(history: wire::History) -> Self {
        let values: Vec<(String, Value)> = history
            .item
            .into_iter()
            .filter_map(|item| {
                let value = match item.typed {
                    Some(typed) => typed.into(),
                    None => Value::of_json(&item.value_json)?,
                };
                Some((name(item.key, &item.nested_key), value))
            })
            .collect();
        let logged = values.iter().find(|(name, _)| name == "_step").and_then(|(_, value)| match value {
            Value::Integer(step) => Some(*step),
            _ => None,
        });
        Self { step: history.step.map(|step| step.num).or(logged), values }
    }
}

impl From<wire::Typed> for Value {
    fn from(typed: wire::Typed) -> Self {
        match typed {
            wire::Typed::None(_) => Self::Null,
            wire::Typed::Boolean(value) => Self::Bool(value),
            wire::Typed::Integer(value) => Self::Integer(value),
            wire::Typed::Number(value) => Self::Number(value),
            wire::Typed::Text(value) => Self::Text(value),
            wire::Typed::Json(text) => Self::of_json(&text).unwrap_or(Self::Json(text)),
        }
    }
}

impl From<wire::Change> for Change {
    fn from(change: wire::Change) -> Self {
        let wire::Change { update, remove } = change;
        let set = update.into_iter().filter_map(|item| {
            let value = Value::of_json(&item.value_json)?;
            Some((name(item.key, &item.nested_key), value))
        });
        let removed = remove.into_iter().map(|item| name(item.key, &item.nested_key));
        Self { set: set.collect(), removed: removed.collect() }
    }
}

impl From<wire::Run> for Run {
    fn from(run: wire::Run) -> Self {
        Self {
            id: run.id,
            entity: run.entity,
            project: run.project,
            name: run.display_name,
            group: run.group,
            job_type: run.job_type,
            tags: run.tags,
            config: run.config.map(|config| Change::from(config).set).unwrap_or_default(),
            started: run.start_time.map_or(0, |time| time.seconds),
        }
    }
}

impl From<wire::Artifact> for Artifact {
    fn from(artifact: wire::Artifact) -> Self {
        let files = artifact.manifest.map(|manifest| manifest.contents).unwrap_or_default();
        Self {
            kind: artifact.r#type,
            name: artifact.name,
            digest: artifact.digest,
            aliases: artifact.aliases,
            metadata: serde_json::from_str(&artifact.metadata).unwrap_or_default(),
            files: files
                .into_iter()
                .map(|entry| File {
                    path: entry.path,
                    digest: entry.digest,
                    reference: Some(entry.r#ref).filter(|reference| !reference.is_empty()),
                    size: u64::try_from(entry.size).unwrap_or(0),
                    local_path: Some(entry.local_path).filter(|path| !path.is_empty()).map(PathBuf::from),
                })
                .collect(),
        }
    }
}
