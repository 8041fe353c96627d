//! The fitted map at corners of cells by its mean alone: all that padded images need where *unknown* is no vertex.
//!
//! The squared exponential kernel is a product over the inputs, k(x, c) = σ² ∏ⱼ exp(−(xⱼ − cⱼ)²/2ℓⱼ²). So on a lattice
//! exponentials are taken of the coordinates along each axis, and not of all points, and the means in many rows of points
//! along the last axis are one product of matrices:
//!
//! (factors along the last axis)ᵀ × (σ² × weights × factors along the other axes, one column for each row and output).
//!
//! With n centres a mean costs n multiplications.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};

use super::gaussian_process::Batch;
use super::{FittedMap, GaussianProcess};
use crate::engine::columns::{column, column_mut};
use crate::engine::dynamics::{CornerImages, Corners, Lattice};
use crate::engine::grid::{MAX_DIMENSION, UniformGrid};
use crate::engine::{Control, Kernel};

/// Means that one product of matrices gives, about: as many as stay in a processor's cache.
const MEANS_AT_ONCE: usize = 1 << 15;

/// Most columns of its right factor; with more it does not become faster.
const COLUMNS_AT_ONCE: usize = 1 << 8;

/// The fitted map at corners of cells of a grid, by its mean.
#[derive(Clone, Debug)]
pub(super) struct LatticeMeans<'a> {
    map: &'a FittedMap,
    /// For each axis the coordinates of the grid's hyperplanes.
    hyperplanes: Vec<Vec<f64>>,
    /// For each process, where its kernel is a product.
    products: Vec<Option<Product>>,
}

/// A kernel that is a product over the axes, on a grid.
#[derive(Clone, Debug)]
struct Product {
    /// σ² times the weights of the centres: row by centre, column by output.
    weights: Mat<f64>,
    /// For each axis exp(−(xⱼ − cⱼ)²/2ℓⱼ²): row by centre, column by hyperplane.
    factors: Vec<Mat<f64>>,
}

/// Factors along one axis of a lattice.
enum Along<'a> {
    /// Some of those along the grid's axis.
    Grid(MatRef<'a, f64>),
    /// Those of coordinates that are not the grid's.
    Other(Mat<f64>),
}

impl Along<'_> {
    fn factors(&self) -> MatRef<'_, f64> {
        match self {
            Self::Grid(factors) => *factors,
            Self::Other(factors) => factors.as_ref(),
        }
    }
}

/// Where means are written: those of a process' outputs lie side by side, those of points `stride` apart.
struct Place<'a> {
    means: &'a mut [f64],
    stride: usize,
    offset: usize,
}

impl Place<'_> {
    fn put(&mut self, point: usize, output: usize, mean: f64) {
        self.means[point * self.stride + self.offset + output] = mean;
    }
}

impl<'a> LatticeMeans<'a> {
    pub(super) fn new(map: &'a FittedMap, grid: &UniformGrid) -> Self {
        let axes = 0..grid.dimension();
        let hyperplanes: Vec<Vec<f64>> = axes
            .clone()
            .map(|axis| (0..=grid.cells_along(axis)).map(|index| grid.hyperplane(axis, index)).collect())
            .collect();
        let product = |process: &GaussianProcess| {
            // along a single axis each coordinate is met once: nothing is gained, and much memory would be taken
            (process.kernel() == Kernel::Rbf && hyperplanes.len() > 1).then(|| Product {
                weights: Mat::from_fn(process.centres(), process.outputs(), |centre, output| {
                    process.hyperparameters().signal_variance * process.weights[(output, centre)]
                }),
                factors: axes.clone().map(|axis| factors(map, process, axis, &hyperplanes[axis])).collect(),
            })
        };
        let products = map.processes().iter().map(product).collect();
        Self { map, hyperplanes, products }
    }

