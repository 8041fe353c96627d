//! Stacks of layers described in the configuration.

use std::collections::BTreeMap;

use doodl3::evaluate::protocol::Layer;
use tch::{TchError, Tensor};

use crate::torch_error::TorchError;
use crate::weights::{Need, Wanted};

/// What the layers want of a checkpoint; shapes are the checkpoint's own.
pub(crate) fn wanted(layers: &[Layer]) -> BTreeMap<String, Wanted> {
    let mut wanted = BTreeMap::new();
    for (position, layer) in layers.iter().enumerate() {
        if let Some(name) = name(layer, position) {
            for (part, need) in [("weight", Need::Required), ("bias", Need::Optional)] {
                wanted.insert(format!("{name}.{part}"), Wanted { need, shape: None, tied_to: None });
            }
        }
    }
    wanted
}

/// The name under which a layer's parameters are stored, if it has any.
fn name(layer: &Layer, position: usize) -> Option<String> {
    match layer {
        Layer::Dense { name } | Layer::Convolution { name, .. } => {
            Some(name.clone().unwrap_or_else(|| position.to_string()))
        }
        _ => None,
    }
}

/// A layer that could not be computed.
#[derive(Debug, thiserror::Error)]
#[error("layer {position} ({kind}) cannot take an input of shape {input:?}")]
pub(crate) struct LayerError {
    position: usize,
    kind: &'static str,
    input: Vec<i64>,
    source: TorchError,
}

/// The output for a batch of inputs; `parameters` holds what [`wanted`] names, without the optional ones that are not
/// there.
pub(crate) fn forward(
    layers: &[Layer],
    parameters: &BTreeMap<String, Tensor>,
    input: &Tensor,
) -> Result<Tensor, LayerError> {
    let mut values = input.shallow_clone();
    for (position, layer) in layers.iter().enumerate() {
        let name = name(layer, position).unwrap_or_default();
        let weight = parameters.get(&format!("{name}.weight"));
        let bias = parameters.get(&format!("{name}.bias"));
        values = apply(layer, &values, weight, bias).map_err(|source| LayerError {
            position,
            kind: kind(layer),
            input: values.size(),
            source: source.into(),
        })?;
    }
    Ok(values)
}

fn apply(
    layer: &Layer,
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
) -> Result<Tensor, TchError> {
    let weight = || weight.ok_or_else(|| TchError::Torch("it has no weight".into()));
    match layer {
        Layer::Dense { .. } => x.f_linear(weight()?, bias),
        Layer::Convolution { stride, padding, .. } => {
            x.f_conv2d(weight()?, bias, [*stride, *stride], [*padding, *padding], [1, 1], 1)
        }
        Layer::MaxPooling { size } => x.f_max_pool2d([*size, *size], [*size, *size], [0, 0], [1, 1], false),
        Layer::MeanPooling { size } => {
            x.f_avg_pool2d([*size, *size], [*size, *size], [0, 0], false, true, None)
        }
        Layer::Relu {} => x.f_relu(),
        Layer::Tanh {} => x.f_tanh(),
        Layer::Sigmoid {} => x.f_sigmoid(),
        Layer::Softmax {} => x.f_softmax(-1, None),
        Layer::Dropout { .. } => Ok(x.shallow_clone()),
        Layer::Flatten {} => x.f_flatten(1, -1),
    }
}

/// The layer's name in the configuration.
fn kind(layer: &Layer) -> &'static str {
    match layer {
        Layer::Dense { .. } => "dense",
        Layer::Convolution { .. } => "convolution",
        Layer::MaxPooling { .. } => "max_pooling",
        Layer::MeanPooling { .. } => "mean_pooling",
        Layer::Relu {} => "relu",
        Layer::Tanh {} => "tanh",
        Layer::Sigmoid {} => "sigmoid",
        Layer::Softmax {} => "softmax",
        Layer::Dropout { .. } => "dropout",
        Layer::Flatten {} => "flatten",
    }
}
