//! Boxes that hold the images of cells.
//!
//! # With confidence
//!
//! Let f be the process given the data, m its mean, s its standard deviation, and r = f − m. Evaluated are the points of
//! a lattice: the corners of cells, halved along each axis so often that bending between them is small beside a cell. Of
//! the budget 1 − μ of error nine tenths go to the points of the lattice, one tenth to what lies between.
//!
//! *On the lattice.* |r(v)| ≤ κ s(v) at all V points v in all d coordinates at once with probability 1 − 0.9 (1 − μ), by
//! the union bound, if a standard normal variable exceeds κ with probability 0.9 (1 − μ)/(2 V d).
//!
//! *Between.* The hull of the images of a lattice cell's corners holds the multilinear interpolation If of f. So it is
//! enough to bound |f − If| ≤ |m − Im| + |r − Ir|. Let D be the standard deviation of ∂ⱼⱼf before data (√3 σ/ℓⱼ² or
//! √25 σ/ℓⱼ² for the two kernels), and w the distance of lattice points along axis j.
//!
//! - |m − Im| ≤ Σⱼ (w²/8) sup |∂ⱼⱼm|, and |∂ⱼⱼm| ≤ ‖m‖ D, since ∂ⱼⱼ is a linear functional on the kernel's space of
//!   functions, of norm D.
//! - Halve all lattice cells along each axis in turn, again and again. A new vertex lies in the middle between two old
//!   ones at distance h = w/2ˡ at level l, and r there differs from their mean by a normal variable, of standard
//!   deviation at most (h²/2) D before data and no more after. The union bound over the new vertices of level l, with the
//!   share 2⁻ˡ of the other part of the budget, gives κₗ; so |r − Ir| ≤ Σₗ Σⱼ κₗ (w²/4ˡ/2) D on a dense set, and by
//!   continuity everywhere.
//!
//! Images are widened by the sum of both.
//!
//! *Where the map is no draw from a stationary process*, rougher in one place than the kernel and its hyperparameters
//! have it for all, deviations are too small there. Pairs that are left out say so, in blocks as wide as what has to be
//! bridged or reached beyond the last of them: deviations and bending are multiplied by τ of `held_out` in each place,
//! and where a pair contradicts the process, nothing is trusted. What no pair hints at, none can tell
//! (`docs/calibration.md`).
//!
//! All is conditional on kernel and hyperparameters; the processes of different coordinates need not be independent. It
//! holds for the exact process; where many pairs are represented by few, deviations are approximate, and the analysis
//! states the variance that is neglected.

use std::sync::Arc;

use super::FittedMap;
use super::gaussian_process::Batch;
use super::held_out::HeldOut;
use super::lattice_means::LatticeMeans;
use crate::engine::dynamics::{
    BoxMap, CornerImages, CornerRule, Corners, DeepImage, Hulls, Lattice, Rule, Widening,
};
use crate::engine::grid::{Level, MAX_DIMENSION, UniformGrid};
use crate::engine::statistics::normal_upper_quantile;
use crate::engine::{Control, EngineError, Mode};

/// Levels of refinement after which the rest of the sum is smaller than rounding.
const LEVELS: u32 = 40;

/// Where the standard deviation is more than this share of what it would be without data, the pairs say next to
/// nothing, and what the map does is the prior's invention, however sure the prior is of itself.
const UNINFORMED: f64 = 0.9;

/// Where the deviation before data is less than this share of the spread of what is learned, the trend tells nearly all,
/// and there is little that a prior could invent.
const FAITHFUL_TREND: f64 = 0.1;

/// The fitted map at corners of cells: its mean, or intervals around it, and whether it is trusted there.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Enclosing<'a> {
    map: &'a FittedMap,
    /// What makes intervals of points.
    bound: Option<&'a Simultaneous>,
    /// Largest trusted standard deviation, as a share of the spread of what is learned.
    trust: f64,
}

