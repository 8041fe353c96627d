//! What the double keeps: projects, runs, artifacts, and the bytes in its storage.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest as _, Md5};
use serde_json::{Map, Value};

use super::ENTITY;

/// Everything.
#[derive(Default)]
pub(crate) struct State {
    /// Projects in the order of their creation.
    pub(crate) projects: Vec<Project>,
    /// Runs in the order of their creation.
    pub(crate) runs: Vec<Run>,
    /// Versions of artifacts in the order of their creation, those that were never committed among them.
    pub(crate) artifacts: Vec<Artifact>,
    /// Collections of artifacts.
    pub(crate) collections: Vec<Collection>,
    /// Manifests that were announced.
    pub(super) manifests: Vec<Manifest>,
    /// Where the bytes of each digest lie in the storage, and the artifact that brought them.
    pub(super) known_bytes: BTreeMap<String, (String, String)>,
    /// The storage: bytes by key.
    pub(crate) stored: BTreeMap<String, Vec<u8>>,
    /// Addresses that were signed, by signature.
    pub(super) tickets: BTreeMap<String, Ticket>,
    counter: u64,
}

/// A project of the one entity.
pub(crate) struct Project {
    /// Its name.
    pub(crate) name: String,
    /// When it was made.
    pub(crate) created_at: String,
}

/// A run.
#[derive(Default, Clone)]
pub(crate) struct Run {
    /// The storage's id.
    pub(crate) id: String,
    /// The project.
    pub(crate) project: String,
    /// The run's id, which W&B calls its name.
    pub(crate) name: String,
    /// The name for people.
    pub(crate) display_name: String,
    /// running, finished, failed, crashed, …
    pub(crate) state: String,
    /// What was configured, as it came: JSON.
    pub(crate) config: String,
    /// The whole summary: JSON.
    pub(crate) summary: String,
    /// Rows as they were sent, extended JSON.
    pub(crate) history: Vec<String>,
    /// Rows of the machine's metrics.
    pub(crate) events: Vec<String>,
    /// Lines of the console.
    pub(crate) output: Vec<String>,
    /// The group.
    pub(crate) group: Option<String>,
    /// What kind of work it did.
    pub(crate) job_type: Option<String>,
    /// Words that people filter by.
    pub(crate) tags: Vec<String>,
    /// Notes, in Markdown.
    pub(crate) notes: Option<String>,
    /// Who ran it, on which machine.
    pub(crate) host: Option<String>,
    /// When it was made.
    pub(crate) created_at: String,
    /// When it was last heard of.
    pub(crate) heartbeat_at: String,
    /// Files that are there for readers.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Files that were uploaded and not yet said to be there.
    pub(crate) unmarked: BTreeMap<String, Vec<u8>>,
    /// Alerts in the order of their coming.
    pub(crate) alerts: Vec<Alert>,
    /// Each post to its stream: who sent what.
    pub(crate) stream_posts: Vec<StreamPost>,
    /// Whether it was asked to stop.
    pub(crate) stopped: bool,
}

/// A post to a run's stream.
#[derive(Clone, Debug)]
pub(crate) struct StreamPost {
    /// Who sent it.
    pub(crate) user_agent: String,
    /// What was sent: extended JSON.
    pub(crate) body: String,
}

/// An alert.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Alert {
    /// The title.
    pub(crate) title: String,
    /// The text.
    pub(crate) text: String,
    /// INFO, WARN or ERROR.
    pub(crate) severity: String,
    /// How long alerts of the same title are held back, in milliseconds.
    pub(crate) wait: Option<i64>,
}

/// A sequence of versions.
pub(crate) struct Collection {
    /// Its id.
    pub(crate) id: String,
    /// The project.
    pub(crate) project: String,
    /// The type of its artifacts.
    pub(crate) kind: String,
    /// Its name.
    pub(crate) name: String,
    /// When it was made.
    pub(crate) created_at: String,
    /// The name that the client chose for it.
    pub(super) client_id: Option<String>,
    /// How the digests of its artifacts are made.
    pub(crate) digest_algorithm: String,
}

