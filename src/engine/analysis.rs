//! What goes into an analysis and what comes out: plain data, the engine's contract with the rest.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dynamics::{Classes, Existence, ReducedMorseGraph, Refinement, Tile};
use super::homology::ConleyIndex;
use super::surrogate::EmptyBox;

/// The training runs that are analysed together, as the engine sees them.
///
/// All vectors of one kind have one length over all runs: sketches are comparable, predictions are of one probe batch.
#[derive(Clone, Debug, PartialEq)]
pub struct RunSeries {
    /// The run's name.
    pub run: String,
    /// Its checkpoints, by strictly increasing step, all values finite.
    pub snapshots: Vec<Snapshot>,
    /// Spans of steps (first, last) that an alert of severity warning or above covers. What happened there is drawn, but
    /// nothing is learned from it: a pair of checkpoints whose span meets one of these takes no part in the fit, in the
    /// choice of coordinates and in the domain, since another map was at work (another learning rate, a bad batch).
    pub disturbed: Vec<(u64, u64)>,
}

/// One checkpoint of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The trainer's step.
    pub step: u64,
    /// The sketch of the weights (or the weights themselves, where the model is small).
    pub weights: Vec<f32>,
    /// The model's outputs on the probe batch, flattened, where it was evaluated.
    pub predictions: Option<Vec<f32>>,
    /// The loss on the probe batch, or the logged loss, where known.
    pub loss: Option<f64>,
}

/// What an analysis is to do. Serialised, it is part of the analysis' identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Parameters {
    /// Coordinates in which training is looked at.
    pub projection: ProjectionChoice,
    /// Number of coordinates, 1 to 5.
    pub dimension: usize,
    /// How far apart the two checkpoints of a pair are.
    pub lag: LagChoice,
    /// The map that is fitted to the pairs.
    pub surrogate: SurrogateParameters,
    /// The grid on which its dynamics are computed.
    pub grid: GridParameters,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            projection: ProjectionChoice::Auto,
            dimension: 2,
            lag: LagChoice::Auto,
            surrogate: SurrogateParameters::default(),
            grid: GridParameters::default(),
        }
    }
}

/// Which projection to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ProjectionChoice {
    /// The first that qualifies: function space (with the loss where that helps), relaxing directions (of few runs
    /// time-lagged modes), PCA, selected weights.
    Auto,
    /// PCA of the predictions on the probe batch; of their square roots where all lie between 0 and 1.
    FunctionSpace,
    /// PCA of the predictions on the probe batch, and as the last coordinate the logarithm of the loss.
    FunctionSpaceAndLoss,
    /// The directions in weight space in which runs forget where they began: least variance between the last
    /// checkpoints of the runs against that between the first.
    RelaxingDirections,
    /// The directions in weight space of largest autocorrelation from one checkpoint to the next.
    TimeLaggedModes,
    /// PCA of the weights.
    Pca,
    /// The weights of largest standard deviation over the runs' last checkpoints (Eslami et al. 2021).
    SelectedWeights,
    /// Directions in weight space drawn at random with this seed: what others must be better than.
    Random(u64),
}

/// How to pair checkpoints of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum LagChoice {
    /// The shortest at which typical motion exceeds a few cells and the map is learned.
    Auto,
    /// This many steps, within ten per cent.
    Steps(u64),
    /// One pair for each run, its first and its last checkpoint (Eslami et al. 2021).
    FirstToLast,
}

/// Parameters of the surrogate map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SurrogateParameters {
    /// What the images of cells are made from.
    pub map: MapChoice,
    /// Covariance function of the Gaussian process.
    pub kernel: Kernel,
    /// What the process falls back to far from data.
    pub prior_mean: PriorMean,
    /// How the images of cells are widened.
    pub enclosure: Enclosure,
    /// A cell is trusted where, at its corners, the standard deviation of what is learned about each coordinate (its
    /// displacement in one lag; with a zero prior mean the next point itself) is below this share of its spread in
    /// the pairs, and below nine tenths of what it would be without data. Noise of single steps does not count. Where
    /// confidence is asked for, none of the eight pairs nearest to a corner may contradict the process when it is left out.
    pub trust: f64,
}

impl Default for SurrogateParameters {
    fn default() -> Self {
        Self {
            map: MapChoice::GaussianProcess,
            kernel: Kernel::Matern52,
            prior_mean: PriorMean::Affine,
            enclosure: Enclosure::Padding,
            trust: 1.0,
        }
    }
}

