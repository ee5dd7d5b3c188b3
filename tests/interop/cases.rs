//! The tiny models that are compared with transformers.

use std::num::NonZeroUsize;

use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{Device, Tensor, TensorData},
};
use composer_nas::{
    dims::{Dims, InitScheme, Positions, QueryKeyNorm, RopeScaling, Routing, StepLimits},
    export::{Format, Options, SpecialTokens, StoredPrecision},
    model::{HybridLm, ModelSpec},
    primitive::{
        CustomAttention, Expert, GatedDeltaNet, LatentAttention, Linear, Mamba2, Moe, Primitive, Primitives,
        SlidingWindow,
    },
    seed::Seed,
};

/// Tokens that every model reads: more than the chunks in which recurrent layers compute.
pub const TOKENS: usize = 80;
/// The last positions, whose logits are kept as fixtures.
pub const KEPT: usize = 8;

/// What every model reads.
pub fn tokens() -> Vec<i32> {
    (0..TOKENS as i32).map(|at| (at * at * 37 + at * 11 + 5) % 128).collect()
}

/// The layers of this crate, a window short enough to matter, and layers as published models have them.
pub fn primitives() -> Primitives {
    fn add(all: Primitives, letter: &str, primitive: impl Primitive + 'static) -> Primitives {
        all.with(primitive.with_symbol(letter.parse().unwrap())).unwrap()
    }
    let usual = CustomAttention::default();
    let per_head = QueryKeyNorm::PerHead;
    let quarter = Positions::Partial(25);
    let mamba = Mamba2 { heads: Some(8), head_dim: 16, state: 24, groups: 2, chunk: 16, ..Mamba2::default() };
    let moe = Moe { experts: 6, top_k: 2, expert_width: Some(24), shared_width: Some(40), ..Moe::default() };
    let all = add(Primitives::standard(), "L", SlidingWindow::new(9).unwrap());
    let all = add(all, "N", CustomAttention { positions: Positions::None, ..usual });
    let all = add(all, "Q", CustomAttention { norm: per_head, ..usual });
    let all = add(all, "H", CustomAttention { positions: Positions::Partial(50), ..usual });
    let all = add(all, "T", CustomAttention { positions: quarter, norm: per_head, gate: true, ..usual });
    let all = add(all, "D", mamba);
    let steps = Some(StepLimits { least: 0.02, most: f64::INFINITY });
    let all = add(all, "K", Mamba2 { steps, projection_bias: true, ..mamba });
    let net = GatedDeltaNet { heads: Some(2), head_dim: 12, value_dim: Some(10), ..GatedDeltaNet::default() };
    let all = add(all, "V", net);
    let all = add(all, "X", Moe { routing: Routing::Sigmoid(250), expert: Expert::Relu2, ..moe });
    let window = NonZeroUsize::new(9);
    let all = add(all, "P", CustomAttention { sinks: true, window, norm: QueryKeyNorm::Whole, ..usual });
    let all = add(all, "I", Linear);
    let all = add(all, "O", LatentAttention::default());
    let sizes =
        LatentAttention { query_rank: NonZeroUsize::new(20), value: NonZeroUsize::new(10), ..Default::default() };
    let all = add(all, "U", sizes);
    let all = add(all, "Y", Moe { routing: Routing::Chosen, shared_gate: true, ..moe });
    add(all, "Z", Moe { routing: Routing::Softmax, shared_gate: true, ..moe })
}

/// A model and the way it is written.
pub struct Case {
    pub name: &'static str,
    pub spec: ModelSpec,
    pub options: Options,
}

