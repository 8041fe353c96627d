//! What goes back to W&B. Nothing of it touches the history or the summary of a run that is not ours.
//!
//! Beside each watched run there is one of our own, found by its id, in the same group. Its history has numbered rows: a
//! row is written at its number, so that writing it again, after an answer that never came, leaves one row. Each request
//! says that the run is complete, so that it never looks as if it went on. The run also carries the artifact with the
//! report, which is shown among those of the watched run, too, and its pictures.

use std::collections::BTreeMap;

use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::artifact::{New, headers};
use super::files::{artifact_of, below};
use super::graphql::{object, parse};
use super::{JOB_TYPE, Wandb, hex, id};
use crate::adapters::http::{Repeat, UPLOAD};
use crate::adapters::tracker::{Notice, OwnRun, Part, Post, RunStatus, TrackedRun, TrackerError};
use crate::alert::Severity;
use crate::artifact::Artifact;

/// Beginning of the ids of our own runs.
const OURS: &str = "doodl3-";

/// The series that tells the checkpoint's step; W&B's own step is the number of the row.
const STEP: &str = "doodl3/step";

/// Lineage entries that are written at once.
const LINEAGE_AT_ONCE: usize = 20;

/// Characters of a name that servers take.
const NAME: usize = 128;

/// Rows in a request.
const ROWS: usize = 10_000;

/// Characters of an alert's title.
const TITLE: usize = 63;

/// Two alerts of one title within this many milliseconds are one.
const WAIT_MS: u64 = 600_000;

const SOURCE: &str = "query SourceRun($entity: String!, $project: String!, $run: String!) {
    project(name: $project, entityName: $entity) { run(name: $run) { id group? displayName } }
}";

const UPSERT: &str = "mutation UpsertBucket($name: String, $project: String, $entity: String, $group: String,
        $displayName: String, $notes: String, $config: JSONString, $jobType: String, $tags: [String!],
        $state: String) {
    upsertBucket(input: { name: $name, modelName: $project, entityName: $entity, groupName: $group,
            displayName: $displayName, notes: $notes, config: $config, jobType: $jobType, tags: $tags, state: $state }) {
        bucket { id name } inserted
    }
}";

const CREATE_FILES: &str = "mutation CreateRunFiles($entity: String!, $project: String!, $run: String!,
        $files: [String!]!) {
    createRunFiles(input: { entityName: $entity, projectName: $project, runName: $run, files: $files }) {
        runID uploadHeaders files { name uploadUrl }
    }
}";

const MARK_FILES: &str = "mutation MarkRunFilesUploaded($entity: String!, $project: String!, $run: String!,
        $files: [String!]!) {
    markRunFilesUploaded(input: { entityName: $entity, projectName: $project, runName: $run, files: $files }) { success }
}";

const ALERT: &str = "mutation NotifyScriptableRunAlert($entity: String!, $project: String!, $run: String!,
        $title: String!, $text: String!, $severity: AlertSeverity = INFO, $wait: Duration) {
    notifyScriptableRunAlert(input: { entityName: $entity, projectName: $project, runName: $run, title: $title,
            text: $text, severity: $severity, waitDuration: $wait }) { success }
}";

const FILES_THERE: &str =
    "query FilesThere($entity: String!, $project: String!, $run: String!, $names: [String],
        $after: String) {
    project(name: $project, entityName: $entity) {
        run(name: $run) {
            files(names: $names, first: 100, after: $after) {
                edges { cursor? node { name sizeBytes } } pageInfo { endCursor hasNextPage }
            }
        }
    }
}";

/// An id of ours, and a name: cut, with a digest, where it would be too long.
fn ours(rest: &str) -> String {
    if OURS.len() + rest.chars().count() <= NAME {
        return format!("{OURS}{rest}");
    }
    let digest = blake3::hash(rest.as_bytes()).to_hex();
    format!("{OURS}{}-{}", rest.chars().take(NAME / 2).collect::<String>(), &digest[..16])
}

