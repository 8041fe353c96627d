//! A large component, found by sets and not by paths.
//!
//! Of a chaotic attractor a depth-first search sees one cell here and the next one there, and waits for memory at every
//! step. But the component of a vertex p is what can be reached from p and reaches it (L. K. Fleischer, B. Hendrickson
//! and A. Pınar, *On identifying strongly connected components in parallel*, 2000), and both sets are found by passes
//! over all vertices in order, in parallel. A long path through p is followed beforehand: what comes after p on it is
//! reached, what comes before reaches p, so that few passes are needed.

use std::convert::Infallible;
use std::ops::ControlFlow;

use rayon::prelude::*;

use super::Digraph;
use super::poll::Poll;
use super::trim::{WORDS_PER_TASK, image};
use super::vertex_set::{VertexSet, bits, try_for_each_word};
use crate::engine::random::Random;
use crate::engine::{Control, EngineError};

/// The path is this share of the vertices long.
const PATH_SHARE: usize = 32;

/// The path is no longer than this.
const LONGEST_PATH: usize = 1 << 15;

/// A pass forward is worth its while if one vertex in so many is new.
const FEW: usize = 256;

/// Passes backward look at the vertices reached no more than so many times: where more are needed things creep, and a
/// search is better.
const BACKWARD_WORK: usize = 10;

/// The component of a vertex.
pub(super) struct LargeComponent {
    /// All that can be reached from it, it included.
    pub(super) reached: VertexSet,
    /// The component itself.
    pub(super) component: VertexSet,
}

impl LargeComponent {
    /// The component of a vertex in which a path from `start` ends up, of vertices that only lead to each other or to such
    /// as are not in `among`; `None` where that is not soon found.
    ///
    /// # Errors
    /// [`EngineError::Cancelled`].
    pub(super) fn of<G: Digraph + ?Sized>(
        graph: &G,
        among: &VertexSet,
        size: usize,
        start: u32,
        control: &Control,
    ) -> Result<Option<Self>, EngineError> {
        let Some(path) = path(graph, among, start, (size / PATH_SHARE).min(LONGEST_PATH)) else {
            return Ok(None);
        };
        let (before, after) = path.split_at(path.len() / 2);
        let reached = reached(graph, among, after, control)?;
        // `after` begins with p
        let leads: Vec<u32> = before.iter().chain(&after[..1]).copied().collect();
        let component = leading(graph, &reached, &leads, control)?;
        Ok(component.map(|component| Self { reached, component }))
    }
}

/// A random path of some length; `None` if it leaves the set.
fn path<G: Digraph + ?Sized>(graph: &G, among: &VertexSet, start: u32, length: usize) -> Option<Vec<u32>> {
    let mut random = Random::new(u64::from(start));
    let next = |&vertex: &u32| {
        let next = some_successor(graph, vertex, &mut random)?;
        among.contains(next).then_some(next)
    };
    let path: Vec<u32> = std::iter::successors(Some(start), next).take(length).collect();
    (path.len() == length && length > 1).then_some(path)
}

fn some_successor<G: Digraph + ?Sized>(graph: &G, vertex: u32, random: &mut Random) -> Option<u32> {
    let mut successors = 0;
    graph.for_each_rows(vertex, |rows| successors += rows.cells());
    let mut left = (random.uniform() * successors as f64) as u64;
    let found = graph.try_for_each_rows(vertex, 0, |rows| {
        if left < rows.cells() {
            let (row, at) = (left / u64::from(rows.length), left % u64::from(rows.length));
            return ControlFlow::Break(rows.start + row as u32 * rows.stride + at as u32);
        }
        left -= rows.cells();
        ControlFlow::Continue(())
    });
    found.break_value()
}

/// What can be reached from some vertices, they included, without leaving the set: in passes while much is new, then one
/// vertex after the other.
fn reached<G: Digraph + ?Sized>(
    graph: &G,
    among: &VertexSet,
    from: &[u32],
    control: &Control,
) -> Result<VertexSet, EngineError> {
    let mut reached = VertexSet::none(graph.vertices());
    for &vertex in from {
        reached.insert(vertex);
    }
    let mut fresh = reached.clone();
    loop {
        let image = image(graph, &fresh, control)?;
        let mut count = 0;
        let words = fresh.words.iter_mut().zip(&mut reached.words).zip(image.words.iter().zip(&among.words));
        for ((fresh, reached), (image, among)) in words {
            *fresh = image & among & !*reached;
            *reached |= *fresh;
            count += fresh.count_ones() as usize;
        }
        if count * FEW < fresh.words.len() * 64 {
            break;
        }
    }
    let mut open: Vec<u32> = fresh.iter().collect();
    let mut poll = Poll::new(control);
    while let Some(vertex) = open.pop() {
        let mut work = 1;
        graph.for_each_rows(vertex, |rows| {
            work += rows.cells();
            let _ = try_for_each_word(rows, |number, mask| {
                let fresh = mask & among.words[number] & !reached.words[number];
                reached.words[number] |= fresh;
                open.extend(bits(fresh, number as u32));
                ControlFlow::<Infallible>::Continue(())
            });
        });
        poll.after(work)?;
    }
    Ok(reached)
}