impl<'a> Enclosing<'a> {
    pub(in crate::engine) fn new(map: &'a FittedMap, bound: Option<&'a Simultaneous>, trust: f64) -> Self {
        Self { map, bound, trust }
    }
}

/// Share of the budget of error that goes to the points of the lattice.
const LATTICE_SHARE: f64 = 0.9;

/// Bending between points of the lattice, in cells, that is small beside the rounding of images to cells.
const SMALL_BENDING: f64 = 0.1;

/// Most points of a lattice that is finer than the grid.
const MOST_POINTS: f64 = (1u32 << 18) as f64;

/// What makes images hold for all cells at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Simultaneous {
    /// The factor κ of standard deviations by which the image of each point of the lattice is widened, before it is
    /// multiplied by the caution of the place.
    pub widening: f64,
    /// What is added on each side along each axis, for how far the map bends between these points, before it is
    /// multiplied likewise.
    pub bending: Vec<f64>,
    /// How often cells are halved along each axis to make the lattice.
    pub refinement: u32,
    /// Of each process, what pairs that are left out say.
    held_out: Arc<[HeldOut]>,
}

impl Simultaneous {
    /// Enclosures of a map on the cells of a grid that hold with this probability.
    pub(in crate::engine) fn new(map: &FittedMap, grid: &UniformGrid, probability: f64) -> Self {
        let level = grid.level();
        let mut refinement = 0;
        loop {
            let bending = Self::bending(map, level, refinement, probability, 1.0);
            let is_small = |axis: usize| bending[axis] <= SMALL_BENDING * grid.cell_width(axis);
            if (0..grid.dimension()).all(is_small) || points(level, refinement + 1) > MOST_POINTS {
                let widening = Self::factor(level, refinement, probability);
                return Self { widening, bending, refinement, held_out: Self::held_out(map) };
            }
            refinement += 1;
        }
    }

    /// The same for the cells of each depth up to that of the finest level, of which none has fewer than `init`
    /// subdivisions: all hold at once with this probability.
    ///
    /// The corners of the cells of all depths are among those of the deepest, and the part of the budget that speaks of
    /// them holds for all depths together. What lies between is bounded for each depth on its own, with an equal share of
    /// the other part, since the corners of a large cell say less of what happens inside.
    pub(in crate::engine) fn by_depth(
        map: &FittedMap,
        finest: &Level,
        init: u32,
        probability: f64,
    ) -> Vec<Self> {
        let widening = Self::factor(finest, 0, probability);
        let depths = f64::from(finest.depth() - init + 1);
        let held_out = Self::held_out(map);
        let at = |depth: u32| Self {
            widening,
            bending: Self::bending(map, &finest.ancestor_level(depth), 0, probability, depths),
            refinement: 0,
            held_out: Arc::clone(&held_out),
        };
        (0..=finest.depth()).map(at).collect()
    }

    fn held_out(map: &FittedMap) -> Arc<[HeldOut]> {
        map.processes().iter().map(HeldOut::of).collect()
    }

    /// κ: by how many standard deviations the images of all points of a lattice are widened.
    fn factor(level: &Level, refinement: u32, probability: f64) -> f64 {
        let lattice = LATTICE_SHARE * (1.0 - probability);
        quantile(lattice, points(level, refinement) * level.dimension() as f64)
    }

