//! The evaluator's process, supervised.
//!
//! One child at a time, one request at a time. While a request is under way its child belongs to the request alone: if
//! the answer is late, makes no sense, or nobody waits for it any more, the child is killed with the request, and no
//! stale answer can meet the next one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::{sleep, timeout};

use super::error::{End, EvaluatorError};
use super::locate::locate;
use super::protocol::{self, Model, PREFIX, Request, Response, Training};

/// How much of a child's standard error is kept, in bytes.
const STDERR_KEPT: usize = 2048;

/// How long a child that has closed its output may take to end.
const LAST_BREATH: Duration = Duration::from_secs(2);

/// Waiting times before a new child after one, two, … lost in a row: doubled from the first up to the last.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(20));

/// How the evaluator is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The binary; by default `DOODL3_EVALUATOR`, else `doodl3-evaluator` beside this program, else in `PATH`.
    pub binary: Option<PathBuf>,
    /// Time for one request; in training, from one epoch to the next.
    pub timeout: Duration,
    /// Time for a child to be ready; half a gigabyte of libtorch may have to come from a slow disk.
    pub startup_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { binary: None, timeout: Duration::from_secs(120), startup_timeout: Duration::from_secs(120) }
    }
}

/// Name of a model that was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelId(u64);

/// A model that was loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedModel {
    /// Its name in later requests.
    pub id: ModelId,
    /// Parameters and buffers that a checkpoint must bring, with shapes; empty where only the checkpoint tells.
    pub parameters: BTreeMap<String, Vec<i64>>,
}

/// What a checkpoint is worth on the probe batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// The loss; `None` where it is not finite.
    pub loss: Option<f64>,
    /// Predictions, flattened over examples, or their sketch; empty where one of them is not finite.
    pub predictions: Vec<f32>,
}

/// The agent's end of the evaluator. Requests from several tasks wait for each other.
#[derive(Debug)]
pub struct Evaluator {
    settings: Settings,
    binary: PathBuf,
    libtorch: String,
    state: tokio::sync::Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    child: Option<Child>,
    models: BTreeMap<u64, Model>,
    next_id: u64,
    /// Children lost in a row.
    lost: u32,
}

impl Evaluator {
    /// Finds the evaluator and starts it.
    ///
    /// # Errors
    /// [`EvaluatorError::Unavailable`] if there is none, or none that works.
    pub async fn start(settings: Settings) -> Result<Self, EvaluatorError> {
        let binary = locate(settings.binary.as_deref())?;
        let (child, libtorch) = Child::start(&binary, settings.startup_timeout).await?;
        let state = State { child: Some(child), ..State::default() };
        Ok(Self { settings, binary, libtorch, state: tokio::sync::Mutex::new(state) })
    }

    /// Version of libtorch that the evaluator runs.
    pub fn libtorch(&self) -> &str {
        &self.libtorch
    }

    /// The evaluator's binary.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Loads a model and its probe batch. It stays loaded, over restarts too.
    ///
    /// # Errors
    /// [`EvaluatorError::Failed`] if the model or the batch is not usable.
    pub async fn load(&self, model: Model) -> Result<LoadedModel, EvaluatorError> {
        let mut state = self.state.lock().await;
        let id = state.next_id;
        let request = Request::Load { id, model: model.clone() };
        match self.answer(&mut state, &request).await? {
            Response::Loaded { parameters } => {
                state.next_id += 1;
                state.models.insert(id, model);
                if let Some(child) = &mut state.child {
                    child.models.insert(id);
                }
                Ok(LoadedModel { id: ModelId(id), parameters })
            }
            other => Err(Self::garbled(&mut state, &other)),
        }
    }

    /// Evaluates a checkpoint with a model.
    ///
    /// # Errors
    /// [`EvaluatorError::Failed`] if the checkpoint cannot be read or does not fit the model. Where
    /// [`EvaluatorError::is_fatal`] holds, this checkpoint took the evaluator down.
    ///
    /// # Panics
    /// If `model` comes from another evaluator.
    pub async fn evaluate(&self, model: ModelId, checkpoint: &Path) -> Result<Evaluation, EvaluatorError> {
        let mut state = self.state.lock().await;
        assert!(state.models.contains_key(&model.0), "a model of another evaluator");
        self.load_again(&mut state, model.0).await?;
        let request = Request::Evaluate { id: model.0, checkpoint: checkpoint.to_owned() };
        match self.answer(&mut state, &request).await? {
            Response::Evaluated { loss, predictions } => Ok(Evaluation { loss, predictions }),
            other => Err(Self::garbled(&mut state, &other)),
        }
    }

