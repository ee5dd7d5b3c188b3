//! The measurements of a training and its outcome.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The performance of a model on data that it was not trained on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The mean negative log-likelihood, in nats.
    pub loss: f64,
    /// The share of correct answers, as defined by the evaluator.
    pub accuracy: f64,
}

/// One evaluation during a training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The number of steps so far.
    pub step: usize,
    /// The mean training loss since the previous evaluation.
    pub train_loss: f64,
    /// The evaluation.
    pub evaluation: Evaluation,
}

/// The progress of a training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// The number of steps so far.
    pub step: usize,
    /// The total number of steps.
    pub steps: usize,
    /// The mean training loss since the last report.
    pub loss: f64,
    /// The mean gradient norm since the last report, before clipping.
    pub gradient_norm: f64,
    /// The learning rate of the last step.
    pub learning_rate: f64,
}

/// How a training ended. Steps are counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// All steps were made.
    Finished,
    /// The accuracy rose above `stop_above`.
    ReachedThreshold {
        /// The number of steps made.
        step: usize,
    },
    /// A value became infinite or NaN. A lower learning rate or gradient clipping usually helps.
    Diverged {
        /// The step at which this was noticed. The update of this step was not made.
        step: usize,
        /// The value.
        reason: DivergedQuantity,
    },
    /// The caller cancelled the training.
    Cancelled {
        /// The number of steps made.
        step: usize,
    },
}

/// The value that became infinite or NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DivergedQuantity {
    /// The training loss.
    Loss,
    /// The gradient norm.
    GradientNorm,
    /// The loss or accuracy of an evaluation.
    Evaluation,
}

impl fmt::Display for DivergedQuantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quantity = match self {
            DivergedQuantity::Loss => "the training loss",
            DivergedQuantity::GradientNorm => "the norm of the gradient",
            DivergedQuantity::Evaluation => "the validation loss",
        };
        write!(f, "{quantity} is not finite")
    }
}
