//! Gaussian-process Bayesian optimisation as a [`Searcher`].

use super::{
    AcquisitionFunction, GpError,
    budget::AskBudget,
    design::{design, extreme},
    features::Term,
    fitted::{Cost, FittedModel},
    inspection::Inspection,
    kernel::SequenceKernel,
    kind::{GivenKernel, SurrogateKind},
};
use crate::{
    search::{Proposal, SearchError, Searcher, unknown::Unknown},
    seed::Rng,
    space::Architecture,
    study::Study,
};

/// Bayesian optimisation with a Gaussian process. After a quasi-random start, each proposal maximises qLogNEI: the
/// expected improvement over the observations, with noise and pending trials taken into account.
///
/// | | [`GpBo::composer`] | [`GpBo::default`] |
/// |---|---|---|
/// | surrogate | BoTorch's `SingleTaskGP` | a sum of effects of the layers |
/// | kernels | RBF, a lengthscale per column | one per [`Term`], such as pairs and places; Hamming for the rest |
/// | knows about sequences | nothing | that neighbours, places and ratios may matter |
/// | use it | to repeat the paper, to compare with BoTorch and Ax | otherwise |
///
/// On every function tried, the default is better than `composer`, or equal within the errors (`docs/benchmarks.md`).
///
/// With several objectives, each proposal maximises qLogNEHVI, whatever the acquisition function: the expected
/// hypervolume that it adds to the front of the observations. Each score has its own process. Known costs are exact:
/// sequences with extreme costs are tried first, and only sequences within the bounds on costs are proposed. Bounds on
/// scores enter through the probability of satisfying them.
///
/// If reports have standard errors of the goal's score, these are the known noise of the observations, like BoTorch's
/// `train_Yvar`, and no noise is fitted. An observation without a standard error is given the median variance of the
/// others, and no variance is taken as smaller than a tenth of this median. Errors over data that all trials
/// [share](crate::study::Report::shared_error) are not used, because they are not noise between trials.
///
/// The answer depends on the study alone: the hyperparameters are fitted again for every proposal. If a fit fails, the
/// process uses the starting values of the fit with a large noise and reports this through [`Searcher::notice`]; it
/// never falls back to a random proposal.
#[derive(Clone, Debug, PartialEq)]
pub struct GpBo {
    surrogate: SurrogateKind,
    acquisition: AcquisitionFunction,
    initial: usize,
    budget: AskBudget,
    /// The maximum number of observations behind a proposal.
    observations: usize,
    /// Whether standard errors of reports are known noise.
    standard_errors: bool,
    /// Whether values far below the others are raised.
    winsorised: bool,
    notice: Option<String>,
}

/// The default maximum number of observations behind a proposal.
const OBSERVATIONS: usize = 1000;

impl Default for GpBo {
    /// The structured surrogate with every [`Term`] but [`Term::Layers`], which pairs and distance make superfluous
    /// (`docs/benchmarks.md`), after 8 quasi-random trials.
    fn default() -> Self {
        let terms = Term::ALL.into_iter().filter(|&term| term != Term::Layers).collect();
        let surrogate = SurrogateKind::Structured(terms);
        let acquisition = AcquisitionFunction::QLogNei;
        Self {
            surrogate,
            acquisition,
            initial: 8,
            budget: AskBudget::STRUCTURED,
            observations: OBSERVATIONS,
            standard_errors: true,
            winsorised: true,
            notice: None,
        }
    }
}

impl GpBo {
    /// Creates the searcher of the Composer paper as BoTorch would run it (arXiv 2510.00379, HNAS Searcher), after 8
    /// quasi-random trials.
    pub fn composer() -> Self {
        let surrogate = SurrogateKind::SingleTask;
        Self { surrogate, budget: AskBudget::BOTORCH, winsorised: false, ..Self::default() }
    }

    /// Like [`GpBo::composer`], but with BoTorch's categorical kernel, an exponentiated Hamming distance with a
    /// lengthscale per layer, and with the priors that BoTorch's lacks.
    pub fn categorical() -> Self {
        let surrogate = SurrogateKind::Categorical;
        Self { surrogate, budget: AskBudget::BOTORCH, winsorised: false, ..Self::default() }
    }

