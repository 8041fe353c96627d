//! What became of the Morse sets of an analysis in a later one of the same runs.
//!
//! Each analysis fits coordinates of its own, so that the same checkpoint may lie elsewhere in the later one: axes are
//! reflected, shifted, turned a little. The checkpoints that both hold tell how the ones follow from the others. An
//! affine map is fitted to them; where it carries all of them to within a cell, on average, both analyses look at the same
//! plane, and the Morse sets before are carried over and compared with those after by [`Continuation`]. Where it does
//! not, or where another projection or lag was chosen, the basis has changed, and nothing is compared across that: a set
//! that seems to have gone may only be seen from elsewhere.
//!
//! The basis is not kept from one analysis to the next instead, since an analysis then depended on those before it, and
//! the same checkpoints no longer gave the same picture.

use std::collections::HashMap;
use std::fmt;

use faer::linalg::solvers::{Llt, Solve as _};
use faer::{Mat, Side};
use serde::{Deserialize, Serialize};

use super::dynamics::{Continuation, MorseRegion};
use super::grid::Rect;
use super::homology::ConleyIndex;
use super::{Analysis, Control, EngineError, Places, Points, ProjectionChoice, Role};

/// Common checkpoints for each coefficient of the affine map below which there is none.
const CHECKPOINTS_PER_COEFFICIENT: usize = 5;

/// Root mean square distance along any axis, in cells of the coarser grid, to which common checkpoints may be carried
/// amiss.
const MOST_DEVIATION: f64 = 1.0;

/// Share by which lags may differ and still be called the same, as those of the pairs of one analysis may.
const SAME_LAG: f64 = 0.1;

/// A comparison with an analysis that came before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Since {
    /// Name of the analysis before.
    pub id: String,
    /// What became of its Morse sets.
    pub comparison: Comparison,
}

/// What became of the Morse sets of one analysis in another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// Both look at the same coordinates.
    Compared {
        /// Number of checkpoints in both, by which the coordinates were compared.
        checkpoints: usize,
        /// Root mean square distance to which they are carried amiss along the worst axis, in cells of the coarser grid.
        deviation: f64,
        /// The Morse sets, by their numbers in the analyses; those of trivial index, which may hold nothing, take no part.
        continuation: Continuation,
    },
    /// They do not, so that nothing is compared.
    Rebased(Rebasing),
}

/// Why two analyses cannot be compared.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rebasing {
    /// Another projection, or another number of coordinates, was chosen.
    Projection,
    /// The map is that of another lag.
    Lag {
        /// Steps before.
        before: u64,
        /// Steps after.
        after: u64,
    },
    /// Both have too few checkpoints in common to tell.
    FewCheckpoints {
        /// Number of them.
        common: usize,
    },
    /// Checkpoints in common lie elsewhere among each other.
    Moved {
        /// Root mean square distance to which they are carried amiss along the worst axis, in cells of the coarser grid.
        deviation: f64,
    },
}

impl fmt::Display for Rebasing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Projection => f.write_str("other coordinates were chosen"),
            Self::Lag { before, after } => {
                write!(f, "the map is that of another lag, {after} steps instead of {before}")
            }
            Self::FewCheckpoints { common } => {
                write!(f, "only {common} checkpoints are in both, too few to compare coordinates by")
            }
            Self::Moved { deviation } => {
                write!(
                    f,
                    "the coordinates have turned: checkpoints in both have moved among each other by {deviation:.1} cells"
                )
            }
        }
    }
}

