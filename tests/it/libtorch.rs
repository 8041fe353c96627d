//! The real evaluator: its answers equal PyTorch's, it survives what models do, and it never outlives its agent.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use doodl3::evaluate::protocol::{self, Layer, Loss, Model, Program, Request, Training};
use doodl3::evaluate::{Evaluator, EvaluatorError, Settings};
use serde::Deserialize;

const BINARY: &str = env!("CARGO_BIN_EXE_doodl3-evaluator");

/// What `tests/fixtures/evaluator/models.py` made, once for all tests.
static MODELS: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("third_party/pytorch-venv/bin/python");
    assert!(python.exists(), "{} is not there: run `make setup-python`", python.display());
    let folder = tempfile::tempdir().unwrap();
    let script = root.join("tests/fixtures/evaluator/models.py");
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
    MODELS.path().join(name)
}

fn model(folder: &Path) -> Model {
    serde_json::from_slice(&std::fs::read(folder.join("model.json")).unwrap()).unwrap()
}

async fn evaluator() -> Evaluator {
    let settings = Settings { binary: Some(BINARY.into()), ..Settings::default() };
    Evaluator::start(settings).await.unwrap()
}

/// Compares every checkpoint of a case with PyTorch; the predictions, for what else a test wants to know.
async fn equals_pytorch(name: &str) -> BTreeMap<String, Vec<f32>> {
    let folder = case(name);
    let evaluator = evaluator().await;
    let id = evaluator.load(model(&folder)).await.unwrap().id;
    let expected: BTreeMap<String, Expected> =
        serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
    assert!(!expected.is_empty());
    let mut all = BTreeMap::new();
    // Backwards and forwards: an answer does not depend on what was evaluated before.
    for checkpoint in expected.keys().rev().chain(expected.keys()) {
        let Expected { loss, predictions } = &expected[checkpoint];
        let answer = evaluator.evaluate(id, &folder.join(checkpoint)).await.unwrap();
        let error = (answer.loss.unwrap() - loss).abs() / loss.abs();
        assert!(error < 1e-6, "{name}/{checkpoint}: loss {:?}, PyTorch {loss}", answer.loss);
        if predictions.len() <= 4096 {
            let largest = predictions.iter().fold(0_f32, |largest, value| largest.max(value.abs()));
            assert_eq!(answer.predictions.len(), predictions.len());
            for (ours, theirs) in answer.predictions.iter().zip(predictions) {
                assert!(
                    (ours - theirs).abs() <= 1e-6 * largest,
                    "{name}/{checkpoint}: {ours}, PyTorch {theirs}"
                );
            }
        }
        all.insert(checkpoint.clone(), answer.predictions);
    }
    all
}

#[tokio::test]
async fn dense_layers_equal_pytorch() {
    equals_pytorch("mlp").await;
}

#[tokio::test]
async fn convolutions_and_pooling_equal_pytorch() {
    equals_pytorch("cnn").await;
}

#[tokio::test]
async fn a_module_with_a_mask_equals_pytorch() {
    equals_pytorch("module_mlp").await;
}

#[tokio::test]
async fn a_module_gets_the_buffers_of_each_checkpoint_and_may_print() {
    equals_pytorch("module_conv_bn").await;
}

#[tokio::test]
async fn a_language_model_with_tied_weights_equals_pytorch() {
    equals_pytorch("module_language").await;
}

#[tokio::test]
async fn a_module_may_return_the_loss_itself() {
    equals_pytorch("module_returns_loss").await;
}

#[tokio::test]
async fn many_predictions_are_sketched_and_keep_their_distances() {
    let sketches: Vec<_> = equals_pytorch("wide").await.into_values().collect();
    let expected: BTreeMap<String, Expected> =
        serde_json::from_slice(&std::fs::read(case("wide").join("expected.json")).unwrap()).unwrap();
    let full: Vec<_> = expected.into_values().map(|expected| expected.predictions).collect();
    let distance = |pair: &[Vec<f32>]| {
        pair[0].iter().zip(&pair[1]).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
    };
    assert_eq!(sketches[0].len(), 4096);
    let ratio = distance(&sketches) / distance(&full);
    // Six standard deviations of a squared distance, √(2/4096), and half of that for the distance.
    assert!((ratio - 1.).abs() < 0.066, "{ratio}");
}

