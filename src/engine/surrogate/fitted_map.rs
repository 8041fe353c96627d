//! The map of one lag: a Gaussian process for each coordinate, in the projection's units.

use rayon::prelude::*;

use super::enclosure::{Enclosing, Simultaneous, box_map};
use super::function_draw::FunctionDraw;
use super::standardise::{Standardisation, Trend};
use super::{GaussianProcess, Specification};
use crate::engine::dynamics::{BoxMap, Hulls};
use crate::engine::grid::{Rect, UniformGrid};
use crate::engine::random::Random;
use crate::engine::statistics::standard_deviation;
use crate::engine::trajectories::Pairs;
use crate::engine::{Control, EngineError, Hyperparameters, Mode, Points, PriorMean, SurrogateParameters};

/// How the search for hyperparameters is narrowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::engine) struct Search<'a> {
    /// If only candidates are to be compared, the most pairs to look at; there is one start then, and few steps.
    pub(in crate::engine) quick: Option<usize>,
    /// Least length scale, in spreads of the inputs. It does not bind a zero prior mean, which is as scikit-learn's.
    pub(in crate::engine) least_scale: f64,
    /// Where to begin.
    pub(in crate::engine) start: Option<&'a [Hyperparameters]>,
}

/// Steps of a quick search.
const QUICK_STEPS: usize = 20;

/// z ↦ z + trend(z) + g(z) with an affine trend and a Gaussian process g on standardised scales; with a zero prior mean
/// z ↦ g(z) on raw ones, all coordinates sharing their hyperparameters, as scikit-learn would.
///
/// ```
/// use doodl3::engine::dynamics::MorseDecomposition;
/// use doodl3::engine::grid::{Rect, UniformGrid};
/// use doodl3::engine::surrogate::FittedMap;
/// use doodl3::engine::{Control, Mode, Points, Role, SurrogateParameters};
///
/// // a point that is halved, seen forty times
/// let from = Points::from_rows(1, (0..40).map(|i| [f64::from(i) / 20.0 - 1.0]));
/// let to = Points::from_rows(1, from.rows().map(|x| [0.5 * x[0]]));
/// let control = Control::default();
/// let map = FittedMap::fit(&from, &to, &SurrogateParameters::default(), &control)?;
/// let grid = UniformGrid::new(Rect::new(&[-1.0], &[1.0]), 6)?;
/// let boxes = map.with_confidence(&grid, 0.95, 1.0, Mode::Full, &control)?;
/// let morse = MorseDecomposition::of(&boxes, &control)?;
/// assert_eq!(morse.sets().iter().filter(|set| set.role == Role::Attractor).count(), 1);
/// # Ok::<(), doodl3::engine::EngineError>(())
/// ```
#[derive(Clone, Debug)]
pub struct FittedMap {
    prior_mean: PriorMean,
    input: Standardisation,
    outputs: Vec<Output>,
    /// One for each coordinate, or one for all.
    processes: Vec<GaussianProcess>,
    pairs: usize,
}

/// Where points go, and how well that is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Images {
    /// One row a point.
    pub mean: Points,
    /// Standard deviation of the map, without noise.
    pub deviation: Points,
}

/// One map of those that the pairs allow, drawn with the probability that they give it.
#[derive(Clone, Debug)]
pub(in crate::engine) struct MapDraw<'a> {
    map: &'a FittedMap,
    functions: Vec<FunctionDraw<'a>>,
    standard: Vec<f64>,
    squares: Vec<f64>,
}

impl MapDraw<'_> {
    /// Where a run at this point is one lag later, with the noise of a single step.
    pub(in crate::engine) fn step(&mut self, point: &[f64], random: &mut Random) -> Vec<f64> {
        self.map.standardise(point, &mut self.standard);
        let functions = self.functions.iter().enumerate();
        functions
            .map(|(axis, function)| {
                let drawn = function.at(&self.standard, &mut self.squares);
                self.map.next(axis, point, &self.standard, drawn) + self.map.noise(axis) * random.normal()
            })
            .collect()
    }
}

/// What is added to a process, and by how much it is multiplied, to give what is learned about a coordinate.
#[derive(Clone, Debug, PartialEq)]
struct Output {
    trend: Trend,
    scale: f64,
    /// Standard deviation over the pairs of what is learned.
    spread: f64,
}

