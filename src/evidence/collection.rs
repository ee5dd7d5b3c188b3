//! Collections of groups: those that come with the crate, or those of a file.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Group, check};
use crate::{
    limits::{self, LimitError},
    space::Architecture,
};

/// Groups of models that were trained under equal conditions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Groups")]
pub struct Evidence {
    groups: Vec<Group>,
}

/// The unchecked contents of a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Groups {
    groups: Vec<Group>,
}

/// Comparisons that cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// The I/O error.
        source: std::io::Error,
    },
    /// The comparisons in a file cannot be used.
    #[error("{} cannot be used", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<EvidenceError>,
    },
    /// The file is not JSON, or has another format.
    #[error("not a file of comparisons")]
    Json(#[from] serde_json::Error),
    /// There are no groups.
    #[error("the file contains no groups")]
    Empty,
    /// Two groups have the same name.
    #[error("two groups are named {0:?}: rename one")]
    RepeatedGroup(String),
    /// There is too much to judge.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// A group is inconsistent.
    #[error("group {group:?}: {problem}")]
    Group {
        /// The name of the group.
        group: String,
        /// What is wrong and how to fix it.
        problem: String,
    },
    /// A score is not finite.
    #[error("the score of {layout} is {score}: only finite scores can be compared")]
    Score {
        /// The layout.
        layout: Architecture,
        /// The score.
        score: f64,
    },
}

impl Evidence {
    /// The maximum number of layouts in all groups.
    pub(crate) const MAX_LAYOUTS: usize = 1 << 12;
    /// The maximum number of pairs in all groups. The bootstrap counts them a thousand times.
    pub(crate) const MAX_PAIRS: usize = check::MAX_PAIRS;
    /// The message if nothing can be judged.
    pub(crate) const NO_PAIRS: &str =
        "no group has a pair to judge: list pairs, or set a gap that is smaller than the differences of its values";

    /// Returns the comparisons that come with the crate: 349 pairs from four papers, for models of 350 million to 2.7
    /// billion parameters.
    ///
    /// # Panics
    /// Never, since a test reads the embedded file.
    pub fn published() -> Self {
        include_str!("published.json").parse().expect("the published comparisons are tested")
    }

