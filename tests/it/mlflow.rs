//! A real MLflow server with runs that its own SDK writes: what comes from it, and what goes back.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::daemon::{Place, alerts, analysed, checkpoints};
use crate::fixtures::doodl3;
use crate::sdk::Training;

/// How long anything may take before a test gives up.
const FOREVER: Duration = Duration::from_secs(600);

/// Checkpoints that each of the three runs writes.
const STEPS: usize = 40;

/// As many where each request takes its time, since the server checks a password.
const FEW_STEPS: usize = 12;

const ADMIN: (&str, &str) = ("admin", "a-long-password-for-tests");

/// The environment with MLflow.
fn environment() -> Option<PathBuf> {
    crate::sdk::environment("mlflow-venv", "mlflow")
}

/// A server that comes and goes; its data stay.
struct Server {
    folder: tempfile::TempDir,
    port: u16,
    with_users: bool,
    process: Option<Child>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Server {
    fn start(with_users: bool) -> Option<Self> {
        environment()?;
        // A port that was free a moment ago: it stays the same over restarts.
        let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let mut server = Self { folder, port, with_users, process: None };
        server.restart();
        Some(server)
    }

    fn restart(&mut self) {
        self.stop();
        let folder = self.folder.path();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
        let mut command = Command::new(environment().unwrap().join("mlflow"));
        command
            .args(["server", "--host", "127.0.0.1", "--workers", "1"])
            .args(["--port", &self.port.to_string()])
            .args(["--backend-store-uri", &format!("sqlite:///{}/mlflow.db", folder.display())])
            .args(["--artifacts-destination", &folder.join("artifacts").display().to_string()])
            .env("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
            .env("MLFLOW_DISABLE_TELEMETRY", "true")
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            // It has children: the whole group is stopped.
            .process_group(0);
        if self.with_users {
            command
                .args(["--app-name", "basic-auth"])
                .env("MLFLOW_AUTH_ADMIN_PASSWORD", ADMIN.1)
                .env("MLFLOW_FLASK_SERVER_SECRET_KEY", "for tests");
        }
        self.process = Some(command.spawn().unwrap());
        self.wait_for("the server", |server| server.ask("health", None).is_some());
    }

    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let group = format!("-{}", process.id());
            drop(Command::new("kill").args(["-KILL", "--", &group]).status());
            drop(process.wait());
        }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The answer to a request, as text; `None` where there is none or it is an error.
    fn ask(&self, path: &str, body: Option<&Value>) -> Option<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = reqwest::Client::new();
            let address = format!("{}/{path}", self.url());
            let mut request = match body {
                None => client.get(address),
                Some(body) => client.post(address).json(body),
            };
            if self.with_users {
                request = request.basic_auth(ADMIN.0, Some(ADMIN.1));
            }
            request.send().await.ok()?.error_for_status().ok()?.text().await.ok()
        })
    }

    fn api(&self, path: &str, body: &Value) -> Value {
        let text = self.ask(&format!("api/2.0/mlflow/{path}"), Some(body));
        text.map_or(Value::Null, |text| serde_json::from_str(&text).unwrap())
    }

    /// The runs of the one experiment, by start.
    fn runs(&self) -> Vec<Value> {
        let body =
            json!({ "experiment_ids": ["1"], "order_by": ["attributes.start_time ASC"], "max_results": 100 });
        self.api("runs/search", &body)["runs"].as_array().cloned().unwrap_or_default()
    }

    fn wait_for(&self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !wanted(self) {
            let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(began.elapsed() < FOREVER, "{what} never came.\n{}", log());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Everything that the server keeps: its rows, and its files with their times.
    fn contents(&self) -> (Vec<String>, Vec<String>) {
        let database = rusqlite::Connection::open(self.folder.path().join("mlflow.db")).unwrap();
        let mut rows = Vec::new();
        for table in ["runs", "tags", "metrics", "latest_metrics"] {
            let mut statement = database.prepare(&format!("SELECT * FROM {table}")).unwrap();
            let columns = statement.column_count();
            let mut found = statement.query([]).unwrap();
            while let Some(row) = found.next().unwrap() {
                let cells: Vec<String> =
                    (0..columns).map(|column| format!("{:?}", row.get_ref(column).unwrap())).collect();
                rows.push(format!("{table} {}", cells.join(" ")));
            }
        }
        let (mut files, mut folders) = (Vec::new(), vec![self.folder.path().join("artifacts")]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else {
                    let changed = entry.metadata().unwrap().modified().unwrap();
                    files.push(format!("{} {changed:?}", entry.path().display()));
                }
            }
        }
        rows.sort();
        files.sort();
        (rows, files)
    }
}

