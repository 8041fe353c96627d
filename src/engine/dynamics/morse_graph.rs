//! Morse sets and their order.

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use super::digraph::for_each_run;
use super::{Components, Digraph, Fates, reachable_sets};
use crate::engine::{Control, EngineError, Role};

/// Most Morse sets whose order is computed. At more, the picture means nothing: nearly every cell is a fixed point.
pub const MAX_MORSE_SETS: usize = 1 << 13;

/// A Morse set: a strongly connected component with an edge inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecurrentSet {
    /// Its number among the components.
    pub component: u32,
    /// Its vertices as runs (first, length), sorted.
    pub cells: Vec<(u32, u32)>,
    /// Number of its vertices.
    pub size: usize,
    /// Its place in the dynamics.
    pub role: Role,
}

impl RecurrentSet {
    fn new(component: u32, members: &[u32]) -> Self {
        let mut sorted = members.to_vec();
        sorted.sort_unstable();
        let runs = sorted.chunk_by(|&a, &b| a + 1 == b).map(|run| (run[0], run.len() as u32)).collect();
        Self { component, cells: runs, size: members.len(), role: Role::Intermediate }
    }

    /// Its smallest vertex.
    pub fn first(&self) -> u32 {
        self.cells[0].0
    }

    /// Whether a vertex belongs to it.
    pub fn contains(&self, vertex: u32) -> bool {
        let after = self.cells.partition_point(|&(first, _)| first <= vertex);
        after > 0 && vertex - self.cells[after - 1].0 < self.cells[after - 1].1
    }

    /// Its vertices, in increasing order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.cells.iter().flat_map(|&(first, length)| first..first + length)
    }
}

/// The Morse sets of a graph, their order by reachability, and the fate of all vertices.
#[derive(Clone, Debug, PartialEq)]
pub struct MorseDecomposition {
    components: Components,
    sets: Vec<RecurrentSet>,
    reach: BitMatrix,
    edges: Vec<(usize, usize)>,
    fates: Fates,
}

impl MorseDecomposition {
    /// Decomposes a graph.
    ///
    /// # Errors
    /// [`EngineError::TooManyMorseSets`], [`EngineError::Cancelled`].
    pub fn of<G: Digraph + ?Sized>(graph: &G, control: &Control) -> Result<Self, EngineError> {
        let components = Components::of(graph, control)?;
        let recurrent =
            || components.iter().zip(0u32..).filter(|(members, _)| components.is_recurrent(members[0]));
        let found = recurrent().count();
        if found > MAX_MORSE_SETS {
            return Err(EngineError::TooManyMorseSets { found, limit: MAX_MORSE_SETS });
        }
        let mut sets: Vec<RecurrentSet> =
            recurrent().map(|(members, number)| RecurrentSet::new(number, members)).collect();
        sets.sort_unstable_by_key(RecurrentSet::first);
        control.report("order", 0.0);
        let reach = reachability(graph, &components, &sets, control)?;
        let edges = transitive_reduction(&sets, &reach);
        let is_minimal = |set: usize| reach.row(set).all(|below| below == set);
        let fates = Fates::of(graph, &components, &sets, is_minimal, control)?;
        let entered = entered(graph, &components, &sets, control)?;
        for (number, set) in sets.iter_mut().enumerate() {
            set.role = match (is_minimal(number), fates.escapes(set.first()), entered[number]) {
                (true, false, _) => Role::Attractor,
                (true, true, _) => Role::Open,
                (false, _, false) => Role::Repeller,
                (false, _, true) => Role::Intermediate,
            };
        }
        control.report("order", 1.0);
        Ok(Self { components, sets, reach, edges, fates })
    }

    /// The Morse sets, by smallest vertex.
    pub fn sets(&self) -> &[RecurrentSet] {
        &self.sets
    }

    /// The Hasse diagram: pairs (from, to) of the transitive reduction of reachability, sorted.
    pub fn edges(&self) -> &[(usize, usize)] {
        &self.edges
    }

    /// Whether one Morse set can be reached from another (from itself it can).
    pub fn reaches(&self, from: usize, to: usize) -> bool {
        self.reach.get(from, to)
    }

    /// The strongly connected components.
    pub fn components(&self) -> &Components {
        &self.components
    }

    /// The fate of every vertex.
    pub fn fates(&self) -> &Fates {
        &self.fates
    }

    /// The Morse set in which a vertex lies, if any.
    pub fn set_of(&self, vertex: u32) -> Option<usize> {
        if !self.components.is_recurrent(vertex) {
            return None;
        }
        let component = self.components.component(vertex);
        self.sets.iter().position(|set| set.component == component)
    }

