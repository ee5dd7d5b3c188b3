//! The JSON files: config.json and generation_config.json.

use serde_json::{Map, Value, json};

use super::{
    ExportError, Format, Options,
    class::{Class, merged},
    class_config,
    plan::{self, Half, Packing, Pair},
};
use crate::{
    dims::{Dims, InitScheme},
    model::ModelSpec,
    primitive::{CacheKind, HfMapping, Primitives, Role},
};

/// The entry of config.json with information that the standard entries cannot express. Other programs ignore it.
pub(crate) const OURS: &str = "composer_nas";
/// The `model_type` values in config.json.
pub(crate) const FLAT: &str = "composer";
pub(crate) const DECI: &str = "nemotron-nas";
pub(crate) const LLAMA: &str = "llama";
/// The name in transformers of the rotary scaling of Llama 3.1 and later.
pub(crate) const LLAMA3: &str = "llama3";
/// DeciLM rounds inner widths up to a multiple of this number.
pub(crate) const FF_STEP: usize = 256;

/// A format that can express the model, with its packing.
pub(super) struct Chosen {
    pub model_type: &'static str,
    pub packing: Packing,
}

/// Returns the requested format, or the first that fits.
pub(super) fn choose(spec: &ModelSpec, primitives: &Primitives, format: Format) -> Result<Chosen, ExportError> {
    let mappings = plan::mappings(spec, primitives)?;
    let kinds: Vec<_> = spec.architecture.layers().iter().map(|symbol| mappings[symbol].kind.as_str()).collect();
    let flat = Chosen { model_type: FLAT, packing: Packing::Flat };
    let paired = |format| paired(spec, &kinds, format);
    let native = |class: Class| Chosen { model_type: class.model_type(), packing: Packing::Native(class) };
    match (format, class_of(format)) {
        (_, Some(class)) => match class_config::fit(class, spec, &mappings) {
            Ok(_) => Ok(native(class)),
            Err(reason) => Err(ExportError::Format { format, reason }),
        },
        (Format::Auto, None) => {
            let fits = |class: &Class| class_config::fit(*class, spec, &mappings).is_ok();
            let first = || Class::ALL.into_iter().find(fits).map(native);
            Ok(paired(Format::DeciLm).ok().or_else(first).unwrap_or(flat))
        }
        (Format::DeciLm | Format::LlamaCpp | Format::Llama, None) => paired(format),
        (_, None) => Ok(flat),
    }
}

/// Checks all formats. Returns an error for each one that cannot express the model.
pub(super) fn formats(spec: &ModelSpec, primitives: &Primitives) -> Vec<(Format, Result<(), ExportError>)> {
    const ALL: [Format; 11] = [
        Format::DeciLm,
        Format::LlamaCpp,
        Format::Llama,
        Format::NemotronH,
        Format::Mamba2,
        Format::Lfm2,
        Format::Qwen3,
        Format::Bamba,
        Format::GraniteMoeHybrid,
        Format::Qwen3Next,
        Format::Flat,
    ];
    ALL.into_iter().map(|format| (format, choose(spec, primitives, format).map(drop))).collect()
}

/// Returns the built-in class of a format.
fn class_of(format: Format) -> Option<Class> {
    match format {
        Format::NemotronH => Some(Class::NemotronH),
        Format::Mamba2 => Some(Class::Mamba2),
        Format::Lfm2 => Some(Class::Lfm2),
        Format::Qwen3 => Some(Class::Qwen3),
        Format::Bamba => Some(Class::Bamba),
        Format::GraniteMoeHybrid => Some(Class::GraniteMoeHybrid),
        Format::Qwen3Next => Some(Class::Qwen3Next),
        Format::Auto | Format::DeciLm | Format::LlamaCpp | Format::Llama | Format::Flat => None,
    }
}

