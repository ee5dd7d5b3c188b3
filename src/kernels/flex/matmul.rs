//! Matrix products on one thread, by `faer`.

use std::ops::Range;

use faer::{
    Accum, MatMut, MatRef, Par,
    linalg::{
        matmul::matmul,
        triangular_solve::{solve_unit_lower_triangular_in_place, solve_unit_upper_triangular_in_place},
    },
};

/// Rows that are worked on together: small enough for the second-level cache, large enough for a product at full speed.
const ROWS: usize = 256;

/// `0..rows` in blocks.
pub fn blocks(rows: usize) -> impl Iterator<Item = Range<usize>> {
    (0..rows).step_by(ROWS).map(move |start| start..rows.min(start + ROWS))
}

/// The rows `range` of a matrix of `width` columns.
pub fn rows<'a>(x: &'a [f32], range: &Range<usize>, width: usize) -> &'a [f32] {
    &x[range.start * width..range.end * width]
}

/// The rows `range` of a matrix of `width` columns.
pub fn rows_mut<'a>(x: &'a mut [f32], range: &Range<usize>, width: usize) -> &'a mut [f32] {
    &mut x[range.start * width..range.end * width]
}

/// A slice as a matrix of `width` columns.
pub fn matrix(x: &[f32], width: usize) -> MatRef<'_, f32> {
    MatRef::from_row_major_slice(x, x.len() / width.max(1), width)
}

/// `rows` rows of `width` elements that begin `stride` elements apart.
pub fn strided(x: &[f32], rows: usize, width: usize, stride: usize) -> MatRef<'_, f32> {
    MatRef::from_row_major_slice_with_stride(x, rows, width, stride)
}

/// `out = a b`, with `out` in row-major order.
pub fn set(out: &mut [f32], a: MatRef<'_, f32>, b: MatRef<'_, f32>) {
    product(MatMut::from_row_major_slice_mut(out, a.nrows(), b.ncols()), Accum::Replace, a, b);
}

/// `out += a b`, with `out` in row-major order.
pub fn add(out: &mut [f32], a: MatRef<'_, f32>, b: MatRef<'_, f32>) {
    product(MatMut::from_row_major_slice_mut(out, a.nrows(), b.ncols()), Accum::Add, a, b);
}

/// `out = a b`, where the rows of `out` begin `stride` elements apart.
pub fn set_strided(out: &mut [f32], stride: usize, a: MatRef<'_, f32>, b: MatRef<'_, f32>) {
    product(strided_mut(out, a.nrows(), b.ncols(), stride), Accum::Replace, a, b);
}

/// `out += a b`, where the rows of `out` begin `stride` elements apart.
pub fn add_strided(out: &mut [f32], stride: usize, a: MatRef<'_, f32>, b: MatRef<'_, f32>) {
    product(strided_mut(out, a.nrows(), b.ncols(), stride), Accum::Add, a, b);
}

/// `rows` rows of `width` elements that begin `stride` elements apart, to be written.
fn strided_mut(x: &mut [f32], rows: usize, width: usize, stride: usize) -> MatMut<'_, f32> {
    // Not `from_row_major_slice_with_stride_mut`, which faer 0.24.4 lays out by columns.
    MatMut::from_column_major_slice_with_stride_mut(x, width, rows, stride).transpose_mut()
}

/// `x = (I + a)^-1 x` for what lies below the diagonal of `a`; `x` has rows of `width` elements.
pub fn solve_unit_lower(a: MatRef<'_, f32>, x: &mut [f32], width: usize) {
    let x = MatMut::from_row_major_slice_mut(x, a.nrows(), width);
    solve_unit_lower_triangular_in_place(a, x, Par::Seq);
}

/// `x = (I + a)^-1 x` for what lies above the diagonal of `a`; `x` has rows of `width` elements.
pub fn solve_unit_upper(a: MatRef<'_, f32>, x: &mut [f32], width: usize) {
    let x = MatMut::from_row_major_slice_mut(x, a.nrows(), width);
    solve_unit_upper_triangular_in_place(a, x, Par::Seq);
}

fn product(out: MatMut<'_, f32>, accum: Accum, a: MatRef<'_, f32>, b: MatRef<'_, f32>) {
    matmul(out, accum, a, b, 1.0, Par::Seq);
}
