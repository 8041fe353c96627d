//! The evaluator: its supervisor against children that misbehave, and the real child against PyTorch.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use doodl3::evaluate::protocol::{Layer, Loss, Model, Program, Training};
use doodl3::evaluate::{Evaluation, Evaluator, EvaluatorError, Settings};

/// A scripted child, and the folder that keeps its journal.
struct Fake {
    folder: tempfile::TempDir,
    mode: &'static str,
}

impl Fake {
    fn new(mode: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/evaluator/fake.py");
        symlink(script, folder.path().join(mode)).unwrap();
        Self { folder, mode }
    }

    fn settings(&self) -> Settings {
        Settings {
            binary: Some(self.folder.path().join(self.mode)),
            timeout: Duration::from_secs(60),
            ..Settings::default()
        }
    }

    async fn start(&self) -> Evaluator {
        Evaluator::start(self.settings()).await.unwrap()
    }

    /// What the children noted, process numbers left out.
    fn journal(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join("journal")).unwrap();
        text.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    }

    /// The process number of the child that was started last.
    fn process(&self) -> u32 {
        let text = std::fs::read_to_string(self.folder.path().join("journal")).unwrap();
        text.lines().filter_map(|line| line.strip_prefix("start ")).next_back().unwrap().parse().unwrap()
    }
}

fn model() -> Model {
    Model {
        program: Program::Architecture(vec![Layer::Dense { name: None }]),
        probe_batch: "probe.safetensors".into(),
        loss: Loss::CrossEntropy,
        device: "cpu".into(),
    }
}

/// Evaluates the checkpoint `bad`, with which the child misbehaves, then a good one.
async fn bad_then_good(mode: &'static str, timeout: Duration) -> (EvaluatorError, Vec<String>) {
    let fake = Fake::new(mode);
    let evaluator = Evaluator::start(Settings { timeout, ..fake.settings() }).await.unwrap();
    let id = evaluator.load(model()).await.unwrap().id;
    let error = evaluator.evaluate(id, Path::new("bad")).await.unwrap_err();
    let good = evaluator.evaluate(id, Path::new("1.5")).await.unwrap();
    assert_eq!(
        good,
        Evaluation { loss: Some(1.5), predictions: vec![0.25, 0.75] },
        "the answer to this request"
    );
    (error, fake.journal())
}

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_secs(1);
const RESTARTED: [&str; 6] = ["start", "load", "evaluate", "start", "load", "evaluate"];

#[tokio::test]
async fn a_crash_is_told_with_signal_and_last_words_and_the_next_request_gets_a_new_child() {
    let (error, journal) = bad_then_good("aborts", LONG).await;
    assert!(error.is_fatal());
    insta::assert_snapshot!(error, @"the evaluator crashed (signal 6: aborted); its last words: terminate called after throwing an instance of 'c10::Error'");
    assert_eq!(journal, RESTARTED);
}

#[tokio::test]
async fn an_exit_is_a_crash() {
    let (error, journal) = bad_then_good("exits", LONG).await;
    assert!(error.is_fatal());
    insta::assert_snapshot!(error, @"the evaluator crashed (exit code 7)");
    assert_eq!(journal, RESTARTED);
}

#[tokio::test]
async fn a_child_that_hangs_is_stopped_at_the_deadline() {
    let (error, journal) = bad_then_good("hangs", SHORT).await;
    assert!(error.is_fatal());
    insta::assert_snapshot!(error, @"the evaluator gave no answer within 1 s; its last words: thinking");
    assert_eq!(journal, RESTARTED);
}

#[tokio::test]
async fn a_late_answer_never_meets_the_next_request() {
    let (error, _) = bad_then_good("late", SHORT).await;
    assert!(matches!(error, EvaluatorError::TimedOut { .. }), "{error}");
}

#[tokio::test]
async fn nonsense_ends_the_child() {
    let (error, journal) = bad_then_good("nonsense", LONG).await;
    assert!(error.is_fatal());
    insta::assert_snapshot!(error, @"the evaluator answered with a frame that is no message of this protocol");
    assert_eq!(journal, RESTARTED);
}

#[tokio::test]
async fn a_huge_frame_is_refused_before_it_is_read() {
    let (error, _) = bad_then_good("huge", LONG).await;
    assert!(error.is_fatal());
    insta::assert_snapshot!(error, @"the evaluator answered with a frame of 4294967295 bytes, more than the 67108864 that are allowed");
}

#[tokio::test]
async fn an_answer_to_another_question_ends_the_child() {
    let (error, journal) = bad_then_good("other", LONG).await;
    assert!(error.is_fatal());
    insta::assert_snapshot!(error, @"the evaluator answered with an answer to another question (Trained)");
    assert_eq!(journal, RESTARTED);
}

#[tokio::test]
async fn a_failure_leaves_the_child_at_work() {
    let (error, journal) = bad_then_good("fails", LONG).await;
    assert!(!error.is_fatal());
    insta::assert_snapshot!(error, @"0.weight is missing");
    assert_eq!(journal, ["start", "load", "evaluate", "evaluate"]);
}

