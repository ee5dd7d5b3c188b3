//! Choosing layers by training gates.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, TensorData, activation::sigmoid},
};
use serde::{Deserialize, Serialize};

use super::{Alternatives, BlockLibrary, ConvertError, Damages, alternatives::with};
use crate::{
    layer::{Block, Mixer},
    primitive::Symbol,
    train::{AdamWConfig, LrSchedule, Precision, Step, TokenBatch, TrainConfig, TrainError, Trainer},
    weights::parameters,
};

/// The settings for training gates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gates {
    /// The number of steps, with one batch each.
    pub steps: usize,
    /// The learning rate for the logits of the gates.
    pub learning_rate: f64,
    /// The penalty for keeping a layer, in nats.
    pub price: f64,
}

impl Default for Gates {
    /// 40 steps with learning rate 0.1 and price 0.01.
    fn default() -> Self {
        Self { steps: 40, learning_rate: 0.1, price: 0.01 }
    }
}

/// Trains a gate for every layer that `other` can replace, after FlashMorph (arXiv 2606.30562).
///
/// The output of such a layer becomes `g own + (1 - g) other`, where the gate `g` starts at 1/2. Only the gates are
/// trained, all at once, to minimise the divergence from the parent plus [`price`](Gates::price) per kept layer.
/// Returns the values of the gates. They can be used in place of [damages](super::single_damages):
/// [`ranked`](super::ranked) then keeps the layers with the most open gates.
///
/// # Errors
/// [`ConvertError`] if a block is missing, a setting or a batch is invalid, there are no batches, or the device fails.
pub fn gates(
    library: &BlockLibrary,
    alternatives: &Alternatives,
    other: Symbol,
    batches: &[TokenBatch],
    settings: &Gates,
) -> Result<Damages, ConvertError> {
    if batches.is_empty() {
        return Err(TrainError::Zero("the number of batches").into());
    }
    let parent = library.parent();
    let layers: Vec<usize> =
        alternatives.replacements().filter(|(_, others)| others.contains(&other)).map(|(layer, _)| layer).collect();
    let replaced = layers.iter().fold(alternatives.parent(), |all, &layer| with(&all, layer, other));
    let replaced = library.assemble(&replaced)?;
    let mut model = parent.model().clone();
    for &layer in &layers {
        let own = &mut model.backbone.layers[layer].mixer;
        let keep = Param::from_data(TensorData::new(vec![0.0_f32], [1]), &parent.device());
        let gated = Gated {
            own: own.clone(),
            other: replaced.backbone.layers[layer].mixer.clone(),
            keep,
            price: settings.price,
        };
        *own = Block::new(gated);
    }
    let mut trainer = Trainer::new(model, &config(settings))?.learn_from(parent.model().clone());
    trainer = trainer.freeze(|name| !name.ends_with(GATE));
    for batch in batches.iter().cycle().take(settings.steps) {
        let step = trainer.steps_done();
        let shown;
        (trainer, shown) = trainer.step(std::slice::from_ref(batch))?;
        if let Step::Diverged(_) = shown {
            return Err(ConvertError::DistillationDiverged { step });
        }
    }
    let mut gates = Damages::new();
    for parameter in parameters(&trainer.model()).into_iter().filter(|parameter| parameter.name.ends_with(GATE)) {
        let layer = parameter.name.split('.').nth(2).and_then(|layer| layer.parse().ok());
        let value = (parameter.read)().map_err(TrainError::from)?.iter::<f32>().next();
        if let (Some(layer), Some(value)) = (layer, value) {
            gates.insert((layer, other), 1.0 / (1.0 + f64::from(-value).exp()));
        }
    }
    Ok(gates)
}

/// The end of the path of a gate.
const GATE: &str = ".mixer.keep";

fn config(settings: &Gates) -> TrainConfig {
    TrainConfig {
        steps: settings.steps,
        batch_size: 1,
        schedule: LrSchedule::constant(settings.learning_rate),
        optimizer: AdamWConfig { weight_decay: 0.0, ..AdamWConfig::default() },
        clip_norm: None,
        evaluate_every: settings.steps.max(1),
        log_every: 1,
        stop_above: None,
        precision: Precision::Single,
        recompute: false,
    }
}

/// Two layers with a gate between them.
#[derive(Module, Debug)]
struct Gated {
    own: Block,
    other: Block,
    /// The logit of the weight of `own`, `[1]`.
    keep: Param<Tensor<1>>,
    #[module(skip)]
    price: f64,
}

impl Mixer for Gated {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let share = sigmoid(self.keep.val()).reshape([1, 1, 1]);
        let other = self.other.forward(x.clone());
        (self.own.forward(x) - other.clone()) * share + other
    }

    fn aux_loss(&self, _: &Tensor<3>) -> Option<Tensor<1>> {
        Some(sigmoid(self.keep.val()) * self.price)
    }
}
