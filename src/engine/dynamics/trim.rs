//! Vertices to which no cycle leads.

use rayon::iter::repeat_n;
use rayon::prelude::*;

use super::Digraph;
use super::vertex_set::{SharedVertexSet, VertexSet, bits};
use super::walk::{WORDS_PER_TASK, for_each_word, look_at_all};
use crate::engine::{Control, EngineError};

/// Another round is worth its cost while it trims one vertex in so many: a round looks at all edges that are left, as
/// the search for components does, but in order and in parallel.
const WORTHWHILE: usize = 6;

/// The vertices of a graph, cut into a core that maps into itself and layers before it.
pub(super) struct Trimmed {
    /// Room for the core's vertices, then the layers, the one next to the core first.
    pub(super) order: Vec<u32>,
    /// Where in `order` the core ends, and where each layer ends.
    pub(super) layers: Vec<usize>,
}

impl Trimmed {
    /// With X₀ the vertices of a set that no edge enters from outside, and Xₙ₊₁ = F(Xₙ), the layer Xₙ \ Xₙ₊₁ cannot be
    /// entered from Xₙ, and all its edges lead to Xₙ₊₁ or out of the set; cycles lie in every Xₙ.
    ///
    /// Of the set a core is left, which holds all its cycles. The core and the vertices outside have room in the order.
    pub(super) fn of<G: Digraph + ?Sized>(
        graph: &G,
        set: &mut VertexSet,
        control: &Control,
    ) -> Result<Self, EngineError> {
        let vertices = graph.vertices() as usize;
        let mut trimmed = Self { order: vec![0; vertices], layers: vec![vertices] };
        trimmed.go_on(graph, set, control)?;
        Ok(trimmed)
    }

    /// Cuts more layers off a part of the core that no edge enters from the rest of it.
    pub(super) fn go_on<G: Digraph + ?Sized>(
        &mut self,
        graph: &G,
        part: &mut VertexSet,
        control: &Control,
    ) -> Result<(), EngineError> {
        let mut layers = Vec::new();
        let mut end = self.layers[0];
        loop {
            let mut image = image(graph, part, control)?;
            image.keep_only(part);
            let before = part.len();
            let cut = part.write_without(&image, &mut self.order[..end]);
            *part = image;
            if cut > 0 {
                end -= cut;
                layers.push(end);
            }
            if cut * WORTHWHILE <= before {
                break;
            }
        }
        layers.reverse();
        layers.append(&mut self.layers);
        self.layers = layers;
        Ok(())
    }
}

/// The vertices to which an edge leads from a set.
fn image<G: Digraph + ?Sized>(
    graph: &G,
    set: &VertexSet,
    control: &Control,
) -> Result<VertexSet, EngineError> {
    let image = SharedVertexSet::none(graph.vertices());
    let mark = |number, mask| {
        image.insert_all(number, mask);
    };
    let look = |vertex| ((), for_each_word(graph, vertex, mark));
    let nothing = repeat_n((), set.words.len().div_ceil(WORDS_PER_TASK));
    look_at_all(graph, set, nothing, look, |(), _, ()| (), control)?;
    Ok(image.into_set())
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

    #[test]
    fn layers_lead_to_the_core() {
        // 0 → 1 → 2 ⇄ 3 → 4, and 5 alone
        let graph = ExplicitGraph::new(6, &[(0, 1), (1, 2), (2, 3), (3, 2), (3, 4)]);
        let mut core = VertexSet::all(6);
        let Trimmed { order, layers } = Trimmed::of(&graph, &mut core, &Control::default()).unwrap();
        assert_eq!(core.iter().collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!((&order[3..], layers), (&[1, 0, 5][..], vec![3, 4, 6]));
    }
}
