//! What people see: the report, its pictures, and the same as data.
//!
//! A pure function of its input: no clock, no files, no network; the same input gives the same bytes. Every picture is
//! an SVG, once as a file of its own and once inside `report.html`, which needs nothing but itself; and a PNG, for
//! places that show no SVG.

mod axis;
mod cells;
mod curves;
mod document;
mod forecast;
mod glossary;
mod glyph;
mod labels;
mod layers;
mod morse_graph;
mod note;
mod outcomes;
mod palette;
mod panel;
mod phase_portrait;
mod png;
mod reading;
mod regions;
mod report;
mod since;
mod summary;
mod svg;
mod thin;
mod trust;
mod verdict;
mod words;

pub use document::{AnalysisDocument, SCHEMA};
pub use note::{RunTags, note, tags};
pub use png::RasterError;
pub use summary::summary;

use self::reading::Reading;
use self::report::Pictures;
use self::svg::Picture;
use crate::alert::Alert;
use crate::artifact::Artifact;
use crate::engine::{Analysis, Since};

/// All that a report tells of one group of runs.
#[derive(Clone, Debug)]
pub struct ReportInput {
    /// What the report is about, such as the experiment's name.
    pub title: String,
    /// The run that it is about, in the picture that all runs of its group make; `None`: about all of them.
    pub focus: Option<String>,
    /// Which runs belong together, and why.
    pub group: Group,
    /// Name of the analysis: the digest of what went into it.
    pub analysis_id: String,
    /// What was found, or in plain words why there is no analysis yet (`only 2 checkpoints; at least 8 are needed`).
    pub analysis: Result<Analysis, String>,
    /// What became of the Morse sets of the analysis before, where there was one.
    pub since: Option<Since>,
    /// The runs of the group, those without an analysis too. Sorted by name in what is drawn, whatever their order here.
    pub runs: Vec<RunView>,
    /// All alerts on these runs, open and resolved.
    pub alerts: Vec<Alert>,
    /// Files that were left out, each with the reason.
    pub skipped: Vec<(String, String)>,
    /// What could not be had, and what is missing for it (`loss on the probe batch: no model is configured`).
    pub not_available: Vec<String>,
    /// Name and version of each program that took part, such as (`doodl3`, `0.1.0`).
    pub versions: Vec<(String, String)>,
}

impl ReportInput {
    /// The report on one of the runs: its own course and alerts, in the picture that all runs of the group make.
    #[must_use]
    pub fn of_run(&self, run: &str) -> Self {
        Self {
            title: run.to_owned(),
            focus: Some(run.to_owned()),
            runs: self.runs.iter().filter(|view| view.run == run).cloned().collect(),
            alerts: self.alerts.iter().filter(|alert| alert.run == run).cloned().collect(),
            ..self.clone()
        }
    }
}

/// The key of a group of runs that are analysed together.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Group {
    /// Name of the source that the runs come from.
    pub source: String,
    /// The experiment: the tracker's, or the folder above the runs.
    pub experiment: String,
    /// Digest of the names and shapes of the model's parameters.
    pub signature: String,
}

/// (step, value) by increasing step; values may be NaN or infinite.
pub type Series = Vec<(u64, f64)>;

/// What is drawn of one run. A series that is not known is empty.
#[derive(Clone, Debug, Default)]
pub struct RunView {
    /// The run's name.
    pub run: String,
    /// Whether it goes on.
    pub state: RunState,
    /// Steps of its checkpoints, increasing.
    pub steps: Vec<u64>,
    /// The loss that the trainer logged.
    pub logged_losses: Series,
    /// The loss on the probe batch, at checkpoints.
    pub evaluated_losses: Series,
    /// Euclidean norm of all weights, at checkpoints.
    pub weight_norms: Series,
    /// Length of the update since the checkpoint before by the norm of the weights, from the second checkpoint on.
    pub update_ratios: Series,
    /// The instability score, at checkpoints.
    pub instability: Series,
}

/// Whether a run goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunState {
    /// New checkpoints are expected.
    Training,
    /// It has ended.
    Ended,
    /// Nobody knows, as when a folder is analysed once.
    #[default]
    Unknown,
}

/// Why a report could not be made: a fault of this program, never of what it reports on.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A part could not be written as JSON.
    #[error("cannot write {artifact} as JSON")]
    Json {
        /// The artifact's name.
        artifact: &'static str,
        /// What `serde_json` says.
        source: serde_json::Error,
    },
    /// A picture could not be made into pixels.
    #[error("cannot draw {artifact}")]
    Raster {
        /// The artifact's name.
        artifact: &'static str,
        /// What went wrong.
        source: RasterError,
    },
    /// The template of the page asks for something that it is not given.
    #[error("cannot fill the template of report.html")]
    Template {
        /// What `minijinja` says, with the line.
        source: Box<minijinja::Error>,
    },
}

/// The artifacts of a report, in the order of their names' importance: `report.html`, `analysis.json`,
/// `alerts.jsonl`, and, where there is an analysis, `morse_graph.json`, `.svg`, `.png`, `.dot`, `phase_portrait.svg`
/// and `.png`.
///
/// # Errors
///
/// Only if this program is at fault: [`RenderError`].
pub fn artifacts(input: &ReportInput) -> Result<Vec<Artifact>, RenderError> {
    made(input, true)
}

/// The artifacts that are text: the PNGs take longer than all of these.
///
/// # Errors
///
/// As [`artifacts`].
pub fn texts(input: &ReportInput) -> Result<Vec<Artifact>, RenderError> {
    made(input, false)
}

fn made(input: &ReportInput, pixels: bool) -> Result<Vec<Artifact>, RenderError> {
    let reading = Reading::new(input);
    let mut artifacts = vec![document::analysis(input)?, document::alerts(&reading.alerts())?];
    let pictures = reading.analysis().map(|analysis| Pictures {
        phase_portrait: phase_portrait::as_picture(&reading, analysis),
        morse_graph: morse_graph::as_picture(&reading, analysis),
    });
    artifacts.insert(0, report::page(&reading, pictures.as_ref())?);
    if let Some((analysis, pictures)) = reading.analysis().zip(pictures) {
        let graph = &analysis.morse_graph;
        artifacts.push(morse_graph::as_json(input, analysis)?);
        artifacts.push(Artifact::text("morse_graph.svg", SVG, pictures.morse_graph.file()));
        if pixels {
            artifacts.push(raster("morse_graph.png", &pictures.morse_graph)?);
        }
        artifacts.push(Artifact::text("morse_graph.dot", "text/vnd.graphviz", morse_graph::as_dot(graph)));
        artifacts.push(Artifact::text("phase_portrait.svg", SVG, pictures.phase_portrait.file()));
        if pixels {
            artifacts.push(raster("phase_portrait.png", &pictures.phase_portrait)?);
        }
    }
    Ok(artifacts)
}

/// A picture as PNG.
fn raster(name: &'static str, picture: &Picture) -> Result<Artifact, RenderError> {
    let bytes =
        png::from_svg(&picture.plain()).map_err(|source| RenderError::Raster { artifact: name, source })?;
    Ok(Artifact { name: name.to_owned(), media_type: "image/png", bytes })
}

const SVG: &str = "image/svg+xml";
