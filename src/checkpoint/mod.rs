//! Checkpoints: files in which a trainer leaves a model's weights, read safely and reduced to what is needed.

use serde::{Deserialize, Serialize};

/// Exact statistics of one tensor's finite elements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorStatistics {
    /// The parameter's name, without wrapper prefixes.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Euclidean norm.
    pub norm: f64,
    /// Mean.
    pub mean: f64,
    /// Variance (population).
    pub variance: f64,
    /// Smallest element; 0 where there is none.
    pub min: f64,
    /// Largest element; 0 where there is none.
    pub max: f64,
    /// Number of elements that are zero.
    pub zeros: u64,
    /// Number of elements that are NaN or infinite.
    pub nonfinite: u64,
    /// A small linear sketch of this tensor alone, so that the movement of each layer can be told: exact for tensors of
    /// no more elements than its length.
    pub sketch: Vec<f32>,
}
