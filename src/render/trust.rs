//! How far a picture can be trusted: each figure with its limit and a sentence on what it means.

use serde::Serialize;

use super::words::{count, figure, list, percent, thousands};
use crate::engine::limits::{
    DOUBTFUL_COVERAGE_GAP, DOUBTFUL_SKILL, DOUBTFUL_SKILL_OVER_PERSISTENCE, DOUBTFUL_TRUSTED_POINTS,
    FEW_PAIRS, FEW_RUNS, LEAST_GAIN, LEAST_LOSS_CORRELATION, LEAST_MOTION, LEAST_SKILL,
    LEAST_SKILL_OVER_PERSISTENCE,
};
use crate::engine::surrogate::EmptyBox;
use crate::engine::{
    Analysis, Candidate, Enclosure, Kernel, LagChoice, LeftOut, MapChoice, Margin, Mode, PriorMean,
    ProjectionChoice, SurrogateParameters,
};

/// A figure of quality.
#[derive(Serialize)]
pub(super) struct Figure {
    name: &'static str,
    value: String,
    limit: String,
    /// `met`, `missed`, or nothing where there is no limit.
    standing: &'static str,
    meaning: String,
}

impl Figure {
    /// A figure with a limit, and whether it is met.
    fn limited(
        name: &'static str,
        value: String,
        limit: String,
        met: bool,
        meaning: impl Into<String>,
    ) -> Self {
        Self { name, value, limit, standing: if met { "met" } else { "missed" }, meaning: meaning.into() }
    }

    /// A figure to be known, without a limit.
    fn told(name: &'static str, value: String, meaning: impl Into<String>) -> Self {
        Self { name, value, limit: "no limit".to_owned(), standing: "", meaning: meaning.into() }
    }
}

/// A projection and a lag that were tried.
#[derive(Serialize)]
pub(super) struct CandidateRow {
    chosen: bool,
    projection: &'static str,
    lag: String,
    skill: String,
    displacement: String,
    persistence: String,
    errors: String,
    motion: String,
    loss: String,
    verdict: String,
}

/// What the table of candidates shows.
pub(super) fn candidates_caption() -> String {
    format!(
        "Coordinates were tried in this order, and the first that are good enough are taken, at the shortest lag at which they \
         are; those that come after are compared at that lag. The logarithm of the loss is a coordinate where function space \
         is not good enough without, or where it adds {LEAST_GAIN} to the skill (the share of the squared error of the better \
         of standing still and the mean that is removed). If none is good enough, what predicts best is \
         taken. \
         Whole runs that were left out have to be predicted better than by three simple guesses: that the next point is the \
         mean of all, that all move alike (for each coordinate R\u{b2} at least {LEAST_SKILL}; 0 is no better, 1 is perfect), \
         and that nothing moves (at least {} of its error removed). Runs have to move by {LEAST_MOTION} cells or more in one \
         lag, and the coordinates to tell the loss (rank correlation at least {LEAST_LOSS_CORRELATION}). Errors are root mean \
         squares of the next point, in units of its spread.",
        percent(LEAST_SKILL_OVER_PERSISTENCE)
    )
}

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
    let mut figures = prediction(analysis);
    figures.extend(extent(analysis));
    figures
}

/// A figure for each coordinate.
fn each(values: &[f64]) -> String {
    values.iter().map(|value| figure(*value)).collect::<Vec<_>>().join(", ")
}

/// The figures that tell how well the map predicts.
fn prediction(analysis: &Analysis) -> Vec<Figure> {
    let quality = &analysis.quality;
    let least = |values: &[f64]| values.iter().copied().fold(f64::INFINITY, f64::min);
    vec![
        Figure::limited(
            "Next point, against the mean",
            each(&quality.skill),
            format!("{DOUBTFUL_SKILL} each"),
            least(&quality.skill) >= DOUBTFUL_SKILL,
            "How well the next point of runs that were left out is predicted, R\u{b2} of each coordinate: 1 is perfect, 0 is no better than guessing the mean.",
        ),
        Figure::told(
            "Displacement, against its mean",
            each(&quality.displacement_skill),
            "The same for the way that is travelled in one lag: 0 is no better than guessing that every run moves alike.",
        ),
        Figure::limited(
            "Against standing still",
            percent(quality.skill_over_persistence),
            percent(DOUBTFUL_SKILL_OVER_PERSISTENCE),
            quality.skill_over_persistence >= DOUBTFUL_SKILL_OVER_PERSISTENCE,
            "Share of the error of the guess \u{201c}nothing moves\u{201d} that the map removes.",
        ),
        Figure::limited(
            "Calibration",
            percent(quality.coverage),
            percent(quality.nominal_coverage - DOUBTFUL_COVERAGE_GAP),
            quality.coverage >= quality.nominal_coverage - DOUBTFUL_COVERAGE_GAP,
            format!(
                "Of the left-out points this share lay inside intervals that should hold {}. Less means that the map is surer than it should be, more that it is too careful.",
                percent(quality.nominal_coverage)
            ),
        ),
        Figure::told(
            "Surprise",
            format!("{} nats", figure(quality.negative_log_predictive_density)),
            "Mean negative log predictive density of left-out points, for each coordinate: it punishes being wrong and being unsure, so lower is better. Compare it between analyses of the same runs.",
        ),
    ]
}

