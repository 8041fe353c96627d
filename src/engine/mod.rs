//! The mathematics: from trajectories to a Morse graph.
//!
//! Pure: no tokio, no files, no clock, no network, no logging. The same input gives the same bytes, with one thread
//! and with many. The method is that of Eslami, Eramian, Gameiro, Kalies and Mischaikow, *Extracting Global Dynamics
//! of Loss Landscape in Deep Learning Models* (2021, arXiv 2106.07683), carried further.

mod analysis;
mod cancel;
mod columns;
mod comparison;
mod control;
mod describe;
pub mod dynamics;
mod error;
mod forecast;
pub mod grid;
pub mod homology;
pub mod limits;
mod losses;
mod places;
mod points;
mod projection;
mod quality;
mod random;
mod statistics;
pub mod surrogate;
mod trajectories;

pub use analysis::*;
pub use cancel::Cancel;
pub use comparison::{Comparison, Rebasing, Since, compare};
pub use control::Control;
pub use error::EngineError;
pub use places::{Place, Places};
pub use points::Points;

use describe::Findings;
use dynamics::{
    AdaptiveMap, CellMap, CornerRule, MorseDecomposition, OrderRetraction, RectRule, Refinement, Rule,
    Widening,
};
use grid::{Level, MAX_DIMENSION, Rect, UniformGrid};
use homology::{ConleyIndex, adaptive_conley_indices, conley_indices};
use projection::{Choice, choose};
use surrogate::{ConfidentRule, DataMap, Enclosing, FittedMap, Simultaneous, box_map};
use trajectories::Group;

/// Conley indices have coefficients in the field of so many elements, as CMGDB's have: over that of two x + 1 and x − 1
/// were the same.
const CONLEY_PRIME: u32 = 5;

/// Analyses runs that belong together: from their checkpoints to a Morse graph, the basins of its attractors, and how
/// far both can be trusted.
///
/// The runs may come in any order; those without checkpoints are passed over.
///
/// # Errors
/// [`EngineError`] says what to change: in the runs, in the parameters, or by waiting for more checkpoints.
pub fn analyze(
    runs: &[RunSeries],
    parameters: &Parameters,
    control: &Control,
) -> Result<Analysis, EngineError> {
    check(parameters)?;
    let group = Group::new(runs)?;

    control.report("projection", 0.0);
    let choice = choose(group, parameters, control)?;

    control.report("surrogate", 0.0);
    let surrogate = &parameters.surrogate;
    let hyperparameters = choice.hyperparameters(surrogate, control)?;
    let fitted = FittedMap::given(&choice.pairs, surrogate, &hyperparameters)?;

    control.report("map", 0.0);
    let learned = Learned {
        parameters,
        choice: &choice,
        hyperparameters: &hyperparameters,
        fitted: &fitted,
        domain: choice.coordinates.domain(parameters.grid.margin),
    };
    match parameters.grid.subdivisions {
        Subdivisions::Uniform(subdivisions) => learned.on_uniform_grid(subdivisions, control),
        Subdivisions::Adaptive(refinement) => learned.on_adaptive_grid(refinement, control),
    }
}

/// What was learned before there are any cells.
struct Learned<'a> {
    parameters: &'a Parameters,
    choice: &'a Choice<'a>,
    hyperparameters: &'a [Hyperparameters],
    fitted: &'a FittedMap,
    domain: Rect,
}

