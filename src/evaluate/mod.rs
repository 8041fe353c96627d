//! Evaluation of checkpoints through libtorch, in a child process.
//!
//! libtorch can crash, hang or use up the memory on a bad module or checkpoint. So it lives in `doodl3-evaluator`;
//! this side, [`Evaluator`], speaks to it through pipes ([`protocol`]), gives every request a deadline, and starts
//! another child when one is lost. Nothing here links libtorch.

mod error;
mod locate;
mod process;
pub mod protocol;

pub use error::EvaluatorError;
pub use process::{Evaluation, Evaluator, LoadedModel, ModelId, Settings};
