//! Checkpoints as PyTorch and safetensors write them: read bit for bit as Python reads them, or refused in clear words.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use doodl3::checkpoint::{self, CheckpointError, Dtype, SketchParameters, Summary};
use doodl3::engine::Cancel;
use serde::Deserialize;

/// What `make.py` says about a file.
#[derive(Deserialize)]
struct Expected {
    tensors: Option<BTreeMap<String, ExpectedTensor>>,
    step: Option<u64>,
    epoch: Option<f64>,
    refused: Option<String>,
}

#[derive(Deserialize)]
struct ExpectedTensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: String,
}

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoints")
}

fn expected(folder: &Path) -> BTreeMap<String, Expected> {
    serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap()
}

pub(crate) fn summarize(path: &Path) -> Result<Summary, CheckpointError> {
    checkpoint::summarize(path, &SketchParameters::default(), &Cancel::new())
}

fn from_hexadecimal(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|digits| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap())
        .collect()
}

/// Reads every file of a folder that `make.py` wrote and compares it with what Python read.
fn compare_with_python(folder: &Path) {
    for (file, expected) in expected(folder) {
        let path = folder.join(&file);
        if let Some(words) = expected.refused {
            let error = summarize(&path).unwrap_err();
            let message = error.to_string();
            assert!(message.contains(&words), "{file}: `{message}` should say `{words}`");
            assert!(message.ends_with(&path.display().to_string()), "the path comes last: {message}");
            assert!(!error.is_transient(), "{file}");
            assert!(!checkpoint::looks_complete(&path).unwrap_or(false), "{file}");
            continue;
        }
        let opened = checkpoint::open(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
        let contents = opened.contents();
        let tensors = expected.tensors.unwrap();
        let names: Vec<_> = contents.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(names, tensors.keys().collect::<Vec<_>>(), "{file}");
        for (index, (info, tensor)) in contents.tensors.iter().zip(tensors.values()).enumerate() {
            assert_eq!((info.dtype, &info.shape), (tensor.dtype, &tensor.shape), "{file}: {}", info.name);
            let bytes = opened.read_bytes(index).unwrap();
            assert_eq!(bytes, from_hexadecimal(&tensor.bytes), "{file}: {}", info.name);
        }
        assert_eq!((contents.step, contents.epoch), (expected.step, expected.epoch), "{file}");
        assert!(checkpoint::looks_complete(&path).unwrap());
        summarize(&path).unwrap();
    }
}

#[test]
fn files_of_pytorch_and_safetensors_read_as_python_reads_them() {
    compare_with_python(&fixtures());
}

#[test]
fn files_that_python_writes_now_read_the_same() {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("third_party/pytorch-venv/bin/python");
    if !python.exists() {
        eprintln!("skipped: there is no {}", python.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let made =
        Command::new(&python).arg(fixtures().join("make.py")).arg(folder.path()).arg("1").output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    compare_with_python(folder.path());
}

#[test]
fn nothing_in_a_pickle_is_run() {
    let mark = Path::new("/tmp/doodl3-was-here");
    assert!(!mark.exists(), "remove {} first", mark.display());
    for file in ["runs_code.pt", "runs_code_beside.pt", "runs_code_within.pt"] {
        let opened = checkpoint::open(&fixtures().join(file));
        if let Ok(opened) = opened {
            assert_eq!(opened.contents().unknown_globals, ["posix.system"], "{file}");
        }
    }
    assert!(!mark.exists());
}

#[test]
fn the_same_weights_have_one_digest_in_every_format() {
    let digests: Vec<_> =
        ["state_dict.pt", "step-000450.safetensors", "checkpoint_epoch_0012.pt", "training.pt"]
            .map(|file| {
                let summary = summarize(&fixtures().join(file)).unwrap();
                (summary.digest, summary.signature, summary.sketch, summary.statistics, summary.coordinates)
            })
            .into_iter()
            .collect();
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "{digests:#?}");
}

#[test]
fn what_was_chosen_and_left_out_is_told() {
    let opened = checkpoint::open(&fixtures().join("training.pt")).unwrap();
    let contents = opened.contents();
    assert_eq!(
        contents.notes,
        [
            "the weights are those under `model_state_dict`",
            "`ema` is left out: it holds 138 weights, no more than `model_state_dict`",
            "left out as state of the training, not of the model: `optimizer_state_dict`, `rng_state`, `numpy_rng_state`",
        ]
    );
    let metadata: Vec<_> = contents.metadata.iter().map(|(key, value)| format!("{key} {value}")).collect();
    assert_eq!(metadata, ["best 0.5", "epoch 3", "loss 0.25", "step 1234"]);
    assert_eq!(contents.unknown_globals, [""; 0]);
}

#[test]
fn tied_tensors_count_once() {
    let path = fixtures().join("views.pt");
    let opened = checkpoint::open(&path).unwrap();
    let tensors = &opened.contents().tensors;
    let index = |name: &str| tensors.iter().position(|tensor| tensor.name == name).unwrap();
    assert_eq!(tensors[index("tied.b")].tied_to, Some(index("tied.a")));
    let summary = summarize(&path).unwrap();
    assert!(summary.statistics.iter().all(|statistics| statistics.name != "tied.b"));
}

#[test]
fn a_small_model_keeps_its_weights_and_its_integers_stay_out() {
    let path = fixtures().join("step-000450.safetensors");
    let summary = summarize(&path).unwrap();
    let opened = checkpoint::open(&path).unwrap();
    let tensors = &opened.contents().tensors;
    let mut weights = Vec::new();
    for (index, tensor) in tensors.iter().enumerate() {
        if tensor.name != "norm.num_batches_tracked" {
            weights.extend(opened.read_f32(index).unwrap());
        }
    }
    assert!(summary.sketch.exact);
    assert_eq!(summary.sketch.values, weights);
    assert_eq!(summary.parameters, weights.len() as u64);
    assert_eq!(summary.statistics.len(), tensors.len(), "integers have statistics, too");
    assert_eq!(summary.coordinates.len(), weights.len(), "all weights, since there are fewer than 256");
    assert!(summary.coordinates.iter().zip(&weights).all(|(coordinate, weight)| coordinate.value == *weight));
}

#[test]
fn numbers_that_are_none_are_counted_and_left_out() {
    let summary = summarize(&fixtures().join("dtypes.safetensors")).unwrap();
    for statistics in &summary.statistics {
        let is_float = ["f64", "f32", "f16", "bf16"].contains(&statistics.name.as_str());
        assert_eq!(statistics.nonfinite, if is_float { 2 } else { 0 }, "{}", statistics.name);
        assert!(statistics.norm.is_finite() && statistics.variance.is_finite(), "{}", statistics.name);
        assert!(statistics.sketch.iter().all(|value| value.is_finite()));
    }
    assert!(summary.sketch.values.iter().all(|value| value.is_finite()));
}

#[test]
fn a_file_that_changes_while_it_is_read_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    std::fs::copy(fixtures().join("step-000450.safetensors"), &path).unwrap();
    let opened = checkpoint::open(&path).unwrap();
    opened.check_unchanged().unwrap();
    // Replaced by another file, as a rename does it.
    std::fs::copy(&path, folder.path().join("b")).unwrap();
    std::fs::rename(folder.path().join("b"), &path).unwrap();
    let error = opened.check_unchanged().unwrap_err();
    assert!(matches!(error, CheckpointError::Changing { .. }) && error.is_transient());
}

#[test]
fn a_raised_flag_stops_the_reading() {
    let cancel = Cancel::new();
    cancel.raise();
    let path = fixtures().join("state_dict.pt");
    let error = checkpoint::summarize(&path, &SketchParameters::default(), &cancel).unwrap_err();
    assert!(matches!(error, CheckpointError::Cancelled { .. }));
}

#[test]
fn what_is_no_file_is_refused_without_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.pt");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in [folder.path(), &pipe] {
        assert!(matches!(checkpoint::open(path), Err(CheckpointError::Unsupported { .. })));
    }
    let missing = checkpoint::open(&folder.path().join("missing.pt")).unwrap_err();
    assert!(matches!(missing, CheckpointError::Io { .. }) && !missing.is_transient());
}
