//! Weights & Biases: runs, losses and checkpoints come from its projects, reports go back.
//!
//! The first rule: nothing is ever written to the history or the summary of a run that is not ours. Whoever trains sends
//! the whole summary again and again and numbers the lines of the history alone, so a second writer would lose what it
//! wrote, or destroy what is there. What doodl3 finds goes into a run of its own beside each watched run (`post.rs`), into
//! an artifact (`artifact.rs`), and, when something is urgent, into an alert on the run itself.
//!
//! The schema of the server is not public; what is asked here is what W&B's own client asks, measured against it. Every
//! request is listed in `docs/wandb.md` with its purpose, and what could not be tried on a real server.

mod artifact;
mod files;
mod graphql;
mod history;
mod local;
pub mod log;
mod names;
mod post;

pub use local::WandbFolder;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use self::files::Known;
use self::graphql::{Graphql, object, parse};
use super::http::{Client, HttpError, Repeat};
use super::names::matches_glob;
use super::tracker::{News, Reach, RunStatus, TrackedRun, TrackerError};
use crate::config::WandbPlan;

/// The type of the runs that this program makes: they are not watched.
const JOB_TYPE: &str = "doodl3";

/// Runs, or anything else, in a page.
const PAGE: usize = 100;
/// How long the list of projects is believed.
const PROJECTS_KEPT: Duration = Duration::from_secs(300);
/// Clocks that differ by less lose no run.
const SLACK: Duration = Duration::from_secs(600);

const VIEWER: &str = "query Viewer { viewer { entity username teams { edges { node { name } } } } }";

const PROJECTS: &str = "query Projects($entity: String, $first: Int, $after: String) {
    models(entityName: $entity, first: $first, after: $after) {
        edges { cursor? node { name } } pageInfo { endCursor hasNextPage }
    }
}";

const RUNS: &str =
    "query Runs($entity: String!, $project: String!, $filters: JSONString, $order: String, $first: Int,
        $after: String) {
    project(name: $project, entityName: $entity) {
        runs(filters: $filters, order: $order, first: $first, after: $after) {
            edges { cursor? node { name displayName state createdAt heartbeatAt historyLineCount jobType? } }
            pageInfo { endCursor hasNextPage }
        }
    }
}";

const COUNT: &str = "query CountRuns($entity: String!, $project: String!, $filters: JSONString) {
    project(name: $project, entityName: $entity) { runCount(filters: $filters) }
}";

/// A W&B server.
#[derive(Clone, Debug)]
pub struct Wandb {
    client: Client,
    graphql: Graphql,
    plan: WandbPlan,
    /// Who asks, and for whom; shared by clones: it is asked once.
    viewer: Arc<OnceCell<Viewer>>,
    /// Projects, and when they were asked for.
    projects: Option<(Instant, Vec<String>)>,
    /// What was seen of each project.
    seen: BTreeMap<String, Seen>,
    /// Projects of which it was said that they cannot be seen.
    told: BTreeSet<String>,
    /// What is known of runs' files and histories; shared by clones.
    known: Arc<Mutex<Known>>,
}

/// What was seen of a project when its runs were listed last.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// The latest sign of life, as the server writes it.
    latest: String,
    /// The runs that went on, by id. One that ends for want of signs of life gives none when it does.
    running: BTreeMap<String, TrackedRun>,
}

/// The owner of the key.
#[derive(Clone, Debug, Default, Deserialize)]
struct Viewer {
    /// Its default team.
    #[serde(default)]
    entity: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(skip)]
    teams: Vec<String>,
}

/// A run as it is listed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    /// The run's id.
    name: String,
    #[serde(default)]
    display_name: Option<String>,
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    created_at: Option<String>,
    #[serde(default)]
    heartbeat_at: Option<String>,
    #[serde(default)]
    history_line_count: Option<u64>,
    #[serde(default)]
    job_type: Option<String>,
}

impl Listed {
    fn goes_on(&self) -> bool {
        matches!(self.state.as_deref(), Some("running" | "pending" | "preempting"))
    }
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

impl Wandb {
    /// A server that has not been asked yet.
    ///
    /// # Errors
    /// [`HttpError::Setup`] when a certificate cannot be used.
    pub fn new(plan: &WandbPlan, url: &Url) -> Result<Self, HttpError> {
        let client = Client::new(url.clone(), &plan.watched, HeaderMap::new())?;
        Ok(Self {
            graphql: Graphql::new(client.clone()),
            client,
            plan: plan.clone(),
            viewer: Arc::default(),
            projects: None,
            seen: BTreeMap::new(),
            told: BTreeSet::new(),
            known: Arc::default(),
        })
    }

