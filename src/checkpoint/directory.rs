//! What a format's parser hands over: tensors by stored name, with their places.

use std::collections::BTreeMap;

use super::Format;
use super::dtype::Dtype;
use super::error::Fault;
use super::layout::Layout;
use super::names::clip;

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

/// A tensor as PyTorch describes it: a view of a storage.
#[derive(Debug)]
pub(super) struct View<'n> {
    pub(super) name: &'n str,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<u64>,
    /// One for each axis, in elements.
    pub(super) strides: Vec<u64>,
    /// The first element.
    pub(super) offset: u64,
}

impl View<'_> {
    /// Where its elements lie in the file, if the storage of so many bytes that begins at `start` holds them all.
    pub(super) fn within(self, start: u64, bytes: u64) -> Result<Place, Fault> {
        let Self { name, dtype, shape, strides, offset } = self;
        let wrong = |what: &str| Fault::damaged(format!("the tensor `{}` {what}", clip(name)));
        // The storage's size is that of a zip entry, so it is no larger than the file.
        let size = dtype.size() as u64;
        let available = bytes / size;
        let elements = shape.iter().try_fold(1_u64, |product, &length| product.checked_mul(length));
        let elements = elements.filter(|&elements| elements <= available).ok_or_else(|| {
            wrong(&format!("of shape {shape:?} has more elements than its storage, which has {available}"))
        })?;
        let last = shape.iter().zip(&strides).try_fold(offset, |last, (&length, &stride)| {
            stride.checked_mul(length.saturating_sub(1)).and_then(|reach| last.checked_add(reach))
        });
        if elements > 0 && last.is_none_or(|last| last >= available) {
            return Err(wrong(&format!("reaches beyond its storage, which has {available} elements")));
        }
        let offset = if elements > 0 { start + offset * size } else { start };
        let strides = if elements == 0 || is_row_major(&shape, &strides) { None } else { Some(strides) };
        Ok(Place {
            stored_name: name.to_owned(),
            dtype,
            shape: shape.into_iter().map(|length| length as usize).collect(),
            layout: Layout { offset, strides },
        })
    }
}

fn is_row_major(shape: &[u64], strides: &[u64]) -> bool {
    let mut inner = 1;
    shape.iter().zip(strides).rev().all(|(&length, &stride)| {
        let fits = length == 1 || stride == inner;
        inner *= length;
        fits
    })
}
