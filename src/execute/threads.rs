//! Trials on threads of this process.

use std::{
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use super::{ExecuteError, Executor, Message, at_most, attempt::evaluate};
use crate::{
    evaluate::{CancelToken, Context, Evaluator},
    study::Trial,
};

/// Runs each trial on a worker thread.
///
/// Every worker has its own rayon pool, so `workers` trainings use `workers` cores and do not disturb each other.
/// Dropping the executor cancels running trials without waiting for them.
#[derive(Debug)]
pub struct Threads {
    workers: usize,
    running: usize,
    cancel: CancelToken,
    trials: mpsc::Sender<Trial>,
    messages: mpsc::Receiver<Message>,
}

impl Threads {
    /// The maximum number of computing threads of all workers together.
    pub const MOST: usize = 512;

    /// Starts `workers` workers with one computing thread each.
    ///
    /// # Errors
    /// [`ExecuteError`] if `workers` is 0 or above [`MOST`](Self::MOST), or if a thread cannot be started.
    pub fn new(evaluator: Arc<dyn Evaluator>, workers: usize) -> Result<Self, ExecuteError> {
        Self::with_threads_per_worker(evaluator, workers, 1)
    }

    /// Starts `workers` workers with `threads` computing threads each. More than one thread only helps models with
    /// large matrix products.
    ///
    /// # Errors
    /// [`ExecuteError`] if `workers` or `threads` is 0, if there are more than [`MOST`](Self::MOST) threads in total,
    /// or if a thread cannot be started.
    pub fn with_threads_per_worker(
        evaluator: Arc<dyn Evaluator>,
        workers: usize,
        threads: usize,
    ) -> Result<Self, ExecuteError> {
        at_most(workers.saturating_mul(threads), Self::MOST, "computing threads in one process")?;
        let (trials, queue) = mpsc::channel();
        let (sender, messages) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        let cancel = CancelToken::default();
        for number in 0..workers {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .thread_name(move |thread| format!("trial-{number}-{thread}"))
                .build()
                .map_err(|error| ExecuteError::Worker(error.to_string()))?;
            let worker = Worker {
                evaluator: evaluator.clone(),
                queue: queue.clone(),
                messages: sender.clone(),
                cancel: cancel.clone(),
            };
            thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || worker.run(&pool))
                .map_err(|error| ExecuteError::Worker(error.to_string()))?;
        }
        Ok(Self { workers, running: 0, cancel, trials, messages })
    }
}

impl Executor for Threads {
    fn capacity(&self) -> usize {
        self.workers
    }

    fn idle(&self) -> usize {
        self.workers - self.running
    }

    fn submit(&mut self, trial: Trial) -> Result<(), ExecuteError> {
        if self.idle() == 0 {
            return Err(ExecuteError::Busy);
        }
        self.trials.send(trial).map_err(|_| gone())?;
        self.running += 1;
        Ok(())
    }

    fn recv(&mut self, timeout: Duration) -> Result<Option<Message>, ExecuteError> {
        match self.messages.recv_timeout(timeout) {
            Ok(message) => {
                self.running -= usize::from(matches!(message, Message::Done(..)));
                Ok(Some(message))
            }
            Err(mpsc::RecvTimeoutError::Timeout) => Ok(None),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(gone()),
        }
    }

    fn cancel(&mut self) {
        self.cancel.cancel();
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

fn gone() -> ExecuteError {
    ExecuteError::Worker("all worker threads have ended".into())
}

struct Worker {
    evaluator: Arc<dyn Evaluator>,
    queue: Arc<Mutex<mpsc::Receiver<Trial>>>,
    messages: mpsc::Sender<Message>,
    cancel: CancelToken,
}

impl Worker {
    /// Evaluates trials until the executor is dropped.
    fn run(self, pool: &rayon::ThreadPool) {
        while let Some(trial) = self.next() {
            let id = trial.id;
            let messages = self.messages.clone();
            let context = Context::new(self.cancel.clone(), move |progress| {
                // Sending fails once the executor is dropped.
                let _ = messages.send(Message::Progress(id, progress));
            });
            let context = context.threshold(trial.threshold.clone());
            let outcome = pool.install(|| evaluate(&*self.evaluator, &trial, &context));
            if self.messages.send(Message::Done(id, outcome)).is_err() {
                return;
            }
        }
    }

    fn next(&self) -> Option<Trial> {
        // Cannot be poisoned: nothing panics while the lock is held.
        self.queue.lock().ok()?.recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        evaluate::{EvalError, from_fn},
        execute::AttemptError,
        seed::Seed,
        study::{Origin, Report, TrialId},
    };

    fn trial(id: u64) -> Trial {
        Trial::new(TrialId(id), "AM".parse().unwrap(), Seed(id), Origin::Searcher)
    }

    fn outcome(executor: &mut Threads) -> (TrialId, Result<Report, AttemptError>) {
        loop {
            match executor.recv(Duration::from_secs(60)).unwrap().unwrap() {
                Message::Done(id, outcome) => return (id, outcome),
                Message::Progress(..) | Message::Location(..) | Message::Notice(_) => {}
            }
        }
    }

    #[test]
    fn panics_come_back_as_errors_and_the_worker_lives_on() {
        let evaluator = from_fn("test", |trial, _| match trial.id.0 {
            0 => panic!("out of {}", "luck"),
            id => Ok(Report::score("accuracy", id as f64)),
        });
        let mut executor = Threads::new(Arc::new(evaluator), 1).unwrap();
        executor.submit(trial(0)).unwrap();
        assert!(matches!(executor.submit(trial(1)), Err(ExecuteError::Busy)));
        assert_eq!(outcome(&mut executor), (TrialId(0), Err(AttemptError::Panicked("out of luck".into()))));
        executor.submit(trial(1)).unwrap();
        assert_eq!(outcome(&mut executor).1.unwrap().scores["accuracy"], 1.0);
    }

    #[test]
    fn each_worker_computes_with_its_own_threads() {
        let evaluator = from_fn("test", |_, _| Ok(Report::score("threads", rayon::current_num_threads() as f64)));
        for threads in [1, 2] {
            let mut executor = Threads::with_threads_per_worker(Arc::new(evaluator), 2, threads).unwrap();
            for id in 0..2 {
                executor.submit(trial(id)).unwrap();
            }
            for _ in 0..2 {
                assert_eq!(outcome(&mut executor).1.unwrap().scores["threads"], threads as f64);
            }
        }
        assert!(matches!(Threads::new(Arc::new(evaluator), 0), Err(ExecuteError::NoWorkers)));
    }

    #[test]
    fn running_trials_hear_of_a_cancellation() {
        let evaluator = from_fn("test", |_, context| {
            while !context.cancelled() {
                thread::yield_now();
            }
            Err(EvalError::Cancelled)
        });
        let mut executor = Threads::new(Arc::new(evaluator), 1).unwrap();
        executor.submit(trial(0)).unwrap();
        executor.cancel();
        assert_eq!(outcome(&mut executor).1, Err(EvalError::Cancelled.into()));
    }
}
