//! How far a candidate is from its parent.

use std::{collections::BTreeMap, sync::Arc};

use burn::tensor::Tensor;

use super::{Alternatives, BlockLibrary, ConvertError, heal::replaced};
use crate::{
    device,
    evaluate::{
        Context, EvalError, Evaluator, Progress,
        failure::{guarded, train_error},
    },
    model::HybridLm,
    seed::digest,
    space::Architecture,
    statistics::{mean, standard_error},
    study::{Report, Trial},
    text::causes,
    train::{IGNORE, Step, TokenBatch, TrainConfig, TrainError, Trainer},
};

/// The score of [`Distillation`] that a search makes small: the mean divergence from the parent, in nats per token.
pub const KL: &str = "kl";
/// The loss against the text, in nats per token.
pub const LOSS: &str = "loss";

/// Puts candidates together from a library, without training, and judges them by the Kullback-Leibler divergence
/// `KL(parent || candidate)` of their next-token distributions, averaged over the scored positions of windows of text,
/// and by the loss on the same positions. A report has the scores [`KL`] and [`LOSS`], and the standard error of the
/// divergence over windows.
///
/// The parent is computed once, when this is made: its distributions at every position and its residual stream before
/// every layer that can be replaced are kept, so that a candidate is computed from its first other layer on. That takes
/// `4 (V + L D)` bytes per token, for a vocabulary of `V` and `L` such layers of width `D`. The parent itself has a
/// divergence of exactly 0.
#[derive(Debug)]
pub struct Distillation {
    library: Arc<BlockLibrary>,
    windows: Vec<Window>,
    fingerprint: String,
    healing: Option<(TrainConfig, Vec<TokenBatch>)>,
}

/// A window as the parent sees it.
#[derive(Debug)]
struct Window {
    text: TokenBatch,
    /// The residual stream before layers that can be replaced.
    streams: BTreeMap<usize, Tensor<3>>,
    /// `[B S, V]`, natural logarithms of probabilities.
    log_probabilities: Vec<f32>,
}

/// What one window says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Divergence {
    /// Nats per token.
    pub kl: f64,
    /// Nats per token.
    pub loss: f64,
}

impl Distillation {
    /// Computes the parent on `windows`, each a batch of its own. Only the layers that `alternatives` names may differ
    /// from the parent's.
    ///
    /// # Errors
    /// [`ConvertError`] when a window does not fit the parent, there is none, or the parent's scores are not finite.
    pub fn new(
        library: Arc<BlockLibrary>,
        alternatives: &Alternatives,
        windows: Vec<TokenBatch>,
    ) -> Result<Self, ConvertError> {
        if windows.is_empty() {
            return Err(TrainError::Zero("the number of windows").into());
        }
        let fingerprint = format!("distillation on {:032x} of {}", digest(&bytes(&windows)), library.fingerprint());
        let kept: Vec<usize> = alternatives.replacements().map(|(layer, _)| layer).collect();
        let windows = windows.into_iter().map(|text| Window::of_parent(&library, text, &kept));
        let windows = windows.collect::<Result<_, _>>()?;
        Ok(Self { library, windows, fingerprint, healing: None })
    }

    /// Judges candidates after so many steps of healing (`config.steps`, one of `batches` each, in turn) of the layers
    /// that were replaced and the norms in front of them. A trial then costs a training.
    ///
    /// # Errors
    /// [`ConvertError`] when a setting does not fit, or there is no batch.
    pub fn after_healing(mut self, config: TrainConfig, batches: Vec<TokenBatch>) -> Result<Self, ConvertError> {
        config.validate()?;
        if batches.is_empty() {
            return Err(TrainError::Zero("the number of batches").into());
        }
        let steps = format!("{config:?} on {:032x}", digest(&bytes(&batches)));
        self.fingerprint = format!("{} after {steps}", self.fingerprint);
        self.healing = Some((config, batches));
        Ok(self)
    }