/// What the images of cells are made from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum MapChoice {
    /// The Gaussian process.
    GaussianProcess,
    /// The pairs alone, without a model that says how a map behaves between them. The process still tells which
    /// coordinates have a map, how well that predicts, and where random paths lead.
    Data(DataParameters),
}

/// How boxes are sent to boxes by pairs alone, as CMGDB's `BoxMapData`: to the bounding box of the images of all pairs
/// that start in a box or near it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataParameters {
    /// What becomes of cells in which no pair starts.
    pub empty: EmptyBox,
    /// How far beyond its faces a cell sees pairs, in its own widths.
    pub reach: f64,
    /// What is added to images on each side, in widths of the cell that is mapped.
    pub padding: f64,
    /// A bound on how much longer displacements become, in the projection's units: with it images hold those of all
    /// points of a cell under any map through the pairs with this Lipschitz constant. Zero widens nothing.
    pub lipschitz: f64,
}

impl Default for DataParameters {
    fn default() -> Self {
        Self { empty: EmptyBox::Unknown, reach: 1.0, padding: 0.0, lipschitz: 0.0 }
    }
}

/// Covariance functions, each with one length scale per input and a white-noise term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Kernel {
    /// Squared exponential.
    Rbf,
    /// Matérn with smoothness 5/2.
    Matern52,
}

/// Mean of the Gaussian process before data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PriorMean {
    /// The identity plus the affine displacement that fits the pairs best: where data end, training goes on slowing
    /// down (or speeding up) as it did there, so that a fixed point just ahead of all runs is found.
    Affine,
    /// The identity plus the mean displacement: where data end, training drifts on for ever.
    Displacement,
    /// Zero, as in Eslami et al. 2021.
    Zero,
}

/// How the image of a cell is made from the images of its corners.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Enclosure {
    /// Bounding box of the corner images, one cell width added on each side.
    Padding,
    /// Bounding box of the corner images, widened so that it holds the images of all cells at once with this
    /// probability: at the corners by standard deviations, inside by a bound on how far the map bends.
    Confidence(f64),
}

/// Parameters of the grid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GridParameters {
    /// How finely the domain is cut.
    pub subdivisions: Subdivisions,
    /// What is added to the data's bounding box on each side.
    pub margin: Margin,
    /// Whether cells outside the trusted region and images outside the domain are vertices of their own.
    pub mode: Mode,
}

impl Default for GridParameters {
    fn default() -> Self {
        Self { subdivisions: Subdivisions::Uniform(14), margin: Margin::Share(0.1), mode: Mode::Full }
    }
}

/// How finely the domain is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "a number of subdivisions such as 14, or {init: 8, min: 14, max: 18, limit: 10000} for a grid that is finer where training lingers"
)]
pub enum Subdivisions {
    /// Everywhere alike: the number of times every cell is halved, axes in turn; 2 to this power cells.
    Uniform(u32),
    /// Only where the map comes back to itself.
    Adaptive(Refinement),
}

impl Subdivisions {
    /// How often cells are halved with which Morse sets are made.
    pub fn of_morse_sets(self) -> u32 {
        match self {
            Self::Uniform(subdivisions) => subdivisions,
            Self::Adaptive(refinement) => refinement.min,
        }
    }
}

/// Margin around the data.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Margin {
    /// A share of the data's width along each axis.
    Share(f64),
    /// A length in the projection's units (Eslami et al. 2021 use 0.5).
    Absolute(f64),
}

/// What happens outside the domain and the trusted region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Mode {
    /// Explicit *exit* and *unknown* vertices; a Morse set whose image meets one of them is no attractor.
    Full,
    /// Neither: minimal Morse sets are taken for attractors, as CMGDB does.
    Compatible,
}

/// What an analysis found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Analysis {
    /// The parameters that were asked for.
    pub parameters: Parameters,
    /// The coordinates that were used.
    pub projection: Projection,
    /// The lag that was used.
    pub lag: Lag,
    /// What was tried before the choice, in order; empty where nothing was to be chosen.
    pub candidates: Vec<Candidate>,
    /// The runs in these coordinates, in the order of their names.
    pub trajectories: Vec<Trajectory>,
    /// The fitted map.
    pub surrogate: Surrogate,
    /// The domain and its cells.
    pub grid: Grid,
    /// How far the picture can be trusted.
    pub quality: Quality,
    /// Recurrent components and their order.
    pub morse_graph: MorseGraph,
    /// What becomes of each cell.
    pub basins: Basins,
    /// The Morse set that organises each cell; `None` where there are so many Morse sets in so wide an order that it is
    /// not sought.
    pub retraction: Option<Retraction>,
}

