//! How far a picture can be trusted: each figure with its limit and a sentence on what it means.

use serde::Serialize;

use super::words::{count, figure, list, percent, thousands};
use crate::engine::{
    Analysis, Enclosure, Kernel, LagChoice, LeftOut, Margin, Mode, PriorMean, ProjectionChoice,
};

/// A figure of quality.
#[derive(Serialize)]
pub(super) struct Figure {
    name: &'static str,
    value: String,
    limit: String,
    meaning: String,
}

/// A projection and a lag that were tried.
#[derive(Serialize)]
pub(super) struct CandidateRow {
    chosen: bool,
    projection: &'static str,
    lag: String,
    skill: String,
    persistence: String,
    motion: String,
    loss: String,
    verdict: String,
}

/// What the table of candidates shows.
pub(super) const CANDIDATES: &str = "Coordinates and lags were tried in this order and the first that was good enough was taken. Good means that whole runs \
     that were left out are predicted better than by two simple guesses: the mean of all points (0 is no better, 1 is \
     perfect, for each coordinate), and that nothing moves (share of the error that is removed). It also has to move by \
     more than a few cells in one lag, and to tell the loss.";

/// The verdict on the picture.
pub(super) fn summary(analysis: &Analysis) -> String {
    let reasons = &analysis.quality.low_confidence;
    if reasons.is_empty() {
        return "Every figure is within its limit. That speaks for the region where the runs were, at this lag; outside it the pictures are hatched.".to_owned();
    }
    format!(
        "Low confidence: {}. Take the pictures as sketches and the curves and alerts as facts.",
        reasons.join("; ")
    )
}

/// Every figure of quality.
pub(super) fn figures(analysis: &Analysis) -> Vec<Figure> {
    let quality = &analysis.quality;
    let each = |values: &[f64]| values.iter().map(|value| figure(*value)).collect::<Vec<_>>().join(", ");
    let mut figures = vec![
        Figure {
            name: "Variance in view",
            value: percent(quality.explained_variance),
            limit: "no limit".to_owned(),
            meaning: format!(
                "The coordinates show this share of how the checkpoints differ; {} of it is out of view.",
                percent(1.0 - quality.explained_variance)
            ),
        },
        Figure {
            name: "Next point, against the mean",
            value: each(&quality.skill),
            limit: "near 1".to_owned(),
            meaning: "How well the next point of runs that were left out is predicted, for each coordinate: 1 is perfect, 0 is no better than guessing the mean.".to_owned(),
        },
        Figure {
            name: "Displacement, against its mean",
            value: each(&quality.displacement_skill),
            limit: "above 0".to_owned(),
            meaning: "The same for the way that is travelled in one lag, which is harder: 0 is no better than guessing that every run moves alike.".to_owned(),
        },
        Figure {
            name: "Against standing still",
            value: percent(quality.skill_over_persistence),
            limit: "above 0 %".to_owned(),
            meaning: "Share of the error of the guess \u{201c}nothing moves\u{201d} that the map removes.".to_owned(),
        },
        Figure {
            name: "Calibration",
            value: percent(quality.coverage),
            limit: format!("near {}", percent(quality.nominal_coverage)),
            meaning: format!(
                "Of the left-out points this share lay inside intervals that should hold {}. Less means that the map is surer than it should be, more that it is too careful.",
                percent(quality.nominal_coverage)
            ),
        },
        Figure {
            name: "Surprise",
            value: format!("{} nats", figure(quality.negative_log_predictive_density)),
            limit: "lower is better".to_owned(),
            meaning: "Mean negative log predictive density of left-out points, for each coordinate: it punishes being wrong and being unsure. Compare it between analyses of the same runs.".to_owned(),
        },
        Figure {
            name: "Runs on trusted ground",
            value: percent(quality.trusted_points),
            limit: "near 100 %".to_owned(),
            meaning: "Share of the checkpoints that lie where the map is trusted; of the others nothing is said.".to_owned(),
        },
        Figure {
            name: "Trusted part of the picture",
            value: percent(quality.trusted_cells),
            limit: "no limit".to_owned(),
            meaning: "Share of the picture where there was enough to learn from. The rest is hatched, not guessed.".to_owned(),
        },
    ];
    figures.push(match quality.confidence {
        Some(confidence) => Figure {
            name: "Confidence",
            value: percent(confidence),
            limit: "as configured".to_owned(),
            meaning: "Probability that the boxes around the images of all cells' corners hold at once. It takes the fitted kernel and the coordinates for granted, and speaks of the mean motion, not of single noisy steps.".to_owned(),
        },
        None => Figure {
            name: "Confidence",
            value: "not asked for".to_owned(),
            limit: "\u{2013}".to_owned(),
            meaning: "Images of cells were widened by one cell on each side, without a probability.".to_owned(),
        },
    });
    figures
}

