//! Opening a checkpoint: what is in it, and reading single tensors.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, Metadata};
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::directory::Directory;
use super::dtype::{Dtype, Values};
use super::error::{CheckpointError, Fault};
use super::layout::{self, Block, Buffer, Layout};
use super::names::{self, normalize_names};
use super::pattern::{Naming, Pattern};
use super::safetensors;
use super::torch_zip;

/// File formats that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One safetensors file.
    Safetensors,
    /// A zip file as `torch.save` writes it since PyTorch 1.6.
    TorchZip,
    /// A program of `torch.export` (.pt2).
    TorchExport,
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Safetensors => "safetensors",
            Self::TorchZip => "torch.save (zip)",
            Self::TorchExport => "torch.export",
        })
    }
}

/// What a checkpoint holds, from its directory alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contents {
    /// The file's format.
    pub format: Format,
    /// Size of the file in bytes.
    pub file_bytes: u64,
    /// The model's tensors, by name.
    pub tensors: Vec<TensorInfo>,
    /// The trainer's step: from the file's metadata, else from its name ([`Pattern::default`]).
    pub step: Option<u64>,
    /// The epoch, likewise.
    pub epoch: Option<f64>,
    /// Numbers and texts beside the tensors, as text (long ones cut).
    pub metadata: BTreeMap<String, String>,
    /// What was chosen or left out, and why, one sentence each.
    pub notes: Vec<String>,
    /// Classes and functions that a pickle names and that this reader does not know, as `module.name`. Nothing of them
    /// was run, and no tensor of the model needs them.
    pub unknown_globals: Vec<String>,
}

impl Contents {
    /// Number of floating-point elements, those of tied tensors counted once.
    pub fn parameters(&self) -> u64 {
        self.weights().map(|tensor| tensor.elements as u64).sum()
    }

    /// The tensors that count as the model's weights: of floating-point type, tied ones once.
    pub fn weights(&self) -> impl Iterator<Item = &TensorInfo> {
        self.tensors.iter().filter(|tensor| tensor.is_weight())
    }
}

/// One tensor of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorInfo {
    /// Name without the prefixes of wrappers ([`normalize_names`]).
    pub name: String,
    /// Name in the file, below the state dict.
    pub stored_name: String,
    /// Type of the elements.
    pub dtype: Dtype,
    /// Shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// Number of elements.
    pub elements: usize,
    /// The same elements in bytes.
    pub bytes: u64,
    /// Index of the tensor that this one is tied to: the same elements under a name that sorts first.
    pub tied_to: Option<usize>,
}

impl TensorInfo {
    /// Whether it enters the sketch and the number of parameters. Weights and running averages do; integers (such as
    /// the counters of batch normalisation) do not, since their size says nothing about the model's movement; tied
    /// tensors do once.
    pub fn is_weight(&self) -> bool {
        self.dtype.is_float() && self.tied_to.is_none()
    }
}

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileIdentity {
    /// Device that holds the file.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// Size in bytes.
    pub size: u64,
    /// Time of the last change of content, in nanoseconds since 1970.
    pub modified_ns: i64,
}

impl FileIdentity {
    /// The identity of what stands at `path` now, links followed.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        path.metadata().map(|metadata| Self::from(&metadata))
    }
}

impl From<&Metadata> for FileIdentity {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified_ns: metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec()),
        }
    }
}

/// A checkpoint whose directory was read and checked. Tensors are read on demand.
#[derive(Debug)]
pub struct OpenCheckpoint {
    path: PathBuf,
    file: File,
    identity: FileIdentity,
    contents: Contents,
    /// One for each tensor of the contents.
    layouts: Vec<Layout>,
}

/// Reads the directory of the checkpoint at `path` and checks it against the file's size.
///
/// # Errors
/// [`CheckpointError::is_transient`] tells whether waiting may help.
pub fn open(path: &Path) -> Result<OpenCheckpoint, CheckpointError> {
    open_inner(path).map_err(|fault| fault.at(path))
}

/// Whether the file at `path` is whole, as far as its structure tells: `false` while it is being written.
///
/// A writer may give a file its full size first and fill it later, so this alone is not enough: a file has settled when
/// its [`FileIdentity`] has stayed the same for a while, too.
///
/// # Errors
/// Those of [`open`] that waiting does not mend.
pub fn looks_complete(path: &Path) -> Result<bool, CheckpointError> {
    match open(path) {
        Ok(_) => Ok(true),
        Err(error) if error.is_transient() => Ok(false),
        Err(error) => Err(error),
    }
}

