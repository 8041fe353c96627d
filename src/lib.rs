//! doodl3 tells people what their neural-network training is really doing.
//!
//! Checkpoints are reduced to small sketches, training is treated as a dynamical system on a low-dimensional
//! projection of them, and its Morse graph says where training can get caught, what it only passes through, and
//! which starting points end where. `ARCHITECTURE.md` has the flow and one line for each module.

pub mod adapters;
pub mod agent;
pub mod alert;
pub mod artifact;
pub mod checkpoint;
pub mod compute;
pub mod config;
pub mod detect;
pub mod engine;
pub mod evaluate;
pub mod render;
pub mod store;
pub mod telemetry;
pub mod watch;
