//! The sparse mixture of experts; notation as in [`primitive::Moe`](crate::primitive::Moe).

use burn::{
    module::{Module, ModuleDisplay},
    nn::Linear,
    tensor::{
        DType, Int, Tensor, TensorData,
        activation::{sigmoid, softmax},
    },
};

use super::{ExpertLayer, LayerCache, Mixer, SwiGluLayer};
use crate::{
    device,
    dims::Routing,
    kernels::{PositionTables, project},
};

/// `alpha`, the weight of the load-balancing loss: 0.01, as in Switch Transformers (Fedus et al. 2021, arXiv
/// 2101.03961, section 2.2) and in the smaller models of DeepSeekMoE.
const BALANCE: f64 = 0.01;

/// Added to sums of sigmoids to avoid a division by zero, as in transformers.
const TINY: f64 = 1e-20;

/// The largest number of floating-point operations for which an accelerator applies every expert to every token. It
/// takes some milliseconds on a small GPU, about as long as waiting for the choices and applying the experts in turn.
const DENSE_FLOPS: usize = 1 << 33;

/// The largest number of inner values that all experts may keep for the backward pass in that form: 128 MiB. Narrow
/// models would otherwise need much more memory than their chosen experts do.
const DENSE_VALUES: usize = 1 << 25;

/// A sparse mixture of experts. Letters: `D` model width, `N` routed experts.
#[derive(Module, Debug)]
pub struct MoeLayer<E = SwiGluLayer> {
    /// The router: `[D, N]`.
    pub router: Linear,
    /// The routed experts.
    pub experts: Vec<E>,
    /// The shared experts, combined into one wide expert. `None` if there are none.
    pub shared: Option<E>,
    /// The projection to the gate on the output of the shared experts, if there is one: `[D, 1]`.
    pub shared_gate: Option<Linear>,
    #[module(skip)]
    top_k: usize,
    #[module(skip)]
    routing: Routing,
    /// `[1, N, N]`: 1 if the expert of the last axis wins a tie against that of the second.
    #[module(skip)]
    wins_ties: PositionTables<Tensor<3>>,
}

/// The routing of the `T` tokens of a batch, each to `K` experts.
struct Routed {
    /// Affinities that add up to one per token, for the load-balancing loss: `[T, N]`, with gradients.
    affinities: Tensor<2>,
    /// The factors of the outputs of the chosen experts: `[T, N]`, with gradients.
    gates: Tensor<2>,
    /// The chosen experts.
    choice: Choice,
}

/// Which experts the tokens were routed to.
#[allow(clippy::large_enum_variant, reason = "one per pass")]
enum Choice {
    /// On the host, `T K` in all: `K` per token, token by token, by decreasing affinity.
    Listed(Vec<usize>),
    /// On the device: `[T, N]`, 1 if the expert was chosen, else 0. Without gradients.
    Masked(Tensor<2>),
}

impl<E: ExpertLayer> MoeLayer<E> {
    /// Creates the layer from its parts: the router, the routed experts, the shared expert and its gate.
    pub(crate) fn new(
        router: Linear,
        experts: Vec<E>,
        (shared, shared_gate): (Option<E>, Option<Linear>),
        top_k: usize,
        routing: Routing,
    ) -> Self {
        Self { router, experts, shared, shared_gate, top_k, routing, wins_ties: PositionTables::default() }
    }

    /// Whether every expert is applied to every token, so that the device need not be waited for. A processor is never
    /// waited for.
    fn is_dense(&self, x: &Tensor<3>) -> bool {
        let [batch, seq, width] = x.dims();
        let weights = self.experts.first().map_or(0, ExpertLayer::weights).saturating_mul(self.experts.len());
        let products = weights.saturating_mul(batch * seq);
        // Each weight of an expert belongs to one inner channel, and `width` weights make a value of it.
        let fits = products.saturating_mul(2) <= DENSE_FLOPS && products / width.max(1) <= DENSE_VALUES;
        fits && device::is_accelerator(&x.device())
    }

