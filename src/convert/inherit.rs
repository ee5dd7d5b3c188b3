//! Building a model of other layers from the weights of a parent.
//!
//! Recurrent layers take over the projections of attention as in MOHAWK (Bick et al. 2024, arXiv 2408.10189) and "The
//! Mamba in the Llama" (Wang et al. 2024, arXiv 2408.15237, algorithm 1). Linear attention without the softmax is a
//! state space model with `C = q`, `B = k` and `x = v`. So the output map of the state starts from the queries, its
//! input map from the keys, and the input from the values; the output projection is kept. Grouped keys and values are
//! repeated for their heads.

use std::collections::BTreeMap;

use burn::{
    module::{Module, ModuleMapper, Param},
    nn::Linear,
    tensor::{Tensor, TensorData},
};

use super::{ConvertError, Parent};
use crate::{
    dims::Dims,
    layer::{AttentionLayer, Block, GatedDeltaNetLayer, Mamba2Layer, WeightInit},
    model::{Backbone, HybridLm, ModelSpec, ResidualBlock},
    primitive::{GatedDeltaNet, Mamba2, Primitives},
    seed::Seed,
    train::TrainError,
    weights::{parameters, replaced},
};

/// Builds the model of `spec` with as many weights of `parent` as possible.
///
/// The embedding, the norms, the head and all layers of the same primitive are taken from the parent. Other layers take
/// over every parameter that has the same name and shape as one of the parent's layer; a window thus takes all of those
/// of attention. [`Mamba2`] and [`GatedDeltaNet`] in place of attention start from its projections if their sizes match
/// (see [`mamba2_like`] and [`gated_delta_net_like`]). The remaining weights are drawn at random, for layer `i` from
/// stream `convert/layer` `i` of `seed`.
///
/// # Errors
/// [`ConvertError`] if `spec` differs from the parent in more than its layers, or if a layer cannot be built.
pub fn inherit(
    parent: &Parent,
    spec: &ModelSpec,
    primitives: &Primitives,
    seed: Seed,
) -> Result<HybridLm, ConvertError> {
    check(parent.spec(), spec)?;
    let model = parent.model();
    let symbols = spec.architecture.layers().iter().zip(parent.spec().architecture.layers());
    let mut layers = Vec::with_capacity(spec.architecture.len());
    for (index, ((&symbol, &own), layer)) in symbols.zip(&model.backbone.layers).enumerate() {
        let mixer = match symbol == own {
            true => layer.mixer.clone(),
            false => {
                let mut init = WeightInit::new(spec.init, seed.rng("convert/layer", index as u64));
                let built = primitives.get(symbol)?.build(&spec.dims, &mut init, &parent.device())?;
                started(&layer.mixer, built, &spec.dims)?.block
            }
        };
        layers.push(ResidualBlock { norm: layer.norm.clone(), mixer });
    }
    let backbone = Backbone { embedding: model.backbone.embedding.clone(), layers };
    Ok(HybridLm { backbone, norm: model.norm.clone(), head: model.head.clone() })
}

/// Returns a [`Mamba2`] whose sizes match all projections of attention at these widths.
///
/// It has one group of heads per query head, and its state is as large as a head is wide. Returns `None` if the width
/// of all queries is not a multiple of the model's width.
pub fn mamba2_like(dims: &Dims) -> Option<Mamba2> {
    let queries = dims.heads.checked_mul(dims.head_dim)?;
    let expand = queries.checked_div(dims.d_model)?;
    let like =
        Mamba2 { expand, head_dim: dims.head_dim, state: dims.head_dim, groups: dims.heads, ..Mamba2::default() };
    (expand > 0 && queries.is_multiple_of(dims.d_model)).then_some(like)
}