    /// How far the map bends between the points of a lattice, along each axis. What is left of the budget is divided
    /// into `parts`, one of which is spent.
    fn bending(map: &FittedMap, level: &Level, refinement: u32, probability: f64, parts: f64) -> Vec<f64> {
        let dimension = level.dimension();
        // Σₗ κₗ/4ˡ/2; all new vertices of a level, whichever axis they came by, in all coordinates
        let between = (1.0 - LATTICE_SHARE) * (1.0 - probability) / parts;
        let halvings: f64 = (1..=LEVELS)
            .map(|halving| {
                let values = points(level, refinement + halving) * (dimension * dimension) as f64;
                quantile(between * 0.5f64.powi(halving as i32), values) * 0.25f64.powi(halving as i32) / 2.0
            })
            .sum();
        let along = |output: usize| {
            let (process, column) = map.process(output);
            let hyperparameters = process.hyperparameters();
            let curvature = (process.kernel().curvature_variance() * hyperparameters.signal_variance).sqrt();
            let by_axis = (0..dimension).map(|axis| {
                let (input_scale, _) = map.scales(axis);
                let distance = level.cell_width(axis) / 2f64.powi(refinement as i32);
                let width = distance / input_scale / hyperparameters.length_scales[axis];
                curvature * width * width * (process.norms()[column] / 8.0 + halvings)
            });
            by_axis.sum::<f64>() * map.scales(output).1
        };
        (0..dimension).map(along).collect()
    }
}

/// By how many standard deviations some normal variables may be off, so that one of them is with at most this probability.
fn quantile(budget: f64, values: f64) -> f64 {
    normal_upper_quantile(budget / (2.0 * values))
}

/// Points of the lattice that halves the cells of a level this often.
fn points(level: &Level, refinement: u32) -> f64 {
    (0..level.dimension())
        .map(|axis| f64::from(level.cells_along(axis)) * 2f64.powi(refinement as i32) + 1.0)
        .product()
}

/// The fitted map on the cells of a grid: with the padding of CMGDB, or so that images hold for all cells at once.
pub(in crate::engine) fn box_map(
    map: &FittedMap,
    grid: &UniformGrid,
    bound: Option<&Simultaneous>,
    trust: f64,
    mode: Mode,
    control: &Control,
) -> Result<BoxMap, EngineError> {
    let enclosing = Enclosing::new(map, bound, trust);
    match bound {
        None if mode == Mode::Compatible => {
            let means = LatticeMeans::new(map, grid);
            BoxMap::from_corners(grid, &means, Widening::CellWidth, mode, control)
        }
        None => BoxMap::from_corners(grid, &enclosing, Widening::CellWidth, mode, control),
        Some(Simultaneous { refinement: 0, .. }) => {
            BoxMap::from_corners(grid, &enclosing, Widening::None, mode, control)
        }
        Some(Simultaneous { refinement, .. }) => {
            BoxMap::from_hulls(grid, &Hulls::of(grid, &enclosing, *refinement, control)?, mode, control)
        }
    }
}

/// The fitted map on cells of several depths, so that images hold for all at once.
#[derive(Clone, Debug)]
pub(in crate::engine) struct ConfidentRule<'a> {
    pub(in crate::engine) map: &'a FittedMap,
    /// By the number of subdivisions.
    pub(in crate::engine) bounds: &'a [Simultaneous],
    pub(in crate::engine) trust: f64,
    pub(in crate::engine) mode: Mode,
}

