//! Cells of several depths.

use super::ranks::Ranks;
use super::{Level, Rect};

/// A box of at most so many rows is sought row by row; in a larger one rows without cells are passed over.
const FEW_ROWS: u64 = 16;

/// Some cells of one level, numbered in the order of their keys.
#[derive(Clone, Debug, PartialEq)]
pub struct CellSet {
    level: Level,
    /// Increasing.
    keys: Vec<u64>,
    ranks: Ranks,
}

impl CellSet {
    /// The cells with these keys, which must increase.
    ///
    /// # Panics
    /// If there are more than 2³⁰ of them.
    pub fn new(level: Level, keys: Vec<u64>) -> Self {
        debug_assert!(keys.is_sorted_by(|a, b| a < b));
        assert!(keys.len() <= 1 << 30, "cells are numbered in 32 bits");
        let ranks = Ranks::of(&keys, level.depth());
        Self { level, keys, ranks }
    }

    /// The level on which the cells lie.
    pub fn level(&self) -> &Level {
        &self.level
    }

    /// Their keys, increasing.
    pub fn keys(&self) -> &[u64] {
        &self.keys
    }

    /// Number of the first cell whose key is not below `key`.
    #[inline]
    pub(in crate::engine) fn lower_bound(&self, key: u64) -> usize {
        self.ranks.before(key, &self.keys)
    }

    /// The number of a cell, if it is one of them.
    pub fn position(&self, key: u64) -> Option<usize> {
        let at = self.lower_bound(key);
        (self.keys.get(at) == Some(&key)).then_some(at)
    }

    /// Calls `visit` with each run of cells of a box, in increasing order.
    #[inline]
    fn for_each_run(&self, first: u64, last: u64, mut visit: impl FnMut(std::ops::Range<usize>)) {
        if !self.level.goes_across(first, last) && self.level.rows(first, last) <= FEW_ROWS {
            self.level.for_each_run(first, last, |keys| {
                let (start, end) = self.ranks.between(keys.start, keys.end, &self.keys);
                if start < end {
                    visit(start..end);
                }
            });
            return;
        }
        let mut run = self.next_run(first, last, self.lower_bound(self.level.least(first, last)));
        while !run.is_empty() {
            let next = run.end;
            visit(run);
            run = self.next_run(first, last, next);
        }
    }

    /// The first run of cells of a box, of those that are numbered at least `from`; empty if there are none.
    #[inline]
    pub(in crate::engine) fn next_run(&self, first: u64, last: u64, from: usize) -> std::ops::Range<usize> {
        let mut at = from;
        while let Some(&key) = self.keys.get(at) {
            let run = self.level.next_run(first, last, key);
            if run.is_empty() {
                break;
            }
            if run.start > key {
                at = self.lower_bound(run.start).max(at + 1);
                if self.keys.get(at).is_none_or(|&key| key >= run.end) {
                    continue;
                }
            }
            return at..self.lower_bound(run.end);
        }
        0..0
    }
}

/// Cells of several depths that do not overlap: leaves of the tree of all bisections.
///
/// They are numbered level by level, the shallowest first, and by their keys within a level.
#[derive(Clone, Debug, PartialEq)]
pub struct AdaptiveGrid {
    /// The deepest level that cells may have; images are known in its cells.
    finest: Level,
    sets: Vec<CellSet>,
    /// Number of the first cell of each set, and at last the number of cells.
    starts: Vec<u32>,
    /// A level on which it is known for each cell …
    coarse: Level,
    /// … on which sets cells lie that meet it, one bit each.
    presence: Vec<u64>,
}

/// Deepest level of [`AdaptiveGrid::coarse`]: half a million cells.
const COARSE: u32 = 18;

impl AdaptiveGrid {
    /// The grid of some cells that do not overlap, with the shallowest set first.
    ///
    /// # Panics
    /// If there are more than 2³⁰ cells.
    pub fn new(finest: Level, sets: Vec<CellSet>) -> Self {
        debug_assert!(sets.is_sorted_by_key(|set| set.level.depth()));
        let mut starts = vec![0u32];
        for set in &sets {
            starts.push(starts[starts.len() - 1] + set.keys.len() as u32);
        }
        assert!(starts[sets.len()] <= 1 << 30, "cells are numbered in 32 bits");
        let deepest = sets.last().map_or(0, |set| set.level.depth());
        let coarse = finest.ancestor_level(if sets.len() > 1 { deepest.min(COARSE) } else { 0 });
        let mut presence = vec![0; coarse.cells() as usize];
        for (number, set) in sets.iter().enumerate() {
            for &key in &set.keys {
                if set.level.depth() >= coarse.depth() {
                    presence[set.level.ancestor(key, &coarse) as usize] |= 1 << number;
                } else {
                    let (first, last) = set.level.descendants(key, &coarse);
                    coarse.for_each_run(first, last, |run| {
                        presence[run.start as usize..run.end as usize]
                            .iter_mut()
                            .for_each(|sets| *sets |= 1 << number);
                    });
                }
            }
        }
        Self { finest, sets, starts, coarse, presence }
    }

    /// The deepest level that cells may have.
    pub fn finest(&self) -> &Level {
        &self.finest
    }

    /// Its cells, depth by depth.
    pub fn sets(&self) -> &[CellSet] {
        &self.sets
    }

    /// Number of cells.
    pub fn cells(&self) -> u32 {
        self.starts[self.sets.len()]
    }

