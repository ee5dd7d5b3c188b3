//! What a protocol must be to be carried out, and what it needs.

use std::{collections::BTreeSet, ops::RangeInclusive};

use burn::tensor::Device;
use thiserror::Error;

use super::{Protocol, TaskError, TrainData, Training, task::Instance};
use crate::{
    device,
    dims::{DimsError, InitError},
    limits::{self, LimitError},
    model::{AutoEncoder, HybridLm, ModelSpec},
    primitive::{BuildError, Primitives, RegistryError},
    seed::Seed,
    space::Architecture,
    train::{TrainConfig, TrainError, least_bytes},
};

/// A protocol that cannot be carried out.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The widths contradict each other.
    #[error(transparent)]
    Dims(#[from] DimsError),
    /// The initial weights have no such law.
    #[error(transparent)]
    Init(#[from] InitError),
    /// Nothing is trained.
    #[error("the protocol trains nothing: name at least one task")]
    NoTrainings,
    /// Two trainings that cannot be told apart.
    #[error("the protocol trains {label:?} twice: change one of them or leave it out")]
    Repeated {
        /// Label of both.
        label: String,
    },
    /// A training that cannot be carried out.
    #[error("training {label:?} cannot be carried out")]
    Training {
        /// Which training.
        label: String,
        /// What is wrong.
        source: Box<TrainingError>,
    },
}

/// What is wrong with one training.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrainingError {
    /// The task contradicts itself.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The training contradicts itself.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A size beyond any training, or beyond the memory there is.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The registry lacks a primitive of the architecture.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Trained not even once.
    #[error("repeats is 0: a training is carried out at least once")]
    NoRepeats,
    /// A weight out of bounds, or none.
    #[error("weight is {0}: a training counts between 0.001 and 1000 times as much as another; leave it out for 1")]
    Weight(f64),
    /// An empty test set.
    #[error("test_examples is 0: an accuracy needs at least one sequence")]
    NoTestExamples,
    /// An empty training set.
    #[error("the fixed training set has 0 sequences: give it at least one, or use fresh data")]
    NoTrainExamples,
}

impl Protocol {
    /// Checks every setting.
    ///
    /// # Errors
    /// [`ProtocolError`] names the training and says what to change.
    pub fn validate(&self) -> Result<(), ProtocolError> {
        self.dims.validate()?;
        self.init.validate()?;
        if self.trainings.is_empty() {
            return Err(ProtocolError::NoTrainings);
        }
        let mut labels = BTreeSet::new();
        for training in &self.trainings {
            let label = training.label();
            training
                .validate()
                .map_err(|source| ProtocolError::Training { label: label.clone(), source: Box::new(source) })?;
            if !labels.insert(label.clone()) {
                return Err(ProtocolError::Repeated { label });
            }
        }
        Ok(())
    }

    /// Builds the model that `architecture` is, without a vocabulary, and lets go of it. Layers have the same widths in
    /// all trainings, and an auto-encoder asks more of them.
    pub(super) fn build(
        &self,
        architecture: &Architecture,
        primitives: &Primitives,
        device: &Device,
    ) -> Result<(), BuildError> {
        let spec = ModelSpec {
            architecture: architecture.clone(),
            dims: self.dims.clone(),
            vocab_size: 1,
            tied_embeddings: false,
            head_bias: true,
            init: self.init,
        };
        if self.trainings.iter().any(|training| training.task.is_auto_encoding()) {
            AutoEncoder::new(&spec, primitives, Seed(0), device).map(drop)
        } else {
            HybridLm::new(&spec, primitives, Seed(0), device).map(drop)
        }
    }

    /// Holds every training of `architecture`, which may have no layer, against the memory that this process can have.
    pub(super) fn check_memory(
        &self,
        architecture: &Architecture,
        primitives: &Primitives,
        device: &Device,
    ) -> Result<(), ProtocolError> {
        self.trainings.iter().try_for_each(|training| {
            let fits = self.check_training(training, architecture, primitives, device);
            fits.map_err(|source| ProtocolError::Training { label: training.label(), source: Box::new(source) })
        })
    }

