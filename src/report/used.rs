//! The parts that a search used, read from the fingerprints in its setup.

use crate::{
    aggregate::{AggregateError, Aggregator, Best, Clustering, NcClustering, VoteContext},
    search::{AcquisitionFunction, AskBudget, GpBo, Searcher, Term},
    space::Architecture,
    study::Study,
};

/// Returns the value of a setting in the text of a fingerprint, `name=value, name=value`.
fn setting<T: std::str::FromStr>(settings: &str, name: &str) -> Option<T> {
    settings.split(", ").find_map(|setting| setting.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

/// Returns the searcher with a surrogate that has this fingerprint, or whose fingerprint is inside it. `None` if it is
/// not one of this crate.
pub(super) fn surrogate(fingerprint: &str) -> Option<GpBo> {
    const NAME: &str = "gp_bo";
    let from = fingerprint.find(NAME)?;
    let outside = fingerprint[..from].is_empty() || fingerprint[..from].ends_with('(');
    let inside = fingerprint[from..].split_once(')').map(|(inside, _)| inside).filter(|_| outside)?;
    let (name, settings) = inside.split_once('(')?;
    let searcher = match (name, setting::<String>(settings, "terms")) {
        (NAME, None) => GpBo::default(),
        (NAME, Some(terms)) => {
            let named = |name: &str| Term::ALL.into_iter().find(|term| term.name() == name);
            GpBo::structured(terms.split('+').map(named).collect::<Option<Vec<_>>>()?).ok()?
        }
        ("gp_bo_composer", None) => GpBo::composer(),
        ("gp_bo_categorical", None) => GpBo::categorical(),
        _ => return None,
    };
    let acquisition = match setting::<String>(settings, "acquisition")?.as_str() {
        "q_log_nei" => AcquisitionFunction::QLogNei,
        "log_ei" => AcquisitionFunction::LogEi,
        _ => return None,
    };
    let budget = AskBudget {
        fit_evaluations: setting(settings, "fit_evaluations")?,
        fit_observations: setting(settings, "fit_observations")?,
        candidates: setting(settings, "candidates")?,
    };
    let searcher = searcher.with_acquisition(acquisition).with_initial(setting(settings, "initial")?).ok()?;
    let mut searcher = searcher.with_budget(budget).ok()?;
    if let Some(observations) = setting(settings, "observations") {
        searcher = searcher.with_observations(observations).ok()?;
    }
    if let Some(winsorised) = setting(settings, "winsorised") {
        searcher = searcher.with_winsorised(winsorised);
    }
    if let Some(standard_errors) = setting(settings, "standard_errors") {
        searcher = searcher.with_standard_errors(standard_errors);
    }
    (searcher.fingerprint() == format!("{inside})")).then_some(searcher)
}

/// Returns a readable name of a searcher, stopping rule or extrapolator of this crate, by its fingerprint. `None` if
/// the fingerprint is readable itself or belongs to another crate.
pub(super) fn words(fingerprint: &str) -> Option<&'static str> {
    const WORDS: [(&str, &str); 10] = [
        ("gp_bo", "Bayesian optimisation with a Gaussian process"),
        ("gp_bo_composer", "Bayesian optimisation with a Gaussian process, as in Composer"),
        ("gp_bo_categorical", "Bayesian optimisation with a Gaussian process over categories"),
        ("gp_bo_kernel", "Bayesian optimisation with a Gaussian process and a kernel of its own"),
        ("regularized_evolution", "regularised evolution"),
        ("local_search", "local search"),
        ("incremental", "search that adds layers in stages"),
        ("replicate", "search that evaluates the best again"),
        ("racing", "trials race"),
        ("auto", "short sequences are stacked, long ones stretched"),
    ];
    let (head, _) = fingerprint.split_once('(')?;
    WORDS.iter().find(|(name, _)| *name == head).map(|(_, words)| *words)
}

/// Returns a readable name of an evaluator of this crate, by its fingerprint, which may be inside another.
pub(super) fn evaluator(fingerprint: &str) -> Option<String> {
    let after = |head: &str| {
        let at = fingerprint.find(head).filter(|&at| at == 0 || fingerprint[..at].ends_with(": "))?;
        fingerprint.get(at + head.len()..)
    };
    let name = match after("mad {\"name\":\"") {
        Some(rest) => format!("MAD tasks, protocol {}", rest.split_once('"')?.0),
        None if after("program ").is_some() => "a program".into(),
        None => after("corpus ").map(|_| "text of a corpus".into())?,
    };
    // The fingerprint of `SizeMatched` has these words.
    let matched = fingerprint.contains(" body parameters at ");
    Some(if matched { name + ", with candidates of equal size" } else { name })
}

/// An aggregator of this crate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Known {
    /// Whether repetitions are pooled first.
    pooled: bool,
    /// The clustering, or `None` for the best trial.
    clustering: Option<NcClustering>,
}

impl Known {
    /// The default if the setup does not name one.
    pub(super) const DEFAULT: Self = Self::clustering(NcClustering::n0());

    /// The aggregators that a page compares.
    pub(super) const COMPARED: [Self; 4] = [
        Self::DEFAULT,
        Self::clustering(NcClustering::nc(1)),
        Self::clustering(NcClustering::full_prefix()),
        Self { pooled: false, clustering: None },
    ];

    const fn clustering(clustering: NcClustering) -> Self {
        Self { pooled: false, clustering: Some(clustering) }
    }