/// A version of an artifact.
#[derive(Default, Clone)]
pub(crate) struct Artifact {
    /// Its id.
    pub(crate) id: String,
    /// The entity, always the same.
    pub(crate) entity: String,
    /// The project.
    pub(crate) project: String,
    /// The name of its collection.
    pub(crate) collection: String,
    /// The type.
    pub(crate) kind: String,
    /// The number of the version, once it is committed.
    pub(crate) version: Option<usize>,
    /// PENDING, COMMITTED or DELETED.
    pub(crate) state: String,
    /// Of the manifest.
    pub(crate) digest: String,
    /// How the digest was made.
    pub(crate) digest_algorithm: String,
    /// A description.
    pub(crate) description: Option<String>,
    /// Names of the version; before it is committed those that it shall have.
    pub(crate) aliases: BTreeSet<String>,
    /// Words that people filter by.
    pub(crate) tags: BTreeSet<String>,
    /// JSON.
    pub(crate) metadata: Option<String>,
    /// The step of the run's history at which it was logged.
    pub(crate) history_step: Option<i64>,
    /// When it may be deleted.
    pub(crate) ttl: Option<i64>,
    /// The run that made it.
    pub(crate) created_by: Option<String>,
    /// The runs that logged it: the first, and those that logged the same content later.
    pub(crate) logged_by: Vec<String>,
    /// The runs that used it.
    pub(crate) used_by: Vec<String>,
    /// When it was made.
    pub(crate) created_at: String,
    /// The manifest as uploaded: JSON.
    pub(crate) manifest: String,
    /// Its files, once it is committed; references to other places have no bytes.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// What the manifest says of each.
    pub(super) entries: BTreeMap<String, Entry>,
    /// The name that the client chose for it.
    pub(super) client_id: Option<String>,
}

/// A file of an artifact, as the manifest has it.
#[derive(Default, Clone)]
pub(super) struct Entry {
    pub(super) digest: String,
    pub(super) size: usize,
    /// Elsewhere.
    pub(super) reference: Option<String>,
}

/// A manifest that was announced.
pub(super) struct Manifest {
    pub(super) id: String,
    pub(super) artifact: String,
    pub(super) digest: String,
}

/// What an address that was signed allows.
pub(super) struct Ticket {
    pub(super) method: &'static str,
    pub(super) key: String,
    /// In seconds since 1970.
    pub(super) expires: i64,
    /// Headers that the request must have.
    pub(super) headers: Vec<(String, String)>,
}

impl State {
    /// The run of this id.
    pub(crate) fn run(&self, name: &str) -> Option<&Run> {
        self.runs.iter().find(|run| run.name == name)
    }

    /// The run of this id.
    pub(crate) fn run_mut(&mut self, name: &str) -> Option<&mut Run> {
        self.runs.iter_mut().find(|run| run.name == name)
    }

    /// The committed versions in a collection, the oldest first.
    pub(crate) fn versions(&self, project: &str, collection: &str) -> Vec<&Artifact> {
        let versions = self.artifacts.iter().filter(|artifact| {
            artifact.project == project && artifact.collection == collection && artifact.state == "COMMITTED"
        });
        versions.collect()
    }

    /// The version that `collection:alias` means; an alias may be `v3`.
    pub(crate) fn artifact(&self, project: &str, name: &str) -> Option<&Artifact> {
        let (collection, alias) = name.split_once(':').unwrap_or((name, "latest"));
        let versions = self.versions(project, collection);
        let found = versions.iter().find(|artifact| {
            artifact.aliases.contains(alias)
                || artifact.version.is_some_and(|version| format!("v{version}") == alias)
                || artifact.digest == alias
        });
        found.copied()
    }

    pub(super) fn artifact_by_id(&self, id: &str) -> Option<&Artifact> {
        self.artifacts.iter().find(|artifact| artifact.id == id)
    }

    pub(super) fn artifact_by_id_mut(&mut self, id: &str) -> Result<&mut Artifact, String> {
        let found = self.artifacts.iter_mut().find(|artifact| artifact.id == id);
        found.ok_or_else(|| format!("artifact {id} not found"))
    }

    pub(super) fn run_by_id(&self, id: &str) -> Option<&Run> {
        self.runs.iter().find(|run| run.id == id)
    }

    pub(super) fn collection(&self, project: &str, name: &str) -> Option<&Collection> {
        self.collections.iter().find(|one| one.project == project && one.name == name)
    }

    pub(super) fn has_project(&self, entity: &str, name: &str) -> bool {
        entity == ENTITY && self.projects.iter().any(|project| project.name == name)
    }

    pub(super) fn ensure_project(&mut self, name: &str) {
        if !self.has_project(ENTITY, name) {
            self.projects.push(Project { name: name.into(), created_at: now() });
        }
    }

    /// The next number, for ids and signatures.
    pub(super) fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// An id as the server makes them.
    pub(super) fn next_id(&mut self, kind: &str) -> String {
        let number = self.next();
        BASE64.encode(format!("{kind}:{number}"))
    }

