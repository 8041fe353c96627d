//! Strongly connected components, without recursion.

use super::Digraph;
use super::trim::Trimmed;
use crate::engine::{Control, EngineError};

/// Set in a vertex' entry when its component has an edge inside.
const RECURRENT: u32 = 1 << 31;

/// Vertices visited between two looks at the cancel flag.
const POLL_EVERY: u32 = 1 << 16;

/// The strongly connected components of a graph, in an order in which edges lead backward: when a component comes,
/// all that can be reached from it have come before.
///
/// Most cells of a dissipative map are soon left and never entered again. Those are trimmed first, layer by layer and in
/// parallel; each is a component of its own. In the *core* that remains the components are found one after the other, by
/// Pearce's form of Tarjan's algorithm (D. J. Pearce, *A space-efficient algorithm for finding strongly connected
/// components*, Information Processing Letters 116, 2016), with the path of the depth-first search on a stack of our own
/// and each row taken up where it was left. Eight bytes a vertex to keep, and up to eight more for the core's search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Components {
    /// Component of each vertex, with the flag [`RECURRENT`].
    of: Vec<u32>,
    /// The vertices, component by component.
    order: Vec<u32>,
    count: u32,
    /// Where in `order` the core ends and where each layer of trimmed vertices ends. No edge leads from a vertex of a
    /// layer to another of the same.
    layers: Vec<usize>,
}

/// A vertex on the path of the search.
struct Frame {
    vertex: u32,
    /// Successors below this are done.
    cursor: u32,
}

/// Set in a frame's vertex once an earlier vertex of the path was reached from it.
const NOT_ROOT: u32 = 1 << 31;

impl Components {
    /// Finds the components.
    ///
    /// # Errors
    /// [`EngineError::Cancelled`].
    ///
    /// # Panics
    /// If the graph has more than 2³⁰ vertices.
    pub fn of<G: Digraph + ?Sized>(graph: &G, control: &Control) -> Result<Self, EngineError> {
        assert!(graph.vertices() <= 1 << 30, "indices of vertices leave room for flags");
        let Trimmed { core, mut order, layers } = Trimmed::of(graph, control)?;
        let (searched, trimmed) = order.split_at_mut(layers[0]);
        let (mut of, core_components) = search(graph, core.iter(), searched, control)?;
        for (vertex, component) in trimmed.iter().zip(core_components..) {
            of[*vertex as usize] = component;
        }
        let count = core_components + trimmed.len() as u32;
        let mut components = Self { of, order, count, layers };
        components.mark_recurrent(graph);
        Ok(components)
    }

    fn mark_recurrent<G: Digraph + ?Sized>(&mut self, graph: &G) {
        let of = &mut self.of;
        let mut rest = &self.order[..self.layers[0]];
        while let Some(&first) = rest.first() {
            let component = of[first as usize];
            let size = rest.iter().take_while(|&&vertex| of[vertex as usize] == component).count();
            let (members, others) = rest.split_at(size);
            if size > 1 || graph.has_edge(first, first) {
                for &vertex in members {
                    of[vertex as usize] |= RECURRENT;
                }
            }
            rest = others;
        }
    }

    /// The components of the core by number, each with its vertices.
    pub(super) fn core(&self) -> impl Iterator<Item = &[u32]> {
        self.order[..self.layers[0]].chunk_by(|&a, &b| self.of[a as usize] == self.of[b as usize])
    }

    /// The trimmed vertices, layer by layer: edges lead to the core and to layers that came before.
    pub(super) fn layers(&self) -> impl Iterator<Item = &[u32]> {
        self.layers.windows(2).map(|ends| &self.order[ends[0]..ends[1]])
    }

    /// Number of components.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The component of a vertex, in `0..count()`; no edge leads to a component of a higher number.
    pub fn component(&self, vertex: u32) -> u32 {
        self.of[vertex as usize] & !RECURRENT
    }

    /// Whether the vertex lies on a cycle.
    pub fn is_recurrent(&self, vertex: u32) -> bool {
        self.of[vertex as usize] & RECURRENT != 0
    }

    /// The components by number, each with its vertices.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &[u32]> {
        self.order.chunk_by(|&a, &b| self.of[a as usize] == self.of[b as usize])
    }
}

