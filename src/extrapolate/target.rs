//! Target models.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    cost::{Comparison, CostError, Workload},
    dims::{Dims, DimsError, InitScheme},
    limits::{self, LimitError},
    model::ModelSpec,
    primitive::{Attention, Primitive, Primitives, SwiGlu},
    space::{Architecture, baseline},
};

/// The size and widths of the model to build, and the architecture that it is compared with.
///
/// ```
/// use composer_nas::prelude::*;
/// let target = Target::named("llama_1b")?;
/// assert_eq!(target, Target::llama_1b());
/// assert_eq!(target.baseline.len(), 32);
/// # Ok::<(), composer_nas::extrapolate::TargetError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The name in tables and messages.
    pub name: String,
    /// The widths of all layers.
    pub dims: Dims,
    /// Number of token ids.
    pub vocab_size: usize,
    /// Whether the output head shares the weights of the embedding.
    pub tied_embeddings: bool,
    /// Parameters of all layers together, without embedding, head and norms.
    #[serde(rename = "body_parameters", alias = "non_embedding_parameters")]
    pub non_embedding_parameters: u64,
    /// The layers of the reference model at these widths.
    pub baseline: Architecture,
}

/// A function that returns a named target.
type Preset = fn() -> Target;

/// The named targets.
const PRESETS: [(&str, Preset); 4] = [
    ("llama_350m", Target::llama_350m),
    ("llama_1b", Target::llama_1b),
    ("llama_3b", Target::llama_3b),
    ("llama_8b", Target::llama_8b),
];

/// Maximum number of blocks of attention and MLP: each adds two layers to the baseline.
const MAX_BLOCKS: usize = Architecture::MAX_LAYERS / 2;

impl Target {
    /// Half the widths of [`Target::llama_1b`].
    ///
    /// Composer has a 350M target as well, but its widths are not published, so these are specific to this crate.
    pub fn llama_350m() -> Self {
        Self::unchecked("llama_350m".into(), llama_dims(1024, 4096, [16, 4], 64), 128_256, true, 16)
    }

    /// Returns the size and widths of Llama 3.2 1B.
    pub fn llama_1b() -> Self {
        Self::unchecked("llama_1b".into(), llama_dims(2048, 8192, [32, 8], 64), 128_256, true, 16)
    }

    /// Returns the size and widths of Llama 3.2 3B.
    pub fn llama_3b() -> Self {
        Self::unchecked("llama_3b".into(), llama_dims(3072, 8192, [24, 8], 128), 128_256, true, 28)
    }

    /// Returns the size and widths of Llama 3.1 8B.
    pub fn llama_8b() -> Self {
        Self::unchecked("llama_8b".into(), llama_dims(4096, 14336, [32, 8], 128), 128_256, false, 32)
    }

    /// Creates a target of the size of `blocks` blocks of attention and SwiGLU at custom widths. That sequence is the
    /// baseline.
    ///
    /// # Errors
    /// Returns [`TargetError`] if the widths are invalid or there are no blocks, too many blocks, or no tokens.
    pub fn custom(
        name: impl Into<String>,
        dims: Dims,
        vocab_size: usize,
        tied_embeddings: bool,
        blocks: usize,
    ) -> Result<Self, TargetError> {
        dims.validate()?;
        if blocks == 0 || blocks > MAX_BLOCKS {
            return Err(TargetError::Blocks(blocks));
        }
        let target = Self::unchecked(name.into(), dims, vocab_size, tied_embeddings, blocks);
        target.validate()?;
        Ok(target)
    }

    /// Returns the target of this name.
    ///
    /// # Errors
    /// Returns [`TargetError::Unknown`] with the known names.
    pub fn named(name: &str) -> Result<Self, TargetError> {
        let preset = PRESETS.iter().find(|(known, _)| *known == name);
        let known = || Self::names().collect::<Vec<_>>().join(", ");
        preset.map(|(_, target)| target()).ok_or_else(|| TargetError::Unknown { name: name.into(), known: known() })
    }

