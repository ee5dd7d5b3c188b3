//! What is measured in a training, and how it ends.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a model achieves on data it was not trained on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Mean negative log-likelihood in nats.
    pub loss: f64,
    /// Share of right answers, in the evaluator's own metric.
    pub accuracy: f64,
}

/// One evaluation during a training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Steps done.
    pub step: usize,
    /// Mean training loss since the point before.
    pub train_loss: f64,
    /// The evaluation after those steps.
    pub evaluation: Evaluation,
}

/// Where a training stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Steps done.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// Mean training loss since the last report.
    pub loss: f64,
    /// Mean norm of the gradient since the last report, before clipping.
    pub gradient_norm: f64,
    /// The learning rate of the last step.
    pub learning_rate: f64,
}

/// How a training ended. Steps are counted as done, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// All steps done.
    Finished,
    /// The accuracy came above `stop_above`.
    ReachedThreshold {
        /// Steps done.
        step: usize,
    },
    /// A number ceased to be finite. A lower learning rate, or clipping, usually helps.
    Diverged {
        /// The step at which it was noticed; the update of this step was not made.
        step: usize,
        /// Which number.
        reason: DivergedQuantity,
    },
    /// `progress` asked for it.
    Cancelled {
        /// Steps done.
        step: usize,
    },
}

/// The number that ceased to be finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DivergedQuantity {
    /// The training loss.
    Loss,
    /// The norm of the gradient.
    GradientNorm,
    /// The loss or the accuracy of an evaluation.
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
