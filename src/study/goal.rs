//! The goal of a search.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The goal of a search: a score of the report, and optionally further objectives and bounds.
///
/// The first objective is a score. With a single objective, a search looks for its best value. With several, it looks
/// for the Pareto front: the architectures that no other improves on in one objective without being worse in another
/// ([`Study::front`](super::Study::front)).
///
/// ```
/// use composer_nas::study::{Goal, Measure, Objective};
/// let simple = Goal::maximize("accuracy");
/// let several = Goal::maximize("accuracy").and(Objective::minimize(Measure::cost("cache")))?;
/// let bounded = several.at_most(Measure::cost("parameters"), 1.2e9)?;
/// assert_eq!((simple.objectives().count(), bounded.objectives().count(), bounded.limits().len()), (1, 2, 1));
/// # Ok::<(), composer_nas::study::GoalError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Goal {
    /// The score that is the first objective, by its name in the [`Report`](super::Report).
    pub score: String,
    /// Whether larger or smaller scores are better.
    pub direction: Direction,
    /// Further objectives.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    others: Vec<Objective>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    limits: Vec<Limit>,
}

/// A goal as stored in a file, not yet validated.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    score: String,
    direction: Direction,
    #[serde(default)]
    others: Vec<Objective>,
    #[serde(default)]
    limits: Vec<Limit>,
}

/// A number by which architectures are compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// A score of the report, known only after an evaluation, and noisy.
    Score(String),
    /// A [known cost](super::KnownCosts), known without an evaluation, and exact.
    Cost(String),
}

/// A measure to maximize or minimize.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objective {
    /// The measure.
    #[serde(flatten)]
    pub of: Measure,
    /// Whether larger or smaller values are better.
    pub direction: Direction,
}

/// An inclusive bound on a measure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    /// The measure.
    #[serde(flatten)]
    pub of: Measure,
    /// The bound.
    #[serde(flatten)]
    pub bound: Bound,
}

/// An upper or lower bound.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// The value is at most this.
    AtMost(f64),
    /// The value is at least this.
    AtLeast(f64),
}

/// Whether larger or smaller values are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Larger is better, as for an accuracy.
    Maximize,
    /// Smaller is better, as for a loss.
    Minimize,
}

impl Goal {
    /// Creates a goal that maximizes this score.
    pub fn maximize(score: impl Into<String>) -> Self {
        Self::first(score.into(), Direction::Maximize)
    }

    /// Creates a goal that minimizes this score.
    pub fn minimize(score: impl Into<String>) -> Self {
        Self::first(score.into(), Direction::Minimize)
    }

    fn first(score: String, direction: Direction) -> Self {
        Self { score, direction, others: Vec::new(), limits: Vec::new() }
    }

    /// Creates a goal with these objectives.
    ///
    /// The first score among them becomes the goal's [`score`](Self::score), which is used wherever a single number is
    /// needed.
    ///
    /// # Errors
    /// Returns [`GoalError`] if there are no objectives, if none of them is a score, or if one occurs twice.
    pub fn of(objectives: impl IntoIterator<Item = Objective>) -> Result<Self, GoalError> {
        let mut objectives: Vec<_> = objectives.into_iter().collect();
        if objectives.is_empty() {
            return Err(GoalError::Nothing);
        }
        let score = |objective: &Objective| matches!(objective.of, Measure::Score(_));
        let first = objectives.iter().position(score).ok_or(GoalError::NoScore)?;
        let Objective { of: Measure::Score(name), direction } = objectives.remove(first) else {
            return Err(GoalError::NoScore);
        };
        objectives.into_iter().try_fold(Self::first(name, direction), Self::and)
    }

    /// Adds an objective.
    ///
    /// # Errors
    /// Returns [`GoalError`] if the measure is already an objective, in either direction.
    pub fn and(mut self, objective: Objective) -> Result<Self, GoalError> {
        if let Some(same) = self.objectives().find(|known| known.of == objective.of) {
            let name = objective.of.to_string();
            let opposite = same.direction != objective.direction;
            return Err(if opposite { GoalError::Opposite { name } } else { GoalError::Twice { name } });
        }
        self.others.push(objective);
        Ok(self)
    }

    /// Adds an upper bound on a measure, which need not be an objective.
    ///
    /// # Errors
    /// Returns [`GoalError`] if the bound is not finite, if the measure already has an upper bound, or if no value
    /// satisfies all bounds.
    pub fn at_most(self, of: Measure, most: f64) -> Result<Self, GoalError> {
        self.bounded(Limit { of, bound: Bound::AtMost(most) })
    }

    /// Adds a lower bound on a measure, which need not be an objective.
    ///
    /// # Errors
    /// Returns [`GoalError`] if the bound is not finite, if the measure already has a lower bound, or if no value
    /// satisfies all bounds.
    pub fn at_least(self, of: Measure, least: f64) -> Result<Self, GoalError> {
        self.bounded(Limit { of, bound: Bound::AtLeast(least) })
    }

