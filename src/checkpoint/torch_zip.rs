//! Files that `torch.save` writes since PyTorch 1.6: a zip file with a pickle (`data.pkl`) of everything but the
//! tensors' bytes, which are entries of their own (`data/0`, `data/1`, …), one for each storage. A tensor is a view of
//! a storage: an offset, a shape and strides.
//! <https://docs.pytorch.org/docs/stable/notes/serialization.html>

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;

use super::Format;
use super::directory::{Directory, Place, View};
use super::dtype::{Dtype, Values};
use super::error::Fault;
use super::layout::{self, Buffer};
use super::names::clip;
use super::pickle::{self, Id, Pickle, Value};
use super::state_dict;
use super::torch_export;
use super::zip::Archive;

/// Most axes of a tensor; PyTorch itself has the same limit.
const MAX_AXES: usize = 64;

/// Reads the directory of a file of `file_bytes` bytes that begins like a zip file.
pub(super) fn read_directory(file: &File, file_bytes: u64) -> Result<Directory, Fault> {
    let archive = Archive::read(file, file_bytes)?;
    if let Some(config) = torch_export::weights_of(&archive) {
        return torch_export::read_directory(&archive, &config);
    }
    let root = root(&archive)?;
    if archive.entry(&format!("{root}byteorder")).is_some()
        && archive.content(&format!("{root}byteorder"), 16)?.as_slice() != b"little"
    {
        return Err(Fault::unsupported(
            "its numbers are in big-endian order",
            "save it on a little-endian machine, or as safetensors",
        ));
    }
    let bytes = archive.content(&format!("{root}data.pkl"), pickle::MAX_BYTES)?;
    let pickle = Pickle::read(&bytes)?;
    let storages = Storages { archive: &archive, root: &root, pickle: &pickle, starts: RefCell::default() };
    let state_dict = state_dict::find(&pickle, &storages)?;
    Ok(Directory {
        format: Format::TorchZip,
        tensors: state_dict.tensors,
        metadata: state_dict.metadata,
        notes: state_dict.notes,
        unknown_globals: pickle.unknown_globals().cloned().collect(),
    })
}

/// The folder within the archive that holds `data.pkl`, with its slash; or what the file is instead.
fn root(archive: &Archive<'_>) -> Result<String, Fault> {
    let mut roots: Vec<&str> = archive
        .names()
        .filter_map(|name| name.strip_suffix("data.pkl"))
        .filter(|root| root.is_empty() || root.find('/') == Some(root.len() - 1))
        .collect();
    roots.sort_unstable();
    let has = |what: &dyn Fn(&str) -> bool| archive.names().any(what);
    if has(&|name| name.ends_with("/constants.pkl")) {
        return Err(Fault::unsupported(
            "this is a TorchScript archive, not a checkpoint",
            "name it as the model's module in the configuration, and save checkpoints with \
             torch.save(model.state_dict(), …)",
        ));
    }
    match roots.as_slice() {
        [root] => Ok((*root).to_owned()),
        [] if has(&|name| Path::new(name).extension() == Some("npy".as_ref())) => Err(Fault::unsupported(
            "this is a NumPy archive",
            "save the weights as safetensors or with torch.save",
        )),
        [] if has(&|name| name.ends_with(".weights.h5")) => {
            Err(Fault::unsupported("this is a Keras archive", "save the weights as safetensors"))
        }
        [] => Err(Fault::unsupported(
            "this is a zip file, but torch.save did not write it (it holds no data.pkl)",
            "save the weights with torch.save(model.state_dict(), …)",
        )),
        _ => Err(Fault::damaged("it holds several pickles named data.pkl")),
    }
}

/// The storages that a pickle refers to.
pub(super) struct Storages<'a> {
    archive: &'a Archive<'a>,
    root: &'a str,
    pickle: &'a Pickle<'a>,
    /// Where the bytes of each storage begin, by key.
    starts: RefCell<HashMap<&'a str, u64>>,
}

/// A tensor as the pickle describes it: `torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, …)`.
#[derive(Clone, Copy, Debug)]
pub(super) struct TensorCall<'a> {
    function: &'a str,
    arguments: &'a [Id],
}

/// The tensor that value `id` describes, wrappers such as `Parameter` taken off; `None` where it is none.
pub(super) fn as_tensor<'a>(pickle: &'a Pickle<'a>, id: Id) -> Option<TensorCall<'a>> {
    let ((mut module, mut function), mut arguments) = pickle.call(id)?;
    // A parameter wraps a tensor, a subclass wraps a function and its arguments.
    for _ in 0..4 {
        match (module, function) {
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3") => {
                return Some(TensorCall { function, arguments });
            }
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                ((module, function), arguments) = pickle.call(*arguments.first()?)?;
            }
            ("torch._tensor", "_rebuild_from_type_v2") => {
                let [inner, class, inner_arguments, ..] = *arguments else { return None };
                let plain = matches!(
                    pickle.global(class)?,
                    ("torch.nn.parameter", "Parameter" | "Buffer") | ("torch", "Tensor")
                );
                if !plain {
                    return None;
                }
                (module, function) = pickle.global(inner)?;
                arguments = pickle.tuple(inner_arguments)?;
            }
            _ => return None,
        }
    }
    None
}

