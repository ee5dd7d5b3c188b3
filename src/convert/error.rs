//! Errors of a conversion.

use std::{io, path::PathBuf};

use thiserror::Error;

use crate::{
    cost::CostError,
    data::TokenError,
    evaluate::EvalError,
    import::ImportError,
    pipeline::PipelineError,
    pretrain::PretrainError,
    primitive::{BuildError, PrimitiveId, RegistryError, Symbol},
    space::SpaceError,
    train::{BatchError, TrainError},
    weights::WeightsError,
};

/// An error of a conversion. All finished blocks and evaluations are kept.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The parent cannot be read.
    #[error("the parent cannot be used")]
    Parent(#[from] ImportError),
    /// The model differs from the parent in more than its layers.
    #[error("{field} of the specification is {is}, the parent's {was}: only layers can be replaced")]
    OtherModel {
        /// The part that differs.
        field: &'static str,
        /// The value of the parent.
        was: String,
        /// The requested value.
        is: String,
    },
    /// The parent has no such layer.
    #[error("there is no layer {layer}: the parent has {layers}")]
    NoSuchLayer {
        /// The requested layer, starting at 0.
        layer: usize,
        /// The number of layers.
        layers: usize,
    },
    /// The library does not have this block.
    #[error("the library has no {symbol} for layer {layer}: add it to the alternatives and build the library again")]
    NoBlock {
        /// The layer, starting at 0.
        layer: usize,
        /// The requested symbol.
        symbol: Symbol,
    },
    /// No choice of layers is within the budget.
    #[error(
        "no choice of layers needs at most {max} of {what}: the least is {least}; raise the budget or allow cheaper layers"
    )]
    Budget {
        /// The counted quantity.
        what: String,
        /// The budget.
        max: u64,
        /// The smallest possible value.
        least: u64,
    },
    /// A setting is invalid.
    #[error("{name} is {value}: {remedy}")]
    Setting {
        /// The name of the setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// How to fix it.
        remedy: &'static str,
    },
    /// The vocabulary of the text is larger than that of the parent.
    #[error("the text has {text} token ids, the parent {parent}: tokenize it with the parent's tokenizer.json")]
    Vocabulary {
        /// The vocabulary size of the text.
        text: usize,
        /// The vocabulary size of the parent.
        parent: usize,
    },
    /// The folder contains a library with another parent, other text or other settings.
    #[error("{} is the library of another conversion: {part} was {was}, is {is}; choose another folder or restore the settings",
        .path.display())]
    OtherLibrary {
        /// The file that records it.
        path: PathBuf,
        /// The part that differs.
        part: String,
        /// The value in the folder.
        was: String,
        /// The requested value.
        is: String,
    },
    /// Another process is using the folder.
    #[error("{} is in use by another process: wait for it, or choose another folder", .path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A file is damaged.
    #[error("{} is damaged: {reason}; delete it, and it will be built again", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The training of a block diverged.
    #[error("the training of {id} for layer {layer} diverged at step {step}: lower the learning rate")]
    Diverged {
        /// The layer, starting at 0.
        layer: usize,
        /// The primitive that was trained.
        id: PrimitiveId,
        /// The step.
        step: usize,
    },
    /// The output of a block is not finite before training.
    #[error("the output of {id} at layer {layer} is not finite before training: remove it from the alternatives")]
    BlockNotFinite {
        /// The layer, starting at 0.
        layer: usize,
        /// The primitive.
        id: PrimitiveId,
    },
    /// A training on the parent's distributions diverged.
    #[error(
        "the training on the parent's distributions diverged at step {step}: lower its learning rate. If it was a \
         healing, its last checkpoint has the last good weights"
    )]
    DistillationDiverged {
        /// The step.
        step: usize,
    },
    /// The outputs of the parent are not finite.
    #[error(
        "the parent's {what} on the text is not finite: is the checkpoint damaged, or is the text for another tokenizer?"
    )]
    NotFinite {
        /// The quantity that is not finite.
        what: &'static str,
    },
    /// The evaluation of a candidate failed.
    #[error("{architecture} could not be evaluated")]
    Evaluation {
        /// The candidate.
        architecture: String,
        /// The error of the evaluator.
        source: EvalError,
    },
    /// A file cannot be read or written.
    #[error("cannot read or write {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// The weights of a block cannot be read or written.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A layer cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A symbol has no primitive.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The search space is invalid.
    #[error(transparent)]
    Space(#[from] SpaceError),
    /// A cost cannot be computed.
    #[error(transparent)]
    Cost(#[from] CostError),
    /// The text cannot be read.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// A window of the text is invalid.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A setting of a training is invalid, or the device failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The search failed.
    #[error("the search stopped")]
    Search(#[from] PipelineError),
    /// The healing failed.
    #[error("the healing failed")]
    Heal(#[from] PretrainError),
}

impl ConvertError {
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
