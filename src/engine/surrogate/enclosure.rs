//! Boxes that hold the images of cells.
//!
//! # With confidence
//!
//! Let f be the process given the data, m its mean, s its standard deviation, and r = f − m. The budget 1 − μ of error
//! is halved.
//!
//! *Corners.* |r(v)| ≤ κ s(v) at all V corners v in all d coordinates at once with probability 1 − (1 − μ)/2, by the
//! union bound, if a standard normal variable exceeds κ with probability (1 − μ)/(4 V d).
//!
//! *Inside.* The hull of a cell's corner images holds the multilinear interpolation If of f. So it is enough to bound
//! |f − If| ≤ |m − Im| + |r − Ir|. Let D be the standard deviation of ∂ⱼⱼf before data (√3 σ/ℓⱼ² or √25 σ/ℓⱼ² for the
//! two kernels), and w the width of cells along axis j.
//!
//! - |m − Im| ≤ Σⱼ (w²/8) sup |∂ⱼⱼm|, and |∂ⱼⱼm| ≤ ‖m‖ D, since ∂ⱼⱼ is a linear functional on the kernel's space of
//!   functions, of norm D.
//! - Halve all cells along each axis in turn, again and again. A new vertex lies in the middle between two old ones at
//!   distance h = w/2ˡ at level l, and r there differs from their mean by a normal variable, of standard deviation at
//!   most (h²/2) D before data and no more after. The union bound over the new vertices of level l, with the share
//!   2⁻ˡ of the other half of the budget, gives κₗ; so |r − Ir| ≤ Σₗ Σⱼ κₗ (w²/4ˡ/2) D on a dense set, and by
//!   continuity everywhere.
//!
//! The images of boxes are widened by the sum of both. All is conditional on kernel and hyperparameters; the processes
//! of different coordinates need not be independent.

use super::FittedMap;
use super::gaussian_process::Batch;
use crate::engine::Control;
use crate::engine::dynamics::{CornerImages, Corners, Lattice};
use crate::engine::grid::{MAX_DIMENSION, UniformGrid};
use crate::engine::statistics::normal_upper_quantile;

/// Levels of refinement after which the rest of the sum is smaller than rounding.
const LEVELS: i32 = 40;

/// Where the standard deviation is more than this share of what it would be without data, the pairs say next to
/// nothing, and what the map does is the prior's invention, however sure the prior is of itself.
const UNINFORMED: f64 = 0.9;

/// The fitted map at corners of cells: intervals around its mean, and whether it is trusted there.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Enclosing<'a> {
    map: &'a FittedMap,
    /// Half the length of the intervals in standard deviations.
    widening: f64,
    /// Largest trusted standard deviation, as a share of the spread of what is learned.
    trust: f64,
}

impl<'a> Enclosing<'a> {
    pub(in crate::engine) fn new(map: &'a FittedMap, widening: f64, trust: f64) -> Self {
        Self { map, widening, trust }
    }
}

/// The factor κ of standard deviations for the corners, and what is added for the inside of cells along each axis, so
/// that both hold with this probability.
pub(in crate::engine) fn simultaneous(
    map: &FittedMap,
    grid: &UniformGrid,
    probability: f64,
) -> (f64, Vec<f64>) {
    let dimension = grid.dimension();
    let half = (1.0 - probability) / 2.0;
    let vertices = |level: i32| -> f64 {
        (0..dimension).map(|axis| f64::from(grid.cells_along(axis)) * 2f64.powi(level) + 1.0).product()
    };
    let quantile = |budget: f64, values: f64| normal_upper_quantile(budget / (2.0 * values));
    let corners = quantile(half, vertices(0) * dimension as f64);
    // Σₗ κₗ/4ˡ/2; all new vertices of a level, whichever axis they came by, in all coordinates
    let refinement: f64 = (1..=LEVELS)
        .map(|level| {
            let values = vertices(level) * (dimension * dimension) as f64;
            quantile(half * 2f64.powi(-level), values) * 4f64.powi(-level) / 2.0
        })
        .sum();
    let inside = |output: usize| {
        let (process, column) = map.process(output);
        let hyperparameters = process.hyperparameters();
        let curvature = (process.kernel().curvature_variance() * hyperparameters.signal_variance).sqrt();
        let by_axis = (0..dimension).map(|axis| {
            let (input_scale, _) = map.scales(axis);
            let width = grid.cell_width(axis) / input_scale / hyperparameters.length_scales[axis];
            curvature * width * width * (process.norms()[column] / 8.0 + refinement)
        });
        by_axis.sum::<f64>() * map.scales(output).1
    };
    (corners, (0..dimension).map(inside).collect())
}

impl Corners for Enclosing<'_> {
    fn images(&self, points: &Lattice<'_>, images: CornerImages<'_>, control: &Control) {
        let map = self.map;
        let dimension = map.dimension();
        let mut batches: Vec<Batch<'_>> = map.processes().iter().map(super::GaussianProcess::batch).collect();
        let shared = batches.len() == 1;
        let mut raw = [0.0; MAX_DIMENSION];
        let mut standard = vec![0.0; Batch::SIZE * dimension];
        for first in (0..points.len()).step_by(Batch::SIZE) {
            if control.check().is_err() {
                return;
            }
            let count = Batch::SIZE.min(points.len() - first);
            for number in 0..count {
                points.point(first + number, &mut raw[..dimension]);
                map.standardise(&raw, &mut standard[number * dimension..(number + 1) * dimension]);
            }
            for batch in &mut batches {
                batch.predict(standard[..count * dimension].chunks_exact(dimension));
            }
            for number in 0..count {
                let at = first + number;
                points.point(at, &mut raw[..dimension]);
                let scaled = &standard[number * dimension..(number + 1) * dimension];
                for axis in 0..dimension {
                    let (batch, output) = if shared { (&batches[0], axis) } else { (&batches[axis], 0) };
                    let deviation = batch.variance(number).sqrt() * map.scales(axis).1;
                    let mean = map.next(axis, &raw, scaled, batch.mean(number, output));
                    images.lower[at * dimension + axis] = mean - self.widening * deviation;
                    images.upper[at * dimension + axis] = mean + self.widening * deviation;
                    let known = deviation <= self.trust * map.spread(axis);
                    let informed = deviation <= UNINFORMED * map.deviation_before_data(axis);
                    images.trusted[at] &= known && informed;
                }
            }
        }
    }
}
