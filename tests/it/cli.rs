//! The command line: what people type, what they are told.

use assert_cmd::Command;
use insta::assert_snapshot;

use crate::fixtures::{doodl3, stderr, stdout, write_checkpoint};

fn in_folder(folder: &tempfile::TempDir) -> Command {
    let mut command = doodl3();
    command.current_dir(folder.path());
    command
}

#[test]
fn init_writes_a_configuration_that_works_and_never_overwrites() {
    let folder = tempfile::tempdir().unwrap();
    in_folder(&folder).arg("init").assert().success().stdout("");
    let again = in_folder(&folder).arg("init").assert().code(3);
    assert_snapshot!(stderr(&again), @r#"
    error: cannot write doodl3.yaml
      because: File exists (os error 17)
    hint: it is left as it is; name another file
    "#);
    std::fs::create_dir(folder.path().join("checkpoints")).unwrap();
    let check = in_folder(&folder).arg("check").assert().success();
    assert!(
        stdout(&check).contains("ok      source checkpoints: is readable; no checkpoints yet"),
        "{}",
        stdout(&check)
    );
}

/// What `check` says of all but the evaluator: that depends on how this was built.
fn but_the_evaluator(said: &str) -> String {
    let (evaluator, others): (Vec<&str>, Vec<&str>) =
        said.lines().partition(|line| line.starts_with("ok      evaluator: "));
    assert!(matches!(evaluator[..], [line] if line.contains("no model is configured")), "{said}");
    others.join("\n")
}

#[test]
fn check_says_what_it_found_and_what_failed() {
    let folder = tempfile::tempdir().unwrap();
    write_checkpoint(&folder.path().join("checkpoints/a/step-10.safetensors"), &[1.0, 2.0]);
    let good = in_folder(&folder).arg("check").assert().success();
    assert_snapshot!(but_the_evaluator(&stdout(&good)), @r#"
    ok      configuration: is valid
    ok      source checkpoints: 1 checkpoint of 1 run, no metrics.jsonl; the first, a/step-10.safetensors, is read as experiment checkpoints, run a, step 10
    ok      state: ./.doodl3 can be written
    ok      sink ./doodl3-reports: can be written
    "#);
    std::fs::remove_dir_all(folder.path().join("checkpoints")).unwrap();
    std::fs::remove_dir_all(folder.path().join("doodl3-reports")).unwrap();
    std::fs::write(folder.path().join("doodl3-reports"), "in the way").unwrap();
    let bad = in_folder(&folder).arg("check").assert().code(3);
    assert_snapshot!(but_the_evaluator(&stdout(&bad)), @r#"
    ok      configuration: is valid
    FAILED  source checkpoints: the folder cannot be read: No such file or directory (os error 2): ./checkpoints
    ok      state: ./.doodl3 can be written
    FAILED  sink ./doodl3-reports: File exists (os error 17) (hint: check its permissions, or name another folder)
    "#);
    in_folder(&folder).args(["check", "--offline"]).assert().success();
}

#[test]
fn a_wrong_configuration_ends_with_2_and_the_place() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("doodl3.yaml"), "version: 1\nsinks: []\nsource: []\n").unwrap();
    let wrong = in_folder(&folder).arg("check").assert().code(2);
    assert_snapshot!(stderr(&wrong), @r#"
    error: doodl3.yaml: line 3 column 1: unknown field `source`, expected one of version, state_dir, sources, model, analysis, detectors, sinks
     --> doodl3.yaml:3:1
      |
    1 | version: 1
    2 | sinks: []
    3 | source: []
      | ^ unknown field `source`, expected one of version, state_dir, sources, model, analysis, detectors, sinks
    hint: `doodl3 init` writes a commented example, `doodl3 config schema` tells every field
    "#);
    in_folder(&folder).arg("frobnicate").assert().code(2);
}

#[test]
fn the_schema_is_the_one_that_is_checked_in() {
    let schema = stdout(&doodl3().args(["config", "schema"]).assert().success());
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config.schema.json");
    let checked_in = std::fs::read_to_string(file).unwrap_or_default();
    assert_eq!(checked_in, schema, "run `cargo run -- config schema > config.schema.json`");
}

#[test]
fn config_show_prints_what_is_in_force_and_it_can_be_read_again() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("doodl3.yaml"), "version: 1\nanalysis: {every: 7}\n").unwrap();
    let shown = stdout(&in_folder(&folder).args(["config", "show"]).assert().success());
    assert!(shown.contains("every: 7") && shown.contains("settle: 2s"), "{shown}");
    std::fs::write(folder.path().join("doodl3.yaml"), &shown).unwrap();
    assert_eq!(stdout(&in_folder(&folder).args(["config", "show"]).assert().success()), shown);
}

#[test]
fn inspect_shows_tensors_and_says_why_a_file_is_none() {
    let folder = tempfile::tempdir().unwrap();
    write_checkpoint(&folder.path().join("step-10.safetensors"), &[3.0, -4.0, 0.0, f32::NAN]);
    let shown = stdout(&in_folder(&folder).args(["inspect", "step-10.safetensors"]).assert().success());
    assert_snapshot!(shown, @r#"
    format     safetensors
    size       80 bytes
    step       10
    parameters 4
    digest     901fcb0e66ccb5c177b6e7183bb12323d3cb93ee0b98ad46a4797c5939b0d9b2
    signature  76821d308449341ca2b35dcb170264585b219497c2748b2f1ba9d454e5bbaa43
    note       the step is taken from the file's name, since the file holds none
    warning    1 elements are NaN or infinite

    tensor  type  shape    norm     mean      min     max  zeros  non-finite
    w       f32   [4]    5.0000  -0.3333  -4.0000  3.0000      1           1
    "#);
    let json =
        stdout(&in_folder(&folder).args(["inspect", "--json", "step-10.safetensors"]).assert().success());
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["statistics"][0]["norm"], 5.0);

    std::fs::write(folder.path().join("notes.pt"), "no checkpoint").unwrap();
    let refused = in_folder(&folder).args(["inspect", "notes.pt"]).assert().code(3);
    assert_snapshot!(stderr(&refused), @r#"error: this is neither a safetensors file nor one that torch.save wrote; save the weights as safetensors, or with torch.save(model.state_dict(), …): notes.pt"#);
}

#[test]
fn completions_know_the_commands() {
    let bash = stdout(&doodl3().args(["completions", "bash"]).assert().success());
    assert!(bash.contains("inspect") && bash.contains("completions"));
}
