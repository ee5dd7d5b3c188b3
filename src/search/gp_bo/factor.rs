//! The Cholesky factor of a covariance matrix, and the inverse of the factor.
//!
//! With A = [[A11, .], [A21, A22]] and X = L^-1:
//!
//! ```text
//! L11 L11' = A11,   L21 = A21 X11',   L22 L22' = A22 - L21 L21',   X21 = -X22 L21 X11
//! ```
//!
//! Recursion over halves computes both triangles by matrix products alone, which are the fastest operation. The inverse
//! of the whole matrix is X' X, as in LAPACK's `potri`.

use nalgebra::{DMatrix, DMatrixViewMut, DVector};

use super::GpError;

/// Values added to the diagonal, tried in this order until the matrix is positive definite.
const JITTERS: [f64; 4] = [0.0, 1e-8, 1e-7, 1e-6];

/// The largest block that is factored element by element.
const BLOCK: usize = 24;

/// L and X = L^-1 with L L' = A + jitter I.
#[derive(Clone, Debug)]
pub(super) struct Factor {
    lower: DMatrix<f64>,
    inverse: DMatrix<f64>,
    #[cfg(test)]
    jitter: f64,
}

impl Factor {
    /// Factors a symmetric N x N matrix, of which only the lower triangle is read. If this fails, it is tried again
    /// with 1e-8, 1e-7 and 1e-6 added to the diagonal.
    ///
    /// # Errors
    /// [`GpError::NotPositiveDefinite`] if the largest of these is too small, [`GpError::Shape`] if the matrix is not
    /// square.
    pub(super) fn new(matrix: &DMatrix<f64>) -> Result<Self, GpError> {
        let (points, columns) = matrix.shape();
        if points != columns {
            return Err(GpError::Shape { what: "columns of a covariance", expected: points, found: columns });
        }
        for jitter in JITTERS {
            let mut lower = matrix.clone();
            for i in 0..points {
                lower[(i, i)] += jitter;
            }
            let mut inverse = DMatrix::zeros(points, points);
            if split(&mut lower.as_view_mut(), &mut inverse.as_view_mut()) {
                lower.fill_upper_triangle(0.0, 1);
                return Ok(Self {
                    lower,
                    inverse,
                    #[cfg(test)]
                    jitter,
                });
            }
        }
        Err(GpError::NotPositiveDefinite { points, jitter: JITTERS[JITTERS.len() - 1] })
    }

    /// Returns L (N x N), with zeros above the diagonal.
    #[cfg(test)]
    pub(super) fn lower(&self) -> &DMatrix<f64> {
        &self.lower
    }

    /// Returns L^-1 (N x N), with zeros above the diagonal.
    pub(super) fn lower_inverse(&self) -> &DMatrix<f64> {
        &self.inverse
    }

    /// Returns the value added to the diagonal, almost always 0.
    #[cfg(test)]
    pub(super) fn jitter(&self) -> f64 {
        self.jitter
    }

    /// Returns ln det(A + jitter I).
    pub(super) fn log_determinant(&self) -> f64 {
        2.0 * self.lower.diagonal().iter().map(|pivot| pivot.ln()).sum::<f64>()
    }

    /// Returns (A + jitter I)^-1 (N x N).
    pub(super) fn inverse(&self) -> DMatrix<f64> {
        self.inverse.transpose() * &self.inverse
    }

    /// Returns L^-1 b for a vector b (N).
    pub(super) fn whiten(&self, vector: &DVector<f64>) -> DVector<f64> {
        &self.inverse * vector
    }

    /// Returns L'^-1 w for a vector w (N). After [`whiten`](Self::whiten), the result is (A + jitter I)^-1 b.
    pub(super) fn unwhiten(&self, white: &DVector<f64>) -> DVector<f64> {
        self.inverse.tr_mul(white)
    }
}

