//! Morse sets and their order.

use super::basins::{ManyFates, Reach};
use super::reachability::{Mask, Sweep};
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
    fn new(component: u32, mut members: Vec<u32>) -> Self {
        members.sort_unstable();
        let runs = members.chunk_by(|&a, &b| a + 1 == b).map(|run| (run[0], run.len() as u32)).collect();
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
        let of_component = |component: &[u32]| {
            let members: Vec<u32> =
                component.iter().copied().filter(|&member| graph.may_recur(member)).collect();
            (!members.is_empty()).then(|| RecurrentSet::new(components.component(component[0]), members))
        };
        let may_recur = |component: &&[u32]| component.iter().any(|&member| graph.may_recur(member));
        let found = components.recurrent().filter(may_recur).count();
        if found > MAX_MORSE_SETS {
            return Err(EngineError::TooManyMorseSets { found, limit: MAX_MORSE_SETS });
        }
        let mut sets: Vec<RecurrentSet> = components.recurrent().filter_map(of_component).collect();
        sets.sort_unstable_by_key(RecurrentSet::first);
        control.report("order", 0.0);
        let Order { reach, entered, fates } = Order::of(graph, &components, &sets, control)?;
        let edges = transitive_reduction(&sets, &reach);
        for (number, set) in sets.iter_mut().enumerate() {
            set.role = match (
                reach.is_minimal(number),
                fates.escapes(set.first()),
                entered[number / 64] >> (number % 64) & 1 == 1,
            ) {
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
        let set = self.sets.iter().position(|set| set.component == component)?;
        self.sets[set].contains(vertex).then_some(set)
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

/// Reachability among Morse sets, and what becomes of all vertices.
struct Order {
    reach: BitMatrix,
    /// A bit for each Morse set that is reached from outside it.
    entered: Vec<u64>,
    fates: Fates,
}

impl Order {
    /// In one sweep where a word a vertex holds all Morse sets and whether it escapes; else in one for every 64 of them,
    /// so that memory does not grow with their number, and some more for the fates.
    fn of<G: Digraph + ?Sized>(
        graph: &G,
        components: &Components,
        sets: &[RecurrentSet],
        control: &Control,
    ) -> Result<Self, EngineError> {
        match sets.len() {
            0..8 => Self::of_few(graph, components, sets, Reach::Bytes, control),
            8..16 => Self::of_few(graph, components, sets, Reach::Pairs, control),
            16..64 => Self::of_few(graph, components, sets, Reach::Words, control),
            _ => Self::of_many(graph, components, sets, control),
        }
    }

    fn of_few<G: Digraph + ?Sized, T: Mask>(
        graph: &G,
        components: &Components,
        sets: &[RecurrentSet],
        kept: impl FnOnce(Vec<T>) -> Reach,
        control: &Control,
    ) -> Result<Self, EngineError> {
        let targets: Vec<u32> = sets.iter().map(|set| set.component).collect();
        let sweep = Sweep::over(graph, components, &targets, T::bit(T::BITS - 1), control)?;
        let all = (1 << sets.len()) - 1;
        let mut reach = BitMatrix::new(sets.len());
        for (from, set) in sets.iter().enumerate() {
            reach.set_word(from, 0, sweep.by_vertex[set.first() as usize].into() & all);
        }
        let minimal = (0..sets.len()).filter(|&set| reach.is_minimal(set)).map(|set| 1 << set).sum();
        let entered = vec![sweep.from_elsewhere.into()];
        Ok(Self { reach, entered, fates: Fates::of_masks(kept(sweep.by_vertex), minimal) })
    }

    fn of_many<G: Digraph + ?Sized>(
        graph: &G,
        components: &Components,
        sets: &[RecurrentSet],
        control: &Control,
    ) -> Result<Self, EngineError> {
        let mut reach = BitMatrix::new(sets.len());
        let mut entered = Vec::new();
        let mut fates = ManyFates::of_vertices(graph.vertices());
        for (word, chunk) in sets.chunks(64).enumerate() {
            let targets: Vec<u32> = chunk.iter().map(|set| set.component).collect();
            let sweep = Sweep::over(graph, components, &targets, 0u64, control)?;
            for (from, set) in sets.iter().enumerate() {
                reach.set_word(from, word, sweep.by_vertex[set.first() as usize]);
            }
            entered.push(sweep.from_elsewhere);
            fates.reach_sets(&sweep.by_vertex, word * 64);
            control.report("order", ((word + 1) * 64).min(sets.len()) as f64 / sets.len() as f64);
        }
        let minimal: Vec<usize> = (0..sets.len()).filter(|&set| reach.is_minimal(set)).collect();
        for chunk in minimal.chunks(64) {
            let targets: Vec<u32> = chunk.iter().map(|&set| sets[set].component).collect();
            fates.reach_minimal(&reachable_sets(graph, components, &targets, control)?, chunk);
        }
        let escaping = Sweep::over(graph, components, &[], 1u8, control)?;
        Ok(Self { reach, entered, fates: fates.escape(&escaping.by_vertex) })
    }
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

    /// Whether a row has no bit but that of the diagonal.
    fn is_minimal(&self, row: usize) -> bool {
        self.row(row).all(|below| below == row)
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
