//! Where the evaluator's binary is.

use std::env;
use std::path::{Path, PathBuf};

use super::EvaluatorError;
use crate::config::EVALUATOR;

const NAME: &str = "doodl3-evaluator";

/// The binary: as named, else as `DOODL3_EVALUATOR` names it, else beside this program, else in `PATH`.
pub(super) fn locate(named: Option<&Path>) -> Result<PathBuf, EvaluatorError> {
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    if let Some(path) = env::var_os(EVALUATOR).filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let program = env::current_exe().unwrap_or_default();
    let path = env::var_os("PATH").unwrap_or_default();
    let beside = program.parent().map(Path::to_owned);
    let mut candidates = beside.into_iter().chain(env::split_paths(&path)).map(|folder| folder.join(NAME));
    candidates.find(|path| path.is_file()).ok_or_else(|| EvaluatorError::Unavailable {
        reason: format!("{NAME} is neither beside {} nor in PATH", program.display()),
        advice: format!(
            "build it, with libtorch (make build), or name it in {EVALUATOR}; without it losses and predictions are \
             not evaluated"
        ),
    })
}
