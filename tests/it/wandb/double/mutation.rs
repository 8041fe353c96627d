//! What can be changed: runs, their files and alerts, and the steps by which an artifact comes to be.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::ENTITY;
use super::graphql::{Arguments, Node, Thing};
use super::query::{Resolver, mimetype, text};
use super::state::{
    Alert, Artifact, Collection, Entry, Manifest, Run, State, finite, hex_of, is_inside, md5_hex, now,
};

/// A header that the storage wants with each file of a run.
const RUN_FILE_HEADER: (&str, &str) = ("X-Amz-Server-Side-Encryption", "AES256");

impl Resolver<'_> {
    /// Runs a mutation.
    pub(super) fn change(&mut self, name: &str, arguments: &Arguments) -> Result<Node, String> {
        let input = arguments.get("input").and_then(Value::as_object).ok_or("input is missing")?;
        if let Some(entity) =
            text(input, "entityName").filter(|entity| *entity != ENTITY && !entity.is_empty())
        {
            return Err(format!("permission denied: no access to entity {entity}"));
        }
        match name {
            "upsertModel" => {
                let project = text(input, "name").ok_or("a name is needed")?;
                let is_new = !self.state.has_project(ENTITY, project);
                self.state.ensure_project(project);
                let node = || Node::Thing(Thing::Project(project.into()));
                let fields = vec![("project", node()), ("model", node()), ("inserted", is_new.into())];
                Ok(Node::Map("UpsertModelPayload", fields))
            }
            "upsertBucket" => self.upsert_bucket(input),
            "updateRunState" | "stopRun" | "deleteRun" => self.change_run(name, input),
            "createRunFiles" => self.create_run_files(input),
            "markRunFilesUploaded" => {
                let names = strings(input.get("files"));
                of_run(self.state, input)?.mark(names.iter().map(String::as_str));
                Ok(success())
            }
            "notifyScriptableRunAlert" => {
                let alert = Alert {
                    title: text(input, "title").unwrap_or_default().into(),
                    text: text(input, "text").unwrap_or_default().into(),
                    severity: text(input, "severity").unwrap_or("INFO").into(),
                    wait: input.get("waitDuration").and_then(Value::as_i64),
                };
                of_run(self.state, input)?.alerts.push(alert);
                Ok(success())
            }
            "createArtifact" => self.create_artifact(input),
            "createArtifactManifest" | "updateArtifactManifest" => self.announce_manifest(input),
            "createArtifactFiles" => self.create_artifact_files(input),
            "commitArtifact" => {
                let id = text(input, "artifactID").unwrap_or_default();
                commit(self.state, id)?;
                Ok(payload("ArtifactPayload", id))
            }
            "updateArtifact" => self.update_artifact(input),
            "useArtifact" => {
                let run = of_run(self.state, input)?.name.clone();
                let id = text(input, "artifactID").unwrap_or_default();
                let artifact = self.state.artifact_by_id_mut(id)?;
                if !artifact.used_by.contains(&run) {
                    artifact.used_by.push(run);
                }
                Ok(payload("ArtifactPayload", id))
            }
            "addAliases" | "deleteAliases" => {
                let id = text(input, "artifactID").unwrap_or_default();
                for alias in aliases(input) {
                    if name == "addAliases" {
                        give_alias(self.state, id, &alias)?;
                    } else {
                        self.state.artifact_by_id_mut(id)?.aliases.remove(&alias);
                    }
                }
                Ok(success())
            }
            _ => Err(format!("{name} is not part of this server")),
        }
    }

    // Runs

    fn upsert_bucket(&mut self, input: &Map<String, Value>) -> Result<Node, String> {
        for field in ["config", "summaryMetrics"] {
            if let Some(json) = text(input, field) {
                serde_json::from_str::<Value>(json).map_err(|error| format!("invalid {field}: {error}"))?;
            }
        }
        let number = self.state.next();
        let id = text(input, "id").filter(|id| !id.is_empty());
        let wanted = (text(input, "modelName"), text(input, "name"));
        let found = self.state.runs.iter().position(|run| match id {
            Some(id) => run.id == id,
            None => wanted == (Some(&run.project), Some(&run.name)),
        });
        let is_new = found.is_none();
        let place = match (found, id) {
            (Some(place), _) => place,
            (None, Some(id)) => return Err(format!("run {id} not found")),
            (None, None) => {
                let run = new_run(input, number)?;
                self.state.ensure_project(&run.project);
                self.state.runs.push(run);
                self.state.runs.len() - 1
            }
        };
        let run = &mut self.state.runs[place];
        let given = |field: &str| text(input, field).map(str::to_owned);
        run.display_name =
            given("displayName").filter(|name| !name.is_empty()).unwrap_or(run.display_name.clone());
        run.config = given("config").unwrap_or(run.config.clone());
        run.group = given("groupName").or(run.group.take());
        run.job_type = given("jobType").or(run.job_type.take());
        run.notes = given("notes").or(run.notes.take());
        run.host = given("host").or(run.host.take());
        if input.get("tags").is_some_and(Value::is_array) {
            run.tags = strings(input.get("tags"));
        }
        let (summary, state) = (given("summaryMetrics"), given("state"));
        if summary.is_some() || state.is_some() || is_new {
            run.heartbeat_at = now();
        }
        run.summary = summary.unwrap_or(run.summary.clone());
        if let Some(state) = state {
            run.state = state;
        } else if id.is_none() {
            // Whoever names a run that there is goes on with it.
            run.state = "running".into();
        }
        let bucket = Node::Thing(Thing::Run(run.id.clone()));
        Ok(Node::Map("UpsertBucketPayload", vec![("bucket", bucket), ("inserted", is_new.into())]))
    }

    fn change_run(&mut self, name: &str, input: &Map<String, Value>) -> Result<Node, String> {
        let id = text(input, "id").unwrap_or_default();
        let place = self.state.runs.iter().position(|run| run.id == id).ok_or("run not found")?;
        let run = &mut self.state.runs[place];
        match name {
            "updateRunState" => run.state = text(input, "state").unwrap_or_default().into(),
            "stopRun" => run.stopped = true,
            _ => {
                self.state.runs.remove(place);
                return Ok(Node::Map("DeleteRunPayload", Vec::new()));
            }
        }
        Ok(success())
    }

    fn create_run_files(&mut self, input: &Map<String, Value>) -> Result<Node, String> {
        let run = of_run(self.state, input)?;
        let (id, project, run) = (run.id.clone(), run.project.clone(), run.name.clone());
        let mut files = Vec::new();
        for name in strings(input.get("files")) {
            if !is_inside(&name) {
                return Err(format!("invalid file name \"{name}\""));
            }
            let headers = vec![(RUN_FILE_HEADER.0.to_owned(), RUN_FILE_HEADER.1.to_owned())];
            let url = self.upload_url(&format!("runs/{project}/{run}/{name}"), headers);
            files.push(Node::Map("File", vec![("name", name.into()), ("uploadUrl", url.into())]));
        }
        let header = format!("{}:{}", RUN_FILE_HEADER.0, RUN_FILE_HEADER.1);
        Ok(Node::Map(
            "CreateRunFilesPayload",
            vec![
                ("runID", id.into()),
                ("uploadHeaders", Node::List(vec![header.into()])),
                ("files", Node::List(files)),
            ],
        ))
    }

    fn upload_url(&mut self, key: &str, headers: Vec<(String, String)>) -> String {
        let signed = self.state.sign("PUT", key, headers, self.faults.expire_urls);
        if self.faults.relative_upload_urls {
            format!("/storage{signed}")
        } else {
            format!("{}{signed}", self.storage)
        }
    }

    // Artifacts

    fn create_artifact(&mut self, input: &Map<String, Value>) -> Result<Node, String> {
        let given = |field: &str| text(input, field).map(str::to_owned);
        let project = given("projectName").unwrap_or_default();
        let names = strings(input.get("artifactCollectionNames"));
        let name = given("artifactCollectionName").or(names.into_iter().next());
        let name = name.ok_or("a collection is needed")?;
        if name.contains(['/', ':']) || name.len() > 128 {
            return Err(format!("invalid artifact name \"{name}\""));
        }
        if let Some(metadata) = text(input, "metadata") {
            let metadata: Value =
                serde_json::from_str(metadata).map_err(|error| format!("invalid metadata: {error}"))?;
            if metadata.as_object().is_none_or(|metadata| metadata.len() > 100) {
                return Err("metadata must be an object of at most 100 keys".into());
            }
        }
        let run = match text(input, "runName").filter(|run| !run.is_empty()) {
            Some(_) => Some(of_run(self.state, input)?.name.clone()),
            None if self.state.has_project(ENTITY, &project) => None,
            None => return Err(format!("project {project} not found")),
        };
        let kind = given("artifactTypeName").unwrap_or_default();
        let algorithm = given("digestAlgorithm").unwrap_or_default();
        match self.state.collection(&project, &name) {
            Some(known) if known.kind != kind => {
                return Err(format!("artifact {name} is of type {}, not {kind}", known.kind));
            }
            Some(_) => {}
            None => {
                let collection = Collection {
                    id: self.state.next_id("ArtifactCollection"),
                    project: project.clone(),
                    kind: kind.clone(),
                    name: name.clone(),
                    created_at: now(),
                    client_id: given("sequenceClientID"),
                    digest_algorithm: algorithm.clone(),
                };
                self.state.collections.push(collection);
            }
        }
        let digest = given("digest").unwrap_or_default();
        let dedupes = input.get("enableDigestDeduplication").and_then(Value::as_bool).unwrap_or_default();
        let same =
            self.state.versions(&project, &name).into_iter().find(|one| dedupes && one.digest == digest);
        if let Some(id) = same.map(|one| one.id.clone()) {
            let artifact = self.state.artifact_by_id_mut(&id)?;
            artifact.logged_by.extend(run.filter(|run| !artifact.logged_by.contains(run)));
            for alias in aliases(input) {
                give_alias(self.state, &id, &alias)?;
            }
            return Ok(payload("CreateArtifactPayload", &id));
        }
        let id = self.state.next_id("Artifact");
        self.state.artifacts.push(Artifact {
            id: id.clone(),
            entity: ENTITY.into(),
            project,
            collection: name,
            kind,
            state: "PENDING".into(),
            digest,
            digest_algorithm: algorithm,
            description: given("description"),
            aliases: aliases(input),
            tags: tags(input.get("tags")),
            metadata: given("metadata"),
            history_step: input.get("historyStep").and_then(Value::as_i64),
            ttl: input.get("ttlDurationSeconds").and_then(Value::as_i64),
            created_by: run.clone(),
            logged_by: run.into_iter().collect(),
            created_at: now(),
            client_id: given("clientID"),
            ..Artifact::default()
        });
        Ok(payload("CreateArtifactPayload", &id))
    }

    fn announce_manifest(&mut self, input: &Map<String, Value>) -> Result<Node, String> {
        let digest = text(input, "digest").unwrap_or_default().to_owned();
        let known = if let Some(id) = text(input, "artifactManifestID") {
            self.state.manifests.iter_mut().find(|one| one.id == id)
        } else {
            let artifact = text(input, "artifactID").unwrap_or_default();
            if text(input, "name") != Some("wandb_manifest.json") {
                return Err("a manifest's name is wandb_manifest.json".into());
            }
            of_run(self.state, input)?;
            self.state.artifact_by_id_mut(artifact)?;
            self.state.manifests.iter_mut().find(|one| one.artifact == artifact)
        };
        let id = if let Some(known) = known {
            known.digest.clone_from(&digest);
            known.id.clone()
        } else {
            let id = self.state.next_id("ArtifactManifest");
            let artifact = text(input, "artifactID").ok_or("manifest not found")?.into();
            self.state.manifests.push(Manifest { id: id.clone(), artifact, digest: digest.clone() });
            id
        };
        let given = [("Content-MD5", digest.as_str()), ("Content-Type", "application/json")];
        let headers = given.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let url = self.upload_url(&format!("manifests/{id}"), headers.to_vec());
        let headers = headers.iter().map(|(name, value)| format!("{name}:{value}").into()).collect();
        let file = Node::Map(
            "File",
            vec![
                ("id", format!("file:{id}").into()),
                ("name", "wandb_manifest.json".into()),
                ("uploadUrl", url.into()),
                ("uploadHeaders", Node::List(headers)),
            ],
        );
        let manifest = vec![("id", id.into()), ("digest", digest.into()), ("file", file)];
        Ok(Node::Map(
            "ArtifactManifestPayload",
            vec![("artifactManifest", Node::Map("ArtifactManifest", manifest))],
        ))
    }

    fn create_artifact_files(&mut self, input: &Map<String, Value>) -> Result<Node, String> {
        let files = input.get("artifactFiles").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut nodes = Vec::new();
        for file in files.iter().filter_map(Value::as_object) {
            let artifact = text(file, "artifactID").unwrap_or_default();
            let name = text(file, "name").unwrap_or_default();
            self.state.artifact_by_id_mut(artifact)?;
            if !is_inside(name) {
                return Err(format!("invalid file name \"{name}\""));
            }
            let md5 = text(file, "md5").unwrap_or_default();
            let digest = text(file, "digest").unwrap_or(md5);
            let hex = hex_of(digest).ok_or_else(|| format!("invalid digest \"{digest}\""))?;
            let base = name.rsplit('/').next().unwrap_or_default();
            let new = || (format!("wandb_artifacts/{artifact}/{hex}/{base}"), artifact.to_owned());
            let (key, birth) = self.state.known_bytes.entry(digest.into()).or_insert_with(new).clone();
            let kind = text(file, "mimetype").unwrap_or(mimetype(name));
            let given = [("Content-MD5", md5), ("Content-Type", kind)];
            let given: Vec<_> = given
                .into_iter()
                .filter(|(_, value)| !value.is_empty())
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            let headers = given.iter().map(|(name, value)| format!("{name}:{value}").into()).collect();
            let url = if self.state.stored.contains_key(&key) {
                Node::Null
            } else {
                self.upload_url(&key, given).into()
            };
            let birth = Node::Thing(Thing::Artifact(birth));
            let fields = vec![
                ("id", format!("file:{key}").into()),
                ("name", name.into()),
                ("storagePath", key.into()),
                ("uploadUrl", url),
                ("uploadHeaders", Node::List(headers)),
                ("artifact", birth),
            ];
            nodes.push(Node::Map("File", fields));
        }
        // An answer, not a listing: never an empty page first.
        let mut whole: Arguments = [("first".to_owned(), Value::from(5000))].into_iter().collect();
        if self.faults.empty_pages {
            whole.insert("after".into(), "empty-0".into());
        }
        let files = self.connection("FileConnection", "FileEdge", nodes, &whole);
        Ok(Node::Map("CreateArtifactFilesPayload", vec![("files", files)]))
    }

    fn update_artifact(&mut self, input: &Map<String, Value>) -> Result<Node, String> {
        let id = text(input, "artifactID").unwrap_or_default();
        let artifact = self.state.artifact_by_id_mut(id)?;
        let given = |field: &str| text(input, field).map(str::to_owned);
        artifact.description = given("description").or(artifact.description.take());
        artifact.metadata = given("metadata").or(artifact.metadata.take());
        artifact.ttl = input.get("ttlDurationSeconds").and_then(Value::as_i64).or(artifact.ttl);
        artifact.tags.extend(tags(input.get("tagsToAdd")));
        for tag in tags(input.get("tagsToDelete")) {
            artifact.tags.remove(&tag);
        }
        if input.get("aliases").is_some_and(Value::is_array) {
            let wanted = aliases(input);
            artifact.aliases.retain(|alias| wanted.contains(alias));
            for alias in wanted {
                give_alias(self.state, id, &alias)?;
            }
        }
        Ok(payload("ArtifactPayload", id))
    }
}