/// Compares an analysis with one that came before.
///
/// # Errors
/// [`EngineError::Cancelled`].
pub fn compare(before: &Analysis, after: &Analysis, control: &Control) -> Result<Comparison, EngineError> {
    let dimension = after.grid.lower.len();
    let kind = |analysis: &Analysis| -> (ProjectionChoice, usize) {
        (analysis.projection.kind, analysis.grid.lower.len())
    };
    if kind(before) != kind(after) {
        return Ok(Comparison::Rebased(Rebasing::Projection));
    }
    let (old, new) = (before.lag.steps, after.lag.steps);
    if old.abs_diff(new) as f64 > SAME_LAG * old.max(new) as f64 {
        return Ok(Comparison::Rebased(Rebasing::Lag { before: old, after: new }));
    }
    let (from, to) = common_points(before, after);
    let carry = (from.len() >= CHECKPOINTS_PER_COEFFICIENT * (dimension + 1))
        .then(|| Carry::fit(&from, &to))
        .flatten();
    let Some(carry) = carry else {
        return Ok(Comparison::Rebased(Rebasing::FewCheckpoints { common: from.len() }));
    };
    let deviation = (0..dimension)
        .map(|axis| {
            carry.deviation(&from, &to, axis) / cell_width(before, axis, &carry).max(width(after, axis))
        })
        .fold(0.0, f64::max);
    if deviation.is_nan() || deviation > MOST_DEVIATION {
        return Ok(Comparison::Rebased(Rebasing::Moved { deviation }));
    }
    let old = regions(before, |rects| rects.iter().map(|rect| carry.rect(rect)).collect(), false);
    let new = regions(after, |rects| rects, true);
    let continuation = Continuation::of(&old, &new, control)?
        .renumbered(&before.morse_graph.reduced.sets, &after.morse_graph.reduced.sets);
    Ok(Comparison::Compared { checkpoints: from.len(), deviation, continuation })
}

/// Width of a cell of the deepest level along an axis.
fn width(analysis: &Analysis, axis: usize) -> f64 {
    let grid = &analysis.grid;
    (grid.upper[axis] - grid.lower[axis]) / grid.cells_per_axis[axis] as f64
}

/// The same in the coordinates after.
fn cell_width(before: &Analysis, axis: usize, carry: &Carry) -> f64 {
    let square = |from: usize| (carry.slopes[(from, axis)] * width(before, from)).powi(2);
    (0..before.grid.lower.len()).map(square).sum::<f64>().sqrt()
}

/// Where checkpoints that both analyses hold lie before, and after. Those outside one of the domains, of runs that
/// diverged, say nothing of what lies inside.
fn common_points(before: &Analysis, after: &Analysis) -> (Points, Points) {
    let inside = |analysis: &Analysis, point: &[f64]| {
        let domain = Rect::new(&analysis.grid.lower, &analysis.grid.upper);
        domain.contains(point)
    };
    let mut known: HashMap<(&str, u64), &[f64]> = HashMap::new();
    for path in &before.trajectories {
        let points = path.steps.iter().zip(&path.points).filter(|(_, point)| inside(before, point));
        known.extend(points.map(|(&step, point)| ((path.run.as_str(), step), point.as_slice())));
    }
    let dimension = after.grid.lower.len();
    let (mut from, mut to) = (Points::new(dimension), Points::new(dimension));
    for path in &after.trajectories {
        for (&step, point) in path.steps.iter().zip(&path.points) {
            if let Some(old) = known.get(&(path.run.as_str(), step)).filter(|_| inside(after, point)) {
                from.push(old);
                to.push(point);
            }
        }
    }
    (from, to)
}

/// The Morse sets of non-trivial index: as boxes of whole rows, or cell by cell.
fn regions(analysis: &Analysis, place: impl Fn(Vec<Rect>) -> Vec<Rect>, as_rows: bool) -> Vec<MorseRegion> {
    let places = Places::of(&analysis.grid);
    let region = |&set: &usize| {
        let set = &analysis.morse_graph.sets[set];
        let rects = if as_rows {
            places.rows(&set.cells)
        } else {
            places.each(set.cells.iter().copied()).map(|cell| places.rect(cell)).collect()
        };
        MorseRegion {
            rects: place(rects),
            index: match &set.conley_index {
                index @ ConleyIndex::Defined { .. } => Some(index.to_string()),
                ConleyIndex::Undefined { .. } => None,
            },
            is_attractor: set.role == Role::Attractor,
        }
    };
    analysis.morse_graph.reduced.sets.iter().map(region).collect()
}

/// The affine map from the coordinates of one analysis to those of another.
struct Carry {
    /// Where the mean of the points before is, and where it goes.
    means: (Vec<f64>, Vec<f64>),
    /// Entry (i, j): how the new coordinate j follows from the old coordinate i.
    slopes: Mat<f64>,
    /// By how much volumes grow.
    growth: f64,
}

