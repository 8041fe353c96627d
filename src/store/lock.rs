//! Keeps a second daemon out of the same state.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use super::StoreError;

/// An advisory lock on a file in the state's folder. The system lets it go when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock and writes who has it into the file.
    pub(super) fn take(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join("lock");
        let failed = |source| StoreError::Folder { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Who it is is a help, not a need: an unreadable file leaves the words out.
                let known = file.read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
                let holder = if known { holder.trim().to_owned() } else { "another doodl3".into() };
                return Err(StoreError::Locked { holder, path: folder.into() });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let here = std::env::current_dir()
            .map_or_else(|_| String::new(), |d| format!(", started in {}", d.display()));
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        writeln!(file, "process {}{here}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}
