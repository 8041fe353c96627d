//! From what was written to what is true: [`Config`] → [`Plan`].

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::environment::Environment;
use super::trackers::{TrackerPlan, TrackerSink};
use super::{Config, DirectorySource, Model, Sink, Source, VERSION};
use crate::checkpoint::Pattern;
use crate::detect;
use crate::engine::dynamics::Refinement;
use crate::engine::{DataParameters, Enclosure, LagChoice, MapChoice, Margin, Parameters, Subdivisions};
use crate::evaluate::protocol::{self, Program};

/// Which runs are analysed together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GroupBy {
    /// All runs of an experiment: in a directory source those in one folder.
    #[default]
    Experiment,
    /// Each run for itself.
    Run,
}

/// A configuration that has been checked; all paths stand on their own.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Folder of the agent's state.
    pub state_dir: PathBuf,
    /// The sources, with unique names.
    pub sources: Vec<SourcePlan>,
    /// How to evaluate, where a model is configured.
    pub model: Option<ModelPlan>,
    /// Which runs are analysed together.
    pub group_by: GroupBy,
    /// A group is analysed again after this many new checkpoints.
    pub every: u32,
    /// The parameters of analyses.
    pub parameters: Parameters,
    /// The detectors' settings.
    pub detectors: detect::Settings,
    /// Where reports go.
    pub sinks: Vec<SinkPlan>,
}

impl Plan {
    /// The folders that get reports.
    pub fn report_folders(&self) -> Vec<PathBuf> {
        let folder = |sink: &SinkPlan| match sink {
            SinkPlan::Directory(folder) => Some(folder.clone()),
            SinkPlan::Tracker(_) => None,
        };
        self.sinks.iter().filter_map(folder).collect()
    }

    /// The sources that are directories.
    pub fn directories(&self) -> impl Iterator<Item = &DirectoryPlan> {
        self.sources.iter().filter_map(|source| match source {
            SourcePlan::Directory(plan) => Some(plan),
            SourcePlan::Tracker(_) => None,
        })
    }
}

/// A source that has been checked.
#[derive(Clone, Debug)]
pub enum SourcePlan {
    /// A folder.
    Directory(DirectoryPlan),
    /// A tracker.
    Tracker(Box<TrackerPlan>),
}

impl SourcePlan {
    /// Its name, unique among the sources.
    pub fn name(&self) -> &str {
        match self {
            Self::Directory(plan) => &plan.name,
            Self::Tracker(plan) => &plan.watched().name,
        }
    }
}

/// A sink that has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkPlan {
    /// A folder.
    Directory(PathBuf),
    /// The trackers from which runs came.
    Tracker(TrackerSink),
}

/// A directory source that has been checked.
#[derive(Clone, Debug)]
pub struct DirectoryPlan {
    /// Its name, unique among the sources.
    pub name: String,
    /// The folder.
    pub root: PathBuf,
    /// If not empty, only these subfolders are searched.
    pub only: Vec<PathBuf>,
    /// How experiment, run and step are read off a path.
    pub pattern: Pattern,
    /// A file that has not changed for this long is taken to be complete.
    pub settle: Duration,
    /// How often the folder is listed although nothing woke us.
    pub rescan_every: Duration,
}

/// What a path below a source's folder tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The experiment; the source's folder where the path tells none.
    pub experiment: String,
    /// The run; the source's folder where checkpoints lie in it directly.
    pub run: String,
    /// The step.
    pub step: Option<u64>,
    /// The epoch.
    pub epoch: Option<u64>,
}

impl DirectoryPlan {
    /// What the path of a checkpoint tells; `None` where it does not fit the pattern.
    pub fn place(&self, path: &Path) -> Option<Place> {
        let naming = self.pattern.matches(path)?;
        let here = || folder_name(&self.root);
        Some(Place {
            experiment: naming.experiment.unwrap_or_else(here),
            run: if naming.run.is_empty() { here() } else { naming.run },
            step: naming.step,
            epoch: naming.epoch.map(|epoch| epoch as u64),
        })
    }
}

/// An evaluation that has been checked.
#[derive(Clone, Debug)]
pub struct ModelPlan {
    /// What the evaluator loads.
    pub model: protocol::Model,
    /// Longest time that one evaluation may take.
    pub timeout: Duration,
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The place in the file, such as `sources[0].directory.path`.
    pub place: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub hint: String,
}

