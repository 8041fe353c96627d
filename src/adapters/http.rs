//! HTTP as trackers are asked: one client for each, with its address, its credentials, its pace and its patience.
//!
//! Credentials go to the tracker's own origin only. A request that may be sent again is tried a few times, with growing
//! pauses or those that the server asks for; what lasts longer is left to the caller, who waits and keeps what it has.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use futures_util::{StreamExt, TryStreamExt};
use reqwest::header::{self, HeaderMap};
use reqwest::{Certificate, Identity, Method, RequestBuilder, Response, StatusCode, Url};
use secrecy::ExposeSecret;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncWriteExt;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::tolerant;
use crate::config::{Credentials, Watched};

/// Longest time until a connection stands.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest time without a byte of an answer.
const SILENCE: Duration = Duration::from_secs(60);
/// Attempts after the first, at a request that may be sent again.
const AGAIN: usize = 3;
/// The first pause; each later one is twice as long.
const PAUSE: Duration = Duration::from_millis(500);
/// Pauses longer than this that a server asks for are left to the caller.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// Longest time that a server's word on its limits is believed.
const LONGEST_HOLD: Duration = Duration::from_secs(900);
/// Beginning of the name of an upload in messages, in place of its address, which may be signed.
pub(super) const UPLOAD: &str = "the upload of";
/// Characters of a server's message that are shown.
const MESSAGE: usize = 300;
/// Bytes of an answer that is not a file.
const ANSWER: usize = 256 << 20;
/// Bytes of an answer that says no.
const REFUSAL: usize = 1 << 20;

/// Why a tracker's answer could not be had.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The client cannot be made as it is configured.
    #[error("{what}: {}", path.display())]
    Setup {
        /// What is wrong.
        what: String,
        /// The file that is wrong.
        path: std::path::PathBuf,
    },
    /// No answer came, or it broke off.
    #[error("no answer from {host} ({what}): {reason}")]
    Unreachable {
        /// The request, such as `POST runs/search`.
        what: String,
        /// The server's host.
        host: String,
        /// What failed, in the innermost words that there are.
        reason: String,
        /// Whether the request was never sent.
        unsent: bool,
    },
    /// The server said no.
    #[error("{what} was answered with {}{}", status.as_u16(), said(code.as_deref(), message))]
    Refused {
        /// The request.
        what: String,
        /// The status.
        status: StatusCode,
        /// MLflow's `error_code`, where there is one.
        code: Option<String>,
        /// What the server says, cut.
        message: String,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// The answer is not what the interface promises.
    #[error("the answer to {what} is not understood: {reason}")]
    Strange {
        /// The request.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file could not be written here.
    #[error("{source}: {}", path.display())]
    Disk {
        /// The file.
        path: std::path::PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

fn said(code: Option<&str>, message: &str) -> String {
    match (code, message) {
        (Some(code), "") => format!(" ({code})"),
        (Some(code), message) => format!(" ({code}): {message}"),
        (None, "") => String::new(),
        (None, message) => format!(": {message}"),
    }
}

impl HttpError {
    /// Whether waiting may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Strange { .. } => true,
            Self::Refused { status, code, .. } => {
                // A feature that is off answers 500 too, for ever.
                matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504)
                    && code.as_deref() != Some("FEATURE_DISABLED")
            }
            Self::Setup { .. } | Self::Disk { .. } => false,
        }
    }

    /// The status with which the server said no.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(status.as_u16()),
            _ => None,
        }
    }

    /// Whether the server says that what was asked for is not there.
    pub fn is_missing(&self) -> bool {
        self.status() == Some(404)
    }

    /// How long the server asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// What to do, where there is something to say.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable { reason, .. } if reason.contains("CaUsedAsEndEntity") => Some(
                "the server shows the certificate of an authority as its own, which is not accepted: have it show one \
                 that the authority has issued, or accept any with `insecure_tls: true`",
            ),
            Self::Unreachable { reason, .. } if reason.contains("certificate") => {
                Some("name the file with the certificates to trust in `certificates`")
            }
            Self::Unreachable { .. } => {
                Some("check the address, and that the server runs and can be reached from here")
            }
            Self::Refused { what, status, message, .. } => match status.as_u16() {
                401 => Some("check user and password, the token, or the key"),
                403 if message.contains("Invalid Host header") => Some(
                    "start the server with --allowed-hosts naming the host in the address, or use an address that it knows",
                ),
                403 if what.starts_with(UPLOAD) => Some(
                    "the store refused the upload: check this machine's clock, and what changes requests on their way",
                ),
                403 => Some(
                    "give this user the right to do it (at MLflow EDIT on the experiment, at W&B membership of the team)",
                ),
                404 if message.contains("Workspace") => Some("correct `workspace`, or MLFLOW_WORKSPACE"),
                404 => Some("check the address and its path; the server may be too old"),
                429 => Some("lower `requests_per_second`"),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Whether a request may be sent a second time although the first may have been carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It may: carried out twice it leaves the same.
    Freely,
    /// It must not: only when it was surely not carried out.
    IfNotDone,
}

