//! The state that a layer keeps while it decodes a sequence.

use std::{any::Any, fmt::Debug};

use burn::tensor::Tensor;

use crate::kernels::{ConvWindow, KeyValues};

/// The decoding state of one layer, such as keys and values, a convolution window or a recurrent state. A new cache is
/// empty.
///
/// Each layer chooses the type of its state ([`LayerState`]); see [`Mixer::step`](super::Mixer::step).
#[derive(Debug, Default)]
pub struct LayerCache(Option<Box<dyn AnyState>>);

/// The state of one layer during decoding, for all sequences of a batch.
///
/// ```
/// use burn::tensor::Tensor;
/// use composer_nas::layer::LayerState;
///
/// /// The sum of all inputs so far.
/// #[derive(Clone, Debug)]
/// struct RunningSum {
///     /// `[B, D]`.
///     sum: Tensor<2>,
/// }
///
/// impl LayerState for RunningSum {
///     fn elements(&self) -> usize {
///         self.sum.shape().num_elements()
///     }
/// }
/// ```
pub trait LayerState: Clone + Debug + Send + 'static {
    /// Returns the number of stored elements, over the whole batch.
    fn elements(&self) -> usize;
}

impl LayerCache {
    /// Calls `step` with the state and stores the modified state.
    ///
    /// If the cache is empty, or holds the state of another type of layer, the state is created by `start` first.
    pub fn advance<T: LayerState, O>(&mut self, start: impl FnOnce() -> T, step: impl FnOnce(&mut T) -> O) -> O {
        let held = self.0.take().and_then(|state| state.into_any().downcast().ok());
        let mut state: Box<T> = held.unwrap_or_else(|| Box::new(start()));
        let output = step(&mut state);
        self.0 = Some(state);
        output
    }

    /// Appends `x` to the cached inputs, applies `forward` to the whole sequence, and returns the outputs of the new
    /// tokens.
    ///
    /// This is correct for every causal layer, but the work grows with the square of the length.
    ///
    /// # Shapes
    /// `x`: `[B, S, D]`, the next tokens, to `[B, S, D]`.
    pub(crate) fn replay(&mut self, x: Tensor<3>, forward: impl FnOnce(Tensor<3>) -> Tensor<3>) -> Tensor<3> {
        let seq = x.dims()[1];
        self.advance(Inputs::default, |inputs| {
            let past = inputs.0.take();
            let all = past.map_or(x.clone(), |past| Tensor::cat(vec![past, x], 1));
            inputs.0 = Some(all.clone());
            let [batch, total, width] = all.dims();
            forward(all).slice([0..batch, total - seq..total, 0..width])
        })
    }

    /// Returns the number of stored elements, over the whole batch; compare with
    /// [`LayerCost::cache_elements`](crate::primitive::LayerCost::cache_elements).
    pub fn elements(&self) -> usize {
        self.0.as_ref().map_or(0, |state| state.elements())
    }

    /// Whether the layer uses [`replay`](Self::replay).
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) fn is_replay(&self) -> bool {
        self.0.as_ref().is_some_and(|state| (**state).as_any().is::<Inputs>())
    }
}

impl Clone for LayerCache {
    fn clone(&self) -> Self {
        Self(self.0.as_ref().map(|state| (**state).boxed_clone()))
    }
}

/// All inputs so far: `[B, S, D]`.
#[derive(Clone, Debug, Default)]
struct Inputs(Option<Tensor<3>>);

impl LayerState for Inputs {
    fn elements(&self) -> usize {
        self.0.as_ref().map_or(0, |inputs| inputs.shape().num_elements())
    }
}

impl LayerState for KeyValues {
    fn elements(&self) -> usize {
        KeyValues::elements(self)
    }
}

impl LayerState for ConvWindow {
    fn elements(&self) -> usize {
        ConvWindow::elements(self)
    }
}

/// Object-safe counterpart of [`LayerState`].
trait AnyState: Debug + Send {
    fn elements(&self) -> usize;
    #[cfg(any(test, feature = "testkit"))]
    fn as_any(&self) -> &dyn Any;
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
    fn boxed_clone(&self) -> Box<dyn AnyState>;
}

impl<T: LayerState> AnyState for T {
    fn elements(&self) -> usize {
        LayerState::elements(self)
    }
    #[cfg(any(test, feature = "testkit"))]
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
    fn boxed_clone(&self) -> Box<dyn AnyState> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Count(usize);

    impl LayerState for Count {
        fn elements(&self) -> usize {
            self.0
        }
    }

    #[test]
    fn a_state_lives_from_step_to_step_and_clones_are_independent() {
        let mut memory = LayerCache::default();
        let count = |memory: &mut LayerCache| {
            memory.advance(
                || Count(0),
                |count| {
                    count.0 += 1;
                    count.0
                },
            )
        };
        assert_eq!((memory.elements(), count(&mut memory), count(&mut memory)), (0, 1, 2));
        let mut fork = memory.clone();
        assert_eq!((count(&mut fork), count(&mut memory), memory.elements()), (3, 3, 3));
        memory.advance(|| Inputs(None), |_| ());
        assert_eq!((memory.elements(), memory.is_replay(), fork.is_replay()), (0, true, false));
    }
}
