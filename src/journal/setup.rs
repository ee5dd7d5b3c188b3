//! What a search is: the part of its configuration that its results depend on.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    primitive::{PrimitiveId, Symbol},
    seed::{self, Seed},
    space::SearchSpace,
    study::Goal,
};

/// What a search is. A journal is continued only by a search with the same setup. [`workers`](Self::workers) and what
/// stands below them are kept for those who read about the search: they may change when it is continued, and a journal
/// has those that it began with. Budgets are no part of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// Where is searched.
    pub space: SearchSpace,
    /// Which primitive each symbol of the space stands for.
    #[serde(default)]
    pub primitives: BTreeMap<Symbol, PrimitiveId>,
    /// What is optimised.
    pub goal: Goal,
    /// The root of everything random.
    #[serde(with = "seed::text")]
    pub seed: Seed,
    /// Fingerprint of the searcher.
    pub searcher: String,
    /// Fingerprint of the evaluator.
    pub evaluator: String,
    /// What the known costs of the goal are of, where it names some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub costs: Option<String>,
    /// Fingerprints of the rules that end trials early, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopping: Option<String>,
    /// Trials at once, on which the proposals depend; `None` where whoever owns the loop did not say, and in journals
    /// of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<usize>,
    /// Whether proposals depend on the speed of the workers too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub eager: bool,
    /// Fingerprint of the aggregator, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregator: Option<String>,
    /// Fingerprint of the extrapolator, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extrapolator: Option<String>,
}

/// A difference between two setups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which part differs.
    pub part: &'static str,
    /// What the journal holds.
    pub was: String,
    /// What is asked for now.
    pub is: String,
}

impl Setup {
    /// The parts in which `self`, from a journal, differs from `now`.
    pub fn changes(&self, now: &Setup) -> Vec<Change> {
        fn text(value: &impl Serialize) -> String {
            serde_json::to_string(value).unwrap_or_else(|error| error.to_string())
        }
        let parts = |setup: &Setup| {
            [
                ("space", text(&setup.space)),
                ("primitives", text(&setup.primitives)),
                ("goal", text(&setup.goal)),
                ("costs", setup.costs.clone().unwrap_or("none".into())),
                ("seed", text(&setup.seed)),
                ("searcher", setup.searcher.clone()),
                ("evaluator", setup.evaluator.clone()),
                ("stopping", setup.stopping.clone().unwrap_or("none".into())),
            ]
        };
        let pairs = parts(self).into_iter().zip(parts(now));
        pairs.filter(|(was, is)| was != is).map(|((part, was), (_, is))| Change { part, was, is }).collect()
    }

    /// What a person should know where `now` continues `self`, from a journal, with something that may change but
    /// decides which trials are made.
    pub(super) fn notice(&self, now: &Setup) -> Option<String> {
        let before = self.workers?;
        let after = now.workers?;
        let how = |eager| if eager { ", each outcome used at once" } else { "" };
        ((before, self.eager) != (after, now.eager)).then(|| {
            format!(
                "the search began with {before} workers{} and goes on with {after}{}: it will not repeat one that keeps \
                 their number",
                how(self.eager),
                how(now.eager)
            )
        })
    }
}

impl Change {
    /// The two texts from a little before they part: long fingerprints differ in a detail.
    pub(crate) fn shown(&self) -> [String; 2] {
        const LEAD: usize = 24;
        const SHOWN: usize = 72;
        let same = self.was.chars().zip(self.is.chars()).take_while(|(a, b)| a == b).count();
        let cut = |text: &str| {
            let from = same.saturating_sub(LEAD);
            let shown: String = text.chars().skip(from).take(SHOWN).collect();
            let lead = from > 0;
            let tail = text.chars().count() > from + SHOWN;
            format!("{}{shown}{}", if lead { "…" } else { "" }, if tail { "…" } else { "" })
        };
        [cut(&self.was), cut(&self.is)]
    }
}

impl fmt::Display for Change {
    /// Names the part and shows where the two texts part.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [was, is] = self.shown();
        write!(f, "{} was {was}, is {is}", self.part)
    }
}

#[cfg(test)]
impl Setup {
    /// That of a random search with seed 77 which made this study.
    pub(crate) fn of(study: &crate::study::Study) -> Self {
        Self {
            space: study.space().clone(),
            primitives: BTreeMap::new(),
            goal: study.goal().clone(),
            seed: Seed(77),
            searcher: "random".into(),
            evaluator: String::new(),
            costs: None,
            stopping: None,
            workers: Some(2),
            eager: false,
            aggregator: None,
            extrapolator: None,
        }
    }
}