    /// Returns the aggregator with this fingerprint, if it is one of this crate.
    pub(super) fn named(fingerprint: &str) -> Option<Self> {
        let pooled = fingerprint.strip_prefix("pooled(").and_then(|inner| inner.strip_suffix(')'));
        let inner = pooled.unwrap_or(fingerprint);
        let settings = inner.strip_prefix("nc_clustering(").and_then(|settings| settings.strip_suffix(')'));
        let clustering = match settings {
            None => None,
            Some(settings) => {
                let context = match setting::<String>(settings, "context")?.as_str() {
                    "full_prefix" => VoteContext::FullPrefix,
                    layers => VoteContext::Layers(layers.parse().ok()?),
                };
                Some(NcClustering { clusters: setting(settings, "clusters")?, context })
            }
        };
        let known = Self { pooled: pooled.is_some(), clustering };
        (known.inner().fingerprint() == inner).then_some(known)
    }

    /// Returns whether votes depend on the preceding layers.
    pub(super) fn conditioned(self) -> bool {
        self.clustering.is_some_and(|clustering| clustering.context != VoteContext::Layers(0))
    }

    /// Returns its name on a page.
    pub(super) fn name(&self) -> String {
        let name = match self.clustering {
            None => "best trial".into(),
            Some(NcClustering { clusters, context: VoteContext::Layers(c) }) => format!("N_{c}, {clusters} clusters"),
            Some(NcClustering { clusters, context: VoteContext::FullPrefix }) => format!("N_full, {clusters} clusters"),
        };
        if self.pooled { name + ", repetitions pooled" } else { name }
    }

    /// Returns its result.
    pub(super) fn aggregate(&self, study: &Study) -> Result<Architecture, AggregateError> {
        match self.pooled {
            true => self.inner().aggregate(&study.pooled()),
            false => self.inner().aggregate(study),
        }
    }

    /// Returns its clusters and votes, or `None` if there was no vote.
    pub(super) fn explain(&self, study: &Study) -> Option<Clustering> {
        let clustering = self.clustering?;
        match self.pooled {
            true => clustering.explain(&study.pooled()).ok(),
            false => clustering.explain(study).ok(),
        }
    }

    fn inner(&self) -> Box<dyn Aggregator> {
        self.clustering.map_or_else(|| Box::new(Best) as Box<dyn Aggregator>, |clustering| Box::new(clustering))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        aggregate::Pooled,
        extrapolate::Extrapolator as _,
        search::{RandomSearch, Replicate},
    };

    #[test]
    fn searchers_with_a_surrogate_are_found_by_their_fingerprint() {
        let few = GpBo::structured([Term::ALL[0], Term::ALL[2]]).unwrap();
        for searcher in [
            GpBo::default(),
            GpBo::composer(),
            GpBo::composer().with_winsorised(true),
            GpBo::default().with_winsorised(false).with_standard_errors(false),
            GpBo::categorical().with_acquisition(AcquisitionFunction::LogEi),
            few.with_observations(7).unwrap().with_initial(3).unwrap(),
        ] {
            assert_eq!(surrogate(&searcher.fingerprint()), Some(searcher.clone()));
            let outer = Replicate::new(searcher.clone(), 4, 2).unwrap();
            assert_eq!(surrogate(&outer.fingerprint()), Some(searcher));
        }
        let other = GpBo::default().fingerprint().replace("q_log_nei", "thompson");
        for fingerprint in [&RandomSearch.fingerprint(), "my_gp_bo(initial=8)", "gp_bo", "gp_bo(initial=8)", &other] {
            assert_eq!(surrogate(fingerprint), None, "{fingerprint}");
        }
    }

    #[test]
    fn parts_have_names_in_words() {
        let all = [GpBo::default(), GpBo::composer(), GpBo::categorical()].map(|searcher| searcher.fingerprint());
        assert!(all.iter().all(|fingerprint| words(fingerprint).is_some()));
        assert_eq!(words(&crate::extrapolate::Auto.fingerprint()), words("auto(stretch_from=9)"));
        assert!(["random", "mine(gp_bo(initial=8))", "stretch", ""].iter().all(|other| words(other).is_none()));
        let mad = "MAD tasks, protocol quick".to_owned();
        assert_eq!(evaluator(r#"mad {"name":"quick","dims":{}}"#), Some(mad.clone()));
        let matched = evaluator(r#"cycle to 9 body parameters at {}: mad {"name":"quick","dims":{}}"#);
        assert_eq!(matched, Some(mad + ", with candidates of equal size"));
        assert_eq!(evaluator(r#"program "mad", version """#), Some("a program".into()));
        assert_eq!(evaluator("nomad {}"), None);
    }

    #[test]
    fn aggregators_are_found_by_their_fingerprint() {
        let same = |aggregator: &dyn Aggregator, name: &str| {
            let known = Known::named(&aggregator.fingerprint()).unwrap();
            assert_eq!(known.name(), name);
        };
        same(&NcClustering::n0(), "N_0, 5 clusters");
        same(&NcClustering { clusters: 3, ..NcClustering::full_prefix() }, "N_full, 3 clusters");
        same(&Best, "best trial");
        same(&Pooled(NcClustering::nc(2)), "N_2, 5 clusters, repetitions pooled");
        same(&Pooled(Best), "best trial, repetitions pooled");
        for fingerprint in ["", "mine", "best of three", "nc_clustering(clusters=5)", "pooled(mine)"] {
            assert_eq!(Known::named(fingerprint), None, "{fingerprint}");
        }
    }
}