fn new_run(input: &Map<String, Value>, number: u64) -> Result<Run, String> {
    let given = |field: &str| text(input, field).filter(|text| !text.is_empty()).map(str::to_owned);
    let project = given("modelName").unwrap_or("uncategorized".into());
    let name = given("name").unwrap_or_else(|| format!("run{number:05}"));
    if name.len() > 128 || name.contains([':', ';', ',', '#', '?', '/', '\'']) {
        return Err(format!("invalid run id \"{name}\""));
    }
    Ok(Run {
        id: format!("UnVu{}", md5_hex(format!("{project}/{name}/{number}").as_bytes())),
        display_name: given("displayName").unwrap_or_else(|| name.clone()),
        project,
        name,
        state: "running".into(),
        config: "{}".into(),
        summary: "{}".into(),
        created_at: now(),
        ..Run::default()
    })
}

/// The run that an input names.
fn of_run<'s>(state: &'s mut State, input: &Map<String, Value>) -> Result<&'s mut Run, String> {
    let (project, name) = (text(input, "projectName"), text(input, "runName"));
    let found = state.runs.iter_mut().find(|run| project == Some(&run.project) && name == Some(&run.name));
    found.ok_or_else(|| format!("run {} not found", name.unwrap_or_default()))
}

fn success() -> Node {
    Node::Map("SuccessPayload", vec![("success", true.into())])
}

