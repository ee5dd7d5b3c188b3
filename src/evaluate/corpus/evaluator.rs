//! Trains a candidate on text.

use std::ops::ControlFlow;

use burn::tensor::Device;
use thiserror::Error;

use super::CorpusProtocol;
use crate::{
    data::{Corpus, Sampler, TokenError, Windows},
    device,
    evaluate::{
        Context, EvalError, Evaluator, Progress,
        failure::{guarded, infeasible, train_error},
    },
    limits,
    model::HybridLm,
    pretrain::{Validation, validate},
    primitive::{BuildError, DimsError, Primitives, Symbol},
    seed::Seed,
    space::Architecture,
    study::{Report, TaskReport, Trial},
    train::{Outcome, TokenBatch, TrainError, least_bytes, train},
};

/// Evaluates architectures by training them on text. The scores are `accuracy`, of the next token, and `loss`, in nats
/// per token, both on text kept for validation; `bits_per_byte` too where the bytes of tokens are known. A candidate
/// that diverges scores accuracy 0 and the loss of guessing, `ln V`.
#[derive(Clone, Debug)]
pub struct CorpusEvaluator {
    protocol: CorpusProtocol,
    primitives: Primitives,
    corpus: Corpus,
    digest: String,
    training: Windows,
    validation: Vec<TokenBatch>,
    device: Device,
}

/// An evaluator that cannot be set up.
#[derive(Debug, Error)]
pub enum CorpusError {
    /// The corpus cannot be used.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// The widths contradict each other.
    #[error(transparent)]
    Dims(#[from] DimsError),
    /// A setting of the training does not fit.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A layer that the protocol's widths do not fit: no candidate with it could be trained.
    #[error("no candidate with {symbol} can be trained at the widths of the protocol")]
    Primitive {
        /// Letter of the primitive.
        symbol: Symbol,
        /// What does not fit.
        source: Box<BuildError>,
    },
}

impl CorpusEvaluator {
    /// Trains as `protocol` says on `corpus`, with layers from `primitives`, on `device`.
    ///
    /// # Errors
    /// [`CorpusError`] when the protocol contradicts itself or the corpus is too short for it.
    pub fn new(
        protocol: CorpusProtocol,
        corpus: &Corpus,
        primitives: &Primitives,
        device: &Device,
    ) -> Result<Self, CorpusError> {
        protocol.validate()?;
        let logits = [protocol.batch_size as u64, protocol.seq_len as u64, corpus.vocab_size as u64, 4];
        if !device::is_accelerator(device) {
            limits::check_memory("a batch of logits", limits::product(&logits)).map_err(TrainError::from)?;
        }
        let share = protocol.validation_share;
        let seq = protocol.seq_len;
        let [training, held_out] = Windows::split(corpus.tokens.clone(), corpus.vocab_size, seq, share)?;
        let validation = held_out.sample(protocol.validation_windows, protocol.batch_size)?;
        Ok(Self {
            digest: corpus.tokens.digest()?,
            corpus: corpus.clone(),
            protocol,
            primitives: primitives.clone(),
            training,
            validation,
            device: device.clone(),
        })
    }

    /// How candidates are trained.
    pub fn protocol(&self) -> &CorpusProtocol {
        &self.protocol
    }

    /// Checks that candidates with layers of each of these symbols can be trained, before a search begins: builds a
    /// model of one layer for every symbol.
    ///
    /// # Errors
    /// [`CorpusError::Primitive`] names the first that cannot be built at the protocol's widths, or needs more memory
    /// than there is.
    pub fn check(&self, symbols: impl IntoIterator<Item = Symbol>) -> Result<(), CorpusError> {
        for symbol in symbols {
            let model = self.protocol.model(Architecture::new([symbol]), 1);
            let built = HybridLm::new(&model, &self.primitives, Seed(0), &self.device);
            let checked = built.map(drop).and_then(|()| self.check_memory(&Architecture::new([symbol])));
            checked.map_err(|source| CorpusError::Primitive { symbol, source: Box::new(source) })?;
        }
        Ok(())
    }

