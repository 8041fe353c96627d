//! The exhaustive search for an order retraction, where the smallest choice each time does not make one.

use super::poset::{EMPTY, Poset, Subset};
use super::{Existence, Problem};
use crate::engine::dynamics::Digraph;
use crate::engine::{Control, EngineError};

/// Assignments after which the search is given up.
const MOST_ASSIGNMENTS: usize = 1 << 18;

/// The vertices with several candidates, and the edges among them. All other edges are satisfied whatever is chosen,
/// since candidates are consistent.
struct Open {
    vertices: Vec<u32>,
    /// Candidates of each.
    left: Vec<Subset>,
    successors: Vec<Vec<usize>>,
    predecessors: Vec<Vec<usize>>,
}

impl<G: Digraph + ?Sized> Problem<'_, G> {
    /// Tries all choices, part by part of the open vertices, each choice with its consequences drawn. Where one is found
    /// it is written to `tiles`.
    pub(super) fn search(
        &self,
        poset: &mut Poset,
        candidates: &[Subset],
        tiles: &mut [u32],
    ) -> Result<Existence, EngineError> {
        let mut open = self.open(poset, candidates);
        let mut assignments = MOST_ASSIGNMENTS;
        for part in open.parts() {
            let existence = open.solve(&part, poset, &mut assignments, self.control)?;
            if existence != Existence::Found {
                return Ok(existence);
            }
        }
        let mut chosen = candidates.to_vec();
        for (&vertex, &left) in open.vertices.iter().zip(&open.left) {
            chosen[vertex as usize] = left;
        }
        for (tile, chosen) in tiles.iter_mut().zip(chosen) {
            *tile = poset.elements(chosen).next().map_or(super::NONE, |element| element as u32);
        }
        Ok(Existence::Found)
    }

    fn open(&self, poset: &Poset, candidates: &[Subset]) -> Open {
        // not recurrent, so each is a component of its own; from the sinks upward
        let is_open = |vertex: u32| !poset.has_one(candidates[vertex as usize]);
        let vertices: Vec<u32> = self.components().filter(|&vertex| is_open(vertex)).collect();
        let mut numbers: Vec<(u32, usize)> = vertices.iter().copied().zip(0..).collect();
        numbers.sort_unstable();
        let mut successors = vec![Vec::new(); vertices.len()];
        let mut predecessors = vec![Vec::new(); vertices.len()];
        for (from, &vertex) in vertices.iter().enumerate() {
            self.graph.for_each_run(vertex, |run| {
                let first = numbers.partition_point(|&(other, _)| other < run.start);
                for &(_, to) in numbers[first..].iter().take_while(|&&(other, _)| other < run.end) {
                    successors[from].push(to);
                    predecessors[to].push(from);
                }
            });
        }
        let left = vertices.iter().map(|&vertex| candidates[vertex as usize]).collect();
        Open { vertices, left, successors, predecessors }
    }
}

/// A vertex for which a choice was made.
struct Level {
    /// Its place in the part.
    place: usize,
    /// Candidates that were not tried.
    untried: Subset,
    /// Number of narrowings before.
    before: usize,
}

impl Open {
    /// The vertices that hang together, each part from the sinks upward.
    fn parts(&self) -> Vec<Vec<usize>> {
        let mut is_seen = vec![false; self.vertices.len()];
        let mut parts = Vec::new();
        for start in 0..self.vertices.len() {
            if std::mem::replace(&mut is_seen[start], true) {
                continue;
            }
            let (mut part, mut next) = (vec![start], 0);
            while let Some(&number) = part.get(next) {
                next += 1;
                for &other in self.successors[number].iter().chain(&self.predecessors[number]) {
                    if !std::mem::replace(&mut is_seen[other], true) {
                        part.push(other);
                    }
                }
            }
            part.sort_unstable();
            parts.push(part);
        }
        parts
    }

    /// Narrows the candidates of a part to one each.
    fn solve(
        &mut self,
        part: &[usize],
        poset: &mut Poset,
        assignments: &mut usize,
        control: &Control,
    ) -> Result<Existence, EngineError> {
        let mut narrowings: Vec<(usize, Subset)> = Vec::new();
        let mut levels: Vec<Level> = Vec::new();
        let mut next = 0;
        loop {
            let Some(place) = (next..part.len()).find(|&place| !poset.has_one(self.left[part[place]])) else {
                return Ok(Existence::Found);
            };
            levels.push(Level { place, untried: self.left[part[place]], before: narrowings.len() });
            loop {
                control.check()?;
                poset.check()?;
                let Some(level) = levels.last_mut() else { return Ok(Existence::Impossible) };
                for (number, left) in narrowings.drain(level.before..).rev() {
                    self.left[number] = left;
                }
                let Some(chosen) = poset.first_minimal(level.untried) else {
                    levels.pop();
                    continue;
                };
                if *assignments == 0 {
                    return Ok(Existence::Unknown);
                }
                *assignments -= 1;
                let others: Vec<usize> =
                    poset.elements(level.untried).filter(|&other| other != chosen).collect();
                level.untried = poset.subset(others.into_iter());
                next = level.place + 1;
                let only = poset.subset(std::iter::once(chosen));
                if self.narrow(part[level.place], only, poset, &mut narrowings) {
                    break;
                }
            }
        }
    }

    /// Leaves a vertex these candidates, and draws the consequences; `false` if one has none left.
    fn narrow(
        &mut self,
        number: usize,
        left: Subset,
        poset: &mut Poset,
        narrowings: &mut Vec<(usize, Subset)>,
    ) -> bool {
        narrowings.push((number, std::mem::replace(&mut self.left[number], left)));
        let mut changed = vec![number];
        while let Some(number) = changed.pop() {
            let left = self.left[number];
            let (above, below) = (poset.above_some(left), poset.below_some(left));
            let neighbours = self.predecessors[number]
                .iter()
                .map(|&other| (other, above))
                .chain(self.successors[number].iter().map(|&other| (other, below)));
            for (other, allowed) in neighbours {
                let before = self.left[other];
                let after = poset.intersection(before, allowed);
                if after != before {
                    narrowings.push((other, before));
                    self.left[other] = after;
                    if after == EMPTY {
                        return false;
                    }
                    changed.push(other);
                }
            }
        }
        true
    }
}
