//! Vertices to which no cycle leads.

use rayon::iter::repeat_n;
use rayon::prelude::*;

use super::Digraph;
use super::vertex_set::{SharedVertexSet, VertexSet, bits};
use super::walk::{WORDS_PER_TASK, for_each_word, look_at_all};
use crate::engine::{Control, EngineError};

/// Another round is worth its cost while it trims one vertex in so many: a round looks at all edges that are left, as
/// the search for components does, but in order and in parallel.
const WORTHWHILE: usize = 10;

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
            let mut layer = std::mem::replace(part, image);
            layer.remove_all(part);
            let cut = layer.len();
            if cut > 0 {
                layer.write(&mut self.order[end - cut..end]);
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
    /// Writes its vertices, in increasing order, to as many places.
    pub(super) fn write(&self, mut places: &mut [u32]) {
        let words = || self.words.par_chunks(WORDS_PER_TASK);
        let count = |words: &[u64]| words.iter().map(|word| word.count_ones() as usize).sum();
        let counts: Vec<usize> = words().map(count).collect();
        let parts: Vec<&mut [u32]> =
            counts.into_iter().filter_map(|count| places.split_off_mut(..count)).collect();
        words().zip(parts).enumerate().for_each(|(task, (words, part))| {
            let words = words.iter().zip((task * WORDS_PER_TASK) as u32..);
            let vertices = words.flat_map(|(&word, number)| bits(word, number));
            part.iter_mut().zip(vertices).for_each(|(place, vertex)| *place = vertex);
        });
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
