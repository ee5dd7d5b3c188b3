//! How candidates are trained on text.

use std::num::Saturating;

use serde::{Deserialize, Serialize};

use super::CorpusError;
use crate::{
    cost::{CostError, ModelCost, Workload},
    dims::{Dims, InitScheme},
    limits::{self, LimitError},
    model::ModelSpec,
    primitive::Primitives,
    space::Architecture,
    train::{AdamWConfig, LrSchedule, Precision, TrainConfig, TrainError},
};

/// The settings for training candidates on text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusProtocol {
    /// The widths of all layers.
    pub dims: Dims,
    /// The initialisation of the weights.
    pub init: InitScheme,
    /// The number of tokens per sequence.
    pub seq_len: usize,
    /// The number of sequences per step.
    pub batch_size: usize,
    /// The training budget of a candidate.
    pub budget: TrainBudget,
    /// The peak learning rate. It is reached after a warm-up of a twentieth of the steps and falls to a tenth along a
    /// cosine.
    pub learning_rate: f64,
    /// The optimizer.
    pub optimizer: AdamWConfig,
    /// The maximum norm of the gradient of all parameters, for clipping.
    pub clip_norm: f64,
    /// The number of evenly spaced evaluations during the training. The last one gives the score.
    pub evaluations: usize,
    /// The fraction of the corpus, at its end, that is held out for validation.
    pub validation_share: f64,
    /// The number of windows of the held-out text on which candidates are evaluated.
    pub validation_windows: u64,
}

/// The training budget of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainBudget {
    /// The same number of tokens for every candidate.
    Tokens(u64),
    /// The same number of floating-point operations for every candidate, as counted by [`ModelCost`], so cheaper
    /// candidates see more tokens.
    Flops(f64),
}

/// The compute-optimal number of tokens per parameter (Hoffmann et al. 2022, arXiv 2203.15556, table 3: about 20 for
/// all sizes).
const CHINCHILLA: u64 = 20;

/// Returns the learning rate for a model of this width: 3e-3 at 256, then inversely proportional to the width, as for
/// Adam in Yang et al. 2022, arXiv 2203.03466.
fn learning_rate(width: usize) -> f64 {
    3e-3 * (256.0 / width as f64).min(1.0)
}

impl CorpusProtocol {
    /// Shrinks model and data together, as Composer's small-scale evaluator does.
    ///
    /// `dims` are the widths of a target with `target_layers` layers, and candidates have `layers` layers. The width
    /// shrinks with the depth at a constant ratio, and a candidate of average size sees 20 tokens per parameter.
    /// Composer does not publish its widths; these follow from those of the target. For absurd sizes, the returned
    /// protocol is invalid.
    pub fn small_scale(dims: &Dims, target_layers: usize, layers: usize) -> Self {
        let heads = (dims.heads.saturating_mul(layers) / target_layers.max(1)).clamp(1, limits::MAX_WIDTH);
        let kv_heads = (1..=heads)
            .rev()
            .find(|kv| {
                heads.is_multiple_of(*kv) && kv.saturating_mul(dims.heads) <= heads.saturating_mul(dims.kv_heads)
            })
            .unwrap_or(1);
        let width = heads.saturating_mul(dims.head_dim);
        let d_ff = (dims.d_ff.saturating_mul(width) / dims.d_model.max(1)).max(1);
        let small = Dims { d_model: width, d_ff, heads, kv_heads, ..dims.clone() };
        let [width, inner] = [width, d_ff].map(|width| Saturating(width as u64));
        let layer = width * (Saturating(4) * width + Saturating(3) * inner);
        let tokens = (Saturating(CHINCHILLA) * Saturating(layers as u64) * layer).0 / 2;
        Self::with(small, 1024, 64, TrainBudget::Tokens(tokens))
    }

    /// Shrinks only the data, as Composer's large-scale evaluator does: candidates have the widths of the target and
    /// see `tokens` tokens each.
    pub fn large_scale(dims: &Dims, tokens: u64) -> Self {
        Self::with(dims.clone(), 2048, 256, TrainBudget::Tokens(tokens))
    }