    /// Trains the demonstration's networks; `progress` hears of epochs done, of so many in all.
    ///
    /// Evaluations wait until it has ended: whoever wants both at once starts two evaluators.
    ///
    /// # Errors
    /// [`EvaluatorError::Failed`] if the files cannot be written.
    pub async fn train(
        &self,
        training: Training,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<(), EvaluatorError> {
        let mut state = self.state.lock().await;
        match self.exchange(&mut state, &Request::Train(training), &mut progress).await? {
            Response::Trained => Ok(()),
            other => Err(Self::garbled(&mut state, &other)),
        }
    }

    /// Makes sure that the child knows the model, after a restart.
    async fn load_again(&self, state: &mut State, id: u64) -> Result<(), EvaluatorError> {
        let mut child = self.take_child(state).await?;
        let known = !child.models.insert(id);
        state.child = Some(child);
        if known {
            return Ok(());
        }
        let request = Request::Load { id, model: state.models[&id].clone() };
        let reloaded = match self.answer(state, &request).await {
            Ok(Response::Loaded { .. }) => Ok(()),
            Ok(other) => Err(Self::garbled(state, &other)),
            Err(error) => Err(error),
        };
        reloaded.map_err(|error| {
            if let Some(child) = &mut state.child {
                child.models.remove(&id);
            }
            EvaluatorError::Reload(Box::new(error))
        })
    }

    async fn answer(&self, state: &mut State, request: &Request) -> Result<Response, EvaluatorError> {
        self.exchange(state, request, &mut |_, _| {}).await
    }

    /// Sends a request and waits for its answer; the child goes back to the state only if it is still of use.
    async fn exchange(
        &self,
        state: &mut State,
        request: &Request,
        progress: &mut impl FnMut(u64, u64),
    ) -> Result<Response, EvaluatorError> {
        let mut child = self.take_child(state).await?;
        // Counted as lost until it has answered: dropping this future loses it.
        state.lost += 1;
        let mut next = child.ask(request, self.settings.timeout).await;
        while let Ok(Response::Progress { epoch, epochs }) = next {
            progress(epoch, epochs);
            next = child.receive(self.settings.timeout).await;
        }
        match next {
            Ok(response) => {
                state.child = Some(child);
                state.lost = 0;
                match response {
                    Response::Failed { message } => Err(EvaluatorError::Failed { message }),
                    response => Ok(response),
                }
            }
            Err(loss) => {
                let error = child.end(loss, self.settings.timeout).await;
                tracing::warn!(%error, "the evaluator was lost and will be started again");
                Err(error)
            }
        }
    }

    /// The running child, or a new one after a wait that grows with the number lost in a row.
    async fn take_child(&self, state: &mut State) -> Result<Child, EvaluatorError> {
        if let Some(mut child) = state.child.take() {
            if child.is_running() {
                return Ok(child);
            }
            tracing::warn!("the evaluator ended while it had nothing to do and is started again");
        }
        if let Some(doublings) = state.lost.checked_sub(1) {
            sleep(BACK_OFF.0.saturating_mul(1 << doublings.min(16)).min(BACK_OFF.1)).await;
        }
        state.lost += 1;
        let (child, _) = Child::start(&self.binary, self.settings.startup_timeout).await?;
        state.lost -= 1;
        Ok(child)
    }

    /// A well-formed answer to another question: the child is not to be trusted any more.
    fn garbled(state: &mut State, response: &Response) -> EvaluatorError {
        let stderr = state.child.take().map(|child| child.stderr()).unwrap_or_default();
        state.lost += 1;
        let name = match response {
            Response::Ready { .. } => "Ready",
            Response::Loaded { .. } => "Loaded",
            Response::Evaluated { .. } => "Evaluated",
            Response::Progress { .. } => "Progress",
            Response::Trained => "Trained",
            Response::Failed { .. } => "Failed",
        };
        EvaluatorError::Garbled { what: format!("an answer to another question ({name})"), stderr }
    }
}

/// A running evaluator. Dropping it kills it.
#[derive(Debug)]
struct Child {
    process: tokio::process::Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    stderr: Arc<Mutex<VecDeque<u8>>>,
    stderr_reader: tokio::task::JoinHandle<()>,
    /// Models that it has loaded.
    models: BTreeSet<u64>,
}

/// Why a child is lost.
enum Loss {
    Gone,
    Late,
    Nonsense(String),
}

impl Child {
    /// Starts the binary and waits until it is ready; also the version of its libtorch.
    async fn start(binary: &Path, startup_timeout: Duration) -> Result<(Self, String), EvaluatorError> {
        let unavailable =
            |reason: String, advice: &str| EvaluatorError::Unavailable { reason, advice: advice.into() };
        let mut process = Command::new(binary)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            // Out of the terminal's reach: at Ctrl-C the agent decides when the evaluator ends.
            .process_group(0)
            .spawn()
            .map_err(|error| {
                unavailable(
                    format!("{} cannot be started: {error}", binary.display()),
                    "build it, with libtorch (make build), or name another in DOODL3_EVALUATOR",
                )
            })?;
        let piped = "the pipe was asked for and is taken once";
        let stderr = Arc::new(Mutex::new(VecDeque::new()));
        let stderr_reader = tokio::spawn(keep_end(process.stderr.take().expect(piped), Arc::clone(&stderr)));
        let mut child = Self {
            requests: process.stdin.take().expect(piped),
            answers: BufReader::new(process.stdout.take().expect(piped)),
            process,
            stderr,
            stderr_reader,
            models: BTreeSet::new(),
        };
        match child.receive(startup_timeout).await {
            Ok(Response::Ready { protocol: protocol::VERSION, libtorch }) => Ok((child, libtorch)),
            Ok(Response::Ready { protocol, .. }) => Err(unavailable(
                format!(
                    "{} speaks version {protocol} of the protocol, this doodl3 version {}",
                    binary.display(),
                    protocol::VERSION
                ),
                "install both from the same build",
            )),
            Ok(_) => Err(unavailable(
                format!("{} does not begin as doodl3-evaluator does", binary.display()),
                "name the right one in DOODL3_EVALUATOR",
            )),
            Err(loss) => Err(unavailable(
                format!(
                    "{} did not become ready: {}",
                    binary.display(),
                    child.end(loss, startup_timeout).await
                ),
                "does it run by itself? If it misses libtorch: make setup, then make build",
            )),
        }
    }

