//! Causal self-attention with the options of published models.

use std::num::NonZeroUsize;

use super::{
    BuildError, CacheKind, HfMapping, LayerCost, Primitive, PrimitiveId, Role, Symbol, TensorLayout,
    attention::{kept, windowed_cost},
};
#[cfg(feature = "model")]
use crate::dims::AttentionForm;
use crate::dims::{Dims, Positions, ProjectionBias, QueryKeyNorm};
#[cfg(feature = "model")]
use crate::{
    device::Device,
    layer::{Block, CustomAttentionLayer, WeightInit},
};

/// The PyTorch layer for the model class of [`Format::Flat`](crate::export::Format::Flat).
const PYTHON: &str = include_str!("python/attention.py");

/// [`Attention`](super::Attention) with options. Symbol `A`.
///
/// The default is plain attention; each option is a variation found in published models. To use several variants in one
/// search, give each its own letter with [`with_symbol`](Primitive::with_symbol).
///
/// ```
/// use composer_nas::{dims::Positions, prelude::*, primitive::CustomAttention};
/// // The attention of Nemotron-H.
/// let attention = CustomAttention { positions: Positions::None, ..CustomAttention::default() };
/// assert_eq!(attention.id().as_str(), "attention_nope");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CustomAttention {
    /// The channels with rotary position embeddings.
    pub positions: Positions,
    /// The norm of queries and keys.
    pub norm: QueryKeyNorm,
    /// Whether the attention output is multiplied by `sigmoid(gate(x))`, as in Qwen3-Next.
    pub gate: bool,
    /// Number of keys that a query sees, including its own. `None` means all.
    pub window: Option<NonZeroUsize>,
    /// Whether every head has a learned attention sink, as in gpt-oss (OpenAI 2025, arXiv 2508.10925).
    pub sinks: bool,
    /// The projections that have biases. `None` means [`Dims::attention_bias`] for all of them.
    pub bias: Option<ProjectionBias>,
    /// Number of query heads. `None` means [`Dims::heads`].
    pub heads: Option<NonZeroUsize>,
    /// Number of KV heads. `None` means [`Dims::kv_heads`].
    pub kv_heads: Option<NonZeroUsize>,
}

impl CustomAttention {
    /// Returns the biases of a layer at these widths.
    pub(crate) fn biases(&self, dims: &Dims) -> ProjectionBias {
        let all = dims.attention_bias;
        self.bias.unwrap_or(ProjectionBias { input: all, output: all })
    }

    /// Checks that the layer can be built at these widths.
    pub(crate) fn check(&self, dims: &Dims) -> Result<(), BuildError> {
        let refuse = |option, value, remedy: &str| {
            Err(BuildError::Option { id: self.id(), option, value, remedy: remedy.into() })
        };
        if let Positions::Partial(percent) = self.positions
            && !(1..=100).contains(&percent)
        {
            return refuse(
                "positions",
                percent.into(),
                "rotate 1 to 100 percent of the channels, or use Positions::None",
            );
        }
        if self.window.is_some_and(|window| window.get() == 1) {
            return refuse("window", 1, "let a query see at least 2 keys, its own and the one before");
        }
        Ok(self.own(dims).validate()?)
    }

    /// Returns the widths with the options of this layer.
    fn own(&self, dims: &Dims) -> Dims {
        let heads = self.heads.map_or(dims.heads, NonZeroUsize::get);
        let kv_heads = self.kv_heads.map_or(dims.kv_heads, NonZeroUsize::get);
        Dims { heads, kv_heads, attention_bias: false, ..dims.clone() }
    }

    /// Returns the options that a transformers class must support, beyond plain attention.
    fn options(&self) -> Vec<(&'static str, String)> {
        let mut options = Vec::new();
        match self.positions {
            Positions::Rotary => {}
            Positions::Partial(percent) => options.push(("positions", percent.to_string())),
            Positions::None => options.push(("positions", "none".into())),
        }
        match self.norm {
            QueryKeyNorm::None => {}
            QueryKeyNorm::PerHead => options.push(("norm", "per head".into())),
            QueryKeyNorm::Whole => options.push(("norm", "whole".into())),
        }
        let flags = [("gate", self.gate), ("sinks", self.sinks)];
        options.extend(flags.into_iter().filter(|(_, on)| *on).map(|(name, _)| (name, "yes".to_owned())));
        let sizes = [("window", self.window), ("heads", self.heads), ("kv_heads", self.kv_heads)];
        options.extend(sizes.into_iter().filter_map(|(name, size)| Some((name, size?.to_string()))));
        if let Some(ProjectionBias { input, output }) = self.bias {
            options.push(("bias", format!("input {input}, output {output}")));
        }
        options
    }
}

