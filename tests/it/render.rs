//! The report and its pictures, from a sample that is made up and from hostile variants of it.

mod sample;

use std::path::PathBuf;

use doodl3::artifact::Artifact;
use doodl3::render::{ReportInput, artifacts};

use sample::{Size, report};

/// Renders, and leaves the files where a person can look at them: `target/tmp/report/NAME/`.
fn render(name: &str, input: &ReportInput) -> Vec<Artifact> {
    let artifacts = artifacts(input).expect("a report");
    let folder: PathBuf = [env!("CARGO_TARGET_TMPDIR"), "report", name].iter().collect();
    std::fs::create_dir_all(&folder).expect("a folder");
    for artifact in &artifacts {
        std::fs::write(folder.join(&artifact.name), &artifact.bytes).expect("a file");
    }
    artifacts
}

#[test]
fn a_hundred_runs() {
    let artifacts = render("hundred", &report(Size::default()));
    for a in &artifacts {
        println!("{} {}", a.name, a.bytes.len());
    }
}
