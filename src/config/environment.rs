//! Every environment variable that doodl3 reads.

/// Filter of the log, such as `debug` or `doodl3=trace`; stands above `-v` and `-q`.
pub const LOG: &str = "DOODL3_LOG";

/// Form of the log: `text` or `json`; as `--log-format`.
pub const LOG_FORMAT: &str = "DOODL3_LOG_FORMAT";

/// The evaluator's binary, where it is neither beside this program nor in `PATH`.
pub const EVALUATOR: &str = "DOODL3_EVALUATOR";

/// Any value but the empty one: no colours.
pub const NO_COLOR: &str = "NO_COLOR";
