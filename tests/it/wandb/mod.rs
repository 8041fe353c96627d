//! Weights & Biases: its own SDK, and the agent, against a server in this process.

mod agent;
pub(crate) mod double;
mod faults;
mod folder;
mod log;
mod smoke;
mod tour;
