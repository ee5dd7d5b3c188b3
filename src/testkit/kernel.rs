//! Checks the contract of [`SequenceKernel`].

use nalgebra::DMatrix;

use super::{LawBroken, holds};
use crate::{
    search::SequenceKernel,
    seed::Seed,
    space::{Architecture, SearchSpace},
};

const FUNCTION: &str = "a kernel is a function of its arguments, finite, and has a name";
const SYMMETRIC: &str = "a kernel is symmetric";
const POSITIVE: &str = "matrices of covariances are positive semidefinite";
const PRIOR: &str = "the density of the hyperparameters is finite around their start";

/// The number of sequences in each matrix.
const SEQUENCES: u64 = 24;
/// The tolerance for negative eigenvalues due to rounding, relative to the trace.
const ROUNDING: f64 = 1e-9;

/// Checks covariances of sequences of `space`, at the initial hyperparameters and one step away along each of them.
///
/// # Errors
/// [`LawBroken`] for the first law that does not hold.
pub fn check(kernel: &(impl SequenceKernel + ?Sized), space: &SearchSpace) -> Result<(), LawBroken> {
    let name = kernel.fingerprint();
    holds(!name.is_empty() && name == kernel.fingerprint(), FUNCTION, || format!("its name is {name:?}"))?;
    let start = kernel.start();
    let mut hyperparameters = vec![start.clone()];
    for at in 0..start.len() {
        for step in [-1.0, 1.0] {
            let mut moved = start.clone();
            moved[at] += step;
            hyperparameters.push(moved);
        }
    }
    let mut rng = Seed(0).rng("testkit/kernel", 0);
    let mut sequences: Vec<_> = (0..SEQUENCES).map(|_| space.sample(&mut rng)).collect();
    sequences.sort();
    sequences.dedup();
    for free in &hyperparameters {
        holds(kernel.log_prior(free).is_finite(), PRIOR, || format!("{} at {free:?}", kernel.log_prior(free)))?;
        check_matrix(kernel, free, &sequences)?;
    }
    Ok(())
}

fn check_matrix(
    kernel: &(impl SequenceKernel + ?Sized),
    free: &[f64],
    sequences: &[Architecture],
) -> Result<(), LawBroken> {
    for left in sequences {
        for right in sequences {
            let value = kernel.covariance(free, left, right);
            let case = || format!("{left}, {right} at {free:?}: {value}");
            let again = kernel.covariance(free, left, right);
            holds(value.is_finite() && value.to_bits() == again.to_bits(), FUNCTION, case)?;
            holds((value - kernel.covariance(free, right, left)).abs() <= 1e-12 * value.abs(), SYMMETRIC, case)?;
        }
    }
    let covariance = |i: usize, j: usize| kernel.covariance(free, &sequences[i], &sequences[j]);
    let matrix = DMatrix::from_fn(sequences.len(), sequences.len(), covariance);
    let least = matrix.symmetric_eigenvalues().min();
    let enough = least >= -ROUNDING * matrix.trace().abs();
    holds(enough, POSITIVE, || format!("the smallest eigenvalue at {free:?} is {least}"))
}
