//! The flags for the search space.

#![allow(dead_code, reason = "each example takes what it needs")]

use std::{fmt, str::FromStr};

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use composer_nas::{
    cost::{Budget, CostMetric, Workload},
    prelude::*,
};

/// The sequence length for budgets, in tokens.
const BUDGET_TOKENS: u64 = 4096;

/// The flags for the space.
#[derive(Debug, Args)]
pub struct SpaceArgs {
    /// Number of layers in the architectures that are searched.
    #[arg(long, default_value_t = 6)]
    pub layers: usize,
    /// Kinds of layers to choose from, by name or letter: attention (A), sliding_window (S), mamba2 (B),
    /// gated_delta_net (G), gated_conv (C), swiglu (M), mlp (F), relu2 (R), moe (E).
    #[arg(long, value_delimiter = ',', default_value = "attention,swiglu")]
    pub primitives: Vec<String>,
    /// Allow at most this many layers of a kind: --at-most attention=2. In the example `search`, also limit a cost at
    /// the target's size or a score: --at-most cache=2e8. Can be repeated.
    #[arg(long, value_name = "NAME=NUMBER")]
    pub at_most: Vec<Count>,
    /// Require at least this many layers of a kind, or at least this much of a cost or score. Can be repeated.
    #[arg(long, value_name = "NAME=NUMBER", allow_negative_numbers = true)]
    pub at_least: Vec<Count>,
    /// Require exactly this many layers of a kind. If the space has two kinds, only their positions are then searched:
    /// --layers 12 --exactly attention=3. Can be repeated.
    #[arg(long, value_name = "PRIMITIVE=NUMBER")]
    exactly: Vec<Count>,
    /// Allow at most this many layers of a kind in a row: --max-run attention=1. Can be repeated.
    #[arg(long, value_name = "PRIMITIVE=NUMBER")]
    max_run: Vec<Count>,
    /// Kind of the first layer.
    #[arg(long, value_name = "PRIMITIVE")]
    first: Option<String>,
    /// Kind of the last layer.
    #[arg(long, value_name = "PRIMITIVE")]
    last: Option<String>,
    /// Limit the cost of all layers together, at the target's widths and 4,096 tokens: parameters=NUMBER,
    /// flops=NUMBER (forward pass, per token) or cache=BYTES (per sequence). Can be repeated.
    #[arg(long, value_name = "COST=NUMBER")]
    budget: Vec<Limit>,
}

/// A bound on the number of layers of a primitive, or on a cost or score.
#[derive(Clone, Debug)]
pub struct Count {
    pub name: String,
    pub number: f64,
}

impl FromStr for Count {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once('=').and_then(|(name, number)| Some((name, number.parse().ok()?)));
        let (name, number) = parsed.ok_or("write PRIMITIVE=NUMBER, such as attention=3")?;
        Ok(Self { name: name.into(), number })
    }
}

impl Count {
    /// Returns the number as a number of layers.
    fn layers(&self, flag: &str) -> anyhow::Result<usize> {
        let whole = self.number >= 0.0 && self.number.fract() == 0.0 && self.number <= Architecture::MAX_LAYERS as f64;
        ensure!(whole, "{flag} {}={}: the number of layers must be a whole number", self.name, self.number);
        Ok(self.number as usize)
    }
}

/// As a part of a run's name.
impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.name, self.number)
    }
}

/// A cost that a flag bounds.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Cost {
    Parameters,
    Flops,
    Cache,
}

/// A bound on a cost.
#[derive(Clone, Debug)]
struct Limit {
    cost: Cost,
    max: u64,
}

impl FromStr for Limit {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text
            .split_once('=')
            .and_then(|(cost, max)| Some(Self { cost: Cost::from_str(cost, false).ok()?, max: max.parse().ok()? }));
        parsed.ok_or("write parameters=NUMBER, flops=NUMBER or cache=BYTES")
    }
}

impl Limit {
    fn metric(&self) -> CostMetric {
        match self.cost {
            Cost::Parameters => CostMetric::NonEmbeddingParameters,
            Cost::Flops => CostMetric::ForwardFlopsPerToken,
            Cost::Cache => CostMetric::CacheBytesPerSequence,
        }
    }
}

