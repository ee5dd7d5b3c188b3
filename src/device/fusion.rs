//! How Burn joins operations on accelerators into launches.

use std::sync::Once;

use burn_std::config::{BurnConfig, RuntimeConfig};
use serde_json::Value;

/// Where the setting is in Burn's configuration.
const CHAINS: &str = "/fusion/beam_search/max_blocks";

/// Makes Burn follow one chain of operations at a time, unless its file `burn.toml` says otherwise. Burn's default, 5,
/// finds more to join, but then often not in an order that is valid, and launches each operation on its own: about a
/// third more launches in a training step.
///
/// Has no effect after Burn has read its configuration, which it does in its first backward pass.
pub(super) fn follow_one_chain() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let found = BurnConfig::from_current_dir().override_from_env();
        BurnConfig::try_set(with_one_chain(&found).unwrap_or(found));
    });
}

/// Returns the configuration with one chain, or `None` if it was set to something other than the default. Burn has no
/// other access to this setting than the stored form.
fn with_one_chain(found: &BurnConfig) -> Option<BurnConfig> {
    let default = serde_json::to_value(BurnConfig::default()).ok()?;
    let mut stored = serde_json::to_value(found).ok()?;
    let chains = stored.pointer_mut(CHAINS)?;
    if Some(&*chains) != default.pointer(CHAINS) {
        return None;
    }
    *chains = Value::from(1);
    serde_json::from_value(stored).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_chain_is_followed_unless_another_number_was_set() {
        let chains = |config: &BurnConfig| config.fusion().beam_search.max_blocks;
        let default = BurnConfig::default();
        assert!(chains(&default) > 1);
        let ours = with_one_chain(&default).unwrap();
        assert_eq!((chains(&ours), ours.fusion().growth_patience), (1, default.fusion().growth_patience));
        // One that was set stays.
        assert!(with_one_chain(&ours).is_none());
    }
}
