//! Root-mean-square layer normalization (Zhang and Sennrich 2019, arXiv 1910.07467).

use burn::{
    module::{Module, Param},
    tensor::{Device, Tensor, TensorData},
};

use crate::kernels::rms_norm;

/// Computes `x / sqrt(mean(x^2) + epsilon) * gamma` over the channels. `gamma` is initialized to one.
#[derive(Module, Debug)]
pub struct RmsNorm {
    /// The scale: `[D]`.
    pub gamma: Param<Tensor<1>>,
    epsilon: f64,
}

impl RmsNorm {
    /// Creates a norm over `d_model` channels.
    pub fn new(d_model: usize, epsilon: f64, device: &Device) -> Self {
        Self { gamma: Param::from_data(TensorData::new(vec![1f32; d_model], [d_model]), device), epsilon }
    }

    /// Normalizes the channels. `x`: `[B, S, D]` to `[B, S, D]`. The mean square is computed in single precision,
    /// regardless of the precision of `x`.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        rms_norm(x, self.gamma.val(), self.epsilon)
    }
}

#[cfg(test)]
mod tests {
    use burn::{nn::RmsNormConfig, tensor::Tolerance};

    use super::*;

    #[test]
    fn value_and_gradient_are_those_of_burns_composition() {
        let device = Device::flex().autodiff();
        let values = |phase: f32| {
            TensorData::new((0..30).map(|i| (1.3 * i as f32 + phase).sin()).collect::<Vec<f32>>(), [2, 3, 5])
        };
        let run = |norm: &dyn Fn(Tensor<3>) -> Tensor<3>| {
            let x = Tensor::<3>::from_data(values(0.2), &device).require_grad();
            let y = norm(x.clone());
            let gradients = (y.clone() * Tensor::from_data(values(0.9), &device)).sum().backward();
            [y.inner(), x.grad(&gradients).unwrap()].map(Tensor::into_data)
        };
        let ours = RmsNorm::new(5, 1e-2, &device);
        let burns = RmsNormConfig::new(5).with_epsilon(1e-2).init(&device);
        let got = run(&|x| ours.forward(x));
        let want = run(&|x| burns.forward(x));
        for (got, want) in got.iter().zip(&want) {
            got.assert_approx_eq::<f32>(want, Tolerance::absolute(1e-6));
        }
    }
}
