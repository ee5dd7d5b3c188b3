//! What the model has learnt from a study, as plain values.

use serde::Serialize;

use crate::{space::Architecture, study::TrialId};

/// What the model has learnt from a study. Values are oriented so that larger is better, as in
/// [`Observation::value`](crate::study::Observation::value).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inspection {
    /// Each observation with its prediction from all others.
    pub predictions: Vec<LeaveOneOut>,
    /// The importance of each layer: the mean change of the predicted value when this layer alone is changed, over the
    /// observed sequences and all other choices for the layer.
    pub layers: Vec<f64>,
    /// Standard deviation of the noise of one observation: the fitted value or, if standard errors are known, their
    /// root mean square.
    pub noise: f64,
    /// The hyperparameters with their names. Variances and lengthscales are on the standardised scale.
    pub hyperparameters: Vec<(String, f64)>,
    /// The sequences with the largest acquisition values, best first.
    pub candidates: Vec<Candidate>,
}

/// An observation and its prediction from all others (Rasmussen and Williams 2006, equations 5.10 to 5.12).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LeaveOneOut {
    /// The trial.
    pub trial: TrialId,
    /// The observed value, before values far below the others are raised.
    pub observed: f64,
    /// Mean of the prediction from all other observations.
    pub mean: f64,
    /// Standard deviation of this prediction, including noise.
    pub sd: f64,
}

/// A sequence that has not been evaluated.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candidate {
    /// The sequence.
    pub architecture: Architecture,
    /// Its predicted value.
    pub mean: f64,
    /// Standard deviation of the prediction.
    pub sd: f64,
}
