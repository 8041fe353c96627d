//! What the agent and `doodl3-evaluator` say to each other.
//!
//! Frames on the child's standard input and output: four bytes of length, little endian, then JSON. Tensors go by path,
//! never through the pipe. One request is under way at a time; every request gets exactly one [`Response`], but
//! [`Request::Train`], which is answered by any number of [`Response::Progress`] before its end.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Version of this protocol; the child tells its own in [`Response::Ready`].
pub const VERSION: u32 = 2;

/// Largest frame that either side accepts, in bytes.
pub const MAX_FRAME: usize = 64 << 20;

/// Length of a frame's prefix, in bytes.
pub const PREFIX: usize = 4;

/// Why a frame could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The length is above [`MAX_FRAME`].
    #[error("a frame of {length} bytes, more than the {MAX_FRAME} that are allowed")]
    TooLong {
        /// The length in bytes.
        length: usize,
    },
    /// Not the JSON of the expected message.
    #[error("a frame that is no message of this protocol")]
    Json(#[from] serde_json::Error),
}

/// A message as a frame: length prefix and JSON.
///
/// # Errors
/// [`FrameError::TooLong`] above [`MAX_FRAME`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; PREFIX];
    serde_json::to_writer(&mut frame, message)?;
    let length = frame.len() - PREFIX;
    match u32::try_from(length) {
        Ok(prefix) if length <= MAX_FRAME => frame[..PREFIX].copy_from_slice(&prefix.to_le_bytes()),
        _ => return Err(FrameError::TooLong { length }),
    }
    Ok(frame)
}

/// Length of the JSON that follows a prefix; to be asked before memory is set aside for it.
///
/// # Errors
/// [`FrameError::TooLong`] above [`MAX_FRAME`].
pub fn length(prefix: [u8; PREFIX]) -> Result<usize, FrameError> {
    let length = u32::from_le_bytes(prefix) as usize;
    if length > MAX_FRAME { Err(FrameError::TooLong { length }) } else { Ok(length) }
}

/// The message of a frame, from its JSON.
///
/// # Errors
/// [`FrameError::Json`] if it is no such message.
pub fn decode<T: DeserializeOwned>(json: &[u8]) -> Result<T, FrameError> {
    Ok(serde_json::from_slice(json)?)
}

/// How a model is rebuilt from a checkpoint's tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Program {
    /// A program of `torch.export` (.pt2); its parameters and buffers are replaced by name.
    Exported(PathBuf),
    /// A TorchScript module saved with `torch.jit.save`; its parameters and buffers are replaced by name.
    Module(PathBuf),
    /// A plain stack of layers.
    Architecture(Vec<Layer>),
}

/// One layer of an architecture. Parameters are named as PyTorch's `nn.Sequential` names them, by position
/// (`0.weight`, `0.bias`), unless `name` says otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Layer {
    /// y = W x + b, W of shape (outputs, inputs).
    Dense {
        /// Name of the layer in the checkpoint; by default its position.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// Two-dimensional cross-correlation, W of shape (outputs, inputs, height, width).
    Convolution {
        /// Name of the layer in the checkpoint; by default its position.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Step of the window.
        #[serde(default = "one")]
        stride: i64,
        /// Zeros added on each side.
        #[serde(default)]
        padding: i64,
    },
    /// Largest value of each window.
    MaxPooling {
        /// Side of the window.
        size: i64,
    },
    /// Mean of each window.
    MeanPooling {
        /// Side of the window.
        size: i64,
    },
    /// Rectified linear unit.
    Relu {},
    /// Hyperbolic tangent.
    Tanh {},
    /// Logistic function.
    Sigmoid {},
    /// Softmax over the last axis (inside the network; the loss has its own).
    Softmax {},
    /// Dropout: nothing when evaluating.
    Dropout {
        /// Share of units dropped when training.
        share: f64,
    },
    /// All axes but the first made one.
    Flatten {},
}

fn one() -> i64 {
    1
}

/// The loss that is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Cross-entropy of logits with class indices; predictions are their softmax.
    CrossEntropy,
    /// Mean squared error; predictions are the raw outputs.
    MeanSquaredError,
    /// The program returns the loss itself.
    Returned,
}

/// What to evaluate, on what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// The program.
    pub program: Program,
    /// Probe batch: a safetensors file with `input` (or `input.0`, `input.1`, …) and `target`.
    pub probe_batch: PathBuf,
    /// The loss.
    pub loss: Loss,
    /// `cpu`, or `cuda:0` where libtorch has it.
    pub device: String,
}

/// The agent's side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Load a model and its probe batch; later evaluations name it.
    Load {
        /// The agent's name for it.
        id: u64,
        /// What to load.
        model: Model,
    },
    /// Evaluate a checkpoint.
    Evaluate {
        /// A loaded model.
        id: u64,
        /// The checkpoint's file.
        checkpoint: PathBuf,
    },
    /// Train the networks of the demonstration, writing checkpoints as a trainer would.
    Train(Training),
}

/// The child's side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// First frame after the start.
    Ready {
        /// [`VERSION`] of the child.
        protocol: u32,
        /// Version of libtorch.
        libtorch: String,
    },
    /// A model is loaded.
    Loaded {
        /// Parameters (and buffers) that a checkpoint must bring, with shapes; empty for architectures, where only the
        /// checkpoint tells.
        parameters: BTreeMap<String, Vec<i64>>,
    },
    /// A checkpoint was evaluated.
    Evaluated {
        /// Loss on the probe batch; `None` where it is not finite.
        loss: Option<f64>,
        /// Predictions, flattened over examples; empty where one of them is not finite. Sketched to 4,096 numbers where
        /// there are more.
        predictions: Vec<f32>,
    },
    /// Training goes on.
    Progress {
        /// Epochs done.
        epoch: u64,
        /// Of so many.
        epochs: u64,
    },
    /// Training has ended.
    Trained,
    /// The request failed; the child goes on.
    Failed {
        /// What happened, where, what to do.
        message: String,
    },
}

/// A demonstration's training: softmax regressions on Iris from many initial weights, and three that go wrong.
///
/// Each run gets a folder `runs/RUN` in `directory` with `metrics.jsonl` and `step-STEP.safetensors`, the first of them
/// before any update, at step 0. The held-out examples are written to `probe.safetensors` in `directory` before
/// training begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// Directory that gets `runs` and `probe.safetensors`; made if it is not there. `runs` must be empty.
    pub directory: PathBuf,
    /// Number of healthy runs.
    pub healthy: usize,
    /// Epochs of each run, at least one.
    pub epochs: u64,
    /// A checkpoint after every so many epochs, at least one.
    pub checkpoint_every: u64,
    /// Wall-clock time that the whole training is stretched to at least, in milliseconds, so that it can be watched.
    pub stretch_ms: u64,
    /// Seed of all random numbers.
    pub seed: u64,
}
