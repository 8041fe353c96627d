//! What a format's parser hands over: tensors by stored name, with their places.

use std::collections::BTreeMap;

use super::Format;
use super::dtype::Dtype;
use super::layout::Layout;

/// Most tensors in one file. The largest public models have a third of it.
pub(super) const MAX_TENSORS: usize = 1 << 18;

/// A file's directory, checked against its size: every place lies within the file, every shape has at most as many
/// elements as the file has bytes.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) format: Format,
    /// In no particular order, each name once.
    pub(super) tensors: Vec<Place>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) notes: Vec<String>,
    pub(super) unknown_globals: Vec<String>,
}

/// One tensor.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) stored_name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) layout: Layout,
}
