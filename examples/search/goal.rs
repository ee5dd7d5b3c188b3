//! The flags for the goal of a search.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use composer_nas::{
    cost::{LayerTimes, Workload},
    extrapolate::TargetCosts,
    prelude::*,
    study::{Measure, Objective},
};

use super::space::Count;

/// The sequence length for costs of the target, in tokens.
const COST_TOKENS: u64 = 4096;

/// The costs of the target by name.
pub const COSTS: [&str; 6] = ["parameters", "active_parameters", "work", "cache", "prefill", "decode"];

/// The flags for the goal.
#[derive(Debug, Args)]
pub struct GoalArgs {
    /// What to optimise: a score of the evaluator, such as accuracy, or a cost of the model at the target's size:
    /// parameters, active_parameters, work (forward FLOPs per token), cache (bytes per sequence of 4,096 tokens),
    /// prefill or decode (seconds, with --layer-times). Repeat it to search for the best trade-offs. Costs are
    /// minimised and scores maximised, unless you write, for example, loss:min.
    #[arg(long, value_name = "NAME")]
    objective: Vec<String>,
    /// JSON file with the times of layers, written by the example `latency`; needed for prefill and decode.
    #[arg(long, value_name = "FILE")]
    layer_times: Option<PathBuf>,
}

impl GoalArgs {
    /// Returns the goal: that of the evaluator or these objectives, within bounds.
    pub fn goal(&self, evaluators: &Goal, at_most: &[&Count], at_least: &[&Count]) -> anyhow::Result<Goal> {
        let mut goal = match self.objective.is_empty() {
            true => evaluators.clone(),
            false => {
                let objectives = self.objective.iter().map(|text| objective(text, evaluators));
                Goal::of(objectives.collect::<anyhow::Result<Vec<_>>>()?).context("--objective")?
            }
        };
        for (flag, counts) in [("--at-most", at_most), ("--at-least", at_least)] {
            for Count { name, number } in counts {
                let of = if COSTS.contains(&name.as_str()) { Measure::cost(name) } else { Measure::score(name) };
                goal = match flag {
                    "--at-most" => goal.at_most(of, *number),
                    _ => goal.at_least(of, *number),
                }
                .context(flag)?;
            }
        }
        Ok(goal)
    }

    /// Returns whether a bound with this name is on a cost or on a score of the goal, not on a kind of layer.
    pub fn measures(&self, name: &str, evaluators: &Goal) -> bool {
        COSTS.contains(&name) || name == evaluators.score || self.objectives().any(|objective| objective == name)
    }

    /// Returns the costs of the target, for a search with this extrapolator.
    pub fn costs<X: Extrapolator>(
        &self,
        extrapolator: X,
        target: &Target,
        primitives: &Primitives,
    ) -> anyhow::Result<TargetCosts<X>> {
        let costs = TargetCosts::new(extrapolator, target, primitives, Workload::bf16(COST_TOKENS))?;
        let Some(path) = &self.layer_times else { return Ok(costs) };
        let text = std::fs::read_to_string(path).with_context(|| format!("--layer-times {}", path.display()))?;
        let times: LayerTimes = serde_json::from_str(&text).with_context(|| {
            format!("{} is not a file with times of layers; the example latency writes one", path.display())
        })?;
        Ok(costs.times(times))
    }

    /// Returns the names of the objectives.
    pub fn objectives(&self) -> impl Iterator<Item = &str> {
        self.objective.iter().filter_map(|text| text.split(':').next())
    }

    /// Returns the part of a run's name for the goal.
    pub fn name(&self) -> String {
        self.objective.iter().map(|text| format!("-{}", text.replace(':', "-"))).collect()
    }

    /// Returns the part of a run's name for the table of times: the name of its file. Used if the goal names costs.
    pub fn times_name(&self) -> String {
        let stem = self.layer_times.as_ref().and_then(|path| path.file_stem());
        stem.map(|stem| format!("-{}", stem.to_string_lossy())).unwrap_or_default()
    }
}

/// `accuracy`, `loss:min`, `cache`.
fn objective(text: &str, evaluators: &Goal) -> anyhow::Result<Objective> {
    let (name, direction) = text.split_once(':').map_or((text, None), |(name, direction)| (name, Some(direction)));
    let cost = COSTS.contains(&name);
    let of = if cost { Measure::cost(name) } else { Measure::score(name) };
    Ok(match direction {
        Some("min") => Objective::minimize(of),
        Some("max") => Objective::maximize(of),
        Some(other) => bail!("--objective {text}: write {name}:min or {name}:max, not {other:?}"),
        None if cost => Objective::minimize(of),
        None if name == evaluators.score => Objective { of, direction: evaluators.direction },
        None => Objective::maximize(of),
    })
}
