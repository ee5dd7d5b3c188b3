//! Root-mean-square normalization with a gate.

use burn::tensor::{DType, Tensor};

use super::swiglu::silu;

/// Where the gate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// `norm(x * silu(z))`, as in Mamba-2.
    BeforeNorm,
    /// `norm(x) * silu(z)`, as in gated DeltaNet.
    AfterNorm,
}

/// The RMS norm of groups of neighbouring channels (Zhang and Sennrich 2019, arXiv 1910.07467), with the gate `silu(z)` before
/// or behind it. Weights are for all channels or, where there are fewer, for the channels of each group alike. The norm is
/// taken in 32 bits.
///
/// # Shapes
/// `x` and `z`: `[B, S, C]`, `gamma`: `[C]` or `[width]`, to `[B, S, C]`; groups are `width` channels wide.
pub fn gated_norm(x: Tensor<3>, z: Tensor<3>, gamma: Tensor<1>, gate: Gate, width: usize, epsilon: f64) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if let Some(y) = kernel(&x, &z, &gamma, gate, width, epsilon) {
        return y;
    }
    composed(x, z, gamma, gate, width, epsilon)
}

#[cfg(feature = "flex")]
fn kernel(
    x: &Tensor<3>,
    z: &Tensor<3>,
    gamma: &Tensor<1>,
    gate: Gate,
    width: usize,
    epsilon: f64,
) -> Option<Tensor<3>> {
    use super::flex::{GatedNorm, apply, input};

    let (shape, [weights]) = (x.dims(), gamma.dims());
    let fits = z.dims() == shape && (weights == width || weights == shape[2]);
    if !fits || shape.contains(&0) || width == 0 || !shape[2].is_multiple_of(width) {
        return None;
    }
    let kernel = GatedNorm { width, gate, epsilon: epsilon as f32 };
    Some(apply(kernel, [input(x)?, input(z)?, input(gamma)?], shape))
}

fn composed(x: Tensor<3>, z: Tensor<3>, gamma: Tensor<1>, gate: Gate, width: usize, epsilon: f64) -> Tensor<3> {
    let ([batch, seq, channels], [weights], precision) = (x.dims(), gamma.dims(), x.dtype());
    let gate_values = silu(z);
    let x = match gate {
        Gate::BeforeNorm => x * gate_values.clone(),
        Gate::AfterNorm => x,
    };
    let groups: Tensor<4> = x.cast(DType::F32).reshape([batch, seq, channels / width, width]);
    let mean_square = (groups.clone() * groups.clone()).mean_dim(3);
    let normal = groups * (mean_square + epsilon).sqrt().recip();
    let scaled = normal.cast(precision) * gamma.reshape([1, 1, weights / width, width]);
    let y = scaled.reshape([batch, seq, channels]);
    match gate {
        Gate::BeforeNorm => y,
        Gate::AfterNorm => y * gate_values,
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::kernels::testing::{Case, check, lift, lower};

    /// Straight from the definition, with Burn's own operations.
    fn plain(x: Tensor<3>, z: Tensor<3>, gamma: Tensor<1>, gate: Gate, width: usize, epsilon: f64) -> Tensor<3> {
        let ([batch, seq, channels], [weights]) = (x.dims(), gamma.dims());
        let gate_values = burn::tensor::activation::silu(z);
        let norm = |x: Tensor<3>| {
            let x: Tensor<4> = x.reshape([batch, seq, channels / width, width]);
            let y = x.clone() / (x.square().mean_dim(3) + epsilon).sqrt();
            (y * gamma.reshape([1, 1, weights / width, width])).reshape([batch, seq, channels])
        };
        match gate {
            Gate::BeforeNorm => norm(x * gate_values),
            Gate::AfterNorm => norm(x) * gate_values,
        }
    }

    #[test]
    fn both_forms_have_the_value_and_the_gradients_of_the_definition() {
        let forms =
            [|x, z, gamma, gate, width, epsilon| kernel(&x, &z, &gamma, gate, width, epsilon).unwrap(), composed];
        for (shape, width, weights) in
            [([1, 1, 1], 1, 1), ([2, 3, 6], 3, 6), ([2, 5, 40], 20, 20), ([1, 4, 33], 33, 33)]
        {
            for (gate, scale) in
                [(Gate::BeforeNorm, 1.0), (Gate::AfterNorm, 1.0), (Gate::BeforeNorm, 6.0), (Gate::AfterNorm, 6.0)]
            {
                let shapes = [shape.to_vec(), shape.to_vec(), vec![weights]];
                type Form = fn(Tensor<3>, Tensor<3>, Tensor<1>, Gate, usize, f64) -> Tensor<3>;
                let run = |form: Form, t: &[Tensor<1>]| {
                    lower(form(lift(&t[0], shape), lift(&t[1], shape), t[2].clone(), gate, width, 1e-2))
                };
                for form in forms {
                    check(Case { shapes: &shapes, scale, tolerance: 2e-5 }, &|t| run(form, t), &|t| run(plain, t));
                }
            }
        }
    }
}
