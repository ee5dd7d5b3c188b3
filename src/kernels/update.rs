//! Parameter updates of the optimizer.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
#[cfg(feature = "flex")]
use burn::tensor::TensorData;

#[cfg(feature = "flex")]
use super::flex::{self, Values, plain};

/// The constants of one step of AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm 2):
/// `m = beta1 m + (1 - beta1) g`, `v = beta2 v + (1 - beta2) g^2`,
/// `w = decay w - rate m / (sqrt(second_correction v) + eps)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdamWStep {
    /// The decay rate of the mean of the gradient.
    pub beta1: f64,
    /// The decay rate of the mean of the squared gradient.
    pub beta2: f64,
    /// Added to the square root.
    pub eps: f64,
    /// `1 - rate weight_decay`.
    pub decay: f64,
    /// The learning rate divided by `1 - beta1^t`.
    pub rate: f64,
    /// `1 / (1 - beta2^t)`.
    pub second_correction: f64,
}

/// Returns the new weights and moments after one step of AdamW. Works outside autodiff. On `flex`, it updates in place
/// if there are no other handles.
///
/// # Shapes
/// All `[N]`; `moments` are `m` and `v`.
pub(crate) fn adamw(
    weights: Tensor<1>,
    gradient: Tensor<1>,
    [first, second]: [Tensor<1>; 2],
    step: AdamWStep,
) -> (Tensor<1>, [Tensor<1>; 2]) {
    #[cfg(feature = "flex")]
    if let (Some(w), Some(g), Some(m), Some(v)) = (plain(&weights), plain(&gradient), plain(&first), plain(&second)) {
        // The kernel must hold the only handles to avoid a copy.
        drop((weights, first, second));
        let [mut w, mut m, mut v] = [w, m, v].map(Values::new);
        flex::adamw(w.slice_mut(), &Values::new(g), m.slice_mut(), v.slice_mut(), step);
        return (w.into_tensor(), [m.into_tensor(), v.into_tensor()]);
    }
    let AdamWStep { beta1, beta2, eps, decay, rate, second_correction } = step;
    let first = first * beta1 + gradient.clone() * (1.0 - beta1);
    let second = second * beta2 + gradient.square() * (1.0 - beta2);
    let update = first.clone() / ((second.clone() * second_correction).sqrt() + eps);
    (weights * decay - update * rate, [first, second])
}

/// Returns the sums of the squares of `R` equal parts of the elements, without a graph. `R` (`parts`) divides the
/// number of elements.
///
/// # Shapes
/// To `[R]`.
pub(crate) fn sum_of_squares<const D: usize>(x: Tensor<D>, parts: usize) -> Tensor<1> {
    #[cfg(feature = "flex")]
    if let Some(values) = plain(&x) {
        let values = Values::new(values);
        let mut sums = vec![0.0; parts];
        let squared = values.chunks_exact((values.len() / parts).max(1)).zip(&mut sums);
        squared.for_each(|(part, sum)| *sum = flex::sum_of_squares(part));
        return Tensor::from_data(TensorData::new(sums, [parts]), &x.device());
    }
    let count = x.shape().num_elements();
    x.square().reshape([parts, count / parts]).sum_dim(1).reshape([parts])
}

/// Up to this number of elements, an accelerator sums all in one row.
const ROW: usize = 1 << 16;
/// The largest number of rows, a power of two.
const ROWS: usize = 1 << 10;

/// Returns the sums of the squares of `R` equal parts of the elements of all tensors, or `None` if there are no
/// tensors. For accelerators: tensors of equal length are squared and added in one launch, and then summed in one row
/// per part or in two steps.
///
/// # Shapes
/// `[N]` for each tensor, with its own `N`, of which `R` (`parts`) is a divisor, to `[R]`.
pub(crate) fn sum_of_squares_together(tensors: Vec<Tensor<1>>, parts: usize) -> Option<Tensor<1>> {
    let mut by_length: BTreeMap<usize, Vec<Tensor<1>>> = BTreeMap::new();
    for tensor in tensors {
        by_length.entry(tensor.shape().num_elements()).or_default().push(tensor);
    }
    by_length.into_values().filter_map(|tensors| sum_in_rows(tensors, parts)).reduce(|a, b| a + b)
}

/// Adds the squares of tensors of equal length, sums rows of them, and then the sums of the rows of a part if there are
/// several.
fn sum_in_rows(tensors: Vec<Tensor<1>>, parts: usize) -> Option<Tensor<1>> {
    let count = tensors.first()?.shape().num_elements() / parts;
    // The largest power of two that divides the count.
    let rows = if count <= ROW { 1 } else { 1 << count.trailing_zeros().min(ROWS.ilog2()) };
    // All in one shape before the first square: accelerators do not join launches of different shapes.
    let tensors: Vec<Tensor<2>> = tensors.into_iter().map(|x| x.reshape([parts * rows, count / rows])).collect();
    let sums = tensors.into_iter().map(|x| x.square()).reduce(|a, b| a + b)?.sum_dim(1);
    let all = if rows == 1 { sums } else { sums.reshape([parts, rows]).sum_dim(1) };
    Some(all.reshape([parts]))
}

