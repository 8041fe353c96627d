//! Principal components.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par, Side};

use super::Linear;
use crate::engine::random::spread_sample;
use crate::engine::trajectories::{Features, Row, Rows};
use crate::engine::{Control, EngineError, Points};

/// Largest matrix whose eigenvectors are taken. With more snapshots than this, and more coordinates, the components are
/// those of a sample of the snapshots, spread over runs and steps.
const LARGEST: usize = 1024;

/// Rows or coordinates that are converted to double precision at once.
const BLOCK: usize = 512;

/// A component of less than this share of the largest variance is rounding.
const NEGLIGIBLE: f64 = 1e-12;

/// Projects all rows on the `dimension` directions of largest variance of those that may be learned from.
///
/// Of N rows with P coordinates, by the eigenvectors of the smaller of the P × P covariance and the N × N matrix of
/// inner products. A direction points to where its largest component is positive.
///
/// # Errors
/// [`EngineError::TooFewCoordinates`], [`EngineError::Cancelled`].
pub(super) fn principal_components(
    rows: &Rows<'_>,
    kind: Features,
    dimension: usize,
    control: &Control,
) -> Result<Linear, EngineError> {
    let usable: Vec<&Row<'_>> = rows.rows.iter().filter(|row| row.usable).collect();
    let available = usable[0].features.len();
    if available < dimension {
        return Err(EngineError::TooFewCoordinates { dimension, available, what: kind.name() });
    }
    let mean = mean_of(&usable);
    let sample = if usable.len().min(available) <= LARGEST {
        usable.clone()
    } else {
        spread_sample(usable.len(), LARGEST, 0).into_iter().map(|i| usable[i]).collect()
    };
    let directions = if available <= sample.len() {
        by_covariance(&sample, &mean, dimension, control)?
    } else {
        by_inner_products(&sample, &mean, dimension, control)?
    };

    let mut points = Points::new(dimension);
    let (mut along, mut total) = (vec![0.0; dimension], 0.0);
    for rows in rows.rows.chunks(BLOCK) {
        control.check()?;
        let references: Vec<&Row<'_>> = rows.iter().collect();
        let centred = centred(&references, &mean, 0, available);
        let projected = centred.transpose() * &directions;
        for (number, row) in rows.iter().enumerate() {
            let point: Vec<f64> = (0..dimension).map(|axis| projected[(number, axis)]).collect();
            if row.usable {
                total += centred.col(number).squared_norm_l2();
                along.iter_mut().zip(&point).for_each(|(sum, x)| *sum += x * x);
            }
            points.push(&point);
        }
    }
    Ok(Linear {
        points,
        axes: (1..=dimension).map(|number| format!("{}, component {number}", kind.name())).collect(),
        explained_variance: along.iter().map(|sum| if total > 0.0 { sum / total } else { 0.0 }).collect(),
    })
}

fn mean_of(rows: &[&Row<'_>]) -> Vec<f64> {
    let mut mean = vec![0.0; rows[0].features.len()];
    for row in rows {
        for (sum, &x) in mean.iter_mut().zip(row.features) {
            *sum += f64::from(x);
        }
    }
    mean.iter().map(|sum| sum / rows.len() as f64).collect()
}

/// Coordinates `from..to` of the rows less their mean, one column a row.
fn centred(rows: &[&Row<'_>], mean: &[f64], from: usize, to: usize) -> Mat<f64> {
    let mut centred = Mat::zeros(to - from, rows.len());
    for (column, row) in centred.col_iter_mut().zip(rows) {
        let values = row.features[from..to].iter().zip(&mean[from..to]);
        for (entry, (&x, mean)) in column.iter_mut().zip(values) {
            *entry = f64::from(x) - mean;
        }
    }
    centred
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
    Ok(oriented(vectors))
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
    Ok(oriented(directions))
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

/// Turns each column so that its component of largest size (the first of several) is positive.
fn oriented(mut directions: Mat<f64>) -> Mat<f64> {
    for axis in 0..directions.ncols() {
        let column = directions.col(axis);
        let largest =
            column.iter().fold(0.0f64, |largest, x| if x.abs() > largest.abs() { *x } else { largest });
        if largest < 0.0 {
            directions.col_mut(axis).iter_mut().for_each(|x| *x = -*x);
        }
    }
    directions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::random::Random;
    use crate::engine::trajectories::Group;
    use crate::engine::{RunSeries, Snapshot};

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

    fn components(runs: &[RunSeries]) -> Linear {
        let rows = Group::new(runs).unwrap().rows(Features::Weights).unwrap();
        principal_components(&rows, Features::Weights, 2, &Control::default()).unwrap()
    }

    #[test]
    fn both_ways_find_the_directions_of_largest_variance() {
        for (count, p) in [(200, 5), (40, 60)] {
            let runs = cloud(count, p);
            let Linear { points, explained_variance, axes } = components(&runs);
            assert_eq!(axes, ["weights, component 1", "weights, component 2"]);
            assert!((explained_variance[0] - 0.9).abs() < 0.05, "{explained_variance:?}");
            assert!(explained_variance.iter().sum::<f64>() > 0.99);
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
        let Linear { points, explained_variance, .. } = components(&runs);
        assert_eq!(points.len(), LARGEST + 200);
        assert!((explained_variance[0] - 0.9).abs() < 0.05);
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
        let Linear { points, explained_variance, .. } = components(&runs);
        assert_eq!(explained_variance, [1.0, 0.0]);
        assert!(points.column(1).all(|x| x == 0.0));
    }
}
