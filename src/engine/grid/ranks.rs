//! How many keys come before a key.

/// Words for each key that is in the set: where there are more, the words are too empty to be worth it.
const WORDS_A_KEY: u64 = 4;

/// Some keys in increasing order, of which it is soon said how many come before any other.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ranks {
    /// Where keys lie close: words with a bit for each that could be. At last a word for the end.
    Words(Vec<Word>),
    /// Where they lie far apart: the number of keys before each of equal ranges, and at last that of all; a search in the
    /// range does the rest.
    Ranges {
        before: Vec<u32>,
        /// Logarithm of the length of a range.
        length: u32,
    },
}

/// Sixty-four keys that could be.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Word {
    /// Those that are, one bit each.
    bits: u64,
    /// How many come before all of them.
    before: u32,
}

impl Word {
    #[inline]
    fn before(self, key: u64) -> usize {
        self.before as usize + (self.bits & ((1 << (key % 64)) - 1)).count_ones() as usize
    }
}

impl Ranks {
    /// Of keys below 2 to the power of `bits`.
    pub(super) fn of(keys: &[u64], bits: u32) -> Self {
        if bits.saturating_sub(6) < 40 && 1 << bits.saturating_sub(6) <= WORDS_A_KEY * keys.len() as u64 {
            let mut words = vec![Word::default(); (1 << bits.saturating_sub(6)) + 1];
            for key in keys {
                words[(key / 64) as usize].bits |= 1 << (key % 64);
            }
            let mut all = 0;
            for word in &mut words {
                word.before = all;
                all += word.bits.count_ones();
            }
            return Self::Words(words);
        }
        let ranges = keys.len().next_power_of_two().trailing_zeros().min(bits);
        let length = bits - ranges;
        let mut before = vec![0; (1 << ranges) + 1];
        for key in keys {
            before[(key >> length) as usize + 1] += 1;
        }
        for range in 1..before.len() {
            before[range] += before[range - 1];
        }
        Self::Ranges { before, length }
    }

    /// How many of the keys, which are those that it was made of, come before `key`.
    #[inline]
    pub(super) fn before(&self, key: u64, keys: &[u64]) -> usize {
        match self {
            Self::Words(words) => words.get((key / 64) as usize).map_or(keys.len(), |word| word.before(key)),
            Self::Ranges { before, length } => {
                let range = (key >> length) as usize;
                if range + 1 >= before.len() {
                    return keys.len();
                }
                let (start, end) = (before[range] as usize, before[range + 1] as usize);
                start + keys[start..end].partition_point(|&other| other < key)
            }
        }
    }

    /// How many of the keys come before `start`, and how many before `end`, which lies behind it.
    #[inline]
    pub(super) fn between(&self, start: u64, end: u64, keys: &[u64]) -> (usize, usize) {
        match self {
            Self::Words(words) if start / 64 == end / 64 => {
                let word = words.get((start / 64) as usize);
                word.map_or((keys.len(), keys.len()), |word| (word.before(start), word.before(end)))
            }
            _ => (self.before(start, keys), self.before(end, keys)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranks_count(keys in prop::collection::btree_set(0u64..1 << 12, 0..300), bits in 12u32..20, key in 0u64..1 << 13) {
            let keys: Vec<u64> = keys.into_iter().collect();
            let ranks = Ranks::of(&keys, bits);
            for key in keys.iter().copied().chain([key.min(1 << bits), 1 << bits]) {
                let before = |key| keys.iter().filter(|&&other| other < key).count();
                prop_assert_eq!(ranks.before(key, &keys), before(key));
                for end in [key, key + 1, key + 70] {
                    prop_assert_eq!(ranks.between(key, end, &keys), (before(key), before(end)));
                }
            }
        }
    }
}
