//! Sets of integer keys as sparse bitmaps.

/// A set of keys in words of 64 bits, of which only those are kept that hold a key; it numbers its members.
///
/// Keys of neighbouring cells are near each other, so words are well filled. A directory by leading bits finds a word
/// in constant time: where words lie dense it addresses them directly.
#[derive(Clone, Debug, Default)]
pub(super) struct KeySet {
    /// Numbers of the words, increasing.
    words: Vec<u64>,
    bits: Vec<u64>,
    /// Members before each word.
    ranks: Vec<u32>,
    /// First word of each bucket of 2^shift word numbers.
    directory: Vec<u32>,
    shift: u32,
}

impl KeySet {
    /// An empty set with room for the keys of these words, given in any order and any number of times.
    pub(super) fn with_room(mut words: Vec<u64>) -> Self {
        words.sort_unstable();
        words.dedup();
        let mut set = Self { bits: vec![0; words.len()], words, ..Self::default() };
        set.index_words();
        set
    }

    /// The set of these keys, which increase.
    pub(super) fn from_sorted(keys: &[u64]) -> Self {
        let mut words: Vec<u64> = keys.iter().map(|key| key >> 6).collect();
        words.dedup();
        let mut set = Self::with_room(words);
        let mut slot = 0;
        for key in keys {
            while set.words[slot] != key >> 6 {
                slot += 1;
            }
            set.bits[slot] |= 1 << (key & 63);
        }
        set.count();
        set
    }

    fn index_words(&mut self) {
        let (Some(&first), Some(&last)) = (self.words.first(), self.words.last()) else { return };
        let range = last - first;
        self.shift = 0;
        while range >> self.shift > 4 * self.words.len() as u64 {
            self.shift += 1;
        }
        let buckets = (range >> self.shift) as usize + 1;
        self.directory = vec![0; buckets + 1];
        for word in &self.words {
            self.directory[((word - first) >> self.shift) as usize + 1] += 1;
        }
        for bucket in 0..buckets {
            self.directory[bucket + 1] += self.directory[bucket];
        }
    }

    /// Numbers the members anew. To be called after changes, before [`Self::index`], [`Self::len`].
    pub(super) fn count(&mut self) {
        let mut before = 0;
        self.ranks.clear();
        for bits in &self.bits {
            self.ranks.push(before);
            before += bits.count_ones();
        }
        self.ranks.push(before);
    }

    /// Where the word of this number is, or would be among those that are there.
    fn slot(&self, word: u64) -> Result<usize, usize> {
        let Some(&first) = self.words.first() else { return Err(0) };
        if word < first {
            return Err(0);
        }
        let bucket = (word - first) >> self.shift;
        if bucket as usize + 1 >= self.directory.len() {
            return Err(self.words.len());
        }
        let (from, to) =
            (self.directory[bucket as usize] as usize, self.directory[bucket as usize + 1] as usize);
        match to - from {
            0 => Err(from),
            1 if self.words[from] == word => Ok(from),
            _ => self.words[from..to].binary_search(&word).map(|at| at + from).map_err(|at| at + from),
        }
    }

    /// Puts a key in, if there is room for it.
    pub(super) fn insert(&mut self, key: u64) {
        if let Ok(slot) = self.slot(key >> 6) {
            self.bits[slot] |= 1 << (key & 63);
        }
    }

    /// Takes a key out.
    pub(super) fn remove(&mut self, key: u64) {
        if let Ok(slot) = self.slot(key >> 6) {
            self.bits[slot] &= !(1 << (key & 63));
        }
    }

    pub(super) fn contains(&self, key: u64) -> bool {
        self.slot(key >> 6).is_ok_and(|slot| self.bits[slot] >> (key & 63) & 1 == 1)
    }

    /// Whether there is a member from `first` to `last`.
    pub(super) fn meets(&self, first: u64, last: u64) -> bool {
        let start = self.slot(first >> 6).unwrap_or_else(|next| next);
        let mut slots = (start..self.words.len()).take_while(|&slot| self.words[slot] <= last >> 6);
        slots.any(|slot| self.bits[slot] & mask(self.words[slot], first, last) != 0)
    }

    /// Number of members.
    pub(super) fn len(&self) -> usize {
        self.ranks.last().map_or(0, |&count| count as usize)
    }

    /// A member's number, by increasing key.
    pub(super) fn index(&self, key: u64) -> Option<usize> {
        let slot = self.slot(key >> 6).ok()?;
        let bit = key & 63;
        let bits = self.bits[slot];
        (bits >> bit & 1 == 1).then(|| (self.ranks[slot] + (bits & ((1 << bit) - 1)).count_ones()) as usize)
    }

