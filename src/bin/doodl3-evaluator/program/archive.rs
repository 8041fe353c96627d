//! The file of an exported program: finds its parts and refuses what only looks like one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use doodl3::checkpoint::{self, CheckpointError, Entries};
use serde::Deserialize;
use tch::{Kind, Tensor};

use super::graph::{Document, Module, TensorMeta, Versioned, python_json};
use crate::torch_error::TorchError;

/// The version of the schema that is known. Its minor numbers add what can be passed over.
const SCHEMA: u64 = 8;

/// Most bytes of JSON.
const MAX_JSON: u64 = 64 << 20;

/// Most bytes of one constant.
const MAX_CONSTANT: u64 = 1 << 30;

/// Most values that a program may bring itself.
const MAX_CONSTANTS: usize = 100_000;

/// Why a file is not used as a program.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// It could not be read.
    #[error("the program cannot be read")]
    Read(#[from] CheckpointError),
    /// It is something else.
    #[error("{what}; {advice}: {}", path.display())]
    Kind { what: String, advice: &'static str, path: PathBuf },
    /// It contradicts itself.
    #[error("the program is damaged or hostile ({what}); export it again: {}", path.display())]
    Damaged { what: String, path: PathBuf },
    /// libtorch refused a constant.
    #[error("the constant {name} of the program cannot be used: {}", path.display())]
    Constant { name: String, path: PathBuf, source: TorchError },
}

/// What is in a program's file.
pub(super) struct Archive {
    pub(super) module: Module,
    /// Constants and buffers that are no part of a state dict, by their names in the signature.
    pub(super) constants: BTreeMap<String, Tensor>,
    /// For each parameter and buffer, which of the file's weights it is: tied ones are the same.
    pub(super) weights: BTreeMap<String, String>,
}

/// The list of weights or constants.
#[derive(Default, Deserialize)]
struct Payloads {
    config: BTreeMap<String, Payload>,
}

#[derive(Deserialize)]
struct Payload {
    path_name: String,
    /// Whether the bytes are a pickle instead of the plain numbers.
    #[serde(default)]
    use_pickle: bool,
    tensor_meta: Option<TensorMeta>,
}

const EXPORT: &str = "export the model with doodl3.export or torch.export.save";

impl Archive {
    /// Reads the program at `path`.
    pub(super) fn read(path: &Path) -> Result<Self, ArchiveError> {
        let entries = checkpoint::read_entries(path, |name| {
            let json = has(name, "models/", ".json") || is_list(name, WEIGHTS) || is_list(name, CONSTANTS);
            if json || name.ends_with("archive_format") {
                Some(MAX_JSON)
            } else {
                within(name, CONSTANTS).then_some(MAX_CONSTANT)
            }
        })?;
        let file = Opened { path, entries };
        let json = file.program()?;
        let damaged =
            |what: serde_json::Error| file.damaged(format!("its model.json cannot be read: {what}"));
        let Versioned { schema_version, torch_version } = serde_json::from_slice(&json).map_err(damaged)?;
        if schema_version.major != SCHEMA {
            return Err(file.kind(
                format!(
                    "this program is written in version {}.{} of torch.export's schema (by PyTorch {}), and \
                     version {SCHEMA} is known",
                    schema_version.major,
                    schema_version.minor,
                    if torch_version.is_empty() { "of unknown version" } else { &torch_version }
                ),
                "export it again with PyTorch 2.10 to 2.13",
            ));
        }
        let Document { graph_module: module } = serde_json::from_slice(&json).map_err(damaged)?;
        let weights = file.list(WEIGHTS)?.config;
        let weights = weights.into_iter().map(|(name, payload)| (name, payload.path_name)).collect();
        Ok(Self { module, constants: file.constants()?, weights })
    }
}

/// Folders of an archive.
const WEIGHTS: &str = "data/weights/";
const CONSTANTS: &str = "data/constants/";

/// Whether an entry lies in `folder`, below the archive's own.
fn within(name: &str, folder: &str) -> bool {
    name.split_once('/').is_some_and(|(_, rest)| rest.starts_with(folder))
}

fn has(name: &str, folder: &str, ending: &str) -> bool {
    within(name, folder) && name.ends_with(ending)
}

fn is_list(name: &str, folder: &str) -> bool {
    has(name, folder, "_config.json")
}

/// A file whose entries were read.
struct Opened<'a> {
    path: &'a Path,
    entries: Entries,
}

