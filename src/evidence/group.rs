//! Comparisons as data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{primitive::Symbol, space::Architecture};

/// Models that their authors trained under equal conditions. Only models of the same group are compared.
///
/// ```
/// let text = r#"{"groups": [{
///     "name": "ours", "paper": "our ablation of November", "lower_is_better": true, "gap": 0.01,
///     "layouts": [
///         {"name": "ends with attention", "layers": "BMBMAM", "value": 3.10},
///         {"name": "begins with attention", "layers": "AMBMBM", "value": 3.15}
///     ]
/// }]}"#;
/// let evidence: composer_nas::evidence::Evidence = text.parse()?;
/// assert_eq!(evidence.groups()[0].pairs, [["ends with attention", "begins with attention"]]);
/// # Ok::<(), composer_nas::evidence::EvidenceError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Group {
    /// A short name, unique in the file.
    pub name: String,
    /// The paper. All groups of a paper have one vote together.
    pub paper: String,
    /// The table or figure in the paper.
    pub source: String,
    /// How the numbers were obtained: from the paper itself or from notes on it.
    pub seen: String,
    /// The meaning and the unit of the numbers.
    pub metric: String,
    /// Whether lower numbers are better.
    pub lower_is_better: bool,
    /// The sizes of the models and the number of training tokens.
    pub scale: String,
    /// What was equal for all models.
    pub matched: String,
    /// What is known about the error of the numbers.
    pub noise: String,
    /// Further remarks.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// The smallest difference that is not a tie, in the unit of the metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap: Option<f64>,
    /// Symbols that are replaced by those of the most similar layers of this crate.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub letters: BTreeMap<Symbol, Symbol>,
    /// The models.
    pub layouts: Vec<Layout>,
    /// Pairs of names of layouts, with the better one first. If a file has none, these are all pairs that differ by at
    /// least `gap`; without a gap, none.
    pub pairs: Vec<[String; 2]>,
}

/// One model of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// The name, unique in the group.
    pub name: String,
    /// The layers in the symbols of the group, each with its own residual connection; absent if they were not
    /// published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Architecture>,
    /// The published number, in the unit of the group's metric; absent if it was not published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Assumptions that were made.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl Group {
    /// Returns the layers of a layout in the symbols of this crate; `None` if they were not published.
    pub fn architecture(&self, layout: &Layout) -> Option<Architecture> {
        let layers = layout.layers.as_ref()?.layers().iter();
        Some(Architecture::new(layers.map(|letter| *self.letters.get(letter).unwrap_or(letter))))
    }

    /// Returns the published number of a layout, with its sign changed if lower is better.
    pub(super) fn merit(&self, layout: &Layout) -> Option<f64> {
        layout.value.map(|value| if self.lower_is_better { -value } else { value })
    }

    /// Returns the indices of its layouts by name.
    pub(super) fn places(&self) -> BTreeMap<&str, usize> {
        self.layouts.iter().enumerate().map(|(place, layout)| (layout.name.as_str(), place)).collect()
    }
}
