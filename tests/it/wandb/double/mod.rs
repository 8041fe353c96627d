//! A W&B server in this process that W&B's own SDK works with: GraphQL, the stream of a run's history, and a storage at
//! another origin with signed addresses.
//!
//! It declares its types (`schema.graphql`) and refuses what they do not have (`schema.rs`), looks up what is asked
//! (`graphql.rs`, `query.rs` with `filter.rs` and `history.rs`), changes what it keeps (`mutation.rs`, `state.rs`), and
//! speaks HTTP (`api.rs`, `stream.rs`, `storage.rs`). It can be stopped and started, and made to fail ([`Faults`]).

mod api;
mod filter;
mod graphql;
mod history;
mod mutation;
mod query;
mod schema;
mod state;
mod storage;
mod stream;

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::Router;
use tokio::runtime::Runtime;

pub(crate) use state::{Alert, Run, State};

/// The one key that is known.
pub(crate) const KEY: &str = "0123456789abcdef0123456789abcdef01234567";
/// The one entity there is.
pub(crate) const ENTITY: &str = "team";

/// The server; it ends when this is dropped.
pub(crate) struct Double {
    shared: Arc<Shared>,
    ports: [SocketAddr; 2],
    runtime: Option<Runtime>,
}

/// What can go wrong; all off by default.
#[derive(Default, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fault of its own")]
pub(crate) struct Faults {
    /// 429 for everything until then, with so many seconds in Retry-After.
    pub(crate) too_many: Option<(Instant, f64)>,
    /// All this meets only whoever's user agent starts so; `xxh128` meets everyone.
    pub(crate) only_agent: Option<String>,
    /// Signed addresses that are handed out have expired already: the storage answers 403.
    pub(crate) expire_urls: bool,
    /// Addresses to upload to are relative, `/storage/…` at the API's own port. Of the SDK only `Api().run(…).upload_file`
    /// understands them.
    pub(crate) relative_upload_urls: bool,
    /// Listings give an empty page with `hasNextPage` before each page.
    pub(crate) empty_pages: bool,
    /// An older server: it knows none of these fields, `field` or `Type.field`, of types and of inputs.
    pub(crate) unknown_fields: Vec<String>,
    /// The server is ready for digests by XXH128; whoever uploads chooses them.
    pub(crate) xxh128: bool,
    /// So many requests a second; beyond them 429.
    pub(crate) quota: Option<f64>,
    /// 500 for everything.
    pub(crate) server_error: bool,
    /// The key counts no more.
    pub(crate) unknown_key: bool,
    /// What a typed server refuses comes with the status 200 rather than 400.
    pub(crate) refuses_with_200: bool,
}

impl Faults {
    /// What meets a client of this user agent.
    fn of(&self, agent: &str) -> Self {
        match &self.only_agent {
            Some(only) if !agent.starts_with(only) => Self { xxh128: self.xxh128, ..Self::default() },
            _ => self.clone(),
        }
    }
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// When.
    pub(crate) at: Instant,
    /// The root fields of GraphQL, or the method and the path.
    pub(crate) what: String,
    /// The run that it was about.
    pub(crate) run: Option<String>,
    /// What was answered.
    pub(crate) status: u16,
    /// Whether the storage was asked.
    pub(crate) storage: bool,
    /// Who asked.
    pub(crate) user_agent: String,
}

/// What both listeners work on.
struct Shared {
    state: Mutex<State>,
    faults: Mutex<Faults>,
    requests: Mutex<Vec<Asked>>,
    /// When the latest requests under a quota came.
    recent: Mutex<VecDeque<Instant>>,
    api: String,
    storage: String,
}

impl Double {
    /// Starts it at two free ports, which stay the same.
    pub(crate) fn start() -> Self {
        let free = || TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let listeners = [free(), free()];
        let ports = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
        let shared = Shared {
            state: Mutex::default(),
            faults: Mutex::default(),
            requests: Mutex::default(),
            recent: Mutex::default(),
            api: format!("http://{}", ports[0]),
            storage: format!("http://{}", ports[1]),
        };
        let mut double = Self { shared: Arc::new(shared), ports, runtime: None };
        double.serve(listeners);
        double
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        self.shared.api.clone()
    }

    /// Nobody answers any more; what is kept stays.
    pub(crate) fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(10));
        }
    }

    /// Answers again, at the same ports.
    pub(crate) fn restart(&mut self) {
        self.stop();
        let listeners = self.ports.map(|port| {
            let began = Instant::now();
            loop {
                match TcpListener::bind(port) {
                    Ok(listener) => return listener,
                    Err(error) => {
                        assert!(began.elapsed() < Duration::from_secs(30), "{port}: {error}");
                        std::thread::sleep(Duration::from_millis(50));
                    }
                }
            }
        });
        self.serve(listeners);
    }

    fn serve(&mut self, [api, storage]: [TcpListener; 2]) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let shared = self.shared.clone();
        let routers = [
            (api, Router::new().fallback(api::answer).with_state(shared.clone())),
            (storage, Router::new().fallback(storage::answer).with_state(shared)),
        ];
        for (listener, router) in routers {
            listener.set_nonblocking(true).unwrap();
            let guard = runtime.enter();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            drop(guard);
            runtime.spawn(async move { axum::serve(listener, router).await });
        }
        self.runtime = Some(runtime);
    }

    /// What it keeps; it answers nobody while this is held.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    /// What shall go wrong.
    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.shared.faults.lock().unwrap()
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Asked> {
        self.shared.requests.lock().unwrap().clone()
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
