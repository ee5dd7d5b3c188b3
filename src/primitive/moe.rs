//! A sparse mixture of experts, as in DeepSeekMoE (Dai et al. 2024, arXiv 2401.06066, equations 9 to 14).
//!
//! Notation: `u` a token, `N` routed experts, of which `K` are selected per token, `FFN_i` a SwiGLU, `T` tokens in a
//! batch. The affinities are `s_i = softmax_i(u W)`. The gate `g_i` equals `s_i` for the `K` largest and 0 for the
//! others. Gates are not normalized again, so that the router receives gradients of the task for every `K`. The output
//! is `sum_shared FFN(u) + sum_i g_i FFN_i(u)`.
//!
//! Without balancing, a router sends all tokens to the experts that happen to be best at first. So training adds the
//! balance loss `alpha sum_i f_i P_i`. Here `f_i` is `N / (K T)` times the number of tokens that select expert `i`, a
//! constant for gradients, and `P_i` is the mean of `s_i` over the batch. The loss is minimal if all experts are
//! selected equally often. It reaches the trainer as [`Mixer::aux_loss`](crate::layer::Mixer::aux_loss). The loss-free
//! bias of DeepSeek-V3 (Wang et al. 2024, arXiv 2408.15664) is a state that changes at every step independently of the
//! gradient; it is not used, because a layer of this crate is a function of its weights and its input alone.

use std::num::Saturating;

use super::{
    BuildError, CacheKind, HfMapping, LayerCost, Primitive, PrimitiveId, Role, Symbol, TensorLayout,
    swiglu::kept_per_token,
};
#[cfg(feature = "model")]
use crate::{
    device::Device,
    layer::{self, Activation, Block, MlpLayer, MoeLayer, SwiGluLayer, WeightInit},
};
use crate::{
    dims::{Count, Dims, Routing},
    limits::MAX_WIDTH,
};

/// The PyTorch layer for the model class of [`Format::Flat`](crate::export::Format::Flat).
const PYTHON: &str = include_str!("python/moe.py");

/// Maximum number of experts, so that closed forms fit into 64 bits.
const MAX_EXPERTS: usize = 1 << 12;

/// A mixture of experts: every token passes through all shared experts and `top_k` of the routed experts. Symbol `E`.
///
/// By default, there are 8 routed experts, of which 3 are selected per token, and 1 shared expert. Each is a quarter as
/// wide as `d_ff`. A token then costs as much as in a dense [`SwiGlu`](super::SwiGlu), plus the router, and the layer
/// has 9/4 of its parameters.
///
/// Routing is a function of the token. Ties go to the expert with the lower index, and experts have no capacity limit.
/// On a processor the experts are applied to the tokens that selected them. On an accelerator every expert is applied
/// to every token and the outputs of the others are multiplied by zero, unless that takes more than about 9 billion
/// floating-point operations per layer: reading the selection would stop the device in every forward pass. Both agree
/// up to rounding, with one exception: an expert that no token of a batch selects has no gradient on a processor, so
/// that AdamW leaves it alone; on an accelerator its gradient is zero, and its moments and weights decay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moe {
    /// Number of routed experts, at least 2.
    pub experts: usize,
    /// Number of routed experts selected per token, from 1 to `experts`.
    pub top_k: usize,
    /// Number of experts that every token passes through. They are stored as one SwiGLU of their total width, which is
    /// equivalent.
    pub shared: usize,
    /// Inner width of one expert. `None` means `d_ff / (top_k + shared)`, rounded down.
    pub expert_width: Option<usize>,
    /// How the gates of the selected experts are computed.
    pub routing: Routing,
    /// The kind of expert.
    pub expert: Expert,
    /// Total inner width of the shared experts. `None` means `shared` times the width of one expert.
    pub shared_width: Option<usize>,
    /// Whether the output of the shared experts is multiplied by a sigmoid gate per token, as in Qwen2-MoE.
    pub shared_gate: bool,
}

/// The kind of expert in a mixture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expert {
    /// SwiGLU: `down(silu(gate x) * up x)`.
    #[default]
    SwiGlu,
    /// Squared ReLU: `down(max(up x, 0)^2)`, as in Nemotron-H.
    Relu2,
}

