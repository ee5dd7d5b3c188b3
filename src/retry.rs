//! Trying again what may pass: a full disk, a folder that is away, a machine without a free process.

use std::{
    collections::BTreeSet,
    ops::ControlFlow,
    thread,
    time::{Duration, Instant},
};

/// Makes attempts until one breaks, with `pause` between two of them and for as long as `patience`. An attempt that
/// continues has failed and may be made again; the last one is made when the patience has ended.
///
/// # Errors
/// What the last attempt continued with.
pub(crate) fn retry<T, E>(
    patience: Duration,
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
        if waited >= patience {
            return Err(error);
        }
        thread::sleep(pause.min(patience - waited));
    }
}

/// Since when something fails without a break, and why: for loops that have more to do than to wait for it.
#[derive(Debug, Default)]
pub(crate) struct Failing {
    since: Option<Instant>,
    told: BTreeSet<String>,
}

impl Failing {
    /// It fails now: for how long it has.
    pub fn again(&mut self) -> Duration {
        self.since.get_or_insert_with(Instant::now).elapsed()
    }

    /// Whether this reason was not told yet: each is told once until it works.
    pub fn is_news(&mut self, reason: &str) -> bool {
        self.told.insert(reason.into())
    }

    /// It works.
    pub fn ends(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An attempt that fails so many times, then succeeds.
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
        // Without patience there is one attempt.
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
