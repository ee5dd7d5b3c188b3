//! What a method chose, measured.

use serde::{Deserialize, Serialize};

use super::{KL, LOSS};
use crate::{space::Architecture, study::Report};

/// A choice of layers, measured on text that was kept apart from the choosing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// How it was chosen, such as `uniform`.
    pub method: String,
    /// Under which budget, in the unit of [`cost`](Self::cost).
    pub budget: u64,
    /// What was chosen.
    pub architecture: Architecture,
    /// What it costs: bytes of cache per sequence, say.
    pub cost: u64,
    /// Divergence from the parent, in nats per token.
    pub kl: f64,
    /// Its standard error over windows.
    pub standard_error: Option<f64>,
    /// The loss against the text, in nats per token.
    pub loss: f64,
}

impl Choice {
    /// Takes the numbers of a report.
    pub fn new(method: impl Into<String>, budget: u64, architecture: Architecture, cost: u64, report: &Report) -> Self {
        let score = |name: &str| report.scores.get(name).copied().unwrap_or(f64::NAN);
        let standard_error = report.standard_error;
        Self { method: method.into(), budget, architecture, cost, kl: score(KL), standard_error, loss: score(LOSS) }
    }
}
