//! The cost of one model.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::FlopConvention;
use crate::{
    dims::{Dims, DimsError},
    limits::MAX_SEQ_LEN,
    model::ModelSpec,
    primitive::{Primitive, Primitives, RegistryError, Role, Symbol},
};

/// The setting for which costs are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Length of a sequence, in tokens.
    pub seq_len: u64,
    /// Bytes per number in the cache and in the activations of training.
    pub bytes_per_element: u64,
    /// The convention for counting floating-point operations.
    #[serde(default)]
    pub flops: FlopConvention,
}

impl Workload {
    /// Creates a workload of sequences of this length with 16-bit numbers (bfloat16) and the default FLOP convention.
    pub const fn bf16(seq_len: u64) -> Self {
        Self { seq_len, bytes_per_element: 2, flops: FlopConvention::Megatron }
    }
}

/// The cost of a model. See the [module](super) for the conventions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelCost {
    /// The workload for which the costs hold.
    pub workload: Workload,
    /// Number of layers.
    pub layers: usize,
    /// Number of layers that mix along the sequence ([`Role::Sequence`]), such as attention.
    pub sequence_layers: usize,
    /// Number of layers by symbol.
    pub symbols: BTreeMap<Symbol, usize>,
    /// Parameters of all layers, each including the norm of `d_model` weights before it.
    #[serde(rename = "body_parameters", alias = "non_embedding_parameters")]
    pub non_embedding_parameters: u64,
    /// Parameters of the embedding: `V d`.
    pub embedding_parameters: u64,
    /// Parameters of the head: `V d`, plus `V` with a bias, or 0 if it is tied to the embedding.
    pub head_parameters: u64,
    /// All parameters, including the final norm.
    pub total_parameters: u64,
    /// Parameters that are active for a token: all except the experts to which it is not routed.
    pub active_parameters: u64,
    /// Forward floating-point operations per token, by the workload's convention.
    pub forward_flops_per_token: u64,
    /// Floating-point operations of training per token: three times the forward pass.
    pub train_flops_per_token: u64,
    /// Bytes by which the cache grows for the token after the last. Zero if all state is recurrent.
    pub cache_bytes_per_token: u64,
    /// Bytes cached for decoding one sequence of full length: KV cache and recurrent state.
    pub cache_bytes_per_sequence: u64,
    /// An estimate of the activations that training keeps for one sequence of full length, in bytes. A batch needs this
    /// for each of its sequences.
    pub activation_bytes_per_sequence: u64,
    /// The same if layers keep only their inputs and are recomputed one at a time in the backward pass.
    pub recomputed_activation_bytes_per_sequence: u64,
}

/// Sums over the layers of a model.
#[derive(Default)]
struct LayerSums {
    /// Parameters with the norm before each layer.
    parameters: u128,
    /// Parameters that a token does not use.
    inactive: u128,
    /// Operations of a forward pass, per token.
    flops: u128,
    /// Elements cached after the last token.
    cache: u128,
    /// The same after one more token.
    cache_after: u128,
    /// Numbers kept for the backward pass in addition to the inputs of the layers.
    activations: u128,
    /// The largest term of `activations`.
    largest_activations: u128,
    sequence_layers: usize,
}

impl LayerSums {
    fn add(&mut self, primitive: &dyn Primitive, count: usize, dims: &Dims, workload: Workload) {
        let Workload { seq_len, flops: convention, .. } = workload;
        let layers = count as u128;
        let cost = primitive.cost(dims, seq_len);
        self.parameters += layers * (u128::from(cost.parameters) + u128::from(dims.width()));
        self.inactive += layers * u128::from(cost.inactive_parameters);
        self.flops += layers * convention.layer(&cost, dims.width(), seq_len);
        self.cache += layers * u128::from(cost.cache_elements);
        self.cache_after += layers * u128::from(primitive.cost(dims, seq_len + 1).cache_elements);
        let activations = u128::from(seq_len) + u128::from(primitive.activations(dims, seq_len));
        self.activations += layers * activations;
        self.largest_activations = self.largest_activations.max(activations);
        match primitive.role() {
            Role::Sequence => self.sequence_layers += count,
            Role::Channel => {}
        }
    }
}

