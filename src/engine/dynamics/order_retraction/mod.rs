//! The order retraction: every cell is given to the Morse set that organises it.
//!
//! The strongly connected components of a multivalued map, single cells among them, are ordered by reachability; the
//! Morse sets are some of them, M ⊂ SC. An *order retraction* is an order-preserving map σ: SC → M that is the identity
//! on M. By Birkhoff's duality it is the same as a choice of an attracting block (a set of cells that *F* maps into
//! itself) for each attractor of *F*, such that unions and intersections are respected: for each set of Morse sets that
//! is closed downward the cells of its *tiles* σ⁻¹(p) are that block. Tiles of minimal Morse sets are parts of basins
//! that are never left, tiles of saddles are neighbourhoods of separatrices (W. D. Kalies, K. Mischaikow, R. C. A. M.
//! Vandervorst, *Lattice structures for attractors II*, Found. Comput. Math. 16, 2016; M. Eslami et al. 2021).
//!
//! Let D(s) be the Morse sets at or below a component s, and U(s) those at or above it. σ(s) lies in
//! c(s) = {m : d ≤ m ≤ u for all d ∈ D(s), u ∈ U(s)}. Where every D(s) has a largest element, that element is a
//! retraction, and the smallest one. Else candidates are made consistent along edges, and a choice is made from the
//! sinks upward, the smallest possible each time. Where that fails the choice is sought exhaustively; the problem is
//! hard in general (retraction onto a poset is NP-complete), but cases met in practice never came so far.
//!
//! The same with some of the Morse sets for M: the others are components like any, and are given to one of these.
//!
//! *Exit* and *unknown*, where paths can lead there, are one more minimal element of the order: a cell from which
//! nothing but these can be reached is given to them, never to a Morse set.

mod poset;
mod search;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::passes::{ascend, descend};
use super::{Digraph, MorseDecomposition};
use crate::engine::{Control, EngineError};
use poset::{EMPTY, Poset, Subset};

/// To which Morse set each vertex is given, in four bytes a vertex.
///
/// ```
/// use doodl3::engine::Control;
/// use doodl3::engine::dynamics::{ExplicitGraph, MorseDecomposition, OrderRetraction, Tile};
///
/// // a saddle 0 above two attractors 3 and 4, and a path beside it that leads to one of them
/// let edges = [(0, 0), (0, 1), (0, 2), (1, 3), (2, 4), (3, 3), (4, 4), (5, 1)];
/// let graph = ExplicitGraph::new(6, &edges);
/// let control = Control::default();
/// let morse = MorseDecomposition::of(&graph, &control)?;
/// let retraction = OrderRetraction::of(&graph, &morse, &control)?;
/// let tiles: Vec<Tile> = (0..6).map(|vertex| retraction.tile(vertex)).collect();
/// assert_eq!(tiles, [0, 1, 2, 1, 2, 1].map(Tile::MorseSet));
/// # Ok::<(), doodl3::engine::EngineError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderRetraction {
    /// Element of the order, the Morse sets in it and at last *exit* or *unknown*; [`NONE`] where there is no tile.
    tiles: Vec<u32>,
    /// The Morse sets that the elements are.
    onto: Vec<usize>,
    sets: usize,
    classes: Classes,
    existence: Existence,
}

/// In [`OrderRetraction::tiles`]: no tile.
const NONE: u32 = u32::MAX;

/// What a vertex is given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tile {
    /// A Morse set.
    MorseSet(usize),
    /// *Exit* or *unknown*.
    Escape,
    /// Nothing: where there is no retraction, some vertices are left over.
    None,
}

/// Whether there is an order retraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Existence {
    /// There is, and this is one.
    Found,
    /// There is none. The vertices that have a tile still keep the order among them.
    Impossible,
    /// The search was given up; the vertices that have a tile keep the order among them.
    Unknown,
}

/// Components by what is left to choose for them, as they are counted by the program `CMGDB_RETRACT`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classes {
    /// Morse sets that cells are given to, which are fixed.
    pub recurrent: usize,
    /// Those that have a largest Morse set below them.
    pub successor: usize,
    /// Else those that have a smallest Morse set above them.
    pub predecessor: usize,
    /// Else those that have a candidate.
    pub parallel: usize,
    /// Those without a candidate: if there are any there is no retraction.
    pub empty: usize,
}

