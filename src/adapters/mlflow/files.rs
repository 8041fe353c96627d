//! Artifacts of MLflow: which there are, and by which route they come and go.
//!
//! The route follows from the scheme of the run's artifact address. To put a file through the proxy of a run whose
//! artifacts are elsewhere answers 200 and loses it, so what was sent is looked for afterwards (`post.rs`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::json;

use super::wire::{File, LoggedModel, Page};
use super::{API, Mlflow};
use crate::adapters::http::{Downloaded, HttpError, Repeat, encode};
use crate::adapters::names::first_bytes;
use crate::adapters::tracker::{RemoteFile, RunStatus, TrackedRun, TrackerError};
use crate::checkpoint::is_candidate;

/// The proxy for artifacts.
const PROXY: &str = "api/2.0/mlflow-artifacts/artifacts";

/// Beginning of the path of a file that belongs to a logged model, as MLflow writes addresses of models.
const MODELS: &str = "models:";

/// Folders of a run that hold no checkpoints: our own, and pictures.
pub(super) const PASSED_OVER: [&str; 2] = ["doodl3", "images"];

/// Folders of a run that are looked into.
const MOST_FOLDERS: usize = 10_000;

/// Most bytes that a server takes for a run whose artifacts it does not proxy.
const MOST_UPLOADED: usize = 10 << 20;

/// What is remembered of folders whose listing no longer changes, so that a run that writes a folder for each epoch does
/// not cost a request for each of them again and again.
#[derive(Clone, Debug, Default)]
pub(super) struct Listings {
    /// By run and folder: the files, and whether the last two listings were equal.
    folders: BTreeMap<String, BTreeMap<String, (Vec<RemoteFile>, bool)>>,
    /// Files of logged models, which never change once they are ready.
    models: BTreeMap<String, Vec<RemoteFile>>,
}

impl Listings {
    pub(super) fn forget(&mut self, run: &str) {
        self.folders.remove(run);
    }
}

/// A way to a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// The server's proxy: the path below it.
    Proxy(String),
    /// A folder of this machine.
    Here(PathBuf),
    /// The server fetches it.
    Server,
}

impl Route {
    /// The route to `path` below an address of artifacts.
    pub(super) fn to(artifacts: &str, path: &str) -> Self {
        if let Some(rest) = artifacts.strip_prefix("mlflow-artifacts:") {
            // With or without a host: mlflow-artifacts:/1/abc, mlflow-artifacts://host:5000/1/abc.
            let below = match rest.strip_prefix("//") {
                Some(with_host) => with_host.split_once('/').map_or("", |(_, below)| below),
                None => rest.trim_start_matches('/'),
            };
            return Self::Proxy(format!("{PROXY}/{}", encode(&format!("{below}/{path}"))));
        }
        if let Some((_, below)) = artifacts.split_once(&format!("/{PROXY}/"))
            && artifacts.starts_with("http")
        {
            return Self::Proxy(format!("{PROXY}/{}", encode(&format!("{below}/{path}"))));
        }
        let folder = match artifacts.split_once(':') {
            None => Some(PathBuf::from(artifacts)),
            Some(("file", _)) => Url::parse(artifacts).ok().and_then(|url| url.to_file_path().ok()),
            Some(_) => None,
        };
        match folder.filter(|folder| folder.is_absolute() && folder.is_dir()) {
            Some(folder) => Self::Here(folder.join(path)),
            None => Self::Server,
        }
    }
}

impl Mlflow {
    /// The files of a run that may be checkpoints: among its artifacts, and those of its logged models.
    pub(super) async fn files(&mut self, run: &TrackedRun) -> Result<Vec<RemoteFile>, TrackerError> {
        let mut files = self.run_files(run).await?;
        for (model, step) in &run.models {
            files.extend(self.model_files(model, *step).await?);
        }
        Ok(files)
    }