impl Default for Moe {
    fn default() -> Self {
        Self {
            experts: 8,
            top_k: 3,
            shared: 1,
            expert_width: None,
            routing: Routing::Softmax,
            expert: Expert::SwiGlu,
            shared_width: None,
            shared_gate: false,
        }
    }
}

impl Moe {
    /// Returns the inner width of one expert.
    fn width(&self, dims: &Dims) -> usize {
        self.expert_width.unwrap_or(dims.d_ff / self.top_k.saturating_add(self.shared).max(1))
    }

    /// Returns the number of routed experts, the number selected per token, the width of one expert, and the total
    /// width of the shared experts, for closed forms.
    fn counts(&self, dims: &Dims) -> [Count; 4] {
        let width = self.width(dims);
        [self.experts, self.top_k, width, self.shared_total(width)].map(|size| Saturating(size as u64))
    }

    /// Returns the total inner width of the shared experts.
    fn shared_total(&self, width: usize) -> usize {
        match self.shared {
            0 => 0,
            count => self.shared_width.unwrap_or(count.saturating_mul(width)),
        }
    }

    /// Returns the number of matrices per expert.
    fn matrices(&self) -> u64 {
        match self.expert {
            Expert::SwiGlu => 3,
            Expert::Relu2 => 2,
        }
    }

