//! Validation of protocols, and the memory that they need.

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
    train::{TrainConfig, TrainError, check_device, least_bytes},
};

/// An invalid protocol.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The widths are inconsistent.
    #[error(transparent)]
    Dims(#[from] DimsError),
    /// The initialisation is invalid.
    #[error(transparent)]
    Init(#[from] InitError),
    /// There are no trainings.
    #[error("the protocol has no trainings: add at least one task")]
    NoTrainings,
    /// Two trainings have the same label.
    #[error("the protocol has the training {label:?} twice: change or remove one of them")]
    Repeated {
        /// The label.
        label: String,
    },
    /// A training is invalid.
    #[error("training {label:?} is invalid")]
    Training {
        /// The label of the training.
        label: String,
        /// What is wrong.
        source: Box<TrainingError>,
    },
}

/// Why a training is invalid.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrainingError {
    /// The task is inconsistent.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The settings of the training are inconsistent.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A size is above the limit, or needs more memory than is available.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The architecture has a symbol without a primitive.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The number of repetitions is 0.
    #[error("repeats is 0: use at least 1")]
    NoRepeats,
    /// A weight is out of bounds or not a number.
    #[error("weight is {0}: use a number between 0.001 and 1000, or omit it for 1")]
    Weight(f64),
    /// The test set is empty.
    #[error("test_examples is 0: use at least 1")]
    NoTestExamples,
    /// The training set is empty.
    #[error("the fixed training set has 0 sequences: use at least 1, or fresh data")]
    NoTrainExamples,
}

impl Protocol {
    /// Checks every setting.
    ///
    /// # Errors
    /// [`ProtocolError`], which names the training and says what to change.
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

    /// Builds the model of `architecture`, without a vocabulary, and drops it. All trainings use the same widths; an
    /// auto-encoder has more requirements.
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

    /// Compares the memory of every training of `architecture`, which may be empty, with what there is.
    pub(super) fn check_memory(
        &self,
        architecture: &Architecture,
        primitives: &Primitives,
        device: &Device,
    ) -> Result<(), ProtocolError> {
        self.trainings.iter().try_for_each(|training| {
            let fits = self.check_training(training, 1, architecture, primitives, device);
            fits.map(drop)
                .map_err(|source| ProtocolError::Training { label: training.label(), source: Box::new(source) })
        })
    }

    /// Compares the minimum memory of `members` equal trainings at once with what there is: the examples and, on a CPU,
    /// the trainings themselves with that of this process; on an accelerator the trainings with that of the device.
    /// Returns the bytes that they need there.
    pub(super) fn check_training(
        &self,
        training: &Training,
        members: usize,
        architecture: &Architecture,
        primitives: &Primitives,
        device: &Device,
    ) -> Result<u128, TrainingError> {
        let Training { task, train, .. } = training;
        let length = task.input_len();
        let fixed = training.sequences().saturating_sub(training.test_examples) as u64;
        let instance = size_of::<Instance>().saturating_add(length.saturating_mul(BYTES_PER_TOKEN));
        let test = [training.test_examples as u64, length as u64, BYTES_PER_BATCHED_TOKEN];
        let members = members as u128;
        let examples = limits::product(&[fixed, instance as u64]).saturating_add(limits::product(&test));
        let examples = examples.saturating_mul(members);
        limits::check_memory("the examples of a training", examples)?;
        let width = u128::from(self.dims.width());
        let decoder = if task.is_auto_encoding() { 2 * width * width } else { 0 };
        let spec = self.model(task, architecture.clone());
        if device::is_accelerator(device) {
            let each = check_device(&spec, primitives, train, [train.batch_size, length], decoder, device)?;
            let all = each.saturating_mul(members);
            let remedy = "make fewer trainings at once";
            limits::check_device_memory("several trainings", all, device::memory(device), remedy)?;
            return Ok(all);
        }
        let step = least_bytes(&spec, primitives, train, length, decoder)?;
        let all = step.saturating_mul(members).saturating_add(examples);
        limits::check_memory("a training, with its weights, optimizer and examples,", all)?;
        Ok(all)
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

    /// Returns the number of sequences that are in memory at the same time.
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

/// The allowed weights of a training.
const WEIGHTS: RangeInclusive<f64> = 1e-3..=1e3;
/// The size of one input and target of an instance.
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
            (|p| p.trainings[0].repeats = 0, "repeats is 0"),
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
