//! What becomes of each cell: the basins of the attractors.

use rayon::prelude::*;

use super::reachability::sweep;
use super::{Components, Digraph, RecurrentSet};
use crate::engine::{Control, EngineError, Fate};

/// The fate of every vertex, eight bytes each.
///
/// The *bottoms* of a graph are its minimal Morse sets, *exit* and *unknown*. The *certain basin* of an attractor are
/// the vertices that can reach no other bottom; its *singleton basin*, a part of it, those that can reach no other
/// Morse set at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fates {
    /// Of each vertex [`Ends`], packed.
    ends: Vec<u64>,
}

/// What a vertex can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ends {
    bottoms: Reached,
    /// Morse sets, minimal or not.
    sets: Reached,
}

impl Ends {
    fn pack(self) -> u64 {
        u64::from(self.bottoms.0) << 32 | u64::from(self.sets.0)
    }

    fn unpack(packed: u64) -> Self {
        Self { bottoms: Reached((packed >> 32) as u32), sets: Reached(packed as u32) }
    }

    fn join(self, other: Self) -> Self {
        Self { bottoms: self.bottoms.join(other.bottoms), sets: self.sets.join(other.sets) }
    }
}

/// None, one, or several of a kind, in four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reached(u32);

impl Reached {
    const NONE: Self = Self(0);
    const SEVERAL: Self = Self(u32::MAX - 1);
    /// *Exit* or *unknown*, whatever else.
    const ESCAPE: Self = Self(u32::MAX);

    fn one(set: usize) -> Self {
        Self(set as u32 + 1)
    }

    /// Of the sets whose bits are set.
    fn of_mask(mask: u64) -> Self {
        match mask.count_ones() {
            0 => Self::NONE,
            1 => Self::one(mask.trailing_zeros() as usize),
            _ => Self::SEVERAL,
        }
    }

    fn join(self, other: Self) -> Self {
        if self == other || other == Self::NONE {
            self
        } else if self == Self::NONE {
            other
        } else if self == Self::ESCAPE || other == Self::ESCAPE {
            Self::ESCAPE
        } else {
            Self::SEVERAL
        }
    }
}

impl Fates {
    /// From the Morse sets that each vertex can reach, one bit each, and the bit `escape`.
    pub(super) fn of_masks(mut masks: Vec<u64>, minimal: u64, escape: u64) -> Self {
        masks.par_iter_mut().for_each(|mask| {
            let sets = *mask & !escape;
            let bottoms = if sets == *mask { Reached::of_mask(sets & minimal) } else { Reached::ESCAPE };
            *mask = Ends { bottoms, sets: Reached::of_mask(sets) }.pack();
        });
        Self { ends: masks }
    }

    /// Sweeps over the graph once. `sets` are its Morse sets, `is_minimal` says which of them reach no other.
    pub(super) fn of<G: Digraph + ?Sized>(
        graph: &G,
        components: &Components,
        sets: &[RecurrentSet],
        is_minimal: impl Fn(usize) -> bool,
        control: &Control,
    ) -> Result<Self, EngineError> {
        let mut set_of: Vec<(u32, Ends)> = sets
            .iter()
            .enumerate()
            .map(|(number, set)| {
                let sets = Reached::one(number);
                (set.component, Ends { bottoms: if is_minimal(number) { sets } else { Reached::NONE }, sets })
            })
            .collect();
        set_of.sort_unstable_by_key(|&(component, _)| component);
        let own = |vertex| {
            let mut ends = Ends { bottoms: Reached::NONE, sets: Reached::NONE };
            if components.is_recurrent(vertex) {
                let component = components.component(vertex);
                if let Ok(at) = set_of.binary_search_by_key(&component, |&(component, _)| component) {
                    ends = set_of[at].1;
                }
            }
            if graph.escapes(vertex) {
                ends.bottoms = Reached::ESCAPE;
            }
            ends.pack()
        };
        let join = |a, b| if a == b { a } else { Ends::unpack(a).join(Ends::unpack(b)).pack() };
        Ok(Self { ends: sweep(graph, components, own, join, control)? })
    }

    /// Whether *exit* or *unknown* can be reached from a vertex.
    pub fn escapes(&self, vertex: u32) -> bool {
        self.ends(vertex).bottoms == Reached::ESCAPE
    }

    /// The fate of a vertex. Where paths end without a recurrent set (their images lie outside the domain and there
    /// is no *exit*, in compatible mode), they have left the domain.
    pub fn of_vertex(&self, vertex: u32) -> Fate {
        match self.ends(vertex).bottoms {
            Reached::ESCAPE | Reached::NONE => Fate::Escapes,
            Reached::SEVERAL => Fate::Undecided,
            Reached(set) => Fate::Certain(set as usize - 1),
        }
    }

    /// Cells of the certain basin and of the singleton basin of an attractor.
    pub fn basin_sizes(&self, attractor: usize) -> (usize, usize) {
        let only = Reached::one(attractor);
        let count = |&packed: &u64| {
            let Ends { bottoms, sets } = Ends::unpack(packed);
            (usize::from(bottoms == only), usize::from(bottoms == only && sets == only))
        };
        self.ends.par_iter().map(count).reduce(|| (0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    }

    fn ends(&self, vertex: u32) -> Ends {
        Ends::unpack(self.ends[vertex as usize])
    }
}
