//! Layouts of published models, by name.

use super::{A, B, E, M, deepseek_v3, jamba, llama, qwen3_next, samba};
use crate::{primitive::Symbol, space::Architecture, space::notation::Alphabet};

/// The layer order of a published model.
///
/// Only the order is that of the model; its layers may differ from those of this crate. If you have the model's
/// configuration, [`import::describe`](crate::import::describe) reads the layers from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The name of the model, such as `nemotron-h-8b`.
    pub name: &'static str,
    /// The layers. A block of a mixer and a feed-forward network counts as two layers.
    pub architecture: Architecture,
    /// The source of the order.
    pub source: &'static str,
}

/// Layer patterns in NVIDIA's letters, as (name, pattern, source).
const PATTERNS: [(&str, &str, &str); 9] = [
    (
        "mamba-2-hybrid-8b",
        "M-M-M--M-M*-M-M-M-M--M*-M-M-M-M-M*--M-M-M-M-M*-M--M-M-M-",
        "Waleffe et al. 2024, arXiv 2406.07887; Megatron-LM, examples/mamba/README.md",
    ),
    (
        "nemotron-h-8b",
        "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-",
        "NVIDIA 2025, arXiv 2504.03624; config.json of Nemotron-H-8B-Base-8K, and of the 4B model",
    ),
    (
        "nemotron-h-47b",
        "M-M-M-M-M-M-M-M-M*-M-M-M-M-M-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-M-M---MM---M-M*-M-M-M-M-M-",
        "Megatron-LM, examples/post_training, Nemotron-H-47B-Reasoning-128K",
    ),
    (
        "nemotron-h-56b",
        "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-",
        "NVIDIA 2025, arXiv 2504.03624; Megatron-LM, examples/post_training, Nemotron-H-56B-Base-8K",
    ),
    (
        "nemotron-nano-9b-v2",
        "M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-",
        "NVIDIA 2025, arXiv 2508.14444; Megatron-LM, examples/post_training, NVIDIA-Nemotron-Nano-9B-v2",
    ),
    (
        "nemotron-nano-12b-v2",
        "M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M-",
        "NVIDIA 2025, arXiv 2508.14444; Megatron-LM, examples/rl/model_configs",
    ),
    (
        "nemotron-3-nano-30b-a3b",
        "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
        "Megatron-LM, examples/post_training, NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
    ),
    (
        "nemotron-3-super-120b-a12b",
        "MEMEMEM*EMEMEMEM*EMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEM*EMEMEMEME",
        "Megatron-LM, examples/post_training, NVIDIA-Nemotron-3-Super-120B-A12B-BF16",
    ),
    ("nemotron-3-nano-4b", "M-M-M-MM-M-M*-M-M*-M-M-M*-M-M-MM*-MMM-M-M-", "transformers, pull request 45300"),
];

/// Returns the layouts of published models.
///
/// ```
/// use composer_nas::space::baseline;
/// let lfm2 = baseline::published().into_iter().find(|layout| layout.name == "lfm2-350m");
/// assert_eq!(lfm2.map(|layout| layout.architecture.len()), Some(32));
/// ```
pub fn published() -> Vec<Published> {
    let alphabet = Alphabet::nemotron_h();
    let pattern = |&(name, pattern, source): &(&'static str, &str, &'static str)| {
        Some(Published { name, architecture: alphabet.read(pattern).ok()?, source })
    };
    let mut all: Vec<Published> = PATTERNS.iter().filter_map(pattern).collect();
    let lfm2 = "CMCMAMCMCMAMCMCMAMCMAMCMAMCMAMCM";
    let lfm2 = Architecture::new(lfm2.chars().filter_map(|letter| Symbol::try_from(letter).ok()));
    let attention = |places: [usize; 4], at: usize| if places.contains(&at) { A } else { B };
    let bamba = (0..32).flat_map(|at| [attention([9, 18, 27, 27], at), M]);
    let granite = (0..40).flat_map(|at| [attention([5, 15, 25, 35], at), E]);
    let named = [
        ("llama-3.2-1b", llama(16), "config.json of Llama-3.2-1B"),
        ("llama-3.2-3b", llama(28), "config.json of Llama-3.2-3B-Instruct"),
        ("smollm2-135m", llama(30), "config.json of SmolLM2-135M"),
        ("qwen3-0.6b", llama(28), "config.json of Qwen3-0.6B"),
        ("lfm2-350m", lfm2, "Liquid AI 2025, arXiv 2511.23404; config.json of LFM2-350M, and of the larger models"),
        ("bamba-9b", Architecture::new(bamba), "config.json of Bamba-9B"),
        ("granite-4.0-h-tiny", Architecture::new(granite), "config.json of Granite-4.0-h-tiny"),
        ("jamba-v0.1", jamba(4), "Lieber et al. 2024, arXiv 2403.19887"),
        ("qwen3-next-80b-a3b", qwen3_next(12), "model card of Qwen3-Next-80B-A3B"),
        ("deepseek-v3", deepseek_v3(3, 58), "DeepSeek-AI 2024, arXiv 2412.19437, section 4.2"),
        ("mamba-codestral-7b", Architecture::new([B; 64]), "config.json of Mamba-Codestral-7B-v0.1"),
        ("samba-1.7b", samba(12), "Ren et al. 2024, arXiv 2406.07522, section 3"),
    ];
    all.extend(named.map(|(name, architecture, source)| Published { name, architecture, source }));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_those_of_the_models() {
        let all = published();
        assert_eq!(all.len(), PATTERNS.len() + 12);
        let mut names: Vec<_> = all.iter().map(|layout| layout.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len());
        let of = |name: &str| &all.iter().find(|layout| layout.name == name).unwrap().architecture;
        for (name, layers) in [
            ("mamba-2-hybrid-8b", 56),
            ("nemotron-h-47b", 98),
            ("nemotron-h-56b", 118),
            ("nemotron-nano-9b-v2", 56),
            ("nemotron-nano-12b-v2", 62),
            ("nemotron-3-nano-30b-a3b", 52),
            ("nemotron-3-super-120b-a12b", 88),
            ("nemotron-3-nano-4b", 42),
            ("granite-4.0-h-tiny", 80),
        ] {
            assert_eq!(of(name).len(), layers, "{name}");
        }
        let seen = include_str!("../../../tests/fixtures/cases/megatron_patterns.json");
        assert!(PATTERNS.iter().all(|(_, pattern, _)| seen.contains(&format!("\"{pattern}\""))));
        assert_eq!(*of("nemotron-h-8b"), super::super::nemotron_h(24, 4));
        assert_eq!((of("bamba-9b").count(A), of("granite-4.0-h-tiny").count(A)), (3, 4));
    }
}
