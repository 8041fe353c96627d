//! What can be reached from where, in one sweep over all edges.

use std::ops::BitOr;

use bytemuck::Pod;
use rayon::prelude::*;

use super::poll::Poll;
use super::scc::Stretch;
use super::{Components, Digraph};
use crate::engine::grid::Rows;
use crate::engine::{Control, EngineError};

/// Vertices of a layer that one task sweeps.
const VERTICES_PER_TASK: usize = 1 << 13;

/// Bytes that are read at once.
const WORD: usize = 8;

/// A word with one bit for each of a few things that may be reached.
pub(super) trait Mask: Pod + Send + Sync + Eq + BitOr<Output = Self> + Into<u64> {
    /// Number of bits.
    const BITS: usize = 8 * size_of::<Self>();
    /// No bit.
    const NONE: Self;
    /// One bit.
    fn bit(number: usize) -> Self;
}

macro_rules! mask {
    ($($word:ty),+) => {$(
        impl Mask for $word {
            const NONE: Self = 0;

            #[inline]
            fn bit(number: usize) -> Self {
                1 << number
            }
        }
    )+};
}

mask!(u8, u16, u64);

/// Which of up to 64 recurrent components each vertex can reach (those in one of them reach it): bit `i` of a vertex'
/// word stands for `targets[i]`. Eight bytes a vertex.
///
/// # Errors
/// [`EngineError::Cancelled`].
///
/// # Panics
/// If there are more than 64 targets.
pub fn reachable_sets<G: Digraph + ?Sized>(
    graph: &G,
    components: &Components,
    targets: &[u32],
    control: &Control,
) -> Result<Vec<u64>, EngineError> {
    assert!(targets.len() <= 64, "one word a vertex");
    Ok(Sweep::over(graph, components, targets, 0, control)?.by_vertex)
}

/// What every vertex can reach, of some recurrent components, and whether it escapes.
pub(super) struct Sweep<T> {
    /// For each vertex a bit for each target, and what its paths escape to.
    pub(super) by_vertex: Vec<T>,
    /// The union of what is reached from other components than the target itself.
    pub(super) from_elsewhere: T,
}

impl<T: Mask> Sweep<T> {
    /// Bit `i` stands for `targets[i]`, and the vertices that escape have `escape` in theirs.
    ///
    /// Components come in the order in which they were closed, so that all that can be reached from one is settled when
    /// its turn comes; the vertices of a trimmed layer are swept in parallel.
    ///
    /// # Errors
    /// [`EngineError::Cancelled`].
    pub(super) fn over<G: Digraph + ?Sized>(
        graph: &G,
        components: &Components,
        targets: &[u32],
        escape: T,
        control: &Control,
    ) -> Result<Self, EngineError> {
        // a word may be read beyond the last vertex
        let mut values = vec![T::NONE; graph.vertices() as usize + WORD];
        let mut from_elsewhere = T::NONE;
        let mut poll = Poll::new(control);
        let mut fresh = Vec::new();
        for stretch in components.stretches() {
            match stretch {
                Stretch::Recurrent(members) => {
                    // successors in the same component have no bit still
                    let tasks = members.par_chunks(VERTICES_PER_TASK);
                    let join = |members| joined_by_each(graph, members, &values, escape, |_| (), control);
                    let reached = tasks.map(join).try_reduce(|| T::NONE, |a, b| Ok(a | b))?;
                    from_elsewhere = from_elsewhere | reached;
                    let own = components.component(members[0]);
                    let bit = targets.iter().position(|&target| target == own).map(T::bit);
                    let value = reached | bit.unwrap_or(T::NONE);
                    if value != T::NONE {
                        for &vertex in members {
                            values[vertex as usize] = value;
                        }
                    }
                }
                Stretch::Layer(vertices) => {
                    fresh.resize(vertices.len(), T::NONE);
                    let tasks =
                        vertices.par_chunks(VERTICES_PER_TASK).zip(fresh.par_chunks_mut(VERTICES_PER_TASK));
                    let join = |(vertices, fresh): (&[u32], &mut [T])| {
                        let mut fresh = fresh.iter_mut();
                        let note = |value| fresh.by_ref().take(1).for_each(|place| *place = value);
                        joined_by_each(graph, vertices, &values, escape, note, control)
                    };
                    let reached = tasks.map(join).try_reduce(|| T::NONE, |a, b| Ok(a | b))?;
                    from_elsewhere = from_elsewhere | reached;
                    scatter(vertices, &fresh, &mut values);
                }
                Stretch::Singles(vertices) => {
                    for &vertex in vertices {
                        let (reached, work) = joined(graph, vertex, &values, escape);
                        values[vertex as usize] = reached;
                        from_elsewhere = from_elsewhere | reached;
                        poll.after(work)?;
                    }
                }
            }
        }
        values.truncate(graph.vertices() as usize);
        Ok(Self { by_vertex: values, from_elsewhere })
    }
}

