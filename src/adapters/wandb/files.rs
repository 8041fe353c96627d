//! Checkpoints of a run: files of the artifacts that it logs, and files that it saves.
//!
//! An artifact is committed once and never changes, so its manifest is read once. Addresses of files are signed and
//! expire; they are asked for when a file is fetched, and once more where one has expired. What came is compared with the
//! manifest's digest.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest as _, Md5};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use twox_hash::XxHash3_128;

use super::graphql::{Connection, object, parse};
use super::names::{ARTIFACTS, SAVED, told_step};
use super::{PAGE, Wandb, id};
use crate::adapters::http::{HttpError, Repeat};
use crate::adapters::names::first_bytes;
use crate::adapters::tracker::{RemoteFile, RunStatus, TrackedRun, TrackerError};
use crate::checkpoint::{ENDINGS, is_candidate};

/// Looks at a run after which its artifacts are listed anew.
const LIST_ANEW: u32 = 4;

/// Manifests whose addresses are asked for at once.
const AT_ONCE: usize = 20;

const ARTIFACT: &str = "id versionIndex state? metadata? historyStep? createdAt? artifactType { name }
    artifactSequence { name } aliases { alias }";
const FILE: &str = "name sizeBytes md5? updatedAt?";

const MEMBER: &str = "query ArtifactByName($entity: String!, $project: String!, $name: String!) {
    project(name: $project, entityName: $entity) {
        artifactCollectionMembership(name: $name) { artifact { id } }
    }
}";

const ARTIFACT_FILE: &str = "query ArtifactFile($id: ID!, $names: [String!], $after: String) {
    artifact(id: $id) {
        files(names: $names, first: 1, after: $after) {
            edges { cursor? node { name directUrl } } pageInfo { endCursor hasNextPage }
        }
    }
}";

const RUN_FILE: &str = "query RunFile($entity: String!, $project: String!, $run: String!, $names: [String],
        $after: String) {
    project(name: $project, entityName: $entity) {
        run(name: $run) {
            files(names: $names, first: 1, after: $after) {
                edges { cursor? node { name directUrl md5? } } pageInfo { endCursor hasNextPage }
            }
        }
    }
}";

/// What is known of runs, so that it is asked for once.
#[derive(Debug, Default)]
pub(super) struct Known {
    runs: BTreeMap<String, KnownRun>,
    /// Artifacts by project and name with version.
    artifacts: BTreeMap<(String, String), String>,
    /// The candidates in an artifact, by its id.
    entries: BTreeMap<String, BTreeMap<String, Entry>>,
}

#[derive(Debug, Default)]
struct KnownRun {
    /// Where the list of artifacts is read on; only where it is in order of time.
    cursor: Option<String>,
    /// Its checkpoints in artifacts so far, by path.
    files: BTreeMap<String, RemoteFile>,
    /// Looks so far.
    looks: u32,
    /// Whether it was said that checkpoints are only referred to.
    told: bool,
    /// The trainer's step by W&B's own, where they differ.
    scale: BTreeMap<i64, u64>,
    /// Whether its rows never tell the trainer's step beside the loss, although the run logs it.
    counts_rows: bool,
}

impl KnownRun {
    /// The step of an artifact by that of the history at which it was logged, which is the next row's: on the trainer's
    /// scale it is that of the row before.
    fn on_scale(&self, next: u64) -> Option<u64> {
        if self.scale.is_empty() {
            return Some(next);
        }
        self.scale.range(..next as i64).next_back().map(|(_, told)| *told)
    }
}

impl Known {
    /// From which of W&B's steps a history is read on whose losses are stored up to the trainer's step `seen`, and whether
    /// its rows have told the trainer's steps so far.
    pub(super) fn rows_taken_in(&self, run: &str, seen: Option<u64>) -> (i64, bool) {
        let Some(run) = self.runs.get(run) else { return (0, false) };
        let taken = run.scale.iter().rev().find(|(_, told)| seen.is_some_and(|seen| **told <= seen));
        (taken.map_or(0, |(row, _)| row + 1), !run.scale.is_empty())
    }

    pub(super) fn counts_rows(&self, run: &str) -> bool {
        self.runs.get(run).is_some_and(|run| run.counts_rows)
    }

