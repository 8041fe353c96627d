//! The directory of a zip file, as far as PyTorch writes them: entries are stored, never compressed.
//! <https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>
//!
//! Only the central directory is believed; PyTorch leaves the sizes in the local headers 0. The `zip` crate refuses
//! genuine PyTorch files (it assumes that zip64 records come with markers in the plain record, which PyTorch does not
//! write below 4 GB).

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use super::error::Fault;
use super::names::clip;

/// Longest central directory that is read.
const MAX_DIRECTORY: u64 = 32 << 20;

/// Fixed parts of the records, in bytes.
const END: usize = 22;
const END64_LOCATOR: usize = 20;
const END64: usize = 56;
const ENTRY: usize = 46;
const LOCAL: usize = 30;

/// Longest comment at the end of a zip file.
const MAX_COMMENT: usize = 0xffff;

/// One entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Position of its local header.
    header: u64,
    /// Length of its data as stored.
    pub(super) bytes: u64,
    /// Whether it is stored as it is: neither compressed nor encrypted.
    plain: bool,
}

/// A zip file's directory.
#[derive(Debug)]
pub(super) struct Archive<'a> {
    file: &'a File,
    entries: HashMap<String, Entry>,
    /// Where the central directory begins; all data lie before it.
    directory: u64,
}

impl<'a> Archive<'a> {
    /// Reads the central directory of a file of `file_bytes` bytes.
    pub(super) fn read(file: &'a File, file_bytes: u64) -> Result<Self, Fault> {
        let (directory, length, count) = find_directory(file, file_bytes)?;
        if length > MAX_DIRECTORY {
            return Err(Fault::damaged(format!("its zip directory claims {length} bytes")));
        }
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, directory)?;
        let mut entries = HashMap::new();
        let mut rest = bytes.as_slice();
        for _ in 0..count {
            let (name, entry, after) = read_entry(rest)?;
            rest = after;
            let end = entry.header.saturating_add((LOCAL + name.len()) as u64).saturating_add(entry.bytes);
            if end > directory {
                return Err(Fault::damaged(format!(
                    "its zip entry `{}` reaches beyond the data",
                    clip(&name)
                )));
            }
            if entries.insert(name.clone(), entry).is_some() {
                return Err(Fault::damaged(format!("its zip entry `{}` stands twice", clip(&name))));
            }
        }
        Ok(Self { file, entries, directory })
    }

    pub(super) fn file(&self) -> &File {
        self.file
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    pub(super) fn entry(&self, name: &str) -> Option<Entry> {
        self.entries.get(name).copied()
    }

    /// Where the data of the entry `name` begin.
    pub(super) fn data(&self, name: &str, entry: Entry) -> Result<u64, Fault> {
        if !entry.plain {
            return Err(Fault::unsupported(
                format!("its zip entry `{}` is compressed or encrypted", clip(name)),
                "PyTorch stores entries as they are: save it again with torch.save",
            ));
        }
        let mut local = [0; LOCAL];
        self.file.read_exact_at(&mut local, entry.header)?;
        let start =
            entry.header + LOCAL as u64 + u64::from(u16_at(&local, 26)) + u64::from(u16_at(&local, 28));
        if !local.starts_with(b"PK\x03\x04") || start.saturating_add(entry.bytes) > self.directory {
            return Err(Fault::damaged(format!(
                "the data of its zip entry `{}` are not where they should be",
                clip(name)
            )));
        }
        Ok(start)
    }

    /// The content of the entry `name`, which may have at most `most` bytes.
    pub(super) fn content(&self, name: &str, most: u64) -> Result<Vec<u8>, Fault> {
        let entry = self
            .entry(name)
            .ok_or_else(|| Fault::damaged(format!("its zip entry `{}` is missing", clip(name))))?;
        let start = self.data(name, entry)?;
        if entry.bytes > most {
            return Err(Fault::damaged(format!(
                "its zip entry `{}` has {} bytes, at most {most} are read",
                clip(name),
                entry.bytes
            )));
        }
        let mut content = vec![0; entry.bytes as usize];
        self.file.read_exact_at(&mut content, start)?;
        Ok(content)
    }
}

