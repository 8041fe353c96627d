//! From weights, or what they predict, to few coordinates.

mod candidate;
mod choice;
mod function_space;
mod pca;
mod selected_weights;

pub(super) use choice::{Choice, choose};

use super::trajectories::{Features, Group, Path};
use super::{Control, EngineError, LeftOut, Points, Projection, ProjectionChoice};
use crate::engine::trajectories::Rows;

/// The runs in the coordinates of a projection.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Coordinates<'a> {
    pub(super) projection: Projection,
    pub(super) paths: Vec<Path<'a>>,
    pub(super) left_out: LeftOut,
}

/// Linear coordinates: how a point is found from features, what the axes are called, and the share of variance along
/// each, over the snapshots that may be learned from.
struct Linear {
    points: Points,
    axes: Vec<String>,
    explained_variance: Vec<f64>,
}

/// Projects a group.
///
/// # Errors
/// Where the features are missing or too few; [`EngineError::IdenticalPoints`] if the points coincide along an axis.
pub(super) fn project<'a>(
    group: &Group<'a>,
    kind: ProjectionChoice,
    dimension: usize,
    control: &Control,
) -> Result<Coordinates<'a>, EngineError> {
    let (rows, linear) = match kind {
        ProjectionChoice::FunctionSpace => {
            let rows = function_space::rows(group)?;
            let linear = pca::principal_components(&rows, Features::Predictions, dimension, control)?;
            (rows, linear)
        }
        ProjectionChoice::SelectedWeights => {
            let rows = group.rows(Features::Weights)?;
            let linear = selected_weights::most_spread(&rows, dimension)?;
            (rows, linear)
        }
        ProjectionChoice::Pca | ProjectionChoice::Auto => {
            let rows = group.rows(Features::Weights)?;
            let linear = pca::principal_components(&rows, Features::Weights, dimension, control)?;
            (rows, linear)
        }
    };
    let coordinates = Coordinates::new(group, kind, &rows, linear);
    coordinates.check_spread()?;
    Ok(coordinates)
}

impl<'a> Coordinates<'a> {
    fn new(group: &Group<'a>, kind: ProjectionChoice, rows: &Rows<'a>, linear: Linear) -> Self {
        let Linear { points, axes, explained_variance } = linear;
        let paths = group.runs().iter().enumerate().map(|(number, &run)| {
            let own = || rows.rows.iter().zip(points.rows()).filter(move |(row, _)| row.run == number);
            Path {
                run,
                steps: own().map(|(row, _)| row.snapshot.step).collect(),
                points: Points::from_rows(points.dimension(), own().map(|(_, point)| point)),
                losses: own().map(|(row, _)| row.snapshot.loss.filter(|loss| loss.is_finite())).collect(),
                usable: own().map(|(row, _)| row.usable).collect(),
            }
        });
        Self {
            projection: Projection { kind, axes, explained_variance },
            paths: paths.filter(|path| !path.steps.is_empty()).collect(),
            left_out: rows.left_out,
        }
    }

    /// Number of coordinates.
    pub(super) fn dimension(&self) -> usize {
        self.projection.axes.len()
    }

    /// Ends of the interval that the usable points fill along an axis.
    pub(super) fn range(&self, axis: usize) -> (f64, f64) {
        let points = self.paths.iter().flat_map(Path::usable_points);
        points.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), point| {
            (low.min(point[axis]), high.max(point[axis]))
        })
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
