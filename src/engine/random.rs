//! Seeded random numbers.

/// A generator whose numbers are the same on every machine (`SplitMix64`; Steele, Lea, Flood, *Fast splittable
/// pseudorandom number generators*, OOPSLA 2014).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform on [0, 1).
    pub(super) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal (Box and Muller 1958).
    pub(super) fn normal(&mut self) -> f64 {
        // 1 − u is never zero
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (2.0 * std::f64::consts::PI * self.uniform()).cos()
    }

    /// Puts the items into random order.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, (self.uniform() * (last + 1) as f64) as usize);
        }
    }
}

/// `count` of the numbers `0..len` (all, if there are fewer), spread evenly with a random offset in each stride.
///
/// Where numbers are sorted by run and step, every run and every phase of training is represented.
pub(super) fn spread_sample(len: usize, count: usize, seed: u64) -> Vec<usize> {
    if len <= count {
        return (0..len).collect();
    }
    let mut random = Random::new(seed);
    let stride = len as f64 / count as f64;
    (0..count)
        .map(|number| {
            let (first, end) = ((number as f64 * stride) as usize, ((number + 1) as f64 * stride) as usize);
            (first + (random.uniform() * (end - first) as f64) as usize).min(len - 1)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_spread_and_repeatable() {
        let sample = spread_sample(1000, 64, 7);
        assert_eq!(sample.len(), 64);
        assert!(sample.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(sample, spread_sample(1000, 64, 7));
        assert_ne!(sample, spread_sample(1000, 64, 8));
        assert_eq!(spread_sample(3, 64, 7), [0, 1, 2]);
    }

    #[test]
    fn normal_numbers_have_mean_zero_and_variance_one() {
        let mut random = Random::new(3);
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..20_000 {
            let x = random.normal();
            (sum, squares) = (sum + x, squares + x * x);
        }
        assert!((sum / 20_000.0).abs() < 0.03 && (squares / 20_000.0 - 1.0).abs() < 0.03);
    }

    #[test]
    fn shuffles_keep_the_items() {
        let mut items: Vec<u32> = (0..50).collect();
        Random::new(1).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