    /// Routes the tokens, in single precision whatever that of `x` is. `x`: `[B, S, D]`.
    fn route(&self, x: Tensor<3>, dense: bool) -> Routed {
        let [batch, seq, _] = x.dims();
        let logits = project(x, &self.router).cast(DType::F32).reshape([batch * seq, self.experts.len()]);
        // Experts are ranked by these scores.
        let scores = match self.routing {
            Routing::Softmax | Routing::Chosen => softmax(logits, 1),
            Routing::Sigmoid(_) => sigmoid(logits),
        };
        let choice = match dense {
            true => Choice::Masked(self.mask(scores.clone().inner())),
            false => Choice::Listed(self.list(scores.clone().inner())),
        };
        let affinities = match self.routing {
            Routing::Softmax | Routing::Chosen => scores.clone(),
            Routing::Sigmoid(_) => scores.clone() / (scores.clone().sum_dim(1) + TINY),
        };
        let gates = match self.routing {
            Routing::Softmax => scores,
            Routing::Chosen => scores.clone() / self.chosen_sum(&scores, &choice),
            Routing::Sigmoid(hundredths) => {
                scores.clone() / (self.chosen_sum(&scores, &choice) + TINY) * (f64::from(hundredths) / 100.0)
            }
        };
        Routed { affinities, gates, choice }
    }

    /// Chooses the experts on the host, which waits for the scores. `[T, N]`.
    fn list(&self, scores: Tensor<2>) -> Vec<usize> {
        let values: Vec<f32> = scores.into_data().iter().collect();
        let best = |row: &[f32]| {
            let mut experts: Vec<usize> = (0..row.len()).collect();
            // A stable sort: ties go to the lower index.
            experts.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
            experts.truncate(self.top_k);
            experts
        };
        values.chunks(self.experts.len()).flat_map(best).collect()
    }

    /// Chooses the experts on the device: those with fewer than `K` better ones. `[T, N]` to `[T, N]`.
    fn mask(&self, scores: Tensor<2>) -> Tensor<2> {
        let count = self.experts.len();
        let wins_ties = self.wins_ties.get(count, &scores.device(), |device| {
            let values: Vec<f32> = (0..count * count).map(|at| f32::from(u8::from(at % count < at / count))).collect();
            Tensor::from_data(TensorData::new(values, [1, count, count]), device)
        });
        let other: Tensor<3> = scores.clone().unsqueeze_dim(1);
        let own: Tensor<3> = scores.unsqueeze_dim(2);
        let better = other.clone().greater(own.clone()).float() + other.equal(own).float() * wins_ties;
        better.sum_dim(2).squeeze_dim::<2>(2).lower_elem(self.top_k as f64).float()
    }

    /// Returns the sum of the scores of the chosen experts: `[T, N]` to `[T, 1]`.
    fn chosen_sum(&self, scores: &Tensor<2>, choice: &Choice) -> Tensor<2> {
        let mask = match choice {
            Choice::Masked(mask) => mask.clone(),
            Choice::Listed(chosen) => {
                let count = self.experts.len();
                let mut mask = vec![0f32; scores.shape().num_elements()];
                for (choice, expert) in chosen.iter().enumerate() {
                    mask[choice / self.top_k * count + expert] = 1.0;
                }
                Tensor::<2>::from_data(TensorData::new(mask, scores.dims()), &scores.device())
            }
        };
        (scores.clone() * mask).sum_dim(1)
    }

    /// Applies the experts to the tokens that were routed to them, and the shared experts to all. `x`: `[B, S, D]`.
    fn mix(&self, x: Tensor<3>, gates: Tensor<2>, choice: Choice) -> Tensor<3> {
        let precision = x.dtype();
        let routed = match choice {
            Choice::Listed(chosen) => self.mix_chosen(x.clone(), gates.cast(precision), chosen),
            Choice::Masked(mask) => {
                let [batch, seq, width] = x.dims();
                let tokens = x.clone().reshape([1, batch * seq, width]);
                E::mix_all(&self.experts, tokens, (gates * mask).cast(precision)).reshape([batch, seq, width])
            }
        };
        match &self.shared {
            Some(shared) => match &self.shared_gate {
                Some(gate) => routed + shared.forward(x.clone()) * sigmoid(project(x, gate)),
                None => routed + shared.forward(x),
            },
            None => routed,
        }
    }

