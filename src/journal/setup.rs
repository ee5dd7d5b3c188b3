//! The configuration that determines the results of a search.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    primitive::{PrimitiveId, Symbol},
    seed::{self, Seed},
    space::SearchSpace,
    study::Goal,
};

/// The configuration that determines the results of a search.
///
/// A journal can be continued only by a search with the same setup. The fields from [`workers`](Self::workers) on are
/// informative: they may change when a search is continued, and the journal keeps those that it began with. Budgets are
/// not part of the setup.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// The search space.
    pub space: SearchSpace,
    /// The primitive of every symbol in the space.
    #[serde(default)]
    pub primitives: BTreeMap<Symbol, PrimitiveId>,
    /// The goal of the optimisation.
    pub goal: Goal,
    /// The seed of all random numbers.
    #[serde(with = "seed::text")]
    pub seed: Seed,
    /// The fingerprint of the searcher.
    pub searcher: String,
    /// The fingerprint of the evaluator.
    pub evaluator: String,
    /// The fingerprint of the source of the known costs, if the goal names any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub costs: Option<String>,
    /// The fingerprints of the rules that end trials early, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopping: Option<String>,
    /// The number of trials in parallel, which affects the proposals; `None` for a
    /// [`Session`](crate::pipeline::Session) with its own loop and in journals of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<usize>,
    /// Whether the proposals depend on the speed of the workers too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub eager: bool,
    /// The fingerprint of the aggregator, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregator: Option<String>,
    /// The fingerprint of the extrapolator, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extrapolator: Option<String>,
}

/// A difference between two setups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The part that differs.
    pub part: &'static str,
    /// The value in the journal.
    pub was: String,
    /// The value of the new search.
    pub is: String,
}

impl Setup {
    /// Returns the parts in which `self`, from a journal, differs from `now`.
    pub(crate) fn changes(&self, now: &Setup) -> Vec<Change> {
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

    /// Returns a notice if `now` continues the journal of `self` with another number of workers or another `eager`:
    /// this is allowed, but it affects the proposals.
    pub(super) fn notice(&self, now: &Setup) -> Option<String> {
        let before = self.workers?;
        let after = now.workers?;
        let how = |eager| if eager { ", each outcome used at once" } else { "" };
        ((before, self.eager) != (after, now.eager)).then(|| {
            format!(
                "the search began with {before} workers{} and continues with {after}{}: its trials will differ from \
                 those of a search that does not change them",
                how(self.eager),
                how(now.eager)
            )
        })
    }
}

impl Change {
    /// Cuts both texts to the part around the first difference, since fingerprints can be long.
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
    /// Writes the part and the two texts around their first difference.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [was, is] = self.shown();
        write!(f, "{} was {was}, is {is}", self.part)
    }
}

#[cfg(test)]
impl Setup {
    /// Returns the setup of a random search with seed 77 that produced this study.
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