    /// Like [`GpBo::default`], but with only these terms, in any order. Use it for ablations, or if you know what
    /// matters.
    ///
    /// # Errors
    /// [`SearchError::Zero`] without terms.
    pub fn structured(terms: impl IntoIterator<Item = Term>) -> Result<Self, SearchError> {
        let mut terms: Vec<_> = terms.into_iter().collect();
        terms.sort_unstable();
        terms.dedup();
        if terms.is_empty() {
            return Err(SearchError::Zero { searcher: "gp_bo", setting: "terms" });
        }
        Ok(Self { surrogate: SurrogateKind::Structured(terms), ..Self::default() })
    }

    /// Returns the terms of the structured surrogate; empty for other surrogates.
    pub fn terms(&self) -> &[Term] {
        match &self.surrogate {
            SurrogateKind::Structured(terms) => terms,
            SurrogateKind::SingleTask | SurrogateKind::Categorical | SurrogateKind::Given(_) => &[],
        }
    }

    /// Replaces the surrogate's kernel by one of your own.
    #[must_use]
    pub fn with_kernel(self, kernel: impl SequenceKernel + 'static) -> Self {
        Self { surrogate: SurrogateKind::Given(GivenKernel::new(kernel)), ..self }
    }

    /// Sets the acquisition function; qLogNEI by default.
    #[must_use]
    pub fn with_acquisition(self, acquisition: AcquisitionFunction) -> Self {
        Self { acquisition, ..self }
    }

    /// Sets the number of quasi-random trials at the start, at least 1.
    ///
    /// # Errors
    /// [`SearchError::Zero`] for 0: a Gaussian process needs observations.
    pub fn with_initial(self, initial: usize) -> Result<Self, SearchError> {
        match initial {
            0 => Err(SearchError::Zero { searcher: "gp_bo", setting: "initial" }),
            initial => Ok(Self { initial, ..self }),
        }
    }

    /// Limits the cost of a proposal; [`budget`](Self::budget) returns the default.
    ///
    /// # Errors
    /// [`SearchError::Zero`] if a number is 0.
    pub fn with_budget(self, budget: AskBudget) -> Result<Self, SearchError> {
        let settings = [
            ("budget.fit_evaluations", budget.fit_evaluations),
            ("budget.fit_observations", budget.fit_observations),
            ("budget.candidates", budget.candidates),
        ];
        match settings.into_iter().find(|&(_, value)| value == 0) {
            Some((setting, _)) => Err(SearchError::Zero { searcher: "gp_bo", setting }),
            None => Ok(Self { budget, ..self }),
        }
    }

    /// Sets the maximum number of observations behind a proposal, 1000 by default. Half of them are the best, the
    /// others the latest. The cost of a proposal grows with the cube of this number, so the limit bounds it in long
    /// searches.
    ///
    /// # Errors
    /// [`SearchError::Zero`] for 0.
    pub fn with_observations(self, observations: usize) -> Result<Self, SearchError> {
        match observations {
            0 => Err(SearchError::Zero { searcher: "gp_bo", setting: "observations" }),
            observations => Ok(Self { observations, ..self }),
        }
    }

    /// Sets whether the [standard error](crate::study::Report::standard_error) of a report is the known noise of its
    /// observation; `true` by default. Otherwise all observations are equally noisy, and the noise is fitted.
    #[must_use]
    pub fn with_standard_errors(self, standard_errors: bool) -> Self {
        Self { standard_errors, ..self }
    }

    /// Sets whether values far below the others count as the least of the others; `true` by default, `false` for
    /// [`composer`](Self::composer) and [`categorical`](Self::categorical). A value is far below if it is more than
    /// four interquartile ranges below the lower quartile, of at least eight values. Without this, a few sequences that
    /// cannot do the task at all determine the scale, and the good ones cannot be distinguished. It makes no difference
    /// to studies without such values. With several objectives or bounds, values are always raised, to three
    /// interquartile ranges below the lower quartile.
    #[must_use]
    pub fn with_winsorised(self, winsorised: bool) -> Self {
        Self { winsorised, ..self }
    }