/// Whether a run is one of ours, by its id.
pub(super) fn is_ours(id: &str) -> bool {
    id.starts_with(OURS)
}

/// A run of our own.
struct Beside<'r> {
    id: String,
    project: &'r str,
    name: String,
    group: Option<String>,
    /// The run of which it tells; `None`: the experiment.
    source: Option<&'r TrackedRun>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Source {
    #[serde(default)]
    group: Option<String>,
    #[serde(default)]
    display_name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Uploads {
    #[serde(default)]
    upload_headers: Vec<String>,
    files: Vec<Upload>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Upload {
    name: String,
    #[serde(default)]
    upload_url: Option<String>,
}

/// A picture or a page among a run's files, as its history names it.
struct Media<'a> {
    key: String,
    path: String,
    value: Value,
    new: bool,
    bytes: &'a [u8],
}

impl Wandb {
    /// Posts what concerns a run, or the experiment, to a run of our own.
    pub(in crate::adapters) async fn post(&self, run: &TrackedRun, post: &Post) -> Result<(), TrackerError> {
        let beside = self.beside(run).await?;
        match self.post_beside(&beside, post).await {
            // Ids are never given twice: what somebody has thrown away is not made again.
            Err(TrackerError::Gone) if beside.source.is_none() => {
                tracing::debug!(run = beside.id, "the run is deleted; nothing is posted to it");
                Ok(())
            }
            posted => posted,
        }
    }

    async fn post_beside(&self, beside: &Beside<'_>, post: &Post) -> Result<(), TrackerError> {
        self.upsert(beside, post).await?;
        if post.artifacts.iter().any(|part| part.new) {
            self.post_artifact(beside, post).await?;
        }
        let media = media(post);
        self.upload_media(beside, &media).await?;
        self.stream(beside, post, &media).await?;
        self.lineage(beside, post).await
    }

    /// A run of our own for an experiment; those beside runs are made when they are posted to.
    pub(in crate::adapters) fn own_run(own: &OwnRun) -> Option<TrackedRun> {
        if own.parent.is_some() {
            return None;
        }
        let (project, digest) = (&own.experiment_key, blake3::hash(own.of.as_bytes()).to_hex());
        Some(TrackedRun {
            key: format!("{}:{project}", ours(&format!("{}-{project}-{}", own.role, &digest[..8]))),
            name: own.name.clone(),
            experiment_key: own.experiment_key.clone(),
            experiment: own.experiment_key.clone(),
            status: RunStatus::Ended,
            artifacts: String::new(),
            token: String::new(),
            loss: None,
            models: Vec::new(),
            last_sign_s: None,
        })
    }

    /// Has people told, by whatever way they have chosen at W&B.
    pub(in crate::adapters) async fn notify(
        &self,
        run: &TrackedRun,
        notice: &Notice,
    ) -> Result<(), TrackerError> {
        let severity = match notice.severity {
            Severity::Info => "INFO",
            Severity::Warning => "WARN",
            Severity::High | Severity::Critical => "ERROR",
        };
        let variables = json!({
            "entity": self.entity().await?,
            "project": run.experiment_key,
            "run": id(run),
            "title": notice.title.chars().take(TITLE).collect::<String>(),
            "text": notice.text,
            "severity": severity,
            "wait": WAIT_MS,
        });
        match self.graphql.ask(ALERT, &variables, Repeat::Freely).await {
            Ok(_) => Ok(()),
            Err(TrackerError::Refused { message, .. })
                if message.contains("notifyScriptableRunAlert") || message.contains("Unknown type") =>
            {
                tracing::warn!(
                    run = run.name,
                    message,
                    "the server knows no alerts; it is told by artifacts only"
                );
                Ok(())
            }
            Err(TrackerError::Refused { message, .. }) if message.contains("not found") => {
                Err(TrackerError::Gone)
            }
            Err(error) => Err(error),
        }
    }

