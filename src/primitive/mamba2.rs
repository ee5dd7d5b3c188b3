//! Mamba-2 (Dao and Gu 2024, arXiv 2405.21060, figure 6, right): a selective state space model after a short
//! convolution.
//!
//! `z | xBC | dt = in(tokens)` and `x | B | C = silu(conv(xBC) + bias)`. Each head runs the recurrence of
//! [`StateSpace`](crate::dims::StateSpace) with `dt = softplus(dt + dt_bias)`, `A = -exp(a_log)` and the skip
//! connection `D`. The output is `out(norm(y * silu(z)))`, with an RMS norm per group. By default, only the convolution
//! and `dt` have biases.
//!
//! The weights are those of `Mamba2Mixer` in transformers: the rows `z | x | B | C | dt` of its `in_proj` are the
//! columns of [`gate`](crate::layer::Mamba2Layer::gate), [`xbc`](crate::layer::Mamba2Layer::xbc) and
//! [`dt`](crate::layer::Mamba2Layer::dt) side by side. `dt` is unbounded, like `time_step_limit = (0, inf)` in
//! transformers, unless [`steps`](Mamba2::steps) is set. The Nemotron-H class of transformers bounds `dt` below by
//! `time_step_min` in prefill, so an export writes the lower bound of the layer.

use super::{
    BuildError, CacheKind, HfMapping, LayerCost, Primitive, PrimitiveId, Role, Symbol, TensorLayout,
    recurrent::{MAX_INNER, check_kernel_size, check_option, chunk_states, head_width},
};
#[cfg(feature = "model")]
use crate::dims::MambaForm;
use crate::dims::{Dims, Mamba2Norm, StateSpace, StepLimits};
#[cfg(feature = "model")]
use crate::{
    device::Device,
    layer::{Block, Mamba2Layer, WeightInit},
};

/// A Mamba-2 layer. Symbol `B`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mamba2 {
    /// Ratio of inner width to model width.
    pub expand: usize,
    /// Maximum head width. The actual width is the largest divisor of a group's inner width that leaves at least four
    /// heads.
    pub head_dim: usize,
    /// State size. At most the model width, unless `heads` is set.
    pub state: usize,
    /// Number of head groups, each with its own `B`, `C` and norm. Must divide the inner width.
    pub groups: usize,
    /// Kernel size of the convolution, at least 2.
    pub conv: usize,
    /// Tokens per chunk that is computed by matrix products. Results depend on it only by rounding.
    pub chunk: usize,
    /// Number of heads, as in the configurations of published models. If set, each head is exactly `head_dim` wide, the
    /// state has exactly the size `state`, and `expand` is ignored.
    pub heads: Option<usize>,
    /// Whether the convolution has a bias.
    pub conv_bias: bool,
    /// Whether the projections have biases.
    pub projection_bias: bool,
    /// Bounds on `dt`. None by default.
    pub steps: Option<StepLimits>,
    /// The norm before the output projection.
    pub norm: Mamba2Norm,
}

impl Default for Mamba2 {
    /// `expand` 2, `head_dim` 64, `state` 128, `groups` 1, `conv` 4, as in the paper's models. `chunk` 64 is the
    /// fastest on a CPU.
    fn default() -> Self {
        Self {
            expand: 2,
            head_dim: 64,
            state: 128,
            groups: 1,
            conv: 4,
            chunk: 64,
            heads: None,
            conv_bias: true,
            projection_bias: false,
            steps: None,
            norm: Mamba2Norm::Groups,
        }
    }
}

/// The sizes at one width.
struct Sizes {
    /// `H P`, the inner width.
    inner: usize,
    /// `H P + 2 G N`, the width of `xBC`.
    xbc: usize,
    scan: StateSpace,
}

impl Mamba2 {
    /// Checks that the layer can be built at these widths.
    pub(crate) fn check(&self, dims: &Dims) -> Result<(), BuildError> {
        self.sizes(dims).map(drop)
    }

