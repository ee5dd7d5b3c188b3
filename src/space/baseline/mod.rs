//! Sequences that stand as references in comparisons: how published models order their layers.
//!
//! A model whose layers are pairs of a mixer and a feed-forward network has two letters per layer here. Only the order
//! is the model's; the layers themselves are those of this crate, and each function says where they differ from the
//! published ones.

mod published;

pub use published::{Published, published};

use super::{Architecture, SearchSpace};
use crate::{primitive::Symbol, seed::Seed};

const A: Symbol = Symbol::ATTENTION;
const B: Symbol = Symbol::MAMBA2;
const E: Symbol = Symbol::MOE;
const G: Symbol = Symbol::GATED_DELTA_NET;
const M: Symbol = Symbol::SWIGLU;
const R: Symbol = Symbol::RELU2;
const S: Symbol = Symbol::SLIDING_WINDOW;

/// Attention and MLP in turn, as in Llama and most transformers: `AM` repeated `blocks` times.
pub fn llama(blocks: usize) -> Architecture {
    Architecture::new([A, M].repeat(blocks))
}

/// The sandwich transformer (Press et al. 2020, arXiv 1911.03864): `A^k (AM)^(n-k) M^k`, with `n = blocks` sublayers of
/// each kind and sandwich coefficient `k` (capped at `n`).
pub fn sandwich(blocks: usize, coefficient: usize) -> Architecture {
    let k = coefficient.min(blocks);
    Architecture::new([vec![A; k], [A, M].repeat(blocks - k), vec![M; k]].concat())
}

/// One attention layer, then `mlps` MLP layers, repeated `stripes` times; the paper compares with 1:2.
pub fn striped(stripes: usize, mlps: usize) -> Architecture {
    let stripe = [vec![A], vec![M; mlps]].concat();
    Architecture::new(stripe.repeat(stripes))
}

/// Nemotron-H (NVIDIA 2025, arXiv 2504.03624, section 2.1): `pairs` of Mamba-2 and squared-ReLU MLP, `BR`, with
/// `attention` layers evenly among them, each between the two layers of a pair. The 8B model has 24 pairs and 4
/// attention layers, the 56B model 54 and 10.
///
/// Nemotron-H uses no position embeddings; our attention rotates.
pub fn nemotron_h(pairs: usize, attention: usize) -> Architecture {
    let place = |k: usize| (k * pairs / (attention + 1)).max(1);
    let pair = |at: usize| {
        let inserted = (1..=attention).filter(|&k| place(k) == at).count();
        [vec![B], vec![A; inserted], vec![R]].concat()
    };
    Architecture::new((1..=pairs).flat_map(pair))
}

/// Jamba (Lieber et al. 2024, arXiv 2403.19887, section 3.1): blocks of eight mixers, seven of them Mamba and the fifth
/// attention (1:7), each followed by a feed-forward network, which is a mixture of experts behind every second mixer.
/// Jamba has 4 blocks.
///
/// Jamba uses Mamba-1, 16 experts of which 2 are chosen, and no position embeddings.
pub fn jamba(blocks: usize) -> Architecture {
    let layer = |at| [if at == 4 { A } else { B }, if at % 2 == 1 { E } else { M }];
    Architecture::new((0..8).flat_map(layer).collect::<Vec<_>>().repeat(blocks))
}

/// Qwen3-Next (Qwen team 2025, model card of Qwen3-Next-80B-A3B): three gated DeltaNet layers to one attention layer,
/// each followed by a mixture of experts: `GEGEGEAE` repeated `blocks` times. The model has 12 blocks.
///
/// Its attention has a gate on its output and rotates a quarter of each head; of its 512 experts 10 are chosen, and 1
/// is shared.
pub fn qwen3_next(blocks: usize) -> Architecture {
    Architecture::new([G, E, G, E, G, E, A, E].repeat(blocks))
}

/// DeepSeek-V3 (DeepSeek-AI 2024, arXiv 2412.19437, section 4.2): attention in every block, with a dense MLP in the
/// first `dense` blocks and a mixture of experts in the `sparse` ones behind them. The model has 3 and 58.
///
/// Its attention is multi-head latent attention; of its 256 experts 8 are chosen, and 1 is shared.
pub fn deepseek_v3(dense: usize, sparse: usize) -> Architecture {
    Architecture::new([[A, M].repeat(dense), [A, E].repeat(sparse)].concat())
}

/// Samba (Ren et al. 2024, arXiv 2406.07522, section 2.1): Mamba, MLP, sliding-window attention, MLP: `BMSM` repeated
/// `blocks` times.
///
/// Samba uses Mamba-1 and windows of 2048 keys.
pub fn samba(blocks: usize) -> Architecture {
    Architecture::new([B, M, S, M].repeat(blocks))
}

/// A sequence drawn uniformly from `space`: what a search has to beat. The same seed gives the same sequence.
pub fn random(space: &SearchSpace, seed: Seed) -> Architecture {
    space.sample(&mut seed.rng("baseline/random", 0))
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

    #[test]
    fn random_sequences_lie_in_the_space_and_repeat() {
        let space = SearchSpace::uniform([A, B, M], 8).unwrap().count(A, 1..=2).unwrap();
        let all: Vec<_> = (0..20).map(|seed| random(&space, Seed(seed))).collect();
        assert!(all.iter().all(|a| space.contains(a)) && all.iter().any(|a| *a != all[0]));
        assert_eq!(all[3], random(&space, Seed(3)));
    }
}