#[tokio::test]
async fn what_goes_wrong_in_a_model_is_told_and_the_evaluator_works_on() {
    let folder = case("hostile");
    let settings =
        Settings { binary: Some(BINARY.into()), timeout: Duration::from_secs(5), ..Settings::default() };
    let evaluator = Evaluator::start(settings).await.unwrap();
    let id = evaluator.load(model(&folder)).await.unwrap().id;
    let evaluate = async |name: &str| evaluator.evaluate(id, &folder.join(name)).await;
    let failure = async |name: &str| {
        let error = evaluate(name).await.unwrap_err();
        assert!(matches!(error, EvaluatorError::Failed { .. }), "{error}");
        error.to_string().replace(&folder.display().to_string(), "FOLDER")
    };

    let lost = evaluate("endless.safetensors").await.unwrap_err();
    assert!(matches!(lost, EvaluatorError::TimedOut { .. }), "{lost}");
    let nan = evaluate("nan.safetensors").await.unwrap();
    assert_eq!((nan.loss, nan.predictions), (None, Vec::new()));
    insta::assert_snapshot!(failure("raises.safetensors").await, @"the program failed on the probe batch: builtins.ValueError: two is not allowed");
    insta::assert_snapshot!(failure("misfit.safetensors").await, @"the checkpoint cannot be evaluated: FOLDER/misfit.safetensors: it is not one of this model: the model has no unknown; of another shape: weight ([2], in the model [1]); check that `model` in the configuration is what is being trained");
    insta::assert_snapshot!(failure("lacking.safetensors").await, @"the checkpoint cannot be evaluated: FOLDER/lacking.safetensors: it is not one of this model: it lacks weight; the model has no other; check that `model` in the configuration is what is being trained");
    insta::assert_snapshot!(failure("gone.safetensors").await, @"the file cannot be read: FOLDER/gone.safetensors: No such file or directory (os error 2)");
    assert_eq!(evaluate("fine.safetensors").await.unwrap().loss, Some(9.));
}

#[tokio::test]
async fn a_model_that_cannot_be_used_is_refused_with_the_reason() {
    let folder = case("mlp");
    let sound = model(&folder);
    let evaluator = evaluator().await;
    let refusal = async |model: Model| {
        let error = evaluator.load(model).await.unwrap_err();
        assert!(matches!(error, EvaluatorError::Failed { .. }), "{error}");
        error.to_string().replace(&MODELS.path().display().to_string(), "MODELS")
    };
    let checkpoint = folder.join("step-0.safetensors");
    insta::assert_snapshot!(refusal(Model { program: Program::Module(checkpoint.clone()), ..sound.clone() }).await, @"this is no TorchScript module that libtorch 2.13 can load (torch.jit.save writes them; a state dict is none, nor is a .pt2, which goes by `program`): MODELS/mlp/step-0.safetensors: PytorchStreamReader failed reading zip archive: failed finding central directory");
    insta::assert_snapshot!(refusal(Model { probe_batch: checkpoint, ..sound.clone() }).await, @"the probe batch holds an unknown tensor module._orig_mod.0.bias; a probe batch holds input (or input.0, input.1, …), target and, if need be, mask: MODELS/mlp/step-0.safetensors");
    insta::assert_snapshot!(refusal(Model { device: "cuda:0".into(), ..sound.clone() }).await, @"device cuda:0 cannot be used: libtorch sees no such device here; use cpu");
    insta::assert_snapshot!(refusal(Model { device: "tpu".into(), ..sound.clone() }).await, @"device tpu cannot be used: there are cpu and cuda:N");
    insta::assert_snapshot!(refusal(Model { loss: Loss::Returned, ..sound.clone() }).await, @"the program is said to return the loss, but the probe batch has a target: pass what the program needs as input.0, input.1, …, or name the loss");

    let other = Model { loss: Loss::MeanSquaredError, ..sound.clone() };
    let id = evaluator.load(other).await.unwrap().id;
    let error = evaluator.evaluate(id, &folder.join("step-0.safetensors")).await.unwrap_err();
    insta::assert_snapshot!(error, @"there is no loss for an output of shape [16, 3] and a target of shape [16]: they must have the same shape");

    let layers = vec![
        Layer::Dense { name: None },
        Layer::Relu {},
        Layer::Dense { name: None },
        Layer::Tanh {},
        Layer::Dense { name: None },
        Layer::Flatten {},
        Layer::MaxPooling { size: 2 },
    ];
    let id = evaluator.load(Model { program: Program::Architecture(layers), ..sound }).await.unwrap().id;
    let error = evaluator.evaluate(id, &folder.join("step-0.safetensors")).await.unwrap_err();
    insta::assert_snapshot!(error, @"layer 6 (max_pooling) cannot take an input of shape [16, 3]: non-empty 3D or 4D (batch mode) tensor expected for input");
}

