//! A large component, found by sets and not by paths.
//!
//! Of a chaotic attractor a depth-first search sees one cell here and the next one there, and waits for memory at every
//! step. But the component of a vertex p is what can be reached from p and reaches it (L. K. Fleischer, B. Hendrickson
//! and A. Pınar, *On identifying strongly connected components in parallel*, 2000), and both sets are found by passes
//! over vertices in order, in parallel. A long path through p is followed beforehand: what comes after p on it is
//! reached, what comes before reaches p, so that few passes are needed.
//!
//! *Forward*, vertices that were reached wait in the part of the graph where they lie until many wait there with them, so
//! that rows are read side by side. *Backward*, a pass would bring in only what leads there in one step. But the same
//! pass chooses a successor for every vertex that does not, and who follows the chosen ones comes there soon: on a
//! chaotic attractor nearly every path does.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU32, Ordering};

use rayon::prelude::*;

use super::Digraph;
use super::poll::Poll;
use super::vertex_set::{SharedVertexSet, VertexSet, bits};
use super::walk::{WORDS_PER_TASK, for_each_word, look_at_all, words};
use crate::engine::random::Random;
use crate::engine::{Control, EngineError};

/// The path is this share of the vertices long.
const PATH_SHARE: usize = 32;

/// The path is no longer than this.
const LONGEST_PATH: usize = 1 << 12;

/// Words of a set that make up a part of the graph.
const WORDS_PER_PART: usize = 64;

/// Parts are gone on with in which at least this share waits of what waits in the fullest.
const FULL_SHARE: u32 = 4;

/// When so few wait, it no longer pays to go on with them in parallel.
const FEW: usize = 1 << 8;

/// Passes backward look at the vertices reached no more than so many times: where more are needed things creep, and a
/// search is better.
const BACKWARD_WORK: usize = 10;

/// No successor was chosen; for others stands one more than their number, so that memory is taken only where one was.
const NONE: u32 = 0;

/// The component of a vertex.
pub(super) struct LargeComponent {
    /// All that can be reached from it, it included.
    pub(super) reached: VertexSet,
    /// The component itself.
    pub(super) component: VertexSet,
}

impl LargeComponent {
    /// The component in which it is known that vertices lie, or else one that a path from `start` comes upon, of vertices
    /// that only lead to each other or to such as are not in `among`; `None` where that is not soon found.
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
        let known = graph.connected();
        if known.len() > 1 && known.iter().all(|&vertex| among.contains(vertex)) {
            return Self::of_path(graph, among, known, known, control);
        }
        let Some(path) = path(graph, among, start, (size / PATH_SHARE).min(LONGEST_PATH)) else {
            return Ok(None);
        };
        // both parts hold the vertex p between them
        let middle = path.len() / 2;
        Self::of_path(graph, among, &path[..=middle], &path[middle..], control)
    }

    /// From vertices that lead to one of its own, and such as this one leads to.
    fn of_path<G: Digraph + ?Sized>(
        graph: &G,
        among: &VertexSet,
        before: &[u32],
        after: &[u32],
        control: &Control,
    ) -> Result<Option<Self>, EngineError> {
        let reached = reached(graph, among, after, control)?;
        let component = leading(graph, &reached, before, control)?;
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
    successor(graph, vertex, (random.uniform() * successors as f64) as u64)
}

/// The successor of a vertex before which there are so many.
fn successor<G: Digraph + ?Sized>(graph: &G, vertex: u32, mut before: u64) -> Option<u32> {
    let found = graph.try_for_each_rows(vertex, 0, |rows| {
        if before < rows.cells() {
            let (row, at) = (before / u64::from(rows.length), before % u64::from(rows.length));
            return ControlFlow::Break(rows.start + row as u32 * rows.stride + at as u32);
        }
        before -= rows.cells();
        ControlFlow::Continue(())
    });
    found.break_value()
}