impl OrderRetraction {
    /// Seeks an order retraction of a graph onto its Morse sets. Among possible choices it takes the smallest, then the
    /// one of the smallest number.
    ///
    /// # Errors
    /// [`EngineError::OrderTooWide`], [`EngineError::Cancelled`].
    pub fn of<G: Digraph + ?Sized>(
        graph: &G,
        morse: &MorseDecomposition,
        control: &Control,
    ) -> Result<Self, EngineError> {
        let all: Vec<usize> = (0..morse.sets().len()).collect();
        Self::onto(graph, morse, &all, control)
    }

    /// The same onto some of the Morse sets, which are numbered in increasing order.
    ///
    /// # Errors
    /// [`EngineError::OrderTooWide`], [`EngineError::Cancelled`].
    pub fn onto<G: Digraph + ?Sized>(
        graph: &G,
        morse: &MorseDecomposition,
        sets: &[usize],
        control: &Control,
    ) -> Result<Self, EngineError> {
        let problem = Problem::new(graph, morse, sets, control);
        let (onto, all) = (sets.to_vec(), morse.sets().len());
        let mut poset = problem.poset();
        let below = problem.morse_sets_below(&mut poset)?;
        if problem.components().all(|vertex| poset.maximum(below[vertex as usize]).is_some()) {
            let recurrent = sets.len();
            let successor = morse.components().count() as usize - recurrent;
            let classes = Classes { recurrent, successor, ..Classes::default() };
            let tiles = below.into_iter().map(|below| below - 1).collect();
            return Ok(Self { tiles, onto, sets: all, classes, existence: Existence::Found });
        }
        let above = problem.morse_sets_above(&mut poset)?;
        let candidates = problem.candidates(&mut poset, &below, &above)?;
        let classes = problem.classes(&poset, &below, &above, &candidates);
        drop((below, above));

        let candidates = problem.consistent(&mut poset, candidates)?;
        let mut tiles = problem.smallest_choice(&mut poset, &candidates)?;
        let existence = if candidates.contains(&EMPTY) {
            Existence::Impossible
        } else if tiles.contains(&NONE) {
            problem.search(&mut poset, &candidates, &mut tiles)?
        } else {
            Existence::Found
        };
        poset.check()?;
        Ok(Self { tiles, onto, sets: all, classes, existence })
    }

    /// Whether it was found.
    pub fn existence(&self) -> Existence {
        self.existence
    }

    /// Components by what was left to choose for them.
    pub fn classes(&self) -> Classes {
        self.classes
    }

    /// What a vertex is given to.
    pub fn tile(&self, vertex: u32) -> Tile {
        match self.tiles[vertex as usize] {
            NONE => Tile::None,
            element => self.onto.get(element as usize).map_or(Tile::Escape, |&set| Tile::MorseSet(set)),
        }
    }

    /// Number of vertices that are given to each Morse set.
    pub fn tile_sizes(&self) -> Vec<usize> {
        let mut sizes = vec![0; self.sets];
        for &tile in &self.tiles {
            if let Some(&set) = self.onto.get(tile as usize) {
                sizes[set] += 1;
            }
        }
        sizes
    }

    /// Number of vertices that are given to nothing; zero where a retraction was found.
    pub fn uncoloured(&self) -> usize {
        self.tiles.iter().filter(|&&tile| tile == NONE).count()
    }
}

/// A graph whose retraction is sought, with the element of the order that each recurrent component is.
struct Problem<'a, G: ?Sized> {
    graph: &'a G,
    morse: &'a MorseDecomposition,
    /// The Morse sets that are elements of the order.
    sets: &'a [usize],
    control: &'a Control,
    /// Element of the order that a component is, sorted by component.
    numbers: Vec<(u32, usize)>,
}

/// Candidates for each vertex while they are narrowed.
struct Narrowing<'a> {
    poset: &'a mut Poset,
    candidates: Vec<Subset>,
    has_changed: bool,
}

