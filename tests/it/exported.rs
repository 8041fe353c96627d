//! Programs of `torch.export` in the real evaluator: its losses equal PyTorch's, and files that would do harm do none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use doodl3::evaluate::protocol::{Model, Program};
use doodl3::evaluate::{Evaluator, EvaluatorError, Settings};
use serde::Deserialize;

const BINARY: &str = env!("CARGO_BIN_EXE_doodl3-evaluator");

/// What `tests/fixtures/evaluator/export.py` made, once for all tests.
static EXPORTS: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("third_party/pytorch-venv/bin/python");
    assert!(python.exists(), "{} is not there: run `make setup-python`", python.display());
    let folder = tempfile::tempdir().unwrap();
    let script = root.join("tests/fixtures/evaluator/export.py");
    let made = Command::new(python).arg("-B").arg(script).arg(folder.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    folder
});

#[derive(Deserialize)]
struct Expected {
    loss: f64,
    predictions: Vec<f32>,
}

fn case(name: &str) -> PathBuf {
    EXPORTS.path().join(name)
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn model(name: &str) -> Model {
    json(&case(name).join("model.json"))
}

async fn evaluator() -> Evaluator {
    let settings = Settings { binary: Some(BINARY.into()), ..Settings::default() };
    Evaluator::start(settings).await.unwrap()
}

/// Compares every checkpoint of a case with PyTorch.
async fn equals_pytorch(name: &str, tolerance: f64) {
    let evaluator = evaluator().await;
    let id = evaluator.load(model(name)).await.unwrap().id;
    let expected: BTreeMap<String, Expected> = json(&case(name).join("expected.json"));
    assert_eq!(expected.len(), 10);
    // Backwards and forwards: an answer does not depend on what was evaluated before.
    for checkpoint in expected.keys().rev().chain(expected.keys()) {
        let Expected { loss, predictions } = &expected[checkpoint];
        let answer = evaluator.evaluate(id, &case(name).join(checkpoint)).await.unwrap();
        let error = (answer.loss.unwrap() - loss).abs() / loss.abs();
        assert!(error <= tolerance, "{name}/{checkpoint}: loss {:?}, PyTorch {loss}", answer.loss);
        let largest = predictions.iter().fold(0_f32, |largest, value| largest.max(value.abs()));
        assert_eq!(answer.predictions.len(), predictions.len());
        for (ours, theirs) in answer.predictions.iter().zip(predictions) {
            let error = f64::from((ours - theirs).abs());
            assert!(error <= tolerance * f64::from(largest), "{name}/{checkpoint}: {ours}, PyTorch {theirs}");
        }
    }
}

#[tokio::test]
async fn dense_layers_equal_pytorch() {
    equals_pytorch("mlp", 1e-6).await;
}

#[tokio::test]
async fn numbers_of_half_precision_equal_pytorch() {
    equals_pytorch("mlp_bf16", 1e-3).await;
}

#[tokio::test]
async fn a_residual_network_gets_the_running_statistics_of_each_checkpoint() {
    equals_pytorch("resnet", 1e-6).await;
}

#[tokio::test]
async fn language_models_equal_pytorch_with_either_attention_and_tied_weights() {
    equals_pytorch("gpt", 1e-6).await;
    equals_pytorch("gpt_sdpa", 1e-6).await;
}

#[tokio::test]
async fn a_vision_transformer_equals_pytorch() {
    equals_pytorch("vit", 1e-6).await;
}

#[tokio::test]
async fn a_recurrent_network_equals_pytorch() {
    equals_pytorch("lstm", 1e-6).await;
}

#[tokio::test]
async fn a_network_of_images_to_images_equals_pytorch() {
    equals_pytorch("unet", 1e-6).await;
}

#[tokio::test]
async fn parts_without_gradients_constants_and_buffers_of_no_state_dict_equal_pytorch() {
    equals_pytorch("no_grad", 1e-6).await;
}

#[tokio::test]
async fn a_branch_automatic_casting_and_an_input_that_is_written_to_equal_pytorch() {
    equals_pytorch("in_place", 1e-6).await;
}

#[tokio::test]
async fn arithmetic_on_sizes_lists_and_texts_equal_pytorch() {
    equals_pytorch("sizes", 1e-6).await;
}

#[tokio::test]
async fn models_may_take_names_and_return_dictionaries_or_their_loss() {
    for name in ["by_name", "own_loss", "returned", "one_example"] {
        equals_pytorch(name, 1e-6).await;
    }
}

#[tokio::test]
async fn a_program_runs_on_a_batch_of_another_size_where_it_may() {
    let evaluator = evaluator().await;
    let probe_batch = model("one_example").probe_batch;
    let id = evaluator.load(Model { probe_batch, ..model("mlp") }).await.unwrap().id;
    let checkpoint = case("mlp").join("step-0.safetensors");
    assert_eq!(evaluator.evaluate(id, &checkpoint).await.unwrap().predictions.len(), 5);

    let probe_batch = model("mlp").probe_batch;
    let id = evaluator.load(Model { probe_batch, ..model("one_example") }).await.unwrap().id;
    let error = evaluator.evaluate(id, &checkpoint).await.unwrap_err();
    insta::assert_snapshot!(error, @"the probe batch does not fit the program: input has shape [16, 12], and the program takes [1, 12]; use the one that was exported with it, or export the program with a batch that is dynamic");
}

#[tokio::test]
async fn files_that_are_no_sound_programs_are_refused_and_the_evaluator_works_on() {
    let folder = case("hostile");
    let evaluator = evaluator().await;
    let sound = model("mlp");
    let checkpoint = case("mlp").join("step-0.safetensors");
    let mut refusals = Vec::new();
    let mut names: Vec<_> =
        folder.read_dir().unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    for name in names {
        let program = Program::Exported(folder.join(&name));
        let error = match evaluator.load(Model { program, ..sound.clone() }).await {
            Err(error) => error,
            Ok(loaded) => evaluator.evaluate(loaded.id, &checkpoint).await.unwrap_err(),
        };
        assert!(matches!(error, EvaluatorError::Failed { .. }), "{name}: {error}");
        let words = error.to_string().replace(&folder.display().to_string(), "FOLDER");
        refusals.push(format!("{name}: {words}"));
    }
    insta::assert_snapshot!("refused_programs", refusals.join("\n"));
    assert!(!folder.join("written").exists());
    let id = evaluator.load(sound).await.unwrap().id;
    assert!(evaluator.evaluate(id, &checkpoint).await.unwrap().loss.is_some());
}