/// The coordinates of an analysis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Projection {
    /// Which projection (never `Auto`).
    pub kind: ProjectionChoice,
    /// Name of each coordinate for axis labels, such as `predictions, component 1`.
    pub axes: Vec<String>,
    /// Share of variance that each coordinate explains, over all snapshots.
    pub explained_variance: Vec<f64>,
}

/// The lag of an analysis.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lag {
    /// Median distance of the two checkpoints of a pair, in steps.
    pub steps: u64,
    /// Number of pairs.
    pub pairs: usize,
    /// Number of runs that gave at least one pair.
    pub runs: usize,
}

/// One combination of projection and lag that was tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The projection.
    pub projection: ProjectionChoice,
    /// The lag in steps.
    pub lag_steps: u64,
    /// R² of the next point on runs left out, one for each coordinate, against the constant prediction.
    pub skill: Vec<f64>,
    /// R² of the displacement on runs left out, one for each coordinate, against the mean displacement.
    pub displacement_skill: Vec<f64>,
    /// Share of the error of *persistence* (the next point is this point) that the surrogate removes.
    pub skill_over_persistence: f64,
    /// The errors behind these figures.
    pub errors: Errors,
    /// Typical motion in one lag, in cells, along the most moving axis.
    pub motion_cells: f64,
    /// Rank correlation (absolute) of the loss with its best prediction from the coordinates, where losses are known.
    pub loss_correlation: Option<f64>,
    /// Whether it was good enough.
    pub qualifies: bool,
    /// If not, why, in plain words.
    pub reason: String,
}

/// Root mean square errors of the next point on runs left out, over all coordinates, each in units of its spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Errors {
    /// Of the surrogate.
    pub surrogate: f64,
    /// Of *persistence*: the next point is this point.
    pub persistence: f64,
    /// Of the *constant*: the next point is the mean of all next points.
    pub constant: f64,
}

impl Errors {
    /// Share of the squared error of the better of both baselines that the surrogate removes.
    pub fn skill(&self) -> f64 {
        1.0 - (self.surrogate / self.persistence.min(self.constant)).powi(2)
    }
}

/// A run in the coordinates of an analysis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trajectory {
    /// The run's name.
    pub run: String,
    /// Steps of its checkpoints.
    pub steps: Vec<u64>,
    /// The projected checkpoints, `dimension` numbers each.
    pub points: Vec<Vec<f64>>,
    /// Loss at each checkpoint, where known.
    pub losses: Vec<Option<f64>>,
    /// The Morse set in which each point lies, if any.
    pub morse_sets: Vec<Option<usize>>,
}

/// The fitted map: hyperparameters of each output's Gaussian process, on standardised inputs and outputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Surrogate {
    /// The covariance function.
    pub kernel: Kernel,
    /// One for each output coordinate.
    pub outputs: Vec<Hyperparameters>,
    /// Factor of the standard deviation by which corner images are widened, where confidence was asked for; in places
    /// where pairs left out speak against the process they are widened by more.
    pub widening: Option<f64>,
    /// What is added to this on each side of an image along each coordinate, for how far the map bends inside a cell,
    /// where confidence was asked for; in the projection's units.
    pub bending: Option<Vec<f64>>,
    /// Number of pairs from which the map was learned.
    pub pairs: usize,
    /// Number of pairs by which it is represented. With few pairs that is all of them, and the process is exact; with
    /// many, the process is projected onto the span of these (Nyström), which still learns from all.
    pub centres: usize,
    /// Largest share of the signal's variance at any pair that this span does not hold; zero where exact.
    pub neglected_variance: f64,
}

/// Hyperparameters of one Gaussian process, on standardised scales.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hyperparameters {
    /// Length scale along each input.
    pub length_scales: Vec<f64>,
    /// Variance of the signal.
    pub signal_variance: f64,
    /// Variance of the noise.
    pub noise_variance: f64,
    /// Log marginal likelihood (nats).
    pub log_marginal_likelihood: f64,
}