/// A path as it is written in an address: each of its names encoded.
pub fn encode(path: &str) -> String {
    let Ok(mut url) = Url::parse("http://host/") else {
        return path.to_owned();
    };
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path.split('/').filter(|name| !name.is_empty()));
    }
    // A plus is a plus in a path, but some servers take it for a space.
    url.path().trim_start_matches('/').replace('+', "%2B")
}

/// A tracker's address, and how it is asked. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    credentials: Credentials,
    pace: Arc<Pace>,
}

/// The body of a request.
#[derive(Clone, Copy, Debug)]
enum Body<'b, B> {
    None,
    Json(&'b B),
    /// With a media type, where it is ours to say.
    Bytes(&'b [u8], Option<&'static str>),
}

/// What is known of a file that was downloaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Downloaded {
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was written, in seconds since 1970, where the server tells.
    pub modified: Option<i64>,
}

/// Spreads requests in time: no more than so many in a second.
#[derive(Debug)]
struct Pace {
    interval: Duration,
    next: Mutex<Instant>,
}

impl Pace {
    fn new(per_second: f64) -> Self {
        Self { interval: Duration::from_secs_f64(1.0 / per_second), next: Mutex::new(Instant::now()) }
    }

    /// Lets nothing through for a while.
    async fn hold(&self, pause: Duration) {
        let mut next = self.next.lock().await;
        *next = (*next).max(Instant::now() + pause);
    }

    async fn wait(&self) {
        let slot = {
            let mut next = self.next.lock().await;
            let slot = (*next).max(Instant::now());
            *next = slot + self.interval;
            slot
        };
        tokio::time::sleep_until(slot).await;
    }
}

impl Client {
    /// A client of the server at `base`, whose path ends with `/`. `headers` go with every request.
    ///
    /// # Errors
    /// [`HttpError::Setup`] when a certificate cannot be read.
    pub fn new(base: Url, watched: &Watched, headers: HeaderMap) -> Result<Self, HttpError> {
        let tls = &watched.tls;
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("doodl3/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .default_headers(headers)
            .redirect(reqwest::redirect::Policy::limited(5))
            .tls_danger_accept_invalid_certs(tls.insecure);
        let read =
            |path: &Path| std::fs::read(path).map_err(|source| HttpError::Disk { path: path.into(), source });
        let wrong = |what: &str, path: &Path, error: &reqwest::Error| HttpError::Setup {
            what: format!("{what}: {}", innermost(error)),
            path: path.into(),
        };
        if let Some(path) = &tls.certificates {
            let certificates = Certificate::from_pem_bundle(&read(path)?)
                .map_err(|error| wrong("no certificates can be read", path, &error))?;
            builder = builder.tls_certs_merge(certificates);
        }
        if let Some(path) = &tls.client_certificate {
            let identity = Identity::from_pem(&read(path)?)
                .map_err(|error| wrong("no certificate with its key can be read", path, &error))?;
            builder = builder.identity(identity);
        }
        let http = builder.build().map_err(|error| HttpError::Setup {
            what: format!("the client cannot be made: {}", innermost(&error)),
            path: tls.certificates.clone().unwrap_or_default(),
        })?;
        let pace = Arc::new(Pace::new(watched.requests_per_second));
        Ok(Self { http, base, credentials: watched.credentials.clone(), pace })
    }

    /// The server's address.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// The host and the port, for messages.
    pub fn host(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        self.base.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Whether credentials are sent where others can read them.
    pub fn exposes_credentials(&self) -> bool {
        let loopback = match self.base.host_str().unwrap_or_default() {
            "localhost" | "[::1]" => true,
            host => host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback()),
        };
        self.base.scheme() == "http" && !loopback && !matches!(self.credentials, Credentials::None)
    }

    /// Asks for JSON.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &(impl Serialize + Sync + ?Sized),
    ) -> Result<T, HttpError> {
        let what = format!("GET {}", shown(path));
        let url = self.url(path, query, &what)?;
        let response = self.send::<()>(Method::GET, url, Body::None, Repeat::Freely, &what).await?;
        json(response, &what).await
    }

