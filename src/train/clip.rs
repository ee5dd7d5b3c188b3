//! Gradient clipping by the global norm.

use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::Tensor,
};

use crate::{device, kernels};

/// Avoids a division by zero, as in PyTorch.
const EPSILON: f64 = 1e-6;

/// Scales all gradients of `module` by `min(1, max_norm / (norm + 1e-6))`, where `norm` is the Euclidean norm of all
/// gradients together, as PyTorch's `clip_grad_norm_` does.
///
/// Returns `norm` before clipping (one element), or `None` if no parameter has a gradient. If `max_norm` is `None`, the
/// gradients are not changed. Does not wait for the device.
pub fn clip_global_norm<M: Module>(
    module: &M,
    gradients: &mut GradientsParams,
    max_norm: Option<f64>,
) -> Option<Tensor<1>> {
    let norm = global_norm(module, gradients, 1)?;
    if let Some(max_norm) = max_norm {
        let factor = clipping_factor(&norm, max_norm);
        module.visit(&mut Scale { gradients, factor });
    }
    Some(norm)
}

/// Returns the Euclidean norm of all gradients together for each of `R` (`members`) networks whose parameters lie one
/// after the other: `[R]`, or `None` if there are no gradients.
pub(super) fn global_norm<M: Module>(module: &M, gradients: &GradientsParams, members: usize) -> Option<Tensor<1>> {
    let mut squares = SquaredNorms { gradients, members, sums: Vec::new(), elsewhere: Vec::new() };
    module.visit(&mut squares);
    let SquaredNorms { mut sums, elsewhere, .. } = squares;
    sums.extend(kernels::sum_of_squares_together(elsewhere, members).map(|sum| sum.reshape([members, 1])));
    let sum = if sums.len() > 1 { Tensor::cat(sums, 1).sum_dim(1) } else { sums.pop()? };
    Some(sum.reshape([members]).sqrt())
}

/// Returns the factors by which gradients of these norms are clipped, one per norm.
pub(super) fn clipping_factor(norm: &Tensor<1>, max_norm: f64) -> Tensor<1> {
    (norm.clone() + EPSILON).recip().mul_scalar(max_norm).clamp_max(1.0)
}

/// Collects the sum of squares of every gradient on a processor, and the gradients on accelerators, whose squares are
/// summed together.
struct SquaredNorms<'a> {
    gradients: &'a GradientsParams,
    members: usize,
    /// One element per member: `[R, 1]` each.
    sums: Vec<Tensor<2>>,
    /// Flattened.
    elsewhere: Vec<Tensor<1>>,
}

impl ModuleVisitor for SquaredNorms<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(gradient) = self.gradients.get::<D>(param.id) else { return };
        if device::is_accelerator(&gradient.device()) {
            self.elsewhere.push(gradient.flatten(0, D - 1));
        } else {
            self.sums.push(kernels::sum_of_squares(gradient, self.members).reshape([self.members, 1]));
        }
    }
}

/// Multiplies every gradient by one factor.
struct Scale<'a> {
    gradients: &'a mut GradientsParams,
    factor: Tensor<1>,
}

impl ModuleVisitor for Scale<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            self.gradients.register(param.id, kernels::scale(gradient, &self.factor));
        }
    }
}