impl Narrowing<'_> {
    /// Keeps of a vertex' candidates those that are `allowed`. What remains, if anything.
    fn narrow(&mut self, members: &[u32], allowed: Subset) -> Option<Subset> {
        let before = self.candidates[members[0] as usize];
        let after = self.poset.intersection(before, allowed);
        if after != before {
            self.has_changed = true;
            for &vertex in members {
                self.candidates[vertex as usize] = after;
            }
        }
        (after != EMPTY).then_some(after)
    }
}

impl<'a, G: Digraph + ?Sized> Problem<'a, G> {
    fn new(graph: &'a G, morse: &'a MorseDecomposition, sets: &'a [usize], control: &'a Control) -> Self {
        let mut numbers: Vec<(u32, usize)> =
            sets.iter().map(|&set| morse.sets()[set].component).zip(0..).collect();
        numbers.sort_unstable();
        Self { graph, morse, sets, control, numbers }
    }

    /// The Morse sets, then *exit* and *unknown* as one where paths lead there.
    fn poset(&self) -> Poset {
        let sets = self.sets;
        let has_escapes = (0..self.graph.vertices()).any(|vertex| self.graph.escapes(vertex));
        Poset::new(sets.len() + usize::from(has_escapes), |from, to| match (sets.get(from), sets.get(to)) {
            (Some(&from), Some(&to)) => self.morse.reaches(from, to),
            (Some(&from), None) => self.morse.fates().escapes(self.morse.sets()[from].first()),
            (None, to) => to.is_none(),
        })
    }

    /// A vertex of each component.
    fn components(&self) -> impl Iterator<Item = u32> {
        self.morse.components().iter().map(|members| members[0])
    }

    /// The element of the order that the component of a vertex is, if it is one.
    fn element_of(&self, vertex: u32) -> Option<usize> {
        let components = self.morse.components();
        if !components.is_recurrent(vertex) {
            return None;
        }
        let component = components.component(vertex);
        let at = self.numbers.binary_search_by_key(&component, |&(other, _)| other).ok()?;
        Some(self.numbers[at].1)
    }

    /// D: the elements at or below each vertex.
    fn morse_sets_below(&self, poset: &mut Poset) -> Result<Vec<Subset>, EngineError> {
        let settle = |poset: &mut Poset, members: &[u32], below| match self.element_of(members[0]) {
            Some(element) => poset.at_or_below(element),
            None if members.iter().any(|&member| self.graph.escapes(member)) => {
                let escape = poset.at_or_below(self.sets.len());
                poset.union(below, escape)
            }
            None => below,
        };
        let below =
            ascend(self.graph, self.morse.components(), poset, EMPTY, Poset::union, settle, self.control)?;
        poset.check()?;
        Ok(below)
    }

    /// U: the elements at or above each vertex.
    fn morse_sets_above(&self, poset: &mut Poset) -> Result<Vec<Subset>, EngineError> {
        let settle = |poset: &mut Poset, members: &[u32], above| match self.element_of(members[0]) {
            Some(element) => poset.at_or_above(element),
            None => above,
        };
        let above =
            descend(self.graph, self.morse.components(), poset, EMPTY, Poset::union, settle, self.control)?;
        poset.check()?;
        Ok(above)
    }

    /// c: for each vertex the elements between those below and those above it.
    fn candidates(
        &self,
        poset: &mut Poset,
        below: &[Subset],
        above: &[Subset],
    ) -> Result<Vec<Subset>, EngineError> {
        let mut between = HashMap::new();
        let mut candidates = Vec::with_capacity(below.len());
        for (vertex, (&below, &above)) in (0u32..).zip(below.iter().zip(above)) {
            candidates.push(match self.element_of(vertex) {
                Some(element) => poset.subset(std::iter::once(element)),
                None => *between.entry((below, above)).or_insert_with(|| poset.between(below, above)),
            });
        }
        poset.check()?;
        Ok(candidates)
    }

