//! `doodl3 show`

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::anyhow;
use clap::ValueEnum;

use doodl3::agent::report;
use doodl3::config::SourcePlan;
use doodl3::render::{self, AnalysisDocument, ReportInput, RunView};
use doodl3::store::{Analysed, Group, Store};

use super::{ConfigArguments, Failure};

/// Show the last analyses: in words, or the Morse graph as JSON, DOT or SVG
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// An experiment or run, the beginning of an analysis' name, or an analysis.json file; by default all groups
    id: Option<String>,
    #[command(flatten)]
    config: ConfigArguments,
    /// What to print
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A few lines of text
    #[default]
    Text,
    /// Everything that is in analysis.json
    Json,
    /// The Morse graph for Graphviz
    Dot,
    /// A picture of the Morse graph
    Svg,
}

/// A group's report.
pub(super) struct Report {
    /// The group's folder below a sink.
    pub(super) folder: String,
    pub(super) input: ReportInput,
}

impl Report {
    /// Where a directory sink has it.
    pub(super) fn path(&self, sink: &Path) -> PathBuf {
        sink.join(&self.folder).join("report.html")
    }
}

pub(super) async fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let inputs = match &arguments.id {
        Some(file) if Path::new(file).is_file() => {
            vec![from_file(Path::new(file))?]
        }
        id => from_state(&arguments.config, id.as_deref()).await?,
    };
    let texts: Vec<String> =
        inputs.iter().map(|input| in_format(input, arguments.format)).collect::<Result<_, _>>()?;
    super::print(&texts.join("\n"));
    Ok(ExitCode::SUCCESS)
}

/// The reports on all groups of a state.
pub(super) async fn reports(store: &Store, sources: Vec<SourcePlan>) -> Result<Vec<Report>, Failure> {
    let reports = store.read(move |tables| {
        let mut reports = Vec::new();
        for group in tables.groups()? {
            if let Some((folder, input)) = report::input(tables, group.id, &sources)? {
                reports.push(Report { folder, input });
            }
        }
        Ok(reports)
    });
    reports.await.map_err(Failure::state)
}

async fn from_state(config: &ConfigArguments, id: Option<&str>) -> Result<Vec<ReportInput>, Failure> {
    let plan = config.plan(&[], None)?;
    let store = Store::open_read_only(&plan.state_dir).map_err(Failure::state)?;
    let mut reports = reports(&store, plan.sources.clone()).await?;
    let Some(id) = id else {
        return Ok(reports.into_iter().map(|report| report.input).collect());
    };
    let names: Vec<String> = reports.iter().map(|report| report.folder.clone()).collect();
    reports.retain(|report| report.input.title == id || report.folder == id);
    if !reports.is_empty() {
        return Ok(reports.into_iter().map(|report| report.input).collect());
    }
    let prefix = id.to_owned();
    let found = store.read(move |tables| {
        let mut found = Vec::new();
        for (group, name) in tables.find_analyses(&prefix)? {
            let analysed = tables.analysis(group.id, &name)?;
            let input = report::input(tables, group.id, &plan.sources)?;
            found.extend(analysed.zip(input).map(|(analysed, (_, input))| (group, analysed, input)));
        }
        Ok(found)
    });
    let found = found.await.map_err(Failure::state)?;
    match <[_; 1]>::try_from(found) {
        Ok([(_, Analysed { name, result, since }, input)]) => {
            Ok(vec![ReportInput { analysis_id: name, analysis: result, since, ..input }])
        }
        Err(found) if found.is_empty() => {
            let hint = if names.is_empty() {
                "there are none yet".into()
            } else {
                format!("there are: {}", names.join(", "))
            };
            Err(Failure::usage(anyhow!("nothing is called {id}")).hint(hint))
        }
        Err(found) => {
            let names: Vec<String> = found
                .iter()
                .map(|(Group { folder, .. }, found, _)| format!("{} ({folder})", found.name))
                .collect();
            Err(Failure::usage(anyhow!("several analyses begin with {id}")).hint(names.join(", ")))
        }
    }
}

/// What a file says: the analysis, the alerts, and of the runs what the analysis holds.
fn from_file(file: &Path) -> Result<ReportInput, Failure> {
    let failed =
        |error: anyhow::Error| Failure::unusable(error.context(format!("cannot read {}", file.display())));
    let text = std::fs::read_to_string(file).map_err(|error| failed(error.into()))?;
    let document: AnalysisDocument<'_> = serde_json::from_str(&text).map_err(|error| failed(error.into()))?;
    if document.schema != render::SCHEMA {
        let error = anyhow!("schema {} is not {}, which this program knows", document.schema, render::SCHEMA);
        return Err(failed(error));
    }
    let analysis = match document.analysis {
        Some(analysis) => Ok(analysis.into_owned()),
        None => Err(document.no_analysis.unwrap_or_default().into_owned()),
    };
    let trajectories = analysis.as_ref().map_or(&[][..], |analysis| &analysis.trajectories);
    let runs = trajectories.iter().map(|trajectory| RunView {
        run: trajectory.run.clone(),
        steps: trajectory.steps.clone(),
        ..RunView::default()
    });
    Ok(ReportInput {
        title: document.group.experiment.clone(),
        focus: None,
        runs: runs.collect(),
        group: document.group.into_owned(),
        analysis_id: document.id.into_owned(),
        analysis,
        since: document.since.map(Cow::into_owned),
        alerts: document.alerts.into_owned(),
        skipped: Vec::new(),
        not_available: Vec::new(),
        versions: Vec::new(),
    })
}

fn in_format(input: &ReportInput, format: Format) -> Result<String, Failure> {
    let name = match format {
        Format::Text => return Ok(render::summary(input)),
        Format::Json => "analysis.json",
        Format::Dot => "morse_graph.dot",
        Format::Svg => "morse_graph.svg",
    };
    let artifacts = render::texts(input).map_err(Failure::unusable)?;
    let Some(artifact) = artifacts.into_iter().find(|artifact| artifact.name == name) else {
        let reason = input.analysis.as_ref().err().cloned().unwrap_or_default();
        return Err(Failure::unusable(anyhow!("there is no Morse graph of {}: {reason}", input.title)));
    };
    String::from_utf8(artifact.bytes).map_err(Failure::unusable)
}
