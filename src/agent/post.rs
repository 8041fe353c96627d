//! Reports go back to the tracker from which runs came: to each run what concerns it, to each experiment a run of its
//! own with the whole.
//!
//! What a target was sent is noted by digest, so that only what differs is sent, after a restart too. A run that has
//! ended is told once more, with the first analysis that covers all of it; what later siblings change is told in the
//! experiment's own run.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{AgentError, Shared};
use crate::adapters::tracker::{Image, OwnRun, Point, Post, Tracker, TrackerError};
use crate::artifact::Artifact;
use crate::compute;
use crate::config::{PostTo, TrackerSink};
use crate::render::{self, ReportInput, RunState, RunTags};
use crate::store::{CheckpointRow, GroupId, Posted, StoreError, TrackedRow};

/// The mark that says what a target was told as a whole.
const STATE: &str = "state";

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
            // Neither does a tracker that is away, or that lets us write nothing, answer otherwise for the next run.
            Err(error) if error.is_transient() || error.is_forbidden() => return Ok(Err(error.explained())),
            Err(error) => failed = failed.or(Some(format!("{}: run {name}", error.explained()))),
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
        let (artifacts, note, tags) = self.rendered(Some(row.name.clone())).await?;
        let mut marks = Posted::from([(STATE.into(), state)]);
        let artifacts = fresh(artifacts, &posted, &mut marks);
        let series_too = self.options.series;
        let post = Post {
            images: if series_too {
                images(&artifacts, &checkpoints, &posted, &mut marks)
            } else {
                Vec::new()
            },
            artifacts,
            tags: changed_tags(&tags, &posted, &mut marks),
            description: self.note(note, &posted, &mut marks),
            series: if series_too { series(&checkpoints, &posted, &mut marks) } else { Vec::new() },
        };
        let sent = self.tracker.post(&to, &post).await;
        if let Err(TrackerError::Gone) = sent {
            // It is not tried again for what it would be told now.
            marks.retain(|what, _| what == STATE);
        } else if let Err(error) = sent {
            return Ok(Err(error));
        } else {
            tracing::debug!(run = row.name, files = post.artifacts.len(), "posted to the tracker");
        }
        let (source, name) = (self.input.group.source.clone(), target_name(&row, self.options.post_to));
        self.shared.store.write(move |tables| tables.put_posted(&source, &name, &marks)).await?;
        Ok(sent)
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
        let (artifacts, note, tags) = self.rendered(None).await?;
        let mut marks = Posted::new();
        let post = Post {
            artifacts: fresh(artifacts, &posted, &mut marks),
            tags: changed_tags(&tags, &posted, &mut marks),
            description: self.note(note, &posted, &mut marks),
            ..Post::default()
        };
        if marks.is_empty() {
            return Ok(Ok(()));
        }
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

    fn note(&self, note: String, posted: &Posted, marks: &mut Posted) -> Option<String> {
        if !self.options.description {
            return None;
        }
        is_new("description", note.as_bytes(), posted, marks).then_some(note)
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

fn fresh(artifacts: Vec<Artifact>, posted: &Posted, marks: &mut Posted) -> Vec<Artifact> {
    artifacts
        .into_iter()
        // A server takes no empty file: no alerts, no list of them.
        .filter(|artifact| !artifact.bytes.is_empty())
        .filter(|artifact| is_new(&format!("file {}", artifact.name), &artifact.bytes, posted, marks))
        .collect()
}

fn changed_tags(tags: &RunTags, posted: &Posted, marks: &mut Posted) -> Vec<(String, Option<String>)> {
    let RunTags { state, alert, attractor } = tags;
    [("state", Some(state)), ("alert", alert.as_ref()), ("attractor", attractor.as_ref())]
        .into_iter()
        .map(|(name, value)| (format!("doodl3.{name}"), value.cloned()))
        .filter(|(name, value)| {
            let what = format!("tag {name}");
            let never_set = value.is_none() && !posted.contains_key(&what);
            !never_set && is_new(&what, value.as_deref().unwrap_or_default().as_bytes(), posted, marks)
        })
        .collect()
}

/// The points of each series beyond the last that was sent.
fn series(checkpoints: &[CheckpointRow], posted: &Posted, marks: &mut Posted) -> Vec<Point> {
    type Value = fn(&CheckpointRow) -> Option<f64>;
    let all: [(&str, Value); 4] = [
        ("doodl3/instability", |row| row.instability),
        // Of weights that are not numbers the norm is that of the others: a curve that falls to 0 would mislead.
        ("doodl3/weight_norm", |row| row.norm.filter(|_| row.finite)),
        ("doodl3/update_ratio", |row| row.update_ratio),
        ("doodl3/loss", |row| row.loss),
    ];
    let mut points = Vec::new();
    for (key, value) in all {
        let what = format!("series {key}");
        let sent: Option<u64> = posted.get(&what).and_then(|step| step.parse().ok());
        let new =
            checkpoints.iter().filter(|row| sent.is_none_or(|sent| row.step > sent)).filter_map(|row| {
                let value = value(row).filter(|value| value.is_finite())?;
                let timestamp_ms = row.modified_ns / 1_000_000;
                Some(Point { key: key.to_owned(), step: row.step, timestamp_ms, value })
            });
        let before = points.len();
        points.extend(new);
        if let Some(last) = points.get(before..).and_then(<[Point]>::last) {
            marks.insert(what, last.step.to_string());
        }
    }
    points
}

/// The phase portrait as it is at the last checkpoint, where it is new. The first one stands at step 0 too: the page opens
/// there.
fn images(
    artifacts: &[Artifact],
    checkpoints: &[CheckpointRow],
    posted: &Posted,
    marks: &mut Posted,
) -> Vec<Image> {
    let picture = artifacts.iter().find(|artifact| artifact.name == "phase_portrait.png");
    let (Some(picture), Some(last)) = (picture, checkpoints.last()) else {
        return Vec::new();
    };
    let what = "image phase_portrait";
    let mark = last.step.to_string();
    if posted.get(what) == Some(&mark) {
        return Vec::new();
    }
    marks.insert(what.into(), mark);
    let image = |step| Image {
        name: "doodl3/phase_portrait".into(),
        step,
        timestamp_ms: last.modified_ns / 1_000_000,
        png: picture.bytes.clone(),
    };
    let first = (!posted.contains_key(what) && last.step > 0).then(|| image(0));
    first.into_iter().chain([image(last.step)]).collect()
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
