//! N_c clustering (Composer, arXiv 2510.00379, HNAS Aggregator).

use serde::{Deserialize, Serialize};

use super::{AggregateError, Aggregator, kmeans::kmeans};
use crate::{
    primitive::Symbol,
    space::{Architecture, SearchSpace},
    statistics,
    study::{Study, TrialId},
};

/// N_c clustering: a layer-by-layer majority vote among the best observations.
///
/// 1. Exact one-dimensional k-means splits the observations into `clusters` clusters by their values. `C` is the
///    cluster with the highest mean.
/// 2. The result is built from the first layer to the last: `â_i = mode { a_i : a in C, a_{i-c..i-1} = â_{i-c..i-1} }`,
///    where `c` is the length of the [`VoteContext`].
///
/// Cases that the paper leaves open:
/// - Ties go to the choice whose supporters have the higher mean value, then to the first among the choices of the
///   layer.
/// - If no member of `C` matches the context, which can only happen with constraints, the context is shortened by one
///   layer until one matches.
/// - If there are fewer distinct values than clusters, each value is a cluster.
/// - Trials that lost a [race](crate::study::Race) are left out if there are any others: with them in the clusters, the
///   best cluster is wider and its vote is worse (`docs/benchmarks.md`).
/// - With constraints, a majority vote may lead out of the space. So only choices are eligible that can still be
///   completed to a sequence of the space. If no member of `C` votes for an eligible choice, the context is shortened
///   in the same way; if there is still no vote, the first eligible choice is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NcClustering {
    /// The number of clusters, at least one.
    pub clusters: usize,
    /// The number of preceding layers on which the vote is conditioned.
    pub context: VoteContext,
}

/// The number of preceding layers on which the vote on a layer is conditioned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VoteContext {
    /// At most this number of layers: the `c` of `N_c`.
    Layers(usize),
    /// All preceding layers.
    FullPrefix,
}

/// The clusters and votes that led to the result of [`NcClustering`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Clustering {
    /// All clusters, by ascending value.
    pub clusters: Vec<Cluster>,
    /// The index of the cluster that votes.
    pub chosen: usize,
    /// One vote per layer.
    pub layers: Vec<LayerVote>,
    /// The result.
    pub architecture: Architecture,
}

/// A cluster of observations. Values are oriented so that larger is better.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cluster {
    /// The lowest value.
    pub low: f64,
    /// The highest value.
    pub high: f64,
    /// The mean value.
    pub mean: f64,
    /// The members, in order of proposal.
    pub trials: Vec<TrialId>,
}

/// The vote on one layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerVote {
    /// The number of preceding layers on which the vote was finally conditioned.
    pub context: usize,
    /// One entry per choice of the layer, in order.
    pub votes: Vec<Vote>,
    /// The winner.
    pub chosen: Symbol,
}

/// The votes for one choice.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Vote {
    /// The choice.
    pub symbol: Symbol,
    /// The number of cluster members that match the context and have this choice at this layer.
    pub supporters: usize,
    /// The mean value of these members.
    pub mean: Option<f64>,
    /// Whether the prefix with this choice can be completed to a sequence of the space.
    pub feasible: bool,
}

/// An observation.
struct Candidate<'a> {
    value: f64,
    architecture: &'a Architecture,
    trial: TrialId,
}

impl NcClustering {
    /// The number of clusters in the paper.
    pub(crate) const CLUSTERS: usize = 5;

    /// Creates N_0 clustering: each layer votes independently. The best variant in the paper.
    pub const fn n0() -> Self {
        Self::nc(0)
    }

    /// Creates N_c clustering: each layer is conditioned on the previous `c` layers.
    pub const fn nc(c: usize) -> Self {
        Self { clusters: Self::CLUSTERS, context: VoteContext::Layers(c) }
    }

    /// Creates the variant in which each layer is conditioned on all previous layers.
    pub const fn full_prefix() -> Self {
        Self { clusters: Self::CLUSTERS, context: VoteContext::FullPrefix }
    }

