//! Integration tests: real files, real processes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod analyze;
mod checkpoint;
mod cli;
mod daemon;
mod detect;
mod detect_training;
mod engine_analyze;
mod engine_forecast;
mod engine_ground_truth;
mod engine_homology;
mod engine_iris;
mod engine_paper;
mod engine_peer;
mod engine_properties;
mod engine_scikit_learn;
mod evaluator;
#[cfg(feature = "torch")]
mod exported;
mod fixtures;
mod hostile_checkpoint;
mod iris;
mod layers;
#[cfg(feature = "torch")]
mod libtorch;
mod mlflow;
mod render;
mod resume;
mod sdk;
mod setup;
mod training;
mod wandb;
mod watch;
