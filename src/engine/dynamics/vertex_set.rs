//! Sets of vertices, one bit each.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::engine::grid::Rows;

/// A set of vertices, one bit each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VertexSet {
    pub(super) words: Vec<u64>,
}

impl VertexSet {
    /// None of `count` vertices.
    pub(super) fn none(count: u32) -> Self {
        Self { words: vec![0; (count as usize).div_ceil(64)] }
    }

    /// The vertices `0..count`.
    pub(super) fn all(count: u32) -> Self {
        let mut words = vec![u64::MAX; (count as usize).div_ceil(64)];
        if let Some(last) = words.last_mut()
            && !count.is_multiple_of(64)
        {
            *last = (1 << (count % 64)) - 1;
        }
        Self { words }
    }

    /// Puts a vertex in.
    #[inline]
    pub(super) fn insert(&mut self, vertex: u32) {
        self.words[vertex as usize / 64] |= 1 << (vertex % 64);
    }

    /// Takes a vertex out.
    #[inline]
    pub(super) fn remove(&mut self, vertex: u32) {
        self.words[vertex as usize / 64] &= !(1 << (vertex % 64));
    }

    /// Whether a vertex is in it.
    #[inline]
    pub(super) fn contains(&self, vertex: u32) -> bool {
        self.words[vertex as usize / 64] >> (vertex % 64) & 1 == 1
    }

    /// Number of its vertices.
    pub(super) fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether it has none.
    pub(super) fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    /// Its vertices, in increasing order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        self.words.iter().zip(0..).flat_map(|(&word, number)| bits(word, number))
    }

    /// Puts in the vertices of another set.
    pub(super) fn insert_all(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word |= other);
    }

    /// Takes out the vertices of another set.
    pub(super) fn remove_all(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word &= !other);
    }

    /// Takes out the vertices that are not in another set.
    pub(super) fn keep_only(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word &= other);
    }

    /// The first vertex that is in it, of those that are at least `from`.
    pub(super) fn next(&self, from: u32) -> Option<u32> {
        let first = from as usize / 64;
        let kept = |(number, &word): (usize, &u64)| {
            if number == first { word & u64::MAX << (from % 64) } else { word }
        };
        let (number, word) = self
            .words
            .iter()
            .enumerate()
            .skip(first)
            .map(|at| (at.0, kept(at)))
            .find(|&(_, word)| word != 0)?;
        Some(number as u32 * 64 + word.trailing_zeros())
    }

    /// The first vertex of some runs that is in it.
    #[inline]
    pub(super) fn first_of(&self, rows: Rows<u32>) -> Option<u32> {
        let first = try_for_each_word(rows, |number, mask| match self.words[number] & mask {
            0 => ControlFlow::Continue(()),
            found => ControlFlow::Break(number as u32 * 64 + found.trailing_zeros()),
        });
        first.break_value()
    }
}

/// A set of vertices into which many threads put more.
pub(super) struct SharedVertexSet {
    words: Vec<AtomicU64>,
}

impl SharedVertexSet {
    /// None of `count` vertices.
    pub(super) fn none(count: u32) -> Self {
        Self { words: (0..(count as usize).div_ceil(64)).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Puts in the vertices of a mask on one word; returns those that were not in before.
    #[inline]
    pub(super) fn insert_all(&self, number: usize, mask: u64) -> u64 {
        let word = &self.words[number];
        let fresh = mask & !word.load(Ordering::Relaxed);
        if fresh == 0 { 0 } else { fresh & !word.fetch_or(fresh, Ordering::Relaxed) }
    }

    /// Takes out the vertices of one word, and returns them.
    #[inline]
    pub(super) fn take(&self, number: usize) -> u64 {
        self.words[number].swap(0, Ordering::Relaxed)
    }

    pub(super) fn into_set(self) -> VertexSet {
        VertexSet { words: self.words.into_iter().map(AtomicU64::into_inner).collect() }
    }
}

impl From<VertexSet> for SharedVertexSet {
    fn from(set: VertexSet) -> Self {
        Self { words: set.words.into_iter().map(AtomicU64::new).collect() }
    }
}

/// The vertices in one word of a set.
pub(super) fn bits(word: u64, number: u32) -> impl Iterator<Item = u32> {
    let nonempty = |word: u64| (word != 0).then_some(word);
    std::iter::successors(nonempty(word), move |word| nonempty(word & (word - 1)))
        .map(move |word| number * 64 + word.trailing_zeros())
}

/// Calls `visit` with the number of each word of a set in which some runs of vertices lie, and their bits in it, until it
/// breaks off.
#[inline]
pub(super) fn try_for_each_word<B>(
    rows: Rows<u32>,
    mut visit: impl FnMut(usize, u64) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let Rows { mut start, length, stride, count } = rows;
    for _ in 0..count {
        let last = start + (length - 1);
        let (from, to) = (start as usize / 64, last as usize / 64);
        let (after, before) = (u64::MAX << (start % 64), u64::MAX >> (63 - last % 64));
        if from == to {
            visit(from, after & before)?;
        } else {
            visit(from, after)?;
            (from + 1..to).try_for_each(|number| visit(number, u64::MAX))?;
            visit(to, before)?;
        }
        start += stride;
    }
    ControlFlow::Continue(())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn rows_are_the_same_in_words() {
        for (start, length, stride, count) in
            [(3, 1, 9, 1), (0, 64, 64, 2), (60, 10, 20, 5), (64, 64, 1, 1), (1, 199, 0, 1), (5, 3, 64, 3)]
        {
            let rows = Rows { start, length, stride, count };
            let mut set = VertexSet::none(256);
            let _ = try_for_each_word(rows, |number, mask| {
                set.words[number] |= mask;
                ControlFlow::<Infallible>::Continue(())
            });
            let members: Vec<u32> = set.iter().collect();
            assert_eq!(members, rows.runs().flatten().collect::<Vec<_>>(), "{rows:?}");
            assert_eq!(set.len(), members.len());
            assert_eq!(VertexSet::all(256).first_of(rows), Some(start));
            let mut after = VertexSet::all(256);
            (0..=start).for_each(|vertex| after.remove(vertex));
            assert_eq!(after.first_of(rows), members.iter().copied().find(|&vertex| vertex > start));
        }
        assert_eq!(VertexSet::all(70).len(), 70);
    }

    #[test]
    fn vertices_come_and_go() {
        let mut set = VertexSet::none(130);
        for vertex in [129, 64, 3] {
            set.insert(vertex);
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), [3, 64, 129]);
        assert_eq!((set.next(4), set.next(129), set.next(65)), (Some(64), Some(129), Some(129)));
        let mut other = VertexSet::none(130);
        other.insert(64);
        set.remove_all(&other);
        assert!(set.contains(129) && !set.contains(64));
    }
}
