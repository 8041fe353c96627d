//! What can be asked: the fields of everything that is there.

use serde_json::{Value, json};

use super::graphql::{Arguments, Node, Resolve, Thing};
use super::state::{Artifact, Collection, Run, State, escaped, finite, md5_base64, now};
use super::{ENTITY, Faults, filter, history};

/// What answers one request.
pub(super) struct Resolver<'s> {
    pub(super) state: &'s mut State,
    pub(super) faults: &'s Faults,
    /// Where the API is, without a slash at the end.
    pub(super) api: &'s str,
    /// Where the storage is.
    pub(super) storage: &'s str,
    /// Whether the key that came with the request is the right one.
    pub(super) is_known: bool,
}

impl Resolve for Resolver<'_> {
    fn field(&mut self, thing: &Thing, name: &str, arguments: &Arguments) -> Result<Node, String> {
        match thing {
            Thing::Query => Ok(self.root(name, arguments)),
            Thing::Mutation if !self.is_known => Err("permission denied".into()),
            Thing::Mutation => self.change(name, arguments),
            Thing::Project(project) => self.project(project, name, arguments),
            Thing::Run(id) => self.run(id, name, arguments),
            Thing::Artifact(id) => self.artifact(id, name, arguments),
            Thing::Membership(id) => self.membership(id, name, arguments),
            Thing::Collection(id) => self.collection(id, name, arguments),
            Thing::ArtifactType { project, name: kind } => {
                Ok(self.artifact_type(project, kind, name, arguments))
            }
        }
    }
}

/// A text argument; none where it is null or missing.
pub(super) fn text<'a>(arguments: &'a Arguments, name: &str) -> Option<&'a str> {
    arguments.get(name).and_then(Value::as_str)
}

