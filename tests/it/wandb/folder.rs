//! Runs that W&B's own SDK keeps on this machine, without a server, are watched while they go on.

use std::time::Duration;

use super::agent::{Access, STEPS, complete};
use crate::daemon::{Place, alerts};
use crate::sdk::Training;

#[test]
fn runs_without_a_server_are_watched_and_get_their_reports() {
    let place = Place::new("");
    let access = Access {
        url: Some("http://127.0.0.1:9".into()),
        key: "none".into(),
        entity: "none".into(),
        project: "mnist".into(),
    };
    let Some(mut command) = access.python("train.py", &["mnist", &STEPS.to_string(), "0.5"]) else { return };
    command
        .env("WANDB_MODE", "offline")
        .env("WANDB_DIR", place.path(""))
        .env("WANDB_DATA_DIR", place.path("data"));
    let mut training = Training::spawn(command);
    let text = "version: 1\nsources: [wandb: {name: local, url: ./wandb, poll_every: 500ms}]\n\
        analysis: {grid: {subdivisions: 8}}\nsinks: [tracker: {}]\n";
    std::fs::write(place.path("doodl3.yaml"), text).unwrap();
    // The folder is made by the first run.
    let daemon = place.watch();
    let keys = training.written();
    let export = place.wait_for("all checkpoints", complete);
    assert!(alerts(&export).contains(&("seed-2".into(), "nonfinite".into())));
    training.end();
    for key in &keys {
        let run = || {
            let listed = std::fs::read_dir(place.path("wandb")).unwrap().flatten();
            listed
                .map(|entry| entry.path())
                .find(|path| path.to_string_lossy().ends_with(key.as_str()))
                .unwrap()
        };
        let report = run().join("doodl3/report.html");
        let ended = |text: &str| !text.is_empty();
        place.wait_for_file(&report, ended);
    }
    std::thread::sleep(Duration::from_secs(3));
    assert!(daemon.stop().success());
    assert!(place.run(&["check"]).contains("shows 3 runs in 1 project (mnist)"));
    let log = place.log();
    assert!(!log.contains("cannot be read") && !log.contains("panicked"), "{log}");
}
