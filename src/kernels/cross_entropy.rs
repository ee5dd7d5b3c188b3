//! The cross-entropy loss.
//!
//! Notation: `N` rows, `V` classes, `z` logits, `p = softmax(z)`, `y` targets, `w` row weights. The loss is
//! `L = -sum_i w_i log p_i[y_i]`, its gradient `dL/dz_i = w_i (p_i - onehot(y_i))`.

use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData, activation::log_softmax};

/// Returns the weighted sum of the negative log-likelihoods of the targets, in nats, for each of `R` equal parts of the
/// rows. Rows of weight zero contribute nothing, regardless of their logits and targets.
///
/// The targets must be in `0..V`. There is one target and one weight per row, and `R` (`parts`) divides `N`.
///
/// # Shapes
/// `logits`: `[N, V]`, `targets` and `weights`: `N` elements, to `[R]`.
pub fn cross_entropy(logits: Tensor<2>, targets: Vec<i32>, weights: Vec<f32>, parts: usize) -> Tensor<1> {
    #[cfg(feature = "flex")]
    if let Some(input) = super::flex::input(&logits) {
        let [rows, vocab] = logits.dims();
        let fits = |&target: &i32| usize::try_from(target).is_ok_and(|target| target < vocab);
        let divides = parts > 0 && rows.is_multiple_of(parts);
        if (targets.len(), weights.len()) == (rows, rows) && rows > 0 && divides && targets.iter().all(fits) {
            return super::flex::apply(super::flex::CrossEntropy { vocab, targets, weights, parts }, [input], [parts]);
        }
    }
    composed(logits, targets, weights, parts)
}

/// Uses the closed form of the gradient instead of the backward pass of the softmax. The value is computed without a
/// graph; the only differentiable term is `sum z * dL/dz` with a constant `dL/dz`.
fn composed(logits: Tensor<2>, targets: Vec<i32>, weights: Vec<f32>, parts: usize) -> Tensor<1> {
    let device = logits.device();
    let shape = [targets.len(), 1];
    let targets = Tensor::<2, Int>::from_data(TensorData::new(targets, shape), &device);
    let weights = Tensor::<2>::from_data(TensorData::new(weights, shape), &device);
    let log_p = log_softmax(logits.clone().detach(), 1);
    let loss = -sum_of_parts(log_p.clone().gather(1, targets.clone()) * weights.clone(), parts);
    let gradient = log_p.exp().scatter(1, targets, -Tensor::ones_like(&weights), IndexingUpdateOp::Add) * weights;
    let linear = sum_of_parts(logits * gradient, parts);
    linear.clone() + (loss - linear.detach())
}

/// Sums each of `R` equal parts of the rows. `x`: `[N, V]` to `[R]`.
fn sum_of_parts(x: Tensor<2>, parts: usize) -> Tensor<1> {
    if parts == 1 {
        return x.sum();
    }
    let [rows, width] = x.dims();
    x.reshape([parts, rows / parts * width]).sum_dim(1).reshape([parts])
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::kernels::testing::{Case, check, lift};

    #[test]
    fn both_forms_have_the_value_and_the_gradient_of_the_definition() {
        for (rows, vocab) in [(1, 1), (1, 3), (7, 3), (12, 16), (5, 37)] {
            let targets: Vec<i32> = (0..rows).map(|row| (5 * row % vocab) as i32).collect();
            // Every third row is not scored.
            let weights: Vec<f32> = (0..rows).map(|row| if row % 3 == 2 { 0.0 } else { 0.25 }).collect();
            for parts in [1, rows] {
                let definition = |x: &[Tensor<1>]| {
                    let logits = lift::<2>(&x[0], [rows, vocab]);
                    let device = logits.device();
                    let targets = Tensor::<2, Int>::from_data(TensorData::new(targets.clone(), [rows, 1]), &device);
                    let weights = Tensor::<2>::from_data(TensorData::new(weights.clone(), [rows, 1]), &device);
                    let losses = -(log_softmax(logits, 1).gather(1, targets) * weights);
                    if parts == 1 { losses.sum() } else { losses.reshape([rows]) }
                };
                for form in [cross_entropy, composed] {
                    for scale in [1.0, 40.0] {
                        let case = Case { shapes: &[vec![rows, vocab]], scale, tolerance: 1e-5 };
                        let form =
                            |x: &[Tensor<1>]| form(lift(&x[0], [rows, vocab]), targets.clone(), weights.clone(), parts);
                        check(case, &form, &definition);
                    }
                }
            }
        }
    }
}
