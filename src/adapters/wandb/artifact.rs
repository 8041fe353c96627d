//! Writing an artifact: announced, its files and its manifest uploaded, committed. What the server has already is not sent.
//!
//! An artifact of the same content is found by its digest; then nothing is made.

use std::collections::BTreeMap;

use md5::{Digest as _, Md5};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};

use super::files::{below, md5_base64};
use super::graphql::{Connection, parse};
use super::{Wandb, hex};
use crate::adapters::http::{Repeat, UPLOAD};
use crate::adapters::tracker::TrackerError;
use crate::artifact::Artifact;

/// The type of our artifacts.
const TYPE: &str = "doodl3-analysis";

/// The name of a manifest.
const MANIFEST: &str = "wandb_manifest.json";

const CREATE: &str = "mutation CreateArtifact($input: CreateArtifactInput!) {
    createArtifact(input: $input) {
        artifact { id state artifactSequence { latestArtifact { id versionIndex } } }
    }
}";

const CREATE_MANIFEST: &str = "mutation CreateArtifactManifest($artifact: ID!, $base: ID, $name: String!,
        $digest: String!, $entity: String!, $project: String!, $run: String!, $upload: Boolean!) {
    createArtifactManifest(input: { artifactID: $artifact, baseArtifactID: $base, name: $name, digest: $digest,
            entityName: $entity, projectName: $project, runName: $run, type: FULL }) {
        artifactManifest { id file { id uploadUrl @include(if: $upload) uploadHeaders @include(if: $upload) } }
    }
}";

const CREATE_FILES: &str = "mutation CreateArtifactFiles($input: CreateArtifactFilesInput!) {
    createArtifactFiles(input: $input) {
        files { edges { node { uploadUrl uploadHeaders artifact { id } } } }
    }
}";

const COMMIT: &str = "mutation CommitArtifact($artifact: ID!) {
    commitArtifact(input: { artifactID: $artifact }) { artifact { id digest } }
}";

/// An artifact that is to be written.
pub(super) struct New<'n> {
    /// The run by which it is made.
    pub(super) run: &'n str,
    pub(super) project: &'n str,
    pub(super) name: &'n str,
    pub(super) description: &'n str,
    pub(super) metadata: &'n Value,
    pub(super) aliases: &'n [&'n str],
    pub(super) files: &'n [&'n Artifact],
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Created {
    id: String,
    state: String,
    #[serde(default)]
    artifact_sequence: Option<Sequence>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sequence {
    latest_artifact: Option<Latest>,
}

#[derive(Debug, Deserialize)]
struct Latest {
    id: String,
}

/// Where a file goes; no address: the server has it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    #[serde(default)]
    upload_url: Option<String>,
    #[serde(default)]
    upload_headers: Option<Vec<String>>,
    #[serde(default)]
    artifact: Option<Latest>,
}

impl Wandb {
    /// Writes an artifact, and shows it among those of `also` too.
    pub(super) async fn write_artifact(&self, new: &New<'_>, also: Option<&str>) -> Result<(), TrackerError> {
        let digests: BTreeMap<&str, String> =
            new.files.iter().map(|file| (file.name.as_str(), md5_base64(&file.bytes))).collect();
        let digest = manifest_digest(&digests);
        let created = self.announce(new, new.run, &digest).await?;
        if created.state != "COMMITTED" {
            self.fill(new, &digests, &created).await?;
        }
        if let Some(run) = also {
            let shown = self.announce(new, run, &digest).await?;
            if shown.state != "COMMITTED" {
                tracing::debug!(
                    run,
                    artifact = new.name,
                    "the server does not show the artifact among the run's own"
                );
            }
        }
        Ok(())
    }

    async fn announce(&self, new: &New<'_>, run: &str, digest: &str) -> Result<Created, TrackerError> {
        let aliases: Vec<Value> = new
            .aliases
            .iter()
            .map(|alias| json!({ "artifactCollectionName": new.name, "alias": alias }))
            .collect();
        let input = json!({
            "entityName": self.entity().await?,
            "projectName": new.project,
            "artifactTypeName": TYPE,
            "artifactCollectionName": new.name,
            "runName": run,
            "digest": digest,
            "digestAlgorithm": "MANIFEST_MD5",
            "description": new.description,
            "metadata": new.metadata.to_string(),
            "aliases": aliases,
            "enableDigestDeduplication": true,
            "clientID": client_id("artifact", run, digest),
            "sequenceClientID": client_id("sequence", run, digest),
        });
        let data = self.graphql.ask(CREATE, &json!({ "input": input }), Repeat::Freely).await?;
        parse("CreateArtifact", &data["createArtifact"]["artifact"])
    }

