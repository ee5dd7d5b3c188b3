//! Losses and gradient norms between two readings.

use burn::tensor::Tensor;

use super::{DivergedQuantity, TrainError};

/// Sums since the last reading, kept on the device, for one network or for each member of an ensemble. Once a step
/// diverges, every later sum shows it.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// The sums of the losses and of the gradient norms of `R` networks: `[2 R]`.
    sums: Option<Tensor<1>>,
    steps: usize,
}

/// The sums of one network over a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct WindowSums {
    pub loss: f64,
    pub gradient_norm: f64,
    pub steps: usize,
}

impl Window {
    /// Adds the losses and the gradient norms of a step, one per network. `[R]`.
    pub fn add(&mut self, losses: Tensor<1>, gradient_norms: Option<Tensor<1>>) {
        let gradient_norms = gradient_norms.unwrap_or_else(|| losses.zeros_like());
        let step = Tensor::cat(vec![losses, gradient_norms], 0);
        self.sums = Some(match self.sums.take() {
            Some(sums) => sums + step,
            None => step,
        });
        self.steps += 1;
    }

    /// Reads the sums, one per network, and begins a new window. Waits for the device.
    pub fn take(&mut self) -> Result<Vec<WindowSums>, TrainError> {
        let sums = self.sums.take().map(|sums| sums.try_into_vec_as::<f32>()).transpose()?.unwrap_or_default();
        let steps = std::mem::take(&mut self.steps);
        let (losses, norms) = sums.split_at(sums.len() / 2);
        let networks = losses.iter().zip(norms);
        Ok(networks.map(|(&loss, &norm)| WindowSums { loss: loss.into(), gradient_norm: norm.into(), steps }).collect())
    }
}

impl WindowSums {
    /// Returns the mean loss and the mean gradient norm.
    pub fn means(self) -> [f64; 2] {
        let count = self.steps.max(1) as f64;
        [self.loss / count, self.gradient_norm / count]
    }

    /// Returns what is infinite or NaN, if anything is.
    pub fn diverged(self) -> Option<DivergedQuantity> {
        if !self.loss.is_finite() {
            Some(DivergedQuantity::Loss)
        } else if !self.gradient_norm.is_finite() {
            Some(DivergedQuantity::GradientNorm)
        } else {
            None
        }
    }
}