    async fn beside<'r>(&self, run: &'r TrackedRun) -> Result<Beside<'r>, TrackerError> {
        let project = run.experiment_key.as_str();
        if is_ours(id(run)) {
            let name = run.name.clone();
            return Ok(Beside { id: id(run).to_owned(), project, name, group: None, source: None });
        }
        let variables = json!({ "entity": self.entity().await?, "project": project, "run": id(run) });
        let data = self.graphql.ask(SOURCE, &variables, Repeat::Freely).await?;
        let Some(found) = data.pointer("/project/run").filter(|found| !found.is_null()) else {
            return Err(self.why_not_shown(&data, run).await);
        };
        let Source { group, display_name } = parse("SourceRun", found)?;
        let name = display_name.unwrap_or_else(|| run.name.clone());
        Ok(Beside {
            id: ours(id(run)),
            project,
            name: format!("doodl3: {name}"),
            group: group.filter(|group| !group.is_empty()).or_else(|| Some(id(run).to_owned())),
            source: Some(run),
        })
    }

    /// Makes the run, or brings what is said of it up to date.
    async fn upsert(&self, beside: &Beside<'_>, post: &Post) -> Result<(), TrackerError> {
        let value = |value: &str| json!({ "value": value });
        let mut config = Map::new();
        config.insert("doodl3_version".into(), value(env!("CARGO_PKG_VERSION")));
        if let Some(source) = beside.source {
            config.insert("source_run".into(), value(id(source)));
            config.insert("source_name".into(), value(&source.name));
        }
        for part in &post.tags {
            let (name, told) = &part.content;
            config.insert(as_key(name), json!({ "value": told }));
        }
        // Clients take a run without this for one that was never begun.
        config.insert("_wandb".into(), json!({ "value": { "t": {}, "m": metrics(post) } }));
        let tags: Vec<&str> = [Some("doodl3"), tag(post, "doodl3.state")].into_iter().flatten().collect();
        // Links to files beside it lead nowhere from here.
        let notes = post.description.as_ref().map(|text| {
            let lines = text.lines().filter(|line| !line.contains("{artifacts}") && !line.contains("{page}"));
            lines.collect::<Vec<_>>().join("\n").trim().to_owned()
        });
        let variables = json!({
            "name": beside.id,
            "project": beside.project,
            "entity": self.entity().await?,
            "group": beside.group,
            "displayName": beside.name,
            "notes": notes,
            "config": Value::Object(config).to_string(),
            "jobType": JOB_TYPE,
            "tags": tags,
            // It never goes on.
            "state": "finished",
        });
        match self.graphql.ask(UPSERT, &variables, Repeat::Freely).await {
            Ok(_) => Ok(()),
            // Servers say so in words, with a status of one kind or another.
            Err(error) if error.to_string().contains("deleted") => Err(TrackerError::Gone),
            Err(error) => Err(error),
        }
    }

    async fn post_artifact(&self, beside: &Beside<'_>, post: &Post) -> Result<(), TrackerError> {
        let files: Vec<&Artifact> = post.artifacts.iter().map(|part| &part.content).collect();
        let state = tag(post, "doodl3.state");
        let verdict = match state {
            Some("healthy") => Some("stable"),
            Some("unstable" | "diverged") => Some("unstable"),
            _ => None,
        };
        let aliases: Vec<&str> = [Some("latest"), verdict].into_iter().flatten().collect();
        let mut metadata = Map::new();
        metadata.insert("doodl3_version".into(), json!(env!("CARGO_PKG_VERSION")));
        metadata.insert("source_run".into(), json!(beside.source.map(id)));
        metadata.insert("step".into(), json!(post.at.map(|(step, _)| step)));
        for name in ["state", "alert", "attractor"] {
            metadata.insert(name.into(), json!(tag(post, &format!("doodl3.{name}"))));
        }
        let new = New {
            run: &beside.id,
            project: beside.project,
            name: &beside.id,
            description: "What doodl3 found: report, Morse graph, phase portrait, alerts",
            metadata: &Value::Object(metadata),
            aliases: &aliases,
            files: &files,
        };
        self.write_artifact(&new, beside.source.map(id)).await
    }

    async fn upload_media(&self, beside: &Beside<'_>, media: &[Media<'_>]) -> Result<(), TrackerError> {
        let new: BTreeMap<&str, &[u8]> =
            media.iter().filter(|media| media.new).map(|media| (media.path.as_str(), media.bytes)).collect();
        // One that is there already, after a post that was broken off, may not be written again everywhere.
        let there = if new.is_empty() { Vec::new() } else { self.files_there(beside, new.keys()).await? };
        let new: BTreeMap<&str, &[u8]> =
            new.into_iter().filter(|(path, _)| !there.iter().any(|there| there == path)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let variables = json!({
            "entity": self.entity().await?,
            "project": beside.project,
            "run": beside.id,
            "files": new.keys().collect::<Vec<_>>(),
        });
        let data = self.graphql.ask(CREATE_FILES, &variables, Repeat::Freely).await?;
        let uploads: Uploads = parse("CreateRunFiles", &data["createRunFiles"])?;
        let headers: HeaderMap = headers(&uploads.upload_headers);
        for Upload { name, upload_url } in &uploads.files {
            // No address: the server has it.
            if let (Some(bytes), Some(address)) = (new.get(name.as_str()), upload_url) {
                self.client.put(below(address), &headers, bytes, &format!("{UPLOAD} {name}")).await?;
            }
        }
        match self.graphql.ask(MARK_FILES, &variables, Repeat::Freely).await {
            // Older servers look for themselves.
            Err(TrackerError::Refused { message, .. }) if message.contains("markRunFilesUploaded") => Ok(()),
            marked => marked.map(drop),
        }
    }

    /// Those of some files that the run has.
    async fn files_there<'n>(
        &self,
        beside: &Beside<'_>,
        names: impl Iterator<Item = &'n &'n str>,
    ) -> Result<Vec<String>, TrackerError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct There {
            name: String,
            #[serde(default)]
            size_bytes: Value,
        }
        let variables = object([
            ("entity", json!(self.entity().await?)),
            ("project", json!(beside.project)),
            ("run", json!(beside.id)),
            ("names", json!(names.collect::<Vec<_>>())),
        ]);
        let found: Option<Vec<There>> =
            self.graphql.pages(FILES_THERE, variables, "/project/run/files").await?;
        // One of no size was announced and never came.
        let there = found
            .unwrap_or_default()
            .into_iter()
            .filter(|file| file.size_bytes != json!(0) && file.size_bytes != json!("0"));
        Ok(there.map(|file| file.name).collect())
    }

    /// Writes rows and summary, each time with the word that the run is complete.
    async fn stream(
        &self,
        beside: &Beside<'_>,
        post: &Post,
        media: &[Media<'_>],
    ) -> Result<(), TrackerError> {
        let rows = rows(post, media);
        let path = format!(
            "files/{}/file_stream",
            crate::adapters::http::encode(&format!(
                "{}/{}/{}",
                self.entity().await?,
                beside.project,
                beside.id
            ))
        );
        let summary = json!({ "offset": 0, "content": [summary(post, media).to_string()] });
        let mut offset = post.rows_before;
        let mut chunks: Vec<&[String]> = rows.chunks(ROWS).collect();
        if chunks.is_empty() {
            chunks.push(&[]);
        }
        for rows in chunks {
            let mut files = Map::new();
            if !rows.is_empty() {
                files.insert("wandb-history.jsonl".into(), json!({ "offset": offset, "content": rows }));
            }
            files.insert("wandb-summary.json".into(), summary.clone());
            let body = json!({ "files": files, "complete": true, "exitcode": 0 });
            let _: Value = self.client.post(&path, &body, Repeat::Freely).await?;
            offset += rows.len() as u64;
        }
        Ok(())
    }

    /// Notes which artifacts hold the checkpoints that it tells of.
    async fn lineage(&self, beside: &Beside<'_>, post: &Post) -> Result<(), TrackerError> {
        let Some(source) = beside.source else { return Ok(()) };
        let mut names: Vec<&str> = post.used.iter().filter_map(|path| artifact_of(path)).collect();
        names.dedup();
        let mut ids = Vec::with_capacity(names.len());
        for name in names {
            // One that was deleted meanwhile is no part of it any more.
            ids.extend(self.artifact(&source.experiment_key, name).await?);
        }
        for ids in ids.chunks(LINEAGE_AT_ONCE) {
            match self.use_artifacts(beside.project, &beside.id, ids).await {
                Ok(()) => continue,
                Err(error) if error.is_transient() => return Err(error),
                Err(_) => {}
            }
            for id in ids {
                // What cannot be noted of one does not undo the report.
                match self.use_artifacts(beside.project, &beside.id, std::slice::from_ref(id)).await {
                    Err(error) if error.is_transient() => return Err(error),
                    Err(error) => {
                        tracing::debug!(run = beside.id, %error, "a checkpoint is left out of the lineage");
                    }
                    Ok(()) => {}
                }
            }
        }
        Ok(())
    }
}