    /// Returns the result together with the clusters and votes that led to it.
    ///
    /// # Errors
    /// Returns [`AggregateError`] if there are no observations or the number of clusters is zero.
    pub fn explain(&self, study: &Study) -> Result<Clustering, AggregateError> {
        if self.clusters == 0 {
            return Err(AggregateError::NoClusters);
        }
        let candidates = sorted_candidates(study);
        let values: Vec<_> = candidates.iter().map(|candidate| candidate.value).collect();
        let ranges = kmeans(&values, self.clusters);
        let Some(best) = ranges.last() else { return Err(AggregateError::no_observations(study)) };

        let members = &candidates[best.clone()];
        let mut prefix = Vec::new();
        let mut layers = Vec::new();
        while let Some(vote) = self.vote(study.space(), members, &prefix) {
            prefix.push(vote.chosen);
            layers.push(vote);
        }
        Ok(Clustering {
            chosen: ranges.len() - 1,
            clusters: ranges.into_iter().map(|range| Cluster::new(&candidates[range])).collect(),
            layers,
            architecture: Architecture::new(prefix),
        })
    }

    /// Returns the vote on the layer after `prefix`, or `None` if the prefix is complete.
    fn vote(&self, space: &SearchSpace, members: &[Candidate], prefix: &[Symbol]) -> Option<LayerVote> {
        let layer = prefix.len();
        let feasible = space.next_choices(prefix);
        let mut context = match self.context {
            VoteContext::Layers(c) => c.min(layer),
            VoteContext::FullPrefix => layer,
        };
        loop {
            let given = layer - context..layer;
            let matching: Vec<_> = members
                .iter()
                .filter(|a| a.architecture.layers().get(given.clone()) == Some(&prefix[given.clone()]))
                .collect();
            let count = |&symbol| Vote::new(symbol, layer, &matching, feasible.contains(&symbol));
            let votes: Vec<_> = space.choices(layer).iter().map(count).collect();
            let winner = votes.iter().filter(|vote| vote.feasible).reduce(|best, next| {
                if (next.supporters, next.mean) > (best.supporters, best.mean) { next } else { best }
            })?;
            if winner.supporters > 0 || context == 0 {
                return Some(LayerVote { context, chosen: winner.symbol, votes });
            }
            context -= 1;
        }
    }
}

impl Default for NcClustering {
    /// Returns [`NcClustering::n0`].
    fn default() -> Self {
        Self::n0()
    }
}

impl Aggregator for NcClustering {
    fn fingerprint(&self) -> String {
        match self.context {
            VoteContext::Layers(c) => format!("nc_clustering(clusters={}, context={c})", self.clusters),
            VoteContext::FullPrefix => format!("nc_clustering(clusters={}, context=full_prefix)", self.clusters),
        }
    }

    fn aggregate(&self, study: &Study) -> Result<Architecture, AggregateError> {
        self.explain(study).map(|clustering| clustering.architecture)
    }

    fn voters(&self, study: &Study) -> Option<usize> {
        let clustering = self.explain(study).ok()?;
        clustering.clusters.get(clustering.chosen).map(|cluster| cluster.trials.len())
    }
}

impl Cluster {
    /// Creates a cluster from at least one candidate, sorted by ascending value.
    fn new(members: &[Candidate]) -> Self {
        let values: Vec<_> = members.iter().map(|member| member.value).collect();
        let mut trials: Vec<_> = members.iter().map(|member| member.trial).collect();
        trials.sort_unstable();
        let bound = |value: Option<&f64>| value.copied().unwrap_or(f64::NAN);
        Self { low: bound(values.first()), high: bound(values.last()), mean: mean(&values).unwrap_or(f64::NAN), trials }
    }
}

impl Vote {
    fn new(symbol: Symbol, layer: usize, voters: &[&Candidate], feasible: bool) -> Self {
        let supports = |voter: &&&Candidate| voter.architecture.layers().get(layer) == Some(&symbol);
        let values: Vec<_> = voters.iter().filter(supports).map(|voter| voter.value).collect();
        Self { symbol, supporters: values.len(), mean: mean(&values), feasible }
    }
}

