use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::Duration;

use tempfile::TempDir;

use super::super::log::tests::{field, log_of, row_of};
use super::super::tests::plan;
use super::*;
use crate::adapters::tracker::Part;
use crate::artifact::Artifact as Report;

/// A record of a run in the project `p`.
fn run(id: &str, name: &str, job_type: &str) -> Vec<u8> {
    let run = [field(1, id), field(3, "p"), field(7, job_type), field(8, name)].concat();
    [vec![8, 1], field(17, run)].concat()
}

/// A record of a model with one file.
fn model(number: u8, digest: &str, path: &str, local: &Path, metadata: &str) -> Vec<u8> {
    let entry =
        [field(1, path), field(2, digest), vec![4 << 3, 8], field(6, local.to_str().unwrap())].concat();
    let artifact = [
        field(4, "model"),
        field(5, "weights"),
        field(6, digest),
        field(8, metadata),
        field(11, "latest"),
        field(12, field(4, entry)),
    ];
    [vec![8, number], field(8, artifact.concat())].concat()
}

fn exit(number: u8) -> Vec<u8> {
    [vec![8, number], field(18, "")].concat()
}

/// A folder of a run with its log.
fn piece(root: &TempDir, name: &str, log: &[u8]) -> PathBuf {
    let folder = root.path().join(name);
    let id = name.rsplit_once('-').unwrap().1;
    fs::create_dir_all(folder.join("files")).unwrap();
    fs::write(folder.join(format!("run-{id}.wandb")), log).unwrap();
    folder
}

fn watch(root: &TempDir) -> WandbFolder {
    WandbFolder::new(&plan(), root.path())
}

fn paths(news: &News) -> Vec<(&str, Option<u64>)> {
    news.files.iter().map(|file| (file.path.as_str(), file.step)).collect()
}

#[tokio::test]
async fn a_run_that_the_sdk_wrote_is_told_as_a_server_would() {
    let root = TempDir::new().unwrap();
    let log = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wandb/finished.wandb");
    let folder = piece(&root, "offline-run-20260101_000000-finished", &fs::read(log).unwrap());
    fs::write(folder.join("files/step-5.safetensors"), "12345678").unwrap();
    fs::write(folder.join("files/config.yaml"), "").unwrap();
    let wandb = watch(&root);
    let runs = wandb.runs().await.unwrap();
    let TrackedRun {
        key, name, experiment_key, experiment, status, artifacts, token: _, loss, models, ..
    } = &runs[0];
    assert_eq!((key.as_str(), name.as_str()), ("finished:fixtures", "the finished run"));
    assert_eq!((experiment_key.as_str(), experiment.as_str()), ("fixtures", "fixtures"));
    assert_eq!((*status, Path::new(artifacts)), (RunStatus::Ended, folder.as_path()));
    assert_eq!((loss.as_deref(), models.len(), runs.len()), (Some("train/loss"), 0, 1));
    let news = wandb.news(&runs[0], None).await.unwrap();
    let steps: Vec<u64> = news.losses.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, (0..20).map(|step| 10 * step).collect::<Vec<_>>());
    for (step, loss) in &news.losses {
        assert!(if *step == 30 { loss.is_nan() } else { *loss == 1.0 / (*step as f64 / 10.0 + 1.0) });
    }
    // What the SDK had staged for its model is, or is not, still on this machine.
    assert_eq!(paths(&news)[0], ("files/step-5.safetensors", None));
    let news = wandb.news(&runs[0], Some(170)).await.unwrap();
    assert_eq!(news.losses, [(180, 1.0 / 19.0), (190, 1.0 / 20.0)]);
    assert_eq!(wandb.reach().await.unwrap().experiments, ["fixtures"]);
}

