//! The field of integers modulo a prime.

use crate::engine::EngineError;

/// ℤₚ for a prime p below 2¹⁶. Elements are the integers `0..p`.
///
/// ```
/// use doodl3::engine::homology::PrimeField;
///
/// let field = PrimeField::new(5)?;
/// assert_eq!(field.mul(3, field.inverse(3)), 1);
/// assert_eq!(field.balanced(4), -1);
/// assert!(PrimeField::new(6).is_err());
/// # Ok::<(), doodl3::engine::EngineError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrimeField {
    prime: u32,
}

impl PrimeField {
    /// The field with `prime` elements.
    ///
    /// # Errors
    /// [`EngineError::Parameter`] unless `prime` is a prime below 2¹⁶.
    pub fn new(prime: u32) -> Result<Self, EngineError> {
        let is_prime = (2..1 << 16).contains(&prime) && (2..prime).all(|d| !prime.is_multiple_of(d));
        if !is_prime {
            let value = f64::from(prime);
            return Err(EngineError::Parameter { name: "prime", value, need: "a prime number below 65536" });
        }
        Ok(Self { prime })
    }

    /// The number of elements.
    pub fn prime(self) -> u32 {
        self.prime
    }

    /// a + b
    pub fn add(self, a: u32, b: u32) -> u32 {
        let sum = a + b;
        if sum >= self.prime { sum - self.prime } else { sum }
    }

    /// −a
    pub fn neg(self, a: u32) -> u32 {
        if a == 0 { 0 } else { self.prime - a }
    }

    /// a − b
    pub fn sub(self, a: u32, b: u32) -> u32 {
        self.add(a, self.neg(b))
    }

    /// a · b
    pub fn mul(self, a: u32, b: u32) -> u32 {
        a * b % self.prime
    }

    /// 1/a, as aᵖ⁻² (Fermat).
    ///
    /// # Panics
    /// If `a` is 0.
    pub fn inverse(self, a: u32) -> u32 {
        assert_ne!(a, 0, "0 has no inverse");
        let (mut result, mut power, mut exponent) = (1, a, self.prime - 2);
        while exponent > 0 {
            if exponent & 1 == 1 {
                result = self.mul(result, power);
            }
            power = self.mul(power, power);
            exponent >>= 1;
        }
        result
    }

    /// 1 or −1.
    pub(super) fn sign(self, is_positive: bool) -> u32 {
        if is_positive { 1 } else { self.prime - 1 }
    }

    /// The representative of smallest absolute value (of two, the positive one).
    pub fn balanced(self, a: u32) -> i32 {
        if a > self.prime / 2 { a as i32 - self.prime as i32 } else { a as i32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_but_zero_has_an_inverse() {
        for prime in [2, 3, 5, 7, 251, 65521] {
            let field = PrimeField::new(prime).unwrap();
            for a in (1..prime).take(300).chain([prime - 1]) {
                assert_eq!(field.mul(a, field.inverse(a)), 1);
                assert_eq!(field.add(a, field.neg(a)), 0);
                assert_eq!((i64::from(field.balanced(a)) - i64::from(a)) % i64::from(prime), 0);
            }
        }
    }

    #[test]
    fn other_numbers_are_refused() {
        for number in [0, 1, 4, 9, 15, 65535, 65537, u32::MAX] {
            assert!(PrimeField::new(number).is_err());
        }
    }
}