/// What can be reached from some vertices, they included, without leaving the set: part by part while many wait, then one
/// vertex after the other.
fn reached<G: Digraph + ?Sized>(
    graph: &G,
    among: &VertexSet,
    from: &[u32],
    control: &Control,
) -> Result<VertexSet, EngineError> {
    let mut start = VertexSet::none(graph.vertices());
    for &vertex in from {
        start.insert(vertex);
    }
    start.keep_only(among);
    let waiting = Waiting::new(among, start);
    loop {
        let (fullest, all) = waiting.counts();
        if all < FEW {
            break;
        }
        let least = (fullest / FULL_SHARE).max(1);
        (0..waiting.parts.len()).into_par_iter().try_for_each(|part| {
            if waiting.parts[part].load(Ordering::Relaxed) < least {
                return Ok(());
            }
            let mut poll = Poll::new(control);
            waiting.take(part).try_for_each(|vertex| {
                let work = for_each_word(graph, vertex, |number, mask| waiting.reach(number, mask));
                poll.after(work).map(|_| ())
            })
        })?;
        control.check()?;
    }
    let mut open: Vec<u32> = (0..waiting.parts.len()).flat_map(|part| waiting.take(part)).collect();
    let mut reached = waiting.reached.into_set();
    let mut poll = Poll::new(control);
    while let Some(vertex) = open.pop() {
        let work = for_each_word(graph, vertex, |number, mask| {
            let fresh = mask & among.words[number] & !reached.words[number];
            reached.words[number] |= fresh;
            open.extend(bits(fresh, number as u32));
        });
        poll.after(work)?;
    }
    Ok(reached)
}

/// Vertices that were reached, and those among them whose successors were not yet looked at.
struct Waiting<'a> {
    among: &'a VertexSet,
    reached: SharedVertexSet,
    open: SharedVertexSet,
    /// How many wait in each part.
    parts: Vec<AtomicU32>,
}

impl<'a> Waiting<'a> {
    /// Such of which none was looked at.
    fn new(among: &'a VertexSet, reached: VertexSet) -> Self {
        let count = |part: &[u64]| AtomicU32::new(part.iter().map(|word| word.count_ones()).sum());
        let parts = reached.words.chunks(WORDS_PER_PART).map(count).collect();
        Self { among, open: reached.clone().into(), reached: reached.into(), parts }
    }

    /// Of the vertices in one word those of the mask are reached.
    #[inline]
    fn reach(&self, number: usize, mask: u64) {
        let fresh = self.reached.insert_all(number, mask & self.among.words[number]);
        if fresh != 0 {
            self.open.insert_all(number, fresh);
            self.parts[number / WORDS_PER_PART].fetch_add(fresh.count_ones(), Ordering::Relaxed);
        }
    }

    /// How many wait in the fullest part, and in all.
    fn counts(&self) -> (u32, usize) {
        let counts = self.parts.iter().map(|part| part.load(Ordering::Relaxed));
        counts.fold((0, 0), |(fullest, all), count| (fullest.max(count), all + count as usize))
    }

    /// The vertices that wait in a part, which no longer do.
    fn take(&self, part: usize) -> impl Iterator<Item = u32> {
        let first = part * WORDS_PER_PART;
        let words = first..self.among.words.len().min(first + WORDS_PER_PART);
        words.flat_map(move |number| {
            let word = self.open.take(number);
            self.parts[part].fetch_sub(word.count_ones(), Ordering::Relaxed);
            bits(word, number as u32)
        })
    }
}

/// The vertices of a set that lead to some of its vertices, these included; `None` if that is not soon known.
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
    let mut next = vec![NONE; graph.vertices() as usize];
    let (mut pass, mut work) = (0, BACKWARD_WORK * among.len());
    loop {
        let left = open.len();
        let fresh = leading_at_once(graph, &open, &leading, share_before(pass), &mut next, control)?;
        if fresh.is_empty() {
            return Ok(Some(leading));
        }
        leading.insert_all(&fresh);
        follow(&open, &mut next, &mut leading);
        open.remove_all(&leading);
        pass += 1;
        work = match work.checked_sub(left) {
            Some(work) => work,
            None => return Ok(None),
        };
    }
}