/// Overwrites the lower triangle of `a` with L and writes L^-1 to `x`. Returns `false` if `a` is not positive definite.
fn split(a: &mut DMatrixViewMut<'_, f64>, x: &mut DMatrixViewMut<'_, f64>) -> bool {
    let n = a.nrows();
    if n <= BLOCK {
        return factor_block(a, x);
    }
    let h = n / 2;
    let r = n - n / 2;
    if !split(&mut a.view_mut((0, 0), (h, h)), &mut x.view_mut((0, 0), (h, h))) {
        return false;
    }
    let x11 = x.view((0, 0), (h, h)).clone_owned();
    let l21 = a.view((h, 0), (r, h)) * x11.transpose();
    a.view_mut((h, h), (r, r)).gemm(-1.0, &l21, &l21.transpose(), 1.0);
    if !split(&mut a.view_mut((h, h), (r, r)), &mut x.view_mut((h, h), (r, r))) {
        return false;
    }
    let l21_x11 = &l21 * x11;
    let x21 = x.view((h, h), (r, r)) * l21_x11;
    x.view_mut((h, 0), (r, h)).copy_from(&(-x21));
    a.view_mut((h, 0), (r, h)).copy_from(&l21);
    true
}

/// Like [`split`], column by column.
fn factor_block(a: &mut DMatrixViewMut<'_, f64>, x: &mut DMatrixViewMut<'_, f64>) -> bool {
    let n = a.nrows();
    for j in 0..n {
        for k in 0..j {
            let factor = a[(j, k)];
            for i in j..n {
                a[(i, j)] -= a[(i, k)] * factor;
            }
        }
        let pivot = a[(j, j)].sqrt();
        if !(pivot > 0.0 && pivot.is_finite()) {
            return false;
        }
        for i in j..n {
            a[(i, j)] /= pivot;
        }
    }
    for j in 0..n {
        x[(j, j)] = 1.0;
        for k in j..n {
            x[(k, j)] /= a[(k, k)];
            let factor = x[(k, j)];
            for i in k + 1..n {
                x[(i, j)] -= a[(i, k)] * factor;
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A positive definite matrix without structure.
    fn sample(n: usize) -> DMatrix<f64> {
        let b = DMatrix::from_fn(n, n, |i, j| ((i * 31 + j * 17 + i * j) % 23) as f64 / 23.0 - 0.5);
        &b * b.transpose() + DMatrix::identity(n, n) * 0.1
    }

    #[test]
    fn blocks_of_every_size_multiply_back() {
        for n in [1, 2, 23, 24, 25, 49, 50, 97, 130] {
            let a = sample(n);
            let factor = Factor::new(&a).unwrap();
            assert_eq!(factor.jitter(), 0.0);
            assert!((factor.lower() * factor.lower().transpose() - &a).amax() < 1e-12 * a.amax(), "{n}");
            assert!((factor.lower() * factor.lower_inverse() - DMatrix::identity(n, n)).amax() < 1e-11, "{n}");
            assert!((factor.inverse() * &a - DMatrix::identity(n, n)).amax() < 1e-10, "{n}");
            let nalgebra = a.clone().cholesky().unwrap();
            assert!((factor.lower() - nalgebra.l()).amax() < 1e-11);
            assert!((factor.log_determinant() - nalgebra.ln_determinant()).abs() < 1e-9);
            let b = DVector::from_fn(n, |i, _| (i % 5) as f64 - 2.0);
            assert!((&a * factor.unwhiten(&factor.whiten(&b)) - b).amax() < 1e-10);
        }
    }

    #[test]
    fn jitter_comes_in_steps_and_ends_in_an_error() {
        let ones = |n| DMatrix::from_element(n, n, 1.0);
        let factor = Factor::new(&ones(40)).unwrap();
        assert!(factor.jitter() > 0.0 && factor.jitter() <= 1e-6);
        let mut indefinite = ones(40);
        indefinite[(39, 39)] = 0.5;
        assert_eq!(Factor::new(&indefinite).unwrap_err(), GpError::NotPositiveDefinite { points: 40, jitter: 1e-6 });
        indefinite[(39, 39)] = f64::NAN;
        assert!(matches!(Factor::new(&indefinite), Err(GpError::NotPositiveDefinite { .. })));
        assert!(matches!(Factor::new(&DMatrix::zeros(2, 3)), Err(GpError::Shape { .. })));
        assert!(Factor::new(&DMatrix::zeros(0, 0)).is_ok());
    }
}
