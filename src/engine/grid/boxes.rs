//! Boxes of cells: those whose coordinates lie between those of a first and a last cell.
//!
//! Cells of a box that differ in the last coordinate alone are a run of consecutive keys, so a box is enumerated run by
//! run. Coordinates are compared in place: masked, but not shifted.

use std::convert::Infallible;
use std::ops::{ControlFlow, Range};

use super::Level;

/// Runs of cells of one length, at equal distances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows<T> {
    /// First cell of the first run.
    pub start: T,
    /// Cells of each run, at least one.
    pub length: T,
    /// From the start of a run to that of the next.
    pub stride: T,
    /// Number of runs, at least one.
    pub count: T,
}

impl Rows<u64> {
    #[inline]
    fn runs(self) -> impl Iterator<Item = Range<u64>> {
        let Self { start, length, stride, count } = self;
        (0..count).map(move |row| start + row * stride..start + row * stride + length)
    }
}

impl Rows<u32> {
    /// One run, which must not be empty.
    #[inline]
    pub fn one(run: Range<u32>) -> Self {
        Self { start: run.start, length: run.end - run.start, stride: 0, count: 1 }
    }

    /// Run by run.
    #[inline]
    pub fn runs(self) -> impl Iterator<Item = Range<u32>> {
        let Self { start, length, stride, count } = self;
        (0..count).map(move |row| start + row * stride..start + row * stride + length)
    }

    /// Number of cells.
    #[inline]
    pub fn cells(self) -> u64 {
        u64::from(self.length) * u64::from(self.count)
    }
}

impl Level {
    /// Whether a box goes on across the ends of a periodic axis.
    #[inline]
    pub(in crate::engine) fn goes_across(&self, first: u64, last: u64) -> bool {
        self.has_periodic_axes()
            && (0..self.dimension()).any(|axis| first & self.mask(axis) > last & self.mask(axis))
    }

    /// The parts of a box on this side and on the other of all ends that it goes across: boxes that do not.
    fn split(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, u64)> {
        let across = move |axis: &usize| first & self.mask(*axis) > last & self.mask(*axis);
        let parts = 1u32 << (0..self.dimension()).filter(across).count();
        (0..parts).map(move |part| {
            let (mut from, mut to) = (first, last);
            for (bit, axis) in (0..self.dimension()).filter(across).enumerate() {
                let mask = self.mask(axis);
                if part >> bit & 1 == 0 { to |= mask } else { from &= !mask }
            }
            (from, to)
        })
    }

    /// Number of runs of a box that goes across no ends.
    #[inline]
    pub(super) fn rows(&self, first: u64, last: u64) -> u64 {
        (0..self.dimension() - 1)
            .map(|axis| u64::from(self.coordinate(last, axis) - self.coordinate(first, axis) + 1))
            .product()
    }

