//! Vertices to which no cycle leads.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use super::Digraph;
use super::poll::Poll;
use crate::engine::grid::Rows;
use crate::engine::{Control, EngineError};

/// Another round is worth its cost while it trims one vertex in so many: a round looks at all edges that are left, as
/// the search for components does, but in order and in parallel.
const WORTHWHILE: usize = 6;

/// Words of a set that one task takes.
const WORDS_PER_TASK: usize = 1 << 8;

/// A set of vertices, one bit each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VertexSet {
    words: Vec<u64>,
}

impl VertexSet {
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

    /// Takes a vertex out.
    #[inline]
    pub(super) fn remove(&mut self, vertex: u32) {
        self.words[vertex as usize / 64] &= !(1 << (vertex % 64));
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

/// The vertices in one word of a set.
fn bits(word: u64, number: u32) -> impl Iterator<Item = u32> {
    let nonempty = |word: u64| (word != 0).then_some(word);
    std::iter::successors(nonempty(word), move |word| nonempty(word & (word - 1)))
        .map(move |word| number * 64 + word.trailing_zeros())
}

/// Calls `visit` with the number of each word of a set in which some runs of vertices lie, and their bits in it, until it
/// breaks off.
#[inline]
fn try_for_each_word<B>(
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

/// The vertices of a graph, cut into a core that maps into itself and layers before it.
pub(super) struct Trimmed {
    /// Holds all cycles. No edge leaves it.
    pub(super) core: VertexSet,
    /// Room for the core's vertices, then the layers, the one next to the core first.
    pub(super) order: Vec<u32>,
    /// Where in `order` the core ends, and where each layer ends.
    pub(super) layers: Vec<usize>,
}

impl Trimmed {
    /// With X₀ all vertices and Xₙ₊₁ = F(Xₙ), the layer Xₙ \ Xₙ₊₁ cannot be entered from Xₙ, and all its edges lead to
    /// Xₙ₊₁; cycles lie in every Xₙ.
    pub(super) fn of<G: Digraph + ?Sized>(graph: &G, control: &Control) -> Result<Self, EngineError> {
        let vertices = graph.vertices();
        let mut core = VertexSet::all(vertices);
        let mut order = vec![0; vertices as usize];
        let mut end = vertices as usize;
        let mut layers = vec![end];
        loop {
            let image = image(graph, &core, control)?;
            let left = end - core.write_without(&image, &mut order[..end]);
            let before = std::mem::replace(&mut end, left);
            core = image;
            if left < before {
                layers.push(left);
            }
            if (before - left) * WORTHWHILE <= before {
                break;
            }
        }
        layers.reverse();
        Ok(Self { core, order, layers })
    }
}

/// The vertices to which an edge leads from a set.
fn image<G: Digraph + ?Sized>(
    graph: &G,
    set: &VertexSet,
    control: &Control,
) -> Result<VertexSet, EngineError> {
    let image: Vec<AtomicU64> = set.words.iter().map(|_| AtomicU64::new(0)).collect();
    let mark = |number: usize, mask| {
        if image[number].load(Ordering::Relaxed) & mask != mask {
            image[number].fetch_or(mask, Ordering::Relaxed);
        }
        ControlFlow::<Infallible>::Continue(())
    };
    set.words.par_chunks(WORDS_PER_TASK).enumerate().try_for_each(|(task, words)| {
        control.check()?;
        let mut poll = Poll::new(control);
        let mut before = None;
        for (&word, number) in words.iter().zip((task * WORDS_PER_TASK) as u32..) {
            for vertex in bits(word, number) {
                if before.replace(vertex).is_some_and(|before| graph.are_alike(before, vertex)) {
                    continue;
                }
                let mut work = 0;
                graph.for_each_rows(vertex, |rows| {
                    work += u64::from(rows.count) * u64::from(rows.length / 64 + 1);
                    let _ = try_for_each_word(rows, mark);
                });
                poll.after(work)?;
            }
        }
        Ok(())
    })?;
    Ok(VertexSet { words: image.into_iter().map(AtomicU64::into_inner).collect() })
}

impl VertexSet {
    /// Writes the vertices that are not in a subset to the end of `places`, in increasing order; returns their number.
    fn write_without(&self, subset: &Self, places: &mut [u32]) -> usize {
        let chunks = || self.words.par_chunks(WORDS_PER_TASK).zip(subset.words.par_chunks(WORDS_PER_TASK));
        let differences = |(all, some): (&'_ [u64], &'_ [u64])| {
            let difference = |(all, some): (&u64, &u64)| (all & !some).count_ones() as usize;
            all.iter().zip(some).map(difference).sum()
        };
        let counts: Vec<usize> = chunks().map(differences).collect();
        let count = counts.iter().sum();
        let (_, mut rest) = places.split_at_mut(places.len() - count);
        let mut parts = Vec::with_capacity(counts.len());
        for count in counts {
            let (part, after) = rest.split_at_mut(count);
            parts.push(part);
            rest = after;
        }
        chunks().zip(parts).enumerate().for_each(|(task, ((all, some), part))| {
            let words = all.iter().zip(some).zip((task * WORDS_PER_TASK) as u32..);
            let vertices = words.flat_map(|((all, some), number)| bits(all & !some, number));
            part.iter_mut().zip(vertices).for_each(|(place, vertex)| *place = vertex);
        });
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::dynamics::ExplicitGraph;

    fn members(set: &VertexSet) -> Vec<u32> {
        set.words.iter().zip(0..).flat_map(|(&word, number)| bits(word, number)).collect()
    }

    #[test]
    fn rows_are_the_same_in_words() {
        for (start, length, stride, count) in
            [(3, 1, 9, 1), (0, 64, 64, 2), (60, 10, 20, 5), (64, 64, 1, 1), (1, 199, 0, 1), (5, 3, 64, 3)]
        {
            let rows = Rows { start, length, stride, count };
            let mut words = [0; 4];
            let _ = try_for_each_word(rows, |number, mask| {
                words[number] |= mask;
                ControlFlow::<Infallible>::Continue(())
            });
            let set = VertexSet { words: words.to_vec() };
            assert_eq!(members(&set), rows.runs().flatten().collect::<Vec<_>>(), "{rows:?}");
            assert_eq!(VertexSet::all(256).first_of(rows), Some(start));
            let mut after = VertexSet::all(256);
            (0..=start).for_each(|vertex| after.remove(vertex));
            assert_eq!(after.first_of(rows), rows.runs().flatten().find(|&vertex| vertex > start));
        }
        assert_eq!(members(&VertexSet::all(70)).len(), 70);
    }

    #[test]
    fn layers_lead_to_the_core() {
        // 0 → 1 → 2 ⇄ 3 → 4, and 5 alone
        let graph = ExplicitGraph::new(6, &[(0, 1), (1, 2), (2, 3), (3, 2), (3, 4)]);
        let Trimmed { core, order, layers } = Trimmed::of(&graph, &Control::default()).unwrap();
        assert_eq!(members(&core), [2, 3, 4]);
        assert_eq!((&order[3..], layers), (&[1, 0, 5][..], vec![3, 4, 6]));
    }
}
