//! Images of cells as hulls of the images of points on a lattice finer than the grid: on a coarse grid a map bends much
//! inside a cell, and its corners say little of it.

use rayon::prelude::*;

use super::{BoxMap, CornerImages, Corners, Lattice};
use crate::engine::grid::{MAX_DIMENSION, Rect, UniformGrid};
use crate::engine::{Control, EngineError, Mode};

/// Points that one task evaluates, about. Fixed, so that results do not depend on the number of threads.
const POINTS_PER_TASK: usize = 1 << 10;

/// For each cell the bounding box of the images of some points in it, corners among them.
#[derive(Clone, Debug, PartialEq)]
pub struct Hulls {
    dimension: usize,
    /// Ends of the boxes, `dimension` numbers a cell.
    lower: Vec<f64>,
    upper: Vec<f64>,
    trusted: Vec<bool>,
}

impl Hulls {
    /// Evaluates a map on the lattice of points that halves the cells of a grid `refinement` times along every axis.
    ///
    /// # Errors
    /// [`EngineError::Cancelled`].
    pub fn of(
        grid: &UniformGrid,
        map: &impl Corners,
        refinement: u32,
        control: &Control,
    ) -> Result<Self, EngineError> {
        let dimension = grid.dimension();
        let (cells, parts) = (grid.cells() as usize, 1usize << refinement);
        let lines: Vec<Vec<f64>> = (0..dimension)
            .map(|axis| {
                let count = grid.cells_along(axis) as usize * parts;
                let (lower, width) = (grid.domain().lower()[axis], grid.domain().width(axis));
                (0..=count).map(|index| lower + width * (index as f64 / count as f64)).collect()
            })
            .collect();
        let mut hulls = Self {
            dimension,
            lower: vec![0.0; cells * dimension],
            upper: vec![0.0; cells * dimension],
            trusted: vec![true; cells],
        };
        // a slab is all cells with one coordinate along the first axis
        let slab = cells / grid.cells_along(0) as usize;
        let points_of_slab: usize = parts * lines[1..].iter().map(Vec::len).product::<usize>();
        let slabs = (POINTS_PER_TASK / points_of_slab).max(1);
        let tasks = (
            hulls.lower.par_chunks_mut(slabs * slab * dimension),
            hulls.upper.par_chunks_mut(slabs * slab * dimension),
            hulls.trusted.par_chunks_mut(slabs * slab),
        );
        tasks.into_par_iter().enumerate().for_each(|(task, (lower, upper, trusted))| {
            if control.check().is_err() {
                return;
            }
            let first = task * slabs;
            let mut axes: Vec<&[f64]> = lines.iter().map(Vec::as_slice).collect();
            axes[0] = &axes[0][first * parts..=(first + trusted.len() / slab) * parts];
            let lattice = Lattice { axes: &axes };
            let points = Images::of(&lattice, map, control);
            let first_cell = first * slab;
            let boxes = lower.chunks_exact_mut(dimension).zip(upper.chunks_exact_mut(dimension));
            for (number, ((lower, upper), trusted)) in boxes.zip(trusted).enumerate() {
                let mut at = [0; MAX_DIMENSION];
                for (axis, at) in at.iter_mut().enumerate().take(dimension) {
                    let from = if axis == 0 { first } else { 0 };
                    *at = (grid.coordinate((first_cell + number) as u32, axis) as usize - from) * parts;
                }
                let (hull, is_trusted) = points.hull(&lattice, &at[..dimension], parts);
                lower.copy_from_slice(hull.lower());
                upper.copy_from_slice(hull.upper());
                *trusted = is_trusted;
            }
        });
        control.check()?;
        Ok(hulls)
    }

    /// The box of a cell; `None` where the map is not known at some point.
    pub fn of_cell(&self, cell: u32) -> Option<Rect> {
        self.trusted[cell as usize].then(|| self.rect(cell))
    }