    fn sizes(&self, dims: &Dims) -> Result<Sizes, BuildError> {
        dims.validate()?;
        let refuse = |reason| Err(BuildError::Primitive { id: self.id(), reason });
        let &Self { expand, head_dim, state, groups, conv, chunk, heads, steps, .. } = self;
        let best = Self::default();
        for (name, value, example) in [
            ("expand", expand, best.expand),
            ("head_dim", head_dim, best.head_dim),
            ("state", state, best.state),
            ("groups", groups, best.groups),
            ("chunk", chunk, best.chunk),
            ("heads", heads.unwrap_or(1), 64),
        ] {
            check_option(self.id(), name, value, example)?;
        }
        check_kernel_size(self.id(), conv)?;
        if steps.is_some_and(|StepLimits { least, most }| !(least.is_finite() && least >= 0.0 && most > least)) {
            return refuse(
                "the bounds of its steps are invalid: use a lower bound of at least 0 and a larger upper bound".into(),
            );
        }
        let inner = heads.map_or(dims.d_model.saturating_mul(expand), |heads| heads.saturating_mul(head_dim));
        let state = if heads.is_some() { state } else { state.min(dims.d_model) };
        let xbc = inner.saturating_add((2 * groups).saturating_mul(state));
        if xbc > MAX_INNER {
            return refuse(format!("its inner width is {xbc}, more than {MAX_INNER}: lower expand, groups or state"));
        }
        if !inner.is_multiple_of(groups) {
            return refuse(format!("{groups} groups do not divide its inner width {inner}: use a divisor, such as 1"));
        }
        let width = match heads {
            None => head_width(inner / groups, head_dim),
            Some(heads) if !heads.is_multiple_of(groups) => {
                return refuse(format!("{groups} groups do not divide its {heads} heads: use a divisor, such as 1"));
            }
            Some(_) => head_dim,
        };
        Ok(Sizes { inner, xbc, scan: StateSpace { heads: inner / width, width, groups, state, chunk } })
    }
}

impl Primitive for Mamba2 {
    /// `mamba2`, followed by the options that differ from the default, as in `mamba2_n64`: `e` expand, `p` head width,
    /// `n` state, `g` groups, `k` kernel size, `l` chunk, `h` heads, `c0` for a convolution without bias, `b1` for
    /// projections with biases, `t` and `u` the smallest and the largest step (`1em3` is 0.001), `whole` and `first`
    /// for the norm.
    fn id(&self) -> PrimitiveId {
        let own = self;
        let usual = Self::default();
        let options = [
            ("e", own.expand, usual.expand),
            ("p", own.head_dim, usual.head_dim),
            ("n", own.state, usual.state),
            ("g", own.groups, usual.groups),
            ("k", own.conv, usual.conv),
            ("l", own.chunk, usual.chunk),
        ];
        let mut tags = String::new();
        tags += &own.heads.map_or(String::new(), |heads| format!("_h{heads}"));
        tags += if own.conv_bias { "" } else { "_c0" };
        tags += if own.projection_bias { "_b1" } else { "" };
        if let Some(StepLimits { least, most }) = own.steps {
            let number = |value: f64| format!("{value:e}").replace('-', "m").replace('.', "p").to_lowercase();
            tags += &format!("_t{}", number(least));
            tags += &if most.is_finite() { format!("_u{}", number(most)) } else { String::new() };
        }
        tags += match own.norm {
            Mamba2Norm::Groups => "",
            Mamba2Norm::Whole => "_whole",
            Mamba2Norm::BeforeGate => "_first",
        };
        PrimitiveId::with_options("mamba2", &options).and(&tags)
    }

    fn symbol(&self) -> Symbol {
        Symbol::MAMBA2
    }

    fn role(&self) -> Role {
        Role::Sequence
    }

