//! What is read from the logs of W&B's SDK is what `wandb sync` sends of them to a server, whole or cut. Where a log is
//! damaged it is more: the SDK stops at the first record that it cannot read.

use std::path::Path;
use std::process::{Command, Stdio};

use doodl3::adapters::wandb::log::{Position, Read, Record, Value, read_on};
use serde_json::{Map, Value as Json, json};

use super::double::{Double, KEY};
use super::tour::script;
use crate::sdk::environment;

/// Rows of a history, by name and value.
type Rows = Vec<Map<String, Json>>;

/// The rows that a log holds.
fn rows_of(log: &[u8]) -> (Rows, Read) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), log).unwrap();
    let mut rows = Rows::new();
    let mut each = |record| {
        if let Record::History(row) = record {
            rows.push(row.values.into_iter().map(|(name, value)| (name, as_sent(&value))).collect());
        }
    };
    let read = read_on(file.path(), Position::default(), &mut each).unwrap();
    (rows, read)
}

/// A value in JSON, where what is not finite is text.
fn as_sent(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(value) => json!(value),
        Value::Integer(value) => json!(value),
        Value::Number(value) if value.is_nan() => json!("NaN"),
        Value::Number(value) if value.is_infinite() => {
            json!(if *value > 0.0 { "Infinity" } else { "-Infinity" })
        }
        Value::Number(value) => json!(value),
        Value::Text(text) => json!(text),
        Value::Json(text) => serde_json::from_str(&text.replace("NaN", "\"NaN\"")).unwrap(),
    }
}

/// Adds the values of a row that came to a server, the names of nested ones joined by dots.
fn flatten(row: &Json, before: &str, to: &mut Map<String, Json>) {
    for (name, value) in row.as_object().unwrap() {
        let name = format!("{before}{name}");
        if value.is_object() {
            flatten(value, &format!("{name}."), to);
        } else {
            to.insert(name, value.clone());
        }
    }
}

/// The rows that come to a server when the SDK sends a log, and what it says.
fn sent(environment: &Path, id: &str, log: &[u8]) -> (Rows, String) {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join(format!("offline-run-20260101_000000-{id}"));
    std::fs::create_dir(&run).unwrap();
    std::fs::write(run.join(format!("run-{id}.wandb")), log).unwrap();
    let double = Double::start();
    let output = Command::new(environment.join("wandb"))
        .arg("sync")
        .arg(&run)
        .current_dir(&folder)
        .env("WANDB_BASE_URL", double.url())
        .env("WANDB_API_KEY", KEY)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let flat = |row: &Json| {
        let mut flat = Map::new();
        flatten(row, "", &mut flat);
        flat
    };
    let state = double.state();
    (state.run(id).map(|run| run.rows().iter().map(flat).collect()).unwrap_or_default(), said)
}

fn compare(environment: &Path, id: &str, log: &[u8]) {
    let (rows, read) = rows_of(log);
    assert!(!rows.is_empty() && read.missing.is_empty(), "{id}: {:?}", read.missing);
    let (theirs, said) = sent(environment, id, log);
    assert_eq!(rows, theirs, "{id}: {said}");
    assert_eq!(read.torn > 0, said.contains("incomplete record"), "{id}: {said}");

    let cut = &log[..log.len() * 2 / 3];
    let (ours, Read { torn, .. }) = rows_of(cut);
    let (theirs, said) = sent(environment, id, cut);
    assert_eq!(ours, theirs, "{id}, cut: {said}");
    assert!(torn > 0 && said.contains("incomplete record") && rows.starts_with(&ours), "{id}, cut: {said}");

    for at in [log.len() / 3, log.len() * 2 / 3] {
        let mut damaged = log.to_vec();
        damaged[at] ^= 4;
        let (mut ours, Read { missing, .. }) = rows_of(&damaged);
        let (theirs, said) = sent(environment, id, &damaged);
        assert!(said.contains("checksum mismatch"), "{id}, bit at {at}: {said}");
        assert_eq!((missing.len(), missing[0].records), (1, Some(1)), "{id}, bit at {at}");
        // The SDK: up to the damage. Here: all but the record that holds it.
        let (before, _) = rows_of(&log[..missing[0].from as usize]);
        assert_eq!(theirs, before, "{id}, bit at {at}");
        let (until, _) = rows_of(&log[..missing[0].to as usize]);
        ours.splice(before.len()..before.len(), until[before.len()..].iter().cloned());
        assert_eq!(ours, rows, "{id}, bit at {at}");
    }
}

#[test]
fn what_is_read_of_a_log_is_what_the_sdk_sends() {
    let Some(environment) = environment("wandb-venv", "wandb") else { return };
    let folder = tempfile::tempdir().unwrap();
    let double = Double::start();
    let mut write = script(&environment, &double, "logs.py");
    let written = write.arg(folder.path()).env("WANDB_DATA_DIR", folder.path()).output().unwrap();
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    let runs = std::fs::read_dir(folder.path().join("wandb")).unwrap();
    let runs: Vec<_> = runs.map(|entry| entry.unwrap().path()).filter(|path| !path.is_symlink()).collect();
    std::thread::scope(|scope| {
        for id in ["finished", "killed", "long", "typed"] {
            let run = runs.iter().find(|path| path.to_str().unwrap().ends_with(id)).unwrap();
            let log = std::fs::read(run.join(format!("run-{id}.wandb"))).unwrap();
            let environment = &environment;
            scope.spawn(move || compare(environment, id, &log));
        }
    });
}