    /// Calls `visit` with the runs of cells of a box that goes across no ends, in increasing order and as many as lie at
    /// equal distances at once, until it breaks off. Begins with the run in which `from` lies, one of the box' cells.
    #[inline]
    pub(in crate::engine) fn try_for_each_rows<B>(
        &self,
        first: u64,
        last: u64,
        from: u64,
        mut visit: impl FnMut(Rows<u64>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let dimension = self.dimension();
        let fast = self.mask(dimension - 1);
        let length = ((last - first) & fast) + 1;
        if dimension == 1 {
            return visit(Rows { start: first, length, stride: length, count: 1 });
        }
        let inner = self.mask(dimension - 2);
        let (stride, shift) = (fast + 1, (fast + 1).trailing_zeros());
        let mut start = from & !fast | first & fast;
        loop {
            let count = (((last & inner) - (start & inner)) >> shift) + 1;
            visit(Rows { start, length, stride, count })?;
            // one further along the last of the slower axes that allows it
            let Some(axis) =
                (0..dimension - 2).rev().find(|&axis| start & self.mask(axis) < last & self.mask(axis))
            else {
                return ControlFlow::Continue(());
            };
            let faster = (1 << self.mask(axis).trailing_zeros()) - 1;
            start = ((start & !faster) + faster + 1) | first & faster;
        }
    }

    /// Calls `visit` with each run of cells of a box that goes across no ends.
    #[inline]
    pub(in crate::engine) fn for_each_run(&self, first: u64, last: u64, mut visit: impl FnMut(Range<u64>)) {
        let visit = |rows: Rows<u64>| {
            rows.runs().for_each(&mut visit);
            ControlFlow::<Infallible>::Continue(())
        };
        let _ = self.try_for_each_rows(first, last, first, visit);
    }

    /// Whether a cell lies in a box.
    #[inline]
    pub(in crate::engine) fn holds(&self, first: u64, last: u64, cell: u64) -> bool {
        (0..self.dimension()).all(|axis| {
            let mask = self.mask(axis);
            let (first, last, at) = (first & mask, last & mask, cell & mask);
            if first <= last { first <= at && at <= last } else { first <= at || at <= last }
        })
    }

    /// The first run of a box, of its cells that are at least `from`; empty if there are none.
    #[inline]
    pub(in crate::engine) fn next_run(&self, first: u64, last: u64, from: u64) -> Range<u64> {
        if self.goes_across(first, last) {
            let runs = self.split(first, last).map(|(first, last)| self.run_in_part(first, last, from));
            return runs.filter(|run| !run.is_empty()).min_by_key(|run| run.start).unwrap_or(0..0);
        }
        self.run_in_part(first, last, from)
    }

    #[inline]
    fn run_in_part(&self, first: u64, last: u64, from: u64) -> Range<u64> {
        let Some(start) = self.next_in_box(first, last, from) else { return 0..0 };
        // the run goes on to the end of the box along the last axis
        let fast = self.mask(self.dimension() - 1);
        start..(start & !fast | last & fast) + 1
    }

    /// The smallest cell of a box that goes across no ends that is at least `from`.
    fn next_in_box(&self, first: u64, last: u64, from: u64) -> Option<u64> {
        if from <= first {
            return Some(first);
        }
        if from > last {
            return None;
        }
        for axis in 0..self.dimension() {
            let mask = self.mask(axis);
            // all bits of this axis and the faster ones
            let tail = mask | (mask & mask.wrapping_neg()).wrapping_sub(1);
            if from & mask < first & mask {
                return Some(from & !tail | first & tail);
            }
            if from & mask > last & mask {
                // back to the start along this axis and the faster ones, one further along the last slower axis that
                // allows it
                return (0..axis).rev().find_map(|slower| {
                    let mask = self.mask(slower);
                    let faster = (mask & mask.wrapping_neg()).wrapping_sub(1);
                    let unit = faster.wrapping_add(1);
                    (from & mask < last & mask).then(|| ((from & !faster) + unit) | first & faster)
                });
            }
        }
        Some(from)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::grid::Rect;

    proptest! {
        #[test]
        fn all_ways_to_enumerate_a_box_agree(
            dimension in 1usize..5, subdivisions in 0u32..9, ends in (any::<u64>(), any::<u64>()), periodic: bool
        ) {
            let grid = Level::new(Rect::new(&vec![0.0; dimension], &vec![1.0; dimension]), subdivisions).unwrap();
            let grid = grid.with_periodic_axes(&vec![periodic; dimension]);
            let (mut first, mut last) = (ends.0 % grid.cells(), ends.1 % grid.cells());
            if !periodic {
                for axis in 0..dimension {
                    let mask = grid.mask(axis);
                    if first & mask > last & mask {
                        (first, last) = (first & !mask | last & mask, last & !mask | first & mask);
                    }
                }
            }
            let between = |at: u64, first: u64, last: u64| {
                if first <= last { (first..=last).contains(&at) } else { at >= first || at <= last }
            };
            let inside = |cell: &u64| (0..dimension).all(|axis| {
                let mask = grid.mask(axis);
                between(cell & mask, first & mask, last & mask)
            });
            let expected: Vec<u64> = (0..grid.cells()).filter(inside).collect();

            let mut next = Vec::new();
            let mut run = grid.next_run(first, last, 0);
            while !run.is_empty() {
                next.extend(run.clone());
                run = grid.next_run(first, last, run.end);
            }
            prop_assert_eq!(&next, &expected);
            let mut parts = Vec::new();
            for (first, last) in grid.split(first, last) {
                prop_assert!(!grid.goes_across(first, last));
                grid.for_each_run(first, last, |run| parts.extend(run));
                for from in (first..=last).filter(|&from| grid.holds(first, last, from)).step_by(7) {
                    let mut rest: Vec<u64> = Vec::new();
                    let visit = |rows: Rows<u64>| {
                        rows.runs().for_each(|run| rest.extend(run));
                        ControlFlow::<()>::Continue(())
                    };
                    prop_assert!(grid.try_for_each_rows(first, last, from, visit).is_continue());
                    let run = grid.next_run(first, last, from & !grid.mask(dimension - 1));
                    let all = (run.start..=last).filter(|&cell| grid.holds(first, last, cell));
                    prop_assert_eq!(rest, all.collect::<Vec<_>>());
                }
            }
            prop_assert!((0..grid.cells()).all(|cell| grid.holds(first, last, cell) == inside(&cell)));
            parts.sort_unstable();
            prop_assert_eq!(parts, expected);
        }
    }
}