/// A tag's name as a key, in which a dot would mean something inside something.
fn as_key(tag: &str) -> String {
    tag.replace('.', "/")
}

/// A tag's value.
fn tag<'p>(post: &'p Post, name: &str) -> Option<&'p str> {
    post.tags.iter().find(|part| part.content.0 == name)?.content.1.as_deref()
}

/// That the series go by the checkpoint's step, as W&B's clients note it: 1 the name, 5 the number of the metric that is
/// the axis, counted from 1, 6 that this was said on purpose.
fn metrics(post: &Post) -> Vec<Value> {
    let axis = json!({ "1": STEP, "6": [3], "7": [] });
    let mut keys: Vec<&str> = post.latest.iter().map(|point| point.key.as_str()).collect();
    keys.extend(["doodl3/report", "doodl3/phase_portrait", "doodl3/morse_graph"]);
    let others = keys.into_iter().map(|key| json!({ "1": key, "5": 1, "6": [1, 3], "7": [] }));
    std::iter::once(axis).chain(others).collect()
}

/// The pages and pictures among the files, named by their content, so that one that is sent again is the same.
fn media(post: &Post) -> Vec<Media<'_>> {
    post.artifacts.iter().filter_map(of_media).collect()
}

fn of_media(part: &Part<Artifact>) -> Option<Media<'_>> {
    let (content, new) = (&part.content, part.new);
    let digest = hex(&Sha256::digest(&content.bytes));
    let (stem, extension) = content.name.rsplit_once('.')?;
    let key = format!("doodl3/{stem}");
    let (path, mut value) = match (stem, extension) {
        ("report", "html") => {
            (format!("media/html/{key}_{}.html", &digest[..20]), json!({ "_type": "html-file" }))
        }
        ("phase_portrait" | "morse_graph", "png") => {
            let (width, height) = png_size(&content.bytes)?;
            let value = json!({ "_type": "image-file", "format": "png", "width": width, "height": height });
            (format!("media/images/{key}_{}.png", &digest[..20]), value)
        }
        _ => return None,
    };
    value["path"] = json!(path);
    value["sha256"] = json!(digest);
    value["size"] = json!(content.bytes.len());
    Some(Media { key, path, value, new, bytes: &content.bytes })
}