impl Learned<'_> {
    fn on_uniform_grid(&self, subdivisions: u32, control: &Control) -> Result<Analysis, EngineError> {
        let GridParameters { mode, .. } = self.parameters.grid;
        let SurrogateParameters { map, trust, enclosure, .. } = self.parameters.surrogate;
        let grid = UniformGrid::new(self.domain, subdivisions)?;
        let bound = match (map, enclosure) {
            (MapChoice::GaussianProcess, Enclosure::Confidence(probability)) => {
                Some(Simultaneous::new(self.fitted, &grid, probability))
            }
            _ => None,
        };
        let map = match map {
            MapChoice::GaussianProcess => box_map(self.fitted, &grid, bound.as_ref(), trust, mode, control)?,
            MapChoice::Data(parameters) => self.data_map(parameters)?.on(&grid, mode, control)?,
        };
        let indices = |morse: &MorseDecomposition| conley_indices(&grid, &map, morse, CONLEY_PRIME, control);
        self.dynamics(&map, indices, bound.as_ref(), control)
    }

    fn on_adaptive_grid(&self, refinement: Refinement, control: &Control) -> Result<Analysis, EngineError> {
        let GridParameters { mode, .. } = self.parameters.grid;
        let SurrogateParameters { map, trust, enclosure, .. } = self.parameters.surrogate;
        match (map, enclosure) {
            (MapChoice::Data(parameters), _) => {
                let data = self.data_map(parameters)?;
                data.check(&Level::new(self.domain, refinement.init)?)?;
                let enclose = |cells: &[Rect], images: &mut [Option<Rect>]| {
                    cells.iter().zip(images).for_each(|(cell, image)| *image = data.enclose(cell));
                };
                self.by_rule(&RectRule { enclose, mode }, refinement, None, control)
            }
            (MapChoice::GaussianProcess, Enclosure::Padding) => {
                let map = &Enclosing::new(self.fitted, None, trust);
                let rule = CornerRule { map, widening: Widening::CellWidth, mode };
                self.by_rule(&rule, refinement, None, control)
            }
            (MapChoice::GaussianProcess, Enclosure::Confidence(probability)) => {
                let finest = Level::new(self.domain, refinement.max)?;
                let bounds = Simultaneous::by_depth(self.fitted, &finest, refinement.init, probability);
                let rule = ConfidentRule { map: self.fitted, bounds: &bounds, trust, mode };
                self.by_rule(&rule, refinement, bounds.last(), control)
            }
        }
    }

    fn by_rule(
        &self,
        rule: &impl Rule,
        refinement: Refinement,
        bound: Option<&Simultaneous>,
        control: &Control,
    ) -> Result<Analysis, EngineError> {
        let ends_meet = vec![false; self.domain.dimension()];
        let map = AdaptiveMap::refine(self.domain, &ends_meet, refinement, rule, control)?;
        let indices =
            |morse: &MorseDecomposition| adaptive_conley_indices(&map, rule, morse, CONLEY_PRIME, control);
        self.dynamics(&map, indices, bound, control)
    }

    /// The map that the pairs make without a model.
    fn data_map(&self, parameters: DataParameters) -> Result<DataMap, EngineError> {
        let DataParameters { empty, reach, padding, lipschitz } = parameters;
        let pairs = &self.choice.pairs;
        let map = DataMap::new(&pairs.from, &pairs.to)?;
        Ok(map.empty(empty).reach(reach).padding(padding).lipschitz(lipschitz))
    }

    /// The dynamics of a map on cells, whose images were widened by a bound for the sake of confidence.
    fn dynamics<M: CellMap>(
        &self,
        map: &M,
        conley_indices: impl FnOnce(&MorseDecomposition) -> Result<Vec<ConleyIndex>, EngineError>,
        bound: Option<&Simultaneous>,
        control: &Control,
    ) -> Result<Analysis, EngineError> {
        control.report("recurrence", 0.0);
        let morse = MorseDecomposition::of(map, control)?;

        control.report("index", 0.0);
        let conley_indices = conley_indices(&morse)?;

        control.report("retraction", 0.0);
        let lasting = morse.reduced(|set| conley_indices[set].is_trivial()).sets;
        let retraction = match OrderRetraction::onto(map, &morse, &lasting, control) {
            Ok(retraction) => Some(retraction),
            Err(EngineError::OrderTooWide { .. }) => None,
            Err(error) => return Err(error),
        };

        control.report("quality", 0.0);
        let assessment = self.choice.assess(&self.parameters.surrogate, self.hyperparameters, control)?;
        Findings {
            parameters: self.parameters,
            choice: self.choice,
            fitted: self.fitted,
            domain: self.domain,
            widening: bound.map(|bound| bound.widening),
            bending: bound.map(|bound| bound.bending.clone()),
            map,
            morse: &morse,
            conley_indices,
            retraction,
            assessment,
        }
        .describe(control)
    }
}

/// How well coordinates at a lag predict fresh runs: both are fixed in the parameters, the coordinates, the map and its
/// smoothness are learned from `runs` alone, and the figures are taken on `fresh`. So what an automatic choice is worth
/// can be measured on runs that took no part in it, beside everything that it might have chosen.
///
/// # Errors
/// As [`analyze`]; [`EngineError::LeftOpen`].
pub fn score(
    runs: &[RunSeries],
    fresh: &[RunSeries],
    parameters: &Parameters,
    control: &Control,
) -> Result<Candidate, EngineError> {
    check(parameters)?;
    if parameters.projection == ProjectionChoice::Auto || parameters.lag == LagChoice::Auto {
        return Err(EngineError::LeftOpen);
    }
    let mut names: Vec<&str> = fresh.iter().map(|run| run.run.as_str()).collect();
    names.sort_unstable();
    let all: Vec<RunSeries> = runs.iter().chain(fresh).cloned().collect();
    let group = Group::new(&all)?.reserving(|run| names.binary_search(&run).is_ok());
    projection::score(&group, parameters, control)
}

/// Refuses parameters before memory is taken.
fn check(parameters: &Parameters) -> Result<(), EngineError> {
    let Parameters { dimension, surrogate, grid, .. } = parameters;
    if !(1..=MAX_DIMENSION).contains(dimension) {
        return Err(EngineError::Dimension { dimension: *dimension });
    }
    match grid.subdivisions {
        Subdivisions::Uniform(subdivisions) if subdivisions > grid::MAX_SUBDIVISIONS => {
            return Err(EngineError::TooManyCells { subdivisions });
        }
        Subdivisions::Adaptive(Refinement { init, min, max, .. }) if init > min || min > max => {
            return Err(EngineError::Refinement { init, min, max });
        }
        Subdivisions::Adaptive(Refinement { init, .. }) if init > grid::MAX_SUBDIVISIONS => {
            return Err(EngineError::TooManyCells { subdivisions: init });
        }
        Subdivisions::Uniform(_) | Subdivisions::Adaptive(_) => {}
    }
    let refuse = |name, value, need| Err(EngineError::Parameter { name, value, need });
    if surrogate.trust.is_nan() || surrogate.trust <= 0.0 {
        return refuse("trust", surrogate.trust, "above 0");
    }
    if let MapChoice::Data(DataParameters { reach, padding, lipschitz, .. }) = surrogate.map {
        for (name, value) in [("reach", reach), ("padding", padding), ("lipschitz", lipschitz)] {
            if !(value >= 0.0 && value.is_finite()) {
                return refuse(name, value, "finite and not below 0");
            }
        }
    }
    if let Enclosure::Confidence(probability) = surrogate.enclosure
        && !(probability > 0.0 && probability < 1.0)
    {
        return refuse("confidence", probability, "between 0 and 1, both excluded");
    }
    let (Margin::Share(margin) | Margin::Absolute(margin)) = grid.margin;
    if !(margin >= 0.0 && margin.is_finite()) {
        return refuse("margin", margin, "finite and not below 0");
    }
    if parameters.lag == LagChoice::Steps(0) {
        return refuse("lag", 0.0, "at least 1 step");
    }
    Ok(())
}