    pub(super) fn count_rows(&mut self, run: &str) {
        self.runs.entry(run.to_owned()).or_default().counts_rows = true;
    }

    /// Notes what a history told of the trainer's steps.
    pub(super) fn extend_scale(&mut self, run: &str, scale: impl IntoIterator<Item = (i64, u64)>) {
        self.runs.entry(run.to_owned()).or_default().scale.extend(scale);
    }

    /// Where the list of a run's artifacts is read on: now and then, and in the end, at its beginning.
    fn cursor(&mut self, run: &TrackedRun) -> Option<String> {
        let known = self.runs.entry(run.key.clone()).or_default();
        known.looks += 1;
        let anew = known.looks.is_multiple_of(LIST_ANEW) || run.status == RunStatus::Ended;
        known.cursor.clone().filter(|_| !anew)
    }
}

/// What a look at a run shows.
#[derive(Debug)]
pub(super) struct Look {
    /// The metrics that it has logged.
    pub(super) keys: BTreeSet<String>,
    /// The last of W&B's steps, where it is told.
    pub(super) last_step: Option<i64>,
    /// Rows of its history.
    pub(super) rows: u64,
    artifacts: Vec<Artifact>,
    saved: Vec<File>,
    /// Where the list of artifacts ended.
    end: Option<String>,
}

/// An artifact as it is listed.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Artifact {
    id: String,
    #[serde(default)]
    version_index: Option<u64>,
    #[serde(default)]
    state: Option<String>,
    /// JSON, as text or as it is.
    #[serde(default)]
    metadata: Value,
    #[serde(default)]
    history_step: Option<u64>,
    #[serde(default)]
    created_at: Option<String>,
    #[serde(rename = "artifactType")]
    kind: Named,
    #[serde(rename = "artifactSequence")]
    sequence: Named,
    #[serde(default)]
    aliases: Vec<Alias>,
}

impl Artifact {
    fn name(&self) -> Option<String> {
        Some(format!("{}:v{}", self.sequence.name, self.version_index?))
    }

    fn is_whole(&self) -> bool {
        self.state.as_deref().is_none_or(|state| state == "COMMITTED")
    }
}

#[derive(Clone, Debug, Deserialize)]
struct Named {
    name: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Alias {
    alias: String,
}

/// A file that a run saves.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    name: String,
    /// A number, in text where it is large.
    #[serde(default)]
    size_bytes: Value,
    #[serde(default)]
    md5: Option<String>,
    #[serde(default)]
    updated_at: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Addressed {
    name: String,
    direct_url: Option<String>,
    #[serde(default)]
    md5: Option<String>,
}

/// What an artifact holds.
#[derive(Debug, Deserialize)]
struct Manifest {
    contents: BTreeMap<String, Entry>,
}

/// A file of an artifact.
#[derive(Clone, Debug, Deserialize)]
struct Entry {
    digest: String,
    #[serde(default)]
    size: u64,
    /// Where the file is that is not here but referred to.
    #[serde(default, rename = "ref")]
    reference: Option<String>,
    #[serde(default)]
    extra: Map<String, Value>,
}

impl Entry {
    fn is_xxh128(&self) -> bool {
        self.extra.get("alg").and_then(Value::as_str) == Some("XXH128")
    }
}

impl Wandb {
    /// Asks for all that is new in a run at once.
    pub(super) async fn look(&self, run: &TrackedRun) -> Result<Look, TrackerError> {
        let after = self.known().cursor(run);
        let variables = object([
            ("entity", json!(self.entity().await?)),
            ("project", json!(run.experiment_key)),
            ("run", json!(id(run))),
            ("first", json!(PAGE)),
            ("after", json!(after)),
        ]);
        let data = self.graphql.ask(&look_text(), &Value::Object(variables.clone()), Repeat::Freely).await?;
        let Some(found) = data.pointer("/project/run").filter(|run| !run.is_null()) else {
            return Err(self.why_not_shown(&data, run).await);
        };
        let first: Connection<Artifact> = parse("Look", &found["outputArtifacts"])?;
        let mut end = first.end();
        let next = first.next();
        let mut artifacts: Vec<Artifact> = first.items().collect();
        if let Some(next) = next {
            let mut variables = variables.clone();
            variables.insert("after".into(), json!(next));
            let at = "/project/run/outputArtifacts";
            let more = self.graphql.pages(&artifacts_text(), variables, at).await?;
            artifacts.extend(more.unwrap_or_default());
            // Of pages that follow, the place where they end is not kept: the next look begins here.
            end = Some(next);
        }
        let mut saved = Vec::new();
        for (index, ending) in ENDINGS.iter().enumerate() {
            let first: Connection<File> = parse("Look", &found[format!("f{index}")])?;
            let next = first.next();
            saved.extend(first.items());
            if let Some(next) = next {
                let mut variables = variables.clone();
                variables.insert("after".into(), json!(next));
                variables.insert("pattern".into(), json!(format!("%{ending}")));
                let more = self.graphql.pages(&files_text(), variables, "/project/run/files").await?;
                saved.extend(more.unwrap_or_default());
            }
        }
        // A file may end with two of the endings.
        let mut seen = BTreeSet::new();
        saved.retain(|file| seen.insert(file.name.clone()));
        let keys = in_text(&found["historyKeys"]);
        Ok(Look {
            last_step: keys["lastStep"].as_i64(),
            keys: keys["keys"].as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect(),
            rows: found["historyLineCount"].as_u64().unwrap_or(0),
            artifacts,
            saved,
            end,
        })
    }

