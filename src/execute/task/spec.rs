//! What a worker is asked for.

use serde::{Deserialize, Serialize};

use crate::{
    seed::Seed,
    space::Architecture,
    study::{Origin, Race, Threshold, Trial, TrialId},
};

/// The version of the crate, which driver and worker must share.
pub(in crate::execute) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a worker is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::execute) struct Spec {
    /// Crate version of the driver.
    pub version: String,
    /// Fingerprint of the evaluator.
    pub evaluator: String,
    /// Computing threads.
    pub threads: usize,
    /// Seconds between two heartbeats.
    #[serde(alias = "beat")]
    pub heartbeat_interval: f64,
    /// Seconds for which a result that cannot be written is tried again.
    #[serde(alias = "patience")]
    pub write_timeout: f64,
    /// Seconds after which the evaluation is called off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// What is evaluated; nothing where the worker is only to show that it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<TrialRequest>,
}

/// A trial, as far as an evaluator may look at it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::execute) struct TrialRequest {
    id: TrialId,
    architecture: Architecture,
    seed: Seed,
    origin: Origin,
    failed_attempts: u32,
    /// Values as text, since JSON has no infinities.
    #[serde(default, skip_serializing_if = "Vec::is_empty", alias = "stop_below")]
    threshold: Vec<(usize, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    race: Option<Race>,
}

impl From<&Trial> for TrialRequest {
    fn from(trial: &Trial) -> Self {
        let Trial { id, architecture, seed, origin, failed_attempts, threshold, race, .. } = trial.clone();
        let threshold = threshold.points().iter().map(|&(step, value)| (step, value.to_string())).collect();
        Self { id, architecture, seed, origin, failed_attempts, threshold, race }
    }
}

impl TrialRequest {
    pub(in crate::execute) fn trial(&self) -> Trial {
        // Nothing is below what is no number.
        let points = self.threshold.iter().map(|(step, value)| (*step, value.parse().unwrap_or(f64::NAN)));
        Trial {
            failed_attempts: self.failed_attempts,
            threshold: Threshold::new(points),
            race: self.race.clone(),
            ..Trial::new(self.id, self.architecture.clone(), self.seed, self.origin)
        }
    }
}

impl Spec {
    /// The name of the task: the same for all that a report depends on, and another one after a failed attempt, whose
    /// result stands. How long to wait and when to stop are no part of it, so that they may change; what a race is lost
    /// by is, for the report of a lost race depends on it.
    pub(in crate::execute) fn name(&self) -> String {
        let digest = |text: &str, index| Seed(0).derive(text, index).0;
        match &self.trial {
            Some(TrialRequest { id, architecture, seed, failed_attempts, race, .. }) => {
                let letters = architecture.letters();
                let mut text =
                    format!("{}\n{}\n{letters}\n{failed_attempts}\n{}", self.version, self.evaluator, seed.0);
                if let Some(race) = race {
                    text += &format!("\n{}", race.fingerprint());
                }
                format!("trial-{:05}-{:016x}", id.0, digest(&text, id.0))
            }
            None => format!("probe-{:016x}", digest(&format!("{}\n{}", self.version, self.evaluator), 0)),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::study::Goal;

    fn race(bar: f64) -> Option<Race> {
        Some(Race::new(&Goal::default(), Some(bar), 2.0, 4))
    }

    /// A spec with something everywhere.
    pub(in crate::execute::task) fn spec() -> Spec {
        let trial = Trial::new(TrialId(3), "AM".parse().unwrap(), Seed(u64::MAX), Origin::Manual);
        let trial = Trial {
            failed_attempts: 1,
            threshold: Threshold::new([(2, 0.1), (4, f64::NEG_INFINITY)]),
            race: race(0.1),
            ..trial
        };
        let version = VERSION.into();
        let evaluator = "test".into();
        Spec {
            version,
            evaluator,
            threads: 2,
            heartbeat_interval: 0.5,
            write_timeout: 60.0,
            limit: Some(9.0),
            trial: Some((&trial).into()),
        }
    }

    #[test]
    fn a_name_stands_for_all_that_the_report_depends_on() {
        let spec = spec();
        let with = |change: fn(&mut Spec)| {
            let mut spec = spec.clone();
            change(&mut spec);
            spec.name()
        };
        let asked = |change: fn(&mut TrialRequest)| {
            let mut spec = spec.clone();
            spec.trial.iter_mut().for_each(change);
            spec.name()
        };
        let same = [
            with(|spec| spec.limit = None),
            with(|spec| spec.heartbeat_interval = 1.0),
            asked(|asked| asked.threshold.clear()),
            asked(|asked| asked.origin = Origin::Searcher),
        ];
        assert!(same.iter().all(|name| *name == spec.name()));
        let mut other = vec![
            spec.name(),
            with(|spec| spec.version.push('1')),
            with(|spec| spec.evaluator.push('2')),
            with(|spec| spec.trial = None),
            asked(|asked| asked.id = TrialId(4)),
            asked(|asked| asked.seed = Seed(4)),
            asked(|asked| asked.failed_attempts = 0),
            asked(|asked| asked.architecture = "MA".parse().unwrap()),
            asked(|asked| asked.race = None),
            asked(|asked| asked.race = race(0.5)),
        ];
        other.sort();
        other.dedup();
        assert_eq!(other.len(), 10);
        let name = spec.name();
        let parts: Vec<_> = name.split('-').collect();
        assert_eq!((parts[0], parts[1], parts[2].len()), ("trial", "00003", 16));
    }
}
