//! One shot over finished training.

use std::collections::BTreeMap;
use std::path::Path;

use crate::fixtures::{doodl3, stderr, stdout};
use crate::training::Training;

const CONFIG: &str = "version: 1\nanalysis: {grid: {subdivisions: 10}}\n";

/// Every file below a folder, with its bytes.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        files.insert(path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap());
    }
    files
}

#[test]
fn the_same_checkpoints_give_the_same_bytes_with_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("doodl3.yaml"), CONFIG).unwrap();
    Training::new(&folder.path().join("runs"), 3).steps(40);
    let analyze = |threads: &str, output: &str| {
        let mut command = doodl3();
        command.current_dir(folder.path()).env("RAYON_NUM_THREADS", threads);
        let assert = command.args(["analyze", "runs", "--output", output]).assert().success();
        (stdout(&assert).replace(output, "OUT"), files(&folder.path().join(output).join("runs")))
    };
    let first = analyze("1", "with-1-thread");
    assert!(first.0.contains("run-2") && first.1.contains_key("report.html"), "{}", first.0);
    assert_eq!(first, analyze("2", "with-2-threads"));
    assert_eq!(first, analyze("2", "once-more"));
    assert!(!folder.path().join(".doodl3").exists(), "it keeps no state");

    // What was written can be shown again.
    let show =
        |arguments: &[&str]| stdout(&doodl3().current_dir(folder.path()).args(arguments).assert().success());
    let file = "with-1-thread/runs/analysis.json";
    assert_eq!(show(&["show", file, "--format", "json"]).as_bytes(), first.1["analysis.json"]);
    assert_eq!(show(&["show", file, "--format", "dot"]).as_bytes(), first.1["morse_graph.dot"]);
    assert!(show(&["show", file]).contains("Morse graph"));
}

#[test]
fn alerts_fail_the_command_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("doodl3.yaml"), CONFIG).unwrap();
    Training::new(&folder.path().join("runs"), 2).steps(40);
    let analyze = |arguments: &[&str]| {
        let mut command = doodl3();
        command.current_dir(folder.path()).arg("analyze").args(arguments).assert()
    };
    analyze(&["runs"]).code(0);
    analyze(&["runs", "--fail-on", "warning"]).code(1);
    // Runs side by side are one group, as if the folder above had been named; the healthy one alone raises nothing.
    let both = stdout(&analyze(&["runs/run-0", "runs/run-1", "--fail-on", "critical"]).code(0));
    assert!(both.starts_with("runs: "), "{both}");
    analyze(&["runs/run-0", "--fail-on", "info"]).code(0);

    std::fs::create_dir(folder.path().join("empty")).unwrap();
    let empty = analyze(&["empty"]).code(3);
    assert!(stderr(&empty).contains("there is no checkpoint that can be read"), "{}", stderr(&empty));
    let file = analyze(&["doodl3.yaml"]).code(3);
    assert!(stderr(&file).contains("doodl3 inspect"), "{}", stderr(&file));
}
