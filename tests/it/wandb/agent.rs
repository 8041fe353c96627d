//! Runs that W&B's own SDK writes are watched, and what is posted is read back by it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::double::{Double, ENTITY, KEY, Run, State};
use crate::daemon::{Place, alerts, analysed, checkpoints};
use crate::fixtures::doodl3;
use crate::sdk::Training;

/// How long anything may take before a test gives up.
const FOREVER: Duration = Duration::from_secs(600);

/// Checkpoints that each of the three runs writes.
pub(super) const STEPS: usize = 40;

/// Requests in a second that the configuration allows.
const PER_SECOND: usize = 50;

const PROJECT: &str = "mnist";

/// A server, and as whom it is asked.
pub(super) struct Access {
    /// The address; `None`: as W&B's clients choose it.
    pub(super) url: Option<String>,
    pub(super) key: String,
    pub(super) entity: String,
    pub(super) project: String,
}

impl Access {
    fn to(double: &Double) -> Self {
        Self { url: Some(double.url()), key: KEY.into(), entity: ENTITY.into(), project: PROJECT.into() }
    }

    /// A script of the fixtures, run with the SDK; `None` where there is no SDK.
    pub(super) fn python(&self, script: &str, arguments: &[&str]) -> Option<Command> {
        let folder = crate::sdk::environment("wandb-venv", "wandb")?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wandb").join(script);
        let mut command = Command::new(folder.join("python"));
        command.arg("-B").arg(script).args(arguments);
        command.env("WANDB_API_KEY", &self.key).env("WANDB_ENTITY", &self.entity).env("WANDB_SILENT", "true");
        if let Some(url) = &self.url {
            command.env("WANDB_BASE_URL", url);
        }
        Some(command)
    }

    /// Trains with the SDK; `more` may say which digests, and that steps are the trainer's own.
    pub(super) fn train(&self, steps: usize, pause: &str, more: &[&str]) -> Option<Training> {
        let steps = steps.to_string();
        let arguments = [&[self.project.as_str(), &steps, pause], more].concat();
        Some(Training::spawn(self.python("train.py", &arguments)?))
    }

