//! The known costs of a study.

use std::{collections::BTreeMap, sync::Arc};

use super::{KnownCostError, KnownCosts, Measure, Report, Study, known_costs::Attached};
use crate::space::Architecture;

impl Study {
    /// The study with costs that are known without an evaluation, which a goal that names costs needs.
    ///
    /// # Errors
    /// [`KnownCostError::Unknown`] where the goal names another.
    pub fn with_costs(mut self, costs: Arc<dyn KnownCosts>) -> Result<Self, KnownCostError> {
        let known = costs.names();
        let names = self.goal().costs();
        if let Some(name) = names.iter().find(|name| !known.contains(name)) {
            return Err(KnownCostError::Unknown { name: name.clone(), known: known.join(", ") });
        }
        self.costs = Some(Attached { costs, names });
        Ok(self)
    }

    /// The costs that the goal names, of one sequence, by name.
    ///
    /// # Errors
    /// [`KnownCostError`] where no costs were given, or nothing can be built of the sequence.
    pub fn costs(&self, architecture: &Architecture) -> Result<BTreeMap<String, f64>, KnownCostError> {
        match &self.costs {
            Some(Attached { costs, names }) => {
                Ok(names.iter().cloned().zip(costs.costs(architecture, names)?).collect())
            }
            None => match self.goal().costs().into_iter().next() {
                Some(name) => Err(KnownCostError::Missing(name)),
                None => Ok(BTreeMap::new()),
            },
        }
    }

    /// Refuses a goal that names costs which nothing states.
    ///
    /// # Errors
    /// [`KnownCostError::Missing`].
    pub(crate) fn check_costs(&self) -> Result<(), KnownCostError> {
        let unstated = self.goal().costs().into_iter().next().filter(|_| self.costs.is_none());
        unstated.map_or(Ok(()), |name| Err(KnownCostError::Missing(name)))
    }

    /// Whether sequences of other lengths than the space's have comparable costs.
    pub(crate) fn compares_lengths(&self) -> bool {
        self.costs.as_ref().is_some_and(|attached| attached.costs.any_length())
    }

    /// The costs that the goal names, of one sequence, by name in alphabetical order.
    ///
    /// # Errors
    /// As [`costs`](Self::costs).
    pub(crate) fn cost_values(&self, architecture: &Architecture) -> Result<Vec<f64>, KnownCostError> {
        match &self.costs {
            Some(Attached { costs, names }) if !names.is_empty() => costs.costs(architecture, names),
            _ => Ok(self.costs(architecture)?.into_values().collect()),
        }
    }

    /// Whether the goal's bounds on known costs allow the sequence, and it has all costs that the goal names. Where
    /// nothing states costs and none is bounded, every sequence is allowed.
    pub fn admits(&self, architecture: &Architecture) -> bool {
        !self.is_selective() || self.cost_excess(architecture) <= 0.0
    }

    /// Whether known costs can forbid a sequence.
    pub(crate) fn is_selective(&self) -> bool {
        self.goal().limits_costs() || self.costs.as_ref().is_some_and(|costs| !costs.names.is_empty())
    }

    /// By how much a sequence is beyond the bounds on known costs; infinite where it has no costs.
    pub(crate) fn cost_excess(&self, architecture: &Architecture) -> f64 {
        let Ok(costs) = self.costs(architecture) else { return f64::INFINITY };
        let limits = self.goal().limits().iter();
        let excess = limits.filter_map(|limit| match &limit.of {
            Measure::Cost(name) => Some(limit.relative_excess(costs.get(name).copied()?)),
            Measure::Score(_) => None,
        });
        excess.sum()
    }

    /// The report of this sequence with the known costs that the goal names.
    ///
    /// # Errors
    /// As [`costs`](Self::costs).
    pub fn priced(&self, architecture: &Architecture, report: Report) -> Result<Report, KnownCostError> {
        let costs = self.costs(architecture)?;
        Ok(if costs.is_empty() { report } else { Report { costs, ..report } })
    }
}
