//! What lies between Morse sets: connecting regions, and the order without those that mean nothing.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use super::passes::{ascend, descend};
use super::{Digraph, MorseDecomposition};
use crate::engine::{Control, EngineError};

/// A Morse graph from which some Morse sets were taken out, with all reachability among the others kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReducedMorseGraph {
    /// Numbers of the Morse sets that were kept, in increasing order.
    pub sets: Vec<usize>,
    /// The Hasse diagram among them: pairs (from, to) of numbers of Morse sets, sorted.
    pub edges: Vec<(usize, usize)>,
}

impl MorseDecomposition {
    /// The vertices on paths that lead from one of some Morse sets to one of others, in increasing order: those of the
    /// Morse sets among them, and nothing if no path does. An orbit of the map that connects them, if there is one, runs
    /// in these cells.
    ///
    /// # Errors
    /// [`EngineError::Cancelled`].
    pub fn connecting_cells<G: Digraph + ?Sized>(
        &self,
        graph: &G,
        from: &[usize],
        to: &[usize],
        control: &Control,
    ) -> Result<Vec<u32>, EngineError> {
        if !from.iter().any(|&from| to.iter().any(|&to| self.reaches(from, to))) {
            return Ok(Vec::new());
        }
        let components = self.components();
        let marked = |sets: &[usize]| {
            let mut marked: Vec<u32> = sets.iter().map(|&set| self.sets()[set].component).collect();
            marked.sort_unstable();
            marked
        };
        let or_one_of = |marked: Vec<u32>| {
            move |(): &mut (), members: &[u32], joined: bool| {
                let is_marked = |member| marked.binary_search(&components.component(member)).is_ok();
                joined || components.is_recurrent(members[0]) && is_marked(members[0])
            }
        };
        let join = |(): &mut (), a, b| a || b;
        let leads_there = ascend(graph, components, &mut (), false, join, or_one_of(marked(to)), control)?;
        let comes_from_there =
            descend(graph, components, &mut (), false, join, or_one_of(marked(from)), control)?;
        let lies_between = |&vertex: &u32| leads_there[vertex as usize] && comes_from_there[vertex as usize];
        Ok((0..graph.vertices()).filter(lies_between).collect())
    }

    /// The Morse graph without the Morse sets that are called trivial, such as those of trivial Conley index, which may
    /// hold nothing: one of the others can be reached from another if and only if it could before.
    pub fn reduced(&self, is_trivial: impl Fn(usize) -> bool) -> ReducedMorseGraph {
        let sets: Vec<usize> = (0..self.sets().len()).filter(|&set| !is_trivial(set)).collect();
        let mut edges = Vec::new();
        for &from in &sets {
            // a component's number is larger than that of all it reaches, so the largest is a direct successor
            let mut below: Vec<usize> =
                sets.iter().copied().filter(|&to| to != from && self.reaches(from, to)).collect();
            below.sort_unstable_by_key(|&to| Reverse(self.sets()[to].component));
            let mut direct: Vec<usize> = Vec::new();
            for to in below {
                if !direct.iter().any(|&between| self.reaches(between, to)) {
                    direct.push(to);
                }
            }
            direct.sort_unstable();
            edges.extend(direct.into_iter().map(|to| (from, to)));
        }
        ReducedMorseGraph { sets, edges }
    }
}