    /// The path and query of a signed address in the storage.
    pub(super) fn sign(
        &mut self,
        method: &'static str,
        key: &str,
        headers: Vec<(String, String)>,
        is_expired: bool,
    ) -> String {
        let signature = md5_hex(format!("{method} {key} {}", self.next()).as_bytes());
        let expires = jiff::Timestamp::now().as_second() + if is_expired { -60 } else { 3600 };
        let address = format!("/{}?expires={expires}&signature={signature}", escaped(key));
        self.tickets.insert(signature, Ticket { method, key: key.into(), expires, headers });
        address
    }

    /// Writes what was uploaded where it belongs.
    pub(super) fn put(&mut self, key: &str, bytes: Vec<u8>, marks_itself: bool) {
        let Some((project, run, name)) = of_run(key) else {
            self.stored.insert(key.into(), bytes);
            return;
        };
        let found = self.runs.iter_mut().find(|one| one.project == project && one.name == run);
        if let Some(run) = found {
            let files = if marks_itself { &mut run.files } else { &mut run.unmarked };
            files.insert(name.into(), bytes);
        }
    }

    /// What lies in the storage.
    pub(super) fn get(&self, key: &str) -> Option<&Vec<u8>> {
        let Some((project, run, name)) = of_run(key) else { return self.stored.get(key) };
        self.runs.iter().find(|one| one.project == project && one.name == run)?.files.get(name)
    }
}

/// The project, the run and the name of a run's file.
fn of_run(key: &str) -> Option<(&str, &str, &str)> {
    let (project, rest) = key.strip_prefix("runs/")?.split_once('/')?;
    let (run, name) = rest.split_once('/')?;
    Some((project, run, name))
}

impl Run {
    /// What was configured, without the wrapping and what the SDK notes there for itself.
    pub(crate) fn configured(&self) -> Map<String, Value> {
        let Ok(Value::Object(config)) = serde_json::from_str(&self.config) else { return Map::new() };
        let plain = config.into_iter().filter(|(key, _)| key != "_wandb" && key != "wandb_version");
        plain.map(|(key, value)| (key, value.get("value").cloned().unwrap_or(value))).collect()
    }

    /// The rows as JSON, numbers that are not finite as text.
    pub(crate) fn rows(&self) -> Vec<Value> {
        self.history.iter().filter_map(|line| serde_json::from_str(&finite(line)).ok()).collect()
    }

    /// The summary as JSON.
    pub(crate) fn summed(&self) -> Value {
        serde_json::from_str(&self.summary).unwrap_or_default()
    }

    /// Files said to be there.
    pub(super) fn mark<'n>(&mut self, names: impl Iterator<Item = &'n str>) {
        for name in names {
            if let Some(bytes) = self.unmarked.remove(name) {
                self.files.insert(name.into(), bytes);
            }
        }
    }
}

/// Extended JSON as JSON: what is not finite becomes text, as servers do.
pub(crate) fn finite(line: &str) -> String {
    let (mut plain, mut rest, mut is_text) = (String::with_capacity(line.len()), line, false);
    while let Some(first) = rest.chars().next() {
        let word =
            ["NaN", "-Infinity", "Infinity"].into_iter().find(|word| !is_text && rest.starts_with(word));
        let taken = if let Some(word) = word {
            plain.extend(["\"", word, "\""]);
            word.len()
        } else if is_text && first == '\\' {
            let taken = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
            plain.push_str(&rest[..taken]);
            taken
        } else {
            is_text ^= first == '"';
            plain.push(first);
            first.len_utf8()
        };
        rest = &rest[taken..];
    }
    plain
}

/// The time as the server writes it.
pub(super) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// As manifests and storages write a digest.
pub(super) fn md5_base64(bytes: &[u8]) -> String {
    BASE64.encode(Md5::digest(bytes))
}

/// As artifacts write a digest.
pub(super) fn md5_hex(bytes: &[u8]) -> String {
    hex(&Md5::digest(bytes))
}

/// Base64 as hexadecimal digits.
pub(super) fn hex_of(base64: &str) -> Option<String> {
    BASE64.decode(base64).ok().map(|bytes| hex(&bytes))
}

fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// A path for an address.
pub(super) fn escaped(path: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    path.bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// A path as it was before it became part of an address.
pub(super) fn unescaped(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((&first, more)) = rest.split_first() {
        let code = more.get(..2).and_then(|code| std::str::from_utf8(code).ok());
        let coded = code.and_then(|code| u8::from_str_radix(code, 16).ok()).filter(|_| first == b'%');
        bytes.push(coded.unwrap_or(first));
        rest = if coded.is_some() { &more[2..] } else { more };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Refuses paths that lead elsewhere.
pub(super) fn is_inside(path: &str) -> bool {
    !path.is_empty()
        && !path.starts_with('/')
        && !path.contains(['\\', '\0'])
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}
