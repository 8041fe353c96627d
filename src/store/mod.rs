//! The agent's state: one SQLite file, owned by one thread.
//!
//! What belongs together is written in one transaction ([`Store::write`]): a checkpoint with its detectors' state, the
//! alerts that changed and the sinks that must hear of it; an analysis with its deliveries. So a kill at any point loses
//! at most work that is done again, and nothing is told twice.
//!
//! The file is in WAL mode with `synchronous = NORMAL`: a commit is in the kernel's hands before it is acknowledged, so
//! it survives `kill -9`. A power cut may undo the last commits, never tear one; listings are the truth, so what was
//! undone is found and done again.

mod analyses;
mod blob;
mod checkpoints;
mod export;
mod health;
mod lock;
mod migrations;
mod monitors;
mod runs;
mod tracked;

pub use analyses::{Analysed, Delivery};
pub use checkpoints::{CheckpointId, CheckpointRow, Evaluation, NewCheckpoint, ToEvaluate};
pub use export::Export;
pub use health::{Backlog, Intake, Trouble};
pub use monitors::{LossPoint, Tail};
pub use runs::{FileRow, Group, GroupId, Run, RunId};
pub use tracked::{Posted, TrackedRow};

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use lock::Lock;

/// Name of the file in the state's folder.
const FILE_NAME: &str = "state.db";

/// Requests that may wait for the thread; more make the callers wait.
const QUEUE: usize = 64;

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder could not be made, or the lock file not opened.
    #[error("cannot use the state's folder: {source}: {}", path.display())]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another doodl3 uses it.
    #[error("the state is in use by {holder}: {}", path.display())]
    Locked {
        /// Who holds it, as written into the lock file.
        holder: String,
        /// The state's folder.
        path: PathBuf,
    },
    /// There is no state yet.
    #[error("there is no state: {}", path.display())]
    Missing {
        /// The file that is not there.
        path: PathBuf,
    },
    /// The file was written by another version of this program.
    #[error("the state has format {found}, this program writes format {known}: {}", path.display())]
    Version {
        /// Format of the file.
        found: u32,
        /// Format of this program.
        known: u32,
        /// The file.
        path: PathBuf,
    },
    /// SQLite says no.
    #[error("the state cannot be read or written")]
    Sqlite(#[from] rusqlite::Error),
    /// Something in the file is not what this program writes.
    #[error("the state holds a {what} that cannot be read: {reason}")]
    Damaged {
        /// What.
        what: &'static str,
        /// Why it cannot be read.
        reason: String,
    },
    /// The thread has ended.
    #[error("the state's thread has ended")]
    Ended,
}

impl StoreError {
    /// What to do about it, where there is something to say.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Locked { .. } => {
                Some("stop the other one, or give this one its own folder with --state-dir")
            }
            Self::Missing { .. } => Some("run `doodl3 watch` first, or name the folder with --state-dir"),
            Self::Version { found, known, .. } if found > known => {
                Some("use the doodl3 that wrote it, or a newer one")
            }
            Self::Version { .. } => Some("start `doodl3 watch` once: it brings the state up to date"),
            Self::Sqlite(_) | Self::Damaged { .. } => Some(
                "if the disk is full, make room; if the file is damaged, move its folder away and start again",
            ),
            Self::Folder { .. } => Some("check the folder's permissions, or choose another with --state-dir"),
            Self::Ended => None,
        }
    }
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// Handle to the state; cloning it is cheap. The file is closed, and the lock let go, when the last clone is gone.
#[derive(Clone, Debug)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
}

/// The tables inside a transaction: typed calls, in the files of this module.
#[derive(Debug)]
pub struct Tables<'c> {
    connection: &'c Connection,
}

