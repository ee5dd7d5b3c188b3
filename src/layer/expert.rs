//! The experts of a mixture, applied to all tokens at once.

use burn::{nn::Linear, tensor::Tensor};

use super::{Mixer, MlpLayer, SwiGluLayer};
use crate::kernels::{linear, silu};

/// A layer that can be an expert of a [`MoeLayer`](super::MoeLayer). Letters: `T` tokens, `N` experts, `D` model width,
/// `F` inner width of one expert.
pub(crate) trait ExpertLayer: Mixer + Sized {
    /// The number of weights of one expert.
    fn weights(&self) -> usize;

    /// Returns `sum_i gates_i expert_i(x)`, with every expert applied to every token.
    ///
    /// The experts form one layer of inner width `N F`, whose inner channels are multiplied by the gate of their
    /// expert. This takes a few large products, whatever the number of experts is.
    ///
    /// # Shapes
    /// `x`: `[1, T, D]`, `gates`: `[T, N]`, to `[1, T, D]`.
    fn mix_all(experts: &[Self], x: Tensor<3>, gates: Tensor<2>) -> Tensor<3>;
}

impl ExpertLayer for SwiGluLayer {
    fn weights(&self) -> usize {
        [&self.gate, &self.up, &self.down].map(size).iter().sum()
    }

    fn mix_all(experts: &[Self], x: Tensor<3>, gates: Tensor<2>) -> Tensor<3> {
        let gate = joined(experts, 1, |expert| &expert.gate);
        let up = joined(experts, 1, |expert| &expert.up);
        let inner = silu(linear(x.clone(), gate, None)) * linear(x, up, None);
        linear(gated(inner, gates), joined(experts, 0, |expert| &expert.down), None)
    }
}

impl ExpertLayer for MlpLayer {
    fn weights(&self) -> usize {
        [&self.up, &self.down].map(size).iter().sum()
    }

    fn mix_all(experts: &[Self], x: Tensor<3>, gates: Tensor<2>) -> Tensor<3> {
        // All experts of a mixture have the same activation.
        let [first, ..] = experts else { return x };
        let inner = first.activate(linear(x, joined(experts, 1, |expert| &expert.up), None));
        linear(gated(inner, gates), joined(experts, 0, |expert| &expert.down), None)
    }
}

/// Multiplies the inner channels of every expert by its gate. `inner`: `[1, T, N F]`, `gates`: `[T, N]`.
fn gated(inner: Tensor<3>, gates: Tensor<2>) -> Tensor<3> {
    let shape = inner.dims();
    let [tokens, count] = gates.dims();
    let inner: Tensor<3> = inner.reshape([tokens, count, shape[2] / count]);
    (inner * gates.unsqueeze_dim(2)).reshape(shape)
}

/// Joins the weights of all experts along `axis`.
fn joined<E>(experts: &[E], axis: usize, map: impl Fn(&E) -> &Linear) -> Tensor<2> {
    Tensor::cat(experts.iter().map(|expert| map(expert).weight.val()).collect(), axis)
}

fn size(map: &Linear) -> usize {
    map.weight.shape().num_elements()
}