    /// For each of `vertices` the Morse sets that it can reach, in increasing order.
    ///
    /// # Errors
    /// [`EngineError::Cancelled`].
    pub fn reachable_from<G: Digraph + ?Sized>(
        &self,
        graph: &G,
        vertices: &[u32],
        control: &Control,
    ) -> Result<Vec<Vec<usize>>, EngineError> {
        let mut reachable = vec![Vec::new(); vertices.len()];
        for (chunk, sets) in self.sets.chunks(64).enumerate() {
            let targets: Vec<u32> = sets.iter().map(|set| set.component).collect();
            let masks = reachable_sets(graph, &self.components, &targets, control)?;
            for (reachable, &vertex) in reachable.iter_mut().zip(vertices) {
                let mask = masks[vertex as usize];
                reachable
                    .extend((0..sets.len()).filter(|bit| mask >> bit & 1 == 1).map(|bit| chunk * 64 + bit));
            }
        }
        Ok(reachable)
    }
}

/// Reachability among Morse sets, 64 of them in one sweep, so that memory does not grow with their number.
fn reachability<G: Digraph + ?Sized>(
    graph: &G,
    components: &Components,
    sets: &[RecurrentSet],
    control: &Control,
) -> Result<BitMatrix, EngineError> {
    let mut reach = BitMatrix::new(sets.len());
    for (word, chunk) in sets.chunks(64).enumerate() {
        let targets: Vec<u32> = chunk.iter().map(|set| set.component).collect();
        let masks = reachable_sets(graph, components, &targets, control)?;
        for (from, set) in sets.iter().enumerate() {
            reach.set_word(from, word, masks[set.first() as usize]);
        }
        control.report("order", 0.5 * ((word + 1) * 64).min(sets.len()) as f64 / sets.len() as f64);
    }
    Ok(reach)
}

/// The edges of an order that do not follow from others.
///
/// A component's number is larger than that of all it reaches. So among the sets below one, that of the largest number
/// is a direct successor, all below it is not, and so on.
fn transitive_reduction(sets: &[RecurrentSet], reach: &BitMatrix) -> Vec<(usize, usize)> {
    let mut edges = Vec::new();
    for from in 0..sets.len() {
        let mut below: Vec<usize> = reach.row(from).filter(|&to| to != from).collect();
        below.sort_unstable_by_key(|&to| std::cmp::Reverse(sets[to].component));
        let mut covered = BitMatrix::row_of(sets.len());
        let first = edges.len();
        for to in below {
            if covered[to / 64] >> (to % 64) & 1 == 0 {
                edges.push((from, to));
                for (word, below) in covered.iter_mut().zip(reach.words(to)) {
                    *word |= below;
                }
            }
        }
        edges[first..].sort_unstable();
    }
    edges
}

/// Which Morse sets have an edge into them from outside.
fn entered<G: Digraph + ?Sized>(
    graph: &G,
    components: &Components,
    sets: &[RecurrentSet],
    control: &Control,
) -> Result<Vec<bool>, EngineError> {
    let mut numbers: Vec<(u32, usize)> = sets.iter().map(|set| set.component).zip(0..).collect();
    numbers.sort_unstable();
    let entered: Vec<AtomicBool> = sets.iter().map(|_| AtomicBool::new(false)).collect();
    let vertices = graph.vertices();
    let block = 1 << 14;
    (0..vertices.div_ceil(block)).into_par_iter().for_each(|number| {
        if control.check().is_err() {
            return;
        }
        for vertex in number * block..((number + 1) * block).min(vertices) {
            let own = components.component(vertex);
            for_each_run(graph, vertex, |run| {
                for successor in run.filter(|&successor| components.is_recurrent(successor)) {
                    let component = components.component(successor);
                    if component != own {
                        let at = numbers.partition_point(|&(other, _)| other < component);
                        entered[numbers[at].1].store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    control.check()?;
    Ok(entered.into_iter().map(AtomicBool::into_inner).collect())
}

/// A square matrix of bits.
#[derive(Clone, Debug, PartialEq, Eq)]
struct BitMatrix {
    words_per_row: usize,
    words: Vec<u64>,
}

impl BitMatrix {
    fn new(size: usize) -> Self {
        let words_per_row = size.div_ceil(64);
        Self { words_per_row, words: vec![0; words_per_row * size] }
    }

    fn row_of(size: usize) -> Vec<u64> {
        vec![0; size.div_ceil(64)]
    }

    fn set_word(&mut self, row: usize, word: usize, value: u64) {
        self.words[row * self.words_per_row + word] = value;
    }

    fn words(&self, row: usize) -> &[u64] {
        &self.words[row * self.words_per_row..(row + 1) * self.words_per_row]
    }

    fn get(&self, row: usize, column: usize) -> bool {
        self.words(row)[column / 64] >> (column % 64) & 1 == 1
    }

    fn row(&self, row: usize) -> impl Iterator<Item = usize> {
        self.words(row).iter().enumerate().flat_map(|(at, &word)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| at * 64 + bit)
        })
    }
}
