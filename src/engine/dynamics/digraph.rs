//! Directed graphs whose edges are enumerated in runs.

use std::convert::Infallible;
use std::ops::{ControlFlow, Range};

use crate::engine::grid::Rows;

/// A directed graph on the vertices `0..vertices()`.
///
/// The successors of a vertex, in increasing order, are a sequence of runs of consecutive vertices. A search asks for
/// them one run at a time, so that a graph may compute them and an interrupted search needs to remember one number.
pub trait Digraph: Sync {
    /// Number of vertices, at most 2³⁰.
    fn vertices(&self) -> u32;

    /// The first run of consecutive successors of `vertex`, of those that are at least `from`; empty if there are none.
    fn successors(&self, vertex: u32, from: u32) -> Range<u32>;

    /// Calls `visit` with the runs of successors of `vertex`, in increasing order, until it breaks off. Where `from` is
    /// not zero it is a successor, and runs before the one in which it lies are left out.
    #[inline]
    fn try_for_each_rows<B>(
        &self,
        vertex: u32,
        from: u32,
        mut visit: impl FnMut(Rows<u32>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let mut run = self.successors(vertex, from);
        while !run.is_empty() {
            visit(Rows::one(run.clone()))?;
            run = self.successors(vertex, run.end);
        }
        ControlFlow::Continue(())
    }

    /// Calls `visit` with the runs of successors of `vertex`, in increasing order; several at once where they lie at
    /// equal distances.
    #[inline]
    fn for_each_rows(&self, vertex: u32, mut visit: impl FnMut(Rows<u32>)) {
        let _ = self.try_for_each_rows(vertex, 0, |rows| {
            visit(rows);
            ControlFlow::<Infallible>::Continue(())
        });
    }

    /// Calls `visit` with each run of successors of `vertex`, in increasing order.
    #[inline]
    fn for_each_run(&self, vertex: u32, mut visit: impl FnMut(Range<u32>)) {
        self.for_each_rows(vertex, |rows| rows.runs().for_each(&mut visit));
    }

    /// Whether two vertices are seen at a glance to have the same successors, and to escape alike. What was found out about
    /// the one is then not sought again for the other.
    #[inline]
    fn are_alike(&self, _a: u32, _b: u32) -> bool {
        false
    }

    /// Some vertices of one strongly connected component, if such are known beforehand.
    fn connected(&self) -> &[u32] {
        &[]
    }

    /// Whether `vertex` may be part of a Morse set; where it may not, cycles through it are artefacts.
    fn may_recur(&self, _vertex: u32) -> bool {
        true
    }

    /// Whether paths that come to `vertex` may leave the graph, or stop being known: to *exit* or *unknown*.
    fn escapes(&self, vertex: u32) -> bool;

    /// Whether there is an edge.
    fn has_edge(&self, from: u32, to: u32) -> bool {
        let run = self.successors(from, to);
        run.start == to && !run.is_empty()
    }
}

/// A graph given edge by edge, in compressed rows.
///
/// ```
/// use doodl3::engine::dynamics::{Components, Digraph, ExplicitGraph};
/// use doodl3::engine::Control;
///
/// let graph = ExplicitGraph::new(4, &[(0, 1), (1, 2), (2, 1), (2, 3)]);
/// assert!(graph.has_edge(2, 1) && !graph.has_edge(1, 0));
/// let components = Components::of(&graph, &Control::default())?;
/// assert_eq!(components.count(), 3);
/// assert!(components.is_recurrent(1) && !components.is_recurrent(3));
/// # Ok::<(), doodl3::engine::EngineError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplicitGraph {
    /// Where each vertex' row starts in `targets`, and at last where the last one ends.
    rows: Vec<usize>,
    targets: Vec<u32>,
}

impl ExplicitGraph {
    /// The graph with these edges (repeated ones count once).
    ///
    /// # Panics
    /// If an edge names a vertex that is not in `0..vertices`.
    pub fn new(vertices: u32, edges: &[(u32, u32)]) -> Self {
        let mut edges = edges.to_vec();
        edges.sort_unstable();
        edges.dedup();
        let mut rows = vec![0; vertices as usize + 1];
        for &(from, to) in &edges {
            assert!(to < vertices, "edge ({from}, {to}) in a graph of {vertices} vertices");
            rows[from as usize + 1] += 1;
        }
        for vertex in 0..vertices as usize {
            rows[vertex + 1] += rows[vertex];
        }
        Self { rows, targets: edges.into_iter().map(|(_, to)| to).collect() }
    }
}

impl Digraph for ExplicitGraph {
    fn vertices(&self) -> u32 {
        (self.rows.len() - 1) as u32
    }

    fn successors(&self, vertex: u32, from: u32) -> Range<u32> {
        let row = &self.targets[self.rows[vertex as usize]..self.rows[vertex as usize + 1]];
        let row = &row[row.partition_point(|&target| target < from)..];
        let Some(&first) = row.first() else { return 0..0 };
        let length = row.iter().zip(first..).take_while(|&(&target, expected)| target == expected).count();
        first..first + length as u32
    }

    fn escapes(&self, _vertex: u32) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_maximal_and_in_order() {
        let graph = ExplicitGraph::new(9, &[(0, 5), (0, 2), (0, 3), (0, 2), (0, 8)]);
        let mut runs = Vec::new();
        graph.for_each_run(0, |run| runs.push(run));
        assert_eq!(runs, [2..4, 5..6, 8..9]);
        assert_eq!(graph.successors(0, 3), 3..4);
        assert!(graph.successors(1, 0).is_empty());
    }
}
