//! A layer of your own in a search over three primitives: a gated causal sum of all tokens so far.
//!
//! `cargo run --release --example plug_in_primitive`

use burn::{module::Module, nn::Linear, tensor::Tensor, tensor::activation::sigmoid};
use composer_nas::{evaluate::mad::Protocol, prelude::*};

#[derive(Module, Debug)]
struct CausalSum {
    gate: Linear,
    value: Linear,
}

impl Mixer for CausalSum {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let sum = self.value.forward(x.clone()).cumsum(1) * (x.dims()[1] as f64).recip();
        sigmoid(self.gate.forward(x)) * sum
    }
}

fn main() -> anyhow::Result<()> {
    let cost = |dims: &Dims, _seq_len| {
        let parameters = 2 * dims.width().pow(2);
        LayerCost { parameters, forward_flops_per_token: 2 * parameters, cache_elements: dims.width() }
    };
    let causal_sum = FnPrimitive::new("causal_sum", 'K', Role::Sequence, cost, |dims, init, device| {
        let mut square = || init.linear(dims.d_model, dims.d_model, device);
        Ok(Block::new(CausalSum { gate: square(), value: square() }))
    })?;
    let primitives = Primitives::standard().with(causal_sum)?;
    let space = SearchSpace::uniform(primitives.symbols(["attention", "swiglu", "causal_sum"])?, 4)?;
    let mut protocol = Protocol::quick();
    protocol.trainings.truncate(1);
    protocol.trainings[0].train.steps = 60;
    let mad = Mad::new(protocol, &primitives, &device::best()?.device)?;
    let found = Pipeline::new(&primitives, space, mad).trials(4).run(&Target::llama_1b())?;
    println!("{} -> {}", found.aggregated, found.target.architecture);
    Ok(())
}
