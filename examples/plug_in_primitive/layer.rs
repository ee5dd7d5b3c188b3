use burn::{
    module::Module,
    nn::Linear,
    tensor::{Int, Tensor, activation::sigmoid},
};
use composer_nas::{layer::*, prelude::*, primitive::*};

/// `y_t = sigmoid(G x_t) * mean_{s <= t} V x_s`, symbol `K`: average attention (Zhang et al. 2018, arXiv 1805.00631),
/// gated.
pub fn running_mean() -> Result<impl Primitive, NameError> {
    let cost = |dims: &Dims, _seq_len| {
        let parameters = 2 * dims.width().pow(2);
        let forward_flops_per_token = 2 * parameters;
        let cache_elements = dims.width();
        LayerCost { parameters, forward_flops_per_token, cache_elements, ..LayerCost::default() }
    };
    FnPrimitive::new("running_mean", 'K', Role::Sequence, cost, |dims, init, device| {
        let mut square = || init.linear(dims.d_model, dims.d_model, device);
        Ok(Block::new(RunningMean { gate: square(), value: square() }))
    })
}

#[derive(Module, Debug)]
struct RunningMean {
    gate: Linear,
    value: Linear,
}

impl Mixer for RunningMean {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.extend(x, &mut Past::default())
    }

    fn step(&self, x: Tensor<3>, memory: &mut LayerCache) -> Tensor<3> {
        memory.advance(Past::default, |past| self.extend(x, past))
    }
}

/// The sum of all values so far, `[B, 1, D]`, and their number.
#[derive(Clone, Debug, Default)]
struct Past(Option<Tensor<3>>, i64);

impl LayerState for Past {
    fn elements(&self) -> usize {
        self.0.as_ref().map_or(0, |sum| sum.shape().num_elements())
    }
}

impl RunningMean {
    fn extend(&self, x: Tensor<3>, Past(sum, tokens): &mut Past) -> Tensor<3> {
        let seq = x.dims()[1];
        let sums = self.value.forward(x.clone()).cumsum(1);
        let sums = if let Some(sum) = sum.take() { sums + sum } else { sums };
        *sum = Some(sums.clone().narrow(1, seq - 1, 1));
        let counts = Tensor::<1, Int>::arange(*tokens + 1..*tokens + 1 + seq as i64, &x.device());
        *tokens += seq as i64;
        sigmoid(self.gate.forward(x)) * sums / counts.float().reshape([1, seq, 1])
    }
}
