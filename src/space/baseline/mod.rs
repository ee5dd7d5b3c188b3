//! Reference sequences for comparisons: how published models order their layers.
//!
//! A block of a mixer and a feed-forward network counts as two layers. Only the order of the layers is that of the
//! published model; the layers themselves are those of this crate. Each function documents how they differ from the
//! published ones.

mod published;

pub use published::{Published, published};

use super::Architecture;
use crate::primitive::Symbol;

const A: Symbol = Symbol::ATTENTION;
const B: Symbol = Symbol::MAMBA2;
const E: Symbol = Symbol::MOE;
const G: Symbol = Symbol::GATED_DELTA_NET;
const M: Symbol = Symbol::SWIGLU;
const R: Symbol = Symbol::RELU2;
const S: Symbol = Symbol::SLIDING_WINDOW;

/// Alternates attention and MLP, as Llama and most transformers do: `AM` repeated `blocks` times.
pub fn llama(blocks: usize) -> Architecture {
    Architecture::new([A, M].repeat(blocks))
}

/// Returns a sandwich transformer (Press et al. 2020, arXiv 1911.03864): `A^k (AM)^(n-k) M^k`.
///
/// `n = blocks` is the number of sublayers of each kind. `k` is the sandwich coefficient, capped at `n`.
pub fn sandwich(blocks: usize, coefficient: usize) -> Architecture {
    let k = coefficient.min(blocks);
    Architecture::new([vec![A; k], [A, M].repeat(blocks - k), vec![M; k]].concat())
}

/// Returns one attention layer followed by `mlps` MLP layers, repeated `stripes` times. The Composer paper compares
/// with the ratio 1:2.
pub fn striped(stripes: usize, mlps: usize) -> Architecture {
    let stripe = [vec![A], vec![M; mlps]].concat();
    Architecture::new(stripe.repeat(stripes))
}

/// Returns the layout of Nemotron-H (NVIDIA 2025, arXiv 2504.03624, section 2.1).
///
/// `pairs` of Mamba-2 and squared-ReLU MLP (`BR`), with `attention` layers evenly spread among them, each between the
/// two layers of a pair. The 8B model has 24 pairs and 4 attention layers, the 56B model 54 and 10.
///
/// Nemotron-H uses no position embeddings; the attention of this crate uses rotary embeddings.
pub fn nemotron_h(pairs: usize, attention: usize) -> Architecture {
    let place = |k: usize| (k * pairs / (attention + 1)).max(1);
    let pair = |at: usize| {
        let inserted = (1..=attention).filter(|&k| place(k) == at).count();
        [vec![B], vec![A; inserted], vec![R]].concat()
    };
    Architecture::new((1..=pairs).flat_map(pair))
}

/// Returns the layout of Jamba (Lieber et al. 2024, arXiv 2403.19887, section 3.1).
///
/// Each block has eight mixers: the fifth is attention, the other seven are Mamba. A feed-forward network follows each
/// mixer; after every second mixer it is a mixture of experts. Jamba has 4 blocks.
///
/// Jamba uses Mamba-1, 16 experts with 2 active per token, and no position embeddings.
pub(crate) fn jamba(blocks: usize) -> Architecture {
    let layer = |at| [if at == 4 { A } else { B }, if at % 2 == 1 { E } else { M }];
    Architecture::new((0..8).flat_map(layer).collect::<Vec<_>>().repeat(blocks))
}

/// Returns the layout of Qwen3-Next (Qwen team 2025, model card of Qwen3-Next-80B-A3B).
///
/// Three gated DeltaNet layers and one attention layer, each followed by a mixture of experts: `GEGEGEAE` repeated
/// `blocks` times. The model has 12 blocks.
///
/// The model's attention has an output gate and rotates a quarter of each head. Of its 512 experts, 10 are active per
/// token, plus 1 shared expert.
pub(crate) fn qwen3_next(blocks: usize) -> Architecture {
    Architecture::new([G, E, G, E, G, E, A, E].repeat(blocks))
}

/// Returns the layout of DeepSeek-V3 (DeepSeek-AI 2024, arXiv 2412.19437, section 4.2).
///
/// Every block has attention. The first `dense` blocks have a dense MLP, the following `sparse` blocks a mixture of
/// experts. The model has 3 and 58.
///
/// The model uses multi-head latent attention. Of its 256 experts, 8 are active per token, plus 1 shared expert.
pub(crate) fn deepseek_v3(dense: usize, sparse: usize) -> Architecture {
    Architecture::new([[A, M].repeat(dense), [A, E].repeat(sparse)].concat())
}

/// Returns the layout of Samba (Ren et al. 2024, arXiv 2406.07522, section 2.1): `BMSM` (Mamba, MLP, sliding-window
/// attention, MLP), repeated `blocks` times.
///
/// Samba uses Mamba-1 and windows of 2048 keys.
pub fn samba(blocks: usize) -> Architecture {
    Architecture::new([B, M, S, M].repeat(blocks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn baselines_are_what_their_papers_say() {
        assert_eq!(llama(3).letters(), "AMAMAM");
        assert_eq!(sandwich(4, 2).letters(), "AAAMAMMM");
        assert_eq!(sandwich(2, 9).letters(), "AAMM");
        assert_eq!(striped(2, 2).letters(), "AMMAMM");
        assert_eq!(jamba(1).letters(), "BMBEBMBEAMBEBMBE");
        assert_eq!(qwen3_next(1).letters(), "GEGEGEAE");
        assert_eq!(deepseek_v3(1, 2).letters(), "AMAEAE");
        assert_eq!(samba(2).letters(), "BMSMBMSM");
    }

    #[test]
    fn sizes_are_those_of_the_published_models() {
        let counts = |a: &Architecture| [A, B, E, G, M, R, S].map(|symbol| a.count(symbol));
        assert_eq!(counts(&jamba(4)), [4, 28, 16, 0, 16, 0, 0]);
        assert_eq!(counts(&qwen3_next(12)), [12, 0, 48, 36, 0, 0, 0]);
        assert_eq!(counts(&deepseek_v3(3, 58)), [61, 0, 58, 0, 3, 0, 0]);
        assert_eq!(counts(&nemotron_h(54, 10)), [10, 54, 0, 0, 0, 54, 0]);
    }

    #[test]
    fn nemotron_h_has_the_published_pattern() {
        // `hybrid_override_pattern` of Nemotron-H-8B-Base-8K: M is Mamba-2, - an MLP, * attention.
        let published = "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-";
        let ours = published.replace('M', "B").replace('-', "R").replace('*', "A");
        assert_eq!(nemotron_h(24, 4).letters(), ours);
        assert_eq!(nemotron_h(3, 0).letters(), "BRBRBR");
        assert_eq!((nemotron_h(2, 5).count(A), nemotron_h(0, 5).len()), (5, 0));
    }
}
