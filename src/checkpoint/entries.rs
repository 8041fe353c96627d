//! Entries of a zip file as PyTorch writes them, for those who read more of it than tensors: the programs of
//! `torch.export`.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::error::{CheckpointError, Fault};
use super::open::FileIdentity;
use super::zip::Archive;

/// A file's entries: the names of all, the contents of some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entries {
    /// All names, sorted.
    pub names: Vec<String>,
    /// What the chosen ones hold, by name.
    pub contents: BTreeMap<String, Vec<u8>>,
}

/// Reads the entries that `choose` gives a largest size in bytes; larger ones are refused, and so is what is compressed.
///
/// # Errors
/// [`CheckpointError::is_transient`] tells whether waiting may help.
pub fn read_entries(path: &Path, choose: impl Fn(&str) -> Option<u64>) -> Result<Entries, CheckpointError> {
    read(path, choose).map_err(|fault| fault.at(path))
}

fn read(path: &Path, choose: impl Fn(&str) -> Option<u64>) -> Result<Entries, Fault> {
    if !path.metadata()?.is_file() {
        return Err(Fault::unsupported("this is no file", "name a file"));
    }
    let file = File::open(path)?;
    let identity = FileIdentity::from(&file.metadata()?);
    let mut magic = [0; 4];
    if identity.size >= 4 {
        file.read_exact_at(&mut magic, 0)?;
    }
    if magic != *b"PK\x03\x04" {
        return Err(Fault::unsupported(
            "this is no zip file as PyTorch writes them",
            "check that the right file is named",
        ));
    }
    let archive = Archive::read(&file, identity.size)?;
    let mut names: Vec<String> = archive.names().map(str::to_owned).collect();
    names.sort_unstable();
    let mut contents = BTreeMap::new();
    for name in &names {
        if let Some(most) = choose(name) {
            contents.insert(name.clone(), archive.content(name, most)?);
        }
    }
    // It was read in pieces, which belong together only if nobody wrote meanwhile.
    if FileIdentity::from(&file.metadata()?) != identity {
        return Err(Fault::Changing);
    }
    Ok(Entries { names, contents })
}