#[tokio::test]
async fn only_the_end_of_standard_error_is_kept() {
    let (error, _) = bad_then_good("babbles", LONG).await;
    let EvaluatorError::Crashed { stderr, .. } = error else { panic!("{error}") };
    assert!(stderr.ends_with("the end") && stderr.len() <= 2048, "{} bytes", stderr.len());
}

#[tokio::test]
async fn a_crash_while_a_model_is_loaded_again_is_not_blamed_on_the_checkpoint() {
    let fake = Fake::new("forgets");
    let evaluator = fake.start().await;
    let id = evaluator.load(model()).await.unwrap().id;
    assert!(evaluator.evaluate(id, Path::new("1")).await.unwrap_err().is_fatal());
    let error = evaluator.evaluate(id, Path::new("2")).await.unwrap_err();
    assert!(!error.is_fatal());
    let EvaluatorError::Reload(source) = error else { panic!("{error}") };
    insta::assert_snapshot!(source, @"the evaluator crashed (signal 11: invalid memory access)");
}

#[tokio::test]
async fn a_child_that_does_not_start_again_is_tried_again_later() {
    let fake = Fake::new("dies-again");
    let evaluator = fake.start().await;
    let id = evaluator.load(model()).await.unwrap().id;
    assert!(evaluator.evaluate(id, Path::new("1")).await.unwrap_err().is_fatal());
    for _ in 0..2 {
        let error = evaluator.evaluate(id, Path::new("1")).await.unwrap_err();
        assert!(matches!(error, EvaluatorError::Unavailable { .. }), "{error}");
    }
    assert!(
        evaluator.evaluate(id, Path::new("1")).await.unwrap_err().is_fatal(),
        "it started, and was asked"
    );
}

#[tokio::test]
async fn a_child_that_was_killed_while_idle_is_replaced_unnoticed() {
    let fake = Fake::new("good");
    let evaluator = fake.start().await;
    let id = evaluator.load(model()).await.unwrap().id;
    let process = fake.process().to_string();
    assert!(std::process::Command::new("kill").args(["-9", &process]).status().unwrap().success());
    while Path::new("/proc").join(&process).join("stat").exists() && !is_zombie(&process) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(evaluator.evaluate(id, Path::new("2.5")).await.unwrap().loss, Some(2.5));
    assert_eq!(fake.journal(), ["start", "load", "start", "load", "evaluate"]);
}

fn is_zombie(process: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| stat.contains(") Z"))
}

#[tokio::test]
async fn a_request_that_is_given_up_takes_its_child_along() {
    let fake = Fake::new("hangs");
    let evaluator = fake.start().await;
    let id = evaluator.load(model()).await.unwrap().id;
    let given_up = tokio::time::timeout(SHORT, evaluator.evaluate(id, Path::new("bad"))).await;
    assert!(given_up.is_err());
    assert_eq!(evaluator.evaluate(id, Path::new("3")).await.unwrap().loss, Some(3.));
    assert_eq!(fake.journal(), RESTARTED);
}

#[tokio::test]
async fn requests_of_several_tasks_wait_for_each_other() {
    let fake = Fake::new("good");
    let evaluator = std::sync::Arc::new(fake.start().await);
    let id = evaluator.load(model()).await.unwrap().id;
    let tasks: Vec<_> = (0..20)
        .map(|number| {
            let evaluator = std::sync::Arc::clone(&evaluator);
            tokio::spawn(async move {
                evaluator.evaluate(id, &PathBuf::from(number.to_string())).await.unwrap().loss
            })
        })
        .collect();
    for (number, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.await.unwrap(), Some(number as f64));
    }
}

#[tokio::test]
async fn training_reports_progress() {
    let fake = Fake::new("good");
    let mut heard = Vec::new();
    fake.start().await.train(training("."), |epoch, epochs| heard.push((epoch, epochs))).await.unwrap();
    assert_eq!(heard, [(1, 3), (2, 3), (3, 3)]);
}

fn training(directory: impl Into<PathBuf>) -> Training {
    Training {
        directory: directory.into(),
        healthy: 3,
        epochs: 6,
        checkpoint_every: 2,
        stretch_ms: 0,
        seed: 1,
    }
}

#[tokio::test]
async fn an_evaluator_that_cannot_be_used_says_why_and_what_to_do() {
    let missing = Settings { binary: Some("/nonexistent/doodl3-evaluator".into()), ..Settings::default() };
    let error = Evaluator::start(missing).await.unwrap_err();
    insta::assert_snapshot!(error, @"the evaluator cannot be used: /nonexistent/doodl3-evaluator cannot be started: No such file or directory (os error 2); build it, with libtorch (make build), or name another in DOODL3_EVALUATOR");

    for (mode, words) in [
        ("old", "speaks version 0 of the protocol, this doodl3 version 2; install both from the same build"),
        ("mute", "exit code 127); its last words: error while loading shared libraries: libtorch_cpu.so"),
    ] {
        let fake = Fake::new(mode);
        let error = Evaluator::start(fake.settings()).await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}