/// Trains at a server.
fn train(server: &Server, experiment: &str, steps: usize, pause: &str) -> Training {
    let mut command = training(&server.url(), experiment, steps, pause);
    if server.with_users {
        command.env("MLFLOW_TRACKING_USERNAME", ADMIN.0).env("MLFLOW_TRACKING_PASSWORD", ADMIN.1);
    }
    Training::spawn(command)
}

/// Trains with a store in a folder, without a server.
fn train_without_server(folder: &Path, store: &str) -> Training {
    let mut command = training(store, "offline", STEPS, "0");
    command.current_dir(folder).env("MLFLOW_ALLOW_FILE_STORE", "true");
    Training::spawn(command)
}

fn training(store: &str, experiment: &str, steps: usize, pause: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(environment().unwrap().join("python"));
    command
        .arg(root.join("tests/fixtures/mlflow/train.py"))
        .args([experiment, &steps.to_string(), pause])
        .env("MLFLOW_TRACKING_URI", store);
    // PyTorch lies in the other environment.
    let packages = std::fs::read_dir(root.join("third_party/pytorch-venv/lib")).into_iter().flatten();
    if let Some(python) = packages.flatten().next() {
        command.env("PYTHONPATH", python.path().join("site-packages"));
    }
    command
}

fn place(server: &Server, more: &str) -> Place {
    let place = Place::new("");
    let source = format!(
        "{{name: lab, url: \"{}\", poll_every: 500ms, requests_per_second: 100{more}}}",
        server.url()
    );
    let analysis = "analysis: {every: 15, grid: {subdivisions: 8}}";
    let text = format!("version: 1\nsources: [mlflow: {source}]\n{analysis}\nsinks: [tracker: {{}}]\n");
    std::fs::write(place.path("doodl3.yaml"), text).unwrap();
    place
}

fn tag<'v>(run: &'v Value, key: &str) -> Option<&'v str> {
    run["data"]["tags"].as_array()?.iter().find(|tag| tag["key"] == key)?["value"].as_str()
}

/// The latest step of a series.
fn last_step(run: &Value, key: &str) -> Option<u64> {
    run["data"]["metrics"].as_array()?.iter().find(|metric| metric["key"] == key)?["step"].as_u64()
}

/// Whether every checkpoint was analysed, and the last of it told.
fn complete(export: &Value) -> bool {
    // Weights that are not finite are no part of an analysis: those of the faulty run from step 340 on.
    checkpoints(export) == 3 * STEPS && analysed(export) == 3 * STEPS - 6
}

/// Waits until nothing is written any more.
fn settled(server: &Server) -> (Vec<String>, Vec<String>) {
    let (mut before, mut quiet) = (server.contents(), 0);
    while quiet < 12 {
        std::thread::sleep(Duration::from_millis(500));
        let now = server.contents();
        quiet = if now == before { quiet + 1 } else { 0 };
        before = now;
    }
    before
}

