//! Evaluating candidates at equal size.

use super::{Context, EvalError, Evaluator};
use crate::{
    extrapolate::{Extrapolator, Target, TargetError},
    primitive::Primitives,
    study::{Report, Trial},
    text::causes,
};

/// Evaluates all candidates at the same size.
///
/// An extrapolator grows each sequence to a small target, in the same way as the result of the search is grown to a
/// large one, and the inner evaluator evaluates the grown sequence. With [`Cycle`](crate::extrapolate::Cycle), the size
/// deviates by at most half a layer.
///
/// Sequences with the same number of layers differ in size: at width 32, an MLP of inner width 96 has more than twice
/// the parameters of an attention layer, so a comparison at equal depth favours large layers. Use this evaluator for
/// spaces with different kinds of layers. The widths of the target must be those at which the inner evaluator builds
/// its models, so that the target's non-embedding parameters are those of the candidates. The vocabulary of the target
/// is ignored.
///
/// ```
/// use composer_nas::{evaluate::SizeMatched, extrapolate::Cycle, prelude::*, study::{Origin, TrialId}};
/// let layers = from_fn("layers", |trial, _| Ok(Report::score("accuracy", trial.architecture.len() as f64)));
/// let primitives = Primitives::standard();
/// // The size of four blocks of attention and SwiGLU at the widths of `quick`.
/// let target = Target::custom("small", Dims::new(32, 96, 4).unwrap(), 16, false, 4)?;
/// let matched = SizeMatched::new(layers, Cycle, target, &primitives)?;
/// let layers_of = |text: &str| {
///     let trial = Trial::new(TrialId(0), text.parse().unwrap(), Seed(1), Origin::Searcher);
///     matched.evaluate(&trial, &Context::default()).map(|report| report.scores["accuracy"])
/// };
/// assert_eq!((layers_of("AM")?, layers_of("A")?), (8.0, 13.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct SizeMatched<E, X> {
    inner: E,
    extrapolator: X,
    target: Target,
    primitives: Primitives,
}

impl<E, X> SizeMatched<E, X> {
    /// Creates an evaluator for candidates of the target's size. `primitives` defines the layers for the extrapolator.
    ///
    /// # Errors
    /// [`TargetError`] if the target is inconsistent.
    pub fn new(inner: E, extrapolator: X, target: Target, primitives: &Primitives) -> Result<Self, TargetError> {
        target.validate()?;
        Ok(Self { inner, extrapolator, target, primitives: primitives.clone() })
    }
}

impl<E: Evaluator, X: Extrapolator + Send + Sync> Evaluator for SizeMatched<E, X> {
    fn fingerprint(&self) -> String {
        let Self { inner, extrapolator, target, .. } = self;
        let dims = serde_json::to_string(&target.dims).unwrap_or_else(|error| error.to_string());
        let size = target.non_embedding_parameters;
        format!("{} to {size} body parameters at {dims}: {}", extrapolator.fingerprint(), inner.fingerprint())
    }

    /// # Errors
    /// [`EvalError::Infeasible`] if the sequence cannot be grown to the target; otherwise the error of the inner
    /// evaluator.
    fn evaluate(&self, trial: &Trial, context: &Context) -> Result<Report, EvalError> {
        let grown = self.extrapolator.extrapolate(&trial.architecture, &self.target, &self.primitives);
        let grown = grown.map_err(|error| EvalError::Infeasible(causes(&error)))?;
        self.inner.evaluate(&Trial { architecture: grown.architecture, ..trial.clone() }, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cost::{ModelCost, Workload},
        dims::Dims,
        evaluate::from_fn,
        extrapolate::{Cycle, Stack},
        seed::Seed,
        study::{Goal, Origin, TrialId},
        testkit,
    };

    fn small() -> Target {
        Target::custom("small", Dims::new(32, 96, 4).unwrap(), 1, false, 5).unwrap()
    }

    fn trial(architecture: &str) -> Trial {
        Trial::new(TrialId(0), architecture.parse().unwrap(), Seed(1), Origin::Searcher)
    }

    /// Reports the parameters of the evaluated layers, without norms.
    fn parameters() -> impl Evaluator {
        from_fn("parameters", |trial, context| {
            if context.cancelled() {
                return Err(EvalError::Cancelled);
            }
            let model = small().model(trial.architecture.clone());
            let cost = ModelCost::new(&model, &Primitives::standard(), Workload::bf16(16)).unwrap();
            let norms = 32 * trial.architecture.len() as u64;
            Ok(Report::score("accuracy", (cost.non_embedding_parameters - norms) as f64))
        })
    }

    #[test]
    fn candidates_of_any_kind_have_one_size() {
        let matched = SizeMatched::new(parameters(), Cycle, small(), &Primitives::standard()).unwrap();
        let target = small().non_embedding_parameters as f64;
        for architecture in ["A", "M", "AAMMMM", "BMAMBM", "BBAAAA", "BBBBBB", "BMBMAM"] {
            let size = matched.evaluate(&trial(architecture), &Context::default()).unwrap().scores["accuracy"];
            assert!((size / target - 1.0).abs() < 0.08, "{architecture}: {size} beside {target}");
        }
        let trials: Vec<Trial> = ["A", "BMAMBM"].map(trial).into();
        testkit::evaluator::check(&matched, &trials, &Goal::default()).unwrap();
    }

    #[test]
    fn what_the_score_depends_on_is_in_the_fingerprint() {
        let primitives = Primitives::standard();
        let stacked = SizeMatched::new(parameters(), Stack, small(), &primitives).unwrap().fingerprint();
        let cycled = SizeMatched::new(parameters(), Cycle, small(), &primitives).unwrap().fingerprint();
        let larger = Target { non_embedding_parameters: 1 << 20, ..small() };
        let larger = SizeMatched::new(parameters(), Cycle, larger, &primitives).unwrap().fingerprint();
        assert!(stacked != cycled && cycled != larger, "{stacked}; {cycled}; {larger}");
        assert!(cycled.ends_with(": parameters") && cycled.contains("66560 body parameters"), "{cycled}");
    }

    #[test]
    fn a_sequence_that_cannot_be_grown_is_infeasible() {
        let tiny = Target { non_embedding_parameters: 100, ..small() };
        let matched = SizeMatched::new(parameters(), Cycle, tiny, &Primitives::standard()).unwrap();
        let outcome = matched.evaluate(&trial("AM"), &Context::default());
        assert!(
            matches!(&outcome, Err(EvalError::Infeasible(why)) if why.contains("use a larger target")),
            "{outcome:?}"
        );
        let absurd = Target { vocab_size: 0, ..small() };
        assert!(SizeMatched::new(parameters(), Cycle, absurd, &Primitives::standard()).is_err());
    }
}