    /// Asks for text.
    pub async fn text(&self, path: &str) -> Result<String, HttpError> {
        let what = format!("GET {}", shown(path));
        let url = self.url(path, &(), &what)?;
        let response = self.send::<()>(Method::GET, url, Body::None, Repeat::Freely, &what).await?;
        response.text().await.map_err(|error| self.unreachable(&what, &error))
    }

    /// Sends JSON, and gets JSON.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
        repeat: Repeat,
    ) -> Result<T, HttpError> {
        let what = format!("POST {}", shown(path));
        let url = self.url(path, &(), &what)?;
        let response = self.send(Method::POST, url, Body::Json(body), repeat, &what).await?;
        json(response, &what).await
    }

    /// Puts or posts a whole file; carried out twice it leaves the same.
    pub async fn upload(
        &self,
        method: Method,
        path: &str,
        query: &(impl Serialize + Sync + ?Sized),
        bytes: &[u8],
        media_type: &'static str,
    ) -> Result<(), HttpError> {
        let what = format!("{method} {}", shown(path));
        let url = self.url(path, query, &what)?;
        self.send::<()>(method, url, Body::Bytes(bytes, Some(media_type)), Repeat::Freely, &what).await?;
        Ok(())
    }

    /// Puts a file where a server says, with the headers that it asks for; carried out twice it leaves the same.
    pub async fn put(
        &self,
        to: &str,
        headers: &HeaderMap,
        bytes: &[u8],
        what: &str,
    ) -> Result<(), HttpError> {
        let url = self.url(to, &(), what)?;
        // An address may be signed for certain headers: none is added.
        let body = Body::Bytes(bytes, None);
        let dress = |request: RequestBuilder| request.headers(headers.clone());
        self.attempts::<()>(Method::PUT, &url, body, Repeat::Freely, what, dress).await?;
        Ok(())
    }

    /// Downloads a file into `to`, of which no more than a piece is ever in memory. A transfer that breaks off is taken
    /// up where it broke off, as long as the file there is the same. `size` is what was announced, if anything was.
    pub async fn download(
        &self,
        path: &str,
        query: &(impl Serialize + Sync + ?Sized),
        to: &Path,
        size: Option<u64>,
    ) -> Result<Downloaded, HttpError> {
        let what = format!("GET {}", shown(path));
        let url = self.url(path, query, &what)?;
        let disk = |source| HttpError::Disk { path: to.into(), source };
        let file = tokio::fs::File::create(to).await.map_err(disk)?;
        let mut transfer = Transfer { file, done: 0, tag: None, total: size, modified: None };
        let mut broken = 0;
        loop {
            let response = self.ask_on(&url, &transfer, &what).await?;
            match transfer.take(response, &what, self, to).await {
                Ok(()) => break,
                Err(error) if error.is_transient() && broken < AGAIN => broken += 1,
                Err(error) => return Err(error),
            }
        }
        transfer.file.flush().await.map_err(disk)?;
        if let Some(seconds) = transfer.modified {
            let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.max(0) as u64);
            let file = transfer.file.into_std().await;
            file.set_modified(time).map_err(disk)?;
        }
        Ok(Downloaded { bytes: transfer.done, modified: transfer.modified })
    }

    /// What the server says of a file without sending it: a tag that changes with its content, and its size.
    pub async fn tag(
        &self,
        path: &str,
        query: &(impl Serialize + Sync + ?Sized),
    ) -> Result<Option<String>, HttpError> {
        let what = format!("GET {}", shown(path));
        let url = self.url(path, query, &what)?;
        let first = |request: RequestBuilder| request.header(header::RANGE, "bytes=0-0");
        let response =
            self.attempts::<()>(Method::GET, &url, Body::None, Repeat::Freely, &what, first).await?;
        let headers = response.headers();
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(text(header::ETAG).or_else(|| text(header::LAST_MODIFIED)))
    }

    async fn ask_on(&self, url: &Url, transfer: &Transfer, what: &str) -> Result<Response, HttpError> {
        let from = |mut request: RequestBuilder| {
            if transfer.done > 0 {
                request = request.header(header::RANGE, format!("bytes={}-", transfer.done));
                if let Some(tag) = &transfer.tag {
                    request = request.header(header::IF_RANGE, tag);
                }
            }
            request
        };
        self.attempts::<()>(Method::GET, url, Body::None, Repeat::Freely, what, from).await
    }

    /// `path` below the server's address, or an address of its own.
    fn url(&self, path: &str, query: &(impl Serialize + ?Sized), what: &str) -> Result<Url, HttpError> {
        let strange = |reason: String| HttpError::Strange { what: what.into(), reason };
        let url = self.base.join(path).map_err(|error| strange(error.to_string()))?;
        // reqwest knows how to write a query; the request itself is made later, as often as needed.
        let request = self.http.get(url).query(query).build().map_err(|error| strange(innermost(&error)))?;
        Ok(request.url().clone())
    }

    async fn send<B: Serialize + Sync>(
        &self,
        method: Method,
        url: Url,
        body: Body<'_, B>,
        repeat: Repeat,
        what: &str,
    ) -> Result<Response, HttpError> {
        self.attempts(method, &url, body, repeat, what, |request| request).await
    }

    /// Tries a request as often as it may be tried.
    async fn attempts<B: Serialize + Sync>(
        &self,
        method: Method,
        url: &Url,
        body: Body<'_, B>,
        repeat: Repeat,
        what: &str,
        dress: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, HttpError> {
        let attempt = || async {
            let mut request = self.http.request(method.clone(), url.clone());
            if self.is_ours(url) {
                // A store to which we are sent is no part of what is limited.
                self.pace.wait().await;
                request = match &self.credentials {
                    Credentials::None => request,
                    Credentials::Basic { username, password } => {
                        request.basic_auth(username, Some(password.expose_secret()))
                    }
                    Credentials::Bearer(token) => request.bearer_auth(token.expose_secret()),
                };
            }
            request = match body {
                Body::None => request,
                Body::Json(value) => request.json(value),
                Body::Bytes(bytes, Some(media_type)) => {
                    request.header(header::CONTENT_TYPE, media_type).body(bytes.to_vec())
                }
                Body::Bytes(bytes, None) => request.body(bytes.to_vec()),
            };
            let response = dress(request).send().await.map_err(|error| self.unreachable(what, &error))?;
            let left = exhausted(response.headers());
            let outcome = if response.status().is_success() {
                Ok(response)
            } else {
                Err(refused(response, what).await)
            };
            // What it asks of one request it means for all.
            let asked = outcome.as_ref().err().and_then(HttpError::retry_after);
            if let Some(pause) = left.into_iter().chain(asked).max().filter(|_| self.is_ours(url)) {
                self.pace.hold(pause.min(LONGEST_HOLD)).await;
            }
            outcome
        };
        let may_repeat = |error: &HttpError| {
            let surely_not_done = match error {
                HttpError::Unreachable { unsent, .. } => *unsent,
                HttpError::Refused { status, .. } => matches!(status.as_u16(), 408 | 429),
                _ => false,
            };
            let bearable = error.retry_after().is_none_or(|pause| pause <= LONGEST_PAUSE);
            error.is_transient() && bearable && (repeat == Repeat::Freely || surely_not_done)
        };
        attempt
            .retry(ExponentialBuilder::default().with_min_delay(PAUSE).with_max_times(AGAIN).with_jitter())
            .when(may_repeat)
            .adjust(|error, pause| pause.map(|pause| error.retry_after().unwrap_or(pause)))
            .notify(|error, pause| tracing::debug!(%error, ?pause, "asked again"))
            .await
    }

    /// Whether an address is below that of the server, to which alone credentials go.
    fn is_ours(&self, url: &Url) -> bool {
        url.origin() == self.base.origin() && url.path().starts_with(self.base.path())
    }

    fn unreachable(&self, what: &str, error: &reqwest::Error) -> HttpError {
        HttpError::Unreachable {
            what: what.into(),
            host: self.host(),
            reason: innermost(error),
            unsent: error.is_connect() || error.is_builder(),
        }
    }
}

