//! Training a candidate on the distributions of its parent.

use std::{ops::ControlFlow, path::PathBuf};

use super::{ConvertError, Parent};
use crate::{
    data::Corpus,
    model::{HybridLm, ModelSpec},
    pretrain::{Distil, PretrainConfig, Pretrained, Pretrainer, Record},
    primitive::Primitives,
    space::Architecture,
    train::Outcome,
};

/// The inputs to [`heal`].
#[derive(Clone, Copy, Debug)]
pub struct Healing<'a> {
    /// The teacher.
    pub parent: &'a Parent,
    /// The primitives of the symbols.
    pub primitives: &'a Primitives,
    /// The text to train on.
    pub corpus: &'a Corpus,
    /// Steps, schedule and checkpoints.
    pub config: &'a PretrainConfig,
    /// Whether to train all weights. If `false`, only the replaced layers and the norms in front of them are trained,
    /// which takes less memory and time.
    pub everything: bool,
}

/// Trains `model` to match the next-token distributions of its parent.
///
/// `spec` is the specification of `model`. The training is a [`Pretrainer`] run in `folder`, with metrics and
/// checkpoints; its losses are divergences. Call again with the same arguments to continue an interrupted run.
///
/// # Errors
/// [`ConvertError`] if no layer was replaced and `everything` is `false`, the folder belongs to another run or is in
/// use, a file or the device fails, or the training diverges.
pub fn heal(
    healing: &Healing,
    spec: &ModelSpec,
    model: HybridLm,
    folder: impl Into<PathBuf>,
    observer: &mut dyn FnMut(&Record) -> ControlFlow<()>,
) -> Result<Pretrained, ConvertError> {
    let &Healing { parent, primitives, corpus, config, everything } = healing;
    let trained = if everything { Vec::new() } else { replaced(parent, &spec.architecture) };
    if !everything && trained.is_empty() {
        let remedy = "no layer was replaced, so there is nothing to heal";
        return Err(ConvertError::Setting { name: "everything", value: "false".into(), remedy });
    }
    let start = Parent::new(spec.clone(), model)?;
    let fingerprint = format!("from {} to {}", parent.fingerprint(), start.fingerprint());
    let model = start.model().clone();
    let teacher = parent.model().clone();
    let trainer = Pretrainer::new(spec, primitives, corpus, config, folder)?;
    let trainer = trainer.distil(Distil { start: model, teacher, trained, fingerprint });
    let healed = trainer.run(&parent.device(), &[], observer)?;
    match healed.outcome {
        Outcome::Diverged { step, .. } => Err(ConvertError::DistillationDiverged { step }),
        _ => Ok(healed),
    }
}

/// Returns the paths of the layers that differ from those of the parent.
pub(super) fn replaced(parent: &Parent, architecture: &Architecture) -> Vec<String> {
    let layers = architecture.layers().iter().zip(parent.spec().architecture.layers()).enumerate();
    let other = layers.filter(|(_, (is, was))| is != was);
    other.map(|(layer, _)| format!("backbone.layers.{layer}.")).collect()
}
