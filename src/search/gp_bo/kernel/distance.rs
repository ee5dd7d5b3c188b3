//! Weighted squared distances between rows, by matrix products.
//!
//! | symbol | meaning |
//! |---|---|
//! | x_ic | column c of row i |
//! | w_c | weight of column c |
//! | D_ij | sum_c w_c (x_ic - x_jc)^2 |

use nalgebra::{DMatrix, DVector};

/// Returns D between M rows (M x d) and N others (N x d), of shape M x N. It takes one matrix product, by |x - y|^2 =
/// |x|^2 + |y|^2 - 2 x y.
pub(super) fn between(left: &DMatrix<f64>, right: &DMatrix<f64>, weights: &[f64]) -> DMatrix<f64> {
    let scaled = scale_columns(right, weights);
    let right_norms: Vec<_> = norms(right, &scaled);
    let left_norms = norms(left, &scale_columns(left, weights));
    let mut distances = left * scaled.transpose();
    for (mut column, right) in distances.column_iter_mut().zip(right_norms) {
        for (distance, left) in column.iter_mut().zip(&left_norms) {
            *distance = (left + right - 2.0 * *distance).max(0.0);
        }
    }
    distances
}

/// Returns `value(D)` for all pairs of N rows (N x d), of shape N x N and exactly symmetric. D is exactly 0 on the
/// diagonal.
pub(super) fn among(rows: &DMatrix<f64>, weights: &[f64], value: impl Fn(f64) -> f64) -> DMatrix<f64> {
    let mut matrix = between(rows, rows, weights);
    for j in 0..matrix.ncols() {
        matrix[(j, j)] = value(0.0);
        for i in j + 1..matrix.nrows() {
            let entry = value(matrix[(i, j)]);
            matrix[(i, j)] = entry;
            matrix[(j, i)] = entry;
        }
    }
    matrix
}

/// Returns S_c = sum_ij G_ij (x_ic - x_jc)^2 for every column c of `rows` (N x d) and a symmetric matrix G (N x N). It
/// takes O(N^2 d) and one matrix product, by S_c = 2 (sum_i g_i x_ic^2 - x_c' G x_c), where g are the row sums of G.
pub(super) fn spread(rows: &DMatrix<f64>, matrix: &DMatrix<f64>) -> Vec<f64> {
    let sums: DVector<f64> = matrix.column_sum();
    let product = matrix * rows;
    let columns = rows.column_iter().zip(product.column_iter());
    columns
        .map(|(x, gx)| 2.0 * x.iter().zip(&gx).zip(&sums).map(|((x, gx), g)| x * (g * x - gx)).sum::<f64>())
        .collect()
}

fn scale_columns(rows: &DMatrix<f64>, weights: &[f64]) -> DMatrix<f64> {
    let mut scaled = rows.clone();
    for (mut column, &weight) in scaled.column_iter_mut().zip(weights) {
        column *= weight;
    }
    scaled
}

/// Returns sum_c x_ic (w x)_ic for every row i (N).
fn norms(rows: &DMatrix<f64>, scaled: &DMatrix<f64>) -> Vec<f64> {
    let mut norms = vec![0.0; rows.nrows()];
    for (x, wx) in rows.column_iter().zip(scaled.column_iter()) {
        for ((norm, x), wx) in norms.iter_mut().zip(&x).zip(&wx) {
            *norm += x * wx;
        }
    }
    norms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_agree_with_loops() {
        let x = DMatrix::from_fn(9, 7, |i, c| ((i * 5 + c * 3) % 4) as f64 / 2.0);
        let weights: Vec<_> = (0..7).map(|c| 0.1 + c as f64).collect();
        let square = |i: usize, j: usize, c: usize| (x[(i, c)] - x[(j, c)]).powi(2);
        let distances = between(&x, &x, &weights);
        let g = DMatrix::from_fn(9, 9, |i, j| ((i + j) % 5) as f64 - 1.0);
        for i in 0..9 {
            for j in 0..9 {
                let expected: f64 = (0..7).map(|c| weights[c] * square(i, j, c)).sum();
                assert!((distances[(i, j)] - expected).abs() < 1e-12);
            }
        }
        for (c, s) in spread(&x, &g).into_iter().enumerate() {
            let pairs = (0..9).flat_map(|i| (0..9).map(move |j| (i, j)));
            let expected: f64 = pairs.map(|(i, j)| g[(i, j)] * square(i, j, c)).sum();
            assert!((s - expected).abs() < 1e-11, "{s} {expected}");
        }
    }
}
