//! The shift-equivalence class of a matrix: its invariant factors without powers of x.

use super::PrimeField;
use super::polynomial::Dense;
use super::sparse_matrix::{Echelon, SparseMatrix, SparseVector};
use crate::engine::{Control, EngineError};

/// The invariant factors of a square matrix, but for powers of x: monic, each dividing the next, of degree 1 or more.
///
/// Over a field two matrices are shift equivalent exactly if their restrictions to the eventual image, on which they
/// are invertible, are similar; so these polynomials, the Frobenius normal form of that restriction, are a complete
/// invariant (J. Franks and D. Richeson, *Shift equivalence and the Conley index*, 2000).
pub(super) fn shift_class(
    matrix: SparseMatrix,
    field: PrimeField,
    control: &Control,
) -> Result<Vec<Dense>, EngineError> {
    let mut matrix = on_eventual_image(matrix, field, control)?;
    let mut factors = Vec::new();
    while !matrix.columns.is_empty() {
        // A vector whose order is the minimal polynomial spans, with its images, a direct summand. The order is the
        // largest invariant factor, those of the quotient are the others.
        let (vector, factor) = vector_of_largest_order(&matrix, field, control)?;
        matrix = quotient(&matrix, &krylov(&matrix, vector, field, control)?.1, field, control)?;
        factors.push(factor);
    }
    factors.reverse();
    Ok(factors)
}

/// The restriction of a matrix to ⋂ im Mᵏ, in some basis.
fn on_eventual_image(
    mut matrix: SparseMatrix,
    field: PrimeField,
    control: &Control,
) -> Result<SparseMatrix, EngineError> {
    loop {
        let size = matrix.columns.len();
        let mut image = Echelon::new(size);
        for column in &matrix.columns {
            control.check()?;
            let mut column = column.clone();
            image.reduce(&mut column, field, |_, _| ());
            if !column.is_zero() {
                image.push(column, field);
            }
        }
        if image.rank() == size {
            return Ok(matrix);
        }
        let mut columns = Vec::with_capacity(image.rank());
        for vector in image.vectors() {
            control.check()?;
            let mut coordinates = Vec::new();
            image.reduce(&mut matrix.apply(vector, field), field, |position, multiple| {
                coordinates.push((position as u32, multiple));
            });
            columns.push(SparseVector::new(coordinates));
        }
        matrix = SparseMatrix { columns };
    }
}

/// The order of a vector (the monic polynomial f of least degree with f(M) v = 0), and v, Mv, M²v, … in echelon form.
fn krylov(
    matrix: &SparseMatrix,
    vector: SparseVector,
    field: PrimeField,
    control: &Control,
) -> Result<(Dense, Echelon), EngineError> {
    let mut span = Echelon::new(matrix.columns.len());
    // Each vector of the span as a polynomial in M, applied to v.
    let mut polynomials: Vec<SparseVector> = Vec::new();
    let mut next = vector;
    for power in 0.. {
        control.check()?;
        let mut rest = next.clone();
        let mut polynomial = SparseVector::unit(power);
        span.reduce(&mut rest, field, |position, multiple| {
            polynomial.add_scaled(field.neg(multiple), &polynomials[position], field);
        });
        if rest.is_zero() {
            let mut order = vec![0; power as usize + 1];
            for &(power, coefficient) in polynomial.entries() {
                order[power as usize] = coefficient;
            }
            return Ok((Dense(order), span));
        }
        let scale = span.push(rest, field);
        polynomial.scale(scale, field);
        polynomials.push(polynomial);
        next = matrix.apply(&next, field);
    }
    unreachable!("as many vectors as there are dimensions, and one, are dependent")
}

/// f(M) v, by Horner's rule.
fn evaluate(
    polynomial: &Dense,
    matrix: &SparseMatrix,
    vector: &SparseVector,
    field: PrimeField,
) -> SparseVector {
    let mut value = SparseVector::default();
    for &coefficient in polynomial.0.iter().rev() {
        value = matrix.apply(&value, field);
        value.add_scaled(coefficient, vector, field);
    }
    value
}