/// What is wrong with a configuration, all of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ValidateError {
    /// The problems, in the order of the file.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ValidateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Problem { place, what, hint }) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{place}: {what}\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl Config {
    /// Checks the configuration; relative paths are taken from `base`.
    ///
    /// # Errors
    /// [`ValidateError`] lists everything that is wrong, not the first thing only.
    pub fn validate(&self, base: &Path) -> Result<Plan, ValidateError> {
        self.validate_in(base, &Environment::of_process())
    }

    /// Checks the configuration in an environment.
    pub(super) fn validate_in(&self, base: &Path, environment: &Environment) -> Result<Plan, ValidateError> {
        let mut problems = Problems::default();
        if self.version != VERSION {
            problems.add(
                "version",
                format!("version {} is not known to this program", self.version),
                format!("write `version: {VERSION}`, or use a newer doodl3"),
            );
        }
        if self.sources.is_empty() {
            problems.add(
                "sources",
                "there is no source",
                "add one: `sources: [directory: {path: ./checkpoints}]`",
            );
        }
        let mut names = BTreeSet::new();
        let sources = self
            .sources
            .iter()
            .enumerate()
            .filter_map(|(index, source)| match source {
                Source::Directory(source) => {
                    let place = format!("sources[{index}].directory");
                    let plan = directory(source, &place, base, &mut names, &mut problems);
                    Some(SourcePlan::Directory(plan))
                }
                Source::Mlflow(source) => {
                    let place = format!("sources[{index}].mlflow");
                    let plan = source.plan(&place, base, environment, &mut names, &mut problems);
                    plan.map(|plan| SourcePlan::Tracker(Box::new(TrackerPlan::Mlflow(plan))))
                }
                Source::Wandb(source) => {
                    let place = format!("sources[{index}].wandb");
                    let plan = source.plan(&place, base, environment, &mut names, &mut problems);
                    plan.map(|plan| SourcePlan::Tracker(Box::new(TrackerPlan::Wandb(plan))))
                }
            })
            .collect();
        let model = self.model.as_ref().and_then(|model| evaluation(model, base, &mut problems));
        let parameters = self.parameters(&mut problems);
        if let Err(error) = self.detectors.validate() {
            problems.add(
                &format!("detectors.{}", error.field),
                "a threshold must be a positive number",
                "correct the number, or switch the detector off with `enabled: false`",
            );
        }
        let sinks = self
            .sinks
            .iter()
            .map(|sink| match sink {
                Sink::Directory(sink) => SinkPlan::Directory(base.join(&sink.path)),
                Sink::Tracker(sink) => SinkPlan::Tracker(sink.clone()),
            })
            .collect();
        if !problems.0.is_empty() {
            return Err(ValidateError { problems: problems.0 });
        }
        Ok(Plan {
            state_dir: base.join(&self.state_dir),
            sources,
            model,
            group_by: self.analysis.group_by,
            every: self.analysis.every,
            parameters,
            detectors: self.detectors.clone(),
            sinks,
        })
    }

    fn parameters(&self, problems: &mut Problems) -> Parameters {
        let analysis = &self.analysis;
        let mut check = |right: bool, place: &str, what: String, hint: &str| {
            if !right {
                problems.add(&format!("analysis.{place}"), what, hint);
            }
        };
        check(
            analysis.every > 0,
            "every",
            "0 is no interval".into(),
            "write a number of checkpoints, such as 20",
        );
        check(
            (1..=5).contains(&analysis.dimension),
            "dimension",
            format!("{} coordinates cannot be analysed", analysis.dimension),
            "write a number from 1 to 5",
        );
        check(
            analysis.lag != LagChoice::Steps(0),
            "lag",
            "a lag of 0 steps maps each point to itself".into(),
            "write `auto`, `first_to_last` or `steps: N` with N > 0",
        );
        if let Enclosure::Confidence(p) = analysis.surrogate.enclosure {
            check(
                p > 0.0 && p < 1.0,
                "surrogate.enclosure",
                format!("{p} is no confidence"),
                "write a probability between 0 and 1, such as 0.95, or `padding`",
            );
        }
        if let MapChoice::Data(DataParameters { reach, padding, lipschitz, .. }) = analysis.surrogate.map {
            for (field, value) in [("reach", reach), ("padding", padding), ("lipschitz", lipschitz)] {
                check(
                    value >= 0.0 && value.is_finite(),
                    &format!("surrogate.map.data.{field}"),
                    format!("{value} is no width"),
                    "write a number that is not negative",
                );
            }
        }
        check(
            analysis.surrogate.trust > 0.0 && analysis.surrogate.trust.is_finite(),
            "surrogate.trust",
            format!("{} is no share", analysis.surrogate.trust),
            "write a positive number, such as 0.5",
        );
        match analysis.grid.subdivisions {
            Subdivisions::Uniform(subdivisions) => check(
                (1..=24).contains(&subdivisions),
                "grid.subdivisions",
                format!("2^{subdivisions} cells cannot be used"),
                "write a number from 1 to 24; 14 gives 16,384 cells",
            ),
            Subdivisions::Adaptive(Refinement { init, min, max, .. }) => check(
                (1..=24).contains(&init) && init <= min && min <= max && max <= MOST_ADAPTIVE_SUBDIVISIONS,
                "grid.subdivisions",
                format!("a grid cannot be refined from {init} over {min} to {max} subdivisions"),
                "write depths that increase, the first at most 24 and the last at most 40, such as `{init: 8, min: 14, max: 18, limit: 10000}`",
            ),
        }
        let (Margin::Share(margin) | Margin::Absolute(margin)) = analysis.grid.margin;
        check(
            margin >= 0.0 && margin.is_finite(),
            "grid.margin",
            format!("{margin} is no margin"),
            "write a number that is not negative, such as `share: 0.1`",
        );
        Parameters {
            projection: analysis.projection,
            dimension: analysis.dimension,
            lag: analysis.lag,
            surrogate: analysis.surrogate.clone(),
            grid: analysis.grid.clone(),
        }
    }
}

