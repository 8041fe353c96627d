//! Configuration: the YAML file as types, with each default beside its field.
//!
//! [`Config`] is what was written; [`Plan`] is what is true: names are unique, patterns parse, thresholds are numbers,
//! relative paths have found their folder. `doodl3 config schema` prints the JSON schema of [`Config`].

mod environment;
mod load;
mod trackers;
mod validate;

pub use environment::{EVALUATOR, Environment, LOG, LOG_FORMAT, NO_COLOR};
pub(crate) use load::yaml;
pub use load::{LoadError, load, parse, to_yaml};
pub use trackers::{
    Credentials, MlflowPlace, MlflowPlan, MlflowSource, PostTo, Secret, Tls, TrackerPlan, TrackerSink,
    WandbPlace, WandbPlan, WandbSource, Watched,
};
pub(crate) use validate::folder_name;
pub use validate::{
    DirectoryPlan, GroupBy, ModelPlan, Place, Plan, Problem, SinkPlan, SourcePlan, ValidateError,
};

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::detect;
use crate::engine::{GridParameters, LagChoice, Parameters, ProjectionChoice, SurrogateParameters};
use crate::evaluate::protocol::{Layer, Loss};

/// The version of the configuration's format.
pub const VERSION: u32 = 1;

/// The file that `doodl3 init` writes and that is read where no other is named.
pub const FILE_NAME: &str = "doodl3.yaml";

/// A commented configuration that says the defaults.
pub const EXAMPLE: &str = include_str!("example.yaml");

/// The configuration file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Version of this format: 1.
    pub version: u32,
    /// Folder of the agent's own state. Relative paths are taken from the folder of the configuration file.
    pub state_dir: PathBuf,
    /// Where checkpoints come from.
    pub sources: Vec<Source>,
    /// How to rebuild the model, so that the loss and the predictions of a checkpoint can be evaluated. Without it
    /// doodl3 works from the weights alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<Model>,
    /// How runs are analysed.
    pub analysis: Analysis,
    /// The detectors, their switches and thresholds.
    pub detectors: detect::Settings,
    /// Where reports and alerts go.
    pub sinks: Vec<Sink>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            version: VERSION,
            state_dir: "./.doodl3".into(),
            sources: vec![Source::Directory(DirectorySource::new("./checkpoints"))],
            model: None,
            analysis: Analysis::default(),
            detectors: detect::Settings::default(),
            sinks: vec![Sink::Directory(DirectorySink { path: "./doodl3-reports".into() })],
        }
    }
}

/// Where checkpoints come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// A folder into which trainers write.
    Directory(DirectorySource),
    /// An MLflow tracking server.
    Mlflow(Box<MlflowSource>),
    /// Weights & Biases.
    Wandb(Box<WandbSource>),
}

/// A folder into which trainers write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DirectorySource {
    /// Name of this source in reports and state; by default the folder's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The folder; everything below it is searched.
    pub path: PathBuf,
    /// How experiment, run and step are read off a path below the folder, such as `{run}/step-{step}.safetensors`. By
    /// default the run is the folder that holds the checkpoints, and the step is the number in the file's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// A file that has not changed for this long is taken to be complete.
    #[serde(default = "DirectorySource::default_settle", with = "friendly")]
    #[schemars(with = "String")]
    pub settle: Duration,
    /// How often the folder is listed although nothing woke us.
    #[serde(default = "DirectorySource::default_rescan_every", with = "friendly")]
    #[schemars(with = "String")]
    pub rescan_every: Duration,
}

impl DirectorySource {
    /// The source `path` with the default settings.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            name: None,
            path: path.into(),
            pattern: None,
            settle: Self::default_settle(),
            rescan_every: Self::default_rescan_every(),
        }
    }

    fn default_settle() -> Duration {
        Duration::from_secs(2)
    }

    fn default_rescan_every() -> Duration {
        Duration::from_secs(30)
    }
}

/// How a checkpoint's loss and predictions are evaluated: one of `program`, `module` and
/// `architecture`, and a probe batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// A program of `torch.export` (.pt2), as `doodl3.export` of the Python package writes it; a checkpoint's tensors
    /// replace its own by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<PathBuf>,
    /// A TorchScript module saved with `torch.jit.save`; a checkpoint's tensors replace its own by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<PathBuf>,
    /// A plain stack of layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<Vec<Layer>>,
    /// A safetensors file with `input` (or `input.0`, `input.1`, …) and `target`.
    pub probe_batch: PathBuf,
    /// The loss.
    #[serde(default = "Model::default_loss")]
    pub loss: Loss,
    /// `cpu`, or `cuda:0` where libtorch has it.
    #[serde(default = "Model::default_device")]
    pub device: String,
    /// Longest time that one evaluation may take.
    #[serde(default = "Model::default_timeout", with = "friendly")]
    #[schemars(with = "String")]
    pub timeout: Duration,
}

