//! `doodl3 watch` in a process of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fixtures::{doodl3, stdout};

/// How long anything may take before a test gives up. Nothing is ever asserted about times below it.
const FOREVER: Duration = Duration::from_secs(300);

/// A folder with a configuration, a state, reports, and a daemon that comes and goes.
#[derive(Debug)]
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

/// A running daemon. It is killed when the test forgets it.
#[derive(Debug)]
pub(crate) struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Place {
    /// A folder whose configuration watches `checkpoints` in it, with `more` lines of YAML.
    pub(crate) fn new(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = "{path: checkpoints, settle: 100ms, rescan_every: 1s}";
        let text = format!("version: 1\nsources: [directory: {source}]\n{more}\n");
        std::fs::write(folder.path().join("doodl3.yaml"), text).unwrap();
        std::fs::create_dir(folder.path().join("checkpoints")).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.path("checkpoints")
    }

    /// Starts the daemon; its log is added to `log`.
    pub(crate) fn watch(&self) -> Daemon {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = Command::new(doodl3().get_program());
        command
            .arg("watch")
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        for variable in ["DOODL3_LOG", "DOODL3_LOG_FORMAT"] {
            command.env_remove(variable);
        }
        Daemon(command.env("NO_COLOR", "1").spawn().unwrap())
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The state, where there is one already.
    pub(crate) fn export(&self) -> Option<Value> {
        let output = doodl3().arg("export").current_dir(self.folder.path()).output().unwrap();
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        stdout(&doodl3().args(arguments).current_dir(self.folder.path()).assert().success())
    }

    /// Waits until the state is as wanted; fails with the log when that never comes.
    pub(crate) fn wait_for(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let export = self.export();
            if let Some(export) = export.as_ref().filter(|export| wanted(export)) {
                return export.clone();
            }
            assert!(began.elapsed() < FOREVER, "{what} never came.\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until a file is as wanted.
    pub(crate) fn wait_for_file(&self, path: &Path, wanted: impl Fn(&str) -> bool) -> String {
        let began = Instant::now();
        loop {
            let text = std::fs::read_to_string(self.path("").join(path)).unwrap_or_default();
            if wanted(&text) {
                return text;
            }
            assert!(began.elapsed() < FOREVER, "{} is not as wanted.\n{}", path.display(), self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Daemon {
    /// Kills it as the system does when it is short of memory.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Asks it to stop, as a service manager does.
    pub(crate) fn stop(mut self) -> ExitStatus {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.0.wait().unwrap()
    }
}

/// Number of checkpoints that the last analyses cover.
pub(crate) fn analysed(export: &Value) -> usize {
    let trajectories = |analysis: &Value| -> usize {
        let Some(trajectories) = analysis["analysis"]["trajectories"].as_array() else { return 0 };
        trajectories.iter().map(|trajectory| trajectory["steps"].as_array().unwrap().len()).sum()
    };
    export["analyses"].as_array().unwrap().iter().map(trajectories).sum()
}

pub(crate) fn checkpoints(export: &Value) -> usize {
    export["checkpoints"].as_array().unwrap().len()
}

/// (run, detector) of the alerts.
pub(crate) fn alerts(export: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let alerts = export["alerts"].as_array().unwrap().iter();
    alerts.map(|row| (text(&row["alert"]["run"]), text(&row["alert"]["detector"]))).collect()
}
