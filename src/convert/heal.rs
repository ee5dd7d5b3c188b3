//! Training a candidate on its parent's distributions.

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

/// How a candidate is healed.
#[derive(Clone, Copy, Debug)]
pub struct Healing<'a> {
    /// Whose distributions are learned.
    pub parent: &'a Parent,
    /// What the letters mean.
    pub primitives: &'a Primitives,
    /// The text on which they are.
    pub corpus: &'a Corpus,
    /// Steps, schedule, checkpoints.
    pub config: &'a PretrainConfig,
    /// Whether all weights are trained, or only those of layers that were replaced and the norms in front of them,
    /// which takes less memory and less time.
    pub everything: bool,
}

/// Trains `model`, of specification `spec`, to have its parent's next-token distributions: a [`Pretrainer`] in `folder`
/// whose losses are divergences, with its metrics and checkpoints. The same call again goes on where it was stopped.
///
/// # Errors
/// [`ConvertError`] when no layer was replaced and not everything is trained, the folder belongs to another run or is
/// in use, a file or the device fails, or the training diverges.
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
        let remedy = "no layer was replaced, so that there is nothing to heal";
        return Err(ConvertError::Setting { name: "everything", value: "false".into(), remedy });
    }
    let start = Parent::new(spec.clone(), model)?;
    let fingerprint = format!("from {} to {}", parent.fingerprint(), start.fingerprint());
    let (model, teacher) = (start.model().clone(), parent.model().clone());
    let trainer = Pretrainer::new(spec, primitives, corpus, config, folder)?;
    let trainer = trainer.distil(Distil { start: model, teacher, trained, fingerprint });
    let healed = trainer.run(&parent.device(), &[], observer)?;
    match healed.outcome {
        Outcome::Diverged { step, .. } => Err(ConvertError::HealingDiverged { step }),
        _ => Ok(healed),
    }
}

/// The paths of the layers that are not the parent's.
pub(super) fn replaced(parent: &Parent, architecture: &Architecture) -> Vec<String> {
    let layers = architecture.layers().iter().zip(parent.spec().architecture.layers()).enumerate();
    let other = layers.filter(|(_, (is, was))| is != was);
    other.map(|(layer, _)| format!("trunk.layers.{layer}.")).collect()
}