impl<'a> Storages<'a> {
    /// Where the elements of a tensor lie, checked against its storage. `name` is for messages.
    pub(super) fn place(&self, name: &str, tensor: TensorCall<'a>) -> Result<Place, Fault> {
        let wrong = |what: &str| Fault::damaged(format!("the tensor `{}` {what}", clip(name)));
        let [storage, offset, shape, strides, ..] = *tensor.arguments else {
            return Err(wrong("is described by too few numbers"));
        };
        let storage =
            self.storage(storage).ok_or_else(|| wrong("refers to a storage that is missing or too short"))?;
        let dtype = if tensor.function == "_rebuild_tensor_v3" {
            tensor.arguments.get(6).and_then(|&dtype| self.pickle.global(dtype))
        } else {
            Some(storage.class)
        };
        let dtype = dtype.ok_or_else(|| wrong("has no type"))?;
        let dtype = dtype_of(dtype).ok_or_else(|| {
            Fault::unsupported(
                format!(
                    "the tensor `{}` has elements of type {}, which are not read",
                    clip(name),
                    clip(dtype.1)
                ),
                "save the weights as f32, f16 or bf16",
            )
        })?;
        if tensor.function == "_rebuild_tensor_v2" && self.is_conjugate_or_negative(tensor) {
            return Err(Fault::unsupported(
                format!("the tensor `{}` is a lazily negated or conjugated view", clip(name)),
                "save a copy of it (tensor.clone())",
            ));
        }
        let numbers = |id: Id| -> Option<Vec<u64>> {
            let numbers = self.pickle.tuple(id)?;
            if numbers.len() > MAX_AXES {
                return None;
            }
            numbers.iter().map(|&number| self.pickle.unsigned(number)).collect()
        };
        let shape = numbers(shape).ok_or_else(|| wrong("has no sensible shape"))?;
        let strides = numbers(strides)
            .filter(|strides| strides.len() == shape.len())
            .ok_or_else(|| wrong("has no sensible strides"))?;
        let offset = self.pickle.unsigned(offset).ok_or_else(|| wrong("begins nowhere"))?;

        let start = self.start(&storage)?;
        View { name, dtype, shape, strides, offset }.within(start, storage.bytes)
    }

    /// The number that a tensor of one element holds; `None` where it has more or none.
    pub(super) fn number(&self, name: &str, tensor: TensorCall<'a>) -> Result<Option<f64>, Fault> {
        let Place { dtype, shape, layout, .. } = self.place(name, tensor)?;
        let mut number = None;
        if shape.iter().all(|&length| length == 1) {
            layout::read(self.archive.file(), dtype, &shape, &layout, &mut Buffer::default(), |block| {
                number = match block.values {
                    Values::F32(values) => values.first().copied().map(f64::from),
                    Values::F64(values) => values.first().copied(),
                };
                ControlFlow::Continue(())
            })?;
        }
        Ok(number)
    }

    /// The storage that value `id` refers to: ('storage', class, key, location, number of elements).
    fn storage(&self, id: Id) -> Option<Storage<'a>> {
        let &Value::Persistent(id) = self.pickle.get(id) else { return None };
        let [kind, class, key, _location, count] = *self.pickle.tuple(id)? else { return None };
        if self.pickle.text(kind)? != "storage" {
            return None;
        }
        let class = self.pickle.global(class)?;
        let key = self.pickle.text(key)?;
        let count = self.pickle.unsigned(count)?;
        let entry = self.archive.entry(&format!("{}data/{key}", self.root))?;
        // An untyped storage counts bytes.
        let size = dtype_of(class).map_or(1, Dtype::size) as u64;
        let bytes = count.checked_mul(size)?;
        (bytes <= entry.bytes).then_some(Storage { class, key, bytes })
    }

    fn start(&self, storage: &Storage<'a>) -> Result<u64, Fault> {
        if let Some(&start) = self.starts.borrow().get(storage.key) {
            return Ok(start);
        }
        let name = format!("{}data/{}", self.root, storage.key);
        let entry = self.archive.entry(&name).ok_or_else(|| Fault::damaged("a storage is missing"))?;
        let start = self.archive.data(&name, entry)?;
        self.starts.borrow_mut().insert(storage.key, start);
        Ok(start)
    }

    /// Whether the last argument of a call says that the elements in the file are to be negated or conjugated.
    fn is_conjugate_or_negative(&self, tensor: TensorCall<'a>) -> bool {
        let Some(Value::Dict(flags)) = tensor.arguments.get(6).map(|&id| self.pickle.get(id)) else {
            return false;
        };
        flags.iter().any(|&(_, flag)| *self.pickle.get(flag) == Value::Bool(true))
    }
}

struct Storage<'a> {
    class: (&'a str, &'a str),
    key: &'a str,
    bytes: u64,
}

/// The type of a storage's elements by the class of the storage, or the type itself.
fn dtype_of((module, name): (&str, &str)) -> Option<Dtype> {
    if module != "torch" {
        return None;
    }
    Some(match name {
        "DoubleStorage" | "float64" => Dtype::F64,
        "FloatStorage" | "float32" => Dtype::F32,
        "HalfStorage" | "float16" => Dtype::F16,
        "BFloat16Storage" | "bfloat16" => Dtype::Bf16,
        "LongStorage" | "int64" => Dtype::I64,
        "IntStorage" | "int32" => Dtype::I32,
        "ShortStorage" | "int16" => Dtype::I16,
        "CharStorage" | "int8" => Dtype::I8,
        "ByteStorage" | "uint8" => Dtype::U8,
        "BoolStorage" | "bool" => Dtype::Bool,
        "uint64" => Dtype::U64,
        "uint32" => Dtype::U32,
        "uint16" => Dtype::U16,
        _ => return None,
    })
}
