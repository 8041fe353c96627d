//! What a trainer leaves on disk: a folder for each run with its metrics and its checkpoints.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

/// A run's folder, written to as training goes on.
pub(super) struct Folder {
    path: PathBuf,
    metrics: File,
}

impl Folder {
    /// Makes the folder and an empty `metrics.jsonl`.
    pub(super) fn create(path: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&path)?;
        let metrics = File::create(path.join("metrics.jsonl"))?;
        Ok(Self { path, metrics })
    }

    /// Appends one line of metrics, whole, so that a reader never meets half of it.
    pub(super) fn log(&mut self, step: u64, values: &[(&str, f32)]) -> io::Result<()> {
        let mut line = Map::new();
        line.insert("step".into(), step.into());
        for (name, value) in values {
            line.insert((*name).into(), serde_json::Number::from_f64(f64::from(*value)).into());
        }
        if values.iter().any(|(_, value)| !value.is_finite()) {
            line.insert("nonfinite".into(), true.into());
        }
        self.metrics.write_all(format!("{}\n", Value::Object(line)).as_bytes())
    }

    /// Writes a checkpoint of a network that PyTorch would call `nn.Sequential(nn.Linear(features, classes))`.
    pub(super) fn save(&self, step: u64, epoch: u64, weight: &[f32], bias: &[f32]) -> io::Result<()> {
        let classes = bias.len();
        write_safetensors(
            &self.path.join(format!("step-{step:06}.safetensors")),
            json!({ "step": step.to_string(), "epoch": epoch.to_string(), "format": "pt" }),
            &[
                StoredTensor::new("0.bias", "F32", &[classes], bias, f32::to_le_bytes),
                StoredTensor::new(
                    "0.weight",
                    "F32",
                    &[classes, weight.len() / classes],
                    weight,
                    f32::to_le_bytes,
                ),
            ],
        )
    }
}

/// A tensor as safetensors stores it.
pub(super) struct StoredTensor<'a> {
    name: &'a str,
    dtype: &'static str,
    shape: &'a [usize],
    bytes: Vec<u8>,
}

impl<'a> StoredTensor<'a> {
    /// A tensor of `elements` in row-major order.
    pub(super) fn new<T: Copy, const SIZE: usize>(
        name: &'a str,
        dtype: &'static str,
        shape: &'a [usize],
        elements: &[T],
        to_bytes: fn(T) -> [u8; SIZE],
    ) -> Self {
        let bytes = elements.iter().flat_map(|element| to_bytes(*element)).collect();
        Self { name, dtype, shape, bytes }
    }
}

/// Writes a safetensors file whole: under a temporary name in the same folder, then renamed.
///
/// The safetensors crate keeps metadata in a hash map, so that the order of two entries, and with it the file's bytes,
/// would differ from one process to the next.
pub(super) fn write_safetensors(
    path: &Path,
    metadata: Value,
    tensors: &[StoredTensor<'_>],
) -> io::Result<()> {
    let mut header = Map::new();
    header.insert("__metadata__".into(), metadata);
    let mut end = 0;
    for tensor in tensors {
        let start = end;
        end += tensor.bytes.len();
        let entry = json!({ "dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [start, end] });
        header.insert(tensor.name.into(), entry);
    }
    let mut header = Value::Object(header).to_string();
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    for tensor in tensors {
        bytes.extend_from_slice(&tensor.bytes);
    }

    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.tmp"));
    fs::write(&temporary, bytes)?;
    fs::rename(temporary, path)
}