    /// The files of a run that may be checkpoints.
    pub(super) async fn files(&self, run: &TrackedRun, look: Look) -> Result<Vec<RemoteFile>, TrackerError> {
        // Of one alone nobody knows.
        let times: Vec<_> = look.artifacts.iter().map(|artifact| &artifact.created_at).collect();
        let in_order = times.is_sorted() && times.first() < times.last();
        let wanted: Vec<Artifact> = look
            .artifacts
            .into_iter()
            .filter(|artifact| self.plan.artifact_types.contains(&artifact.kind.name))
            .collect();
        let all_whole = wanted.iter().all(Artifact::is_whole);
        let whole: Vec<&Artifact> = wanted.iter().filter(|artifact| artifact.is_whole()).collect();
        let new: Vec<String> = {
            let known = self.known();
            let unknown = |artifact: &&&Artifact| !known.entries.contains_key(&artifact.id);
            whole.iter().filter(unknown).map(|artifact| artifact.id.clone()).collect()
        };
        self.read_manifests(&new).await?;
        let mut files: Vec<RemoteFile> =
            look.saved.iter().filter(|file| is_candidate(Path::new(&file.name))).map(saved).collect();
        let mut known = self.known();
        for artifact in whole {
            if let Some(name) = artifact.name() {
                known.artifacts.insert((run.experiment_key.clone(), name), artifact.id.clone());
            }
        }
        let referred = wanted.iter().filter_map(|artifact| known.entries.get(&artifact.id));
        let referred = referred.flat_map(BTreeMap::values).find_map(|entry| entry.reference.clone());
        if let Some(reference) = referred
            && !std::mem::replace(&mut known.runs.entry(run.key.clone()).or_default().told, true)
        {
            tracing::warn!(run = run.name, reference, "checkpoints that are only referred to are left out");
        }
        let found: Vec<RemoteFile> =
            wanted.iter().flat_map(|artifact| self.in_artifact(&known, run, artifact)).collect();
        let kept = known.runs.entry(run.key.clone()).or_default();
        kept.files.extend(found.into_iter().map(|file| (file.path.clone(), file)));
        // Where all that was listed is dealt with, and new ones come at the end, it is read on from there.
        if all_whole && in_order && look.end.is_some() {
            kept.cursor = look.end;
        }
        files.extend(kept.files.values().cloned());
        if run.status == RunStatus::Ended {
            known.runs.remove(&run.key);
        }
        Ok(files)
    }