    /// Returns the names that [`Target::named`] accepts.
    pub fn names() -> impl Iterator<Item = &'static str> {
        PRESETS.iter().map(|(name, _)| *name)
    }

    /// Validates a target that was written by hand.
    ///
    /// # Errors
    /// Returns [`TargetError`] if the widths are invalid, the vocabulary is empty, or a size exceeds its limit.
    pub fn validate(&self) -> Result<(), TargetError> {
        self.dims.validate()?;
        if self.vocab_size == 0 {
            return Err(TargetError::NoVocabulary);
        }
        limits::at_most("vocab_size", self.vocab_size, limits::MAX_VOCABULARY)?;
        Ok(limits::at_most("the number of layers of the baseline", self.baseline.len(), limits::MAX_LAYERS)?)
    }

    /// Compares the costs of named architectures at the target's widths. The target's baseline is the first row.
    ///
    /// # Errors
    /// Returns [`CostError`] for the first model whose cost cannot be computed.
    pub fn compare<'a>(
        &self,
        architectures: impl IntoIterator<Item = (impl Into<String>, &'a Architecture)>,
        primitives: &Primitives,
        workload: Workload,
    ) -> Result<Comparison, CostError> {
        let built = |(name, architecture): (_, &Architecture)| (Into::into(name), self.model(architecture.clone()));
        let models: Vec<(String, ModelSpec)> = [(self.name.clone(), self.baseline_model())]
            .into_iter()
            .chain(architectures.into_iter().map(built))
            .collect();
        Comparison::new(models.iter().map(|(name, spec)| (name.as_str(), spec)), primitives, workload)
    }

    /// Returns the model with these layers at the target's widths.
    ///
    /// Initial weights are normal with standard deviation 0.02, as in the published Llama configurations.
    pub fn model(&self, architecture: Architecture) -> ModelSpec {
        ModelSpec {
            architecture,
            dims: self.dims.clone(),
            vocab_size: self.vocab_size,
            tied_embeddings: self.tied_embeddings,
            head_bias: false,
            init: InitScheme::Normal(0.02),
        }
    }

    /// Returns the reference model.
    pub fn baseline_model(&self) -> ModelSpec {
        self.model(self.baseline.clone())
    }

    /// Creates a target of `blocks` blocks of attention and SwiGLU, without validation.
    fn unchecked(name: String, dims: Dims, vocab_size: usize, tied_embeddings: bool, blocks: usize) -> Self {
        let block = Attention.cost(&dims, 0).parameters + SwiGlu.cost(&dims, 0).parameters;
        let non_embedding_parameters = block * blocks as u64;
        let baseline = baseline::llama(blocks);
        Self { name, dims, vocab_size, tied_embeddings, non_embedding_parameters, baseline }
    }
}

/// Returns the widths of a Llama 3 model. `heads` are the numbers of query heads and KV heads.
fn llama_dims(d_model: usize, d_ff: usize, heads: [usize; 2], head_dim: usize) -> Dims {
    let [heads, kv_heads] = heads;
    Dims {
        d_model,
        d_ff,
        heads,
        kv_heads,
        head_dim,
        rope_theta: 500_000.0,
        rope_scaling: None,
        norm_eps: 1e-5,
        attention_bias: false,
    }
}

/// The error of an unknown or invalid target.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum TargetError {
    /// The widths are invalid or inconsistent.
    #[error(transparent)]
    Dims(#[from] DimsError),
    /// There are no blocks or too many.
    #[error("the target has {0} blocks: use between 1 and {MAX_BLOCKS}")]
    Blocks(usize),
    /// The vocabulary is empty.
    #[error("the target's vocab_size is 0: a language model needs at least one token")]
    NoVocabulary,
    /// A size exceeds its limit.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// There is no target of this name.
    #[error("unknown target {name:?}; known targets: {known}; or create one with Target::custom")]
    Unknown {
        /// The requested name.
        name: String,
        /// The known names.
        known: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_known_by_their_names() {
        for name in Target::names() {
            let target = Target::named(name).unwrap();
            assert_eq!(target.name, name);
            assert_eq!(target.validate(), Ok(()));
            let text = serde_json::to_string(&target).unwrap();
            assert_eq!(serde_json::from_str::<Target>(&text).unwrap(), target);
        }
        let error = Target::named("llama_7b").unwrap_err().to_string();
        assert!(error.contains("llama_7b") && error.contains("llama_350m, llama_1b, llama_3b, llama_8b"), "{error}");
    }

    #[test]
    fn body_sizes_are_those_of_the_published_models() {
        let norms = |target: &Target| (target.baseline.len() * target.dims.d_model) as u64;
        for (target, with_norms) in [
            (Target::llama_1b(), 973_144_064),
            (Target::llama_3b(), 2_818_744_320),
            (Target::llama_8b(), 6_979_584_000),
        ] {
            assert_eq!(target.non_embedding_parameters + norms(&target), with_norms, "{}", target.name);
        }
    }

    #[test]
    fn custom_targets_are_checked() {
        let one = Target::llama_1b();
        let again = Target::custom("llama_1b", one.dims.clone(), 128_256, true, 16).unwrap();
        assert_eq!(again, one);
        let custom =
            |dims: &Dims, vocab, blocks| Target::custom("mine", dims.clone(), vocab, true, blocks).unwrap_err();
        assert_eq!(custom(&one.dims, 10, 0), TargetError::Blocks(0));
        assert_eq!(custom(&one.dims, 10, usize::MAX), TargetError::Blocks(usize::MAX));
        assert_eq!(custom(&one.dims, 0, 2), TargetError::NoVocabulary);
        for wide in [0, 1 << 62] {
            assert!(matches!(custom(&Dims { d_ff: wide, ..one.dims.clone() }, 10, 2), TargetError::Dims(_)));
        }
    }
}
