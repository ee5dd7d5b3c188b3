//! L-BFGS with a bounded number of evaluations, around argmin.

use std::cell::RefCell;

use argmin::{
    core::{CostFunction, Error, Executor, Gradient},
    solver::{linesearch::MoreThuenteLineSearch, quasinewton::LBFGS},
};

/// The stopping criteria of a minimisation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Limits {
    /// The maximum number of evaluations of the objective with its gradient.
    pub(super) evaluations: usize,
    /// Stop if the norm of the gradient is below this.
    pub(super) gradient: f64,
    /// Stop if an iteration changes the objective by less than this.
    pub(super) change: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { evaluations: 200, gradient: 1e-6, change: 1e-10 }
    }
}

/// The result of a minimisation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Minimum {
    /// The best point.
    pub(super) point: Vec<f64>,
    /// The objective at this point, or infinity if it was not finite anywhere.
    pub(super) value: f64,
    /// The number of evaluations of the objective.
    pub(super) evaluations: usize,
}

/// The number of past steps that L-BFGS remembers.
const MEMORY: usize = 10;

/// Minimises `objective` from `start`. For a point (d), the objective returns its value and its gradient (d). If it
/// cannot be computed at a point, the objective may return any value that is not finite.
///
/// The result is the best evaluated point, however the run ended. Reaching the limit of evaluations, or a line search
/// that finds nothing better, is not an error.
pub(super) fn minimise(objective: impl FnMut(&[f64]) -> (f64, Vec<f64>), start: &[f64], limits: Limits) -> Minimum {
    let best = Minimum { point: start.to_vec(), value: f64::INFINITY, evaluations: 0 };
    let state =
        RefCell::new(State { objective, limit: limits.evaluations, last: None, worst: f64::NEG_INFINITY, best });
    // argmin returns an error if settings are out of range, if the limit of evaluations is reached at the start, or if
    // a search direction does not descend. In all cases, the result is the best point so far.
    let _ended: Result<(), Error> = run(Problem(&state), start, limits);
    state.into_inner().best
}

fn run<F: FnMut(&[f64]) -> (f64, Vec<f64>)>(
    problem: Problem<'_, F>,
    start: &[f64],
    limits: Limits,
) -> Result<(), Error> {
    let line_search = MoreThuenteLineSearch::new().with_c(1e-4, 0.9)?;
    let solver =
        LBFGS::new(line_search, MEMORY).with_tolerance_grad(limits.gradient)?.with_tolerance_cost(limits.change)?;
    let iterations = u64::try_from(limits.evaluations)?;
    let executor = Executor::new(problem, solver);
    executor.configure(|state| state.param(start.to_vec()).max_iters(iterations)).ctrlc(false).run()?;
    Ok(())
}

/// The evaluations so far. argmin asks for value and gradient in separate calls, so the last evaluation is kept.
struct State<F> {
    objective: F,
    limit: usize,
    last: Option<(Vec<f64>, f64, Vec<f64>)>,
    /// The largest finite value.
    worst: f64,
    best: Minimum,
}

impl<F: FnMut(&[f64]) -> (f64, Vec<f64>)> State<F> {
    /// Returns the objective and its gradient at a point. If they cannot be computed, it returns a plateau above all
    /// values so far: a line search interpolates and steps back from it, but infinity or NaN would end or hang it.
    fn evaluate(&mut self, point: &[f64]) -> Result<&(Vec<f64>, f64, Vec<f64>), Error> {
        let last = match self.last.take().filter(|(last, ..)| last == point) {
            Some(last) => last,
            None if self.best.evaluations >= self.limit => {
                return Err(Error::msg("the limit of evaluations is reached"));
            }
            None => {
                self.best.evaluations += 1;
                let (value, gradient) = (self.objective)(point);
                let finite = value.is_finite() && gradient.iter().all(|slope| slope.is_finite());
                if finite && value < self.best.value {
                    self.best = Minimum { point: point.to_vec(), value, ..self.best };
                }
                if finite {
                    self.worst = self.worst.max(value);
                    (point.to_vec(), value, gradient)
                } else {
                    let plateau = if self.worst.is_finite() { self.worst + 1.0 + self.worst.abs() } else { 0.0 };
                    (point.to_vec(), plateau, vec![0.0; point.len()])
                }
            }
        };
        Ok(self.last.insert(last))
    }
}

struct Problem<'a, F>(&'a RefCell<State<F>>);

impl<F: FnMut(&[f64]) -> (f64, Vec<f64>)> CostFunction for Problem<'_, F> {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, point: &Vec<f64>) -> Result<f64, Error> {
        self.0.borrow_mut().evaluate(point).map(|&(_, value, _)| value)
    }
}

impl<F: FnMut(&[f64]) -> (f64, Vec<f64>)> Gradient for Problem<'_, F> {
    type Param = Vec<f64>;
    type Gradient = Vec<f64>;

    fn gradient(&self, point: &Vec<f64>) -> Result<Vec<f64>, Error> {
        self.0.borrow_mut().evaluate(point).map(|(_, _, gradient)| gradient.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rosenbrock's function, minimum 0 at (1, 1).
    fn rosenbrock(x: &[f64]) -> (f64, Vec<f64>) {
        let a = 1.0 - x[0];
        let b = x[1] - x[0] * x[0];
        (a * a + 100.0 * b * b, vec![-2.0 * a - 400.0 * x[0] * b, 200.0 * b])
    }

    #[test]
    fn the_valley_is_followed_to_its_end() {
        let minimum = minimise(rosenbrock, &[-1.2, 1.0], Limits { change: 1e-16, ..Limits::default() });
        assert!(minimum.value < 1e-10, "{minimum:?}");
        assert!(minimum.evaluations < 80);
    }

    #[test]
    fn the_limit_of_evaluations_holds() {
        for limit in 0..30 {
            let mut count = 0;
            let counted = |x: &[f64]| {
                count += 1;
                rosenbrock(x)
            };
            let minimum = minimise(counted, &[-1.2, 1.0], Limits { evaluations: limit, ..Limits::default() });
            assert!(minimum.evaluations <= limit);
            assert!(minimum.value <= if limit == 0 { f64::INFINITY } else { rosenbrock(&[-1.2, 1.0]).0 });
            assert_eq!(count, minimum.evaluations);
        }
    }

    #[test]
    fn walls_are_walked_around_and_nothing_hangs() {
        // Not computable for x > 2, with the minimum at the wall's foot.
        let walled =
            |x: &[f64]| if x[0] > 2.0 { (f64::NAN, vec![]) } else { ((x[0] - 1.9).powi(2), vec![2.0 * (x[0] - 1.9)]) };
        let minimum = minimise(walled, &[-50.0], Limits::default());
        assert!((minimum.point[0] - 1.9).abs() < 1e-3, "{minimum:?}");
        let nowhere = minimise(|_| (f64::NAN, vec![f64::NAN]), &[0.5], Limits::default());
        assert_eq!((nowhere.point, nowhere.value), (vec![0.5], f64::INFINITY));
        // Unbounded below: the limit ends it.
        let slope = minimise(|x| (-x[0], vec![-1.0]), &[0.0], Limits::default());
        assert!(slope.value < -1.0 && slope.evaluations <= 200);
    }
}
