//! Functions whose derivative is put in by its closed form.
//!
//! Autodiff differentiates what it sees. Shown `value + slope * (x - constant(x))`, whose last term is zero, it keeps one
//! constant and multiplies once on the way back, instead of walking through every operation that made `value`. Constants
//! are computed without a graph, where a backend may have fused kernels. Without autodiff only `value` is computed.

use burn::tensor::{
    Tensor,
    activation::{sigmoid, softmax},
};

/// `x * sigmoid(x)`, with derivative `s + w (1 - s)` for `s = sigmoid(x)` and `w = x s`.
pub(super) fn silu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let constant = x.clone().inner();
    let gate = sigmoid(constant.clone());
    let value = constant.clone() * gate.clone();
    if !x.is_autodiff() {
        return value;
    }
    let slope = (value.clone() * (-gate.clone() + 1.0)) + gate;
    value + slope * (x - constant)
}

/// Attention weights: the softmax of `scores + bias` over the last axis, where `bias` is a constant that may be minus
/// infinity.
///
/// The derivative is that of `exp(scores + bias - c)` with the normalizer `c` held constant, so the rows are not
/// normalized on the way back: divide by their sum, which is one, as [`attend`] does.
///
/// # Shapes
/// `scores`: `[B, N, Q, S]`, `bias`: `[1, 1, Q, S]`, to `[B, N, Q, S]`.
fn exponential_weights(scores: Tensor<4>, bias: Tensor<4>) -> Tensor<4> {
    let constant = scores.clone().inner();
    let weights = softmax(constant.clone() + bias, 3);
    if !scores.is_autodiff() {
        return weights;
    }
    weights.clone() + weights * (scores - constant)
}

/// `softmax(scores + bias) value`, with a constant `bias` that may be minus infinity.
///
/// # Shapes
/// `scores`: `[B, N, Q, S]`, `bias`: `[1, 1, Q, S]`, `value`: `[B, N, S, C]`, to `[B, N, Q, C]`.
pub(super) fn attend(scores: Tensor<4>, bias: Tensor<4>, value: Tensor<4>) -> Tensor<4> {
    let weights = exponential_weights(scores, bias);
    if !weights.is_autodiff() {
        return weights.matmul(value);
    }
    weights.clone().matmul(value) / weights.sum_dim(3)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData, Tolerance};

    use super::*;

    /// Deterministic values in about ±3.
    fn values<const D: usize>(shape: [usize; D], phase: f32) -> TensorData {
        let count = shape.iter().product::<usize>();
        TensorData::new((0..count).map(|i| 3.0 * (1.7 * i as f32 + phase).sin()).collect::<Vec<f32>>(), shape)
    }

    #[test]
    fn silu_has_the_derivative_of_the_composed_form() {
        let device = Device::flex().autodiff();
        let run = |f: fn(Tensor<2>) -> Tensor<2>| {
            let x = Tensor::<2>::from_data(values([5, 7], 0.3), &device).require_grad();
            let y = f(x.clone());
            let gradients = (y.clone() * Tensor::from_data(values([5, 7], 1.1), &device)).sum().backward();
            (y.into_data(), x.grad(&gradients).unwrap().into_data())
        };
        let (y, gradient) = run(silu);
        let (want_y, want_gradient) = run(burn::tensor::activation::silu);
        y.assert_approx_eq::<f32>(&want_y, Tolerance::absolute(1e-6));
        gradient.assert_approx_eq::<f32>(&want_gradient, Tolerance::absolute(1e-5));
        let extremes = Tensor::<1>::from_data([-1e4f32, -200.0, 0.0, 90.0, 1e4], &device);
        assert_eq!(silu(extremes).into_data().try_into_vec::<f32>().unwrap(), [0.0, 0.0, 0.0, 90.0, 1e4]);
    }

    #[test]
    fn attention_has_the_derivative_of_the_composed_form() {
        let device = Device::flex().autodiff();
        let bias: Vec<f32> = (0..25).map(|at| if at % 5 <= at / 5 { 0.0 } else { f32::NEG_INFINITY }).collect();
        let bias = Tensor::<4>::from_data(TensorData::new(bias, [1, 1, 5, 5]), &Device::flex());
        let run = |f: fn(Tensor<4>, Tensor<4>, Tensor<4>) -> Tensor<4>| {
            let scores = Tensor::<4>::from_data(values([2, 3, 5, 5], 0.7), &device).require_grad();
            let value = Tensor::<4>::from_data(values([2, 3, 5, 4], 0.2), &device).require_grad();
            let y = f(scores.clone(), bias.clone(), value.clone());
            let gradients = (y.clone() * Tensor::from_data(values([2, 3, 5, 4], 2.0), &device)).sum().backward();
            [y.inner(), scores.grad(&gradients).unwrap(), value.grad(&gradients).unwrap()].map(Tensor::into_data)
        };
        let got = run(attend);
        let want = run(|scores, bias, value| softmax(scores + bias, 3).matmul(value));
        for (got, want) in got.iter().zip(&want) {
            got.assert_approx_eq::<f32>(want, Tolerance::absolute(2e-6));
        }
    }
}