    /// Projections count twice their weights, and the recurrence `7 H P N` per token, as in Megatron-LM, which does not
    /// count the convolution. A layer that cannot be built costs nothing.
    fn cost(&self, dims: &Dims, _seq_len: u64) -> LayerCost {
        let Ok(Sizes { inner, xbc, scan }) = self.sizes(dims) else { return LayerCost::default() };
        let [inner, xbc, heads, kernel_size] = [inner, xbc, scan.heads, self.conv].map(|size| size as u64);
        let projections = dims.width() * (2 * inner + xbc + heads);
        let states = inner * scan.state as u64;
        let bias = if self.projection_bias { inner + xbc + heads + dims.width() } else { 0 };
        let weights_per_channel = kernel_size + u64::from(self.conv_bias);
        LayerCost {
            parameters: projections + xbc * weights_per_channel + 3 * heads + inner + bias,
            forward_flops_per_token: 2 * projections + 7 * states,
            cache_elements: states + xbc * (kernel_size - 1),
            ..LayerCost::default()
        }
    }

    /// The input, `z`, `xBC` before the convolution, the activation and the scan, `dt`, the outputs of the scan and the
    /// norm, a normalizer per group, and the state before every chunk except the first. A layer that cannot be built
    /// keeps nothing.
    fn activations(&self, dims: &Dims, seq_len: u64) -> u64 {
        let Ok(Sizes { inner, xbc, scan }) = self.sizes(dims) else { return 0 };
        let per_token = dims.d_model + 3 * inner + 3 * xbc + scan.heads + scan.groups;
        let states = (inner as u64).saturating_mul(scan.state as u64);
        chunk_states(seq_len, scan.chunk, states).saturating_add((per_token as u64).saturating_mul(seq_len))
    }

    #[cfg(feature = "model")]
    fn build(&self, dims: &Dims, init: &mut WeightInit, device: &Device) -> Result<Block, BuildError> {
        let &Self { conv: kernel_size, conv_bias, projection_bias, steps, norm, .. } = self;
        let form = MambaForm { kernel_size, conv_bias, projection_bias, steps, norm };
        Ok(Block::new(Mamba2Layer::new(form, dims, self.sizes(dims)?.scan, init, device)))
    }

