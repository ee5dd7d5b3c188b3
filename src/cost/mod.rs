//! What a model costs, in closed form: parameters, work per token, and memory per sequence when decoding.
//!
//! # Convention
//! Work is counted as Megatron-LM does (`num_floating_point_operations` in `megatron/training/training.py`; the formula
//! of Narayanan et al. 2021, arXiv 2104.04473, appendix, with causal attention halved): a multiply-add is two
//! operations, attention scores and mixing count the causal half, logits add `2 d V` per token whether or not the head
//! is tied, norms and the embedding look-up count nothing, and training takes three times the forward pass. TorchTitan
//! counts `6 N + 6 L H (2 head_dim) s` without halving, so the two differ twofold in the attention term.
//!
//! These numbers compare models; how fast one runs has to be measured: [`LayerTimes`].

mod budget;
mod comparison;
mod measured;
mod model_cost;

pub use budget::{Budget, Metric};
pub use comparison::{Comparison, ComparisonRow};
pub use measured::{LayerTimes, MeasureError, Seconds, Timing};
pub use model_cost::{CostError, ModelCost, Workload};
