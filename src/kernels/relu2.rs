//! The squared ReLU activation.

use burn::tensor::{Tensor, activation::relu};

/// Returns `max(x, 0)^2` (So et al. 2021, arXiv 2109.08668), elementwise.
///
/// # Shapes
/// `x`: `[B, S, F]` to `[B, S, F]`.
pub fn relu2(x: Tensor<3>) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if let Some(input) = super::flex::input(&x) {
        return super::flex::apply(super::flex::Relu2, [input], x.dims());
    }
    composed(x)
}

fn composed(x: Tensor<3>) -> Tensor<3> {
    relu(x).square()
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::kernels::testing::{Case, check, lift, lower};

    #[test]
    fn value_and_gradient_are_those_of_burns_composition() {
        for shape in [[1, 1, 1], [2, 3, 37]] {
            for scale in [0.5, 50.0] {
                let case = Case { shapes: &[shape.to_vec()], scale, tolerance: 1e-6 };
                let run = |form: fn(Tensor<3>) -> Tensor<3>, x: &[Tensor<1>]| lower(form(lift(&x[0], shape)));
                check(case, &|x| run(relu2, x), &|x| run(composed, x));
            }
        }
    }

    #[test]
    fn values_and_slopes_are_those_of_the_formula() {
        for form in [relu2, composed] {
            let device = Device::flex().autodiff();
            let x = Tensor::<3>::from_data([[[-3f32, -0.0, 0.0, 0.5, 4.0]]], &device).require_grad();
            let y = form(x.clone());
            let slopes = x.grad(&y.clone().sum().backward()).unwrap().into_data().try_into_vec::<f32>().unwrap();
            assert_eq!(y.into_data().try_into_vec::<f32>().unwrap(), [0.0, 0.0, 0.0, 0.25, 16.0]);
            assert_eq!(slopes, [0.0, 0.0, 0.0, 1.0, 8.0]);
        }
    }
}
