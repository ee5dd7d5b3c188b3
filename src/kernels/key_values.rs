//! The key/value cache of attention.

use burn::tensor::Tensor;

/// The cached keys and values of the tokens seen so far. Empty at first.
#[derive(Clone, Debug, Default)]
pub struct KeyValues {
    /// Rotated keys, and values, of the last `T` tokens: `[B, T, K C]` each.
    kept: Option<(Tensor<3>, Tensor<3>)>,
    /// The number of tokens seen.
    pub(super) tokens: usize,
}

impl KeyValues {
    /// Appends keys and values, `[B, S, K C]`, and keeps those of the last `window` tokens. Returns the previously
    /// cached ones with the new ones.
    pub(super) fn push(&mut self, key: Tensor<3>, value: Tensor<3>, window: usize) -> (Tensor<3>, Tensor<3>) {
        self.tokens += key.dims()[1];
        let (keys, values) = match self.kept.take() {
            None => (key, value),
            Some((keys, values)) => (Tensor::cat(vec![keys, key], 1), Tensor::cat(vec![values, value], 1)),
        };
        let old = keys.dims()[1].saturating_sub(window);
        let last = |x: &Tensor<3>| x.clone().narrow(1, old, x.dims()[1] - old);
        self.kept = Some((last(&keys), last(&values)));
        (keys, values)
    }

    /// Returns the number of stored elements, over the whole batch.
    pub fn elements(&self) -> usize {
        self.kept.as_ref().map_or(0, |(keys, values)| keys.shape().num_elements() + values.shape().num_elements())
    }
}
