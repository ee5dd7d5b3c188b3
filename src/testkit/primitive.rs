//! Checks the contract of [`Primitive`].

use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::{Device, Tensor, TensorData},
};
use rand_distr::{Distribution, StandardNormal};

use super::{LawBroken, holds};
use crate::{
    dims::{Dims, InitScheme},
    layer::{Block, LayerCache, WeightInit},
    primitive::{Primitive, Role},
    seed::Seed,
    text::causes,
    train::joined,
    weights,
};

/// A primitive can be built at all consistent widths.
pub(crate) const BUILDS: &str = "a primitive can be built if the widths are consistent";
/// `[B, S, D]` stays `[B, S, D]`, also for a single token and for odd lengths.
pub(crate) const SHAPE: &str = "the layer keeps the shape of its input";
/// No output depends on a later input.
pub(crate) const CAUSAL: &str = "changing token t leaves the outputs before t unchanged";
/// A channel mixer treats all positions independently.
pub(crate) const POSITION_WISE: &str = "a channel mixer changes only the output of the changed token";
/// The number of parameters is correct.
pub(crate) const PARAMETERS: &str = "LayerCost::parameters equals the number of built parameters";
/// Every parameter can be trained.
pub(crate) const GRADIENT: &str = "every parameter has a nonzero gradient";
/// Records contain all weights.
pub(crate) const RECORD: &str = "a layer that loads the record of another computes the same";
/// A sequence may be split into steps anywhere.
pub(crate) const DECODES: &str = "decoding step by step gives the same outputs as the whole sequence";
/// The size of the cache is correct.
pub const CACHE: &str = "LayerCost::cache_elements equals the number of cached elements";
/// Estimates of memory are plausible.
pub(crate) const ACTIVATIONS: &str =
    "Primitive::activations is at least the size of the input and grows with the length";
/// The whole layer is exported.
pub(crate) const NAMED: &str = "a mapping names every parameter of the layer once, with a matching layout";
/// Layers that claim it can be trained together.
pub(crate) const ENSEMBLE: &str =
    "a layer that can be a member of an ensemble computes there what it does alone, without an auxiliary loss";
/// Weights depend only on the random stream.
pub(crate) const REPEATABLE: &str = "the same widths and random stream give the same layer";

/// Builds the primitive at several widths on `device` and checks every law.
///
/// # Errors
/// [`LawBroken`] for the first law that does not hold.
pub fn check(primitive: &(impl Primitive + ?Sized), device: &Device) -> Result<(), LawBroken> {
    let wide = Dims { kv_heads: 2, attention_bias: true, ..dims(24, 40, 4) };
    for dims in [dims(8, 12, 2), wide] {
        Layer { primitive, dims, device }.check()?;
    }
    Ok(())
}

fn dims(d_model: usize, d_ff: usize, heads: usize) -> Dims {
    Dims {
        d_model,
        d_ff,
        heads,
        kv_heads: heads,
        head_dim: 2 * (d_model / heads / 2).max(1),
        rope_theta: 10_000.0,
        rope_scaling: None,
        norm_eps: 1e-5,
        attention_bias: false,
    }
}

/// The primitive at one width.
struct Layer<'a, P: ?Sized> {
    primitive: &'a P,
    dims: Dims,
    device: &'a Device,
}