    /// Applies the chosen experts to every token. Gathers the tokens of each expert, applies the experts one after the
    /// other, and adds up the outputs of each token in the order of its choices.
    fn mix_chosen(&self, x: Tensor<3>, gates: Tensor<2>, chosen: Vec<usize>) -> Tensor<3> {
        let shape = x.dims();
        let top_k = self.top_k;
        let count = self.experts.len();
        let [batch, seq, width] = shape;
        let tokens = batch * seq;
        let device = x.device();
        let x: Tensor<2> = x.reshape([tokens, width]);
        let indices = |values: Vec<usize>| {
            let length = values.len();
            let values: Vec<i32> = values.iter().map(|&value| value as i32).collect();
            Tensor::<1, Int>::from_data(TensorData::new(values, [length]), &device)
        };
        // The choices, numbered token by token, sorted by expert.
        let mut order: Vec<usize> = (0..chosen.len()).collect();
        order.sort_by_key(|&choice| chosen[choice]);
        let outputs = order.chunk_by(|&a, &b| chosen[a] == chosen[b]).map(|choices| {
            let tokens = indices(choices.iter().map(|choice| choice / top_k).collect());
            let expert = &self.experts[chosen[choices[0]]];
            expert.forward(x.clone().select(0, tokens).unsqueeze()).squeeze_dim(0)
        });
        let outputs: Tensor<2> = Tensor::cat(outputs.collect(), 0);
        let places_of_gates = order.iter().map(|&choice| choice / top_k * count + chosen[choice]).collect();
        let gates = gates.reshape([tokens * count]).select(0, indices(places_of_gates)).unsqueeze_dim(1);
        let mut places = vec![0; order.len()];
        order.iter().enumerate().for_each(|(place, &choice)| places[choice] = place);
        let mixed = (outputs * gates).select(0, indices(places)).reshape([tokens, top_k, width]);
        mixed.sum_dim(1).reshape(shape)
    }

    /// The load-balancing loss. `affinities`: `[T, N]`.
    fn balance(&self, affinities: Tensor<2>, choice: &Choice) -> Tensor<1> {
        let count = self.experts.len();
        let loads = match choice {
            Choice::Masked(mask) => {
                let [tokens, _] = mask.dims();
                mask.clone().sum_dim(0) * (count as f64 / (tokens * self.top_k) as f64)
            }
            Choice::Listed(chosen) => {
                let mut loads = vec![0.0; count];
                chosen.iter().for_each(|&expert| loads[expert] += count as f32 / chosen.len() as f32);
                Tensor::<2>::from_data(TensorData::new(loads, [1, count]), &affinities.device())
            }
        };
        (affinities.mean_dim(0) * loads).sum() * BALANCE
    }
}

