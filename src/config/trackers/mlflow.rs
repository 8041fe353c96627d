//! MLflow as a source: what is written, and what is true.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::{Credentials, Secret, Tls, Watched, here, server};
use crate::config::environment::{self, Environment};
use crate::config::friendly;
use crate::config::validate::{self, Problems};

/// An MLflow tracking server from which runs are pulled.
///
/// What is left out is taken from the environment variables that MLflow's own clients read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MlflowSource {
    /// Name of this source in reports and state; by default the server's host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Address of the server, with its path where it has one; or a store on this machine, `sqlite:///mlflow.db` or
    /// `./mlruns`, which is only read. By default `MLFLOW_TRACKING_URI`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The experiments, by name or id; `*` stands for any text. By default all.
    pub experiments: Vec<String>,
    /// Which of their runs, as a filter of MLflow's, such as `tags.team = 'vision'`. By default all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Which artifacts are checkpoints, and how their steps are read off their paths below a run's artifacts, such as
    /// `checkpoints/step-{step}.safetensors`. By default every file that looks like one; the step is the number in its
    /// name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Name of the metric that is the training loss; by default the first of `train/loss`, `train_loss` and `loss` that
    /// a run logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<String>,
    /// User for basic authentication; by default `MLFLOW_TRACKING_USERNAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Password for basic authentication; by default `MLFLOW_TRACKING_PASSWORD`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// Token, in place of user and password; by default `MLFLOW_TRACKING_TOKEN`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// Workspace; by default `MLFLOW_WORKSPACE`. Leave it out where the server has no workspaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    /// PEM file with the certificates to trust, beside those of the system; by default
    /// `MLFLOW_TRACKING_SERVER_CERT_PATH`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificates: Option<PathBuf>,
    /// PEM file with a client's certificate and key; by default `MLFLOW_TRACKING_CLIENT_CERT_PATH`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<PathBuf>,
    /// Whether any certificate of the server is accepted; by default `MLFLOW_TRACKING_INSECURE_TLS`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure_tls: Option<bool>,
    /// How often the server is asked what is new.
    #[serde(with = "friendly")]
    #[schemars(with = "String")]
    pub poll_every: Duration,
    /// Most requests in a second.
    pub requests_per_second: f64,
    /// A run that says it is running but has logged nothing for this long is taken to be dead.
    #[serde(with = "friendly")]
    #[schemars(with = "String")]
    pub stale_after: Duration,
}

impl Default for MlflowSource {
    fn default() -> Self {
        Self {
            name: None,
            url: None,
            experiments: vec!["*".into()],
            filter: None,
            pattern: None,
            loss: None,
            username: None,
            password: None,
            token: None,
            workspace: None,
            certificates: None,
            client_certificate: None,
            insecure_tls: None,
            poll_every: Duration::from_secs(30),
            requests_per_second: 10.0,
            stale_after: Duration::from_secs(6 * 3600),
        }
    }
}

/// An MLflow source that has been checked.
#[derive(Clone, Debug)]
pub struct MlflowPlan {
    /// What is said of any tracker.
    pub watched: Watched,
    /// Where it is.
    pub place: MlflowPlace,
    /// Workspace.
    pub workspace: Option<String>,
    /// Names, ids and patterns of experiments.
    pub experiments: Vec<String>,
    /// Filter of runs.
    pub filter: Option<String>,
}

/// Where MLflow keeps its runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MlflowPlace {
    /// At a server: its address, without credentials; its path ends with `/`.
    Server(Url),
    /// In an SQLite database of this machine.
    Database(PathBuf),
    /// In a folder of this machine, such as `mlruns`.
    Folder(PathBuf),
}

impl std::fmt::Display for MlflowPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Server(url) => url.fmt(f),
            Self::Database(path) | Self::Folder(path) => path.display().fmt(f),
        }
    }
}

