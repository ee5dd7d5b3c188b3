//! Replays a table.

use rand::seq::IteratorRandom;

use super::{
    Table,
    table::{ACCURACY, SCORE},
};
use crate::{
    evaluate::{Context, EvalError, Evaluator},
    seed::Seed,
    study::{Report, Trial},
};

/// Returns measured scores. The seed of the trial selects one of the seeds with which its architecture was measured, so
/// the noise of a search is that of the measurement. An architecture that is not in the table is infeasible.
///
/// The `score` of the table becomes the `accuracy` of the report; the other columns keep their names.
///
/// ```
/// use composer_nas::{aggregate::Best, evaluate::TabularEvaluator, prelude::*};
/// let table = "architecture,seed,score\nAA,0,0.4\nAM,0,0.6\nMA,0,0.3\nMM,0,0.1\n".parse()?;
/// let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 2)?;
/// let found = Pipeline::new(&Primitives::standard(), space, TabularEvaluator::new(table))
///     .aggregator(Best)
///     .run(&Target::llama_1b())?;
/// assert_eq!(found.aggregated.to_string(), "1A+1M");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct TabularEvaluator {
    table: Table,
    fingerprint: String,
}

impl TabularEvaluator {
    /// Creates an evaluator that replays `table`.
    pub fn new(table: Table) -> Self {
        let contents = Seed(0).derive(&table.to_string(), 0);
        Self { table, fingerprint: format!("table {:016x}", contents.0) }
    }

    /// Returns the table.
    pub fn table(&self) -> &Table {
        &self.table
    }
}

impl Evaluator for TabularEvaluator {
    /// Returns a hash of the table's text.
    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    fn evaluate(&self, trial: &Trial, context: &Context) -> Result<Report, EvalError> {
        if context.cancelled() {
            return Err(EvalError::Cancelled);
        }
        let measured = self.table.of(&trial.architecture).into_iter().flat_map(|seeds| seeds.values());
        let Some(values) = measured.choose(&mut trial.seed.rng("tabular", 0)) else {
            return Err(EvalError::Infeasible(format!("{} is not in the table: measure it", trial.architecture)));
        };
        let name = |column: &String| if column == SCORE { ACCURACY.to_owned() } else { column.clone() };
        let scores = self.table.columns().iter().map(name).zip(values.iter().copied()).collect();
        Ok(Report { scores, ..Report::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        study::{Goal, Origin, TrialId},
        testkit,
    };

    fn trial(text: &str, seed: u64) -> Trial {
        Trial::new(TrialId(seed), text.parse().unwrap(), Seed(seed), Origin::Searcher)
    }

    #[test]
    fn the_laws_hold_and_noise_is_measured_noise() {
        let text = "architecture,seed,recall,score\nAM,0,0.5,0.1\nAM,1,0.6,0.2\nAM,7,0.7,0.3\nMA,0,0.4,0.9\n";
        let table: Table = text.parse().unwrap();
        let evaluator = TabularEvaluator::new(table.clone());
        let trials: Vec<_> = (0..6).map(|seed| trial(["AM", "MA", "MM"][seed as usize % 3], seed)).collect();
        testkit::evaluator::check(&evaluator, &trials, &Goal::default()).unwrap();
        let mut counts = [0; 3];
        for seed in 0..3000 {
            let report = evaluator.evaluate(&trial("AM", seed), &Context::default()).unwrap();
            let at = [0.1, 0.2, 0.3].iter().position(|score| *score == report.scores["accuracy"]).unwrap();
            assert_eq!(report.scores["recall"], [0.5, 0.6, 0.7][at]);
            counts[at] += 1;
        }
        // Each a third, within four standard deviations of a binomial count.
        assert!(counts.iter().all(|count| (900..1100).contains(count)), "{counts:?}");
        let missing = evaluator.evaluate(&trial("MMA", 0), &Context::default());
        assert!(matches!(&missing, Err(EvalError::Infeasible(reason)) if reason.contains("2M+1A")), "{missing:?}");
        let other = TabularEvaluator::new(text.replace("0.9", "0.8").parse().unwrap());
        assert_ne!(evaluator.fingerprint(), other.fingerprint());
        assert_eq!(evaluator.table(), &table);
    }
}