/// Multiplies each of `R` equal parts of the elements of `x` by its element of `factors`, outside autodiff.
///
/// # Shapes
/// `factors`: `[R]`. `R` divides the number of elements of `x`.
pub(crate) fn scale<const D: usize>(x: Tensor<D>, factors: &Tensor<1>) -> Tensor<D> {
    let [parts] = factors.dims();
    let shape = x.dims();
    let count: usize = shape.iter().product();
    #[cfg(feature = "flex")]
    if let (Some(values), Some(factors)) = (plain(&x), plain(factors)) {
        drop(x);
        let mut values = Values::new(values);
        let factors = Values::new(factors);
        let scaled = values.slice_mut().chunks_exact_mut((count / parts).max(1)).zip(factors.iter());
        for (part, &factor) in scaled.filter(|(_, factor)| **factor != 1.0) {
            part.iter_mut().for_each(|x| *x *= factor);
        }
        return values.into_tensor();
    }
    if parts == 1 {
        return x * factors.clone().reshape([1; D]);
    }
    (x.reshape([parts, count / parts]) * factors.clone().reshape([parts, 1])).reshape(shape)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn vector(phase: f32) -> Vec<f32> {
        (0..37).map(|i| (1.3 * i as f32 + phase).sin()).collect()
    }

    #[test]
    fn three_steps_are_those_of_the_formula_in_64_bits() {
        let device = Device::flex();
        let tensor = |x: &[f32]| Tensor::<1>::from_data(TensorData::new(x.to_vec(), [x.len()]), &device);
        let mut weights = tensor(&vector(0.0));
        let mut moments = [tensor(&[0.0; 37]), tensor(&[0.0; 37])];
        let mut want: Vec<[f64; 3]> = vector(0.0).iter().map(|&w| [f64::from(w), 0.0, 0.0]).collect();
        for t in 1..=3 {
            let gradient = vector(t as f32);
            let rate = 1e-2;
            let decay = 0.1;
            let step = AdamWStep {
                beta1: 0.9,
                beta2: 0.999,
                eps: 1e-8,
                decay: 1.0 - rate * decay,
                rate: rate / (1.0 - 0.9f64.powi(t)),
                second_correction: 1.0 / (1.0 - 0.999f64.powi(t)),
            };
            let untouched = weights.clone();
            let before = untouched.to_data();
            (weights, moments) = adamw(weights, tensor(&gradient), moments, step);
            assert_eq!(untouched.into_data(), before, "a shared tensor is copied, not changed");
            for ([w, m, v], g) in want.iter_mut().zip(&gradient) {
                let g = f64::from(*g);
                (*m, *v) = (0.9 * *m + 0.1 * g, 0.999 * *v + 0.001 * g * g);
                *w = *w * step.decay - step.rate * *m / ((*v * step.second_correction).sqrt() + step.eps);
            }
        }
        for (got, [want, ..]) in weights.into_data().try_into_vec::<f32>().unwrap().iter().zip(want) {
            assert!((f64::from(*got) - want).abs() < 1e-6, "{got} {want}");
        }
    }

    #[test]
    fn squares_are_summed_and_tensors_scaled_in_any_layout() {
        let device = Device::flex();
        let x = Tensor::<2>::from_data([[1f32, 2.0, 3.0], [4.0, 5.0, 6.0]], &device);
        assert_eq!(sum_of_squares(x.clone().transpose(), 1).into_scalar::<f32>(), 91.0);
        let host = |x: Tensor<1>| x.into_data().try_into_vec::<f32>().unwrap();
        assert_eq!(host(sum_of_squares(x.clone(), 2)), [14.0, 77.0]);
        for shape in [[3, 5], [300, 256], [1 << 9, 1 << 9], [257, 257]] {
            let [rows, columns] = shape;
            let count = rows * columns;
            // Two of one length, one of another.
            let lengths = [count, 3, count];
            let ones = lengths.map(|length| Tensor::<1>::ones([length], &device)).to_vec();
            let sum = sum_of_squares_together(ones, 1).unwrap().into_scalar::<f32>();
            assert_eq!(sum, lengths.iter().sum::<usize>() as f32);
            // Each of `rows` parts of two tensors.
            let parts = [Tensor::<1>::ones([count], &device), Tensor::ones([count], &device)].to_vec();
            assert_eq!(host(sum_of_squares_together(parts, rows).unwrap()), vec![2.0 * columns as f32; rows]);
        }
        assert!(sum_of_squares_together(Vec::new(), 1).is_none());
        let parts = scale(x.clone(), &Tensor::from_data([2f32, 1.0], &device));
        assert_eq!(parts.into_data().try_into_vec::<f32>().unwrap(), [2.0, 4.0, 6.0, 4.0, 5.0, 6.0]);
        let half = scale(x.clone().transpose(), &Tensor::from_data([0.5f32], &device));
        assert_eq!(half.into_data().try_into_vec::<f32>().unwrap(), [0.5, 2.0, 1.0, 2.5, 1.5, 3.0]);
        assert_eq!(x.into_data().try_into_vec::<f32>().unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    }
}
