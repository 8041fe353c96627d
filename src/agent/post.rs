//! Reports go back to the tracker from which runs came: to each run what concerns it, to each experiment a run of its
//! own with the whole.
//!
//! What a target was sent is noted by digest, so that only what differs is sent, after a restart too. A run that has
//! ended is told once more, with the first analysis that covers all of it; what later siblings change is told in the
//! experiment's own run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{AgentError, Shared};
use crate::adapters::tracker::RunStatus;
use crate::adapters::tracker::{Image, Notice, OwnRun, Part, Point, Post, Tracker, TrackerError};
use crate::alert::{Alert, AlertState};
use crate::artifact::Artifact;
use crate::compute;
use crate::config::{PostTo, TrackerSink};
use crate::render::{self, ReportInput, RunState, RunTags};
use crate::store::{CheckpointRow, GroupId, Posted, StoreError, TrackedRow};

/// The mark that says what a target was told as a whole.
const STATE: &str = "state";

/// The mark that counts the rows of history that a target was sent.
const ROWS: &str = "rows";

/// The mark that says up to which step the checkpoints are known that a target tells of.
const USED: &str = "used";

/// People are told at once of runs that go on, and of those that gave a sign of life within this time.
const RECENT: Duration = Duration::from_secs(3600);

/// A run of the group, and what it was sent.
struct Target {
    row: TrackedRow,
    posted: Posted,
    checkpoints: Vec<CheckpointRow>,
}

/// Posts a group's report. The inner error is about the tracker, in words for a person: then it is tried again.
pub(super) async fn group(
    shared: &Shared,
    id: GroupId,
    folder: &str,
    input: Arc<ReportInput>,
    options: &TrackerSink,
) -> Result<Result<(), String>, AgentError> {
    let Some(mut tracker) = shared.trackers.get(&input.group.source).cloned() else {
        // Runs of a folder have no tracker to go back to.
        return Ok(Ok(()));
    };
    let mut poster = Poster { shared, tracker: &mut tracker, input: &input, options };
    let mut failed = None;
    let targets = targets(shared, id, Arc::clone(&input), options.post_to).await?;
    let experiment = targets.first().map(|target| target.row.run.experiment_key.clone());
    // What is urgent does not wait for the reports of others.
    for target in &targets {
        if let Err(error) = poster.give_notice(target).await? {
            return Ok(Err(error.explained()));
        }
    }
    let mut failures = 0;
    for target in targets {
        if shared.stop.is_cancelled() {
            return Ok(Err("the agent stops".into()));
        }
        let name = target.row.name.clone();
        match poster.run(target).await? {
            Ok(()) => {}
            // Nobody is there any more who could read it.
            Err(TrackerError::Gone) => {
                tracing::debug!(run = name, "the run is deleted; nothing is posted to it");
            }
            Err(error) => {
                failures += 1;
                failed = failed.or(Some(format!("{}: run {name}", error.explained())));
                // A tracker that is away, or that lets us write nothing, does not answer otherwise for the next run.
                if error.is_forbidden() || (error.is_transient() && failures > 1) {
                    return Ok(failed.map_or(Ok(()), Err));
                }
            }
        }
    }
    if options.experiment_run
        && let Some(experiment) = experiment
        && let Err(error) = poster.experiment(folder, experiment).await?
    {
        failed = failed.or(Some(error.explained()));
    }
    Ok(failed.map_or(Ok(()), Err))
}

/// The group's runs that a tracker knows.
async fn targets(
    shared: &Shared,
    id: GroupId,
    input: Arc<ReportInput>,
    to: PostTo,
) -> Result<Vec<Target>, StoreError> {
    let reading = shared.store.read(move |tables| {
        let mut checkpoints: BTreeMap<String, Vec<CheckpointRow>> = BTreeMap::new();
        for row in tables.checkpoints(id)? {
            checkpoints.entry(row.run.clone()).or_default().push(row);
        }
        let mut targets = Vec::new();
        for (name, checkpoints) in checkpoints {
            let group = &input.group;
            if let Some(row) = tables.tracked_by_name(&group.source, &group.experiment, &name)? {
                let name = target_name(&row, to);
                let posted = tables.posted(&group.source, &name)?;
                targets.push(Target { row, posted, checkpoints });
            }
        }
        Ok(targets)
    });
    reading.await
}

/// What is noted of what was sent belongs to this: a child knows nothing of what the run itself was told.
fn target_name(row: &TrackedRow, to: PostTo) -> String {
    match to {
        PostTo::Run => row.run.key.clone(),
        PostTo::Child => format!("child of {}", row.run.key),
    }
}

