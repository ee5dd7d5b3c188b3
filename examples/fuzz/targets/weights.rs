//! Weights, checkpoints and models in the formats of other tools.

use std::{fs, ops::ControlFlow, path::Path, path::PathBuf};

use anyhow::{Context as _, ensure};
use composer_nas::{export, import, prelude::*, pretrain::Pretrainer, weights};

use super::{Seen, Target, models, protocols};
use crate::INPUT;

fn model() -> anyhow::Result<HybridLm> {
    Ok(HybridLm::new(&models::spec()?, &Primitives::standard(), Seed(1), &Device::flex())?)
}

pub const WEIGHTS: Target = Target {
    name: "weights",
    what: "safetensors files of weights",
    seeds: |folder| {
        let path = folder.join("seed.safetensors");
        weights::save(&model()?, &path)?;
        Ok(vec![fs::read(path)?])
    },
    run: |_, folder| match weights::load(model()?, &folder.join(INPUT)) {
        Ok(model) => {
            let again = folder.join("again.safetensors");
            weights::save(&model, &again)?;
            weights::load(self::model()?, &again)?;
            Seen::read("weights")
        }
        Err(error) => Seen::refused(error),
    },
};

const FOLDER: &str = "model";
const CONFIG_JSON: &str = "config.json";
const WEIGHTS_FILE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Exports a tiny model in files of at most `shard_bytes` bytes, and returns the bytes of one file.
fn exported(folder: &Path, shard_bytes: u64, file: &str) -> anyhow::Result<Vec<u8>> {
    let target = folder.join(FOLDER);
    let options = export::Options { overwrite: true, shard_bytes, ..Default::default() };
    export::hugging_face(&models::spec()?, Some(&model()?), &Primitives::standard(), &target, &options)?;
    let path = target.join(file);
    fs::read(&path).with_context(|| path.display().to_string())
}

/// Imports the folder with the input in place of one file.
fn import(folder: &Path, file: &str, input: &[u8]) -> anyhow::Result<Seen> {
    let folder = folder.join(FOLDER);
    fs::write(folder.join(file), input)?;
    match import::hugging_face(&folder, &Primitives::standard(), &Device::flex(), import::Rope::Halves) {
        Ok(model) => {
            let described = import::describe(&folder, &Primitives::standard())?;
            ensure!(model.spec == described.spec, "two readers differ");
            Seen::read("model")
        }
        Err(error) => Seen::refused(error),
    }
}

pub const CONFIG: Target = Target {
    name: "import_config",
    what: "config.json of another tool, then the whole folder",
    seeds: |folder| Ok(vec![exported(folder, u64::MAX, CONFIG_JSON)?]),
    run: |input, folder| import(folder, CONFIG_JSON, input),
};

pub const IMPORT: Target = Target {
    name: "import_weights",
    what: "weights in the folder of another tool",
    seeds: |folder| Ok(vec![exported(folder, u64::MAX, WEIGHTS_FILE)?]),
    run: |input, folder| import(folder, WEIGHTS_FILE, input),
};

pub const SHARDS: Target = Target {
    name: "import_index",
    what: "the index of weights in several files",
    seeds: |folder| Ok(vec![exported(folder, 4000, INDEX)?]),
    run: |input, folder| import(folder, INDEX, input),
};

/// Returns the state file of the newest checkpoint of the run in this folder.
fn state(run: &Path) -> anyhow::Result<PathBuf> {
    let newest =
        fs::read_dir(run.join("checkpoints"))?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    Ok(newest.into_iter().max().context("a run has a checkpoint")?.join("state.json"))
}

fn pretrain(folder: &Path) -> anyhow::Result<()> {
    let primitives = Primitives::standard();
    let corpus = protocols::corpus(folder)?;
    let run = Pretrainer::new(&models::spec()?, &primitives, &corpus, &protocols::pretraining()?, folder.join("run"))?;
    run.run(&Device::flex(), &[], &mut |_| ControlFlow::Continue(()))?;
    Ok(())
}

pub const CHECKPOINT: Target = Target {
    name: "checkpoint",
    what: "the state of a pre-training that goes on",
    seeds: |folder| {
        pretrain(folder)?;
        Ok(vec![fs::read(state(&folder.join("run"))?)?])
    },
    run: |input, folder| {
        fs::write(state(&folder.join("run"))?, input)?;
        match pretrain(folder) {
            Ok(()) => Seen::read("finished"),
            Err(error) => Seen::refused_as(format!("{error:#}")),
        }
    },
};
