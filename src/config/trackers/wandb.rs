//! Weights & Biases as a source: what is written, and what is true.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Credentials, Secret, Tls, Watched, here, server};
use crate::config::environment::{self, Environment};
use crate::config::friendly;
use crate::config::validate::{self, Problems};

/// Where W&B's own service answers.
const SERVICE: &str = "https://api.wandb.ai/";

/// Names of the hosts under which one service answers: a key that is kept for one of them is good at the other.
pub(in crate::config) const SAME_SERVICE: [&str; 2] = ["api.wandb.ai", "api.forge.coreweave.com"];

/// Pages of W&B's own service, as they stand in a browser, and where it answers programs.
const PAGES: [(&str, &str); 3] = [
    ("wandb.ai", "https://api.wandb.ai/"),
    ("app.wandb.ai", "https://api.wandb.ai/"),
    ("forge.coreweave.com", "https://api.forge.coreweave.com/"),
];

/// Projects of Weights & Biases from which runs are pulled.
///
/// What is left out is taken from the environment variables and files that W&B's own clients read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WandbSource {
    /// Name of this source in reports and state; by default the entity, or the folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Address of the server; or the folder `./wandb` of this machine in which runs keep their logs, which is only read.
    /// By default `WANDB_BASE_URL`, else W&B's own service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Team or user to whom the projects belong. By default `WANDB_ENTITY`, else the default of the key's owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// The projects; `*` stands for any text. By default all.
    pub projects: Vec<String>,
    /// Which of their runs, as a filter of W&B's, such as `{group: seeds}` or `{tags: {$in: [watch]}}`. By default all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<serde_json::Map<String, serde_json::Value>>,
    /// The types of artifacts in which checkpoints are looked for.
    pub artifact_types: Vec<String>,
    /// Which files are checkpoints, and how their steps are read off their paths, such as `step-{step}.safetensors`. By
    /// default every file that looks like one, with the step that it holds, else that of the artifact's metadata, else the
    /// number in its name, else the step of the run at which it was logged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Name of the metric that is the training loss; by default the first of `train/loss`, `train_loss` and `loss` that
    /// a run logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<String>,
    /// Name of the metric that is the trainer's step, where W&B's own step is another; by default the first of
    /// `trainer/global_step`, `train/global_step` and `global_step` that a run logs, else W&B's own step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// API key; by default `WANDB_API_KEY`, else the one in `~/.netrc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Secret>,
    /// PEM file with the certificates to trust, beside those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificates: Option<PathBuf>,
    /// Whether any certificate of the server is accepted; by default `WANDB_INSECURE_DISABLE_SSL`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure_tls: Option<bool>,
    /// How often the server is asked what is new.
    #[serde(with = "friendly")]
    #[schemars(with = "String")]
    pub poll_every: Duration,
    /// Most requests in a second.
    pub requests_per_second: f64,
    /// A run that says it is running but has been silent for this long is taken to be dead.
    #[serde(with = "friendly")]
    #[schemars(with = "String")]
    pub stale_after: Duration,
}

impl Default for WandbSource {
    fn default() -> Self {
        Self {
            name: None,
            url: None,
            entity: None,
            projects: vec!["*".into()],
            filter: None,
            artifact_types: vec!["model".into()],
            pattern: None,
            loss: None,
            step: None,
            key: None,
            certificates: None,
            insecure_tls: None,
            poll_every: Duration::from_secs(30),
            requests_per_second: 5.0,
            stale_after: Duration::from_secs(6 * 3600),
        }
    }
}

/// A source at Weights & Biases that has been checked.
#[derive(Clone, Debug)]
pub struct WandbPlan {
    /// What is said of any tracker.
    pub watched: Watched,
    /// Where it is.
    pub place: WandbPlace,
    /// Where people look at it in a browser; its path ends with `/`.
    pub pages: Option<Url>,
    /// Team or user; `None`: the default of the key's owner.
    pub entity: Option<String>,
    /// Names and patterns of projects.
    pub projects: Vec<String>,
    /// Filter of runs.
    pub filter: serde_json::Map<String, serde_json::Value>,
    /// Types of artifacts that hold checkpoints.
    pub artifact_types: Vec<String>,
    /// The metric that is the trainer's step; `None`: found by its name.
    pub step: Option<String>,
}