impl Store {
    /// Opens or makes the state in `folder`, brings its format up to date, and keeps others out.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another doodl3 has it; [`StoreError::Version`] when it is newer than this program.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Folder { path: folder.into(), source };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let lock = Lock::take(folder)?;
        let path = folder.join(FILE_NAME);
        let mut connection = Connection::open(&path)?;
        let found = migrations::version(&connection)?;
        if found > migrations::VERSION {
            return Err(StoreError::Version { found, known: migrations::VERSION, path });
        }
        prepare(&connection)?;
        migrations::migrate(&mut connection)?;
        Self::start(connection, Some(lock)).map_err(failed)
    }

    /// Opens the state in `folder` for reading, also while another doodl3 writes it.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when there is none, [`StoreError::Version`] when its format is not this program's.
    pub fn open_read_only(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(FILE_NAME);
        if !path.exists() {
            return Err(StoreError::Missing { path });
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        let found = migrations::version(&connection)?;
        if found != migrations::VERSION {
            return Err(StoreError::Version { found, known: migrations::VERSION, path });
        }
        Self::start(connection, None).map_err(|source| StoreError::Folder { path: folder.into(), source })
    }

    /// A state that is gone when the handle is, for `doodl3 analyze`: SQLite keeps it in memory, and what does not fit
    /// there in a nameless temporary file.
    ///
    /// # Errors
    /// Only when the system has no memory or no thread left.
    pub fn open_temporary() -> Result<Self, StoreError> {
        let mut connection = Connection::open("")?;
        migrations::migrate(&mut connection)?;
        Self::start(connection, None)
            .map_err(|source| StoreError::Folder { path: std::env::temp_dir(), source })
    }

    fn start(mut connection: Connection, lock: Option<Lock>) -> std::io::Result<Self> {
        connection.set_prepared_statement_cache_capacity(64);
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        std::thread::Builder::new().name("store".into()).spawn(move || {
            while let Some(job) = queue.blocking_recv() {
                job(&mut connection);
            }
            drop(connection);
            drop(lock);
        })?;
        Ok(Self { jobs })
    }

    /// Runs `work` in a transaction: all of what it writes stays, or none.
    ///
    /// # Errors
    /// What `work` returns, or what SQLite says of the transaction; in both cases nothing was written.
    pub async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Tables<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        self.call(TransactionBehavior::Immediate, work).await
    }

    /// Runs `work` on one consistent view of the state.
    ///
    /// # Errors
    /// What `work` returns, or what SQLite says.
    pub async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Tables<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        self.call(TransactionBehavior::Deferred, work).await
    }

    async fn call<T, F>(&self, behavior: TransactionBehavior, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Tables<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let (answer, receiver) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let result = (|| {
                let transaction = connection.transaction_with_behavior(behavior)?;
                let value = work(&Tables { connection: &transaction })?;
                transaction.commit()?;
                Ok(value)
            })();
            // The caller may have gone away; what was written stays written.
            drop(answer.send(result));
        });
        self.jobs.send(job).await.map_err(|_closed| StoreError::Ended)?;
        receiver.await.map_err(|_closed| StoreError::Ended)?
    }
}

fn prepare(connection: &Connection) -> Result<(), StoreError> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_error_undoes_the_whole_transaction() {
        let store = Store::open_temporary().unwrap();
        let failed = store
            .write(|tables| {
                tables.set_fact("a", "1")?;
                Err::<(), _>(StoreError::Damaged { what: "test", reason: "on purpose".into() })
            })
            .await;
        assert!(failed.is_err());
        assert_eq!(store.read(|tables| tables.fact("a")).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_second_writer_is_kept_out_and_told_by_whom() {
        let folder = tempfile::tempdir().unwrap();
        let first = Store::open(folder.path()).unwrap();
        let error = Store::open(folder.path()).unwrap_err();
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        first.write(|tables| tables.set_fact("a", "1")).await.unwrap();
        let reader = Store::open_read_only(folder.path()).unwrap();
        assert_eq!(reader.read(|tables| tables.fact("a")).await.unwrap().as_deref(), Some("1"));
    }

    #[test]
    fn a_newer_file_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let connection = Connection::open(folder.path().join(FILE_NAME)).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        drop(connection);
        for error in
            [Store::open(folder.path()).unwrap_err(), Store::open_read_only(folder.path()).unwrap_err()]
        {
            assert!(matches!(error, StoreError::Version { found: 99, .. }), "{error}");
            assert_eq!(error.hint(), Some("use the doodl3 that wrote it, or a newer one"));
        }
        let connection = Connection::open(folder.path().join(FILE_NAME)).unwrap();
        assert_eq!(migrations::version(&connection).unwrap(), 99);
    }
}
