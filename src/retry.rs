//! Retries of operations that may fail temporarily, because of a full disk, a missing folder or a process limit.

use std::{
    collections::BTreeSet,
    ops::ControlFlow,
    thread,
    time::{Duration, Instant},
};

/// Repeats `attempt` until it breaks or `timeout` has passed, with `pause` between attempts.
///
/// An attempt that returns [`ControlFlow::Continue`] has failed and may be repeated. The last attempt is made when
/// `timeout` has passed.
///
/// # Errors
/// Returns the error of the last attempt.
pub(crate) fn retry<T, E>(
    timeout: Duration,
    pause: Duration,
    mut attempt: impl FnMut() -> ControlFlow<T, E>,
) -> Result<T, E> {
    let start = Instant::now();
    loop {
        let error = match attempt() {
            ControlFlow::Break(value) => return Ok(value),
            ControlFlow::Continue(error) => error,
        };
        let waited = start.elapsed();
        if waited >= timeout {
            return Err(error);
        }
        thread::sleep(pause.min(timeout - waited));
    }
}

/// The time since which an operation has failed without interruption, and the reasons already reported.
#[derive(Debug, Default)]
pub(crate) struct Failing {
    since: Option<Instant>,
    told: BTreeSet<String>,
}

impl Failing {
    /// Records a failure and returns how long the operation has been failing.
    pub fn again(&mut self) -> Duration {
        self.since.get_or_insert_with(Instant::now).elapsed()
    }

    /// Returns whether this reason has not been reported yet. Each reason is reported once until the operation
    /// succeeds.
    pub fn is_news(&mut self, reason: &str) -> bool {
        self.told.insert(reason.into())
    }

    /// Records a success.
    pub fn ends(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An operation that fails `times` times, then succeeds.
    fn failing(times: u32) -> impl FnMut() -> ControlFlow<u32, u32> {
        let mut attempts = 0;
        move || {
            attempts += 1;
            if attempts > times { ControlFlow::Break(attempts) } else { ControlFlow::Continue(attempts) }
        }
    }

    #[test]
    fn what_passes_is_waited_for_and_what_stays_is_told() {
        let pause = Duration::from_millis(1);
        assert_eq!(retry(Duration::MAX, pause, failing(3)), Ok(4));
        // With a timeout of zero there is one attempt.
        assert_eq!(retry(Duration::ZERO, pause, failing(3)), Err(1));
        assert!(retry(5 * pause, pause, failing(u32::MAX)).unwrap_err() > 1);
    }

    #[test]
    fn a_reason_is_told_once_until_it_works() {
        let mut failing = Failing::default();
        assert!(failing.is_news("full") && !failing.is_news("full") && failing.is_news("away"));
        failing.ends();
        assert!(failing.is_news("full"));
    }
}