impl MlflowSource {
    /// Checks what is written; what is left out comes from the environment.
    pub(in crate::config) fn plan(
        &self,
        place: &str,
        base: &Path,
        environment: &Environment,
        names: &mut BTreeSet<String>,
        problems: &mut Problems,
    ) -> Option<MlflowPlan> {
        let variable = |name: &str| environment.get(name);
        let text = self.url.clone().or_else(|| variable(environment::MLFLOW_TRACKING_URI));
        let Some(text) = text else {
            problems.add(
                &format!("{place}.url"),
                "nothing says where the MLflow server is",
                "write `url: http://localhost:5000`, or set MLFLOW_TRACKING_URI",
            );
            return None;
        };
        let (at, signed_in) = address(&text, base, &format!("{place}.url"), problems)?;
        let name = self.name.clone().unwrap_or_else(|| match &at {
            MlflowPlace::Server(url) => url.host_str().unwrap_or("mlflow").to_owned(),
            MlflowPlace::Database(path) | MlflowPlace::Folder(path) => validate::folder_name(path),
        });
        let pattern = validate::pattern(self.pattern.as_deref(), place, problems);
        let credentials = self.credentials(place, base, environment, signed_in, problems);
        let file = |written: &Option<PathBuf>, name: &str| {
            written.as_ref().map(|path| base.join(path)).or_else(|| variable(name).map(PathBuf::from))
        };
        let insecure = || variable(environment::MLFLOW_TRACKING_INSECURE_TLS).is_some_and(|v| v == "true");
        let watched = Watched {
            name,
            pattern,
            loss: self.loss.clone(),
            credentials,
            tls: Tls {
                certificates: file(&self.certificates, environment::MLFLOW_TRACKING_SERVER_CERT_PATH),
                client_certificate: file(
                    &self.client_certificate,
                    environment::MLFLOW_TRACKING_CLIENT_CERT_PATH,
                ),
                insecure: self.insecure_tls.unwrap_or_else(insecure),
            },
            poll_every: self.poll_every,
            requests_per_second: self.requests_per_second,
            stale_after: self.stale_after,
        };
        watched.check(place, names, problems);
        Some(MlflowPlan {
            watched,
            place: at,
            workspace: self.workspace.clone().or_else(|| variable(environment::MLFLOW_WORKSPACE)),
            experiments: self.experiments.clone(),
            filter: self.filter.clone(),
        })
    }

    /// As written, else as in the address, else as in the environment, else as in MLflow's own file of credentials.
    fn credentials(
        &self,
        place: &str,
        base: &Path,
        environment: &Environment,
        signed_in: Option<(String, SecretString)>,
        problems: &mut Problems,
    ) -> Credentials {
        let mut secret = |written: &Option<Secret>, field: &str| {
            let place = format!("{place}.{field}");
            written.as_ref().and_then(|secret| secret.read(&place, base, environment, problems))
        };
        let (token, password) = (secret(&self.token, "token"), secret(&self.password, "password"));
        if let Some(token) = token {
            return Credentials::Bearer(token);
        }
        let username = self.username.clone();
        if let (Some(username), Some(password)) = (&username, &password) {
            return Credentials::Basic { username: username.clone(), password: password.clone() };
        }
        if let Some((username, password)) = signed_in {
            return Credentials::Basic { username, password };
        }
        let file = environment.mlflow_credentials();
        let username = username
            .or_else(|| environment.get(environment::MLFLOW_TRACKING_USERNAME))
            .or_else(|| file.as_ref().map(|(username, _)| username.clone()));
        let password = password
            .or_else(|| environment.get(environment::MLFLOW_TRACKING_PASSWORD).map(SecretString::from))
            .or_else(|| file.map(|(_, password)| password));
        if let (Some(username), Some(password)) = (username, password) {
            return Credentials::Basic { username, password };
        }
        match environment.get(environment::MLFLOW_TRACKING_TOKEN) {
            Some(token) => Credentials::Bearer(token.into()),
            None => Credentials::None,
        }
    }
}

