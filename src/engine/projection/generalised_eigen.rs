//! Directions along which one quadratic form is small or large against another.

use faer::linalg::solvers::Llt;
use faer::linalg::triangular_inverse::invert_lower_triangular;
use faer::{Mat, Par, Side};

/// Vectors w with A w = λ B w as columns, by increasing λ = wᵀAw / wᵀBw; `None` if B is not positive definite.
///
/// With B = L Lᵀ, w = L⁻ᵀ u for the eigenvectors u of L⁻¹ A L⁻ᵀ (Golub and Van Loan, *Matrix Computations*, algorithm
/// 8.7.1).
pub(super) fn generalised_eigenvectors(a: &Mat<f64>, b: &Mat<f64>) -> Option<(Vec<f64>, Mat<f64>)> {
    let n = b.nrows();
    let factor = Llt::new(b.as_ref(), Side::Lower).ok()?;
    let mut inverse = Mat::zeros(n, n);
    invert_lower_triangular(inverse.as_mut(), factor.L(), Par::Seq);
    let whitened = &inverse * a * inverse.transpose();
    let eigen = whitened.self_adjoint_eigen(Side::Lower).ok()?;
    let values = (0..n).map(|i| eigen.S()[i]).collect();
    Some((values, inverse.transpose() * eigen.U()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_diagonal_in_the_vectors_found() {
        let a = Mat::from_fn(3, 3, |i, j| if i == j { 2.0 + i as f64 } else { 0.5 });
        let b = Mat::from_fn(3, 3, |i, j| if i == j { 4.0 - i as f64 } else { -0.3 });
        let (values, vectors) = generalised_eigenvectors(&a, &b).unwrap();
        assert!(values.is_sorted());
        let difference =
            &a * &vectors - &b * &vectors * Mat::from_fn(3, 3, |i, j| if i == j { values[i] } else { 0.0 });
        assert!(difference.norm_max() < 1e-12);
        assert!(generalised_eigenvectors(&a, &Mat::zeros(3, 3)).is_none());
    }
}
