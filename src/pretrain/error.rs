//! What can go wrong around a pre-training.

use std::{io, path::PathBuf};

use thiserror::Error;

use crate::{
    data::TokenError, line_file::LineFileError, primitive::BuildError, train::TrainError, weights::WeightsError,
};

/// A pre-training that cannot run or go on. A run that diverges is no error but an
/// [`Outcome`](crate::train::Outcome): its last good checkpoint is kept.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PretrainError {
    /// The settings or the device.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The corpus.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// The model.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The weights of a checkpoint that is there.
    #[error("a checkpoint cannot be used; remove its folder to go on from the one before")]
    Weights(#[from] WeightsError),
    /// The weights of a checkpoint that is to be written.
    #[error("a checkpoint cannot be written; run again when it can be, the training goes on from the one before")]
    Unsaved(#[source] WeightsError),
    /// The metrics.
    #[error(transparent)]
    Metrics(#[from] LineFileError),
    /// Checkpoints would fall between looks at the loss.
    #[error("checkpoint_every {checkpoint_every} is no multiple of train.log_every {log_every}")]
    CheckpointEvery {
        /// Steps between checkpoints.
        checkpoint_every: usize,
        /// Steps between looks at the loss.
        log_every: usize,
    },
    /// The corpus has tokens that the model has not.
    #[error("the corpus has {corpus} token ids, the model {model}: build the model with at least as many")]
    Vocabulary {
        /// Token ids of the corpus.
        corpus: usize,
        /// Token ids of the model.
        model: usize,
    },
    /// The folder belongs to another run.
    #[error("{} belongs to another run: {part} was {was}, is {is}; choose another folder, or the old settings",
        .path.display())]
    OtherRun {
        /// The file that says so.
        path: PathBuf,
        /// What differs.
        part: String,
        /// What the folder holds.
        was: String,
        /// What is asked for now.
        is: String,
    },
    /// A file of the run that makes no sense.
    #[error("{} is damaged: {reason}; remove it to go on without", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file of the run that cannot be read or written.
    #[error("cannot read or write {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
}

impl PretrainError {
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
