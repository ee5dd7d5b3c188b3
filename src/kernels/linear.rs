//! Linear maps.

use burn::{nn, tensor::Tensor};

/// Returns `x w + b`, or applies each of `R` equal maps to its part of the batch.
///
/// # Shapes
/// `x`: `[B, S, I]`, `weight`: `[I, O]`, `bias`: `[O]`, to `[B, S, O]`. The weights of `R` maps are `[R I, O]` and
/// their biases `[R O]`, one map after the other, and `R` divides `B`.
pub fn linear(x: Tensor<3>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if let Some(y) = kernel(&x, &weight, bias.as_ref(), false) {
        return y;
    }
    composed(x, weight, bias)
}

fn composed(x: Tensor<3>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<3> {
    let [batch, seq, inputs] = x.dims();
    let [rows, outputs] = weight.dims();
    let maps = parts(rows, inputs, batch);
    if maps == 1 {
        return burn::tensor::module::linear(x, weight, bias);
    }
    let x = x.reshape([maps, batch / maps * seq, inputs]);
    let y = x.matmul(weight.reshape([maps, inputs, outputs]));
    let y = match bias {
        Some(bias) => y + bias.reshape([maps, 1, outputs]),
        None => y,
    };
    y.reshape([batch, seq, outputs])
}

/// Returns how many equal layers a parameter holds whose first axis has `rows` elements, where that of one layer has
/// `row`: 1 if these sizes do not fit each other or the batch.
pub(super) fn parts(rows: usize, row: usize, batch: usize) -> usize {
    let parts = rows.checked_div(row).unwrap_or(1);
    if parts * row == rows && parts > 0 && batch.is_multiple_of(parts) { parts } else { 1 }
}

/// Returns `x w^T`, for example for a head that shares the embedding's weights. The weight is read in place;
/// transposing it first would copy it in every call.
///
/// # Shapes
/// `x`: `[B, S, I]`, `weight`: `[O, I]`, to `[B, S, O]`.
pub fn linear_transposed(x: Tensor<3>, weight: Tensor<2>) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if let Some(y) = kernel(&x, &weight, None, true) {
        return y;
    }
    burn::tensor::module::linear(x, weight.transpose(), None)
}

/// Applies [`linear`] with the weights of a Burn layer.
///
/// # Shapes
/// `x`: `[B, S, I]` to `[B, S, O]`.
pub fn project(x: Tensor<3>, map: &nn::Linear) -> Tensor<3> {
    linear(x, map.weight.val(), map.bias.as_ref().map(|bias| bias.val()))
}

#[cfg(feature = "flex")]
fn kernel(x: &Tensor<3>, weight: &Tensor<2>, bias: Option<&Tensor<1>>, transposed: bool) -> Option<Tensor<3>> {
    use super::flex::{Linear, apply, input};

    let [batch, seq, inputs] = x.dims();
    let [first, second] = weight.dims();
    let (rows, outputs) = if transposed { (second, first) } else { (first, second) };
    let maps = if transposed { 1 } else { parts(rows, inputs, batch) };
    let fits = rows == maps * inputs && bias.is_none_or(|bias| bias.dims() == [maps * outputs]);
    if !fits || batch * seq * inputs * outputs == 0 {
        return None;
    }
    let kernel = Linear { inputs, outputs, transposed };
    let shape = [batch, seq, outputs];
    let x = input(x)?;
    let weight = input(weight)?;
    Some(match bias {
        Some(bias) => apply(kernel, [x, weight, input(bias)?], shape),
        None => apply(kernel, [x, weight], shape),
    })
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::testing::{Case, check, lift, lower};

    /// Rows, inputs, outputs.
    fn agrees([batch, seq, inputs, outputs]: [usize; 4], bias: bool, scale: f32) {
        let mut shapes = vec![vec![batch, seq, inputs], vec![inputs, outputs]];
        if bias {
            shapes.push(vec![outputs]);
        }
        let arguments = |x: &[Tensor<1>]| {
            let bias = x.get(2).cloned();
            (lift(&x[0], [batch, seq, inputs]), lift(&x[1], [inputs, outputs]), bias)
        };
        check(
            Case { shapes: &shapes, scale, tolerance: 1e-5 },
            &|x| {
                let (x, weight, bias) = arguments(x);
                assert!(kernel(&x, &weight, bias.as_ref(), false).is_some(), "the kernel serves this case");
                lower(linear(x, weight, bias))
            },
            &|x| {
                let (x, weight, bias) = arguments(x);
                lower(burn::tensor::module::linear(x, weight, bias))
            },
        );
    }

    #[test]
    fn value_and_gradients_are_those_of_burns_composition() {
        for shape in [[1, 1, 1, 1], [2, 7, 3, 5], [3, 5, 8, 1], [2, 300, 16, 9]] {
            agrees(shape, false, 1.0);
            agrees(shape, true, 30.0);
        }
    }

    #[test]
    fn a_transposed_weight_is_read_in_its_own_order() {
        check(
            Case { shapes: &[vec![2, 5, 6], vec![4, 6]], scale: 1.0, tolerance: 1e-5 },
            &|x| lower(linear(lift(&x[0], [2, 5, 6]), lift::<2>(&x[1], [4, 6]).transpose(), None)),
            &|x| lower(lift::<3>(&x[0], [2, 5, 6]).matmul(lift::<2>(&x[1], [4, 6]).transpose().unsqueeze())),
        );
    }

    #[test]
    fn a_weight_that_lies_transposed_gives_the_same() {
        for [batch, seq, inputs, outputs] in [[1, 1, 1, 1], [2, 5, 6, 4], [2, 300, 7, 9]] {
            check(
                Case { shapes: &[vec![batch, seq, inputs], vec![outputs, inputs]], scale: 1.0, tolerance: 1e-5 },
                &|x| lower(linear_transposed(lift(&x[0], [batch, seq, inputs]), lift(&x[1], [outputs, inputs]))),
                &|x| {
                    let weight = lift::<2>(&x[1], [outputs, inputs]).transpose();
                    lower(burn::tensor::module::linear(lift::<3>(&x[0], [batch, seq, inputs]), weight, None))
                },
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_shape_agrees(batch in 1usize..4, seq in 1usize..40, inputs in 1usize..40, outputs in 1usize..40, bias: bool) {
            agrees([batch, seq, inputs, outputs], bias, 1.0);
        }
    }
}