/// Everything that was tried.
pub(super) fn candidates(analysis: &Analysis) -> Vec<CandidateRow> {
    // The chosen one is the first that qualifies, if it is what the analysis used.
    let chosen = analysis
        .candidates
        .iter()
        .position(|candidate| candidate.qualifies && candidate.projection == analysis.projection.kind);
    let row = |(at, candidate): (usize, &crate::engine::Candidate)| CandidateRow {
        chosen: chosen == Some(at),
        projection: projection_words(candidate.projection),
        lag: thousands(candidate.lag_steps),
        skill: candidate.skill.iter().map(|value| figure(*value)).collect::<Vec<_>>().join(", "),
        persistence: percent(candidate.skill_over_persistence),
        motion: figure(candidate.motion_cells),
        loss: candidate.loss_correlation.map_or_else(|| "unknown".to_owned(), figure),
        verdict: match (chosen == Some(at), candidate.qualifies) {
            (true, _) => "taken".to_owned(),
            (false, true) => "good enough".to_owned(),
            (false, false) => candidate.reason.clone(),
        },
    };
    analysis.candidates.iter().enumerate().map(row).collect()
}

/// The projection in words.
pub(super) fn projection_words(kind: ProjectionChoice) -> &'static str {
    match kind {
        ProjectionChoice::Auto => "chosen by the data",
        ProjectionChoice::FunctionSpace => "what the model predicts on the probe batch",
        ProjectionChoice::Pca => "principal components of the weights",
        ProjectionChoice::SelectedWeights => "the weights that differ most at the end",
    }
}

/// What took no part in fitting.
fn left_out(left_out: &LeftOut) -> String {
    let parts: Vec<String> = [
        (left_out.without_predictions, "without predictions"),
        (left_out.far, "far outside, of runs that diverged"),
        (left_out.disturbed, "covered by an alert"),
    ]
    .into_iter()
    .filter(|(number, _)| *number > 0)
    .map(|(number, why)| format!("{} {why}", count(number, "checkpoint")))
    .collect();
    if parts.is_empty() { "nothing".to_owned() } else { list(&parts, 3) }
}

/// What was asked for and what was used, as names and values.
pub(super) fn settings(analysis: &Analysis) -> Vec<(&'static str, String)> {
    let parameters = &analysis.parameters;
    let asked =
        |words: String, by_data: bool| if by_data { format!("{words}, chosen by the data") } else { words };
    let lag = &analysis.lag;
    let surrogate = &parameters.surrogate;
    let cells: Vec<String> = analysis.grid.cells_per_axis.iter().map(ToString::to_string).collect();
    vec![
        (
            "Coordinates",
            asked(
                projection_words(analysis.projection.kind).to_owned(),
                parameters.projection == ProjectionChoice::Auto,
            ),
        ),
        (
            "Lag",
            asked(
                format!(
                    "{}: {} of {}",
                    count(lag.steps as usize, "step"),
                    count(lag.pairs, "pair"),
                    count(lag.runs, "run")
                ),
                parameters.lag == LagChoice::Auto,
            ),
        ),
        (
            "Map",
            format!(
                "Gaussian process, {} kernel, prior mean {}",
                match surrogate.kernel {
                    Kernel::Rbf => "squared exponential",
                    Kernel::Matern52 => "Mat\u{e9}rn 5/2",
                },
                match surrogate.prior_mean {
                    PriorMean::Affine => "identity plus affine displacement",
                    PriorMean::Displacement => "identity plus mean displacement",
                    PriorMean::Zero => "zero",
                }
            ),
        ),
        (
            "Learned from",
            if analysis.surrogate.centres < analysis.surrogate.pairs {
                format!(
                    "all {}, represented by {} of them, which leaves out {} of the variance at most",
                    count(analysis.surrogate.pairs, "pair"),
                    thousands(analysis.surrogate.centres as u64),
                    percent(analysis.surrogate.neglected_variance)
                )
            } else {
                count(analysis.surrogate.pairs, "pair")
            },
        ),
        ("Left out", left_out(&analysis.quality.left_out)),
        (
            "Enclosure",
            match (surrogate.enclosure, analysis.surrogate.widening) {
                (Enclosure::Confidence(level), Some(factor)) => format!(
                    "corner images widened by {} standard deviations, for confidence {}",
                    figure(factor),
                    percent(level)
                ),
                (Enclosure::Confidence(level), None) => format!("for confidence {}", percent(level)),
                (Enclosure::Padding, _) => "corner images widened by one cell".to_owned(),
            },
        ),
        (
            "Trusted where",
            format!("standard deviation below {} of the data's spread", percent(surrogate.trust)),
        ),
        (
            "Grid",
            format!(
                "{} = {}, {} of the map, margin {}{}",
                cells.join(" \u{d7} "),
                count(analysis.grid.cells, "cell"),
                count(analysis.grid.edges as usize, "edge"),
                match parameters.grid.margin {
                    Margin::Share(share) => percent(share),
                    Margin::Absolute(length) => figure(length),
                },
                match parameters.grid.mode {
                    Mode::Full => "",
                    Mode::Compatible => ", compatible mode: no exit, nothing unknown",
                }
            ),
        ),
    ]
}
