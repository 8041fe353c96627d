//! Several steps as one: maps close to the identity move points by less than a few cells, so that nearly every cell seems
//! to recur; several steps at once tell what stays from what creeps.

use super::{BoxMap, Digraph as _};
use crate::engine::grid::{Cover, MAX_DIMENSION, Rect, UniformGrid};
use crate::engine::{Control, EngineError, Mode};

/// `map` applied `times` times, for [`PointMap`](super::PointMap).
///
/// What `map` rounds or bends inside a cell is seen once, after the last step; with noise, many steps of a mean are not
/// the mean of many steps.
///
/// ```
/// use doodl3::engine::dynamics::iterated;
///
/// let halve = |x: &[f64], image: &mut [f64]| image[0] = 0.5 * x[0];
/// let mut image = [0.0];
/// iterated(halve, 3)(&[8.0], &mut image);
/// assert_eq!(image, [1.0]);
/// ```
///
/// # Panics
/// The map that is returned panics for points of more than [`MAX_DIMENSION`] coordinates.
pub fn iterated(map: impl Fn(&[f64], &mut [f64]) + Sync, times: u32) -> impl Fn(&[f64], &mut [f64]) + Sync {
    move |point, image| {
        let dimension = point.len();
        let mut at = [0.0; MAX_DIMENSION];
        image.copy_from_slice(point);
        for _ in 0..times {
            at[..dimension].copy_from_slice(image);
            map(&at[..dimension], image);
        }
    }
}

/// `enclose` applied `times` times, for [`BoxMap::from_rects`]: if `enclose` holds the image of any box under f, this
/// holds the image under f applied as often. Nothing is rounded to cells in between, so that motion by less than a cell
/// adds up. Where `enclose` knows nothing of a box on the way, nothing is known.
pub fn iterated_enclosure(
    enclose: impl Fn(&Rect) -> Option<Rect> + Sync,
    times: u32,
) -> impl Fn(&Rect) -> Option<Rect> + Sync {
    move |rect| (0..times).try_fold(*rect, |rect, _| enclose(&rect))
}

impl BoxMap {
    /// The map applied `times` times: each cell is sent to the smallest box of cells that holds all that it can reach in
    /// that many steps. If this map encloses f, that one encloses f applied as often.
    ///
    /// Images are rounded to cells after every step; where a step moves points by less than a cell, compose the map before
    /// it is put on the grid ([`iterated`], [`iterated_enclosure`]).
    ///
    /// A path that may have left the domain, or come where nothing is known, before the last step counts as leaving.
    /// Steps are doubled, so it takes about log₂ `times` passes; the cost of each is the number of edges.
    ///
    /// # Errors
    /// [`EngineError::Parameter`] for no times at all, [`EngineError::Cancelled`].
    pub fn composed(&self, times: u32, control: &Control) -> Result<Self, EngineError> {
        if times == 0 {
            return Err(EngineError::Parameter { name: "times", value: 0.0, need: "at least 1" });
        }
        let mut power = self.clone();
        for bit in (0..times.ilog2()).rev() {
            power = power.then(&power, control)?;
            if times >> bit & 1 == 1 {
                power = power.then(self, control)?;
            }
        }
        Ok(power)
    }

    /// This map, and then another one on the same grid.
    fn then(&self, other: &Self, control: &Control) -> Result<Self, EngineError> {
        let grid = self.grid();
        let dimension = grid.dimension();
        let image = |cell: u32| {
            if self.is_unknown(cell) {
                return None;
            }
            let mut exits = self.exits(cell);
            let mut hull: Option<[(u32, u32); MAX_DIMENSION]> = None;
            self.for_each_run(cell, |run| {
                for between in run {
                    exits |= other.escapes(between);
                    let Some((first, last)) = other.image(between) else { continue };
                    let ends = |axis| (grid.coordinate(first, axis), grid.coordinate(last, axis));
                    let hull = hull.get_or_insert_with(|| std::array::from_fn(ends));
                    for (axis, hull) in hull.iter_mut().enumerate().take(dimension) {
                        *hull = joined(grid, axis, *hull, ends(axis));
                    }
                }
            });
            let cells = hull.map(|hull| {
                let corner = |end: fn((u32, u32)) -> u32| u64::from(grid.cell(&hull.map(end)));
                (corner(|ends| ends.0), corner(|ends| ends.1))
            });
            Some(Cover { cells, exits })
        };
        // a map without exits stays so
        Self::from_covers(grid, image, Mode::Full, control)
    }
}

