//! What a search optimises.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What a search optimises: a score of the report, and optionally more objectives and bounds.
///
/// The first objective is a score. Where there is one objective, it is all that counts. Where there are several, a
/// search looks for the front: the sequences that no other beats in one of them without losing in another
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
    /// Name of the first objective's score in every [`Report`](super::Report).
    pub score: String,
    /// Whether more or less of it is better.
    pub direction: Direction,
    /// The objectives beside it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    others: Vec<Objective>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    limits: Vec<Limit>,
}

/// A goal as it stands in a file.
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

/// A number by which sequences are judged.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// A score of the report, known after an evaluation, up to noise.
    Score(String),
    /// A [known cost](super::KnownCosts) of what the sequence becomes, without an evaluation and without noise.
    Cost(String),
}

/// A measure of which as much or as little as possible is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objective {
    /// What is measured.
    #[serde(flatten)]
    pub of: Measure,
    /// Whether more or less of it is better.
    pub direction: Direction,
}

/// A bound on a measure, the bound itself included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    /// What is bounded.
    #[serde(flatten)]
    pub of: Measure,
    /// How.
    #[serde(flatten)]
    pub bound: Bound,
}

/// One side of a measure's range.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

/// Which values of a measure are better.
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
        Self::first(score.into(), Direction::Maximize)
    }

    /// As little as possible of this score.
    pub fn minimize(score: impl Into<String>) -> Self {
        Self::first(score.into(), Direction::Minimize)
    }

    fn first(score: String, direction: Direction) -> Self {
        Self { score, direction, others: Vec::new(), limits: Vec::new() }
    }

    /// All of these objectives. The first score among them is the goal's [`score`](Self::score), which those who ask
    /// for one number take.
    ///
    /// # Errors
    /// [`GoalError`] for no objective, none that is a score, or one that is there twice.
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

    /// This objective as well.
    ///
    /// # Errors
    /// [`GoalError`] where the measure is an objective already, in this direction or the other.
    pub fn and(mut self, objective: Objective) -> Result<Self, GoalError> {
        if let Some(same) = self.objectives().find(|known| known.of == objective.of) {
            let name = objective.of.to_string();
            let opposite = same.direction != objective.direction;
            return Err(if opposite { GoalError::Opposite { name } } else { GoalError::Twice { name } });
        }
        self.others.push(objective);
        Ok(self)
    }

    /// No more than this much of a measure, which may be an objective or not.
    ///
    /// # Errors
    /// [`GoalError`] for a bound that is no number, is there already, or leaves nothing.
    pub fn at_most(self, of: Measure, most: f64) -> Result<Self, GoalError> {
        self.bounded(Limit { of, bound: Bound::AtMost(most) })
    }

    /// No less than this much of a measure, which may be an objective or not.
    ///
    /// # Errors
    /// As [`at_most`](Self::at_most).
    pub fn at_least(self, of: Measure, least: f64) -> Result<Self, GoalError> {
        self.bounded(Limit { of, bound: Bound::AtLeast(least) })
    }

    /// Within this limit as well.
    ///
    /// # Errors
    /// As [`at_most`](Self::at_most).
    pub fn bounded(mut self, limit: Limit) -> Result<Self, GoalError> {
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

    /// The objectives, [`score`](Self::score) first.
    pub fn objectives(&self) -> impl Iterator<Item = Objective> + '_ {
        let first = Objective { of: Measure::Score(self.score.clone()), direction: self.direction };
        std::iter::once(first).chain(self.others.iter().cloned())
    }

    /// Whether more than one objective counts.
    pub fn has_several(&self) -> bool {
        !self.others.is_empty()
    }

    /// Whether one objective without bounds is all there is.
    pub fn is_simple(&self) -> bool {
        self.others.is_empty() && self.limits.is_empty()
    }

    /// The bounds.
    pub fn limits(&self) -> &[Limit] {
        &self.limits
    }

    /// Whether a known cost is bounded.
    pub(crate) fn limits_costs(&self) -> bool {
        self.limits.iter().any(|limit| matches!(limit.of, Measure::Cost(_)))
    }

    /// The names of the costs among objectives and bounds, each once.
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

    /// The score, with its sign turned where less is better: larger is always better in the result.
    pub fn orient(&self, score: f64) -> f64 {
        self.direction.orient(score)
    }
}

impl Direction {
    /// The value, with its sign turned where less is better: larger is always better in the result. Its own inverse.
    pub fn orient(self, value: f64) -> f64 {
        match self {
            Direction::Maximize => value,
            Direction::Minimize => -value,
        }
    }
}

impl Measure {
    /// The score of this name.
    pub fn score(name: impl Into<String>) -> Self {
        Measure::Score(name.into())
    }

    /// The known cost of this name.
    pub fn cost(name: impl Into<String>) -> Self {
        Measure::Cost(name.into())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Measure::Score(name) | Measure::Cost(name) => name,
        }
    }
}

impl Objective {
    /// As much of it as possible.
    pub fn maximize(of: Measure) -> Self {
        Self { of, direction: Direction::Maximize }
    }

    /// As little of it as possible.
    pub fn minimize(of: Measure) -> Self {
        Self { of, direction: Direction::Minimize }
    }
}

impl Bound {
    /// The bound.
    pub fn value(self) -> f64 {
        match self {
            Bound::AtMost(value) | Bound::AtLeast(value) => value,
        }
    }

    /// By how much a value is beyond the bound; 0 within.
    pub fn excess(self, value: f64) -> f64 {
        match self {
            Bound::AtMost(most) => (value - most).max(0.0),
            Bound::AtLeast(least) => (least - value).max(0.0),
        }
    }
}

impl Limit {
    /// By how much a value is beyond the bound, as a share of the bound; 0 within. Of a bound of 0, the excess itself.
    pub fn relative_excess(&self, value: f64) -> f64 {
        let unit = self.bound.value().abs();
        self.bound.excess(value) / if unit > 0.0 { unit } else { 1.0 }
    }
}

impl Default for Goal {
    /// As much `accuracy` as possible.
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
    /// `maximize accuracy, minimize cache, with parameters at most 1200000000`.
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

/// A goal that contradicts itself.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum GoalError {
    /// No objective.
    #[error("a goal needs at least one objective, such as the score \"accuracy\"")]
    Nothing,
    /// Costs alone.
    #[error("all objectives are known costs, which need no search: add a score of the evaluator")]
    NoScore,
    /// One objective twice.
    #[error("{name} is an objective twice: name it once")]
    Twice {
        /// Which one.
        name: String,
    },
    /// One measure in both directions.
    #[error("{name} is to be maximized and minimized: choose one direction")]
    Opposite {
        /// Which one.
        name: String,
    },
    /// A bound that is no number.
    #[error("the bound on {name} is {value}: give a finite number")]
    Bound {
        /// What is bounded.
        name: String,
        /// The bound.
        value: f64,
    },
    /// Two bounds on one side.
    #[error("{name} is bounded twice on one side: give the tighter bound alone")]
    BoundTwice {
        /// What is bounded.
        name: String,
    },
    /// Bounds that leave nothing.
    #[error("{name} is to be at least {least} and at most {most}: nothing is both")]
    Empty {
        /// What is bounded.
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
