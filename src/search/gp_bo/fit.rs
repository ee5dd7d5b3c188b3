//! The best hyperparameters from several starting points.
//!
//! The posterior density has several maxima: the same outcomes can be explained by long lengthscales with noise, or by
//! short lengthscales without. Starting points for both find the better maximum.

use super::{
    GpError,
    features::Term,
    hyper::{Hyper, NOISE_PRIOR},
    kernel::{Categorical, Given, Kernel, Priors, Rbf, Structured},
    minimise::{Limits, minimise},
    outcomes::Standardised,
};

/// The result of a fit: the hyperparameters with the largest posterior density.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fit<K> {
    /// The best hyperparameters.
    pub(super) hyper: Hyper<K>,
    /// The objective at the maximum, see [`Hyper::map_objective`].
    pub(super) objective: f64,
    /// The number of evaluations of the objective, summed over all starting points.
    pub(super) evaluations: usize,
}

/// Maximises the posterior density of the hyperparameters from every starting point, and returns the best maximum (the
/// first on ties). `limits` apply to each starting point.
///
/// # Shapes
/// N points and N outcomes.
///
/// # Errors
/// The error of the last starting point if none can be evaluated, [`GpError::Fit`] if none has a finite density.
pub(super) fn fit<K: Kernel>(
    points: &K::Points,
    outcomes: &Standardised,
    starts: &[Hyper<K>],
    limits: Limits,
) -> Result<Fit<K>, GpError> {
    let mut best: Option<Fit<K>> = None;
    let mut evaluations = 0;
    let mut failure = GpError::Fit { starts: starts.len() };
    for start in starts {
        let objective = |free: &[f64]| match start.at(free).map_objective(points, outcomes) {
            Ok((value, gradient)) => (-value, gradient.iter().map(|slope| -slope).collect()),
            Err(error) => {
                failure = error;
                (f64::INFINITY, vec![0.0; free.len()])
            }
        };
        let minimum = minimise(objective, &start.free(), limits);
        evaluations += minimum.evaluations;
        let value = -minimum.value;
        if value.is_finite() && best.as_ref().is_none_or(|best| value > best.objective) {
            best = Some(Fit { hyper: start.at(&minimum.point), objective: value, evaluations: 0 });
        }
    }
    best.map(|best| Fit { evaluations, ..best }).ok_or(failure)
}

impl Hyper<Rbf> {
    /// Returns the starting points of fits with d columns: BoTorch's, one with as much noise as repeated evaluations
    /// may show, and one with very long lengthscales, where little depends on any column. The lengthscales of a
    /// starting point differ, see [`Rbf::spread`].
    pub(super) fn starts(columns: usize) -> Vec<Self> {
        let start = |noise, kernel| Self { noise, mean: 0.0, kernel };
        vec![
            start(NOISE_PRIOR.mode(), Rbf::scaled(columns, 1.0).spread(1.5)),
            start(0.3, Rbf::scaled(columns, 1.0).spread(1.5)),
            start(NOISE_PRIOR.mode(), Rbf::scaled(columns, 4.0).spread(3.0)),
        ]
    }
}

impl Hyper<Structured> {
    /// Returns the starting point of fits. There is only one, because with priors on so few hyperparameters there is
    /// one maximum.
    pub(super) fn starts(terms: &[Term]) -> Vec<Self> {
        vec![Self { noise: 0.05, mean: 0.0, kernel: Structured::start(terms) }]
    }
}

impl Hyper<Given> {
    /// Returns the starting points of fits: that of the kernel, with little and with much noise.
    pub(super) fn starts(kernel: &Given) -> Vec<Self> {
        [NOISE_PRIOR.mode(), 0.3].map(|noise| Self { noise, mean: 0.0, kernel: kernel.clone() }).into()
    }
}

impl Hyper<Categorical> {
    /// Returns the starting points of fits with n layers: with little, much and some noise. Without priors (BoTorch has
    /// none), the gradient vanishes for long lengthscales, so they start at shorter ones than BoTorch's 0.69.
    pub(super) fn starts(layers: usize, priors: Option<Priors>) -> Vec<Self> {
        let kernel = |l| Categorical { priors, ..Categorical::uniform(layers, 1.0, l) };
        let start = |noise, l| Self { noise, mean: 0.0, kernel: kernel(l) };
        vec![start(NOISE_PRIOR.mode(), 0.2), start(0.3, 0.7), start(0.05, 0.2)]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use nalgebra::DMatrix;

    use super::*;
    use crate::search::gp_bo::golden::{self, Fixture};

    fn check<K: Kernel<Points = DMatrix<f64>>>(fixture: &Fixture, starts: &[Hyper<K>]) {
        let points = fixture.points();
        let outcomes = Standardised::new(&fixture.y).unwrap();
        let clock = Instant::now();
        let found = fit(&points, &outcomes, starts, Limits::default()).unwrap();
        let time = clock.elapsed().as_secs_f64() * 1e3;
        let name = &fixture.name;
        let golden = &fixture.fit;
        println!(
            "{name:22} {:.6}, BoTorch {:.6}, best known {:.6}: {} evaluations, {time:.1} ms",
            found.objective, golden.botorch, golden.best_known, found.evaluations,
        );
        assert!(found.objective >= golden.botorch - 1e-6, "{name}");
        assert!(found.objective >= golden.best_known - 1e-4, "{name}");
        assert!(found.evaluations < 500, "{name}");
        let (objective, _) = found.hyper.map_objective(&points, &outcomes).unwrap();
        assert_eq!(objective, found.objective);
    }

    #[test]
    fn fits_reach_the_best_known_density() {
        for fixture in golden::fixtures() {
            if fixture.is_categorical() {
                check(&fixture, &Hyper::<Categorical>::starts(fixture.layers(), None));
            } else {
                check(&fixture, &Hyper::<Rbf>::starts(fixture.points().ncols()));
            }
        }
    }

    #[test]
    fn starts_that_lead_nowhere_are_an_error() {
        let points = DMatrix::zeros(3, 2);
        let outcomes = Standardised::new(&[1.0, 0.0, -1.0]).unwrap();
        let none: [Hyper<Rbf>; 0] = [];
        assert_eq!(fit(&points, &outcomes, &none, Limits::default()), Err(GpError::Fit { starts: 0 }));
        let start = &Hyper::<Rbf>::starts(2)[0];
        let broken = Hyper { noise: f64::NAN, ..start.clone() };
        let refused = fit(&points, &outcomes, std::slice::from_ref(&broken), Limits::default());
        assert!(matches!(refused, Err(GpError::NotPositiveDefinite { .. })), "{refused:?}");
        let broken = Hyper { kernel: Rbf { lengthscales: vec![f64::INFINITY; 2] }, ..start.clone() };
        let refused = fit(&points, &outcomes, std::slice::from_ref(&broken), Limits::default());
        assert_eq!(refused, Err(GpError::Fit { starts: 1 }));
        assert!(fit(&points, &outcomes, &[broken, start.clone()], Limits::default()).is_ok());
    }
}
