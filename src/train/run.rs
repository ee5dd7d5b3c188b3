//! The training loop.

use std::ops::ControlFlow;

use super::{DataError, Evaluation, Outcome, Point, Step, StepReport, TokenBatch, TrainConfig, TrainError, Trainer};
use crate::model::Network;

/// The result of a training.
#[derive(Clone, Debug)]
pub struct Trained<N> {
    /// The trained model, without autodiff, ready to be evaluated and saved. `train()` switches it back to training
    /// mode.
    pub model: N,
    /// The evaluations, in order.
    pub history: Vec<Point>,
    /// How it ended.
    pub outcome: Outcome,
}

impl<N> Trained<N> {
    /// Drops the model.
    pub(crate) fn without_model(self) -> Trained<()> {
        let Self { model: _, history, outcome } = self;
        Trained { model: (), history, outcome }
    }
}

/// Trains `model`.
///
/// - `data` returns the batch of each step, counted from 0.
/// - `evaluate` measures a copy of the model without autodiff, every `evaluate_every` steps and after the last step.
/// - `progress` receives the training loss every `log_every` steps, and can cancel the training.
///
/// The loss is the mean over the scored positions of the batch.
///
/// # Errors
/// Returns a [`TrainError`] if the configuration or a batch is invalid, or if `data`, `evaluate` or the device fails.
pub fn train<N: Network>(
    model: N,
    config: &TrainConfig,
    data: &mut dyn FnMut(usize) -> Result<TokenBatch, DataError>,
    evaluate: &mut dyn FnMut(&N) -> Result<Evaluation, TrainError>,
    progress: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
) -> Result<Trained<N>, TrainError> {
    let mut trainer = Trainer::new(model, config)?;
    let mut history = Vec::new();
    let outcome = loop {
        let index = trainer.steps_done();
        if index == config.steps {
            break Outcome::Finished;
        }
        let batch = data(index).map_err(|source| TrainError::Data { step: index, source })?;
        let shown;
        (trainer, shown) = trainer.step(&[batch])?;
        match shown {
            Step::Silent => {}
            Step::Diverged(outcome) => break outcome,
            Step::Progress(report) if progress(&report).is_break() => break Outcome::Cancelled { step: report.step },
            Step::Progress(_) => {}
        }
        if trainer.evaluation_is_due() {
            let (point, outcome) = trainer.evaluated(evaluate(&trainer.model())?);
            history.extend(point);
            if let Some(outcome) = outcome {
                break outcome;
            }
        }
    };
    Ok(Trained { model: trainer.model(), history, outcome })
}
