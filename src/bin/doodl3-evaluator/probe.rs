//! The probe batch: the inputs on which every checkpoint is evaluated, and what should come out.

use std::path::{Path, PathBuf};

use doodl3::checkpoint::{self, CheckpointError};
use tch::{Device, Kind, Tensor};

use crate::torch_error::TorchError;
use crate::weights::{self, WeightsError};

/// A probe batch on the device of its model.
pub(crate) struct Probe {
    /// In the order of the program's arguments.
    pub(crate) inputs: Vec<Tensor>,
    /// Class indices (i64), or numbers of the output's shape (f32).
    pub(crate) target: Option<Tensor>,
    /// 1 where an element of the target counts, 0 elsewhere.
    pub(crate) mask: Option<Tensor>,
}

/// Why a probe batch could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    /// The file could not be read.
    #[error("the probe batch cannot be read")]
    Open(#[from] CheckpointError),
    /// One of its tensors could not be used.
    #[error("the probe batch cannot be used: {}", path.display())]
    Tensor { path: PathBuf, source: WeightsError },
    /// libtorch refused.
    #[error("the probe batch cannot be moved to the device: {}", path.display())]
    Device { path: PathBuf, source: TorchError },
    /// It does not hold what a probe batch holds.
    #[error("{what}; a probe batch holds input (or input.0, input.1, …), target and, if need be, mask: {}", path.display())]
    Content { what: String, path: PathBuf },
}

impl Probe {
    /// Reads the batch; floating-point tensors are converted to `float`.
    pub(crate) fn load(path: &Path, device: Device, float: Kind) -> Result<Self, ProbeError> {
        let file = checkpoint::open(path)?;
        let content = |what: String| ProbeError::Content { what, path: path.to_owned() };
        let tensor = |index| -> Result<Tensor, ProbeError> {
            let stored = weights::read(&file, index)
                .map_err(|source| ProbeError::Tensor { path: path.to_owned(), source })?;
            let kind = if stored.is_floating_point() { float } else { stored.kind() };
            let moved = stored.f_to_kind(kind).and_then(|tensor| tensor.f_to_device(device));
            moved.map_err(|source| ProbeError::Device { path: path.to_owned(), source: source.into() })
        };
        let (mut inputs, mut target, mut mask) = (Vec::new(), None, None);
        for (index, info) in file.contents().tensors.iter().enumerate() {
            match info.stored_name.as_str() {
                "target" => target = Some(tensor(index)?),
                "mask" => mask = Some(tensor(index)?.to_kind(float)),
                "input" => inputs.push((0, tensor(index)?)),
                name => {
                    let position = name.strip_prefix("input.").and_then(|position| position.parse().ok());
                    let position: usize = position
                        .ok_or_else(|| content(format!("the probe batch holds an unknown tensor {name}")))?;
                    inputs.push((position, tensor(index)?));
                }
            }
        }
        inputs.sort_by_key(|(position, _)| *position);
        if inputs.is_empty() || inputs.iter().enumerate().any(|(index, (position, _))| index != *position) {
            let names: Vec<_> = inputs.iter().map(|(position, _)| format!("input.{position}")).collect();
            return Err(content(format!(
                "the probe batch's inputs are not complete (it has: {})",
                names.join(", ")
            )));
        }
        if target.is_none() && mask.is_some() {
            return Err(content("the probe batch has a mask, but no target that it could mask".into()));
        }
        Ok(Self { inputs: inputs.into_iter().map(|(_, input)| input).collect(), target, mask })
    }
}