    /// The Mamba-2 layer of Nemotron-H, which has no upper bound on `dt` and the default norm.
    fn hf_mapping(&self, dims: &Dims) -> Option<HfMapping> {
        let Sizes { scan, .. } = self.sizes(dims).ok()?;
        let most = self.steps.map_or(f64::INFINITY, |steps| steps.most);
        if self.norm != Mamba2Norm::Groups || most.is_finite() {
            return None;
        }
        let start = HfMapping::new("mamba2", CacheKind::State);
        let settings = [
            ("mamba_num_heads", scan.heads),
            ("mamba_head_dim", scan.width),
            ("ssm_state_size", scan.state),
            ("n_groups", scan.groups),
            ("conv_kernel", self.conv),
            ("chunk_size", scan.chunk),
        ];
        let start = settings.into_iter().fold(start, |all, (key, value)| all.setting(key, value));
        let least = self.steps.map_or(0.0, |steps| steps.least);
        let mut start = start.setting("time_step_min", least).setting("layer_norm_epsilon", dims.norm_eps);
        if !self.conv_bias {
            start = start.setting("use_conv_bias", false);
        }
        if self.projection_bias {
            start = start.setting("use_bias", true);
        }
        let projections = ["gate", "xbc", "dt"];
        let named = |part: &str| projections.map(|name| format!("{name}.{part}"));
        let join = |start: HfMapping, part: &str, layout| {
            let parameters = named(part);
            start.joined(&parameters.each_ref().map(String::as_str), &format!("in_proj.{part}"), layout)
        };
        start = join(start, "weight", TensorLayout::Transposed);
        if self.projection_bias {
            start = join(start, "bias", TensorLayout::Same);
        }
        start = start.tensor("conv", "conv1d.weight", TensorLayout::Conv);
        if self.conv_bias {
            start = start.tensor("conv_bias", "conv1d.bias", TensorLayout::Same);
        }
        let vectors = [("dt_bias", "dt_bias"), ("a_log", "A_log"), ("d", "D"), ("norm", "norm.weight")];
        let named = vectors.into_iter().fold(start, |all, (ours, theirs)| all.tensor(ours, theirs, TensorLayout::Same));
        Some(named.linear("output", "out_proj", self.projection_bias))
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::{module::Param, tensor::Tensor};

    use crate::{dims::InitScheme, seed::Seed};

    fn build(mamba: Mamba2, dims: &Dims) -> Result<Block, BuildError> {
        let mut init = WeightInit::new(InitScheme::FanIn, Seed(1).rng("test", 0));
        mamba.build(dims, &mut init, &Device::flex())
    }

    #[test]
    fn sizes_are_those_of_the_paper_where_the_model_is_wide() {
        let wide = Mamba2::default().sizes(&Dims::new(2048, 8192, 32).unwrap()).unwrap();
        assert_eq!(wide.scan, StateSpace { heads: 64, width: 64, groups: 1, state: 128, chunk: 64 });
        assert_eq!((wide.inner, wide.xbc), (4096, 4096 + 256));
        assert_eq!((Mamba2::default().expand, Mamba2::default().conv), (2, 4));
        let narrow = Mamba2::default().sizes(&Dims::new(32, 96, 4).unwrap()).unwrap();
        assert_eq!(narrow.scan, StateSpace { heads: 4, width: 16, groups: 1, state: 32, chunk: 64 });
        let grouped = Mamba2 { groups: 2, ..Mamba2::default() }.sizes(&Dims::new(64, 96, 4).unwrap()).unwrap();
        assert_eq!(grouped.scan, StateSpace { heads: 8, width: 16, groups: 2, state: 64, chunk: 64 });
    }

    /// As counted by transformers 5.23 for `state-spaces/mamba2-1.3b`: 48 layers of width 2048, each with a norm,
    /// 50,288 tied embeddings.
    #[test]
    fn parameters_are_those_of_the_published_model() {
        let layer = Mamba2::default().cost(&Dims::new(2048, 8192, 32).unwrap(), 2048);
        assert_eq!(48 * (layer.parameters + 2048) + 2048 + 50_288 * 2048, 1_343_757_312);
        let d = 2048;
        let inner = 4096;
        let state = 128;
        let heads = 64;
        let flops = 2 * d * (2 * inner + 2 * state + heads) + 7 * inner * state + 2 * inner * d;
        assert_eq!(layer.forward_flops_per_token, flops);
        assert_eq!(layer.cache_elements, heads * 64 * state + (inner + 2 * state) * 3);
    }

    #[test]
    fn other_options_show_in_the_id() {
        assert_eq!(Mamba2::default().id().as_str(), "mamba2");
        let other = Mamba2 { state: 64, groups: 2, ..Mamba2::default() };
        assert_eq!(other.id().as_str(), "mamba2_n64_g2");
    }

    #[test]
    fn every_variant_keeps_the_laws() {
        let usual = Mamba2 { chunk: 8, ..Mamba2::default() };
        let steps = |least, most| Some(StepLimits { least, most });
        for (variant, id) in [
            (Mamba2 { heads: Some(4), head_dim: 3, state: 5, groups: 2, ..usual }, "mamba2_p3_n5_g2_l8_h4"),
            (Mamba2 { conv_bias: false, projection_bias: true, ..usual }, "mamba2_l8_c0_b1"),
            (Mamba2 { steps: steps(0.001, f64::INFINITY), ..usual }, "mamba2_l8_t1em3"),
            (Mamba2 { steps: steps(0.0, 0.5), norm: Mamba2Norm::Whole, ..usual }, "mamba2_l8_t0e0_u5em1_whole"),
            (Mamba2 { norm: Mamba2Norm::BeforeGate, groups: 2, ..usual }, "mamba2_g2_l8_first"),
        ] {
            assert_eq!(variant.id().as_str(), id);
            assert_eq!(PrimitiveId::new(id), Ok(variant.id()));
            assert_eq!(crate::testkit::primitive::check(&variant, &Device::flex()), Ok(()), "{variant:?}");
        }
    }

    /// Bounds that contain all steps of a layer do not change its outputs.
    #[test]
    fn bounds_that_nothing_reaches_change_nothing() {
        use crate::layer::WeightInit;

        let dims = Dims::new(16, 24, 2).unwrap();
        let mut init = WeightInit::new(InitScheme::FanIn, Seed(7).rng("test", 0));
        let x = init.normal([1, 20, 16], 1.0, &Device::flex()).val();
        let output = |steps| {
            let block = build(Mamba2 { steps, ..Mamba2::default() }, &dims).unwrap();
            block.forward(x.clone()).into_data().try_into_vec::<f32>().unwrap()
        };
        let free = output(None);
        let wide = output(Some(StepLimits { least: 0.0, most: 1e3 }));
        assert!(free.iter().zip(&wide).all(|(a, b)| (a - b).abs() < 1e-6));
        let narrow = output(Some(StepLimits { least: 0.3, most: f64::INFINITY }));
        assert!(free.iter().zip(&narrow).any(|(a, b)| (a - b).abs() > 1e-4));
    }

    #[test]
    fn options_that_cannot_be_built_are_refused_with_a_remedy() {
        let dims = Dims::new(8, 12, 2).unwrap();
        let usual = Mamba2::default();
        for (bad, part) in [
            (Mamba2 { expand: 0, ..usual }, "expand is 0"),
            (Mamba2 { head_dim: 0, ..usual }, "head_dim is 0"),
            (Mamba2 { state: 0, ..usual }, "state is 0"),
            (Mamba2 { groups: 0, ..usual }, "groups is 0"),
            (Mamba2 { chunk: 0, ..usual }, "chunk is 0"),
            (Mamba2 { conv: 1, ..usual }, "kernel size of 1"),
            (Mamba2 { groups: 3, ..usual }, "do not divide its inner width 16"),
            (Mamba2 { expand: usize::MAX, ..usual }, "expand is"),
            (Mamba2 { expand: 1 << 23, ..usual }, "inner width"),
            (Mamba2 { heads: Some(0), ..usual }, "heads is 0"),
            (Mamba2 { heads: Some(6), groups: 4, ..usual }, "do not divide its 6 heads"),
            (
                Mamba2 { steps: Some(StepLimits { least: 1.0, most: 0.5 }), ..usual },
                "the bounds of its steps are invalid",
            ),
            (
                Mamba2 { steps: Some(StepLimits { least: f64::NAN, most: 1.0 }), ..usual },
                "the bounds of its steps are invalid",
            ),
        ] {
            let error = build(bad, &dims).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("mamba2"), "{error}");
            assert_eq!(bad.cost(&dims, 16), LayerCost::default());
        }
    }