/// Returns a Llama-like packing.
fn paired(spec: &ModelSpec, kinds: &[&str], format: Format) -> Result<Chosen, ExportError> {
    let dims = &spec.dims;
    let refuse = |reason: String| Err(ExportError::Format { format, reason });
    if let Some(kind) = kinds.iter().find(|kind| plan::is_attention(kind).is_none()) {
        return refuse(format!("it only supports attention and SwiGLU, not {kind}"));
    }
    if spec.head_bias && !spec.tied_embeddings {
        return refuse("its head has no bias".into());
    }
    if !dims.d_model.is_multiple_of(dims.heads) {
        return refuse(format!("its {} heads must divide d_model {}", dims.heads, dims.d_model));
    }
    let deci = format != Format::Llama;
    if deci && ff_of(ff_mult(dims.d_ff, dims), dims) != dims.d_ff {
        return refuse(format!("d_ff {} is not a multiple of {FF_STEP}", dims.d_ff));
    }
    let mut pairs = plan::pair(kinds).unwrap_or_default();
    for (at, pair) in pairs.iter_mut().enumerate() {
        let (fill_mlp, fill_attention) = match format {
            Format::LlamaCpp => (Some(FF_STEP), at == 0),
            Format::Llama => (Some(dims.d_ff), true),
            _ => (None, false),
        };
        if let (Half::Absent, Some(width)) = (pair.mlp, fill_mlp) {
            pair.mlp = Half::Zero(width);
        }
        if pair.attention == Half::Absent && fill_attention {
            pair.attention = Half::Zero(0);
        }
    }
    Ok(Chosen { model_type: if deci { DECI } else { LLAMA }, packing: Packing::Paired(pairs) })
}

/// Returns the inner width as stated by DeciLM: `3 ff / (2 d)`.
fn ff_mult(ff: usize, dims: &Dims) -> f64 {
    3.0 * ff as f64 / (2.0 * dims.d_model as f64)
}

/// Returns the inner width that readers of DeciLM compute from it, saturating at `usize::MAX`.
pub(crate) fn ff_of(mult: f64, dims: &Dims) -> usize {
    ((2.0 * mult * dims.d_model as f64 / 3.0) as usize).checked_next_multiple_of(FF_STEP).unwrap_or(usize::MAX)
}

/// Returns config.json.
pub(super) fn config(
    spec: &ModelSpec,
    primitives: &Primitives,
    chosen: &Chosen,
    options: &Options,
) -> Result<Value, ExportError> {
    let dims = &spec.dims;
    let tokens = options.tokens;
    // The rotary parameters are written twice: `rope_parameters` for transformers 5, `rope_theta` and `rope_scaling`
    // for everything else.
    let rope = match dims.rope_scaling {
        None => json!({ "rope_type": "default" }),
        Some(scaling) => merged(json!({ "rope_type": LLAMA3 }), json!(scaling)),
    };
    let common = json!({
        "model_type": chosen.model_type,
        "vocab_size": spec.vocab_size,
        "hidden_size": dims.d_model,
        "intermediate_size": dims.d_ff,
        "num_attention_heads": dims.heads,
        "num_key_value_heads": dims.kv_heads,
        "head_dim": dims.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": dims.norm_eps,
        "rope_theta": dims.rope_theta,
        "rope_parameters": merged(rope.clone(), json!({ "rope_theta": dims.rope_theta })),
        "max_position_embeddings": options.max_positions,
        "attention_bias": dims.attention_bias,
        "attention_dropout": 0.0,
        "mlp_bias": false,
        "tie_word_embeddings": spec.tied_embeddings,
        "initializer_range": match spec.init { InitScheme::Normal(std) => std, InitScheme::FanIn | InitScheme::FanInEmbedding(_) => 0.02 },
        "bos_token_id": tokens.bos,
        "eos_token_id": tokens.eos,
        "pad_token_id": tokens.pad,
        "use_cache": caches(spec, primitives),
        "dtype": options.precision.name(),
        OURS: {
            "version": env!("CARGO_PKG_VERSION"),
            "architecture": spec.architecture,
            "init": spec.init,
        },
    });
    let scaled = dims.rope_scaling.map_or(json!({}), |_| json!({ "rope_scaling": rope }));
    let special = match &chosen.packing {
        Packing::Flat => flat(spec, primitives)?,
        Packing::Native(class) => {
            let mappings = plan::mappings(spec, primitives)?;
            let own = class_config::config(*class, spec, &mappings);
            let format = options.format;
            own.map_err(|reason| ExportError::Format { format, reason })?
        }
        Packing::Paired(pairs) if chosen.model_type == DECI => deci(dims, pairs),
        Packing::Paired(pairs) => {
            json!({ "architectures": ["LlamaForCausalLM"], "num_hidden_layers": pairs.len() })
        }
    };
    Ok(merged(merged(common, scaled), special))
}

