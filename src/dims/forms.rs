//! Layer options, as plain values shared by primitives and layers.

use std::num::NonZeroUsize;

use super::Positions;

/// Normalization of queries and keys before the rotary embedding, by an RMS norm with weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueryKeyNorm {
    /// No normalization.
    #[default]
    None,
    /// Each head is normalized separately, with weights shared by all heads, as in Qwen3 and LFM2.
    PerHead,
    /// All heads are normalized together, as in OLMo 2.
    Whole,
}

/// Biases of the attention projections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProjectionBias {
    /// Whether the query, key, value and gate projections have a bias.
    pub input: bool,
    /// Whether the output projection has a bias.
    pub output: bool,
}

/// Bounds on the time steps of [`Mamba2`](crate::primitive::Mamba2), `time_step_limit` in transformers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepLimits {
    /// The smallest step, at least 0.
    pub least: f64,
    /// The largest step, greater than `least`; may be infinite.
    pub most: f64,
}

/// The norm before the output projection of [`Mamba2`](crate::primitive::Mamba2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mamba2Norm {
    /// Each group is normalized after the gate: `norm(y * silu(z))`. Used by all classes of transformers 5.
    #[default]
    Groups,
    /// All groups are normalized together after the gate. Used by the classes of transformers 4 for Mamba-2 and Bamba.
    Whole,
    /// Each group is normalized before the gate: `norm(y) * silu(z)`, `norm_before_gate` in the paper's code.
    BeforeGate,
}

/// How the gates `g_i` of the selected experts are computed from the scores `u W`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Routing {
    /// The softmax over all experts, as in DeepSeekMoE, and in Qwen2-MoE without `norm_topk_prob`.
    #[default]
    Softmax,
    /// The softmax over the selected experts, as in Mixtral, Granite, and Qwen3-Next with `norm_topk_prob`.
    Chosen,
    /// The sigmoids of the selected experts divided by their sum, times this number of hundredths, as in DeepSeek-V3
    /// and Nemotron-H with `norm_topk_prob`, one group, and no correction bias for the selection.
    Sigmoid(u32),
}

/// Sizes of latent attention at one width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LatentSizes {
    pub heads: usize,
    pub nope: usize,
    pub rope: usize,
    pub value: usize,
    pub rank: usize,
    pub query_rank: Option<usize>,
}

/// Options of an attention layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionForm {
    pub positions: Positions,
    pub norm: QueryKeyNorm,
    pub gate: bool,
    pub window: Option<NonZeroUsize>,
    pub sinks: bool,
    pub bias: ProjectionBias,
}

/// Options of a Mamba-2 layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MambaForm {
    /// Kernel size of the convolution.
    pub kernel_size: usize,
    pub conv_bias: bool,
    pub projection_bias: bool,
    pub steps: Option<StepLimits>,
    pub norm: Mamba2Norm,
}
