//! Root-mean-square normalization with a gate.

use burn::tensor::{DType, Tensor};

use super::{Gate, GatedNorm, swiglu::silu};

impl GatedNorm {
    /// Normalizes and gates `x`. `gamma` has one weight per channel, or one per channel of a group, shared by all
    /// groups.
    ///
    /// # Shapes
    /// `x` and `z`: `[B, S, C]`, `gamma`: `[C]` or `[width]`, to `[B, S, C]`.
    pub fn forward(&self, x: Tensor<3>, z: Tensor<3>, gamma: Tensor<1>) -> Tensor<3> {
        #[cfg(feature = "flex")]
        if let Some(y) = self.kernel(&x, &z, &gamma) {
            return y;
        }
        self.compose(x, z, gamma)
    }

    #[cfg(feature = "flex")]
    fn kernel(&self, x: &Tensor<3>, z: &Tensor<3>, gamma: &Tensor<1>) -> Option<Tensor<3>> {
        use super::flex::{GatedNormKernel, apply, input};

        let shape = x.dims();
        let [weights] = gamma.dims();
        let width = self.width;
        let fits = z.dims() == shape && (weights == width || weights == shape[2]);
        if !fits || shape.contains(&0) || width == 0 || !shape[2].is_multiple_of(width) {
            return None;
        }
        Some(apply(GatedNormKernel(*self), [input(x)?, input(z)?, input(gamma)?], shape))
    }

    fn compose(&self, x: Tensor<3>, z: Tensor<3>, gamma: Tensor<1>) -> Tensor<3> {
        let [batch, seq, channels] = x.dims();
        let [weights] = gamma.dims();
        let precision = x.dtype();
        let &Self { gate, width, epsilon } = self;
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
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::kernels::testing::{Case, check, lift, lower};

    /// The definition, in Burn's operations.
    fn plain(norm: GatedNorm, x: Tensor<3>, z: Tensor<3>, gamma: Tensor<1>) -> Tensor<3> {
        let [batch, seq, channels] = x.dims();
        let [weights] = gamma.dims();
        let width = norm.width;
        let gate_values = burn::tensor::activation::silu(z);
        let normal = |x: Tensor<3>| {
            let x: Tensor<4> = x.reshape([batch, seq, channels / width, width]);
            let y = x.clone() / (x.square().mean_dim(3) + norm.epsilon).sqrt();
            (y * gamma.reshape([1, 1, weights / width, width])).reshape([batch, seq, channels])
        };
        match norm.gate {
            Gate::BeforeNorm => normal(x * gate_values),
            Gate::AfterNorm => normal(x) * gate_values,
        }
    }

    #[test]
    fn both_forms_have_the_value_and_the_gradients_of_the_definition() {
        type Form = fn(GatedNorm, Tensor<3>, Tensor<3>, Tensor<1>) -> Tensor<3>;
        let forms: [Form; 2] =
            [|norm, x, z, gamma| norm.kernel(&x, &z, &gamma).unwrap(), |norm, x, z, gamma| norm.compose(x, z, gamma)];
        for (shape, width, weights) in
            [([1, 1, 1], 1, 1), ([2, 3, 6], 3, 6), ([2, 5, 40], 20, 20), ([1, 4, 33], 33, 33)]
        {
            for (gate, scale) in
                [Gate::BeforeNorm, Gate::AfterNorm].into_iter().flat_map(|gate| [(gate, 1.0), (gate, 6.0)])
            {
                let norm = GatedNorm { gate, width, epsilon: 1e-2 };
                let shapes = [shape.to_vec(), shape.to_vec(), vec![weights]];
                let run = |form: Form, t: &[Tensor<1>]| {
                    lower(form(norm, lift(&t[0], shape), lift(&t[1], shape), t[2].clone()))
                };
                for form in forms {
                    check(Case { shapes: &shapes, scale, tolerance: 2e-5 }, &|t| run(form, t), &|t| run(plain, t));
                }
            }
        }
    }
}
