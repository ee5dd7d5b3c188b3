//! Comparisons as data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{primitive::Symbol, space::Architecture};

/// Models that their authors trained under equal conditions. Comparisons hold within a group only.
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
    /// Where it was published. Groups of one paper share one vote.
    pub paper: String,
    /// The table or figure.
    pub source: String,
    /// How it was seen: the paper itself, or notes on it.
    pub seen: String,
    /// What the numbers are, and their unit.
    pub metric: String,
    /// Whether a lower number is the better one.
    pub lower_is_better: bool,
    /// Sizes of the models, tokens they were trained on.
    pub scale: String,
    /// What was held equal.
    pub matched: String,
    /// What is known of the error of a number.
    pub noise: String,
    /// What a reader has to know besides.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Numbers closer than this are ties, in the unit of the metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap: Option<f64>,
    /// Letters that are read as others: the nearest layer of this crate.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub letters: BTreeMap<Symbol, Symbol>,
    /// The models.
    pub layouts: Vec<Layout>,
    /// Names of two layouts, the better one first. Where a file has none, all that are at least `gap` apart; without a
    /// gap, no pair.
    pub pairs: Vec<[String; 2]>,
}

/// One model of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// Its name, unique in the group.
    pub name: String,
    /// Its layers in the letters of the group, each with a residual of its own; absent where they were not published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Architecture>,
    /// The published number, in the unit of the group's metric; absent where it was not published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// What is an assumption.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl Group {
    /// The layers of one of its layouts in the letters of this crate; `None` where they were not published.
    pub fn architecture(&self, layout: &Layout) -> Option<Architecture> {
        let layers = layout.layers.as_ref()?.layers().iter();
        Some(Architecture::new(layers.map(|letter| *self.letters.get(letter).unwrap_or(letter))))
    }

    /// The published number of a layout, turned so that more is better.
    pub(super) fn merit(&self, layout: &Layout) -> Option<f64> {
        layout.value.map(|value| if self.lower_is_better { -value } else { value })
    }

    /// The places of its layouts, by name.
    pub(super) fn places(&self) -> BTreeMap<&str, usize> {
        self.layouts.iter().enumerate().map(|(place, layout)| (layout.name.as_str(), place)).collect()
    }
}