/// The vertices of a set that lead to some of its vertices, these included.
fn leading<G: Digraph + ?Sized>(
    graph: &G,
    among: &VertexSet,
    to: &[u32],
    control: &Control,
) -> Result<Option<VertexSet>, EngineError> {
    let mut leading = VertexSet::none(graph.vertices());
    for &vertex in to.iter().filter(|&&vertex| among.contains(vertex)) {
        leading.insert(vertex);
    }
    let mut open = among.clone();
    open.remove_all(&leading);
    let mut work = BACKWARD_WORK * among.len();
    loop {
        let fresh = leading_at_once(graph, &open, &leading, control)?;
        if fresh.words.iter().all(|&word| word == 0) {
            return Ok(Some(leading));
        }
        leading.words.iter_mut().zip(&fresh.words).for_each(|(leading, fresh)| *leading |= fresh);
        let Some(left) = work.checked_sub(open.len()) else { return Ok(None) };
        work = left;
        open.remove_all(&fresh);
    }
}

/// The vertices of a set from which an edge leads into another.
fn leading_at_once<G: Digraph + ?Sized>(
    graph: &G,
    set: &VertexSet,
    into: &VertexSet,
    control: &Control,
) -> Result<VertexSet, EngineError> {
    let mut leading = VertexSet::none(graph.vertices());
    let tasks = set.words.par_chunks(WORDS_PER_TASK).zip(leading.words.par_chunks_mut(WORDS_PER_TASK));
    tasks.enumerate().try_for_each(|(task, (words, leading))| {
        control.check()?;
        let mut poll = Poll::new(control);
        let mut before = None;
        for ((&word, leading), number) in words.iter().zip(leading).zip((task * WORDS_PER_TASK) as u32..) {
            for vertex in bits(word, number) {
                let mut work = 1;
                let leads = match before {
                    Some((before, leads)) if graph.are_alike(before, vertex) => leads,
                    _ => graph
                        .try_for_each_rows(vertex, 0, |rows| {
                            work += u64::from(rows.count) * u64::from(rows.length / 64 + 1);
                            into.first_of(rows).map_or(ControlFlow::Continue(()), ControlFlow::Break)
                        })
                        .is_break(),
                };
                before = Some((vertex, leads));
                *leading |= u64::from(leads) << (vertex % 64);
                poll.after(work)?;
            }
        }
        Ok(())
    })?;
    Ok(leading)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::dynamics::ExplicitGraph;

    #[test]
    fn a_component_is_what_is_reached_and_leads_back() {
        // a tail of 100 into a circle of 200, which cannot be left but to a tail of 100 that leads nowhere
        let mut edges: Vec<(u32, u32)> = (1..300).map(|vertex| (vertex - 1, vertex)).collect();
        edges.push((299, 100));
        edges.extend((100..290).map(|vertex| (vertex, vertex + 9)));
        edges.extend((100..250).map(|vertex| (vertex, vertex + 50)));
        let graph = ExplicitGraph::new(400, &edges);
        let among = VertexSet::all(400);
        let found = LargeComponent::of(&graph, &among, 400, 120, &Control::default()).unwrap().unwrap();
        assert_eq!(found.component.iter().collect::<Vec<_>>(), (100..300).collect::<Vec<_>>());
        assert_eq!(found.reached, found.component);
    }

    #[test]
    fn what_leads_out_is_reached() {
        let mut edges: Vec<(u32, u32)> = (0..64).flat_map(|a| (0..64).map(move |b| (a, b))).collect();
        edges.extend([(5, 64), (64, 65), (65, 65)]);
        let graph = ExplicitGraph::new(66, &edges);
        let component = VertexSet { words: vec![u64::MAX, 0] };
        let mut among = VertexSet::all(66);
        assert_eq!(reached(&graph, &among, &[3], &Control::default()).unwrap(), among);
        assert_eq!(leading(&graph, &among, &[3], &Control::default()).unwrap(), Some(component.clone()));
        among.remove(64);
        assert_eq!(reached(&graph, &among, &[3], &Control::default()).unwrap(), component);
    }

    #[test]
    fn what_creeps_is_left_to_a_search() {
        let n = 1 << 12;
        let mut edges: Vec<(u32, u32)> = (1..n).map(|vertex| (vertex - 1, vertex)).collect();
        edges.push((n - 1, 0));
        let graph = ExplicitGraph::new(n, &edges);
        let found =
            LargeComponent::of(&graph, &VertexSet::all(n), n as usize, 0, &Control::default()).unwrap();
        assert!(found.is_none());
    }
}