impl Model {
    fn default_loss() -> Loss {
        Loss::CrossEntropy
    }

    fn default_device() -> String {
        "cpu".into()
    }

    fn default_timeout() -> Duration {
        Duration::from_secs(120)
    }
}

/// How runs are analysed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Analysis {
    /// Which runs are analysed together.
    pub group_by: GroupBy,
    /// A group is analysed again after this many new checkpoints, and once more when it has been quiet for a moment.
    pub every: u32,
    /// The coordinates in which training is looked at.
    pub projection: ProjectionChoice,
    /// Number of coordinates, 1 to 5.
    pub dimension: usize,
    /// How far apart, in steps, the two checkpoints of a pair are.
    pub lag: LagChoice,
    /// The map that is fitted to the pairs.
    pub surrogate: SurrogateParameters,
    /// The grid on which its dynamics are computed.
    pub grid: GridParameters,
}

impl Default for Analysis {
    fn default() -> Self {
        let Parameters { projection, dimension, lag, surrogate, grid } = Parameters::default();
        Self { group_by: GroupBy::default(), every: 20, projection, dimension, lag, surrogate, grid }
    }
}

/// Where reports and alerts go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Sink {
    /// A folder that gets one folder for each experiment.
    Directory(DirectorySink),
    /// Back to the tracker from which the runs came.
    Tracker(TrackerSink),
}

/// A folder that gets one folder for each experiment, with `report.html` and its companions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DirectorySink {
    /// The folder; it is made where it is missing.
    pub path: PathBuf,
}

/// The JSON schema of [`Config`], for editors and for people.
pub fn schema() -> schemars::Schema {
    schemars::schema_for!(Config)
}

