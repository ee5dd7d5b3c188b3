//! The evaluator of the MAD tasks.

use burn::tensor::Device;
use thiserror::Error;

use super::{
    Protocol, ProtocolError,
    completed_runs::CompletedRuns,
    progress_tracker::ProgressTracker,
    repetitions::{Repetitions, order, score, share},
    run::{Ahead, TrainingSetup},
};
use crate::{
    device,
    evaluate::{Context, EvalError, Evaluator, SizeMatched},
    extrapolate::{Cycle, Target, TargetError},
    primitive::{BuildError, Primitives, RegistryError, Symbol},
    space::Architecture,
    study::{Report, TaskReport, Trial},
};

/// Evaluates architectures by training them on the MAD tasks. The score is named `accuracy`.
///
/// In a [race](crate::study::Race) for this score, the repetitions of the trainings alternate between tasks and stop
/// when the race is lost.
///
/// If there is a folder for [checkpoints](Context::checkpoint), the next attempt does not repeat finished trainings.
/// Trainings that are made [at once](Self::trainings_at_once) finish together.
#[derive(Clone, Debug)]
pub struct Mad {
    setup: TrainingSetup,
}

/// The error of a proxy that cannot be set up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MadError {
    /// The protocol is invalid, or needs more memory than there is.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// A layer cannot be built at the widths of the protocol, so no candidate with it could be trained.
    #[error("no candidate with {primitive} can be trained at the widths of protocol {protocol:?}")]
    Primitive {
        /// The primitive with its letter.
        primitive: String,
        /// The name of the protocol.
        protocol: String,
        /// Why it cannot be built.
        source: Box<BuildError>,
    },
    /// A symbol has no primitive.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl Mad {
    /// Creates an evaluator that follows `protocol`, with the layers of `primitives`, on `device`.
    ///
    /// # Errors
    /// [`MadError`] if the protocol is invalid, or needs more memory than this machine has.
    pub fn new(protocol: Protocol, primitives: &Primitives, device: &Device) -> Result<Self, MadError> {
        protocol.validate()?;
        protocol.check_memory(&Architecture::default(), primitives, device)?;
        Ok(Self::unchecked(protocol, primitives, device))
    }

    /// Checks, before a search begins, that candidates with layers of each of these symbols can be trained. It builds a
    /// model of one layer for every symbol.
    ///
    /// # Errors
    /// [`MadError`] for the first symbol whose layer cannot be built at the widths of the protocol, or needs more
    /// memory than there is.
    pub fn check(&self, symbols: impl IntoIterator<Item = Symbol>) -> Result<(), MadError> {
        let TrainingSetup { protocol, primitives, device, .. } = &self.setup;
        for symbol in symbols {
            let primitive = primitives.get(symbol)?;
            let architecture = Architecture::new([symbol]);
            protocol.check_memory(&architecture, primitives, device)?;
            protocol.build(&architecture, primitives, device).map_err(|source| MadError::Primitive {
                primitive: format!("{} ({symbol})", primitive.id()),
                protocol: protocol.name.clone(),
                source: Box::new(source),
            })?;
        }
        Ok(())
    }

    /// Creates an evaluator with [`Protocol::quick`]. [`new`](Self::new) takes the other presets.
    pub fn quick(primitives: &Primitives, device: &Device) -> Self {
        Self::unchecked(Protocol::quick(), primitives, device)
    }

    /// Creates an evaluator with [`Protocol::hybrid`].
    pub fn hybrid(primitives: &Primitives, device: &Device) -> Self {
        Self::unchecked(Protocol::hybrid(), primitives, device)
    }

    fn unchecked(protocol: Protocol, primitives: &Primitives, device: &Device) -> Self {
        let device = device.clone().without_autodiff();
        let at_once = if device::is_accelerator(&device) { 32 } else { 8 };
        Self { setup: TrainingSetup { protocol, primitives: primitives.clone(), device, at_once } }
    }

    /// Sets how many repetitions of a training are trained as one network at most: 8 by default, and 32 on an
    /// accelerator. 0 counts as 1.
    ///
    /// This changes the speed only. The results are those of single trainings up to rounding. With the layers of this
    /// crate on `flex`, in single precision and without recomputation, they are the same to the bit.
    ///
    /// Trainings are made one by one if a layer of the candidate does not support
    /// [ensembles](crate::layer::Mixer::can_ensemble), if the task is auto-encoding, if intermediate values may stop
    /// the trial, and if several would need more than a quarter of the memory. If trainings at once fail, they are
    /// repeated one by one.
    #[must_use]
    pub fn trainings_at_once(self, count: usize) -> Self {
        Self { setup: TrainingSetup { at_once: count.max(1), ..self.setup } }
    }

    /// Grows every candidate by [`Cycle`] to the size of `blocks` blocks of attention and SwiGLU at the widths of the
    /// protocol. Use it for spaces that mix kinds of layers. `docs/proxy.md` has measurements with 5 blocks.
    ///
    /// # Errors
    /// [`TargetError`] if `blocks` is 0 or more than a model can have.
    pub fn of_blocks(self, blocks: usize) -> Result<SizeMatched<Self, Cycle>, TargetError> {
        let target = Target::custom("candidates", self.setup.protocol.dims.clone(), 1, false, blocks)?;
        let primitives = self.setup.primitives.clone();
        SizeMatched::new(self, Cycle, target, &primitives)
    }

    /// Returns the protocol.
    pub fn protocol(&self) -> &Protocol {
        &self.setup.protocol
    }
}

