//! What is good enough: the limits by which coordinates and lags are chosen and an analysis is called of low
//! confidence. Reports name them beside the figures.

/// Least R² of the next point and of the displacement, of every coordinate, against a constant, for coordinates and a lag to qualify.
pub const LEAST_SKILL: f64 = 0.5;

/// Least share of the squared error of persistence that must be removed for coordinates and a lag to qualify.
pub const LEAST_SKILL_OVER_PERSISTENCE: f64 = 0.5;

/// Least motion in one lag, in cells, for coordinates and a lag to qualify. The image of a cell is up to four cells wide (its
/// own width, one cell on each side, one by rounding): where runs move by more than that, a typical cell meets neither its own
/// image nor that of a neighbour. Where they move by less, cells recur only because they are seen through a coarse grid.
pub const LEAST_MOTION: f64 = 5.0;

/// What the logarithm of the loss must add to the skill of function space, where that is good enough without it.
pub const LEAST_GAIN: f64 = 0.05;

/// Least rank correlation of the loss with what the coordinates tell of it, for coordinates and a lag to qualify.
pub const LEAST_LOSS_CORRELATION: f64 = 0.5;

/// With fewer runs nothing is known of new ones, and confidence is low.
pub const FEW_RUNS: usize = 3;

/// With fewer pairs for each coordinate confidence is low.
pub const FEW_PAIRS: usize = 20;

/// With less R² of the next point, of any coordinate, confidence is low.
pub const DOUBTFUL_SKILL: f64 = 0.3;

/// With a smaller share of the squared error of persistence removed confidence is low.
pub const DOUBTFUL_SKILL_OVER_PERSISTENCE: f64 = 0.3;

/// With a coverage that falls short of the nominal one by more than this confidence is low.
pub const DOUBTFUL_COVERAGE_GAP: f64 = 0.15;

/// With a smaller share of the checkpoints on trusted cells confidence is low.
pub const DOUBTFUL_TRUSTED_POINTS: f64 = 0.5;

/// More than this share of the signal's variance left out by the centres of a projected process, and the map is not what
/// the pairs say.
pub const MUCH_NEGLECTED: f64 = 0.05;