    /// Returns the limits on the cost of one proposal.
    pub fn budget(&self) -> AskBudget {
        self.budget
    }

    /// Returns the observed architecture with the best posterior mean. Under noise, it is a better answer than the best
    /// observation. Only the observations that [`with_observations`](Self::with_observations) keeps are considered.
    ///
    /// # Errors
    /// [`SearchError`] if nothing is observed.
    pub fn recommend(&self, study: &Study) -> Result<Architecture, SearchError> {
        self.fit(study).and_then(|model| model.recommend()).map_err(failed)
    }

    /// Returns what the surrogate has learnt and what it would propose.
    ///
    /// # Errors
    /// [`SearchError`] if nothing is observed.
    pub fn inspect(&self, study: &Study, rng: &mut Rng) -> Result<Inspection, SearchError> {
        self.fit(study).and_then(|model| model.inspect(&self.acquisition, rng)).map_err(failed)
    }

    /// Returns how promising it is to evaluate all sequences of `batch` together: their joint qLogNEI, the natural
    /// logarithm of an improvement in standard deviations of the observed values. With several objectives or bounds, it
    /// is their joint qLogNEHVI: the logarithm of a hypervolume in these units, with known costs in units of their
    /// range.
    ///
    /// # Errors
    /// [`SearchError`] if nothing is observed, the batch is empty, or a sequence lies outside the space.
    pub fn acquisition_value(&self, study: &Study, batch: &[Architecture], rng: &mut Rng) -> Result<f64, SearchError> {
        self.fit(study).and_then(|model| model.acquisition_value(batch, rng)).map_err(failed)
    }

    /// Returns the limits on a proposal and the data behind it.
    fn cost(&self) -> Cost {
        let Self { budget, observations, standard_errors, winsorised, .. } = *self;
        Cost { budget, observations, standard_errors, winsorised }
    }

    /// Returns the model fitted to a study.
    fn fit<'a>(&self, study: &'a Study) -> Result<Box<dyn FittedModel + 'a>, GpError> {
        self.surrogate.fit(study, self.cost())
    }
}

fn failed(error: GpError) -> SearchError {
    SearchError::Other(error.into())
}

impl Searcher for GpBo {
    fn fingerprint(&self) -> String {
        let name = self.surrogate.name();
        let terms = match &self.surrogate {
            SurrogateKind::Structured(terms) if Self::default().surrogate != self.surrogate => {
                format!(", terms={}", terms.iter().map(|term| term.name()).collect::<Vec<_>>().join("+"))
            }
            SurrogateKind::Given(kernel) => format!(", kernel={}", kernel.fingerprint()),
            _ => String::new(),
        };
        let acquisition = self.acquisition.name();
        // The default is not named, so that journals from before the setting existed can be continued.
        let observations = match self.observations {
            OBSERVATIONS => String::new(),
            observations => format!(", observations={observations}"),
        };
        let errors = if self.standard_errors { "" } else { ", standard_errors=false" };
        let usual = matches!(self.surrogate, SurrogateKind::Structured(_) | SurrogateKind::Given(_));
        let winsorised = match self.winsorised {
            winsorised if winsorised == usual => String::new(),
            winsorised => format!(", winsorised={winsorised}"),
        };
        let AskBudget { fit_evaluations, fit_observations, candidates } = self.budget;
        format!(
            "{name}(acquisition={acquisition}, initial={}, fit_evaluations={fit_evaluations}, \
             fit_observations={fit_observations}, candidates={candidates}{observations}{errors}{winsorised}{terms})",
            self.initial
        )
    }

    fn ask(&mut self, study: &Study, rng: &mut Rng) -> Result<Proposal, SearchError> {
        self.notice = None;
        if Unknown::new(study).count() == 0 {
            return Ok(Proposal::Finished);
        }
        let starting = study.full_length_trials().count() < self.initial;
        if starting || study.observations().next().is_none() {
            let next = extreme(study, rng).or_else(|| design(study, rng));
            return Ok(next.map_or(Proposal::Finished, Proposal::Evaluate));
        }
        let proposed = self.fit(study).and_then(|model| model.propose(&self.acquisition, rng));
        let (proposal, notice) = proposed.map_err(failed)?;
        self.notice = notice;
        Ok(proposal.map_or(Proposal::Finished, Proposal::Evaluate))
    }

