//! Coordinates of mean zero and spread one, and trends taken out.

use faer::linalg::solvers::{Llt, Solve as _};
use faer::{Mat, Side};

use crate::engine::Points;
use crate::engine::statistics::{mean, standard_deviation};

/// Shift and scale of each coordinate.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Standardisation {
    pub(super) shift: Vec<f64>,
    pub(super) scale: Vec<f64>,
}

impl Standardisation {
    /// Brings these points to mean zero and standard deviation one; a constant coordinate keeps its scale.
    pub(super) fn of(points: &Points) -> Self {
        let axes = 0..points.dimension();
        let shift = axes.clone().map(|axis| mean(points.column(axis))).collect();
        let scale = axes
            .map(|axis| standard_deviation(points.column(axis)))
            .map(|spread| if spread > 0.0 { spread } else { 1.0 })
            .collect();
        Self { shift, scale }
    }

    /// Leaves points as they are.
    pub(super) fn identity(dimension: usize) -> Self {
        Self { shift: vec![0.0; dimension], scale: vec![1.0; dimension] }
    }

    pub(super) fn apply(&self, points: &Points) -> Points {
        let rows = points.rows().map(|row| {
            let scaled =
                row.iter().zip(&self.shift).zip(&self.scale).map(|((x, shift), scale)| (x - shift) / scale);
            scaled.collect::<Vec<f64>>()
        });
        Points::from_rows(points.dimension(), rows)
    }
}

/// An affine function of a standardised point.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trend {
    constant: f64,
    slopes: Vec<f64>,
}

/// Pairs for each coefficient below which no slope is estimated.
const PAIRS_PER_SLOPE: usize = 5;

impl Trend {
    pub(super) fn zero(dimension: usize) -> Self {
        Self { constant: 0.0, slopes: vec![0.0; dimension] }
    }

    /// The mean of the values.
    pub(super) fn constant(dimension: usize, values: &[f64]) -> Self {
        Self { constant: mean(values.iter().copied()), ..Self::zero(dimension) }
    }

    /// The least-squares fit; with few values only their mean.
    pub(super) fn affine(inputs: &Points, values: &[f64]) -> Self {
        let dimension = inputs.dimension();
        let flat = Self::constant(dimension, values);
        if inputs.len() < PAIRS_PER_SLOPE * (dimension + 1) {
            return flat;
        }
        let design = Mat::from_fn(inputs.len(), dimension, |i, axis| inputs.row(i)[axis]);
        // inputs are standardised, so that the constant is the mean and this matrix has ones on its diagonal
        let mut gram = design.transpose() * &design / inputs.len() as f64;
        for axis in 0..dimension {
            gram[(axis, axis)] += 1e-9;
        }
        let values = Mat::from_fn(inputs.len(), 1, |i, _| values[i] - flat.constant);
        let moments = design.transpose() * values / inputs.len() as f64;
        match Llt::new(gram.as_ref(), Side::Lower) {
            Ok(factor) => Self { slopes: factor.solve(&moments).col(0).iter().copied().collect(), ..flat },
            Err(_) => flat,
        }
    }

    pub(super) fn at(&self, point: &[f64]) -> f64 {
        self.constant + self.slopes.iter().zip(point).map(|(slope, x)| slope * x).sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_points_have_mean_zero_and_spread_one() {
        let points = Points::from_rows(2, [[1.0, 5.0], [3.0, 5.0]]);
        assert_eq!(
            Standardisation::of(&points).apply(&points),
            Points::from_rows(2, [[-1.0, 0.0], [1.0, 0.0]])
        );
    }

    #[test]
    fn an_affine_trend_is_found_where_there_are_points_enough() {
        let rows = (0..20).map(|i| [f64::from(i), f64::from(i * i % 7)]);
        let points = Points::from_rows(2, rows);
        let inputs = Standardisation::of(&points).apply(&points);
        let values: Vec<f64> = inputs.rows().map(|x| 3.0 - 2.0 * x[0] + 0.5 * x[1]).collect();
        let trend = Trend::affine(&inputs, &values);
        assert!((trend.at(&[10.0, -4.0]) - (3.0 - 20.0 - 2.0)).abs() < 1e-6);
        let few = Trend::affine(&inputs.select(&[0, 1, 2]), &values[..3]);
        assert_eq!(few.slopes, [0.0, 0.0]);
    }
}
