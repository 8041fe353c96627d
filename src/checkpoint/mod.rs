//! Checkpoints: files in which a trainer leaves a model's weights, read safely and reduced to what is needed.
//!
//! Files are treated as hostile: nothing in them is run, no size in them is believed before it is checked against the
//! file's own, and each failure is an error that says whether waiting may help. Tensors are streamed through small
//! buffers by positional reads; a memory map would kill this process when a trainer truncates the file.
//!
//! [`open()`] reads a file's directory and nothing more; [`summarize`] reads everything once and keeps what fits in a few
//! kilobytes. Tensors are always taken in the order of their names, so that a model gives the same digest, sketch and
//! statistics whichever format it was saved in.

mod directory;
mod dtype;
mod entries;
mod error;
mod layout;
mod names;
mod open;
mod pattern;
mod pickle;
mod safetensors;
mod select;
mod sketch;
mod state_dict;
mod statistics;
mod summary;
mod torch_export;
mod torch_zip;
mod zip;

pub use dtype::{Dtype, Values};
pub use entries::{Entries, read_entries};
pub use error::CheckpointError;
pub use layout::{Block, Buffer};
pub use names::{ENDINGS, is_candidate, normalize_names};
pub use open::{Contents, FileIdentity, Format, OpenCheckpoint, TensorInfo, looks_complete, open};
pub use pattern::{Naming, Pattern, PatternError};
pub use sketch::sketch_vector;
pub use summary::{
    COORDINATES, Coordinate, InvalidDimension, Sketch, SketchParameters, Summary, TENSOR_SKETCH,
    TensorStatistics, summarize,
};
