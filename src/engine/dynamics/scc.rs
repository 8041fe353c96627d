//! Strongly connected components, without recursion.

use std::ops::{ControlFlow, Range};

use rayon::prelude::*;

use super::Digraph;
use super::large_component::LargeComponent;
use super::poll::Poll;
use super::trim::Trimmed;
use super::vertex_set::{VertexSet, bits};
use super::walk::WORDS_PER_TASK;
use crate::engine::{Control, EngineError};

/// Set in a vertex' entry when its component has an edge inside.
const RECURRENT: u32 = 1 << 31;

/// Set in the entry of each vertex whose component is known.
const CLOSED: u32 = 1 << 30;

/// Among so many vertices it is worth looking for large components first.
const LARGE: usize = 1 << 13;

/// No more of them are looked for.
const MOST_LARGE: usize = 4;

/// Entries that one task writes.
const ENTRIES_PER_TASK: usize = 64 * WORDS_PER_TASK;

/// The strongly connected components of a graph, in an order in which edges lead backward: when a component comes,
/// all that can be reached from it have come before.
///
/// Large components, and what can be reached from them, are taken first, by sets and in parallel, where that is soon done.
/// Most other cells of a dissipative map are soon left and never entered again. Those are trimmed, layer by layer and in
/// parallel; each is a component of its own. The others are found one after the other, by Pearce's form of Tarjan's algorithm
/// (D. J. Pearce, *A space-efficient algorithm for finding strongly connected components*, Information Processing Letters
/// 116, 2016), with the path of the depth-first search on a stack of our own and each row taken up where it was left.
/// Eight bytes a vertex to keep, and up to eight more for the search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Components {
    /// Component of each vertex, with the flags [`RECURRENT`] and [`CLOSED`]; nothing of those that were trimmed, so that
    /// no memory is taken where all were.
    of: Vec<u32>,
    /// The vertices, component by component.
    order: Vec<u32>,
    count: u32,
    /// Parts of `order` one after the other.
    parts: Vec<(Part, usize)>,
}

/// What lies in a part of the order of vertices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// A component with an edge inside.
    Recurrent,
    /// Components of one vertex each, in increasing order, no edge between any two of them.
    Layer,
    /// Components of one vertex each.
    Singles,
}