    fn classes(&self, poset: &Poset, below: &[Subset], above: &[Subset], candidates: &[Subset]) -> Classes {
        let mut classes = Classes { recurrent: self.sets.len(), ..Classes::default() };
        for vertex in self.components().filter(|&vertex| self.element_of(vertex).is_none()) {
            let (below, above) = (below[vertex as usize], above[vertex as usize]);
            let class = if candidates[vertex as usize] == EMPTY {
                &mut classes.empty
            } else if poset.maximum(below).is_some() {
                &mut classes.successor
            } else if poset.minimum(above).is_some() {
                &mut classes.predecessor
            } else {
                &mut classes.parallel
            };
            *class += 1;
        }
        classes
    }

    /// Narrows candidates until each has one at or below it at every predecessor, and one at or above it at every
    /// successor (arc consistency). Vertices without candidates hand on what they are told.
    fn consistent(&self, poset: &mut Poset, candidates: Vec<Subset>) -> Result<Vec<Subset>, EngineError> {
        let all = poset.all();
        let mut narrowing = Narrowing { poset, candidates, has_changed: true };
        let join = |state: &mut Narrowing<'_>, a, b| state.poset.intersection(a, b);
        let upward = |state: &mut Narrowing<'_>, members: &[u32], allowed| {
            state.narrow(members, allowed).map_or(allowed, |left| state.poset.above_some(left))
        };
        let downward = |state: &mut Narrowing<'_>, members: &[u32], allowed| {
            state.narrow(members, allowed).map_or(allowed, |left| state.poset.below_some(left))
        };
        let components = self.morse.components();
        while std::mem::take(&mut narrowing.has_changed) {
            ascend(self.graph, components, &mut narrowing, all, join, upward, self.control)?;
            descend(self.graph, components, &mut narrowing, all, join, downward, self.control)?;
            narrowing.poset.check()?;
        }
        Ok(narrowing.candidates)
    }

    /// Chooses from the sinks upward, each time the smallest candidate that is at or above all that was chosen below;
    /// [`NONE`] where there is none left.
    fn smallest_choice(&self, poset: &mut Poset, candidates: &[Subset]) -> Result<Vec<u32>, EngineError> {
        type State<'a> = (&'a mut Poset, Vec<u32>, HashMap<Subset, Option<usize>>);
        let all = poset.all();
        let mut state = (poset, vec![NONE; candidates.len()], HashMap::new());
        let settle = |(poset, tiles, minimal): &mut State<'_>, members: &[u32], allowed| {
            let left = poset.intersection(candidates[members[0] as usize], allowed);
            let Some(chosen) = *minimal.entry(left).or_insert_with(|| poset.first_minimal(left)) else {
                return allowed;
            };
            for &vertex in members {
                tiles[vertex as usize] = chosen as u32;
            }
            poset.at_or_above(chosen)
        };
        let join = |(poset, _, _): &mut State<'_>, a, b| poset.intersection(a, b);
        ascend(self.graph, self.morse.components(), &mut state, all, join, settle, self.control)?;
        Ok(state.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::dynamics::ExplicitGraph;

    fn retraction(graph: &ExplicitGraph) -> OrderRetraction {
        let control = Control::default();
        let morse = MorseDecomposition::of(graph, &control).unwrap();
        OrderRetraction::of(graph, &morse, &control).unwrap()
    }

    /// Fixed points `0..sets`, then transient vertices.
    fn graph(sets: u32, vertices: u32, edges: &[(u32, u32)]) -> ExplicitGraph {
        let all: Vec<(u32, u32)> = (0..sets).map(|set| (set, set)).chain(edges.iter().copied()).collect();
        ExplicitGraph::new(vertices, &all)
    }

    #[test]
    fn without_a_set_above_two_attractors_what_leads_to_both_is_left_over() {
        let found = retraction(&graph(2, 5, &[(2, 0), (2, 1), (3, 2), (4, 1)]));
        assert_eq!(found.existence(), Existence::Impossible);
        let tiles: Vec<Tile> = (0..5).map(|vertex| found.tile(vertex)).collect();
        let (first, second) = (Tile::MorseSet(0), Tile::MorseSet(1));
        assert_eq!(tiles, [first, second, Tile::None, Tile::None, second]);
        assert_eq!((found.uncoloured(), found.tile_sizes()), (2, vec![1, 2]));
        assert_eq!(found.classes(), Classes { recurrent: 2, successor: 1, empty: 2, ..Classes::default() });
    }

    #[test]
    fn sets_that_are_left_out_are_given_to_others() {
        // 3 → 2 → 0 and 2 → 1; of the fixed points 2 and 3 one is left out
        let graph = graph(4, 5, &[(3, 2), (2, 0), (2, 1), (4, 3)]);
        let control = Control::default();
        let morse = MorseDecomposition::of(&graph, &control).unwrap();
        let tiles = |sets: &[usize]| {
            let found = OrderRetraction::onto(&graph, &morse, sets, &control).unwrap();
            (
                found.existence(),
                (0..5).map(|vertex| found.tile(vertex)).collect::<Vec<_>>(),
                found.tile_sizes(),
            )
        };
        let saddle = [0, 1, 2, 2, 2].map(Tile::MorseSet).to_vec();
        assert_eq!(tiles(&[0, 1, 2]), (Existence::Found, saddle, vec![1, 1, 3, 0]));
        let top = [0, 1, 3, 3, 3].map(Tile::MorseSet).to_vec();
        assert_eq!(tiles(&[0, 1, 3]), (Existence::Found, top, vec![1, 1, 0, 3]));
        let none = tiles(&[0, 1]);
        assert_eq!((none.0, &none.1[2..]), (Existence::Impossible, &[Tile::None; 3][..]));
        assert_eq!(tiles(&[0]).1, [Tile::MorseSet(0); 5]);
    }

    #[test]
    fn two_attractors_below_two_repellers_leave_nothing_for_what_lies_between() {
        // 0, 1 below 2, 3, and 4 between both pairs
        let found = retraction(&graph(4, 5, &[(2, 4), (3, 4), (4, 0), (4, 1)]));
        assert_eq!(found.existence(), Existence::Impossible);
        assert_eq!((found.classes().empty, found.uncoloured(), found.tile(4)), (1, 1, Tile::None));
    }

    #[test]
    fn where_the_smallest_choices_do_not_fit_together_others_are_tried() {
        // attractors 0..4; 4 and 5 above the first two, 6 and 7 above the others, 8 above 4 and 7, 9 above 5 and 6
        let above = [(4, 0), (4, 1), (5, 0), (5, 1), (6, 2), (6, 3), (7, 2), (7, 3)];
        let top = [(8, 4), (8, 7), (9, 5), (9, 6)];
        // 10 leads to the first two, 11 to the others, 12 to both: 4 and 6 would be the smallest choices for those
        let transient = [(10, 0), (10, 1), (11, 2), (11, 3), (12, 10), (12, 11)];
        let found = retraction(&graph(10, 13, &[&above[..], &top, &transient].concat()));
        assert_eq!(found.existence(), Existence::Found);
        assert_eq!([10, 11, 12].map(|vertex| found.tile(vertex)), [4, 7, 8].map(Tile::MorseSet));
        assert_eq!(found.classes(), Classes { recurrent: 10, parallel: 3, ..Classes::default() });
    }

    #[test]
    fn hundreds_of_morse_sets_need_several_words() {
        // a chain of 300 fixed points, each with a transient vertex above it
        let chain = (1..300).map(|set| (set, set - 1));
        let edges: Vec<(u32, u32)> = chain.chain((0..300).map(|set| (300 + set, set))).collect();
        let found = retraction(&graph(300, 600, &edges));
        assert_eq!(found.tile_sizes(), [2; 300]);
    }

    #[test]
    fn the_search_stops_when_told() {
        let cancel = crate::engine::Cancel::new();
        cancel.raise();
        let chain: Vec<(u32, u32)> = (1..1 << 20).map(|vertex| (vertex, vertex - 1)).collect();
        let long = ExplicitGraph::new(1 << 20, &chain);
        let sets = MorseDecomposition::of(&long, &Control::default()).unwrap();
        let stopped = OrderRetraction::of(&long, &sets, &Control::new(cancel));
        assert_eq!(stopped, Err(EngineError::Cancelled));
    }
}