    /// The level of a cell, and its key there.
    pub fn cell(&self, cell: u32) -> (&Level, u64) {
        let set = self.set_of(cell);
        (&self.sets[set].level, self.sets[set].keys[(cell - self.starts[set]) as usize])
    }

    /// The cell with this key on a level, if it is one.
    pub fn position(&self, level: &Level, key: u64) -> Option<u32> {
        let set = self.sets.binary_search_by_key(&level.depth(), |set| set.level.depth()).ok()?;
        self.sets[set].position(key).map(|at| self.starts[set] + at as u32)
    }

    /// A cell's region.
    pub fn rect(&self, cell: u32) -> Rect {
        let (level, key) = self.cell(cell);
        level.rect(key)
    }

    /// The cell in which a point lies, `None` outside all of them.
    pub fn cell_at(&self, point: &[f64]) -> Option<u32> {
        let key = self.finest.cell_at(point)?;
        self.sets.iter().zip(&self.starts).find_map(|(set, start)| {
            set.position(self.finest.ancestor(key, &set.level)).map(|at| start + at as u32)
        })
    }

    fn set_of(&self, cell: u32) -> usize {
        self.starts.partition_point(|&start| start <= cell) - 1
    }

    /// Sets in which cells may lie that meet a box of the finest level's cells, one bit each.
    #[inline]
    fn present(&self, first: u64, last: u64) -> u64 {
        if self.sets.len() == 1 {
            return 1;
        }
        let (first, last) = self.finest.ancestor_box(first, last, &self.coarse);
        if first == last {
            return self.presence[first as usize];
        }
        let mut present = 0;
        let mut run = self.coarse.next_run(first, last, 0);
        while !run.is_empty() {
            present |=
                self.presence[run.start as usize..run.end as usize].iter().fold(0, |all, sets| all | sets);
            run = self.coarse.next_run(first, last, run.end);
        }
        present
    }

    /// Calls `visit` with each run of cells that meet a box of the finest level's cells, in increasing order.
    #[inline]
    pub(in crate::engine) fn for_each_run(
        &self,
        first: u64,
        last: u64,
        mut visit: impl FnMut(std::ops::Range<u32>),
    ) {
        let mut present = self.present(first, last);
        while present != 0 {
            let number = present.trailing_zeros() as usize;
            present &= present - 1;
            let (set, start) = (&self.sets[number], self.starts[number]);
            let (first, last) = self.finest.ancestor_box(first, last, &set.level);
            set.for_each_run(first, last, |run| visit(start + run.start as u32..start + run.end as u32));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The cells of a random tree.
    fn random_grid(dimension: usize, depth: u32, mut seed: u64) -> AdaptiveGrid {
        let finest = Level::new(Rect::new(&vec![0.0; dimension], &vec![1.0; dimension]), depth).unwrap();
        let mut keys = vec![0u64];
        let mut sets = Vec::new();
        for depth in 0..=depth {
            let level = finest.ancestor_level(depth);
            let (mut leaves, mut inner) = (Vec::new(), Vec::new());
            for key in keys {
                seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                if depth == finest.depth() || seed >> 62 == 0 {
                    leaves.push(key);
                } else {
                    inner.extend(level.halves(key));
                }
            }
            inner.sort_unstable();
            keys = inner;
            if !leaves.is_empty() {
                sets.push(CellSet::new(level, leaves));
            }
        }
        AdaptiveGrid::new(finest, sets)
    }

    proptest! {
        #[test]
        fn a_box_meets_the_cells_that_it_overlaps(
            dimension in 1usize..4, depth in 0u32..9, seed: u64, ends: (u64, u64), periodic: bool
        ) {
            let mut grid = random_grid(dimension, depth, seed);
            let flags = vec![periodic; dimension];
            grid.finest = grid.finest.with_periodic_axes(&flags);
            grid.coarse = grid.coarse.with_periodic_axes(&flags);
            for set in &mut grid.sets {
                set.level = set.level.clone().with_periodic_axes(&flags);
            }
            let finest = &grid.finest;
            let (mut first, mut last) = (ends.0 % finest.cells(), ends.1 % finest.cells());
            if !periodic {
                for axis in 0..dimension {
                    let mask = finest.mask(axis);
                    if first & mask > last & mask {
                        (first, last) = (first & !mask | last & mask, last & !mask | first & mask);
                    }
                }
            }
            let mut expected: Vec<u32> = Vec::new();
            let mut run = finest.next_run(first, last, 0);
            while !run.is_empty() {
                for key in run.clone() {
                    let rect = finest.rect(key);
                    let centre: Vec<f64> = rect.lower().iter().zip(rect.upper()).map(|(a, b)| f64::midpoint(*a, *b)).collect();
                    expected.push(grid.cell_at(&centre).unwrap());
                }
                run = finest.next_run(first, last, run.end);
            }
            expected.sort_unstable();
            expected.dedup();
            let mut all: Vec<u32> = Vec::new();
            grid.for_each_run(first, last, |run| all.extend(run));
            prop_assert_eq!(&all, &expected);
            for cell in 0..grid.cells() {
                let rect = grid.rect(cell);
                let centre: Vec<f64> = rect.lower().iter().zip(rect.upper()).map(|(a, b)| f64::midpoint(*a, *b)).collect();
                prop_assert_eq!(grid.cell_at(&centre), Some(cell));
            }
        }
    }
}
