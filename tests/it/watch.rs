//! Watching directories, those of good trainers and others.

use std::fs;
use std::io::Write;
use std::time::Duration;

use serde_json::Value;

use crate::checkpoint::fixtures;
use crate::daemon::{Place, alerts, analysed, checkpoints};
use crate::fixtures::{checkpoint_bytes, doodl3, stderr, write_checkpoint};
use crate::training::Training;

#[test]
fn a_jump_is_alerted_and_reported_and_a_second_daemon_is_kept_out() {
    let place = Place::new("analysis: {grid: {subdivisions: 8}}");
    let daemon = place.watch();
    let mut training = Training::new(&place.checkpoints(), 3);
    training.steps(35);
    place.wait_for("the alert", |export| alerts(export).contains(&("run-2".into(), "update_jump".into())));
    assert!(alerts(&place.export().unwrap()).iter().all(|(run, _)| run == "run-2"), "the others are healthy");
    training.steps(5);
    place.wait_for("the analysis", |export| analysed(export) == 120);
    let sunk =
        place.wait_for_file("doodl3-reports/checkpoints/alerts.jsonl".as_ref(), |text| !text.is_empty());
    let first: Value = serde_json::from_str(sunk.lines().next().unwrap()).unwrap();
    assert_eq!(first["run"], "run-2");
    place.wait_for_file("doodl3-reports/checkpoints/report.html".as_ref(), |text| text.contains("run-2"));
    assert!(place.log().contains("WARN alert run=\"run-2\" detector=\"update_jump\""), "{}", place.log());

    let second = doodl3().arg("watch").current_dir(place.path("")).assert().code(3);
    assert!(stderr(&second).contains("the state is in use by process"), "{}", stderr(&second));
    assert!(place.run(&["show"]).contains("Morse graph"));
    assert!(place.run(&["show", "checkpoints", "--format", "dot"]).starts_with("digraph"));
    assert!(daemon.stop().success());
}

