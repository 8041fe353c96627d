//! Why a checkpoint was not read.

use std::io;
use std::path::{Path, PathBuf};

/// Why a checkpoint was not read, and whether waiting may help ([`CheckpointError::is_transient`]).
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The operating system refused.
    #[error("the file cannot be read{}: {}", hint(source), path.display())]
    Io {
        /// What it said.
        source: io::Error,
        /// The file.
        path: PathBuf,
    },
    /// The file ends too early: it is being written, or the writer died.
    #[error("the file is incomplete ({what}); it is still being written, or its writer died: {}", path.display())]
    Incomplete {
        /// What is missing.
        what: String,
        /// The file.
        path: PathBuf,
    },
    /// The file was written to, or replaced, while it was read.
    #[error("the file changed while it was read: {}", path.display())]
    Changing {
        /// The file.
        path: PathBuf,
    },
    /// The file contradicts itself: damaged, or made to do harm. Nothing in it was run.
    #[error("the file is damaged or hostile ({what}); save it again, or remove it: {}", path.display())]
    Damaged {
        /// What is wrong.
        what: String,
        /// The file.
        path: PathBuf,
    },
    /// The file is sound, as far as was looked, but of a kind that is not read.
    #[error("{what}; {advice}: {}", path.display())]
    Unsupported {
        /// What it is.
        what: String,
        /// What to do instead.
        advice: String,
        /// The file.
        path: PathBuf,
    },
    /// The caller asked to stop.
    #[error("reading was stopped: {}", path.display())]
    Cancelled {
        /// The file.
        path: PathBuf,
    },
}

impl CheckpointError {
    /// Whether the same file may be read without error later, without anyone repairing it.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Io { source, .. } => !matches!(
                source.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::PermissionDenied
                    | io::ErrorKind::IsADirectory
                    | io::ErrorKind::NotADirectory
                    | io::ErrorKind::InvalidInput
                    | io::ErrorKind::Unsupported
            ),
            Self::Incomplete { .. } | Self::Changing { .. } | Self::Cancelled { .. } => true,
            Self::Damaged { .. } | Self::Unsupported { .. } => false,
        }
    }

    /// The file in question.
    pub fn path(&self) -> &Path {
        match self {
            Self::Io { path, .. }
            | Self::Incomplete { path, .. }
            | Self::Changing { path }
            | Self::Damaged { path, .. }
            | Self::Unsupported { path, .. }
            | Self::Cancelled { path } => path,
        }
    }
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            " (no permission; safetensors writes files that only their owner may read: run doodl3 as the same user, or \
             let the trainer chmod them)"
        }
        _ => "",
    }
}

/// The same without the path, as the parsers say it.
#[derive(Debug)]
pub(super) enum Fault {
    Io(io::Error),
    Incomplete(String),
    Damaged(String),
    Unsupported { what: String, advice: String },
    Changing,
    Cancelled,
}

impl Fault {
    pub(super) fn at(self, path: &Path) -> CheckpointError {
        let path = path.to_owned();
        match self {
            Self::Io(source) => CheckpointError::Io { source, path },
            Self::Incomplete(what) => CheckpointError::Incomplete { what, path },
            Self::Damaged(what) => CheckpointError::Damaged { what, path },
            Self::Unsupported { what, advice } => CheckpointError::Unsupported { what, advice, path },
            Self::Changing => CheckpointError::Changing { path },
            Self::Cancelled => CheckpointError::Cancelled { path },
        }
    }

    pub(super) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }

    pub(super) fn unsupported(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::Unsupported { what: what.into(), advice: advice.into() }
    }
}

impl From<io::Error> for Fault {
    /// A read beyond the end means that the file has become shorter since its size was taken.
    fn from(source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::UnexpectedEof {
            Self::Incomplete("it ends before its own directory says".into())
        } else {
            Self::Io(source)
        }
    }
}