    fn notice(&mut self) -> Option<String> {
        self.notice.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        primitive::Symbol,
        seed::Seed,
        space::SearchSpace,
        study::{Event, Goal, Origin, Report, TrialId},
        testkit,
    };

    const A: Symbol = Symbol::ATTENTION;
    const M: Symbol = Symbol::SWIGLU;

    fn all() -> [GpBo; 4] {
        let log_ei = GpBo::default().with_acquisition(AcquisitionFunction::LogEi);
        [GpBo::default(), log_ei, GpBo::composer(), GpBo::categorical()].map(|gp| gp.with_initial(3).unwrap())
    }

    fn space(layers: usize) -> SearchSpace {
        SearchSpace::uniform([A, M], layers).unwrap()
    }

    fn propose(study: &mut Study, architecture: Architecture) -> TrialId {
        let id = study.next_id();
        let origin = Origin::Manual;
        study.apply(Event::Proposed { id, architecture, seed: Seed(id.0), origin }).unwrap();
        id
    }

    fn observe(study: &mut Study, text: &str, accuracy: f64) {
        let id = propose(study, text.parse().unwrap());
        study.apply(Event::Completed { id, report: Report::score("accuracy", accuracy) }).unwrap();
    }

    fn ask(gp: &mut GpBo, study: &Study) -> Proposal {
        gp.ask(study, &mut Seed(1).rng("test", study.next_id().0)).unwrap()
    }

    #[test]
    fn the_laws_of_a_searcher_hold() {
        for gp in all() {
            for space in
                [space(4), space(5).count(A, 2..=2).unwrap(), SearchSpace::uniform([A, M, Symbol::MLP], 3).unwrap()]
            {
                assert_eq!(testkit::searcher::check(|| gp.clone(), &space), Ok(()), "{gp:?} {space:?}");
            }
        }
    }

    #[test]
    fn a_lucky_trial_of_large_standard_error_is_not_recommended() {
        let mut study = Study::new(space(4), Goal::default());
        let data =
            [("AAAA", 0.5, 0.01), ("AAMM", 0.6, 0.01), ("AMMA", 0.9, 0.5), ("AMMM", 0.8, 0.01), ("MMMM", 0.5, 0.01)];
        for (text, accuracy, error) in data {
            let id = propose(&mut study, text.parse().unwrap());
            let report = Report { standard_error: Some(error), ..Report::score("accuracy", accuracy) };
            study.apply(Event::Completed { id, report }).unwrap();
        }
        let shared = study.trials().iter().fold(Study::new(space(4), Goal::default()), |mut shared, trial| {
            let id = propose(&mut shared, trial.architecture.clone());
            let report = Report { shared_error: true, ..trial.report().unwrap().clone() };
            shared.apply(Event::Completed { id, report }).unwrap();
            shared
        });
        for knowing in all() {
            assert_eq!(knowing.recommend(&shared).unwrap().letters(), "AMMA", "{knowing:?}");
            let unknowing = knowing.clone().with_standard_errors(false);
            assert_eq!(knowing.recommend(&study).unwrap().letters(), "AMMM", "{knowing:?}");
            assert_eq!(unknowing.recommend(&study).unwrap().letters(), "AMMA", "{unknowing:?}");
            assert_ne!(knowing.fingerprint(), unknowing.fingerprint());
            let rng = || Seed(1).rng("test", 0);
            let noise = knowing.inspect(&study, &mut rng()).unwrap().noise;
            assert!(noise > 0.2, "{noise}");
        }
    }

