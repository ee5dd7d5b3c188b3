//! The SwiGLU multi-layer perceptron.

use burn::tensor::{Tensor, activation::sigmoid};

use super::linear;
#[cfg(feature = "flex")]
use super::linear::parts;

/// Returns `(silu(x g) * (x u)) d` (Shazeer 2020, arXiv 2002.05202, equation 6).
///
/// # Shapes
/// `x`: `[B, S, D]`, `gate` and `up`: `[D, F]`, `down`: `[F, D]`, to `[B, S, D]`. The weights of `R` layers are
/// `[R D, F]` and `[R F, D]`, one layer after the other; each layer is applied to its part of the batch, and `R`
/// divides `B`.
pub fn swiglu(x: Tensor<3>, gate: Tensor<2>, up: Tensor<2>, down: Tensor<2>) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if let Some(y) = kernel(&x, &gate, &up, &down) {
        return y;
    }
    composed(x, gate, up, down)
}

#[cfg(feature = "flex")]
fn kernel(x: &Tensor<3>, gate: &Tensor<2>, up: &Tensor<2>, down: &Tensor<2>) -> Option<Tensor<3>> {
    use super::flex::{SwiGlu, apply, input};

    let shape = x.dims();
    let [_, inner] = gate.dims();
    let [batch, seq, width] = shape;
    let layers = parts(gate.dims()[0], width, batch);
    let into = [layers * width, inner];
    let fits = [gate.dims(), up.dims(), down.dims()] == [into, into, [layers * inner, width]];
    if !fits || batch * seq * width * inner == 0 {
        return None;
    }
    Some(apply(SwiGlu { width, inner }, [input(x)?, input(gate)?, input(up)?, input(down)?], shape))
}

fn composed(x: Tensor<3>, gate: Tensor<2>, up: Tensor<2>, down: Tensor<2>) -> Tensor<3> {
    let gate = silu(linear(x.clone(), gate, None));
    linear(gate * linear(x, up, None), down, None)
}

/// Returns `x * sigmoid(x)`, with derivative `s + w (1 - s)` for `s = sigmoid(x)` and `w = x s`.
///
/// Autodiff sees `value + slope * (x - constant(x))`, whose last term is zero. It then keeps one constant and
/// multiplies once in the backward pass, instead of differentiating every operation that computed `value`.
pub(crate) fn silu(x: Tensor<3>) -> Tensor<3> {
    let constant = x.clone().inner();
    let gate = sigmoid(constant.clone());
    let value = constant.clone() * gate.clone();
    if !x.is_autodiff() {
        return value;
    }
    let slope = (value.clone() * (-gate.clone() + 1.0)) + gate;
    value + slope * (x - constant)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::module;

    use super::*;
    use crate::kernels::testing::{Case, check, lift, lower};

    /// Burn's operations only.
    fn plain(x: Tensor<3>, gate: Tensor<2>, up: Tensor<2>, down: Tensor<2>) -> Tensor<3> {
        let gate = burn::tensor::activation::silu(module::linear(x.clone(), gate, None));
        module::linear(gate * module::linear(x, up, None), down, None)
    }

    type Form = fn(Tensor<3>, Tensor<2>, Tensor<2>, Tensor<2>) -> Tensor<3>;

    fn run(form: Form, x: &[Tensor<1>], [batch, seq, width, inner]: [usize; 4]) -> Tensor<1> {
        let into = [width, inner];
        let out = [inner, width];
        lower(form(lift(&x[0], [batch, seq, width]), lift(&x[1], into), lift(&x[2], into), lift(&x[3], out)))
    }

    fn agrees(form: Form, sizes: [usize; 4], scale: f32) {
        let [batch, seq, width, inner] = sizes;
        let shapes = [vec![batch, seq, width], vec![width, inner], vec![width, inner], vec![inner, width]];
        check(Case { shapes: &shapes, scale, tolerance: 1e-5 }, &|x| run(form, x, sizes), &|x| run(plain, x, sizes));
    }

    #[test]
    fn both_forms_have_the_value_and_the_gradients_of_burns_composition() {
        for sizes in [[1, 1, 1, 1], [2, 7, 6, 5], [2, 300, 8, 17]] {
            for scale in [0.7, 6.0] {
                agrees(swiglu, sizes, scale);
                agrees(composed, sizes, scale);
            }
        }
    }

    #[test]
    fn extreme_gates_stay_finite() {
        let one = |value: f32| Tensor::<2>::from_data([[value]], &burn::tensor::Device::flex());
        let x = Tensor::<3>::from_data([[[-1e4f32], [-200.0], [0.0], [90.0], [1e4]]], &burn::tensor::Device::flex());
        for form in [swiglu as Form, composed] {
            let y = form(x.clone(), one(1.0), one(1.0), one(1.0)).into_data().try_into_vec::<f32>().unwrap();
            assert_eq!(y, [0.0, 0.0, 0.0, 8100.0, 1e8]);
        }
    }
}
