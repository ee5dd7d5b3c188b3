//! The two-matrix multi-layer perceptron with GELU (Hendrycks and Gimpel 2016, arXiv 1606.08415).

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
use crate::kernels::{gelu, project};

/// `down(gelu(up x))` with the tanh form of GELU, without bias; inner width `d_ff`. Symbol `F`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mlp;

impl Primitive for Mlp {
    fn id(&self) -> PrimitiveId {
        PrimitiveId::known("mlp")
    }

    fn symbol(&self) -> Symbol {
        Symbol::MLP
    }

    fn role(&self) -> Role {
        Role::Channel
    }

    fn cost(&self, dims: &Dims, _seq_len: u64) -> LayerCost {
        let [width, inner, ..] = dims.counts();
        LayerCost::dense(width * inner * Saturating(2))
    }

    fn build(&self, dims: &Dims, init: &mut WeightInit, device: &Device) -> Result<Block, BuildError> {
        dims.validate()?;
        Ok(Block::new(MlpLayer {
            up: init.linear(dims.d_model, dims.d_ff, device),
            down: init.linear(dims.d_ff, dims.d_model, device),
        }))
    }

    fn counterpart(&self, _dims: &Dims) -> Option<Counterpart> {
        let start = Counterpart::new("gelu_mlp", Remembers::Nothing);
        Some(start.linear("up", "up_proj", false).linear("down", "down_proj", false))
    }
}

/// A built [`Mlp`].
#[derive(Module, Debug)]
pub struct MlpLayer {
    /// `[D, F]`.
    pub up: Linear,
    /// `[F, D]`.
    pub down: Linear,
}

impl Mixer for MlpLayer {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        project(gelu(project(x, &self.up)), &self.down)
    }

    fn step(&self, x: Tensor<3>, _memory: &mut Memory) -> Tensor<3> {
        self.forward(x)
    }
}
