//! Training settings.

use std::path::Path;

use anyhow::ensure;
use composer_nas::{
    data::{Corpus, TokenFile, TokenFormat, TokenWidth, TokenWriter},
    evaluate::{
        corpus::{CorpusEvaluator, CorpusProtocol},
        mad::{
            Protocol,
            task::{MAX_SIZE, Split, Task, difficulty_settings},
        },
    },
    prelude::*,
    pretrain::{PretrainConfig, Pretrainer},
    text::causes,
    train::TrainConfig,
};

use super::{Seen, Target, json, models, round_trip};

/// Returns settings of a training that takes no time.
pub fn training() -> anyhow::Result<TrainConfig> {
    let text = r#"{"steps": 2, "batch_size": 2, "evaluate_every": 1, "log_every": 1,
        "schedule": {"peak": 0.01, "floor": 0.0, "warmup_steps": 0, "total_steps": 2, "interval": 1}}"#;
    Ok(serde_json::from_str(text)?)
}

/// Returns settings of a pre-training that takes no time.
pub fn pretraining() -> anyhow::Result<PretrainConfig> {
    Ok(PretrainConfig {
        seq_len: 8,
        train: training()?,
        micro_batch: 2,
        validation_share: 0.2,
        validation_windows: 2,
        checkpoint_every: 1,
        keep: 2,
        seed: Seed(3),
    })
}

/// Returns a corpus of some hundred tokens below 40, in the worker's folder.
pub fn corpus(folder: &Path) -> anyhow::Result<Corpus> {
    let path = folder.join("corpus.bin");
    if !path.exists() {
        let mut writer = TokenWriter::create(&path, TokenFormat::Plain, TokenWidth::U16)?;
        writer.document(&(0..400).map(|at| at * 7 % 40).collect::<Vec<u32>>())?;
        writer.finish()?;
    }
    Ok(Corpus::new(TokenFile::open(path, TokenWidth::U16)?, 40))
}

pub const TASK: Target = Target {
    name: "task",
    what: "settings of the MAD tasks, and sequences drawn with them",
    seeds: |_| json(Task::all().into_iter().chain(difficulty_settings().into_iter().map(|setting| setting.task))),
    run: |input, _| {
        round_trip::<Task>(input, |task| {
            let sampler = match task.sampler(Seed(1)) {
                Ok(sampler) => sampler,
                Err(error) => return Seen::refused(error),
            };
            ensure!(task.validate().is_ok() && task.input_len() <= 2 * MAX_SIZE, "a length out of bounds");
            let chance = task.chance();
            ensure!((0.0..=1.0).contains(&chance), "chance is no probability");
            for split in [Split::Train, Split::Test] {
                let instance = sampler.sample(split, &mut Seed(2).rng("fuzz/task", 0));
                ensure!(instance.inputs.len() == task.input_len(), "inputs of another length");
                ensure!(instance.targets.len() == task.input_len(), "targets of another length");
                let known = |token: u32| (token as usize) < task.vocab_size();
                ensure!(instance.inputs.into_iter().all(known), "an input beyond the vocabulary");
                ensure!(instance.targets.into_iter().flatten().all(known), "a target beyond the vocabulary");
            }
            Seen::read(task.name())
        })
    },
};

pub const MAD: Target = Target {
    name: "mad_protocol",
    what: "protocols of MAD",
    seeds: |_| json([Protocol::quick(), Protocol::reference(), Protocol::full()]),
    run: |input, _| {
        round_trip::<Protocol>(input, |protocol| {
            match Mad::new(protocol.clone(), &Primitives::standard(), &Device::flex()) {
                Ok(mad) => {
                    let _ = (mad.fingerprint(), protocol.steps());
                    let schedules = protocol.trainings.iter().map(|training| &training.train.schedule);
                    for schedule in schedules {
                        let rates = [0, 1, usize::MAX].map(|step| schedule.at(step));
                        ensure!(rates.into_iter().all(f64::is_finite), "a learning rate that is no number");
                    }
                    Seen::read("protocol")
                }
                Err(error) => Seen::refused(error),
            }
        })
    },
};

pub const CORPUS: Target = Target {
    name: "corpus_protocol",
    what: "protocols of trainings on text",
    seeds: |_| {
        let small = CorpusProtocol { seq_len: 8, batch_size: 2, ..CorpusProtocol::small_scale(&models::tiny()?, 4, 2) };
        json([small, CorpusProtocol::stories(1 << 20), CorpusProtocol::large_scale(&models::tiny()?, 1 << 20)])
    },
    run: |input, folder| {
        round_trip::<CorpusProtocol>(input, |protocol| {
            let primitives = Primitives::standard();
            let device = Device::flex();
            let corpus = corpus(folder)?;
            match CorpusEvaluator::new(protocol.clone(), &corpus, &primitives, &device) {
                Ok(evaluator) => {
                    let _ = evaluator.fingerprint();
                    match protocol.training(&protocol.model("2A+2M".parse()?, 40), &primitives) {
                        Ok(training) => Seen::read(format!("{}", training.validate().is_ok())),
                        Err(error) => Seen::read(causes(&error)),
                    }
                }
                Err(error) => Seen::refused(error),
            }
        })
    },
};

pub const PRETRAIN: Target = Target {
    name: "pretrain_config",
    what: "settings of a pre-training",
    seeds: |_| json([pretraining()?]),
    run: |input, folder| {
        round_trip::<PretrainConfig>(input, |config| {
            let primitives = Primitives::standard();
            let corpus = corpus(folder)?;
            match Pretrainer::new(&models::spec()?, &primitives, &corpus, &config, folder.join("run")) {
                Ok(_) => Seen::read("settings"),
                Err(error) => Seen::refused(error),
            }
        })
    },
};
