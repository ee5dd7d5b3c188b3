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
}