/// Returns the entries of the flat class: the kind of every layer, and the type of its cache in transformers.
fn flat(spec: &ModelSpec, primitives: &Primitives) -> Result<Value, ExportError> {
    let mappings = plan::mappings(spec, primitives)?;
    let list = |what: &dyn Fn(&HfMapping) -> String| -> Vec<String> {
        spec.architecture.layers().iter().map(|symbol| what(&mappings[symbol])).collect()
    };
    let special = json!({
        "architectures": ["ComposerForCausalLM"],
        "auto_map": auto_map("ComposerConfig", "ComposerForCausalLM"),
        "num_hidden_layers": spec.architecture.len(),
        "layers_block_type": list(&|mapping| mapping.kind.clone()),
        "layers_cache_type": list(&|mapping| mapping.cache.layer_type().into()),
        "head_bias": spec.head_bias && !spec.tied_embeddings,
    });
    let options = mappings.values().filter(|mapping| !mapping.options.is_empty());
    let options: Map<_, _> = options.map(|mapping| (mapping.kind.clone(), json!(mapping.options))).collect();
    let special = match options.is_empty() {
        true => special,
        false => merged(special, json!({ "layers_options": options })),
    };
    Ok(merged(special, Value::Object(plan::settings(&mappings)?)))
}

/// Returns the entries of DeciLM: the halves of every block and their widths.
fn deci(dims: &Dims, pairs: &[Pair]) -> Value {
    let group = dims.heads / dims.kv_heads;
    let half = |absent: bool, mut more: Map<String, Value>| {
        more.extend([("no_op".into(), absent.into()), ("replace_with_linear".into(), false.into())]);
        more
    };
    let one = |key: &str, value: Option<Value>| Map::from_iter([(key.to_owned(), value.unwrap_or_default())]);
    let block = |pair: &Pair| {
        let heads = (pair.attention != Half::Absent).then(|| group.into());
        let mult = match pair.mlp {
            Half::Absent => None,
            Half::Layer(_) => Some(ff_mult(dims.d_ff, dims).into()),
            Half::Zero(width) => Some(ff_mult(width, dims).into()),
        };
        json!({
            "attention": half(heads.is_none(), one("n_heads_in_group", heads)),
            "ffn": half(mult.is_none(), one("ffn_mult", mult)),
        })
    };
    json!({
        "architectures": ["DeciLMForCausalLM"],
        "auto_map": auto_map("ComposerDeciConfig", "DeciLMForCausalLM"),
        "num_hidden_layers": pairs.len(),
        "block_configs": pairs.iter().map(block).collect::<Vec<_>>(),
    })
}

fn auto_map(config: &str, model: &str) -> Value {
    json!({
        "AutoConfig": format!("configuration_composer.{config}"),
        "AutoModelForCausalLM": format!("modeling_composer.{model}"),
    })
}

/// Whether transformers can decode the model with a cache. Every layer that mixes along the sequence must support it,
/// and at least one layer must cache keys, because transformers counts the cached tokens by them.
fn caches(spec: &ModelSpec, primitives: &Primitives) -> bool {
    let mut keys = false;
    let all = spec.architecture.layers().iter().filter_map(|&symbol| primitives.get(symbol).ok()).all(|primitive| {
        let cache = primitive.hf_mapping(&spec.dims).map_or(CacheKind::Nothing, |found| found.cache);
        keys |= matches!(cache, CacheKind::Everything | CacheKind::Window);
        cache != CacheKind::Nothing || primitive.role() == Role::Channel
    });
    keys && all
}

