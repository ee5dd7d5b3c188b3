//! Weights and checkpoints that move between devices.

use std::{fs, ops::ControlFlow, path::Path};

use burn::tensor::Device;
use composer_nas::{
    data::{Corpus, TokenFile, TokenFormat, TokenWidth, TokenWriter},
    device::{self, NamedDevice},
    dims::{Dims, InitScheme},
    model::{HybridLm, ModelSpec},
    pretrain::{Measured, PretrainConfig, Pretrained, Pretrainer},
    primitive::Primitives,
    seed::Seed,
    train::{LrSchedule, Outcome, TrainConfig},
    weights,
};

use crate::{config, turn};

fn spec(architecture: &str, vocab_size: usize) -> ModelSpec {
    ModelSpec {
        architecture: architecture.parse().unwrap(),
        dims: Dims::new(24, 40, 3).unwrap(),
        vocab_size,
        tied_embeddings: true,
        head_bias: false,
        init: InitScheme::Normal(0.02),
    }
}

#[test]
fn weights_move_between_devices_bit_for_bit() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let build = |seed, device: &Device| {
        HybridLm::new(&spec("AMBGCFRES", 7), &Primitives::standard(), Seed(seed), device).unwrap()
    };
    let bytes = |model: &HybridLm, name: &str| {
        let path = folder.path().join(name);
        weights::save(model, &path).unwrap();
        fs::read(path).unwrap()
    };
    let here = bytes(&build(1, &Device::flex()), "here");
    for NamedDevice { name, device } in device::available() {
        // Weights are drawn on the host: the same model has the same bytes anywhere.
        assert_eq!(bytes(&build(1, &device), "there"), here, "{name}");
        let there = weights::load(build(2, &device), &folder.path().join("here")).unwrap();
        assert_eq!(bytes(&there, "moved"), here, "{name}");
        let back = weights::load(build(3, &Device::flex()), &folder.path().join("moved")).unwrap();
        assert_eq!(bytes(&back, "back"), here, "{name}");
    }
}

/// The bytes of the text are the tokens.
fn corpus(folder: &Path) -> Corpus {
    let text: Vec<u32> = fs::read("tests/fixtures/text/harbour.txt").unwrap().into_iter().map(u32::from).collect();
    let path = folder.join("bytes.bin");
    let mut writer = TokenWriter::create(&path, TokenFormat::Plain, TokenWidth::U8).unwrap();
    writer.document(&text).unwrap();
    writer.finish().unwrap();
    Corpus { token_bytes: None, ..Corpus::new(TokenFile::open(path, TokenWidth::U8).unwrap(), 256) }
}

fn pretraining() -> PretrainConfig {
    PretrainConfig {
        seq_len: 11,
        train: TrainConfig { schedule: LrSchedule::constant(1e-2), ..config(8, 2) },
        micro_batch: 2,
        validation_share: 0.1,
        validation_windows: 4,
        checkpoint_every: 4,
        keep: 2,
        seed: Seed(4),
    }
}

/// The first half on one device, the second on the other.
fn halves(root: &Path, run: &str, corpus: &Corpus, first: &Device, second: &Device) -> Pretrained {
    let pretrainer =
        Pretrainer::new(&spec("AM", 256), &Primitives::standard(), corpus, &pretraining(), root.join(run)).unwrap();
    let stopped = pretrainer.run(first, &[], &mut |record| match record.step {
        4 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    assert_eq!(stopped.unwrap().outcome, Outcome::Cancelled { step: 4 });
    pretrainer.run(second, &[], &mut |_| ControlFlow::Continue(())).unwrap()
}

#[test]
fn checkpoints_of_a_pretraining_move_between_devices() {
    let _turn = turn();
    let root = tempfile::tempdir().unwrap();
    let corpus = corpus(root.path());
    let losses = |done: &Pretrained| {
        let loss = |record: &composer_nas::pretrain::Record| match record.measured {
            Measured::Training { loss, .. } => loss,
            Measured::Validation(validation) => validation.loss,
        };
        done.records.iter().map(loss).collect::<Vec<f64>>()
    };
    let here = Device::flex();
    let want = losses(&halves(root.path(), "here", &corpus, &here, &here));
    assert_eq!(want.len(), 5);
    for NamedDevice { name, device } in device::available() {
        for (way, first, second) in [("to", &here, &device), ("from", &device, &here)] {
            let done = halves(root.path(), &format!("{way} {name}"), &corpus, first, second);
            assert_eq!(done.outcome, Outcome::Finished);
            for (got, want) in losses(&done).iter().zip(&want) {
                assert!((got - want).abs() < 1e-3 * want, "{way} {name}: {got} is not {want}");
            }
        }
    }
}
