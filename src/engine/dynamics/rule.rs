//! How cells of any depth are sent to boxes.

use rayon::prelude::*;

use super::adaptive_map::DeepImage;
use super::multivalued_map::CELLS_PER_TASK;
use crate::engine::grid::{Cover, Level, Rect};
use crate::engine::{Control, EngineError, Mode};

/// How the cells of any level are sent to boxes: a [`CornerRule`](super::CornerRule), which encloses the image of a cell
/// by those of its corners, or a [`RectRule`], which is told the image.
pub trait Rule: Sync {
    /// Whether *exit* and *unknown* are told of.
    fn mode(&self) -> Mode;

    /// Images of some cells of one level, sorted by key, in cells of a deeper one.
    #[doc(hidden)]
    fn images(
        &self,
        level: &Level,
        finest: &Level,
        keys: &[u64],
        control: &Control,
    ) -> Result<Vec<DeepImage>, EngineError>;

    /// The cells of a level to which one of them is sent; `None` if nothing is known of it.
    #[doc(hidden)]
    fn cover(&self, level: &Level, key: u64) -> Option<Cover> {
        let images = self.images(level, level, &[key], &Control::default());
        images.ok().and_then(|images| images.first().and_then(DeepImage::cover))
    }
}

/// Cells are sent to boxes that something else knows: a table, an enclosure of one's own, another program. Many are asked
/// for at a time, since the answer may have to come from afar.
///
/// ```
/// use doodl3::engine::dynamics::{AdaptiveMap, MorseDecomposition, RectRule, Refinement};
/// use doodl3::engine::grid::Rect;
/// use doodl3::engine::{Control, Mode};
///
/// // r x (1 − x) with its interval enclosure: the image of a cell around ½ reaches up to r/4
/// let logistic = |x: f64| 3.2 * x * (1.0 - x);
/// let enclose = |cells: &[Rect], images: &mut [Option<Rect>]| {
///     for (cell, image) in cells.iter().zip(images) {
///         let (a, b) = (cell.lower()[0], cell.upper()[0]);
///         let top = if (a..=b).contains(&0.5) { 0.8 } else { logistic(a).max(logistic(b)) };
///         *image = Some(Rect::new(&[logistic(a).min(logistic(b))], &[top]));
///     }
/// };
/// let rule = RectRule { enclose, mode: Mode::Compatible };
/// let refinement = Refinement { init: 0, min: 12, max: 16, limit: 10_000 };
/// let control = Control::default();
/// let domain = Rect::new(&[0.0], &[1.0]);
/// let map = AdaptiveMap::refine(domain, &[false], refinement, &rule, &control)?;
/// let morse = MorseDecomposition::of(&map, &control)?;
/// assert_eq!(morse.sets().len(), 3, "two unstable fixed points, and an orbit of period two");
/// # Ok::<(), doodl3::engine::EngineError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RectRule<F> {
    /// Writes the image of each cell beside it; what is left `None` is not known. Several threads may call it at once.
    pub enclose: F,
    /// Whether *exit* and *unknown* are told of.
    pub mode: Mode,
}

impl<F: Fn(&[Rect], &mut [Option<Rect>]) + Sync> Rule for RectRule<F> {
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
        let mut images = vec![DeepImage::unknown(self.mode); keys.len()];
        let tasks = keys.par_chunks(CELLS_PER_TASK).zip(images.par_chunks_mut(CELLS_PER_TASK));
        tasks.for_each(|(keys, images)| {
            if control.check().is_err() {
                return;
            }
            let cells: Vec<Rect> = keys.iter().map(|&key| level.rect(key)).collect();
            let mut rects = vec![None; cells.len()];
            (self.enclose)(&cells, &mut rects);
            for (image, rect) in images.iter_mut().zip(rects) {
                if let Some(rect) = rect {
                    *image = DeepImage::new(finest.cover(&rect), self.mode);
                }
            }
        });
        control.check()?;
        Ok(images)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::dynamics::{AdaptiveMap, CornerRule, PointMap, Refinement, Widening};

    #[test]
    fn corners_enclosed_by_hand_make_the_map_that_corners_make() {
        let bend = |x: &[f64], image: &mut [f64]| {
            image[0] = 1.4 * (3.0 * x[0]).sin() - x[1];
            image[1] = x[0] * x[1];
        };
        let enclose = |cells: &[Rect], images: &mut [Option<Rect>]| {
            for (cell, image) in cells.iter().zip(images) {
                let corner = |number: usize| {
                    let end = |axis: usize| [cell.lower()[axis], cell.upper()[axis]][number >> axis & 1];
                    let mut image = [0.0; 2];
                    bend(&[end(0), end(1)], &mut image);
                    image
                };
                let mut hull = Rect::point(&corner(0));
                (1..4).for_each(|number| hull.include(&corner(number), &corner(number)));
                hull.widen(&[cell.width(0), cell.width(1)]);
                *image = Some(hull);
            }
        };
        let domain = Rect::new(&[-1.0, 0.0], &[1.0, 1.0]);
        let refinement = Refinement { init: 3, min: 9, max: 11, limit: 1000 };
        let map = PointMap::new(bend);
        for mode in [Mode::Full, Mode::Compatible] {
            let corners = CornerRule { map: &map, widening: Widening::CellWidth, mode };
            let by_hand = RectRule { enclose, mode };
            let control = Control::default();
            assert_eq!(
                AdaptiveMap::refine(domain, &[false; 2], refinement, &by_hand, &control).unwrap(),
                AdaptiveMap::refine(domain, &[false; 2], refinement, &corners, &control).unwrap(),
            );
        }
    }
}