#[test]
fn the_evaluator_finds_libtorch_in_an_empty_environment_and_ends_with_its_input() {
    let output = Command::new(BINARY).env_clear().stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let ready: protocol::Response = protocol::decode(&output.stdout[protocol::PREFIX..]).unwrap();
    assert_eq!(ready, protocol::Response::Ready { protocol: protocol::VERSION, libtorch: "2.13.0".into() });
}

#[test]
fn the_evaluator_ends_when_its_agent_is_gone_whatever_it_is_doing() {
    let folder = case("hostile");
    let mut child = Command::new(BINARY).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut requests = child.stdin.take().unwrap();
    let mut answers = child.stdout.take().unwrap();
    let mut next = || {
        let mut prefix = [0; protocol::PREFIX];
        answers.read_exact(&mut prefix).unwrap();
        let mut json = vec![0; protocol::length(prefix).unwrap()];
        answers.read_exact(&mut json).unwrap();
    };
    next();
    requests.write_all(&protocol::encode(&Request::Load { id: 0, model: model(&folder) }).unwrap()).unwrap();
    next();
    let endless = Request::Evaluate { id: 0, checkpoint: folder.join("endless.safetensors") };
    requests.write_all(&protocol::encode(&endless).unwrap()).unwrap();
    // As when the agent is killed: the pipe closes and nobody says anything.
    drop(requests);
    assert!(!child.wait().unwrap().success());
}

#[test]
fn the_agent_does_not_link_libtorch() {
    let output = Command::new("ldd").arg(env!("CARGO_BIN_EXE_doodl3")).output().unwrap();
    let libraries = String::from_utf8(output.stdout).unwrap();
    assert!(libraries.contains("libc.so") && !libraries.contains("torch"), "{libraries}");
}

fn training(directory: &Path) -> Training {
    Training {
        directory: directory.to_owned(),
        healthy: 2,
        epochs: 25,
        checkpoint_every: 10,
        stretch_ms: 0,
        seed: 1,
    }
}

#[tokio::test]
async fn training_leaves_what_a_trainer_leaves_and_the_same_for_the_same_seed() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let evaluator = evaluator().await;
    for folder in &folders {
        let mut epochs_heard = Vec::new();
        evaluator.train(training(folder.path()), |epoch, _| epochs_heard.push(epoch)).await.unwrap();
        assert_eq!(epochs_heard, (1..=25).collect::<Vec<_>>());
    }
    let runs = folders[0].path().join("runs");
    let mut names: Vec<_> =
        runs.read_dir().unwrap().map(|run| run.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["rate-growing", "rate-spike", "seed-000", "seed-001", "sgd-rate-20.6"]);

    let layers = vec![Layer::Dense { name: None }];
    let model = Model {
        program: Program::Architecture(layers),
        probe_batch: folders[0].path().join("probe.safetensors"),
        loss: Loss::CrossEntropy,
        device: "cpu".into(),
    };
    let id = evaluator.load(model).await.unwrap().id;
    for run in &names {
        let files: Vec<_> = {
            let mut files: Vec<_> = runs
                .join(run)
                .read_dir()
                .unwrap()
                .map(|file| file.unwrap().file_name().into_string().unwrap())
                .collect();
            files.sort();
            files
        };
        assert_eq!(
            files,
            [
                "metrics.jsonl",
                "step-000000.safetensors",
                "step-000150.safetensors",
                "step-000300.safetensors",
                "step-000375.safetensors"
            ]
        );
        for file in &files {
            let [first, second] =
                [0, 1].map(|i| std::fs::read(folders[i].path().join("runs").join(run).join(file)).unwrap());
            assert!(first == second, "{run}/{file} differs");
        }
        let metrics = std::fs::read_to_string(runs.join(run).join("metrics.jsonl")).unwrap();
        let metrics: Vec<serde_json::Value> =
            metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(metrics.len(), 26);
        for line in metrics.iter().filter(|line| line.get("eval/loss").is_some()) {
            let step = line["step"].as_u64().unwrap();
            let checkpoint = runs.join(run).join(format!("step-{step:06}.safetensors"));
            let contents = doodl3::checkpoint::open(&checkpoint).unwrap().contents().clone();
            assert_eq!((contents.step, contents.epoch), (Some(step), Some(step as f64 / 15.)));
            let loss = evaluator.evaluate(id, &checkpoint).await.unwrap().loss.unwrap();
            let logged = line["eval/loss"].as_f64().unwrap();
            assert!((loss - logged).abs() <= 1e-6 * logged, "{run} at {step}: {loss}, logged {logged}");
        }
    }

    let error = evaluator.train(training(folders[0].path()), |_, _| {}).await.unwrap_err().to_string();
    insta::assert_snapshot!(error.replace(&folders[0].path().display().to_string(), "FOLDER"), @"there are runs already: remove them or choose another directory: FOLDER/runs");
}
