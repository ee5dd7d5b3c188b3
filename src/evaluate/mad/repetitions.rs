//! The repetitions of a trial's trainings: in which order they are made, and what they amount to.

use std::collections::BTreeMap;

use super::{Protocol, Training};
use crate::{
    statistics::standard_error,
    study::{Race, Raced, Report, TaskReport},
};

/// The name of the score.
const SCORE: &str = "accuracy";

/// What has been trained of a trial.
pub(super) struct Repetitions<'a> {
    protocol: &'a Protocol,
    /// By training of the protocol.
    made: Vec<Vec<TaskReport>>,
    /// Of the largest candidate.
    pub parameters: u64,
    pub train_flops: f64,
}

/// (training, repetition): one training after the other, or in a race so that every prefix has the same share of the
/// repetitions of each.
pub(super) fn order(trainings: &[Training], race: bool) -> Vec<(usize, usize)> {
    let repeats = |(index, training): (usize, &Training)| (0..training.repeats).map(move |repeat| (index, repeat));
    let mut all: Vec<_> = trainings.iter().enumerate().flat_map(repeats).collect();
    if race {
        // By the middle of each repetition's share, as fractions with a common denominator.
        let middle = |repeat: usize, other: usize| (2 * repeat + 1) * trainings[other].repeats;
        all.sort_by(|&(one, a), &(other, b)| middle(a, other).cmp(&middle(b, one)));
    }
    all
}

impl<'a> Repetitions<'a> {
    pub(super) fn new(protocol: &'a Protocol) -> Self {
        let made = vec![Vec::new(); protocol.trainings.len()];
        Self { protocol, made, parameters: 0, train_flops: 0.0 }
    }

    /// Another repetition of the training with this index.
    pub(super) fn add(&mut self, training: usize, repetition: TaskReport) {
        self.made[training].push(repetition);
    }

    /// The report of a race that is lost by now.
    pub(super) fn lost(&self, race: &Race) -> Option<Report> {
        let rarest = self.made.iter().map(Vec::len).min().filter(|&rarest| rarest > 1)?;
        let done = self.made.iter().map(Vec::len).sum();
        let planned = self.protocol.trainings.iter().map(|training| training.repeats).sum();
        let report = self.report();
        let mean = report.scores.get(race.score()).filter(|_| done < planned && race.score() == SCORE)?;
        let lost = race.is_lost(*mean, report.standard_error, rarest);
        lost.then_some(Report { raced: Some(Raced { done, planned }), ..report })
    }

    /// Returns how many repetitions of this training, in all, are worth making at once. In a race these are those
    /// before which it cannot be lost. With `leaders`, they are then all of them while the trial is not below its
    /// threshold: an accelerator makes several in the time of one, so those in vain cost little.
    pub(super) fn wanted(&self, training: usize, race: Option<&Race>, leaders: bool) -> usize {
        let trainings = &self.protocol.trainings;
        let repeats = trainings[training].repeats;
        let Some(race) = race.filter(|race| race.score() == SCORE && race.threshold().is_some()) else {
            return repeats;
        };
        let mut made = vec![0; trainings.len()];
        for (index, _) in order(trainings, true) {
            if made.iter().all(|&made| made >= race.least()) {
                break;
            }
            made[index] += 1;
        }
        if self.made[training].len() < made[training] || !leaders {
            return made[training];
        }
        let mean = self.made.iter().all(|made| !made.is_empty()).then(|| self.report().scores.get(SCORE).copied());
        let behind = mean.flatten().is_some_and(|mean| race.is_lost(mean, Some(0.0), usize::MAX));
        if behind { 0 } else { repeats }
    }

    /// The means of what has been trained; at least one repetition of each training.
    pub(super) fn report(&self) -> Report {
        let mut report = Report { parameters: self.parameters, ..Report::default() };
        // Of the score: the sum over trainings, unknown where one is not repeated.
        let mut variance = Some(0.0);
        let mut errors = Vec::new();
        for (training, made) in self.protocol.trainings.iter().zip(&self.made) {
            let scores: Vec<f64> = made.iter().map(score).collect();
            let share = share(&self.protocol.trainings, training);
            let error = standard_error(&scores);
            variance = variance.zip(error).map(|(sum, error)| sum + (share * error).powi(2));
            errors.push(error);
            report.tasks.push(TaskReport::pooled(training.label(), &made.iter().collect::<Vec<_>>()));
        }
        self.score(&mut report);
        report.standard_errors = self.errors(&errors);
        Report { standard_error: variance.map(f64::sqrt), train_flops: Some(self.train_flops), ..report }
    }