struct Poster<'p> {
    shared: &'p Shared,
    tracker: &'p mut Tracker,
    input: &'p Arc<ReportInput>,
    options: &'p TrackerSink,
}

impl Poster<'_> {
    /// Tells a run what is new of it.
    async fn run(&mut self, target: Target) -> Result<Result<(), TrackerError>, AgentError> {
        let Target { row, posted, checkpoints } = target;
        let state = digest(told(self.input, &row.name, &checkpoints).as_bytes());
        if posted.get(STATE) == Some(&state) {
            return Ok(Ok(()));
        }
        let to = match self.options.post_to {
            PostTo::Run => row.run.clone(),
            PostTo::Child => {
                let own = OwnRun {
                    experiment_key: row.run.experiment_key.clone(),
                    role: "run",
                    of: row.run.key.clone(),
                    name: format!("doodl3: {}", row.name),
                    parent: Some(row.run.key.clone()),
                };
                match self.tracker.own_run(&own).await {
                    Ok(Some(run)) => run,
                    // Where no run can be made there is only the run itself.
                    Ok(None) => row.run.clone(),
                    Err(error) => return Ok(Err(error)),
                }
            }
        };
        let mut marks = Posted::from([(STATE.into(), state)]);
        let mut post = self.replacing(Some(row.name.clone()), &posted, &mut marks).await?;
        if self.options.series {
            post.images = images(&post, &checkpoints, &posted, &mut marks);
            (post.series, post.latest) = series(&checkpoints, &posted, &mut marks);
        }
        post.at = checkpoints.last().map(|row| (row.step, row.modified_ns / 1_000_000));
        post.rows_before = number(&posted, ROWS).unwrap_or(0);
        marks.insert(ROWS.into(), (post.rows_before + post.row_steps().len() as u64).to_string());
        post.used = used(&checkpoints, &posted, &mut marks);
        let sent = self.tracker.post(&to, &post).await;
        if let Err(TrackerError::Gone) = sent {
            // It is not tried again for what it would be told now.
            marks.retain(|what, _| what == STATE);
        } else if let Err(error) = sent {
            return Ok(Err(error));
        } else {
            tracing::debug!(run = row.name, files = post.new_artifacts().count(), "posted to the tracker");
        }
        self.put_marks(&row, marks).await?;
        Ok(sent)
    }

    /// Has the tracker tell people of alerts that are new or more severe; each is noted at once, so that what fails later
    /// tells nobody twice.
    async fn give_notice(&mut self, target: &Target) -> Result<Result<(), TrackerError>, AgentError> {
        let Some(least) = self.options.alerts.filter(|_| self.tracker.gives_notice()) else {
            return Ok(Ok(()));
        };
        let Target { row, posted, .. } = target;
        let now_s = self.shared.now().wall_ns / 1_000_000_000;
        let silent_s = now_s.saturating_sub(row.run.last_sign_s.unwrap_or(0)).max(0) as u64;
        if row.run.status != RunStatus::Running && Duration::from_secs(silent_s) > RECENT {
            return Ok(Ok(()));
        }
        let input = Arc::clone(self.input);
        let ours = input.alerts.iter().filter(|alert| {
            alert.run == row.name && alert.state == AlertState::Open && alert.severity >= least
        });
        for alert in ours {
            let what = format!("alert {} {}", alert.detector.name(), alert.episode);
            let severity = alert.severity as u64;
            if number(posted, &what).is_some_and(|before| before >= severity) {
                continue;
            }
            match self.tracker.notify(&row.run, &notice(alert)).await {
                // Nobody looks at it any more.
                Ok(()) | Err(TrackerError::Gone) => {}
                Err(error) if error.is_transient() => return Ok(Err(error)),
                // The report tells it all the same.
                Err(error) => {
                    let hint = error.hint().unwrap_or_default();
                    tracing::warn!(run = row.name, %error, hint, "the tracker sends nobody this alert");
                }
            }
            self.put_marks(row, Posted::from([(what, severity.to_string())])).await?;
        }
        Ok(Ok(()))
    }

    async fn put_marks(&self, row: &TrackedRow, marks: Posted) -> Result<(), StoreError> {
        let (source, name) = (self.input.group.source.clone(), target_name(row, self.options.post_to));
        self.shared.store.write(move |tables| tables.put_posted(&source, &name, &marks)).await
    }

    /// What replaces what was sent before: the report in all its forms, on one run or on all of them.
    async fn replacing(
        &self,
        run: Option<String>,
        posted: &Posted,
        marks: &mut Posted,
    ) -> Result<Post, AgentError> {
        let (artifacts, note, tags) = self.rendered(run).await?;
        let described = self.options.description && is_new("description", note.as_bytes(), posted, marks);
        Ok(Post {
            artifacts: parts(artifacts, posted, marks),
            tags: tag_parts(&tags, posted, marks),
            description: described.then_some(note),
            ..Post::default()
        })
    }

    /// The report in all its forms, on one run or on all of them.
    async fn rendered(&self, run: Option<String>) -> Result<(Vec<Artifact>, String, RunTags), AgentError> {
        let input = Arc::clone(self.input);
        let rendered = compute::run(&self.shared.cancel, move |_| {
            let focused = run.map(|run| input.of_run(&run));
            let input = focused.as_ref().unwrap_or(&input);
            Ok::<_, render::RenderError>((
                render::artifacts(input)?,
                render::note(input),
                render::tags(input),
            ))
        });
        Ok(rendered.await??)
    }

    /// Tells the whole to the experiment's own run.
    async fn experiment(
        &mut self,
        folder: &str,
        experiment_key: String,
    ) -> Result<Result<(), TrackerError>, AgentError> {
        let (source, target) = (self.input.group.source.clone(), format!("group {folder}"));
        let (asked, key) = (source.clone(), target.clone());
        let posted = self.shared.store.read(move |tables| tables.posted(&asked, &key)).await?;
        let mut marks = Posted::new();
        let mut post = self.replacing(None, &posted, &mut marks).await?;
        if marks.is_empty() {
            return Ok(Ok(()));
        }
        let last = self.input.runs.iter().filter_map(|view| view.steps.last()).max();
        post.at = last.map(|step| (*step, self.shared.now().wall_ns / 1_000_000));
        post.rows_before = number(&posted, ROWS).unwrap_or(0);
        marks.insert(ROWS.into(), (post.rows_before + post.row_steps().len() as u64).to_string());
        let own = OwnRun {
            experiment_key,
            role: "experiment",
            of: format!("{folder} {}", self.input.group.signature.get(..12).unwrap_or_default()),
            name: format!("doodl3: {}", self.input.title),
            parent: None,
        };
        let sent = match self.tracker.own_run(&own).await {
            Ok(Some(run)) => self.tracker.post(&run, &post).await,
            Ok(None) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        };
        let noted = self.shared.store.write(move |tables| match sent {
            Ok(()) => tables.put_posted(&source, &target, &marks).map(Ok),
            // Somebody has deleted it: a new one gets all of it.
            Err(TrackerError::Gone) => {
                tables.forget_posted(&source, &target).map(|()| Err(TrackerError::Gone))
            }
            Err(error) => Ok(Err(error)),
        });
        Ok(noted.await?)
    }
}

