//! The best hyperparameters of several starts.
//!
//! The density has several maxima: what long lengthscales and noise explain, short lengthscales explain without. A start
//! on either side of that choice finds the better one.

use nalgebra::DVector;

use super::{
    GpError,
    hyper::{Hyper, NOISE_PRIOR},
    kernel::{Categorical, Kernel, Rbf},
    minimise::{Limits, minimise},
};

/// Hyperparameters that maximise the posterior density, and what finding them took.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fit<K> {
    /// The best hyperparameters.
    pub(super) hyper: Hyper<K>,
    /// Their objective, see [`Hyper::map_objective`].
    pub(super) objective: f64,
    /// How often the objective was evaluated, over all starts.
    pub(super) evaluations: usize,
}

/// Maximises the posterior density of the hyperparameters from every start and returns the best maximum; of equals, the
/// first. `limits` hold for each start.
///
/// # Errors
/// The error of the last start where no start can be evaluated, and [`GpError::Fit`] where none has a finite density.
pub(super) fn fit<K: Kernel>(
    points: &K::Points,
    outcomes: &DVector<f64>,
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
    /// Where fits with d columns start.
    pub(super) fn starts(columns: usize) -> Vec<Self> {
        let start = |noise, kernel| Self { noise, mean: 0.0, kernel };
        let all = Rbf::scaled(columns, 1.0);
        vec![
            start(NOISE_PRIOR.mode(), all.clone()),
            start(0.3, all.clone()),
            start(NOISE_PRIOR.mode(), Rbf::scaled(columns, 4.0)),
            start(NOISE_PRIOR.mode(), all.clone().spread(1.5)),
            start(0.3, all.clone().spread(1.5)),
            start(NOISE_PRIOR.mode(), Rbf::scaled(columns, 4.0).spread(1.5)),
            start(NOISE_PRIOR.mode(), all.clone().spread(3.0)),
            start(0.3, all.clone().spread(3.0)),
            start(NOISE_PRIOR.mode(), Rbf::scaled(columns, 4.0).spread(3.0)),
            start(NOISE_PRIOR.mode(), Rbf::scaled(columns, 2.0).spread(2.0)),
            start(0.3, Rbf::scaled(columns, 2.0).spread(2.0)),
        ]
    }
}

impl Hyper<Categorical> {
    /// Where fits with n layers start.
    pub(super) fn starts(layers: usize) -> Vec<Self> {
        let kernel = |l| Categorical::uniform(layers, 1.0, l);
        let start = |noise, l| Self { noise, mean: 0.0, kernel: kernel(l) };
        vec![start(NOISE_PRIOR.mode(), 0.7), start(0.3, 0.7), start(NOISE_PRIOR.mode(), 0.2), start(0.3, 0.2), start(0.05, 0.2), start(0.3,0.1),start(0.02, 0.5)]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::search::gp_bo::golden::{self, FitGolden, Fixture};

    /// The objective from the first start alone and from all, with a line for the log.
    fn check<K: Kernel<Points = nalgebra::DMatrix<f64>>>(fixture: &Fixture, starts: &[Hyper<K>]) {
        let (points, outcomes) = (fixture.points(), DVector::from_column_slice(&fixture.y_std));
        for start in starts {
            let one = fit(&points, &outcomes, std::slice::from_ref(start), Limits::default()).unwrap();
            print!("{:.6} ({}, noise {:.4}) ", one.objective, one.evaluations, one.hyper.noise);
        }
        let clock = Instant::now();
        let all = fit(&points, &outcomes, starts, Limits::default()).unwrap();
        let &FitGolden { botorch, best_known } = &fixture.fit;
        println!(
            "{:22} {:.6} botorch {botorch:.6} best {best_known:.6} {} evaluations {:.1} ms {}",
            fixture.name,
            all.objective,
            all.evaluations,
            clock.elapsed().as_secs_f64() * 1e3,
            if all.objective >= botorch - 1e-6 && all.objective >= best_known - 1e-4 { "ok" } else { "MISSED" }
        );
    }

    #[test]
    fn fits_reach_the_best_known_density() {
        for fixture in golden::fixtures() {
            if fixture.is_categorical() {
                check(&fixture, &Hyper::<Categorical>::starts(fixture.layers()));
            } else {
                check(&fixture, &Hyper::<Rbf>::starts(fixture.points().ncols()));
            }
        }
    }
}
