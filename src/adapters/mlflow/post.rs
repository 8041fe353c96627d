//! What goes back to MLflow: artifacts, series, pictures over the steps, tags, and a block in the description.
//!
//! Everything is written so that writing it twice leaves the same: files have fixed names, points their checkpoints'
//! times, runs of our own are found by a tag before they are made.

use serde_json::json;

use super::wire::{Metric, Page, Run, Tag};
use super::{API, Mlflow, ROLE, now_ms};
use crate::adapters::http::Repeat;
use crate::adapters::tracker::{Image, OwnRun, Post, RunStatus, TrackedRun, TrackerError};
use crate::artifact::Artifact;

/// Tag that tells whose run of our own it is.
const OF: &str = "doodl3.of";

/// The run's description.
const NOTE: &str = "mlflow.note.content";

/// Most characters of a tag's value; what is longer is cut by the server without a word.
const TAG: usize = 8_000;

/// Most points in a request.
const POINTS: usize = 1_000;

/// Where our block in a description begins and ends. Both are invisible when it is shown.
const BLOCK: (&str, &str) = ("<!-- doodl3 begins -->", "<!-- doodl3 ends -->");

#[derive(serde::Deserialize)]
struct OneRun {
    run: Run,
}

impl Mlflow {
    /// Posts to a run.
    pub(in crate::adapters) async fn post(
        &mut self,
        run: &TrackedRun,
        post: &Post,
    ) -> Result<(), TrackerError> {
        let artifacts: Vec<&Artifact> = post.new_artifacts().collect();
        for Artifact { name, media_type, bytes } in &artifacts {
            self.upload(run, &format!("doodl3/{name}"), bytes, media_type).await?;
        }
        self.look_for(run, &artifacts).await?;
        for image in &post.images {
            self.image(run, image, image.step).await?;
            // The page opens at the first step.
            if image.first && image.step > 0 {
                self.image(run, image, 0).await?;
            }
        }
        for points in post.series.chunks(POINTS) {
            let metric = |point: &crate::adapters::tracker::Point| Metric {
                key: point.key.clone(),
                value: point.value,
                timestamp: point.timestamp_ms,
                step: point.step as i64,
            };
            let metrics: Vec<Metric> = points.iter().map(metric).collect();
            self.log_batch(run, &json!({ "run_id": run.key, "metrics": metrics })).await?;
        }
        let (set, removed): (Vec<_>, Vec<_>) = post.new_tags().partition(|(_, value)| value.is_some());
        let mut tags: Vec<Tag> = set
            .into_iter()
            .map(|(key, value)| Tag { key: key.clone(), value: value.clone().unwrap_or_default() })
            .collect();
        if !post.images.is_empty() {
            tags.push(Tag { key: "mlflow.loggedImages".into(), value: "True".into() });
        }
        if let Some(text) = &post.description {
            let folder = format!("get-artifact?run_id={}&path=doodl3", run.key);
            let page = format!("#/experiments/{}/runs/{}/artifacts/doodl3", run.experiment_key, run.key);
            let ours = text.replace("{artifacts}", &folder).replace("{page}", &page);
            let before = self.run(&run.key).await?;
            let note = with_block(before.data.tag(NOTE).unwrap_or_default(), &ours);
            if before.data.tag(NOTE) != Some(note.as_str()) {
                tags.push(Tag { key: NOTE.into(), value: note });
            }
        }
        if !tags.is_empty() {
            self.log_batch(run, &json!({ "run_id": run.key, "tags": tags })).await?;
        }
        for (key, _) in removed {
            let body = json!({ "run_id": run.key, "key": key });
            let gone: Result<serde_json::Value, _> =
                self.client.post(&format!("{API}/runs/delete-tag"), &body, Repeat::Freely).await;
            match gone {
                Err(error) if !error.is_missing() => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// A run of our own that belongs to an experiment or to a run; made where there is none.
    pub(in crate::adapters) async fn own_run(&mut self, own: &OwnRun) -> Result<TrackedRun, TrackerError> {
        let filter = format!("tags.`{OF}` = '{}' AND tags.`{ROLE}` = '{}'", own.of, own.role);
        let body = json!({ "experiment_ids": [own.experiment_key], "filter": filter, "max_results": 1 });
        let found: Page<Run> = self.client.post(&format!("{API}/runs/search"), &body, Repeat::Freely).await?;
        let run = match found.items.into_iter().next() {
            Some(run) => run,
            None => self.make(own).await?,
        };
        Ok(TrackedRun {
            key: run.info.run_id,
            name: run.info.run_name,
            experiment_key: run.info.experiment_id,
            experiment: String::new(),
            status: RunStatus::Ended,
            artifacts: run.info.artifact_uri,
            token: String::new(),
            loss: None,
            models: Vec::new(),
            last_sign_s: None,
        })
    }

    async fn make(&mut self, own: &OwnRun) -> Result<Run, TrackerError> {
        let now = now_ms();
        let mut tags = vec![
            Tag { key: ROLE.into(), value: own.role.into() },
            Tag { key: OF.into(), value: own.of.clone() },
            Tag { key: "mlflow.runName".into(), value: own.name.clone() },
        ];
        if let Some(parent) = &own.parent {
            tags.push(Tag { key: "mlflow.parentRunId".into(), value: parent.clone() });
        }
        let body = json!({
            "experiment_id": own.experiment_key,
            "run_name": own.name,
            "start_time": now,
            "user_id": "doodl3",
            "tags": tags,
        });
        let made: OneRun = self.client.post(&format!("{API}/runs/create"), &body, Repeat::IfNotDone).await?;
        // It is no training that goes on.
        let id = &made.run.info.run_id;
        let body = json!({ "run_id": id, "status": "FINISHED", "end_time": now });
        let _: serde_json::Value =
            self.client.post(&format!("{API}/runs/update"), &body, Repeat::Freely).await?;
        Ok(made.run)
    }

    async fn run(&self, key: &str) -> Result<Run, TrackerError> {
        let asked: Result<OneRun, _> = self.client.get(&format!("{API}/runs/get"), &[("run_id", key)]).await;
        match asked {
            Ok(OneRun { run }) if run.info.lifecycle_stage == "deleted" => Err(TrackerError::Gone),
            Ok(OneRun { run }) => Ok(run),
            Err(error) if error.is_missing() => Err(TrackerError::Gone),
            Err(error) => Err(error.into()),
        }
    }

    async fn log_batch(&self, run: &TrackedRun, body: &serde_json::Value) -> Result<(), TrackerError> {
        let logged: Result<serde_json::Value, _> =
            self.client.post(&format!("{API}/runs/log-batch"), body, Repeat::Freely).await;
        match logged {
            Ok(_) => Ok(()),
            // A deleted run is a bad request, like others: ask which it was.
            Err(error) if matches!(error.status(), Some(400 | 404)) => {
                self.run(&run.key).await?;
                Err(error.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Looks whether the files that were sent are where people see them.
    async fn look_for(&self, run: &TrackedRun, artifacts: &[&Artifact]) -> Result<(), TrackerError> {
        if artifacts.is_empty() {
            return Ok(());
        }
        let listed = self.list(&run.key, "doodl3").await?;
        let there = |artifact: &&&Artifact| {
            let path = format!("doodl3/{}", artifact.name);
            listed.iter().any(|file| file.path == path && file.bytes == artifact.bytes.len() as u64)
        };
        match artifacts.iter().find(|artifact| !there(artifact)) {
            None => Ok(()),
            Some(artifact) => Err(TrackerError::Lost(format!(
                "the server took doodl3/{} but does not list it among the run's artifacts ({})",
                artifact.name, run.artifacts
            ))),
        }
    }

    /// A picture in the slider over the steps. The page asks for two files, and shows only the second; it takes a PNG
    /// under that name too.
    async fn image(&mut self, run: &TrackedRun, image: &Image, step: u64) -> Result<(), TrackerError> {
        let Image { name, timestamp_ms, png, .. } = image;
        let key = name.replace('/', "~");
        let unique = blake3::hash(format!("{key} {step}").as_bytes()).to_hex();
        let base = format!("images/{key}+step+{step}+timestamp+{timestamp_ms}+{}", &unique[..32]);
        self.upload(run, &format!("{base}.png"), png, "image/png").await?;
        self.upload(run, &format!("{base}+compressed.webp"), png, "image/webp").await
    }
}

/// The user's text with our block in it: where it was, else at the end. Where both do not fit, ours is left out rather
/// than the user's cut.
fn with_block(note: &str, ours: &str) -> String {
    let block = format!("{}\n{}\n{}", BLOCK.0, ours.trim(), BLOCK.1);
    let (before, after) = match note.split_once(BLOCK.0) {
        Some((before, rest)) => (before, rest.split_once(BLOCK.1).map_or("", |(_, after)| after)),
        None => (note, ""),
    };
    let before = before.trim_end();
    let gap = if before.is_empty() { "" } else { "\n\n" };
    let whole = format!("{before}{gap}{block}{after}");
    if whole.chars().count() <= TAG { whole } else { note.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_is_put_into_the_text_and_replaced_there() {
        let first = with_block("Mine.\n", "one");
        assert_eq!(first, format!("Mine.\n\n{}\none\n{}", BLOCK.0, BLOCK.1));
        let edited = format!("{first}\nMore of mine.");
        let second = with_block(&edited, "two");
        assert_eq!(second, edited.replace("one", "two"));
        assert_eq!(with_block(&second, "two"), second);
        assert_eq!(with_block("", "one"), format!("{}\none\n{}", BLOCK.0, BLOCK.1));
    }

    #[test]
    fn the_users_text_is_never_cut() {
        let long = "x".repeat(TAG - 10);
        assert_eq!(with_block(&long, "ours"), long);
        let torn = format!("Mine. {} lost its end", BLOCK.0);
        assert_eq!(with_block(&torn, "ours"), format!("Mine.\n\n{}\nours\n{}", BLOCK.0, BLOCK.1));
    }
}
