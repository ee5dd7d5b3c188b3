//! From a study to one architecture.
//!
//! A small search is noisy, so the single best trial is partly luck. An [`Aggregator`] reads one architecture out of
//! many observations: [`NcClustering`] is the method of Composer (arXiv 2510.00379, section on the HNAS Aggregator),
//! [`Best`] its baseline.

mod bands;
mod best;
mod kmeans;
mod nc_clustering;
mod pooled;

pub(crate) use bands::BANDS;
pub use bands::{Band, along_front};
pub use best::Best;
pub use nc_clustering::{Cluster, Clustering, Context, LayerVote, NcClustering, Vote};
pub use pooled::Pooled;

use auto_impl::auto_impl;
use thiserror::Error;

use crate::{space::Architecture, study::Study};

/// Reads one architecture out of the observations of a study.
///
/// Laws, checked by `testkit::aggregator`: the order of the observations is irrelevant; the result lies in
/// [`Study::space`], constraints included.
///
/// See [`Best`] for an implementation.
#[auto_impl(&, Box)]
pub trait Aggregator {
    /// Name and settings, such as `nc_clustering(clusters=5, context=0)`.
    fn fingerprint(&self) -> String;

    /// The architecture that the observations speak for.
    ///
    /// # Errors
    /// [`AggregateError`] when they are too few, or a setting cannot be used.
    fn aggregate(&self, study: &Study) -> Result<Architecture, AggregateError>;

    /// On how many observations the answer rests; `None` where that means nothing.
    fn voters(&self, study: &Study) -> Option<usize> {
        let _ = study;
        None
    }
}

/// Why there is no aggregated architecture.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AggregateError {
    /// No trial has a value.
    #[error("none of the {trials} trials has a value ({pending} pending): let at least one complete")]
    NoObservations {
        /// Number of trials.
        trials: usize,
        /// How many of them are pending.
        pending: usize,
    },
    /// Clustering into no cluster.
    #[error("nc_clustering is set to 0 clusters: use at least 1 (the paper uses 5)")]
    NoClusters,
    /// A reason of an aggregator's own.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl AggregateError {
    /// The error of a study without observations.
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

    /// A study of sequences by number, with their scores.
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
            let nc = NcClustering::nc(context).with_clusters(clusters);
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
