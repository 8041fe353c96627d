//! Trackers' own SDKs in a Python of their own: trainings that go on until they are let go.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

/// An environment of the tests by its name; `None`, with a word, where the set-up could not make it, as with an old
/// Python.
#[expect(clippy::print_stderr, reason = "whoever runs the tests should know")]
pub(crate) fn environment(name: &str, program: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("third_party").join(name).join("bin");
    if folder.join(program).exists() {
        return Some(folder);
    }
    eprintln!("skipped: there is no third_party/{name} (run `make setup-python`)");
    None
}

/// Trains until it is let go; killed when the test forgets it.
pub(crate) struct Training {
    process: Child,
    stdin: Option<ChildStdin>,
}

impl Drop for Training {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Training {
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdin = process.stdin.take();
        Self { process, stdin }
    }

    /// Waits until all checkpoints are written: the ids of the three runs.
    pub(crate) fn written(&mut self) -> Vec<String> {
        let mut line = String::new();
        BufReader::new(self.process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let keys: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        assert_eq!(keys.len(), 3, "the training failed");
        keys
    }

    /// Lets the runs end.
    pub(crate) fn end(mut self) {
        drop(self.stdin.take());
        assert!(self.process.wait().unwrap().success());
    }
}
