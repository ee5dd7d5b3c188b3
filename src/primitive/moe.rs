//! A sparse mixture of experts, as in DeepSeekMoE (Dai et al. 2024, arXiv 2401.06066, equations 9 to 14).
//!
//! Notation: `u` a token, `N` routed experts, `K` of them chosen per token, `FFN_i` a SwiGLU, `T` tokens in a batch.
//! Affinities are `s_i = softmax_i(u W)`. The gate `g_i` equals `s_i` for the `K` largest and 0 for the others; gates
//! are not normalized again, so that the router learns from the task for every `K`. The output is
//! `sum_shared FFN(u) + sum_i g_i FFN_i(u)`.
//!
//! Without care a router sends everything to the experts that happen to be best first. Training therefore adds the
//! balance loss `alpha sum_i f_i P_i`, where `f_i = N / (K T)` times the number of tokens that chose expert `i`, a
//! constant for gradients, and `P_i` is the mean of `s_i` over the batch. It is least where all are chosen equally
//! often, and reaches the trainer as [`Mixer::aux_loss`](crate::layer::Mixer::aux_loss). The bias of DeepSeek-V3 that
//! needs no loss (Wang et al. 2024, arXiv 2408.15664) is a state that changes from step to step beside the gradient; a
//! layer here is a function of its weights and its input alone.

use std::num::Saturating;

use super::{BuildError, LayerCost, Primitive, PrimitiveId, Role, Symbol, swiglu::kept_per_token};
#[cfg(feature = "model")]
use crate::{
    device::Device,
    layer::{Block, MoeLayer, SwiGluLayer, WeightInit},
};
use crate::{
    dims::{Count, Dims},
    limits::MAX_WIDTH,
};

/// More than any model has: bounds that keep closed forms within 64 bits.
const MAX_EXPERTS: usize = 1 << 12;

/// A mixture of SwiGLU experts: every token goes through all shared experts and through `top_k` of the routed ones.
/// Symbol `E`.
///
/// By default there are 8 routed experts, of which a token takes 3, and 1 shared expert, each a quarter as wide as
/// `d_ff`: a token then costs what it costs in a dense [`SwiGlu`](super::SwiGlu), plus the router, and the layer has
/// 9/4 of its parameters.
///
/// Routing is a function of the token: ties go to the expert of the lower index, and no expert has a capacity. The
/// choice is made on the host, which waits for `B S N` affinities from the device once per forward pass, and twice in
/// training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moe {
    /// Routed experts, at least 2.
    pub experts: usize,
    /// Routed experts that a token goes through, from 1 to `experts`.
    pub top_k: usize,
    /// Experts that every token goes through. They are stored as one SwiGLU of their total width, which computes the
    /// same.
    pub shared: usize,
    /// Inner width of one expert; `None`: `d_ff / (top_k + shared)`, rounded down.
    pub expert_width: Option<usize>,
}

impl Default for Moe {
    fn default() -> Self {
        Self { experts: 8, top_k: 3, shared: 1, expert_width: None }
    }
}

impl Moe {
    /// Inner width of one expert at these widths.
    fn width(&self, dims: &Dims) -> usize {
        self.expert_width.unwrap_or(dims.d_ff / self.top_k.saturating_add(self.shared).max(1))
    }

    /// Routed experts, those that a token goes through, shared ones, and the width of one, for closed forms.
    fn counts(&self, dims: &Dims) -> [Count; 4] {
        [self.experts, self.top_k, self.shared, self.width(dims)].map(|size| Saturating(size as u64))
    }

    fn validate(&self, dims: &Dims) -> Result<(), BuildError> {
        let refuse = |option, value, remedy: String| Err(BuildError::Option { id: self.id(), option, value, remedy });
        if self.experts < 2 {
            return refuse("experts", self.experts, "route between at least 2 experts, or use swiglu".into());
        }
        for (option, value) in [("experts", self.experts), ("shared", self.shared)] {
            if value > MAX_EXPERTS {
                return refuse(option, value, format!("use at most {MAX_EXPERTS}"));
            }
        }
        if !(1..=self.experts).contains(&self.top_k) {
            return refuse("top_k", self.top_k, format!("choose 1 to {} of the experts", self.experts));
        }
        match self.width(dims) {
            0 => {
                let seen = self.top_k + self.shared;
                let d_ff = dims.d_ff;
                let remedy = format!("{seen} experts share d_ff {d_ff}: widen it, or set expert_width to at least 1");
                refuse("expert_width", 0, remedy)
            }
            wide if wide > MAX_WIDTH => refuse("expert_width", wide, format!("use at most {MAX_WIDTH}")),
            _ => Ok(()),
        }
    }
}

impl Primitive for Moe {
    fn id(&self) -> PrimitiveId {
        let default = Self::default();
        let width = self.expert_width.unwrap_or(0);
        let routed = [("e", self.experts, default.experts), ("k", self.top_k, default.top_k)];
        let others = [("s", self.shared, default.shared), ("w", width, 0)];
        PrimitiveId::with_options("moe", &[routed, others].concat())
    }

    fn symbol(&self) -> Symbol {
        Symbol::MOE
    }

    fn role(&self) -> Role {
        Role::Channel
    }

    /// All experts count as parameters, those that a token goes through as work.
    fn cost(&self, dims: &Dims, _seq_len: u64) -> LayerCost {
        let [width, ..] = dims.counts();
        let [experts, chosen, shared, inner] = self.counts(dims);
        let weights = |routed: Count| width * (Saturating(3) * inner * (routed + shared) + experts);
        let all = weights(experts).0;
        let met = weights(chosen);
        LayerCost { parameters: all, inactive_parameters: all.saturating_sub(met.0), ..LayerCost::dense(met) }
    }

    /// The input and the affinities of routing and balance loss; of every chosen expert what a SwiGLU keeps, its output
    /// and its gate; the branches of the shared experts.
    fn activations(&self, dims: &Dims, seq_len: u64) -> u64 {
        let [width, ..] = dims.counts();
        let [experts, chosen, shared, inner] = self.counts(dims);
        let expert = Saturating(kept_per_token(width.0, inner.0)) + width + Saturating(1);
        let per_token = chosen * expert + Saturating(2) * (shared * inner + experts) + width;
        (per_token * Saturating(seq_len)).0
    }

    #[cfg(feature = "model")]
    fn build(&self, dims: &Dims, init: &mut WeightInit, device: &Device) -> Result<Block, BuildError> {
        dims.validate()?;
        self.validate(dims)?;
        let d_model = dims.d_model;
        let width = self.width(dims);
        let router = init.linear(d_model, self.experts, device);
        let experts = (0..self.experts).map(|_| SwiGluLayer::new(d_model, width, init, device)).collect();
        let shared = match self.shared {
            0 => None,
            count => Some(SwiGluLayer::new(d_model, count * width, init, device)),
        };
        Ok(Block::new(MoeLayer { router, experts, shared, top_k: self.top_k }))
    }
}
