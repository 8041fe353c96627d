//! Directories: trainers write checkpoints into one, reports go into another.
//!
//! A [`Scanner`] lists what is below a folder. Symbolic links are followed, each folder and file is listed once (under
//! its real path, if that lies below the folder too), so loops are harmless. A folder's names are read again only after
//! the folder has changed; the files themselves are looked at each time, since a file that is written in place changes
//! nothing in its folder.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::artifact::Artifact;
use crate::checkpoint::{FileIdentity, is_candidate};
use crate::config::{DirectoryPlan, Place, SourcePlan};

/// Where trainers log losses, beside their checkpoints.
pub const METRICS_FILE: &str = "metrics.jsonl";

/// A folder that changed less than this before it was read may change again with the same time stamp.
const TIMES_ARE_COARSE: Duration = Duration::from_secs(2);

/// A folder that cannot be listed.
#[derive(Debug, thiserror::Error)]
#[error("the folder cannot be read: {source}: {}", path.display())]
pub struct ScanError {
    /// The folder.
    pub path: PathBuf,
    /// What the system says.
    pub source: io::Error,
}

/// What is below a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Files that may be checkpoints, by path.
    pub found: Vec<Found>,
    /// Metrics files, by (experiment, run): the path below the folder, and the file.
    pub metrics: BTreeMap<(String, String), (String, FileIdentity)>,
    /// Paths that could not be read, with the reason.
    pub problems: Vec<(String, String)>,
}

/// A file that may be a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Path below the source's folder.
    pub path: String,
    /// What its path tells.
    pub place: Place,
    /// The file as it is now.
    pub identity: FileIdentity,
}

/// Lists a folder again and again.
#[derive(Debug)]
pub struct Scanner {
    plan: DirectoryPlan,
    folders: BTreeMap<PathBuf, Folder>,
}

/// The names in a folder, as they were when it was read.
#[derive(Debug, Default)]
struct Folder {
    /// Change time of the folder, if it was old enough to be believed.
    changed: Option<(i64, i64)>,
    folders: Vec<PathBuf>,
    links: Vec<PathBuf>,
    candidates: Vec<PathBuf>,
    metrics: bool,
}

/// One walk over the folders.
#[derive(Default)]
struct Walk {
    seen: BTreeSet<(u64, u64)>,
    links: Vec<PathBuf>,
    listing: Listing,
    metrics: Vec<(PathBuf, FileIdentity)>,
    /// What was known of each folder that still exists.
    folders: BTreeMap<PathBuf, Folder>,
}

impl Scanner {
    /// A scanner of a source's folder.
    pub fn new(plan: &DirectoryPlan) -> Self {
        Self { plan: plan.clone(), folders: BTreeMap::new() }
    }

    /// What is below the folder now.
    ///
    /// # Errors
    /// [`ScanError`] when the folder itself cannot be read; what is below it is listed in [`Listing::problems`].
    pub fn scan(&mut self) -> Result<Listing, ScanError> {
        fs::read_dir(&self.plan.root).map_err(|source| ScanError { path: self.plan.root.clone(), source })?;
        let mut walk = Walk::default();
        if self.plan.only.is_empty() {
            self.walk(PathBuf::new(), &mut walk);
        }
        for folder in self.plan.only.clone() {
            self.walk(folder, &mut walk);
        }
        while !walk.links.is_empty() {
            let mut links = std::mem::take(&mut walk.links);
            links.sort();
            for link in links {
                match self.plan.root.join(&link).metadata() {
                    Ok(metadata) if metadata.is_dir() => self.walk(link, &mut walk),
                    Ok(metadata) => self.file(&link, &metadata, &mut walk),
                    // It points nowhere, or in a circle.
                    Err(_) => {}
                }
            }
        }
        self.folders = walk.folders;
        let mut listing = walk.listing;
        listing.found.sort_by(|a, b| a.path.cmp(&b.path));
        for (path, identity) in walk.metrics {
            if let Some(run) = only_run_below(&listing.found, path.parent().unwrap_or(Path::new("")))
                && let Some(path) = path.to_str()
            {
                // The deepest file of a run is its own; those above may be anything.
                let entry = listing.metrics.entry(run).or_insert_with(|| (path.to_owned(), identity));
                if path.len() > entry.0.len() {
                    *entry = (path.to_owned(), identity);
                }
            }
        }
        Ok(listing)
    }

