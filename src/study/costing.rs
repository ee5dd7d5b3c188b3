//! Known costs of a study.

use std::{collections::BTreeMap, sync::Arc};

use super::{KnownCostError, KnownCosts, Measure, Report, Study, known_costs::Attached};
use crate::space::Architecture;

impl Study {
    /// Adds costs that are known without an evaluation. A goal that names costs needs them.
    ///
    /// # Errors
    /// Returns [`KnownCostError::Unknown`] if the goal names a cost that is not among them.
    pub fn with_costs(mut self, costs: Arc<dyn KnownCosts>) -> Result<Self, KnownCostError> {
        let known = costs.names();
        let names = self.goal().costs();
        if let Some(name) = names.iter().find(|name| !known.contains(name)) {
            return Err(KnownCostError::Unknown { name: name.clone(), known: known.join(", ") });
        }
        self.costs = Some(Attached { costs, names });
        Ok(self)
    }

    /// Returns the costs of a sequence that the goal names, by name.
    ///
    /// # Errors
    /// Returns [`KnownCostError`] if no costs were given or no model can be built from the sequence.
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

    /// Checks that the costs that the goal names are stated.
    ///
    /// # Errors
    /// [`KnownCostError::Missing`] if they are not.
    pub(crate) fn check_costs(&self) -> Result<(), KnownCostError> {
        let unstated = self.goal().costs().into_iter().next().filter(|_| self.costs.is_none());
        unstated.map_or(Ok(()), |name| Err(KnownCostError::Missing(name)))
    }

    /// Returns whether the costs of sequences of other lengths than the space's are comparable.
    pub(crate) fn compares_lengths(&self) -> bool {
        self.costs.as_ref().is_some_and(|attached| attached.costs.any_length())
    }

    /// Returns the costs of a sequence that the goal names, in alphabetical order of their names.
    ///
    /// # Errors
    /// Returns the same errors as [`costs`](Self::costs).
    pub(crate) fn cost_values(&self, architecture: &Architecture) -> Result<Vec<f64>, KnownCostError> {
        match &self.costs {
            Some(Attached { costs, names }) if !names.is_empty() => costs.costs(architecture, names),
            _ => Ok(self.costs(architecture)?.into_values().collect()),
        }
    }

    /// Returns whether the sequence satisfies the goal's bounds on known costs and has all costs that the goal names.
    ///
    /// Without known costs and bounds on them, every sequence is admitted.
    pub fn admits(&self, architecture: &Architecture) -> bool {
        !self.is_selective() || self.cost_excess(architecture) <= 0.0
    }

    /// Returns whether known costs can exclude a sequence.
    pub(crate) fn is_selective(&self) -> bool {
        self.goal().limits_costs() || self.costs.as_ref().is_some_and(|costs| !costs.names.is_empty())
    }

    /// Returns by how much a sequence exceeds the bounds on known costs; infinite if it has no costs.
    pub(crate) fn cost_excess(&self, architecture: &Architecture) -> f64 {
        let Ok(costs) = self.costs(architecture) else { return f64::INFINITY };
        let limits = self.goal().limits().iter();
        let excess = limits.filter_map(|limit| match &limit.of {
            Measure::Cost(name) => Some(limit.relative_excess(costs.get(name).copied()?)),
            Measure::Score(_) => None,
        });
        excess.sum()
    }

    /// Adds the known costs that the goal names to the report of a sequence.
    ///
    /// # Errors
    /// Returns the same errors as [`costs`](Self::costs).
    pub fn priced(&self, architecture: &Architecture, report: Report) -> Result<Report, KnownCostError> {
        let costs = self.costs(architecture)?;
        Ok(if costs.is_empty() { report } else { Report { costs, ..report } })
    }
}
