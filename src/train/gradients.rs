//! The gradients of a step, from one batch or several, on one device or several.

use burn::{
    module::{ModuleMapper, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::{DType, Device, FloatDType, GradientCheckpointingStrategy, Tensor},
};

use super::{Precision, TokenBatch, TrainConfig, cross_entropy, divergence, loss::cross_entropies};
use crate::model::Network;

/// The result of the forward and backward passes of a step.
pub(super) struct Gradients {
    /// The gradients of the mean loss over all scored positions.
    pub gradients: GradientsParams,
    /// The mean loss, detached from the graph: one element, or one for each member of an ensemble.
    pub loss: Tensor<1>,
}

/// Returns the gradients of an ensemble of this number of `members` on one batch, in which each member has an equal
/// part.
pub(super) fn of_members<N: Network>(
    model: &N,
    members: usize,
    config: &TrainConfig,
    batch: &TokenBatch,
    device: &Device,
) -> Gradients {
    let model = computing(model, config.precision);
    let losses = cross_entropies(model.logits(batch.tokens(&inputs_on(device, config))), batch, members);
    Gradients { gradients: differentiated(losses.clone().sum(), &model), loss: losses.inner() }
}

/// Returns the gradients of the batches, or `None` if there are none. Each round computes one batch per device. The
/// gradients are summed on the first device, in the order of the batches.
pub(super) fn mean<N: Network>(
    model: &N,
    teacher: Option<&N>,
    config: &TrainConfig,
    batches: &[TokenBatch],
    devices: &[Device],
) -> Option<Gradients> {
    let scored: usize = batches.iter().map(TokenBatch::scored).sum();
    let share = |batch: &TokenBatch| batch.scored() as f64 / scored as f64;
    let home = devices.first()?;
    let mut total: Option<Gradients> = None;
    for round in batches.chunks(devices.len()) {
        for (batch, gradients) in round.iter().zip(on_each(model, teacher, config, round, devices)) {
            total = Some(match total {
                None if batches.len() == 1 => gradients,
                None => weighted(gradients, None, model, home, share(batch)),
                Some(sum) => weighted(gradients, Some(sum), model, home, share(batch)),
            });
        }
    }
    total
}

/// Computes one batch on each device, concurrently.
fn on_each<N: Network>(
    model: &N,
    teacher: Option<&N>,
    config: &TrainConfig,
    round: &[TokenBatch],
    devices: &[Device],
) -> Vec<Gradients> {
    let (Some((first, others)), Some((home, away))) = (round.split_first(), devices.split_first()) else {
        return Vec::new();
    };
    let compute = |model: &N, teacher: Option<&N>, batch, device: &Device| {
        of_batch(&computing(model, config.precision), teacher, batch, &inputs_on(device, config))
    };
    if others.is_empty() {
        return vec![compute(model, teacher, first, home)];
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = others
            .iter()
            .zip(away)
            .map(|(batch, device)| {
                let copy = model.clone().fork(device);
                let teacher = teacher.map(|teacher| teacher.clone().fork(device));
                scope.spawn(move || compute(&copy, teacher.as_ref(), batch, device))
            })
            .collect();
        let mut all = vec![compute(model, teacher, first, home)];
        // Propagate a panic of a device's thread to the caller.
        all.extend(
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))),
        );
        all
    })
}

/// Returns the device for the inputs, which must use the same checkpointing strategy as the parameters.
fn inputs_on(device: &Device, config: &TrainConfig) -> Device {
    let device = device.clone().autodiff();
    if config.recompute { device.gradient_checkpointing() } else { device }
}

/// Returns the gradients of the loss on one batch, in single precision. The loss is the cross-entropy to the targets or
/// the divergence from the teacher, plus the network's auxiliary loss. The reported loss excludes the auxiliary loss.
fn of_batch<N: Network>(model: &N, teacher: Option<&N>, batch: &TokenBatch, device: &Device) -> Gradients {
    let (logits, aux_loss) = model.logits_and_aux_loss(batch.tokens(device));
    let loss = match teacher {
        None => cross_entropy(logits, batch),
        Some(teacher) => {
            let theirs = teacher.logits(batch.tokens(&device.clone().without_autodiff()));
            divergence(logits, theirs, batch)
        }
    };
    let sum = aux_loss.map_or(loss.clone(), |aux_loss| loss.clone() + aux_loss);
    Gradients { gradients: differentiated(sum, model), loss: loss.inner() }
}

/// Returns the gradients of `loss` in single precision.
fn differentiated<N: Network>(loss: Tensor<1>, model: &N) -> GradientsParams {
    let mut gradients = GradientsParams::from_grads(loss.backward(), model);
    model.visit(&mut Widen(&mut gradients));
    gradients
}

/// Returns `sum + share * term`, on the device of `sum`.
fn weighted<N: Network>(term: Gradients, sum: Option<Gradients>, model: &N, home: &Device, share: f64) -> Gradients {
    let mut term_gradients = term.gradients.to_device(home, model);
    let mut sum = sum.unwrap_or_else(|| Gradients {
        gradients: GradientsParams::new(),
        loss: term.loss.zeros_like().to_device(home),
    });
    model.visit(&mut Add { sum: &mut sum.gradients, term: &mut term_gradients, share });
    let loss = sum.loss + term.loss.to_device(home) * share;
    Gradients { loss, ..sum }
}

/// Adds a share of each gradient.
struct Add<'a> {
    sum: &'a mut GradientsParams,
    term: &'a mut GradientsParams,
    share: f64,
}

impl ModuleVisitor for Add<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(term) = self.term.remove::<D>(param.id) else { return };
        let term = term * self.share;
        let sum = match self.sum.remove::<D>(param.id) {
            Some(sum) => sum + term,
            None => term,
        };
        self.sum.register(param.id, sum);
    }
}

/// Converts every gradient to single precision.
struct Widen<'a>(&'a mut GradientsParams);

impl ModuleVisitor for Widen<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.0.get::<D>(param.id)
            && gradient.dtype() != DType::F32
        {
            self.0.register(param.id, gradient.cast(DType::F32));
        }
    }
}

/// Returns the model in the precision in which it computes: the model itself, or a converted copy.
fn computing<N: Network>(model: &N, precision: Precision) -> N {
    match precision {
        Precision::Single => model.clone(),
        Precision::BFloat16 => model.clone().map(&mut Leaves { dtype: Some(FloatDType::BF16), recompute: None }),
    }
}

/// Returns the model with gradient checkpointing of cheap activations if `recompute` is set, and otherwise without,
/// whatever the device on which it was built.
pub(super) fn recomputing<N: Network>(model: N, recompute: bool) -> N {
    model.map(&mut Leaves { dtype: None, recompute: Some(recompute) })
}

/// Makes every parameter a leaf of the autodiff graph again, in another precision, or with gradient checkpointing or
/// without.
struct Leaves {
    dtype: Option<FloatDType>,
    recompute: Option<bool>,
}

impl ModuleMapper for Leaves {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, value, mapper) = param.consume();
        let tracked = value.is_require_grad();
        let known = value.gradient_checkpointing_strategy();
        let plain = value.inner();
        let plain = match self.dtype {
            Some(dtype) => plain.cast(dtype),
            None => plain,
        };
        let mut value = Tensor::from_inner(plain);
        let strategy = match self.recompute {
            None => known,
            Some(true) => Some(GradientCheckpointingStrategy::Balanced),
            Some(false) => None,
        };
        if let Some(strategy) = strategy {
            value = value.with_gradient_checkpointing_strategy(strategy);
        }
        Param::from_mapped_value(id, value.set_require_grad(tracked), mapper)
    }
}