impl<P: Primitive + ?Sized> Layer<'_, P> {
    fn check(&self) -> Result<(), LawBroken> {
        let layer = self.build(1, self.device)?;
        let parameters = self.primitive.cost(&self.dims, 16).parameters;
        holds(layer.num_params() as u64 == parameters, PARAMETERS, || {
            format!("{} built, {parameters} stated, at {:?}", layer.num_params(), self.dims)
        })?;
        for seq in [1, 7, 64, 1000] {
            let [short, long] = [seq, seq + 1].map(|seq| self.primitive.activations(&self.dims, seq));
            holds(short >= seq * self.dims.width() && long > short, ACTIVATIONS, || {
                format!("{short} elements for {seq} tokens, {long} for one more, at {:?}", self.dims)
            })?;
        }
        for (batch, seq) in [(2, 7), (1, 1), (1, 33)] {
            let x = self.input(batch, seq);
            let shape = layer.forward(x.clone()).dims();
            holds(shape == x.dims(), SHAPE, || format!("{:?} became {shape:?}", x.dims()))?;
            for token in [0, seq / 2, seq - 1] {
                self.check_reach(&layer, x.clone(), token)?;
            }
        }
        for steps in [&[7][..], &[1; 7], &[3, 1, 1, 2], &[1, 33, 6]] {
            self.check_decoding(&layer, steps)?;
        }
        self.check_gradient()?;
        self.check_ensemble(&layer)?;
        self.check_names(&layer)?;
        let same = self.output(&self.build(1, self.device)?)? == self.output(&layer)?;
        holds(same, REPEATABLE, || format!("two builds differ at {:?}", self.dims))?;
        let loaded = self.build(2, self.device)?.load_record(layer.clone().into_record());
        holds(self.output(&loaded)? == self.output(&layer)?, RECORD, || format!("at {:?}", self.dims))
    }

    fn check_names(&self, layer: &Block) -> Result<(), LawBroken> {
        let Some(mapping) = self.primitive.hf_mapping(&self.dims) else { return Ok(()) };
        let mut left: Vec<_> = weights::parameters(layer).into_iter().map(|found| (found.name, found.shape)).collect();
        for tensor in &mapping.tensors {
            for parameter in &tensor.parameters {
                let place =
                    left.iter().position(|(name, shape)| name == parameter && tensor.layout.stored(shape).is_some());
                holds(place.is_some(), NAMED, || {
                    format!("{parameter} of {} does not exist or does not fit", tensor.name)
                })?;
                place.map(|place| left.swap_remove(place));
            }
        }
        holds(left.is_empty(), NAMED, || format!("parameters without a name: {left:?}"))
    }

    fn check_ensemble(&self, layer: &Block) -> Result<(), LawBroken> {
        if !layer.can_ensemble() {
            return Ok(());
        }
        let members = [layer.clone(), self.build(2, self.device)?, self.build(3, self.device)?];
        let x = self.input(2 * members.len(), 7);
        let alone = members.iter().zip(x.clone().chunk(members.len(), 0)).map(|(member, x)| member.forward(x));
        let alone = values(Tensor::cat(alone.collect(), 0))?;
        let Some(ensemble) = joined(members.to_vec()) else { return Ok(()) };
        let together = values(ensemble.forward(x.clone()))?;
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-4 * (1.0 + b.abs());
        let equal = together.len() == alone.len() && together.iter().zip(&alone).all(near);
        holds(equal, ENSEMBLE, || format!("{} members at {:?}", members.len(), self.dims))?;
        holds(layer.aux_loss(&x).is_none(), ENSEMBLE, || "it has an auxiliary loss".into())
    }

    fn build(&self, stream: u64, device: &Device) -> Result<Block, LawBroken> {
        let mut init = WeightInit::new(InitScheme::FanIn, Seed(0).rng("testkit/primitive", stream));
        let built = self.primitive.build(&self.dims, &mut init, device);
        built.map_err(|error| LawBroken::new(BUILDS, format!("{} at {:?}", causes(&error), self.dims)))
    }

    /// Returns normally distributed elements, `[B, S, D]`.
    fn input(&self, batch: usize, seq: usize) -> Tensor<3> {
        let mut rng = Seed(0).rng("testkit/input", (batch * seq) as u64);
        let shape = [batch, seq, self.dims.d_model];
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| StandardNormal.sample(&mut rng)).collect();
        Tensor::from_data(TensorData::new(values, shape), self.device)
    }

    fn output(&self, layer: &Block) -> Result<Vec<f32>, LawBroken> {
        values(layer.forward(self.input(2, 7)))
    }

    /// Changes one token and checks which outputs change.
    fn check_reach(&self, layer: &Block, x: Tensor<3>, token: usize) -> Result<(), LawBroken> {
        let [batch, seq, width] = x.dims();
        let changed = x.clone().slice_assign([0..batch, token..token + 1, 0..width], self.input(batch, 1) + 1.0);
        let before = values(layer.forward(x))?;
        let after = values(layer.forward(changed))?;
        let scale = before.iter().fold(1.0_f32, |scale, value| scale.max(value.abs()));
        let differs = |position: usize| {
            let at = |row: usize| (row * seq + position) * width..(row * seq + position + 1) * width;
            let pairs = |row| before[at(row)].iter().zip(&after[at(row)]);
            (0..batch).any(|row| pairs(row).any(|(a, b)| (a - b).abs() > 1e-5 * scale || a.is_nan() != b.is_nan()))
        };
        let moved: Vec<usize> = (0..seq).filter(|&position| differs(position)).collect();
        let text = || format!("token {token} of {seq} changed outputs {moved:?} at {:?}", self.dims);
        holds(moved.iter().all(|&position| position >= token), CAUSAL, text)?;
        match self.primitive.role() {
            Role::Sequence => Ok(()),
            Role::Channel => holds(moved.iter().all(|&position| position == token), POSITION_WISE, text),
        }
    }

    /// Decodes a sequence in steps of these lengths.
    fn check_decoding(&self, layer: &Block, steps: &[usize]) -> Result<(), LawBroken> {
        let seq = steps.iter().sum();
        for batch in [1, 2] {
            let x = self.input(batch, seq);
            let mut memory = LayerCache::default();
            let mut start = 0;
            let mut outputs = Vec::new();
            for &step in steps {
                let next = x.clone().slice([0..batch, start..start + step, 0..self.dims.d_model]);
                outputs.push(layer.step(next, &mut memory));
                start += step;
            }
            let whole = values(layer.forward(x))?;
            let stepped = values(Tensor::cat(outputs, 1))?;
            let scale = whole.iter().fold(1.0_f32, |scale, value| scale.max(value.abs()));
            let apart = whole.iter().zip(&stepped).map(|(a, b)| (a - b).abs()).fold(0.0_f32, f32::max);
            holds(apart <= 1e-4 * scale && whole.len() == stepped.len(), DECODES, || {
                format!("outputs differ by {apart} in steps of {steps:?} at {:?}", self.dims)
            })?;
            let stated = self.primitive.cost(&self.dims, seq as u64).cache_elements * batch as u64;
            holds(memory.is_replay() || memory.elements() as u64 == stated, CACHE, || {
                format!(
                    "{} elements are cached, but {stated} are stated, after {seq} tokens at {:?}",
                    memory.elements(),
                    self.dims
                )
            })?;
        }
        Ok(())
    }

    /// Uses few tokens first. If these do not reach all parameters, as can happen with a router, uses many.
    fn check_gradient(&self) -> Result<(), LawBroken> {
        let missing = self.unreached(3, 5)?;
        let missing = if missing > 0 { self.unreached(32, 32)? } else { 0 };
        holds(missing == 0, GRADIENT, || format!("{missing} parameters have no gradient at {:?}", self.dims))
    }

    /// Returns how many parameters get no gradient for an input of this size.
    fn unreached(&self, batch: usize, seq: usize) -> Result<usize, LawBroken> {
        let layer = self.build(1, &self.device.clone().autodiff())?.train();
        if layer.num_params() == 0 {
            return Ok(0);
        }
        let weights = self.input(batch, seq).autodiff();
        let loss = (layer.forward(self.input(batch, seq).autodiff() * 0.5) * weights).sum();
        let mut reached = Reached { gradients: GradientsParams::from_grads(loss.backward(), &layer), missing: 0 };
        layer.visit(&mut reached);
        Ok(reached.missing)
    }
}