    #[test]
    fn how_far_below_the_others_a_value_lies_does_not_matter() {
        let seen = |worst: f64| {
            let mut study = Study::new(space(6), Goal::default());
            let others =
                ["AAAMMM", "AMAMAM", "MMAAMM", "AAMMMM", "MAMAMA", "AMMMMA", "MMMAAA", "AAAAMM", "MAAMMA", "AMMAAM"];
            for (at, text) in (0..).zip(others) {
                observe(&mut study, text, 0.6 + 0.01 * f64::from(at * 3 % 10));
            }
            observe(&mut study, "MMMMMM", worst);
            study
        };
        let found = |gp: &GpBo, worst: f64| {
            let study = seen(worst);
            let inspection = gp.inspect(&study, &mut Seed(1).rng("test", 0)).unwrap();
            (ask(&mut gp.clone(), &study), inspection.hyperparameters, inspection.noise)
        };
        let raising = GpBo::default();
        let plain = raising.clone().with_winsorised(false);
        assert_eq!(found(&raising, 0.25), found(&raising, -1e6));
        assert_ne!(found(&plain, 0.25).1, found(&plain, -1e6).1);
        // Without values far below, nothing changes.
        assert_eq!(found(&raising, 0.58), found(&plain, 0.58));
        assert_ne!(raising.fingerprint(), plain.fingerprint());
        for gp in all() {
            assert!(!gp.fingerprint().contains("winsorised"), "{gp:?}");
        }
        assert!(GpBo::composer().with_winsorised(true).fingerprint().contains("winsorised=true"));
    }

    #[test]
    fn what_little_there_is_to_learn_from_is_enough() {
        for mut gp in all().map(|gp| gp.with_initial(1).unwrap()) {
            let data: [&[(&str, f64)]; 6] = [
                &[("AAAA", 0.5)],
                &[("AAAA", 0.5), ("AAAA", 0.5), ("AAAA", 0.5)],
                &[("AAAA", 0.5), ("AMAM", 0.5), ("MMMM", 0.5)],
                &[("AAAA", 0.1), ("AAAA", 0.9)],
                &[("AAAA", 1e300), ("AMAM", -1e300), ("MMMM", 1.0)],
                &[("AAAA", 0.5), ("AMAM", 0.5 + 1e-15)],
            ];
            for observations in data {
                let mut study = Study::new(space(4), Goal::default());
                observations.iter().for_each(|(text, accuracy)| observe(&mut study, text, *accuracy));
                let Proposal::Evaluate(next) = ask(&mut gp, &study) else { panic!("{gp:?} {observations:?}") };
                assert!(study.space().contains(&next) && !study.knows(&next));
                assert!(gp.recommend(&study).is_ok());
                let inspection = gp.inspect(&study, &mut Seed(1).rng("test", 0)).unwrap();
                assert_eq!((inspection.predictions.len(), inspection.layers.len()), (observations.len(), 4));
                assert!(inspection.layers.iter().all(|importance| importance.is_finite()));
            }
        }
    }

    #[test]
    fn a_budget_caps_what_a_proposal_may_cost() {
        let small = AskBudget { fit_evaluations: 3, fit_observations: 5, candidates: 40 };
        for gp in all() {
            let mut gp = gp.with_budget(small).unwrap();
            assert_eq!(gp.budget(), small);
            let study = searched(&mut gp, 20, true);
            assert!(study.observations().count() > 5 && study.best().is_some());
        }
        for zero in [
            AskBudget { fit_evaluations: 0, ..small },
            AskBudget { fit_observations: 0, ..small },
            AskBudget { candidates: 0, ..small },
        ] {
            assert!(matches!(GpBo::default().with_budget(zero), Err(SearchError::Zero { .. })));
        }
        let default = GpBo::default().budget();
        assert_eq!((default.fit_evaluations, default.fit_observations, default.candidates), (60, 1000, 6000));
        assert_ne!(GpBo::default().with_budget(small).unwrap().fingerprint(), GpBo::default().fingerprint());
    }

    #[test]
    fn terms_can_be_chosen() {
        let two = GpBo::structured([Term::Distance, Term::Layers, Term::Layers]).unwrap();
        assert!(two.fingerprint().contains("terms=layers+distance"), "{}", two.fingerprint());
        assert!(!GpBo::default().fingerprint().contains("terms"));
        assert_eq!(
            GpBo::structured(Term::ALL.into_iter().filter(|&term| term != Term::Layers)).unwrap(),
            GpBo::default()
        );
        assert!(matches!(GpBo::structured([]), Err(SearchError::Zero { .. })));
        for term in Term::ALL {
            let mut gp = GpBo::structured([term]).unwrap().with_initial(3).unwrap();
            assert!(searched(&mut gp, 12, false).best().is_some(), "{term:?}");
        }
    }