impl ModelCost {
    /// Computes the cost of a model.
    ///
    /// # Errors
    /// Returns [`CostError`] if a primitive is unknown, a width or the sequence length is invalid, or a count exceeds
    /// 64 bits.
    pub fn new(spec: &ModelSpec, primitives: &Primitives, workload: Workload) -> Result<Self, CostError> {
        check_workload(workload)?;
        let Workload { seq_len, bytes_per_element, flops: convention } = workload;
        spec.dims.validate()?;
        let mut symbols = BTreeMap::new();
        for &layer in spec.architecture.layers() {
            *symbols.entry(layer).or_insert(0) += 1;
        }
        let width = u128::from(spec.dims.width());
        let vocabulary = spec.vocab_size as u128;
        let embedding = width * vocabulary;
        let head = match (spec.tied_embeddings, spec.head_bias) {
            (true, _) => 0,
            (false, false) => embedding,
            (false, true) => embedding + vocabulary,
        };
        let mut sums = LayerSums::default();
        for (&symbol, &count) in &symbols {
            sums.add(primitives.get(symbol)?, count, &spec.dims, workload);
        }
        let flops = convention.ends(spec, head) + sums.flops;
        let bytes = u128::from(bytes_per_element);
        let tokens = u128::from(seq_len);
        let layers = spec.architecture.len() as u128;
        let inputs = layers * tokens * width;
        let total = sums.parameters + embedding + head + width;
        let ends = (tokens * (2 * width + 1)).saturating_mul(bytes).saturating_add(8 * tokens * vocabulary);
        let activations = |kept: u128| within_64_bits((inputs + kept).saturating_mul(bytes).saturating_add(ends));
        Ok(Self {
            workload,
            layers: spec.architecture.len(),
            sequence_layers: sums.sequence_layers,
            symbols,
            non_embedding_parameters: within_64_bits(sums.parameters)?,
            embedding_parameters: within_64_bits(embedding)?,
            head_parameters: within_64_bits(head)?,
            total_parameters: within_64_bits(total)?,
            active_parameters: within_64_bits(total.saturating_sub(sums.inactive))?,
            forward_flops_per_token: within_64_bits(flops)?,
            train_flops_per_token: within_64_bits(3 * flops)?,
            cache_bytes_per_token: within_64_bits(sums.cache_after.saturating_sub(sums.cache).saturating_mul(bytes))?,
            cache_bytes_per_sequence: within_64_bits(sums.cache.saturating_mul(bytes))?,
            activation_bytes_per_sequence: activations(sums.activations)?,
            recomputed_activation_bytes_per_sequence: activations(sums.largest_activations)?,
        })
    }
}

/// Returns the parameters of all layers, without norms.
///
/// # Errors
/// Returns [`RegistryError`] if a layer is unknown.
pub(crate) fn body_without_norms(spec: &ModelSpec, primitives: &Primitives) -> Result<u128, RegistryError> {
    let size = |&layer: &Symbol| Ok(u128::from(primitives.get(layer)?.cost(&spec.dims, 0).parameters));
    spec.architecture.layers().iter().map(size).sum()
}

pub(super) fn check_workload(workload: Workload) -> Result<(), CostError> {
    let Workload { seq_len, bytes_per_element, .. } = workload;
    let fits = (1..=MAX_SEQ_LEN).contains(&seq_len) && bytes_per_element > 0;
    if fits { Ok(()) } else { Err(CostError::Workload(workload)) }
}

fn within_64_bits(count: u128) -> Result<u64, CostError> {
    u64::try_from(count).map_err(|_| CostError::TooLarge)
}

