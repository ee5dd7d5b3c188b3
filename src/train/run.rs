//! The training loop.

use std::ops::ControlFlow;

use super::{DataError, Evaluation, Outcome, Point, Progress, Step, TokenBatch, TrainConfig, TrainError, Trainer};
use crate::model::Network;

/// A training that ended.
#[derive(Clone, Debug)]
pub struct Trained<N> {
    /// The last weights, without autodiff: ready to evaluate and to save. `train()` takes it back into training.
    pub model: N,
    /// The evaluations, first to last.
    pub history: Vec<Point>,
    /// How it ended.
    pub outcome: Outcome,
}

/// Trains `model`.
///
/// `data` gives the batch of each step, counted from 0; `evaluate` measures a snapshot without autodiff every
/// `evaluate_every` steps and after the last; `progress` hears of the loss every `log_every` steps and can break off.
/// The loss is the mean over the scored positions of the batch.
///
/// # Errors
/// [`TrainError`] when the configuration or a batch does not fit, `data` or `evaluate` fail, or the device does.
pub fn train<N: Network>(
    model: N,
    config: &TrainConfig,
    data: &mut dyn FnMut(usize) -> Result<TokenBatch, DataError>,
    evaluate: &mut dyn FnMut(&N) -> Result<Evaluation, TrainError>,
    progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
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
