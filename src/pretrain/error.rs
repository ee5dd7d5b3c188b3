//! Errors of a pre-training.

use std::{io, path::PathBuf};

use thiserror::Error;

use crate::{
    data::TokenError, line_file::LineFileError, primitive::BuildError, train::TrainError, weights::WeightsError,
};

/// A pre-training that cannot run or continue. A diverged training is not an error but an
/// [`Outcome`](crate::train::Outcome); its last good checkpoint is kept.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PretrainError {
    /// The settings are invalid, or the device failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The corpus cannot be used.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// The model cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A checkpoint cannot be read.
    #[error("a checkpoint cannot be used; remove its folder to continue from the previous one")]
    Weights(#[from] WeightsError),
    /// A checkpoint cannot be written.
    #[error(
        "a checkpoint cannot be written; fix the cause and run again: the training \
         continues from the previous checkpoint"
    )]
    Unsaved(#[source] WeightsError),
    /// The metrics file cannot be read or written.
    #[error(transparent)]
    Metrics(#[from] LineFileError),
    /// The steps of the checkpoints are not steps at which the loss is read.
    #[error("checkpoint_every is {checkpoint_every}: it must be a multiple of train.log_every, which is {log_every}")]
    CheckpointEvery {
        /// Steps between checkpoints.
        checkpoint_every: usize,
        /// Steps between readings of the loss.
        log_every: usize,
    },
    /// The vocabulary of the corpus is larger than that of the model.
    #[error("the corpus has {corpus} token ids, but the model has {model}: build the model with at least as many")]
    Vocabulary {
        /// The vocabulary size of the corpus.
        corpus: usize,
        /// The vocabulary size of the model.
        model: usize,
    },
    /// The folder belongs to another run.
    #[error("{} belongs to another run: {part} was {was} and is now {is}; choose another folder, or restore the old \
        settings",
        .path.display())]
    OtherRun {
        /// The file that describes the other run.
        path: PathBuf,
        /// The setting that differs.
        part: String,
        /// Its value in the folder.
        was: String,
        /// Its value now.
        is: String,
    },
    /// An accelerator disappeared or ran out of memory.
    #[error(
        "the device failed: {0}; run again: the training continues from the last checkpoint. If memory ran out, \
        use a smaller micro_batch or recompute"
    )]
    DeviceFailed(String),
    /// A file of the run is invalid.
    #[error("{} is damaged: {reason}; remove it to continue without it", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The problem.
        reason: String,
    },
    /// A file of the run cannot be read or written.
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
