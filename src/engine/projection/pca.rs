//! Principal components.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par, Side};

use super::directions::{BLOCK, Directions, centred, mean_of};
use crate::engine::random::spread_sample;
use crate::engine::trajectories::Row;
use crate::engine::{Control, EngineError};

/// Largest matrix whose eigenvectors are taken. With more snapshots than this, and more coordinates, the components are
/// those of a sample of the snapshots, spread over runs and steps.
const LARGEST: usize = 1024;

/// A component of less than this share of the largest variance is rounding.
const NEGLIGIBLE: f64 = 1e-12;

/// The `count` directions of largest variance of some rows: orthonormal, those without variance zero.
///
/// Of N rows with P coordinates, by the eigenvectors of the smaller of the P × P covariance and the N × N matrix of
/// inner products.
///
/// # Errors
/// [`EngineError::Cancelled`].
pub(super) fn principal_components(
    rows: &[&Row<'_>],
    count: usize,
    control: &Control,
) -> Result<Directions, EngineError> {
    let mean = mean_of(rows);
    let sample = if rows.len().min(mean.len()) <= LARGEST {
        rows.to_vec()
    } else {
        spread_sample(rows.len(), LARGEST, 0).into_iter().map(|i| rows[i]).collect()
    };
    let vectors = if mean.len() <= sample.len() {
        by_covariance(&sample, &mean, count, control)?
    } else {
        by_inner_products(&sample, &mean, count, control)?
    };
    Ok(Directions::new(mean, vectors))
}

/// Directions as columns, from `XᵀX`.
fn by_covariance(
    rows: &[&Row<'_>],
    mean: &[f64],
    dimension: usize,
    control: &Control,
) -> Result<Mat<f64>, EngineError> {
    let p = mean.len();
    let mut covariance = Mat::<f64>::zeros(p, p);
    for rows in rows.chunks(BLOCK) {
        control.check()?;
        let block = centred(rows, mean, 0, p);
        matmul(covariance.as_mut(), Accum::Add, block.as_ref(), block.transpose(), 1.0, Par::Seq);
    }
    let (vectors, _) = leading_eigenvectors(&covariance, dimension);
    Ok(vectors)
}

/// Directions as columns, from `XXᵀ`: if it has the eigenvector u and the eigenvalue λ, the direction is Xᵀu/√λ.
fn by_inner_products(
    rows: &[&Row<'_>],
    mean: &[f64],
    dimension: usize,
    control: &Control,
) -> Result<Mat<f64>, EngineError> {
    let (n, p) = (rows.len(), mean.len());
    let blocks = || (0..p).step_by(BLOCK).map(|from| (from, (from + BLOCK).min(p)));
    let mut products = Mat::<f64>::zeros(n, n);
    for (from, to) in blocks() {
        control.check()?;
        let block = centred(rows, mean, from, to);
        matmul(products.as_mut(), Accum::Add, block.transpose(), block.as_ref(), 1.0, Par::Seq);
    }
    let (vectors, values) = leading_eigenvectors(&products, dimension);
    let scaled = Mat::from_fn(n, dimension, |i, axis| {
        if values[axis] > 0.0 { vectors[(i, axis)] / values[axis].sqrt() } else { 0.0 }
    });
    let mut directions = Mat::zeros(p, dimension);
    for (from, to) in blocks() {
        let block = centred(rows, mean, from, to);
        let part = directions.as_mut().subrows_mut(from, to - from);
        matmul(part, Accum::Replace, block.as_ref(), scaled.as_ref(), 1.0, Par::Seq);
    }
    Ok(directions)
}

/// The eigenvectors of the largest eigenvalues, with these; zero where there are none or only rounding.
fn leading_eigenvectors(matrix: &Mat<f64>, count: usize) -> (Mat<f64>, Vec<f64>) {
    let n = matrix.nrows();
    let Ok(eigen) = matrix.self_adjoint_eigen(Side::Lower) else {
        return (Mat::zeros(n, count), vec![0.0; count]);
    };
    let largest = eigen.S()[n - 1];
    let value = |rank: usize| {
        let value = if rank < n { eigen.S()[n - 1 - rank] } else { 0.0 };
        if value > NEGLIGIBLE * largest { value } else { 0.0 }
    };
    let values: Vec<f64> = (0..count).map(value).collect();
    let vectors =
        Mat::from_fn(n, count, |i, rank| if values[rank] > 0.0 { eigen.U()[(i, n - 1 - rank)] } else { 0.0 });
    (vectors, values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::projection::directions::explained_variance;
    use crate::engine::random::Random;
    use crate::engine::trajectories::{Features, Group};
    use crate::engine::{Points, RunSeries, Snapshot};

    /// `count` points in `p` dimensions: 3 along one direction, 1 along another, little else.
    fn cloud(count: usize, p: usize) -> Vec<RunSeries> {
        let mut random = Random::new(5);
        let mut normal = || (0..12).map(|_| random.uniform()).sum::<f64>() - 6.0;
        let snapshots = (0..count as u64)
            .map(|step| {
                let (a, b) = (3.0 * normal(), normal());
                let weight = |i: usize| match i {
                    0 => -a * 0.6,
                    1 => a * 0.8,
                    2 => b + 7.0,
                    _ => 0.0,
                };
                let weights = (0..p).map(|i| (weight(i) + 0.01 * normal()) as f32).collect();
                Snapshot { step, weights, predictions: None, loss: None }
            })
            .collect();
        vec![RunSeries { run: "r".into(), snapshots, disturbed: Vec::new() }]
    }

    /// Points, and the share of variance along each component.
    fn components(runs: &[RunSeries]) -> (Points, Vec<f64>) {
        let (rows, control) =
            (Group::new(runs).unwrap().rows(Features::Weights).unwrap(), Control::default());
        let rows: Vec<&Row<'_>> = rows.rows.iter().collect();
        let points = principal_components(&rows, 2, &control).unwrap().project(&rows, 2, &control).unwrap();
        let explained = explained_variance(&rows, &points, &control).unwrap();
        (points, explained)
    }

    #[test]
    fn both_ways_find_the_directions_of_largest_variance() {
        for (count, p) in [(200, 5), (40, 60)] {
            let runs = cloud(count, p);
            let (points, explained) = components(&runs);
            assert!((explained[0] - 0.9).abs() < 0.05, "{explained:?}");
            assert!(explained.iter().sum::<f64>() > 0.99);
            // the first direction is (−0.6, 0.8, 0, …), turned so that 0.8 is positive; the second is the third weight
            let mean = |i: usize| {
                runs[0].snapshots.iter().map(|s| f64::from(s.weights[i])).sum::<f64>() / count as f64
            };
            let means = [mean(0), mean(1), mean(2)];
            for (snapshot, point) in runs[0].snapshots.iter().zip(points.rows()) {
                let w = |i: usize| f64::from(snapshot.weights[i]) - means[i];
                assert!((point[0] - (0.8 * w(1) - 0.6 * w(0))).abs() < 0.2);
                assert!((point[1] - w(2)).abs() < 0.5);
            }
        }
    }

    #[test]
    fn a_sample_serves_where_both_sides_are_large() {
        let runs = cloud(LARGEST + 200, LARGEST + 100);
        let (points, explained) = components(&runs);
        assert_eq!(points.len(), LARGEST + 200);
        assert!((explained[0] - 0.9).abs() < 0.05);
    }

    #[test]
    fn a_component_without_variance_is_flat() {
        let snapshot = |step: u64| Snapshot {
            step,
            weights: vec![step as f32, 1.0, 2.0],
            predictions: None,
            loss: None,
        };
        let runs = vec![RunSeries {
            run: "r".into(),
            snapshots: (0..2).map(snapshot).collect(),
            disturbed: Vec::new(),
        }];
        let (points, explained) = components(&runs);
        assert!((explained[0] - 1.0).abs() < 1e-12 && explained[1] == 0.0, "{explained:?}");
        assert!(points.column(1).all(|x| x == 0.0));
    }
}
