//! Compares the values and gradients of a kernel with those of the composed form.

use burn::tensor::{Device, Tensor, TensorData};

/// The arguments of a comparison.
pub struct Case<'a> {
    /// The shape of each argument.
    pub shapes: &'a [Vec<usize>],
    /// The largest element of the arguments.
    pub scale: f32,
    /// The allowed difference, relative to the largest element. Small results are compared relative to the size of
    /// their terms.
    pub tolerance: f32,
}

impl Case<'_> {
    /// Returns the scale of the errors in `len` results: that of the largest element, unless this is small because its
    /// terms cancel. An element of a gradient is a sum of about `outputs / len` terms, so its rounding error grows with
    /// the square root of this number.
    fn measure(&self, largest: f64, len: usize, outputs: usize) -> f64 {
        let terms = (outputs as f64 / len as f64).max(1.0);
        largest.max(0.05 * f64::from(self.scale) * terms.sqrt())
    }
}

/// A function from flat tensors to a flat tensor.
pub type Function<'a> = &'a dyn Fn(&[Tensor<1>]) -> Tensor<1>;

/// Reshapes a flat tensor.
pub fn lift<const D: usize>(x: &Tensor<1>, shape: [usize; D]) -> Tensor<D> {
    x.clone().reshape(shape)
}

/// Flattens a tensor.
pub fn lower<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    let count = x.dims().iter().product::<usize>();
    x.reshape([count])
}

/// Returns deterministic values without a pattern that could hide an error in the layout.
fn values(count: usize, phase: f32, scale: f32) -> TensorData {
    let value = |i: usize| scale * (1.7 * i as f32 + phase + (0.37 * i as f32).cos()).sin();
    TensorData::new((0..count).map(value).collect::<Vec<f32>>(), [count])
}

/// Returns the value, the gradients with respect to every argument, and the value without autodiff.
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

/// Asserts that the values of `got` and `want` agree with and without autodiff, and that their gradients agree.
pub fn check(case: Case, got: Function, want: Function) {
    let want = run(&case, want);
    let outputs = want[0].len();
    for (which, (got, want)) in run(&case, got).iter().zip(want).enumerate() {
        assert_eq!(got.len(), want.len());
        let largest = want.iter().fold(0f32, |m, x| m.max(x.abs()));
        let bound = case.tolerance * case.measure(largest.into(), want.len(), outputs) as f32;
        for (at, (got, want)) in got.iter().zip(&want).enumerate() {
            assert!((got - want).abs() <= bound, "{which} [{at}] of {:?}: {got} is not {want}", case.shapes);
        }
    }
}

/// A function from flat lists to a flat list, in double precision.
pub type Reference<'a> = &'a dyn Fn(&[Vec<f64>]) -> Vec<f64>;

/// Asserts that `got` agrees with `want`, and that its gradients agree with central differences of `want`.
pub fn check_reference(case: Case, got: Function, want: Reference) {
    let host = |count, phase, scale| -> Vec<f64> {
        values(count, phase, scale).try_into_vec::<f32>().unwrap().into_iter().map(f64::from).collect()
    };
    let count = |shape: &Vec<usize>| shape.iter().product();
    let mut arguments: Vec<Vec<f64>> =
        case.shapes.iter().enumerate().map(|(i, shape)| host(count(shape), i as f32, case.scale)).collect();
    let y = want(&arguments);
    let slope = host(y.len(), 0.5, 1.0);
    let loss = |arguments: &[Vec<f64>]| want(arguments).iter().zip(&slope).map(|(y, slope)| y * slope).sum::<f64>();
    let mut expected = vec![y.clone(), y];
    for i in 0..arguments.len() {
        let difference = |arguments: &mut Vec<Vec<f64>>, at: usize| {
            let x = arguments[i][at];
            let step = 1e-5;
            let mut moved = |x| {
                arguments[i][at] = x;
                loss(arguments)
            };
            let difference = (moved(x + step) - moved(x - step)) / (2.0 * step);
            arguments[i][at] = x;
            difference
        };
        expected.push((0..arguments[i].len()).map(|at| difference(&mut arguments, at)).collect());
    }
    for (which, (got, want)) in run(&case, got).iter().zip(expected).enumerate() {
        assert_eq!(got.len(), want.len());
        let largest = want.iter().fold(0f64, |m, x| m.max(x.abs())).max(0.05 * f64::from(case.scale));
        for (at, (got, want)) in got.iter().zip(&want).enumerate() {
            let apart = (f64::from(*got) - want).abs();
            let bound = f64::from(case.tolerance) * largest;
            assert!(apart <= bound, "{which} [{at}] of {:?}: {got} is not {want}", case.shapes);
        }
    }
}