/// Returns a [`GatedDeltaNet`] whose sizes match all projections of attention at these widths: the same number of heads
/// with the same width. Returns `None` if the width of all queries differs from the model's width.
pub fn gated_delta_net_like(dims: &Dims) -> Option<GatedDeltaNet> {
    let like = GatedDeltaNet { head_dim: dims.head_dim, value_heads: 1, ..GatedDeltaNet::default() };
    (dims.heads.checked_mul(dims.head_dim) == Some(dims.d_model)).then_some(like)
}

/// A layer that starts from the weights of another one.
pub(super) struct Started {
    pub block: Block,
    /// Whether all weights were taken over, so that none was drawn at random.
    pub whole: bool,
}

/// Copies all matching weights of `parent` to `built`.
pub(super) fn started(parent: &Block, built: Block, dims: &Dims) -> Result<Started, ConvertError> {
    if let Some(attention) = parent.downcast_ref::<AttentionLayer>() {
        if let Some(layer) = built.downcast_ref::<Mamba2Layer>() {
            return Ok(Started { block: Block::new(mamba2(attention, layer.clone(), dims)), whole: false });
        }
        if let Some(layer) = built.downcast_ref::<GatedDeltaNetLayer>() {
            return Ok(Started { block: Block::new(gated_delta_net(attention, layer.clone(), dims)), whole: false });
        }
    }
    let mut known = BTreeMap::new();
    for parameter in parameters(parent) {
        let data = (parameter.read)().map_err(TrainError::from)?;
        known.insert(parameter.name, data);
    }
    let mut take = Take { path: Vec::new(), known, whole: true };
    let block = built.map(&mut take);
    Ok(Started { block, whole: take.whole })
}

/// Sets `x | B | C` from values, keys and queries. The convolution starts as the identity.
fn mamba2(attention: &AttentionLayer, mut layer: Mamba2Layer, dims: &Dims) -> Mamba2Layer {
    let scan = layer.sizes();
    let queries = dims.heads * dims.head_dim;
    let inner = scan.heads * scan.width;
    let states = scan.groups * scan.state;
    if (inner, states) != (queries, queries) {
        return layer;
    }
    let parts = [expanded(&attention.value, dims), expanded(&attention.key, dims), attention.query.weight.val()];
    layer.xbc.weight = like(layer.xbc.weight, Tensor::cat(parts.to_vec(), 1));
    layer.output.weight = like(layer.output.weight, attention.output.weight.val());
    layer.conv = present(layer.conv);
    layer
}

/// Sets `q | k | v` from queries, keys and values. The convolution starts as the identity.
fn gated_delta_net(attention: &AttentionLayer, mut layer: GatedDeltaNetLayer, dims: &Dims) -> GatedDeltaNetLayer {
    let rule = layer.sizes();
    let queries = dims.heads * dims.head_dim;
    let keys = rule.key_heads * rule.key_width;
    let values = rule.value_heads * rule.value_width;
    if (keys, values, rule.key_width) != (queries, queries, dims.head_dim) {
        return layer;
    }
    let parts = [attention.query.weight.val(), expanded(&attention.key, dims), expanded(&attention.value, dims)];
    layer.qkv.weight = like(layer.qkv.weight, Tensor::cat(parts.to_vec(), 1));
    layer.output.weight = like(layer.output.weight, attention.output.weight.val());
    layer.conv = present(layer.conv);
    layer
}

/// Repeats the columns of grouped heads for the query heads that share them: `[D, K C]` to `[D, H C]`.
fn expanded(linear: &Linear, dims: &Dims) -> Tensor<2> {
    let Dims { d_model, heads, kv_heads, head_dim, .. } = *dims;
    let grouped = linear.weight.val().reshape([d_model, kv_heads, 1, head_dim]);
    grouped.repeat_dim(2, heads / kv_heads).reshape([d_model, heads * head_dim])
}

/// Returns the parameter with another value.
fn like<const D: usize>(param: Param<Tensor<D>>, value: Tensor<D>) -> Param<Tensor<D>> {
    param.map(|_| value)
}