    /// Means of a process at the points of a lattice, by factors along its axes.
    fn by_factors(
        &self,
        process: &GaussianProcess,
        product: &Product,
        points: &Lattice<'_>,
        mut place: Place<'_>,
        control: &Control,
    ) {
        let along: Vec<Along<'_>> = (0..points.axes.len())
            .map(|axis| match self.first_hyperplane(axis, points.axes[axis]) {
                Some(first) => Along::Grid(product.factors[axis].subcols(first, points.axes[axis].len())),
                None => Along::Other(factors(self.map, process, axis, points.axes[axis])),
            })
            .collect();
        let along: Vec<MatRef<'_, f64>> = along.iter().map(Along::factors).collect();
        let Some((last, others)) = along.split_last().filter(|_| !points.is_empty()) else { return };
        let (outputs, row) = (process.outputs(), last.ncols());
        let rows = points.len() / row;
        let rows_at_once = ((MEANS_AT_ONCE / row).min(COLUMNS_AT_ONCE) / outputs).clamp(1, rows);
        let mut weights = Mat::zeros(process.centres(), rows_at_once * outputs);
        let mut means = Mat::zeros(row, rows_at_once * outputs);
        let mut factor = vec![0.0; process.centres()];
        for first in (0..rows).step_by(rows_at_once) {
            if control.check().is_err() {
                return;
            }
            let count = rows_at_once.min(rows - first);
            for number in 0..count {
                factor.fill(1.0);
                let mut rest = first + number;
                for factors in others.iter().rev() {
                    let along = factors.col(rest % factors.ncols());
                    factor.iter_mut().zip(along.iter()).for_each(|(factor, along)| *factor *= along);
                    rest /= factors.ncols();
                }
                for output in 0..outputs {
                    let weights = column_mut(&mut weights, number * outputs + output).iter_mut();
                    let each = weights.zip(column(&product.weights, output)).zip(&factor);
                    each.for_each(|((weight, own), factor)| *weight = own * factor);
                }
            }
            let columns = count * outputs;
            let found = means.subcols_mut(0, columns);
            matmul(found, Accum::Replace, last.transpose(), weights.subcols(0, columns), 1.0, Par::Seq);
            for number in 0..count {
                for output in 0..outputs {
                    let from = (first + number) * row;
                    for (point, mean) in (from..).zip(column(&means, number * outputs + output)) {
                        place.put(point, output, *mean);
                    }
                }
            }
        }
    }

    /// Number of the hyperplane at which these coordinates along an axis begin, if all are those of hyperplanes.
    fn first_hyperplane(&self, axis: usize, coordinates: &[f64]) -> Option<usize> {
        let hyperplanes = &self.hyperplanes[axis];
        let start = *coordinates.first()?;
        let first = hyperplanes.partition_point(|&hyperplane| hyperplane < start);
        (hyperplanes.get(first..first + coordinates.len())? == coordinates).then_some(first)
    }

    /// Means of a process at the points of a lattice, one point after the other.
    fn by_points(
        &self,
        process: &GaussianProcess,
        points: &Lattice<'_>,
        mut place: Place<'_>,
        control: &Control,
    ) {
        let dimension = points.axes.len();
        let mut raw = [0.0; MAX_DIMENSION];
        let mut standard = vec![0.0; Batch::SIZE * dimension];
        let mut batch = process.batch();
        for first in (0..points.len()).step_by(Batch::SIZE) {
            if control.check().is_err() {
                return;
            }
            let count = Batch::SIZE.min(points.len() - first);
            let standard = &mut standard[..count * dimension];
            for (number, standard) in standard.chunks_exact_mut(dimension).enumerate() {
                points.point(first + number, &mut raw[..dimension]);
                self.map.standardise(&raw[..dimension], standard);
            }
            batch.predict_means(standard.chunks_exact(dimension));
            for number in 0..count {
                for output in 0..process.outputs() {
                    place.put(first + number, output, batch.mean(number, output));
                }
            }
        }
    }
}

/// exp(−(xⱼ − cⱼ)²/2ℓⱼ²) along one axis: row by centre, column by coordinate.
fn factors(map: &FittedMap, process: &GaussianProcess, axis: usize, coordinates: &[f64]) -> Mat<f64> {
    let centres = &process.centres[axis];
    let scale = process.hyperparameters().length_scales[axis];
    let mut factors = Mat::zeros(centres.len(), coordinates.len());
    for (number, &x) in coordinates.iter().enumerate() {
        let x = map.standardised(axis, x) / scale;
        for (factor, centre) in column_mut(&mut factors, number).iter_mut().zip(centres) {
            *factor = process.kernel().correlation((x - centre) * (x - centre));
        }
    }
    factors
}

