//! Cholesky factors of covariance matrices that rounding errors have made slightly indefinite.

use nalgebra::{Cholesky, DMatrix};

use super::AcquisitionError;

/// Values added to the diagonal, tried in this order until the factorisation succeeds: GPyTorch's `psd_safe_cholesky`.
const JITTER: [f64; 4] = [0.0, 1e-8, 1e-7, 1e-6];

/// Returns the lower triangular `L` with `L L^T = covariance + jitter I`, for the smallest jitter that works.
///
/// # Shapes
/// `covariance` and the result: n x n.
///
/// # Errors
/// [`AcquisitionError::NotFinite`] if an element is NaN or infinite, [`AcquisitionError::NotPositiveDefinite`] if no
/// jitter is large enough. `what` names the matrix in the message.
pub(super) fn lower_root(covariance: &DMatrix<f64>, what: &'static str) -> Result<DMatrix<f64>, AcquisitionError> {
    if covariance.iter().any(|value| !value.is_finite()) {
        return Err(AcquisitionError::NotFinite { what });
    }
    let attempt = |jitter: f64| {
        let mut matrix = covariance.clone();
        for at in 0..matrix.nrows() {
            matrix[(at, at)] += jitter;
        }
        Cholesky::new(matrix).map(|factor| factor.unpack())
    };
    JITTER.into_iter().find_map(attempt).ok_or(refusal(what))
}

/// Returns the square root of `variance + jitter`, for the smallest jitter that makes it positive: [`lower_root`] of
/// one point.
///
/// # Errors
/// Under the conditions of [`lower_root`].
pub(super) fn scalar_root(variance: f64, what: &'static str) -> Result<f64, AcquisitionError> {
    if !variance.is_finite() {
        return Err(AcquisitionError::NotFinite { what });
    }
    let positive = JITTER.into_iter().map(|jitter| variance + jitter).find(|&variance| variance > 0.0);
    positive.map(f64::sqrt).ok_or(refusal(what))
}

fn refusal(what: &'static str) -> AcquisitionError {
    AcquisitionError::NotPositiveDefinite { what, jitter: JITTER[JITTER.len() - 1] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_multiply_back() {
        let covariance = DMatrix::from_row_slice(3, 3, &[4.0, 2.0, 0.4, 2.0, 3.0, 0.5, 0.4, 0.5, 1.0]);
        let root = lower_root(&covariance, "test").unwrap();
        assert!((&root * root.transpose() - covariance).amax() < 1e-15);
        assert_eq!(root.upper_triangle(), DMatrix::from_diagonal(&root.diagonal()));
    }

    #[test]
    fn jitter_is_added_only_where_it_is_needed_and_within_limits() {
        let duplicate = DMatrix::from_element(2, 2, 1.0);
        assert!((lower_root(&duplicate, "test").unwrap()[(1, 1)] - (2e-8_f64).sqrt()).abs() < 1e-8);
        let indefinite = DMatrix::from_row_slice(2, 2, &[1.0, 1.1, 1.1, 1.0]);
        let error = lower_root(&indefinite, "the covariance of the test").unwrap_err();
        assert_eq!(error, AcquisitionError::NotPositiveDefinite { what: "the covariance of the test", jitter: 1e-6 });
        assert!(error.to_string().contains("1e-6 added to its diagonal: raise"));
    }

    #[test]
    fn values_that_are_not_finite_are_refused() {
        for bad in [f64::NAN, f64::INFINITY] {
            assert_eq!(scalar_root(bad, "x"), Err(AcquisitionError::NotFinite { what: "x" }));
            let matrix = DMatrix::from_element(2, 2, bad);
            assert_eq!(lower_root(&matrix, "x"), Err(AcquisitionError::NotFinite { what: "x" }));
        }
    }

    #[test]
    fn one_point_is_a_matrix_of_one_entry() {
        for variance in [2.0, 1e-20, 0.0, -1e-17, -5e-8, -1.0] {
            let root = lower_root(&DMatrix::from_element(1, 1, variance), "x").map(|root| root[(0, 0)]);
            assert_eq!(scalar_root(variance, "x"), root, "{variance}");
        }
    }
}
