//! Sequences given as lists of named blocks.

use serde_json::Value;

use super::NotationError;
use crate::{limits::MAX_LAYERS, primitive::Symbol, space::Architecture};

/// Block names and the layers of each block: a mixer and a SwiGLU, as in the models that use these names.
const NAMES: [(&[&str], [Symbol; 2]); 5] = [
    (
        &["t", "transformer", "attn", "attention", "full_attention", "self_attention"],
        [Symbol::ATTENTION, Symbol::SWIGLU],
    ),
    (&["swa", "sliding_attention", "sliding_window"], [Symbol::SLIDING_WINDOW, Symbol::SWIGLU]),
    (&["m2", "m2d", "mamba2", "mamba"], [Symbol::MAMBA2, Symbol::SWIGLU]),
    (&["gdn", "gated_delta_net", "gated_deltanet", "linear_attention"], [Symbol::GATED_DELTA_NET, Symbol::SWIGLU]),
    (&["conv", "short_conv"], [Symbol::GATED_CONV, Symbol::SWIGLU]),
];

/// Returns the sequence of `count` blocks with these names, repeated if there are fewer names than blocks.
///
/// Supports `hybrid_block_layout` of Fast-LLM, `layer_types` of transformers, and the block patterns of OLMo-core.
/// `mamba` means Mamba-2.
///
/// # Errors
/// Returns [`NotationError::Blocks`] if a name is unknown or `count` is not a positive multiple of the number of names,
/// and [`NotationError::TooLong`] if there are too many layers.
pub fn blocks(names: &[&str], count: usize) -> Result<Architecture, NotationError> {
    if names.is_empty() || !count.is_multiple_of(names.len()) || count == 0 {
        let text = format!("{} block names do not repeat evenly to {count} blocks", names.len());
        return Err(NotationError::Blocks(text));
    }
    if count > MAX_LAYERS / 2 {
        return Err(NotationError::TooLong);
    }
    let block = |name: &&str| {
        let found = NAMES.iter().find(|(names, _)| names.contains(name));
        found.map(|(_, layers)| *layers).ok_or_else(|| unknown(name))
    };
    let layers = names.iter().map(block).collect::<Result<Vec<_>, _>>()?;
    Ok(Architecture::new(layers.into_iter().flatten().collect::<Vec<_>>().repeat(count / names.len())))
}

fn unknown(name: &str) -> NotationError {
    let known = NAMES.iter().flat_map(|(names, _)| names.iter().copied()).collect::<Vec<_>>().join(", ");
    NotationError::Blocks(format!("unknown block name {name:?}; known names: {known}"))
}

/// Returns the sequence of a flash-linear-attention configuration.
///
/// Every block has the model's recurrent layer, except the blocks listed in `attn` (one object or a list of objects),
/// which have attention. A SwiGLU follows each of these layers, except Mamba-2. If `attn` has a `window_size`, the
/// layer is sliding-window attention; the sequence does not record the width of the window.
///
/// # Errors
/// Returns [`NotationError::Blocks`] if the model type is unknown, or if `attn` lists a layer twice or one that does
/// not exist, and [`NotationError::TooLong`] if there are too many layers.
pub fn fla(config: &Value) -> Result<Architecture, NotationError> {
    let wrong = |text: String| Err(NotationError::Blocks(text));
    let kind = config["model_type"].as_str().unwrap_or_default();
    let mixer = match kind {
        "gated_deltanet" => vec![Symbol::GATED_DELTA_NET, Symbol::SWIGLU],
        "mamba2" => vec![Symbol::MAMBA2],
        other => return wrong(format!("unknown model_type {other:?}; known types: gated_deltanet, mamba2")),
    };
    let Some(count) = config["num_hidden_layers"].as_u64().filter(|count| *count > 0) else {
        return wrong("num_hidden_layers must be a positive integer".into());
    };
    let Some(count) = usize::try_from(count).ok().filter(|count| *count <= MAX_LAYERS / 2) else {
        return Err(NotationError::TooLong);
    };
    let mut all = vec![mixer; count];
    let mut taken = vec![false; count];
    let attn = match &config["attn"] {
        Value::Null => &[][..],
        Value::Array(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    for attention in attn {
        let Some(places) = attention["layers"].as_array() else {
            return wrong("attn needs a list of layers".into());
        };
        let symbol = if attention["window_size"].is_null() { Symbol::ATTENTION } else { Symbol::SLIDING_WINDOW };
        for place in places {
            let at = place.as_u64().and_then(|at| usize::try_from(at).ok()).filter(|at| *at < count);
            let Some(at) = at else {
                return wrong(format!("attn lists layer {place}, but there are only {count} layers"));
            };
            if std::mem::replace(&mut taken[at], true) {
                return wrong(format!("attn lists layer {at} twice"));
            }
            all[at] = vec![symbol, Symbol::SWIGLU];
        }
    }
    Ok(Architecture::new(all.into_iter().flatten()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_of_blocks_repeat() {
        let letters = |names: &[&str], count| blocks(names, count).map(|found| found.letters());
        assert_eq!(letters(&["t", "m2d"], 4).unwrap(), "AMBMAMBM");
        assert_eq!(letters(&["gdn", "gdn", "gdn", "attn"], 4).unwrap(), "GMGMGMAM");
        assert_eq!(letters(&["conv", "full_attention"], 2).unwrap(), "CMAM");
        for (names, count, part) in [
            (&["t", "x"][..], 2, "unknown block name \"x\""),
            (&["t", "t"], 3, "do not repeat evenly"),
            (&[], 3, "do not repeat evenly"),
            (&["t"], 0, "do not repeat evenly"),
            (&["t"], MAX_LAYERS, "at most"),
        ] {
            assert!(letters(names, count).unwrap_err().to_string().contains(part), "{names:?}");
        }
    }

    #[test]
    fn attention_of_flash_linear_attention_is_one_or_a_list() {
        let read = |attn: Value| {
            fla(&json!({ "model_type": "gated_deltanet", "num_hidden_layers": 3, "attn": attn }))
                .map(|found| found.letters())
        };
        assert_eq!(read(Value::Null).unwrap(), "GMGMGM");
        assert_eq!(read(json!({ "layers": [1] })).unwrap(), "GMAMGM");
        let two = json!([{ "layers": [0] }, { "layers": [2], "window_size": 2048 }]);
        assert_eq!(read(two).unwrap(), "AMGMSM");
        for (attn, part) in [
            (json!({ "layers": [3] }), "only 3 layers"),
            (json!({ "layers": [-1] }), "only 3 layers"),
            (json!([{ "layers": [0] }, { "layers": [0] }]), "twice"),
            (json!({ "heads": 3 }), "list of layers"),
            (json!(7), "list of layers"),
        ] {
            assert!(read(attn).unwrap_err().to_string().contains(part));
        }
        let mamba = json!({ "model_type": "mamba2", "num_hidden_layers": 2 });
        assert_eq!(fla(&mamba).unwrap().letters(), "BB");
        let samba: Value =
            serde_json::from_str(include_str!("../../../tests/fixtures/fuzz/import_config/fla-samba-hybrid.json"))
                .unwrap();
        assert!(fla(&samba).unwrap_err().to_string().contains("unknown model_type \"samba\""));
    }
}