/// A download under way.
struct Transfer {
    file: tokio::fs::File,
    done: u64,
    tag: Option<String>,
    total: Option<u64>,
    modified: Option<i64>,
}

impl Transfer {
    /// Takes an answer to its end.
    async fn take(
        &mut self,
        response: Response,
        what: &str,
        client: &Client,
        to: &Path,
    ) -> Result<(), HttpError> {
        use tokio::io::AsyncSeekExt;
        let disk = |source| HttpError::Disk { path: to.into(), source };
        if self.done > 0 && response.status() != StatusCode::PARTIAL_CONTENT {
            // The server sends all of it again, because it knows no ranges or the file has changed.
            self.file.set_len(0).await.map_err(disk)?;
            self.file.rewind().await.map_err(disk)?;
            (self.done, self.tag) = (0, None);
        }
        let headers = response.headers();
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        self.tag = text(header::ETAG).map(str::to_owned);
        self.modified = text(header::LAST_MODIFIED).and_then(seconds);
        let announced = response.content_length().map(|length| self.done + length);
        let mut pieces = response.bytes_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| client.unreachable(what, &error))?;
            self.file.write_all(&piece).await.map_err(disk)?;
            self.done += piece.len() as u64;
        }
        match announced.or(self.total) {
            Some(expected) if expected != self.done => Err(HttpError::Unreachable {
                what: what.into(),
                host: client.host(),
                reason: format!("{} of {expected} bytes came", self.done),
                unsent: false,
            }),
            _ => Ok(()),
        }
    }
}