/// Width and height of a PNG, which stand at the beginning of its first chunk (PNG specification, §11.2.1).
fn png_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let number = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
    Some((number(16)?, number(20)?))
}

/// The new rows of the history, one for each step.
fn rows(post: &Post, media: &[Media<'_>]) -> Vec<String> {
    let mut rows: BTreeMap<u64, Map<String, Value>> = BTreeMap::new();
    for (number, step) in post.row_steps().into_iter().enumerate() {
        let mut row = Map::new();
        row.insert("_step".into(), json!(post.rows_before + number as u64));
        row.insert(STEP.into(), json!(step));
        rows.insert(step, row);
    }
    for point in &post.series {
        if let Some(row) = rows.get_mut(&point.step) {
            row.insert("_timestamp".into(), json!(point.timestamp_ms as f64 / 1e3));
            row.insert(point.key.clone(), json!(point.value));
        }
    }
    if let Some((step, timestamp_ms)) = post.at
        && let Some(row) = rows.get_mut(&step)
    {
        row.insert("_timestamp".into(), json!(timestamp_ms as f64 / 1e3));
        for media in media.iter().filter(|media| media.new) {
            row.insert(media.key.clone(), media.value.clone());
        }
    }
    rows.into_values().map(|row| Value::Object(row).to_string()).collect()
}

/// The whole summary: it replaces the one before.
fn summary(post: &Post, media: &[Media<'_>]) -> Value {
    let mut summary = Map::new();
    let rows = post.rows_before + post.row_steps().len() as u64;
    if rows > 0 {
        summary.insert("_step".into(), json!(rows - 1));
    }
    if let Some((step, timestamp_ms)) = post.at {
        summary.insert(STEP.into(), json!(step));
        summary.insert("_timestamp".into(), json!(timestamp_ms as f64 / 1e3));
    }
    for point in &post.latest {
        summary.insert(point.key.clone(), json!(point.value));
    }
    for media in media {
        summary.insert(media.key.clone(), media.value.clone());
    }
    for part in &post.tags {
        if let (name, Some(told)) = &part.content {
            summary.insert(as_key(name), json!(told));
        }
    }
    Value::Object(summary)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::tracker::Point;

    fn point(key: &str, step: u64, value: f64) -> Point {
        Point { key: key.into(), step, timestamp_ms: 1_500, value }
    }

    #[test]
    fn rows_are_numbered_after_those_before_and_carry_what_is_new() {
        let page = Artifact::text("report.html", "text/html", "<p>");
        let post = Post {
            artifacts: vec![Part { content: page, new: true }],
            tags: vec![Part { content: ("doodl3.state".into(), Some("healthy".into())), new: false }],
            series: vec![point("doodl3/a", 10, 0.5), point("doodl3/b", 10, 2.0), point("doodl3/a", 20, 0.25)],
            latest: vec![point("doodl3/a", 20, 0.25), point("doodl3/b", 10, 2.0)],
            at: Some((30, 2_000)),
            rows_before: 7,
            ..Post::default()
        };
        let media = media(&post);
        let rows: Vec<Value> =
            rows(&post, &media).iter().map(|row| serde_json::from_str(row).unwrap()).collect();
        assert_eq!(rows.len(), 3);
        assert_eq!(
            rows[0],
            json!({ "_step": 7, "doodl3/step": 10, "_timestamp": 1.5, "doodl3/a": 0.5, "doodl3/b": 2.0 })
        );
        assert_eq!((&rows[1]["_step"], &rows[1]["doodl3/step"]), (&json!(8), &json!(20)));
        let report = &rows[2]["doodl3/report"];
        assert_eq!((&report["_type"], &report["size"]), (&json!("html-file"), &json!(3)));
        let summary = summary(&post, &media);
        assert_eq!((&summary["_step"], &summary["doodl3/a"]), (&json!(9), &json!(0.25)));
        assert_eq!((&summary["doodl3/report"], &summary["doodl3/state"]), (report, &json!("healthy")));
    }

    #[test]
    fn the_size_of_a_picture_is_found_in_its_beginning() {
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        png.extend([0, 0, 2, 0x80, 0, 0, 1, 0xe0]);
        assert_eq!(png_size(&png), Some((640, 480)));
        assert_eq!(png_size(b"short"), None);
    }
}