/// Returns the observations that count, by ascending value, then by sequence, so that sums do not depend on the order
/// of the trials.
fn sorted_candidates(study: &Study) -> Vec<Candidate<'_>> {
    let any_whole = study.observations().any(|seen| seen.is_whole());
    let mut candidates: Vec<_> = study
        .observations()
        .filter(|seen| seen.is_whole() || !any_whole)
        // Adding zero turns -0 into 0, so that equal values have equal bits.
        .map(|seen| Candidate { value: seen.value + 0.0, architecture: &seen.trial.architecture, trial: seen.trial.id })
        .collect();
    candidates.sort_by(|a, b| a.value.total_cmp(&b.value).then_with(|| a.architecture.cmp(b.architecture)));
    candidates
}

/// Returns the mean, or `None` without values.
fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| statistics::mean(values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        seed::Seed,
        study::{Event, Goal, Origin, Raced, Report},
    };

    const A: Symbol = Symbol::ATTENTION;
    const M: Symbol = Symbol::SWIGLU;

    fn study_in(space: SearchSpace, seen: &[(&str, f64)]) -> Study {
        let mut study = Study::new(space, Goal::default());
        for (text, value) in seen {
            let id = study.next_id();
            let architecture = text.parse().unwrap();
            study.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Manual }).unwrap();
            study.apply(Event::Completed { id, report: Report::score("accuracy", *value) }).unwrap();
        }
        study
    }

    fn study(seen: &[(&str, f64)]) -> Study {
        study_in(SearchSpace::uniform([A, M], seen[0].0.len()).unwrap(), seen)
    }

    fn aggregated(aggregator: NcClustering, study: &Study) -> String {
        aggregator.aggregate(study).unwrap().letters()
    }

    #[test]
    fn trials_that_lost_a_race_are_in_no_cluster() {
        let seen = [("AAM", 0.9), ("AAA", 0.89), ("AAA", 0.88), ("MMM", 0.5), ("MMA", 0.1)];
        let raced = |lost: &[usize]| {
            let mut study = Study::new(SearchSpace::uniform([A, M], 3).unwrap(), Goal::default());
            for (at, (text, value)) in seen.into_iter().enumerate() {
                let id = study.next_id();
                let architecture = text.parse().unwrap();
                study.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Searcher }).unwrap();
                let raced = lost.contains(&at).then_some(Raced { done: 8, planned: 30 });
                let report = Report { raced, ..Report::score("accuracy", value) };
                study.apply(Event::Completed { id, report }).unwrap();
            }
            study
        };
        let n0 = NcClustering { clusters: 3, ..NcClustering::n0() };
        let answer = |lost: &[usize]| {
            let study = raced(lost);
            let clusters = n0.explain(&study).unwrap().clusters.len();
            (aggregated(n0, &study), n0.voters(&study).unwrap(), clusters)
        };
        assert_eq!(answer(&[]), ("AAA".into(), 3, 3));
        assert_eq!(answer(&[1, 2, 4]), ("AAM".into(), 1, 2));
        assert_eq!(answer(&[0, 1, 2]), ("MMM".into(), 1, 2));
        assert_eq!(answer(&[0, 1, 2, 3, 4]), ("AAA".into(), 3, 3));
    }

    #[test]
    fn the_best_cluster_votes_and_the_others_do_not() {
        let mut seen = vec![("AAM", 0.90), ("AMM", 0.91), ("AMM", 0.89), ("MMA", 0.10), ("MAA", 0.11)];
        seen.extend([("MAA", 0.12); 7]);
        let study = study(&seen);
        let clustering = NcClustering { clusters: 2, ..NcClustering::n0() }.explain(&study).unwrap();
        assert_eq!(clustering.architecture.letters(), "AMM");
        assert_eq!(clustering.chosen, 1);
        let best = &clustering.clusters[1];
        assert_eq!((best.low, best.high, best.mean), (0.89, 0.91, 0.9));
        assert_eq!(best.trials, [TrialId(0), TrialId(1), TrialId(2)]);
        let votes: Vec<_> = clustering.layers.iter().map(|l| (l.votes[0].supporters, l.votes[1].supporters)).collect();
        assert_eq!(votes, [(3, 0), (1, 2), (0, 3)]);
    }

    #[test]
    fn context_conditions_the_vote() {
        // All in one cluster. On its own, the second layer is M (3 to 2). After A, which wins the first layer, it is A
        // (2 to 1).
        let study = study(&[("AA", 0.5), ("AA", 0.5), ("AM", 0.5), ("MM", 0.5), ("MM", 0.5)]);
        assert_eq!(aggregated(NcClustering::n0(), &study), "AM");
        assert_eq!(aggregated(NcClustering::nc(1), &study), "AA");
        assert_eq!(aggregated(NcClustering::full_prefix(), &study), "AA");
    }

    #[test]
    fn a_context_that_nobody_matches_is_shortened() {
        let study = study(&[("AMA", 0.5), ("MMM", 0.4), ("MMM", 0.4)]);
        let members = sorted_candidates(&study);
        let vote = |prefix: &[Symbol]| NcClustering::full_prefix().vote(study.space(), &members, prefix);
        let given_am = vote(&[A, M]).unwrap();
        assert_eq!((given_am.context, given_am.chosen), (2, A));
        // No member has A in the second layer, so neither A A nor A is a context.
        let given_aa = vote(&[A, A]).unwrap();
        assert_eq!((given_aa.context, given_aa.chosen), (0, M));
        assert_eq!(vote(&[A, M, A]), None);
    }

    #[test]
    fn ties_go_to_the_better_supporters_then_to_the_order_of_choices() {
        let one = NcClustering { clusters: 1, ..NcClustering::n0() };
        assert_eq!(aggregated(one, &study(&[("A", 0.5), ("M", 0.6)])), "M");
        assert_eq!(aggregated(one, &study(&[("M", 0.5), ("A", 0.5)])), "A");
        let reversed = SearchSpace::uniform([M, A], 1).unwrap();
        assert_eq!(aggregated(one, &study_in(reversed, &[("A", 0.5), ("M", 0.5)])), "M");
    }

    #[test]
    fn constraints_are_kept_where_the_majority_breaks_them() {
        let space = SearchSpace::uniform([A, M], 4).unwrap().count(A, 1..=1).unwrap();
        let study = study_in(space, &[("AMMM", 0.5), ("MAMM", 0.5), ("MMAM", 0.5)]);
        // Each layer alone votes M; the last one must be A, and no member votes for it.
        let clustering = NcClustering::n0().explain(&study).unwrap();
        assert_eq!(clustering.architecture.letters(), "MMMA");
        let last = &clustering.layers[3];
        assert_eq!((last.votes[0].feasible, last.votes[1].feasible), (true, false));
        assert_eq!((last.votes[0].supporters, last.votes[1].supporters), (0, 3));
    }

    #[test]
    fn nothing_to_aggregate_is_an_error() {
        let empty = Study::new(SearchSpace::uniform([A, M], 2).unwrap(), Goal::default());
        let error = NcClustering::n0().aggregate(&empty).unwrap_err();
        assert!(matches!(error, AggregateError::NoObservations { trials: 0, pending: 0 }));
        assert!(matches!(super::super::Best.aggregate(&empty), Err(AggregateError::NoObservations { .. })));
        let none = NcClustering { clusters: 0, ..NcClustering::n0() };
        assert!(matches!(none.aggregate(&study(&[("A", 0.5)])), Err(AggregateError::NoClusters)));
    }

    #[test]
    fn the_default_is_the_papers() {
        assert_eq!(NcClustering::default(), NcClustering { clusters: 5, context: VoteContext::Layers(0) });
        assert_eq!(NcClustering::nc(1).fingerprint(), "nc_clustering(clusters=5, context=1)");
        assert_eq!(NcClustering::full_prefix().fingerprint(), "nc_clustering(clusters=5, context=full_prefix)");
    }
}
