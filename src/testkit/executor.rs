//! Checks the contract of [`Executor`].

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::{LawBroken, holds};
use crate::{
    evaluate::{Context, EvalError, Evaluator},
    execute::{self, AttemptError, ExecuteError, Executor, Message},
    study::{Report, Trial, TrialId},
    text::causes,
};

/// An executor works if it is used correctly.
pub(crate) const RUNS: &str = "an executor works if it is used as documented";
/// The capacity is correct.
pub(crate) const CAPACITY: &str =
    "idle is the capacity minus the trials that were submitted and have not come back; then comes ExecuteError::Busy";
/// Every trial comes back once.
pub(crate) const ONCE: &str = "every submitted trial comes back exactly once";
/// The outcome is that of the evaluator.
pub(crate) const SAME: &str = "a trial comes back with the evaluator's own outcome, a panic as AttemptError::Panicked";
/// Cancelled trials come back.
pub(crate) const CANCELLED: &str =
    "after a cancellation every trial comes back, as EvalError::Cancelled or with its outcome";

type Outcome = Result<Report, AttemptError>;

/// Runs the trials and compares the outcomes with those of `evaluator`, which the executor must also use, in this
/// thread. Then submits them to a second executor of the same kind and cancels.
///
/// There must be at least as many trials as the capacity. The evaluator may panic, but must not crash the process.
/// `timeout` is the maximum time to wait for each message.
///
/// # Errors
/// [`LawBroken`] for the first law that does not hold.
pub fn check<X: Executor>(
    mut executor: impl FnMut() -> Result<X, ExecuteError>,
    evaluator: &dyn Evaluator,
    trials: &[Trial],
    timeout: Duration,
) -> Result<(), LawBroken> {
    let mut begun = || -> Result<X, LawBroken> {
        let mut executor = executor().map_err(broken)?;
        executor.begin(&evaluator.fingerprint()).map_err(broken)?;
        Ok(executor)
    };
    let back = run(&mut begun()?, trials, timeout)?;
    for trial in trials {
        let own = alone(evaluator, trial);
        let outcome = &back[&trial.id];
        let same = match (&own, outcome) {
            (Ok(own), Ok(outcome)) => own.same_outcome(outcome),
            (own, outcome) => own == outcome,
        };
        holds(same, SAME, || format!("{}: {outcome:?} instead of {own:?}", trial.id))?;
    }
    cancelled(&mut begun()?, trials, &back, timeout)
}

/// Runs all trials.
fn run(
    executor: &mut impl Executor,
    trials: &[Trial],
    timeout: Duration,
) -> Result<BTreeMap<TrialId, Outcome>, LawBroken> {
    let mut waiting = trials.iter();
    let mut back = BTreeMap::new();
    let mut running = 0;
    while back.len() < trials.len() {
        idle_is(executor, running)?;
        while executor.idle() > 0
            && let Some(trial) = waiting.next()
        {
            executor.submit(trial.clone()).map_err(broken)?;
            running += 1;
            idle_is(executor, running)?;
        }
        if executor.idle() == 0
            && let Some(trial) = trials.first()
        {
            let busy = executor.submit(trial.clone());
            holds(matches!(busy, Err(ExecuteError::Busy)), CAPACITY, || format!("{busy:?} with nothing idle"))?;
        }
        let (id, outcome) = next(executor, timeout)?;
        running -= 1;
        let again = back.insert(id, outcome).is_some() || !trials.iter().any(|trial| trial.id == id);
        holds(!again, ONCE, || format!("{id} came back again, or was never submitted"))?;
    }
    idle_is(executor, 0)?;
    let late = executor.recv(Duration::ZERO).map_err(broken)?;
    holds(!matches!(late, Some(Message::Done(..))), ONCE, || format!("{late:?} after all trials had come back"))?;
    Ok(back)
}

/// Submits as many trials as possible, cancels, and waits for them.
fn cancelled(
    executor: &mut impl Executor,
    trials: &[Trial],
    expected: &BTreeMap<TrialId, Outcome>,
    timeout: Duration,
) -> Result<(), LawBroken> {
    let submitted = executor.idle().min(trials.len());
    for trial in &trials[..submitted] {
        executor.submit(trial.clone()).map_err(broken)?;
    }
    executor.cancel();
    let mut out: BTreeSet<TrialId> = trials[..submitted].iter().map(|trial| trial.id).collect();
    while !out.is_empty() {
        let (id, outcome) = next(executor, timeout)?;
        holds(out.remove(&id), CANCELLED, || format!("{id} came back again, or was never submitted"))?;
        let same = match (&outcome, expected.get(&id)) {
            (Err(AttemptError::Evaluator(EvalError::Cancelled)), _) => true,
            (Ok(outcome), Some(Ok(expected))) => outcome.same_outcome(expected),
            (outcome, expected) => Some(outcome) == expected,
        };
        holds(same, CANCELLED, || format!("{id}: {outcome:?}"))?;
    }
    idle_is(executor, 0)
}