    /// Reads the comparisons in a file.
    ///
    /// # Errors
    /// [`EvidenceError`] if the file cannot be read or is invalid. Its message says what to change.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, EvidenceError> {
        let path = path.as_ref();
        let text = limits::read_text(path, limits::MAX_DESCRIPTION);
        let text = text.map_err(|source| EvidenceError::Io { path: path.into(), source })?;
        text.parse().map_err(|source| EvidenceError::File { path: path.into(), source: Box::new(source) })
    }

    /// Checks the groups, and lists the pairs of those that have none.
    ///
    /// # Errors
    /// [`EvidenceError`] for the first group that is invalid. Its message says what to change.
    pub fn new(mut groups: Vec<Group>) -> Result<Self, EvidenceError> {
        if groups.is_empty() {
            return Err(EvidenceError::Empty);
        }
        let layouts = groups.iter().map(|group| group.layouts.len()).sum();
        limits::at_most("the number of layouts", layouts, Self::MAX_LAYOUTS)?;
        let mut names = BTreeSet::new();
        let mut pairs = 0;
        for group in &mut groups {
            if !names.insert(group.name.clone()) {
                return Err(EvidenceError::RepeatedGroup(group.name.clone()));
            }
            group.check_layouts().map_err(|problem| EvidenceError::Group { group: group.name.clone(), problem })?;
            if group.pairs.is_empty() {
                group.pairs = group.pairs_by_gap();
            }
            pairs += group.pairs.len();
            limits::at_most("the number of pairs", pairs, Self::MAX_PAIRS)?;
            group.check_pairs().map_err(|problem| EvidenceError::Group { group: group.name.clone(), problem })?;
        }
        Ok(Self { groups })
    }

    /// Returns the groups in the order of the file.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Returns all distinct layouts that are part of a pair and whose layers are known, in the order of the file.
    pub fn architectures(&self) -> Vec<Architecture> {
        let mut seen = BTreeSet::new();
        let all = self.groups.iter().flat_map(|group| {
            let paired: BTreeSet<&String> = group.pairs.iter().flatten().collect();
            let layouts = group.layouts.iter().filter(move |layout| paired.contains(&layout.name));
            layouts.filter_map(|layout| group.architecture(layout))
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
        // Two steps, to keep the type of errors of groups.
        Self::new(serde_json::from_str::<Groups>(text)?.groups)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Layout;
    use crate::text::causes;

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
        let letters = |name| samba.architecture(&samba.layouts[samba.places()[name]]).unwrap().letters();
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

    /// Layouts with distinct values.
    fn many(layouts: usize) -> String {
        let layout = |at| format!(r#"{{"name": "{at}", "layers": "AM", "value": {at}}}"#);
        (0..layouts).map(layout).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn more_than_can_be_judged_is_refused() {
        let limit = |layouts: &str, rest: &str| match group(layouts, rest).unwrap_err() {
            EvidenceError::Limit(error) => error.to_string(),
            other => panic!("{other}"),
        };
        assert_eq!(limit(&many(5000), ""), "the number of layouts is 5000: at most 4096");
        let error = limit(&many(Evidence::MAX_LAYOUTS), r#", "gap": 0.5"#);
        assert_eq!(error, "the number of pairs is 65537: at most 65536");
        assert_eq!(group(&many(362), r#", "gap": 0.5"#).unwrap().groups()[0].pairs.len(), 362 * 361 / 2);
        let long = TWO.replace("\"a\"", &format!("{:?}", "x".repeat(257)));
        let message = group(&long, "").unwrap_err().to_string();
        assert!(message.contains("at most 256 bytes") && message.len() < 300, "{message}");
        // An endless file.
        #[cfg(unix)]
        assert!(matches!(Evidence::read("/dev/zero"), Err(EvidenceError::Io { .. })));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let third = r#", {"name": "c", "layers": "AA"}"#;
        let long = format!(r#"{TWO}, {{"name": "c", "layers": "513A"}}"#);
        for (layouts, rest, words) in [
            (r#"{"name": "a", "layers": "AM", "value": 1.0}"#.to_owned(), "", "at least two layouts"),
            (format!("{TWO}, {TWO}"), "", "rename one"),
            (long, "", "513 layers"),
            (TWO.to_owned(), r#", "gap": -1"#, "at least 0"),
            (TWO.to_owned(), r#", "pairs": [["a", "z"]]"#, "\"z\", which is not a layout"),
            (TWO.to_owned(), r#", "pairs": [["a", "a"]]"#, "contradicts"),
            (TWO.to_owned(), r#", "pairs": [["b", "a"]]"#, "contradicts"),
            (TWO.to_owned(), r#", "pairs": [["a", "b"], ["a", "b"]]"#, "twice"),
            (format!("{TWO}{third}"), r#", "pairs": [["a", "c"], ["c", "a"]]"#, "contradicts"),
            (format!("{TWO}{third}"), r#", "pairs": [["a", "b"], ["b", "c"], ["c", "a"]]"#, "cycle"),
            (TWO.replace("AM", "A?"), "", "position 1"),
            (TWO.replace("1.0", "1e999"), "", "not a file of comparisons"),
            (TWO.to_owned(), r#", "colour": 1"#, "unknown field"),
        ] {
            let message = causes(&group(&layouts, rest).unwrap_err());
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

    #[test]
    fn files_are_named_and_may_begin_with_a_mark() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ours.json");
        let text = format!(r#"{{"groups": [{{"name": "g", "layouts": [{TWO}]}}]}}"#);
        std::fs::write(&path, format!("\u{feff}{text}")).unwrap();
        assert_eq!(Evidence::read(&path).unwrap(), text.parse().unwrap());
        std::fs::write(&path, "{").unwrap();
        let error = causes(&Evidence::read(&path).unwrap_err());
        assert!(error.contains("ours.json cannot be used: not a file of comparisons"), "{error}");
    }
}