    /// Lists a folder and those below it that are no links.
    fn walk(&mut self, start: PathBuf, walk: &mut Walk) {
        let mut stack = vec![start];
        while let Some(path) = stack.pop() {
            let absolute = self.plan.root.join(&path);
            let metadata = match absolute.metadata() {
                Ok(metadata) => metadata,
                Err(error) => {
                    walk.problem(&path, &error);
                    continue;
                }
            };
            if !walk.seen.insert((metadata.dev(), metadata.ino())) {
                continue;
            }
            let known =
                self.folders.remove(&path).filter(|folder| folder.changed == Some(change_time(&metadata)));
            let folder = match known.map_or_else(|| self.read(&path, &metadata, walk), Ok) {
                Ok(folder) => folder,
                Err(error) => {
                    walk.problem(&path, &error);
                    continue;
                }
            };
            for candidate in &folder.candidates {
                match self.plan.root.join(candidate).metadata() {
                    Ok(metadata) => self.file(candidate, &metadata, walk),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => walk.problem(candidate, &error),
                }
            }
            if folder.metrics {
                let file = path.join(METRICS_FILE);
                if let Ok(metadata) = self.plan.root.join(&file).metadata() {
                    walk.metrics.push((file, FileIdentity::from(&metadata)));
                }
            }
            walk.links.extend(folder.links.iter().cloned());
            stack.extend(folder.folders.iter().cloned());
            walk.folders.insert(path, folder);
        }
    }

    fn read(&self, path: &Path, metadata: &Metadata, walk: &mut Walk) -> io::Result<Folder> {
        let mut folder = Folder::default();
        for entry in fs::read_dir(self.plan.root.join(path))? {
            let entry = entry?;
            let (name, kind) = (entry.file_name(), entry.file_type()?);
            let below = path.join(&name);
            if kind.is_dir() {
                if !name.as_encoded_bytes().starts_with(b".") {
                    folder.folders.push(below);
                }
            } else if name == OsStr::new(METRICS_FILE) {
                folder.metrics = true;
            } else if kind.is_symlink() {
                folder.links.push(below);
            } else if kind.is_file() && is_candidate(&below) {
                if below.to_str().is_some() {
                    folder.candidates.push(below);
                } else {
                    walk.problem(&below, &io::Error::other("its name is not UTF-8; rename it"));
                }
            }
        }
        folder.candidates.sort();
        let age = metadata.modified().ok().and_then(|time| SystemTime::now().duration_since(time).ok());
        folder.changed = age.is_some_and(|age| age > TIMES_ARE_COARSE).then(|| change_time(metadata));
        Ok(folder)
    }

    fn file(&self, path: &Path, metadata: &Metadata, walk: &mut Walk) {
        if !metadata.is_file() || !is_candidate(path) {
            return;
        }
        let (Some(place), Some(text)) = (self.plan.place(path), path.to_str()) else {
            return;
        };
        if !walk.seen.insert((metadata.dev(), metadata.ino())) {
            return;
        }
        walk.listing.found.push(Found {
            path: text.to_owned(),
            place,
            identity: FileIdentity::from(metadata),
        });
    }
}

impl Walk {
    fn problem(&mut self, path: &Path, error: &io::Error) {
        self.listing.problems.push((path.display().to_string(), error.to_string()));
    }
}

fn change_time(metadata: &Metadata) -> (i64, i64) {
    (metadata.mtime(), metadata.mtime_nsec())
}