    async fn run_files(&mut self, run: &TrackedRun) -> Result<Vec<RemoteFile>, TrackerError> {
        let (mut files, mut folders) = (Vec::new(), vec![String::new()]);
        let mut looked = 0;
        while let Some(folder) = folders.pop() {
            let known = self.listings.folders.get(&run.key).and_then(|folders| folders.get(&folder));
            if let Some((known, true)) = known {
                files.extend(known.iter().cloned());
                continue;
            }
            looked += 1;
            if looked > MOST_FOLDERS {
                tracing::warn!(
                    run = run.name,
                    folders = MOST_FOLDERS,
                    "more folders of artifacts are left out"
                );
                break;
            }
            let (mut found, mut below) = (Vec::new(), false);
            for File { path, is_dir, bytes } in self.list(&run.key, &folder).await? {
                if is_dir {
                    below = true;
                    if !PASSED_OVER.contains(&path.as_str()) && depth(&path) <= 8 {
                        folders.push(path);
                    }
                } else if is_candidate(Path::new(&path)) {
                    let version = self.version(run, &path).await?;
                    found.push(RemoteFile { path, size: bytes, version, step: None });
                }
            }
            // A folder of one checkpoint, such as epoch_3: nothing will come into it once it stays the same.
            let of_one = folder.contains(|c: char| c.is_ascii_digit()) && !below && !found.is_empty();
            if of_one {
                let folders = self.listings.folders.entry(run.key.clone()).or_default();
                let same = folders.get(&folder).is_some_and(|(before, _)| *before == found);
                folders.insert(folder, (found.clone(), same));
            }
            files.extend(found);
        }
        Ok(files)
    }

    /// What tells the contents of a file apart whose name stays, such as `latest_checkpoint.pth`; 0 for names that hold a
    /// number, which are written once.
    async fn version(&self, run: &TrackedRun, path: &str) -> Result<u64, TrackerError> {
        let written_once = path.contains(|c: char| c.is_ascii_digit());
        if written_once || run.status == RunStatus::Ended {
            return Ok(0);
        }
        let tag = match Route::to(&run.artifacts, path) {
            Route::Proxy(path) => self.client.tag(&path, &()).await?,
            Route::Here(path) => {
                std::fs::metadata(path).ok().map(|metadata| format!("{:?}", metadata.modified().ok()))
            }
            // Its tags change with each answer.
            Route::Server => None,
        };
        Ok(tag.map_or(0, |tag| first_bytes(&tag)))
    }