    /// Holds what a training needs at least against the memory that this process can have. An accelerator has its own.
    fn check_memory(&self, architecture: &Architecture) -> Result<(), BuildError> {
        if device::is_accelerator(&self.device) {
            return Ok(());
        }
        let Self { protocol, primitives, corpus, .. } = self;
        let model = protocol.model(architecture.clone(), corpus.vocab_size);
        // What cannot be stated is said where it is trained.
        let Ok(config) = protocol.training(&model, primitives) else { return Ok(()) };
        let bytes = least_bytes(&model, primitives, &config, protocol.seq_len, 0)?;
        Ok(limits::check_memory("a training, with its weights and optimizer,", bytes)?)
    }

    fn train(&self, trial: &Trial, context: &Context) -> Result<Report, EvalError> {
        let model = self.protocol.model(trial.architecture.clone(), self.corpus.vocab_size);
        let config = self.protocol.training(&model, &self.primitives).map_err(infeasible)?;
        let work = self.protocol.flops_per_step(&model, &self.primitives).map_err(infeasible)?;
        self.check_memory(&trial.architecture).map_err(infeasible)?;
        let device = self.device.clone().autodiff();
        let network = HybridLm::new(&model, &self.primitives, trial.seed, &device).map_err(infeasible)?;
        let parameters = burn::module::Module::num_params(&network) as u64;

        let mut sampler = Sampler::new(self.training.clone(), trial.seed.derive("corpus/data", 0));
        let mut curve = Vec::new();
        let mut last = None::<Validation>;
        let tell = |step, value| {
            let stage = "corpus".into();
            context.progress(Progress { stage, step, steps: config.steps, value });
        };
        let trained = train(
            network,
            &config,
            &mut |step| Ok(sampler.batch(step as u64 * config.batch_size as u64, config.batch_size)?),
            &mut |model| {
                let measured = validate(model, &self.validation, self.corpus.token_bytes.as_deref())?;
                last = Some(measured);
                let step = (config.evaluate_every * (curve.len() + 1)).min(config.steps);
                if measured.accuracy.is_finite() && measured.loss.is_finite() {
                    curve.push((step, measured.accuracy));
                    tell(step, Some(measured.accuracy));
                }
                Ok(measured.into())
            },
            &mut |now| {
                tell(now.step, None);
                if context.cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            },
        );
        let (steps, diverged) = match trained.map_err(train_error)?.outcome {
            Outcome::Finished => (config.steps, None),
            Outcome::ReachedThreshold { step } => (step, None),
            Outcome::Diverged { step, reason } => (step, Some(format!("{reason} at step {step}"))),
            Outcome::Cancelled { .. } => return Err(EvalError::Cancelled),
        };
        if context.cancelled() {
            return Err(EvalError::Cancelled);
        }
        let mut report = Report { parameters, train_flops: Some(steps as f64 * work), ..Report::default() };
        let mut task = TaskReport { name: "corpus".into(), steps, curve, diverged, ..TaskReport::default() };
        let mut reached = 0.0;
        let guessing = (self.corpus.vocab_size as f64).ln();
        report.scores.insert("loss".into(), guessing);
        if let Some(Validation { loss, accuracy, bits_per_byte }) = last.filter(|_| task.diverged.is_none()) {
            reached = accuracy;
            task.loss = Some(loss);
            report.scores.insert("loss".into(), loss);
            report.scores.extend(bits_per_byte.map(|bits| ("bits_per_byte".into(), bits)));
        }
        task.score = Some(reached);
        task.accuracy = Some(reached);
        report.scores.insert("accuracy".into(), reached);
        report.tasks.push(task);
        Ok(report)
    }
}

impl Evaluator for CorpusEvaluator {
    /// The protocol, as JSON, with a digest of the corpus. The device is left out: a search may move to a faster one,
    /// where its results agree up to rounding.
    fn fingerprint(&self) -> String {
        let protocol = serde_json::to_string(&self.protocol).unwrap_or_else(|error| error.to_string());
        format!("corpus {} {} {protocol}", self.digest, self.corpus.vocab_size)
    }

    fn evaluate(&self, trial: &Trial, context: &Context) -> Result<Report, EvalError> {
        guarded(device::is_accelerator(&self.device), || self.train(trial, context))
    }
}
