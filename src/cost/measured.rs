//! Measures the times of layers on a device.

use std::time::Instant;

use burn::tensor::{Device, Int, Tensor, TensorData, module::embedding};
use rand_distr::{Distribution, StandardNormal};
use thiserror::Error;

use super::{LayerTimes, Seconds, Timing};
use crate::{
    device,
    dims::InitScheme,
    kernels::linear_transposed,
    layer::{LayerCache, WeightInit},
    limits::{self, LimitError},
    model::{ModelSpec, RmsNorm},
    primitive::{BuildError, Primitives, Symbol},
    seed::Seed,
    space::Architecture,
    statistics::median,
};

/// The error of a time measurement.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MeasureError {
    /// There is nothing to measure.
    #[error("{0:?} measures nothing: use at least one sequence, one token and one measurement")]
    Timing(Timing),
    /// A size exceeds a limit or the available memory.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// A layer cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
}

impl Timing {
    fn validate(self) -> Result<(), MeasureError> {
        let Self { batch, seq_len, repeats } = self;
        if batch == 0 || seq_len == 0 || repeats == 0 {
            return Err(MeasureError::Timing(self));
        }
        limits::at_most("repeats", repeats, limits::MAX_REPEATS)?;
        limits::at_most("batch", batch, limits::MAX_SEQUENCES)?;
        limits::product_at_most("seq_len", &[seq_len as u64], limits::MAX_SEQ_LEN)?;
        limits::product_at_most("batch * seq_len", &[batch as u64, seq_len as u64], limits::MAX_TOKENS)?;
        Ok(())
    }

    /// Checks the minimum memory that the measurement needs against what this process may use.
    ///
    /// This is the prompt, its sum with the layer's output, the layer's cache and weights, and the matrix that rotates
    /// the channels of a head while decoding; or the embedding and the logits. With an accelerator, only the prompt is
    /// in host memory.
    fn check_memory(
        self,
        symbols: &[Symbol],
        like: &ModelSpec,
        primitives: &Primitives,
        device: &Device,
    ) -> Result<(), MeasureError> {
        let [batch, seq, width, vocabulary] =
            [self.batch, self.seq_len, like.dims.d_model, like.vocab_size].map(|size| size as u64);
        let prompt = limits::product(&[batch, seq, width]);
        let check = |numbers: u128| limits::check_memory("the measurement", numbers.saturating_mul(4));
        check(prompt)?;
        if device::is_accelerator(device) {
            return Ok(());
        }
        check(limits::product(&[vocabulary, width]) + limits::product(&[vocabulary, batch]))?;
        for &symbol in symbols {
            let cost = primitives.get(symbol).map_err(BuildError::from)?.cost(&like.dims, seq);
            let kept = limits::product(&[batch, cost.cache_elements]);
            let head = if cost.attention_width > 0 { like.dims.head_dim as u64 } else { 0 };
            let turn = limits::product(&[head, head]);
            check([2 * prompt, kept, cost.parameters.into(), turn].into_iter().fold(0, u128::saturating_add))?;
        }
        Ok(())
    }
}

impl LayerTimes {
    /// Measures every kind of layer that occurs in `architectures`, at the widths and vocabulary of `like`, on
    /// `device`.
    ///
    /// For meaningful times, run it in a program that does nothing else.
    ///
    /// # Errors
    /// Returns [`MeasureError`] if a layer cannot be built, if there is nothing to measure, or if the memory does not
    /// suffice.
    pub fn measure<'a>(
        architectures: impl IntoIterator<Item = &'a Architecture>,
        like: &ModelSpec,
        primitives: &Primitives,
        timing: Timing,
        device: &Device,
    ) -> Result<Self, MeasureError> {
        let symbols = Self::check(architectures, like, primitives, timing, device)?;
        let layer = |&symbol| Ok((symbol, time_layer(symbol, like, primitives, timing, device)?));
        let layers = symbols.iter().map(layer).collect::<Result<_, BuildError>>()?;
        Ok(Self { timing, layers, ends: time_ends(like, timing, device) })
    }

    /// Returns the symbols that [`measure`](Self::measure) would time, each once and in order.
    ///
    /// # Errors
    /// Returns [`MeasureError`] if `measure` would return one before timing.
    pub fn check<'a>(
        architectures: impl IntoIterator<Item = &'a Architecture>,
        like: &ModelSpec,
        primitives: &Primitives,
        timing: Timing,
        device: &Device,
    ) -> Result<Vec<Symbol>, MeasureError> {
        timing.validate()?;
        let mut symbols: Vec<_> = architectures.into_iter().flat_map(Architecture::layers).copied().collect();
        symbols.sort_unstable();
        symbols.dedup();
        like.validate()?;
        timing.check_memory(&symbols, like, primitives, device)?;
        Ok(symbols)
    }
}

