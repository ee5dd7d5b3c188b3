//! What the trainer needs of a model.

use burn::{
    module::Module,
    tensor::{Int, Tensor},
};

/// A Burn module that maps token ids to logits.
pub trait Network: Module {
    /// Number of token ids; every input token is below it.
    fn vocab_size(&self) -> usize;

    /// Scores of every token at every position.
    ///
    /// # Shapes
    /// `tokens`: `[B, S]` (batch, sequence) to `[B, S, V]` (vocabulary).
    fn logits(&self, tokens: Tensor<2, Int>) -> Tensor<3>;

    /// The scores, and what training adds to their loss, one element, where anything: layers that route ask for
    /// balance. A trainer follows the gradient of the sum.
    ///
    /// # Shapes
    /// As [`logits`](Self::logits).
    fn logits_and_aux_loss(&self, tokens: Tensor<2, Int>) -> (Tensor<3>, Option<Tensor<1>>) {
        (self.logits(tokens), None)
    }
}