/// Returns generation_config.json.
pub(super) fn generation(spec: &ModelSpec, primitives: &Primitives, options: &Options) -> Value {
    json!({
        "_from_model_config": true,
        "bos_token_id": options.tokens.bos,
        "eos_token_id": options.tokens.eos,
        "pad_token_id": options.tokens.pad,
        "use_cache": caches(spec, primitives),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extrapolate::Target;

    fn chosen(letters: &str, format: Format) -> Result<Chosen, ExportError> {
        choose(&Target::llama_1b().model(letters.parse().unwrap()), &Primitives::standard(), format)
    }

    #[test]
    fn widths_of_the_published_models_are_exact() {
        for (target, mult) in [(Target::llama_1b(), 6.0), (Target::llama_3b(), 4.0), (Target::llama_8b(), 5.25)] {
            assert_eq!(ff_mult(target.dims.d_ff, &target.dims), mult);
        }
        for d_model in [48, 64, 80, 100, 1000, 2048, 5120, 7168] {
            let dims = Dims { d_model, ..Target::llama_1b().dims };
            for ff in (1..200).map(|step| step * FF_STEP) {
                assert_eq!(ff_of(ff_mult(ff, &dims), &dims), ff, "{d_model}");
            }
        }
    }

    #[test]
    fn blocks_are_those_of_the_format() {
        let pairs = |letters, format| match chosen(letters, format).unwrap().packing {
            Packing::Paired(pairs) => pairs,
            Packing::Flat | Packing::Native(_) => panic!("not paired"),
        };
        let zero = Half::Zero;
        let layer = Half::Layer;
        let absent = Half::Absent;
        let pair = |attention, mlp| Pair { attention, mlp };
        assert_eq!(
            pairs("MAA", Format::DeciLm),
            [pair(absent, layer(0)), pair(layer(1), absent), pair(layer(2), absent)]
        );
        assert_eq!(pairs("MAM", Format::LlamaCpp), [pair(zero(0), layer(0)), pair(layer(1), layer(2))]);
        assert_eq!(pairs("AMM", Format::LlamaCpp), [pair(layer(0), layer(1)), pair(absent, layer(2))]);
        assert_eq!(pairs("AA", Format::LlamaCpp), [pair(layer(0), zero(256)), pair(layer(1), zero(256))]);
        assert_eq!(pairs("AMM", Format::Llama), [pair(layer(0), layer(1)), pair(zero(0), layer(2))]);
        assert_eq!(chosen("AM", Format::Auto).unwrap().model_type, DECI);
        assert_eq!(chosen("AMF", Format::Auto).unwrap().model_type, FLAT);
        assert_eq!(chosen("AM", Format::Flat).unwrap().model_type, FLAT);
    }

    #[test]
    fn what_a_format_cannot_say_is_refused() {
        let good = Target::llama_1b().model("AM".parse().unwrap());
        let error = |spec: &ModelSpec, format| match choose(spec, &Primitives::standard(), format) {
            Err(ExportError::Format { reason, .. }) => reason,
            _ => panic!("not refused"),
        };
        let dims = |change: fn(&mut Dims)| {
            let mut spec = good.clone();
            change(&mut spec.dims);
            spec
        };
        assert!(error(&dims(|dims| dims.d_ff = 8000), Format::DeciLm).contains("8000"));
        assert!(error(&dims(|dims| dims.heads = 24), Format::Llama).contains("24"));
        let biased = ModelSpec { head_bias: true, tied_embeddings: false, ..good.clone() };
        assert!(error(&biased, Format::LlamaCpp).contains("bias"));
        let gelu = ModelSpec { architecture: "AF".parse().unwrap(), ..good };
        assert!(error(&gelu, Format::Llama).contains("gelu_mlp"));
    }
}