/// Whether something differs from what was sent; notes it if so.
fn is_new(what: &str, content: &[u8], posted: &Posted, marks: &mut Posted) -> bool {
    let digest = digest(content);
    let new = posted.get(what) != Some(&digest);
    if new {
        marks.insert(what.to_owned(), digest);
    }
    new
}

fn parts(artifacts: Vec<Artifact>, posted: &Posted, marks: &mut Posted) -> Vec<Part<Artifact>> {
    artifacts
        .into_iter()
        // A server takes no empty file: no alerts, no list of them.
        .filter(|artifact| !artifact.bytes.is_empty())
        .map(|content| {
            let new = is_new(&format!("file {}", content.name), &content.bytes, posted, marks);
            Part { content, new }
        })
        .collect()
}

fn tag_parts(tags: &RunTags, posted: &Posted, marks: &mut Posted) -> Vec<Part<(String, Option<String>)>> {
    let RunTags { state, alert, attractor } = tags;
    [("state", Some(state)), ("alert", alert.as_ref()), ("attractor", attractor.as_ref())]
        .into_iter()
        .map(|(name, value)| {
            let content = (format!("doodl3.{name}"), value.cloned());
            let what = format!("tag {}", content.0);
            let never_set = value.is_none() && !posted.contains_key(&what);
            let bytes = value.map_or("", String::as_str).as_bytes();
            Part { new: !never_set && is_new(&what, bytes, posted, marks), content }
        })
        .collect()
}