    /// Has the SDK read back what was posted: what it has to say against it.
    pub(super) fn read_back(&self, keys: &[String]) -> Result<(), String> {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let arguments = [&[self.entity.as_str(), self.project.as_str()], keys.as_slice()].concat();
        let output = self.python("read_back.py", &arguments).unwrap().output().unwrap();
        output.status.success().then_some(()).ok_or(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// A folder whose configuration watches the project.
    pub(super) fn place(&self, more: &str) -> Place {
        let place = Place::new("");
        std::fs::write(place.path("key"), &self.key).unwrap();
        let url = self.url.as_ref().map_or_else(String::new, |url| format!("url: \"{url}\", "));
        let source = format!(
            "{{name: lab, {url}entity: {}, projects: [{}], key: {{file: key}}{more}}}",
            self.entity, self.project
        );
        let analysis = "analysis: {every: 15, grid: {subdivisions: 8}}";
        let text = format!("version: 1\nsources: [wandb: {source}]\n{analysis}\nsinks: [tracker: {{}}]\n");
        std::fs::write(place.path("doodl3.yaml"), text).unwrap();
        place
    }
}

fn place(double: &Double, more: &str) -> Place {
    Access::to(double).place(&format!(", poll_every: 500ms, requests_per_second: {PER_SECOND}{more}"))
}

fn wait_for(place: &Place, double: &Double, what: &str, wanted: impl Fn(&State) -> bool) {
    let began = Instant::now();
    while !wanted(&double.state()) {
        assert!(began.elapsed() < FOREVER, "{what} never came.\n{}", place.log());
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Whether every checkpoint was analysed. Weights that are not finite are no part of an analysis: those of the faulty run
/// from step 340 on.
pub(super) fn complete(export: &Value) -> bool {
    checkpoints(export) == 3 * STEPS && analysed(export) == 3 * STEPS - 6
}

/// All that the agent wrote, and how often.
fn written(double: &Double) -> Vec<String> {
    let state = double.state();
    let runs = state.runs.iter().map(|run| {
        format!(
            "{} {} {:?} {} {} {:?} {} posts, {} alerts",
            run.name,
            run.state,
            run.history,
            run.summary,
            run.config,
            run.files.keys(),
            run.stream_posts.len(),
            run.alerts.len()
        )
    });
    let artifacts = state.artifacts.iter().map(|artifact| {
        format!(
            "{}:{:?} {} {:?} {:?}",
            artifact.collection, artifact.version, artifact.state, artifact.aliases, artifact.used_by
        )
    });
    runs.chain(artifacts).collect()
}

/// Waits until nothing is written any more.
fn settled(double: &Double) -> Vec<String> {
    let (mut before, mut quiet) = (written(double), 0);
    while quiet < 10 {
        std::thread::sleep(Duration::from_millis(500));
        let now = written(double);
        quiet = if now == before { quiet + 1 } else { 0 };
        before = now;
    }
    before
}

fn is_agent(user_agent: &str) -> bool {
    user_agent.starts_with("doodl3/")
}

/// History and summary as the trainer of a run sent them, piece by piece.
fn as_sent(run: &Run) -> (Vec<String>, String) {
    let (mut history, mut summary) = (Vec::new(), String::new());
    for post in &run.stream_posts {
        let body: Value = serde_json::from_str(&post.body).unwrap();
        let lines = |file: &str| -> Vec<String> {
            let content = body["files"][file]["content"].as_array().into_iter().flatten();
            content.map(|line| line.as_str().unwrap().to_owned()).collect()
        };
        if let Some(offset) = body["files"]["wandb-history.jsonl"]["offset"].as_u64() {
            history.truncate(offset as usize);
            history.extend(lines("wandb-history.jsonl"));
        }
        if let Some(last) = lines("wandb-summary.json").pop() {
            summary = last;
        }
    }
    (history, summary)
}

/// Asserts that each watched run was told, beside it, once, and that nothing touched its own history and summary.
fn assert_told(double: &Double, keys: &[String], log: &str) {
    let changed = double.requests().into_iter().filter(|asked| {
        let writes = asked.what.contains("upsertBucket") || asked.what.contains("createRunFiles");
        is_agent(&asked.user_agent) && writes && asked.run.as_ref().is_some_and(|run| keys.contains(run))
    });
    assert_eq!(changed.count(), 0, "no word, no file of a run is changed");
    let state = double.state();
    for (index, key) in keys.iter().enumerate() {
        let run = state.run(key).unwrap();
        assert!(
            run.stream_posts.iter().all(|post| !is_agent(&post.user_agent)),
            "nobody writes there but its trainer"
        );
        assert_eq!(run.history.len(), STEPS, "one row for each step, the trainer's");
        let (history, summary) = as_sent(run);
        assert_eq!((&run.history, &run.summary), (&history, &summary), "row for row what its trainer sent");
        assert!(!run.summary.contains("doodl3"), "{}", run.summary);

        let name = format!("doodl3-{key}");
        let beside = state.run(&name).unwrap_or_else(|| panic!("no run beside {key}\n{log}"));
        assert_eq!((beside.job_type.as_deref(), beside.group.as_deref()), (Some("doodl3"), Some("seeds")));
        assert_eq!(
            (beside.state.as_str(), beside.display_name.as_str()),
            ("finished", format!("doodl3: seed-{index}").as_str())
        );
        assert_eq!(beside.configured()["source_run"], key.as_str());
        let rows = beside.rows();
        let numbers: Vec<u64> = rows.iter().map(|row| row["_step"].as_u64().unwrap()).collect();
        assert!(
            numbers.iter().enumerate().all(|(index, number)| index as u64 == *number),
            "each row is there once"
        );
        let norms = rows.iter().filter(|row| row["doodl3/weight_norm"].is_number());
        let steps: Vec<u64> = norms.map(|row| row["doodl3/step"].as_u64().unwrap()).collect();
        assert_eq!(steps.len(), steps.iter().collect::<BTreeSet<_>>().len(), "each point is there once");
        // Of weights that are not finite there is no norm.
        assert_eq!(steps.len(), if index == 2 { STEPS - 6 } else { STEPS });
        for key in ["doodl3/report", "doodl3/phase_portrait", "doodl3/morse_graph"] {
            let media = rows.iter().rev().find_map(|row| row[key]["path"].as_str()).unwrap();
            assert!(beside.files.get(media).is_some_and(|bytes| bytes.len() > 500), "{media}");
        }
        let artifact = state.artifact(PROJECT, &format!("{name}:latest")).unwrap();
        assert_eq!(artifact.kind, "doodl3-analysis");
        assert!(artifact.files.contains_key("report.html") && artifact.files.contains_key("analysis.json"));
        let verdict = if index == 2 { "unstable" } else { "stable" };
        assert!(artifact.aliases.contains(verdict), "{:?}", artifact.aliases);
        let versions = state.versions(PROJECT, &format!("model-{key}"));
        assert_eq!(versions.len(), STEPS);
        assert!(
            versions.iter().all(|version| version.used_by.contains(&name)),
            "lineage to every checkpoint"
        );
    }
    let told: Vec<&str> =
        state.run(&keys[2]).unwrap().alerts.iter().map(|alert| alert.title.as_str()).collect();
    assert!(told.iter().any(|title| title.contains("nonfinite at step")), "{told:?}");
    assert_eq!(told.len(), told.iter().collect::<BTreeSet<_>>().len(), "each alert is told once: {told:?}");
    let whole: Vec<_> = state.runs.iter().filter(|run| run.name.starts_with("doodl3-experiment-")).collect();
    assert_eq!(whole.len(), 1, "the experiment has one run");
}

#[test]
fn runs_of_wandb_are_watched_and_told_beside_them() {
    let double = Double::start();
    let Some(mut training) = Access::to(&double).train(STEPS, "0.05", &[]) else { return };
    let place = place(&double, "");
    let daemon = place.watch();
    let keys = training.written();
    wait_for(&place, &double, "the alert, before the run has ended", |state| {
        let run = state.run(&keys[2]).unwrap();
        run.state == "running"
            && run.alerts.iter().any(|alert| alert.severity == "ERROR" && alert.text.contains("step"))
    });
    wait_for(&place, &double, "the run beside, before the run has ended", |state| {
        let beside = state.run(&format!("doodl3-{}", keys[0]));
        state.run(&keys[0]).unwrap().state == "running" && beside.is_some_and(|run| !run.history.is_empty())
    });
    training.end();
    let export = place.wait_for("all checkpoints", complete);
    assert!(alerts(&export).contains(&("seed-2".into(), "nonfinite".into())));
    let before = settled(&double);
    assert_told(&double, &keys, &place.log());

    // The SDK reads it back: artifacts that it verifies, lineage, pictures, pages.
    Access::to(&double).read_back(&keys).unwrap();

    // A second start has nothing to tell.
    assert!(daemon.stop().success());
    let export = place.export().unwrap();
    let daemon = place.watch();
    std::thread::sleep(Duration::from_secs(4));
    assert!(daemon.stop().success());
    assert_eq!(written(&double), before, "{}", place.log());
    assert_eq!(place.export().unwrap(), export);
    assert!(!place.log().contains(KEY), "no secret is logged");
    assert!(
        double.requests().iter().filter(|asked| is_agent(&asked.user_agent)).all(|asked| asked.status < 400),
        "{:?}",
        double
            .requests()
            .iter()
            .filter(|asked| is_agent(&asked.user_agent) && asked.status >= 400)
            .collect::<Vec<_>>()
    );
}

#[test]
fn kills_of_the_server_and_of_the_agent_lose_nothing_and_tell_nothing_twice() {
    let mut double = Double::start();
    let Some(mut training) = Access::to(&double).train(STEPS, "0.5", &[]) else { return };
    let place = place(&double, "");
    let mut daemon = place.watch();
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(2_500));
        double.stop();
        std::thread::sleep(Duration::from_millis(500));
        daemon.kill();
        daemon = place.watch();
        double.restart();
    }
    let keys = training.written();
    training.end();
    place.wait_for("all checkpoints", complete);
    settled(&double);
    assert_told(&double, &keys, &place.log());
    assert!(daemon.stop().success());
}

#[test]
fn what_was_not_reached_is_taken_in_later_without_a_restart() {
    // More artifacts than a page holds; and W&B's step is not the trainer's.
    const MANY: usize = 110;
    let mut double = Double::start();
    let Some(mut training) = Access::to(&double).train(MANY, "0", &["MD5", "own"]) else { return };
    let keys = training.written();
    training.end();
    let place = place(&double, "");
    let daemon = place.watch();
    place.wait_for("the first checkpoints", |export| checkpoints(export) >= 20);
    double.stop();
    std::thread::sleep(Duration::from_secs(8));
    double.restart();
    place.wait_for("more of them", |export| checkpoints(export) >= 100);
    {
        let mut faults = double.faults();
        (faults.only_agent, faults.unknown_key) = (Some("doodl3/".into()), true);
    }
    place.wait_for_file("log".as_ref(), |log| log.contains("does not know the key"));
    double.faults().unknown_key = false;
    // Weights that are not finite are no part of an analysis: those of the faulty run from step 340 on.
    let export = place.wait_for("all checkpoints", |export| analysed(export) == 3 * MANY - (MANY - 34));
    let steps: Vec<u64> = (0..MANY as u64).map(|step| 10 * step).collect();
    for run in ["seed-0", "seed-1", "seed-2"] {
        let rows = export["checkpoints"].as_array().unwrap().iter().filter(|row| row["run"] == run);
        let found: Vec<u64> = rows.map(|row| row["step"].as_u64().unwrap()).collect();
        assert_eq!(found, steps, "{run}");
    }
    settled(&double);
    let state = double.state();
    for key in &keys {
        let beside = state.run(&format!("doodl3-{key}")).unwrap_or_else(|| panic!("{}", place.log()));
        assert!(beside.files.keys().any(|name| name.starts_with("media/html/")));
    }
    drop(state);
    assert!(daemon.stop().success());
}

#[test]
fn a_troubled_server_is_asked_no_faster_than_allowed_and_told_all_in_the_end() {
    let double = Double::start();
    {
        let mut faults = double.faults();
        faults.only_agent = Some("doodl3/".into());
        faults.relative_upload_urls = true;
        faults.empty_pages = true;
        faults.xxh128 = true;
        faults.unknown_fields = vec!["historyStep".into(), "Run.jobType".into(), "File.md5".into()];
        faults.quota = Some(20.0);
    }
    let Some(mut training) = Access::to(&double).train(STEPS, "0.05", &["XXH128"]) else { return };
    let place = place(&double, "");
    let daemon = place.watch();
    for storm in 0..3 {
        std::thread::sleep(Duration::from_secs(3));
        let mut faults = double.faults();
        faults.too_many = Some((Instant::now() + Duration::from_secs(3), 1.0));
        faults.expire_urls = storm == 1;
    }
    std::thread::sleep(Duration::from_secs(3));
    double.faults().expire_urls = false;
    let keys = training.written();
    training.end();
    place.wait_for("all checkpoints", |export| checkpoints(export) == 3 * STEPS);
    double.faults().quota = None;
    place.wait_for("their analysis", complete);
    settled(&double);
    assert_told(&double, &keys, &place.log());
    assert!(daemon.stop().success());
    let mut times: Vec<Instant> = double
        .requests()
        .iter()
        .filter(|asked| is_agent(&asked.user_agent) && !asked.storage)
        .map(|asked| asked.at)
        .collect();
    times.sort();
    let second = Duration::from_secs(1);
    let most =
        (0..times.len()).map(|first| times[first..].partition_point(|at| *at < times[first] + second)).max();
    // Requests may arrive closer together than they were sent.
    assert!(most.unwrap() <= PER_SECOND + PER_SECOND / 5, "{most:?} requests in a second");
}

#[test]
fn check_tells_what_is_wrong_with_key_and_names() {
    let double = Double::start();
    let check = |place: &Place| {
        let output = doodl3().arg("check").current_dir(place.path("")).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let nobody = place(&double, "");
    std::fs::write(nobody.path("key"), "wrong".repeat(8)).unwrap();
    let said = check(&nobody);
    assert!(
        said.contains("FAILED  source lab: 127.0.0.1")
            && said.contains("does not know the key (hint: check the key"),
        "{said}"
    );
    let elsewhere = Access { project: "nowhere-*".into(), ..Access::to(&double) }.place("");
    let said = check(&elsewhere);
    assert!(said.contains("nothing there fits nowhere-* (hint: correct `projects`"), "{said}");
    assert!(said.contains("ok      sink tracker, lab: may post to entity team"), "{said}");
}