impl Primitive for CustomAttention {
    /// `attention`, followed by the options that differ from the default: `nope` for no positions, `r` and the
    /// percentage of rotary channels, `qk` for norms per head, `qkw` for norms over all heads, `gate`, `sinks`, `w` and
    /// the window, `b` and `o` with 0 or 1 for the biases of inputs and output, `h` and `g` with the numbers of query
    /// and KV heads.
    fn id(&self) -> PrimitiveId {
        let mut tags = String::new();
        match self.positions {
            Positions::Rotary => {}
            Positions::Partial(percent) => tags += &format!("_r{percent}"),
            Positions::None => tags += "_nope",
        }
        tags += match self.norm {
            QueryKeyNorm::None => "",
            QueryKeyNorm::PerHead => "_qk",
            QueryKeyNorm::Whole => "_qkw",
        };
        let flags = [(self.gate, "_gate"), (self.sinks, "_sinks")];
        flags.into_iter().filter(|(on, _)| *on).for_each(|(_, tag)| tags += tag);
        for (tag, size) in [("w", self.window), ("h", self.heads), ("g", self.kv_heads)] {
            tags += &size.map_or(String::new(), |size| format!("_{tag}{size}"));
        }
        if let Some(ProjectionBias { input, output }) = self.bias {
            tags += &format!("_b{}_o{}", u8::from(input), u8::from(output));
        }
        PrimitiveId::tagged("attention", &tags)
    }

    fn symbol(&self) -> Symbol {
        Symbol::ATTENTION
    }

    fn role(&self) -> Role {
        Role::Sequence
    }

    /// As [`Attention`](super::Attention). The gate projection counts twice its weights; norms and sinks cost no FLOPs.
    fn cost(&self, dims: &Dims, seq_len: u64) -> LayerCost {
        let own = self.own(dims);
        let window = self.window.map_or(seq_len, |window| window.get() as u64);
        let base = windowed_cost(&own, seq_len, window);
        let [width, _, queries, keys] = own.counts();
        let head = own.head_dim as u64;
        let gate = if self.gate { (width * queries).0 } else { 0 };
        let bias = self.biases(dims);
        let input = if bias.input { (queries + keys + keys).0 } else { 0 };
        let gated = if bias.input && self.gate { queries.0 } else { 0 };
        let output = if bias.output { width.0 } else { 0 };
        let norm = match self.norm {
            QueryKeyNorm::None => 0,
            QueryKeyNorm::PerHead => head.saturating_mul(2),
            QueryKeyNorm::Whole => (queries + keys).0,
        };
        let sinks = if self.sinks { own.heads as u64 } else { 0 };
        let more = [gate, input, gated, output, norm, sinks].into_iter().fold(0, u64::saturating_add);
        LayerCost {
            parameters: base.parameters.saturating_add(more),
            forward_flops_per_token: base.forward_flops_per_token.saturating_add(gate.saturating_mul(2)),
            ..base
        }
    }

    /// As [`Attention`](super::Attention). Norms keep their inputs; the gate keeps itself and its product.
    fn activations(&self, dims: &Dims, seq_len: u64) -> u64 {
        let own = self.own(dims);
        let [_, _, queries, keys] = own.counts();
        let norms = if self.norm == QueryKeyNorm::None { 0 } else { (queries + keys).0 };
        let gate = if self.gate { queries.0.saturating_mul(2) } else { 0 };
        kept(&own, seq_len).saturating_add(norms.saturating_add(gate).saturating_mul(seq_len))
    }

    #[cfg(feature = "model")]
    fn build(&self, dims: &Dims, init: &mut WeightInit, device: &Device) -> Result<Block, BuildError> {
        self.check(dims)?;
        let &Self { positions, norm, gate, window, sinks, .. } = self;
        let form = AttentionForm { positions, norm, gate, window, sinks, bias: self.biases(dims) };
        Ok(Block::new(CustomAttentionLayer::new(form, &self.own(dims), init, device)))
    }

