//! What can be reached from where, in sweeps over all edges.

use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use super::{Components, Digraph};
use crate::engine::{Control, EngineError};

/// Vertices swept between two looks at the cancel flag.
const POLL_EVERY: usize = 1 << 16;

/// Vertices of a layer that one task sweeps.
const VERTICES_PER_TASK: usize = 1 << 13;

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
    let own = |vertex| {
        if !components.is_recurrent(vertex) {
            return 0;
        }
        let component = components.component(vertex);
        targets.iter().position(|&target| target == component).map_or(0, |bit| 1u64 << bit)
    };
    sweep(graph, components, own, |a, b| a | b, control)
}

/// For every vertex the join of the `own` values of all that it can reach, itself among them.
///
/// Zero must be neutral for `join`, which must be associative, commutative and idempotent. Components come in the order
/// in which they were closed, so that all that can be reached from one is settled when its turn comes; the vertices of
/// a trimmed layer are swept in parallel.
///
/// # Errors
/// [`EngineError::Cancelled`].
pub(super) fn sweep<G: Digraph + ?Sized>(
    graph: &G,
    components: &Components,
    own: impl Fn(u32) -> u64 + Sync,
    join: impl Fn(u64, u64) -> u64 + Sync,
    control: &Control,
) -> Result<Vec<u64>, EngineError> {
    let values: Vec<AtomicU64> = (0..graph.vertices()).map(|_| AtomicU64::new(0)).collect();
    let reached = |vertex, mut value| {
        graph.for_each_run(vertex, |run| {
            for successor in &values[run.start as usize..run.end as usize] {
                value = join(value, successor.load(Ordering::Relaxed));
            }
        });
        value
    };
    let mut until_poll = POLL_EVERY;
    for members in components.core() {
        let mut value = 0;
        for &vertex in members {
            until_poll -= 1;
            if until_poll == 0 {
                control.check()?;
                until_poll = POLL_EVERY;
            }
            // successors in the same component have the neutral value still
            value = reached(vertex, join(value, own(vertex)));
        }
        for &vertex in members {
            values[vertex as usize].store(value, Ordering::Relaxed);
        }
    }
    for layer in components.layers() {
        layer.par_chunks(VERTICES_PER_TASK).for_each(|vertices| {
            if control.check().is_err() {
                return;
            }
            for &vertex in vertices {
                values[vertex as usize].store(reached(vertex, own(vertex)), Ordering::Relaxed);
            }
        });
    }
    control.check()?;
    Ok(values.into_iter().map(AtomicU64::into_inner).collect())
}
