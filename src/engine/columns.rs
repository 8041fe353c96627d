//! Columns of dense matrices as slices: inner loops over them need no index arithmetic.

use faer::Mat;

/// A column's entries.
pub(super) fn column(matrix: &Mat<f64>, number: usize) -> &[f64] {
    match matrix.col(number).try_as_col_major() {
        Some(column) => column.as_slice(),
        None => unreachable!("owned matrices are stored column by column"),
    }
}

/// A column's entries, to be written.
pub(super) fn column_mut(matrix: &mut Mat<f64>, number: usize) -> &mut [f64] {
    match matrix.col_mut(number).try_as_col_major_mut() {
        Some(column) => column.as_slice_mut(),
        None => unreachable!("owned matrices are stored column by column"),
    }
}
