//! The outside systems, a file for each: where checkpoints come from, and where reports go.

pub mod directory;
pub mod http;
pub mod metrics;
pub mod mlflow;
mod names;
mod tolerant;
pub mod tracker;
pub mod wandb;
