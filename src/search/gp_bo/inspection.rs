//! What a Gaussian process has learnt from a study.

use serde::Serialize;

use crate::{space::Architecture, study::TrialId};

/// What a Gaussian process has learnt from a study. Values are turned so that larger is better, as in
/// [`Observation::value`](crate::study::Observation::value).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inspection {
    /// Every observation, predicted from all others.
    pub predictions: Vec<LeaveOneOut>,
    /// How much each layer matters: the mean change of the predicted value when the layer alone is changed, over the
    /// observed sequences and all other choices.
    pub layers: Vec<f64>,
    /// Standard deviation of the noise of one observation: what the fit found, or, where standard errors are known, the
    /// root of their mean square.
    pub noise: f64,
    /// The hyperparameters by name; variances and lengthscales on the scale of standardised values.
    pub hyperparameters: Vec<(String, f64)>,
    /// The sequences that promise most, best first.
    pub candidates: Vec<Candidate>,
}

/// An observation and its prediction from all others (Rasmussen and Williams 2006, equations 5.10 to 5.12).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LeaveOneOut {
    /// Which trial.
    pub trial: TrialId,
    /// What was observed.
    pub observed: f64,
    /// What the others predict.
    pub mean: f64,
    /// Standard deviation of the prediction, noise included.
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
