//! Comparisons as data.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{primitive::Symbol, space::Architecture};

/// Groups of models that were trained under equal conditions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Groups")]
pub struct Evidence {
    groups: Vec<Group>,
}

/// The unchecked form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Groups {
    groups: Vec<Group>,
}

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

/// Comparisons that cannot be used.
#[derive(Debug, Error)]
pub enum EvidenceError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// The I/O error.
        source: std::io::Error,
    },
    /// Not JSON of this form.
    #[error("not a file of comparisons: {0}")]
    Json(#[from] serde_json::Error),
    /// Nothing to compare.
    #[error("the file holds no group")]
    Empty,
    /// Two groups of one name.
    #[error("two groups are named {0:?}: rename one")]
    RepeatedGroup(String),
    /// A group that contradicts itself.
    #[error("group {group:?}: {problem}")]
    Group {
        /// Its name.
        group: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A score that does not compare.
    #[error("the score of {layout} is {score}: only finite scores can be compared")]
    Score {
        /// Whose.
        layout: Architecture,
        /// The score.
        score: f64,
    },
}

impl Evidence {
    /// The longest layout that can be judged, in layers.
    pub const MAX_LAYERS: usize = 512;

    /// The comparisons that come with the crate: 349 pairs of four papers, from 350 million to 2.7 billion parameters.
    ///
    /// # Panics
    /// Never: a test reads the file that is compiled in.
    pub fn published() -> Self {
        include_str!("published.json").parse().expect("the published comparisons are tested")
    }

    /// The comparisons in a file.
    ///
    /// # Errors
    /// [`EvidenceError`] says what to change.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, EvidenceError> {
        let path = path.as_ref();
        let text = fs::read_to_string(path).map_err(|source| EvidenceError::Io { path: path.into(), source })?;
        text.parse()
    }

    /// Checks the groups, and names the pairs of those that have none.
    ///
    /// # Errors
    /// [`EvidenceError`] says what to change.
    pub fn new(mut groups: Vec<Group>) -> Result<Self, EvidenceError> {
        if groups.is_empty() {
            return Err(EvidenceError::Empty);
        }
        let mut names = BTreeSet::new();
        for group in &mut groups {
            if !names.insert(group.name.clone()) {
                return Err(EvidenceError::RepeatedGroup(group.name.clone()));
            }
            let checked = group.check().map_err(|problem| EvidenceError::Group { group: group.name.clone(), problem });
            checked?;
        }
        Ok(Self { groups })
    }

    /// The groups, in the order of the file.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Every layout that is known and belongs to a pair, once, in the order of the file.
    pub fn architectures(&self) -> Vec<Architecture> {
        let mut seen = BTreeSet::new();
        let all = self.groups.iter().flat_map(|group| {
            let paired = move |layout: &&Layout| group.pairs.iter().flatten().any(|name| *name == layout.name);
            group.layouts.iter().filter(paired).filter_map(|layout| group.architecture(layout))
        });
        all.filter(|architecture| seen.insert(architecture.clone())).collect()
    }
}

impl TryFrom<Groups> for Evidence {
    type Error = EvidenceError;

    fn try_from(unchecked: Groups) -> Result<Self, EvidenceError> {
        Self::new(unchecked.groups)
    }
}

impl FromStr for Evidence {
    type Err = EvidenceError;

    fn from_str(text: &str) -> Result<Self, EvidenceError> {
        // In two steps, so that the error of a group keeps its type.
        Self::new(serde_json::from_str::<Groups>(text)?.groups)
    }
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

    /// The place of the layout with this name.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.layouts.iter().position(|layout| layout.name == name)
    }

    fn check(&mut self) -> Result<(), String> {
        if self.layouts.len() < 2 {
            return Err("a comparison needs two layouts or more".into());
        }
        let mut names = BTreeSet::new();
        for layout in &self.layouts {
            self.check_layout(layout)?;
            if !names.insert(&layout.name) {
                return Err(format!("two layouts are named {:?}: rename one", layout.name));
            }
        }
        if self.gap.is_some_and(|gap| !gap.is_finite() || gap < 0.0) {
            return Err("the gap is a finite number that is not negative".into());
        }
        if self.pairs.is_empty() {
            self.pairs = self.pairs_by_gap();
        }
        self.check_pairs()
    }

    fn check_layout(&self, layout: &Layout) -> Result<(), String> {
        let name = &layout.name;
        if layout.value.is_some_and(|value| !value.is_finite()) {
            return Err(format!("the value of {name:?} is not finite: leave it out"));
        }
        let layers = layout.layers.as_ref().map_or(0, Architecture::len);
        if layers > Evidence::MAX_LAYERS {
            return Err(format!("{name:?} has {layers} layers: at most {} can be judged", Evidence::MAX_LAYERS));
        }
        Ok(())
    }

    /// All pairs whose numbers are at least the gap apart, up to rounding.
    fn pairs_by_gap(&self) -> Vec<[String; 2]> {
        let Some(gap) = self.gap else { return Vec::new() };
        let further = |better: &Layout, worse: &Layout| {
            let difference = self.merit(better).zip(self.merit(worse)).map(|(better, worse)| better - worse);
            difference.is_some_and(|difference| difference > 0.0 && difference >= gap * (1.0 - 1e-9))
        };
        let pairs = self.layouts.iter().flat_map(|better| {
            let worse = self.layouts.iter().filter(move |worse| further(better, worse));
            worse.map(move |worse| [better.name.clone(), worse.name.clone()])
        });
        pairs.collect()
    }

    fn check_pairs(&self) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        for [better, worse] in &self.pairs {
            let place =
                |name: &String| self.place(name).ok_or_else(|| format!("a pair names {name:?}, which is no layout"));
            let places = (place(better)?, place(worse)?);
            let merit = |place: usize| self.merit(&self.layouts[place]);
            let against = merit(places.0).zip(merit(places.1)).is_some_and(|(better, worse)| better <= worse);
            if places.0 == places.1 || seen.contains(&(places.1, places.0)) || against {
                return Err(format!("the pair {better:?} before {worse:?} contradicts a number or another pair"));
            }
            if !seen.insert(places) {
                return Err(format!("the pair {better:?} before {worse:?} stands there twice"));
            }
        }
        if circular(self.layouts.len(), &seen) {
            return Err("its pairs go round in a circle: each layout of it would be better than itself".into());
        }
        Ok(())
    }
}