/// Times one residual block.
fn time_layer(
    symbol: Symbol,
    like: &ModelSpec,
    primitives: &Primitives,
    timing: Timing,
    device: &Device,
) -> Result<Seconds, BuildError> {
    let Timing { batch, seq_len, repeats } = timing;
    let mut rng = Seed(0).rng("cost/layer", 0);
    let mut input = |seq: usize| {
        let shape = [batch, seq, like.dims.d_model];
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| StandardNormal.sample(&mut rng)).collect();
        Tensor::<3>::from_data(TensorData::new(values, shape), device)
    };
    let prompt = input(seq_len);
    let next = input(1);
    let mut init = WeightInit::new(InitScheme::FanIn, Seed(0).rng("cost/layer", 1));
    let layer = primitives.get(symbol)?.build(&like.dims, &mut init, device)?;
    let norm = RmsNorm::new(like.dims.d_model, like.dims.norm_eps, device);
    let prefill = time(repeats, || prompt.clone() + layer.forward(norm.forward(prompt.clone())));
    let mut memory = LayerCache::default();
    wait(layer.step(norm.forward(prompt.clone()), &mut memory));
    let decode = time(repeats, || next.clone() + layer.step(norm.forward(next.clone()), &mut memory));
    Ok(Seconds { prefill, decode })
}

/// Times embedding, final norm and head. In prefill, only the last token needs logits. The weights are zero, which does
/// not change the time.
fn time_ends(like: &ModelSpec, timing: Timing, device: &Device) -> Seconds {
    let Timing { batch, seq_len, repeats } = timing;
    let vocab_size = like.vocab_size;
    let width = like.dims.d_model;
    let weights = Tensor::<2>::zeros([vocab_size, width], device);
    let norm = RmsNorm::new(width, like.dims.norm_eps, device);
    let tokens = |seq: usize| {
        let ids: Vec<i64> = (0..batch * seq).map(|at| (at * 7919 % vocab_size) as i64).collect();
        Tensor::<2, Int>::from_data(TensorData::new(ids, [batch, seq]), device)
    };
    let prompt = tokens(seq_len);
    let next = tokens(1);
    let run = |tokens: &Tensor<2, Int>| {
        let [batch, seq] = tokens.dims();
        let last = embedding(weights.clone(), tokens.clone()).slice([0..batch, seq - 1..seq, 0..width]);
        linear_transposed(norm.forward(last), weights.clone())
    };
    Seconds { prefill: time(repeats, || run(&prompt)), decode: time(repeats, || run(&next)) }
}

/// Returns the median time of `work` until the device has finished, in seconds.
fn time(repeats: usize, mut work: impl FnMut() -> Tensor<3>) -> f64 {
    wait(work());
    let measure = |_| {
        let start = Instant::now();
        wait(work());
        start.elapsed().as_secs_f64()
    };
    let seconds: Vec<_> = (0..repeats).map(measure).collect();
    median(&seconds).unwrap_or(f64::NAN)
}

/// Waits until the device has computed `x`, by reading one of its numbers.
fn wait(x: Tensor<3>) {
    let _ = x.slice([0..1, 0..1, 0..1]).into_data();
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::{dims::Dims, extrapolate::Target};

    #[test]
    fn a_model_takes_the_sum_of_its_layers_and_ends() {
        let like = Target::custom("tiny", Dims::new(16, 32, 2).unwrap(), 50, true, 1).unwrap().baseline_model();
        let timing = Timing { batch: 2, seq_len: 8, repeats: 3 };
        let architectures: [Architecture; 2] = ["2A+1M".parse().unwrap(), "M".parse().unwrap()];
        let primitives = Primitives::standard();
        let times = LayerTimes::measure(&architectures, &like, &primitives, timing, &Device::flex()).unwrap();
        assert_eq!(times.layers.len(), 2);
        assert!(times.layers.values().chain([&times.ends]).all(|time| time.prefill > 0.0 && time.decode > 0.0));
        let sum = times.of(&architectures[0]).unwrap();
        let [attention, mlp] = [Symbol::ATTENTION, Symbol::SWIGLU].map(|symbol| times.layers[&symbol]);
        assert!((sum.prefill - (2.0 * attention.prefill + mlp.prefill + times.ends.prefill)).abs() < 1e-12);
        assert!((sum.decode - (2.0 * attention.decode + mlp.decode + times.ends.decode)).abs() < 1e-12);
        assert_eq!(times.of(&"AF".parse().unwrap()), None);
        assert_eq!(times.to_string().lines().count(), 1 + 2 + 1 + 1);
    }

    #[test]
    fn nothing_to_time_is_refused() {
        let like = Target::llama_350m().baseline_model();
        let none = Timing { batch: 1, seq_len: 0, repeats: 1 };
        let measure = |architecture: &str, timing| {
            let architecture: Architecture = architecture.parse().unwrap();
            LayerTimes::measure([&architecture], &like, &Primitives::standard(), timing, &Device::flex()).unwrap_err()
        };
        assert!(matches!(measure("A", none), MeasureError::Timing(timing) if timing == none));
        for huge in [1 << 63, usize::MAX, 1 << 30] {
            for timing in [
                Timing { batch: huge, seq_len: 1024, repeats: 1 },
                Timing { batch: 1024, seq_len: huge, repeats: 1 },
                Timing { batch: 1, seq_len: 1, repeats: huge },
            ] {
                assert!(matches!(measure("A", timing), MeasureError::Limit(_)), "{timing:?}");
            }
        }
        assert!(matches!(measure("Z", Timing { seq_len: 1, ..none }), MeasureError::Build(BuildError::Registry(_))));
    }
}