    /// The members, increasing.
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        self.words.iter().zip(&self.bits).flat_map(|(word, &bits)| {
            let mut rest = bits;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros();
                (rest != 0).then(|| {
                    rest &= rest - 1;
                    word << 6 | u64::from(bit)
                })
            })
        })
    }

    /// A set with the same room, which [`Self::mark`] fills.
    pub(super) fn none_of(&self) -> Self {
        Self { bits: vec![0; self.bits.len()], ..self.clone() }
    }

    /// Puts all members from `first` to `last` into `marked`, a set with the same room.
    pub(super) fn mark(&self, first: u64, last: u64, marked: &mut Self) {
        let start = self.slot(first >> 6).unwrap_or_else(|next| next);
        for slot in (start..self.words.len()).take_while(|&slot| self.words[slot] <= last >> 6) {
            marked.bits[slot] |= self.bits[slot] & mask(self.words[slot], first, last);
        }
    }

    /// The members of both, to be numbered by [`Self::compact`].
    pub(super) fn union(self, other: Self) -> Self {
        if self.words.is_empty() || other.words.is_empty() {
            return if self.words.is_empty() { other } else { self };
        }
        let words = self.words.into_iter().chain(other.words);
        let mut all: Vec<(u64, u64)> = words.zip(self.bits.into_iter().chain(other.bits)).collect();
        // two runs, which are merged
        all.sort_by_key(|&(word, _)| word);
        let mut union = Self::default();
        for (word, bits) in all {
            if let Some(last) = union.bits.last_mut().filter(|_| union.words.last() == Some(&word)) {
                *last |= bits;
            } else {
                union.words.push(word);
                union.bits.push(bits);
            }
        }
        union
    }

    /// Drops words without members, and numbers what is left.
    pub(super) fn compact(&mut self) {
        let kept = |slot: &usize| self.bits[*slot] != 0;
        let slots: Vec<usize> = (0..self.words.len()).filter(kept).collect();
        self.words = slots.iter().map(|&slot| self.words[slot]).collect();
        self.bits = slots.iter().map(|&slot| self.bits[slot]).collect();
        self.directory.clear();
        self.index_words();
        self.count();
    }
}

/// The bits of a word between `first >> 6` and `last >> 6` whose keys lie from `first` to `last`.
fn mask(word: u64, first: u64, last: u64) -> u64 {
    let from = if word == first >> 6 { u64::MAX << (first & 63) } else { u64::MAX };
    let to = if word == last >> 6 { u64::MAX >> (63 - (last & 63)) } else { u64::MAX };
    from & to
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(
            keys in prop::collection::btree_set((0u64..1 << 40).prop_map(|key| key >> (key % 37)), 0..200),
            others in prop::collection::btree_set((0u64..1 << 40).prop_map(|key| key >> (key % 37)), 0..200),
            ends in (0u64..1 << 40, 0u64..1 << 40),
        ) {
            let sorted: Vec<u64> = keys.iter().copied().collect();
            let mut set = KeySet::from_sorted(&sorted);
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), sorted.clone());
            for (index, &key) in sorted.iter().enumerate() {
                prop_assert_eq!(set.index(key), Some(index));
            }
            for &other in &others {
                prop_assert_eq!(set.contains(other), keys.contains(&other));
                prop_assert_eq!(set.index(other).is_some(), keys.contains(&other));
            }
            let (first, last) = (ends.0.min(ends.1), ends.0.max(ends.1));
            prop_assert_eq!(set.meets(first, last), keys.range(first..=last).next().is_some());
            let mut marked = set.none_of();
            set.mark(first, last, &mut marked);
            marked.compact();
            prop_assert_eq!(marked.iter().collect::<BTreeSet<_>>(), keys.range(first..=last).copied().collect());

            let others_sorted: Vec<u64> = others.iter().copied().collect();
            let mut union = set.clone().union(KeySet::from_sorted(&others_sorted));
            union.compact();
            prop_assert_eq!(union.iter().collect::<BTreeSet<_>>(), keys.union(&others).copied().collect());
            prop_assert_eq!(union.len(), keys.union(&others).count());

            for &other in &others {
                set.remove(other);
            }
            set.compact();
            let rest: Vec<u64> = keys.difference(&others).copied().collect();
            prop_assert_eq!(set.len(), rest.len());
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), rest);
        }
    }

    #[test]
    fn nothing_is_in_the_empty_set() {
        let mut set = KeySet::from_sorted(&[]);
        set.compact();
        assert!(!set.contains(7) && set.index(0).is_none() && set.len() == 0);
    }
}