/// What people are told of an alert.
fn notice(alert: &Alert) -> Notice {
    let Alert { run, detector, opened_step, headline, advice, evidence, last_good_step, .. } = alert;
    let good = last_good_step.map_or_else(String::new, |step| format!(" Last good checkpoint: step {step}."));
    Notice {
        // What tells it apart comes first: titles are cut, and equal ones suppressed.
        title: format!("{:?} {} at step {opened_step}: {run}", alert.severity, detector.name()),
        text: format!("{headline} {advice} ({evidence}){good}"),
        severity: alert.severity,
    }
}

/// A mark that is a number.
fn number(posted: &Posted, what: &str) -> Option<u64> {
    posted.get(what)?.parse().ok()
}

/// The paths of checkpoints beyond the last that was told of.
fn used(checkpoints: &[CheckpointRow], posted: &Posted, marks: &mut Posted) -> Vec<String> {
    let before = number(posted, USED);
    let new = checkpoints.iter().filter(|row| before.is_none_or(|before| row.step > before));
    // The path begins with the run's id.
    let paths = new.filter_map(|row| row.path.split_once('/')).map(|(_, path)| path.to_owned()).collect();
    if let Some(last) = checkpoints.last() {
        marks.insert(USED.into(), last.step.to_string());
    }
    paths
}

/// The points of each series beyond the last that was sent, and the last of each.
fn series(checkpoints: &[CheckpointRow], posted: &Posted, marks: &mut Posted) -> (Vec<Point>, Vec<Point>) {
    type Value = fn(&CheckpointRow) -> Option<f64>;
    let all: [(&str, Value); 4] = [
        ("doodl3/instability", |row| row.instability),
        // Of weights that are not numbers the norm is that of the others: a curve that falls to 0 would mislead.
        ("doodl3/weight_norm", |row| row.norm.filter(|_| row.finite)),
        ("doodl3/update_ratio", |row| row.update_ratio),
        ("doodl3/loss", |row| row.loss),
    ];
    let (mut points, mut latest) = (Vec::new(), Vec::new());
    for (key, value) in all {
        let what = format!("series {key}");
        let sent = number(posted, &what);
        let point = |row: &CheckpointRow| {
            let value = value(row).filter(|value| value.is_finite())?;
            let timestamp_ms = row.modified_ns / 1_000_000;
            Some(Point { key: key.to_owned(), step: row.step, timestamp_ms, value })
        };
        let new = checkpoints.iter().filter(|row| sent.is_none_or(|sent| row.step > sent));
        points.extend(new.filter_map(point));
        if let Some(last) = checkpoints.iter().rev().find_map(point) {
            marks.insert(what, last.step.to_string());
            latest.push(last);
        }
    }
    (points, latest)
}

/// The phase portrait as it is at the last checkpoint, where it is new.
fn images(post: &Post, checkpoints: &[CheckpointRow], posted: &Posted, marks: &mut Posted) -> Vec<Image> {
    let picture = post.new_artifacts().find(|artifact| artifact.name == "phase_portrait.png");
    let (Some(picture), Some(last)) = (picture, checkpoints.last()) else {
        return Vec::new();
    };
    let what = "image phase_portrait";
    let mark = last.step.to_string();
    if posted.get(what) == Some(&mark) {
        return Vec::new();
    }
    marks.insert(what.into(), mark);
    vec![Image {
        name: "doodl3/phase_portrait".into(),
        step: last.step,
        timestamp_ms: last.modified_ns / 1_000_000,
        png: picture.bytes.clone(),
        first: !posted.contains_key(what),
    }]
}

/// All that decides whether a run is told something new.
fn told(input: &ReportInput, run: &str, checkpoints: &[CheckpointRow]) -> String {
    let state = input.runs.iter().find(|view| view.run == run).map(|view| view.state);
    let last = checkpoints.last().map(|row| row.step);
    let evaluated = checkpoints.iter().filter(|row| row.model.is_some()).count();
    let alerts: Vec<_> = input.alerts.iter().filter(|alert| alert.run == run).collect();
    let analysis = match &input.analysis {
        // While it runs, each new picture is news; afterwards the first that covers all of it.
        Ok(_) if state == Some(RunState::Training) => input.analysis_id.clone(),
        Ok(analysis) => {
            let trajectory = analysis.trajectories.iter().find(|trajectory| trajectory.run == run);
            format!("{:?}", trajectory.and_then(|trajectory| trajectory.steps.last()))
        }
        Err(reason) => reason.clone(),
    };
    format!(
        "{} {state:?} {} {last:?} {evaluated} {alerts:?} {analysis}",
        env!("CARGO_PKG_VERSION"),
        checkpoints.len()
    )
}

fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..32].to_owned()
}
