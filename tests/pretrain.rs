//! Pre-training: kills, resumes, divergence, what is refused.
#![cfg(feature = "flex")]

use std::{
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use burn::tensor::Device;
use composer_nas::{
    data::{Corpus, TokenFile, TokenFormat, TokenWidth, TokenWriter},
    dims::{Dims, InitScheme},
    model::ModelSpec,
    pretrain::{Measured, PretrainConfig, PretrainError, Pretrained, Pretrainer, Record},
    primitive::Primitives,
    seed::Seed,
    text,
    train::{AdamWConfig, Decay, LrSchedule, Outcome, Precision, TrainConfig, TrainError},
};

/// The bytes of the text are the tokens.
fn corpus(folder: &Path) -> Corpus {
    let text: Vec<u32> = fs::read("tests/fixtures/text/harbour.txt").unwrap().into_iter().map(u32::from).collect();
    let path = folder.join("bytes.bin");
    if !path.exists() {
        let mut writer = TokenWriter::create(&path, TokenFormat::Plain, TokenWidth::U8).unwrap();
        writer.document(&text).unwrap();
        writer.finish().unwrap();
    }
    let file = TokenFile::open(path, TokenWidth::U8).unwrap();
    Corpus { token_bytes: Some(vec![1; 256].into()), ..Corpus::new(file, 256) }
}

fn model() -> ModelSpec {
    ModelSpec {
        architecture: "AM".parse().unwrap(),
        dims: Dims::new(16, 32, 2).unwrap(),
        vocab_size: 256,
        tied_embeddings: true,
        head_bias: false,
        init: InitScheme::Normal(0.02),
    }
}

fn config() -> PretrainConfig {
    let steps = 60;
    let schedule = LrSchedule { warmup_steps: 5, decay: Decay::Last(15), ..LrSchedule::cosine(2e-2, 1e-3, steps) };
    PretrainConfig {
        seq_len: 24,
        train: TrainConfig {
            steps,
            batch_size: 6,
            schedule,
            optimizer: AdamWConfig::default(),
            clip_norm: Some(1.0),
            evaluate_every: 15,
            log_every: 2,
            stop_above: None,
            precision: Precision::Single,
            recompute: false,
        },
        micro_batch: 4,
        validation_share: 0.1,
        validation_windows: 6,
        checkpoint_every: 10,
        keep: 2,
        seed: Seed(4),
    }
}

fn pretrainer(root: &Path, run: &str, config: &PretrainConfig) -> Pretrainer {
    Pretrainer::new(&model(), &Primitives::standard(), &corpus(root), config, root.join(run)).unwrap()
}

fn carry_on(root: &Path, run: &str) -> Pretrained {
    let go_on = &mut |_: &Record| ControlFlow::Continue(());
    pretrainer(root, run, &config()).run(&Device::flex(), &[], go_on).unwrap()
}

/// Everything but the speed.
fn losses(records: &[Record]) -> Vec<Record> {
    let timeless = |record: &Record| match record.measured {
        Measured::Training { loss, gradient_norm, learning_rate, .. } => Record {
            measured: Measured::Training { loss, gradient_norm, learning_rate, tokens_per_second: 0.0 },
            ..*record
        },
        Measured::Validation(_) => *record,
    };
    records.iter().map(timeless).collect()
}

fn checkpoints(run: &Path) -> Vec<String> {
    let entries = fs::read_dir(run.join("checkpoints")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What is in the files of a checkpoint.
fn content(checkpoint: Option<PathBuf>) -> [Vec<u8>; 3] {
    let folder = checkpoint.unwrap();
    ["model.safetensors", "optimizer.safetensors", "state.json"].map(|name| fs::read(folder.join(name)).unwrap())
}

#[test]
fn a_run_learns_measures_and_keeps_its_last_checkpoints() {
    let root = tempfile::tempdir().unwrap();
    let done = carry_on(root.path(), "run");
    assert_eq!(done.outcome, Outcome::Finished);
    assert_eq!(checkpoints(&root.path().join("run")), ["step-00000050", "step-00000060"]);
    let validations: Vec<_> = done
        .records
        .iter()
        .filter_map(|record| match record.measured {
            Measured::Validation(validation) => Some((record.step, record.tokens, validation)),
            Measured::Training { .. } => None,
        })
        .collect();
    assert_eq!(validations.iter().map(|&(step, ..)| step).collect::<Vec<_>>(), [15, 30, 45, 60]);
    let (_, tokens, last) = validations[3];
    assert_eq!(tokens, 60 * 6 * 24);
    // Every byte is a token, so bits per byte are the loss in bits; the letters' frequencies alone give about 4.2.
    assert!((last.bits_per_byte.unwrap() - last.loss / std::f64::consts::LN_2).abs() < 1e-12);
    assert!(last.loss < validations[0].2.loss && last.bits_per_byte.unwrap() < 4.5, "{validations:?}");

    // A finished run that is started again has nothing to do.
    let again = carry_on(root.path(), "run");
    assert_eq!((again.outcome, again.records), (Outcome::Finished, done.records));
}

#[test]
fn a_run_that_breaks_off_goes_on_as_if_nothing_had_been() {
    let root = tempfile::tempdir().unwrap();
    let whole = carry_on(root.path(), "whole");
    let mut heard = 0;
    let stop = &mut |_: &Record| {
        heard += 1;
        if heard % 7 == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let mut stops = 0;
    let parts = loop {
        let part = pretrainer(root.path(), "parts", &config()).run(&Device::flex(), &[], stop).unwrap();
        match part.outcome {
            Outcome::Cancelled { .. } => stops += 1,
            _ => break part,
        }
    };
    assert!(stops >= 3, "{stops}");
    assert_eq!(losses(&parts.records), losses(&whole.records));
    assert_eq!(content(parts.checkpoint), content(whole.checkpoint));
}

/// Not a test by itself: the process that the next test kills.
#[test]
#[ignore = "started by other tests"]
fn child_run() {
    let root = std::env::var("PRETRAIN_ROOT").unwrap();
    let slow = &mut |_: &Record| {
        thread::sleep(Duration::from_millis(20));
        ControlFlow::Continue(())
    };
    pretrainer(root.as_ref(), "killed", &config()).run(&Device::flex(), &[], slow).unwrap();
}

#[test]
fn a_run_that_is_killed_goes_on_with_the_same_losses() {
    let root = tempfile::tempdir().unwrap();
    let whole = carry_on(root.path(), "whole");
    let run = root.path().join("killed");
    let lines = || fs::read_to_string(run.join("metrics.jsonl")).map_or(0, |text| text.lines().count());
    let mut kills = 0;
    // Killed twice: before the first checkpoint, and some lines after a later one.
    for beyond in [3, 15] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "child_run"])
            .env("PRETRAIN_ROOT", root.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while lines() < beyond && child.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_millis(2));
        }
        kills += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(kills, 2, "the child ended before it was killed");
    // What a kill amid a checkpoint leaves behind.
    let torn = run.join("checkpoints").join("step-00000060.partial");
    fs::create_dir_all(&torn).unwrap();
    fs::write(torn.join("model.safetensors"), "half").unwrap();
    let resumed = carry_on(root.path(), "killed");
    assert_eq!(losses(&resumed.records), losses(&whole.records));
    assert_eq!(content(resumed.checkpoint), content(whole.checkpoint));
    assert_eq!(checkpoints(&run), ["step-00000050", "step-00000060"]);
}

#[test]
fn a_run_that_diverges_keeps_its_last_good_checkpoint() {
    let root = tempfile::tempdir().unwrap();
    let mut config = config();
    config.train.schedule = LrSchedule { warmup_steps: 60, ..LrSchedule::cosine(1e3, 0.0, 60) };
    config.train.clip_norm = None;
    config.checkpoint_every = 2;
    let go_on = &mut |_: &Record| ControlFlow::Continue(());
    let ended = pretrainer(root.path(), "run", &config).run(&Device::flex(), &[], go_on).unwrap();
    let Outcome::Diverged { step, .. } = ended.outcome else { panic!("{:?}", ended.outcome) };
    assert!((6..60).contains(&step), "{step}");
    let kept = checkpoints(&root.path().join("run"));
    assert_eq!(kept, [step - 4, step - 2].map(|step| format!("step-{step:08}")));
    assert!(ended.records.iter().all(|record| record.step < step));
}

#[test]
fn what_does_not_fit_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let primitives = Primitives::standard();
    let corpus = corpus(root.path());
    let run = root.path().join("run");
    let new = |model: &ModelSpec, config: &PretrainConfig| {
        Pretrainer::new(model, &primitives, &corpus, config, &run).map(|_| ()).unwrap_err()
    };
    let with = |change: &dyn Fn(&mut PretrainConfig)| {
        let mut config = config();
        change(&mut config);
        new(&model(), &config)
    };
    assert!(matches!(with(&|config| config.train.steps = 0), PretrainError::Train(TrainError::Zero("steps"))));
    assert!(matches!(with(&|config| config.keep = 0), PretrainError::Train(TrainError::Zero("keep"))));
    assert!(matches!(with(&|config| config.checkpoint_every = 3), PretrainError::CheckpointEvery { .. }));
    let small = ModelSpec { vocab_size: 255, ..model() };
    assert!(matches!(new(&small, &config()), PretrainError::Vocabulary { corpus: 256, model: 255 }));
    let strange = ModelSpec { architecture: "AZ".parse().unwrap(), ..model() };
    assert!(matches!(new(&strange, &config()), PretrainError::Build(_)));

    let go_on = &mut |_: &Record| ControlFlow::Continue(());
    let long = PretrainConfig { seq_len: 5000, ..config() };
    let error = pretrainer(root.path(), "long", &long).run(&Device::flex(), &[], go_on).unwrap_err();
    assert!(error.to_string().contains("a window of 5000"), "{error}");

    // Another run's folder, and damaged files in one's own.
    carry_on(root.path(), "run");
    let other = ModelSpec { architecture: "AMA".parse().unwrap(), ..model() };
    let other = Pretrainer::new(&other, &primitives, &corpus, &config(), &run).unwrap();
    let error = other.run(&Device::flex(), &[], go_on).unwrap_err().to_string();
    assert!(error.contains("model.architecture was \"1A+1M\" and is now \"1A+1M+1A\""), "{error}");
    let again = || {
        let go_on = &mut |_: &Record| ControlFlow::Continue(());
        pretrainer(root.path(), "run", &config()).run(&Device::flex(), &[], go_on).unwrap_err()
    };
    let newest = run.join("checkpoints").join("step-00000060");
    let weights = newest.join("model.safetensors");
    let good = fs::read(&weights).unwrap();
    fs::write(&weights, &good[..good.len() / 2]).unwrap();
    let message = text::causes(&again());
    assert!(message.contains("step-00000060") && message.contains("remove its folder"), "{message}");
    fs::write(&weights, good).unwrap();
    fs::write(newest.join("state.json"), "{}").unwrap();
    assert!(again().to_string().contains("is damaged"));
    fs::remove_dir_all(newest).unwrap();
    assert_eq!(carry_on(root.path(), "run").outcome, Outcome::Finished);
}