/// The shortest interval of cells along an axis that holds two others, each given by its first and last cell.
fn joined(grid: &UniformGrid, axis: usize, a: (u32, u32), b: (u32, u32)) -> (u32, u32) {
    if !grid.is_periodic(axis) {
        return (a.0.min(b.0), a.1.max(b.1));
    }
    let count = grid.cells_along(axis);
    let ahead = |from: u32, to: u32| (to + count - from) % count;
    // both, from the first cell of one of them on
    let length = |a: (u32, u32), b: (u32, u32)| ahead(a.0, a.1).max(ahead(a.0, b.0) + ahead(b.0, b.1));
    let (from, length) = if length(b, a) < length(a, b) { (b.0, length(b, a)) } else { (a.0, length(a, b)) };
    if length >= count - 1 { (0, count - 1) } else { (from, (from + length) % count) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::dynamics::{MorseDecomposition, PointMap, Widening};

    /// One step of gradient descent on (x² − 1)²/4 + (y² − 1)²/4 + xy/10, which is monotone in each coordinate.
    fn descend(rate: f64) -> impl Fn(&[f64], &mut [f64]) + Sync {
        move |x, image| {
            for (axis, other) in [(0, 1), (1, 0)] {
                image[axis] = x[axis] - rate * (x[axis].powi(3) - x[axis] + 0.1 * x[other]);
            }
        }
    }

    fn morse_sets(map: &BoxMap) -> usize {
        MorseDecomposition::of(map, &Control::default()).unwrap().sets().len()
    }

    #[test]
    fn around_a_circle_intervals_are_joined_the_short_way() {
        let circle = UniformGrid::new(Rect::new(&[0.0], &[1.0]), 4).unwrap().with_periodic_axes(&[true]);
        for (a, b, expected) in [
            ((1, 3), (2, 5), (1, 5)),
            ((14, 1), (0, 3), (14, 3)),
            ((1, 2), (13, 14), (13, 2)),
            ((1, 8), (7, 2), (0, 15)),
            ((0, 15), (3, 4), (0, 15)),
        ] {
            assert_eq!((joined(&circle, 0, a, b), joined(&circle, 0, b, a)), (expected, expected));
        }
    }

    /// Four wells, four saddles and a summit; 557 Morse sets of one step, and 25 of twenty smaller ones, are what CMGDB
    /// finds too.
    #[test]
    fn creeping_is_told_from_staying_by_several_steps_at_once() {
        let grid = UniformGrid::new(Rect::new(&[-1.6; 2], &[1.6; 2]), 14).unwrap();
        let control = Control::default();
        let padded = |rate, times| {
            let map = PointMap::new(iterated(descend(rate), times));
            BoxMap::from_corners(&grid, &map, Widening::CellWidth, Mode::Full, &control).unwrap()
        };
        let once = padded(0.2, 1);
        assert_eq!(
            [morse_sets(&once), morse_sets(&padded(0.05, 20)), morse_sets(&padded(0.2, 20))],
            [557, 25, 9]
        );

        let step = descend(0.2);
        let corners = |rect: &Rect| {
            let image = |x, y| {
                let mut image = [0.0; 2];
                step(&[x, y], &mut image);
                image
            };
            let ([left, low], [right, high]) =
                ([rect.lower()[0], rect.lower()[1]], [rect.upper()[0], rect.upper()[1]]);
            let mut hull = Rect::point(&image(left, low));
            for (x, y) in [(left, high), (right, low), (right, high)] {
                hull.include(&image(x, y), &image(x, y));
            }
            Some(hull)
        };
        let many = BoxMap::from_rects(&grid, iterated_enclosure(corners, 10), Mode::Full, &control).unwrap();
        assert_eq!(morse_sets(&many), 9, "no padding is needed, since corners enclose");

        // rounded to cells after each step, creeping is told less well
        assert!(morse_sets(&once.composed(10, &control).unwrap()) < 400);
        let none = once.composed(0, &control);
        assert!(matches!(none, Err(EngineError::Parameter { name: "times", .. })));
        assert_eq!(once.composed(1, &control).unwrap(), once);
    }
}