    fn rect(&self, cell: u32) -> Rect {
        let at = cell as usize * self.dimension..(cell as usize + 1) * self.dimension;
        Rect::new(&self.lower[at.clone()], &self.upper[at])
    }
}

impl BoxMap {
    /// Encloses the image of each cell by the bounding box of the images of points in it.
    ///
    /// # Errors
    /// [`EngineError::Cancelled`].
    pub fn from_hulls(
        grid: &UniformGrid,
        hulls: &Hulls,
        mode: Mode,
        control: &Control,
    ) -> Result<Self, EngineError> {
        let cover = |cell: u32| {
            let hull = if mode == Mode::Full { hulls.of_cell(cell)? } else { hulls.rect(cell) };
            Some(grid.cover(&hull))
        };
        Self::from_covers(grid, cover, mode, control)
    }
}

/// Images of all points of a lattice.
struct Images {
    dimension: usize,
    lower: Vec<f64>,
    upper: Vec<f64>,
    trusted: Vec<bool>,
}

impl Images {
    fn of(lattice: &Lattice<'_>, map: &impl Corners, control: &Control) -> Self {
        let (dimension, points) = (lattice.axes.len(), lattice.len());
        let mut images = Self {
            dimension,
            lower: vec![0.0; points * dimension],
            upper: vec![0.0; points * dimension],
            trusted: vec![true; points],
        };
        let Self { lower, upper, trusted, .. } = &mut images;
        map.images(lattice, CornerImages { lower, upper, trusted }, control);
        images
    }

    /// The bounding box of the images of the points from `at` to `parts` further along every axis, and whether the map is
    /// known at all of them.
    fn hull(&self, lattice: &Lattice<'_>, at: &[usize], parts: usize) -> (Rect, bool) {
        let d = self.dimension;
        let mut hull: Option<Rect> = None;
        let mut is_trusted = true;
        for number in 0..(parts + 1).pow(d as u32) {
            let (mut rest, mut point) = (number, 0);
            for (axis, line) in lattice.axes.iter().enumerate() {
                point = point * line.len() + at[axis] + rest % (parts + 1);
                rest /= parts + 1;
            }
            let (lower, upper) =
                (&self.lower[point * d..(point + 1) * d], &self.upper[point * d..(point + 1) * d]);
            hull.get_or_insert_with(|| Rect::new(lower, upper)).include(lower, upper);
            is_trusted &= self.trusted[point];
        }
        (hull.unwrap_or_else(|| Rect::point(&vec![f64::NAN; d])), is_trusted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::dynamics::{PointMap, Widening};

    #[test]
    fn without_refinement_the_images_are_those_of_corners() {
        let grid = UniformGrid::new(Rect::new(&[-1.0, 0.0], &[2.0, 1.0]), 9).unwrap();
        let map = PointMap::new(|x: &[f64], image: &mut [f64]| {
            image[0] = 1.4 * (3.0 * x[0]).sin() - x[1];
            image[1] = x[0] * x[1];
        });
        let control = Control::default();
        let hulls = Hulls::of(&grid, &map, 0, &control).unwrap();
        for mode in [Mode::Full, Mode::Compatible] {
            let corners = BoxMap::from_corners(&grid, &map, Widening::None, mode, &control).unwrap();
            assert_eq!(BoxMap::from_hulls(&grid, &hulls, mode, &control).unwrap(), corners);
        }
    }

    #[test]
    fn points_inside_show_what_corners_do_not() {
        let grid = UniformGrid::new(Rect::new(&[-1.0], &[1.0]), 0).unwrap();
        let map = PointMap::new(|x: &[f64], image: &mut [f64]| image[0] = x[0] * x[0]);
        let at = |refinement| Hulls::of(&grid, &map, refinement, &Control::default()).unwrap().of_cell(0);
        assert_eq!(at(0), Some(Rect::new(&[1.0], &[1.0])));
        assert_eq!(at(2), Some(Rect::new(&[0.0], &[1.0])));
    }
}
