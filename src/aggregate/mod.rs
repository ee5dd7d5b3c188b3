//! Aggregators: from a study to one architecture.
//!
//! A small search is noisy, so the single best trial is partly luck. An [`Aggregator`] derives one architecture from
//! many observations. [`NcClustering`] is the method of Composer (arXiv 2510.00379, section on the HNAS Aggregator),
//! [`Best`] its baseline.

mod bands;
mod best;
pub(crate) mod kmeans;
mod nc_clustering;
mod pooled;

pub(crate) use bands::BANDS;
pub use bands::{Band, along_front};
pub use best::Best;
pub use nc_clustering::{Cluster, Clustering, LayerVote, NcClustering, Vote, VoteContext};
pub use pooled::Pooled;

use auto_impl::auto_impl;
use thiserror::Error;

use crate::{space::Architecture, study::Study};

/// Derives one architecture from the observations of a study.
///
/// Laws, checked by `testkit::aggregator`: the order of the observations is irrelevant; the result lies in
/// [`Study::space`], including its constraints.
///
/// ```
/// use composer_nas::{aggregate::AggregateError, prelude::*};
///
/// /// The observed architecture with the fewest attention layers.
/// struct FewestAttention;
///
/// impl Aggregator for FewestAttention {
///     fn fingerprint(&self) -> String {
///         "fewest_attention".into()
///     }
///
///     fn aggregate(&self, study: &Study) -> Result<Architecture, AggregateError> {
///         let observed = study.observations().map(|observation| &observation.trial.architecture);
///         let fewest = observed.min_by_key(|&a| (a.count(Symbol::ATTENTION), a));
///         fewest.cloned().ok_or_else(|| AggregateError::Other("no trial has a value yet".into()))
///     }
/// }
/// ```
#[auto_impl(&, Box)]
pub trait Aggregator {
    /// Returns the name and settings, such as `nc_clustering(clusters=5, context=0)`.
    fn fingerprint(&self) -> String;

    /// Returns the aggregated architecture.
    ///
    /// # Errors
    /// Returns [`AggregateError`] if there are too few observations or a setting is invalid.
    fn aggregate(&self, study: &Study) -> Result<Architecture, AggregateError>;

    /// Returns the number of observations that determine the result, or `None` if the notion does not apply.
    fn voters(&self, study: &Study) -> Option<usize> {
        let _ = study;
        None
    }
}

/// The error of an aggregation.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AggregateError {
    /// No trial has a value.
    #[error("none of the {trials} trials has a value{}", remedy(*.pending))]
    NoObservations {
        /// The number of trials.
        trials: usize,
        /// The number of pending trials.
        pending: usize,
    },
    /// The number of clusters is zero.
    #[error("nc_clustering is set to 0 clusters: use at least 1 (the paper uses 5)")]
    NoClusters,
    /// An error specific to an aggregator.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

/// Says what to do if no trial has a value.
fn remedy(pending: usize) -> String {
    match pending {
        0 => "; read in the journal why they failed, remove the cause, and run more trials or begin another run".into(),
        _ => format!(" ({pending} pending): wait until at least one is completed"),
    }
}

impl AggregateError {
    /// Returns the error of a study without observations.
    pub(crate) fn no_observations(study: &Study) -> Self {
        Self::NoObservations { trials: study.trials().len(), pending: study.pending().count() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        primitive::Symbol,
        seed::Seed,
        space::SearchSpace,
        study::{Event, Goal, Origin, Report},
    };

    /// A study of sequences, given by their numbers, with their scores.
    fn study(space: &SearchSpace, goal: &Goal, seen: &[(u128, f64)]) -> Study {
        let mut study = Study::new(space.clone(), goal.clone());
        for &(number, score) in seen {
            let id = study.next_id();
            let architecture = space.nth(number % space.size()).unwrap();
            study.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Manual }).unwrap();
            study.apply(Event::Completed { id, report: Report::score(&goal.score, score) }).unwrap();
        }
        study
    }

    fn scores() -> impl Strategy<Value = f64> {
        prop_oneof![4 => (0i32..8).prop_map(|n| f64::from(n) / 10.0), 2 => any::<f64>().prop_filter("finite", |v| v.is_finite())]
    }

    proptest! {
        #[test]
        fn the_order_of_observations_is_irrelevant(
            (seen, other) in proptest::collection::vec((0u128..1 << 20, scores()), 1..40)
                .prop_flat_map(|seen| (Just(seen.clone()), Just(seen).prop_shuffle())),
            clusters in 1usize..7,
            context in 0usize..4,
            (most, run) in (1usize..6, 1usize..5),
            minimise: bool,
        ) {
            let a = Symbol::ATTENTION;
            let m = Symbol::SWIGLU;
            let space = SearchSpace::uniform([m, a, Symbol::MLP], 6).unwrap();
            let space = space.count(a, 1..=most).unwrap().max_run(m, run).unwrap();
            let goal = if minimise { Goal::minimize("loss") } else { Goal::default() };
            let studies = [seen, other].map(|seen| study(&space, &goal, &seen));
            let nc = NcClustering { clusters, ..NcClustering::nc(context) };
            let aggregators: [&dyn Aggregator; 3] = [&Best, &nc, &NcClustering::full_prefix()];
            for aggregator in aggregators {
                let [first, again] = studies.each_ref().map(|study| aggregator.aggregate(study).unwrap());
                prop_assert!(space.contains(&first), "{first}");
                prop_assert_eq!(first, again);
            }
            let [first, again] = studies.each_ref().map(|study| nc.explain(study).unwrap());
            prop_assert_eq!(&first.layers, &again.layers);
            let bounds = |c: &Clustering| c.clusters.iter().map(|c| (c.low, c.high, c.mean, c.trials.len())).collect::<Vec<_>>();
            prop_assert_eq!(bounds(&first), bounds(&again));
            let mut members: Vec<_> = first.clusters.iter().flat_map(|cluster| cluster.trials.clone()).collect();
            members.sort();
            prop_assert_eq!(members, studies[0].trials().iter().map(|trial| trial.id).collect::<Vec<_>>());
        }
    }
}
