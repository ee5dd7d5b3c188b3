//! Initial weights, drawn from the random number generator of this crate.
//!
//! Burn's generators are process-wide and its parameters are initialized lazily, so concurrent trainings would affect
//! each other. Here, every weight is drawn on the host from one seeded stream and passed to Burn as data.

use burn::{
    module::Param,
    nn::Linear,
    tensor::{Device, Tensor, TensorData},
};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

use crate::{dims::InitScheme, seed::Rng};

/// Draws initial weights from one random stream, one tensor after the other.
#[derive(Debug)]
pub struct WeightInit {
    scheme: InitScheme,
    rng: Rng,
}

impl WeightInit {
    /// Creates an initializer that uses `scheme` and draws from `rng`.
    pub fn new(scheme: InitScheme, rng: Rng) -> Self {
        Self { scheme, rng }
    }

    /// Returns a linear map without bias, initialized by the scheme. Its weight is `[d_input, d_output]`.
    pub fn linear(&mut self, d_input: usize, d_output: usize, device: &Device) -> Linear {
        let shape = [d_input, d_output];
        let weight = match self.scheme {
            InitScheme::FanIn | InitScheme::FanInEmbedding(_) => {
                self.uniform(shape, 1.0 / (d_input.max(1) as f64).sqrt(), device)
            }
            InitScheme::Normal(std) => self.normal(shape, std, device),
        };
        Linear { weight, bias: None }
    }

    /// Returns a linear map initialized by the scheme, with a zero bias.
    pub(crate) fn linear_with_bias(&mut self, d_input: usize, d_output: usize, device: &Device) -> Linear {
        let bias = Some(self.constant([d_output], 0.0, device));
        Linear { bias, ..self.linear(d_input, d_output, device) }
    }

    /// Returns the kernel of a depthwise convolution: `[kernel_size, channels]`. The entries are uniform on
    /// ±1/sqrt(`kernel_size`), PyTorch's default, regardless of the scheme.
    pub fn conv(&mut self, kernel_size: usize, channels: usize, device: &Device) -> Param<Tensor<2>> {
        self.uniform([kernel_size, channels], 1.0 / (kernel_size.max(1) as f64).sqrt(), device)
    }

    /// Returns a parameter with independent normal entries of mean 0 and standard deviation `std`. If `std` is zero,
    /// the entries are zero and the random stream is not used.
    pub fn normal<const D: usize>(&mut self, shape: [usize; D], std: f64, device: &Device) -> Param<Tensor<D>> {
        if std == 0.0 {
            return self.constant(shape, 0.0, device);
        }
        let rng = &mut self.rng;
        parameter(shape, device, || {
            let z: f64 = StandardNormal.sample(rng);
            (z * std) as f32
        })
    }

    /// Returns a parameter with independent entries, uniform on ±`bound`.
    pub fn uniform<const D: usize>(&mut self, shape: [usize; D], bound: f64, device: &Device) -> Param<Tensor<D>> {
        self.drawn(shape, |unit| (2.0 * unit - 1.0) * bound, device)
    }

    /// Returns a parameter with independent entries: `quantile` applied to numbers uniform on [0, 1).
    pub(crate) fn drawn<const D: usize>(
        &mut self,
        shape: [usize; D],
        quantile: impl Fn(f64) -> f64,
        device: &Device,
    ) -> Param<Tensor<D>> {
        let rng = &mut self.rng;
        parameter(shape, device, || quantile(rng.random()) as f32)
    }

    /// Returns a parameter with all entries equal to `value`.
    pub fn constant<const D: usize>(&mut self, shape: [usize; D], value: f32, device: &Device) -> Param<Tensor<D>> {
        parameter(shape, device, || value)
    }
}

fn parameter<const D: usize>(shape: [usize; D], device: &Device, mut draw: impl FnMut() -> f32) -> Param<Tensor<D>> {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| draw()).collect();
    Param::from_data(TensorData::new(values, shape), device)
}