/// Deepest level of an adaptive grid: cells are a millionth of the domain along each of two axes.
const MOST_ADAPTIVE_SUBDIVISIONS: u32 = 40;

#[derive(Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn add(&mut self, place: &str, what: impl Into<String>, hint: impl Into<String>) {
        self.0.push(Problem { place: place.into(), what: what.into(), hint: hint.into() });
    }
}

fn directory(
    source: &DirectorySource,
    place: &str,
    base: &Path,
    names: &mut BTreeSet<String>,
    problems: &mut Problems,
) -> DirectoryPlan {
    let root = base.join(&source.path);
    let name = source.name.clone().unwrap_or_else(|| folder_name(&root));
    unique(&name, place, names, problems);
    if source.rescan_every.is_zero() {
        problems.add(
            &format!("{place}.rescan_every"),
            "a rescan every 0 seconds would never rest",
            "write a duration such as `30s`",
        );
    }
    let pattern = pattern(source.pattern.as_deref(), place, problems);
    DirectoryPlan {
        name,
        root,
        only: Vec::new(),
        pattern,
        settle: source.settle,
        rescan_every: source.rescan_every,
    }
}

/// A pattern of paths; the default where none is written.
/// Notes a source's name, and tells if another has it.
pub(super) fn unique(name: &str, place: &str, names: &mut BTreeSet<String>, problems: &mut Problems) {
    if !names.insert(name.to_owned()) {
        problems.add(
            &format!("{place}.name"),
            format!("another source is called `{name}` too"),
            "give each source a name of its own: `name: …`",
        );
    }
}

pub(super) fn pattern(text: Option<&str>, place: &str, problems: &mut Problems) -> Pattern {
    let Some(text) = text else {
        return Pattern::default();
    };
    let parsed = text.parse::<Pattern>().inspect_err(|error| {
        problems.add(
            &format!("{place}.pattern"),
            error.to_string(),
            "write a path with `{step}`, and with `{run}` or `{experiment}` for folders, such as \
             `{run}/step-{step}.safetensors`",
        );
    });
    parsed.unwrap_or_default()
}

fn evaluation(model: &Model, base: &Path, problems: &mut Problems) -> Option<ModelPlan> {
    let layers = model.architecture.as_ref().filter(|layers| !layers.is_empty());
    let given = [
        ("program", model.program.as_ref().map(|program| Program::Exported(base.join(program)))),
        ("module", model.module.as_ref().map(|module| Program::Module(base.join(module)))),
        ("architecture", layers.map(|layers| Program::Architecture(layers.clone()))),
    ];
    let (names, mut programs): (Vec<_>, Vec<_>) =
        given.into_iter().filter_map(|(name, program)| Some((format!("`{name}`"), program?))).unzip();
    let program = match (programs.pop(), names.as_slice()) {
        (Some(program), [_]) => program,
        (None, _) => {
            problems.add(
                "model",
                "nothing says how the model computes",
                "add `program: FILE` (torch.export), `module: FILE` (TorchScript) or `architecture: [dense: {}, …]`",
            );
            return None;
        }
        (Some(_), names) => {
            problems.add("model", format!("{} are given", names.join(" and ")), "keep one of them");
            return None;
        }
    };
    if model.timeout.is_zero() {
        problems.add("model.timeout", "no evaluation ends in 0 seconds", "write a duration such as `2m`");
    }
    Some(ModelPlan {
        model: protocol::Model {
            program,
            probe_batch: base.join(&model.probe_batch),
            loss: model.loss,
            device: model.device.clone(),
        },
        timeout: model.timeout,
    })
}

/// The name of a folder, of the working directory for `.`.
pub(crate) fn folder_name(path: &Path) -> String {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    std::path::absolute(path)
        .ok()
        .and_then(|path| name(&path))
        .or_else(|| name(path))
        .unwrap_or_else(|| "checkpoints".into())
}
