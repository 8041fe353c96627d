//! What several tests need: the program, and files for it to read.

use std::path::Path;

use assert_cmd::Command;
use assert_cmd::assert::Assert;

/// The program, with an environment that says nothing.
pub(crate) fn doodl3() -> Command {
    let mut command = Command::cargo_bin("doodl3").unwrap();
    command
        .env_remove("DOODL3_LOG")
        .env_remove("DOODL3_LOG_FORMAT")
        .env("NO_COLOR", "1")
        .env("COLUMNS", "100");
    command
}

pub(crate) fn stdout(assert: &Assert) -> String {
    String::from_utf8(assert.get_output().stdout.clone()).unwrap()
}

pub(crate) fn stderr(assert: &Assert) -> String {
    String::from_utf8(assert.get_output().stderr.clone()).unwrap()
}

/// The bytes of a safetensors file with one tensor `w`.
pub(crate) fn checkpoint_bytes(weights: &[f32]) -> Vec<u8> {
    let bytes: Vec<u8> = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
    let header = format!(
        r#"{{"w":{{"dtype":"F32","shape":[{}],"data_offsets":[0,{}]}}}}"#,
        weights.len(),
        bytes.len()
    );
    let header = format!("{header:<width$}", width = header.len().next_multiple_of(8));
    [(header.len() as u64).to_le_bytes().as_slice(), header.as_bytes(), &bytes].concat()
}

/// Writes a checkpoint as good trainers do: whole under another name, then renamed.
pub(crate) fn write_checkpoint(path: &Path, weights: &[f32]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, checkpoint_bytes(weights)).unwrap();
    std::fs::rename(temporary, path).unwrap();
}
