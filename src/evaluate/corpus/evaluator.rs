//! Trains candidates on text.

use std::ops::ControlFlow;

use burn::tensor::Device;

use super::{CorpusError, CorpusProtocol};
use crate::{
    data::{Corpus, Sampler, Windows},
    device,
    evaluate::{
        Context, EvalError, Evaluator, Progress,
        failure::{guarded, infeasible, train_error},
    },
    limits,
    model::HybridLm,
    pretrain::{Validation, validate},
    primitive::{BuildError, Primitives, Symbol},
    seed::Seed,
    space::Architecture,
    study::{Report, TaskReport, Trial},
    train::{Outcome, Room, TokenBatch, TrainError, check_device, least_bytes, train},
};

/// Evaluates architectures by training them on text.
///
/// The scores are `accuracy`, the next-token accuracy, and `loss`, the cross-entropy loss in nats per token, both on
/// held-out validation text; also `bits_per_byte` if the bytes of the tokens are known. A candidate that diverges gets
/// accuracy 0 and the loss of uniform guessing, `ln V` for `V` token ids.
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

impl CorpusEvaluator {
    /// Creates an evaluator that trains on `corpus` according to `protocol`, with layers from `primitives`, on
    /// `device`.
    ///
    /// # Errors
    /// [`CorpusError`] if the protocol is inconsistent or the corpus is too short for it.
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
            device: device.clone().without_autodiff(),
        })
    }

    /// Returns the protocol.
    pub fn protocol(&self) -> &CorpusProtocol {
        &self.protocol
    }

    /// Checks before a search that candidates with these symbols can be trained. Builds a model with one layer for
    /// every symbol.
    ///
    /// # Errors
    /// [`CorpusError::Primitive`] for the first symbol that cannot be built at the widths of the protocol or needs more
    /// memory than is available.
    pub fn check(&self, symbols: impl IntoIterator<Item = Symbol>) -> Result<(), CorpusError> {
        for symbol in symbols {
            let model = self.protocol.model(Architecture::new([symbol]), 1);
            let built = HybridLm::new(&model, &self.primitives, Seed(0), &self.device);
            let checked = built.and_then(|_| self.check_memory(&Architecture::new([symbol]))).map(drop);
            checked.map_err(|source| CorpusError::Primitive { symbol, source: Box::new(source) })?;
        }
        Ok(())
    }

    /// Compares the minimum memory of a training with that of this process or of the accelerator, and returns it in
    /// bytes.
    fn check_memory(&self, architecture: &Architecture) -> Result<u128, BuildError> {
        let Self { protocol, primitives, corpus, .. } = self;
        let model = protocol.model(architecture.clone(), corpus.vocab_size);
        // If the cost is not known, the training reports the error.
        let Ok(config) = protocol.training(&model, primitives) else { return Ok(0) };
        if device::is_accelerator(&self.device) {
            let sizes = [config.batch_size, protocol.seq_len];
            return Ok(check_device(&model, primitives, &config, sizes, 0, &self.device)?);
        }
        let bytes = least_bytes(&model, primitives, &config, protocol.seq_len, 0)?;
        limits::check_memory("a training, with its weights and optimizer,", bytes)?;
        Ok(bytes)
    }

    fn train(&self, trial: &Trial, context: &Context) -> Result<Report, EvalError> {
        let model = self.protocol.model(trial.architecture.clone(), self.corpus.vocab_size);
        let config = self.protocol.training(&model, &self.primitives).map_err(infeasible)?;
        let work = self.protocol.flops_per_step(&model, &self.primitives).map_err(infeasible)?;
        let needed = self.check_memory(&trial.architecture).map_err(infeasible)?;
        let room = Room::enter(&self.device, needed, &|| context.cancelled());
        let _room = room.ok_or(EvalError::Cancelled)?;
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
        let task = TaskReport { name: "corpus".into(), steps, curve, diverged, ..TaskReport::default() };
        Ok(Report { parameters, train_flops: Some(steps as f64 * work), ..self.scored(task, last) })
    }

    /// Returns the scores of a training after its last evaluation, if there was one.
    fn scored(&self, mut task: TaskReport, last: Option<Validation>) -> Report {
        let mut report = Report::default();
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
        report
    }
}

impl Evaluator for CorpusEvaluator {
    /// The protocol as JSON, with a digest of the corpus. The device is not included: a search may move to a faster
    /// one, whose results are equal up to rounding.
    fn fingerprint(&self) -> String {
        let protocol = serde_json::to_string(&self.protocol).unwrap_or_else(|error| error.to_string());
        format!("corpus {} {} {protocol}", self.digest, self.corpus.vocab_size)
    }

    fn evaluate(&self, trial: &Trial, context: &Context) -> Result<Report, EvalError> {
        guarded(device::is_accelerator(&self.device), || self.train(trial, context))
    }
}
