//! Programs of `torch.export` (.pt2), for their weights: a zip file in which each weight is an entry of raw bytes, and
//! one entry of JSON names them. MLflow logs PyTorch models so since 3.14.
//! <https://docs.pytorch.org/docs/stable/export/pt2_archive.html>

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Format;
use super::directory::{Directory, MAX_TENSORS, View};
use super::dtype::Dtype;
use super::error::Fault;
use super::names::clip;
use super::zip::Archive;

/// End of the name of the entry that names the weights.
const CONFIG: &str = "_weights_config.json";

/// Most bytes of it.
const CONFIG_BYTES: u64 = 64 << 20;

/// What an export names its weights with.
#[derive(Deserialize)]
struct Config {
    config: BTreeMap<String, Weight>,
}

#[derive(Deserialize)]
struct Weight {
    path_name: String,
    /// Whether the bytes are a pickle instead of the plain numbers.
    #[serde(default)]
    use_pickle: bool,
    tensor_meta: Option<Meta>,
}

#[derive(Deserialize)]
struct Meta {
    /// `ScalarType` of torch's schema.
    dtype: u32,
    sizes: Vec<Int>,
    strides: Vec<Int>,
    storage_offset: Int,
}

#[derive(Deserialize)]
struct Int {
    as_int: u64,
}

/// The name of the entry that names the weights, where the file is an exported program.
pub(super) fn weights_of(archive: &Archive<'_>) -> Option<String> {
    let mut configs: Vec<&str> =
        archive.names().filter(|name| name.contains("data/weights/") && name.ends_with(CONFIG)).collect();
    configs.sort_unstable();
    configs.first().map(|&name| name.to_owned())
}

/// The weights that the entry `config` names.
pub(super) fn read_directory(archive: &Archive<'_>, config: &str) -> Result<Directory, Fault> {
    let folder = config.rfind('/').map_or("", |end| &config[..=end]);
    let weights: Config = serde_json::from_slice(&archive.content(config, CONFIG_BYTES)?)
        .map_err(|error| Fault::damaged(format!("the list of its weights cannot be read: {error}")))?;
    if weights.config.len() > MAX_TENSORS {
        return Err(Fault::damaged(format!("it names {} weights", weights.config.len())));
    }
    let mut tensors = Vec::with_capacity(weights.config.len());
    for (name, Weight { path_name, use_pickle, tensor_meta }) in weights.config {
        let (false, Some(meta)) = (use_pickle, tensor_meta) else {
            return Err(Fault::unsupported(
                format!("the weight `{}` of this exported program is a pickle", clip(&name)),
                "export it with PyTorch 2.10 or newer, or save the weights as safetensors",
            ));
        };
        let dtype = dtype_of(meta.dtype).ok_or_else(|| {
            Fault::unsupported(
                format!(
                    "the weight `{}` has elements of type {}, which are not read",
                    clip(&name),
                    meta.dtype
                ),
                "save the weights as f32, f16 or bf16",
            )
        })?;
        if meta.strides.len() != meta.sizes.len() {
            return Err(Fault::damaged(format!("the weight `{}` has no sensible strides", clip(&name))));
        }
        let numbers = |ints: Vec<Int>| ints.into_iter().map(|int| int.as_int).collect();
        let view = View {
            name: &name,
            dtype,
            shape: numbers(meta.sizes),
            strides: numbers(meta.strides),
            offset: meta.storage_offset.as_int,
        };
        let entry_name = format!("{folder}{path_name}");
        let entry = archive
            .entry(&entry_name)
            .ok_or_else(|| Fault::damaged(format!("the weight `{}` is missing", clip(&name))))?;
        let start = archive.data(&entry_name, entry)?;
        tensors.push(view.within(start, entry.bytes)?);
    }
    Ok(Directory {
        format: Format::TorchExport,
        tensors,
        metadata: BTreeMap::new(),
        notes: Vec::new(),
        unknown_globals: Vec::new(),
    })
}

/// `torch._export.serde.schema.ScalarType`
fn dtype_of(number: u32) -> Option<Dtype> {
    Some(match number {
        1 => Dtype::U8,
        2 => Dtype::I8,
        3 => Dtype::I16,
        4 => Dtype::I32,
        5 => Dtype::I64,
        6 => Dtype::F16,
        7 => Dtype::F32,
        8 => Dtype::F64,
        12 => Dtype::Bool,
        13 => Dtype::Bf16,
        28 => Dtype::U16,
        34 => Dtype::U32,
        35 => Dtype::U64,
        _ => return None,
    })
}
