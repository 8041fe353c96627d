//! How many keys come before a key.

/// Words of 64 keys for each key that is in the set: where there are more, the words are too empty to be worth it.
const WORDS_A_KEY: u64 = 4;

/// Some keys in increasing order, of which it is soon said how many come before any other.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ranks {
    /// Where keys lie close: a bit for each that could be, and the number of those before each word. At last a word for the
    /// end.
    Words { words: Vec<u64>, before: Vec<u32> },
    /// Where they lie far apart: the number of keys before each of equal ranges, and at last that of all; a search in the
    /// range does the rest.
    Ranges {
        before: Vec<u32>,
        /// Logarithm of the length of a range.
        length: u32,
    },
}

impl Ranks {
    /// Of keys below 2 to the power of `bits`.
    pub(super) fn of(keys: &[u64], bits: u32) -> Self {
        if bits.saturating_sub(6) < 40 && 1 << bits.saturating_sub(6) <= WORDS_A_KEY * keys.len() as u64 {
            let mut words = vec![0u64; (1 << bits.saturating_sub(6)) + 1];
            for key in keys {
                words[(key / 64) as usize] |= 1 << (key % 64);
            }
            let count = |all: &mut u32, word: &u64| {
                let before = *all;
                *all += word.count_ones();
                Some(before)
            };
            let before = words.iter().scan(0, count).collect();
            return Self::Words { words, before };
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
            Self::Words { words, before } => {
                let Some(word) = words.get((key / 64) as usize) else { return keys.len() };
                let below = word & ((1 << (key % 64)) - 1);
                before[(key / 64) as usize] as usize + below.count_ones() as usize
            }
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
                prop_assert_eq!(ranks.before(key, &keys), keys.iter().filter(|&&other| other < key).count());
            }
        }
    }
}
