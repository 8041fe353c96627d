//! Tensors of files: reading them, and finding those that a model wants.

use std::collections::{BTreeMap, BTreeSet};

use doodl3::checkpoint::{CheckpointError, Dtype, OpenCheckpoint};
use tch::{Kind, Tensor};

use crate::torch_error::TorchError;

/// Why a tensor of a file could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WeightsError {
    /// The file could not be read.
    #[error(transparent)]
    Read(#[from] CheckpointError),
    /// libtorch refused.
    #[error("tensor {name} cannot be used")]
    Torch { name: String, source: TorchError },
    /// libtorch has no such type.
    #[error("tensor {name} is of type {dtype}, which libtorch does not compute with: save it as f32")]
    Dtype { name: String, dtype: Dtype },
    /// The checkpoint is not one of this model.
    #[error(
        "it is not one of this model: {}; check that `model` in the configuration is what is being trained",
        .0.join("; ")
    )]
    Mismatch(Vec<String>),
}

/// Reads tensor number `index` as it is stored.
pub(crate) fn read(file: &OpenCheckpoint, index: usize) -> Result<Tensor, WeightsError> {
    let info = &file.contents().tensors[index];
    let kind = kind(info.dtype)
        .ok_or_else(|| WeightsError::Dtype { name: info.stored_name.clone(), dtype: info.dtype })?;
    let shape: Vec<i64> = info.shape.iter().map(|size| *size as i64).collect();
    let bytes = file.read_bytes(index)?;
    // `f_from_data_size` believes the shape whatever the length of the slice is.
    assert_eq!(bytes.len(), info.elements * kind.elt_size_in_bytes(), "the reader gives whole tensors");
    Tensor::f_from_data_size(&bytes, &shape, kind)
        .map_err(|source| WeightsError::Torch { name: info.stored_name.clone(), source: source.into() })
}

fn kind(dtype: Dtype) -> Option<Kind> {
    Some(match dtype {
        Dtype::F64 => Kind::Double,
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::Bf16 => Kind::BFloat16,
        Dtype::I64 => Kind::Int64,
        Dtype::I32 => Kind::Int,
        Dtype::I16 => Kind::Int16,
        Dtype::I8 => Kind::Int8,
        Dtype::U8 => Kind::Uint8,
        Dtype::Bool => Kind::Bool,
        Dtype::U64 | Dtype::U32 | Dtype::U16 => return None,
    })
}

/// What a model does if a checkpoint lacks a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// It cannot be evaluated.
    Required,
    /// It does without, or with what it has.
    Optional,
}

/// A tensor that a model wants.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) need: Need,
    /// The shape, where the model knows it.
    pub(crate) shape: Option<Vec<i64>>,
    /// The tensor, first in the order of names, with which it shares its memory: writing to one is writing to both.
    pub(crate) tied_to: Option<String>,
}

/// The position in the checkpoint of each tensor that is wanted, by name.
///
/// Names are compared without the prefixes of wrappers. Every tensor of the checkpoint must be wanted.
///
/// # Errors
/// [`WeightsError::Mismatch`] names what is missing, left over and of another shape.
pub(crate) fn locate(
    wanted: &BTreeMap<String, Wanted>,
    checkpoint: &OpenCheckpoint,
) -> Result<BTreeMap<String, usize>, WeightsError> {
    let mut found = BTreeMap::new();
    let mut left_over = Vec::new();
    let mut misshapen = Vec::new();
    for (index, tensor) in checkpoint.contents().tensors.iter().enumerate() {
        let Some(want) = wanted.get(&tensor.name) else {
            left_over.push(tensor.name.clone());
            continue;
        };
        let has: Vec<i64> = tensor.shape.iter().map(|size| *size as i64).collect();
        match &want.shape {
            Some(wants) if *wants != has => {
                misshapen.push(format!("{} ({has:?}, in the model {wants:?})", tensor.name));
            }
            _ => {
                found.insert(tensor.name.clone(), index);
            }
        }
    }
    let present: BTreeSet<&str> =
        checkpoint.contents().tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    // Of tied tensors a file may hold any one alone.
    let present_or_tied: BTreeSet<&str> = present
        .iter()
        .map(|name| wanted.get(*name).and_then(|want| want.tied_to.as_deref()).unwrap_or(name))
        .chain(present.iter().copied())
        .collect();
    let missing: Vec<String> = wanted
        .iter()
        .filter(|(name, want)| want.need == Need::Required && !present_or_tied.contains(name.as_str()))
        .map(|(name, _)| name.clone())
        .collect();
    let problems: Vec<String> =
        [("it lacks", missing), ("the model has no", left_over), ("of another shape:", misshapen)]
            .into_iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(what, names)| format!("{what} {}", list(&names)))
            .collect();
    if problems.is_empty() { Ok(found) } else { Err(WeightsError::Mismatch(problems)) }
}

/// The first few of many names.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 6;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}
