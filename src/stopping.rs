//! Early stopping: from a study to the threshold of a trial.
//!
//! A [`Pruner`] reads the learning curves of finished trials ([`Report::curve`](crate::study::Report::curve)) and gives
//! the next trial a [`Threshold`]. The threshold is fixed when the trial is handed out and depends only on the results
//! that the searcher may know, so a search is repeatable with any number of workers. A trial that runs to its end has
//! the same score as without a rule.
//!
//! A pruned trial is recorded as failed, with its last value in the reason. It has no score: that of an unfinished
//! training is not comparable with the others, and an invented one would mislead the searcher's model. The trial counts
//! against the budget, and its architecture is not proposed again. Searchers do not see it. Evolution and random search
//! gain from early stopping nevertheless; `GpBo` loses more than it saves (`docs/notes/racing.md`).
//!
//! [`Racing`] ends the repetitions of a trial instead. Its score is then the mean of the repetitions that were made.

mod racing;

pub use racing::Racing;

use auto_impl::auto_impl;

use crate::{
    space::Architecture,
    statistics::median,
    study::{Report, Study, Threshold},
};

/// Decides which intermediate values a trial must reach to continue, as a function of its configuration and the study.
///
/// ```
/// use composer_nas::{prelude::*, stopping::Pruner, study::Threshold};
///
/// /// Stops trials whose value is below a constant after 100 steps.
/// struct Floor(f64);
///
/// impl Pruner for Floor {
///     fn fingerprint(&self) -> String {
///         format!("floor({})", self.0)
///     }
///
///     fn threshold(&self, _study: &Study, _architecture: &Architecture) -> Threshold {
///         Threshold::new([(100, self.0)])
///     }
/// }
/// ```
#[auto_impl(Box)]
pub trait Pruner {
    /// Returns the name and settings, such as `median(trials=8, steps=100)`. A journal can be continued only with the
    /// same fingerprint.
    fn fingerprint(&self) -> String;

    /// Returns the intermediate values below which a trial of this architecture is stopped. An empty threshold stops
    /// nothing.
    fn threshold(&self, study: &Study, architecture: &Architecture) -> Threshold;
}

/// The median rule (Golovin et al. 2017, "Google Vizier", section 3.1.2): a trial must be at least as good as the
/// median of the finished trials of its length were after as many steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MedianPruner {
    trials: usize,
    steps: usize,
}

impl MedianPruner {
    /// Creates a rule that stops no trial before `steps` steps, nor at steps that fewer than `trials` finished trials
    /// of the same length have reached.
    pub fn after(trials: usize, steps: usize) -> Self {
        Self { trials: trials.max(1), steps }
    }
}

impl Pruner for MedianPruner {
    fn fingerprint(&self) -> String {
        format!("median(trials={}, steps={})", self.trials, self.steps)
    }

    fn threshold(&self, study: &Study, architecture: &Architecture) -> Threshold {
        let alike = study.trials().iter().filter(|trial| trial.architecture.len() == architecture.len());
        let finished: Vec<&Report> = alike.filter_map(|trial| trial.report()).collect();
        let mut steps: Vec<usize> = finished.iter().flat_map(|report| &report.curve).map(|&(step, _)| step).collect();
        steps.sort_unstable();
        steps.dedup();
        Threshold::new(steps.into_iter().filter(|&step| step >= self.steps).filter_map(|step| {
            let values: Vec<f64> = finished.iter().filter_map(|report| report.running(step)).collect();
            let median = median(&values)?;
            (values.len() >= self.trials).then_some((step, median))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        primitive::Symbol,
        seed::Seed,
        space::SearchSpace,
        study::{Event, Failure, FailureKind, Goal, Origin},
    };

    #[test]
    fn the_threshold_is_the_median_of_what_has_finished() {
        let mut study =
            Study::new(SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 3).unwrap(), Goal::default());
        let curves: [(&str, &[(usize, f64)]); 5] = [
            ("AAA", &[(10, 0.1), (20, 0.2), (30, 0.3)]),
            ("AAM", &[(10, 0.2), (20, 0.6)]),
            ("AMA", &[(10, 0.3), (20, 0.3), (30, 0.9)]),
            ("AA", &[(10, 9.0), (20, 9.0)]),
            ("MMM", &[]),
        ];
        for (text, curve) in curves {
            let id = study.next_id();
            let architecture = text.parse().unwrap();
            study.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Searcher }).unwrap();
            let event = match curve {
                [] => Event::Failed { id, failure: Failure { kind: FailureKind::Stopped, reason: String::new() } },
                _ => {
                    Event::Completed { id, report: Report { curve: curve.to_vec(), ..Report::score("accuracy", 0.5) } }
                }
            };
            study.apply(event).unwrap();
        }
        let bar = |trials, steps, text: &str| {
            MedianPruner::after(trials, steps).threshold(&study, &text.parse().unwrap()).points().to_vec()
        };
        // A curve that has ended stays where it was.
        assert_eq!(bar(3, 0, "MMA"), [(10, 0.2), (20, 0.3), (30, 0.6)]);
        assert_eq!(bar(1, 15, "MMA"), [(20, 0.3), (30, 0.6)]);
        assert_eq!(bar(1, 0, "MM"), [(10, 9.0), (20, 9.0)]);
        assert_eq!((bar(4, 0, "MMA"), bar(1, 0, "M")), (vec![], vec![]));
        let boxed: Box<dyn Pruner> = Box::new(MedianPruner::after(8, 100));
        assert_eq!(boxed.fingerprint(), "median(trials=8, steps=100)");
    }
}
