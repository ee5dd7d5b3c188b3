//! Turns a kernel into an operation of Burn. The operation is tracked by autodiff only if gradients are needed.

use std::{fmt::Debug, marker::PhantomData, ops::Deref};

use burn::{
    backend::{
        Autodiff, Flex,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::NoCheckpointing},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        tensor::FloatTensor,
    },
    tensor::{DType, Shape, Tensor, TensorData},
};

use super::pool;

/// A tensor of the backend `flex`.
type Plain = FloatTensor<Flex>;
/// A tensor of the backend `flex` that is tracked by autodiff.
type Tracked = FloatTensor<Autodiff<Flex>>;

/// A function of `N` tensors and its first derivative, on slices in row-major order.
pub trait Kernel<const N: usize>: Clone + Debug + Send + 'static {
    /// What the backward pass needs in addition to the inputs.
    type Saved: Clone + Debug + Default + Send + 'static;

    /// Returns the result. If `keep` is set, also returns what the backward pass needs.
    fn forward(&self, inputs: [&[f32]; N], keep: bool) -> (Vec<f32>, Self::Saved);

    /// Returns the gradient of each input that is `wanted`, given the gradient `dy` of the result. Other gradients can
    /// be omitted.
    fn backward(&self, inputs: [&[f32]; N], saved: Self::Saved, dy: &[f32], wanted: [bool; N])
    -> [Option<Vec<f32>>; N];
}

/// An argument of a kernel.
pub enum Input {
    /// Not tracked by autodiff.
    Constant(Plain),
    /// Tracked by autodiff. Its gradient may or may not be needed.
    Variable(Tracked),
}

/// Returns `x` as an argument of a kernel. Returns `None` if it is not on `flex` in single precision, or if autodiff
/// recomputes forward passes (gradient checkpointing).
pub fn input<const D: usize>(x: &Tensor<D>) -> Option<Input> {
    if x.dtype() != DType::F32 {
        return None;
    }
    if x.is_autodiff() {
        x.clone().try_into_primitive::<Autodiff<Flex>>().ok().map(Input::Variable)
    } else {
        plain(x).map(Input::Constant)
    }
}

/// Returns the inner tensor if it is on `flex` in single precision and not tracked by autodiff.
pub fn plain<const D: usize>(x: &Tensor<D>) -> Option<Plain> {
    if x.dtype() == DType::F32 { x.clone().try_into_primitive::<Flex>().ok() } else { None }
}

/// Applies `kernel`. `shape` is the shape of the result.
pub fn apply<K: Kernel<N>, const N: usize, const D: usize>(
    kernel: K,
    inputs: [Input; N],
    shape: [usize; D],
) -> Tensor<D> {
    if inputs.iter().all(|input| matches!(input, Input::Constant(_))) {
        let values = inputs.map(|input| match input {
            Input::Constant(x) => Values::new(x),
            Input::Variable(x) => Values::new(x.into_primitive()),
        });
        let (y, _) = kernel.forward(values.each_ref().map(Deref::deref), false);
        return Tensor::from_primitive::<Flex>(tensor(y, shape));
    }
    let inputs = inputs.map(|input| match input {
        Input::Constant(x) => Tracked::new(x),
        Input::Variable(x) => x,
    });
    let nodes = inputs.each_ref().map(Tracked::node);
    let values = inputs.map(|x| Values::new(x.into_primitive()));
    let y = match Step::<K>(PhantomData).prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(step) => {
            let (y, saved) = kernel.forward(values.each_ref().map(Deref::deref), true);
            step.finish((kernel, values, saved), tensor(y, shape))
        }
        OpsKind::UnTracked(step) => {
            step.finish(tensor(kernel.forward(values.each_ref().map(Deref::deref), false).0, shape))
        }
    };
    Tensor::from_primitive::<Autodiff<Flex>>(y)
}

/// The backward pass of `K` in Burn's autodiff graph.
#[derive(Debug)]
struct Step<K>(PhantomData<K>);

impl<K: Kernel<N>, const N: usize> Backward<Flex, N> for Step<K> {
    type State = (K, [Values; N], K::Saved);

    fn backward(self, ops: Ops<Self::State, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let dy = Values::new(gradients.consume::<Flex>(&ops.node));
        let (kernel, values, saved) = ops.state;
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let computed = kernel.backward(values.each_ref().map(Deref::deref), saved, &dy, wanted);
        dy.give_back();
        for ((parent, gradient), values) in ops.parents.into_iter().zip(computed).zip(values) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                gradients.register::<Flex>(parent.id, tensor(gradient, values.shape()));
            }
            values.give_back();
        }
    }
}

/// A contiguous tensor in row-major order.
#[derive(Clone, Debug)]
pub struct Values(Plain);

impl Values {
    /// Wraps `x`. Copies it only if it is not contiguous.
    pub fn new(x: Plain) -> Self {
        Self(if x.is_contiguous() { x } else { x.to_contiguous() })
    }

    fn shape(&self) -> Shape {
        self.0.layout().shape().clone()
    }

    /// Returns the elements as a mutable slice. Copies them first if there are other handles.
    pub fn slice_mut(&mut self) -> &mut [f32] {
        let start = self.0.layout().start_offset();
        let count = self.0.layout().num_elements();
        &mut self.0.storage_mut()[start..start + count]
    }

    /// Returns the buffer to the pool if there are no other handles.
    fn give_back(self) {
        let whole = self.0.bytes().len() == size_of_val(&*self);
        if whole
            && self.0.is_unique()
            && let Ok(buffer) = self.0.into_data().try_into_vec()
        {
            pool::give_back(buffer);
        }
    }

    /// Converts to a tensor of Burn.
    pub fn into_tensor<const D: usize>(self) -> Tensor<D> {
        Tensor::from_primitive::<Flex>(self.0)
    }
}

impl Deref for Values {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        let start = self.0.layout().start_offset();
        &self.0.storage()[start..start + self.0.layout().num_elements()]
    }
}

/// Wraps the vector without copying it.
fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> Plain {
    Plain::from_data(TensorData::new(values, shape))
}