/// Seconds since 1970 of a date such as `Wed, 21 Oct 2015 07:28:00 GMT` (RFC 9110 §5.6.7).
fn seconds(date: &str) -> Option<i64> {
    Some(jiff::fmt::rfc2822::parse(date).ok()?.timestamp().as_second())
}

/// A path, or an address, as messages show it: without what is asked for, which may hold a signature.
fn shown(path: &str) -> &str {
    path.split('?').next().unwrap_or_default()
}

/// How long a server asks to wait that has told how many requests are left: none.
fn exhausted(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let reset = number("ratelimit-reset").filter(|reset| *reset > 0.0)?;
    (number("ratelimit-remaining")? < 1.0).then(|| Duration::try_from_secs_f64(reset).ok()).flatten()
}

/// A pause as servers ask for it: in seconds, or until a date (RFC 9110 §10.2.3).
fn pause(text: &str) -> Option<Duration> {
    if let Ok(pause) = text.trim().parse::<f64>() {
        return Duration::try_from_secs_f64(pause).ok();
    }
    let now = jiff::Timestamp::now().as_second();
    Some(Duration::from_secs(seconds(text.trim())?.saturating_sub(now).max(0) as u64))
}

async fn json<T: DeserializeOwned>(response: Response, what: &str) -> Result<T, HttpError> {
    let strange = |reason: String| HttpError::Strange { what: what.into(), reason };
    let (bytes, whole) = beginning(response, ANSWER).await.map_err(|error| strange(innermost(&error)))?;
    if !whole {
        return Err(strange(format!("it is longer than {} MB", ANSWER >> 20)));
    }
    tolerant::from_slice(&bytes).map_err(|error| {
        // What is JSON may hold signed addresses; a page says what answered in place of the server.
        let is_json =
            bytes.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| b"{[".contains(byte));
        strange(if is_json { error.to_string() } else { format!("{error}: {}", excerpt(&bytes)) })
    })
}