/// All cases.
pub fn all() -> Vec<Case> {
    vec![
        case("stacked", "2A+4M", Format::Auto),
        case("m_first_a_last", "1M+1A+2M+2A", Format::Auto),
        change(case("stretched_untied", "2A+5M+2A+3M+1A+3M", Format::Auto), |case| case.spec.tied_embeddings = false),
        change(case("biased", "1A+1M+1A", Format::DeciLm), |case| case.spec.dims.attention_bias = true),
        change(case("sixteen_bits_in_shards", "2A+2M", Format::Auto), |case| {
            case.options.precision = StoredPrecision::Bf16;
            case.options.shard_bytes = 100_000;
        }),
        case("llama_cpp", "1M+1A+2M+2A", Format::LlamaCpp),
        case("llama", "1M+1A+2M+2A", Format::Llama),
        case("m_only", "3M", Format::DeciLm),
        case("flat", "2A+4M", Format::Flat),
        change(case("flat_mix", "1F+1A+2M+1F+1A", Format::Auto), |case| {
            case.spec.dims = Dims { d_model: 48, d_ff: 72, ..case.spec.dims.clone() };
            case.spec.tied_embeddings = false;
            case.spec.head_bias = true;
        }),
        change(case("scaled_positions", "1A+2M+1A", Format::DeciLm), scaled),
        change(case("flat_scaled_positions", "1A+2M+1A", Format::Flat), scaled),
        case("window", "1L+1M+1A+1R+1L", Format::Auto),
        case("short_conv", "2C+1M+1A+1C", Format::Auto),
        case("mamba2", "1A+1B+2M+1B", Format::Auto),
        case("delta_net", "1G+1M+1A+1G", Format::Auto),
        case("recurrent", "1M+2B+1G+1C", Format::Auto),
        change(case("everything", "1B+1R+1L+1F+1G+1M+1C+1A", Format::Auto), |case| {
            case.spec.tied_embeddings = false;
            case.options.precision = StoredPrecision::Bf16;
        }),
        change(case("nemotron_h", "1D+1R+1N+1D+1X+1R+1N", Format::NemotronH), untied),
        change(case("nemotron_h_gelu", "2D+1F+1N", Format::Auto), untied),
        change(case("nemotron_h_steps", "1K+1N+1R+1K", Format::NemotronH), untied),
        case("mamba2_alone", "3D", Format::Auto),
        case("mamba2_alone_steps", "2K", Format::Mamba2),
        case("lfm2", "1C+1M+1Q+1M+1C+1M", Format::Auto),
        change(case("qwen3", "1Q+1M+1Q+1M", Format::Auto), |case| {
            case.spec.dims.head_dim = 24;
            case.spec.tied_embeddings = false;
        }),
        change(case("qwen3_biased", "1Q+1M", Format::Qwen3), |case| case.spec.dims.attention_bias = true),
        case("bamba", "1D+1M+1H+1M+1D+1M", Format::Auto),
        case("granite", "1D+1M+1N+1M+1D+1M", Format::GraniteMoeHybrid),
        case("granite_turning", "1D+1M+1A+1M", Format::GraniteMoeHybrid),
        case("qwen3_next", "1V+1Y+1T+1Y+1V+1M", Format::Auto),
        case("qwen3_next_softmax", "1V+1Z+1T+1M", Format::Qwen3Next),
        case("flat_attention", "1N+1M+1Q+1H+1T+1M", Format::Flat),
        case("flat_sinks", "1P+1M+1A", Format::Flat),
        case("flat_mixtures", "1A+1E+1X+1Y+1I", Format::Flat),
        case("flat_latent", "1A+1O+1M+1U", Format::Flat),
    ]
}

fn case(name: &'static str, architecture: &str, format: Format) -> Case {
    let dims = Dims {
        d_model: 64,
        d_ff: 256,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        rope_theta: 500_000.0,
        rope_scaling: None,
        norm_eps: 1e-5,
        attention_bias: false,
    };
    let spec = ModelSpec {
        architecture: architecture.parse().unwrap(),
        dims,
        vocab_size: 128,
        tied_embeddings: true,
        head_bias: false,
        init: InitScheme::FanIn,
    };
    let tokens = SpecialTokens { bos: Some(0), eos: Some(1), pad: Some(1) };
    Case { name, spec, options: Options { format, tokens, ..Options::default() } }
}

/// Rotary positions as in Llama 3.1, over a context short enough for all three of its ranges to matter.
fn scaled(case: &mut Case) {
    case.spec.dims.rope_scaling = Some(RopeScaling {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 64,
    });
}

fn untied(case: &mut Case) {
    case.spec.tied_embeddings = false;
}

fn change(mut case: Case, change: impl FnOnce(&mut Case)) -> Case {
    change(&mut case);
    case
}

/// The model of a case. Initial norms are one and biases zero, which hides mistakes in their names: every vector is
/// moved, and the embedding is large enough for logits of order one.
pub fn model(spec: &ModelSpec, primitives: &Primitives) -> HybridLm {
    struct Move(usize);
    impl ModuleMapper for Move {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            self.0 += 1;
            let seed = self.0;
            param.map(|old| {
                let shape = old.dims();
                let mut values: Vec<f32> = old.to_data().iter::<f32>().collect();
                for (at, value) in values.iter_mut().enumerate() {
                    match D {
                        1 => *value += ((at * 7 + seed * 3) % 11) as f32 / 20.0 - 0.25,
                        _ if seed == 1 => *value *= 25.0,
                        _ => {}
                    }
                }
                Tensor::from_data(TensorData::new(values, shape), &old.device())
            })
        }
    }
    HybridLm::new(spec, primitives, Seed(11), &Device::flex()).unwrap().map(&mut Move(0))
}

/// The scores of [`tokens`], `[S, V]` row by row.
pub fn logits(model: &HybridLm) -> Vec<f32> {
    let tokens = Tensor::from_data(TensorData::new(tokens(), [1, TOKENS]), &Device::flex());
    model.forward(tokens).into_data().try_into_vec().unwrap()
}
