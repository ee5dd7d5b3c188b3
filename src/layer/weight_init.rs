//! Weights drawn from our own generator.
//!
//! Burn's generators are process-wide and its parameters initialise lazily, so trainings that run side by side would
//! disturb each other. Here every weight is drawn on the host from one seeded stream and handed to Burn as data.

use burn::{
    module::Param,
    nn::Linear,
    tensor::{Device, Tensor, TensorData},
};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

use crate::{dims::InitScheme, seed::Rng};

/// Draws initial weights, one tensor after the other, from one stream.
#[derive(Debug)]
pub struct WeightInit {
    scheme: InitScheme,
    rng: Rng,
}

impl WeightInit {
    /// Draws by `scheme` from `rng`.
    pub fn new(scheme: InitScheme, rng: Rng) -> Self {
        Self { scheme, rng }
    }

    /// A linear map without bias, by the scheme. Shape of its weight: `[d_input, d_output]`.
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

    /// A linear map with a zero bias, by the scheme.
    pub(crate) fn linear_with_bias(&mut self, d_input: usize, d_output: usize, device: &Device) -> Linear {
        let bias = Some(self.constant([d_output], 0.0, device));
        Linear { bias, ..self.linear(d_input, d_output, device) }
    }

    /// The taps of a depthwise convolution, uniform on ±1/sqrt(`taps`), PyTorch's default, whatever the scheme. Shape:
    /// `[taps, channels]`.
    pub fn conv(&mut self, taps: usize, channels: usize, device: &Device) -> Param<Tensor<2>> {
        self.uniform([taps, channels], 1.0 / (taps.max(1) as f64).sqrt(), device)
    }

    /// A parameter with independent normal entries of mean 0; without deviation nothing is drawn.
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

    /// A parameter with independent entries, uniform on ±`bound`.
    pub fn uniform<const D: usize>(&mut self, shape: [usize; D], bound: f64, device: &Device) -> Param<Tensor<D>> {
        self.drawn(shape, |unit| (2.0 * unit - 1.0) * bound, device)
    }

    /// A parameter with independent entries of any law: `quantile` of numbers that are uniform on [0, 1).
    pub fn drawn<const D: usize>(
        &mut self,
        shape: [usize; D],
        quantile: impl Fn(f64) -> f64,
        device: &Device,
    ) -> Param<Tensor<D>> {
        let rng = &mut self.rng;
        parameter(shape, device, || quantile(rng.random()) as f32)
    }

    /// A parameter whose entries are all `value`.
    pub fn constant<const D: usize>(&mut self, shape: [usize; D], value: f32, device: &Device) -> Param<Tensor<D>> {
        parameter(shape, device, || value)
    }
}

fn parameter<const D: usize>(shape: [usize; D], device: &Device, mut draw: impl FnMut() -> f32) -> Param<Tensor<D>> {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| draw()).collect();
    Param::from_data(TensorData::new(values, shape), device)
}
