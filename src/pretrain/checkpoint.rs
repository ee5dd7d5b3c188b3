//! Checkpoints, which are written atomically.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use burn::tensor::{DType, Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::PretrainError;
use crate::{
    durable, limits,
    model::Network,
    train::{AdamW, AdamWConfig, Moments, Trainer, TrainerProgress},
    weights::{self, Parameter, WeightsError},
};

/// The folder of the checkpoints in the folder of a run.
pub(crate) const CHECKPOINTS: &str = "checkpoints";
const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";

/// The part of a checkpoint that is not tensors. Data and random numbers need no state: both depend only on the seed
/// and the step.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    progress: TrainerProgress,
    /// The number of updates of each parameter.
    optimizer_steps: BTreeMap<String, i32>,
}

/// The checkpoints of a run.
pub(super) struct Checkpoints {
    folder: PathBuf,
}

impl Checkpoints {
    pub(super) fn of_run(run: &Path) -> Self {
        Self { folder: run.join(CHECKPOINTS) }
    }

    fn path(&self, step: usize) -> PathBuf {
        self.folder.join(format!("step-{step:08}"))
    }

    /// Returns the steps of the existing checkpoints, in increasing order.
    fn steps(&self) -> Result<Vec<usize>, PretrainError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(PretrainError::io(&self.folder)(error)),
        };
        let mut steps = Vec::new();
        for entry in entries {
            let name = entry.map_err(PretrainError::io(&self.folder))?.file_name();
            steps.extend(name.to_str().and_then(|name| name.strip_prefix("step-")?.parse::<usize>().ok()));
        }
        steps.sort_unstable();
        Ok(steps)
    }

    /// Returns the newest checkpoint, or `None` if there is none.
    pub(super) fn newest(&self) -> Result<Option<PathBuf>, PretrainError> {
        Ok(self.steps()?.last().map(|&step| self.path(step)))
    }

    /// Writes the state of `trainer` to a temporary folder, syncs it and renames it. Then removes the oldest
    /// checkpoints until `keep` are left.
    pub(super) fn save<N: Network>(&self, trainer: &Trainer<N>, keep: usize) -> Result<PathBuf, PretrainError> {
        let path = self.path(trainer.steps_done());
        if path.is_dir() {
            return Ok(path);
        }
        let beside = durable::beside(&path);
        durable::remove_folder(&beside).map_err(PretrainError::io(&beside))?;
        let model = trainer.model();
        weights::save(&model, &beside.join(MODEL)).map_err(PretrainError::Unsaved)?;
        let mut tensors = Vec::new();
        let mut optimizer_steps = BTreeMap::new();
        for Parameter { name, id, .. } in weights::parameters(&model) {
            let Some(Moments { means, steps }) = trainer.optimizer().moments(id) else { continue };
            for (mean, suffix) in means.iter().zip(SUFFIXES) {
                let data = mean.clone().try_into_data().map_err(|error| WeightsError::Device(error.into()))?;
                tensors.push((format!("{name}{suffix}"), data));
            }
            optimizer_steps.insert(name, *steps);
        }
        weights::write(&beside.join(OPTIMIZER), tensors).map_err(PretrainError::Unsaved)?;
        let state = State { progress: trainer.progress(), optimizer_steps };
        let text = serde_json::to_vec(&state).map_err(io::Error::from);
        let file = beside.join(STATE);
        text.and_then(|text| durable::write(&file, &text)).map_err(PretrainError::io(&file))?;
        durable::replace(&beside, &path).map_err(PretrainError::io(&path))?;
        let steps = self.steps()?;
        for &old in &steps[..steps.len().saturating_sub(keep)] {
            let old = self.path(old);
            let trash = durable::beside(&old);
            // Rename before removing, so that a partly removed folder is not mistaken for a checkpoint.
            let removed = durable::remove_folder(&trash).and_then(|()| fs::rename(&old, &trash));
            removed.and_then(|()| durable::remove_folder(&trash)).map_err(PretrainError::io(&old))?;
        }
        Ok(path)
    }
}

/// The suffixes of the running means of the gradient and of its square.
const SUFFIXES: [&str; 2] = [".mean", ".square"];

/// Loads the model, the optimizer and the progress of a checkpoint.
pub(super) fn load<N: Network>(
    path: &Path,
    model: N,
    config: &AdamWConfig,
    device: &Device,
) -> Result<(N, AdamW, TrainerProgress), PretrainError> {
    let file = path.join(STATE);
    let text = limits::read(&file, limits::MAX_DESCRIPTION).map_err(PretrainError::io(&file))?;
    let damaged = |reason: String| PretrainError::Damaged { path: path.into(), reason };
    let mut state: State = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    let model = weights::load(model, &path.join(MODEL))?;
    let mut tensors = weights::read(&path.join(OPTIMIZER))?;
    let mut optimizer = config.init();
    for Parameter { name, earlier_name, id, shape, .. } in weights::parameters(&model) {
        let count = shape.iter().product();
        let Some(steps) = weights::take(&mut state.optimizer_steps, &name, &earlier_name) else { continue };
        let mut mean = |suffix: &str| {
            let data = weights::take(&mut tensors, &format!("{name}{suffix}"), &format!("{earlier_name}{suffix}"));
            let data = data.filter(|data| (data.shape().to_vec(), data.dtype()) == (vec![count], DType::F32));
            data.ok_or_else(|| damaged(format!("{OPTIMIZER} has no {name}{suffix} of {count} numbers")))
        };
        let tensor = |data: TensorData| Tensor::from_data(data, device);
        let [first, second] = SUFFIXES;
        let means = [tensor(mean(first)?), tensor(mean(second)?)];
        optimizer.restore(id, Moments { means, steps });
    }
    Ok((model, optimizer, state.progress))
}