/// The figures that tell for what the picture speaks.
fn extent(analysis: &Analysis) -> Vec<Figure> {
    let (quality, lag) = (&analysis.quality, &analysis.lag);
    let enough_pairs = FEW_PAIRS * analysis.grid.lower.len();
    vec![
        Figure::limited(
            "Runs learned from",
            thousands(lag.runs as u64),
            FEW_RUNS.to_string(),
            lag.runs >= FEW_RUNS,
            format!(
                "With fewer it is not known how a new run behaves. The figures above were taken on {}.",
                count(quality.assessed_runs, "run")
            ),
        ),
        Figure::limited(
            "Pairs learned from",
            thousands(lag.pairs as u64),
            enough_pairs.to_string(),
            lag.pairs >= enough_pairs,
            "A pair is a checkpoint and the one that follows it one lag later.",
        ),
        Figure::limited(
            "Runs on trusted ground",
            percent(quality.trusted_points),
            percent(DOUBTFUL_TRUSTED_POINTS),
            quality.trusted_points >= DOUBTFUL_TRUSTED_POINTS,
            "Share of the checkpoints that lie where the map is trusted; of the others nothing is said.",
        ),
        Figure::told(
            "Trusted part of the picture",
            percent(quality.trusted_cells),
            "Share of the picture where there was enough to learn from. The rest is hatched, not guessed.",
        ),
        Figure::told(
            "Variance in view",
            percent(quality.explained_variance),
            format!(
                "The coordinates show this share of how the checkpoints differ; {} of it is out of view.",
                percent(1.0 - quality.explained_variance)
            ),
        ),
        match quality.confidence {
            Some(confidence) => Figure::told(
                "Confidence",
                percent(confidence),
                "Probability that the boxes around the images of all trusted cells hold at once. It takes the fitted kernel and the coordinates for granted, and speaks of the mean motion, not of single noisy steps.",
            ),
            None if matches!(analysis.parameters.surrogate.map, MapChoice::Data(_)) => Figure::told(
                "Confidence",
                "none".to_owned(),
                "Images of cells are those of the pairs near them, without a model and so without a probability: what is said of basins and attractors holds for the pairs that were seen.",
            ),
            None => Figure::told(
                "Confidence",
                "not asked for".to_owned(),
                "Images of cells were widened by one cell on each side, without a probability: what is said of basins and attractors is a good guess, with no number to it.",
            ),
        },
    ]
}

