//! Learning rate schedules.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use super::TrainError;
use crate::limits::LimitError;

/// The largest peak: far above any useful rate, and small enough that no step of a warm-up overflows.
const MAX_RATE: f64 = 1e100;

/// A learning rate schedule: linear warm-up to `peak`, then a decay to `floor` along a curve given by [`Decay`].
///
/// ```
/// use composer_nas::train::LrSchedule;
/// let schedule = LrSchedule { warmup_steps: 4, ..LrSchedule::cosine(4e-3, 1e-3, 104) };
/// assert_eq!(schedule.at(0), 1e-3);
/// assert_eq!(schedule.at(4), 4e-3);
/// assert_eq!(schedule.at(54), 2.5e-3);
/// assert_eq!(schedule.at(104), 1e-3);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LrSchedule {
    /// The learning rate after the warm-up.
    pub peak: f64,
    /// The final learning rate. Set it to `peak` for a constant rate.
    pub floor: f64,
    /// The number of warm-up steps. Step `t` of the warm-up uses `peak * (t + 1) / warmup_steps`.
    pub warmup_steps: usize,
    /// The step, counted from 0, at which the rate reaches `floor`.
    pub total_steps: usize,
    /// Steps between changes of the rate: 1, or the number of steps per epoch for a schedule that changes once per
    /// epoch.
    pub interval: usize,
    /// The shape of the decay.
    #[serde(default, skip_serializing_if = "Decay::is_cosine")]
    pub decay: Decay,
}

/// The shape of the decay from the peak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Decay {
    /// Cosine decay from the end of the warm-up (Loshchilov and Hutter 2017, arXiv 1608.03983, without restarts).
    #[default]
    Cosine,
    /// Linear decay over this many final steps, after a plateau at the peak. This is the warmup-stable-decay schedule
    /// of Hu et al. 2024 (arXiv 2404.06395); Hägele et al. 2024 (arXiv 2405.18392) compare its linear form with others.
    Last(usize),
}

impl Decay {
    // Omitted from files if it is the default, so that the content of existing files does not change.
    fn is_cosine(&self) -> bool {
        *self == Self::Cosine
    }
}

impl LrSchedule {
    /// Creates a schedule with the same rate at every step.
    pub fn constant(rate: f64) -> Self {
        Self { peak: rate, floor: rate, warmup_steps: 0, total_steps: 1, interval: 1, decay: Decay::Cosine }
    }

    /// Creates a cosine schedule from `peak` at the first step to `floor` at `total_steps`, without warm-up.
    pub fn cosine(peak: f64, floor: f64, total_steps: usize) -> Self {
        Self { peak, floor, warmup_steps: 0, total_steps, interval: 1, decay: Decay::Cosine }
    }

    /// Returns the learning rate of step `step`, counted from 0.
    pub fn at(&self, step: usize) -> f64 {
        let step = step - step % self.interval.max(1);
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let from = match self.decay {
            Decay::Cosine => self.warmup_steps,
            Decay::Last(steps) => self.total_steps.saturating_sub(steps).max(self.warmup_steps),
        };
        let span = self.total_steps.saturating_sub(from).max(1);
        let progress = (step.saturating_sub(from) as f64 / span as f64).min(1.0);
        let height = match self.decay {
            Decay::Cosine => 0.5 + 0.5 * (PI * progress).cos(),
            Decay::Last(_) => 1.0 - progress,
        };
        self.floor + (self.peak - self.floor) * height
    }

