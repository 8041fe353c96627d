//! One agent's requests, answered in turn.

use std::io;

use doodl3::evaluate::protocol::{Request, Response};

use crate::frames::Replies;
use crate::train;

/// The models that are loaded.
#[derive(Default)]
pub(crate) struct Session {}

impl Session {
    /// Answers one request; an error means that the agent cannot be reached.
    pub(crate) fn answer(&mut self, request: Request, replies: &mut Replies) -> io::Result<()> {
        let response = match request {
            Request::Train(training) => {
                let epochs = training.epochs;
                let progress = |epoch| replies.send(&Response::Progress { epoch, epochs });
                train::train(&training, progress).map(|()| Response::Trained).map_err(|error| chain(&error))
            }
            Request::Load { .. } | Request::Evaluate { .. } => Err("not yet".into()),
        };
        replies.send(&response.unwrap_or_else(|message| Response::Failed { message }))
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |error| error.source())
        .fold(error.to_string(), |words, source| format!("{words}: {source}"))
}
