//! The same on a real account, where somebody asks for it: `DOODL3_WANDB_SMOKE=ENTITY/PROJECT` with a key in
//! `WANDB_API_KEY`. What it makes there stays there, to be looked at.

use std::time::{Duration, Instant};

use super::agent::Access;
use crate::daemon::checkpoints;

/// Checkpoints that each of the three runs writes.
const STEPS: usize = 36;

/// How long the service may take until everything can be read back.
const PATIENCE: Duration = Duration::from_secs(600);

#[test]
fn a_real_account_is_served() {
    let (Ok(place), Ok(key)) = (std::env::var("DOODL3_WANDB_SMOKE"), std::env::var("WANDB_API_KEY")) else {
        eprintln!("skipped: DOODL3_WANDB_SMOKE and WANDB_API_KEY name no account");
        return;
    };
    let (entity, project) = place.split_once('/').expect("DOODL3_WANDB_SMOKE is ENTITY/PROJECT");
    let access = Access { url: None, key, entity: entity.into(), project: project.into() };
    let mut training = access.train(STEPS, "1", &[]).expect("there is no SDK: run `make setup-python`");
    let place = access.place("");
    assert!(place.run(&["check"]).contains("ok      sink tracker, lab"));
    let daemon = place.watch();
    let keys = training.written();
    training.end();
    place.wait_for("all checkpoints", |export| checkpoints(export) == 3 * STEPS);
    let began = Instant::now();
    while let Err(difference) = access.read_back(&keys) {
        assert!(began.elapsed() < PATIENCE, "{difference}\n{}", place.log());
        std::thread::sleep(Duration::from_secs(10));
    }
    assert!(daemon.stop().success());
    assert!(!place.log().contains("WARN"), "{}", place.log());
}