impl Evaluator for Mad {
    /// Returns the protocol as JSON. The device is left out: a search may move to a faster one, where results agree up
    /// to rounding.
    fn fingerprint(&self) -> String {
        let protocol = serde_json::to_string(&self.setup.protocol).unwrap_or_else(|error| error.to_string());
        format!("mad {protocol}")
    }

    fn evaluate(&self, trial: &Trial, context: &Context) -> Result<Report, EvalError> {
        let trainings = &self.setup.protocol.trainings;
        let mut tracker = ProgressTracker::new(context, self.setup.protocol.steps());
        let mut runs = CompletedRuns::in_folder(context.checkpoint());
        let mut repetitions = Repetitions::new(&self.setup.protocol);
        let mut ahead = Ahead::new(&self.setup, trial);
        for (index, repeat) in order(trainings, trial.race.is_some()) {
            let training = &trainings[index];
            let configs = training.runs();
            tracker.begin(training.label(), share(trainings, training) / training.repeats as f64);
            let mut best: Option<TaskReport> = None;
            for (point, config) in configs.iter().enumerate() {
                let done = match runs.next() {
                    Some(done) => {
                        tracker.again(&done.told);
                        done
                    }
                    None => {
                        let done = ahead.run([index, repeat, point], config, &repetitions, &mut tracker)?;
                        runs.keep(&done);
                        done
                    }
                };
                repetitions.parameters = repetitions.parameters.max(done.parameters);
                repetitions.train_flops += done.train_flops;
                tracker.end(config.steps, score(&done.task));
                // The first on ties, so that the result depends on the order of the grid.
                if best.as_ref().is_none_or(|best| score(&done.task) > score(best)) {
                    best = Some(done.task);
                }
            }
            repetitions.add(index, best.unwrap_or_default());
            if context.stopped().is_some() {
                return Err(EvalError::Cancelled);
            }
            if let Some(report) = trial.race.as_ref().and_then(|race| repetitions.lost(race)) {
                return Ok(report);
            }
        }
        Ok(repetitions.report())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "flex")]
    #[test]
    fn the_processor_is_no_accelerator() {
        assert!(!device::is_accelerator(&Device::flex()) && !device::is_accelerator(&Device::flex().autodiff()));
    }
}