/// The domain and its cells.
///
/// A cell is an index in `0..cells`. On one level cells are numbered row by row (the last axis varies fastest), which
/// gives each its *key*; those that belong to the grid are numbered level by level, the shallowest first, by key.
/// [`Places`](super::Places) finds them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// Lower corner of the domain.
    pub lower: Vec<f64>,
    /// Upper corner of the domain.
    pub upper: Vec<f64>,
    /// Number of cells along each axis, on the deepest level on which there are any.
    pub cells_per_axis: Vec<usize>,
    /// Number of cells.
    pub cells: usize,
    /// Number of edges of the multivalued map, exit and unknown not counted.
    pub edges: u64,
    /// The levels on which cells lie, the shallowest first; a uniform grid has one, with all its cells.
    pub levels: Vec<GridLevel>,
}

/// The cells of a grid that lie on one level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GridLevel {
    /// How often the domain is halved, axes in turn.
    pub subdivisions: u32,
    /// Number of cells along each axis, if all were there.
    pub cells_per_axis: Vec<usize>,
    /// Keys of those that belong to the grid, as runs (first, length), sorted.
    pub keys: Vec<(usize, usize)>,
}

/// How far an analysis can be trusted.
///
/// All figures of prediction are of whole runs left out: of runs that took no part in the choice of coordinates and
/// lag, where that was automatic and there are runs enough, else of each run in turn (or of each of ten sets of runs);
/// with a single run, of parts of it in turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Share of variance that the projection explains, in all.
    pub explained_variance: f64,
    /// R² of the next point against the constant prediction, for each coordinate.
    pub skill: Vec<f64>,
    /// R² of the displacement, for each coordinate.
    pub displacement_skill: Vec<f64>,
    /// Share of the squared error of persistence that the surrogate removes.
    pub skill_over_persistence: f64,
    /// Mean negative log predictive density of the next point, in nats per coordinate.
    pub negative_log_predictive_density: f64,
    /// Nominal coverage at which calibration was taken.
    pub nominal_coverage: f64,
    /// Share of left-out coordinates inside their interval of that coverage.
    pub coverage: f64,
    /// Share of trajectory points whose cell is trusted.
    pub trusted_points: f64,
    /// Share of the domain's volume that lies in trusted cells.
    pub trusted_cells: f64,
    /// Probability with which the enclosures hold the images of all trusted cells at once, where confidence was asked
    /// for; given the kernel, the hyperparameters and the projection. It speaks of the map that noisy steps follow on
    /// average, not of single steps.
    pub confidence: Option<f64>,
    /// Number of runs on which the figures of prediction were taken.
    pub assessed_runs: usize,
    /// Checkpoints that were left out.
    pub left_out: LeftOut,
    /// Why the analysis is of low confidence, in plain words; empty where it is not.
    pub low_confidence: Vec<String>,
}

/// Checkpoints that took no part in fitting and in the domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Without predictions, where the coordinates are made from these; they are not drawn either.
    pub without_predictions: usize,
    /// Without a loss whose logarithm can be taken, where that is a coordinate; they are not drawn either.
    pub without_loss: usize,
    /// More than four times as far from the middle as the median run ever gets: runs that diverged.
    pub far: usize,
    /// Covered by an alert.
    pub disturbed: usize,
}

/// The Morse graph: recurrent components and the Hasse diagram of reachability among them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MorseGraph {
    /// The Morse sets, by smallest cell.
    pub sets: Vec<MorseSet>,
    /// Pairs (from, to) of the transitive reduction, sorted: the second can be reached from the first.
    pub edges: Vec<(usize, usize)>,
    /// The same without the sets of trivial Conley index, which may hold nothing: the picture that is shown.
    pub reduced: ReducedMorseGraph,
}

/// A recurrent component.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MorseSet {
    /// Its cells as runs (first cell, length), sorted.
    pub cells: Vec<(usize, usize)>,
    /// Number of its cells.
    pub size: usize,
    /// Share of the domain's volume.
    pub volume_share: f64,
    /// Lower corner of its bounding box.
    pub lower: Vec<f64>,
    /// Upper corner of its bounding box.
    pub upper: Vec<f64>,
    /// Its place in the dynamics.
    pub role: Role,
    /// Its Conley index over the field of five elements: whether it is sure to hold something, and what that is like.
    pub conley_index: ConleyIndex,
    /// Loss at the checkpoints inside, where known.
    pub loss: Option<LossSummary>,
    /// Which runs were inside, and when, by run.
    pub visits: Vec<Visit>,
}

