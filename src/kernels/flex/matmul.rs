//! Single-threaded matrix products, computed by `faer`.

use std::ops::Range;

use faer::{
    Accum, MatMut, MatRef, Par,
    linalg::{
        matmul::matmul,
        triangular_solve::{solve_unit_lower_triangular_in_place, solve_unit_upper_triangular_in_place},
    },
};

/// The number of rows processed together: few enough for the L2 cache, and enough for a product at full speed.
const ROWS: usize = 256;

/// Divides `0..rows` into blocks.
pub fn blocks(rows: usize) -> impl Iterator<Item = Range<usize>> {
    (0..rows).step_by(ROWS).map(move |start| start..rows.min(start + ROWS))
}

/// Returns the rows `range` of a matrix with `width` columns.
pub fn rows<'a>(x: &'a [f32], range: &Range<usize>, width: usize) -> &'a [f32] {
    &x[range.start * width..range.end * width]
}

/// Returns the rows `range` of a matrix with `width` columns, mutably.
pub fn rows_mut<'a>(x: &'a mut [f32], range: &Range<usize>, width: usize) -> &'a mut [f32] {
    &mut x[range.start * width..range.end * width]
}

/// Returns a slice as a matrix with `width` columns.
pub fn matrix(x: &[f32], width: usize) -> MatRef<'_, f32> {
    MatRef::from_row_major_slice(x, x.len() / width.max(1), width)
}

/// Returns a matrix of `rows` rows with `width` elements each, which begin `stride` elements apart.
pub fn strided(x: &[f32], rows: usize, width: usize, stride: usize) -> MatRef<'_, f32> {
    MatRef::from_row_major_slice_with_stride(x, rows, width, stride)
}

/// Computes `out = a b`, with `out` in row-major order.
pub fn set(out: &mut [f32], a: MatRef<'_, f32>, b: MatRef<'_, f32>) {
    product(MatMut::from_row_major_slice_mut(out, a.nrows(), b.ncols()), Accum::Replace, a, b);
}

/// Computes `out += a b`, with `out` in row-major order.
pub fn add(out: &mut [f32], a: MatRef<'_, f32>, b: MatRef<'_, f32>) {
    product(MatMut::from_row_major_slice_mut(out, a.nrows(), b.ncols()), Accum::Add, a, b);
}

/// Computes `out = a b`, where the rows of `out` begin `stride` elements apart.
pub fn set_strided(out: &mut [f32], stride: usize, a: MatRef<'_, f32>, b: MatRef<'_, f32>) {
    product(strided_mut(out, a.nrows(), b.ncols(), stride), Accum::Replace, a, b);
}

/// Computes `out += a b`, where the rows of `out` begin `stride` elements apart.
pub fn add_strided(out: &mut [f32], stride: usize, a: MatRef<'_, f32>, b: MatRef<'_, f32>) {
    product(strided_mut(out, a.nrows(), b.ncols(), stride), Accum::Add, a, b);
}

/// Returns a mutable matrix of `rows` rows with `width` elements each, which begin `stride` elements apart.
fn strided_mut(x: &mut [f32], rows: usize, width: usize, stride: usize) -> MatMut<'_, f32> {
    // Not `from_row_major_slice_with_stride_mut`, which creates a column-major matrix in faer 0.24.4.
    MatMut::from_column_major_slice_with_stride_mut(x, width, rows, stride).transpose_mut()
}

/// Computes `x = (I + a)^-1 x`, reading only the part of `a` below the diagonal. The rows of `x` have `width` elements.
pub fn solve_unit_lower(a: MatRef<'_, f32>, x: &mut [f32], width: usize) {
    let x = MatMut::from_row_major_slice_mut(x, a.nrows(), width);
    solve_unit_lower_triangular_in_place(a, x, Par::Seq);
}

/// Computes `x = (I + a)^-1 x`, reading only the part of `a` above the diagonal. The rows of `x` have `width` elements.
pub fn solve_unit_upper(a: MatRef<'_, f32>, x: &mut [f32], width: usize) {
    let x = MatMut::from_row_major_slice_mut(x, a.nrows(), width);
    solve_unit_upper_triangular_in_place(a, x, Par::Seq);
}

fn product(out: MatMut<'_, f32>, accum: Accum, a: MatRef<'_, f32>, b: MatRef<'_, f32>) {
    matmul(out, accum, a, b, 1.0, Par::Seq);
}
