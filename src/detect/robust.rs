//! Robust statistics: medians, which a few wild values cannot move.

use serde::{Deserialize, Serialize};

/// Makes the median absolute deviation of a normal distribution its standard deviation.
const MAD_TO_DEVIATION: f64 = 1.4826;

/// Where recent values lie: their median, and their spread as 1.4826 times the median absolute deviation (MAD).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Baseline {
    /// The median.
    pub(super) median: f64,
    /// The spread, not below the floor given.
    pub(super) spread: f64,
    /// Number of values.
    pub(super) values: usize,
}

impl Baseline {
    /// The baseline of some finite values; `None` where there are none.
    ///
    /// The floor says which spread is too small to mean anything: without it, a run of nearly equal values makes an
    /// alarm of the smallest change.
    pub(super) fn of(values: impl IntoIterator<Item = f64>, floor: f64) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        let median = median(&mut values)?;
        for value in &mut values {
            *value = (*value - median).abs();
        }
        let mad = self::median(&mut values)?;
        Some(Self { median, spread: (MAD_TO_DEVIATION * mad).max(floor), values: values.len() })
    }

    /// The robust z of a value: (x − median) / max(1.4826 · MAD, floor).
    pub(super) fn z(&self, value: f64) -> f64 {
        (value - self.median) / self.spread
    }
}

/// The median; of an even number of values the mean of the two in the middle.
pub(super) fn median(values: &mut [f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let odd = values.len() % 2 == 1;
    let (below, &mut upper, _) = values.select_nth_unstable_by(values.len() / 2, f64::total_cmp);
    if odd {
        return Some(upper);
    }
    let lower = below.iter().copied().max_by(f64::total_cmp)?;
    Some(f64::midpoint(lower, upper))
}

/// Slope of the least-squares line through values at 0, 1, 2, …
pub(super) fn slope(values: &[f64]) -> f64 {
    let middle = (values.len() as f64 - 1.0) / 2.0;
    let (mut product, mut square) = (0.0, 0.0);
    for (i, value) in values.iter().enumerate() {
        let t = i as f64 - middle;
        product += t * value;
        square += t * t;
    }
    product / square
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_wild_value_does_not_move_the_baseline() {
        let calm = Baseline::of([1.0, 2.0, 3.0, 4.0, 5.0], 0.1).unwrap();
        let wild = Baseline::of([1.0, 2.0, 3.0, 4.0, 1e12], 0.1).unwrap();
        assert_eq!(calm, wild);
        assert_eq!(calm.median, 3.0);
        assert_eq!(calm.spread, MAD_TO_DEVIATION);
        assert_eq!(Baseline::of([2.0; 9], 0.25).unwrap().z(3.0), 4.0, "the floor bounds the score");
        assert!(Baseline::of([], 1.0).is_none());
    }

    #[test]
    fn slopes() {
        assert_eq!(slope(&[1.0, 3.0, 5.0, 7.0]), 2.0);
        assert_eq!(slope(&[4.0; 6]), 0.0);
    }

    proptest! {
        #[test]
        fn the_median_is_that_of_the_sorted_values(mut values in prop::collection::vec(-1e6..1e6f64, 1..40)) {
            let found = median(&mut values).unwrap();
            values.sort_by(f64::total_cmp);
            let (half, odd) = (values.len() / 2, values.len() % 2 == 1);
            let expected = if odd { values[half] } else { f64::midpoint(values[half - 1], values[half]) };
            prop_assert_eq!(found, expected);
        }
    }
}
