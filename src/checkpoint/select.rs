//! Which single weights are kept as they are: the same ones in every checkpoint of a model.

use std::collections::BTreeSet;

/// Up to `count` distinct numbers below `parameters`, in rising order, drawn uniformly by Floyd's algorithm (Bentley and
/// Floyd 1987) with random numbers from `seed` and the model's `signature`; all of them where there are no more.
pub(super) fn positions(seed: u64, signature: &str, parameters: u64, count: usize) -> Vec<u64> {
    let count = parameters.min(count as u64);
    if count == parameters {
        return (0..parameters).collect();
    }
    let mut hasher = blake3::Hasher::new_derive_key("doodl3 selected weights, version 1");
    hasher.update(&seed.to_le_bytes()).update(signature.as_bytes());
    let mut random = hasher.finalize_xof();
    let mut chosen = BTreeSet::new();
    for last in parameters - count..parameters {
        let mut word = [0; 8];
        random.fill(&mut word);
        // The bias of the remainder is below parameters / 2^64.
        let drawn = u64::from_le_bytes(word) % (last + 1);
        if !chosen.insert(drawn) {
            chosen.insert(last);
        }
    }
    chosen.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_models_keep_all_and_large_ones_a_fixed_choice() {
        assert_eq!(positions(0, "a", 3, 256), [0, 1, 2]);
        let chosen = positions(0, "a", 1_000_000_007, 256);
        assert_eq!(chosen.len(), 256);
        assert!(chosen.is_sorted() && chosen.iter().all(|&position| position < 1_000_000_007));
        assert_eq!(chosen, positions(0, "a", 1_000_000_007, 256));
        assert_ne!(chosen, positions(1, "a", 1_000_000_007, 256));
        assert_ne!(chosen, positions(0, "b", 1_000_000_007, 256));
    }

    #[test]
    fn each_position_is_equally_likely() {
        // 2,000 draws of 5 out of 20: each comes up 500 times on average, with a standard deviation below 20.
        let mut counts = [0; 20];
        for seed in 0..2000 {
            for position in positions(seed, "a", 20, 5) {
                counts[position as usize] += 1;
            }
        }
        assert!(counts.iter().all(|count| (400..600).contains(count)), "{counts:?}");
    }
}
