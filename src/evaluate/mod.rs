//! Evaluation of checkpoints through libtorch, in a child process.

pub mod protocol;
