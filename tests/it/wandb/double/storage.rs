//! The storage: another origin, where a signature in the address is all that counts.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::api::{About, Read};
use super::state::{md5_base64, md5_hex, unescaped};
use super::{Faults, Shared};

/// Answers a request to the storage.
pub(super) async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let request = Read::whole(request).await;
    let faults = shared.faults_of(&request);
    let answer = if let Some(fault) = shared.fault(&faults, false) {
        fault
    } else if request.headers.contains_key(header::AUTHORIZATION) {
        let message = "Only one auth mechanism allowed; only the signature or the Authorization header";
        refuse(StatusCode::BAD_REQUEST, "InvalidArgument", message)
    } else {
        exchange(&shared, &request, request.path.trim_start_matches('/'), &faults)
    };
    let what = format!("{} {}", request.method, unescaped(&request.path));
    shared.note(&request, About { what, run: run_of(&request.path) }, answer.status(), true);
    answer
}

fn run_of(path: &str) -> Option<String> {
    path.strip_prefix("/runs/")?.split('/').nth(1).map(unescaped)
}

fn refuse(status: StatusCode, code: &str, message: &str) -> Response {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    (status, [(header::CONTENT_TYPE, "application/xml")], body).into_response()
}

/// Takes or gives what the signature allows.
pub(super) fn exchange(shared: &Shared, request: &Read, path: &str, faults: &Faults) -> Response {
    let mut state = shared.state.lock().unwrap();
    let signature = request.query.split('&').find_map(|pair| pair.strip_prefix("signature="));
    let ticket = signature.and_then(|signature| state.tickets.get(signature));
    let is_it = |key: &str, method: &str| {
        let asked = if request.method == Method::HEAD { "GET" } else { request.method.as_str() };
        key == unescaped(path) && method == asked
    };
    let Some(ticket) = ticket.filter(|ticket| is_it(&ticket.key, ticket.method)) else {
        return refuse(StatusCode::FORBIDDEN, "SignatureDoesNotMatch", "The signature does not match");
    };
    let expires = format!("expires={}", ticket.expires);
    if !request.query.split('&').any(|pair| pair == expires) {
        return refuse(StatusCode::FORBIDDEN, "SignatureDoesNotMatch", "The signature does not match");
    }
    if ticket.expires < jiff::Timestamp::now().as_second() {
        return refuse(StatusCode::FORBIDDEN, "AccessDenied", "Request has expired");
    }
    let missing = ticket.headers.iter().find(|(name, value)| request.header(name) != Some(value));
    if let Some((name, _)) = missing {
        let message = format!("The header {name} is not as it was signed");
        return refuse(StatusCode::FORBIDDEN, "SignatureDoesNotMatch", &message);
    }
    let key = ticket.key.clone();
    if request.method != Method::PUT {
        return match state.get(&key) {
            Some(bytes) => give(bytes, request.header("range")),
            None => refuse(StatusCode::NOT_FOUND, "NoSuchKey", "The specified key does not exist"),
        };
    }
    if !request.headers.contains_key(header::CONTENT_LENGTH) {
        return refuse(StatusCode::LENGTH_REQUIRED, "MissingContentLength", "Content-Length is needed");
    }
    if request.header("content-md5").is_some_and(|md5| md5 != md5_base64(&request.body)) {
        return refuse(StatusCode::BAD_REQUEST, "BadDigest", "The Content-MD5 you specified did not match");
    }
    let tag = tag(&request.body);
    let marks_itself = faults.unknown_fields.iter().any(|field| field == "markRunFilesUploaded");
    state.put(&key, request.body.to_vec(), marks_itself);
    (StatusCode::OK, [(header::ETAG, tag)], Body::empty()).into_response()
}

fn tag(bytes: &[u8]) -> String {
    format!("\"{}\"", md5_hex(bytes))
}

/// The bytes, or the range of them that is asked for: `bytes=FROM-` or `bytes=FROM-TO`.
fn give(bytes: &[u8], range: Option<&str>) -> Response {
    let headers = [(header::ETAG, tag(bytes)), (header::ACCEPT_RANGES, "bytes".to_owned())];
    let parsed = range.and_then(|range| range.strip_prefix("bytes=")).and_then(|range| range.split_once('-'));
    let Some((from, to)) = parsed else { return (headers, bytes.to_vec()).into_response() };
    let (size, from) = (bytes.len(), from.parse::<usize>().unwrap_or_default());
    if from >= size {
        let range = [(header::CONTENT_RANGE, format!("bytes */{size}"))];
        return (StatusCode::RANGE_NOT_SATISFIABLE, range, Body::empty()).into_response();
    }
    let end = to.parse::<usize>().map_or(size, |to| size.min(to + 1));
    let range = [(header::CONTENT_RANGE, format!("bytes {from}-{}/{size}", end - 1))];
    (StatusCode::PARTIAL_CONTENT, headers, range, bytes[from..end].to_vec()).into_response()
}