    #[test]
    fn steps_and_rates_start_as_in_the_papers_code() {
        let block = build(Mamba2 { head_dim: 1, ..Mamba2::default() }, &Dims::new(256, 512, 4).unwrap()).unwrap();
        let layer = block.downcast_ref::<Mamba2Layer>().unwrap();
        let host = |x: &Param<Tensor<1>>| x.val().into_data().try_into_vec::<f32>().unwrap();
        let mut dt: Vec<f32> = host(&layer.dt_bias).iter().map(|bias| bias.exp().ln_1p()).collect();
        dt.sort_by(f32::total_cmp);
        assert!(dt.len() == 512 && dt[0] >= 0.999e-3 && dt[511] <= 0.1001);
        // The median of a log-uniform distribution is the geometric mean of its ends.
        assert!((0.007..0.014).contains(&dt[256]), "{}", dt[256]);
        let a: Vec<f32> = host(&layer.a_log).iter().map(|a| a.exp()).collect();
        let mean = a.iter().sum::<f32>() / 512.0;
        assert!(a.iter().all(|a| (0.999..16.001).contains(a)) && (7.5..9.5).contains(&mean), "{mean}");
        assert!(host(&layer.d).iter().chain(&host(&layer.norm)).all(|&one| one == 1.0));
    }
}
