//! How long something has failed.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// Since when something fails without a break, and why.
#[derive(Debug, Default)]
pub(super) struct Failing {
    since: Option<Instant>,
    told: BTreeSet<String>,
}

impl Failing {
    /// It fails now: for how long it has.
    pub(super) fn again(&mut self) -> Duration {
        self.since.get_or_insert_with(Instant::now).elapsed()
    }

    /// Whether this reason was not told yet: each is told once until it works.
    pub(super) fn is_news(&mut self, reason: &str) -> bool {
        self.told.insert(reason.into())
    }

    /// It works.
    pub(super) fn ends(&mut self) {
        *self = Self::default();
    }
}