    /// The candidates in an artifact whose manifest is known.
    fn in_artifact(&self, known: &Known, run: &TrackedRun, artifact: &Artifact) -> Vec<RemoteFile> {
        let (Some(name), Some(entries)) = (artifact.name(), known.entries.get(&artifact.id)) else {
            return Vec::new();
        };
        let aliases = artifact.aliases.iter().map(|alias| alias.alias.as_str());
        let told = told_step(&in_text(&artifact.metadata), aliases);
        // Of the first it is not told where it was logged before any row; of those of runs that were sent later, of none.
        let logged_at = match (artifact.history_step, known.runs.get(&run.key)) {
            (Some(step), Some(run)) => run.on_scale(step),
            (Some(step), None) => Some(step),
            (None, Some(run)) if !run.scale.is_empty() => None,
            (None, _) => artifact.version_index,
        };
        let file = |(path, entry): (&String, &Entry)| {
            if entry.reference.is_some() {
                return None;
            }
            let naming = self.plan.watched.pattern.matches(Path::new(path));
            let named = naming.is_some_and(|naming| naming.step.is_some() || naming.epoch.is_some());
            Some(RemoteFile {
                path: format!("{ARTIFACTS}/{name}/{path}"),
                size: entry.size,
                version: 0,
                // The name of the file comes before the place in the history at which it was logged.
                step: told.or_else(|| logged_at.filter(|_| !named)),
            })
        };
        entries.iter().filter_map(file).collect()
    }

    /// Reads the manifests of artifacts, by their ids.
    async fn read_manifests(&self, new: &[String]) -> Result<(), TrackerError> {
        for ids in new.chunks(AT_ONCE) {
            let mut text = String::from("query Manifests(");
            let mut variables = Map::new();
            for (index, id) in ids.iter().enumerate() {
                let _ = write!(text, "$a{index}: ID! ");
                variables.insert(format!("a{index}"), json!(id));
            }
            text += ") {";
            for index in 0..ids.len() {
                let _ = write!(
                    text,
                    " a{index}: artifact(id: $a{index}) {{ currentManifest {{ file {{ directUrl }} }} }}"
                );
            }
            text += " }";
            let data = self.graphql.ask(&text, &Value::Object(variables), Repeat::Freely).await?;
            for (index, id) in ids.iter().enumerate() {
                let address = data.pointer(&format!("/a{index}/currentManifest/file/directUrl"));
                let Some(address) = address.and_then(Value::as_str) else { continue };
                let manifest: Manifest = self.client.get(below(address), &()).await?;
                let candidates =
                    manifest.contents.into_iter().filter(|(path, _)| is_candidate(Path::new(path)));
                let candidates = candidates.collect();
                self.known().entries.insert(id.clone(), candidates);
            }
        }
        Ok(())
    }