impl Opened<'_> {
    fn kind(&self, what: impl Into<String>, advice: &'static str) -> ArchiveError {
        ArchiveError::Kind { what: what.into(), advice, path: self.path.to_owned() }
    }

    fn damaged(&self, what: impl Into<String>) -> ArchiveError {
        ArchiveError::Damaged { what: what.into(), path: self.path.to_owned() }
    }

    /// The JSON of the one program in the file.
    fn program(&self) -> Result<Vec<u8>, ArchiveError> {
        let names = &self.entries.names;
        let any = |part: &str| names.iter().any(|name| name.contains(part));
        if any("data/aotinductor/") {
            return Err(
                self.kind("this is a package of AOTInductor, which is native code and is not run", EXPORT)
            );
        }
        let models: Vec<_> =
            self.entries.contents.iter().filter(|(name, _)| has(name, "models/", ".json")).collect();
        match models.as_slice() {
            [(_, json)] => Ok(python_json(json)),
            [] if any("/code/") => Err(self.kind(
                "this is a TorchScript module",
                "name it as `module` instead of `program`, or export the model with doodl3.export",
            )),
            [] if any("serialized_exported_program.json") => Err(self.kind(
                "this program is in the container that PyTorch wrote before 2.8",
                "export it again with PyTorch 2.10 to 2.13",
            )),
            [] if any("/data.pkl") => {
                Err(self.kind("this is a checkpoint of torch.save and no program", EXPORT))
            }
            [] => Err(self.kind("there is no exported program in this file", EXPORT)),
            several => Err(self.kind(
                format!("there are {} programs in this file", several.len()),
                "export the one to be evaluated alone",
            )),
        }
        .and_then(|json| match self.content("archive_format") {
            Some(format) if format != b"pt2" => Err(self.damaged("its format is not pt2")),
            _ => Ok(json),
        })
    }

    /// The content of the first entry with such an ending.
    fn content(&self, ending: &str) -> Option<&[u8]> {
        let mut contents = self.entries.contents.iter();
        contents.find(|(name, _)| name.ends_with(ending)).map(|(_, content)| content.as_slice())
    }

    /// The list of what is in `folder`.
    fn list(&self, folder: &str) -> Result<Payloads, ArchiveError> {
        let mut lists = self.entries.contents.iter().filter(|(name, _)| is_list(name, folder));
        let Some((name, json)) = lists.next() else { return Ok(Payloads::default()) };
        let payloads: Payloads = serde_json::from_slice(json)
            .map_err(|error| self.damaged(format!("its list {name} cannot be read: {error}")))?;
        if payloads.config.len() > MAX_CONSTANTS {
            return Err(self.damaged(format!("its list {name} names {} values", payloads.config.len())));
        }
        Ok(payloads)
    }

    fn constants(&self) -> Result<BTreeMap<String, Tensor>, ArchiveError> {
        let mut constants = BTreeMap::new();
        for (name, Payload { path_name, use_pickle, tensor_meta }) in self.list(CONSTANTS)?.config {
            // What is no tensor (objects of TorchBind) has no place in a signature that is known.
            let Some(meta) = tensor_meta else { continue };
            if use_pickle {
                return Err(self.kind(
                    format!("the constant {name} of this program is a pickle"),
                    "export it again with PyTorch 2.10 to 2.13",
                ));
            }
            let bytes = self
                .content(&format!("/{CONSTANTS}{path_name}"))
                .ok_or_else(|| self.damaged(format!("its constant {name} is missing")))?;
            let tensor = tensor(bytes, &meta).map_err(|problem| match problem {
                Problem::Meta(what) => self.damaged(format!("its constant {name} {what}")),
                Problem::Torch(source) => {
                    ArchiveError::Constant { name: name.clone(), path: self.path.to_owned(), source }
                }
            })?;
            constants.insert(name, tensor);
        }
        Ok(constants)
    }
}

enum Problem {
    Meta(&'static str),
    Torch(TorchError),
}

/// The tensor that `meta` makes of the bytes of a storage.
fn tensor(bytes: &[u8], meta: &TensorMeta) -> Result<Tensor, Problem> {
    let kind = kind(meta.dtype).ok_or(Problem::Meta("is of a type that is not known"))?;
    let numbers = |sizes: &[super::graph::Size]| -> Option<Vec<i64>> {
        sizes.iter().map(|size| size.0.filter(|&number| number >= 0)).collect()
    };
    let (Some(sizes), Some(strides), Some(offset)) =
        (numbers(&meta.sizes), numbers(&meta.strides), meta.storage_offset.0)
    else {
        return Err(Problem::Meta("has a shape that is no shape"));
    };
    if sizes.len() != strides.len() {
        return Err(Problem::Meta("has a shape that is no shape"));
    }
    // Views may repeat elements, but what is made of the file must stay in proportion to it.
    let elements = sizes.iter().try_fold(1_i64, |product, &size| product.checked_mul(size));
    let held = bytes.len() / kind.elt_size_in_bytes();
    if elements.is_none_or(|elements| elements as usize > held.saturating_mul(64).max(64)) {
        return Err(Problem::Meta("claims more elements than it has"));
    }
    let whole = &bytes[..held * kind.elt_size_in_bytes()];
    // libtorch checks that the view stays within the storage.
    Tensor::f_from_data_size(whole, &[held as i64], kind)
        .and_then(|storage| storage.f_as_strided(sizes, strides, offset))
        .and_then(|view| view.f_contiguous())
        .map_err(|error| Problem::Torch(error.into()))
}

/// The schema's number of an element type, as tch calls it; only types that are computed with.
pub(super) fn kind(dtype: u64) -> Option<Kind> {
    Some(match dtype {
        1 => Kind::Uint8,
        2 => Kind::Int8,
        3 => Kind::Int16,
        4 => Kind::Int,
        5 => Kind::Int64,
        6 => Kind::Half,
        7 => Kind::Float,
        8 => Kind::Double,
        12 => Kind::Bool,
        13 => Kind::BFloat16,
        _ => return None,
    })
}
