//! Costs of the extrapolated model.

use std::{collections::HashMap, sync::Mutex};

use super::{Extrapolator, Target};
use crate::{
    cost::{CostError, LayerTimes, ModelCost, Workload},
    primitive::Primitives,
    space::Architecture,
    study::{KnownCostError, KnownCosts},
    text::causes,
};

/// The costs of the model at the target's size that an extrapolator builds from a small architecture.
///
/// A search over small architectures can use them as objectives and bounds, next to its scores.
///
/// | name | meaning | unit |
/// |---|---|---|
/// | `parameters` | all parameters | |
/// | `active_parameters` | parameters that are active for a token | |
/// | `work` | a forward pass | floating-point operations per token |
/// | `cache` | the cache of one sequence of the workload's length | bytes |
/// | `prefill` | reading all tokens of a batch, by [`LayerTimes`] | seconds |
/// | `decode` | generating one more token for every sequence, by [`LayerTimes`] | seconds |
///
/// ```
/// use composer_nas::{cost::Workload, extrapolate::TargetCosts, prelude::*, study::{KnownCosts, Measure, Objective}};
/// let primitives = Primitives::standard();
/// let target = Target::llama_1b();
/// let costs = TargetCosts::new(Auto, &target, &primitives, Workload::bf16(4096))?;
/// let goal = Goal::maximize("accuracy").and(Objective::minimize(Measure::cost("cache")))?;
/// assert_eq!(costs.costs(&"1A+5M".parse()?, &goal.costs())?, [33554432.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TargetCosts<X> {
    extrapolator: X,
    target: Target,
    primitives: Primitives,
    workload: Workload,
    times: Option<LayerTimes>,
    /// Costs that were already computed, because searchers ask for the same neighbors repeatedly.
    known: Mutex<HashMap<Architecture, [f64; COSTS.len()]>>,
}

/// The names of the costs. The last two need measured layer times.
const COSTS: [&str; 6] = ["parameters", "active_parameters", "work", "cache", "prefill", "decode"];
/// The number of costs that do not need layer times.
const CLOSED_FORMS: usize = 4;
/// Maximum number of cached sequences.
const REMEMBERED: usize = 100_000;

impl<X: Extrapolator> TargetCosts<X> {
    /// Creates the costs of what `extrapolator` builds for this target, at this workload.
    ///
    /// # Errors
    /// Returns [`CostError`] if the costs of the target's baseline cannot be computed.
    pub fn new(
        extrapolator: X,
        target: &Target,
        primitives: &Primitives,
        workload: Workload,
    ) -> Result<Self, CostError> {
        ModelCost::new(&target.baseline_model(), primitives, workload)?;
        let known = Mutex::new(HashMap::new());
        let primitives = primitives.clone();
        Ok(Self { extrapolator, target: target.clone(), primitives, workload, times: None, known })
    }

    /// Adds the costs `prefill` and `decode`, from times of layers at the target's widths.
    #[must_use]
    pub fn times(self, times: LayerTimes) -> Self {
        Self { times: Some(times), known: Mutex::new(HashMap::new()), ..self }
    }

    fn all(&self, architecture: &Architecture) -> Result<[f64; COSTS.len()], KnownCostError> {
        // A poisoned cache still contains only complete entries.
        let mut known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(costs) = known.get(architecture) {
            return Ok(*costs);
        }
        let costs = self.computed(architecture)?;
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(architecture.clone(), costs);
        Ok(costs)
    }

    fn computed(&self, architecture: &Architecture) -> Result<[f64; COSTS.len()], KnownCostError> {
        let unbuildable = |reason: String| KnownCostError::Unbuildable { architecture: architecture.clone(), reason };
        let spec = self
            .extrapolator
            .extrapolate(architecture, &self.target, &self.primitives)
            .map_err(|error| unbuildable(causes(&error)))?;
        let cost = ModelCost::new(&spec, &self.primitives, self.workload);
        let cost = cost.map_err(|error| unbuildable(causes(&error)))?;
        let seconds = match &self.times {
            None => [0.0; 2],
            Some(times) => {
                let untimed = || unbuildable("one of its layers was not timed".into());
                let seconds = times.of(&spec.architecture).ok_or_else(untimed)?;
                [seconds.prefill, seconds.decode]
            }
        };
        let counts = [
            cost.total_parameters,
            cost.active_parameters,
            cost.forward_flops_per_token,
            cost.cache_bytes_per_sequence,
        ];
        let [parameters, active, work, cache] = counts.map(|count| count as f64);
        let [prefill, decode] = seconds;
        Ok([parameters, active, work, cache, prefill, decode])
    }
}