    /// Checks that the layer can be built at these widths.
    pub(crate) fn validate(&self, dims: &Dims) -> Result<(), BuildError> {
        let refuse = |option, value, remedy: String| Err(BuildError::Option { id: self.id(), option, value, remedy });
        if self.experts < 2 {
            return refuse("experts", self.experts, "use at least 2 experts, or use swiglu".into());
        }
        for (option, value) in [("experts", self.experts), ("shared", self.shared)] {
            if value > MAX_EXPERTS {
                return refuse(option, value, format!("use at most {MAX_EXPERTS}"));
            }
        }
        if !(1..=self.experts).contains(&self.top_k) {
            return refuse("top_k", self.top_k, format!("choose 1 to {} of the experts", self.experts));
        }
        if self.shared > 0 && !(1..=MAX_WIDTH).contains(&self.shared_width.unwrap_or(1)) {
            let width = self.shared_width.unwrap_or(0);
            return refuse("shared_width", width, format!("use a number from 1 to {MAX_WIDTH}"));
        }
        if self.shared == 0 && (self.shared_gate || self.shared_width.is_some()) {
            return refuse("shared", 0, "use at least 1, or remove shared_width and shared_gate".into());
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

#[cfg(feature = "model")]
impl Moe {
    /// Draws the router, the experts, the shared experts and their gate. The widths are those of one expert and of all
    /// shared experts.
    fn layer<E: layer::ExpertLayer>(
        &self,
        d_model: usize,
        [width, shared]: [usize; 2],
        init: &mut WeightInit,
        device: &Device,
        expert: impl Fn(&mut WeightInit, usize) -> E,
    ) -> MoeLayer<E> {
        let router = init.linear(d_model, self.experts, device);
        let experts = (0..self.experts).map(|_| expert(init, width)).collect();
        let shared = (self.shared > 0).then(|| expert(init, shared));
        let shared_gate = self.shared_gate.then(|| init.linear(d_model, 1, device));
        MoeLayer::new(router, experts, (shared, shared_gate), self.top_k, self.routing)
    }
}

impl Primitive for Moe {
    fn id(&self) -> PrimitiveId {
        let default = Self::default();
        let width = self.expert_width.unwrap_or(0);
        let routed = [("e", self.experts, default.experts), ("k", self.top_k, default.top_k)];
        let others = [("s", self.shared, default.shared), ("w", width, 0)];
        let shared_width = [("v", self.shared_width.unwrap_or(0), 0)];
        let mut tags = match self.routing {
            Routing::Softmax => String::new(),
            Routing::Chosen => "_chosen".into(),
            Routing::Sigmoid(hundredths) => format!("_sigmoid{hundredths}"),
        };
        tags += if self.expert == Expert::Relu2 { "_relu2" } else { "" };
        tags += if self.shared_gate { "_gate" } else { "" };
        PrimitiveId::with_options("moe", &[&routed[..], &others, &shared_width].concat()).and(&tags)
    }

    fn symbol(&self) -> Symbol {
        Symbol::MOE
    }

    fn role(&self) -> Role {
        Role::Channel
    }

    /// Parameters include all experts, FLOPs only those that a token passes through.
    fn cost(&self, dims: &Dims, _seq_len: u64) -> LayerCost {
        let [width, ..] = dims.counts();
        let [experts, chosen, inner, shared] = self.counts(dims);
        let matrices = Saturating(self.matrices());
        let gate = Saturating(u64::from(self.shared_gate));
        let weights = |routed: Count| width * (matrices * (inner * routed + shared) + experts + gate);
        let all = weights(experts).0;
        let met = weights(chosen);
        LayerCost { parameters: all, inactive_parameters: all.saturating_sub(met.0), ..LayerCost::dense(met) }
    }

    /// The input, and the affinities of routing and balance loss. For every selected expert: what a SwiGLU keeps, its
    /// output and its gate. The branches of the shared experts.
    fn activations(&self, dims: &Dims, seq_len: u64) -> u64 {
        let [width, ..] = dims.counts();
        let [experts, chosen, inner, shared] = self.counts(dims);
        let expert = Saturating(kept_per_token(width.0, inner.0)) + width + Saturating(1);
        let per_token = chosen * expert + Saturating(2) * (shared + experts) + width;
        (per_token * Saturating(seq_len)).0
    }

    #[cfg(feature = "model")]
    fn build(&self, dims: &Dims, init: &mut WeightInit, device: &Device) -> Result<Block, BuildError> {
        dims.validate()?;
        self.validate(dims)?;
        let d_model = dims.d_model;
        let width = self.width(dims);
        let widths = [width, self.shared_total(width)];
        Ok(match self.expert {
            Expert::SwiGlu => {
                let expert = |init: &mut WeightInit, inner| SwiGluLayer::new(d_model, inner, init, device);
                Block::new(self.layer(d_model, widths, init, device, expert))
            }
            Expert::Relu2 => {
                let expert = |init: &mut WeightInit, inner| {
                    MlpLayer::new(Activation::Relu2, &Dims { d_ff: inner, ..dims.clone() }, init, device)
                };
                Block::new(self.layer(d_model, widths, init, device, expert))
            }
        })
    }

    /// Names as in the mixtures of Nemotron-H and, for gated experts, of Qwen2-MoE.
    fn hf_mapping(&self, dims: &Dims) -> Option<HfMapping> {
        self.validate(dims).ok()?;
        let id = self.id();
        let width = self.width(dims);
        let routing = match self.routing {
            Routing::Softmax => "softmax".into(),
            Routing::Chosen => "chosen".into(),
            Routing::Sigmoid(hundredths) => format!("sigmoid {hundredths}"),
        };
        let (expert, matrices): (_, &[&str]) = match self.expert {
            Expert::SwiGlu => ("swiglu", &["gate", "up", "down"]),
            Expert::Relu2 => ("relu2", &["up", "down"]),
        };
        let mut mapping = HfMapping::new(id.as_str(), CacheKind::Nothing).family("moe");
        for (name, value) in [
            ("routing", routing),
            ("expert", expert.to_owned()),
            ("experts", self.experts.to_string()),
            ("top_k", self.top_k.to_string()),
            ("width", width.to_string()),
            ("shared_width", self.shared_total(width).to_string()),
            ("shared_gate", if self.shared_gate { "yes" } else { "no" }.to_owned()),
        ] {
            mapping = mapping.option(name, value);
        }
        mapping = mapping.tensor("router.weight", "gate.weight", TensorLayout::Transposed);
        for at in 0..self.experts {
            for matrix in matrices {
                mapping =
                    mapping.linear(&format!("experts.{at}.{matrix}"), &format!("experts.{at}.{matrix}_proj"), false);
            }
        }
        for matrix in matrices.iter().filter(|_| self.shared > 0) {
            mapping = mapping.linear(&format!("shared.{matrix}"), &format!("shared_experts.{matrix}_proj"), false);
        }
        if self.shared_gate {
            mapping = mapping.linear("shared_gate", "shared_expert_gate", false);
        }
        Some(mapping.python(PYTHON))
    }
}
