//! Random numbers that are the same on every machine and with every version of libtorch.

/// `SplitMix64` (Steele, Lea and Flood 2014): small, and a stream of its own for every seed.
pub(super) struct Random(u64);

impl Random {
    /// The stream of `seed` that is kept for `purpose`, such as a run's number.
    pub(super) fn new(seed: u64, purpose: u64) -> Self {
        let mut mixer = Self(seed);
        Self(mixer.next() ^ Self(purpose).next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform on `low..high`.
    pub(super) fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Puts the items in a random order (Fisher and Yates).
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            // The bias of the modulus is below 2^-56 for the few items that are shuffled here.
            items.swap(last, (self.next() % (last as u64 + 1)) as usize);
        }
    }
}
