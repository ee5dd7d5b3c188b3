//! The single best candidate.

use super::{AggregateError, Aggregator};
use crate::{space::Architecture, study::Study};

/// Returns the architecture with the highest observed value among the trials that ran to their end; on ties, the first
/// in the order of the space.
///
/// This is the baseline of Composer's comparison of aggregators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Best;

impl Aggregator for Best {
    fn fingerprint(&self) -> String {
        "best".into()
    }

    fn aggregate(&self, study: &Study) -> Result<Architecture, AggregateError> {
        let index = |architecture| study.space().index_of(architecture);
        study
            .observations()
            .map(|observation| (observation.rank(), &observation.trial.architecture))
            .reduce(|best, next| match () {
                () if next.0 > best.0 => next,
                () if next.0 == best.0 && index(next.1) < index(best.1) => next,
                () => best,
            })
            .map(|(_, architecture)| architecture.clone())
            .ok_or_else(|| AggregateError::no_observations(study))
    }
}