    /// Downloads a file of a run, and compares it with its digest.
    pub(in crate::adapters) async fn download(
        &self,
        run: &TrackedRun,
        path: &str,
        size: Option<u64>,
        to: &Path,
    ) -> Result<(), TrackerError> {
        let mut again = true;
        loop {
            let (address, digest) = self.address(run, path).await?;
            let downloaded = self.client.download(below(&address), &(), to, size).await;
            match downloaded {
                Ok(_) => return verify(to, path, digest).await,
                // The address may have expired meanwhile: stores say so in several ways.
                Err(error) if again && matches!(error.status(), Some(400 | 401 | 403 | 404 | 410)) => {
                    again = false;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Where a file can be had now, and its digest.
    async fn address(
        &self,
        run: &TrackedRun,
        path: &str,
    ) -> Result<(String, Option<Expected>), TrackerError> {
        let gone = || TrackerError::Lost(format!("{path} is gone from the server"));
        if let Some(rest) = path.strip_prefix(ARTIFACTS).and_then(|rest| rest.strip_prefix('/')) {
            let (name, file) = rest.split_once('/').ok_or_else(gone)?;
            let artifact = self.artifact(&run.experiment_key, name).await?.ok_or_else(gone)?;
            if !self.known().entries.contains_key(&artifact) {
                self.read_manifests(std::slice::from_ref(&artifact)).await?;
            }
            let known = self.known().entries.get(&artifact).and_then(|entries| entries.get(file)).cloned();
            let variables = object([("id", json!(artifact)), ("names", json!([file]))]);
            let found = self.graphql.pages(ARTIFACT_FILE, variables, "/artifact/files").await?;
            let found: Option<Addressed> =
                found.and_then(|files: Vec<Addressed>| files.into_iter().find(|found| found.name == file));
            let address = found.and_then(|file| file.direct_url).ok_or_else(gone)?;
            return Ok((
                address,
                known.map(|entry| Expected { xxh128: entry.is_xxh128(), base64: entry.digest }),
            ));
        }
        let name = path.strip_prefix(SAVED).and_then(|rest| rest.strip_prefix('/')).ok_or_else(gone)?;
        let variables = object([
            ("entity", json!(self.entity().await?)),
            ("project", json!(run.experiment_key)),
            ("run", json!(id(run))),
            ("names", json!([name])),
        ]);
        let found = self.graphql.pages(RUN_FILE, variables, "/project/run/files").await?;
        let found =
            found.and_then(|files: Vec<Addressed>| files.into_iter().find(|found| found.name == name));
        let Addressed { direct_url, md5, .. } = found.ok_or_else(gone)?;
        // Stores that know no digest leave it empty.
        let md5 = md5.filter(|text| BASE64.decode(text).is_ok_and(|bytes| bytes.len() == 16));
        Ok((direct_url.ok_or_else(gone)?, md5.map(|base64| Expected { xxh128: false, base64 })))
    }

    /// The id of an artifact that is known by its name and version.
    pub(super) async fn artifact(&self, project: &str, name: &str) -> Result<Option<String>, TrackerError> {
        let key = (project.to_owned(), name.to_owned());
        if let Some(id) = self.known().artifacts.get(&key) {
            return Ok(Some(id.clone()));
        }
        let variables = json!({ "entity": self.entity().await?, "project": project, "name": name });
        let data = self.graphql.ask(MEMBER, &variables, Repeat::Freely).await?;
        let id = data.pointer("/project/artifactCollectionMembership/artifact/id").and_then(Value::as_str);
        if let Some(id) = id {
            self.known().artifacts.insert(key, id.to_owned());
        }
        Ok(id.map(str::to_owned))
    }
}

/// The artifact, with its version, in which a checkpoint lies: `artifacts/model-abc:v3/step-40.pt`.
pub(super) fn artifact_of(path: &str) -> Option<&str> {
    let (name, _) = path.strip_prefix(ARTIFACTS)?.strip_prefix('/')?.split_once('/')?;
    Some(name)
}

fn look_text() -> String {
    let mut text = format!(
        "query Look($entity: String!, $project: String!, $run: String!, $first: Int, $after: String) {{
            project(name: $project, entityName: $entity) {{ run(name: $run) {{
                historyLineCount historyKeys
                outputArtifacts(first: $first, after: $after) {{
                    edges {{ cursor? node {{ {ARTIFACT} }} }} pageInfo {{ endCursor hasNextPage }}
                }}"
    );
    for (index, ending) in ENDINGS.iter().enumerate() {
        let _ = write!(
            text,
            " f{index}: files(pattern: \"%{ending}\", first: $first) {{
                edges {{ cursor? node {{ {FILE} }} }} pageInfo {{ endCursor hasNextPage }}
            }}"
        );
    }
    text + " } } }"
}

fn artifacts_text() -> String {
    format!(
        "query Artifacts($entity: String!, $project: String!, $run: String!, $first: Int, $after: String) {{
            project(name: $project, entityName: $entity) {{ run(name: $run) {{
                outputArtifacts(first: $first, after: $after) {{
                    edges {{ cursor? node {{ {ARTIFACT} }} }} pageInfo {{ endCursor hasNextPage }}
                }}
            }} }}
        }}"
    )
}

fn files_text() -> String {
    format!(
        "query Files($entity: String!, $project: String!, $run: String!, $pattern: String, $first: Int,
                $after: String) {{
            project(name: $project, entityName: $entity) {{ run(name: $run) {{
                files(pattern: $pattern, first: $first, after: $after) {{
                    edges {{ cursor? node {{ {FILE} }} }} pageInfo {{ endCursor hasNextPage }}
                }}
            }} }}
        }}"
    )
}

fn saved(file: &File) -> RemoteFile {
    let content = file.md5.as_deref().or(file.updated_at.as_deref()).unwrap_or_default();
    let size = file.size_bytes.as_u64().or_else(|| file.size_bytes.as_str()?.parse().ok());
    RemoteFile {
        path: format!("{SAVED}/{}", file.name),
        size: size.unwrap_or(0),
        version: first_bytes(content),
        step: None,
    }
}

/// JSON that servers give as it is, or in a text.
fn in_text(value: &Value) -> Value {
    match value {
        Value::String(text) => crate::adapters::tolerant::from_str(text).unwrap_or_default(),
        other => other.clone(),
    }
}

/// An address as it is asked for: one without a host is below the server's own.
pub(super) fn below(address: &str) -> &str {
    address.trim_start_matches('/')
}

/// The digest that a file should have.
#[derive(Clone, Debug)]
struct Expected {
    base64: String,
    xxh128: bool,
}

async fn verify(file: &Path, path: &str, expected: Option<Expected>) -> Result<(), TrackerError> {
    let Some(expected) = expected else { return Ok(()) };
    let disk = |source| HttpError::Disk { path: file.into(), source };
    let (from, xxh128) = (file.to_owned(), expected.xxh128);
    let digest = tokio::task::spawn_blocking(move || digest_of(&from, xxh128))
        .await
        .map_err(|error| disk(std::io::Error::other(error)))?
        .map_err(disk)?;
    if digest == expected.base64 {
        return Ok(());
    }
    let what = if xxh128 { "XXH128" } else { "MD5" };
    Err(TrackerError::Lost(format!(
        "{path} came with another {what} digest than its manifest tells ({digest}, not {})",
        expected.base64
    )))
}

/// The digest of a file, in base64.
fn digest_of(file: &Path, xxh128: bool) -> std::io::Result<String> {
    let mut reader = std::io::BufReader::with_capacity(1 << 20, std::fs::File::open(file)?);
    let (mut md5, mut xxh) = (Md5::new(), XxHash3_128::new());
    loop {
        let bytes = std::io::BufRead::fill_buf(&mut reader)?;
        if bytes.is_empty() {
            break;
        }
        if xxh128 {
            xxh.write(bytes);
        } else {
            md5.update(bytes);
        }
        let length = bytes.len();
        std::io::BufRead::consume(&mut reader, length);
    }
    Ok(if xxh128 { BASE64.encode(xxh.finish_128().to_be_bytes()) } else { BASE64.encode(md5.finalize()) })
}

/// The MD5 digest of bytes, in base64, as manifests have it.
pub(super) fn md5_base64(bytes: &[u8]) -> String {
    BASE64.encode(Md5::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_as_the_sdk_writes_them() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        // hashlib.md5(b"abc"), xxhash.xxh3_128(b"abc"), in base64.
        assert_eq!(digest_of(file.path(), false).unwrap(), "kAFQmDzST7DWlj99KOF/cg==");
        assert_eq!(digest_of(file.path(), true).unwrap(), "BrBatnM6YYV4r1+UiS85UA==");
        assert_eq!(md5_base64(b"abc"), "kAFQmDzST7DWlj99KOF/cg==");
    }

    #[tokio::test]
    async fn a_file_that_is_not_what_it_should_be_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        let expect = |base64: &str| Some(Expected { xxh128: false, base64: base64.into() });
        verify(file.path(), "m.pt", None).await.unwrap();
        verify(file.path(), "m.pt", expect("kAFQmDzST7DWlj99KOF/cg==")).await.unwrap();
        let error = verify(file.path(), "m.pt", expect("AAAA")).await.unwrap_err();
        assert!(error.to_string().contains("another MD5 digest") && !error.is_transient(), "{error}");
    }

    #[test]
    fn artifacts_are_put_on_the_trainers_scale() {
        let mut known = Known::default();
        known.extend_scale("a", []);
        assert_eq!(known.runs["a"].on_scale(3), Some(3), "there is only one scale");
        known.extend_scale("a", [(4, 400), (8, 800)]);
        assert_eq!(known.rows_taken_in("a", Some(400)), (5, true));
        assert_eq!(
            (known.rows_taken_in("a", None), known.rows_taken_in("b", Some(3))),
            ((0, true), (0, false))
        );
        let on_scale = |step| known.runs["a"].on_scale(step);
        assert_eq!(
            (on_scale(4), on_scale(5), on_scale(8), on_scale(99)),
            (None, Some(400), Some(400), Some(800))
        );
    }

    #[test]
    fn paths_tell_their_artifact() {
        assert_eq!(artifact_of("artifacts/model-abc:v3/a/step-40.pt"), Some("model-abc:v3"));
        assert_eq!(artifact_of("files/step-40.pt"), None);
    }
}
