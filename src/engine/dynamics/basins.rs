//! What becomes of each cell: the basins of the attractors.

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
    ends: Vec<Ends>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ends {
    /// The bottoms that can be reached.
    bottoms: Reached,
    /// The Morse sets that can be reached.
    sets: Reached,
}

/// None, one, or several of a kind, in four bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Reached(u32);

impl Reached {
    const NONE: Self = Self(0);
    const SEVERAL: Self = Self(u32::MAX - 1);
    /// *Exit* or *unknown*, whatever else.
    const ESCAPE: Self = Self(u32::MAX);

    fn one(set: usize) -> Self {
        Self(set as u32 + 1)
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
            let mut ends = Ends::default();
            if components.is_recurrent(vertex) {
                let component = components.component(vertex);
                let at = set_of.partition_point(|&(other, _)| other < component);
                ends = set_of[at].1;
            }
            if graph.escapes(vertex) {
                ends.bottoms = Reached::ESCAPE;
            }
            ends
        };
        let join = |a: Ends, b: Ends| Ends { bottoms: a.bottoms.join(b.bottoms), sets: a.sets.join(b.sets) };
        Ok(Self { ends: sweep(graph, components, own, join, control)? })
    }

    /// Whether *exit* or *unknown* can be reached from a vertex.
    pub fn escapes(&self, vertex: u32) -> bool {
        self.ends[vertex as usize].bottoms == Reached::ESCAPE
    }

    /// The fate of a vertex. Where paths end without a recurrent set (their images lie outside the domain and there
    /// is no *exit*, in compatible mode), they have left the domain.
    pub fn of_vertex(&self, vertex: u32) -> Fate {
        match self.ends[vertex as usize].bottoms {
            Reached::ESCAPE | Reached::NONE => Fate::Escapes,
            Reached::SEVERAL => Fate::Undecided,
            Reached(set) => Fate::Certain(set as usize - 1),
        }
    }

    /// Cells of the certain basin and of the singleton basin of an attractor.
    pub fn basin_sizes(&self, attractor: usize) -> (usize, usize) {
        let only = Reached::one(attractor);
        let certain = self.ends.iter().filter(|ends| ends.bottoms == only);
        let singleton = certain.clone().filter(|ends| ends.sets == only);
        (certain.count(), singleton.count())
    }
}
