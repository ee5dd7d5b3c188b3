//! What can go wrong around a conversion.

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

/// A conversion that cannot go on. Every block and every evaluation that was finished is kept.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The parent cannot be read.
    #[error("the parent cannot be used")]
    Parent(#[from] ImportError),
    /// A model that does not follow from the parent.
    #[error("{field} of the specification is {is}, the parent's {was}: only layers can be replaced")]
    OtherModel {
        /// What differs.
        field: &'static str,
        /// The parent's.
        was: String,
        /// What was asked for.
        is: String,
    },
    /// A layer that the parent has not.
    #[error("there is no layer {layer}: the parent has {layers}")]
    NoSuchLayer {
        /// What was named, from 0.
        layer: usize,
        /// How many there are.
        layers: usize,
    },
    /// An architecture that needs a block which the library has not.
    #[error(
        "the library has no {symbol} for layer {layer}: name it among the alternatives and build the library again"
    )]
    NoBlock {
        /// The layer, from 0.
        layer: usize,
        /// What should stand there.
        symbol: Symbol,
    },
    /// A budget that no choice keeps.
    #[error(
        "at most {max} of {what}: the cheapest choice of layers needs {least}; raise the budget, or allow cheaper layers"
    )]
    Budget {
        /// What is counted.
        what: String,
        /// The budget.
        max: u64,
        /// The least that can be reached.
        least: u64,
    },
    /// Settings that cannot be.
    #[error("{name} is {value}: {remedy}")]
    Setting {
        /// Which one.
        name: &'static str,
        /// Its value.
        value: String,
        /// What would do.
        remedy: &'static str,
    },
    /// The text has more token ids than the parent.
    #[error("the text has {text} token ids, the parent {parent}: tokenize it with the parent's tokenizer.json")]
    Vocabulary {
        /// Token ids of the text.
        text: usize,
        /// Token ids of the parent.
        parent: usize,
    },
    /// The folder holds the library of another parent, of other text or of other settings.
    #[error("{} is the library of another conversion: {part} was {was}, is {is}; choose another folder, or the old settings",
        .path.display())]
    OtherLibrary {
        /// The file that says so.
        path: PathBuf,
        /// What differs.
        part: String,
        /// What the folder holds.
        was: String,
        /// What is asked for now.
        is: String,
    },
    /// Another process works in the folder.
    #[error("{} is in use by another process: wait for it, or choose another folder", .path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A file that makes no sense.
    #[error("{} is damaged: {reason}; remove it, and it is made again", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A training that left the numbers there are.
    #[error("the training of {id} for layer {layer} diverged at step {step}: lower the learning rate")]
    Diverged {
        /// The layer, from 0.
        layer: usize,
        /// What was trained.
        id: PrimitiveId,
        /// The step.
        step: usize,
    },
    /// A block whose output before any training is no number.
    #[error("what {id} adds at layer {layer} is not finite before any training: leave it out of the alternatives")]
    BlockNotFinite {
        /// The layer, from 0.
        layer: usize,
        /// What gives it.
        id: PrimitiveId,
    },
    /// A healing that left the numbers there are.
    #[error(
        "the healing diverged at step {step}: lower the learning rate; the last good weights are in its checkpoint"
    )]
    HealingDiverged {
        /// The step.
        step: usize,
    },
    /// The parent's scores are no numbers.
    #[error(
        "the parent's {what} on the text is not finite: is the checkpoint damaged, or the text not for its tokenizer?"
    )]
    NotFinite {
        /// What is not.
        what: &'static str,
    },
    /// A candidate could not be evaluated.
    #[error("{architecture} could not be evaluated")]
    Evaluation {
        /// Which one.
        architecture: String,
        /// Why.
        source: EvalError,
    },
    /// A file that cannot be read or written.
    #[error("cannot read or write {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// A block's weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A layer that cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A primitive that is not there.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The space.
    #[error(transparent)]
    Space(#[from] SpaceError),
    /// A cost that cannot be counted.
    #[error(transparent)]
    Cost(#[from] CostError),
    /// The text.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// A window of the text.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The settings of a training, or the device.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The search.
    #[error("the search stopped")]
    Search(#[from] PipelineError),
    /// The healing.
    #[error("the healing cannot go on")]
    Heal(#[from] PretrainError),
}

impl ConvertError {
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