    /// Small models of width 256 on simple text, such as TinyStories (Eldan and Li 2023, arXiv 2305.07759) or
    /// BabiStories, Composer's third corpus. Candidates see `tokens` tokens each. The settings are our own.
    pub fn stories(tokens: u64) -> Self {
        let dims = Dims {
            d_model: 256,
            d_ff: 768,
            heads: 8,
            kv_heads: 4,
            head_dim: 32,
            rope_theta: 10_000.0,
            rope_scaling: None,
            norm_eps: 1e-5,
            attention_bias: false,
        };
        Self::with(dims, 256, 32, TrainBudget::Tokens(tokens))
    }

    fn with(dims: Dims, seq_len: usize, batch_size: usize, budget: TrainBudget) -> Self {
        Self {
            learning_rate: learning_rate(dims.d_model),
            dims,
            init: InitScheme::FanIn,
            seq_len,
            batch_size,
            budget,
            optimizer: AdamWConfig { beta2: 0.95, weight_decay: 0.1, ..AdamWConfig::default() },
            clip_norm: 1.0,
            evaluations: 10,
            validation_share: 0.05,
            validation_windows: 256,
        }
    }

    /// Returns the model of a candidate for a vocabulary of `vocab_size` tokens.
    pub fn model(&self, architecture: Architecture, vocab_size: usize) -> ModelSpec {
        ModelSpec {
            architecture,
            dims: self.dims.clone(),
            vocab_size,
            tied_embeddings: true,
            head_bias: false,
            init: self.init,
        }
    }

    /// Returns the number of floating-point operations per training step of `model`.
    ///
    /// # Errors
    /// [`CostError`] if its cost is not known.
    pub fn flops_per_step(&self, model: &ModelSpec, primitives: &Primitives) -> Result<f64, CostError> {
        let cost = ModelCost::new(model, primitives, Workload::bf16(self.seq_len as u64))?;
        Ok(cost.train_flops_per_token as f64 * self.tokens_per_step())
    }

    /// Returns the training settings for `model`: at least one step, and at most as many as the budget allows.
    ///
    /// # Errors
    /// [`CostError`] if its cost is not known.
    pub fn training(&self, model: &ModelSpec, primitives: &Primitives) -> Result<TrainConfig, CostError> {
        let steps = match self.budget {
            TrainBudget::Tokens(tokens) => tokens as f64 / self.tokens_per_step(),
            TrainBudget::Flops(flops) => flops / self.flops_per_step(model, primitives)?,
        };
        let steps = (steps as usize).max(1);
        let schedule = LrSchedule {
            warmup_steps: steps / 20,
            ..LrSchedule::cosine(self.learning_rate, self.learning_rate / 10.0, steps)
        };
        Ok(TrainConfig {
            steps,
            batch_size: self.batch_size,
            schedule,
            optimizer: self.optimizer,
            clip_norm: Some(self.clip_norm),
            evaluate_every: steps.div_ceil(self.evaluations.max(1)),
            log_every: 1,
            stop_above: None,
            precision: Precision::Single,
            recompute: false,
        })
    }

    /// Checks the protocol, apart from what depends on the corpus.
    ///
    /// # Errors
    /// [`CorpusError`] for the first invalid setting.
    pub fn validate(&self) -> Result<(), CorpusError> {
        self.dims.validate()?;
        self.optimizer.validate()?;
        let positive = [("learning_rate", self.learning_rate), ("clip_norm", self.clip_norm)];
        if let Some((name, value)) = positive.into_iter().find(|(_, value)| !(value.is_finite() && *value > 0.0)) {
            return Err(TrainError::NotPositive { name, value }.into());
        }
        let counts = [("batch_size", self.batch_size), ("seq_len", self.seq_len), ("evaluations", self.evaluations)];
        if let Some((name, _)) = counts.into_iter().find(|&(_, count)| count == 0) {
            return Err(TrainError::Zero(name).into());
        }
        Ok(self.check_sizes().map_err(TrainError::from)?)
    }

