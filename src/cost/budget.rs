//! Cost budgets for the sequences of a search space.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{CostError, Workload, model_cost::check_workload};
use crate::{
    dims::Dims,
    primitive::{Primitives, Symbol},
    space::Constraint,
};

/// A cost that adds up over the layers of a sequence.
///
/// Embedding, head and final norm are left out, because they are the same for all sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CostMetric {
    /// Parameters of all layers, including the norm before each: see
    /// [`ModelCost::non_embedding_parameters`](super::ModelCost).
    NonEmbeddingParameters,
    /// Forward floating-point operations per token by the workload's convention, without the head.
    ForwardFlopsPerToken,
    /// Bytes cached for decoding one sequence: see [`ModelCost::cache_bytes_per_sequence`](super::ModelCost).
    CacheBytesPerSequence,
}

/// An upper bound on the total cost of a sequence's layers, at given widths and a given length.
///
/// It bounds the small sequences of the search. An extrapolator repeats them up to the target's size, so what carries
/// over to the target is the cost per parameter.
///
/// ```
/// use composer_nas::{cost::{Budget, CostMetric, Workload}, prelude::*};
/// let primitives = Primitives::standard();
/// let target = Target::llama_1b();
/// let space = SearchSpace::uniform(primitives.symbols(["A", "S", "M"])?, 6)?;
/// // The cache of two attention layers at 4096 tokens; windows of 64 tokens count as well.
/// let workload = Workload::bf16(4096);
/// let dims = target.dims;
/// let budget = Budget { metric: CostMetric::CacheBytesPerSequence, max: 2 * 4096 * 2 * 8 * 64 * 2, dims, workload };
/// let space = space.with(budget.constraint(&["A".parse()?, "S".parse()?, "M".parse()?], &primitives)?)?;
/// assert!(space.contains(&"2A+4M".parse()?) && space.contains(&"1A+5S".parse()?));
/// assert!(!space.contains(&"2A+1S+3M".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// The bounded cost.
    pub metric: CostMetric,
    /// Maximum sum, in the unit of the metric.
    pub max: u64,
    /// The widths at which layers are counted, for example those of the target.
    pub dims: Dims,
    /// The sequence length, the bytes per number in the cache, and the FLOP convention.
    pub workload: Workload,
}

impl Budget {
    /// Returns the constraint for a space whose layers are chosen from `symbols`, see
    /// [`SearchSpace::symbols`](crate::space::SearchSpace).
    ///
    /// # Errors
    /// Returns [`CostError`] if a primitive is unknown, a width or the length is invalid, or a cost exceeds 64 bits.
    pub fn constraint(&self, symbols: &[Symbol], primitives: &Primitives) -> Result<Constraint, CostError> {
        let Self { metric, max, dims, workload } = self;
        check_workload(*workload)?;
        dims.validate()?;
        let cost = |&symbol: &Symbol| {
            let cost = primitives.get(symbol)?.cost(dims, workload.seq_len);
            let cost = match metric {
                CostMetric::NonEmbeddingParameters => cost.parameters.checked_add(dims.width()),
                CostMetric::ForwardFlopsPerToken => {
                    u64::try_from(workload.flops.layer(&cost, dims.width(), workload.seq_len)).ok()
                }
                CostMetric::CacheBytesPerSequence => cost.cache_elements.checked_mul(workload.bytes_per_element),
            };
            Ok((symbol, cost.ok_or(CostError::TooLarge)?))
        };
        let costs = symbols.iter().map(cost).collect::<Result<_, CostError>>()?;
        let counted = match metric {
            CostMetric::ForwardFlopsPerToken => format!(" ({})", workload.flops),
            CostMetric::NonEmbeddingParameters | CostMetric::CacheBytesPerSequence => String::new(),
        };
        let what = format!("{metric}{counted} at {} tokens", workload.seq_len);
        Ok(Constraint::Budget { what, costs, max: *max })
    }
}

