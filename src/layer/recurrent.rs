//! What the recurrent layers share: the decoding state and the distribution of the step sizes.

use burn::tensor::Tensor;

use super::LayerState;
use crate::kernels::ConvWindow;

/// The window of the short convolution and the state of the recurrence.
#[derive(Clone, Debug)]
pub(super) struct RecurrentState {
    pub window: ConvWindow,
    /// The state of the recurrence: `[B, H, N, P]`.
    pub state: Tensor<4>,
}

impl LayerState for RecurrentState {
    fn elements(&self) -> usize {
        self.window.elements() + self.state.shape().num_elements()
    }
}

/// Returns a bias whose softplus is a step size between 0.001 and 0.1. The step size is log-uniform if `unit` is
/// uniform on [0, 1), as in the reference implementation of Mamba-2.
pub(super) fn dt_bias(unit: f64) -> f64 {
    const RANGE: [f64; 2] = [1e-3, 1e-1];
    let dt = RANGE[0] * (RANGE[1] / RANGE[0]).powf(unit);
    // The inverse of `ln(1 + e^x)`.
    dt + (-(-dt).exp_m1()).ln()
}