    /// Checks the rates and the step counts.
    ///
    /// # Errors
    /// Returns a [`TrainError`] that names the first invalid setting.
    pub(crate) fn validate(&self) -> Result<(), TrainError> {
        if !(self.peak.is_finite() && self.peak > 0.0) {
            return Err(TrainError::NotPositive { name: "schedule.peak", value: self.peak });
        }
        if self.peak > MAX_RATE {
            let what = "schedule.peak";
            let value = self.peak;
            let limit = MAX_RATE;
            return Err(LimitError::Work { what, value, limit }.into());
        }
        if !(0.0..=self.peak).contains(&self.floor) {
            return Err(TrainError::Floor { floor: self.floor, peak: self.peak });
        }
        for (name, value) in [("schedule.total_steps", self.total_steps), ("schedule.interval", self.interval)] {
            if value == 0 {
                return Err(TrainError::Zero(name));
            }
        }
        if self.warmup_steps > self.total_steps {
            return Err(TrainError::Warmup { warmup_steps: self.warmup_steps, total_steps: self.total_steps });
        }
        if let Decay::Last(decay_steps) = self.decay
            && (decay_steps == 0 || decay_steps > self.total_steps - self.warmup_steps)
        {
            let Self { warmup_steps, total_steps, .. } = *self;
            return Err(TrainError::Decay { decay_steps, warmup_steps, total_steps });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_steps_once_per_epoch_as_the_reference_does() {
        // torch's CosineAnnealingLR(T_max=200, eta_min=1e-6) at epoch e, 100 steps per epoch.
        let schedule = LrSchedule { interval: 100, ..LrSchedule::cosine(1e-3, 1e-6, 20_000) };
        for (epoch, step) in [(0, 99), (1, 100), (57, 5_742), (199, 19_999)] {
            let torch = 1e-6 + (1e-3 - 1e-6) * (1.0 + (PI * f64::from(epoch) / 200.0).cos()) / 2.0;
            assert!((schedule.at(step) - torch).abs() < 1e-18, "{step}");
        }
        assert_eq!(schedule.at(1_000_000), 1e-6);
    }

    #[test]
    fn warmup_is_linear_and_never_zero() {
        let schedule = LrSchedule { warmup_steps: 10, ..LrSchedule::cosine(1.0, 0.25, 20) };
        let rates: Vec<f64> = (0..10).map(|step| schedule.at(step)).collect();
        assert_eq!(rates, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]);
        assert_eq!([10, 15, 20, 21].map(|step| schedule.at(step)), [1.0, 0.625, 0.25, 0.25]);
        assert_eq!([0, 7].map(|step| LrSchedule::constant(0.5).at(step)), [0.5, 0.5]);
        let only_warmup = LrSchedule { warmup_steps: 4, ..LrSchedule::cosine(1.0, 0.0, 4) };
        assert_eq!([3, 4, 5].map(|step| only_warmup.at(step)), [1.0, 1.0, 0.0]);
    }

    #[test]
    fn a_plateau_ends_in_a_straight_line() {
        let schedule = LrSchedule { warmup_steps: 2, decay: Decay::Last(4), ..LrSchedule::cosine(1.0, 0.2, 10) };
        let rates = [0, 1, 2, 5, 6, 7, 8, 9, 10, 99].map(|step| schedule.at(step));
        for (rate, want) in rates.into_iter().zip([0.5, 1.0, 1.0, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2, 0.2]) {
            assert!((rate - want).abs() < 1e-12, "{rates:?}");
        }
        assert!(schedule.validate().is_ok());
        for steps in [0, 9] {
            let schedule = LrSchedule { decay: Decay::Last(steps), ..schedule };
            assert!(matches!(schedule.validate(), Err(TrainError::Decay { .. })), "{steps}");
        }
        let text = serde_json::to_string(&schedule).unwrap();
        assert_eq!(serde_json::from_str::<LrSchedule>(&text).unwrap(), schedule);
        let cosine = serde_json::to_string(&LrSchedule::constant(1.0)).unwrap();
        assert!(!cosine.contains("decay"), "{cosine}");
    }

    #[test]
    fn schedules_that_cannot_be_are_refused() {
        let good = LrSchedule::cosine(1e-3, 1e-6, 100);
        assert!(good.validate().is_ok());
        assert!(matches!(LrSchedule { peak: 1e308, ..good }.validate(), Err(TrainError::Limit(_))));
        for peak in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(LrSchedule { peak, ..good }.validate(), Err(TrainError::NotPositive { .. })));
        }
        for floor in [-1e-9, 2e-3, f64::NAN] {
            assert!(matches!(LrSchedule { floor, ..good }.validate(), Err(TrainError::Floor { .. })));
        }
        assert!(matches!(LrSchedule { interval: 0, ..good }.validate(), Err(TrainError::Zero("schedule.interval"))));
        assert!(matches!(LrSchedule { warmup_steps: 101, ..good }.validate(), Err(TrainError::Warmup { .. })));
    }
}