/// How often the bytes of a file may be part of a tensor, on average.
const MAX_OVERLAP: u64 = 8;

fn open_inner(path: &Path) -> Result<OpenCheckpoint, Fault> {
    // Asked before opening: opening a pipe would wait for its writer.
    if !path.metadata()?.is_file() {
        return Err(Fault::unsupported("this is no file", "name a checkpoint file"));
    }
    if names::is_part(path) {
        return Err(Fault::unsupported(
            "this is one part of a checkpoint that was saved in several files",
            "save it in one file (`max_shard_size` in Hugging Face libraries)",
        ));
    }
    let file = File::open(path)?;
    let identity = FileIdentity::from(&file.metadata()?);
    let Directory { format, tensors, metadata, mut notes, unknown_globals } =
        read_directory(&file, identity.size)?;

    let stored: Vec<&str> = tensors.iter().map(|place| place.stored_name.as_str()).collect();
    let names = normalize_names(&stored);
    let mut named: Vec<_> = names.into_iter().zip(tensors).collect();
    named.sort_by(|(a, _), (b, _)| a.cmp(b));

    // Tied tensors have the same elements in the same order.
    let mut places = BTreeMap::new();
    let mut infos = Vec::with_capacity(named.len());
    let mut layouts = Vec::with_capacity(named.len());
    for (index, (name, place)) in named.into_iter().enumerate() {
        let elements = place.shape.iter().product();
        let first = *places.entry((place.layout.clone(), place.shape.clone(), place.dtype)).or_insert(index);
        let tied_to = (first != index && elements > 0).then_some(first);
        infos.push(TensorInfo {
            name,
            stored_name: place.stored_name,
            dtype: place.dtype,
            elements,
            bytes: (elements * place.dtype.size()) as u64,
            shape: place.shape,
            tied_to,
        });
        layouts.push(place.layout);
    }
    // Distinct views may overlap; but what is read must stay in proportion to the file.
    let bytes: u64 = infos.iter().filter(|tensor| tensor.tied_to.is_none()).map(|tensor| tensor.bytes).sum();
    if bytes > identity.size.saturating_mul(MAX_OVERLAP) {
        return Err(Fault::damaged(format!(
            "its tensors claim {bytes} bytes, the file has {}",
            identity.size
        )));
    }
    let tied = infos.iter().filter(|tensor| tensor.tied_to.is_some()).count();
    if tied > 0 {
        notes.push(format!("{tied} tensors are tied to others and counted once"));
    }
    let mut step = names::step_in(&metadata);
    let mut epoch = names::epoch_in(&metadata);
    if step.is_none()
        && let Some(Naming { step: named_step, epoch: named_epoch, .. }) =
            Pattern::default().matches(&tail(path))
    {
        step = named_step;
        epoch = epoch.or(named_epoch);
        if step.is_some() {
            notes.push("the step is taken from the file's name, since the file holds none".into());
        }
    }
    let contents = Contents {
        format,
        file_bytes: identity.size,
        tensors: infos,
        step,
        epoch,
        metadata,
        notes,
        unknown_globals,
    };
    Ok(OpenCheckpoint { path: path.to_owned(), file, identity, contents, layouts })
}

/// The file's name and the folder's.
fn tail(path: &Path) -> PathBuf {
    let folder = path.parent().and_then(Path::file_name);
    folder.into_iter().chain(path.file_name()).collect()
}

/// Finds out the format by the first bytes and reads its directory.
fn read_directory(file: &File, file_bytes: u64) -> Result<Directory, Fault> {
    let mut first = [0; 16];
    let known = first.len().min(file_bytes as usize);
    file.read_exact_at(&mut first[..known], 0)?;
    if first.starts_with(b"PK\x03\x04") {
        return torch_zip::read_directory(file, file_bytes);
    }
    // A safetensors file begins with the length of its header, eight bytes of any value; the header is JSON.
    if first[8] == b'{' {
        return safetensors::read_directory(file, file_bytes);
    }
    match FOREIGN.iter().find(|(magic, _)| first.starts_with(magic)) {
        Some((_, what)) => Err(Fault::unsupported(*what, SAVE_INSTEAD)),
        // A header's length that nothing follows yet, or not even that.
        None if known < 9 || first[4..] == [0; 12] => {
            Err(Fault::Incomplete(format!("the first of its {file_bytes} bytes are not written yet")))
        }
        None => Err(Fault::unsupported(
            "this is neither a safetensors file nor one that torch.save wrote",
            SAVE_INSTEAD,
        )),
    }
}

