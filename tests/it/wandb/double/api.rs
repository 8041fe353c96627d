//! The API's own port: GraphQL, files by their path, and what fails whole requests.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::graphql::{self, refused};
use super::query::Resolver;
use super::state::{hex_of, is_inside, unescaped};
use super::{Asked, ENTITY, Faults, KEY, Shared, storage, stream};

/// A request, read to its end.
pub(super) struct Read {
    pub(super) method: Method,
    /// As it stands in the address.
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Read {
    pub(super) async fn whole(request: Request) -> Self {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1 << 30).await.unwrap_or_default();
        let path = parts.uri.path().to_owned();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        Self { method: parts.method, path, query, headers: parts.headers, body }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn is_known(&self) -> bool {
        let given = self.header("authorization").and_then(|value| value.strip_prefix("Basic "));
        let given = given.and_then(|pair| BASE64.decode(pair).ok());
        given.as_deref() == Some(format!("api:{KEY}").as_bytes())
    }
}

/// What is noted of a request besides its answer.
pub(super) struct About {
    pub(super) what: String,
    pub(super) run: Option<String>,
}

impl Shared {
    pub(super) fn note(&self, request: &Read, about: About, status: StatusCode, storage: bool) {
        let user_agent = request.header("user-agent").unwrap_or_default().to_owned();
        let About { what, run } = about;
        let asked = Asked { at: Instant::now(), what, run, status: status.as_u16(), storage, user_agent };
        self.requests.lock().unwrap().push(asked);
    }

    /// What goes wrong for whoever asks.
    pub(super) fn faults_of(&self, request: &Read) -> Faults {
        self.faults.lock().unwrap().of(request.header("user-agent").unwrap_or_default())
    }

    /// The answer to a request that fails as a whole.
    pub(super) fn fault(&self, faults: &Faults, with_quota: bool) -> Option<Response> {
        if faults.server_error {
            return Some(failed(StatusCode::INTERNAL_SERVER_ERROR, "internal server error").into_response());
        }
        if let Some((until, seconds)) = faults.too_many.filter(|(until, _)| Instant::now() < *until) {
            let left = (until - Instant::now()).as_secs_f64();
            return Some(too_many(seconds, left));
        }
        let rate = faults.quota.filter(|_| with_quota)?;
        let window = Duration::from_secs_f64((1.0 / rate).max(1.0));
        let mut recent = self.recent.lock().unwrap();
        let now = Instant::now();
        while recent.front().is_some_and(|first| now - *first >= window) {
            recent.pop_front();
        }
        if recent.len() as f64 >= rate.max(1.0) {
            let left = recent.front().map_or(window, |first| window.saturating_sub(now - *first));
            return Some(too_many(1.0, left.as_secs_f64()));
        }
        recent.push_back(now);
        None
    }
}

fn too_many(seconds: f64, left: f64) -> Response {
    let mut answer = failed(StatusCode::TOO_MANY_REQUESTS, "rate limit exceeded").into_response();
    let values = [
        ("retry-after", seconds.to_string()),
        ("ratelimit-remaining", "0".into()),
        ("ratelimit-reset", left.to_string()),
    ];
    for (name, value) in values {
        answer.headers_mut().insert(name, HeaderValue::from_str(&value).unwrap());
    }
    answer
}

pub(super) fn failed(status: StatusCode, message: &str) -> impl IntoResponse + use<> {
    as_json(status, &json!({ "error": message }))
}

pub(super) fn as_json(status: StatusCode, value: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

/// Answers a request to the API.
pub(super) async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let request = Read::whole(request).await;
    let faults = shared.faults_of(&request);
    let mut about = About { what: format!("{} {}", request.method, unescaped(&request.path)), run: None };
    let answer = if request.method == Method::POST && request.path == "/graphql" {
        let read = graphql::Request::read(&request.body);
        if let Ok(read) = &read {
            about = About { what: read.what(), run: read.run() };
        }
        let fault = shared.fault(&faults, true);
        fault.unwrap_or_else(|| run(&shared, &request, &faults, read))
    } else {
        about.run =
            request.path.strip_prefix("/files/").and_then(|path| path.split('/').nth(2)).map(unescaped);
        let fault = shared.fault(&faults, true);
        fault.unwrap_or_else(|| by_path(&shared, &request, &faults))
    };
    shared.note(&request, about, answer.status(), false);
    answer
}

fn run(shared: &Shared, request: &Read, faults: &Faults, read: Result<graphql::Request, String>) -> Response {
    let refusal = if faults.refuses_with_200 { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    let read = match read {
        Ok(read) => read,
        Err(problem) => return as_json(refusal, &refused(&[problem])),
    };
    let problems = read.problems(&faults.unknown_fields);
    if !problems.is_empty() {
        return as_json(refusal, &refused(&problems));
    }
    let mut state = shared.state.lock().unwrap();
    let mut resolver = Resolver {
        state: &mut state,
        faults,
        api: &shared.api,
        storage: &shared.storage,
        is_known: request.is_known() && !faults.unknown_key,
    };
    let data = read.run_with(&mut resolver);
    let is_invalid =
        data["errors"].as_array().into_iter().flatten().any(|error| {
            error["message"].as_str().is_some_and(|message| message.starts_with("invalid filters"))
        });
    as_json(if is_invalid { StatusCode::BAD_REQUEST } else { StatusCode::OK }, &data)
}

fn by_path(shared: &Shared, request: &Read, faults: &Faults) -> Response {
    if let Some(path) = request.path.strip_prefix("/storage/") {
        return storage::exchange(shared, request, path, faults);
    }
    if !request.is_known() || faults.unknown_key {
        return failed(StatusCode::UNAUTHORIZED, "permission denied").into_response();
    }
    let path: Vec<String> = request.path.split('/').skip(1).map(unescaped).collect();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let mut state = shared.state.lock().unwrap();
    let key = match (&request.method, path.as_slice()) {
        (&Method::POST, ["files", entity, project, run, "file_stream"]) => {
            return stream::take(&mut state, request, entity, project, run);
        }
        (&Method::GET, ["files", entity, project, run, name @ ..]) => {
            let name = name.join("/");
            if !is_inside(&name) {
                return failed(StatusCode::BAD_REQUEST, "invalid path").into_response();
            }
            (*entity == ENTITY).then(|| format!("runs/{project}/{run}/{name}"))
        }
        (&Method::GET, ["artifactsV2", _region, entity, _project, _collection, .., digest, _name]) => {
            let mut known = state.known_bytes.iter();
            let found = known.find(|(one, _)| *entity == ENTITY && hex_of(one).as_deref() == Some(*digest));
            found.map(|(_, (key, _))| key.clone())
        }
        _ => None,
    };
    match key.filter(|key| state.get(key).is_some()) {
        None => failed(StatusCode::NOT_FOUND, "not found").into_response(),
        Some(key) => {
            let signed = state.sign("GET", &key, Vec::new(), faults.expire_urls);
            let place = format!("{}{signed}", shared.storage);
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, place)], Body::empty()).into_response()
        }
    }
}
