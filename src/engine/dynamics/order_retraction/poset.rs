//! A small partial order, and numbered subsets of it.

use std::collections::HashMap;

use crate::engine::EngineError;

/// Words (eight bytes each) that the subsets of one order may take: 256 MiB.
const MOST_WORDS: usize = 1 << 25;

/// The number of a subset.
pub(super) type Subset = u32;

/// The subset without elements.
pub(super) const EMPTY: Subset = 0;

/// A partial order on `0..size`, and those of its subsets that were met, each kept once and known by its number.
///
/// Subsets are rows of bits, for any number of elements. What operations give is remembered, so that the passes over
/// millions of cells, where few subsets come again and again, cost a comparison or a look-up for each edge.
#[derive(Debug)]
pub(super) struct Poset {
    size: usize,
    words: usize,
    bits: Vec<u64>,
    numbers: HashMap<Box<[u64]>, Subset>,
    unions: HashMap<(Subset, Subset), Subset>,
    intersections: HashMap<(Subset, Subset), Subset>,
    down_closures: HashMap<Subset, Subset>,
    up_closures: HashMap<Subset, Subset>,
    /// The numbers of all elements at or above each.
    up: Vec<Subset>,
    all: Subset,
    overflows: bool,
}

impl Poset {
    /// The order in which `b` is at or below `a` if `reaches(a, b)`, which must be reflexive, transitive and without
    /// cycles.
    pub(super) fn new(size: usize, reaches: impl Fn(usize, usize) -> bool) -> Self {
        let words = size.div_ceil(64).max(1);
        let mut poset = Self {
            size,
            words,
            bits: Vec::new(),
            numbers: HashMap::new(),
            unions: HashMap::new(),
            intersections: HashMap::new(),
            down_closures: HashMap::new(),
            up_closures: HashMap::new(),
            up: Vec::new(),
            all: EMPTY,
            overflows: false,
        };
        poset.intern(&vec![0; words]);
        // first the sets of all at or below one element: `maximum` relies on it
        for element in 0..size {
            poset.subset((0..size).filter(|&other| reaches(element, other)));
        }
        for element in 0..size {
            let up = poset.subset((0..size).filter(|&other| reaches(other, element)));
            poset.up.push(up);
        }
        poset.all = poset.subset(0..size);
        poset
    }

    pub(super) fn subset(&mut self, elements: impl Iterator<Item = usize>) -> Subset {
        let mut bits = vec![0; self.words];
        for element in elements {
            bits[element / 64] |= 1 << (element % 64);
        }
        self.intern(&bits)
    }

    fn intern(&mut self, bits: &[u64]) -> Subset {
        if let Some(&number) = self.numbers.get(bits) {
            return number;
        }
        if self.bits.len() + self.words > MOST_WORDS.max(4 * self.size * self.words) {
            self.overflows = true;
            return EMPTY;
        }
        let number = (self.bits.len() / self.words) as Subset;
        self.bits.extend_from_slice(bits);
        self.numbers.insert(bits.into(), number);
        number
    }

    /// Refuses to go on where there were more subsets than are kept: from then on results mean nothing.
    pub(super) fn check(&self) -> Result<(), EngineError> {
        if self.overflows { Err(EngineError::OrderTooWide { sets: self.size }) } else { Ok(()) }
    }

    fn bits(&self, subset: Subset) -> &[u64] {
        &self.bits[subset as usize * self.words..][..self.words]
    }

    pub(super) fn all(&self) -> Subset {
        self.all
    }

    pub(super) fn elements(&self, subset: Subset) -> impl Iterator<Item = usize> {
        self.bits(subset).iter().enumerate().flat_map(|(at, &word)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| at * 64 + bit)
        })
    }

    pub(super) fn has_one(&self, subset: Subset) -> bool {
        self.bits(subset).iter().map(|word| word.count_ones()).sum::<u32>() == 1
    }

    pub(super) fn is_at_or_below(&self, lower: usize, upper: usize) -> bool {
        self.bits(self.at_or_below(upper))[lower / 64] >> (lower % 64) & 1 == 1
    }

    /// All at or below an element.
    #[expect(clippy::unused_self, reason = "the number is known, the order is not")]
    pub(super) fn at_or_below(&self, element: usize) -> Subset {
        element as Subset + 1
    }

    /// All at or above an element.
    pub(super) fn at_or_above(&self, element: usize) -> Subset {
        self.up[element]
    }

    /// The largest element of a subset that holds all below its elements, if there is one.
    pub(super) fn maximum(&self, down_set: Subset) -> Option<usize> {
        (down_set as usize).checked_sub(1).filter(|&element| element < self.size)
    }

    /// The smallest element of a subset, if there is one.
    pub(super) fn minimum(&self, subset: Subset) -> Option<usize> {
        let contained =
            |upper: Subset| self.bits(subset).iter().zip(self.bits(upper)).all(|(a, b)| a & !b == 0);
        self.elements(subset).find(|&element| contained(self.at_or_above(element)))
    }

    /// The first element of a subset that has no other below it.
    pub(super) fn first_minimal(&self, subset: Subset) -> Option<usize> {
        self.elements(subset).find(|&element| {
            !self.elements(subset).any(|other| other != element && self.is_at_or_below(other, element))
        })
    }

    pub(super) fn union(&mut self, a: Subset, b: Subset) -> Subset {
        if a == b || b == EMPTY {
            return a;
        }
        if a == EMPTY {
            return b;
        }
        let key = (a.min(b), a.max(b));
        if let Some(&known) = self.unions.get(&key) {
            return known;
        }
        let bits: Vec<u64> = self.bits(a).iter().zip(self.bits(b)).map(|(a, b)| a | b).collect();
        let union = self.intern(&bits);
        self.unions.insert(key, union);
        union
    }

    pub(super) fn intersection(&mut self, a: Subset, b: Subset) -> Subset {
        if a == b || b == self.all {
            return a;
        }
        if a == self.all {
            return b;
        }
        let key = (a.min(b), a.max(b));
        if let Some(&known) = self.intersections.get(&key) {
            return known;
        }
        let bits: Vec<u64> = self.bits(a).iter().zip(self.bits(b)).map(|(a, b)| a & b).collect();
        let intersection = self.intern(&bits);
        self.intersections.insert(key, intersection);
        intersection
    }

    /// All that are at or below some element of a subset.
    pub(super) fn below_some(&mut self, subset: Subset) -> Subset {
        if let Some(&known) = self.down_closures.get(&subset) {
            return known;
        }
        let mut closure = EMPTY;
        for element in self.elements(subset).collect::<Vec<_>>() {
            closure = self.union(closure, self.at_or_below(element));
        }
        self.down_closures.insert(subset, closure);
        closure
    }

    /// All that are at or above some element of a subset.
    pub(super) fn above_some(&mut self, subset: Subset) -> Subset {
        if let Some(&known) = self.up_closures.get(&subset) {
            return known;
        }
        let mut closure = EMPTY;
        for element in self.elements(subset).collect::<Vec<_>>() {
            closure = self.union(closure, self.at_or_above(element));
        }
        self.up_closures.insert(subset, closure);
        closure
    }

    /// All that lie between: at or above every element of `lower`, at or below every element of `upper`.
    pub(super) fn between(&mut self, lower: Subset, upper: Subset) -> Subset {
        let mut between = self.all;
        for element in self.elements(lower).collect::<Vec<_>>() {
            between = self.intersection(between, self.at_or_above(element));
        }
        for element in self.elements(upper).collect::<Vec<_>>() {
            between = self.intersection(between, self.at_or_below(element));
        }
        between
    }
}