impl fmt::Display for CostMetric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CostMetric::NonEmbeddingParameters => "non-embedding parameters",
            CostMetric::ForwardFlopsPerToken => "forward FLOPs per token",
            CostMetric::CacheBytesPerSequence => "cache bytes per sequence",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cost::{FlopConvention, ModelCost},
        extrapolate::Target,
        space::{Architecture, SearchSpace},
    };

    #[test]
    fn sums_are_those_of_the_whole_model() {
        let primitives = Primitives::standard();
        let target = Target::llama_350m();
        let workload = Workload::bf16(1024);
        let symbols: Vec<_> = primitives.iter().map(|primitive| primitive.symbol()).collect();
        let free = SearchSpace::uniform(symbols.clone(), 3).unwrap();
        let titan = Workload { flops: FlopConvention::TorchTitan, ..workload };
        let cost = |architecture: &Architecture, metric, workload: Workload| {
            let head = match workload.flops {
                FlopConvention::Megatron => 2 * target.dims.width() * target.vocab_size as u64,
                FlopConvention::TorchTitan => 2 * target.dims.width() * (target.vocab_size as u64 + 1),
            };
            let cost = ModelCost::new(&target.model(architecture.clone()), &primitives, workload).unwrap();
            match metric {
                CostMetric::NonEmbeddingParameters => cost.non_embedding_parameters,
                CostMetric::ForwardFlopsPerToken => cost.forward_flops_per_token - head,
                CostMetric::CacheBytesPerSequence => cost.cache_bytes_per_sequence,
            }
        };
        for (metric, workload) in [
            (CostMetric::NonEmbeddingParameters, workload),
            (CostMetric::ForwardFlopsPerToken, workload),
            (CostMetric::ForwardFlopsPerToken, titan),
            (CostMetric::CacheBytesPerSequence, workload),
        ] {
            // The cost of this sequence, and slightly less.
            let max = cost(&"ASM".parse().unwrap(), metric, workload);
            for max in [max, max - 1] {
                let budget = Budget { metric, max, dims: target.dims.clone(), workload };
                let space = free.clone().with(budget.constraint(&free.symbols(), &primitives).unwrap()).unwrap();
                let within: Vec<_> =
                    free.iter().filter(|architecture| cost(architecture, metric, workload) <= max).collect();
                assert_eq!(space.iter().collect::<Vec<_>>(), within);
            }
        }
        let budget = Budget { metric: CostMetric::NonEmbeddingParameters, max: 1, dims: target.dims, workload };
        assert_eq!(serde_json::from_str::<Budget>(&serde_json::to_string(&budget).unwrap()).unwrap(), budget);
        let error = free.with(budget.constraint(&symbols, &primitives).unwrap()).unwrap_err().to_string();
        assert!(error.contains("non-embedding parameters at 1024 tokens") && error.contains("relax"), "{error}");
    }

    #[test]
    fn budgets_that_cannot_be_stated_are_refused() {
        let primitives = Primitives::standard();
        let metric = CostMetric::CacheBytesPerSequence;
        let dims = Target::llama_1b().dims;
        let budget = Budget { metric, max: 9, dims, workload: Workload::bf16(8) };
        let error =
            |budget: &Budget, symbol: &str| budget.constraint(&[symbol.parse().unwrap()], &primitives).unwrap_err();
        assert!(matches!(error(&budget, "X"), CostError::Registry(_)));
        let narrow = Dims { heads: 0, ..budget.dims.clone() };
        assert!(matches!(error(&Budget { dims: narrow, ..budget.clone() }, "A"), CostError::Dims(_)));
        let empty = Budget { workload: Workload::bf16(0), ..budget.clone() };
        assert!(matches!(error(&empty, "A"), CostError::Workload(_)));
        let wide = Workload { bytes_per_element: u64::MAX, ..budget.workload };
        assert_eq!(error(&Budget { workload: wide, ..budget }, "A"), CostError::TooLarge);
    }
}