impl SpaceArgs {
    /// Returns the space. Budgets are counted at the widths of the target.
    pub fn space(&self, primitives: &Primitives, target: &Target) -> anyhow::Result<SearchSpace> {
        self.space_without(primitives, target, |_| false)
    }

    /// The same, but without the bounds whose names are not layers.
    pub fn space_without(
        &self,
        primitives: &Primitives,
        target: &Target,
        other: impl Fn(&str) -> bool,
    ) -> anyhow::Result<SearchSpace> {
        let symbols = primitives.symbols(self.primitives.iter().map(String::as_str))?;
        let mut space = SearchSpace::uniform(symbols, self.layers)?;
        let searched = |flag: &str, primitive: &String| {
            let symbol = primitives.symbols([primitive.as_str()]).with_context(|| {
                format!("{flag} {primitive}: neither a kind of layer nor a cost or score that this flag can bound")
            })?[0];
            let searched = space.symbols().contains(&symbol);
            ensure!(
                searched,
                "{flag} {primitive}: {primitive} is not among --primitives {}",
                self.primitives.join(",")
            );
            Ok(symbol)
        };
        let counts = [("--at-most", &self.at_most), ("--at-least", &self.at_least), ("--exactly", &self.exactly)];
        let mut ranges = Vec::new();
        for (flag, counts) in counts {
            let counts = counts.iter().filter(|count| flag == "--exactly" || !other(&count.name));
            for count in counts {
                let primitive = &count.name;
                let symbol = searched(flag, primitive)?;
                let number = count.layers(flag)?;
                let least = if flag == "--at-most" { 0 } else { number };
                let most = if flag == "--at-least" { self.layers } else { number };
                ensure!(least <= self.layers, "{flag} {primitive}={number}: there are {} layers", self.layers);
                ranges.push((symbol, least..=most));
            }
        }
        let runs =
            self.max_run.iter().map(|count| Ok((searched("--max-run", &count.name)?, count.layers("--max-run")?)));
        let runs = runs.collect::<anyhow::Result<Vec<_>>>()?;
        let ends = [("--first", &self.first, 0), ("--last", &self.last, self.layers.saturating_sub(1))];
        let ends = ends.into_iter().filter_map(|(flag, primitive, layer)| Some((flag, primitive.as_ref()?, layer)));
        let pins = ends.map(|(flag, primitive, layer)| Ok((layer, searched(flag, primitive)?)));
        let pins = pins.collect::<anyhow::Result<Vec<_>>>()?;

        for (layer, symbol) in pins {
            space = space.pin(layer, symbol)?;
        }
        for (symbol, range) in ranges {
            space = space.count(symbol, range)?;
        }
        for (symbol, most) in runs {
            space = space.max_run(symbol, most)?;
        }
        for limit in &self.budget {
            let budget = Budget {
                metric: limit.metric(),
                max: limit.max,
                dims: target.dims.clone(),
                workload: Workload::bf16(BUDGET_TOKENS),
            };
            let constraint = budget.constraint(&space.symbols(), primitives).context("--budget")?;
            space = space.with(constraint)?;
        }
        Ok(space)
    }

    /// Returns whether layers other than attention and SwiGLU are searched.
    pub fn mixed(&self) -> bool {
        self.primitives.iter().any(|primitive| !["attention", "A", "swiglu", "M"].contains(&primitive.as_str()))
    }

    /// Returns the part of a run's name for the space.
    pub fn name(&self) -> String {
        let mut parts = vec![format!("{}x{}", self.layers, self.primitives.join("-"))];
        parts.extend(self.exactly.iter().map(Count::to_string));
        for (word, counts) in [("most", &self.at_most), ("least", &self.at_least), ("run", &self.max_run)] {
            parts.extend(counts.iter().map(|count| format!("{word}-{count}")));
        }
        parts.extend(self.first.iter().map(|primitive| format!("first-{primitive}")));
        parts.extend(self.last.iter().map(|primitive| format!("last-{primitive}")));
        parts.extend(self.budget.iter().map(|limit| format!("{:?}{}", limit.cost, limit.max).to_lowercase()));
        parts.join("-")
    }
}