    /// Names as in Qwen3 and Qwen3-Next. `None` for layers that cannot be built.
    fn hf_mapping(&self, dims: &Dims) -> Option<HfMapping> {
        self.check(dims).ok()?;
        let own = self.own(dims);
        let bias = self.biases(dims);
        let cache = if self.window.is_some() { CacheKind::Window } else { CacheKind::Everything };
        let id = self.id();
        let kind = if id.as_str() == "attention" { "full_attention" } else { id.as_str() };
        let mut mapping = HfMapping::new(kind, cache).family("full_attention");
        for (name, value) in self.options() {
            mapping = mapping.option(name, value);
        }
        let within = self.positions.order(own.head_dim);
        let rows = |heads: usize| -> Vec<usize> {
            let width = within.len();
            (0..heads * width).map(|row| row / width * width + within[row % width]).collect()
        };
        let turned = matches!(self.positions, Positions::Partial(_));
        for (ours, theirs, heads, bias) in [
            ("query", "q_proj", Some(own.heads), bias.input),
            ("key", "k_proj", Some(own.kv_heads), bias.input),
            ("value", "v_proj", None, bias.input),
            ("output", "o_proj", None, bias.output),
        ] {
            mapping = mapping.linear(ours, theirs, bias);
            if let (true, Some(heads)) = (turned, heads) {
                mapping = mapping.ordered(1 + usize::from(bias), &rows(heads));
            }
        }
        if self.gate {
            mapping = mapping.linear("gate", "gate_proj", bias.input);
        }
        let norms = [("query_norm", "q_norm.weight", own.heads), ("key_norm", "k_norm.weight", own.kv_heads)];
        for (ours, theirs, heads) in norms {
            let heads = match self.norm {
                QueryKeyNorm::None => continue,
                QueryKeyNorm::PerHead => 1,
                QueryKeyNorm::Whole => heads,
            };
            mapping = mapping.tensor(ours, theirs, TensorLayout::Same);
            if turned {
                mapping = mapping.ordered(1, &rows(heads));
            }
        }
        if self.sinks {
            mapping = mapping.tensor("sinks", "sinks", TensorLayout::Same);
        }
        if let Some(window) = self.window {
            mapping = mapping.setting("sliding_window", window.get());
        }
        Some(if mapping.options.is_empty() { mapping } else { mapping.python(PYTHON) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(feature = "flex")]
    use crate::primitive::Attention;

    fn variants() -> Vec<CustomAttention> {
        let usual = CustomAttention::default();
        let two = NonZeroUsize::new(2);
        vec![
            usual,
            CustomAttention { positions: Positions::None, ..usual },
            CustomAttention { positions: Positions::Partial(25), norm: QueryKeyNorm::PerHead, gate: true, ..usual },
            CustomAttention { positions: Positions::Partial(50), ..usual },
            CustomAttention { norm: QueryKeyNorm::Whole, ..usual },
            CustomAttention { window: NonZeroUsize::new(3), sinks: true, ..usual },
            CustomAttention { sinks: true, norm: QueryKeyNorm::PerHead, ..usual },
            CustomAttention { bias: Some(ProjectionBias { input: true, output: false }), ..usual },
            CustomAttention { heads: two, kv_heads: NonZeroUsize::new(1), ..usual },
        ]
    }

    #[cfg(feature = "flex")]
    #[test]
    fn every_variant_keeps_the_laws() {
        for variant in variants() {
            assert_eq!(crate::testkit::primitive::check(&variant, &Device::flex()), Ok(()), "{variant:?}");
        }
    }

    #[test]
    fn ids_show_what_differs() {
        let ids: Vec<String> = variants().iter().map(|variant| variant.id().into()).collect();
        let expected = [
            "attention",
            "attention_nope",
            "attention_r25_qk_gate",
            "attention_r50",
            "attention_qkw",
            "attention_sinks_w3",
            "attention_qk_sinks",
            "attention_b1_o0",
            "attention_h2_g1",
        ];
        assert_eq!(ids, expected);
    }

    /// The default computes exactly the same as plain attention.
    #[cfg(feature = "flex")]
    #[test]
    fn the_default_is_plain_attention() {
        use crate::{dims::InitScheme, seed::Seed};

        let dims = Dims { kv_heads: 2, ..Dims::new(24, 40, 4).unwrap() };
        let build = |primitive: &dyn Primitive| {
            let mut init = WeightInit::new(InitScheme::FanIn, Seed(1).rng("test", 0));
            primitive.build(&dims, &mut init, &Device::flex()).unwrap()
        };
        let mut init = WeightInit::new(InitScheme::FanIn, Seed(2).rng("test", 0));
        let x = init.normal([2, 9, 24], 1.0, &Device::flex()).val();
        let output = |primitive: &dyn Primitive| build(primitive).forward(x.clone()).into_data();
        let custom = CustomAttention::default();
        assert_eq!(output(&custom), output(&Attention));
        assert_eq!(custom.cost(&dims, 100), Attention.cost(&dims, 100));
        assert_eq!(custom.hf_mapping(&dims).unwrap().tensors, Attention.hf_mapping(&dims).unwrap().tensors);
        // All channels rotate, so the result is the same.
        let all = CustomAttention { positions: Positions::Partial(100), ..custom };
        assert_eq!(output(&all), output(&Attention));
        // Without positions, no token but the first sees the position of another.
        let none = CustomAttention { positions: Positions::None, ..custom };
        assert_ne!(output(&none), output(&Attention));
    }

    #[cfg(feature = "flex")]
    #[test]
    fn options_that_cannot_be_are_refused_with_a_remedy() {
        use crate::{dims::InitScheme, seed::Seed};

        let usual = CustomAttention::default();
        let dims = Dims::new(8, 12, 2).unwrap();
        for (bad, part) in [
            (CustomAttention { positions: Positions::Partial(0), ..usual }, "positions is 0: rotate 1 to 100"),
            (CustomAttention { positions: Positions::Partial(101), ..usual }, "positions is 101"),
            (CustomAttention { window: NonZeroUsize::new(1), ..usual }, "window is 1"),
            (CustomAttention { kv_heads: NonZeroUsize::new(3), ..usual }, "3 KV heads do not divide 2 heads"),
        ] {
            let mut init = WeightInit::new(InitScheme::FanIn, Seed(1).rng("test", 0));
            let error = bad.build(&dims, &mut init, &Device::flex()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
            bad.cost(&dims, 16);
        }
    }
}