impl Resolver<'_> {
    fn root(&mut self, name: &str, arguments: &Arguments) -> Node {
        if name == "serverInfo" {
            return Node::Map("ServerInfo", vec![("features", self.features())]);
        }
        if !self.is_known {
            return Node::Null;
        }
        let entity = text(arguments, "entityName").filter(|name| !name.is_empty()).unwrap_or(ENTITY);
        match name {
            "viewer" => user(),
            "entity" if text(arguments, "name") == Some(ENTITY) => self.entity(),
            "models" if entity == ENTITY => {
                let projects = self.state.projects.iter();
                let nodes = projects.map(|project| Node::Thing(Thing::Project(project.name.clone())));
                let nodes = nodes.collect();
                self.connection("ProjectConnection", "ProjectEdge", nodes, arguments)
            }
            "project" | "model" => {
                let project = text(arguments, "name").unwrap_or_default();
                if self.state.has_project(entity, project) {
                    Node::Thing(Thing::Project(project.into()))
                } else {
                    Node::Null
                }
            }
            "artifact" => {
                let id = text(arguments, "id").unwrap_or_default();
                self.state.artifact_by_id(id).map_or(Node::Null, thing_of)
            }
            "artifactCollection" => {
                let id = text(arguments, "id").unwrap_or_default();
                let found = self.state.collections.iter().find(|one| one.id == id);
                found.map_or(Node::Null, |one| Node::Thing(Thing::Collection(one.id.clone())))
            }
            "clientIDMapping" => {
                let wanted = text(arguments, "clientID");
                let artifact = self.state.artifacts.iter().find(|one| one.client_id.as_deref() == wanted);
                let collection = self.state.collections.iter().find(|one| one.client_id.as_deref() == wanted);
                let id = artifact.map(|one| &one.id).or(collection.map(|one| &one.id));
                id.map_or(Node::Null, |id| {
                    Node::Map("ClientIDMapping", vec![("serverID", id.as_str().into())])
                })
            }
            _ => Node::Null,
        }
    }

    fn features(&self) -> Node {
        let is_marked = !self.faults.unknown_fields.iter().any(|field| field == "markRunFilesUploaded");
        let features = [
            ("ARTIFACT_TAGS", true),
            ("CLIENT_IDS", true),
            ("LARGE_FILENAMES", true),
            ("ARTIFACT_COLLECTION_MEMBERSHIP_FILES", true),
            ("ARTIFACT_V2_DOWNLOAD_HANDLER_SUPPORTS_ARTIFACT_ID", true),
            ("PROJECT_ARTIFACT_COLLECTION_MEMBERSHIP", true),
            ("TOTAL_COUNT_IN_FILE_CONNECTION", true),
            ("USE_ARTIFACT_WITH_ENTITY_AND_PROJECT_INFORMATION", true),
            ("MARK_RUN_FILES_UPLOADED", is_marked),
            ("ARTIFACT_DIGEST_ALGORITHM", self.faults.xxh128),
            ("FILESTREAM_GZIP", false),
        ];
        let features = features.map(|(name, is_enabled)| {
            Node::Map("ServerFeature", vec![("name", name.into()), ("isEnabled", is_enabled.into())])
        });
        Node::List(features.into())
    }

    fn entity(&self) -> Node {
        let named = || vec![("id", "RW50aXR5OjE=".into()), ("name", ENTITY.into())];
        let organization = ("orgEntity", Node::Map("Entity", named()));
        let mut fields = named();
        fields.extend([
            ("isTeam", true.into()),
            ("xxhashDigestsEnabled", self.faults.xxh128.into()),
            ("organization", Node::Map("Organization", vec![("name", ENTITY.into()), organization])),
        ]);
        Node::Map("Entity", fields)
    }

    /// A page of what is asked for, by `first` and `after`.
    pub(super) fn connection(
        &self,
        kind: &'static str,
        edge: &'static str,
        nodes: Vec<Node>,
        arguments: &Arguments,
    ) -> Node {
        let first = arguments.get("first").and_then(Value::as_u64).unwrap_or(50).clamp(1, 5000) as usize;
        let after = text(arguments, "after").filter(|after| !after.is_empty());
        let is_empty = self.faults.empty_pages
            && !nodes.is_empty()
            && !after.is_some_and(|after| after.starts_with("empty"));
        let start = after.map_or(0, |after| after.trim_start_matches("empty-").parse().unwrap_or(0));
        let total = nodes.len();
        let end = if is_empty { start } else { total.min(start + first) };
        let edges = nodes.into_iter().enumerate().skip(start).take(end.saturating_sub(start));
        let edges = edges.map(|(place, node)| {
            let version = self.version(&node);
            let cursor = (place + 1).to_string();
            Node::Map(edge, vec![("node", node), ("cursor", cursor.into()), ("version", version)])
        });
        let cursor = match (is_empty, total) {
            (_, 0) => Node::Null,
            (true, _) => format!("empty-{start}").into(),
            (false, _) => end.to_string().into(),
        };
        let page = vec![("endCursor", cursor), ("hasNextPage", (end < total).into())];
        Node::Map(
            kind,
            vec![
                ("edges", Node::List(edges.collect())),
                ("pageInfo", Node::Map("PageInfo", page)),
                ("totalCount", total.into()),
            ],
        )
    }

    fn version(&self, node: &Node) -> Node {
        let Node::Thing(Thing::Artifact(id)) = node else { return Node::Null };
        let version = self.state.artifact_by_id(id).and_then(|artifact| artifact.version);
        version.map_or(Node::Null, |version| format!("v{version}").into())
    }

    // Projects

    fn project(&mut self, project: &str, name: &str, arguments: &Arguments) -> Result<Node, String> {
        let of_this = |run: &&Run| run.project == project;
        Ok(match name {
            "runCount" | "runs" => {
                let wanted = filter::read(arguments.get("filters"))?;
                let mut found: Vec<&Run> = Vec::new();
                for run in self.state.runs.iter().filter(of_this) {
                    if filter::matches(&wanted, run)? {
                        found.push(run);
                    }
                }
                if name == "runCount" {
                    return Ok(found.len().into());
                }
                let order = text(arguments, "order").filter(|order| !order.is_empty());
                filter::sort(&mut found, order.unwrap_or("-created_at"))?;
                let nodes = found.into_iter().map(|run| Node::Thing(Thing::Run(run.id.clone()))).collect();
                self.connection("RunConnection", "RunEdge", nodes, arguments)
            }
            "run" | "bucket" => {
                let wanted = text(arguments, "name").unwrap_or_default();
                let found = self.state.runs.iter().filter(of_this).find(|run| run.name == wanted);
                found.map_or(Node::Null, |run| Node::Thing(Thing::Run(run.id.clone())))
            }
            "artifact" | "artifactCollectionMembership" => {
                let found = self.state.artifact(project, text(arguments, "name").unwrap_or_default());
                match found {
                    Some(found) if name == "artifact" => thing_of(found),
                    Some(found) => Node::Thing(Thing::Membership(found.id.clone())),
                    None => Node::Null,
                }
            }
            "artifactType" => {
                let kind = text(arguments, "name").unwrap_or_default();
                let is_there =
                    self.state.collections.iter().any(|one| one.project == project && one.kind == kind);
                if is_there { kind_of(project, kind) } else { Node::Null }
            }
            "artifactTypes" => {
                let mut kinds: Vec<&str> = Vec::new();
                for one in self.state.collections.iter().filter(|one| one.project == project) {
                    if !kinds.contains(&one.kind.as_str()) {
                        kinds.push(&one.kind);
                    }
                }
                let nodes = kinds.into_iter().map(|kind| kind_of(project, kind)).collect();
                self.connection("ArtifactTypeConnection", "ArtifactTypeEdge", nodes, arguments)
            }
            "artifactCollection" => {
                let found = self.state.collection(project, text(arguments, "name").unwrap_or_default());
                found.map_or(Node::Null, |one| Node::Thing(Thing::Collection(one.id.clone())))
            }
            "artifactCollections" => self.collections(project, None, arguments),
            name => self.simple_of_project(project, name),
        })
    }

    fn simple_of_project(&self, project: &str, name: &str) -> Node {
        let place = self.state.projects.iter().position(|one| one.name == project).unwrap_or_default();
        match name {
            "id" => format!("UHJvamVjdDo{place}").into(),
            "internalId" => (place + 1).to_string().into(),
            "name" => project.into(),
            "entityName" => ENTITY.into(),
            "entity" => self.entity(),
            "createdAt" => self.state.projects[place].created_at.as_str().into(),
            "isBenchmark" | "readOnly" => false.into(),
            "user" => user(),
            _ => Node::Null,
        }
    }

    // Runs

    fn run(&mut self, id: &str, name: &str, arguments: &Arguments) -> Result<Node, String> {
        let run = self.state.run_by_id(id).ok_or("run not found")?;
        let number = |name: &str| arguments.get(name).and_then(Value::as_i64);
        let samples = number("samples").unwrap_or(500).max(1) as usize;
        Ok(match name {
            "config" => run.config.as_str().into(),
            "summaryMetrics" => finite(&run.summary).into(),
            "systemMetrics" => run.events.last().map(|line| finite(line)).into(),
            "wandbConfig" => {
                let config: Value = serde_json::from_str(&run.config).unwrap_or_default();
                let keys = arguments.get("keys").and_then(Value::as_array).cloned().unwrap_or_default();
                let found = keys
                    .iter()
                    .filter_map(Value::as_str)
                    .filter_map(|key| Some((key.to_owned(), config["_wandb"]["value"].get(key)?.clone())));
                Value::Object(found.collect()).to_string().into()
            }
            "historyLineCount" => run.history.len().into(),
            "eventsLineCount" => run.events.len().into(),
            "logLineCount" => run.output.len().into(),
            "historyTail" => history::tail(&run.history).into(),
            "eventsTail" => history::tail(&run.events).into(),
            "historyKeys" => history::keys(run).into(),
            "history" => history::lines(run, number("minStep"), number("maxStep"), samples).into(),
            "events" => run.events.clone().into(),
            "sampledHistory" => {
                let specs = arguments["specs"].as_array().cloned().unwrap_or_default();
                let specs = specs.iter().filter_map(Value::as_str);
                specs.map(|spec| history::sampled(run, spec)).collect::<Result<Value, _>>()?.into()
            }
            "parquetHistory" => {
                let none = || Node::List(Vec::new());
                Node::Map("ParquetHistory", vec![("parquetUrls", none()), ("liveData", none())])
            }
            "project" => Node::Thing(Thing::Project(run.project.clone())),
            "projectId" => {
                let project = run.project.clone();
                let place = self.state.projects.iter().position(|one| one.name == project);
                (place.unwrap_or_default() + 1).into()
            }
            "fileCount" => run.files.len().into(),
            "files" => self.files_of_run(&run.clone(), arguments),
            "outputArtifacts" | "inputArtifacts" => {
                let run = run.clone();
                let its = self.state.artifacts.iter().filter(|artifact| {
                    let runs = if name == "inputArtifacts" { &artifact.used_by } else { &artifact.logged_by };
                    artifact.project == run.project && artifact.version.is_some() && runs.contains(&run.name)
                });
                let nodes = its.map(thing_of).collect();
                self.connection("ArtifactConnection", "ArtifactEdge", nodes, arguments)
            }
            name => simple_of_run(run, name),
        })
    }

    fn files_of_run(&mut self, run: &Run, arguments: &Arguments) -> Node {
        let names: Vec<&str> = arguments
            .get("names")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let pattern = text(arguments, "pattern").filter(|pattern| !pattern.is_empty()).map(like);
        let wanted = run.files.iter().filter(|(name, _)| {
            (names.is_empty() || names.contains(&name.as_str()))
                && pattern.as_ref().is_none_or(|pattern| pattern.is_match(name))
        });
        let mut nodes = Vec::new();
        for (name, bytes) in wanted {
            let url = format!("{}/files/{ENTITY}/{}/{}/{}", self.api, run.project, run.name, escaped(name));
            let key = format!("runs/{}/{}/{name}", run.project, run.name);
            nodes.push(self.file(name, bytes.len(), &md5_base64(bytes), &key, url));
        }
        self.connection("FileConnection", "FileEdge", nodes, arguments)
    }

    /// A file for readers, with an address that is signed.
    fn file(&mut self, name: &str, size: usize, digest: &str, key: &str, url: String) -> Node {
        let direct = self.state.sign("GET", key, Vec::new(), self.faults.expire_urls);
        Node::Map(
            "File",
            vec![
                ("id", format!("file:{key}").into()),
                ("name", name.into()),
                ("displayName", name.into()),
                ("url", url.into()),
                ("directUrl", format!("{}{direct}", self.storage).into()),
                ("sizeBytes", size.into()),
                ("mimetype", mimetype(name).into()),
                ("updatedAt", now().into()),
                ("md5", digest.into()),
                ("digest", digest.into()),
                ("storagePath", key.into()),
            ],
        )
    }

    // Artifacts

    fn artifact_type(&self, project: &str, kind: &str, name: &str, arguments: &Arguments) -> Node {
        match name {
            "id" => format!("ArtifactType:{project}:{kind}").into(),
            "name" => kind.into(),
            "createdAt" => {
                let first = self.state.collections.iter().find(|one| one.kind == kind);
                first.map(|one| one.created_at.as_str()).into()
            }
            "artifactCollection" => {
                let found = self.state.collection(project, text(arguments, "name").unwrap_or_default());
                let found = found.filter(|one| one.kind == kind);
                found.map_or(Node::Null, |one| Node::Thing(Thing::Collection(one.id.clone())))
            }
            "artifactCollections" => self.collections(project, Some(kind), arguments),
            _ => Node::Null,
        }
    }

    fn collections(&self, project: &str, kind: Option<&str>, arguments: &Arguments) -> Node {
        let its = self
            .state
            .collections
            .iter()
            .filter(|one| one.project == project && kind.is_none_or(|kind| one.kind == kind));
        let nodes = its.map(|one| Node::Thing(Thing::Collection(one.id.clone()))).collect();
        self.connection("ArtifactCollectionConnection", "ArtifactCollectionEdge", nodes, arguments)
    }

    fn collection(&self, id: &str, name: &str, arguments: &Arguments) -> Result<Node, String> {
        let one = self.state.collections.iter().find(|one| one.id == id).ok_or("collection not found")?;
        let Collection { project, kind, .. } = one;
        let versions = self.state.versions(project, &one.name);
        Ok(match name {
            "id" => one.id.as_str().into(),
            "name" => one.name.as_str().into(),
            "createdAt" | "updatedAt" => one.created_at.as_str().into(),
            "project" => Node::Thing(Thing::Project(project.clone())),
            "defaultArtifactType" => kind_of(project, kind),
            "tags" => Node::Map("TagConnection", vec![("edges", Node::List(Vec::new()))]),
            "digestAlgorithm" => one.digest_algorithm.as_str().into(),
            "latestArtifact" => versions.last().map_or(Node::Null, |artifact| thing_of(artifact)),
            "aliases" => {
                let nodes = versions.iter().flat_map(|artifact| aliases(artifact, &one.id)).collect();
                self.connection("ArtifactAliasConnection", "ArtifactAliasEdge", nodes, arguments)
            }
            "artifacts" => {
                let wanted = filter::read(arguments.get("filters"))?;
                let mut found: Vec<&Artifact> = Vec::new();
                for artifact in versions {
                    if filter::matches(&wanted, artifact)? {
                        found.push(artifact);
                    }
                }
                found.reverse();
                filter::sort(&mut found, text(arguments, "order").unwrap_or_default())?;
                let nodes = found.into_iter().map(thing_of).collect();
                self.connection("VersionedArtifactConnection", "VersionedArtifactEdge", nodes, arguments)
            }
            "artifactMembership" => {
                let alias = text(arguments, "aliasName").unwrap_or_default();
                let found = self.state.artifact(project, &format!("{}:{alias}", one.name));
                found.map_or(Node::Null, |found| Node::Thing(Thing::Membership(found.id.clone())))
            }
            _ => Node::Null,
        })
    }

    fn membership(&mut self, id: &str, name: &str, arguments: &Arguments) -> Result<Node, String> {
        Ok(match name {
            "id" => format!("membership:{id}").into(),
            "artifact" => Node::Thing(Thing::Artifact(id.into())),
            "artifactCollection" => return self.artifact(id, "artifactSequence", arguments),
            name => return self.artifact(id, name, arguments),
        })
    }

    fn artifact(&mut self, id: &str, name: &str, arguments: &Arguments) -> Result<Node, String> {
        let one = self.state.artifact_by_id(id).ok_or("artifact not found")?;
        let sequence = self.state.collection(&one.project, &one.collection);
        let sequence = sequence.map(|sequence| sequence.id.clone()).unwrap_or_default();
        let of_run = |name: &String| {
            let run = self.state.runs.iter().find(|run| run.project == one.project && run.name == *name);
            run.map_or(Node::Null, |run| Node::Thing(Thing::Run(run.id.clone())))
        };
        Ok(match name {
            "artifactSequence" => Node::Thing(Thing::Collection(sequence)),
            "artifactType" => kind_of(&one.project, &one.kind),
            "aliases" => Node::List(aliases(one, &sequence)),
            "artifactMemberships" => {
                let node = Node::Thing(Thing::Membership(one.id.clone()));
                let edge = Node::Map("ArtifactCollectionMembershipEdge", vec![("node", node)]);
                Node::Map("ArtifactCollectionMembershipConnection", vec![("edges", Node::List(vec![edge]))])
            }
            "createdBy" => one.created_by.as_ref().map_or(Node::Null, of_run),
            "usedBy" => {
                let nodes = one.used_by.iter().map(of_run).collect();
                self.connection("RunConnection", "RunEdge", nodes, arguments)
            }
            "currentManifest" => {
                let found = self.state.manifests.iter().rev().find(|manifest| manifest.artifact == id);
                let Some(found) = found else { return Ok(Node::Null) };
                let (key, digest) = (format!("manifests/{}", found.id), found.digest.clone());
                let Some(size) = self.state.get(&key).map(Vec::len) else { return Ok(Node::Null) };
                let url = format!("{}/{key}", self.api);
                let file = self.file("wandb_manifest.json", size, &digest, &key, url);
                Node::Map(
                    "ArtifactManifest",
                    vec![("id", key.into()), ("digest", digest.into()), ("file", file)],
                )
            }
            "files" => {
                let names =
                    arguments.get("names").and_then(Value::as_array).filter(|names| !names.is_empty());
                let wanted = |name: &String| names.is_none_or(|names| names.contains(&json!(name)));
                let names = one.entries.keys().filter(|name| wanted(name)).cloned().collect();
                self.files_of_artifact(&one.clone(), names, arguments)
            }
            "filesByManifestEntries" => {
                let entries = arguments.get("entries").and_then(Value::as_array).cloned().unwrap_or_default();
                let mut names = Vec::new();
                for entry in &entries {
                    let name = entry["name"].as_str().unwrap_or_default();
                    let is_there =
                        one.entries.get(name).is_some_and(|known| entry["digest"] == *known.digest);
                    if !is_there {
                        return Err(format!("artifact has no file {name} of this digest"));
                    }
                    names.push(name.to_owned());
                }
                let mut all = arguments.clone();
                all.entry("first").or_insert(json!(5000));
                self.files_of_artifact(&one.clone(), names, &all)
            }
            name => simple_of_artifact(one, name),
        })
    }

    fn files_of_artifact(&mut self, one: &Artifact, names: Vec<String>, arguments: &Arguments) -> Node {
        let mut nodes = Vec::new();
        for name in names {
            let Some(entry) = one.entries.get(&name) else { continue };
            let found = self.state.known_bytes.get(&entry.digest);
            let key = found.map(|(key, _)| key.clone()).unwrap_or_default();
            let path = key.strip_prefix("wandb_artifacts/").unwrap_or(&key);
            let path = escaped(&format!("{ENTITY}/{}/{}/{path}", one.project, one.collection));
            let url = format!("{}/artifactsV2/default/{path}", self.api);
            let url = entry.reference.clone().unwrap_or(url);
            nodes.push(self.file(&name, entry.size, &entry.digest.clone(), &key, url));
        }
        self.connection("FileConnection", "FileEdge", nodes, arguments)
    }
}