/// Returns whether this is the fingerprint of [`TargetCosts`].
pub(crate) fn is_target_costs(fingerprint: &str) -> bool {
    fingerprint.contains(" to {\"name\":") && fingerprint.contains("}, workload {")
}

impl<X: Extrapolator + Send + Sync> KnownCosts for TargetCosts<X> {
    fn fingerprint(&self) -> String {
        fn text(value: &impl serde::Serialize) -> String {
            serde_json::to_string(value).unwrap_or_else(|error| error.to_string())
        }
        let times = self.times.as_ref().map(|times| format!(", times {}", text(times))).unwrap_or_default();
        let extrapolator = self.extrapolator.fingerprint();
        format!("{extrapolator} to {}, workload {}{times}", text(&self.target), text(&self.workload))
    }

    fn any_length(&self) -> bool {
        true
    }

    fn names(&self) -> Vec<String> {
        let there = if self.times.is_some() { COSTS.len() } else { CLOSED_FORMS };
        COSTS[..there].iter().map(|&name| name.into()).collect()
    }

    fn costs(&self, architecture: &Architecture, names: &[String]) -> Result<Vec<f64>, KnownCostError> {
        let all = self.all(architecture)?;
        let there = if self.times.is_some() { COSTS.len() } else { CLOSED_FORMS };
        let of = |name: &String| {
            let at = COSTS[..there].iter().position(|known| known == name);
            let unknown = || KnownCostError::Unknown { name: name.clone(), known: self.names().join(", ") };
            at.map(|at| all[at]).ok_or_else(unknown)
        };
        names.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        cost::{Seconds, Timing},
        extrapolate::{Auto, Cycle},
        primitive::Symbol,
    };

    fn costs() -> TargetCosts<Auto> {
        TargetCosts::new(Auto, &Target::llama_1b(), &Primitives::standard(), Workload::bf16(4096)).unwrap()
    }

    #[test]
    fn costs_are_those_of_the_extrapolated_model() {
        let small: Architecture = "2A+4M".parse().unwrap();
        let target = Target::llama_1b();
        let large = Auto.extrapolate(&small, &target, &Primitives::standard()).unwrap();
        let cost = ModelCost::new(&large, &Primitives::standard(), Workload::bf16(4096)).unwrap();
        let names = costs().names();
        assert_eq!(names, ["parameters", "active_parameters", "work", "cache"]);
        let expected = [
            cost.total_parameters,
            cost.active_parameters,
            cost.forward_flops_per_token,
            cost.cache_bytes_per_sequence,
        ];
        let costs = costs();
        for _ in 0..2 {
            assert_eq!(costs.costs(&small, &names).unwrap(), expected.map(|count| count as f64));
        }
        let unknown = costs.costs(&small, &["decode".into()]).unwrap_err();
        assert!(unknown.to_string().contains("only [parameters"), "{unknown}");
        assert!(matches!(costs.costs(&"6X".parse().unwrap(), &names), Err(KnownCostError::Unbuildable { .. })));
    }

    #[test]
    fn times_are_sums_over_layers() {
        let second = |prefill, decode| Seconds { prefill, decode };
        let layers = BTreeMap::from([(Symbol::ATTENTION, second(2.0, 0.5)), (Symbol::SWIGLU, second(1.0, 0.25))]);
        let timing = Timing { batch: 1, seq_len: 8, repeats: 1 };
        let timed = costs().times(LayerTimes { timing, layers, ends: second(0.0, 1.0) });
        let small: Architecture = "2A+4M".parse().unwrap();
        let found = timed.costs(&small, &["decode".into(), "prefill".into()]).unwrap();
        assert_eq!(found, [1.0 + 9.0 * 0.5 + 18.0 * 0.25, 9.0 * 2.0 + 18.0]);
        assert!(timed.costs(&"6F".parse().unwrap(), &["decode".into()]).unwrap_err().to_string().contains("timed"));
        assert_ne!(timed.fingerprint(), costs().fingerprint());
        assert!([timed.fingerprint(), costs().fingerprint()].iter().all(|fingerprint| is_target_costs(fingerprint)));
        assert!(!is_target_costs("attention to the end"));
    }

    #[test]
    fn another_extrapolator_target_or_workload_is_another_cost() {
        let primitives = Primitives::standard();
        let of = |target: Target, tokens| {
            TargetCosts::new(Cycle, &target, &primitives, Workload::bf16(tokens)).unwrap().fingerprint()
        };
        let all =
            [of(Target::llama_1b(), 8), of(Target::llama_1b(), 9), of(Target::llama_3b(), 8), costs().fingerprint()];
        assert_eq!(std::collections::BTreeSet::from(all).len(), 4);
    }
}