/// Finds the components of a set of `vertices` that no edge leaves, and writes them into `order`, one after the other.
/// Returns each vertex' component and their number.
fn search<G: Digraph + ?Sized>(
    graph: &G,
    vertices: impl Iterator<Item = u32>,
    order: &mut [u32],
    control: &Control,
) -> Result<(Vec<u32>, u32), EngineError> {
    // While searching, `index` is 0 for what was not seen, then the smallest number on the path that is known to be
    // reachable, then (counted down from above all those) the component.
    let mut index = vec![0u32; graph.vertices() as usize];
    let last = order.len() as u32;
    // Two stacks that never overlap: from the front, vertices whose component is still open; from the back, vertices in
    // the order in which components were closed.
    let (mut open, mut closed) = (0, order.len());
    let mut path: Vec<Frame> = Vec::new();
    let (mut next_index, mut next_component) = (1u32, last);
    let mut until_poll = POLL_EVERY;

    for start in vertices {
        if index[start as usize] != 0 {
            continue;
        }
        let mut frame = Frame { vertex: start, cursor: 0 };
        index[start as usize] = next_index;
        next_index += 1;
        'path: loop {
            let vertex = frame.vertex & !NOT_ROOT;
            let mut low = index[vertex as usize];
            let mut run = graph.successors(vertex, frame.cursor);
            while !run.is_empty() {
                for successor in run.clone() {
                    let seen = index[successor as usize];
                    if seen == 0 {
                        // the successor is looked at again when the search comes back
                        frame.cursor = successor;
                        index[vertex as usize] = low;
                        path.push(frame);
                        frame = Frame { vertex: successor, cursor: 0 };
                        index[successor as usize] = next_index;
                        next_index += 1;
                        until_poll -= 1;
                        if until_poll == 0 {
                            control.check()?;
                            control.report("recurrence", 1.0 - closed as f64 / f64::from(last));
                            until_poll = POLL_EVERY;
                        }
                        continue 'path;
                    }
                    if seen < low {
                        low = seen;
                        frame.vertex |= NOT_ROOT;
                    }
                }
                run = graph.successors(vertex, run.end);
            }
            if frame.vertex & NOT_ROOT == 0 {
                // `vertex` and all open vertices numbered after it are one component
                let mut size = 1;
                while open > 0 && low <= index[order[open - 1] as usize] {
                    open -= 1;
                    closed -= 1;
                    let member = order[open];
                    order[closed] = member;
                    index[member as usize] = next_component;
                    size += 1;
                }
                closed -= 1;
                order[closed] = vertex;
                index[vertex as usize] = next_component;
                next_index -= size;
                next_component -= 1;
            } else {
                index[vertex as usize] = low;
                order[open] = vertex;
                open += 1;
            }
            match path.pop() {
                Some(parent) => frame = parent,
                None => break,
            }
        }
    }
    order.reverse();
    for vertex in order {
        let component = &mut index[*vertex as usize];
        *component = last - *component;
    }
    Ok((index, last - next_component))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::Cancel;
    use crate::engine::dynamics::ExplicitGraph;

    fn components(graph: &ExplicitGraph) -> Components {
        Components::of(graph, &Control::default()).unwrap()
    }

    proptest! {
        #[test]
        fn components_are_kosarajus(
            (vertices, edges) in (1u32..40).prop_flat_map(|n| (Just(n), prop::collection::vec((0..n, 0..n), 0..120)))
        ) {
            let graph = ExplicitGraph::new(vertices, &edges);
            let found = components(&graph);

            let mut oracle = petgraph::graph::DiGraph::<(), ()>::new();
            let nodes: Vec<_> = (0..vertices).map(|_| oracle.add_node(())).collect();
            for &(from, to) in &edges {
                oracle.add_edge(nodes[from as usize], nodes[to as usize], ());
            }
            let mut expected: Vec<Vec<u32>> = petgraph::algo::kosaraju_scc(&oracle)
                .into_iter()
                .map(|set| { let mut set: Vec<u32> = set.into_iter().map(|n| n.index() as u32).collect(); set.sort_unstable(); set })
                .collect();
            expected.sort();
            let mut sets: Vec<Vec<u32>> = found.iter().map(|set| { let mut set = set.to_vec(); set.sort_unstable(); set }).collect();
            prop_assert_eq!(sets.len(), found.count() as usize);
            sets.sort();
            prop_assert_eq!(sets, expected);

            for &(from, to) in &edges {
                prop_assert!(found.component(to) <= found.component(from), "edges lead backward");
            }
            for vertex in 0..vertices {
                let on_cycle = edges.contains(&(vertex, vertex))
                    || (0..vertices).any(|v| v != vertex && found.component(v) == found.component(vertex));
                prop_assert_eq!(found.is_recurrent(vertex), on_cycle);
            }
        }
    }

    #[test]
    fn a_path_of_a_million_vertices_needs_no_recursion() {
        let n = 1 << 20;
        let mut edges: Vec<(u32, u32)> = (1..n).map(|v| (v - 1, v)).collect();
        assert_eq!(components(&ExplicitGraph::new(n, &edges)).count(), n);
        edges.push((n - 1, 0));
        let cycle = components(&ExplicitGraph::new(n, &edges));
        assert_eq!(cycle.count(), 1);
        assert!(cycle.is_recurrent(77));
    }

    #[test]
    fn the_search_stops_when_told() {
        let n = 1 << 18;
        let edges: Vec<(u32, u32)> = (1..n).map(|v| (v - 1, v)).collect();
        let cancel = Cancel::new();
        cancel.raise();
        let stopped = Components::of(&ExplicitGraph::new(n, &edges), &Control::new(cancel));
        assert_eq!(stopped, Err(EngineError::Cancelled));
    }
}