/// The share of successors before the one that is chosen in a pass: 1/2, 1/4, 3/4, 1/8, 5/8, … (van der Corput's sequence).
fn share_before(pass: u32) -> f64 {
    f64::from((pass + 1).reverse_bits()) / 2f64.powi(32)
}

/// The vertices of a set from which an edge leads into another. For those from which none does a successor is chosen.
fn leading_at_once<G: Digraph + ?Sized>(
    graph: &G,
    set: &VertexSet,
    into: &VertexSet,
    share: f64,
    next: &mut [u32],
    control: &Control,
) -> Result<VertexSet, EngineError> {
    let mut leading = VertexSet::none(graph.vertices());
    let look = |vertex| {
        let (mut work, mut successors) = (1, 0);
        let found = graph.try_for_each_rows(vertex, 0, |rows| {
            work += words(rows);
            successors += rows.cells();
            into.first_of(rows).map_or(ControlFlow::Continue(()), ControlFlow::Break)
        });
        let chosen = match found {
            ControlFlow::Break(_) => None,
            ControlFlow::Continue(()) => {
                let chosen = successor(graph, vertex, (share * successors as f64) as u64);
                Some(chosen.map_or(NONE, |chosen| chosen + 1))
            }
        };
        (chosen, work)
    };
    let tell = |(leading, next): &mut (&mut [u64], &mut [u32]), number: usize, chosen| match chosen {
        Some(chosen) => next[number] = chosen,
        None => leading[number / 64] |= 1 << (number % 64),
    };
    let leading_of_tasks = leading.words.par_chunks_mut(WORDS_PER_TASK);
    let places = leading_of_tasks.zip(next.par_chunks_mut(64 * WORDS_PER_TASK));
    look_at_all(graph, set, places, look, tell, control)?;
    Ok(leading)
}

/// Adds the vertices of a set that lead to one of `leading` by the successors chosen. No vertex is passed twice.
fn follow(set: &VertexSet, next: &mut [u32], leading: &mut VertexSet) {
    let mut path = Vec::new();
    for start in set.iter() {
        let mut vertex = start;
        while !leading.contains(vertex) {
            let chosen = std::mem::replace(&mut next[vertex as usize], NONE);
            if chosen == NONE {
                break;
            }
            path.push(vertex);
            vertex = chosen - 1;
        }
        if leading.contains(vertex) {
            for &vertex in &path {
                leading.insert(vertex);
            }
        }
        path.clear();
    }
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
    fn the_successors_chosen_lead_around_a_cycle() {
        let n = 1 << 12;
        let mut edges: Vec<(u32, u32)> = (1..n).map(|vertex| (vertex - 1, vertex)).collect();
        edges.push((n - 1, 0));
        let graph = ExplicitGraph::new(n, &edges);
        let all = VertexSet::all(n);
        let found = LargeComponent::of(&graph, &all, n as usize, 0, &Control::default()).unwrap().unwrap();
        assert_eq!(found.component, all);
    }

    #[test]
    fn what_creeps_is_left_to_a_search() {
        // from a long cycle most edges lead astray, to where none leads back
        let (n, astray) = (1 << 12, 1 << 5);
        let mut edges: Vec<(u32, u32)> = (0..n).map(|vertex| (vertex, (vertex + 1) % n)).collect();
        edges.extend((0..n).flat_map(|vertex| (n..n + astray).map(move |other| (vertex, other))));
        edges.extend((n..n + astray).map(|other| (other, other)));
        let graph = ExplicitGraph::new(n + astray, &edges);
        let leads = leading(&graph, &VertexSet::all(n + astray), &[0], &Control::default()).unwrap();
        assert_eq!(leads, None);
    }
}
