//! User-defined kernels: a covariance of two sequences, fitted like the built-in ones.

use std::{fmt, sync::Arc};

use nalgebra::{DMatrix, DVector};

use super::Kernel;
use crate::space::Architecture;

/// A user-defined covariance function of sequences, for [`GpBo::with_kernel`](crate::search::GpBo::with_kernel).
///
/// Hyperparameters are *free*: they may be any real numbers, typically the logarithms of positive hyperparameters. A
/// fit starts at [`start`](Self::start) and maximises the posterior density. Derivatives are finite differences, so an
/// implementation provides values only. Outcomes are standardised: their variance is 1.
///
/// Laws, checked by `testkit::kernel`:
/// - a covariance depends on the arguments alone, is finite, and is symmetric in the two sequences;
/// - at the start and around it, every matrix of covariances is positive semidefinite.
///
/// ```
/// use composer_nas::{prelude::*, search::SequenceKernel};
///
/// /// Sequences are similar if they have a similar number of attention layers.
/// #[derive(Debug)]
/// struct Share;
///
/// impl SequenceKernel for Share {
///     fn fingerprint(&self) -> String {
///         "share".into()
///     }
///
///     fn start(&self) -> Vec<f64> {
///         vec![0.0, 0.0] // ln variance, ln lengthscale
///     }
///
///     fn covariance(&self, free: &[f64], left: &Architecture, right: &Architecture) -> f64 {
///         let distance = left.count(Symbol::ATTENTION).abs_diff(right.count(Symbol::ATTENTION)) as f64;
///         (free[0] - 0.5 * (distance / free[1].exp()).powi(2)).exp()
///     }
/// }
/// let searcher = GpBo::default().with_kernel(Share);
/// # assert!(searcher.fingerprint().contains("kernel=share"));
/// ```
pub trait SequenceKernel: fmt::Debug + Send + Sync {
    /// Returns the name and settings. A journal can be continued only with the same fingerprint.
    fn fingerprint(&self) -> String;

    /// Returns the free hyperparameters at which a fit starts. None by default.
    fn start(&self) -> Vec<f64> {
        Vec::new()
    }

    /// Returns the covariance of two sequences. `free` has the length of [`start`](Self::start).
    fn covariance(&self, free: &[f64], left: &Architecture, right: &Architecture) -> f64;

    /// Returns the log density of the free hyperparameters, up to a constant. By default, each is normal around its
    /// start with a standard deviation of 2.
    fn log_prior(&self, free: &[f64]) -> f64 {
        let distance = |(at, start): (&f64, f64)| (at - start).powi(2);
        -free.iter().zip(self.start()).map(distance).sum::<f64>() / 8.0
    }
}

/// Half the step of the central finite difference.
const STEP: f64 = 1e-5;

/// A [`SequenceKernel`] with its hyperparameters. Its points are the sequences themselves.
#[derive(Clone, Debug)]
pub(in crate::search::gp_bo) struct Given {
    kernel: Arc<dyn SequenceKernel>,
    free: Vec<f64>,
}

impl Given {
    /// Creates the kernel at its start.
    pub(in crate::search::gp_bo) fn start(kernel: Arc<dyn SequenceKernel>) -> Self {
        let free = kernel.start();
        Self { kernel, free }
    }

    /// Returns `of` with the `k`-th hyperparameter increased and decreased by [`STEP`].
    fn around<T>(&self, k: usize, of: impl Fn(&Self) -> T) -> [T; 2] {
        [STEP, -STEP].map(|step| {
            let mut moved = self.clone();
            moved.free[k] += step;
            of(&moved)
        })
    }
}

impl Kernel for Given {
    type Points = Vec<Architecture>;

    fn count(points: &Vec<Architecture>) -> usize {
        points.len()
    }

    fn free(&self) -> Vec<f64> {
        self.free.clone()
    }

    fn at(&self, free: &[f64]) -> Self {
        Self { kernel: self.kernel.clone(), free: free.to_vec() }
    }

    fn gram(&self, points: &Vec<Architecture>) -> DMatrix<f64> {
        let mut gram = DMatrix::zeros(points.len(), points.len());
        for i in 0..points.len() {
            for j in 0..=i {
                gram[(i, j)] = self.kernel.covariance(&self.free, &points[i], &points[j]);
                gram[(j, i)] = gram[(i, j)];
            }
        }
        gram
    }

    fn cross(&self, left: &Vec<Architecture>, right: &Vec<Architecture>) -> DMatrix<f64> {
        let covariance = |i: usize, j: usize| self.kernel.covariance(&self.free, &left[i], &right[j]);
        DMatrix::from_fn(left.len(), right.len(), covariance)
    }

    fn variances(&self, points: &Vec<Architecture>) -> DVector<f64> {
        let variance = |point| self.kernel.covariance(&self.free, point, point);
        DVector::from_iterator(points.len(), points.iter().map(variance))
    }

