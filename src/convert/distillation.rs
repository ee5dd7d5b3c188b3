//! The divergence of a candidate from its parent.

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

/// The score of [`Distillation`] for a search to minimise: the mean divergence from the parent, in nats per token.
pub const KL: &str = "kl";
/// The score of [`Distillation`] for the cross-entropy loss on the text, in nats per token.
pub const LOSS: &str = "loss";

/// Evaluates candidates by their divergence from the parent, without training.
///
/// A candidate is assembled from a library. Its scores are [`KL`], the Kullback-Leibler divergence `KL(parent ||
/// candidate)` of the next-token distributions, averaged over the scored positions of windows of text, and [`LOSS`],
/// the cross-entropy loss at the same positions. The report's standard error is that of the divergence over windows.
///
/// The parent is evaluated once, by [`new`](Self::new). Its distributions at every position and its residual stream
/// before every replaceable layer are kept in memory, so a candidate is computed only from its first replaced layer on.
/// This takes `4 (V + L D)` bytes per token, for a vocabulary of `V` and `L` replaceable layers of width `D`. The
/// divergence of the parent itself is exactly 0.
#[derive(Debug)]
pub struct Distillation {
    library: Arc<BlockLibrary>,
    windows: Vec<Window>,
    fingerprint: String,
    healing: Option<(TrainConfig, Vec<TokenBatch>)>,
}

/// A window with the results of the parent.
#[derive(Debug)]
struct Window {
    text: TokenBatch,
    /// The residual streams before the replaceable layers, each `[B, S, D]`.
    streams: BTreeMap<usize, Tensor<3>>,
    /// The log-probabilities, `[B S, V]`, as natural logarithms.
    log_probabilities: Vec<f32>,
}

/// The result for one window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Divergence {
    /// The divergence, in nats per token.
    pub kl: f64,
    /// The loss, in nats per token.
    pub loss: f64,
}

impl Distillation {
    /// Evaluates the parent on `windows`, each of which is one batch. Candidates may differ from the parent only in the
    /// layers that `alternatives` lists.
    ///
    /// # Errors
    /// [`ConvertError`] if there are no windows, a window does not fit the parent, or the outputs of the parent are not
    /// finite.
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

    /// Heals every candidate before it is evaluated, with `config.steps` steps on `batches`, one batch per step, in
    /// turn. Only the replaced layers and the norms in front of them are trained. Every trial then costs a training.
    ///
    /// # Errors
    /// [`ConvertError`] if a setting is invalid or there are no batches.
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

    /// Returns the candidate after healing, if requested.
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
                return Err(ConvertError::DistillationDiverged { step });
            }
        }
        Ok(trainer.model())
    }

    /// Evaluates any model with the parent's vocabulary, for example a healed one.
    ///
    /// # Errors
    /// [`ConvertError`] if the device fails.
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

    /// Returns the first layer that differs from the parent, or the number of layers if none does.
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
        let mut x = model.backbone.embed(text.tokens(&parent.device()));
        for (index, layer) in model.backbone.layers.iter().enumerate() {
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

    /// Evaluates `model`, whose layers before `first` are those of the parent.
    fn judge(&self, model: &HybridLm, first: usize) -> Result<Divergence, ConvertError> {
        let kept = self.streams.range(..=first).next_back();
        let (from, x) = match kept {
            Some((&layer, x)) => (layer, x.clone()),
            None => (0, model.backbone.embed(self.text.tokens(&model.backbone.embedding.val().device()))),
        };
        let x = model.backbone.layers.iter().skip(from).fold(x, |x, layer| layer.forward(x));
        let scores = model.score(x).try_into_vec_as::<f32>().map_err(TrainError::from)?;
        let vocabulary = model.backbone.vocab_size();
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

/// Returns the tokens of batches as bytes, for a digest.
fn bytes(batches: &[TokenBatch]) -> Vec<u8> {
    batches.iter().flat_map(|batch| batch.inputs.iter().chain(&batch.targets)).flat_map(|id| id.to_le_bytes()).collect()
}

/// Computes `ln sum exp` of scores in double precision, then rounds.
fn log_sum_exp(row: &[f32]) -> f32 {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 =
        row.chunks(CHUNK).map(|part| f64::from(part.iter().map(|score| (score - largest).exp()).sum::<f32>())).sum();
    (f64::from(largest) + sum.ln()) as f32
}

/// How many numbers are summed in single precision.
const CHUNK: usize = 64;

/// Computes `sum p (ln p - ln q)` for `ln p` in `parent` and `ln q = row - normaliser`.
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
