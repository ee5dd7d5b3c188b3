//! Root-mean-square normalization.

use burn::tensor::{DType, Tensor, module::linear};

use super::linear::parts;
use crate::device;

/// Returns `x / sqrt(mean(x^2) + epsilon) * gamma` over the channels (Zhang and Sennrich 2019, arXiv 1910.07467). The
/// mean square is computed in single precision, regardless of the precision of `x`.
///
/// # Shapes
/// `x`: `[B, S, D]`, `gamma`: `[D]`, to `[B, S, D]`. The scales of `R` norms are `[R D]`, one norm after the other;
/// each norm is applied to its part of the batch, and `R` divides `B`.
pub fn rms_norm(x: Tensor<3>, gamma: Tensor<1>, epsilon: f64) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if let Some(y) = kernel(&x, &gamma, epsilon) {
        return y;
    }
    composed(x, gamma, epsilon)
}

#[cfg(feature = "flex")]
fn kernel(x: &Tensor<3>, gamma: &Tensor<1>, epsilon: f64) -> Option<Tensor<3>> {
    use super::flex::{RmsNorm, apply, input};

    let shape = x.dims();
    let [batch, _, width] = shape;
    let [scales] = gamma.dims();
    if scales != parts(scales, width, batch) * width || shape.contains(&0) {
        return None;
    }
    Some(apply(RmsNorm { width, epsilon: epsilon as f32 }, [input(x)?, input(gamma)?], shape))
}

fn composed(x: Tensor<3>, gamma: Tensor<1>, epsilon: f64) -> Tensor<3> {
    let in_a_product = !device::is_accelerator(&x.device());
    composed_by(in_a_product, x, gamma, epsilon)
}

/// Takes the mean by a product with a vector of `1/D`, or as a mean, which accelerators compute with the rest in one
/// launch.
fn composed_by(in_a_product: bool, x: Tensor<3>, gamma: Tensor<1>, epsilon: f64) -> Tensor<3> {
    let shape = x.dims();
    let [batch, seq, width] = shape;
    let [scales] = gamma.dims();
    let norms = parts(scales, width, batch);
    let wide = x.clone().cast(DType::F32);
    // `mean(x^2)` with one factor held constant has half the derivative; `2m - constant(m)` has the full one. Together
    // with the product with 1/D in place of a sum, this saves four passes over x in the backward pass.
    let square = wide.clone() * wide.inner();
    let half = if in_a_product {
        let average = Tensor::<2>::full([width, 1], 1.0 / width as f64, &x.device()).cast(DType::F32);
        linear(square, average, None)
    } else {
        square.mean_dim(2)
    };
    let mean_square = half.clone() * 2.0 - half.inner();
    let normed = x.clone() * (mean_square + epsilon).sqrt().recip().cast(x.dtype());
    if norms == 1 {
        return normed * gamma.unsqueeze();
    }
    let scaled = normed.reshape([norms, batch / norms * seq, width]) * gamma.reshape([norms, 1, width]);
    scaled.reshape(shape)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::kernels::testing::{Case, check, lift, lower};

    /// The definition.
    fn plain(x: Tensor<3>, gamma: Tensor<1>, epsilon: f64) -> Tensor<3> {
        let mean_square = x.clone().square().mean_dim(2);
        x / (mean_square + epsilon).sqrt() * gamma.unsqueeze()
    }

    type Form = fn(Tensor<3>, Tensor<1>, f64) -> Tensor<3>;

    #[test]
    fn both_forms_have_the_value_and_the_gradients_of_the_definition() {
        for shape in [[1, 1, 1], [2, 3, 5], [2, 7, 16], [1, 9, 33]] {
            for (scale, epsilon) in [(1.0, 1e-2), (100.0, 1e-5)] {
                let shapes = [shape.to_vec(), vec![shape[2]]];
                let run = |form: Form, x: &[Tensor<1>]| lower(form(lift(&x[0], shape), x[1].clone(), epsilon));
                let mean: Form = |x, gamma, epsilon| composed_by(false, x, gamma, epsilon);
                for form in [rms_norm as Form, composed, mean] {
                    let case = Case { shapes: &shapes, scale, tolerance: 1e-5 };
                    check(case, &|x| run(form, x), &|x| run(plain, x));
                }
            }
        }
    }
}