fn user() -> Node {
    let team = Node::Map("EntityEdge", vec![("node", Node::Map("Entity", vec![("name", ENTITY.into())]))]);
    let none = || Node::List(Vec::new());
    Node::Map(
        "User",
        vec![
            ("id", "VXNlcjox".into()),
            ("name", "Tess Tester".into()),
            ("username", "tester".into()),
            ("email", "tester@example.com".into()),
            ("admin", false.into()),
            ("flags", "{}".into()),
            ("entity", ENTITY.into()),
            ("apiKeys", Node::Map("ApiKeyConnection", vec![("edges", none())])),
            ("teams", Node::Map("EntityConnection", vec![("edges", Node::List(vec![team]))])),
            ("organizations", none()),
        ],
    )
}

fn kind_of(project: &str, kind: &str) -> Node {
    Node::Thing(Thing::ArtifactType { project: project.into(), name: kind.into() })
}

fn thing_of(artifact: &Artifact) -> Node {
    Node::Thing(Thing::Artifact(artifact.id.clone()))
}

fn aliases(artifact: &Artifact, sequence: &str) -> Vec<Node> {
    let aliases = artifact.aliases.iter().map(|alias| {
        let collection = Node::Thing(Thing::Collection(sequence.into()));
        let id = format!("alias:{}:{alias}", artifact.id);
        Node::Map(
            "ArtifactAlias",
            vec![("id", id.into()), ("alias", alias.as_str().into()), ("artifactCollection", collection)],
        )
    });
    aliases.collect()
}