/// Everything that was tried.
pub(super) fn candidates(analysis: &Analysis) -> Vec<CandidateRow> {
    let used = |candidate: &Candidate| {
        candidate.projection == analysis.projection.kind && candidate.lag_steps == analysis.lag.steps
    };
    let chosen = analysis.candidates.iter().position(used);
    let row = |(at, candidate): (usize, &Candidate)| CandidateRow {
        chosen: chosen == Some(at),
        projection: projection_words(candidate.projection),
        lag: thousands(candidate.lag_steps),
        skill: each(&candidate.skill),
        displacement: each(&candidate.displacement_skill),
        persistence: percent(candidate.skill_over_persistence),
        errors: each(&[candidate.errors.surrogate, candidate.errors.persistence, candidate.errors.constant]),
        motion: figure(candidate.motion_cells),
        loss: candidate.loss_correlation.map_or_else(|| "unknown".to_owned(), figure),
        verdict: match (chosen == Some(at), candidate.qualifies) {
            (true, true) => "taken".to_owned(),
            (true, false) => format!("taken, since none is good enough: {}", candidate.reason),
            (false, true) => "good enough, but later in the order or at a longer lag".to_owned(),
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
        ProjectionChoice::FunctionSpaceAndLoss => {
            "what the model predicts on the probe batch, and the logarithm of its loss"
        }
        ProjectionChoice::RelaxingDirections => {
            "the directions of the weights in which runs forget where they began"
        }
        ProjectionChoice::TimeLaggedModes => "the directions of the weights that change most slowly",
        ProjectionChoice::Pca => "principal components of the weights",
        ProjectionChoice::SelectedWeights => "the weights that differ most at the end",
        ProjectionChoice::Random(_) => "random directions of the weights",
    }
}

/// What took no part in fitting.
fn left_out(left_out: &LeftOut) -> String {
    let parts: Vec<String> = [
        (left_out.without_predictions, "without predictions"),
        (left_out.without_loss, "without a loss"),
        (left_out.far, "far outside, of runs that diverged"),
        (left_out.disturbed, "covered by an alert"),
    ]
    .into_iter()
    .filter(|(number, _)| *number > 0)
    .map(|(number, why)| format!("{} {why}", count(number, "checkpoint")))
    .collect();
    if parts.is_empty() { "nothing".to_owned() } else { list(&parts, 3) }
}

/// What images are made from.
fn map(surrogate: &SurrogateParameters) -> String {
    let process = format!(
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
    );
    match surrogate.map {
        MapChoice::GaussianProcess => process,
        MapChoice::Data(_) => {
            format!("the pairs alone, without a model; coordinates, predictions and paths by {process}")
        }
    }
}

/// How they are widened.
fn enclosure(analysis: &Analysis) -> String {
    let surrogate = &analysis.parameters.surrogate;
    match (surrogate.map, surrogate.enclosure, analysis.surrogate.widening) {
        (MapChoice::Data(data), ..) => format!(
            "images of all pairs in a cell and up to {} of its widths around it, widened by {} widths",
            figure(data.reach),
            figure(data.padding)
        ),
        (_, Enclosure::Confidence(level), Some(factor)) => format!(
            "corner images widened by {} standard deviations, by more where pairs left out ask for it, for confidence {}",
            figure(factor),
            percent(level)
        ),
        (_, Enclosure::Confidence(level), None) => format!("for confidence {}", percent(level)),
        (_, Enclosure::Padding, _) => "corner images widened by one cell".to_owned(),
    }
}

/// Where they are believed.
fn trusted(surrogate: &SurrogateParameters) -> String {
    match surrogate.map {
        MapChoice::GaussianProcess => {
            let contradiction = match surrogate.enclosure {
                Enclosure::Confidence(_) => ", and no pair near by contradicts the map when it is left out",
                Enclosure::Padding => "",
            };
            format!(
                "standard deviation below {} of the data's spread{contradiction}",
                percent(surrogate.trust)
            )
        }
        MapChoice::Data(data) => match data.empty {
            EmptyBox::Unknown => "a pair starts in the cell",
            EmptyBox::Interpolate => "everywhere: cells without a pair see the nearest ones",
            EmptyBox::Outside => "everywhere: cells without a pair lead out of the picture",
            EmptyBox::Refuse => "everywhere: a pair starts in each cell",
        }
        .to_owned(),
    }
}

/// How the domain is cut.
fn cells(analysis: &Analysis) -> String {
    let grid = &analysis.grid;
    let per_axis: Vec<String> = grid.cells_per_axis.iter().map(ToString::to_string).collect();
    let (per_axis, all) = (per_axis.join(" \u{d7} "), count(grid.cells, "cell"));
    match grid.levels.as_slice() {
        [coarsest, .., finest] => format!(
            "{all} of {} to {} subdivisions, the finest of {per_axis}",
            coarsest.subdivisions, finest.subdivisions
        ),
        _ => format!("{per_axis} = {all}"),
    }
}

/// What was asked for and what was used, as names and values.
pub(super) fn settings(analysis: &Analysis) -> Vec<(&'static str, String)> {
    let parameters = &analysis.parameters;
    let asked =
        |words: String, by_data: bool| if by_data { format!("{words}, chosen by the data") } else { words };
    let lag = &analysis.lag;
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
        ("Map", map(&parameters.surrogate)),
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
        ("Enclosure", enclosure(analysis)),
        ("Trusted where", trusted(&parameters.surrogate)),
        (
            "Grid",
            format!(
                "{}, {} of the map, margin {}{}",
                cells(analysis),
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