    /// Holds what is in memory at once, at least, against what this process can have: the examples, and the training
    /// itself where it is on the processor.
    pub(super) fn check_training(
        &self,
        training: &Training,
        architecture: &Architecture,
        primitives: &Primitives,
        device: &Device,
    ) -> Result<(), TrainingError> {
        let Training { task, train, .. } = training;
        let length = task.input_len();
        let fixed = training.sequences().saturating_sub(training.test_examples) as u64;
        let instance = size_of::<Instance>().saturating_add(length.saturating_mul(BYTES_PER_TOKEN));
        let test = [training.test_examples as u64, length as u64, BYTES_PER_BATCHED_TOKEN];
        let examples = limits::product(&[fixed, instance as u64]).saturating_add(limits::product(&test));
        limits::check_memory("the examples of a training", examples)?;
        if device::is_accelerator(device) {
            return Ok(());
        }
        let width = u128::from(self.dims.width());
        let decoder = if task.is_auto_encoding() { 2 * width * width } else { 0 };
        let spec = self.model(task, architecture.clone());
        let step = least_bytes(&spec, primitives, train, length, decoder)?;
        let all = step.saturating_add(examples);
        Ok(limits::check_memory("a training, with its weights, optimizer and examples,", all)?)
    }
}

impl Training {
    fn validate(&self) -> Result<(), TrainingError> {
        self.task.validate()?;
        if self.repeats == 0 {
            return Err(TrainingError::NoRepeats);
        }
        if !WEIGHTS.contains(&self.weight) {
            return Err(TrainingError::Weight(self.weight));
        }
        if self.test_examples == 0 {
            return Err(TrainingError::NoTestExamples);
        }
        if self.data == TrainData::Fixed(0) {
            return Err(TrainingError::NoTrainExamples);
        }
        self.train.validate()?;
        self.runs().iter().try_for_each(TrainConfig::validate)?;
        Ok(self.check_sizes()?)
    }

    /// Sequences that are in memory together.
    fn sequences(&self) -> usize {
        let fixed = match self.data {
            TrainData::Fresh => 0,
            TrainData::Fixed(examples) => examples,
        };
        self.test_examples.saturating_add(fixed)
    }

    fn check_sizes(&self) -> Result<(), LimitError> {
        limits::at_most("repeats", self.repeats, limits::MAX_REPEATS)?;
        limits::at_most("the number of examples", self.sequences(), limits::MAX_SEQUENCES)?;
        let length = self.task.input_len() as u64;
        for (what, sequences) in
            [("a step's tokens", self.train.batch_size), ("the examples' tokens", self.sequences())]
        {
            limits::product_at_most(what, &[sequences as u64, length], limits::MAX_TOKENS)?;
        }
        Ok(())
    }
}

/// What a training may count beside others.
const WEIGHTS: RangeInclusive<f64> = 1e-3..=1e3;
/// An input and a target of an instance.
const BYTES_PER_TOKEN: usize = size_of::<u32>() + size_of::<Option<u32>>();
/// The same in a batch.
const BYTES_PER_BATCHED_TOKEN: u64 = 2 * size_of::<i32>() as u64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dims::InitScheme,
        evaluate::mad::{Hyperparameters, Task, task::Compression},
    };

    #[test]
    fn protocols_that_cannot_be_carried_out_are_refused() {
        let broken = |change: fn(&mut Protocol)| {
            let mut protocol = Protocol::quick();
            change(&mut protocol);
            crate::text::causes(&protocol.validate().unwrap_err())
        };
        for (change, words) in [
            ((|p| p.dims.heads = 3) as fn(&mut Protocol), "heads"),
            (|p| p.init = InitScheme::FanInEmbedding(f64::NAN), "standard deviation"),
            (|p| p.trainings.clear(), "at least one task"),
            (|p| p.trainings[1] = p.trainings[0].clone(), "twice"),
            (|p| p.trainings[0].repeats = 0, "at least once"),
            (|p| p.trainings[0].test_examples = 0, "test_examples"),
            (|p| p.trainings[0].data = TrainData::Fixed(0), "fixed training set"),
            (|p| p.trainings[0].train.steps = 0, "steps"),
            (|p| p.trainings[0].train.steps = usize::MAX, "steps is 18446744073709551615"),
            (|p| p.trainings[0].repeats = usize::MAX, "repeats is 18446744073709551615"),
            (|p| p.trainings[0].test_examples = usize::MAX, "examples is 18446744073709551615"),
            (|p| p.trainings[0].data = TrainData::Fixed(1 << 40), "examples is"),
            (|p| p.trainings[0].train.batch_size = 1 << 63, "batch_size is 9223372036854775808"),
            (|p| p.dims.d_ff = 1 << 63, "at most 16777216"),
            (|p| p.trainings[0].train.schedule.peak = f64::NAN, "peak"),
            (|p| p.trainings[0].grid = vec![Hyperparameters { learning_rate: -1.0, weight_decay: 0.0 }], "peak"),
            (|p| p.trainings[0].task = Task::Compression(Compression { vocab_size: 1, seq_len: 8 }), "vocab"),
        ] {
            let message = broken(change);
            assert!(message.contains(words), "{message}");
        }
    }
}