    async fn model_files(&mut self, model: &str, step: u64) -> Result<Vec<RemoteFile>, TrackerError> {
        if let Some(files) = self.listings.models.get(model) {
            return Ok(files.clone());
        }
        let asked: LoggedModel = match self.client.get(&format!("{API}/logged-models/{model}"), &()).await {
            Ok(asked) => asked,
            // Deleted, while the run still names it.
            Err(error) if error.is_missing() => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        if !asked.model.info.status.is_ready() {
            return Ok(Vec::new());
        }
        let path = format!("{API}/logged-models/{model}/artifacts/directories");
        let listed: Page<File> = self.client.get(&path, &[("artifact_directory_path", "data")]).await?;
        let file = |file: File| RemoteFile {
            path: format!("{MODELS}/{model}/{}", file.path),
            size: file.bytes,
            version: 0,
            step: Some(step),
        };
        let files: Vec<RemoteFile> = listed
            .items
            .into_iter()
            .filter(|file| !file.is_dir && is_candidate(Path::new(&file.path)))
            .map(file)
            .collect();
        self.listings.models.insert(model.to_owned(), files.clone());
        Ok(files)
    }

    /// A folder of a run's artifacts.
    pub(super) async fn list(&self, run: &str, folder: &str) -> Result<Vec<File>, TrackerError> {
        let mut query = vec![("run_id", run)];
        if !folder.is_empty() {
            query.push(("path", folder));
        }
        let listed: Page<File> = self.client.get(&format!("{API}/artifacts/list"), &query).await?;
        Ok(listed.items)
    }

    /// Downloads a file of a run, or of a model that it has logged.
    pub(in crate::adapters) async fn download(
        &mut self,
        run: &TrackedRun,
        path: &str,
        size: Option<u64>,
        to: &Path,
    ) -> Result<Downloaded, TrackerError> {
        if let Some((model, path)) = path.strip_prefix(&format!("{MODELS}/")).and_then(|p| p.split_once('/'))
        {
            let asked: LoggedModel = self.client.get(&format!("{API}/logged-models/{model}"), &()).await?;
            return match Route::to(&asked.model.info.artifact_uri, path) {
                Route::Proxy(path) => Ok(self.client.download(&path, &(), to, size).await?),
                Route::Here(file) => copy(&file, to).await,
                Route::Server => {
                    let route = format!("ajax-api/2.0/mlflow/logged-models/{model}/artifacts/files");
                    Ok(self.client.download(&route, &[("artifact_file_path", path)], to, size).await?)
                }
            };
        }
        let presigned_only = self.info().await?.artifacts_presigned_only;
        match Route::to(&run.artifacts, path) {
            Route::Here(file) => copy(&file, to).await,
            _ if presigned_only => {
                let route = format!("{API}/artifacts/presigned-download-url");
                let body = json!({ "run_id": run.key, "path": path });
                let signed: Presigned = self.client.post(&route, &body, Repeat::Freely).await?;
                Ok(self.client.download(&signed.presigned_url, &(), to, size).await?)
            }
            Route::Proxy(path) => Ok(self.client.download(&path, &(), to, size).await?),
            Route::Server => {
                let query = [("run_id", run.key.as_str()), ("path", path)];
                Ok(self.client.download("get-artifact", &query, to, size).await?)
            }
        }
    }

    /// Puts a small file among a run's artifacts.
    pub(super) async fn upload(
        &mut self,
        run: &TrackedRun,
        path: &str,
        bytes: &[u8],
        media_type: &'static str,
    ) -> Result<(), TrackerError> {
        let info = self.info().await?;
        match Route::to(&run.artifacts, path) {
            Route::Here(file) => {
                let disk = |source| HttpError::Disk { path: file.clone(), source };
                if let Some(folder) = file.parent() {
                    tokio::fs::create_dir_all(folder).await.map_err(disk)?;
                }
                tokio::fs::write(&file, bytes).await.map_err(disk)?;
            }
            Route::Server | Route::Proxy(_) if info.artifacts_presigned_only => {
                let route = format!("{API}/artifacts/presigned-upload-url");
                let body = json!({ "run_id": run.key, "path": path });
                let signed: Presigned = self.client.post(&route, &body, Repeat::Freely).await?;
                self.client.upload(Method::PUT, &signed.presigned_url, &(), bytes, media_type).await?;
            }
            Route::Proxy(path) => self.client.upload(Method::PUT, &path, &(), bytes, media_type).await?,
            Route::Server if bytes.len() > MOST_UPLOADED => {
                let megabytes = MOST_UPLOADED >> 20;
                return Err(TrackerError::Lost(format!(
                    "{path} is larger than the {megabytes} MB that the server takes"
                )));
            }
            Route::Server => {
                let query = [("run_uuid", run.key.as_str()), ("path", path)];
                let route = "ajax-api/2.0/mlflow/upload-artifact";
                self.client.upload(Method::POST, route, &query, bytes, media_type).await?;
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Presigned {
    presigned_url: String,
}

async fn copy(from: &Path, to: &Path) -> Result<Downloaded, TrackerError> {
    let disk = |source| HttpError::Disk { path: from.into(), source };
    let bytes = tokio::fs::copy(from, to).await.map_err(disk)?;
    Ok(Downloaded { bytes, modified: None })
}

fn depth(path: &str) -> usize {
    path.split('/').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_route_follows_from_the_address() {
        let proxy = |path: &str| Route::Proxy(format!("{PROXY}/{path}"));
        assert_eq!(
            Route::to("mlflow-artifacts:/1/a/artifacts", "x/y z.pt"),
            proxy("1/a/artifacts/x/y%20z.pt")
        );
        assert_eq!(Route::to("mlflow-artifacts://host:1/1/a", "x"), proxy("1/a/x"));
        let address = format!("https://host/{PROXY}/1/a");
        assert_eq!(Route::to(&address, "x+1"), proxy("1/a/x%2B1"));
        for elsewhere in ["s3://bucket/1/a", "/surely/not/here", "file:///surely/not/here", "dbfs:/a"] {
            assert_eq!(Route::to(elsewhere, "x"), Route::Server, "{elsewhere}");
        }
        let folder = tempfile::tempdir().unwrap();
        let here = Route::Here(folder.path().join("x"));
        assert_eq!(Route::to(folder.path().to_str().unwrap(), "x"), here);
        assert_eq!(Route::to(&format!("file://{}", folder.path().display()), "x"), here);
    }
}
