//! Watching a directory: notify only wakes us, a listing decides what is new.
//!
//! Events may be lost (queues overflow, network file systems have none) without harm, since every wake-up and every
//! `rescan_every` lead to the same full listing. Where the system cannot tell us of changes, [`Watch`] says so and the
//! listing is made more often.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// How often a directory is listed where nothing tells us of changes.
const POLL_EVERY: Duration = Duration::from_secs(5);

/// Why a directory is listed every few seconds.
#[derive(Debug, thiserror::Error)]
pub enum PollingReason {
    /// Changes made on other machines raise no events here.
    #[error("{0} tells nobody of changes made elsewhere")]
    NetworkFileSystem(&'static str),
    /// The system's limit of watches is reached.
    #[error(
        "the system's limit of watched directories is reached (raise fs.inotify.max_user_watches or \
         fs.inotify.max_user_instances)"
    )]
    LimitReached,
    /// Something else went wrong.
    #[error("changes cannot be watched: {0}")]
    Failed(#[source] notify::Error),
}

/// Tells when a listing of a directory may have changed.
#[derive(Debug)]
pub struct Watch {
    changed: Arc<Notify>,
    /// What is watched, by device and inode: a folder that was removed and made again has to be watched again.
    root: (PathBuf, Option<(u64, u64)>),
    /// Kept for its thread; `None` where we poll.
    watcher: Option<RecommendedWatcher>,
    polling: Option<PollingReason>,
}

impl Watch {
    /// Watches everything below `root`. Never fails: where watching is impossible, [`Self::polling`] says why.
    pub fn new(root: &Path) -> Self {
        let changed = Arc::new(Notify::new());
        let identity = directory_identity(root);
        let mut watch = Self { changed, root: (root.into(), identity), watcher: None, polling: None };
        if identity.is_none() {
            return watch;
        }
        let started = match network_file_system(root) {
            Some(name) => Err(PollingReason::NetworkFileSystem(name)),
            None => start(root, Arc::clone(&watch.changed)),
        };
        match started {
            Ok(watcher) => watch.watcher = Some(watcher),
            Err(reason) => watch.polling = Some(reason),
        }
        watch
    }

    /// Why the directory is polled, if it is.
    pub fn polling(&self) -> Option<&PollingReason> {
        self.polling.as_ref()
    }

    /// Whether times and events of the directory can be believed.
    pub fn is_local(&self) -> bool {
        !matches!(self.polling, Some(PollingReason::NetworkFileSystem(_)))
    }

    /// Whether the folder is another one than that which is watched, or was not there at all.
    pub fn is_stale(&self) -> bool {
        directory_identity(&self.root.0) != self.root.1
    }

    /// Longest time between two listings.
    pub fn rescan_every(&self, configured: Duration) -> Duration {
        if self.watcher.is_some() { configured } else { configured.min(POLL_EVERY) }
    }

    /// Waits until something may have changed since the last call.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

fn start(root: &Path, changed: Arc<Notify>) -> Result<RecommendedWatcher, PollingReason> {
    let handler = move |event: notify::Result<notify::Event>| {
        // Our own reading opens files and must not wake us. An error (an overflow) means that something was missed.
        let ours = matches!(
            event.map(|event| event.kind),
            Ok(EventKind::Access(
                AccessKind::Open(_) | AccessKind::Read | AccessKind::Close(AccessMode::Read)
            ))
        );
        if !ours {
            changed.notify_one();
        }
    };
    let explain = |error: notify::Error| match error.kind {
        notify::ErrorKind::MaxFilesWatch => PollingReason::LimitReached,
        // inotify_init fails with "too many open files" when the limit of instances is reached.
        notify::ErrorKind::Io(ref io) if io.raw_os_error() == Some(24) => PollingReason::LimitReached,
        _ => PollingReason::Failed(error),
    };
    let mut watcher = notify::recommended_watcher(handler).map_err(explain)?;
    watcher.watch(root, RecursiveMode::Recursive).map_err(explain)?;
    Ok(watcher)
}

fn directory_identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let metadata = path.metadata().ok().filter(std::fs::Metadata::is_dir)?;
    Some((metadata.dev(), metadata.ino()))
}

/// The name of the network file system that holds `path`, if it is one (statfs(2), `linux/magic.h`).
#[cfg(target_os = "linux")]
fn network_file_system(path: &Path) -> Option<&'static str> {
    let kind = rustix::fs::statfs(path).ok()?.f_type as u32;
    match kind {
        0x6969 => Some("NFS"),
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => Some("SMB"),
        0x6573_5546 => Some("FUSE"),
        0x0bd0_0bd0 => Some("Lustre"),
        0x0102_1997 => Some("9p"),
        0x00c3_6400 => Some("Ceph"),
        0x4750_4653 => Some("GPFS"),
        0x1983_0326 => Some("BeeGFS"),
        _ => None,
    }
}

#[cfg(not(target_os = "linux"))]
fn network_file_system(_path: &Path) -> Option<&'static str> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_new_file_wakes_and_reading_does_not() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("old"), "x").unwrap();
        let watch = Watch::new(folder.path());
        if watch.polling().is_some() {
            return; // no inotify here: nothing to test
        }
        std::fs::read(folder.path().join("old")).unwrap();
        std::fs::write(folder.path().join("new"), "x").unwrap();
        watch.changed().await;
        assert!(!watch.is_stale());
    }

    #[test]
    fn a_folder_that_is_made_again_is_stale() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("checkpoints");
        let missing = Watch::new(&folder);
        assert_eq!(missing.rescan_every(Duration::from_secs(30)), POLL_EVERY);
        assert!(!missing.is_stale(), "still missing");
        std::fs::create_dir(&folder).unwrap();
        assert!(missing.is_stale());
        let watch = Watch::new(&folder);
        std::fs::rename(&folder, outer.path().join("moved")).unwrap();
        std::fs::create_dir(&folder).unwrap();
        assert!(watch.is_stale());
    }
}