fn simple_of_run(run: &Run, name: &str) -> Node {
    match name {
        "id" => run.id.as_str().into(),
        "name" => run.name.as_str().into(),
        "displayName" => run.display_name.as_str().into(),
        "state" => run.state.as_str().into(),
        "stopped" => run.stopped.into(),
        "tags" => run.tags.clone().into(),
        "group" | "groupName" => run.group.clone().into(),
        "jobType" => run.job_type.clone().into(),
        "notes" => run.notes.clone().into(),
        "host" => run.host.clone().into(),
        "readOnly" => false.into(),
        "createdAt" => run.created_at.as_str().into(),
        "heartbeatAt" => run.heartbeat_at.as_str().into(),
        "user" => user(),
        _ => Node::Null,
    }
}

fn simple_of_artifact(one: &Artifact, name: &str) -> Node {
    match name {
        "id" => one.id.as_str().into(),
        "state" => one.state.as_str().into(),
        "versionIndex" => one.version.into(),
        "digest" => one.digest.as_str().into(),
        "digestAlgorithm" => one.digest_algorithm.as_str().into(),
        "description" => one.description.clone().into(),
        "metadata" => one.metadata.clone().into(),
        "historyStep" => one.history_step.into(),
        "size" => one.entries.values().map(|entry| entry.size).sum::<usize>().into(),
        "fileCount" => one.entries.len().into(),
        "createdAt" | "updatedAt" => one.created_at.as_str().into(),
        // Minus two stands for none.
        "ttlDurationSeconds" => one.ttl.unwrap_or(-2).into(),
        "ttlIsInherited" => one.ttl.is_none().into(),
        "tags" => {
            let tags = one.tags.iter().map(|tag| {
                Node::Map("Tag", vec![("id", format!("tag:{tag}").into()), ("name", tag.as_str().into())])
            });
            Node::List(tags.collect())
        }
        _ => Node::Null,
    }
}

/// SQL's LIKE.
fn like(pattern: &str) -> regex::Regex {
    let parts = pattern.chars().map(|one| match one {
        '%' => ".*".to_owned(),
        '_' => ".".to_owned(),
        one => regex::escape(&one.to_string()),
    });
    regex::Regex::new(&format!("(?s)^{}$", parts.collect::<String>())).unwrap()
}

/// What kind of file it is, by its name.
pub(super) fn mimetype(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("json") => "application/json",
        Some("html") => "text/html",
        Some("png") => "image/png",
        Some("txt" | "log" | "md") => "text/plain",
        _ => "application/octet-stream",
    }
}