/// Where runs of Weights & Biases are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WandbPlace {
    /// At a server: its address; its path ends with `/`.
    Server(Url),
    /// In a folder of this machine, such as `wandb`.
    Folder(PathBuf),
}

impl std::fmt::Display for WandbPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Server(url) => url.fmt(f),
            Self::Folder(path) => path.display().fmt(f),
        }
    }
}

impl WandbSource {
    /// Checks what is written; what is left out comes from the environment.
    pub(in crate::config) fn plan(
        &self,
        place: &str,
        base: &Path,
        environment: &Environment,
        names: &mut BTreeSet<String>,
        problems: &mut Problems,
    ) -> Option<WandbPlan> {
        let at = self.place(place, base, environment, problems)?;
        let entity = self.entity.clone().or_else(|| environment.get(environment::WANDB_ENTITY));
        let entity = entity.or_else(|| environment.wandb_setting("entity"));
        let name = self.name.clone().unwrap_or_else(|| match &at {
            WandbPlace::Server(_) => entity.clone().unwrap_or_else(|| "wandb".into()),
            WandbPlace::Folder(path) => validate::folder_name(path),
        });
        let insecure = || {
            environment
                .get(environment::WANDB_INSECURE_DISABLE_SSL)
                .is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "true" | "1"))
        };
        let watched = Watched {
            name,
            pattern: validate::pattern(self.pattern.as_deref(), place, problems),
            loss: self.loss.clone(),
            credentials: self.credentials(&at, place, base, environment, problems),
            tls: Tls {
                certificates: self.certificates.as_ref().map(|path| base.join(path)),
                client_certificate: None,
                insecure: self.insecure_tls.unwrap_or_else(insecure),
            },
            poll_every: self.poll_every,
            requests_per_second: self.requests_per_second,
            stale_after: self.stale_after,
        };
        watched.check(place, names, problems);
        if self.projects.is_empty() {
            problems.add(
                &format!("{place}.projects"),
                "no project is named, so nothing would be watched",
                "name some, `projects: [\"mnist-*\"]`, or leave it out for all",
            );
        }
        let pages = match &at {
            WandbPlace::Server(url) => pages(url, environment),
            WandbPlace::Folder(_) => None,
        };
        Some(WandbPlan {
            watched,
            place: at,
            pages,
            entity,
            projects: self.projects.clone(),
            filter: self.filter.clone().unwrap_or_default(),
            artifact_types: self.artifact_types.clone(),
            step: self.step.clone(),
        })
    }

    fn place(
        &self,
        place: &str,
        base: &Path,
        environment: &Environment,
        problems: &mut Problems,
    ) -> Option<WandbPlace> {
        let text = self
            .url
            .clone()
            .or_else(|| environment.get(environment::WANDB_BASE_URL))
            .or_else(|| environment.wandb_setting("base_url"));
        let Some(text) = text else {
            return server(SERVICE).map(|(url, _)| WandbPlace::Server(url));
        };
        if let Some((url, _)) = server(&text) {
            let host = url.host_str().unwrap_or_default();
            let api = PAGES.iter().find(|(page, _)| *page == host).and_then(|(_, api)| server(api));
            return Some(WandbPlace::Server(api.map_or(url, |(url, _)| url)));
        }
        if text.contains("://") || !text.contains('/') {
            problems.add(
                &format!("{place}.url"),
                "this is neither the address of a server nor a folder with logs of runs",
                "write one such as `https://wandb.example.org` or `./wandb`, or leave it out for W&B's own service",
            );
            return None;
        }
        Some(WandbPlace::Folder(here(base, text.as_ref())))
    }

    /// As written, else as in the environment, else as in the files that W&B's own clients read.
    fn credentials(
        &self,
        at: &WandbPlace,
        place: &str,
        base: &Path,
        environment: &Environment,
        problems: &mut Problems,
    ) -> Credentials {
        let place = format!("{place}.key");
        let WandbPlace::Server(url) = at else {
            return Credentials::None;
        };
        let key = match &self.key {
            Some(secret) => secret.read(&place, base, environment, problems),
            None => environment.wandb_key(url),
        };
        if key.is_none() && self.key.is_none() {
            problems.add(
                &place,
                format!("there is no API key for {}", url.host_str().unwrap_or_default()),
                "set WANDB_API_KEY, or run `wandb login`, or name the place: `key: {file: PATH}`",
            );
        }
        key.map_or(Credentials::None, |password| Credentials::Basic { username: "api".into(), password })
    }
}

