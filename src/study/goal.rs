//! What a search optimises.

use serde::{Deserialize, Serialize};

/// The score that a search optimises, and in which direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Goal {
    /// Name of the score in every [`Report`](super::Report).
    pub score: String,
    /// Whether more or less of it is better.
    pub direction: Direction,
}

/// Which values of a score are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Larger is better, as for an accuracy.
    Maximize,
    /// Smaller is better, as for a loss.
    Minimize,
}

impl Goal {
    /// As much as possible of this score.
    pub fn maximize(score: impl Into<String>) -> Self {
        Self { score: score.into(), direction: Direction::Maximize }
    }

    /// As little as possible of this score.
    pub fn minimize(score: impl Into<String>) -> Self {
        Self { score: score.into(), direction: Direction::Minimize }
    }

    /// The score, with its sign turned where less is better: larger is always better in the result.
    pub fn orient(&self, score: f64) -> f64 {
        match self.direction {
            Direction::Maximize => score,
            Direction::Minimize => -score,
        }
    }
}

impl Default for Goal {
    /// As much `accuracy` as possible.
    fn default() -> Self {
        Self::maximize("accuracy")
    }
}