/// The union of the values of the successors of some vertices and of how they escape; `note` is told of that of each.
fn joined_by_each<G: Digraph + ?Sized, T: Mask>(
    graph: &G,
    vertices: &[u32],
    values: &[T],
    escape: T,
    mut note: impl FnMut(T),
    control: &Control,
) -> Result<T, EngineError> {
    control.check()?;
    let (mut poll, mut all, mut before) = (Poll::new(control), T::NONE, None);
    for &vertex in vertices {
        let (reached, work) = match before {
            Some((before, reached)) if graph.are_alike(before, vertex) => (reached, 1),
            _ => joined(graph, vertex, values, escape),
        };
        before = Some((vertex, reached));
        note(reached);
        all = all | reached;
        poll.after(work)?;
    }
    Ok(all)
}

/// The union of the values of a vertex' successors and of how it escapes, and the work that this was.
#[inline]
fn joined<G: Digraph + ?Sized, T: Mask>(graph: &G, vertex: u32, values: &[T], escape: T) -> (T, u64) {
    let bytes = bytemuck::cast_slice(values);
    let (mut all, mut work) = (0, 1);
    graph.for_each_rows(vertex, |rows| {
        work += rows.cells();
        all |= union::<T>(bytes, rows);
    });
    // the words' values side by side become one
    let mut width = WORD;
    while width > size_of::<T>() {
        width /= 2;
        all |= all >> (8 * width);
    }
    let all: T = bytemuck::pod_read_unaligned(&all.to_le_bytes()[..size_of::<T>()]);
    (if graph.escapes(vertex) { all | escape } else { all }, work)
}

/// The union of the values of some runs of vertices: of as many beside each other as there are in a word.
#[inline]
fn union<T>(bytes: &[u8], rows: Rows<u32>) -> u64 {
    let (length, stride) = (rows.length as usize * size_of::<T>(), rows.stride as usize * size_of::<T>());
    let mut start = rows.start as usize * size_of::<T>();
    // what stands in the last word of a run, and what is behind it
    let words = (length - 1) / WORD;
    let within = u64::MAX >> (8 * (WORD - 1 - (length - 1) % WORD));
    let (mut inner, mut last) = (0, 0);
    for _ in 0..rows.count {
        let (run, _) = bytes[start..start + WORD * (words + 1)].as_chunks::<WORD>();
        if let Some((end, run)) = run.split_last() {
            last |= u64::from_le_bytes(*end);
            inner = run.iter().fold(inner, |all, &word| all | u64::from_le_bytes(word));
        }
        start += stride;
    }
    inner | last & within
}

/// Writes values to their places, which increase.
fn scatter<T: Mask>(places: &[u32], values: &[T], mut to: &mut [T]) {
    let mut tasks = Vec::with_capacity(places.len() / VERTICES_PER_TASK + 1);
    let mut first = 0;
    for (places, values) in places.chunks(VERTICES_PER_TASK).zip(values.chunks(VERTICES_PER_TASK)) {
        let end = places[places.len() - 1] + 1;
        let (part, rest) = to.split_at_mut((end - first) as usize);
        tasks.push((first, places, values, part));
        (first, to) = (end, rest);
    }
    tasks.into_par_iter().for_each(|(first, places, values, part)| {
        for (&place, &value) in places.iter().zip(values) {
            part[(place - first) as usize] = value;
        }
    });
}
