//! One agent's requests, answered in turn.

use std::collections::BTreeMap;
use std::io;

use doodl3::evaluate::protocol::{Request, Response};

use crate::frames::Replies;
use crate::model::{Evaluated, LoadedModel};
use crate::train;

/// The models that are loaded.
#[derive(Default)]
pub(crate) struct Session {
    models: BTreeMap<u64, LoadedModel>,
}

impl Session {
    /// Answers one request; an error means that the agent cannot be reached.
    pub(crate) fn answer(&mut self, request: Request, replies: &mut Replies) -> io::Result<()> {
        let response = match request {
            Request::Load { id, model } => LoadedModel::load(&model)
                .map(|model| {
                    let parameters = model.parameters();
                    self.models.insert(id, model);
                    Response::Loaded { parameters }
                })
                .map_err(|error| in_one_line(&error)),
            Request::Evaluate { id, checkpoint } => match self.models.get_mut(&id) {
                Some(model) => model
                    .evaluate(&checkpoint)
                    .map(|Evaluated { loss, predictions }| Response::Evaluated { loss, predictions })
                    .map_err(|error| in_one_line(&error)),
                None => Err(format!("no model {id} was loaded: this is a bug in doodl3")),
            },
            Request::Train(training) => {
                let epochs = training.epochs;
                let progress = |epoch| replies.send(&Response::Progress { epoch, epochs });
                train::train(&training, progress)
                    .map(|()| Response::Trained)
                    .map_err(|error| in_one_line(&error))
            }
        };
        replies.send(&response.unwrap_or_else(|message| Response::Failed { message }))
    }
}

/// An error with its causes.
fn in_one_line(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |error| error.source())
        .fold(error.to_string(), |words, cause| format!("{words}: {cause}"))
}