#[tokio::test]
async fn a_log_that_grows_is_read_on() {
    let root = TempDir::new().unwrap();
    let mut records = vec![run("r", "", "train"), row_of(2, &[("_step", "0"), ("loss", "1.5")])];
    let folder = piece(&root, "run-20260101_000000-r", &log_of(&records));
    let log = folder.join("run-r.wandb");
    let wandb = watch(&root);
    let first = wandb.runs().await.unwrap().remove(0);
    assert_eq!((first.name.as_str(), first.status), ("r", RunStatus::Running));
    assert_eq!(wandb.news(&first, None).await.unwrap().losses, [(0, 1.5)]);
    assert_eq!(wandb.runs().await.unwrap(), std::slice::from_ref(&first));
    // What was read is not read again, so it may be anything.
    let read = log_of(&records).len();
    records.push(row_of(3, &[("_step", "1"), ("loss", "NaN")]));
    records.push(exit(4));
    let mut grown = log_of(&records);
    grown[20..read].fill(0xff);
    let (part, rest) = grown.split_at(grown.len() - 3);
    fs::write(&log, part).unwrap();
    let torn = wandb.runs().await.unwrap().remove(0);
    assert!(torn.status == RunStatus::Running && torn.token != first.token);
    OpenOptions::new().append(true).open(&log).unwrap().write_all(rest).unwrap();
    let ended = wandb.runs().await.unwrap().remove(0);
    assert!(ended.status == RunStatus::Ended && ended.token != torn.token);
    let losses = wandb.news(&ended, Some(0)).await.unwrap().losses;
    assert!(losses.len() == 1 && losses[0].0 == 1 && losses[0].1.is_nan());
    // Another log in its place is read from the beginning.
    fs::write(&log, log_of(&[run("r", "other", ""), row_of(2, &[("_step", "0"), ("train_loss", "2")])]))
        .unwrap();
    let other = wandb.runs().await.unwrap().remove(0);
    assert_eq!((other.name.as_str(), other.loss.as_deref()), ("other", Some("train_loss")));
    assert_eq!(wandb.news(&other, None).await.unwrap().losses, [(0, 2.0)]);
}