    fn pull_back(&self, points: &Vec<Architecture>, _: &DMatrix<f64>, weights: &DMatrix<f64>) -> Vec<f64> {
        let slope = |k| {
            let [above, below] = self.around(k, |moved| moved.gram(points).dot(weights));
            (above - below) / (2.0 * STEP)
        };
        (0..self.free.len()).map(slope).collect()
    }

    fn describe(&self) -> Vec<(String, f64)> {
        self.free.iter().enumerate().map(|(at, &free)| (format!("free {at}"), free)).collect()
    }

    fn log_prior(&self) -> (f64, Vec<f64>) {
        let slope = |k| {
            let [above, below] = self.around(k, |moved| moved.kernel.log_prior(&moved.free));
            (above - below) / (2.0 * STEP)
        };
        (self.kernel.log_prior(&self.free), (0..self.free.len()).map(slope).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        primitive::Symbol,
        search::{AskBudget, GpBo, Searcher},
        seed::Seed,
        space::SearchSpace,
        study::{Event, Goal, Origin, Report, Study},
        testkit,
    };

    /// An exponentiated Hamming distance.
    #[derive(Debug)]
    struct Hamming;

    impl SequenceKernel for Hamming {
        fn fingerprint(&self) -> String {
            "hamming".into()
        }

        fn start(&self) -> Vec<f64> {
            vec![0.0, 0.5]
        }

        fn covariance(&self, free: &[f64], left: &Architecture, right: &Architecture) -> f64 {
            let pairs = left.layers().iter().zip(right.layers());
            (free[0] - pairs.filter(|(l, r)| l != r).count() as f64 / free[1].exp()).exp()
        }
    }

    /// Not symmetric.
    #[derive(Debug)]
    struct Crooked;

    impl SequenceKernel for Crooked {
        fn fingerprint(&self) -> String {
            "crooked".into()
        }

        fn covariance(&self, _: &[f64], left: &Architecture, right: &Architecture) -> f64 {
            if left.count(Symbol::ATTENTION) > right.count(Symbol::ATTENTION) { 0.5 } else { 1.0 }
        }
    }

    /// Symmetric and no covariance: unlike sequences covary more than a sequence with itself.
    #[derive(Debug)]
    struct Indefinite;

    impl SequenceKernel for Indefinite {
        fn fingerprint(&self) -> String {
            "indefinite".into()
        }

        fn covariance(&self, _: &[f64], left: &Architecture, right: &Architecture) -> f64 {
            if left == right { 1.0 } else { 2.0 }
        }
    }

    fn space() -> SearchSpace {
        SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 6).unwrap()
    }

    #[test]
    fn it_is_a_kernel() {
        super::super::tests::check(&Given::start(Arc::new(Hamming)), &space().iter().take(9).collect());
    }

    #[test]
    fn the_laws_tell_a_kernel_from_what_is_none() {
        assert_eq!(testkit::kernel::check(&Hamming, &space()), Ok(()));
        for broken in [&Crooked as &dyn SequenceKernel, &Indefinite] {
            assert!(testkit::kernel::check(broken, &space()).is_err(), "{broken:?}");
        }
    }

    fn searched(gp: &mut GpBo) -> Study {
        let mut study = Study::new(space(), Goal::default());
        for at in 0..20 {
            let mut rng = Seed(1).rng("test", at);
            let crate::search::Proposal::Evaluate(architecture) = gp.ask(&study, &mut rng).unwrap() else { panic!() };
            let value = architecture.layers()[3..].iter().filter(|&&layer| layer == Symbol::SWIGLU).count() as f64;
            let id = study.next_id();
            study.apply(Event::Proposed { id, architecture, seed: Seed(at), origin: Origin::Searcher }).unwrap();
            study.apply(Event::Completed { id, report: Report::score("accuracy", value) }).unwrap();
        }
        study
    }

    #[test]
    fn a_search_with_it_finds_the_optimum_and_keeps_the_laws() {
        let budget = AskBudget { fit_evaluations: 20, fit_observations: 100, candidates: 200 };
        let gp = GpBo::default().with_kernel(Hamming).with_initial(4).unwrap();
        let mut gp = gp.with_budget(budget).unwrap();
        assert_eq!(searched(&mut gp).best().unwrap().value, 3.0);
        assert!(gp.terms().is_empty() && gp.fingerprint().contains("kernel=hamming"), "{}", gp.fingerprint());
        let small = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 4).unwrap();
        testkit::searcher::check(|| gp.clone(), &small).unwrap();
    }

    #[test]
    fn what_is_no_covariance_is_an_error_and_no_panic() {
        let mut gp = GpBo::default().with_kernel(Indefinite).with_initial(2).unwrap();
        let mut study = Study::new(space(), Goal::default());
        for at in 0..6 {
            let architecture = study.space().nth(at * 7).unwrap();
            let id = study.next_id();
            study.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Searcher }).unwrap();
            study.apply(Event::Completed { id, report: Report::score("accuracy", at as f64) }).unwrap();
        }
        let answer = gp.ask(&study, &mut Seed(1).rng("test", 0));
        assert!(answer.is_err(), "{answer:?}");
    }
}
