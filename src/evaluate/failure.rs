//! What follows for a search from a training that failed.

use super::EvalError;
use crate::{device, text::causes, train::TrainError};

/// The candidate is at fault.
pub(super) fn infeasible(error: impl std::error::Error) -> EvalError {
    EvalError::Infeasible(causes(&error))
}

/// What the trainer refuses it refuses for this candidate alone: settings are checked when an evaluator is made. A
/// device that fails may serve the next attempt.
pub(crate) fn train_error(error: TrainError) -> EvalError {
    match error {
        TrainError::Device(_) => EvalError::Transient(causes(&error)),
        error => EvalError::Infeasible(causes(&error)),
    }
}

/// Trains on a device. Another attempt may survive what an accelerator did not.
pub(crate) fn guarded<T>(accelerator: bool, train: impl FnOnce() -> Result<T, EvalError>) -> Result<T, EvalError> {
    device::guarded(accelerator, train).unwrap_or_else(|text| {
        Err(EvalError::Transient(format!(
            "the device failed: {text}; if memory ran out, fewer workers leave more to each"
        )))
    })
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use burn::tensor::TensorReadError;

    use super::*;

    #[test]
    fn what_a_device_does_may_pass_and_what_the_candidate_does_stays() {
        let lost = TrainError::Device(TensorReadError::InvalidShape { expected: 1, actual: 0 });
        assert!(matches!(train_error(lost), EvalError::Transient(_)));
        assert!(matches!(train_error(TrainError::NoParameters), EvalError::Infeasible(_)));
        let panicked = guarded::<()>(true, || panic!("out of memory"));
        assert!(matches!(&panicked, Err(EvalError::Transient(text)) if text.contains("out of memory")), "{panicked:?}");
        assert!(catch_unwind(|| guarded::<()>(false, || panic!("a defect"))).is_err());
        assert_eq!(guarded(true, || Ok(3)), Ok(3));
    }
}