    /// Adds a bound.
    ///
    /// # Errors
    /// See [`at_most`](Self::at_most) and [`at_least`](Self::at_least).
    pub(crate) fn bounded(mut self, limit: Limit) -> Result<Self, GoalError> {
        let name = limit.of.to_string();
        let value = limit.bound.value();
        if !value.is_finite() {
            return Err(GoalError::Bound { name, value });
        }
        for known in self.limits.iter().filter(|known| known.of == limit.of) {
            match (known.bound, limit.bound) {
                (Bound::AtMost(most), Bound::AtLeast(least)) | (Bound::AtLeast(least), Bound::AtMost(most)) => {
                    if least > most {
                        return Err(GoalError::Empty { name, least, most });
                    }
                }
                (Bound::AtMost(_), Bound::AtMost(_)) | (Bound::AtLeast(_), Bound::AtLeast(_)) => {
                    return Err(GoalError::BoundTwice { name });
                }
            }
        }
        self.limits.push(limit);
        Ok(self)
    }

    /// Iterates over the objectives, starting with [`score`](Self::score).
    pub fn objectives(&self) -> impl Iterator<Item = Objective> + '_ {
        let first = Objective { of: Measure::Score(self.score.clone()), direction: self.direction };
        std::iter::once(first).chain(self.others.iter().cloned())
    }

    /// Returns whether there is more than one objective.
    pub(crate) fn has_several(&self) -> bool {
        !self.others.is_empty()
    }

    /// Returns whether there is only one objective and no bounds.
    pub(crate) fn is_simple(&self) -> bool {
        self.others.is_empty() && self.limits.is_empty()
    }

    /// Returns the bounds.
    pub fn limits(&self) -> &[Limit] {
        &self.limits
    }

    /// Returns whether there is a bound on a known cost.
    pub(crate) fn limits_costs(&self) -> bool {
        self.limits.iter().any(|limit| matches!(limit.of, Measure::Cost(_)))
    }

    /// Returns the names of the costs among objectives and bounds, sorted and without duplicates.
    pub fn costs(&self) -> Vec<String> {
        let measures = self.objectives().map(|objective| objective.of);
        let measures = measures.chain(self.limits.iter().map(|limit| limit.of.clone()));
        let mut names: Vec<_> = measures
            .filter_map(|measure| match measure {
                Measure::Cost(name) => Some(name),
                Measure::Score(_) => None,
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Returns the score, negated if smaller is better, so that larger is always better.
    pub fn orient(&self, score: f64) -> f64 {
        self.direction.orient(score)
    }
}

impl Direction {
    /// Returns the value, negated if smaller is better, so that larger is always better. It is its own inverse.
    pub fn orient(self, value: f64) -> f64 {
        match self {
            Direction::Maximize => value,
            Direction::Minimize => -value,
        }
    }
}

impl Measure {
    /// Creates the measure of the score with this name.
    pub fn score(name: impl Into<String>) -> Self {
        Measure::Score(name.into())
    }

    /// Creates the measure of the known cost with this name.
    pub fn cost(name: impl Into<String>) -> Self {
        Measure::Cost(name.into())
    }

    /// Returns the name of the score or cost.
    pub fn name(&self) -> &str {
        match self {
            Measure::Score(name) | Measure::Cost(name) => name,
        }
    }
}

impl Objective {
    /// Creates an objective that maximizes a measure.
    pub fn maximize(of: Measure) -> Self {
        Self { of, direction: Direction::Maximize }
    }

    /// Creates an objective that minimizes a measure.
    pub fn minimize(of: Measure) -> Self {
        Self { of, direction: Direction::Minimize }
    }
}

impl Bound {
    /// Returns the value of the bound.
    pub fn value(self) -> f64 {
        match self {
            Bound::AtMost(value) | Bound::AtLeast(value) => value,
        }
    }

    /// Returns by how much a value violates the bound, or 0 if it satisfies it.
    pub(crate) fn excess(self, value: f64) -> f64 {
        match self {
            Bound::AtMost(most) => (value - most).max(0.0),
            Bound::AtLeast(least) => (least - value).max(0.0),
        }
    }
}

impl Limit {
    /// Returns by how much a value violates the bound, relative to the bound, or 0 if it satisfies it. For a bound of
    /// 0, the violation is absolute.
    pub(crate) fn relative_excess(&self, value: f64) -> f64 {
        let unit = self.bound.value().abs();
        self.bound.excess(value) / if unit > 0.0 { unit } else { 1.0 }
    }
}

impl Default for Goal {
    /// Maximizes `accuracy`.
    fn default() -> Self {
        Self::maximize("accuracy")
    }
}

impl TryFrom<Unchecked> for Goal {
    type Error = GoalError;

    fn try_from(file: Unchecked) -> Result<Self, GoalError> {
        let first = Goal::first(file.score, file.direction);
        let goal = file.others.into_iter().try_fold(first, Goal::and)?;
        file.limits.into_iter().try_fold(goal, Goal::bounded)
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Measure::Score(name) => write!(f, "score {name:?}"),
            Measure::Cost(name) => write!(f, "cost {name:?}"),
        }
    }
}

impl fmt::Display for Goal {
    /// Formats the goal, such as `maximize accuracy, minimize cache, with parameters at most 1200000000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, objective) in self.objectives().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            let direction = match objective.direction {
                Direction::Maximize => "maximize",
                Direction::Minimize => "minimize",
            };
            write!(f, "{separator}{direction} {}", objective.of.name())?;
        }
        for (at, limit) in self.limits.iter().enumerate() {
            let separator = if at == 0 { ", with" } else { " and" };
            let side = match limit.bound {
                Bound::AtMost(_) => "at most",
                Bound::AtLeast(_) => "at least",
            };
            write!(f, "{separator} {} {side} {}", limit.of.name(), limit.bound.value())?;
        }
        Ok(())
    }
}

