//! Launch scripts of pre-trainings.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    model::ModelSpec,
    primitive::{BuildError, InitScheme, PrimitiveId, Primitives, RegistryError, Symbol},
};

/// The pre-training of one model with Megatron-LM's `pretrain_hybrid.py`: print it, and it is a Bash script.
///
/// The names are those of Megatron-LM in August 2026 (commit d98e8a6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Megatron {
    /// One letter per layer, as `--hybrid-layer-pattern` takes it. Beware: `M` is Mamba-2 there.
    pub pattern: String,
    /// What each of our letters became: symbol, primitive, letter in the pattern.
    pub letters: Vec<(Symbol, PrimitiveId, char)>,
    /// The arguments that make the model.
    pub model: Vec<String>,
    /// The arguments that train it.
    pub training: Vec<String>,
}

/// How a model is pre-trained. The peak rate and the batch of the published Llama models of this size are good starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Length of a sequence in tokens.
    pub seq_len: usize,
    /// Tokens to train on.
    pub tokens: u64,
    /// Sequences per step, over all GPUs.
    pub global_batch: usize,
    /// Sequences per GPU at once.
    pub micro_batch: usize,
    /// Highest learning rate; the schedule is a cosine down to a tenth of it, after a warm-up over a hundredth of the
    /// samples.
    pub peak_rate: f64,
    /// GPUs per node.
    pub gpus: usize,
    /// GPUs that share one layer.
    pub tensor_parallel: usize,
}

impl Default for Training {
    /// 37.5 billion tokens, as in Composer's comparison at 1B, in steps of 256 sequences of 4096; eight GPUs.
    fn default() -> Self {
        Self {
            seq_len: 4096,
            tokens: 37_500_000_000,
            global_batch: 256,
            micro_batch: 1,
            peak_rate: 3e-4,
            gpus: 8,
            tensor_parallel: 1,
        }
    }
}