/// Where people look at what a server keeps.
fn pages(url: &Url, environment: &Environment) -> Option<Url> {
    let named = environment.get(environment::WANDB_APP_URL).and_then(|text| server(&text));
    if let Some((url, _)) = named {
        return Some(url);
    }
    match url.host_str()? {
        "api.wandb.ai" => Url::parse("https://wandb.ai/").ok(),
        "api.forge.coreweave.com" => Url::parse("https://forge.coreweave.com/wandb/").ok(),
        // Where a server is run by oneself, pages and interface are at one address.
        _ => Some(url.clone()),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::config::{Plan, SourcePlan, TrackerPlan, parse};

    fn plan(source: &str, environment: &Environment) -> Result<Plan, String> {
        let config = parse(&format!("version: 1\nsources: [wandb: {source}]\n"), "test").unwrap();
        config.validate_in(Path::new("/base"), environment).map_err(|error| error.to_string())
    }

    fn wandb(source: &str, environment: &Environment) -> WandbPlan {
        match plan(source, environment).unwrap().sources.remove(0) {
            SourcePlan::Tracker(plan) => match *plan {
                TrackerPlan::Wandb(plan) => plan,
                TrackerPlan::Mlflow(_) => panic!("it is a source at W&B"),
            },
            SourcePlan::Directory(_) => panic!("it is a source at W&B"),
        }
    }

    fn key(plan: &WandbPlan) -> String {
        match &plan.watched.credentials {
            Credentials::Basic { username, password } if username == "api" => password.expose_secret().into(),
            other => panic!("no key: {other:?}"),
        }
    }

    #[test]
    fn what_is_left_out_comes_from_wandbs_environment_and_files() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(home.path().join(".config/wandb")).unwrap();
        std::fs::write(
            home.path().join(".config/wandb/settings"),
            "[default]\nbase_url = https://wandb.example.org\nentity = vision\n",
        )
        .unwrap();
        let netrc = "# mine\nmachine wandb.example.org\n  login user\n  password k-example\n\
            machine api.wandb.ai login user password k-service\n";
        std::fs::write(home.path().join(".netrc"), netrc).unwrap();
        let environment = Environment::default().with_home(home.path());
        let found = wandb("{}", &environment);
        assert_eq!(found.place.to_string(), "https://wandb.example.org/");
        assert_eq!((found.entity.as_deref(), found.watched.name.as_str()), (Some("vision"), "vision"));
        assert_eq!(key(&found), "k-example");

        // One service, two names.
        let found = wandb("{url: \"https://forge.coreweave.com/wandb\", entity: me}", &environment);
        assert_eq!(found.place.to_string(), "https://api.forge.coreweave.com/");
        assert_eq!((key(&found).as_str(), found.watched.name.as_str()), ("k-service", "me"));
        assert_eq!(found.pages.unwrap().as_str(), "https://forge.coreweave.com/wandb/");

        let set: Environment =
            [("WANDB_API_KEY", "k-set"), ("WANDB_BASE_URL", "http://host:8080/w")].into_iter().collect();
        let found = wandb("{}", &set);
        assert_eq!(
            (found.place.to_string().as_str(), key(&found).as_str()),
            ("http://host:8080/w/", "k-set")
        );
        assert!(!format!("{found:?}").contains("k-set"), "secrets are never shown");
    }

    #[test]
    fn folders_need_no_key_and_mistakes_are_told() {
        let none = Environment::default();
        let found = wandb("{url: ./wandb}", &none);
        assert_eq!(found.place, WandbPlace::Folder("/base/wandb".into()));
        assert_eq!(found.watched.name, "wandb");
        assert!(plan("{}", &none).unwrap_err().contains("set WANDB_API_KEY, or run `wandb login`"));
        assert!(plan("{url: nowhere}", &none).unwrap_err().contains("neither the address of a server"));
        assert!(plan("{key: {env: MINE}}", &none).unwrap_err().contains("MINE is not set"));
    }
}
