//! The trait of models that can be trained.

use burn::{
    module::Module,
    tensor::{Int, Tensor},
};

/// A Burn module that maps token ids to logits. [`train`](fn@crate::train::train) trains any type that
/// implements it.
///
/// ```
/// use burn::{module::{Module, Param}, tensor::{Int, Tensor, module::embedding}};
/// use composer_nas::model::Network;
///
/// /// A bigram model: the logits of the next token depend on the current token only.
/// #[derive(Module, Debug)]
/// struct Bigram {
///     /// `[V, V]`: one row of logits per current token.
///     logits: Param<Tensor<2>>,
/// }
///
/// impl Network for Bigram {
///     fn vocab_size(&self) -> usize {
///         self.logits.dims()[0]
///     }
///
///     fn logits(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
///         embedding(self.logits.val(), tokens)
///     }
/// }
/// ```
pub trait Network: Module {
    /// Returns the number of token ids. Every input token is below it.
    fn vocab_size(&self) -> usize;

    /// Returns the logits of every token at every position.
    ///
    /// # Shapes
    /// `tokens`: `[B, S]` (batch, sequence) to `[B, S, V]` (vocabulary).
    fn logits(&self, tokens: Tensor<2, Int>) -> Tensor<3>;

    /// Returns the logits, and the auxiliary loss of the layers (one element) if there is one.
    ///
    /// The trainer minimizes the sum of the cross-entropy and the auxiliary loss. Layers that route tokens use the
    /// auxiliary loss to balance the load of the experts. The default has none.
    ///
    /// # Shapes
    /// Logits as in [`logits`](Self::logits).
    fn logits_and_aux_loss(&self, tokens: Tensor<2, Int>) -> (Tensor<3>, Option<Tensor<1>>) {
        (self.logits(tokens), None)
    }
}
