//! From weights, or what they predict, to few coordinates.

mod candidate;
mod choice;
mod directions;
mod function_space;
mod generalised_eigen;
mod pca;
mod random_directions;
mod relaxing;
mod selected_weights;
mod time_lagged;

pub(super) use choice::{Choice, choose, score};
pub(super) use time_lagged::FEWEST_CHECKPOINTS;

use super::grid::{Level, Rect};
use super::trajectories::{Features, Group, Path, Row, Rows};
use super::{
    Control, EngineError, GridParameters, LeftOut, Margin, Parameters, Points, Projection, ProjectionChoice,
};

/// The runs in the coordinates of a projection.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Coordinates<'a> {
    pub(super) projection: Projection,
    pub(super) paths: Vec<Path<'a>>,
    pub(super) left_out: LeftOut,
}

/// Projects a group. What the coordinates are is learned from the snapshots of runs that are not kept back.
///
/// # Errors
/// Where the features are missing or too few; [`EngineError::IdenticalPoints`] if the points coincide along an axis.
pub(super) fn project<'a>(
    group: &Group<'a>,
    kind: ProjectionChoice,
    dimension: usize,
    control: &Control,
) -> Result<Coordinates<'a>, EngineError> {
    let features = match kind {
        ProjectionChoice::FunctionSpace => Features::Predictions,
        ProjectionChoice::FunctionSpaceAndLoss => Features::PredictionsWithLoss,
        _ => Features::Weights,
    };
    let rows = match features {
        Features::Weights => group.rows(features)?,
        _ => function_space::rows(group, features)?,
    };
    let (all, teaching): (Vec<&Row<'_>>, _) = (rows.rows.iter().collect(), rows.teaching());
    let available = all[0].width();
    if available < dimension {
        return Err(EngineError::TooFewCoordinates { dimension, available, what: features.name() });
    }
    let component = |number: usize| format!("{}, component {number}", features.name());
    let named = |name: fn(usize) -> String| (1..=dimension).map(name).collect::<Vec<String>>();
    let (directions, axes) = match kind {
        ProjectionChoice::Auto | ProjectionChoice::FunctionSpace | ProjectionChoice::Pca => {
            let components = pca::principal_components(&teaching, dimension, control)?;
            (components, (1..=dimension).map(component).collect())
        }
        ProjectionChoice::FunctionSpaceAndLoss => {
            let points = function_space::components_and_loss(&all, &teaching, dimension, control)?;
            let axes = (1..dimension).map(component).chain(["log loss".to_owned()]).collect();
            return Coordinates::new(group, kind, &rows, &points, axes, control);
        }
        ProjectionChoice::RelaxingDirections => {
            let directions = relaxing::relaxing_directions(&teaching, dimension, control)?;
            (directions, named(|number| format!("weights, relaxing direction {number}")))
        }
        ProjectionChoice::TimeLaggedModes => {
            let modes = time_lagged::time_lagged_modes(&teaching, dimension, control)?;
            (modes, named(|number| format!("weights, slow mode {number}")))
        }
        ProjectionChoice::Random(seed) => {
            let directions = random_directions::random_directions(&teaching, dimension, seed);
            (directions, named(|number| format!("weights, random direction {number}")))
        }
        ProjectionChoice::SelectedWeights => {
            let weights = selected_weights::most_spread(&teaching, dimension);
            let points = selected_weights::selected(&all, &weights);
            let axes = weights.iter().map(|weight| format!("weight {weight}")).collect();
            return Coordinates::new(group, kind, &rows, &points, axes, control);
        }
    };
    let points = directions.project(&all, dimension, control)?;
    Coordinates::new(group, kind, &rows, &points, axes, control)
}

impl<'a> Coordinates<'a> {
    /// Splits the points of all rows into paths.
    ///
    /// # Errors
    /// [`EngineError::IdenticalPoints`], [`EngineError::Cancelled`].
    fn new(
        group: &Group<'a>,
        kind: ProjectionChoice,
        rows: &Rows<'a>,
        points: &Points,
        axes: Vec<String>,
        control: &Control,
    ) -> Result<Self, EngineError> {
        let usable: Vec<usize> = (0..rows.rows.len()).filter(|&i| rows.rows[i].usable).collect();
        let usable_rows: Vec<&Row<'_>> = usable.iter().map(|&i| &rows.rows[i]).collect();
        let explained_variance =
            directions::explained_variance(&usable_rows, &points.select(&usable), control)?;
        let paths = group.runs().iter().enumerate().map(|(number, &run)| {
            let own = || rows.rows.iter().zip(points.rows()).filter(move |(row, _)| row.run == number);
            Path {
                run,
                reserved: group.is_reserved(number),
                steps: own().map(|(row, _)| row.snapshot.step).collect(),
                points: Points::from_rows(points.dimension(), own().map(|(_, point)| point)),
                losses: own().map(|(row, _)| row.snapshot.loss.filter(|loss| loss.is_finite())).collect(),
                usable: own().map(|(row, _)| row.usable).collect(),
            }
        });
        let coordinates = Self {
            projection: Projection { kind, axes, explained_variance },
            paths: paths.filter(|path| !path.steps.is_empty()).collect(),
            left_out: rows.left_out,
        };
        coordinates.check_spread()?;
        Ok(coordinates)
    }

    /// Number of coordinates.
    pub(super) fn dimension(&self) -> usize {
        self.projection.axes.len()
    }

    /// Ends of the interval that the usable points fill along an axis.
    fn range(&self, axis: usize) -> (f64, f64) {
        let points = self.paths.iter().flat_map(Path::usable_points);
        points.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), point| {
            (low.min(point[axis]), high.max(point[axis]))
        })
    }

    /// The box that the usable points fill, with a margin on each side.
    pub(super) fn domain(&self, margin: Margin) -> Rect {
        let ends = |axis| {
            let (low, high) = self.range(axis);
            let margin = match margin {
                Margin::Share(share) => share * (high - low),
                Margin::Absolute(length) => length,
            };
            (low - margin, high + margin)
        };
        let (lower, upper): (Vec<f64>, Vec<f64>) = (0..self.dimension()).map(ends).unzip();
        Rect::new(&lower, &upper)
    }

    /// The grid on which Morse sets are made.
    ///
    /// # Errors
    /// Those of [`Level::new`].
    fn grid(&self, parameters: &Parameters) -> Result<Level, EngineError> {
        let GridParameters { margin, subdivisions, .. } = parameters.grid;
        Level::new(self.domain(margin), subdivisions.of_morse_sets())
    }

    fn check_spread(&self) -> Result<(), EngineError> {
        for axis in 0..self.dimension() {
            let (low, high) = self.range(axis);
            if high - low <= 1e-12 * low.abs().max(high.abs()) {
                return Err(EngineError::IdenticalPoints {
                    projection: self.projection.kind,
                    axis: axis + 1,
                });
            }
        }
        Ok(())
    }
}
