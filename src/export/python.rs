//! The Python modules that are included in a checkpoint.

use std::collections::BTreeMap;

use super::{DECI, FLAT};
use crate::primitive::{HfMapping, Symbol};

/// The line at the end of the flat module's table of layers. The modules of other layers are registered after it.
const REGISTER: &str = "# Layers that come with the checkpoint.\n";

/// Returns the name and the source of every module that this model type needs.
pub(super) fn modules(model_type: &str, mappings: &BTreeMap<Symbol, HfMapping>) -> Vec<(String, String)> {
    let mut modules = match model_type {
        DECI => pair(include_str!("python/deci_configuration.py"), include_str!("python/deci_modeling.py").into()),
        FLAT => {
            let mut modeling = include_str!("python/flat_modeling.py").to_owned();
            for kind in shipped(mappings).map(|(kind, _)| kind) {
                let line =
                    format!("from .layer_{kind} import Layer as layer_{kind}\nLAYERS[\"{kind}\"] = layer_{kind}\n");
                modeling = modeling.replace(REGISTER, &format!("{REGISTER}{line}"));
            }
            pair(include_str!("python/flat_configuration.py"), modeling)
        }
        _ => Vec::new(),
    };
    if model_type == FLAT {
        modules.extend(shipped(mappings).map(|(kind, source)| (format!("layer_{kind}.py"), source.to_owned())));
    }
    modules
}

fn pair(configuration: &str, modeling: String) -> Vec<(String, String)> {
    vec![("configuration_composer.py".into(), configuration.into()), ("modeling_composer.py".into(), modeling)]
}

/// Returns the kind and the source of the layers that bring their own module.
fn shipped(mappings: &BTreeMap<Symbol, HfMapping>) -> impl Iterator<Item = (&str, &str)> {
    let layers = mappings.values().filter_map(|c| Some((c.kind.as_str(), c.python.as_deref()?)));
    layers.collect::<BTreeMap<_, _>>().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitive::CacheKind;

    #[test]
    fn layers_of_others_are_registered_and_shipped() {
        let mine = HfMapping::new("mine", CacheKind::Nothing).python("class Layer: ...\n");
        let mappings = BTreeMap::from([(Symbol::MLP, mine)]);
        let modules: BTreeMap<_, _> = modules(FLAT, &mappings).into_iter().collect();
        assert_eq!(modules["layer_mine.py"], "class Layer: ...\n");
        assert!(modules["modeling_composer.py"].contains("LAYERS[\"mine\"] = layer_mine\n"));
        assert_eq!(modules.len(), 3);
    }
}