/// Counts the parameters without a gradient.
struct Reached {
    gradients: GradientsParams,
    missing: usize,
}

impl ModuleVisitor for Reached {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let largest = self.gradients.get::<D>(param.id).map(|gradient| values(gradient.abs().max().reshape([1])));
        let reached = matches!(largest, Some(Ok(max)) if max.first().is_some_and(|&max| max > 0.0));
        self.missing += usize::from(!reached);
    }
}

fn values<const D: usize>(x: Tensor<D>) -> Result<Vec<f32>, LawBroken> {
    x.try_into_vec_as::<f32>().map_err(|error| LawBroken::new(SHAPE, format!("the output cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use burn::nn::Linear;

    use super::*;
    use crate::kernels::project;
    use crate::{
        layer::{LayerState, Mixer},
        primitive::{FnPrimitive, LayerCost, Primitives},
    };

    #[test]
    fn our_primitives_keep_the_laws() {
        for primitive in Primitives::standard().iter() {
            assert_eq!(check(primitive, &Device::flex()), Ok(()), "{primitive:?}");
        }
    }

    #[derive(Module, Debug)]
    struct Broken {
        linear: Linear,
        unused: Linear,
        breach: usize,
    }

    impl Mixer for Broken {
        fn forward(&self, x: Tensor<3>) -> Tensor<3> {
            let y = project(x.clone(), &self.linear);
            match self.breach {
                0 => y + self.unused.forward(x.flip([1])),
                1 => y + self.unused.forward(x.cumsum(1)),
                2 => y,
                3 => Tensor::cat(vec![y, self.unused.forward(x)], 1),
                8 => y + project(x, &self.unused),
                // Members see each other.
                9 => y + project(x.clone() - x.mean_dim(0), &self.unused),
                _ => y + self.unused.forward(x),
            }
        }

        fn step(&self, x: Tensor<3>, memory: &mut LayerCache) -> Tensor<3> {
            match self.breach {
                6 => memory.replay(x, |x| self.forward(x) * 2),
                7 => memory.advance(|| Wasteful, |_| self.forward(x)),
                _ => memory.replay(x, |x| self.forward(x)),
            }
        }

        fn can_ensemble(&self) -> bool {
            self.breach >= 8
        }

        fn aux_loss(&self, x: &Tensor<3>) -> Option<Tensor<1>> {
            (self.breach == 8).then(|| x.clone().mean())
        }
    }

    #[derive(Clone, Debug)]
    struct Wasteful;

    impl LayerState for Wasteful {
        fn elements(&self) -> usize {
            1
        }
    }

    #[test]
    fn every_breach_is_caught() {
        let expected = [
            (0, CAUSAL),
            (1, POSITION_WISE),
            (2, GRADIENT),
            (3, SHAPE),
            (4, PARAMETERS),
            (5, REPEATABLE),
            (6, DECODES),
            (7, CACHE),
            (8, ENSEMBLE),
            (9, ENSEMBLE),
        ];
        for (breach, law) in expected {
            let cost = move |dims: &Dims, _| {
                let parameters = (2 + u64::from(breach == 4)) * dims.width().pow(2);
                LayerCost { parameters, ..LayerCost::default() }
            };
            let builds = AtomicU64::new(0);
            let role = if breach == 0 { Role::Sequence } else { Role::Channel };
            let broken = FnPrimitive::new("broken", 'Q', role, cost, move |dims, init, device| {
                let mut own = WeightInit::new(InitScheme::FanIn, Seed(builds.fetch_add(1, Relaxed)).rng("own", 0));
                let init = if breach == 5 { &mut own } else { init };
                let mut square = || init.linear(dims.d_model, dims.d_model, device);
                Ok(Block::new(Broken { linear: square(), unused: square(), breach }))
            });
            let error = check(&broken.unwrap(), &Device::flex()).unwrap_err();
            assert_eq!(error.law, law, "{error}");
        }
    }
}