/// Standardised inputs and targets.
struct Task {
    input: Standardisation,
    outputs: Vec<Output>,
    inputs: Points,
    /// Columns that share their hyperparameters.
    targets: Vec<Points>,
}

impl Task {
    fn new(pairs: &Pairs, prior_mean: PriorMean) -> Self {
        let dimension = pairs.from.dimension();
        let learned = match prior_mean {
            PriorMean::Zero => pairs.to.clone(),
            PriorMean::Affine | PriorMean::Displacement => {
                let displacement = |(from, to): (&[f64], &[f64])| -> Vec<f64> {
                    to.iter().zip(from).map(|(to, from)| to - from).collect()
                };
                Points::from_rows(dimension, pairs.from.rows().zip(pairs.to.rows()).map(displacement))
            }
        };
        let input = match prior_mean {
            PriorMean::Zero => Standardisation::identity(dimension),
            PriorMean::Affine | PriorMean::Displacement => Standardisation::of(&pairs.from),
        };
        let inputs = input.apply(&pairs.from);
        let (outputs, columns): (Vec<Output>, Vec<Vec<f64>>) =
            (0..dimension).map(|axis| Output::of(&inputs, learned.column(axis), prior_mean)).unzip();
        let columns_of = |axes: std::ops::Range<usize>| {
            let row = |number: usize| axes.clone().map(|axis| columns[axis][number]).collect::<Vec<_>>();
            Points::from_rows(axes.len(), (0..pairs.len()).map(row))
        };
        let targets = match prior_mean {
            PriorMean::Zero => vec![columns_of(0..dimension)],
            PriorMean::Affine | PriorMean::Displacement => {
                (0..dimension).map(|axis| columns_of(axis..axis + 1)).collect()
            }
        };
        Self { input, outputs, inputs, targets }
    }
}

impl Output {
    /// The trend of what is learned about one coordinate, and what remains, brought to spread one.
    fn of(
        inputs: &Points,
        learned: impl Iterator<Item = f64> + Clone,
        prior_mean: PriorMean,
    ) -> (Self, Vec<f64>) {
        let spread = standard_deviation(learned.clone());
        let learned: Vec<f64> = learned.collect();
        let trend = match prior_mean {
            PriorMean::Zero => {
                return (Self { trend: Trend::zero(inputs.dimension()), scale: 1.0, spread }, learned);
            }
            PriorMean::Displacement => Trend::constant(inputs.dimension(), &learned),
            PriorMean::Affine => Trend::affine(inputs, &learned),
        };
        let rest: Vec<f64> = inputs.rows().zip(&learned).map(|(x, y)| y - trend.at(x)).collect();
        let scale = match standard_deviation(rest.iter().copied()) {
            // an exact trend leaves rounding
            scale if scale > 1e-9 * spread => scale,
            _ => spread.max(f64::MIN_POSITIVE),
        };
        let standard = rest.iter().map(|y| y / scale).collect();
        (Self { trend, scale, spread }, standard)
    }
}

impl FittedMap {
    /// The map that the pairs of rows of `from` and `to` show, with the hyperparameters that fit them best.
    ///
    /// # Errors
    /// [`EngineError::Parameter`] if there are no pairs, if they differ in number or dimension, or if one is not finite;
    /// [`EngineError::SingularCovariance`], [`EngineError::Cancelled`].
    pub fn fit(
        from: &Points,
        to: &Points,
        parameters: &SurrogateParameters,
        control: &Control,
    ) -> Result<Self, EngineError> {
        let pairs = Pairs::of_points(from, to)?;
        let least_scale = Specification::standard(parameters.kernel, from.dimension()).length_scales.0;
        let search = Search { quick: None, least_scale, start: None };
        let hyperparameters = Self::hyperparameters(&pairs, parameters, search, control)?;
        Self::given(&pairs, parameters, &hyperparameters)
    }

    /// The map that the pairs of rows of `from` and `to` show, with these hyperparameters: on standardised scales for
    /// each coordinate, or with a zero prior mean on raw scales for all.
    ///
    /// # Errors
    /// [`EngineError::Parameter`] if there are no pairs, if they differ in number or dimension, or if one is not finite;
    /// [`EngineError::SingularCovariance`].
    pub fn with_hyperparameters(
        from: &Points,
        to: &Points,
        parameters: &SurrogateParameters,
        hyperparameters: &[Hyperparameters],
    ) -> Result<Self, EngineError> {
        Self::given(&Pairs::of_points(from, to)?, parameters, hyperparameters)
    }