    /// Uploads what an artifact that was announced holds, and commits it.
    async fn fill(
        &self,
        new: &New<'_>,
        digests: &BTreeMap<&str, String>,
        created: &Created,
    ) -> Result<(), TrackerError> {
        let base = created.artifact_sequence.as_ref().and_then(|sequence| sequence.latest_artifact.as_ref());
        let base = base.map(|latest| latest.id.as_str()).filter(|id| *id != created.id);
        let manifest = |digest: String, upload: bool| async move {
            let variables = json!({
                "artifact": created.id,
                "base": base,
                "name": MANIFEST,
                "digest": digest,
                "entity": self.entity().await?,
                "project": new.project,
                "run": new.run,
                "upload": upload,
            });
            let data = self.graphql.ask(CREATE_MANIFEST, &variables, Repeat::Freely).await?;
            Ok::<Value, TrackerError>(data["createArtifactManifest"]["artifactManifest"].clone())
        };
        let announced = manifest(String::new(), false).await?;
        let specs: Vec<Value> = new
            .files
            .iter()
            .map(|file| {
                json!({
                    "artifactID": created.id,
                    "artifactManifestID": announced["id"],
                    "name": file.name,
                    "md5": digests[file.name.as_str()],
                })
            })
            .collect();
        let input = json!({ "artifactFiles": specs, "storageLayout": "V2" });
        let data = self.graphql.ask(CREATE_FILES, &json!({ "input": input }), Repeat::Freely).await?;
        let found: Connection<Target> = parse("CreateArtifactFiles", &data["createArtifactFiles"]["files"])?;
        let targets: Vec<Target> = found.items().collect();
        if targets.len() != new.files.len() {
            return Err(TrackerError::Lost(format!(
                "the server takes {} of {} files of artifact {}",
                targets.len(),
                new.files.len(),
                new.name
            )));
        }
        let mut contents = serde_json::Map::new();
        for (file, target) in new.files.iter().zip(&targets) {
            self.put(target, &file.bytes, &file.name).await?;
            let birth = target.artifact.as_ref().map_or(&created.id, |artifact| &artifact.id);
            contents.insert(
                file.name.clone(),
                json!({
                    "digest": digests[file.name.as_str()],
                    "size": file.bytes.len(),
                    "birthArtifactID": birth,
                }),
            );
        }
        let written = json!({
            "version": 1,
            "storagePolicy": "wandb-storage-policy-v1",
            "storagePolicyConfig": { "storageLayout": "V2" },
            "contents": contents,
        })
        .to_string();
        let placed = manifest(md5_base64(written.as_bytes()), true).await?;
        let target: Target = parse("CreateArtifactManifest", &placed["file"])?;
        self.put(&target, written.as_bytes(), MANIFEST).await?;
        self.graphql.ask(COMMIT, &json!({ "artifact": created.id }), Repeat::Freely).await?;
        Ok(())
    }

    async fn put(&self, target: &Target, bytes: &[u8], name: &str) -> Result<(), TrackerError> {
        let Some(address) = &target.upload_url else { return Ok(()) };
        let headers = headers(target.upload_headers.as_deref().unwrap_or_default());
        Ok(self.client.put(below(address), &headers, bytes, &format!("{UPLOAD} {name}")).await?)
    }

    /// Notes which artifacts a run of ours is made from, all at once.
    pub(super) async fn use_artifacts(
        &self,
        project: &str,
        run: &str,
        ids: &[String],
    ) -> Result<(), TrackerError> {
        use std::fmt::Write as _;
        let entity = self.entity().await?;
        let mut text = String::from("mutation UseArtifacts(");
        let mut variables = serde_json::Map::new();
        for (index, id) in ids.iter().enumerate() {
            let _ = write!(text, "$u{index}: UseArtifactInput! ");
            let input =
                json!({ "artifactID": id, "entityName": entity, "projectName": project, "runName": run });
            variables.insert(format!("u{index}"), input);
        }
        text += ") {";
        for index in 0..ids.len() {
            let _ = write!(text, " u{index}: useArtifact(input: $u{index}) {{ artifact {{ id }} }}");
        }
        text += " }";
        self.graphql.ask(&text, &Value::Object(variables), Repeat::Freely).await?;
        Ok(())
    }
}

/// The digest of an artifact: MD5, in hexadecimals, of a line that names the way, and one for each file in the order of
/// their paths.
fn manifest_digest(digests: &BTreeMap<&str, String>) -> String {
    let mut hasher = Md5::new();
    hasher.update(b"wandb-artifact-manifest-v1\n");
    for (path, digest) in digests {
        hasher.update(format!("{path}:{digest}\n"));
    }
    hex(&hasher.finalize())
}

/// Headers as the server asks for them: `Name:Value`.
pub(super) fn headers(written: &[String]) -> HeaderMap {
    let header = |line: &String| {
        let (name, value) = line.split_once(':')?;
        let name: HeaderName = name.trim().parse().ok()?;
        Some((name, HeaderValue::from_str(value.trim()).ok()?))
    };
    written.iter().filter_map(header).collect()
}

/// 128 characters by which the server tells writers apart: others for each time, run and kind.
fn client_id(kind: &str, run: &str, digest: &str) -> String {
    let now = jiff::Timestamp::now().as_nanosecond();
    let seed = format!("{kind} {run} {digest} {now} {}", std::process::id());
    let mut bytes = [0; 128];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into_iter().map(|byte| char::from_digit(u32::from(byte % 36), 36).unwrap_or('0')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_sdk() {
        // hashlib.md5(b"wandb-artifact-manifest-v1\na.txt:kAFQmDzST7DWlj99KOF/cg==\n")
        let digests = BTreeMap::from([("a.txt", md5_base64(b"abc"))]);
        assert_eq!(manifest_digest(&digests), "32c296b9cf02f3d86c8e84ca4a3db4e5");
    }

    #[test]
    fn headers_are_taken_as_they_are_written() {
        let written = ["Content-MD5:kAFQmDzST7DWlj99KOF/cg==".to_owned(), "x-a: b:c".into(), "torn".into()];
        let found = headers(&written);
        assert_eq!(
            (found["content-md5"].to_str().unwrap(), found["x-a"].to_str().unwrap()),
            ("kAFQmDzST7DWlj99KOF/cg==", "b:c")
        );
        assert_eq!(found.len(), 2);
        let ids = [
            client_id("artifact", "a", "d"),
            client_id("sequence", "a", "d"),
            client_id("artifact", "b", "d"),
        ];
        assert!(ids[0].len() == 128 && ids[0] != ids[1] && ids[0] != ids[2]);
    }
}
