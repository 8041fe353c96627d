//! Affine coordinates: a mean and some directions in the space of the features.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};

use crate::engine::columns::column_mut;
use crate::engine::statistics::mean;
use crate::engine::trajectories::Row;
use crate::engine::{Control, EngineError, Points};

/// Rows or coordinates that are converted to double precision at once.
pub(super) const BLOCK: usize = 512;

/// z(x) = Vᵀ(x − mean), with the directions as the columns of V.
#[derive(Clone, Debug)]
pub(super) struct Directions {
    mean: Vec<f64>,
    vectors: Mat<f64>,
}

impl Directions {
    /// Each direction is turned so that its component of largest size (the first of several) is positive.
    pub(super) fn new(mean: Vec<f64>, vectors: Mat<f64>) -> Self {
        Self { mean, vectors: oriented(vectors) }
    }

    /// Number of directions that are not zero, where those that are come last.
    pub(super) fn rank(&self) -> usize {
        self.vectors.col_iter().take_while(|column| column.squared_norm_l2() > 0.0).count()
    }

    /// Combinations of the first directions, those of each column of `weights`, of unit length where the first
    /// directions are orthonormal.
    pub(super) fn combined(&self, weights: &Mat<f64>) -> Self {
        let mut weights = weights.clone();
        normalise(&mut weights);
        let vectors = self.vectors.subcols(0, weights.nrows()) * weights;
        Self::new(self.mean.clone(), vectors)
    }

    /// The coordinates of each row along the first `count` directions.
    pub(super) fn project(
        &self,
        rows: &[&Row<'_>],
        count: usize,
        control: &Control,
    ) -> Result<Points, EngineError> {
        let mut points = Points::new(count);
        let mut point = vec![0.0; count];
        for rows in rows.chunks(BLOCK) {
            control.check()?;
            let centred = centred(rows, &self.mean, 0, self.mean.len());
            let projected = centred.transpose() * self.vectors.subcols(0, count);
            for number in 0..rows.len() {
                point.iter_mut().enumerate().for_each(|(axis, x)| *x = projected[(number, axis)]);
                points.push(&point);
            }
        }
        Ok(points)
    }
}

/// Turns each column so that its component of largest size (the first of several) is positive.
fn oriented(mut directions: Mat<f64>) -> Mat<f64> {
    for axis in 0..directions.ncols() {
        let entries = column_mut(&mut directions, axis);
        let larger = |largest: f64, x: &f64| if x.abs() > largest.abs() { *x } else { largest };
        if entries.iter().fold(0.0, larger) < 0.0 {
            for x in entries {
                *x = -*x;
            }
        }
    }
    directions
}

/// Brings each column to unit length, unless it is zero.
pub(super) fn normalise(vectors: &mut Mat<f64>) {
    for axis in 0..vectors.ncols() {
        let entries = column_mut(vectors, axis);
        let length = entries.iter().map(|x| x * x).sum::<f64>().sqrt();
        if length > 0.0 {
            for x in entries {
                *x /= length;
            }
        }
    }
}

/// Mean of the features.
pub(super) fn mean_of(rows: &[&Row<'_>]) -> Vec<f64> {
    let mut mean = vec![0.0; rows[0].width()];
    for row in rows {
        for (sum, x) in mean.iter_mut().zip(row.features(0..row.width())) {
            *sum += x;
        }
    }
    mean.iter().map(|sum| sum / rows.len() as f64).collect()
}

/// Coordinates `from..to` of the rows less their mean, one column a row.
pub(super) fn centred(rows: &[&Row<'_>], mean: &[f64], from: usize, to: usize) -> Mat<f64> {
    let mut centred = Mat::zeros(to - from, rows.len());
    for (column, row) in centred.col_iter_mut().zip(rows) {
        let values = row.features(from..to).zip(&mean[from..to]);
        for (entry, (x, mean)) in column.iter_mut().zip(values) {
            *entry = x - mean;
        }
    }
    centred
}

/// For each coordinate the share of the features' variance over these rows that follows linearly from it, beyond what
/// follows from the coordinates before it; in all the R² of the best linear reconstruction of the features.
///
/// With the coordinates' columns made orthonormal one after the other, uⱼ, and the centred features X, the shares are
/// |Xᵀuⱼ|² / |X|².
pub(super) fn explained_variance(
    rows: &[&Row<'_>],
    points: &Points,
    control: &Control,
) -> Result<Vec<f64>, EngineError> {
    let (dimension, mean) = (points.dimension(), mean_of(rows));
    let columns = orthonormal_columns(points);
    let mut along = Mat::<f64>::zeros(mean.len(), dimension);
    let mut total = 0.0;
    for (number, rows) in rows.chunks(BLOCK).enumerate() {
        control.check()?;
        let block = centred(rows, &mean, 0, mean.len());
        total += block.squared_norm_l2();
        let part = columns.subrows(number * BLOCK, rows.len());
        matmul(along.as_mut(), Accum::Add, block.as_ref(), part, 1.0, Par::Seq);
    }
    let share = |axis| if total > 0.0 { along.col(axis).squared_norm_l2() / total } else { 0.0 };
    Ok((0..dimension).map(share).collect())
}

/// The columns of the points, centred and made orthonormal one after the other; zero where nothing is left.
fn orthonormal_columns(points: &Points) -> Mat<f64> {
    let mut columns = Mat::<f64>::zeros(points.len(), points.dimension());
    for axis in 0..points.dimension() {
        let centre = mean(points.column(axis));
        let mut column: Vec<f64> = points.column(axis).map(|x| x - centre).collect();
        let length = |column: &[f64]| column.iter().map(|x| x * x).sum::<f64>().sqrt();
        let before = length(&column);
        // twice, against rounding (Giraud, Langou, Rozložník 2005)
        for earlier in (0..axis).chain(0..axis) {
            let earlier = columns.col(earlier);
            let along: f64 = earlier.iter().zip(&column).map(|(a, b)| a * b).sum();
            column.iter_mut().zip(earlier.iter()).for_each(|(x, u)| *x -= along * u);
        }
        let left = length(&column);
        if left > 1e-9 * before {
            column_mut(&mut columns, axis).iter_mut().zip(&column).for_each(|(entry, x)| *entry = x / left);
        }
    }
    columns
}