/// Position, length and number of entries of the central directory.
fn find_directory(file: &File, file_bytes: u64) -> Result<(u64, u64, u64), Fault> {
    let tail_bytes = file_bytes.min((END + MAX_COMMENT + END64_LOCATOR) as u64) as usize;
    let mut tail = vec![0; tail_bytes];
    file.read_exact_at(&mut tail, file_bytes - tail_bytes as u64)?;
    // The record's last field is the length of the comment that follows it, to the end of the file.
    let end = (0..=tail.len().saturating_sub(END))
        .rev()
        .find(|&at| {
            tail[at..].starts_with(b"PK\x05\x06")
                && tail.len() >= at + END
                && at + END + usize::from(u16_at(&tail, at + 20)) == tail.len()
        })
        .ok_or_else(|| Fault::Incomplete("its zip directory, which is written last, is missing".into()))?;
    let record = &tail[end..];
    let mut count = u64::from(u16_at(record, 10));
    let mut length = u64::from(u32_at(record, 12));
    let mut start = u64::from(u32_at(record, 16));
    let mut limit = file_bytes - (tail.len() - end) as u64;
    if let Some(locator) = end.checked_sub(END64_LOCATOR).map(|at| &tail[at..end])
        && locator.starts_with(b"PK\x06\x07")
    {
        let at = u64_at(locator, 8);
        if at.saturating_add((END64 + END64_LOCATOR) as u64) > limit {
            return Err(Fault::damaged("its zip64 record is not where it should be"));
        }
        let mut record64 = [0; END64];
        file.read_exact_at(&mut record64, at)?;
        if !record64.starts_with(b"PK\x06\x06") {
            return Err(Fault::damaged("its zip64 record is not where it should be"));
        }
        // A field counts only where the plain record has no room for it.
        if count == 0xffff {
            count = u64_at(&record64, 32);
        }
        if length == 0xffff_ffff {
            length = u64_at(&record64, 40);
        }
        if start == 0xffff_ffff {
            start = u64_at(&record64, 48);
        }
        limit = at;
    }
    if start.saturating_add(length) > limit {
        return Err(Fault::damaged("its zip directory reaches beyond the end of the file"));
    }
    Ok((start, length, count))
}

/// The entry that begins `bytes`, with its name, and what follows it.
fn read_entry(bytes: &[u8]) -> Result<(String, Entry, &[u8]), Fault> {
    let short = || Fault::damaged("its zip directory ends in the middle of an entry");
    let (record, rest) = bytes.split_at_checked(ENTRY).ok_or_else(short)?;
    if !record.starts_with(b"PK\x01\x02") {
        return Err(Fault::damaged("its zip directory holds something that is no entry"));
    }
    let (name, rest) = rest.split_at_checked(u16_at(record, 28).into()).ok_or_else(short)?;
    let (mut extra, rest) = rest.split_at_checked(u16_at(record, 30).into()).ok_or_else(short)?;
    let (_comment, rest) = rest.split_at_checked(u16_at(record, 32).into()).ok_or_else(short)?;

    let flags = u16_at(record, 8);
    let method = u16_at(record, 10);
    let mut stored = u64::from(u32_at(record, 20));
    let mut size = u64::from(u32_at(record, 24));
    let mut header = u64::from(u32_at(record, 42));
    while let Some((head, after)) = extra.split_at_checked(4) {
        let (field, after) = after.split_at_checked(u16_at(head, 2).into()).ok_or_else(short)?;
        if u16_at(head, 0) == 1 {
            // zip64: one number for each field that had no room, in this order.
            let mut numbers = field.as_chunks::<8>().0.iter().map(|&number| u64::from_le_bytes(number));
            for wide in [&mut size, &mut stored, &mut header] {
                if *wide == 0xffff_ffff {
                    *wide = numbers.next().ok_or_else(short)?;
                }
            }
        }
        extra = after;
    }
    let name =
        String::from_utf8(name.to_vec()).map_err(|_| Fault::damaged("a zip entry's name is not UTF-8"))?;
    let plain = method == 0 && flags & 1 == 0 && size == stored;
    Ok((name, Entry { header, bytes: stored, plain }, rest))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}
