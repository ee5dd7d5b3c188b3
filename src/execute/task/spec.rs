//! The request to a worker.

use serde::{Deserialize, Serialize};

use crate::{
    seed::Seed,
    space::Architecture,
    study::{Origin, Race, Threshold, Trial, TrialId},
};

/// The version of the crate, which must be the same for driver and worker.
pub(in crate::execute) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The request to a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::execute) struct Spec {
    /// The crate version of the driver.
    pub version: String,
    /// The fingerprint of the evaluator.
    pub evaluator: String,
    /// The number of computing threads.
    pub threads: usize,
    /// The time between two heartbeats, in seconds.
    #[serde(alias = "beat")]
    pub heartbeat_interval: f64,
    /// How long a worker retries to write a result, in seconds.
    #[serde(alias = "patience")]
    pub write_timeout: f64,
    /// The time after which the evaluation is cancelled, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// The trial to evaluate; `None` for a probe, which only checks that the worker starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<TrialRequest>,
}

/// The parts of a trial that an evaluator may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::execute) struct TrialRequest {
    id: TrialId,
    architecture: Architecture,
    seed: Seed,
    origin: Origin,
    failed_attempts: u32,
    /// The values are text, because JSON has no infinities.
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
        // An invalid value becomes NaN, and nothing is below NaN.
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
    /// Returns the name of the task. It depends on everything that the report depends on, races included, and on the
    /// failed attempts, whose results stay. Timeouts and thresholds are not part of it, so they may change.
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

    fn race(threshold: f64) -> Option<Race> {
        Some(Race::new(&Goal::default(), Some(threshold), 2.0, 4))
    }

    /// A spec in which every field is set.
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
