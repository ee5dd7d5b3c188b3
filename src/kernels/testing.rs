//! Comparison of a kernel with the composed form: values and gradients.

use burn::tensor::{Device, Tensor, TensorData};

/// The arguments of a comparison.
pub struct Case<'a> {
    /// Of each argument.
    pub shapes: &'a [Vec<usize>],
    /// The largest element of the arguments.
    pub scale: f32,
    /// Of the largest difference, as a share of the largest element; small results are measured by the arguments.
    pub tolerance: f32,
}

/// A function of flat tensors, to a flat tensor.
pub type Function<'a> = &'a dyn Fn(&[Tensor<1>]) -> Tensor<1>;

/// Gives a flat tensor its shape.
pub fn lift<const D: usize>(x: &Tensor<1>, shape: [usize; D]) -> Tensor<D> {
    x.clone().reshape(shape)
}

/// Flattens.
pub fn lower<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    let count = x.dims().iter().product::<usize>();
    x.reshape([count])
}

/// Deterministic values without a pattern that a layout could hide.
fn values(count: usize, phase: f32, scale: f32) -> TensorData {
    let value = |i: usize| scale * (1.7 * i as f32 + phase + (0.37 * i as f32).cos()).sin();
    TensorData::new((0..count).map(value).collect::<Vec<f32>>(), [count])
}

/// Value, gradients by every argument, and the value without autodiff.
fn run(case: &Case, f: Function) -> Vec<Vec<f32>> {
    let device = Device::flex();
    let arguments: Vec<Tensor<1>> = case
        .shapes
        .iter()
        .enumerate()
        .map(|(i, shape)| Tensor::from_data(values(shape.iter().product(), i as f32, case.scale), &device))
        .collect();
    let inference = f(&arguments);
    let leaves: Vec<Tensor<1>> = arguments.into_iter().map(|x| x.autodiff().require_grad()).collect();
    let y = f(&leaves);
    let slope = Tensor::<1>::from_data(values(y.dims()[0], 0.5, 1.0), &device.clone().autodiff());
    let gradients = (y.clone() * slope).sum().backward();
    let of = |x: &Tensor<1>| x.grad(&gradients).expect("a gradient reaches every argument");
    let host = |x: Tensor<1>| x.into_data().try_into_vec::<f32>().unwrap();
    [y.inner(), inference].into_iter().chain(leaves.iter().map(of)).map(host).collect()
}

/// Asserts that `got` and `want` agree with and without autodiff, and that their gradients do.
pub fn check(case: Case, got: Function, want: Function) {
    for (which, (got, want)) in run(&case, got).iter().zip(run(&case, want)).enumerate() {
        assert_eq!(got.len(), want.len());
        let largest = want.iter().fold(0f32, |m, x| m.max(x.abs()));
        let bound = case.tolerance * largest.max(0.05 * case.scale);
        for (at, (got, want)) in got.iter().zip(&want).enumerate() {
            assert!((got - want).abs() <= bound, "{which} [{at}] of {:?}: {got} is not {want}", case.shapes);
        }
    }
}