#[tokio::test]
async fn checkpoints_come_from_saved_files_and_from_staged_models() {
    let root = TempDir::new().unwrap();
    let staged = root.path().join("staged");
    fs::write(&staged, "weights!").unwrap();
    let gone = root.path().join("gone");
    let folder = piece(
        &root,
        "run-20260101_000000-r",
        &log_of(&[
            run("r", "", ""),
            row_of(2, &[("_step", "7"), ("loss", "1")]),
            model(3, "a", "model.pt", &staged, "{}"),
            model(4, "b", "model.pt", &staged, r#"{"step": 40}"#),
            model(5, "a", "model.pt", &staged, "{}"),
            model(6, "c", "step-50.pt", &staged, "{}"),
            model(7, "d", "model.pt", &gone, "{}"),
            model(8, "e", "../../model.pt", &staged, "{}"),
            model(9, "f", "notes.txt", &staged, "{}"),
        ]),
    );
    let (here, elsewhere) = (folder.join("files/sub/step-3.pt"), root.path().join("elsewhere.pt"));
    fs::create_dir(folder.join("files/sub")).unwrap();
    fs::write(&here, "here").unwrap();
    fs::write(&elsewhere, "elsewhere").unwrap();
    std::os::unix::fs::symlink(&elsewhere, folder.join("files/epoch-1.pt")).unwrap();
    let wandb = watch(&root);
    let run = wandb.runs().await.unwrap().remove(0);
    let news = wandb.news(&run, None).await.unwrap();
    assert_eq!(
        paths(&news),
        [
            ("files/epoch-1.pt", None),
            ("files/sub/step-3.pt", None),
            ("artifacts/weights:v0/model.pt", Some(7)),
            ("artifacts/weights:v1/model.pt", Some(40)),
            ("artifacts/weights:v2/step-50.pt", None),
        ]
    );
    // A clone, and one that has listed nothing.
    for wandb in [wandb.clone(), watch(&root)] {
        let to = root.path().join("to");
        for (file, content) in
            news.files.iter().zip(["elsewhere", "here", "weights!", "weights!", "weights!"])
        {
            wandb.download(&run, &file.path, &to).await.unwrap();
            assert_eq!(fs::read_to_string(&to).unwrap(), content);
            assert_eq!(file.size, content.len() as u64);
        }
        for path in ["files/../run-r.wandb", "files//etc/passwd", "artifacts/weights:v3/../x", "x", ""] {
            let refused = wandb.download(&run, path, &to).await.unwrap_err();
            assert_eq!(refused.to_string(), format!("{path} is no longer there"));
        }
    }
    // A file that is written anew is another, and the run is looked at again.
    fs::write(&here, "here again").unwrap();
    let again = wandb.runs().await.unwrap().remove(0);
    assert_ne!(again.token, run.token);
    assert_ne!(wandb.news(&again, None).await.unwrap().files[1], news.files[1]);
}

#[tokio::test]
async fn pieces_of_a_resumed_run_are_one_run() {
    let root = TempDir::new().unwrap();
    let row = |number, step: &str, loss| row_of(number, &[("_step", step), ("loss", loss)]);
    let second = log_of(&[run("r", "n", ""), row(2, "2", "0.5")]);
    let last = piece(&root, "run-20260102_000000-r", &second);
    let first = log_of(&[run("r", "n", ""), row(2, "1", "1"), exit(3)]);
    piece(&root, "offline-run-20260101_000000-r", &first);
    let wandb = watch(&root);
    let runs = wandb.runs().await.unwrap();
    assert_eq!((runs.len(), runs[0].status), (1, RunStatus::Running));
    assert_eq!(Path::new(&runs[0].artifacts), last);
    assert_eq!(wandb.news(&runs[0], None).await.unwrap().losses, [(1, 1.0), (2, 0.5)]);
}

#[tokio::test]
async fn runs_that_are_not_watched_or_cannot_be_read_leave_the_others_alone() {
    let root = TempDir::new().unwrap();
    let log = |id| log_of(&[run(id, "", "train")]);
    piece(&root, "run-20260101_000000-a", &log("a"));
    piece(&root, "run-20260102_000000-ours", &log_of(&[run("ours", "", "doodl3")]));
    piece(&root, "run-20260103_000000-begun", &log("begun")[..7]);
    piece(&root, "run-20260104_000000-zip", b"PK\x03\x04zip");
    piece(&root, "elsewhere-20260104_000000-x", &log("x"));
    fs::create_dir(root.path().join("run-20260105_000000-empty")).unwrap();
    std::os::unix::fs::symlink(root.path().join("run-20260101_000000-a"), root.path().join("latest-run"))
        .unwrap();
    let mut plan = plan();
    plan.watched.stale_after = Duration::ZERO;
    let keys = |runs: &[TrackedRun]| runs.iter().map(|run| run.key.clone()).collect::<Vec<_>>();
    let wandb = WandbFolder::new(&plan, root.path());
    let runs = wandb.runs().await.unwrap();
    assert_eq!((keys(&runs), runs[0].status), (vec!["a:p".to_owned()], RunStatus::Stale));
    assert!(matches!(
        wandb.news(&TrackedRun { key: "b:p".into(), ..runs[0].clone() }, None).await,
        Err(TrackerError::Gone)
    ));
    plan.projects = vec!["q*".into()];
    assert!(WandbFolder::new(&plan, root.path()).runs().await.unwrap().is_empty());
    let missing = WandbFolder::new(&plan, &root.path().join("missing")).runs().await.unwrap_err();
    assert!(missing.to_string().contains("missing"), "{missing}");
}

#[tokio::test]
async fn the_names_of_loss_and_step_can_be_given() {
    let root = TempDir::new().unwrap();
    let row = |number, step: &str, loss: &str| {
        row_of(number, &[("_step", step), ("loss", "9"), ("mine", loss), ("iteration", &format!("{step}00"))])
    };
    let counted = row_of(4, &[("_step", "3"), ("mine", "7"), ("loss", "9")]);
    piece(
        &root,
        "run-20260101_000000-r",
        &log_of(&[run("r", "", ""), row(2, "1", "3"), row(3, "2", "2"), counted]),
    );
    let mut plan = plan();
    plan.watched.loss = Some("mine".into());
    for (step, losses) in [
        // Rows without the trainer's step are on another scale.
        (Some("iteration"), vec![(100, 3.0), (200, 2.0)]),
        (Some("elsewhere"), vec![(1, 3.0), (2, 2.0), (3, 7.0)]),
        (None, vec![(1, 3.0), (2, 2.0), (3, 7.0)]),
    ] {
        plan.step = step.map(str::to_owned);
        let wandb = WandbFolder::new(&plan, root.path());
        let run = wandb.runs().await.unwrap().remove(0);
        assert_eq!(wandb.news(&run, None).await.unwrap().losses, losses, "{step:?}");
    }
}

#[tokio::test]
async fn reports_go_beside_what_the_run_saves_and_are_no_news() {
    let root = TempDir::new().unwrap();
    let folder = piece(&root, "run-20260101_000000-r", &log_of(&[run("r", "", "")]));
    let wandb = watch(&root);
    let run = wandb.runs().await.unwrap().remove(0);
    let part = |name: &str, new| Part { content: Report::text(name, "text/plain", "report"), new };
    let post =
        Post { artifacts: vec![part("report.html", true), part("old.html", false)], ..Post::default() };
    wandb.post(&run, &post).await.unwrap();
    assert_eq!(fs::read_to_string(folder.join("doodl3/report.html")).unwrap(), "report");
    assert!(!folder.join("doodl3/old.html").exists());
    assert_eq!(wandb.runs().await.unwrap(), std::slice::from_ref(&run));
    fs::remove_dir_all(folder).unwrap();
    assert!(matches!(wandb.post(&run, &post).await, Err(TrackerError::Gone)));
}