/// The error of a cost that cannot be computed.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum CostError {
    /// The architecture contains an unknown primitive.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The widths are invalid or inconsistent.
    #[error(transparent)]
    Dims(#[from] DimsError),
    /// The sequence length is 0 or too large, or numbers have 0 bytes.
    #[error("invalid workload: seq_len is {} and must be between 1 and {MAX_SEQ_LEN}; bytes_per_element is {} and \
        must be at least 1", .0.seq_len, .0.bytes_per_element)]
    Workload(Workload),
    /// A count exceeds 64 bits.
    #[error("one of the model's costs exceeds 64 bits: choose a smaller vocab_size, width or seq_len")]
    TooLarge,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dims::Dims,
        extrapolate::{Auto, Extrapolator, Target},
        primitive::{Attention, Moe, Primitive, SwiGlu},
        space::Architecture,
    };

    fn cost(spec: &ModelSpec, seq_len: u64) -> ModelCost {
        ModelCost::new(spec, &Primitives::standard(), Workload::bf16(seq_len)).unwrap()
    }

    #[test]
    fn parameters_are_those_of_the_published_models() {
        for (target, body, embedding, head, total, kv) in [
            (Target::llama_1b(), 973_144_064, 262_668_288, 0, 1_235_814_400, 2048),
            (Target::llama_3b(), 2_818_744_320, 394_002_432, 0, 3_212_749_824, 4096),
            (Target::llama_8b(), 6_979_584_000, 525_336_576, 525_336_576, 8_030_261_248, 4096),
        ] {
            let cost = cost(&target.baseline_model(), 2048);
            let found =
                (cost.non_embedding_parameters, cost.embedding_parameters, cost.head_parameters, cost.total_parameters);
            assert_eq!(found, (body, embedding, head, total), "{}", target.name);
            assert_eq!(cost.cache_bytes_per_token, kv * cost.sequence_layers as u64, "{}", target.name);
            assert_eq!(cost.cache_bytes_per_sequence, 2048 * cost.cache_bytes_per_token);
        }
    }

    #[test]
    fn training_work_at_1b_is_what_the_convention_gives() {
        let target = Target::llama_1b();
        let grow = |small: &str| Auto.extrapolate(&small.parse().unwrap(), &target, &Primitives::standard()).unwrap();
        let models = [
            (target.baseline_model(), ["7.82", "8.22", "9.03"]),
            (grow("2A+4M"), ["7.80", "8.03", "8.48"]),
            (grow("2A+5M+2A+3M+1A+3M"), ["8.19", "8.45", "8.95"]),
        ];
        for (spec, expected) in models {
            let gflops = |seq_len| format!("{:.2}", cost(&spec, seq_len).train_flops_per_token as f64 / 1e9);
            assert_eq!([2048, 4096, 8192].map(gflops), expected, "{}", spec.architecture);
        }
    }

    /// `6 (N - embedding) + 12 L H C s`, where `N` includes an embedding that is tied to the head.
    #[test]
    fn torchtitan_counts_all_scores_and_the_norms() {
        let titan = |spec: &ModelSpec, seq_len| {
            let workload = Workload { flops: FlopConvention::TorchTitan, ..Workload::bf16(seq_len) };
            ModelCost::new(spec, &Primitives::standard(), workload).unwrap().train_flops_per_token
        };
        let tied = Target::llama_1b();
        let untied = Target::llama_8b();
        for seq_len in [2048, 8192] {
            let want = 6 * 1_235_814_400 + 12 * 16 * 32 * 64 * seq_len;
            assert_eq!(titan(&tied.baseline_model(), seq_len), want);
            let want = 6 * (8_030_261_248 - 525_336_576) + 12 * 32 * 32 * 128 * seq_len;
            assert_eq!(titan(&untied.baseline_model(), seq_len), want);
        }
        // A window counts like full attention, and a recurrence by its weights.
        assert_eq!(titan(&tied.model("SM".parse().unwrap()), 4096), titan(&tied.model("AM".parse().unwrap()), 4096));
        let recurrent = tied.model("BG".parse().unwrap());
        assert_eq!(titan(&recurrent, 4096), 6 * cost(&recurrent, 4096).total_parameters);
        // Of 8 experts and a shared one, each a quarter of d_ff, 4 are active for a token.
        let experts = tied.model("AE".parse().unwrap());
        let found = cost(&experts, 4096);
        let idle = 5 * 3 * 2048 * 2048;
        assert_eq!(found.active_parameters, found.total_parameters - idle);
        assert_eq!(titan(&experts, 4096), 6 * found.active_parameters + 12 * 2048 * 4096);
    }

    #[test]
    fn old_workloads_count_as_megatron_does() {
        let old: Workload = serde_json::from_str(r#"{ "seq_len": 8, "bytes_per_element": 2 }"#).unwrap();
        assert_eq!(old, Workload::bf16(8));
        let new: Workload =
            serde_json::from_str(r#"{ "seq_len": 8, "bytes_per_element": 2, "flops": "torch_titan" }"#).unwrap();
        assert_eq!(new, Workload { flops: FlopConvention::TorchTitan, ..old });
    }

    /// Per token and layer: input, norm and its normalizer; queries, keys, values, attention output and a normalizer
    /// per head, or two branches of SwiGLU. Then the final norm, and logits and their gradient in 32 bits.
    #[test]
    fn activations_at_1b_are_those_counted_by_hand() {
        let cost = cost(&Target::llama_1b().baseline_model(), 4096);
        let attention = 2048 + 1 + 2048 + (2048 + 512 + 512 + 2048) + 32;
        let mlp = 2048 + 1 + 2048 + 2 * 8192;
        let ends = 4096 * (2 * (2 * 2048 + 1) + 8 * 128_256);
        assert_eq!(cost.activation_bytes_per_sequence, 2 * 4096 * 16 * (attention + mlp) + ends);
        assert_eq!(cost.activation_bytes_per_sequence, 8_133_025_792);
        assert_eq!(cost.recomputed_activation_bytes_per_sequence, 2 * 4096 * (32 * 2048 + mlp - 2048) + ends);
        assert_eq!(cost.recomputed_activation_bytes_per_sequence, 4_924_129_280);
    }

    /// Korthikanti et al. 2022, arXiv 2205.05198: `s b h (34 + 5 a s / h)` bytes per block of attention and GELU MLP.
    /// Of the 34, dropout masks are 2. The second term is scores, which are recomputed.
    #[test]
    fn activations_of_a_gelu_transformer_are_those_of_the_literature() {
        let dims = Dims::new(1024, 4096, 16).unwrap();
        let target = Target::custom("gpt", dims, 50, true, 1).unwrap();
        let bytes = |blocks: usize| {
            cost(&target.model("AF".repeat(blocks).parse().unwrap()), 2048).activation_bytes_per_sequence
        };
        let normalisers = 2 * 2048 * (16 + 1 + 1);
        assert_eq!(bytes(5) - bytes(4), 2048 * 1024 * (34 - 2) + normalisers);
    }

    proptest::proptest! {
        /// For every layer and length: longer sequences keep more, recomputation keeps less, and precision is a factor
        /// of what layers keep.
        #[test]
        fn activations_keep_their_laws(seq in 1u64..5000, more in 1u64..500, letters in "[ASBGCMFRE]{1,8}") {
            let target = Target::llama_350m();
            let spec = target.model(letters.parse().unwrap());
            let [short, long] = [seq, seq + more].map(|seq| cost(&spec, seq));
            assert!(short.activation_bytes_per_sequence < long.activation_bytes_per_sequence);
            assert!(short.recomputed_activation_bytes_per_sequence <= short.activation_bytes_per_sequence);
            assert_eq!(spec.architecture.len() == 1, short.recomputed_activation_bytes_per_sequence == short.activation_bytes_per_sequence);
            let wide = Workload { bytes_per_element: 4, ..Workload::bf16(seq) };
            let wide = ModelCost::new(&spec, &Primitives::standard(), wide).unwrap();
            let logits = 8 * seq * target.vocab_size as u64;
            assert_eq!(wide.activation_bytes_per_sequence - logits, 2 * (short.activation_bytes_per_sequence - logits));
        }
    }

    /// 16 attention letters and 16 MLP letters have the size of 16 transformer blocks, whatever the letters are. The
    /// same holds with experts instead of the MLP, except for the routers.
    #[test]
    fn sixteen_pairs_of_letters_are_sixteen_transformer_blocks() {
        let target = Target::llama_1b();
        let workload = Workload::bf16(4096);
        let llama = cost(&target.baseline_model(), 4096);
        let letter = |letter: char| letter.to_string().parse::<Symbol>().unwrap();
        let own = |layer: Moe| {
            let own = Primitives::empty().with(Attention.with_symbol(letter('X'))).unwrap();
            own.with(SwiGlu.with_symbol(letter('Y'))).unwrap().with(layer.with_symbol(letter('E'))).unwrap()
        };
        let pairs = |pair: &str, moe| {
            let spec = target.model(pair.repeat(16).parse().unwrap());
            ModelCost::new(&spec, &own(moe), workload).unwrap()
        };
        let dense = pairs("XY", Moe::default());
        assert_eq!(ModelCost { symbols: llama.symbols.clone(), ..dense }, llama);

        let alone = Moe { experts: 1, top_k: 1, shared: 0, ..Moe::default() };
        let all = Moe { experts: 4, top_k: 4, ..alone };
        let shared = Moe { experts: 4, top_k: 1, shared: 3, ..alone };
        for moe in [alone, all, shared] {
            let found = pairs("XE", moe);
            let d = 2048;
            let routers = 16 * d * moe.experts as u64;
            let unused = if moe == shared { 16 * 3 * (3 * d * 2048) } else { 0 };
            assert_eq!(found.total_parameters, llama.total_parameters + routers + unused, "{moe:?}");
            assert_eq!(found.active_parameters, llama.total_parameters + routers, "{moe:?}");
            assert_eq!(found.forward_flops_per_token, llama.forward_flops_per_token + 2 * routers, "{moe:?}");
            assert_eq!(found.train_flops_per_token, llama.train_flops_per_token + 6 * routers, "{moe:?}");
            assert_eq!(found.cache_bytes_per_sequence, llama.cache_bytes_per_sequence, "{moe:?}");
        }
    }

    #[test]
    fn heads_count_their_bias_only_where_they_have_weights() {
        let dims = Dims::new(8, 16, 2).unwrap();
        let spec = Target::custom("tiny", dims, 10, false, 1).unwrap().baseline_model();
        let [plain, biased] = [false, true].map(|head_bias| cost(&ModelSpec { head_bias, ..spec.clone() }, 4));
        assert_eq!((plain.head_parameters, biased.head_parameters), (80, 90));
        assert_eq!(biased.total_parameters - plain.total_parameters, 10);
        let tied = cost(&ModelSpec { head_bias: true, tied_embeddings: true, ..spec }, 4);
        assert_eq!(tied.head_parameters, 0);
        assert_eq!(tied.train_flops_per_token, plain.train_flops_per_token);
    }

    #[test]
    fn costs_round_trip_through_files() {
        let cost = cost(&Target::llama_1b().baseline_model(), 2048);
        assert_eq!(serde_json::from_str::<ModelCost>(&serde_json::to_string(&cost).unwrap()).unwrap(), cost);
    }

    #[test]
    fn absurd_models_are_refused() {
        let primitives = Primitives::standard();
        let spec = Target::llama_1b().baseline_model();
        let error = |spec: &ModelSpec, workload| ModelCost::new(spec, &primitives, workload).unwrap_err();
        for workload in
            [Workload::bf16(0), Workload::bf16(u64::MAX), Workload { bytes_per_element: 0, ..Workload::bf16(1) }]
        {
            assert_eq!(error(&spec, workload), CostError::Workload(workload));
        }
        let large = ModelSpec { vocab_size: usize::MAX, ..spec.clone() };
        assert_eq!(error(&large, Workload::bf16(1)), CostError::TooLarge);
        assert_eq!(error(&spec, Workload { bytes_per_element: u64::MAX, ..Workload::bf16(1) }), CostError::TooLarge);
        let wide = ModelSpec { dims: Dims { d_ff: 1 << 60, ..spec.dims.clone() }, ..spec.clone() };
        assert!(matches!(error(&wide, Workload::bf16(1)), CostError::Dims(_)));
        let strange = ModelSpec { architecture: "A2Z".parse::<Architecture>().unwrap(), ..spec };
        assert!(matches!(error(&strange, Workload::bf16(1)), CostError::Registry(_)));
    }
}
