//! Polynomials over a prime field.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::PrimeField;

/// A polynomial over ℤₚ with its coefficients as integers of smallest absolute value, from the constant term up.
///
/// ```
/// use doodl3::engine::homology::Polynomial;
///
/// let polynomial = Polynomial { coefficients: vec![-1, 2, 0, 1] };
/// assert_eq!(polynomial.to_string(), "x^3+2x-1");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Polynomial {
    /// Coefficients by increasing power; the last one is not 0.
    pub coefficients: Vec<i32>,
}

impl Polynomial {
    /// The largest power; 0 for a constant.
    pub fn degree(&self) -> usize {
        self.coefficients.len().saturating_sub(1)
    }
}

impl fmt::Display for Polynomial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut is_first = true;
        for (power, &coefficient) in self.coefficients.iter().enumerate().rev() {
            if coefficient == 0 {
                continue;
            }
            match coefficient {
                ..0 => f.write_str("-")?,
                _ if is_first => (),
                _ => f.write_str("+")?,
            }
            let size = coefficient.unsigned_abs();
            if size != 1 || power == 0 {
                write!(f, "{size}")?;
            }
            match power {
                0 => (),
                1 => f.write_str("x")?,
                _ => write!(f, "x^{power}")?,
            }
            is_first = false;
        }
        if is_first { f.write_str("0") } else { Ok(()) }
    }
}

/// A polynomial to compute with: coefficients from the constant term up, the last one not 0; none for 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dense(pub(super) Vec<u32>);

impl Dense {
    pub(super) fn degree(&self) -> usize {
        self.0.len().saturating_sub(1)
    }

    pub(super) fn is_one(&self) -> bool {
        self.0 == [1]
    }

    pub(super) fn product(&self, other: &Self, field: PrimeField) -> Self {
        if self.0.is_empty() || other.0.is_empty() {
            return Self(Vec::new());
        }
        let mut product = vec![0; self.0.len() + other.0.len() - 1];
        for (i, &a) in self.0.iter().enumerate() {
            for (j, &b) in other.0.iter().enumerate() {
                product[i + j] = field.add(product[i + j], field.mul(a, b));
            }
        }
        Self(product)
    }

    /// Quotient and remainder.
    pub(super) fn divide(&self, by: &Self, field: PrimeField) -> (Self, Self) {
        let mut rest = self.0.clone();
        let mut quotient = vec![0; (self.0.len() + 1).saturating_sub(by.0.len())];
        let leading = field.inverse(by.0[by.degree()]);
        for shift in (0..quotient.len()).rev() {
            let multiple = field.mul(rest[shift + by.degree()], leading);
            quotient[shift] = multiple;
            for (power, &coefficient) in by.0.iter().enumerate() {
                rest[shift + power] = field.sub(rest[shift + power], field.mul(multiple, coefficient));
            }
        }
        while rest.last() == Some(&0) {
            rest.pop();
        }
        (Self(quotient), Self(rest))
    }

    /// The monic greatest common divisor of two that are not 0.
    pub(super) fn gcd(&self, other: &Self, field: PrimeField) -> Self {
        let (mut a, mut b) = (self.clone(), other.clone());
        while !b.0.is_empty() {
            let rest = a.divide(&b, field).1;
            a = std::mem::replace(&mut b, rest);
        }
        let scale = field.inverse(a.0[a.degree()]);
        Self(a.0.iter().map(|&coefficient| field.mul(coefficient, scale)).collect())
    }

    pub(super) fn balanced(&self, field: PrimeField) -> Polynomial {
        Polynomial { coefficients: self.0.iter().map(|&coefficient| field.balanced(coefficient)).collect() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn polynomial(prime: u32) -> impl Strategy<Value = Dense> {
        (prop::collection::vec(0..prime, 0..6), 1..prime).prop_map(|(mut coefficients, leading)| {
            coefficients.push(leading);
            Dense(coefficients)
        })
    }

    proptest! {
        #[test]
        fn division_and_gcd(a in polynomial(5), b in polynomial(5), c in polynomial(5)) {
            let field = PrimeField::new(5).unwrap();
            let (quotient, rest) = a.divide(&b, field);
            prop_assert!(rest.0.len() < b.0.len());
            let mut sum = quotient.product(&b, field).0;
            sum.resize(a.0.len().max(rest.0.len()), 0);
            for (sum, rest) in sum.iter_mut().zip(&rest.0) {
                *sum = field.add(*sum, *rest);
            }
            prop_assert_eq!(Dense(sum), a.clone());

            let gcd = a.product(&c, field).gcd(&b.product(&c, field), field);
            prop_assert!(gcd.divide(&c, field).1.0.is_empty());
            prop_assert!(a.product(&c, field).divide(&gcd, field).1.0.is_empty());
        }
    }

    #[test]
    fn they_are_printed_as_the_peer_does() {
        let print = |coefficients: &[i32]| Polynomial { coefficients: coefficients.to_vec() }.to_string();
        assert_eq!(print(&[-1, 1]), "x-1");
        assert_eq!(print(&[1, 1, 1]), "x^2+x+1");
        assert_eq!(print(&[-2, 0, -1, 2, 1]), "x^4+2x^3-x^2-2");
        assert_eq!(print(&[2, -2, 1]), "x^2-2x+2");
        assert_eq!(print(&[]), "0");
    }
}
