//! W&B's own SDK goes all its ways at the double: what the double answers is what a server answers.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::double::{Alert, Double, ENTITY, KEY};
use crate::sdk::environment;

/// A script of `tests/fixtures/wandb` with the SDK, at a double.
pub(crate) fn script(environment: &Path, double: &Double, name: &str) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wandb").join(name);
    let mut command = Command::new(environment.join("python"));
    command
        .arg("-B")
        .arg(script)
        .env("WANDB_BASE_URL", double.url())
        .env("WANDB_API_KEY", KEY)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

#[test]
fn the_sdk_of_wandb_finds_a_server() {
    tour("MD5");
}

#[test]
fn the_sdk_of_wandb_finds_a_server_with_the_newer_digests() {
    tour("XXH128");
}

fn tour(digests: &str) {
    let Some(environment) = environment("wandb-venv", "wandb") else { return };
    let double = Double::start();
    double.faults().xxh128 = digests == "XXH128";
    let folder = tempfile::tempdir().unwrap();
    let mut process = script(&environment, &double, "tour.py")
        .arg(folder.path())
        .arg(digests)
        .current_dir(folder.path())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");

    // The SDK waits as long as it is told, and then says the same again.
    let until = Instant::now() + Duration::from_secs(3);
    double.faults().too_many = Some((until, 1.0));
    process.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let ids = lines.next().unwrap().unwrap();
    assert!(process.wait().unwrap().success());
    let [first, second, third, fourth] = ids.split(' ').collect::<Vec<_>>().try_into().unwrap();

    let requests = double.requests();
    assert!(requests.iter().any(|asked| asked.status == 429 && asked.at < until));
    let refused = requests.iter().find(|asked| asked.status == 400 || asked.status == 403);
    assert!(refused.is_none(), "{refused:?}");
    assert!(requests.iter().any(|asked| asked.storage && asked.run.as_deref() == Some(first)));

    let state = double.state();
    let run = state.run(first).unwrap();
    assert_eq!(run.history.len(), 25);
    assert!(run.history[20].contains("\"train/loss\":NaN") && run.history[20].contains(":-Infinity"));
    assert_eq!(run.rows()[20]["train/loss"], "NaN");
    assert_eq!(run.configured()["lr"], 0.001);
    assert_eq!(run.summed()["best"], 0.5);
    assert_eq!(run.files["words.txt"], b"kept");
    let alert = Alert {
        title: "Diverged".into(),
        text: "The loss is not a number.".into(),
        severity: "ERROR".into(),
        wait: Some(60_000),
    };
    assert_eq!(run.alerts, [alert]);
    assert!(run.stream_posts.iter().all(|post| post.user_agent.starts_with("wandb-core")));
    assert!(run.stream_posts.iter().any(|post| post.body.contains("wandb-history.jsonl")));
    assert_eq!(state.run(second).unwrap().state, "failed");
    assert_eq!(state.run(third).unwrap().history.len(), 5);
    assert_eq!(state.run(fourth).unwrap().history.len(), 5);

    let versions = state.versions("tour", &format!("model-{first}"));
    assert_eq!(versions.len(), 3);
    for (number, version) in versions.into_iter().enumerate() {
        assert_eq!(
            (version.version, version.digest_algorithm.clone()),
            (Some(number), format!("MANIFEST_{digests}"))
        );
        assert!(version.metadata.as_ref().unwrap().starts_with(&format!("{{\"step\":{number}")));
        assert_eq!(version.created_by.as_deref(), Some(first));
        assert!(version.files.contains_key(&format!("step-{number}.safetensors")));
        assert_eq!(version.aliases.contains("latest"), number == 2);
    }
    let latest = state.artifact("tour", &format!("model-{first}:again")).unwrap();
    assert_eq!(latest.entity, ENTITY);
    assert_eq!((latest.version, latest.used_by.as_slice()), (Some(2), [second.to_owned()].as_slice()));
}