/// The run of all checkpoints below a folder, if it is only one; `found` is sorted by path.
fn only_run_below(found: &[Found], folder: &Path) -> Option<(String, String)> {
    let folder = folder.to_str()?;
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let start = found.partition_point(|found| found.path.as_str() < prefix.as_str());
    let mut below = found[start..].iter().take_while(|found| found.path.starts_with(&prefix));
    let first = below.next()?;
    let run = (first.place.experiment.clone(), first.place.run.clone());
    below.all(|found| (&found.place.experiment, &found.place.run) == (&run.0, &run.1)).then_some(run)
}

/// Folders that each hold one run, and lie side by side, become one source: their runs belong together, as if the folder
/// above had been named.
pub fn runs_together(sources: Vec<SourcePlan>) -> Vec<SourcePlan> {
    let mut joined: Vec<SourcePlan> = Vec::new();
    for source in sources {
        let SourcePlan::Directory(plan) = &source else {
            joined.push(source);
            continue;
        };
        let above = plan.root.parent().filter(|_| holds_one_run(plan));
        let (Some(above), Some(name)) = (above, plan.root.file_name()) else {
            joined.push(source);
            continue;
        };
        let beside = joined.iter_mut().find_map(|other| match other {
            SourcePlan::Directory(other) if !other.only.is_empty() && other.root == above => Some(other),
            _ => None,
        });
        match beside {
            Some(other) => other.only.push(name.into()),
            None => joined.push(SourcePlan::Directory(DirectoryPlan {
                name: crate::config::folder_name(above),
                root: above.into(),
                only: vec![name.into()],
                ..plan.clone()
            })),
        }
    }
    joined
}

fn holds_one_run(source: &DirectoryPlan) -> bool {
    let name = crate::config::folder_name(&source.root);
    Scanner::new(source).scan().is_ok_and(|listing| {
        !listing.found.is_empty() && listing.found.iter().all(|found| found.place.run == name)
    })
}

/// Writes artifacts into a folder, each whole or not at all (a temporary file, then renamed), and only those that differ
/// from what is there. Returns how many were written.
///
/// # Errors
/// What the system says, with the file's name.
pub fn write(folder: &Path, artifacts: &[Artifact]) -> io::Result<usize> {
    let mut written = 0;
    for artifact in artifacts {
        let path = folder.join(&artifact.name);
        if fs::read(&path).is_ok_and(|bytes| bytes == artifact.bytes) {
            continue;
        }
        write_file(&path, &artifact.bytes)
            .map_err(|error| io::Error::new(error.kind(), format!("{error}: {}", path.display())))?;
        written += 1;
    }
    Ok(written)
}

fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.tmp"));
    let result = fs::File::create(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    if result.is_err() {
        // What is left of it helps nobody; the error that matters is the first.
        drop(fs::remove_file(&temporary));
    }
    result
}