    /// The map on the cells of a grid, with enclosures that hold for all trusted cells at once with this probability. A
    /// cell is trusted where standard deviations are below `trust` times the spread of what is learned.
    ///
    /// # Errors
    /// [`EngineError::Cancelled`].
    pub fn with_confidence(
        &self,
        grid: &UniformGrid,
        probability: f64,
        trust: f64,
        mode: Mode,
        control: &Control,
    ) -> Result<BoxMap, EngineError> {
        let bound = Simultaneous::new(self, grid, probability);
        box_map(self, grid, Some(&bound), trust, mode, control)
    }

    /// The map on the cells of a grid: a cell is sent to the hull of its corners' images, one cell width added on each side
    /// (Eslami et al. 2021; `BoxMap` with padding in CMGDB). No probability is claimed. `trust` is that of
    /// [`Self::with_confidence`], and tells in full mode alone.
    ///
    /// # Errors
    /// [`EngineError::Cancelled`].
    pub fn with_padding(
        &self,
        grid: &UniformGrid,
        trust: f64,
        mode: Mode,
        control: &Control,
    ) -> Result<BoxMap, EngineError> {
        box_map(self, grid, None, trust, mode, control)
    }

    /// The boxes of [`Self::with_confidence`] before they are rounded to cells; `None` for cells that are not trusted.
    ///
    /// # Errors
    /// [`EngineError::Cancelled`].
    pub fn enclosures(
        &self,
        grid: &UniformGrid,
        probability: f64,
        trust: f64,
        control: &Control,
    ) -> Result<Vec<Option<Rect>>, EngineError> {
        let bound = Simultaneous::new(self, grid, probability);
        let hulls = Hulls::of(grid, &Enclosing::new(self, Some(&bound), trust), bound.refinement, control)?;
        Ok((0..grid.cells()).map(|cell| hulls.of_cell(cell)).collect())
    }

    /// Hyperparameters for these pairs: one set for each coordinate, or one for all.
    pub(in crate::engine) fn hyperparameters(
        pairs: &Pairs,
        parameters: &SurrogateParameters,
        search: Search<'_>,
        control: &Control,
    ) -> Result<Vec<Hyperparameters>, EngineError> {
        let task = Task::new(pairs, parameters.prior_mean);
        let fit = |(number, targets): (usize, &Points)| {
            let inputs = task.inputs.dimension();
            let mut specification = match parameters.prior_mean {
                PriorMean::Zero => Specification::paper(parameters.kernel, inputs),
                PriorMean::Affine | PriorMean::Displacement => {
                    let standard = Specification::standard(parameters.kernel, inputs);
                    Specification {
                        length_scales: (search.least_scale, standard.length_scales.1),
                        ..standard
                    }
                }
            };
            if let Some(most_pairs) = search.quick {
                specification.pairs = specification.pairs.min(most_pairs);
                (specification.steps, specification.restarts) = (QUICK_STEPS, 0);
            }
            if let Some(start) = search.start {
                specification.start = start[number].clone();
            }
            specification.fit(&task.inputs, targets, control)
        };
        task.targets.par_iter().enumerate().map(fit).collect()
    }

    /// The map with these hyperparameters, given the pairs.
    pub(in crate::engine) fn given(
        pairs: &Pairs,
        parameters: &SurrogateParameters,
        hyperparameters: &[Hyperparameters],
    ) -> Result<Self, EngineError> {
        let Task { input, outputs, inputs, targets } = Task::new(pairs, parameters.prior_mean);
        let trend_terms = match parameters.prior_mean {
            PriorMean::Affine => inputs.dimension() + 1,
            PriorMean::Displacement => 1,
            PriorMean::Zero => 0,
        };
        let condition = |(targets, hyperparameters): (&Points, &Hyperparameters)| {
            let (kernel, hyperparameters) = (parameters.kernel, hyperparameters.clone());
            GaussianProcess::given_beside_trend(kernel, hyperparameters, &inputs, targets, trend_terms)
        };
        let processes = targets.par_iter().zip(hyperparameters).map(condition).collect::<Result<_, _>>()?;
        Ok(Self { prior_mean: parameters.prior_mean, input, outputs, processes, pairs: pairs.len() })
    }

