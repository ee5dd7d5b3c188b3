//! A chosen architecture and its measured quality.

use serde::{Deserialize, Serialize};

use super::{KL, LOSS};
use crate::{space::Architecture, study::Report};

/// A chosen architecture, measured on text that was not used to choose it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// The name of the method, such as `uniform`.
    pub method: String,
    /// The budget, in the unit of [`cost`](Self::cost).
    pub budget: u64,
    /// The chosen architecture.
    pub architecture: Architecture,
    /// Its cost, for example in bytes of cache per sequence.
    pub cost: u64,
    /// The divergence from the parent, in nats per token.
    pub kl: f64,
    /// The standard error of the divergence over windows.
    pub standard_error: Option<f64>,
    /// The cross-entropy loss on the text, in nats per token.
    pub loss: f64,
}

impl Choice {
    /// Creates a choice with the scores of a report.
    pub fn new(method: impl Into<String>, budget: u64, architecture: Architecture, cost: u64, report: &Report) -> Self {
        let score = |name: &str| report.scores.get(name).copied().unwrap_or(f64::NAN);
        let standard_error = report.standard_error;
        Self { method: method.into(), budget, architecture, cost, kl: score(KL), standard_error, loss: score(LOSS) }
    }
}
