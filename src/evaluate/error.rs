//! Why an evaluation gave no answer.

use std::fmt;
use std::time::Duration;

/// Why an evaluation gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum EvaluatorError {
    /// There is no evaluator that works here; a later attempt will hardly fare better.
    #[error("the evaluator cannot be used: {reason}; {advice}")]
    Unavailable {
        /// What is wrong.
        reason: String,
        /// What to do.
        advice: String,
    },
    /// The evaluator ended while it worked on this request.
    #[error("the evaluator crashed ({how}){}", last_words(stderr))]
    Crashed {
        /// How the process ended.
        how: End,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// The request was not answered in time, and the evaluator was stopped.
    #[error("the evaluator gave no answer within {} s{}", after.as_secs_f64(), last_words(stderr))]
    TimedOut {
        /// The deadline.
        after: Duration,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// The answer made no sense, and the evaluator was stopped.
    #[error("the evaluator answered with {what}{}", last_words(stderr))]
    Garbled {
        /// What came instead of an answer.
        what: String,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// The evaluator says why it cannot do it; it works on.
    #[error("{message}")]
    Failed {
        /// Its words.
        message: String,
    },
    /// A new evaluator could not load a model that an earlier one had loaded; the request itself was not tried.
    #[error("the model could not be loaded again after a restart of the evaluator")]
    Reload(#[source] Box<EvaluatorError>),
}

impl EvaluatorError {
    /// Whether this request cost the evaluator its life. Whoever asks twice for the same and meets this twice should not
    /// ask a third time.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Crashed { .. } | Self::TimedOut { .. } | Self::Garbled { .. })
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By this signal.
    Signal(i32),
    /// With this exit code.
    Code(i32),
    /// It closed its output and went on; it was stopped.
    Silent,
}

impl fmt::Display for End {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(9) => formatter.write_str("signal 9: killed, perhaps for want of memory"),
            Self::Signal(6) => formatter.write_str("signal 6: aborted"),
            Self::Signal(11) => formatter.write_str("signal 11: invalid memory access"),
            Self::Signal(7) => formatter.write_str("signal 7: bus error"),
            Self::Signal(signal) => write!(formatter, "signal {signal}"),
            Self::Code(code) => write!(formatter, "exit code {code}"),
            Self::Silent => formatter.write_str("it closed its output"),
        }
    }
}

fn last_words(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!("; its last words: {stderr}") }
}