/// A vector whose order is the minimal polynomial of the matrix, and this polynomial.
fn vector_of_largest_order(
    matrix: &SparseMatrix,
    field: PrimeField,
    control: &Control,
) -> Result<(SparseVector, Dense), EngineError> {
    let size = matrix.columns.len();
    let mut vector = SparseVector::unit(0);
    let mut order = krylov(matrix, vector.clone(), field, control)?.0;
    for other in 1..size as u32 {
        if order.degree() == size {
            break;
        }
        control.check()?;
        let other = SparseVector::unit(other);
        if evaluate(&order, matrix, &other, field).is_zero() {
            continue;
        }
        let other_order = krylov(matrix, other.clone(), field, control)?.0;
        let (own, others) = coprime_parts(&order, &other_order, field);
        vector = evaluate(&order.divide(&own, field).0, matrix, &vector, field);
        let added = evaluate(&other_order.divide(&others, field).0, matrix, &other, field);
        vector.add_scaled(1, &added, field);
        order = own.product(&others, field);
    }
    Ok((vector, order))
}

/// Coprime divisors of `f` and of `g` whose product is the least common multiple of the two.
fn coprime_parts(f: &Dense, g: &Dense, field: PrimeField) -> (Dense, Dense) {
    let common = f.gcd(g, field);
    // the primes that f has to a higher power than g, in the end to the full power that f has them
    let mut of_f = f.divide(&common, field).0;
    loop {
        let more = f.gcd(&of_f.product(&of_f, field), field);
        if more == of_f || of_f.is_one() {
            break;
        }
        of_f = more;
    }
    let least_multiple = f.divide(&common, field).0.product(g, field);
    let of_g = least_multiple.divide(&of_f, field).0;
    (of_f, of_g)
}