    pub(in crate::engine) fn dimension(&self) -> usize {
        self.outputs.len()
    }

    /// Number of pairs from which the map was learned.
    pub(in crate::engine) fn pairs(&self) -> usize {
        self.pairs
    }

    /// The process of a coordinate, and which of its outputs that is.
    pub(in crate::engine) fn process(&self, axis: usize) -> (&GaussianProcess, usize) {
        if self.processes.len() == 1 { (&self.processes[0], axis) } else { (&self.processes[axis], 0) }
    }

    pub(in crate::engine) fn processes(&self) -> &[GaussianProcess] {
        &self.processes
    }

    /// Largest share of the signal's variance at any pair that the centres do not determine.
    pub(in crate::engine) fn neglected_variance(&self) -> f64 {
        self.processes.iter().map(GaussianProcess::neglected_variance).fold(0.0, f64::max)
    }

    /// What the standard deviation of a coordinate is compared with when it is to be trusted.
    pub(in crate::engine) fn spread(&self, axis: usize) -> f64 {
        self.outputs[axis].spread
    }

    /// Standard deviation of a coordinate where no pair tells anything.
    pub(super) fn deviation_before_data(&self, axis: usize) -> f64 {
        self.process(axis).0.hyperparameters().signal_variance.sqrt() * self.outputs[axis].scale
    }

    /// Projection's units in one unit of the process' inputs, and of its outputs.
    pub(in crate::engine) fn scales(&self, axis: usize) -> (f64, f64) {
        (self.input.scale[axis], self.outputs[axis].scale)
    }

    /// Standard deviation of a single step around the map.
    pub(in crate::engine) fn noise(&self, axis: usize) -> f64 {
        self.process(axis).0.hyperparameters().noise_variance.sqrt() * self.outputs[axis].scale
    }

    pub(super) fn standardise(&self, point: &[f64], standard: &mut [f64]) {
        for (axis, (standard, x)) in standard.iter_mut().zip(point).enumerate() {
            *standard = self.standardised(axis, *x);
        }
    }

    /// The same of one coordinate.
    pub(super) fn standardised(&self, axis: usize, x: f64) -> f64 {
        (x - self.input.shift[axis]) / self.input.scale[axis]
    }

    /// The next point along an axis, from what its process says; of a point as it is, and standardised.
    pub(super) fn next(&self, axis: usize, point: &[f64], standard: &[f64], mean: f64) -> f64 {
        let output = &self.outputs[axis];
        let learned = output.trend.at(standard) + output.scale * mean;
        match self.prior_mean {
            PriorMean::Zero => learned,
            PriorMean::Affine | PriorMean::Displacement => point[axis] + learned,
        }
    }

    /// Draws a map.
    pub(in crate::engine) fn draw(&self, random: &mut Random) -> MapDraw<'_> {
        let draw = |axis| {
            let (process, output) = self.process(axis);
            FunctionDraw::new(process, output, random)
        };
        MapDraw {
            map: self,
            functions: (0..self.dimension()).map(draw).collect(),
            standard: vec![0.0; self.dimension()],
            squares: Vec::new(),
        }
    }

    /// Where points go.
    pub fn images(&self, points: &Points) -> Images {
        let dimension = self.dimension();
        let standard = self.input.apply(points);
        let predictions: Vec<_> = self.processes.iter().map(|process| process.predict(&standard)).collect();
        let of = |axis: usize| {
            if predictions.len() == 1 { (&predictions[0], axis) } else { (&predictions[axis], 0) }
        };
        let (mut mean, mut deviation) = (Points::new(dimension), Points::new(dimension));
        for (number, point) in points.rows().enumerate() {
            let next = |axis| {
                let (prediction, output) = of(axis);
                self.next(axis, point, standard.row(number), prediction.mean.row(number)[output])
            };
            let spread = |axis: usize| of(axis).0.variance[number].sqrt() * self.outputs[axis].scale;
            mean.push(&(0..dimension).map(next).collect::<Vec<_>>());
            deviation.push(&(0..dimension).map(spread).collect::<Vec<_>>());
        }
        Images { mean, deviation }
    }
}