    /// With a budget of tokens, all candidates take the same number of steps. With one of FLOPs, each is checked when
    /// it trains.
    fn check_sizes(&self) -> Result<(), LimitError> {
        limits::at_most("batch_size", self.batch_size, limits::MAX_SEQUENCES)?;
        let sizes = [self.batch_size as u64, self.seq_len as u64];
        let tokens_per_step = limits::product_at_most("batch_size * seq_len", &sizes, limits::MAX_TOKENS)?;
        match self.budget {
            TrainBudget::Tokens(0) => limits::check_flops("the budget", 0.0),
            TrainBudget::Tokens(tokens) => {
                let steps = tokens / tokens_per_step.max(1);
                limits::product_at_most("the number of steps", &[steps], limits::MAX_STEPS as u64).map(drop)
            }
            TrainBudget::Flops(flops) => limits::check_flops("the budget", flops),
        }
    }

    fn tokens_per_step(&self) -> f64 {
        self.batch_size as f64 * self.seq_len as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extrapolate::Target;

    #[test]
    fn small_scale_keeps_the_ratio_of_width_and_depth() {
        let target = Target::llama_1b();
        let protocol = CorpusProtocol::small_scale(&target.dims, target.baseline.len(), 6);
        let Dims { d_model, d_ff, heads, kv_heads, head_dim, .. } = protocol.dims;
        assert_eq!((d_model, d_ff, heads, kv_heads, head_dim), (384, 1536, 6, 1, 64));
        assert_eq!(protocol.dims.validate(), Ok(()));
        // Three attention layers (4 d^2), three SwiGLU layers (3 d f), 20 tokens per parameter.
        assert_eq!(protocol.budget, TrainBudget::Tokens(20 * 3 * (4 * 384 * 384 + 3 * 384 * 1536)));
        let sixteen = CorpusProtocol::small_scale(&target.dims, target.baseline.len(), 16);
        assert_eq!((sixteen.dims.d_model, sixteen.dims.heads, sixteen.dims.kv_heads), (1024, 16, 4));
        let large = CorpusProtocol::large_scale(&target.dims, 1 << 30);
        assert_eq!((large.dims, large.budget), (target.dims, TrainBudget::Tokens(1 << 30)));
        assert_eq!(CorpusProtocol::stories(1).dims.validate(), Ok(()));
    }

    #[test]
    fn settings_are_those_that_the_documentation_states() {
        let protocol = CorpusProtocol::stories(1_000_000);
        assert_eq!((protocol.dims.d_model, protocol.learning_rate), (256, 3e-3));
        let wide = Dims { d_model: 1024, ..protocol.dims.clone() };
        assert_eq!(CorpusProtocol::large_scale(&wide, 1).learning_rate, 3e-3 / 4.0);
        let model = protocol.model("AM".parse().unwrap(), 1000);
        let config = protocol.training(&model, &Primitives::standard()).unwrap();
        // 1,000,000 tokens in steps of 32 x 256.
        assert_eq!((config.steps, config.schedule.warmup_steps, config.evaluate_every), (122, 6, 13));
        assert!((config.schedule.at(122) - 3e-4).abs() < 1e-12);
        assert_eq!(config.schedule.at(6), 3e-3);
        let none = CorpusProtocol { budget: TrainBudget::Tokens(1), ..protocol };
        assert_eq!(none.training(&model, &Primitives::standard()).unwrap().steps, 1);
    }

    #[test]
    fn equal_work_means_fewer_tokens_for_larger_models() {
        let primitives = Primitives::standard();
        let protocol = CorpusProtocol { budget: TrainBudget::Flops(1e14), ..CorpusProtocol::stories(1) };
        let work = |layers: &str| {
            let model = protocol.model(layers.parse().unwrap(), 1000);
            let steps = protocol.training(&model, &primitives).unwrap().steps;
            (steps, steps as f64 * protocol.flops_per_step(&model, &primitives).unwrap())
        };
        let small = work("1A+1M");
        let large = work("4A+4M");
        assert!(small.0 > 2 * large.0, "{small:?} {large:?}");
        for (_, flops) in [small, large] {
            assert!((0.97..=1.0).contains(&(flops / 1e14)), "{flops}");
        }
    }
}
