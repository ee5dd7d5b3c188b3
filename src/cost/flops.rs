//! How floating-point operations are counted.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{model::ModelSpec, primitive::LayerCost};

/// What counts as work. Both take training for three times the forward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlopConvention {
    /// Megatron-LM (`num_floating_point_operations` in `megatron/training/training.py`; the formula of Narayanan et al.
    /// 2021, arXiv 2104.04473, appendix, with causal attention halved): what each layer multiplies and adds, scores and
    /// mixing for the causal half and within a window, `2 d V` of logits whether or not the head is tied. Norms,
    /// activations and the embedding look-up count nothing.
    #[default]
    Megatron,
    /// TorchTitan (`get_dense_model_nparams_and_flops` and `get_moe_model_nparams_and_flops` in
    /// `torchtitan/models/utils.py`, August 2026): `6 N + 12 L H C s` per token and training, where `N` are the
    /// parameters that a token meets, norms among them, without an embedding that is not tied, and `L` the attention
    /// layers of `H` heads of width `C`. Attention is not halved and a window not regarded; what recurrences do beyond
    /// their weights counts nothing.
    TorchTitan,
}

impl FlopConvention {
    /// Forward work per token of a layer, with the norm in front of it.
    pub(super) fn layer(self, cost: &LayerCost, width: u64, seq_len: u64) -> u128 {
        match self {
            Self::Megatron => cost.forward_flops_per_token.into(),
            Self::TorchTitan => {
                let active = u128::from(cost.parameters.saturating_sub(cost.inactive_parameters)) + u128::from(width);
                2 * active + 4 * u128::from(cost.attention_width) * u128::from(seq_len)
            }
        }
    }

    /// Forward work per token of the last norm and the head, whose own parameters are `head`.
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
