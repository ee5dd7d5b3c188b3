//! Options of layers, as plain values that recipes and layers share.

use std::num::NonZeroUsize;

use super::Positions;

/// How queries and keys are normalized before they turn; the norm is an RMS norm with weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueryKeyNorm {
    /// Not at all.
    #[default]
    None,
    /// Head by head, with the same weights for all heads, as in Qwen3 and LFM2.
    PerHead,
    /// Over all heads at once, as in OLMo 2.
    Whole,
}

/// Which projections of attention carry a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProjectionBias {
    /// Those of query, key, value and gate.
    pub input: bool,
    /// That of the output.
    pub output: bool,
}

/// Bounds of the time steps of [`Mamba2`](crate::primitive::Mamba2): `time_step_limit` of transformers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepLimits {
    /// The least step, at least 0.
    pub least: f64,
    /// The largest step, above the least; it may be infinite.
    pub most: f64,
}

/// What the norm of [`Mamba2`](crate::primitive::Mamba2) sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mamba2Norm {
    /// Group by group, behind the gate: `norm(y * silu(z))`. All classes of transformers 5.
    #[default]
    Groups,
    /// All groups at once, behind the gate: the classes of transformers 4 for Mamba-2 and Bamba.
    Whole,
    /// Group by group, in front of the gate: `norm(y) * silu(z)`, `norm_before_gate` of the paper's code.
    BeforeGate,
}

/// How the gates `g_i` of the chosen experts come about from the scores `u W`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Routing {
    /// The softmax over all experts, as in DeepSeekMoE, and Qwen2-MoE without `norm_topk_prob`.
    #[default]
    Softmax,
    /// The softmax over the chosen ones, as in Mixtral, Granite, and Qwen3-Next with `norm_topk_prob`.
    Chosen,
    /// The sigmoids of the chosen ones divided by their sum, times this many hundredths: DeepSeek-V3 and Nemotron-H
    /// with `norm_topk_prob`, one group, and no correction of the choice.
    Sigmoid(u32),
}

/// The sizes of a latent attention at one width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LatentSizes {
    pub heads: usize,
    pub still: usize,
    pub turning: usize,
    pub value: usize,
    pub rank: usize,
    pub query_rank: Option<usize>,
}

/// What an attention layer does beside attending.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionForm {
    pub positions: Positions,
    pub norm: QueryKeyNorm,
    pub gate: bool,
    pub window: Option<NonZeroUsize>,
    pub sinks: bool,
    pub bias: ProjectionBias,
}

/// What a Mamba-2 layer does beside its recurrence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MambaForm {
    /// Taps of the convolution.
    pub taps: usize,
    pub conv_bias: bool,
    pub projection_bias: bool,
    pub steps: Option<StepLimits>,
    pub norm: Mamba2Norm,
}
