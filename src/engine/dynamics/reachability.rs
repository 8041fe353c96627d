//! What can be reached from where, in sweeps over all edges.

use super::digraph::for_each_run;
use super::{Components, Digraph};
use crate::engine::{Control, EngineError};

/// Vertices swept between two looks at the cancel flag.
const POLL_EVERY: usize = 1 << 16;

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
/// `T::default()` must be neutral for `join`. Components come in the order in which they were closed, so that all that
/// can be reached from one is settled when its turn comes.
///
/// # Errors
/// [`EngineError::Cancelled`].
pub(super) fn sweep<G: Digraph + ?Sized, T: Copy + Default>(
    graph: &G,
    components: &Components,
    own: impl Fn(u32) -> T,
    join: impl Fn(T, T) -> T,
    control: &Control,
) -> Result<Vec<T>, EngineError> {
    let mut values = vec![T::default(); graph.vertices() as usize];
    let mut until_poll = POLL_EVERY;
    for members in components.iter() {
        let mut value = T::default();
        for &vertex in members {
            until_poll -= 1;
            if until_poll == 0 {
                control.check()?;
                until_poll = POLL_EVERY;
            }
            value = join(value, own(vertex));
            for_each_run(graph, vertex, |run| {
                // successors in the same component have the neutral value still
                for &reached in &values[run.start as usize..run.end as usize] {
                    value = join(value, reached);
                }
            });
        }
        for &vertex in members {
            values[vertex as usize] = value;
        }
    }
    Ok(values)
}