    /// The candidate after the steps of healing that were asked for.
    fn healed(&self, architecture: &Architecture, context: &Context) -> Result<HybridLm, ConvertError> {
        let model = self.library.assemble(architecture)?;
        let parent = self.library.parent();
        let trained = replaced(parent, architecture);
        let Some((config, batches)) = self.healing.as_ref().filter(|_| !trained.is_empty()) else { return Ok(model) };
        let mut trainer = Trainer::new(model, config)?.learn_from(parent.model().clone());
        trainer = trainer.freeze(|name| !trained.iter().any(|start| name.starts_with(start)));
        for batch in batches.iter().cycle().take(config.steps) {
            if context.cancelled() {
                break;
            }
            let step = trainer.steps_done();
            let shown;
            (trainer, shown) = trainer.step(std::slice::from_ref(batch))?;
            if let Step::Diverged(_) = shown {
                return Err(ConvertError::HealingDiverged { step });
            }
        }
        Ok(trainer.model())
    }

    /// From which library candidates are put together.
    pub fn library(&self) -> &Arc<BlockLibrary> {
        &self.library
    }

    /// Judges any model with the parent's vocabulary, such as one that was healed.
    ///
    /// # Errors
    /// [`ConvertError`] when the device fails.
    pub fn judge(&self, model: &HybridLm) -> Result<Report, ConvertError> {
        self.report(model, 0, &Context::default())
    }

    fn report(&self, model: &HybridLm, first: usize, context: &Context) -> Result<Report, ConvertError> {
        let mut found = Vec::with_capacity(self.windows.len());
        for (done, window) in self.windows.iter().enumerate() {
            if context.cancelled() {
                break;
            }
            found.push(window.judge(model, first)?);
            let stage = "windows".into();
            context.progress(Progress { stage, step: done + 1, steps: self.windows.len(), value: None });
        }
        let kl: Vec<f64> = found.iter().map(|divergence| divergence.kl).collect();
        let loss: Vec<f64> = found.iter().map(|divergence| divergence.loss).collect();
        let scores = BTreeMap::from([(KL.to_owned(), mean(&kl)), (LOSS.to_owned(), mean(&loss))]);
        // The windows are the same for every candidate.
        Ok(Report { scores, standard_error: standard_error(&kl), shared_error: true, ..Report::default() })
    }

    /// The first layer in which an architecture differs from the parent's, or the number of layers.
    fn first_other(&self, architecture: &Architecture) -> usize {
        let own = self.library.parent().spec().architecture.layers();
        own.iter().zip(architecture.layers()).take_while(|(own, other)| own == other).count()
    }
}

impl Evaluator for Distillation {
    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    fn evaluate(&self, trial: &Trial, context: &Context) -> Result<Report, EvalError> {
        let architecture = &trial.architecture;
        let failed = |error: ConvertError| match error {
            ConvertError::Train(error) => train_error(error),
            error => EvalError::Infeasible(causes(&error)),
        };
        let report = guarded(device::is_accelerator(&self.library.parent().device()), || {
            let model = self.healed(architecture, context).map_err(failed)?;
            self.report(&model, self.first_other(architecture), context).map_err(failed)
        })?;
        if context.cancelled() { Err(EvalError::Cancelled) } else { Ok(report) }
    }
}

impl Window {
    fn of_parent(library: &BlockLibrary, text: TokenBatch, kept: &[usize]) -> Result<Self, ConvertError> {
        let parent = library.parent();
        text.validate(parent.spec().vocab_size)?;
        let model = parent.model();
        let mut streams = BTreeMap::new();
        let mut x = model.trunk.embed(text.tokens(&parent.device()));
        for (index, layer) in model.trunk.layers.iter().enumerate() {
            if kept.contains(&index) {
                streams.insert(index, x.clone());
            }
            x = layer.forward(x);
        }
        let mut log_probabilities = model.score(x).try_into_vec_as::<f32>().map_err(TrainError::from)?;
        let vocabulary = parent.spec().vocab_size;
        for row in log_probabilities.chunks_mut(vocabulary) {
            let normaliser = log_sum_exp(row);
            if !normaliser.is_finite() {
                return Err(ConvertError::NotFinite { what: "score" });
            }
            row.iter_mut().for_each(|score| *score -= normaliser);
        }
        Ok(Self { text, streams, log_probabilities })
    }

