//! The GELU activation in its tanh form.

use burn::tensor::{Tensor, activation::gelu_approximate};

/// Returns `x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2` (Hendrycks and Gimpel 2016, arXiv 1606.08415),
/// elementwise.
///
/// # Shapes
/// `x`: `[B, S, F]` to `[B, S, F]`.
pub fn gelu(x: Tensor<3>) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if let Some(input) = super::flex::input(&x) {
        return super::flex::apply(super::flex::Gelu, [input], x.dims());
    }
    gelu_approximate(x)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::kernels::testing::{Case, check, lift, lower};

    #[test]
    fn value_and_gradient_are_those_of_burns_composition() {
        for shape in [[1, 1, 1], [2, 3, 37]] {
            for scale in [0.5, 4.0, 50.0] {
                let case = Case { shapes: &[shape.to_vec()], scale, tolerance: 1e-5 };
                check(case, &|x| lower(gelu(lift(&x[0], shape))), &|x| {
                    lower(gelu_approximate(lift::<3>(&x[0], shape)))
                });
            }
        }
    }

    #[test]
    fn a_permuted_input_keeps_its_order() {
        let permuted = |x: &Tensor<1>| lift::<3>(x, [2, 3, 5]).swap_dims(0, 2);
        let case = Case { shapes: &[vec![2, 3, 5]], scale: 2.0, tolerance: 1e-5 };
        check(case, &|x| lower(gelu(permuted(&x[0]))), &|x| lower(gelu_approximate(permuted(&x[0]))));
    }
}