fn payload(kind: &'static str, id: &str) -> Node {
    Node::Map(kind, vec![("artifact", Node::Thing(Thing::Artifact(id.into())))])
}

fn strings(value: Option<&Value>) -> Vec<String> {
    value
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn named(value: Option<&Value>, field: &str) -> BTreeSet<String> {
    let items = value.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| item[field].as_str()).map(str::to_owned).collect()
}

fn aliases(input: &Map<String, Value>) -> BTreeSet<String> {
    named(input.get("aliases"), "alias")
}

fn tags(value: Option<&Value>) -> BTreeSet<String> {
    named(value, "tagName")
}

/// An alias names one version of its collection: it is taken from the others.
fn give_alias(state: &mut State, id: &str, alias: &str) -> Result<(), String> {
    if alias.contains(['/', ':']) {
        return Err(format!("invalid alias \"{alias}\""));
    }
    let one = state.artifact_by_id_mut(id)?;
    let (project, collection) = (one.project.clone(), one.collection.clone());
    for other in &mut state.artifacts {
        if other.id == id {
            other.aliases.insert(alias.into());
        } else if other.project == project && other.collection == collection && other.version.is_some() {
            other.aliases.remove(alias);
        }
    }
    Ok(())
}

/// Makes a version of what was uploaded, if it is complete and what its digests say.
fn commit(state: &mut State, id: &str) -> Result<(), String> {
    let manifest = state.manifests.iter().rev().find(|manifest| manifest.artifact == id);
    let manifest = manifest.ok_or("the artifact has no manifest")?;
    let bytes = state.stored.get(&format!("manifests/{}", manifest.id));
    let text = String::from_utf8_lossy(bytes.ok_or("the manifest was not uploaded")?).into_owned();
    let manifest: Value =
        serde_json::from_str(&finite(&text)).map_err(|error| format!("invalid manifest: {error}"))?;
    if manifest["version"] != 1 || manifest["storagePolicy"] != "wandb-storage-policy-v1" {
        return Err("unknown version or storage policy of the manifest".into());
    }
    let (mut entries, mut files) = (BTreeMap::new(), BTreeMap::new());
    let mut digests = "wandb-artifact-manifest-v1\n".to_owned();
    let mut contents: Vec<_> = manifest["contents"].as_object().into_iter().flatten().collect();
    contents.sort_by_key(|(path, _)| path.as_str());
    for (path, file) in contents {
        let digest = file["digest"].as_str().unwrap_or_default();
        digests.extend([path, ":", digest, "\n"]);
        let reference = file["ref"].as_str().map(str::to_owned);
        if reference.is_none() {
            if !is_inside(path) {
                return Err(format!("invalid path \"{path}\""));
            }
            let missing = || format!("the bytes of {path} were not uploaded");
            let (key, birth) = state.known_bytes.get(digest).ok_or_else(missing)?;
            let bytes = state.stored.get(key).ok_or_else(missing)?;
            if file["size"] != bytes.len() || file["birthArtifactID"] != **birth {
                return Err(format!("size or birthArtifactID of {path} are wrong"));
            }
            files.insert(path.clone(), bytes.clone());
        }
        let size = file["size"].as_u64().unwrap_or_default() as usize;
        entries.insert(path.clone(), Entry { digest: digest.into(), size, reference });
    }
    let artifact = state.artifact_by_id_mut(id)?;
    if artifact.digest_algorithm == "MANIFEST_MD5" && artifact.digest != md5_hex(digests.as_bytes()) {
        return Err("the artifact's digest is not that of its manifest".into());
    }
    if artifact.state == "COMMITTED" {
        return Ok(());
    }
    let (project, collection) = (artifact.project.clone(), artifact.collection.clone());
    let mut wanted = std::mem::take(&mut artifact.aliases);
    let version = state.versions(&project, &collection).len();
    let artifact = state.artifact_by_id_mut(id)?;
    artifact.state = "COMMITTED".into();
    artifact.version = Some(version);
    artifact.manifest = text;
    artifact.entries = entries;
    artifact.files = files;
    wanted.insert("latest".into());
    for alias in wanted {
        give_alias(state, id, &alias)?;
    }
    Ok(())
}
