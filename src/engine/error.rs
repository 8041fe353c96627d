//! What can be wrong with what the engine is asked to do.

use super::analysis::ProjectionChoice;
use super::grid::{MAX_DEPTH, MAX_DIMENSION, MAX_SUBDIVISIONS};

/// Why an analysis cannot be made. Every message says what to change.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// There is nothing to analyse.
    #[error(
        "there are no runs with checkpoints to analyse: wait for the first checkpoints, or check where they are looked for"
    )]
    NoRuns,
    /// Two runs have one name.
    #[error("two runs are named `{run}`: runs analysed together need names of their own")]
    DuplicateRun {
        /// The name.
        run: String,
    },
    /// The steps of a run do not increase.
    #[error(
        "run `{run}`: step {step} does not come after the step before it; checkpoints must be sorted by step, each step once"
    )]
    StepsOutOfOrder {
        /// The run.
        run: String,
        /// The step that breaks the order.
        step: u64,
    },
    /// A value is NaN or infinite.
    #[error(
        "run `{run}`, step {step}: the {what} hold NaN or infinity; leave this checkpoint out of the analysis"
    )]
    NonFinite {
        /// The run.
        run: String,
        /// The step.
        step: u64,
        /// `weights` or `predictions`.
        what: &'static str,
    },
    /// Vectors that must have one length do not.
    #[error(
        "run `{run}`, step {step}: {found} {what} where the others have {expected}; analyse models of different shape apart"
    )]
    LengthMismatch {
        /// The run.
        run: String,
        /// The step.
        step: u64,
        /// `weights` or `predictions`.
        what: &'static str,
        /// Length at the first checkpoint that has any.
        expected: usize,
        /// Length here.
        found: usize,
    },
    /// No checkpoint is left to learn from.
    #[error(
        "none of {checkpoints} checkpoints can be learned from, {disturbed} of them covered by alerts: wait for healthy training, or resolve the alerts"
    )]
    NothingToLearnFrom {
        /// Checkpoints there are.
        checkpoints: usize,
        /// Those that alerts cover.
        disturbed: usize,
    },
    /// Function space was asked for, but there are too few predictions.
    #[error(
        "only {found} of {snapshots} checkpoints have predictions on the probe batch, which function space needs: set up the evaluator, or choose the projection `pca`"
    )]
    NoPredictions {
        /// Checkpoints with predictions.
        found: usize,
        /// Checkpoints in all.
        snapshots: usize,
    },
    /// The loss was asked for as a coordinate, but is known too rarely.
    #[error(
        "only {found} of {snapshots} checkpoints have predictions and a loss above zero, which its logarithm needs: set up the evaluator, or choose the projection `function_space`"
    )]
    NoLosses {
        /// Checkpoints with predictions and loss.
        found: usize,
        /// Checkpoints in all.
        snapshots: usize,
    },
    /// Coordinates that are made from differences between runs were asked for, but there are few runs.
    #[error(
        "the projection {projection:?} compares runs, and only {found} have two checkpoints to learn from: wait for {needed} runs, or choose another projection"
    )]
    TooFewRuns {
        /// The projection.
        projection: ProjectionChoice,
        /// Runs there are.
        found: usize,
        /// Runs it takes.
        needed: usize,
    },
    /// Coordinates that are made from the order of checkpoints were asked for, but there are few.
    #[error(
        "the projection {projection:?} needs {needed} checkpoints to learn from, and there are {found}: wait for more, or choose another projection"
    )]
    TooFewCheckpoints {
        /// The projection.
        projection: ProjectionChoice,
        /// Checkpoints there are.
        found: usize,
        /// Checkpoints it takes.
        needed: usize,
    },
    /// The features have fewer coordinates than asked for.
    #[error(
        "dimension {dimension} is more than the {available} coordinates that the {what} have: ask for fewer dimensions"
    )]
    TooFewCoordinates {
        /// Dimension asked for.
        dimension: usize,
        /// Coordinates there are.
        available: usize,
        /// `weights` or `predictions`.
        what: &'static str,
    },
    /// No two checkpoints of a run are one lag apart.
    #[error(
        "no two checkpoints of a run are {lag} steps apart (within 10 %); distances between successive checkpoints are {strides}: choose a multiple of these, or `auto`"
    )]
    NoPairs {
        /// The lag asked for, in steps (or `first to last`).
        lag: String,
        /// What there is, in words.
        strides: String,
    },
    /// All points coincide along a coordinate, so that there is no dynamics to look at.
    #[error(
        "all checkpoints coincide along coordinate {axis} of the projection {projection:?}: there is no motion to analyse; use fewer dimensions, another projection, or wait for training to move"
    )]
    IdenticalPoints {
        /// The projection.
        projection: ProjectionChoice,
        /// The coordinate, from 1.
        axis: usize,
    },
    /// A dimension that no grid offers.
    #[error("dimension {dimension} is not between 1 and {MAX_DIMENSION}")]
    Dimension {
        /// The dimension asked for.
        dimension: usize,
    },
    /// The depths of an adaptive grid do not increase.
    #[error(
        "an adaptive grid from depth {init} over {min} to {max}: let the first depth (init) be at most the second (min), and that at most the last (max)"
    )]
    Refinement {
        /// Depth from which recurrence is sought.
        init: u32,
        /// Depth down to which what recurs is refined.
        min: u32,
        /// Depth down to which sets are tested.
        max: u32,
    },
    /// Cells would be too small to be told apart.
    #[error("{depth} subdivisions are too many: at most {MAX_DEPTH} in all and 31 of each axis are possible")]
    TooDeep {
        /// Depth asked for.
        depth: u32,
    },
    /// More cells than fit.
    #[error(
        "{subdivisions} subdivisions make 2^{subdivisions} cells, more than the 2^{MAX_SUBDIVISIONS} that are possible: ask for {MAX_SUBDIVISIONS} or fewer"
    )]
    TooManyCells {
        /// Subdivisions asked for.
        subdivisions: u32,
    },
    /// A domain without interior, or not finite.
    #[error(
        "the domain [{lower}, {upper}] along axis {axis} is empty, or not finite: give finite bounds with lower < upper"
    )]
    Domain {
        /// The axis, from 1.
        axis: usize,
        /// Lower bound.
        lower: f64,
        /// Upper bound.
        upper: f64,
    },
    /// So many recurrent components that their order means nothing.
    #[error(
        "{found} recurrent components, more than {limit}: at this resolution nearly every cell is a fixed point; choose a longer lag or fewer subdivisions"
    )]
    TooManyMorseSets {
        /// Recurrent components found.
        found: usize,
        /// How many are possible.
        limit: usize,
    },
    /// So many different sets of Morse sets lie below cells that the order retraction is not sought.
    #[error(
        "the order of {sets} Morse sets is too wide for an order retraction: choose a longer lag or fewer subdivisions"
    )]
    OrderTooWide {
        /// Number of Morse sets.
        sets: usize,
    },
    /// A cell in which no pair starts, where such cells are refused.
    #[error(
        "no pair starts in the cell from {lower:?} to {upper:?}: give more pairs, choose fewer subdivisions, or allow empty cells"
    )]
    EmptyCell {
        /// Lower corner of the cell.
        lower: Vec<f64>,
        /// Upper corner of the cell.
        upper: Vec<f64>,
    },
    /// A parameter outside its range.
    #[error("parameter `{name}` is {value}: it must be {need}")]
    Parameter {
        /// The parameter.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What it must be.
        need: &'static str,
    },
    /// A fixed projection and lag are needed, and one of them is `auto`.
    #[error("projection and lag are to be scored, and one of them is `auto`: fix both")]
    LeftOpen,
    /// A covariance matrix that no rounding error explains is not positive definite.
    #[error(
        "the covariance matrix of {pairs} pairs cannot be factorised: points coincide; choose another lag or projection"
    )]
    SingularCovariance {
        /// Number of pairs.
        pairs: usize,
    },
    /// The caller raised the cancel flag.
    #[error("the analysis was cancelled")]
    Cancelled,
}