impl<E: ExpertLayer + ModuleDisplay> Mixer for MoeLayer<E> {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        if x.shape().num_elements() == 0 {
            return x;
        }
        let Routed { gates, choice, .. } = self.route(x.clone(), self.is_dense(&x));
        self.mix(x, gates, choice)
    }

    fn step(&self, x: Tensor<3>, _memory: &mut LayerCache) -> Tensor<3> {
        self.forward(x)
    }

    fn aux_loss(&self, x: &Tensor<3>) -> Option<Tensor<1>> {
        if x.shape().num_elements() == 0 {
            return None;
        }
        let Routed { affinities, choice, .. } = self.route(x.clone(), self.is_dense(x));
        Some(self.balance(affinities, &choice))
    }

    /// On an accelerator, routes once. On a processor routing is cheap, and twice keeps the order of the sums.
    fn forward_with_aux_loss(&self, x: Tensor<3>) -> (Tensor<3>, Option<Tensor<1>>) {
        if x.shape().num_elements() == 0 || !device::is_accelerator(&x.device()) {
            let aux_loss = self.aux_loss(&x);
            return (self.forward(x), aux_loss);
        }
        let Routed { affinities, gates, choice } = self.route(x.clone(), self.is_dense(&x));
        let aux_loss = self.balance(affinities, &choice);
        (self.mix(x, gates, choice), Some(aux_loss))
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::{
        module::{ModuleMapper, Param},
        tensor::Device,
    };

    use super::*;
    use crate::{
        dims::{Dims, InitScheme},
        layer::{ExpertLayer, MlpLayer, WeightInit},
        primitive::{BuildError, Expert, Moe, Primitive, SwiGlu},
        seed::Seed,
        testkit,
    };

    const SMALL: Moe = Moe {
        experts: 5,
        top_k: 2,
        shared: 1,
        expert_width: Some(3),
        routing: Routing::Softmax,
        expert: Expert::SwiGlu,
        shared_width: None,
        shared_gate: false,
    };

    fn layer(moe: Moe, device: &Device) -> MoeLayer {
        let mut init = WeightInit::new(InitScheme::Normal(0.7), Seed(3).rng("test", 0));
        let block = moe.build(&Dims::new(6, 12, 1).unwrap(), &mut init, device).unwrap();
        block.downcast_ref::<MoeLayer>().unwrap().clone()
    }

    /// `[B, S, 6]`.
    fn input(batch: usize, seq: usize, device: &Device) -> Tensor<3> {
        let mut init = WeightInit::new(InitScheme::FanIn, Seed(5).rng("test", 0));
        init.normal([batch, seq, 6], 1.0, device).val()
    }

    /// The choices of the sparse form.
    fn chosen<E: ExpertLayer>(layer: &MoeLayer<E>, x: &Tensor<3>) -> Vec<usize> {
        match layer.route(x.clone(), false).choice {
            Choice::Listed(chosen) => chosen,
            Choice::Masked(_) => panic!("the sparse form lists"),
        }
    }

    /// The output and the auxiliary loss of the form for accelerators.
    fn at_once<E: ExpertLayer>(layer: &MoeLayer<E>, x: Tensor<3>) -> (Tensor<3>, Tensor<1>) {
        let Routed { affinities, gates, choice } = layer.route(x.clone(), true);
        let aux_loss = layer.balance(affinities, &choice);
        (layer.mix(x, gates, choice), aux_loss)
    }

    fn host<const D: usize>(x: Tensor<D>) -> Vec<f64> {
        x.into_data().iter().collect()
    }

    /// Computes `x w` in double precision.
    fn product(x: &[f64], linear: &Linear) -> Vec<f64> {
        let weight = host(linear.weight.val());
        let columns = weight.len() / x.len();
        (0..columns).map(|j| (0..x.len()).map(|i| x[i] * weight[i * columns + j]).sum()).collect()
    }

    fn expert(x: &[f64], expert: &SwiGluLayer) -> Vec<f64> {
        let gated = product(x, &expert.gate).into_iter().zip(product(x, &expert.up));
        product(&gated.map(|(h, v)| h / (1.0 + (-h).exp()) * v).collect::<Vec<_>>(), &expert.down)
    }

    /// Evaluates every expert at one token, in double precision.
    fn dense(layer: &MoeLayer, x: &[f64]) -> Vec<f64> {
        let logits = product(x, &layer.router);
        let total: f64 = logits.iter().map(|logit| logit.exp()).sum();
        let mut y = layer.shared.as_ref().map_or(vec![0.0; x.len()], |shared| expert(x, shared));
        for (i, routed) in layer.experts.iter().enumerate() {
            let better = logits.iter().filter(|&&other| other > logits[i]).count();
            let gate = if better < layer.top_k { logits[i].exp() / total } else { 0.0 };
            y.iter_mut().zip(expert(x, routed)).for_each(|(y, out)| *y += gate * out);
        }
        y
    }

    #[test]
    fn it_is_the_dense_evaluation_of_the_chosen_experts() {
        for moe in [SMALL, Moe { shared: 0, top_k: 1, ..SMALL }, Moe { shared: 2, top_k: 5, ..SMALL }, Moe::default()] {
            for device in [Device::flex(), Device::flex().autodiff()] {
                for (batch, seq) in [(1, 1), (3, 7)] {
                    let layer = layer(moe, &device);
                    let x = input(batch, seq, &device);
                    let want = host(x.clone()).chunks(6).flat_map(|x| dense(&layer, x)).collect::<Vec<_>>();
                    for (got, want) in host(layer.forward(x)).iter().zip(&want) {
                        assert!((got - want).abs() < 1e-5 * want.abs().max(1.0), "{moe:?}: {got} {want}");
                    }
                }
            }
        }
        let nothing = Tensor::zeros([2, 0, 6], &Device::flex());
        assert_eq!(layer(SMALL, &Device::flex()).forward(nothing).dims(), [2, 0, 6]);
    }

    #[test]
    fn gradients_are_those_of_all_experts_with_gates_of_zero() {
        let device = Device::flex().autodiff();
        let layer = layer(SMALL, &device);
        let x = input(2, 9, &device).detach().require_grad();
        let count = layer.experts.len();
        let all = |x: Tensor<3>| {
            let Routed { affinities, .. } = layer.route(x.clone(), false);
            let chosen = chosen(&layer, &x);
            let mut mask = vec![0f32; 18 * count];
            chosen.iter().enumerate().for_each(|(at, expert)| mask[at / 2 * count + expert] = 1.0);
            let gates = affinities * Tensor::<2>::from_data(TensorData::new(mask, [18, count]), &device);
            let gates: Tensor<3> = gates.reshape([2, 9, count]);
            let routed = |i: usize| layer.experts[i].forward(x.clone()) * gates.clone().narrow(2, i, 1);
            (0..count).fold(layer.shared.as_ref().unwrap().forward(x.clone()), |sum, i| sum + routed(i))
        };
        let slopes = |y: Tensor<3>| {
            let gradients = (y.clone() * y).sum().backward();
            let of = |linear: &Linear| host(linear.weight.val().grad(&gradients).unwrap());
            let experts = layer.experts.iter().chain(&layer.shared);
            let weights = experts.flat_map(|expert| [of(&expert.gate), of(&expert.up), of(&expert.down)]);
            [host(x.grad(&gradients).unwrap()), of(&layer.router)].into_iter().chain(weights).collect::<Vec<_>>()
        };
        for (got, want) in slopes(layer.forward(x.clone())).iter().zip(slopes(all(x.clone()))) {
            let largest = want.iter().fold(0.0, |largest: f64, slope| largest.max(slope.abs()));
            assert!(got.iter().zip(&want).all(|(got, want)| (got - want).abs() <= 1e-5 * largest), "{got:?} {want:?}");
        }
    }

    #[test]
    fn gates_are_those_of_the_routing() {
        let device = Device::flex();
        let x = input(1, 9, &device);
        let gates = |routing| {
            let layer = layer(Moe { routing, ..SMALL }, &device);
            let gates = host(layer.route(x.clone(), false).gates);
            chosen(&layer, &x).iter().enumerate().map(|(at, expert)| gates[at / 2 * 5 + expert]).collect::<Vec<f64>>()
        };
        let softmax = gates(Routing::Softmax);
        for (all, chosen) in softmax.chunks(2).zip(gates(Routing::Chosen).chunks(2)) {
            assert!((chosen.iter().sum::<f64>() - 1.0).abs() < 1e-6);
            assert!((all[0] / all[1] - chosen[0] / chosen[1]).abs() < 1e-4);
        }
        assert!(gates(Routing::Sigmoid(250)).chunks(2).all(|gates| (gates.iter().sum::<f64>() - 2.5).abs() < 1e-5));
    }

    /// Sigmoids, normalized gates and ties included.
    #[test]
    fn all_experts_at_once_are_the_chosen_ones() {
        let device = Device::flex().autodiff();
        let sigmoid = Moe { routing: Routing::Sigmoid(250), ..SMALL };
        for moe in [SMALL, Moe { routing: Routing::Chosen, shared_gate: true, ..SMALL }, sigmoid, Moe::default()] {
            let mut layer = layer(moe, &device);
            let ties = layer.clone();
            for tied in [false, true] {
                if tied {
                    layer = ties.clone();
                    layer.router.weight = Param::from_tensor(layer.router.weight.val().zeros_like());
                }
                let x = input(3, 7, &device).detach().require_grad();
                let run = |(y, aux_loss): (Tensor<3>, Tensor<1>)| {
                    let gradients = ((y.clone() * y.clone()).sum() + aux_loss.clone()).backward();
                    let router = layer.router.weight.val().grad(&gradients).map(host);
                    let down = layer.experts[0].down.weight.val().grad(&gradients).map(host);
                    let slopes =
                        [host(x.grad(&gradients).unwrap()), router.unwrap_or_default(), down.unwrap_or_default()];
                    [host(y), host(aux_loss)].into_iter().chain(slopes).collect::<Vec<_>>()
                };
                let want = run((layer.forward(x.clone()), layer.aux_loss(&x).unwrap()));
                for (got, want) in run(at_once(&layer, x.clone())).iter().zip(&want) {
                    let largest = want.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
                    assert_eq!(got.len(), want.len());
                    let near = got.iter().zip(want).all(|(got, want)| (got - want).abs() <= 1e-5 * largest);
                    assert!(near, "{moe:?}, tied {tied}: {got:?} {want:?}");
                }
            }
        }
        let relu2 = Moe { expert: Expert::Relu2, shared: 0, ..SMALL };
        let mut init = WeightInit::new(InitScheme::Normal(0.7), Seed(3).rng("test", 0));
        let block = relu2.build(&Dims::new(6, 12, 1).unwrap(), &mut init, &device).unwrap();
        let layer = block.downcast_ref::<MoeLayer<MlpLayer>>().unwrap();
        let x = input(3, 7, &device);
        let pairs = host(at_once(layer, x.clone()).0).into_iter().zip(host(layer.forward(x)));
        assert!(pairs.into_iter().all(|(got, want)| (got - want).abs() <= 1e-5 * want.abs().max(1.0)));
    }

    #[test]
    fn mixtures_of_every_kind_keep_the_laws() {
        let wide = Moe { experts: 16, top_k: 1, shared: 0, expert_width: Some(5), ..SMALL };
        let sigmoid = Moe { routing: Routing::Sigmoid(250), expert: Expert::Relu2, shared_width: Some(7), ..SMALL };
        let gated = Moe { routing: Routing::Chosen, shared_gate: true, ..SMALL };
        assert_eq!(sigmoid.id().as_str(), "moe_e5_k2_w3_v7_sigmoid250_relu2");
        assert_eq!(gated.id().as_str(), "moe_e5_k2_w3_chosen_gate");
        for moe in [SMALL, wide, Moe { top_k: 8, shared: 2, ..Moe::default() }, sigmoid, gated] {
            assert_eq!(testkit::primitive::check(&moe, &Device::flex()), Ok(()), "{moe:?}");
        }
    }

    #[test]
    fn a_token_costs_what_it_costs_in_the_dense_layer_and_the_router() {
        let dims = Dims::new(64, 256, 4).unwrap();
        let sparse = Moe::default().cost(&dims, 1);
        let dense = SwiGlu.cost(&dims, 1);
        let router = 64 * 8;
        assert_eq!(sparse.forward_flops_per_token, dense.forward_flops_per_token + 2 * router);
        assert_eq!(4 * (sparse.parameters - router), 9 * dense.parameters);
        assert_eq!(Moe::default(), Moe { experts: 8, top_k: 3, shared: 1, expert_width: None, ..SMALL });
        assert_eq!((Moe::default().id().as_str(), SMALL.id().as_str()), ("moe", "moe_e5_k2_w3"));
    }

    #[test]
    fn ties_go_to_the_lower_index_and_balance_is_worth_one() {
        let device = Device::flex();
        let mut layer = layer(SMALL, &device);
        let x = input(1, 10, &device);
        layer.router.weight = Param::from_tensor(Tensor::zeros([6, 5], &device));
        assert_eq!(chosen(&layer, &x), [0, 1].repeat(10));
        // Equal affinities: sum_i f_i P_i = N / (K T) * K T / N.
        assert!((host(layer.aux_loss(&x).unwrap())[0] - 0.01).abs() < 1e-8);
        assert!(layer.aux_loss(&Tensor::zeros([1, 0, 6], &device)).is_none());
    }

    #[test]
    fn both_forms_compute_in_sixteen_bits() {
        struct Narrow;
        impl ModuleMapper for Narrow {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                Param::from_tensor(param.val().cast(DType::BF16))
            }
        }
        let device = Device::flex();
        let x = input(2, 7, &device);
        for routing in [Routing::Softmax, Routing::Chosen, Routing::Sigmoid(250)] {
            let layer = layer(Moe { routing, ..SMALL }, &device);
            let want = host(layer.forward(x.clone()));
            let narrow = layer.map(&mut Narrow);
            let largest = want.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
            for (y, aux_loss) in [
                (narrow.forward(x.clone().cast(DType::BF16)), narrow.aux_loss(&x.clone().cast(DType::BF16)).unwrap()),
                at_once(&narrow, x.clone().cast(DType::BF16)),
            ] {
                assert_eq!((y.dtype(), aux_loss.dtype()), (DType::BF16, DType::F32));
                // A token between two experts may go to the other one.
                let far = host(y).iter().zip(&want).filter(|(got, want)| (*got - *want).abs() > 0.03 * largest).count();
                assert!(far <= 6, "{routing:?}: {far} of {}", want.len());
            }
        }
    }

    #[test]
    fn the_aux_loss_spreads_the_tokens() {
        let device = Device::flex().autodiff();
        let mut layer = layer(Moe { top_k: 1, ..SMALL }, &device);
        let x = (input(8, 16, &device) + 1.0).detach();
        let share = |layer: &MoeLayer| {
            let chosen = chosen(layer, &x);
            (0..5).map(|expert| chosen.iter().filter(|&&other| other == expert).count()).max().unwrap()
        };
        // At first, almost all tokens go to one expert.
        let skewed = Tensor::cat(vec![Tensor::full([6, 1], 0.5, &device), Tensor::zeros([6, 4], &device)], 1);
        layer.router.weight = Param::from_tensor(skewed);
        let before = share(&layer);
        for _ in 0..200 {
            let gradients = layer.aux_loss(&x).unwrap().backward();
            let weight = layer.router.weight.val();
            let slope = weight.grad(&gradients).unwrap();
            layer.router.weight = Param::from_tensor((weight.inner() - slope * 30.0).autodiff());
        }
        assert!(before > 120 && share(&layer) < 90, "{before} of 128 tokens, then {}", share(&layer));
    }

    #[test]
    fn options_that_cannot_be_are_refused_with_a_remedy() {
        let dims = Dims::new(6, 3, 1).unwrap();
        let default = Moe::default();
        for (moe, option, words) in [
            (Moe { experts: 0, ..default }, "experts is 0", "at least 2"),
            (Moe { experts: 1, top_k: 1, ..default }, "experts is 1", "use swiglu"),
            (Moe { experts: usize::MAX, ..default }, "experts is", "at most 4096"),
            (Moe { shared: usize::MAX, ..default }, "shared is", "at most 4096"),
            (Moe { top_k: 0, ..default }, "top_k is 0", "choose 1 to 8"),
            (Moe { top_k: 9, ..default }, "top_k is 9", "choose 1 to 8"),
            (Moe { expert_width: Some(0), ..default }, "expert_width is 0", "at least 1"),
            (Moe { expert_width: Some(usize::MAX), ..default }, "expert_width is", "at most"),
            (default, "expert_width is 0", "4 experts share d_ff 3: widen it"),
        ] {
            let mut init = WeightInit::new(InitScheme::FanIn, Seed(0).rng("test", 0));
            let error = moe.build(&dims, &mut init, &Device::flex()).unwrap_err();
            assert!(matches!(error, BuildError::Option { .. }), "{error}");
            let text = error.to_string();
            assert!(text.contains("moe") && text.contains(option) && text.contains(words), "{text}");
            // Costs do not overflow, whatever the options are.
            moe.cost(&dims, 1);
        }
    }
}