/// The error of an invalid goal.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum GoalError {
    /// There are no objectives.
    #[error("a goal needs at least one objective, such as the score \"accuracy\"")]
    Nothing,
    /// All objectives are known costs.
    #[error("all objectives are known costs, which need no search: add a score of the evaluator")]
    NoScore,
    /// An objective occurs twice.
    #[error("{name} is an objective twice: name it once")]
    Twice {
        /// The measure.
        name: String,
    },
    /// A measure is both maximized and minimized.
    #[error("{name} is to be maximized and minimized: choose one direction")]
    Opposite {
        /// The measure.
        name: String,
    },
    /// A bound is not a finite number.
    #[error("the bound on {name} is {value}: give a finite number")]
    Bound {
        /// The measure.
        name: String,
        /// The bound.
        value: f64,
    },
    /// A measure has two upper or two lower bounds.
    #[error("{name} is bounded twice on one side: give the tighter bound alone")]
    BoundTwice {
        /// The measure.
        name: String,
    },
    /// No value satisfies both bounds of a measure.
    #[error("{name} is to be at least {least} and at most {most}: nothing is both")]
    Empty {
        /// The measure.
        name: String,
        /// The lower bound.
        least: f64,
        /// The upper bound.
        most: f64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> Measure {
        Measure::cost("cache")
    }

    #[test]
    fn one_objective_is_written_as_ever() {
        let text = r#"{"score":"loss","direction":"minimize"}"#;
        assert_eq!(serde_json::to_string(&Goal::minimize("loss")).unwrap(), text);
        assert_eq!(serde_json::from_str::<Goal>(text).unwrap(), Goal::minimize("loss"));
        assert!(serde_json::from_str::<Goal>(r#"{"score":"loss","direction":"minimize","x":1}"#).is_err());
    }

    #[test]
    fn several_objectives_and_bounds_are_read_as_written() {
        let goal = Goal::default().and(Objective::minimize(cache())).unwrap();
        let goal = goal.at_most(cache(), 9.5).unwrap().at_least(Measure::score("loss"), -1.0).unwrap();
        let text = serde_json::to_string(&goal).unwrap();
        assert_eq!(
            text,
            "{\"score\":\"accuracy\",\"direction\":\"maximize\",\"others\":[{\"cost\":\"cache\",\"direction\":\
             \"minimize\"}],\"limits\":[{\"cost\":\"cache\",\"at_most\":9.5},{\"score\":\"loss\",\"at_least\":-1.0}]}"
        );
        assert_eq!(serde_json::from_str::<Goal>(&text).unwrap(), goal);
        assert_eq!(goal.costs(), ["cache"]);
        let shown = "maximize accuracy, minimize cache, with cache at most 9.5 and loss at least -1";
        assert_eq!(goal.to_string(), shown);
        let twice = text.replace("}],\"limits\"", "},{\"score\":\"accuracy\",\"direction\":\"maximize\"}],\"limits\"");
        assert!(serde_json::from_str::<Goal>(&twice).unwrap_err().to_string().contains("twice"));
    }

    #[test]
    fn goals_that_contradict_themselves_are_refused() {
        let score = |name: &str| Measure::score(name);
        assert_eq!(Goal::of([]), Err(GoalError::Nothing));
        assert_eq!(Goal::of([Objective::minimize(cache())]), Err(GoalError::NoScore));
        let same = Goal::of([Objective::maximize(score("a")), Objective::maximize(score("a"))]);
        assert!(matches!(same, Err(GoalError::Twice { .. })));
        let opposite = Goal::of([Objective::maximize(score("a")), Objective::minimize(score("a"))]);
        assert!(matches!(opposite, Err(GoalError::Opposite { .. })));
        let goal = Goal::of([Objective::minimize(cache()), Objective::maximize(score("cache"))]).unwrap();
        assert_eq!((goal.score.as_str(), goal.objectives().count()), ("cache", 2));
        for value in [f64::NAN, f64::INFINITY] {
            assert!(matches!(goal.clone().at_most(cache(), value), Err(GoalError::Bound { .. })));
        }
        let bounded = goal.at_most(cache(), 2.0).unwrap();
        assert!(matches!(bounded.clone().at_most(cache(), 3.0), Err(GoalError::BoundTwice { .. })));
        assert!(matches!(bounded.clone().at_least(cache(), 3.0), Err(GoalError::Empty { .. })));
        assert!(bounded.at_least(cache(), 2.0).is_ok());
    }
}
