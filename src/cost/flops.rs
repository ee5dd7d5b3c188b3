//! Conventions for counting floating-point operations.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{model::ModelSpec, primitive::LayerCost};

/// A convention for counting floating-point operations. Both count training as three times the forward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FlopConvention {
    /// The convention of Megatron-LM: the multiplications and additions of each layer.
    ///
    /// Attention scores and mixing count for the causal half and within a window. Logits count `2 d V`, whether or not
    /// the embeddings are tied. Norms, activations and the embedding lookup do not count. Source:
    /// `num_floating_point_operations` in `megatron/training/training.py`, and the formula of Narayanan et al. 2021
    /// (arXiv 2104.04473, appendix) with causal attention halved.
    #[default]
    Megatron,
    /// The convention of TorchTitan: `6 N + 12 L H C s` per token in training.
    ///
    /// `N` is the number of parameters that are active for a token, including norms, without an untied embedding. `L`
    /// is the number of attention layers with `H` heads of width `C`. Attention is not halved, and windows are ignored.
    /// Recurrences count only by their weights. Source: `get_dense_model_nparams_and_flops` and
    /// `get_moe_model_nparams_and_flops` in `torchtitan/models/utils.py`, August 2026.
    TorchTitan,
}

impl FlopConvention {
    /// Returns the forward FLOPs per token of a layer and the norm before it.
    pub(super) fn layer(self, cost: &LayerCost, width: u64, seq_len: u64) -> u128 {
        match self {
            Self::Megatron => cost.forward_flops_per_token.into(),
            Self::TorchTitan => {
                let active = u128::from(cost.parameters.saturating_sub(cost.inactive_parameters)) + u128::from(width);
                2 * active + 4 * u128::from(cost.attention_width) * u128::from(seq_len)
            }
        }
    }

    /// Returns the forward FLOPs per token of the final norm and the head, which has `head` parameters of its own.
    pub(super) fn ends(self, spec: &ModelSpec, head: u128) -> u128 {
        let width = u128::from(spec.dims.width());
        let logits = width * spec.vocab_size as u128;
        match self {
            Self::Megatron => 2 * logits,
            Self::TorchTitan if spec.tied_embeddings => 2 * (logits + width),
            Self::TorchTitan => 2 * (head + width),
        }
    }
}

impl fmt::Display for FlopConvention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Megatron => "Megatron",
            Self::TorchTitan => "TorchTitan",
        })
    }
}