const SAVE_INSTEAD: &str = "save the weights as safetensors, or with torch.save(model.state_dict(), …)";

/// Formats that are known and not read, by their first bytes.
const FOREIGN: [(&[u8], &str); 6] = [
    (
        b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19",
        "this is a file of torch.save in its format before PyTorch 1.6",
    ),
    (b"\x80\x02", "this is a bare pickle"),
    (b"\x80\x04", "this is a bare pickle"),
    (b"\x80\x05", "this is a bare pickle"),
    (b"\x89HDF\r\n", "this is an HDF5 file"),
    (b"\x93NUMPY", "this is a NumPy array"),
];

impl OpenCheckpoint {
    /// What is in it.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// The file as it was when it was opened.
    pub fn identity(&self) -> FileIdentity {
        self.identity
    }

    /// Hands the elements of tensor number `tensor` to `visit`, in row-major order, in blocks that fit in `buffer`.
    ///
    /// Every block but the last holds the same number of elements, a multiple of 32,768.
    ///
    /// # Errors
    /// When the file cannot be read any more, and [`CheckpointError::Cancelled`] when `visit` breaks off.
    ///
    /// # Panics
    /// If there is no such tensor.
    pub fn read_blocks(
        &self,
        tensor: usize,
        buffer: &mut Buffer,
        visit: impl FnMut(Block<'_>) -> ControlFlow<()>,
    ) -> Result<(), CheckpointError> {
        let info = &self.contents.tensors[tensor];
        layout::read(&self.file, info.dtype, &info.shape, &self.layouts[tensor], buffer, visit)
            .map_err(|fault| fault.at(&self.path))
    }

    /// The elements of tensor number `tensor` in row-major order, as `f32` (wider types are rounded).
    ///
    /// # Errors
    /// When the file cannot be read any more.
    ///
    /// # Panics
    /// If there is no such tensor.
    pub fn read_f32(&self, tensor: usize) -> Result<Vec<f32>, CheckpointError> {
        self.collect(tensor, |values, all| match values {
            Values::F32(values) => all.extend_from_slice(values),
            Values::F64(values) => all.extend(values.iter().map(|&value| value as f32)),
        })
    }

    /// The same as `f64`; exact, but for 64-bit integers beyond 2^53.
    ///
    /// # Errors
    /// When the file cannot be read any more.
    ///
    /// # Panics
    /// If there is no such tensor.
    pub fn read_f64(&self, tensor: usize) -> Result<Vec<f64>, CheckpointError> {
        self.collect(tensor, |values, all| match values {
            Values::F32(values) => all.extend(values.iter().copied().map(f64::from)),
            Values::F64(values) => all.extend_from_slice(values),
        })
    }

    /// The bytes of tensor number `tensor` in row-major order, little endian: exact for every type.
    ///
    /// # Errors
    /// When the file cannot be read any more.
    ///
    /// # Panics
    /// If there is no such tensor.
    pub fn read_bytes(&self, tensor: usize) -> Result<Vec<u8>, CheckpointError> {
        let mut all = Vec::with_capacity(self.contents.tensors[tensor].bytes as usize);
        self.read_blocks(tensor, &mut Buffer::default(), |block| {
            all.extend_from_slice(block.bytes);
            ControlFlow::Continue(())
        })?;
        Ok(all)
    }

    /// Checks that the file is still what it was when it was opened. Worth asking after the last read.
    ///
    /// # Errors
    /// [`CheckpointError::Changing`] if it is not, or is gone.
    pub fn check_unchanged(&self) -> Result<(), CheckpointError> {
        match FileIdentity::of(&self.path) {
            Ok(now) if now == self.identity => Ok(()),
            _ => Err(Fault::Changing.at(&self.path)),
        }
    }

    fn collect<T>(
        &self,
        tensor: usize,
        mut append: impl FnMut(Values<'_>, &mut Vec<T>),
    ) -> Result<Vec<T>, CheckpointError> {
        let mut all = Vec::with_capacity(self.contents.tensors[tensor].elements);
        self.read_blocks(tensor, &mut Buffer::default(), |block| {
            append(block.values, &mut all);
            ControlFlow::Continue(())
        })?;
        Ok(all)
    }
}
