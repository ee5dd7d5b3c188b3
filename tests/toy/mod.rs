//! A made-up search that runs in microseconds: accuracy falls with the distance to AAMMMM, plus noise from the seed.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use composer_nas::{prelude::*, study::TrialState};
use rand::RngExt;

/// Six layers of attention and SwiGLU.
pub fn space() -> SearchSpace {
    SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 6).unwrap()
}

/// The accuracy of one trial, a function of its architecture and seed.
pub fn accuracy(trial: &Trial) -> f64 {
    let distance = trial.architecture.letters().chars().zip("AAMMMM".chars()).filter(|(a, b)| a != b).count();
    let noise: f64 = trial.seed.rng("noise", 0).random();
    0.9 - 0.1 * distance as f64 + 0.02 * noise
}

/// Evaluates [`accuracy`].
pub fn evaluator() -> impl Evaluator + 'static {
    from_fn("toy", |trial, _| Ok(Report::score("accuracy", accuracy(trial))))
}

/// Trials without the times they took: what a repetition must give again.
pub fn outcomes(study: &Study) -> Vec<Trial> {
    let untimed = |trial: &Trial| match &trial.state {
        TrialState::Completed(report) => {
            let state = TrialState::Completed(Report { wall_seconds: 0.0, ..report.clone() });
            Trial { state, ..trial.clone() }
        }
        _ => trial.clone(),
    };
    study.trials().iter().map(|trial| untimed(trial)).collect()
}