/// A model that Megatron's hybrid stack cannot express.
#[derive(Debug, Error)]
pub enum MegatronError {
    /// The specification cannot be built.
    #[error(transparent)]
    Spec(#[from] BuildError),
    /// The registry lacks a primitive.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A layer without a letter.
    #[error("Megatron's hybrid pattern has no letter for {id} ({symbol}); it has letters for {KNOWN}")]
    Layer {
        /// The primitive.
        id: PrimitiveId,
        /// Its letter here.
        symbol: Symbol,
    },
    /// A setting that is one for all layers there.
    #[error("Megatron cannot express this model: {0}")]
    Model(&'static str),
    /// A training that is none.
    #[error("{0} must be positive")]
    Training(&'static str),
}

/// Who has a letter.
const KNOWN: &str = "attention, swiglu, relu2";

/// The activation of all MLP layers of a model.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Activation {
    SwiGlu,
    SquaredRelu,
}

/// The launch script of a pre-training with Megatron-LM.
///
/// # Errors
/// [`MegatronError`] when a layer has no letter there or a setting differs between layers.
pub fn megatron(spec: &ModelSpec, primitives: &Primitives, training: &Training) -> Result<Megatron, MegatronError> {
    spec.validate()?;
    let mut letters: Vec<(Symbol, PrimitiveId, char)> = Vec::new();
    let mut activation = None;
    for &symbol in spec.architecture.layers() {
        if letters.iter().any(|(known, ..)| *known == symbol) {
            continue;
        }
        let id = primitives.get(symbol)?.id();
        let (letter, acts) = match id.as_str() {
            "attention" => ('*', None),
            "swiglu" => ('-', Some(Activation::SwiGlu)),
            "relu2" => ('-', Some(Activation::SquaredRelu)),
            _ => return Err(MegatronError::Layer { id, symbol }),
        };
        if acts.is_some() && activation.is_some() && acts != activation {
            return Err(MegatronError::Model("its MLP layers have one activation, this model has two"));
        }
        activation = acts.or(activation);
        letters.push((symbol, id, letter));
    }
    let letter = |symbol: &Symbol| letters.iter().find(|(known, ..)| known == symbol).map(|&(.., letter)| letter);
    let pattern = spec.architecture.layers().iter().filter_map(letter).collect::<String>();
    let model = model(spec, &pattern, activation, training)?;
    Ok(Megatron { pattern, letters, model, training: arguments(training)? })
}

/// The arguments that make the model.
fn model(
    spec: &ModelSpec,
    pattern: &str,
    activation: Option<Activation>,
    training: &Training,
) -> Result<Vec<String>, MegatronError> {
    let dims = &spec.dims;
    if dims.attention_bias || (spec.head_bias && !spec.tied_embeddings) {
        return Err(MegatronError::Model(
            "its biases are all or none, and the head has none; use attention_bias: false",
        ));
    }
    if dims.rope_theta.fract() != 0.0 {
        return Err(MegatronError::Model("--rotary-base is a whole number"));
    }
    let InitScheme::Normal(std) = spec.init else {
        return Err(MegatronError::Model("initial weights are normal: use InitScheme::Normal(0.02)"));
    };
    let mut all = words(&[("--hybrid-layer-pattern", format!("'{pattern}'"))]);
    all.push("--spec megatron.core.models.hybrid.hybrid_layer_specs hybrid_stack_spec".into());
    all.extend(words(&[
        ("--hidden-size", dims.d_model.to_string()),
        ("--ffn-hidden-size", dims.d_ff.to_string()),
        ("--num-attention-heads", dims.heads.to_string()),
        ("--kv-channels", dims.head_dim.to_string()),
    ]));
    if dims.kv_heads != dims.heads {
        all.push("--group-query-attention".into());
        all.push(format!("--num-query-groups {}", dims.kv_heads));
    }
    all.extend(words(&[
        ("--position-embedding-type", "rope".into()),
        ("--rotary-base", format!("{}", dims.rope_theta)),
        ("--rotary-percent", "1.0".into()),
        ("--normalization", "RMSNorm".into()),
        ("--norm-epsilon", dims.norm_eps.to_string()),
        ("--init-method-std", std.to_string()),
        ("--attention-dropout", "0.0".into()),
        ("--hidden-dropout", "0.0".into()),
        ("--seq-length", training.seq_len.to_string()),
        ("--max-position-embeddings", training.seq_len.to_string()),
        ("--vocab-size", spec.vocab_size.to_string()),
        ("--make-vocab-size-divisible-by", "1".into()),
    ]));
    all.push("--disable-bias-linear".into());
    all.extend(match activation {
        Some(Activation::SwiGlu) => Some("--swiglu".to_owned()),
        Some(Activation::SquaredRelu) => Some("--squared-relu".into()),
        None => None,
    });
    if !spec.tied_embeddings {
        all.push("--untie-embeddings-and-output-weights".into());
    }
    Ok(all)
}

/// The arguments that train it.
fn arguments(training: &Training) -> Result<Vec<String>, MegatronError> {
    let Training { seq_len, tokens, global_batch, micro_batch, peak_rate, gpus, tensor_parallel } = training;
    for (name, value) in [
        ("seq_len", *seq_len as u64),
        ("tokens", *tokens),
        ("global_batch", *global_batch as u64),
        ("micro_batch", *micro_batch as u64),
        ("gpus", *gpus as u64),
        ("tensor_parallel", *tensor_parallel as u64),
    ] {
        if value == 0 {
            return Err(MegatronError::Training(name));
        }
    }
    if !(peak_rate.is_finite() && *peak_rate > 0.0) {
        return Err(MegatronError::Training("peak_rate"));
    }
    let samples = tokens.div_ceil(*seq_len as u64);
    let mut all = vec!["--use-mcore-models".to_owned(), "--bf16".into()];
    all.extend(words(&[
        ("--transformer-impl", "transformer_engine".into()),
        ("--train-samples", samples.to_string()),
        ("--lr-decay-samples", samples.to_string()),
        ("--lr-warmup-samples", samples.div_ceil(100).to_string()),
        ("--lr-decay-style", "cosine".into()),
        ("--lr", peak_rate.to_string()),
        ("--min-lr", (peak_rate / 10.0).to_string()),
        ("--weight-decay", "0.1".into()),
        ("--adam-beta1", "0.9".into()),
        ("--adam-beta2", "0.95".into()),
        ("--clip-grad", "1.0".into()),
        ("--global-batch-size", global_batch.to_string()),
        ("--micro-batch-size", micro_batch.to_string()),
        ("--tensor-model-parallel-size", tensor_parallel.to_string()),
        ("--pipeline-model-parallel-size", "1".into()),
    ]));
    all.extend(["--use-distributed-optimizer", "--overlap-grad-reduce", "--overlap-param-gather"].map(str::to_owned));
    all.extend(words(&[
        ("--data-path", "\"$DATA_PATH\"".into()),
        ("--split", "99,1,0".into()),
        ("--tokenizer-type", "HuggingFaceTokenizer".into()),
        ("--tokenizer-model", "\"$TOKENIZER\"".into()),
        ("--load", "\"$CHECKPOINTS\"".into()),
        ("--save", "\"$CHECKPOINTS\"".into()),
        ("--save-interval", "1000".into()),
        ("--eval-interval", "1000".into()),
        ("--eval-iters", "10".into()),
        ("--log-interval", "10".into()),
        ("--ckpt-format", "torch_dist".into()),
    ]));
    all.push("--log-throughput".into());
    Ok(all)
}

fn words(pairs: &[(&str, String)]) -> Vec<String> {
    pairs.iter().map(|(name, value)| format!("{name} {value}")).collect()
}

impl Megatron {
    /// All arguments, those of the model first.
    pub fn arguments(&self) -> impl Iterator<Item = &str> {
        self.model.iter().chain(&self.training).map(String::as_str)
    }
}

impl fmt::Display for Megatron {
    /// A Bash script, to be started in a checkout of Megatron-LM.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "#!/usr/bin/env bash")?;
        writeln!(f, "# Pre-training with Megatron-LM; start it in a checkout. Letters of the pattern:")?;
        for (symbol, id, letter) in &self.letters {
            writeln!(f, "#   {symbol} ({id}) is {letter}")?;
        }
        writeln!(f, "set -euo pipefail")?;
        for (name, what) in [
            ("DATA_PATH", "prefix of Megatron's .bin and .idx"),
            ("TOKENIZER", "folder of a Hugging Face tokenizer"),
            ("CHECKPOINTS", "folder for checkpoints"),
            ("GPUS", "GPUs of this node"),
        ] {
            writeln!(f, ": \"${{{name}:?{what}}}\"")?;
        }
        writeln!(f, "export CUDA_DEVICE_MAX_CONNECTIONS=1\n\narguments=(")?;
        for argument in self.arguments() {
            writeln!(f, "    {argument}")?;
        }
        writeln!(f, ")\ntorchrun --standalone --nproc-per-node=\"$GPUS\" pretrain_hybrid.py \"${{arguments[@]}}\"")
    }
}