/// The beginning of an answer, and whether that is all of it.
async fn beginning(response: Response, most: usize) -> reqwest::Result<(Vec<u8>, bool)> {
    let mut bytes = Vec::new();
    let mut pieces = response.bytes_stream();
    while let Some(piece) = pieces.try_next().await? {
        if bytes.len() + piece.len() > most {
            return Ok((bytes, false));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok((bytes, true))
}

/// What a server says when it says no: as MLflow does, as web frameworks do, or in one of W&B's ways.
#[derive(serde::Deserialize)]
struct Said {
    error_code: Option<String>,
    message: Option<String>,
    detail: Option<serde_json::Value>,
    error: Option<serde_json::Value>,
    errors: Option<Vec<serde_json::Value>>,
}

impl Said {
    fn message(&self) -> String {
        let of = |value: &serde_json::Value| match value {
            serde_json::Value::String(text) => text.clone(),
            other => other["message"].as_str().map_or_else(|| other.to_string(), str::to_owned),
        };
        let several = self.errors.iter().flatten().map(of).collect::<Vec<_>>().join("; ");
        let one = self.error.iter().chain(&self.detail).map(of).next();
        self.message.clone().or(one).unwrap_or(several)
    }
}

async fn refused(response: Response, what: &str) -> HttpError {
    let status = response.status();
    let retry_after =
        response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(pause);
    let body = beginning(response, REFUSAL).await.map(|(bytes, _)| bytes).unwrap_or_default();
    let said: Option<Said> = serde_json::from_slice(&body).ok();
    let (code, message) = match said {
        Some(said) => (said.error_code.clone(), excerpt(said.message().as_bytes())),
        None => (None, excerpt(&body)),
    };
    HttpError::Refused { what: what.into(), status, code, message, retry_after }
}

/// The beginning of what a server says, as one line without markup.
fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(8 * MESSAGE)]);
    let mut inside = false;
    let plain: String = text
        .chars()
        .filter(|&character| {
            let markup = inside || character == '<';
            inside = if inside { character != '>' } else { character == '<' };
            !markup
        })
        .collect();
    let words: Vec<&str> = plain.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(MESSAGE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// The last cause, which says most; never the address, which may hold secrets.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if error.is_timeout() {
        return "it took too long".into();
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn what_a_server_says_becomes_one_line() {
        let page = b"<!doctype html>\n<html><h1>Not Found</h1>\n<p>The URL was not found</p></html>";
        assert_eq!(excerpt(page), "Not Found The URL was not found");
        assert_eq!(excerpt("ä".repeat(1000).as_bytes()).chars().count(), MESSAGE + 1);
    }

    /// A server that gives one answer after the other, and counts the requests. An answer is sent as it is and the
    /// connection closed.
    async fn server(answers: Vec<String>) -> (Client, Arc<std::sync::Mutex<Vec<String>>>) {
        use tokio::io::AsyncReadExt;
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = vec![0; 8192];
                let length = stream.read(&mut head).await.unwrap();
                seen.lock().unwrap().push(String::from_utf8_lossy(&head[..length]).into_owned());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let base = Url::parse(&format!("http://{address}/pfx/")).unwrap();
        let watched = Watched {
            name: "lab".into(),
            pattern: crate::checkpoint::Pattern::default(),
            loss: None,
            credentials: Credentials::Bearer("s3cret".to_owned().into()),
            tls: crate::config::Tls::default(),
            poll_every: Duration::from_secs(1),
            requests_per_second: 1000.0,
            stale_after: Duration::from_secs(1),
        };
        let client = Client::new(base, &watched, HeaderMap::new()).unwrap();
        (client, asked)
    }

    fn answer(status: &str, headers: &str, body: &str) -> String {
        format!(
            "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}",
            body.len()
        )
    }

    #[tokio::test]
    async fn what_passes_is_asked_again_and_what_stays_is_told() {
        let (client, asked) = server(vec![
            answer("429 Too Many Requests", "retry-after: 0\r\n", "slow down"),
            answer("500 Internal Server Error", "", "<html><h1>Oops</h1></html>"),
            answer("200 OK", "", "{\"x\": 1}"),
            answer("403 Forbidden", "", "Permission denied"),
            answer(
                "500 Internal Server Error",
                "",
                "{\"error_code\": \"FEATURE_DISABLED\", \"message\": \"off\"}",
            ),
            answer("200 OK", "", "<html>a page</html>"),
        ])
        .await;
        let found: serde_json::Value = client.get("a", &[("q", "1 2")]).await.unwrap();
        assert_eq!(found["x"], 1);
        let refused = client.get::<serde_json::Value>("b", &()).await.unwrap_err();
        assert_eq!(refused.to_string(), "GET b was answered with 403: Permission denied");
        assert!(!refused.is_transient() && refused.hint().unwrap().contains("EDIT"));
        let off = client.get::<serde_json::Value>("c", &()).await.unwrap_err();
        assert!(!off.is_transient(), "asking again would not help");
        let strange = client.get::<serde_json::Value>("d", &()).await.unwrap_err();
        assert!(strange.to_string().contains("a page"), "{strange}");
        let asked = asked.lock().unwrap();
        assert_eq!(asked.len(), 6);
        assert!(
            asked[0].starts_with("GET /pfx/a?q=1+2 ") && asked[0].contains("authorization: Bearer s3cret")
        );
    }

    #[test]
    fn pauses_are_told_in_seconds_or_by_a_date() {
        assert_eq!(pause("1.5"), Some(Duration::from_millis(1500)));
        assert_eq!(pause("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!((pause("-1"), pause("soon")), (None, None));
        let told = |remaining: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("ratelimit-remaining", HeaderValue::from_static(remaining));
            headers.insert("ratelimit-reset", HeaderValue::from_static("2.5"));
            exhausted(&headers)
        };
        assert_eq!((told("0"), told("12")), (Some(Duration::from_millis(2500)), None));
    }

    #[test]
    fn what_servers_say_is_found_in_all_its_forms() {
        for body in [
            r#"{"message": "no"}"#,
            r#"{"error": "no"}"#,
            r#"{"error": {"message": "no"}}"#,
            r#"{"errors": ["no"]}"#,
            r#"{"errors": [{"message": "no"}], "data": null}"#,
        ] {
            assert_eq!(serde_json::from_str::<Said>(body).unwrap().message(), "no", "{body}");
        }
    }

    #[tokio::test]
    async fn credentials_go_nowhere_but_below_the_address() {
        let (client, asked) = server(vec![answer("200 OK", "", "{}")]).await;
        let elsewhere = client.base().join("/other").unwrap();
        client.get::<serde_json::Value>(elsewhere.as_str(), &()).await.unwrap();
        assert!(!asked.lock().unwrap()[0].contains("authorization"));
    }

    #[tokio::test]
    async fn what_must_not_be_done_twice_is_sent_again_only_when_it_was_surely_not_done() {
        let again =
            vec![answer("429 Too Many Requests", "retry-after: 0\r\n", ""), answer("200 OK", "", "{}")];
        let (client, _) = server(again).await;
        client.post::<serde_json::Value>("a", &(), Repeat::IfNotDone).await.unwrap();
        let (client, asked) =
            server(vec![answer("502 Bad Gateway", "", ""), answer("200 OK", "", "{}")]).await;
        client.post::<serde_json::Value>("a", &(), Repeat::IfNotDone).await.unwrap_err();
        assert_eq!(asked.lock().unwrap().len(), 1, "it may have been done");
    }

    #[tokio::test]
    async fn a_download_goes_on_where_it_broke_off() {
        let torn = "HTTP/1.1 200 OK\r\netag: \"t\"\r\ncontent-length: 10\r\nconnection: close\r\n\r\n01234";
        let rest = answer("206 Partial Content", "etag: \"t\"\r\n", "56789");
        let (client, asked) = server(vec![torn.to_owned(), rest]).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        let downloaded = client.download("file", &(), &file, Some(10)).await.unwrap();
        assert_eq!((downloaded.bytes, std::fs::read_to_string(&file).unwrap().as_str()), (10, "0123456789"));
        let asked = asked.lock().unwrap();
        assert!(asked[1].contains("range: bytes=5-") && asked[1].contains("if-range: \"t\""), "{}", asked[1]);
    }

    #[tokio::test]
    async fn a_file_that_changed_meanwhile_is_taken_from_its_beginning() {
        let torn = "HTTP/1.1 200 OK\r\netag: \"t\"\r\ncontent-length: 10\r\nconnection: close\r\n\r\n01234";
        let (client, _) = server(vec![torn.to_owned(), answer("200 OK", "etag: \"u\"\r\n", "abc")]).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        client.download("file", &(), &file, None).await.unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "abc");
    }

    #[tokio::test]
    async fn credentials_stay_with_the_servers_own_origin() {
        let (client, _) = server(Vec::new()).await;
        let (elsewhere, asked) = server(vec![answer("200 OK", "", "{}")]).await;
        let address = elsewhere.base().join("x").unwrap();
        let _: serde_json::Value = client.get(address.as_str(), &()).await.unwrap();
        assert!(!asked.lock().unwrap()[0].contains("authorization"));
    }

    #[test]
    fn dates_of_http_are_read() {
        assert_eq!(seconds("Wed, 21 Oct 2015 07:28:00 GMT"), Some(1_445_412_480));
        assert_eq!(seconds("yesterday"), None);
    }

    #[tokio::test]
    async fn requests_are_spread() {
        let pace = Pace::new(200.0);
        let began = Instant::now();
        for _ in 0..21 {
            pace.wait().await;
        }
        assert!(began.elapsed() >= Duration::from_millis(100));
    }
}
