//! Exported models compute in transformers what they compute here.
//!
//! `tests/interop/run.py` loads every model of `cases.rs` in transformers and writes its logits to
//! `tests/fixtures/interop/logits.safetensors`; the tests compare with those.
#![cfg(feature = "flex")]

mod cases;

use std::{collections::HashMap, env, fs, path::Path};

use composer_nas::{
    export,
    import::{self, Rope},
    prelude::*,
};
use safetensors::{Dtype, SafeTensors, serialize_to_file, tensor::TensorView};

/// Largest difference of logits in single precision: recurrences sum in another order.
fn tolerance(architecture: &Architecture) -> f32 {
    if architecture.letters().contains(['B', 'G', 'D', 'K', 'V']) { 5e-4 } else { 2e-5 }
}

fn worst(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).map(|(ours, theirs)| (ours - theirs).abs()).fold(0.0, f32::max)
}

fn numbers(tensor: &TensorView) -> Vec<f32> {
    assert_eq!(tensor.dtype(), Dtype::F32);
    tensor.data().chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

#[test]
fn logits_are_those_of_transformers() {
    let bytes = fs::read("tests/fixtures/interop/logits.safetensors").unwrap();
    let fixtures = SafeTensors::deserialize(&bytes).unwrap();
    let primitives = cases::primitives();
    let root = tempfile::tempdir().unwrap();
    for case in cases::all() {
        let folder = root.path().join(case.name);
        let model = cases::model(&case.spec, &primitives);
        export::hugging_face(&case.spec, Some(&model), &primitives, &folder, &case.options).unwrap();
        // Through the files, so that rounding to 16 bits is part of the model.
        let model = import::hugging_face(&folder, &primitives, &Device::flex(), Rope::Halves).unwrap().model;
        let theirs = numbers(&fixtures.tensor(case.name).unwrap());
        let spread = theirs.iter().fold(0.0_f32, |most, logit| most.max(logit.abs()));
        assert!((1.0..100.0).contains(&spread), "{}: logits up to {spread}", case.name);
        let last = cases::logits(&model).split_off((cases::TOKENS - cases::KEPT) * case.spec.vocab_size);
        let worst = worst(&last, &theirs);
        assert!(worst <= tolerance(&case.spec.architecture), "{}: {worst:e}", case.name);
    }
    assert_eq!(fixtures.len(), cases::all().len());
}

#[test]
fn folders_come_back_as_they_were() {
    let primitives = cases::primitives();
    let root = tempfile::tempdir().unwrap();
    for case in cases::all() {
        let folder = root.path().join(case.name);
        let model = cases::model(&case.spec, &primitives);
        let exported = export::hugging_face(&case.spec, Some(&model), &primitives, &folder, &case.options).unwrap();
        let found = import::hugging_face(&folder, &primitives, &Device::flex(), Rope::Halves).unwrap();
        assert_eq!(found.spec, case.spec, "{}", case.name);
        if case.options.precision == export::StoredPrecision::F32 {
            assert_eq!(cases::logits(&found.model), cases::logits(&model), "{}", case.name);
        }
        let again = root.path().join("again");
        let options = export::Options { overwrite: true, ..case.options };
        let second = export::hugging_face(&found.spec, Some(&found.model), &primitives, &again, &options).unwrap();
        assert_eq!((&second.files, &second.model_type), (&exported.files, &exported.model_type));
        for file in exported.files.iter().filter(|name| *name != "README.md") {
            assert!(
                fs::read(folder.join(file)).unwrap() == fs::read(again.join(file)).unwrap(),
                "{} {file}",
                case.name
            );
        }
    }
}

/// Writes the models of all cases into the folder `INTEROP`, each beside its logits: the first step of `run.py`.
#[test]
#[ignore = "writes files for run.py"]
fn write_models() {
    let root = env::var("INTEROP").expect("INTEROP names a folder");
    let primitives = cases::primitives();
    for case in cases::all() {
        let folder = Path::new(&root).join(case.name);
        let model = cases::model(&case.spec, &primitives);
        let options =
            export::Options { tokenizer: env::var_os("TOKENIZER").map(Into::into), overwrite: true, ..case.options };
        export::hugging_face(&case.spec, Some(&model), &primitives, &folder, &options).unwrap();
        let model = import::hugging_face(&folder, &primitives, &Device::flex(), Rope::Halves).unwrap().model;
        let logits: Vec<u8> = cases::logits(&model).iter().flat_map(|logit| logit.to_le_bytes()).collect();
        let tokens: Vec<u8> = cases::tokens().iter().flat_map(|&token| i64::from(token).to_le_bytes()).collect();
        let tensors = HashMap::from([
            ("logits", TensorView::new(Dtype::F32, vec![cases::TOKENS, case.spec.vocab_size], &logits).unwrap()),
            ("tokens", TensorView::new(Dtype::I64, vec![1, cases::TOKENS], &tokens).unwrap()),
        ]);
        let file = Path::new(&root).join(format!("{}.logits.safetensors", case.name));
        serialize_to_file(tensors, None, &file).unwrap();
    }
}

/// Reads a folder that transformers has written (`RESAVED`) and compares it with the logits that it stated (`LOGITS`).
#[test]
#[ignore = "reads files of run.py"]
fn resaved_models_are_read() {
    let folder = env::var("RESAVED").expect("a folder");
    let logits = env::var("LOGITS").expect("a file");
    let bytes = fs::read(logits).unwrap();
    let theirs = numbers(&SafeTensors::deserialize(&bytes).unwrap().tensor("logits").unwrap());
    let found = import::hugging_face(&folder, &cases::primitives(), &Device::flex(), Rope::Halves).unwrap();
    let worst = worst(&cases::logits(&found.model), &theirs);
    println!("{folder}: {} read back, max difference {worst:.1e}", found.spec.architecture);
    assert!(worst <= tolerance(&found.spec.architecture), "{worst:e}");
}