    /// Returns the standard errors of the tasks' scores, computed from those of the trainings. A task without
    /// repetitions has none.
    fn errors(&self, errors: &[Option<f64>]) -> BTreeMap<String, f64> {
        let mut tasks: BTreeMap<String, Vec<(f64, Option<f64>)>> = BTreeMap::new();
        for (training, &error) in self.protocol.trainings.iter().zip(errors) {
            tasks.entry(training.task.name().into()).or_default().push((training.weight, error));
        }
        let of_task = |trainings: Vec<(f64, Option<f64>)>| {
            let total: f64 = trainings.iter().map(|(weight, _)| weight).sum();
            let parts = trainings.into_iter().map(|(weight, error)| Some((weight / total * error?).powi(2)));
            Some(parts.sum::<Option<f64>>()?.sqrt())
        };
        tasks.into_iter().filter_map(|(name, trainings)| Some((name, of_task(trainings)?))).collect()
    }

    /// The mean of each task, and the mean over tasks.
    fn score(&self, report: &mut Report) {
        let mut tasks: Vec<(&str, Vec<(f64, f64)>)> = Vec::new();
        for (training, task) in self.protocol.trainings.iter().zip(&report.tasks) {
            let name = training.task.name();
            let weighed = (training.weight, score(task));
            match tasks.iter_mut().find(|(known, _)| *known == name) {
                Some((_, trainings)) => trainings.push(weighed),
                None => tasks.push((name, vec![weighed])),
            }
        }
        let weighed = tasks.iter().map(|(_, trainings)| {
            let weight = trainings.iter().map(|(weight, _)| weight).sum::<f64>() / trainings.len() as f64;
            (weight, weighted_mean(trainings))
        });
        let weighed: Vec<(f64, f64)> = weighed.collect();
        report.scores.insert(SCORE.into(), weighted_mean(&weighed));
        report.scores.extend(tasks.iter().zip(&weighed).map(|((name, _), &(_, score))| ((*name).into(), score)));
    }
}

/// What share of the trial's score that of one of its trainings is.
pub(super) fn share(trainings: &[Training], training: &Training) -> f64 {
    let counts = |training: &Training| {
        let alike = trainings.iter().filter(|other| other.task.name() == training.task.name()).count();
        training.weight / alike as f64
    };
    counts(training) / trainings.iter().map(counts).sum::<f64>()
}

/// Of (weight, score).
fn weighted_mean(weighed: &[(f64, f64)]) -> f64 {
    let total: f64 = weighed.iter().map(|(weight, _)| weight).sum();
    weighed.iter().map(|(weight, score)| weight * score).sum::<f64>() / total
}

/// What a training counts: trainings here always say.
pub(super) fn score(task: &TaskReport) -> f64 {
    task.score.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::mad::Protocol;

    #[test]
    fn every_prefix_of_a_race_is_balanced() {
        let trainings = Protocol::hybrid().trainings;
        let repeats: Vec<usize> = trainings.iter().map(|training| training.repeats).collect();
        let all = order(&trainings, true);
        for done in 1..=all.len() {
            for (index, &of) in repeats.iter().enumerate() {
                let made = all[..done].iter().filter(|&&(training, _)| training == index).count();
                let due = done as f64 * of as f64 / all.len() as f64;
                assert!((made as f64 - due).abs() <= 1.0, "{made} of {due} of training {index} after {done}");
            }
        }
        let mut sorted = all.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, order(&trainings, false));
        // The repetitions of a training keep their order.
        assert!(all.iter().filter(|&&(training, _)| training == 0).map(|&(_, repeat)| repeat).eq(0..repeats[0]));
    }
}
