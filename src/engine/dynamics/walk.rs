//! Looking at all vertices of a set, in parallel.

use std::convert::Infallible;
use std::ops::ControlFlow;

use rayon::prelude::*;

use super::Digraph;
use super::poll::Poll;
use super::vertex_set::{VertexSet, bits, try_for_each_word};
use crate::engine::grid::Rows;
use crate::engine::{Control, EngineError};

/// Words of a set that one task takes.
pub(super) const WORDS_PER_TASK: usize = 1 << 5;

/// Calls `look` with each vertex of a set, and `tell` with what was seen. Of vertices that follow each other and are alike
/// only the first is looked at. With what it sees `look` returns the work that this was.
///
/// Each task has one of `places`, for [`WORDS_PER_TASK`] words of the set; `tell` is given it, and the vertex' number
/// among those of these words.
///
/// # Errors
/// [`EngineError::Cancelled`].
pub(super) fn look_at_all<G: Digraph + ?Sized, P: Send, T: Copy>(
    graph: &G,
    set: &VertexSet,
    places: impl IndexedParallelIterator<Item = P>,
    look: impl Fn(u32) -> (T, u64) + Sync,
    tell: impl Fn(&mut P, usize, T) + Sync,
    control: &Control,
) -> Result<(), EngineError> {
    set.words.par_chunks(WORDS_PER_TASK).zip(places).enumerate().try_for_each(|(task, (words, mut place))| {
        control.check()?;
        let mut poll = Poll::new(control);
        let mut before = None;
        for (&word, number) in words.iter().zip((task * WORDS_PER_TASK) as u32..) {
            for vertex in bits(word, number) {
                let (seen, work) = match before {
                    Some((before, seen)) if graph.are_alike(before, vertex) => (seen, 1),
                    _ => look(vertex),
                };
                before = Some((vertex, seen));
                tell(&mut place, vertex as usize - 64 * WORDS_PER_TASK * task, seen);
                poll.after(work)?;
            }
        }
        Ok(())
    })
}

/// Calls `visit` with the number of each word of a set in which successors of a vertex lie, and their bits in it. Returns the
/// work that this was.
#[inline]
pub(super) fn for_each_word<G: Digraph + ?Sized>(
    graph: &G,
    vertex: u32,
    mut visit: impl FnMut(usize, u64),
) -> u64 {
    let mut work = 1;
    graph.for_each_rows(vertex, |rows| {
        work += words(rows);
        let _ = try_for_each_word(rows, |number, mask| {
            visit(number, mask);
            ControlFlow::<Infallible>::Continue(())
        });
    });
    work
}

/// Words of a set in which some runs of vertices lie, or a little more.
#[inline]
pub(super) fn words(rows: Rows<u32>) -> u64 {
    u64::from(rows.count) * u64::from(rows.length / 64 + 1)
}