/// A kernel that passes on the current token: 1 at the last position, 0 before.
fn present(conv: Param<Tensor<2>>) -> Param<Tensor<2>> {
    let [kernel_size, channels] = conv.dims();
    let mut values = vec![0.0_f32; (kernel_size - 1) * channels];
    values.resize(kernel_size * channels, 1.0);
    replaced(conv, TensorData::new(values, [kernel_size, channels]))
}

/// Copies parameters that match in name and shape.
struct Take {
    path: Vec<String>,
    known: BTreeMap<String, TensorData>,
    whole: bool,
}

impl ModuleMapper for Take {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let data = self.known.remove(&self.path.join("."));
        match data.filter(|data| data.shape().to_vec() == param.dims()) {
            Some(data) => replaced(param, data),
            None => {
                self.whole = false;
                param
            }
        }
    }
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.into());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
}

/// Checks that the models differ in their layers only.
fn check(parent: &ModelSpec, spec: &ModelSpec) -> Result<(), ConvertError> {
    let differs = |field, was: String, is: String| match was == is {
        true => Ok(()),
        false => Err(ConvertError::OtherModel { field, was, is }),
    };
    differs("the number of layers", parent.architecture.len().to_string(), spec.architecture.len().to_string())?;
    differs("dims", format!("{:?}", parent.dims), format!("{:?}", spec.dims))?;
    differs("vocab_size", parent.vocab_size.to_string(), spec.vocab_size.to_string())?;
    differs("tied_embeddings", parent.tied_embeddings.to_string(), spec.tied_embeddings.to_string())?;
    differs("head_bias", parent.head_bias.to_string(), spec.head_bias.to_string())
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::{dims::InitScheme, extrapolate::Target};

    #[test]
    fn recurrences_take_the_projections_of_attention() {
        // Grouped queries, so that keys and values are repeated.
        let dims = Dims { kv_heads: 2, ..Dims::new(32, 48, 4).unwrap() };
        let target = Target::custom("tiny", dims.clone(), 13, true, 1).unwrap();
        let spec = |text: &str| ModelSpec { init: InitScheme::FanIn, ..target.model(text.parse().unwrap()) };
        let primitives = Primitives::paper().with(mamba2_like(&dims).unwrap()).unwrap();
        let primitives = primitives.with(gated_delta_net_like(&dims).unwrap()).unwrap();
        let model = HybridLm::new(&spec("AMAM"), &primitives, Seed(5), &Device::flex()).unwrap();
        let parent = Parent::new(spec("AMAM"), model).unwrap();
        let own = |at: usize| parent.model().backbone.layers[at].mixer.downcast_ref::<AttentionLayer>().unwrap();
        let column = |weight: Tensor<2>, at: usize| weight.slice([0..32, at..at + 1]).into_data();
        let model = inherit(&parent, &spec("BMGM"), &primitives, Seed(2)).unwrap();
        let mamba = model.backbone.layers[0].mixer.downcast_ref::<Mamba2Layer>().unwrap();
        // x | B | C, 32 columns each; head 3 shares the second pair of keys and values.
        let xbc = || mamba.xbc.weight.val();
        let last = 3 * 8;
        assert_eq!(column(xbc(), last), column(own(0).value.weight.val(), 8));
        assert_eq!(column(xbc(), 32 + last + 1), column(own(0).key.weight.val(), 9));
        assert_eq!(column(xbc(), 64 + last + 2), column(own(0).query.weight.val(), last + 2));
        assert_eq!(mamba.output.weight.val().into_data(), own(0).output.weight.val().into_data());
        let net = model.backbone.layers[2].mixer.downcast_ref::<GatedDeltaNetLayer>().unwrap();
        assert_eq!(column(net.qkv.weight.val(), last), column(own(2).query.weight.val(), last));
        assert_eq!(column(net.qkv.weight.val(), 64 + last), column(own(2).value.weight.val(), 8));
    }
}