/// An address as MLflow writes them, and the user and password that stood in it.
fn address(
    text: &str,
    base: &Path,
    place: &str,
    problems: &mut Problems,
) -> Option<(MlflowPlace, Option<(String, SecretString)>)> {
    // As SQLAlchemy writes it: three slashes before a relative path, four before an absolute one.
    if let Some(path) = text.strip_prefix("sqlite:///") {
        return Some((MlflowPlace::Database(here(base, path.as_ref())), None));
    }
    let parsed = Url::parse(text).ok();
    match &parsed {
        Some(url) if url.scheme() == "file" => {
            // `file:./mlruns` is relative, though no address of a file should be.
            let relative = text.strip_prefix("file:").filter(|path| !path.starts_with('/'));
            let path = relative.map(PathBuf::from).or_else(|| url.to_file_path().ok())?;
            return Some((MlflowPlace::Folder(here(base, &path)), None));
        }
        None if text.contains('/') && !text.contains("://") => {
            return Some((MlflowPlace::Folder(here(base, text.as_ref())), None));
        }
        _ => {}
    }
    let Some((url, signed_in)) = server(text) else {
        problems.add(
            place,
            "this is neither the address of a server nor a store on this machine",
            "write one such as `http://localhost:5000`, `https://mlflow.example.org/team`, `sqlite:///mlflow.db` or \
             `./mlruns`",
        );
        return None;
    };
    Some((MlflowPlace::Server(url), signed_in))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::config::{Plan, SourcePlan, TrackerPlan, parse};

    fn plan(source: &str, environment: &[(&'static str, &'static str)]) -> Result<Plan, String> {
        let config = parse(&format!("version: 1\nsources: [mlflow: {source}]\n"), "test").unwrap();
        config
            .validate_in(Path::new("/base"), &environment.iter().copied().collect())
            .map_err(|error| error.to_string())
    }

    fn mlflow(source: &str, environment: &[(&'static str, &'static str)]) -> MlflowPlan {
        match plan(source, environment).unwrap().sources.remove(0) {
            SourcePlan::Tracker(plan) => match *plan {
                TrackerPlan::Mlflow(plan) => plan,
                TrackerPlan::Wandb(_) => panic!("it is an MLflow source"),
            },
            SourcePlan::Directory(_) => panic!("it is an MLflow source"),
        }
    }

    #[test]
    fn what_is_left_out_comes_from_mlflows_environment() {
        let environment = [
            ("MLFLOW_TRACKING_URI", "https://mlflow.example.org/team"),
            ("MLFLOW_TRACKING_USERNAME", "ann"),
            ("MLFLOW_TRACKING_PASSWORD", "pw"),
            ("MLFLOW_TRACKING_TOKEN", "tok"),
            ("MLFLOW_WORKSPACE", "vision"),
            ("MLFLOW_TRACKING_INSECURE_TLS", "true"),
            ("MLFLOW_TRACKING_SERVER_CERT_PATH", "/etc/ca.pem"),
        ];
        let found = mlflow("{}", &environment);
        assert_eq!(found.place.to_string(), "https://mlflow.example.org/team/");
        assert_eq!(
            (found.watched.name.as_str(), found.workspace.as_deref()),
            ("mlflow.example.org", Some("vision"))
        );
        assert!(found.watched.tls.insecure && found.watched.tls.certificates.is_some());
        let Credentials::Basic { username, password } = found.watched.credentials else {
            panic!("user and password come first")
        };
        assert_eq!((username.as_str(), password.expose_secret()), ("ann", "pw"));
        let written = mlflow(
            "{url: \"http://other:5000\", token: {env: MINE}, insecure_tls: false}",
            &[("MINE", "mine"), environment[1], environment[2], environment[5]],
        );
        let Credentials::Bearer(token) = written.watched.credentials else {
            panic!("what is written comes first")
        };
        assert_eq!((token.expose_secret(), written.watched.tls.insecure), ("mine", false));
    }

    #[test]
    fn secrets_are_never_shown() {
        let found = mlflow("{url: \"http://ann:geheim@host:5000/x?y\"}", &[]);
        assert_eq!(found.place.to_string(), "http://host:5000/x/");
        assert!(matches!(found.watched.credentials, Credentials::Basic { .. }));
        assert!(!format!("{found:?}").contains("geheim"));
    }

    #[test]
    fn stores_of_this_machine_are_addresses_too() {
        for (text, place) in [
            ("sqlite:///mlflow.db", MlflowPlace::Database("/base/mlflow.db".into())),
            ("sqlite:////srv/mlflow.db", MlflowPlace::Database("/srv/mlflow.db".into())),
            ("./mlruns", MlflowPlace::Folder("/base/mlruns".into())),
            ("file:///srv/mlruns", MlflowPlace::Folder("/srv/mlruns".into())),
        ] {
            let found = mlflow(&format!("{{url: \"{text}\"}}"), &[]);
            assert_eq!(found.place, place);
        }
    }

    #[test]
    fn mistakes_are_told_with_what_to_do() {
        let said = |source| plan(source, &[]).unwrap_err();
        assert!(said("{}").contains("set MLFLOW_TRACKING_URI"));
        assert!(said("{url: \"localhost:5000\"}").contains("this is neither the address of a server"));
        let several =
            said("{url: \"http://h\", token: {env: NOT_SET}, poll_every: 0s, requests_per_second: 0}");
        for part in ["sources[0].mlflow.token: NOT_SET is not set", "poll_every", "requests_per_second"] {
            assert!(several.contains(part), "{several}");
        }
    }
}
