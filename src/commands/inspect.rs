//! `doodl3 inspect FILE`

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use doodl3::checkpoint::{self, CheckpointError, Contents, SketchParameters, Summary};
use doodl3::compute;
use doodl3::engine::Cancel;

use super::Failure;

/// Show what is in a checkpoint
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A safetensors or torch.save file
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Inspection {
    contents: Contents,
    digest: String,
    signature: String,
    parameters: u64,
    statistics: Vec<Tensor>,
}

#[derive(Serialize)]
struct Tensor {
    name: String,
    norm: f64,
    mean: f64,
    variance: f64,
    min: f64,
    max: f64,
    zeros: u64,
    nonfinite: u64,
}

pub(super) async fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let file = arguments.file.clone();
    let cancel = Cancel::new();
    let read = compute::run(&cancel, move |cancel| -> Result<(Contents, Summary), CheckpointError> {
        let contents = checkpoint::open(&file)?.contents().clone();
        Ok((contents, checkpoint::summarize(&file, &SketchParameters::default(), cancel)?))
    });
    let (contents, summary) = read.await.map_err(Failure::unusable)?.map_err(Failure::unusable)?;
    if arguments.json {
        let statistics = summary.statistics.into_iter().map(|s| Tensor {
            name: s.name,
            norm: s.norm,
            mean: s.mean,
            variance: s.variance,
            min: s.min,
            max: s.max,
            zeros: s.zeros,
            nonfinite: s.nonfinite,
        });
        let inspection = Inspection {
            contents,
            digest: summary.digest,
            signature: summary.signature,
            parameters: summary.parameters,
            statistics: statistics.collect(),
        };
        let json = serde_json::to_string_pretty(&inspection).map_err(Failure::unusable)?;
        super::print(&(json + "\n"));
    } else {
        super::print(&text(&contents, &summary));
    }
    Ok(ExitCode::SUCCESS)
}

fn text(contents: &Contents, summary: &Summary) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: String| {
        writeln!(text, "{label:<11}{value}").expect("a string takes all");
    };
    line("format", contents.format.to_string());
    line("size", format!("{} bytes", contents.file_bytes));
    if let Some(step) = contents.step {
        line("step", step.to_string());
    }
    if let Some(epoch) = contents.epoch {
        line("epoch", epoch.to_string());
    }
    line("parameters", summary.parameters.to_string());
    line("digest", summary.digest.clone());
    line("signature", summary.signature.clone());
    for (name, value) in &contents.metadata {
        line("metadata", format!("{name} = {value}"));
    }
    for note in &contents.notes {
        line("note", note.clone());
    }
    if !contents.unknown_globals.is_empty() {
        line("not run", contents.unknown_globals.join(", "));
    }
    let nonfinite: u64 = summary.statistics.iter().map(|s| s.nonfinite).sum();
    if nonfinite > 0 {
        line("warning", format!("{nonfinite} elements are NaN or infinite"));
    }
    text.push('\n');
    text + &table(contents, summary)
}

fn table(contents: &Contents, summary: &Summary) -> String {
    let header =
        ["tensor", "type", "shape", "norm", "mean", "min", "max", "zeros", "non-finite"].map(String::from);
    let rows = contents.tensors.iter().map(|tensor| {
        let shape = format!("{:?}", tensor.shape);
        let mut row = vec![tensor.name.clone(), tensor.dtype.name().to_owned(), shape];
        match (tensor.tied_to, summary.statistics.iter().find(|s| s.name == tensor.name)) {
            (Some(other), _) => row.push(format!("tied to {}", contents.tensors[other].name)),
            (None, Some(s)) => {
                row.extend([s.norm, s.mean, s.min, s.max].map(number));
                row.extend([s.zeros.to_string(), s.nonfinite.to_string()]);
            }
            (None, None) => {}
        }
        row
    });
    super::columns(std::iter::once(header.to_vec()).chain(rows))
}

/// Five digits, in the shorter of the two notations.
fn number(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 || (1e-3..1e5).contains(&magnitude) {
        format!("{value:.4}")
    } else {
        format!("{value:.4e}")
    }
}
