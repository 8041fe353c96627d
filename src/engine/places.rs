//! Where the cells of an analysis lie.

use super::grid::Rect;
use super::{Grid, GridLevel};

/// Finds the cells of an analysis' grid, uniform or adaptive.
#[derive(Clone, Debug)]
pub struct Places<'a> {
    grid: &'a Grid,
    /// Cells that follow each other on one level: the number of the first, the level's number, the first's key there.
    spans: Vec<(usize, usize, usize)>,
}

/// A cell on its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    level: &'a GridLevel,
    key: usize,
}

impl<'a> Places<'a> {
    /// Of the cells of this grid.
    pub fn of(grid: &'a Grid) -> Self {
        let mut spans = Vec::new();
        let mut first = 0;
        for (number, level) in grid.levels.iter().enumerate() {
            for &(key, length) in &level.keys {
                spans.push((first, number, key));
                first += length;
            }
        }
        Self { grid, spans }
    }

    /// The place of a cell; `None` if the grid has no such cell.
    pub fn get(&self, cell: usize) -> Option<Place<'a>> {
        let after = self.spans.partition_point(|&(first, ..)| first <= cell);
        let &(first, level, key) =
            self.spans.get(after.checked_sub(1)?).filter(|_| cell < self.grid.cells)?;
        Some(Place { level: &self.grid.levels[level], key: key + (cell - first) })
    }

    /// The box of a cell, in the projection's units.
    pub fn rect(&self, place: Place<'_>) -> Rect {
        self.row(place, 1)
    }

    /// The box of cells that follow each other along the last axis of a level.
    fn row(&self, place: Place<'_>, length: usize) -> Rect {
        let edge = |axis: usize, at: usize| {
            let cells = place.level.cells_per_axis[axis];
            let (lower, upper) = (self.grid.lower[axis], self.grid.upper[axis]);
            if at == cells { upper } else { lower + (upper - lower) * at as f64 / cells as f64 }
        };
        let dimension = self.grid.lower.len();
        let length = |axis: usize| if axis + 1 == dimension { length } else { 1 };
        let (lower, upper): (Vec<f64>, Vec<f64>) = (0..dimension)
            .map(|axis| (axis, place.coordinate(axis)))
            .map(|(axis, at)| (edge(axis, at), edge(axis, at + length(axis))))
            .unzip();
        Rect::new(&lower, &upper)
    }

    /// Boxes that share no interior and make up cells that are given as runs (first cell, length): cells that follow each
    /// other along the last axis of a level are one box.
    pub fn rows(&self, cells: &[(usize, usize)]) -> Vec<Rect> {
        let mut rects = Vec::new();
        for (mut place, mut length) in self.stretches(cells.iter().copied()) {
            let row = place.level.cells_per_axis.last().copied().unwrap_or(1);
            while length > 0 {
                let here = length.min(row - place.key % row);
                rects.push(self.row(place, here));
                place.key += here;
                length -= here;
            }
        }
        rects
    }

    /// The places of cells that are given as runs (first cell, length), in order.
    pub fn each(&self, cells: impl IntoIterator<Item = (usize, usize)>) -> impl Iterator<Item = Place<'a>> {
        self.stretches(cells)
            .flat_map(|(place, length)| (0..length).map(move |at| Place { key: place.key + at, ..place }))
    }

    /// Share of the domain's volume that cells take which are given as runs (first cell, length).
    pub fn volume_share(&self, cells: impl IntoIterator<Item = (usize, usize)>) -> f64 {
        self.stretches(cells).map(|(place, length)| length as f64 * place.volume_share()).sum()
    }

    /// Cells that are given as runs (first cell, length), as cells of one level that follow each other there.
    fn stretches(
        &self,
        cells: impl IntoIterator<Item = (usize, usize)>,
    ) -> impl Iterator<Item = (Place<'a>, usize)> {
        cells.into_iter().flat_map(move |(first, length)| {
            let end = first + length;
            let mut cell = first;
            std::iter::from_fn(move || {
                let place = self.get(cell).filter(|_| cell < end)?;
                let next_span = self.spans.partition_point(|&(first, ..)| first <= cell);
                let stop = self.spans.get(next_span).map_or(end, |&(first, ..)| first.min(end));
                let length = stop - cell;
                cell = stop;
                Some((place, length))
            })
        })
    }
}

impl Place<'_> {
    /// Position along an axis, in cells of the level.
    pub fn coordinate(&self, axis: usize) -> usize {
        let per_axis = &self.level.cells_per_axis;
        let after: usize = per_axis[axis + 1..].iter().product();
        self.key / after % per_axis[axis]
    }

    /// Number of cells of the level along an axis.
    pub fn cells_along(&self, axis: usize) -> usize {
        self.level.cells_per_axis[axis]
    }

    /// Share of the domain's volume.
    pub fn volume_share(&self) -> f64 {
        0.5f64.powi(self.level.subdivisions as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A square of which the left half is one cell, and the right half is cut into 2 × 4, four of them left out.
    fn grid() -> Grid {
        Grid {
            lower: vec![0.0, 0.0],
            upper: vec![4.0, 4.0],
            cells_per_axis: vec![4, 4],
            cells: 5,
            edges: 0,
            levels: vec![
                GridLevel { subdivisions: 1, cells_per_axis: vec![2, 1], keys: vec![(0, 1)] },
                GridLevel { subdivisions: 4, cells_per_axis: vec![4, 4], keys: vec![(8, 3), (15, 1)] },
            ],
        }
    }

    #[test]
    fn cells_are_found_on_their_levels() {
        let grid = grid();
        let places = Places::of(&grid);
        let rect = |cell: usize| places.rect(places.get(cell).unwrap());
        assert_eq!(rect(0), Rect::new(&[0.0, 0.0], &[2.0, 4.0]));
        assert_eq!(rect(2), Rect::new(&[2.0, 1.0], &[3.0, 2.0]));
        assert_eq!(rect(4), Rect::new(&[3.0, 3.0], &[4.0, 4.0]));
        assert_eq!(places.get(5), None);
    }

    #[test]
    fn rows_and_volumes_take_in_all_cells_once() {
        let grid = grid();
        let places = Places::of(&grid);
        assert_eq!(
            places.rows(&[(0, 3), (4, 1)]),
            [
                Rect::new(&[0.0, 0.0], &[2.0, 4.0]),
                Rect::new(&[2.0, 0.0], &[3.0, 2.0]),
                Rect::new(&[3.0, 3.0], &[4.0, 4.0])
            ]
        );
        assert_eq!(places.volume_share([(0, 3), (4, 1)]), 0.5 + 3.0 / 16.0);
    }
}