impl Rule for ConfidentRule<'_> {
    fn mode(&self) -> Mode {
        self.mode
    }

    fn images(
        &self,
        level: &Level,
        finest: &Level,
        keys: &[u64],
        control: &Control,
    ) -> Result<Vec<DeepImage>, EngineError> {
        let map = &Enclosing::new(self.map, Some(&self.bounds[level.depth() as usize]), self.trust);
        CornerRule { map, widening: Widening::None, mode: self.mode }.images(level, finest, keys, control)
    }
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
                    let (process, output) = if shared { (0, axis) } else { (axis, 0) };
                    let batch = &batches[process];
                    let deviation = batch.variance(number).sqrt() * map.scales(axis).1;
                    let mean = map.next(axis, &raw, scaled, batch.mean(number, output));
                    // the hull of a lattice cell's corners holds the bending times the least caution of them
                    let mut room = 0.0;
                    if let Some(Simultaneous { widening, bending, held_out, .. }) = self.bound {
                        let caution = held_out[process].caution(output, batch.covariances(number));
                        room = caution.factor * (widening * deviation + bending[axis]);
                        images.trusted[at] &= !caution.is_contradicted;
                    }
                    images.lower[at * dimension + axis] = mean - room;
                    images.upper[at * dimension + axis] = mean + room;
                    let (spread, before) = (map.spread(axis), map.deviation_before_data(axis));
                    let known = deviation <= self.trust * spread;
                    let informed = deviation <= UNINFORMED * before || before <= FAITHFUL_TREND * spread;
                    images.trusted[at] &= known && informed;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use faer::linalg::solvers::Llt;
    use faer::{Mat, Side};

    use super::*;
    use crate::engine::grid::Rect;
    use crate::engine::random::Random;
    use crate::engine::trajectories::Pairs;
    use crate::engine::{
        Enclosure, Hyperparameters, Kernel, MapChoice, Points, PriorMean, SurrogateParameters,
    };

    /// Maps drawn from the prior, known at a few noisy pairs: the images of all cells, sampled inside too, lie in their
    /// enclosures about as often as promised, or more.
    #[test]
    fn enclosures_hold_for_all_cells_at_once() {
        for kernel in [Kernel::Rbf, Kernel::Matern52] {
            let parameters = SurrogateParameters {
                map: MapChoice::GaussianProcess,
                kernel,
                prior_mean: PriorMean::Zero,
                enclosure: Enclosure::Confidence(0.8),
                trust: 1e9,
            };
            let hyperparameters = Hyperparameters {
                length_scales: vec![0.6],
                signal_variance: 1.0,
                noise_variance: 0.003,
                log_marginal_likelihood: 0.0,
            };
            let grid = UniformGrid::new(Rect::new(&[-2.0], &[2.0]), 5).unwrap();
            let inside: Vec<f64> = (0..=160).map(|i| -2.0 + f64::from(i) / 40.0).collect();
            let (mut held, mut widths) = (0, 0.0);
            for seed in 0..40 {
                let mut random = Random::new(seed);
                let known: Vec<f64> = (0..15).map(|_| 4.0 * random.uniform() - 2.0).collect();
                let all: Vec<f64> = known.iter().chain(&inside).copied().collect();
                let values = draw(kernel, 0.6, &all, &mut random);
                let observed =
                    values[..15].iter().map(|value| [value + 0.003f64.sqrt() * normal(&mut random)]);
                let pairs = Pairs {
                    from: Points::from_rows(1, known.iter().map(|&x| [x])),
                    to: Points::from_rows(1, observed),
                    path: vec![0; 15],
                    steps: vec![1; 15],
                };
                let map =
                    FittedMap::given(&pairs, &parameters, std::slice::from_ref(&hyperparameters)).unwrap();
                let bound = Simultaneous::new(&map, &grid, 0.8);
                let control = Control::default();
                let boxes =
                    box_map(&map, &grid, Some(&bound), parameters.trust, Mode::Compatible, &control).unwrap();
                let holds = |(&x, &value): (&f64, &f64)| match grid.cell_at(&[value]) {
                    Some(target) => boxes
                        .image(grid.cell_at(&[x]).unwrap_or(0))
                        .is_some_and(|(first, last)| (first..=last).contains(&target)),
                    None => true,
                };
                held += usize::from(inside.iter().zip(&values[15..]).all(holds));
                widths += bound.bending[0];
            }
            assert!(held >= 32, "{kernel:?}: {held} of 40 held, where at least four in five should");
            assert!(widths / 40.0 < 0.02, "{kernel:?}: the bound inside cells is {:.3}", widths / 40.0);
        }
    }

    #[test]
    fn one_depth_is_a_uniform_grid_and_larger_cells_bend_more() {
        let from = Points::from_rows(1, (0..30).map(|i| [f64::from(i) / 15.0 - 1.0]));
        let to = Points::from_rows(1, from.rows().map(|x| [(2.0 * x[0]).sin()]));
        let pairs = Pairs::of_points(&from, &to).unwrap();
        let parameters = SurrogateParameters::default();
        let map = FittedMap::fit(&pairs.from, &pairs.to, &parameters, &Control::default()).unwrap();
        let grid = UniformGrid::new(Rect::new(&[-1.0], &[1.0]), 14).unwrap();
        let uniform = Simultaneous::new(&map, &grid, 0.95);
        assert_eq!(uniform.refinement, 0, "corners are dense enough");
        let one = Simultaneous::by_depth(&map, grid.level(), 14, 0.95);
        assert_eq!(one[14], uniform);
        let several = Simultaneous::by_depth(&map, grid.level(), 8, 0.95);
        assert_eq!(several[14].widening, uniform.widening);
        assert!(several[14].bending[0] > uniform.bending[0], "each depth has a share of the budget");
        for depth in 8..14 {
            let ratio = several[depth].bending[0] / several[depth + 1].bending[0];
            assert!((3.0..4.0).contains(&ratio), "halving cells quarters how far a map bends: {ratio}");
        }
    }

    #[test]
    fn cells_of_a_depth_are_sent_where_a_uniform_grid_sends_them() {
        let mut random = Random::new(3);
        let from = Points::from_rows(
            2,
            (0..60).map(|_| [2.0 * random.uniform() - 1.0, 2.0 * random.uniform() - 1.0]),
        );
        // a step, which pairs beside it contradict
        let step = |x: &[f64]| if x[0] < 0.5 { 0.2 * x[1] } else { 3.0 };
        let to = Points::from_rows(2, from.rows().map(|x| [step(x), 0.5 * x[0] + 0.3 * x[1]]));
        let control = Control::default();
        let map = FittedMap::fit(&from, &to, &SurrogateParameters::default(), &control).unwrap();
        let grid = UniformGrid::new(Rect::new(&[-1.0; 2], &[1.0; 2]), 12).unwrap();
        let bounds = Simultaneous::by_depth(&map, grid.level(), 12, 0.9);
        let uniform = box_map(&map, &grid, Some(&bounds[12]), 1.0, Mode::Full, &control).unwrap();
        let rule = ConfidentRule { map: &map, bounds: &bounds, trust: 1.0, mode: Mode::Full };
        let mut unknown = 0;
        for key in (0..grid.level().cells()).step_by(7) {
            let coordinates = [0, 1].map(|axis| grid.level().coordinate(key, axis));
            let cover = rule.cover(grid.level(), key);
            let cell = |key: u64| grid.cell(&[0, 1].map(|axis| grid.level().coordinate(key, axis)));
            let found = cover.and_then(|cover| cover.cells).map(|(first, last)| (cell(first), cell(last)));
            assert_eq!(found, uniform.image(grid.cell(&coordinates)));
            unknown += usize::from(cover.is_none());
        }
        assert!((1..500).contains(&unknown), "{unknown} of 586 cells are unknown");
    }

    /// Values at some points of a process with unit variance.
    fn draw(kernel: Kernel, scale: f64, points: &[f64], random: &mut Random) -> Vec<f64> {
        let n = points.len();
        let covariance = Mat::from_fn(n, n, |i, j| {
            kernel.correlation(((points[i] - points[j]) / scale).powi(2)) + if i == j { 1e-9 } else { 0.0 }
        });
        let factor = Llt::new(covariance.as_ref(), Side::Lower).unwrap();
        let independent = Mat::from_fn(n, 1, |_, _| normal(random));
        let values = factor.L() * independent;
        (0..n).map(|i| values[(i, 0)]).collect()
    }

    fn normal(random: &mut Random) -> f64 {
        (-2.0 * (1.0 - random.uniform()).ln()).sqrt() * (2.0 * std::f64::consts::PI * random.uniform()).cos()
    }
}
