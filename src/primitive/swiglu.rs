//! SwiGLU: a gated multi-layer perceptron (Shazeer 2020, arXiv 2002.05202, equation 6).

use std::num::Saturating;

use burn::{
    module::Module,
    nn::Linear,
    tensor::{Device, Tensor},
};

use super::{
    Block, BuildError, Counterpart, Dims, LayerCost, Memory, Mixer, Primitive, PrimitiveId, Remembers, Role, Symbol,
    WeightInit,
};
use crate::kernels::swiglu;

/// `down(silu(gate x) * up x)`, without bias; inner width `d_ff`. Symbol `M`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SwiGlu;

impl Primitive for SwiGlu {
    fn id(&self) -> PrimitiveId {
        PrimitiveId::known("swiglu")
    }

    fn symbol(&self) -> Symbol {
        Symbol::SWIGLU
    }

    fn role(&self) -> Role {
        Role::Channel
    }

    fn cost(&self, dims: &Dims, _seq_len: u64) -> LayerCost {
        let [width, inner, ..] = dims.counts();
        LayerCost::dense(width * inner * Saturating(3))
    }

    /// The input, and both branches before the activation; their product is computed again.
    fn activations(&self, dims: &Dims, seq_len: u64) -> u64 {
        SwiGluLayer::activations(dims.width(), dims.d_ff as u64).saturating_mul(seq_len)
    }

    fn build(&self, dims: &Dims, init: &mut WeightInit, device: &Device) -> Result<Block, BuildError> {
        dims.validate()?;
        Ok(Block::new(SwiGluLayer::new(dims.d_model, dims.d_ff, init, device)))
    }

    fn counterpart(&self, _dims: &Dims) -> Option<Counterpart> {
        let start = Counterpart::new("swiglu", Remembers::Nothing);
        Some(start.linear("gate", "gate_proj", false).linear("up", "up_proj", false).linear("down", "down_proj", false))
    }
}

/// A built [`SwiGlu`], or an expert of a [`Moe`](super::Moe).
#[derive(Module, Debug)]
pub struct SwiGluLayer {
    /// `[D, F]`, before the activation.
    pub gate: Linear,
    /// `[D, F]`, multiplied with the gate.
    pub up: Linear,
    /// `[F, D]`.
    pub down: Linear,
}

impl SwiGluLayer {
    /// Numbers kept per token.
    pub(super) fn activations(width: u64, inner: u64) -> u64 {
        width.saturating_add(inner.saturating_mul(2))
    }

    /// Draws the weights of the gate, then up, then down.
    pub(super) fn new(width: usize, inner: usize, init: &mut WeightInit, device: &Device) -> Self {
        Self {
            gate: init.linear(width, inner, device),
            up: init.linear(width, inner, device),
            down: init.linear(inner, width, device),
        }
    }
}

impl Mixer for SwiGluLayer {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        swiglu(x, self.gate.weight.val(), self.up.weight.val(), self.down.weight.val())
    }

    fn step(&self, x: Tensor<3>, _memory: &mut Memory) -> Tensor<3> {
        self.forward(x)
    }
}
