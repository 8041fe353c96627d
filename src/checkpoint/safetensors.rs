//! The safetensors format: eight bytes of header length N (little endian), N bytes of JSON, then the tensors' bytes
//! without gaps. <https://huggingface.co/docs/safetensors>
//!
//! The header is parsed here rather than by the `safetensors` crate, since that wants the whole file in memory and lets
//! a repeated name pass. Its types for one entry are used.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;

use safetensors::tensor::TensorInfo as Entry;
use serde::de::{Error as _, MapAccess, Visitor};

use super::Format;
use super::directory::{Directory, MAX_TENSORS, Place};
use super::dtype::Dtype;
use super::error::Fault;
use super::layout::Layout;
use super::names::clip;

/// Longest header, as the format's own library has it.
const MAX_HEADER: u64 = 100_000_000;

/// Reads the header of a file of `file_bytes` bytes and checks that the tensors cover the rest exactly.
pub(super) fn read_directory(file: &File, file_bytes: u64) -> Result<Directory, Fault> {
    let mut length = [0; 8];
    file.read_exact_at(&mut length, 0)?;
    let header_bytes = u64::from_le_bytes(length);
    if header_bytes > MAX_HEADER {
        return Err(Fault::damaged(format!(
            "its safetensors header claims {header_bytes} bytes, the format allows {MAX_HEADER}"
        )));
    }
    if 8 + header_bytes > file_bytes {
        return Err(Fault::Incomplete(format!(
            "its header has {header_bytes} bytes, the file {file_bytes} in all"
        )));
    }
    let mut header = vec![0; header_bytes as usize];
    file.read_exact_at(&mut header, 8)?;
    let header: Header = serde_json::from_slice(&header).map_err(|error| {
        if header.contains(&0) {
            Fault::Incomplete("its header is still empty in part".into())
        } else {
            Fault::damaged(format!("its safetensors header cannot be read: {error}"))
        }
    })?;
    let tensors = places(header.tensors, 8 + header_bytes, file_bytes)?;
    Ok(Directory {
        format: Format::Safetensors,
        tensors,
        metadata: header.metadata,
        notes: Vec::new(),
        unknown_globals: Vec::new(),
    })
}

/// Checks the entries against each other and against the file's size.
fn places(mut entries: Vec<(String, Entry)>, data: u64, file_bytes: u64) -> Result<Vec<Place>, Fault> {
    entries.sort_by_key(|(_, entry)| entry.data_offsets);
    let mut end = 0;
    let mut places = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        let dtype = dtype(entry.dtype).ok_or_else(|| {
            Fault::unsupported(
                format!(
                    "the tensor `{}` has elements of type {:?}, which are not read",
                    clip(&name),
                    entry.dtype
                ),
                "save the weights as f32, f16 or bf16",
            )
        })?;
        let (begin, after) = entry.data_offsets;
        let bytes = entry
            .shape
            .iter()
            .try_fold(dtype.size(), |product, &length| product.checked_mul(length))
            .filter(|&bytes| after.checked_sub(begin) == Some(bytes));
        if bytes.is_none() {
            return Err(Fault::damaged(format!(
                "the tensor `{}` of shape {:?} cannot lie at bytes {begin} to {after}",
                clip(&name),
                entry.shape
            )));
        }
        if begin != end {
            return Err(Fault::damaged(format!(
                "the tensor `{}` begins at byte {begin} of the data, the one before it ends at {end}",
                clip(&name)
            )));
        }
        end = after;
        let layout = Layout { offset: data.saturating_add(begin as u64), strides: None };
        places.push(Place { stored_name: name, dtype, shape: entry.shape, layout });
    }
    let wanted = data.saturating_add(end as u64);
    if wanted > file_bytes {
        return Err(Fault::Incomplete(format!("it should have {wanted} bytes, it has {file_bytes}")));
    }
    if wanted < file_bytes {
        return Err(Fault::damaged(format!(
            "its tensors end at byte {wanted}, but it goes on to {file_bytes}"
        )));
    }
    Ok(places)
}

fn dtype(dtype: safetensors::Dtype) -> Option<Dtype> {
    use safetensors::Dtype as Stored;
    Some(match dtype {
        Stored::F64 => Dtype::F64,
        Stored::F32 => Dtype::F32,
        Stored::F16 => Dtype::F16,
        Stored::BF16 => Dtype::Bf16,
        Stored::I64 => Dtype::I64,
        Stored::I32 => Dtype::I32,
        Stored::I16 => Dtype::I16,
        Stored::I8 => Dtype::I8,
        Stored::U64 => Dtype::U64,
        Stored::U32 => Dtype::U32,
        Stored::U16 => Dtype::U16,
        Stored::U8 => Dtype::U8,
        Stored::BOOL => Dtype::Bool,
        _ => return None,
    })
}

/// The header's JSON object: tensors by name, and strings under `__metadata__`.
struct Header {
    tensors: Vec<(String, Entry)>,
    metadata: BTreeMap<String, String>,
}

impl<'de> serde::Deserialize<'de> for Header {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a safetensors header")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut seen = HashSet::new();
        let mut header = Header { tensors: Vec::new(), metadata: BTreeMap::new() };
        while let Some(name) = map.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom(format_args!("the name `{}` stands twice", clip(&name))));
            }
            if name == "__metadata__" {
                let metadata: BTreeMap<String, String> = map.next_value()?;
                header.metadata =
                    metadata.into_iter().map(|(key, value)| (clip(&key), clip(&value))).collect();
            } else if header.tensors.len() == MAX_TENSORS {
                return Err(A::Error::custom(format_args!("more than {MAX_TENSORS} tensors")));
            } else {
                header.tensors.push((name, map.next_value()?));
            }
        }
        Ok(header)
    }
}