/// Whether following pairs from better to worse leads back to where it began.
fn circular(layouts: usize, pairs: &BTreeSet<(usize, usize)>) -> bool {
    let mut left: BTreeSet<usize> = (0..layouts).collect();
    loop {
        // Those that no remaining layout is better than can be taken away.
        let beaten = |place: usize| pairs.iter().any(|&(better, worse)| worse == place && left.contains(&better));
        let free: Vec<usize> = left.iter().copied().filter(|&place| !beaten(place)).collect();
        if free.is_empty() {
            return !left.is_empty();
        }
        free.iter().for_each(|place| {
            left.remove(place);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(layouts: &str, rest: &str) -> Result<Evidence, EvidenceError> {
        format!(
            r#"{{"groups": [{{"name": "g", "paper": "p", "lower_is_better": true, "layouts": [{layouts}]{rest}}}]}}"#
        )
        .parse()
    }

    const TWO: &str = r#"{"name": "a", "layers": "AM", "value": 1.0}, {"name": "b", "layers": "MA", "value": 2.0}"#;

    #[test]
    fn the_published_comparisons_are_complete() {
        let evidence = Evidence::published();
        let pairs: Vec<_> = evidence.groups().iter().map(|group| (group.name.as_str(), group.pairs.len())).collect();
        assert_eq!(pairs[..2], [("bae-350m", 103), ("bae-1b", 120)]);
        assert_eq!(pairs.iter().map(|(_, pairs)| pairs).sum::<usize>(), 349);
        let papers: BTreeSet<_> =
            evidence.groups().iter().filter(|group| !group.pairs.is_empty()).map(|group| &group.paper).collect();
        assert_eq!(papers.len(), 4);
        assert_eq!(evidence.architectures().len(), 69);
        let samba = evidence.groups().iter().find(|group| group.name == "samba-438m").unwrap();
        let letters = |name| samba.architecture(&samba.layouts[samba.place(name).unwrap()]).unwrap().letters();
        assert!(letters("Samba").starts_with("BMSMBMSM") && letters("Mamba").starts_with("BBBB"));
        let text = serde_json::to_string(&evidence).unwrap();
        assert_eq!(text.parse::<Evidence>().unwrap(), evidence);
    }

    #[test]
    fn pairs_follow_from_numbers_and_gap() {
        let pairs = |gap: &str| group(TWO, &format!(r#", "gap": {gap}"#)).unwrap().groups()[0].pairs.clone();
        assert_eq!(pairs("0.5"), [["a".to_owned(), "b".to_owned()]]);
        assert_eq!(pairs("1.0").len(), 1);
        assert!(pairs("1.1").is_empty() && group(TWO, "").unwrap().groups()[0].pairs.is_empty());
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let third = r#", {"name": "c", "layers": "AA"}"#;
        let long = format!(r#"{TWO}, {{"name": "c", "layers": "513A"}}"#);
        for (layouts, rest, words) in [
            (r#"{"name": "a", "layers": "AM", "value": 1.0}"#.to_owned(), "", "two layouts or more"),
            (format!("{TWO}, {TWO}"), "", "rename one"),
            (long, "", "513 layers"),
            (TWO.to_owned(), r#", "gap": -1"#, "not negative"),
            (TWO.to_owned(), r#", "pairs": [["a", "z"]]"#, "\"z\", which is no layout"),
            (TWO.to_owned(), r#", "pairs": [["a", "a"]]"#, "contradicts"),
            (TWO.to_owned(), r#", "pairs": [["b", "a"]]"#, "contradicts"),
            (TWO.to_owned(), r#", "pairs": [["a", "b"], ["a", "b"]]"#, "twice"),
            (format!("{TWO}{third}"), r#", "pairs": [["a", "c"], ["c", "a"]]"#, "contradicts"),
            (format!("{TWO}{third}"), r#", "pairs": [["a", "b"], ["b", "c"], ["c", "a"]]"#, "circle"),
            (TWO.replace("AM", "A?"), "", "position 1"),
            (TWO.replace("1.0", "1e999"), "", "not a file of comparisons"),
            (TWO.to_owned(), r#", "colour": 1"#, "unknown field"),
        ] {
            let message = group(&layouts, rest).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
        assert!(matches!(r#"{"groups": []}"#.parse::<Evidence>(), Err(EvidenceError::Empty)));
        let twice =
            format!(r#"{{"groups": [{{"name": "g", "layouts": [{TWO}]}}, {{"name": "g", "layouts": [{TWO}]}}]}}"#);
        assert!(matches!(twice.parse::<Evidence>(), Err(EvidenceError::RepeatedGroup(_))));
        let infinite = Layout { name: "c".into(), layers: None, value: Some(f64::NAN), note: String::new() };
        let layouts = vec![infinite.clone(), Layout { name: "d".into(), ..infinite }];
        assert!(Evidence::new(vec![Group { layouts, ..Group::default() }]).is_err());
        assert!(matches!(Evidence::read("/nowhere/at/all"), Err(EvidenceError::Io { .. })));
    }
}
