//! Compares recurrent and convolutional layers with those of transformers.

use burn::{
    module::Param,
    nn::Linear,
    tensor::{Device, Tensor, TensorData},
};
use serde_json::Value;

use super::{GatedConv, GatedDeltaNet, Mamba2, Primitive};
use crate::{
    dims::{Dims, InitScheme},
    layer::{Block, GatedConvLayer, GatedDeltaNetLayer, LayerCache, Mamba2Layer, Mixer, WeightInit},
    seed::Seed,
};

/// Weights, an input and the outputs of `Mamba2Mixer`, `Qwen3NextGatedDeltaNet` and `Lfm2ShortConv` of transformers
/// 5.23 with torch 2.15, run on a CPU in single precision. Linear and convolutional weights are transposed, and
/// projections are split into their parts. Batch 2, 11 tokens, width 8.
fn golden() -> Value {
    serde_json::from_str(include_str!("../../tests/fixtures/transformers_layers.json")).unwrap()
}

struct Weights<'a>(&'a Value);

impl Weights<'_> {
    fn list(&self, name: &str) -> Vec<f32> {
        self.0[name].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
    }

    fn fill<const D: usize>(&self, name: &str, param: &mut Param<Tensor<D>>) {
        let data = TensorData::new(self.list(name), param.dims());
        *param = Param::from_data(data, &param.device());
    }

    fn linear(&self, name: &str, map: &mut Linear) {
        self.fill(name, &mut map.weight);
    }
}

fn build<L: Mixer>(primitive: &impl Primitive, device: &Device) -> L {
    let mut init = WeightInit::new(InitScheme::FanIn, Seed(1).rng("test", 0));
    let block = primitive.build(&Dims::new(8, 16, 2).unwrap(), &mut init, device).unwrap();
    block.downcast_ref::<L>().unwrap().clone()
}

/// Checks the whole sequence at once, with and without autodiff, and in steps.
fn agrees(layer: impl Mixer, training: impl Mixer, golden: &Value, y: &Value) {
    let input =
        |device: &Device| Tensor::<3>::from_data(TensorData::new(Weights(golden).list("x"), [2, 11, 8]), device);
    let layer = Block::new(layer);
    let training = Block::new(training);
    let want = Weights(y).list("y");
    let near = |got: Tensor<3>, how: &str| {
        for (at, (got, want)) in got.into_data().try_into_vec::<f32>().unwrap().iter().zip(&want).enumerate() {
            assert!((got - want).abs() < 1e-5, "{how} {at}: {got} is not {want}");
        }
    };
    let x = input(&Device::flex());
    near(layer.forward(x.clone()), "forward");
    near(training.forward(input(&Device::flex().autodiff())), "training");
    let mut memory = LayerCache::default();
    let mut start = 0;
    let steps = [4, 1, 1, 5].map(|step| {
        let next = x.clone().narrow(1, start, step);
        start += step;
        layer.step(next, &mut memory)
    });
    near(Tensor::cat(steps.to_vec(), 1), "steps");
}

#[test]
fn mamba2_is_that_of_transformers() {
    let golden = golden();
    let weights = Weights(&golden["mamba2"]);
    let layer = |device: &Device| {
        let mut layer: Mamba2Layer = build(&Mamba2 { state: 3, chunk: 4, ..Mamba2::default() }, device);
        weights.linear("gate", &mut layer.gate);
        weights.linear("mixed", &mut layer.xbc);
        weights.linear("step", &mut layer.dt);
        weights.linear("output", &mut layer.output);
        weights.fill("conv", &mut layer.conv);
        weights.fill("conv_bias", layer.conv_bias.as_mut().unwrap());
        weights.fill("step_bias", &mut layer.dt_bias);
        weights.fill("a_log", &mut layer.a_log);
        weights.fill("skip", &mut layer.d);
        weights.fill("norm", &mut layer.norm);
        layer
    };
    agrees(layer(&Device::flex()), layer(&Device::flex().autodiff()), &golden, weights.0);
}

#[test]
fn gated_delta_net_is_that_of_transformers() {
    let golden = golden();
    let weights = Weights(&golden["gated_delta_net"]);
    let layer = |device: &Device| {
        let mut layer: GatedDeltaNetLayer = build(&GatedDeltaNet { chunk: 4, ..GatedDeltaNet::default() }, device);
        weights.linear("mixed", &mut layer.qkv);
        weights.linear("gate", &mut layer.gate);
        weights.linear("strength", &mut layer.beta);
        weights.linear("decay", &mut layer.decay);
        weights.linear("output", &mut layer.output);
        weights.fill("conv", &mut layer.conv);
        weights.fill("step_bias", &mut layer.dt_bias);
        weights.fill("a_log", &mut layer.a_log);
        weights.fill("norm", &mut layer.norm);
        layer
    };
    agrees(layer(&Device::flex()), layer(&Device::flex().autodiff()), &golden, weights.0);
}

#[test]
fn gated_conv_is_that_of_transformers() {
    let golden = golden();
    let weights = Weights(&golden["gated_conv"]);
    let layer = |device: &Device| {
        let mut layer: GatedConvLayer = build(&GatedConv::default(), device);
        weights.linear("input", &mut layer.input);
        weights.linear("output", &mut layer.output);
        weights.fill("conv", &mut layer.conv);
        layer
    };
    agrees(layer(&Device::flex()), layer(&Device::flex().autodiff()), &golden, weights.0);
}
