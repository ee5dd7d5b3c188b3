//! Model classes built into transformers: reads their configurations as sequences of layers.
//!
//! There is one file per class. It reads the entries that the class reads, with the same defaults, and returns an error
//! that names any entry that a sequence of layers cannot express.

mod bamba;
mod deci;
mod granite;
mod lfm2;
mod mamba2;
mod nemotron_h;
mod qwen3;
mod qwen3_next;
mod refused;
mod shared;

use serde_json::{Map, Value};

use super::{
    ImportError,
    json::{Fields, refuse},
    recipe::{Recipe, named},
};
use crate::{
    dims::{Dims, InitScheme},
    export::{Class, OURS, Packing},
    model::ModelSpec,
    primitive::Primitives,
};

/// The content of a configuration.
#[derive(Debug)]
struct Found {
    packing: Packing,
    recipes: Vec<Recipe>,
    dims: Dims,
    tied: bool,
    /// The standard deviation of the initial weights.
    deviation: f64,
}

/// A specification, the registry in which its symbols denote its layers, and the blocks in which the layers are stored.
pub(super) struct Read {
    pub spec: ModelSpec,
    pub primitives: Primitives,
    pub packing: Packing,
}

/// Reads a configuration with this model type. Returns `None` if this module does not support the model type.
///
/// # Errors
/// Returns an [`ImportError`] that names an unsupported or missing entry.
pub(super) fn read(kind: &str, raw: &Map<String, Value>, primitives: &Primitives) -> Result<Option<Read>, ImportError> {
    let fields = Fields(raw);
    let found = match kind {
        "nemotron_h" => nemotron_h::read(fields)?,
        "mamba2" => mamba2::read(fields)?,
        "lfm2" => lfm2::read(fields)?,
        "qwen3" => qwen3::read(fields)?,
        "bamba" => bamba::read(fields)?,
        "granitemoehybrid" => granite::read(fields)?,
        "qwen3_next" => qwen3_next::read(fields)?,
        // DeciLM folders written by this crate can contain padding, which only the other reader handles.
        "deci" => deci::read(fields)?,
        "nemotron-nas" if fields.get(OURS).is_none() => deci::read(fields)?,
        _ => return refused::check(kind, fields).map(|()| None),
    };
    let Found { packing, recipes, dims, tied, deviation } = found;
    let (architecture, primitives) = named(&recipes, &dims, primitives)?;
    let init = fields.get(OURS).and_then(|ours| ours.get("init")).filter(|init| !init.is_null()).cloned();
    let init = init.map(|init| {
        serde_json::from_value(init.clone())
            .map_err(|_| refuse("composer_nas.init", &init, "there is no such InitScheme"))
    });
    let spec = ModelSpec {
        architecture,
        dims,
        vocab_size: fields.size("vocab_size")?,
        tied_embeddings: tied,
        head_bias: false,
        init: init.transpose()?.unwrap_or(InitScheme::Normal(deviation)),
    };
    spec.validate()?;
    Ok(Some(Read { spec, primitives, packing }))
}

impl Found {
    /// Creates the description of a model whose layers are stored under the names of its class.
    fn native(class: Class, recipes: Vec<Recipe>, dims: Dims, fields: Fields) -> Result<Self, ImportError> {
        let tied = fields.flag_or("tie_word_embeddings", class.tied_by_default())?;
        let deviation = fields.number_or("initializer_range", class.deviation_by_default())?;
        Ok(Self { packing: Packing::Native(class), recipes, dims, tied, deviation })
    }
}
