//! The two-matrix multi-layer perceptron with squared ReLU, found by search in Primer (So et al. 2021, arXiv
//! 2109.08668, section 4) and used by the Nemotron family (arXiv 2402.16819).

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
use crate::kernels::{project, relu2};

/// `down(max(up x, 0)^2)`, without bias; inner width `d_ff`. Symbol `R`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Relu2;

impl Primitive for Relu2 {
    fn id(&self) -> PrimitiveId {
        PrimitiveId::known("relu2")
    }

    fn symbol(&self) -> Symbol {
        Symbol::RELU2
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
        Ok(Block::new(Relu2Layer {
            up: init.linear(dims.d_model, dims.d_ff, device),
            down: init.linear(dims.d_ff, dims.d_model, device),
        }))
    }

    fn counterpart(&self, _dims: &Dims) -> Option<Counterpart> {
        let start = Counterpart::new("relu2_mlp", Remembers::Nothing);
        Some(start.linear("up", "up_proj", false).linear("down", "down_proj", false))
    }
}

/// A built [`Relu2`].
#[derive(Module, Debug)]
pub struct Relu2Layer {
    /// `[D, F]`.
    pub up: Linear,
    /// `[F, D]`.
    pub down: Linear,
}

impl Mixer for Relu2Layer {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        project(relu2(project(x, &self.up)), &self.down)
    }

    fn step(&self, x: Tensor<3>, _memory: &mut Memory) -> Tensor<3> {
        self.forward(x)
    }
}
