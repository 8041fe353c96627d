//! The analysis and the alerts as JSON.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Group, RenderError, ReportInput};
use crate::alert::Alert;
use crate::artifact::Artifact;
use crate::engine::{Analysis, Since};

/// Version of the schema of `analysis.json` and `morse_graph.json`: raised when a field changes its meaning or goes,
/// not when one is added.
pub const SCHEMA: u32 = 2;

/// The content of `analysis.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AnalysisDocument<'a> {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Name of the analysis: the digest of what went into it.
    pub id: Cow<'a, str>,
    /// The runs that were analysed together.
    pub group: Cow<'a, Group>,
    /// What was found.
    pub analysis: Option<Cow<'a, Analysis>>,
    /// Why nothing was, in plain words.
    pub no_analysis: Option<Cow<'a, str>>,
    /// What became of the Morse sets of the analysis before, where there was one.
    pub since: Option<Cow<'a, Since>>,
    /// All alerts on these runs, open and resolved.
    pub alerts: Cow<'a, [Alert]>,
}

/// `analysis.json`: everything, by [`AnalysisDocument`], on one line.
pub(super) fn analysis(input: &ReportInput) -> Result<Artifact, RenderError> {
    let document = AnalysisDocument {
        schema: SCHEMA,
        id: Cow::Borrowed(&input.analysis_id),
        group: Cow::Borrowed(&input.group),
        analysis: input.analysis.as_ref().ok().map(Cow::Borrowed),
        no_analysis: input.analysis.as_ref().err().map(|reason| Cow::Borrowed(reason.as_str())),
        since: input.since.as_ref().map(Cow::Borrowed),
        alerts: Cow::Borrowed(&input.alerts),
    };
    json("analysis.json", &document)
}

/// `alerts.jsonl`: one alert a line, in the order given.
pub(super) fn alerts(alerts: &[&Alert]) -> Result<Artifact, RenderError> {
    let mut lines = String::new();
    for alert in alerts {
        lines += &to_json("alerts.jsonl", alert)?;
        lines.push('\n');
    }
    Ok(Artifact::text("alerts.jsonl", "application/x-ndjson", lines))
}

/// One JSON value on one line.
pub(super) fn json(artifact: &'static str, value: &impl Serialize) -> Result<Artifact, RenderError> {
    Ok(Artifact::text(artifact, "application/json", to_json(artifact, value)? + "\n"))
}

fn to_json(artifact: &'static str, value: &impl Serialize) -> Result<String, RenderError> {
    serde_json::to_string(value).map_err(|source| RenderError::Json { artifact, source })
}