    /// Computes `model`, whose layers before `first` are the parent's.
    fn judge(&self, model: &HybridLm, first: usize) -> Result<Divergence, ConvertError> {
        let kept = self.streams.range(..=first).next_back();
        let (from, x) = match kept {
            Some((&layer, x)) => (layer, x.clone()),
            None => (0, model.trunk.embed(self.text.tokens(&model.trunk.embedding.val().device()))),
        };
        let x = model.trunk.layers.iter().skip(from).fold(x, |x, layer| layer.forward(x));
        let scores = model.score(x).try_into_vec_as::<f32>().map_err(TrainError::from)?;
        let vocabulary = model.trunk.vocab_size();
        let rows = scores.chunks(vocabulary).zip(self.log_probabilities.chunks(vocabulary)).zip(&self.text.targets);
        let mut sum = Divergence { kl: 0.0, loss: 0.0 };
        for ((row, parent), &target) in rows.filter(|&(_, &target)| target != IGNORE) {
            let normaliser = log_sum_exp(row);
            sum.kl += divergence(parent, row, normaliser);
            let score = usize::try_from(target).ok().and_then(|target| row.get(target)).copied();
            sum.loss += f64::from(normaliser - score.unwrap_or(f32::NAN));
        }
        let count = self.text.scored().max(1) as f64;
        Ok(Divergence { kl: sum.kl / count, loss: sum.loss / count })
    }
}

/// The tokens of batches, to tell them apart.
fn bytes(batches: &[TokenBatch]) -> Vec<u8> {
    batches.iter().flat_map(|batch| batch.inputs.iter().chain(&batch.targets)).flat_map(|id| id.to_le_bytes()).collect()
}

/// `ln sum exp` of scores, in 64 bits before it is rounded.
fn log_sum_exp(row: &[f32]) -> f32 {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 =
        row.chunks(CHUNK).map(|part| f64::from(part.iter().map(|score| (score - largest).exp()).sum::<f32>())).sum();
    (f64::from(largest) + sum.ln()) as f32
}

/// Numbers that are summed in single precision.
const CHUNK: usize = 64;

/// `sum p (ln p - ln q)` for `ln p` in `parent` and `ln q = row - normaliser`.
fn divergence(parent: &[f32], row: &[f32], normaliser: f32) -> f64 {
    let part = |(parent, row): (&[f32], &[f32])| {
        parent.iter().zip(row).map(|(&p, &q)| p.exp() * (p - (q - normaliser))).sum::<f32>()
    };
    parent.chunks(CHUNK).zip(row.chunks(CHUNK)).map(|pair| f64::from(part(pair))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_of_hand_computed_distributions() {
        // (1/2, 1/4, 1/4) from (1/4, 1/4, 1/2): (ln 2)/2 - (ln 2)/4.
        let parent = [0.5_f32, 0.25, 0.25].map(f32::ln);
        let scores = [1.0_f32, 1.0, 2.0].map(|q| q.ln() + 3.0);
        let normaliser = log_sum_exp(&scores);
        assert!((f64::from(normaliser) - (4f64.ln() + 3.0)).abs() < 1e-6);
        assert!((divergence(&parent, &scores, normaliser) - 2f64.ln() / 4.0).abs() < 1e-6);
        let same: Vec<f32> = scores.iter().map(|score| score - normaliser).collect();
        assert_eq!(divergence(&same, &scores, normaliser), 0.0);
        assert!(log_sum_exp(&[f32::NAN, f32::NAN]).is_nan());
    }
}