    /// Whether the key travels where others can read it.
    pub(super) fn exposes_credentials(&self) -> bool {
        self.client.exposes_credentials()
    }

    /// Asks what `doodl3 check` tells.
    pub(super) async fn reach(&mut self) -> Result<Reach, TrackerError> {
        let entity = self.entity().await?;
        let projects = self.projects().await?;
        let mut runs = 0;
        for project in &projects {
            let filters = self.filters(None);
            let variables = json!({ "entity": entity, "project": project, "filters": filters });
            let data = self.graphql.ask(COUNT, &variables, Repeat::Freely).await?;
            if data["project"].is_null() {
                return Err(not_seen(&entity, project));
            }
            runs += data["project"]["runCount"].as_u64().unwrap_or(0) as usize;
        }
        Ok(Reach { what: format!("W&B, entity {entity},"), experiments: projects, runs })
    }

    /// Whether the key's owner may make runs there: a member of the team may. Nothing is written to try it.
    pub(super) async fn may_write(&mut self) -> Result<Option<String>, TrackerError> {
        let entity = self.entity().await?;
        let viewer = self.viewer().await?;
        let own = [&viewer.entity, &viewer.username];
        if own.into_iter().flatten().any(|own| *own == entity) || viewer.teams.contains(&entity) {
            return Ok(Some(format!(
                "entity {entity}, as {}",
                viewer.username.as_deref().unwrap_or("its member")
            )));
        }
        Err(TrackerError::Refused {
            what: "the question who owns the key".into(),
            message: format!("the owner has no permission in {entity}, being no member"),
        })
    }

    /// Runs that have given a sign of life since the last call, or went on then; at first all.
    pub(super) async fn changed_runs(&mut self) -> Result<Vec<TrackedRun>, TrackerError> {
        let entity = self.entity().await?;
        let (mut runs, mut seen) = (Vec::new(), BTreeMap::new());
        let projects = self.projects().await?;
        let mut unseen = Vec::new();
        for project in projects.iter().cloned() {
            let before = self.seen.get(&project);
            let variables = object([
                ("entity", json!(entity)),
                ("project", json!(project)),
                ("filters", json!(self.filters(before))),
                ("order", json!("+created_at")),
                ("first", json!(PAGE)),
            ]);
            let listed: Option<Vec<Listed>> = self.graphql.pages(RUNS, variables, "/project/runs").await?;
            let Some(listed) = listed else {
                if self.told.insert(project.clone()) {
                    let said = not_seen(&entity, &project);
                    tracing::warn!(project, "{said}");
                }
                unseen.push(project);
                continue;
            };
            let signs = listed.iter().filter_map(|run| run.heartbeat_at.as_deref());
            let latest = signs.chain(before.map(|before| before.latest.as_str())).max().unwrap_or_default();
            let latest = latest.to_owned();
            let listed: BTreeMap<String, TrackedRun> = listed
                .into_iter()
                .filter(|run| run.job_type.as_deref() != Some(JOB_TYPE) && !post::is_ours(&run.name))
                .map(|run| (run.name.clone(), self.tracked(&project, run)))
                .collect();
            // One that is not listed although it was asked for by name is deleted.
            let asked_for = before.map(|before| &before.running).into_iter().flatten();
            let deleted = asked_for.filter(|(id, _)| !listed.contains_key(*id)).map(|(_, run)| TrackedRun {
                status: RunStatus::Ended,
                token: "deleted".into(),
                ..run.clone()
            });
            runs.extend(deleted);
            let goes_on = listed.iter().filter(|(_, run)| run.status != RunStatus::Ended);
            let running = goes_on.map(|(id, run)| (id.clone(), run.clone())).collect();
            seen.insert(project.clone(), Seen { latest, running });
            runs.extend(listed.into_values());
        }
        if !unseen.is_empty() && unseen.len() == projects.len() {
            // Or the key counts no more.
            self.ask_viewer().await?;
            return Err(not_seen(&entity, &unseen.join(", ")));
        }
        self.seen = seen;
        Ok(runs)
    }

    /// Losses since a step, and the files that may be checkpoints.
    pub(super) async fn news(&mut self, run: &TrackedRun, seen: Option<u64>) -> Result<News, TrackerError> {
        let look = self.look(run).await?;
        let losses = self.losses(run, &look, seen).await?;
        let files = self.files(run, look).await?;
        Ok(News { files, losses })
    }