/// Some components that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stretch<'a> {
    /// One with an edge inside: its vertices.
    Recurrent(&'a [u32]),
    /// Components of one vertex each, in increasing order, no edge between any two of them.
    Layer(&'a [u32]),
    /// Components of one vertex each.
    Singles(&'a [u32]),
}

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
        let mut rest = VertexSet::all(graph.vertices());
        let mut large = large_components(graph, &mut rest, control)?;
        let mut trimmed = Trimmed::of(graph, &mut rest, control)?;
        let others = large_components(graph, &mut rest, control)?;
        if !others.is_empty() {
            trimmed.go_on(graph, &mut rest, control)?;
        }
        large.extend(others);
        let Trimmed { mut order, layers } = trimmed;
        let (searched, trimmed) = order.split_at_mut(layers[0]);
        let mut search = Search::new(graph, searched, control);
        for LargeComponent { mut reached, component } in large {
            reached.remove_all(&component);
            search.explore(reached)?;
            search.close(&component);
        }
        search.explore(rest)?;
        let Search { index: of, count, mut parts, .. } = search;
        parts.extend(layers[1..].iter().map(|&end| (Part::Layer, end)));
        let count = count + trimmed.len() as u32;
        Ok(Self { of, order, count, parts })
    }

    /// What lies in each part of the order, and where it starts and ends.
    fn parts(&self) -> impl DoubleEndedIterator<Item = (Part, Range<usize>)> {
        (0..self.parts.len()).map(|number| {
            let start = if number == 0 { 0 } else { self.parts[number - 1].1 };
            let (part, end) = self.parts[number];
            (part, start..end)
        })
    }

    /// The components by number, in stretches.
    pub(super) fn stretches(&self) -> impl DoubleEndedIterator<Item = Stretch<'_>> {
        self.parts().map(|(part, places)| {
            let vertices = &self.order[places];
            match part {
                Part::Recurrent => Stretch::Recurrent(vertices),
                Part::Layer => Stretch::Layer(vertices),
                Part::Singles => Stretch::Singles(vertices),
            }
        })
    }

    /// The components with an edge inside by number, each with its vertices.
    pub(super) fn recurrent(&self) -> impl Iterator<Item = &[u32]> {
        self.stretches().filter_map(|stretch| match stretch {
            Stretch::Recurrent(members) => Some(members),
            Stretch::Layer(_) | Stretch::Singles(_) => None,
        })
    }

    /// Number of components.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The component of a vertex, in `0..count()`; no edge leads to a component of a higher number.
    pub fn component(&self, vertex: u32) -> u32 {
        match self.of[vertex as usize] {
            0 => self.trimmed_component(vertex),
            entry => entry & !(RECURRENT | CLOSED),
        }
    }

    /// The component of a vertex that was trimmed.
    fn trimmed_component(&self, vertex: u32) -> u32 {
        let layers = self.parts().filter(|&(part, _)| part == Part::Layer);
        let place_in = |places: Range<usize>| {
            let place = self.order[places.clone()].binary_search(&vertex);
            place.ok().map(|place| places.start + place)
        };
        let place = layers.rev().find_map(|(_, places)| place_in(places));
        // each of those that were trimmed is a component, up to the last one
        self.count - place.map_or(0, |place| self.order.len() - place) as u32
    }

    /// Whether the vertex lies on a cycle.
    pub fn is_recurrent(&self, vertex: u32) -> bool {
        self.of[vertex as usize] & RECURRENT != 0
    }

    /// The components by number, each with its vertices.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &[u32]> {
        self.stretches().flat_map(|stretch| match stretch {
            Stretch::Recurrent(members) => members.chunks(members.len()),
            Stretch::Layer(vertices) | Stretch::Singles(vertices) => vertices.chunks(1),
        })
    }
}

/// Components that are large and soon found: each of what is not reached from those before. What they reach is taken out
/// of the vertices.
fn large_components<G: Digraph + ?Sized>(
    graph: &G,
    vertices: &mut VertexSet,
    control: &Control,
) -> Result<Vec<LargeComponent>, EngineError> {
    let mut large = Vec::new();
    while large.len() < MOST_LARGE {
        let size = vertices.len();
        let start = vertices.next(graph.vertices() / 2).or_else(|| vertices.next(0));
        let Some(start) = start.filter(|_| size >= LARGE) else { break };
        let Some(found) = LargeComponent::of(graph, vertices, size, start, control)? else { break };
        vertices.remove_all(&found.reached);
        large.push(found);
    }
    Ok(large)
}

/// A vertex on the path of the search.
struct Frame {
    vertex: u32,
    /// The successor to which the path goes on; those before it are done.
    next: u32,
}

/// The components of what was not trimmed, as far as they are known.
struct Search<'a, G: ?Sized> {
    graph: &'a G,
    control: &'a Control,
    poll: Poll<'a>,
    /// Of a vertex on the path its number, of one left behind the smallest number on the path that is known to be
    /// reachable, until its component is known, which with its flag is larger than all of them.
    index: Vec<u32>,
    /// Two stacks that never overlap: from the front, vertices in the order in which components were closed; from the
    /// back, vertices whose component is still open.
    order: &'a mut [u32],
    closed: usize,
    open: usize,
    count: u32,
    /// Parts of the order of vertices and where they end.
    parts: Vec<(Part, usize)>,
}

impl<'a, G: Digraph + ?Sized> Search<'a, G> {
    fn new(graph: &'a G, order: &'a mut [u32], control: &'a Control) -> Self {
        Self {
            graph,
            control,
            poll: Poll::new(control),
            index: vec![0; graph.vertices() as usize],
            closed: 0,
            open: order.len(),
            order,
            count: 0,
            parts: Vec::new(),
        }
    }