    #[test]
    fn one_point_that_is_left_is_proposed_and_then_nothing() {
        for mut gp in all() {
            let only = space(3).pin(0, A).unwrap().pin(1, M).unwrap().pin(2, A).unwrap();
            let mut study = Study::new(only, Goal::default());
            assert_eq!(ask(&mut gp, &study), Proposal::Evaluate("AMA".parse().unwrap()));
            observe(&mut study, "AMA", 0.5);
            assert_eq!(ask(&mut gp, &study), Proposal::Finished);
        }
        assert!(matches!(GpBo::default().with_initial(0), Err(SearchError::Zero { .. })));
        assert!(GpBo::default().recommend(&Study::new(space(3), Goal::default())).is_err());
    }

    /// Accuracy grows with MLPs at the end; the first two layers do not matter.
    fn accuracy(architecture: &Architecture) -> f64 {
        let weights = [0.0, 0.0, 0.01, 0.02, 0.04, 0.05];
        architecture.layers().iter().zip(weights).map(|(&layer, weight)| f64::from(u8::from(layer == M)) * weight).sum()
    }

    fn searched(gp: &mut GpBo, trials: u64, pending: bool) -> Study {
        let mut study = Study::new(space(6), Goal::default());
        while study.next_id().0 < trials {
            let Proposal::Evaluate(next) = ask(gp, &study) else { panic!() };
            let value = accuracy(&next);
            let id = propose(&mut study, next);
            // With a trial pending the newest outcome but one is told.
            let told = if pending { TrialId(id.0.saturating_sub(1)) } else { id };
            if told < id || !pending {
                let value = if told == id { value } else { accuracy(&study.trial(told).unwrap().architecture) };
                study.apply(Event::Completed { id: told, report: Report::score("accuracy", value) }).unwrap();
            }
        }
        study
    }

    #[test]
    fn the_optimum_of_an_additive_function_is_found_in_few_trials() {
        for mut gp in all() {
            for pending in [false, true] {
                let study = searched(&mut gp, 20, pending);
                let best = study.best().unwrap();
                assert!(best.value > 0.119, "{gp:?} {pending}: {}", best.value);
                assert!(accuracy(&gp.recommend(&study).unwrap()) > 0.109);
            }
        }
    }

    #[test]
    fn an_inspection_shows_what_matters() {
        for mut gp in all() {
            let study = searched(&mut gp, 24, false);
            let inspection = gp.inspect(&study, &mut Seed(1).rng("test", 0)).unwrap();
            let [first, second, .., last] = inspection.layers[..] else { panic!() };
            assert!(last > 2.0 * first.max(second), "{gp:?} {:?}", inspection.layers);
            let error = |p: &super::super::LeaveOneOut| (p.mean - p.observed).abs();
            let far = inspection.predictions.iter().filter(|p| error(p) > 0.03).count();
            assert!(far <= 4, "{gp:?} {:?}", inspection.predictions);
            assert_eq!(inspection.candidates.len(), 5);
            assert!(inspection.candidates.iter().all(|c| !study.knows(&c.architecture) && c.sd.is_finite()));
            assert!(inspection.noise > 0.0 && !inspection.hyperparameters.is_empty());
        }
    }

    #[test]
    fn a_batch_promises_at_least_as_much_as_its_best_member() {
        let mut gp = GpBo::default();
        let study = searched(&mut gp, 12, false);
        let candidates: Vec<_> = study.space().iter().filter(|a| !study.knows(a)).take(3).collect();
        let promise =
            |batch: &[Architecture]| gp.acquisition_value(&study, batch, &mut Seed(1).rng("test", 0)).unwrap();
        let single = candidates.iter().map(|one| promise(std::slice::from_ref(one))).fold(f64::MIN, f64::max);
        assert!(promise(&candidates) > single - 0.2, "{} {single}", promise(&candidates));
        assert!(gp.acquisition_value(&study, &[], &mut Seed(1).rng("test", 0)).is_err());
        assert!(gp.acquisition_value(&study, &["AM".parse().unwrap()], &mut Seed(1).rng("test", 0)).is_err());
    }
}
