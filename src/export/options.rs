//! What a folder shall be.

use std::path::PathBuf;

use half::{bf16, f16};
use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use super::Provenance;

/// How a model is written. See the [module](super) for the formats.
#[derive(Clone, Debug)]
pub struct Options {
    /// Title of the model card; the folder's name where there is none.
    pub name: Option<String>,
    /// Which model class loads the folder.
    pub format: Format,
    /// The numbers of the weights; without weights, those that the receiver will make.
    pub precision: Precision,
    /// Largest safetensors file, in bytes; a larger model is split.
    pub shard_bytes: u64,
    /// The longest sequence that the receiver allows, in tokens (`max_position_embeddings`). Nothing in the model
    /// depends on it.
    pub max_positions: usize,
    /// Token ids with a meaning.
    pub tokens: SpecialTokens,
    /// A folder with `tokenizer.json`; its tokenizer files are copied.
    pub tokenizer: Option<PathBuf>,
    /// How the architecture was found, for the model card.
    pub provenance: Option<Provenance>,
    /// Whether a folder with a config.json may be replaced.
    pub overwrite: bool,
    /// Whether what would be a [`Warning`](super::Warning) is an error.
    pub strict: bool,
}

impl Default for Options {
    /// The format that fits, exact weights in files of at most 5 GB, 4096 positions, no tokenizer; nothing is replaced.
    fn default() -> Self {
        Self {
            name: None,
            format: Format::Auto,
            precision: Precision::F32,
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

/// Which model class loads a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// [`DeciLm`](Self::DeciLm) where it can express the model, else the first class of transformers that can, else
    /// [`Flat`](Self::Flat).
    Auto,
    /// Attention and SwiGLU as blocks with missing halves, the `block_configs` of DeciLM and Nemotron-NAS: no wasted
    /// weights; loads in transformers (with the two modules that are shipped) and in vLLM.
    DeciLm,
    /// [`DeciLm`](Self::DeciLm) with layers of zeros where llama.cpp needs them: a SwiGLU 256 wide in blocks without
    /// one, and an attention in a first block without one.
    LlamaCpp,
    /// Attention and SwiGLU as a plain Llama whose missing halves are zeros: loads everywhere without any code, and
    /// wastes the weights and the cache of those halves.
    Llama,
    /// The class `nemotron_h` of transformers: attention without positions, Mamba-2, MLPs of one activation, mixtures
    /// of them that route by sigmoids, in any order. No code is shipped, as for the six classes below.
    NemotronH,
    /// The class `mamba2`: Mamba-2 alone.
    Mamba2,
    /// The class `lfm2`: gated convolutions and attention with norms by head, each with a SwiGLU behind it.
    Lfm2,
    /// The class `qwen3`: attention with norms by head, each with a SwiGLU behind it.
    Qwen3,
    /// The class `bamba`: Mamba-2 and attention that turns half of each head, each with a SwiGLU behind it.
    Bamba,
    /// The class `granitemoehybrid` without experts: Mamba-2 and attention with positions or without, each with a
    /// SwiGLU behind it.
    GraniteMoeHybrid,
    /// The class `qwen3_next`: gated DeltaNet and gated attention with norms by head, each with a SwiGLU or a mixture
    /// of experts behind it.
    Qwen3Next,
    /// One layer per block, of every kind that transformers has, in a model class that is shipped: loads in
    /// transformers.
    Flat,
}

/// The kind of number in which weights are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Single precision: exact.
    F32,
    /// Half precision, rounded to nearest even; weights beyond 65504 are refused.
    F16,
    /// bfloat16, rounded to nearest even.
    Bf16,
}

impl Precision {
    /// What config.json calls it.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "float32",
            Precision::F16 => "float16",
            Precision::Bf16 => "bfloat16",
        }
    }

    /// Bytes of one number.
    pub fn width(self) -> usize {
        match self {
            Precision::F32 => 4,
            Precision::F16 | Precision::Bf16 => 2,
        }
    }

    pub(super) fn dtype(self) -> Dtype {
        match self {
            Precision::F32 => Dtype::F32,
            Precision::F16 => Dtype::F16,
            Precision::Bf16 => Dtype::BF16,
        }
    }

    /// The numbers in little-endian bytes; none where a finite one would become infinite.
    pub(super) fn bytes(self, values: &[f32]) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(values.len() * self.width());
        for &value in values {
            match self {
                Precision::F32 => bytes.extend(value.to_le_bytes()),
                Precision::F16 => {
                    let half = f16::from_f32(value);
                    if half.is_infinite() && value.is_finite() {
                        return None;
                    }
                    bytes.extend(half.to_le_bytes());
                }
                Precision::Bf16 => {
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

/// Token ids with a meaning; those that are none are written as null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpecialTokens {
    /// Begins a text.
    pub bos: Option<u32>,
    /// Ends a text: generation stops there.
    pub eos: Option<u32>,
    /// Fills up batches.
    pub pad: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_as_documented() {
        let options = Options::default();
        assert_eq!((options.format, options.precision), (Format::Auto, Precision::F32));
        assert_eq!((options.shard_bytes, options.max_positions), (5_000_000_000, 4096));
        assert!(options.tokenizer.is_none() && !options.overwrite && !options.strict);
    }

    #[test]
    fn numbers_are_rounded_to_the_nearest_or_refused() {
        // 1 + 2^-8 lies between two bfloat16 and goes to the even one.
        assert_eq!(Precision::Bf16.bytes(&[1.0 + 0.5f32.powi(8)]), Some(vec![0x80, 0x3f]));
        assert_eq!(Precision::F16.bytes(&[-2.0]), Some(vec![0x00, 0xc0]));
        assert_eq!(Precision::F32.bytes(&[1.0]), Some(vec![0, 0, 0x80, 0x3f]));
        assert_eq!(Precision::F16.bytes(&[65_504.0, 1e6]), None);
        assert_eq!(Precision::Bf16.bytes(&[f32::MAX]), None);
        assert_eq!(Precision::Bf16.bytes(&[f32::INFINITY]), Some(vec![0x80, 0x7f]));
    }
}
