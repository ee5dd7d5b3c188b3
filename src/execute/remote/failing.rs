//! How long something has failed.

use std::time::{Duration, Instant};

/// Since when something fails without a break.
#[derive(Debug, Default)]
pub(super) struct Failing(Option<Instant>);

impl Failing {
    /// It fails now: for how long it has.
    pub(super) fn again(&mut self) -> Duration {
        self.0.get_or_insert_with(Instant::now).elapsed()
    }

    /// It works.
    pub(super) fn ends(&mut self) {
        self.0 = None;
    }
}