#[test]
fn runs_of_mlflow_are_watched_and_told_what_was_found() {
    let Some(server) = Server::start(false) else { return };
    let place = place(&server, "");
    let daemon = place.watch();
    let mut training = train(&server, "live", STEPS, "0.05");
    let keys = training.written();
    server.wait_for("the alert, before the run has ended", |server| {
        server.runs().iter().any(|run| {
            run["info"]["run_id"] == keys[2].as_str()
                && run["info"]["status"] == "RUNNING"
                && tag(run, "doodl3.alert").is_some_and(|alert| alert.contains("nonfinite (critical)"))
        })
    });
    training.end();
    let export = place.wait_for("all checkpoints", complete);
    assert!(alerts(&export).contains(&("seed-2".into(), "nonfinite".into())));
    let (rows, files) = settled(&server);
    let export = place.export().unwrap();

    let runs = server.runs();
    assert_eq!(runs.len(), 4, "three, and the experiment's own");
    for run in &runs[..3] {
        let key = run["info"]["run_id"].as_str().unwrap();
        for file in ["report.html", "analysis.json", "morse_graph.svg", "phase_portrait.svg"] {
            let text = server.ask(&format!("get-artifact?run_id={key}&path=doodl3/{file}"), None);
            assert!(text.is_some_and(|text| text.len() > 500), "{file}");
        }
        assert!(tag(run, "mlflow.note.content").unwrap().contains("doodl3:"));
        assert!(last_step(run, "doodl3/instability").is_some_and(|step| step >= 330));
    }
    assert_eq!(tag(&runs[0], "doodl3.state"), Some("healthy"));
    assert_eq!(tag(&runs[0], "doodl3.alert"), None);
    assert!(tag(&runs[0], "mlflow.note.content").unwrap().starts_with("My own words.\n\n"));
    assert_eq!(tag(&runs[2], "doodl3.state"), Some("diverged"));
    assert_eq!(
        (tag(&runs[3], "doodl3.role"), &runs[3]["info"]["status"]),
        (Some("experiment"), &json!("FINISHED"))
    );

    // A second start has nothing to tell.
    assert!(daemon.stop().success());
    let daemon = place.watch();
    std::thread::sleep(Duration::from_secs(4));
    assert!(daemon.stop().success());
    assert_eq!(server.contents(), (rows, files), "{}", place.log());
    assert_eq!(place.export().unwrap(), export);
    assert!(!place.path(".doodl3/spool/lab").join(&keys[0]).exists(), "nothing is left in the spool");
}

#[test]
fn kills_of_the_server_and_of_the_agent_lose_nothing_and_tell_nothing_twice() {
    let Some(mut server) = Server::start(false) else { return };
    let place = place(&server, "");
    let mut training = train(&server, "troubled", STEPS, "0.5");
    let mut daemon = place.watch();
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(2_500));
        server.stop();
        std::thread::sleep(Duration::from_millis(500));
        daemon.kill();
        daemon = place.watch();
        server.restart();
    }
    let keys = training.written();
    training.end();
    let export = place.wait_for("all checkpoints", complete);
    let mut told = alerts(&export);
    told.sort();
    let all = told.len();
    told.dedup();
    assert_eq!(told.len(), all, "each alert is there once");
    settled(&server);
    let runs = server.runs();
    assert_eq!(runs.len(), 4, "the experiment's own run was made once");
    for key in &keys {
        let listed =
            server.ask(&format!("api/2.0/mlflow/artifacts/list?run_id={key}&path=doodl3"), None).unwrap();
        assert!(
            listed.contains("doodl3/report.html") && listed.contains("doodl3/phase_portrait.svg"),
            "{listed}"
        );
        let history = server
            .ask(
                &format!("api/2.0/mlflow/metrics/get-history?run_id={key}&metric_key=doodl3/weight_norm"),
                None,
            )
            .unwrap();
        let history: Value = serde_json::from_str(&history).unwrap();
        let mut steps: Vec<u64> = history["metrics"]
            .as_array()
            .unwrap()
            .iter()
            .map(|point| point["step"].as_u64().unwrap())
            .collect();
        let points = steps.len();
        steps.sort_unstable();
        steps.dedup();
        assert_eq!(steps.len(), points, "each point is there once");
    }
    assert!(daemon.stop().success());
}