impl Corners for LatticeMeans<'_> {
    fn images(&self, points: &Lattice<'_>, images: CornerImages<'_>, control: &Control) {
        let (map, dimension) = (self.map, self.map.dimension());
        for (offset, (process, product)) in map.processes().iter().zip(&self.products).enumerate() {
            let place = Place { means: &mut *images.lower, stride: dimension, offset };
            match product {
                Some(product) => self.by_factors(process, product, points, place, control),
                None => self.by_points(process, points, place, control),
            }
        }
        let (mut raw, mut standard) = ([0.0; MAX_DIMENSION], [0.0; MAX_DIMENSION]);
        for (number, image) in images.lower.chunks_exact_mut(dimension).enumerate() {
            points.point(number, &mut raw[..dimension]);
            map.standardise(&raw[..dimension], &mut standard[..dimension]);
            for (axis, next) in image.iter_mut().enumerate() {
                *next = map.next(axis, &raw[..dimension], &standard[..dimension], *next);
            }
        }
        images.upper.copy_from_slice(images.lower);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::grid::Rect;
    use crate::engine::random::Random;
    use crate::engine::{Points, PriorMean, SurrogateParameters};

    /// Everything that a lattice can be, on the grid and off it: means are those of single points.
    #[test]
    fn means_on_lattices_are_those_of_their_points() {
        for dimension in 1..=3 {
            let mut random = Random::new(dimension as u64);
            let mut cloud = || {
                let row =
                    |random: &mut Random| (0..dimension).map(|_| 2.0 * random.uniform()).collect::<Vec<_>>();
                Points::from_rows(dimension, (0..40).map(|_| row(&mut random)))
            };
            let (from, to) = (cloud(), cloud());
            let grid =
                UniformGrid::new(Rect::new(&[-0.5; 3][..dimension], &[2.5; 3][..dimension]), 7).unwrap();
            let hyperplanes: Vec<Vec<f64>> = (0..dimension)
                .map(|axis| (0..=grid.cells_along(axis)).map(|index| grid.hyperplane(axis, index)).collect())
                .collect();
            let beside: Vec<f64> = (0..5).map(|number| 0.3 * f64::from(number) - 0.4).collect();
            for kernel in [Kernel::Rbf, Kernel::Matern52] {
                for prior_mean in [PriorMean::Zero, PriorMean::Affine] {
                    let parameters = SurrogateParameters { kernel, prior_mean, ..Default::default() };
                    let map = FittedMap::fit(&from, &to, &parameters, &Control::default()).unwrap();
                    let means = LatticeMeans::new(&map, &grid);
                    for last in [&hyperplanes[dimension - 1][2..], beside.as_slice()] {
                        let mut axes: Vec<&[f64]> = hyperplanes.iter().map(Vec::as_slice).collect();
                        axes[dimension - 1] = last;
                        let lattice = Lattice { axes: &axes };
                        let mut ends =
                            [vec![0.0; lattice.len() * dimension], vec![0.0; lattice.len() * dimension]];
                        let [lower, upper] = &mut ends;
                        let trusted = &mut vec![true; lattice.len()];
                        means.images(&lattice, CornerImages { lower, upper, trusted }, &Control::default());
                        assert_eq!(ends[0], ends[1]);
                        let mut point = vec![0.0; dimension];
                        let points = Points::from_rows(
                            dimension,
                            (0..lattice.len()).map(|number| {
                                lattice.point(number, &mut point);
                                point.clone()
                            }),
                        );
                        let expected = map.images(&points).mean;
                        for (found, expected) in ends[0].iter().zip(expected.rows().flatten()) {
                            assert!(
                                (found - expected).abs() < 1e-10,
                                "{kernel:?} {prior_mean:?} {dimension}: {found} {expected}"
                            );
                        }
                    }
                }
            }
        }
    }
}