/// Durations as people write them: `2s`, `5m`, `1h 30m`.
mod friendly {
    pub(super) use jiff::fmt::serde::unsigned_duration::friendly::compact::required::{
        deserialize, serialize,
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Subdivisions;
    use crate::engine::dynamics::Refinement;

    #[test]
    fn the_example_says_the_defaults() {
        assert_eq!(parse(EXAMPLE, "example.yaml").unwrap(), Config::default());
        assert_eq!(parse("version: 1\n", "empty").unwrap(), Config::default());
        Config::default().validate(std::path::Path::new("")).unwrap();
    }

    #[test]
    fn what_is_written_comes_back() {
        let text = r#"
version: 1
state_dir: /var/lib/doodl3
sources:
  - directory: {name: a, path: x, pattern: "{run}/s-{step}.pt", settle: 500ms, rescan_every: 1m}
model: {architecture: [{dense: {}}, {softmax: {}}], probe_batch: p.safetensors, loss: mean_squared_error}
analysis: {group_by: run, every: 5, lag: {steps: 50}, grid: {subdivisions: 10, margin: {absolute: 0.5}, mode: compatible}}
detectors: {loss_spike: {enabled: false}}
sinks: []
"#;
        let config = parse(text, "test").unwrap();
        assert_eq!(config.analysis.lag, LagChoice::Steps(50));
        assert_eq!(parse(&to_yaml(&config).unwrap(), "again").unwrap(), config);
        let plan = config.validate(std::path::Path::new("/base")).unwrap();
        assert_eq!(plan.directories().next().unwrap().root, std::path::Path::new("/base/x"));
        assert_eq!(plan.directories().next().unwrap().settle, Duration::from_millis(500));
        assert!(plan.model.is_some() && plan.sinks.is_empty() && !plan.detectors.loss_spike.enabled);
    }

    #[test]
    fn a_grid_is_a_number_or_depths() {
        let adaptive =
            "version: 1\nanalysis: {grid: {subdivisions: {init: 8, min: 14, max: 18, limit: 10000}}}\n";
        let config = parse(adaptive, "test").unwrap();
        let depths = Refinement { init: 8, min: 14, max: 18, limit: 10_000 };
        assert_eq!(config.analysis.grid.subdivisions, Subdivisions::Adaptive(depths));
        assert_eq!(parse(&to_yaml(&config).unwrap(), "again").unwrap(), config);
        assert_eq!(config.validate(std::path::Path::new("")).unwrap().parameters.grid, config.analysis.grid);
        let error = parse("version: 1\nanalysis: {grid: {subdivisions: fine}}\n", "test").unwrap_err();
        assert!(error.to_string().contains("a number of subdivisions such as 14, or {init: 8,"), "{error}");
        let shrinking = adaptive.replace("min: 14", "min: 4");
        let error = parse(&shrinking, "test").unwrap().validate(std::path::Path::new("")).unwrap_err();
        assert!(error.to_string().contains("cannot be refined from 8 over 4 to 18"), "{error}");
    }

    #[test]
    fn mistakes_are_answered_with_place_and_names() {
        let message = |text| parse(text, "doodl3.yaml").unwrap_err().to_string();
        insta::assert_snapshot!(message("version: 1\nanalysis:\n  evry: 3\n"), @r#"
        doodl3.yaml: line 3 column 3: unknown field `evry`, expected one of group_by, every, projection, dimension, lag, surrogate, grid
         --> doodl3.yaml:3:3
          |
        1 | version: 1
        2 | analysis:
        3 |   evry: 3
          |   ^ unknown field `evry`, expected one of group_by, every, projection, dimension, lag, surrogate, grid
        "#);
        insta::assert_snapshot!(message("version: 1\nsources:\n  - directory: {path: x, settle: 5 parsecs}\n"), @r#"
        doodl3.yaml: line 3 column 34: failed to parse input in the "friendly" duration format: expected to find unit designator suffix (e.g., `years` or `secs`) after parsing integer
         --> doodl3.yaml:3:34
          |
        1 | version: 1
        2 | sources:
        3 |   - directory: {path: x, settle: 5 parsecs}
          |                                  ^ failed to parse input in the "friendly" duration format: expected to find unit designator suffix (e.g., `years` or `secs`) after parsing integer
        "#);
        insta::assert_snapshot!(message("version: 1\nsources:\n  - folder: {path: x}\n"), @r#"
        doodl3.yaml: line 3 column 5: unknown variant `folder`, expected one of directory, mlflow, wandb
         --> doodl3.yaml:3:5
          |
        1 | version: 1
        2 | sources:
        3 |   - folder: {path: x}
          |     ^ unknown variant `folder`, expected one of directory, mlflow, wandb
        "#);
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let text = r#"
version: 2
sources:
  - directory: {path: x}
  - directory: {path: y/x, pattern: "{run}/{stp}.pt", rescan_every: 0s}
model: {probe_batch: p.safetensors}
analysis: {every: 0, dimension: 6, lag: {steps: 0}, surrogate: {enclosure: {confidence: 1.0}}, grid: {subdivisions: 40}}
detectors: {loss_spike: {threshold: -1.0}}
"#;
        let error = parse(text, "doodl3.yaml").unwrap().validate(std::path::Path::new("")).unwrap_err();
        insta::assert_snapshot!(error, @r#"
        version: version 2 is not known to this program
        hint: write `version: 1`, or use a newer doodl3
        sources[1].directory.name: another source is called `x` too
        hint: give each source a name of its own: `name: …`
        sources[1].directory.rescan_every: a rescan every 0 seconds would never rest
        hint: write a duration such as `30s`
        sources[1].directory.pattern: no field is called `{stp}` (there are {run}, {experiment}, {step}, {epoch}), at character 7 of the pattern `{run}/{stp}.pt`
        hint: write a path with `{step}`, and with `{run}` or `{experiment}` for folders, such as `{run}/step-{step}.safetensors`
        model: nothing says how the model computes
        hint: add `program: FILE` (torch.export), `module: FILE` (TorchScript) or `architecture: [dense: {}, …]`
        analysis.every: 0 is no interval
        hint: write a number of checkpoints, such as 20
        analysis.dimension: 6 coordinates cannot be analysed
        hint: write a number from 1 to 5
        analysis.lag: a lag of 0 steps maps each point to itself
        hint: write `auto`, `first_to_last` or `steps: N` with N > 0
        analysis.surrogate.enclosure: 1 is no confidence
        hint: write a probability between 0 and 1, such as 0.95, or `padding`
        analysis.grid.subdivisions: 2^40 cells cannot be used
        hint: write a number from 1 to 24; 14 gives 16,384 cells
        detectors.loss_spike.threshold: a threshold must be a positive number
        hint: correct the number, or switch the detector off with `enabled: false`
        "#);
    }
}