#[test]
fn a_hostile_directory_is_told_of_once_and_the_good_checkpoints_are_analysed() {
    let place = Place::new("analysis: {grid: {subdivisions: 8}}");
    let root = place.checkpoints();
    let mut training = Training::new(&root, 2);
    training.steps(20);
    for index in 0..10_000 {
        fs::write(root.join(format!("notes-{index}.txt")), "nothing to see").unwrap();
    }
    std::os::unix::fs::symlink(&root, root.join("run-0/loop")).unwrap();
    std::os::unix::fs::symlink("nowhere", root.join("run-0/dangling.pt")).unwrap();
    let bad = root.join("bad");
    fs::create_dir(&bad).unwrap();
    let whole = checkpoint_bytes(&[1.0; 1000]);
    fs::write(bad.join("step-1.safetensors"), &whole[..whole.len() / 2]).unwrap();
    fs::write(bad.join("step-2.pt"), zip_bomb()).unwrap();
    fs::copy(fixtures().join("runs_code.pt"), bad.join("step-3.pt")).unwrap();
    fs::write(bad.join("step-4.ckpt"), b"not a checkpoint at all").unwrap();

    let daemon = place.watch();
    // A file that grows slowly, as over a slow network; it is whole in the end.
    let slow = root.join("run-0/step-200.safetensors");
    let bytes = checkpoint_bytes(&[0.5, 0.5, 0.5, 0.5]);
    let mut file = fs::File::create(&slow).unwrap();
    for chunk in bytes.chunks(bytes.len() / 30) {
        file.write_all(chunk).unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(file);
    let refused = |export: &Value| export["refused"].as_array().unwrap().len();
    let export = place.wait_for("all that is good and bad", |export| {
        analysed(export) == 41 && refused(export) == 4 && checkpoints(export) == 41
    });
    // Listed again and again meanwhile; each file is told of once.
    let log = place.log();
    for name in ["bad/step-1.safetensors", "bad/step-2.pt", "bad/step-3.pt", "bad/step-4.ckpt"] {
        assert_eq!(log.matches(name).count(), 1, "{name}\n{log}");
        let row = export["refused"].as_array().unwrap().iter().find(|row| row["path"] == name).unwrap();
        assert!(row["reason"].as_str().unwrap().len() > 20, "{row}");
    }
    assert!(!log.contains("notes-") && !log.contains("dangling"), "{log}");
    assert!(daemon.stop().success());

    // After a restart nothing is told again.
    let daemon = place.watch();
    write_checkpoint(&root.join("run-1/step-200.safetensors"), &[0.5, 0.5, 0.5, 0.4]);
    place.wait_for("the new one", |export| checkpoints(export) == 42);
    assert_eq!(place.log().matches("bad/step-2.pt").count(), 1, "{}", place.log());
    assert!(daemon.stop().success());
}

/// A zip file whose one entry claims to hold four gigabytes.
fn zip_bomb() -> Vec<u8> {
    let name = b"archive/data.pkl";
    let content = [0_u8; 64];
    let (packed, claimed) = ((content.len() as u32).to_le_bytes(), 0xffff_fff0_u32.to_le_bytes());
    // Version, flags, method 8 (deflated), time and date, checksum, sizes, length of the name and of the extra field.
    let entry = |extra: u16| {
        let head: [&[u8]; 6] =
            [&[20, 0, 0, 0, 8, 0, 0, 0, 0, 0], &[0; 4], &packed, &claimed, &[16, 0], &extra.to_le_bytes()];
        head.concat()
    };
    let mut zip = [b"PK\x03\x04".as_slice(), &entry(0), name, &content].concat();
    let directory = zip.len() as u32;
    let central = [b"PK\x01\x02\x14\0".as_slice(), &entry(0), &[0; 14], name].concat();
    zip.extend(&central);
    zip.extend(
        [b"PK\x05\x06\0\0\0\0\x01\0\x01\0".as_slice(), &(central.len() as u32).to_le_bytes()].concat(),
    );
    zip.extend(directory.to_le_bytes());
    zip.extend([0, 0]);
    zip
}

#[test]
fn a_trainer_that_goes_back_and_resumes_is_followed() {
    let place = Place::new("sinks: []");
    let root = place.checkpoints();
    let weights = |step: u64, branch: f32| [1.0 / (1.0 + step as f32), branch * step as f32 * 1e-3, 0.0, 0.0];
    let path = |step: u64| root.join(format!("run/step-{step:03}.safetensors"));
    for step in 0..30 {
        write_checkpoint(&path(step), &weights(step, 1.0));
    }
    let daemon = place.watch();
    place.wait_for("the first branch", |export| checkpoints(export) == 30);
    let digest = |export: &Value, step: usize| export["checkpoints"][step]["digest"].clone();
    let before = place.export().unwrap();
    // It goes back to step 20 and takes another way.
    for step in 20..40 {
        write_checkpoint(&path(step), &weights(step, 2.0));
    }
    let after = place.wait_for("the second branch", |export| {
        checkpoints(export) == 40 && digest(export, 29) != digest(&before, 29)
    });
    assert_eq!(digest(&after, 19), digest(&before, 19));
    assert_ne!(digest(&after, 20), digest(&before, 20));
    assert!(daemon.stop().success());

    // What it knows is what it would know had it only seen the second branch.
    let fresh = Place::new("sinks: []");
    for step in 0..40 {
        write_checkpoint(
            &fresh.checkpoints().join(format!("run/step-{step:03}.safetensors")),
            &weights(step, if step < 20 { 1.0 } else { 2.0 }),
        );
    }
    let daemon = fresh.watch();
    let expected = fresh.wait_for("the same from scratch", |export| checkpoints(export) == 40);
    assert_eq!(after["checkpoints"], expected["checkpoints"]);
    assert!(daemon.stop().success());
}

#[test]
fn a_folder_that_is_not_there_yet_is_waited_for() {
    let place = Place::new("sinks: []");
    fs::remove_dir(place.checkpoints()).unwrap();
    let daemon = place.watch();
    place.wait_for("the state", |_| true);
    write_checkpoint(&place.checkpoints().join("run/step-1.safetensors"), &[1.0]);
    place.wait_for("the checkpoint", |export| checkpoints(export) == 1);
    assert_eq!(place.log().matches("the folder cannot be read").count(), 1, "{}", place.log());
    assert!(daemon.stop().success());
}
