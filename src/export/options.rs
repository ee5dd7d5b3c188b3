//! The options of an export.

use std::path::PathBuf;

use half::{bf16, f16};
use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use super::Provenance;

/// How a model is written. See the [module](super) for the formats.
#[derive(Clone, Debug)]
pub struct Options {
    /// The title of the model card. The default is the name of the folder.
    pub name: Option<String>,
    /// The model class that will load the folder.
    pub format: Format,
    /// The number type of the weights, or of the weights that the receiver will draw if none are written.
    pub precision: StoredPrecision,
    /// The largest size of a safetensors file in bytes. Larger models are split.
    pub shard_bytes: u64,
    /// The longest sequence that the receiver allows, in tokens (`max_position_embeddings`). The weights do not depend
    /// on it.
    pub max_positions: usize,
    /// The special tokens.
    pub tokens: SpecialTokens,
    /// A folder with a `tokenizer.json`, whose tokenizer files are copied.
    pub tokenizer: Option<PathBuf>,
    /// How the architecture was found, for the model card.
    pub provenance: Option<Provenance>,
    /// Whether to replace an existing folder that has a config.json.
    pub overwrite: bool,
    /// Whether to return an error instead of a [`Warning`](super::Warning).
    pub strict: bool,
}

impl Default for Options {
    /// Returns the defaults: the first format that fits, weights in single precision, files of at most 5 GB, 4096
    /// positions, no tokenizer, no overwriting.
    fn default() -> Self {
        Self {
            name: None,
            format: Format::Auto,
            precision: StoredPrecision::F32,
            shard_bytes: 5_000_000_000,
            max_positions: 4096,
            tokens: SpecialTokens::default(),
            tokenizer: None,
            provenance: None,
            overwrite: false,
            strict: false,
        }
    }
}

/// The model class that loads a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Format {
    /// [`DeciLm`](Self::DeciLm) if it can express the model, else the first class of transformers that can, else
    /// [`Flat`](Self::Flat).
    Auto,
    /// Blocks of attention and SwiGLU, in which either half can be missing: the `block_configs` of DeciLM and
    /// Nemotron-NAS. No weights are wasted. Loads in transformers (with the two included Python modules) and in vLLM.
    DeciLm,
    /// [`DeciLm`](Self::DeciLm) with layers of zeros where llama.cpp needs them: a SwiGLU of width 256 in blocks
    /// without one, and attention in the first block if it has none.
    LlamaCpp,
    /// A plain Llama of attention and SwiGLU, in which missing halves are filled with zeros. Loads everywhere without
    /// custom code, but wastes the weights and the cache of those halves.
    Llama,
    /// The class `nemotron_h` of transformers: attention without positions, Mamba-2, MLPs with one activation, and
    /// mixtures of such MLPs with sigmoid routing, in any order. Like the six classes below, it needs no custom code.
    NemotronH,
    /// The class `mamba2`: Mamba-2 only.
    Mamba2,
    /// The class `lfm2`: gated convolutions and attention with norms per head, each followed by a SwiGLU.
    Lfm2,
    /// The class `qwen3`: attention with norms per head, each followed by a SwiGLU.
    Qwen3,
    /// The class `bamba`: Mamba-2 and half-rotary attention, each followed by a SwiGLU.
    Bamba,
    /// The class `granitemoehybrid` without experts: Mamba-2 and attention with or without positions, each followed by
    /// a SwiGLU.
    GraniteMoeHybrid,
    /// The class `qwen3_next`: gated DeltaNet and gated attention with norms per head, each followed by a SwiGLU or a
    /// mixture of experts.
    Qwen3Next,
    /// One layer per block, of any kind that transformers supports. Loads in transformers with the included model
    /// class.
    Flat,
}

/// The number type of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StoredPrecision {
    /// Single precision. Weights are exact.
    F32,
    /// Half precision, rounded to nearest even. Weights beyond 65504 are an error.
    F16,
    /// bfloat16, rounded to nearest even.
    Bf16,
}

impl StoredPrecision {
    /// Returns the name in config.json.
    pub fn name(self) -> &'static str {
        match self {
            StoredPrecision::F32 => "float32",
            StoredPrecision::F16 => "float16",
            StoredPrecision::Bf16 => "bfloat16",
        }
    }

    /// Returns the number of bytes per value.
    pub(crate) fn width(self) -> usize {
        match self {
            StoredPrecision::F32 => 4,
            StoredPrecision::F16 | StoredPrecision::Bf16 => 2,
        }
    }

    pub(super) fn dtype(self) -> Dtype {
        match self {
            StoredPrecision::F32 => Dtype::F32,
            StoredPrecision::F16 => Dtype::F16,
            StoredPrecision::Bf16 => Dtype::BF16,
        }
    }

    /// Converts numbers to little-endian bytes. Returns `None` if a finite number would become infinite.
    pub(super) fn bytes(self, values: &[f32]) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(values.len() * self.width());
        for &value in values {
            match self {
                StoredPrecision::F32 => bytes.extend(value.to_le_bytes()),
                StoredPrecision::F16 => {
                    let half = f16::from_f32(value);
                    if half.is_infinite() && value.is_finite() {
                        return None;
                    }
                    bytes.extend(half.to_le_bytes());
                }
                StoredPrecision::Bf16 => {
                    let half = bf16::from_f32(value);
                    if half.is_infinite() && value.is_finite() {
                        return None;
                    }
                    bytes.extend(half.to_le_bytes());
                }
            }
        }
        Some(bytes)
    }
}

/// The ids of special tokens. Missing ones are written as null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpecialTokens {
    /// The token that begins a text.
    pub bos: Option<u32>,
    /// The token that ends a text, at which generation stops.
    pub eos: Option<u32>,
    /// The padding token.
    pub pad: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_as_documented() {
        let options = Options::default();
        assert_eq!((options.format, options.precision), (Format::Auto, StoredPrecision::F32));
        assert_eq!((options.shard_bytes, options.max_positions), (5_000_000_000, 4096));
        assert!(options.tokenizer.is_none() && !options.overwrite && !options.strict);
    }

    #[test]
    fn numbers_are_rounded_to_the_nearest_or_refused() {
        // 1 + 2^-8 is halfway between two bfloat16 numbers and is rounded to the even one.
        assert_eq!(StoredPrecision::Bf16.bytes(&[1.0 + 0.5f32.powi(8)]), Some(vec![0x80, 0x3f]));
        assert_eq!(StoredPrecision::F16.bytes(&[-2.0]), Some(vec![0x00, 0xc0]));
        assert_eq!(StoredPrecision::F32.bytes(&[1.0]), Some(vec![0, 0, 0x80, 0x3f]));
        assert_eq!(StoredPrecision::F16.bytes(&[65_504.0, 1e6]), None);
        assert_eq!(StoredPrecision::Bf16.bytes(&[f32::MAX]), None);
        assert_eq!(StoredPrecision::Bf16.bytes(&[f32::INFINITY]), Some(vec![0x80, 0x7f]));
    }
}
