//! The stream of a run: lines by their number, the whole summary, and how the run ended.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::ENTITY;
use super::api::{Read, as_json, failed};
use super::state::{State, StreamPost, finite, now};

/// Takes in a post to the stream.
pub(super) fn take(state: &mut State, request: &Read, entity: &str, project: &str, run: &str) -> Response {
    let text = String::from_utf8_lossy(&request.body).into_owned();
    let body: Value = match serde_json::from_str(if text.is_empty() { "{}" } else { &text }) {
        Ok(body) => body,
        Err(error) => return failed(StatusCode::BAD_REQUEST, &error.to_string()).into_response(),
    };
    let found =
        state.runs.iter_mut().find(|one| entity == ENTITY && one.project == project && one.name == run);
    let Some(run) = found else {
        return failed(StatusCode::NOT_FOUND, &format!("run {run} not found")).into_response();
    };
    for (name, file) in body["files"].as_object().into_iter().flatten() {
        let lines: Vec<&str> =
            file["content"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let offset = file["offset"].as_u64().unwrap_or_default() as usize;
        match name.as_str() {
            "wandb-summary.json" => {
                if let Some(line) = lines.last() {
                    // The file in the run's files is the same.
                    (*line).clone_into(&mut run.summary);
                    run.files.insert(name.clone(), finite(line).into_bytes());
                }
            }
            "wandb-history.jsonl" => write(&mut run.history, offset, &lines),
            "wandb-events.jsonl" => write(&mut run.events, offset, &lines),
            _ => write(&mut run.output, offset, &lines),
        }
    }
    let uploaded = body["uploaded"].as_array().into_iter().flatten().filter_map(Value::as_str);
    run.mark(uploaded);
    run.heartbeat_at = now();
    run.state = match (body["complete"].as_bool(), body["exitcode"].as_i64()) {
        (Some(true), None | Some(0)) => "finished".into(),
        (Some(true), _) => "failed".into(),
        _ if body["preempting"] == true => "preempting".into(),
        _ => "running".into(),
    };
    let user_agent = request.header("user-agent").unwrap_or_default().to_owned();
    run.stream_posts.push(StreamPost { user_agent, body: text });
    let mut answer = json!({ "exitcode": null, "limits": {} });
    if run.stopped {
        answer["stopped"] = true.into();
    }
    as_json(StatusCode::OK, &answer)
}

/// Lines replace those of the same numbers.
fn write(known: &mut Vec<String>, offset: usize, lines: &[&str]) {
    for (place, line) in lines.iter().enumerate() {
        let place = offset + place;
        if known.len() <= place {
            known.resize(place + 1, String::new());
        }
        (*line).clone_into(&mut known[place]);
    }
}