    /// Writes down a component with more than one vertex whose successors are known.
    fn close(&mut self, component: &VertexSet) {
        let entry = self.count | CLOSED | RECURRENT;
        let start = self.closed;
        self.closed += component.len();
        component.write(&mut self.order[start..self.closed]);
        let tasks =
            self.index.par_chunks_mut(ENTRIES_PER_TASK).zip(component.words.par_chunks(WORDS_PER_TASK));
        tasks.for_each(|(index, words)| {
            for vertex in words.iter().zip(0..).flat_map(|(&word, number)| bits(word, number)) {
                index[vertex as usize] = entry;
            }
        });
        self.count += 1;
        self.ends(Part::Recurrent);
    }

    /// The vertices that were closed last, from `start` on, are one component.
    fn settle(&mut self, start: usize) {
        let members = &self.order[start..self.closed];
        let recurs = members.len() > 1 || self.graph.has_edge(members[0], members[0]);
        let entry = self.count | CLOSED | if recurs { RECURRENT } else { 0 };
        for &member in members {
            self.index[member as usize] = entry;
        }
        self.count += 1;
        self.ends(if recurs { Part::Recurrent } else { Part::Singles });
    }

    /// What was closed last is the end of such a part.
    fn ends(&mut self, part: Part) {
        let end = self.closed;
        match self.parts.last_mut() {
            Some((Part::Singles, last)) if part == Part::Singles => *last = end,
            _ => self.parts.push((part, end)),
        }
    }

    /// Finds the components of some vertices whose edges lead to each other or to what is known.
    ///
    /// The next successor to go to is sought in the set of vertices not yet seen, 64 at a time; only when a vertex is left
    /// its rows are read through, those that hold a vertex whose component is not known.
    fn explore(&mut self, mut unseen: VertexSet) -> Result<(), EngineError> {
        let mut path: Vec<Frame> = Vec::new();
        // seen, and of a component that is not known still
        let mut pending = VertexSet::none(self.graph.vertices());
        let (mut next_index, mut start) = (0u32, 0);
        while let Some(vertex) = unseen.next(start) {
            start = vertex;
            let mut frame = Frame { vertex, next: 0 };
            unseen.remove(vertex);
            pending.insert(vertex);
            self.index[vertex as usize] = next_index;
            next_index += 1;
            loop {
                let Frame { vertex, next } = frame;
                let unseen_of =
                    |rows| unseen.first_of(rows).map_or(ControlFlow::Continue(()), ControlFlow::Break);
                if let ControlFlow::Break(next) = self.graph.try_for_each_rows(vertex, next, unseen_of) {
                    path.push(Frame { vertex, next });
                    frame = Frame { vertex: next, next: 0 };
                    unseen.remove(next);
                    pending.insert(next);
                    self.index[next as usize] = next_index;
                    next_index += 1;
                    self.poll.after(1)?;
                    continue;
                }
                let own = self.index[vertex as usize];
                let (mut low, mut work) = (own, 0);
                self.graph.for_each_rows(vertex, |rows| {
                    work += rows.cells();
                    if pending.first_of(rows).is_none() {
                        return;
                    }
                    for run in rows.runs() {
                        let seen = &self.index[run.start as usize..run.end as usize];
                        low = seen.iter().fold(low, |low, &seen| low.min(seen));
                    }
                });
                if low < own {
                    self.index[vertex as usize] = low;
                    self.open -= 1;
                    self.order[self.open] = vertex;
                } else {
                    // `vertex` and all open vertices that were seen after it are one component
                    let start = self.closed;
                    while let Some(&member) = self.order.get(self.open)
                        && own <= self.index[member as usize]
                    {
                        self.order[self.closed] = member;
                        pending.remove(member);
                        self.open += 1;
                        self.closed += 1;
                    }
                    self.order[self.closed] = vertex;
                    pending.remove(vertex);
                    self.closed += 1;
                    next_index -= (self.closed - start) as u32;
                    self.settle(start);
                }
                if self.poll.after(work)? {
                    let share = self.closed as f64 / self.order.len() as f64;
                    self.control.report("recurrence", share);
                }
                match path.pop() {
                    Some(parent) => frame = parent,
                    None => break,
                }
            }
        }
        Ok(())
    }
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
