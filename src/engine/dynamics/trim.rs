//! Vertices to which no cycle leads.

use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use super::Digraph;
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

    /// No vertex of `0..count`.
    pub(super) fn none(count: u32) -> Self {
        Self { words: vec![0; (count as usize).div_ceil(64)] }
    }

    pub(super) fn len(&self) -> usize {
        self.words.par_iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(super) fn insert(&mut self, vertex: u32) {
        self.words[vertex as usize / 64] |= 1 << (vertex % 64);
    }

    /// Whether any of a run of vertices is in it.
    pub(super) fn meets(&self, run: &std::ops::Range<u32>) -> bool {
        masks(run).any(|(word, mask)| self.words[word] & mask != 0)
    }

    /// The vertices, in increasing order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        self.words.iter().zip(0..).flat_map(|(&word, number)| bits(word, number))
    }
}

/// The vertices in one word of a set.
fn bits(word: u64, number: u32) -> impl Iterator<Item = u32> {
    let nonempty = |word: u64| (word != 0).then_some(word);
    std::iter::successors(nonempty(word), move |word| nonempty(word & (word - 1)))
        .map(move |word| number * 64 + word.trailing_zeros())
}

/// The words of a set in which a run of vertices lies, and its bits in each.
fn masks(run: &std::ops::Range<u32>) -> impl Iterator<Item = (usize, u64)> {
    let (start, last) = (run.start, run.end.wrapping_sub(1));
    let words = start / 64..if run.is_empty() { start / 64 } else { last / 64 + 1 };
    words.map(move |word| {
        let mut mask = u64::MAX;
        if word == start / 64 {
            mask &= u64::MAX << (start % 64);
        }
        if word == last / 64 {
            mask &= u64::MAX >> (63 - last % 64);
        }
        (word as usize, mask)
    })
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
            let left = image.len();
            let trimmed = core.words.iter().zip(&image.words).zip(0..);
            let vertices = trimmed.flat_map(|((&before, &after), number)| bits(before & !after, number));
            for (place, vertex) in order[left..end].iter_mut().zip(vertices) {
                *place = vertex;
            }
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
    set.words.par_chunks(WORDS_PER_TASK).enumerate().for_each(|(task, words)| {
        if control.check().is_err() {
            return;
        }
        for (&word, number) in words.iter().zip((task * WORDS_PER_TASK) as u32..) {
            for vertex in bits(word, number) {
                graph.for_each_run(vertex, |run| {
                    for (word, mask) in masks(&run) {
                        if image[word].load(Ordering::Relaxed) & mask != mask {
                            image[word].fetch_or(mask, Ordering::Relaxed);
                        }
                    }
                });
            }
        }
    });
    control.check()?;
    Ok(VertexSet { words: image.into_iter().map(AtomicU64::into_inner).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::dynamics::ExplicitGraph;

    #[test]
    fn a_run_is_the_same_in_words() {
        for run in [3..4, 0..64, 60..70, 64..128, 1..200, 5..5] {
            let mut set = VertexSet::none(256);
            run.clone().for_each(|vertex| set.insert(vertex));
            let mut words = [0; 4];
            masks(&run).for_each(|(word, mask)| words[word] = mask);
            assert_eq!(set.words, words, "{run:?}");
            assert_eq!(set.iter().collect::<Vec<_>>(), run.clone().collect::<Vec<_>>());
            assert_eq!(set.len(), run.len());
            assert_eq!(set.meets(&(0..256)), !run.is_empty());
            assert!(!set.meets(&(210..256)));
        }
        assert_eq!(VertexSet::all(70).len(), 70);
    }

    #[test]
    fn layers_lead_to_the_core() {
        // 0 → 1 → 2 ⇄ 3 → 4, and 5 alone
        let graph = ExplicitGraph::new(6, &[(0, 1), (1, 2), (2, 3), (3, 2), (3, 4)]);
        let Trimmed { core, order, layers } = Trimmed::of(&graph, &Control::default()).unwrap();
        assert_eq!(core.iter().collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!((&order[3..], layers), (&[1, 0, 5][..], vec![3, 4, 6]));
    }
}