/// Place of a Morse set in the dynamics of the multivalued map F.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// F(M) ⊂ M: what enters never leaves.
    Attractor,
    /// Minimal, but its image meets *exit* or *unknown*: nobody knows whether it holds.
    Open,
    /// F⁻¹(M) ⊂ M, and something below: nothing comes back to it.
    Repeller,
    /// Neither: passed through.
    Intermediate,
}

/// Loss over a set of checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossSummary {
    /// Smallest.
    pub min: f64,
    /// Median.
    pub median: f64,
    /// Number of checkpoints with a known loss.
    pub count: usize,
}

/// A run's stay in a Morse set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visit {
    /// The run's name.
    pub run: String,
    /// Number of its checkpoints inside.
    pub checkpoints: usize,
    /// Step of the first of them.
    pub first_step: u64,
    /// Step of the last of them.
    pub last_step: u64,
    /// Whether the run's last checkpoint lies inside.
    pub ends_here: bool,
}

/// What becomes of the cells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Basins {
    /// Fate of each cell in the order of cells, as runs (fate, length).
    pub fates: Vec<(Fate, usize)>,
    /// For each attractor, (Morse set, cells of its certain basin, cells of its singleton basin).
    pub sizes: Vec<(usize, usize, usize)>,
    /// For each run, where its last point can go.
    pub outlook: Vec<Outlook>,
}

/// The order retraction onto the reduced Morse graph: each cell is given to a Morse set that is not of trivial index, or to
/// *exit* and *unknown* as one, such that what a cell can reach is given to the same or to what lies below.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Retraction {
    /// Whether there is one.
    pub existence: Existence,
    /// Strongly connected components by what was left to choose for them.
    pub classes: Classes,
    /// Tile of each cell in the order of cells, as runs (tile, length).
    pub tiles: Vec<(Tile, usize)>,
    /// The tile of each Morse set; empty for those of trivial index.
    pub sets: Vec<Extent>,
    /// The cells that are given to *exit* and *unknown*.
    pub escape: Extent,
    /// The cells that are given to nothing: none where there is a retraction.
    pub uncoloured: Extent,
}

/// How large a set of cells is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Extent {
    /// Number of cells.
    pub cells: usize,
    /// Share of the domain's volume.
    pub volume_share: f64,
}

/// What the multivalued map says of a cell's future.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Every Morse set that can be reached is this attractor or lies above it alone: paths may linger, but end there.
    Certain(usize),
    /// Several attractors can be reached.
    Undecided,
    /// The domain or the trusted region can be left.
    Escapes,
    /// The surrogate is not trusted here.
    Untrusted,
}

/// Where a run can go from its last point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outlook {
    /// The run's name.
    pub run: String,
    /// Fate of the cell of its last point; `None` outside the domain.
    pub fate: Option<Fate>,
    /// Morse sets that can be reached from there.
    pub reachable: Vec<usize>,
    /// Where random paths of the surrogate lead from there.
    pub forecast: Forecast,
}

/// Where random paths of the surrogate lead from a point.
///
/// Each path follows a map of its own, drawn from those that the pairs allow, and each step has the noise that single
/// steps have. It ends where it comes to an attractor: in one of its cells, or in its certain basin within two standard
/// deviations of the noise from its bounding box, since noise keeps a run that has arrived moving about. Seeds are fixed.
/// It takes for granted what the surrogate takes for granted: that the noise of one step says nothing of the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// Number of paths.
    pub paths: usize,
    /// Lags after which a path that has come nowhere is given up.
    pub horizon: usize,
    /// The ends that paths came to, attractors by number first.
    pub ends: Vec<Ending>,
}

/// An end of paths.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ending {
    /// Where.
    pub end: End,
    /// Number of paths.
    pub paths: usize,
    /// Share of the paths.
    pub probability: f64,
    /// Standard error of this probability, not zero where all or none came here (Agresti and Coull 1998: of the share
    /// with two more paths that did and two that did not).
    pub standard_error: f64,
    /// Mean number of lags until then.
    pub lags: f64,
    /// Mean loss to expect there, from the nearest checkpoints; where losses are known.
    pub loss: Option<f64>,
}

/// Where a path can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// At this attractor.
    Attractor(usize),
    /// Outside the domain.
    Exit,
    /// Where the surrogate is not trusted.
    Unknown,
    /// Nowhere within the horizon.
    Undecided,
}