    /// The team or user whose projects these are.
    async fn entity(&self) -> Result<String, TrackerError> {
        if let Some(entity) = &self.plan.entity {
            // The key is tried all the same: without one that counts, everything looks as if it were not there.
            self.viewer().await?;
            return Ok(entity.clone());
        }
        let viewer = self.viewer().await?;
        viewer.entity.clone().or_else(|| viewer.username.clone()).ok_or_else(|| {
            TrackerError::Lost("the key's owner has no default entity; name one: `entity: TEAM`".into())
        })
    }

    async fn viewer(&self) -> Result<&Viewer, TrackerError> {
        self.viewer.get_or_try_init(|| self.ask_viewer()).await
    }

    /// Who asks now: to a key that is not known a server answers as if there were nothing.
    async fn ask_viewer(&self) -> Result<Viewer, TrackerError> {
        let data = self.graphql.ask(VIEWER, &json!({}), Repeat::Freely).await?;
        let told = &data["viewer"];
        if told.is_null() {
            return Err(TrackerError::UnknownKey { host: self.client.host() });
        }
        let teams = told.pointer("/teams/edges").and_then(Value::as_array).into_iter().flatten();
        let teams = teams.filter_map(|edge| edge["node"]["name"].as_str()).map(str::to_owned).collect();
        Ok(Viewer { teams, ..parse("Viewer", told)? })
    }

    /// Why a run is not shown: it is deleted, or its project may not be seen any more.
    async fn why_not_shown(&self, data: &Value, run: &TrackedRun) -> TrackerError {
        if !data["project"].is_null() {
            return TrackerError::Gone;
        }
        match self.ask_viewer().await {
            Ok(_) => not_seen(self.plan.entity.as_deref().unwrap_or("its owner"), &run.experiment_key),
            Err(error) => error,
        }
    }

    /// The projects that the configuration names. Where it names them in full, they need not be listed.
    async fn projects(&mut self) -> Result<Vec<String>, TrackerError> {
        if self.plan.projects.iter().all(|name| !name.contains('*')) {
            return Ok(self.plan.projects.clone());
        }
        if let Some((asked, projects)) = &self.projects
            && asked.elapsed() < PROJECTS_KEPT
            && !projects.is_empty()
        {
            return Ok(projects.clone());
        }
        let variables = object([("entity", json!(self.entity().await?)), ("first", json!(PAGE))]);
        let all: Option<Vec<Named>> = self.graphql.pages(PROJECTS, variables, "/models").await?;
        let Some(all) = all else {
            self.ask_viewer().await?;
            return Err(not_seen(&self.entity().await?, "any project"));
        };
        let wanted = |name: &String| self.plan.projects.iter().any(|pattern| matches_glob(pattern, name));
        let mut projects: Vec<String> = all.into_iter().map(|project| project.name).filter(wanted).collect();
        projects.sort();
        self.projects = Some((Instant::now(), projects.clone()));
        Ok(projects)
    }

    /// The configuration's filter, and that a run went on before or has given a sign of life since.
    fn filters(&self, before: Option<&Seen>) -> String {
        let mut conditions = Vec::new();
        if !self.plan.filter.is_empty() {
            conditions.push(Value::Object(self.plan.filter.clone()));
        }
        if let Some(Seen { latest, running }) = before
            && let Some(since) = a_little_before(latest)
        {
            let sign = json!({ "heartbeatAt": { "$gt": since } });
            let names: Vec<&String> = running.keys().collect();
            conditions.push(if names.is_empty() {
                sign
            } else {
                json!({ "$or": [sign, { "name": { "$in": names } }] })
            });
        }
        match conditions.len() {
            0 => "{}".into(),
            1 => conditions.remove(0).to_string(),
            _ => json!({ "$and": conditions }).to_string(),
        }
    }

