//! Killed at any time, the agent goes on: nothing is lost, nothing is told twice.

use std::time::Duration;

use serde_json::Value;

use crate::daemon::{Place, analysed, checkpoints};
use crate::training::{Random, Training};

const RUNS: usize = 4;
const STEPS: usize = 60;
const TOTAL: usize = RUNS * STEPS;

const CONFIG: &str = "analysis: {every: 10, grid: {subdivisions: 8}}";

/// The state once all is done: every checkpoint is there and covered by the last analysis, and every alert is one that
/// the analysis knows of.
fn complete(export: &Value) -> bool {
    checkpoints(export) == TOTAL && analysed(export) == TOTAL
}

#[test]
fn after_many_kills_the_state_is_that_of_an_undisturbed_run() {
    let kills: usize = std::env::var("DOODL3_KILLS").map_or(30, |kills| kills.parse().unwrap());
    let undisturbed = Place::new(CONFIG);
    let daemon = undisturbed.watch();
    Training::new(&undisturbed.checkpoints(), RUNS).steps(STEPS);
    undisturbed.wait_for("the whole state", complete);
    let expected = settled(&undisturbed);
    assert!(daemon.stop().success());
    assert!(!expected["alerts"].as_array().unwrap().is_empty(), "the faulty run is alerted");

    let killed = Place::new(CONFIG);
    let mut training = Training::new(&killed.checkpoints(), RUNS);
    let mut random = Random(7);
    let mut written = 0;
    for kill in 1..=kills {
        let mut daemon = killed.watch();
        let goal = TOTAL * kill / kills;
        // Some kills meet the agent at its start, some at work, some at rest.
        let mut left = Duration::from_millis(random.below(300));
        while written < goal {
            training.checkpoint();
            written += 1;
            let pause = Duration::from_millis(random.below(6)).min(left);
            left -= pause;
            std::thread::sleep(pause);
        }
        std::thread::sleep(left);
        daemon.kill();
    }
    let daemon = killed.watch();
    killed.wait_for("the whole state", complete);
    let export = settled(&killed);
    assert_eq!(export, expected, "{}", killed.log());
    // The sink has what the state has.
    for file in ["alerts.jsonl", "analysis.json", "report.html"] {
        let file = format!("doodl3-reports/checkpoints/{file}");
        let wanted = std::fs::read_to_string(undisturbed.path(&file)).unwrap();
        let wanted = without_the_past(&wanted);
        killed.wait_for_file(file.as_ref(), |text| without_the_past(text) == wanted);
    }
    assert!(daemon.stop().success());
    assert_eq!(killed.export().unwrap(), expected, "stopping changes nothing");
}

/// A file without what it says of the analysis before, which may have been another one: kills decide when there is one.
fn without_the_past(text: &str) -> String {
    if let Ok(mut document @ Value::Object(_)) = serde_json::from_str(text) {
        document["since"] = Value::Null;
        return document.to_string();
    }
    let is_past = |line: &&str| {
        line.starts_with("<p class=\"since\">") || line.starts_with("<p class=\"outlook since\">")
    };
    text.lines().filter(|line| !is_past(line)).collect()
}

/// The state once it has stopped changing: the last analysis may be followed by one that knows of later alerts.
fn settled(place: &Place) -> Value {
    let mut before = place.export().unwrap();
    let mut quiet = 0;
    while quiet < 20 {
        std::thread::sleep(Duration::from_millis(250));
        let now = place.export().unwrap();
        quiet = if now == before { quiet + 1 } else { 0 };
        before = now;
    }
    before
}