#[test]
fn a_server_with_users_is_told_who_asks_and_says_what_is_not_allowed() {
    let Some(server) = Server::start(true) else { return };
    let mut training = train(&server, "guarded", FEW_STEPS, "0");
    let keys = training.written();
    training.end();
    let reader = ("reader", "another-long-password");
    let made = server
        .ask("api/2.0/mlflow/users/create", Some(&json!({ "username": reader.0, "password": reader.1 })));
    assert!(made.is_some());
    let check = |place: &Place, user: &str, password: &str| {
        let output = doodl3()
            .args(["check"])
            .current_dir(place.path(""))
            .env("MLFLOW_TRACKING_USERNAME", user)
            .env("MLFLOW_TRACKING_PASSWORD", password)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let place = place(&server, "");
    let said = check(&place, ADMIN.0, "wrong");
    assert!(
        said.contains("FAILED  source lab")
            && said.contains("401")
            && said.contains("check user and password"),
        "{said}"
    );
    let said = check(&place, reader.0, reader.1);
    assert!(said.contains("ok      source lab: MLflow 3."), "{said}");
    assert!(said.contains("FAILED  sink tracker") && said.contains("EDIT on the experiment"), "{said}");

    // A user who may only read sees all of it and posts nothing; the agent goes on, and says why.
    std::fs::write(place.path("password"), reader.1).unwrap();
    let config = std::fs::read_to_string(place.path("doodl3.yaml")).unwrap();
    let signed = |user: &str| {
        config.replace("name: lab", &format!("name: lab, username: {user}, password: {{file: password}}"))
    };
    std::fs::write(place.path("doodl3.yaml"), signed(reader.0)).unwrap();
    let daemon = place.watch();
    place.wait_for("all checkpoints", |export| analysed(export) == 3 * FEW_STEPS);
    place.wait_for_file("log".as_ref(), |log| log.contains("EDIT on the experiment"));
    assert!(daemon.stop().success());
    assert!(server.runs().iter().all(|run| tag(run, "doodl3.state").is_none()));

    // With the right to write, what waited is posted.
    std::fs::write(place.path("password"), ADMIN.1).unwrap();
    std::fs::write(place.path("doodl3.yaml"), signed(ADMIN.0)).unwrap();
    let daemon = place.watch();
    server.wait_for("what waited", |server| {
        let told = |key: &String| {
            server
                .runs()
                .iter()
                .any(|run| run["info"]["run_id"] == key.as_str() && tag(run, "doodl3.state").is_some())
        };
        keys.iter().all(told)
    });
    assert!(daemon.stop().success());
    let log = place.log();
    assert!(!log.contains(ADMIN.1) && !log.contains(reader.1), "no secret is logged");
}

#[test]
fn stores_without_a_server_are_read_and_get_their_reports() {
    if environment().is_none() {
        return;
    }
    for store in ["sqlite:///mlflow.db", "./mlruns"] {
        let place = Place::new("");
        let mut training = train_without_server(&place.path(""), store);
        let keys = training.written();
        training.end();
        let text = format!(
            "version: 1\nsources: [mlflow: {{name: local, url: \"{store}\", experiments: [offline], poll_every: 500ms}}]\n\
             analysis: {{grid: {{subdivisions: 8}}}}\nsinks: [tracker: {{}}]\n"
        );
        std::fs::write(place.path("doodl3.yaml"), text).unwrap();
        assert!(place.run(&["check"]).contains("shows 3 runs in 1 experiment (offline)"));
        let daemon = place.watch();
        let export = place.wait_for("all checkpoints", complete);
        assert!(alerts(&export).contains(&("seed-2".into(), "nonfinite".into())), "{store}");
        let reports = || {
            let found = |key: &String| !files_named(&place.path("mlruns"), key, "report.html").is_empty();
            keys.iter().all(found)
        };
        let began = Instant::now();
        while !reports() {
            assert!(began.elapsed() < FOREVER, "no reports: {}", place.log());
            std::thread::sleep(Duration::from_millis(200));
        }
        assert!(daemon.stop().success());
    }
}

/// Files of a name below a folder whose path names a run.
fn files_named(folder: &Path, run: &str, name: &str) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.ends_with(name) && path.to_string_lossy().contains(run) {
                found.push(path);
            }
        }
    }
    found
}
