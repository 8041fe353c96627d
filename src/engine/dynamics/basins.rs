//! What becomes of each cell: the basins of the attractors.

use rayon::prelude::*;

use crate::engine::Fate;

/// The fate of every vertex: a byte each where there are less than eight Morse sets, two where less than sixteen, or
/// eight.
///
/// The *bottoms* of a graph are its minimal Morse sets, *exit* and *unknown*. The *certain basin* of an attractor are
/// the vertices that can reach no other bottom; its *singleton basin*, a part of it, those that can reach no other
/// Morse set at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fates {
    of: Reach,
    /// The minimal Morse sets, where masks are kept.
    minimal: u64,
}

/// What each vertex can reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// A bit for each Morse set, and the highest for whether it escapes.
    Bytes(Vec<u8>),
    /// The same.
    Pairs(Vec<u16>),
    /// The same.
    Words(Vec<u64>),
    /// Where there are more Morse sets than bits.
    Ends(Vec<Ends>),
}

/// What a vertex can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    bottoms: Reached,
    /// Morse sets, minimal or not.
    sets: Reached,
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

    /// Of the sets whose bits are set, which have these numbers.
    fn of_mask(mask: u64, number: impl Fn(usize) -> usize) -> Self {
        match mask.count_ones() {
            0 => Self::NONE,
            1 => Self::one(number(mask.trailing_zeros() as usize)),
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

impl Ends {
    const NONE: Self = Self { bottoms: Reached::NONE, sets: Reached::NONE };

    fn of_mask(mask: u64, minimal: u64, escape: u64) -> Self {
        let sets = mask & !escape;
        let bottoms = Reached::of_mask(sets & minimal, |bit| bit);
        Self {
            bottoms: if sets == mask { bottoms } else { Reached::ESCAPE },
            sets: Reached::of_mask(sets, |bit| bit),
        }
    }
}

impl Fates {
    /// From the Morse sets that each vertex can reach; the bits of those that are minimal are given.
    pub(super) fn of_masks(of: Reach, minimal: u64) -> Self {
        Self { of, minimal }
    }

    fn vertices(&self) -> usize {
        match &self.of {
            Reach::Bytes(masks) => masks.len(),
            Reach::Pairs(masks) => masks.len(),
            Reach::Words(masks) => masks.len(),
            Reach::Ends(ends) => ends.len(),
        }
    }

    fn ends(&self, vertex: usize) -> Ends {
        match &self.of {
            Reach::Bytes(masks) => Ends::of_mask(masks[vertex].into(), self.minimal, 1 << 7),
            Reach::Pairs(masks) => Ends::of_mask(masks[vertex].into(), self.minimal, 1 << 15),
            Reach::Words(masks) => Ends::of_mask(masks[vertex], self.minimal, 1 << 63),
            Reach::Ends(ends) => ends[vertex],
        }
    }

    /// Whether *exit* or *unknown* can be reached from a vertex.
    pub fn escapes(&self, vertex: u32) -> bool {
        self.ends(vertex as usize).bottoms == Reached::ESCAPE
    }

    /// The fate of a vertex. Where paths end without a recurrent set (their images lie outside the domain and there
    /// is no *exit*, in compatible mode), they have left the domain.
    pub fn of_vertex(&self, vertex: u32) -> Fate {
        match self.ends(vertex as usize).bottoms {
            Reached::ESCAPE | Reached::NONE => Fate::Escapes,
            Reached::SEVERAL => Fate::Undecided,
            Reached(set) => Fate::Certain(set as usize - 1),
        }
    }

    /// Cells of the certain basin and of the singleton basin of an attractor.
    pub fn basin_sizes(&self, attractor: usize) -> (usize, usize) {
        let only = Reached::one(attractor);
        let count = |vertex| {
            let Ends { bottoms, sets } = self.ends(vertex);
            (usize::from(bottoms == only), usize::from(bottoms == only && sets == only))
        };
        (0..self.vertices()).into_par_iter().map(count).reduce(|| (0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    }
}

/// Fates that are put together from several sweeps, where there are many Morse sets.
pub(super) struct ManyFates(Vec<Ends>);

impl ManyFates {
    pub(super) fn of_vertices(count: u32) -> Self {
        Self(vec![Ends::NONE; count as usize])
    }

    /// Some of the Morse sets, those numbered from `first`: a bit each in the words of all vertices.
    pub(super) fn reach_sets(&mut self, masks: &[u64], first: usize) {
        self.0.par_iter_mut().zip(masks).for_each(|(ends, &mask)| {
            ends.sets = ends.sets.join(Reached::of_mask(mask, |bit| first + bit));
        });
    }

    /// Some of the minimal Morse sets, which have these numbers.
    pub(super) fn reach_minimal(&mut self, masks: &[u64], numbers: &[usize]) {
        self.0.par_iter_mut().zip(masks).for_each(|(ends, &mask)| {
            ends.bottoms = ends.bottoms.join(Reached::of_mask(mask, |bit| numbers[bit]));
        });
    }

    /// The vertices whose bytes are not zero escape.
    pub(super) fn escape(mut self, escaping: &[u8]) -> Fates {
        self.0.par_iter_mut().zip(escaping).filter(|&(_, &escapes)| escapes != 0).for_each(|(ends, _)| {
            ends.bottoms = Reached::ESCAPE;
        });
        Fates { of: Reach::Ends(self.0), minimal: 0 }
    }
}