impl Carry {
    /// By least squares; `None` where the points before lie in a line or plane.
    fn fit(from: &Points, to: &Points) -> Option<Self> {
        let dimension = from.dimension();
        let means = |points: &Points| -> Vec<f64> {
            (0..dimension).map(|axis| super::statistics::mean(points.column(axis))).collect()
        };
        let means = (means(from), means(to));
        let centred = |points: &Points, mean: &[f64]| {
            Mat::from_fn(points.len(), dimension, |row, axis| points.row(row)[axis] - mean[axis])
        };
        let (old, new) = (centred(from, &means.0), centred(to, &means.1));
        let gram = old.transpose() * &old;
        let slopes = Llt::new(gram.as_ref(), Side::Lower).ok()?.solve(old.transpose() * &new);
        let growth = slopes.as_ref().determinant().abs();
        (growth > 0.0 && growth.is_finite()).then_some(Self { means, slopes, growth })
    }

    fn at(&self, point: &[f64], axis: usize) -> f64 {
        let along = |from: usize| self.slopes[(from, axis)] * (point[from] - self.means.0[from]);
        self.means.1[axis] + (0..point.len()).map(along).sum::<f64>()
    }

    /// Root mean square distance to which points are carried amiss along an axis.
    fn deviation(&self, from: &Points, to: &Points, axis: usize) -> f64 {
        let square = |(old, new): (&[f64], &[f64])| (self.at(old, axis) - new[axis]).powi(2);
        super::statistics::mean(from.rows().zip(to.rows()).map(square)).sqrt()
    }

    /// A box of the volume that this one is carried to, with the same middle, as wide along each axis as a turned box is
    /// there on average.
    fn rect(&self, rect: &Rect) -> Rect {
        let dimension = rect.dimension();
        let middle: Vec<f64> =
            rect.lower().iter().zip(rect.upper()).map(|(&low, &high)| f64::midpoint(low, high)).collect();
        let width = |axis: usize| {
            let square = |from: usize| (self.slopes[(from, axis)] * rect.width(from)).powi(2);
            (0..dimension).map(square).sum::<f64>().sqrt()
        };
        let widths: Vec<f64> = (0..dimension).map(width).collect();
        let volume: f64 = (0..dimension).map(|axis| rect.width(axis)).product();
        let scale = (self.growth * volume / widths.iter().product::<f64>()).powf(1.0 / dimension as f64);
        let end = |axis: usize, side: f64| self.at(&middle, axis) + side * scale * widths[axis] / 2.0;
        let ends = |side: f64| -> Vec<f64> { (0..dimension).map(|axis| end(axis, side)).collect() };
        Rect::new(&ends(-1.0), &ends(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_carried_where_points_are() {
        // turned by a right angle, twice as large, and shifted
        let rows = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [2.0, 3.0]];
        let from = Points::from_rows(2, rows);
        let to = Points::from_rows(2, rows.map(|[x, y]| [5.0 - 2.0 * y, 2.0 * x]));
        let carry = Carry::fit(&from, &to).unwrap();
        let carried = carry.rect(&Rect::new(&[1.0, 1.0], &[2.0, 1.5]));
        let expected = Rect::new(&[2.0, 2.0], &[3.0, 4.0]);
        for axis in 0..2 {
            assert!((carried.lower()[axis] - expected.lower()[axis]).abs() < 1e-9, "{carried:?}");
            assert!((carried.upper()[axis] - expected.upper()[axis]).abs() < 1e-9, "{carried:?}");
            assert!(carry.deviation(&from, &to, axis) < 1e-9);
        }
        // an eighth of a turn keeps the volume
        let turn = |[x, y]: [f64; 2]| [(x - y) / 2f64.sqrt(), (x + y) / 2f64.sqrt()];
        let turned = Carry::fit(&from, &Points::from_rows(2, rows.map(turn))).unwrap();
        let carried = turned.rect(&Rect::new(&[0.0, 0.0], &[0.3, 0.1]));
        assert!((carried.width(0) * carried.width(1) - 0.03).abs() < 1e-12);
        assert!((carried.width(0) - carried.width(1)).abs() < 1e-12);
    }

    #[test]
    fn points_on_a_line_tell_no_plane() {
        let line = Points::from_rows(2, (0..9).map(|i| [f64::from(i), 0.0]));
        assert!(Carry::fit(&line, &line).is_none());
    }
}