    fn is_running(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// Sends a request and waits for the first answer.
    async fn ask(&mut self, request: &Request, deadline: Duration) -> Result<Response, Loss> {
        let frame = protocol::encode(request).map_err(|error| Loss::Nonsense(error.to_string()))?;
        match timeout(deadline, self.requests.write_all(&frame)).await {
            Ok(Ok(())) => self.receive(deadline).await,
            Ok(Err(_closed)) => Err(Loss::Gone),
            Err(_elapsed) => Err(Loss::Late),
        }
    }

    async fn receive(&mut self, deadline: Duration) -> Result<Response, Loss> {
        timeout(deadline, self.read_frame()).await.unwrap_or(Err(Loss::Late))
    }

    async fn read_frame(&mut self) -> Result<Response, Loss> {
        let mut prefix = [0; PREFIX];
        self.answers.read_exact(&mut prefix).await.map_err(|_| Loss::Gone)?;
        let nonsense = |error: protocol::FrameError| Loss::Nonsense(error.to_string());
        let length = protocol::length(prefix).map_err(nonsense)?;
        // The memory grows with what arrives, not with what was announced.
        let mut json = Vec::new();
        let read = (&mut self.answers).take(length as u64).read_to_end(&mut json).await;
        if read.is_ok_and(|read| read == length) {
            protocol::decode(&json).map_err(nonsense)
        } else {
            Err(Loss::Gone)
        }
    }

    /// Ends a lost child and says what became of it.
    async fn end(mut self, loss: Loss, deadline: Duration) -> EvaluatorError {
        let mut how = End::Silent;
        if matches!(loss, Loss::Gone)
            && let Ok(Ok(status)) = timeout(LAST_BREATH, self.process.wait()).await
        {
            how = status.signal().map_or(End::Code(status.code().unwrap_or_default()), End::Signal);
        }
        self.process.start_kill().ok();
        // What it still had to say is in the pipe, unless a process of its own holds that open.
        timeout(LAST_BREATH, &mut self.stderr_reader).await.ok();
        let stderr = self.stderr();
        match loss {
            Loss::Gone => EvaluatorError::Crashed { how, stderr },
            Loss::Late => EvaluatorError::TimedOut { after: deadline, stderr },
            Loss::Nonsense(what) => EvaluatorError::Garbled { what, stderr },
        }
    }

    /// The end of what it wrote to standard error, in one line.
    fn stderr(&self) -> String {
        let kept = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = kept.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" | ")
    }
}

/// Reads until the end and keeps the last bytes.
async fn keep_end(mut stderr: ChildStderr, kept: Arc<Mutex<VecDeque<u8>>>) {
    let mut block = [0; 1024];
    while let Ok(read @ 1..) = stderr.read(&mut block).await {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(&block[..read]);
        let surplus = kept.len().saturating_sub(STDERR_KEPT);
        kept.drain(..surplus);
    }
}