/// The map that a matrix induces on the quotient by an invariant subspace.
fn quotient(
    matrix: &SparseMatrix,
    subspace: &Echelon,
    field: PrimeField,
    control: &Control,
) -> Result<SparseMatrix, EngineError> {
    // unit vectors on which no vector of the subspace ends are a basis of the quotient
    let mut number = vec![None; matrix.columns.len()];
    let mut kept = 0u32;
    for (index, number) in number.iter_mut().enumerate() {
        if subspace.ending_at(index as u32).is_none() {
            *number = Some(kept);
            kept += 1;
        }
    }
    let mut columns = Vec::with_capacity(kept as usize);
    for (index, column) in matrix.columns.iter().enumerate().filter(|(index, _)| number[*index].is_some()) {
        debug_assert!(number[index].is_some());
        control.check()?;
        let mut rest = column.clone();
        let mut entries = Vec::new();
        loop {
            subspace.reduce(&mut rest, field, |_, _| ());
            let Some((index, value)) = rest.pop() else { break };
            entries.extend(number[index as usize].map(|number| (number, value)));
        }
        columns.push(SparseVector::new(entries));
    }
    Ok(SparseMatrix { columns })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Rows = Vec<Vec<u32>>;

    fn sparse(columns: &Rows) -> SparseMatrix {
        let column = |column: &Vec<u32>| SparseVector::new((0..).zip(column.iter().copied()).collect());
        SparseMatrix { columns: columns.iter().map(column).collect() }
    }

    fn factors(columns: &Rows, prime: u32) -> Vec<String> {
        let field = PrimeField::new(prime).unwrap();
        let factors = shift_class(sparse(columns), field, &Control::default()).unwrap();
        factors.iter().map(|factor| factor.balanced(field).to_string()).collect()
    }

    /// Columns of a·b.
    fn product(a: &Rows, b: &Rows, prime: u32) -> Rows {
        let rows = a.first().map_or(0, Vec::len);
        b.iter()
            .map(|column| {
                (0..rows)
                    .map(|row| column.iter().zip(a).map(|(x, a)| x * a[row]).sum::<u32>() % prime)
                    .collect()
            })
            .collect()
    }

    fn companion(lower: &[u32]) -> Rows {
        let n = lower.len();
        (0..n)
            .map(|j| (0..n).map(|i| if j + 1 == n { lower[i] } else { u32::from(i == j + 1) }).collect())
            .collect()
    }

    fn block_diagonal(blocks: &[Rows]) -> Rows {
        let n: usize = blocks.iter().map(Vec::len).sum();
        let mut whole = vec![vec![0; n]; n];
        let mut at = 0;
        for block in blocks {
            for (j, column) in block.iter().enumerate() {
                whole[at + j][at..at + column.len()].copy_from_slice(column);
            }
            at += block.len();
        }
        whole
    }

    #[test]
    fn known_forms() {
        let permutation = companion(&[1, 0, 0]);
        assert_eq!(factors(&permutation, 5), ["x^3-1"]);
        let identity =
            |n: usize| (0..n).map(|j| (0..n).map(|i| u32::from(i == j)).collect()).collect::<Rows>();
        assert_eq!(factors(&identity(3), 5), ["x-1", "x-1", "x-1"]);
        assert_eq!(factors(&vec![vec![4]], 5), ["x+1"]);
        assert_eq!(factors(&vec![vec![1]], 2), ["x+1"]);
        assert!(factors(&companion(&[0, 0, 0, 0]), 5).is_empty(), "nilpotent");
        assert!(factors(&Rows::new(), 5).is_empty());
        // coprime blocks join
        assert_eq!(factors(&block_diagonal(&[identity(1), vec![vec![4]]]), 5), ["x^2-1"]);
        assert_eq!(
            factors(&block_diagonal(&[identity(2), vec![vec![4]], companion(&[0, 0])]), 5),
            ["x-1", "x^2-1"]
        );
    }

    fn square(n: usize, prime: u32) -> impl Strategy<Value = Rows> {
        prop::collection::vec(prop::collection::vec(0..prime, n), n)
    }

    proptest! {
        #[test]
        fn similar_matrices_have_the_same_factors(
            (prime, a, steps) in (prop::sample::select(vec![2u32, 3, 5, 7]), 1usize..7).prop_flat_map(|(prime, n)| (
                Just(prime), square(n, prime), prop::collection::vec((0..n, 0..n, 1..prime), 0..20)
            ))
        ) {
            // A ↦ E A E⁻¹ with E = 1 + c e_ij: row i gains c times row j, column j loses c times column i
            let mut similar = a.clone();
            for (i, j, c) in steps {
                if i != j {
                    for column in &mut similar {
                        column[i] = (column[i] + c * column[j]) % prime;
                    }
                    let lost = similar[i].clone();
                    for (entry, lost) in similar[j].iter_mut().zip(lost) {
                        *entry = (*entry + (prime - c) * lost) % prime;
                    }
                }
            }
            prop_assert_eq!(factors(&a, prime), factors(&similar, prime));
        }

        #[test]
        fn shift_equivalent_matrices_have_the_same_factors(
            (prime, r, s) in (prop::sample::select(vec![2u32, 3, 5, 7]), 1usize..6, 1usize..6).prop_flat_map(|(prime, n, m)| (
                Just(prime),
                prop::collection::vec(prop::collection::vec(0..prime, n), m),
                prop::collection::vec(prop::collection::vec(0..prime, m), n),
            ))
        ) {
            prop_assert_eq!(factors(&product(&r, &s, prime), prime), factors(&product(&s, &r, prime), prime));
        }

        #[test]
        fn each_factor_divides_the_next_and_degrees_add_up_to_the_eventual_rank(
            (prime, a) in (prop::sample::select(vec![2u32, 3, 5, 7]), 1usize..8).prop_flat_map(|(prime, n)| (Just(prime), square(n, prime)))
        ) {
            let field = PrimeField::new(prime).unwrap();
            let found = shift_class(sparse(&a), field, &Control::default()).unwrap();
            for pair in found.windows(2) {
                prop_assert!(pair[1].divide(&pair[0], field).1.0.is_empty());
            }
            let mut power = a.clone();
            for _ in 0..a.len() {
                power = product(&power, &a, prime);
            }
            let mut span = Echelon::new(a.len());
            for mut column in sparse(&power).columns {
                span.reduce(&mut column, field, |_, _| ());
                if !column.is_zero() {
                    span.push(column, field);
                }
            }
            prop_assert_eq!(found.iter().map(Dense::degree).sum::<usize>(), span.rank());
            prop_assert!(found.iter().all(|factor| factor.degree() > 0 && factor.0[0] != 0));
        }

        #[test]
        fn companion_blocks_come_back(
            prime in prop::sample::select(vec![2u32, 3, 5, 7]), lower in prop::collection::vec(0u32..7, 1..4), more in prop::collection::vec(0u32..7, 1..3)
        ) {
            // blocks f and f·g, where g(0) ≠ 0 and f(0) ≠ 0
            let field = PrimeField::new(prime).unwrap();
            let monic = |lower: &[u32]| {
                let mut coefficients: Vec<u32> = lower.iter().map(|c| c % prime).collect();
                coefficients[0] = coefficients[0].max(1);
                coefficients.push(1);
                Dense(coefficients)
            };
            let f = monic(&lower);
            let multiple = f.product(&monic(&more), field);
            let block = |f: &Dense| companion(&f.0[..f.degree()].iter().map(|&c| field.neg(c)).collect::<Vec<_>>());
            let whole = block_diagonal(&[block(&multiple), block(&f)]);
            prop_assert_eq!(shift_class(sparse(&whole), field, &Control::default()).unwrap(), vec![f, multiple]);
        }
    }
}