fn idle_is(executor: &impl Executor, running: usize) -> Result<(), LawBroken> {
    let capacity = executor.capacity();
    let idle = executor.idle();
    holds(capacity > 0 && idle + running == capacity, CAPACITY, || {
        format!("{idle} of {capacity} idle, {running} running")
    })
}

/// Returns the next trial that comes back.
fn next(executor: &mut impl Executor, timeout: Duration) -> Result<(TrialId, Outcome), LawBroken> {
    let end = Instant::now() + timeout;
    loop {
        match executor.recv(end.saturating_duration_since(Instant::now())).map_err(broken)? {
            Some(Message::Done(id, outcome)) => return Ok((id, outcome)),
            Some(Message::Location(..) | Message::Progress(..) | Message::Notice(_)) => {}
            None => holds(Instant::now() < end, ONCE, || format!("nothing came back within {timeout:?}"))?,
        }
    }
}

/// Evaluates the trial in this thread.
fn alone(evaluator: &dyn Evaluator, trial: &Trial) -> Outcome {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let pool = pool.map_err(|error| EvalError::Fatal(error.to_string()))?;
    let context = Context::default().threshold(trial.threshold.clone());
    pool.install(|| execute::evaluate(evaluator, trial, &context))
}

fn broken(error: ExecuteError) -> LawBroken {
    LawBroken::new(RUNS, causes(&error))
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, sync::Arc};

    use super::*;
    use crate::{
        evaluate::{Progress, from_fn},
        execute::Threads,
        seed::Seed,
        study::{Origin, Threshold},
    };

    const TIMEOUT: Duration = Duration::from_secs(60);

    fn evaluator() -> impl Evaluator + Clone {
        from_fn("test", |trial: &Trial, context: &Context| match trial.id.0 {
            1 => panic!("a defect"),
            2 => Err(EvalError::Infeasible("too wide".into())),
            id => {
                context.progress(Progress { step: 1, steps: 2, value: Some(0.1), ..Progress::default() });
                if context.cancelled() { Err(EvalError::Cancelled) } else { Ok(Report::score("accuracy", id as f64)) }
            }
        })
    }

    fn trials() -> Vec<Trial> {
        let trial = |id| Trial::new(TrialId(id), "AM".parse().unwrap(), Seed(id), Origin::Searcher);
        let stopped = Trial { threshold: Threshold::new([(0, 0.2)]), ..trial(4) };
        (0..4).map(trial).chain([stopped]).collect()
    }

    #[test]
    fn threads_keep_the_law() {
        check(|| Threads::new(Arc::new(evaluator()), 2), &evaluator(), &trials(), TIMEOUT).unwrap();
    }

    /// Evaluates when it is polled, with a flaw.
    struct Flawed {
        flaw: &'static str,
        trials: VecDeque<Trial>,
    }

    impl Executor for Flawed {
        fn capacity(&self) -> usize {
            2
        }
        fn idle(&self) -> usize {
            if self.flaw == CAPACITY { 2 } else { 2 - self.trials.len() }
        }
        fn submit(&mut self, trial: Trial) -> Result<(), ExecuteError> {
            if self.trials.len() == 2 {
                return Err(ExecuteError::Busy);
            }
            self.trials.push_back(trial);
            Ok(())
        }
        fn recv(&mut self, _: Duration) -> Result<Option<Message>, ExecuteError> {
            let Some(trial) = self.trials.pop_front() else { return Ok(None) };
            let id = if self.flaw == ONCE { TrialId(0) } else { trial.id };
            let score =
                if self.flaw == SAME { Ok(Report::score("accuracy", -1.0)) } else { alone(&evaluator(), &trial) };
            Ok(Some(Message::Done(id, score)))
        }
        fn cancel(&mut self) {
            if self.flaw == CANCELLED {
                self.trials.iter_mut().for_each(|trial| trial.id = TrialId(3));
            }
        }
    }

    #[test]
    fn every_breach_is_caught() {
        let law = |flaw| {
            let make = || Ok(Flawed { flaw, trials: VecDeque::new() });
            check(make, &evaluator(), &trials(), Duration::from_millis(10)).err().map(|broken| broken.law)
        };
        assert_eq!(law(""), None);
        assert_eq!([CAPACITY, ONCE, SAME, CANCELLED].map(law), [CAPACITY, ONCE, SAME, CANCELLED].map(Some));
    }
}
