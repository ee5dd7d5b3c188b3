//! What the recurrent layers share: what they remember, and the law of their step sizes.

use burn::tensor::Tensor;

use super::LayerState;
use crate::kernels::ConvWindow;

/// The inputs that a short convolution still sees, and the state of a recurrence.
#[derive(Clone, Debug)]
pub(super) struct RecurrentState {
    pub window: ConvWindow,
    /// `[B, H, N, P]`.
    pub state: Tensor<4>,
}

impl LayerState for RecurrentState {
    fn elements(&self) -> usize {
        self.window.elements() + self.state.shape().num_elements()
    }
}

/// The bias whose softplus is a step size that is log-uniform between 0.001 and 0.1, as in the paper's code.
pub(super) fn step_bias(unit: f64) -> f64 {
    const RANGE: [f64; 2] = [1e-3, 1e-1];
    let dt = RANGE[0] * (RANGE[1] / RANGE[0]).powf(unit);
    // The inverse of ln(1 + e^x).
    dt + (-(-dt).exp_m1()).ln()
}