/// Whether a folder can be made and written.
///
/// # Errors
/// What the system says.
pub fn probe(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let file = folder.join(".doodl3-probe.tmp");
    fs::write(&file, b"")?;
    fs::remove_file(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanner(root: &Path) -> Scanner {
        let mut config = crate::config::Config::default();
        config.sources = vec![crate::config::Source::Directory(crate::config::DirectorySource::new(root))];
        Scanner::new(config.validate(Path::new("")).unwrap().directories().next().unwrap())
    }

    fn write(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }

    fn paths(listing: &Listing) -> Vec<&str> {
        listing.found.iter().map(|found| found.path.as_str()).collect()
    }

    #[test]
    fn runs_experiments_steps_and_metrics_come_from_the_paths() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("checkpoints");
        for path in
            ["wide/a/step-10.safetensors", "wide/a/checkpoints/step-20.pt", "b/step-1.pt", "step-7.pt"]
        {
            write(&root.join(path));
        }
        for path in
            ["wide/a/metrics.jsonl", "b/metrics.jsonl", "metrics.jsonl", "b/notes.txt", ".git/step-1.pt"]
        {
            write(&root.join(path));
        }
        let listing = scanner(&root).scan().unwrap();
        let read: Vec<_> = listing
            .found
            .iter()
            .map(|f| (f.place.experiment.as_str(), f.place.run.as_str(), f.place.step.unwrap()))
            .collect();
        assert_eq!(
            read,
            [
                ("checkpoints", "b", 1),
                ("checkpoints", "checkpoints", 7),
                ("wide/a", "checkpoints", 20),
                ("wide", "a", 10),
            ]
        );
        let metrics: Vec<_> =
            listing.metrics.iter().map(|((_, run), (path, _))| (run.as_str(), path.as_str())).collect();
        assert_eq!(metrics, [("b", "b/metrics.jsonl")], "those above several runs are nobody's");
    }

    #[test]
    fn links_are_followed_and_loops_are_harmless() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        let elsewhere = folder.path().join("elsewhere");
        write(&root.join("run/step-1.pt"));
        write(&elsewhere.join("step-2.pt"));
        let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, root.join(name)).unwrap();
        link(&root, "run/loop");
        link(&root.join("run/step-1.pt"), "run/best.pt");
        link(&root.join("run"), "latest");
        link(&elsewhere, "other");
        link(&folder.path().join("nowhere"), "broken");
        fs::hard_link(root.join("run/step-1.pt"), root.join("run/z.pt")).unwrap();
        assert_eq!(paths(&scanner(&root).scan().unwrap()), ["other/step-2.pt", "run/step-1.pt"]);
    }

    #[test]
    fn changes_are_seen_although_names_are_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("run/step-1.pt");
        write(&file);
        let old = SystemTime::now() - Duration::from_secs(60);
        let age = |path: &Path| fs::File::open(path).unwrap().set_modified(old).unwrap();
        age(&folder.path().join("run"));
        age(folder.path());
        let mut scanner = scanner(folder.path());
        let before = scanner.scan().unwrap();
        assert!(scanner.folders.values().all(|folder| folder.changed.is_some()), "all names are remembered");
        assert_eq!(scanner.scan().unwrap(), before);

        fs::write(&file, "longer").unwrap();
        let after = scanner.scan().unwrap();
        assert_ne!(after.found[0].identity, before.found[0].identity, "written in place");
        write(&folder.path().join("run/step-2.pt"));
        write(&folder.path().join("new/step-1.pt"));
        assert_eq!(paths(&scanner.scan().unwrap()), ["new/step-1.pt", "run/step-1.pt", "run/step-2.pt"]);
        fs::remove_dir_all(folder.path().join("run")).unwrap();
        assert_eq!(paths(&scanner.scan().unwrap()), ["new/step-1.pt"]);
        assert_eq!(scanner.folders.len(), 2);
    }

    #[test]
    fn only_what_differs_is_written_and_nothing_is_left_over() {
        let folder = tempfile::tempdir().unwrap();
        let sink = folder.path().join("a/b");
        let artifacts =
            [Artifact::text("x.json", "application/json", "{}"), Artifact::text("y.txt", "text/plain", "y")];
        assert_eq!(super::write(&sink, &artifacts).unwrap(), 2);
        assert_eq!(super::write(&sink, &artifacts).unwrap(), 0);
        fs::write(sink.join("y.txt"), "z").unwrap();
        assert_eq!(super::write(&sink, &artifacts).unwrap(), 1);
        assert_eq!(fs::read_dir(&sink).unwrap().count(), 2);
        fs::create_dir(sink.join("w.txt")).unwrap();
        let error = super::write(&sink, &[Artifact::text("w.txt", "text/plain", "w")]).unwrap_err();
        assert!(error.to_string().contains("w.txt"), "{error}");
        assert_eq!(fs::read_dir(&sink).unwrap().count(), 3);
    }
}