    /// A run as the agent knows it.
    fn tracked(&self, project: &str, run: Listed) -> TrackedRun {
        let status = if run.goes_on() {
            let sign = run.heartbeat_at.as_deref().or(run.created_at.as_deref());
            let silent = sign.and_then(age).is_some_and(|age| age > self.plan.watched.stale_after);
            if silent { RunStatus::Stale } else { RunStatus::Running }
        } else {
            RunStatus::Ended
        };
        let state = run.state.unwrap_or_default();
        let name = run.display_name.filter(|name| !name.is_empty());
        TrackedRun {
            key: format!("{}:{project}", run.name),
            name: name.unwrap_or_else(|| run.name.clone()),
            experiment_key: project.to_owned(),
            experiment: project.to_owned(),
            status,
            artifacts: String::new(),
            // Not the sign of life: what we post may count as one.
            token: format!("{state} {}", run.history_line_count.unwrap_or(0)),
            loss: None,
            models: Vec::new(),
            last_sign_s: run.heartbeat_at.as_deref().and_then(time_of).map(jiff::Timestamp::as_second),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_seen(entity: &str, project: &str) -> TrackerError {
    TrackerError::Refused {
        what: format!("the question for {project}"),
        message: format!("{entity} has no such project, or the key's owner has no permission to see it"),
    }
}

/// The run's id at the server; a key is that and the project, since ids are unique in a project only.
fn id(run: &TrackedRun) -> &str {
    run.key.split_once(':').map_or(run.key.as_str(), |(id, _)| id)
}

/// Bytes in hexadecimals.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A time that the server writes, made a little earlier, in the same form: it must end with `Z`, or filters fit nothing.
fn a_little_before(time: &str) -> Option<String> {
    let time = time_of(time)?.checked_sub(SLACK).ok()?;
    Some(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// How long ago a time was that the server writes.
fn age(time: &str) -> Option<Duration> {
    jiff::Timestamp::now().duration_since(time_of(time)?).try_into().ok()
}

/// A time as servers write it, some of them without the zone, which is UTC.
fn time_of(text: &str) -> Option<jiff::Timestamp> {
    text.parse().or_else(|_| format!("{text}Z").parse()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{SourcePlan, TrackerPlan, parse};

    pub(super) fn plan() -> WandbPlan {
        let text =
            "version: 1\nsources: [wandb: {name: w, url: \"http://localhost:1\", key: {file: /dev/null}}]";
        // Any file that is not empty would do as a key.
        let key = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(key.path(), "k").unwrap();
        let text = text.replace("/dev/null", key.path().to_str().unwrap());
        let plan = parse(&text, "test").unwrap().validate("".as_ref()).unwrap();
        match plan.sources.into_iter().next() {
            Some(SourcePlan::Tracker(plan)) => match *plan {
                TrackerPlan::Wandb(plan) => plan,
                TrackerPlan::Mlflow(_) => panic!("it is W&B"),
            },
            _ => panic!("it is a tracker"),
        }
    }

    pub(super) fn client(plan: &WandbPlan) -> Client {
        Client::new("http://localhost:1/".parse().unwrap(), &plan.watched, HeaderMap::new()).unwrap()
    }

    fn run(id: &str) -> TrackedRun {
        TrackedRun {
            key: format!("{id}:mnist"),
            name: id.into(),
            experiment_key: "mnist".into(),
            experiment: "mnist".into(),
            status: RunStatus::Running,
            artifacts: String::new(),
            token: String::new(),
            loss: None,
            models: Vec::new(),
            last_sign_s: None,
        }
    }

    #[test]
    fn runs_that_went_on_are_listed_until_they_end() {
        let mut plan = plan();
        let wandb = |plan: &WandbPlan| Wandb::new(plan, &"http://localhost:1/".parse().unwrap()).unwrap();
        assert_eq!(wandb(&plan).filters(None), "{}");
        plan.filter.insert("group".into(), json!("seeds"));
        let seen = Seen {
            latest: "2026-05-01T12:00:00Z".into(),
            running: BTreeMap::from([("abc".into(), run("abc"))]),
        };
        assert_eq!(
            wandb(&plan).filters(Some(&seen)),
            "{\"$and\":[{\"group\":\"seeds\"},{\"$or\":[{\"heartbeatAt\":{\"$gt\":\"2026-05-01T11:50:00Z\"}},\
             {\"name\":{\"$in\":[\"abc\"]}}]}]}"
        );
    }

    #[test]
    fn times_of_servers_are_read_and_written_as_filters_take_them() {
        assert_eq!(a_little_before("2026-05-01T12:00:00Z").as_deref(), Some("2026-05-01T11:50:00Z"));
        assert_eq!(a_little_before("2026-05-01T12:00:00.25").as_deref(), Some("2026-05-01T11:50:00Z"));
        assert_eq!(a_little_before("yesterday"), None);
        assert!(age("2020-01-01T00:00:00").unwrap() > Duration::from_secs(86_400 * 365));
    }
}
