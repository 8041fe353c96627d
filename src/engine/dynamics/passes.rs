//! Passes over a graph in the order of its components: from the sinks upward, or from the sources downward.

use super::poll::Poll;
use super::{Components, Digraph};
use crate::engine::{Control, EngineError};

/// From the sinks upward: the value of a component is what `settle(state, members, joined)` makes of the join of the
/// values of all that its edges lead to. Returns the value of every vertex.
///
/// `neutral` must be so for `join`, and `join` must be idempotent; both functions may change the state.
///
/// # Errors
/// [`EngineError::Cancelled`].
pub(super) fn ascend<G: Digraph + ?Sized, S, T: Copy + PartialEq>(
    graph: &G,
    components: &Components,
    state: &mut S,
    neutral: T,
    join: impl Fn(&mut S, T, T) -> T,
    settle: impl Fn(&mut S, &[u32], T) -> T,
    control: &Control,
) -> Result<Vec<T>, EngineError> {
    let mut values = vec![neutral; graph.vertices() as usize];
    let mut poll = Poll::new(control);
    for members in components.iter() {
        let mut joined = neutral;
        for &vertex in members {
            let mut edges = 1;
            graph.for_each_run(vertex, |run| {
                edges += u64::from(run.end - run.start);
                // successors in the same component have the neutral value still
                for &value in &values[run.start as usize..run.end as usize] {
                    if value != joined {
                        joined = join(state, joined, value);
                    }
                }
            });
            poll.after(edges)?;
        }
        let value = settle(state, members, joined);
        for &vertex in members {
            values[vertex as usize] = value;
        }
    }
    Ok(values)
}

/// From the sources downward: the value of a component is what `settle(state, members, joined)` makes of the join of the
/// values of all from which an edge leads to it. Returns the value of every vertex.
///
/// `neutral` must be so for `join`, and `join` must be idempotent; both functions may change the state.
///
/// # Errors
/// [`EngineError::Cancelled`].
pub(super) fn descend<G: Digraph + ?Sized, S, T: Copy + PartialEq>(
    graph: &G,
    components: &Components,
    state: &mut S,
    neutral: T,
    join: impl Fn(&mut S, T, T) -> T,
    settle: impl Fn(&mut S, &[u32], T) -> T,
    control: &Control,
) -> Result<Vec<T>, EngineError> {
    let mut values = vec![neutral; graph.vertices() as usize];
    let mut poll = Poll::new(control);
    for members in components.iter().rev() {
        let joined =
            members.iter().fold(neutral, |joined, &vertex| join(state, joined, values[vertex as usize]));
        let value = settle(state, members, joined);
        for &vertex in members {
            let mut edges = 1;
            graph.for_each_run(vertex, |run| {
                edges += u64::from(run.end - run.start);
                for below in &mut values[run.start as usize..run.end as usize] {
                    if *below != value {
                        *below = join(state, *below, value);
                    }
                }
            });
            poll.after(edges)?;
        }
        // what the members handed to each other is part of it
        for &vertex in members {
            values[vertex as usize] = value;
        }
    }
    Ok(values)
}
