//! The networks: causality, reproducibility, sizes, records.
#![cfg(feature = "flex")]

#[path = "../examples/plug_in_primitive/layer.rs"]
mod layer;

use burn::{
    module::{Module, Param},
    tensor::{Device, Int, Tensor, TensorData},
};
use composer_nas::{
    dims::{Dims, InitScheme},
    model::{Cache, GenerateError, HybridLm, ModelSpec, Network, Sampling},
    primitive::{BuildError, Primitives},
    seed::Seed,
};
use layer::running_mean;

fn primitives() -> Primitives {
    Primitives::standard().with(running_mean().unwrap()).unwrap()
}

fn spec(architecture: &str) -> ModelSpec {
    ModelSpec {
        architecture: architecture.parse().unwrap(),
        dims: Dims { kv_heads: 2, attention_bias: true, ..Dims::new(16, 24, 4).unwrap() },
        vocab_size: 11,
        tied_embeddings: false,
        head_bias: true,
        init: InitScheme::Normal(0.3),
    }
}

fn lm(spec: &ModelSpec, seed: u64, device: &Device) -> HybridLm {
    HybridLm::new(spec, &primitives(), Seed(seed), device).unwrap()
}

fn tokens(values: &[i32], device: &Device) -> Tensor<2, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), [1, values.len()]), device)
}

fn vector<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_into_vec().unwrap()
}

/// Every weight, in the order of the module.
fn weights(model: &impl Module) -> Vec<f32> {
    struct Collect(Vec<f32>);
    impl burn::module::ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.extend(vector(param.val()));
        }
    }
    let mut collect = Collect(Vec::new());
    model.visit(&mut collect);
    collect.0
}

#[test]
fn a_position_does_not_see_later_tokens() {
    for device in [Device::flex(), Device::flex().autodiff()] {
        let model = lm(&spec("AKMAF"), 1, &device);
        let before = vector(model.forward(tokens(&[1, 2, 3, 4, 5, 6, 7], &device)));
        let after = vector(model.forward(tokens(&[1, 2, 3, 4, 9, 0, 10], &device)));
        let seen = 4 * 11;
        let changed = 7 * 11;
        for at in 0..seen {
            assert!((before[at] - after[at]).abs() < 1e-6, "{at}");
        }
        assert!((seen..changed).any(|at| (before[at] - after[at]).abs() > 1e-3));
    }
}

#[test]
fn training_and_inference_agree() {
    let device = Device::flex().autodiff();
    let model = lm(&spec("AKMAF"), 2, &device);
    let ids = [3, 1, 4, 1, 5, 9, 2, 6];
    let train = vector(model.forward(tokens(&ids, &device)));
    let valid = vector(model.valid().forward(tokens(&ids, &Device::flex())));
    for (a, b) in train.iter().zip(valid) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
}

#[test]
fn weights_depend_on_spec_and_seed_alone() {
    let device = Device::flex();
    let alone: Vec<Vec<f32>> = (0..6).map(|seed| weights(&lm(&spec("AMKF"), seed, &device))).collect();
    let together: Vec<Vec<f32>> = std::thread::scope(|scope| {
        let build = |seed| scope.spawn(move || weights(&lm(&spec("AMKF"), seed, &Device::flex())));
        let threads: Vec<_> = (0..6).map(build).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(alone, together);
    assert_ne!(alone[0], alone[1]);
    // Layer 1 is the same SwiGLU whatever stands around it.
    let layer = |text: &str| weights(&lm(&spec(text), 7, &device).backbone.layers[1]);
    assert_eq!(layer("AM"), layer("KMAF"));
}

#[test]
fn sizes_follow_the_closed_forms() {
    for (tied, bias) in [(true, false), (true, true), (false, false), (false, true)] {
        let spec = ModelSpec { tied_embeddings: tied, head_bias: bias, ..spec("AMKAF") };
        let vocab = 11;
        let width = 16;
        let head = match (tied, bias) {
            (true, _) => 0,
            (false, bias) => vocab * width + if bias { vocab } else { 0 },
        };
        let layers: u64 = spec
            .architecture
            .layers()
            .iter()
            .map(|&symbol| primitives().get(symbol).unwrap().cost(&spec.dims, 1).parameters + width)
            .sum();
        let model = lm(&spec, 1, &Device::flex());
        assert_eq!(model.num_params() as u64, vocab * width + layers + width + head);
        assert_eq!(model.logits(tokens(&[1, 2], &Device::flex())).dims(), [1, 2, 11]);
    }
}

#[test]
fn a_tied_head_is_the_embedding() {
    let device = Device::flex().autodiff();
    let tied = ModelSpec { tied_embeddings: true, ..spec("M") };
    let mut untied = lm(&ModelSpec { head_bias: false, ..spec("M") }, 5, &device);
    let tied = lm(&tied, 5, &device);
    let ids = [1, 5, 2];
    assert_ne!(vector(tied.forward(tokens(&ids, &device))), vector(untied.forward(tokens(&ids, &device))));
    let head = untied.head.as_mut().unwrap();
    head.weight = Param::from_tensor(tied.backbone.embedding.val().transpose().detach());
    let a = vector(tied.forward(tokens(&ids, &device)));
    let b = vector(untied.forward(tokens(&ids, &device)));
    assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6));
}

#[test]
fn records_round_trip_and_fit_no_other_architecture() {
    let device = Device::flex();
    let file = tempfile::tempdir().unwrap();
    let path = file.path().join("model.bpk");
    let model = lm(&spec("AKMF"), 1, &device);
    model.clone().save_file(&path).unwrap();
    let loaded = lm(&spec("AKMF"), 2, &device).try_load_file(&path).unwrap();
    assert_eq!(weights(&model), weights(&loaded));
    let ids = [1, 2, 3];
    assert_eq!(vector(model.forward(tokens(&ids, &device))), vector(loaded.forward(tokens(&ids, &device))));
    for other in ["KAMF", "AKM", "AKMFF"] {
        assert!(lm(&spec(other), 1, &device).try_load_file(&path).is_err(), "{other}");
    }
}

#[test]
fn specs_that_cannot_be_built_are_refused() {
    let build = |spec: &ModelSpec| HybridLm::new(spec, &primitives(), Seed(1), &Device::flex()).map(|_| ());
    assert!(matches!(build(&ModelSpec { vocab_size: 0, ..spec("A") }), Err(BuildError::EmptyVocabulary)));
    let empty = ModelSpec { architecture: composer_nas::space::Architecture::default(), ..spec("A") };
    assert!(matches!(build(&empty), Err(BuildError::EmptyArchitecture)));
    assert!(matches!(build(&spec("AX")), Err(BuildError::Registry(_))));
    let dims = Dims { head_dim: 3, ..spec("A").dims };
    assert!(matches!(build(&ModelSpec { dims, ..spec("M") }), Err(BuildError::Dims(_))));
    let init = InitScheme::Normal(f64::NAN);
    assert!(matches!(build(&ModelSpec { init, ..spec("A") }), Err(BuildError::Init(_))));
}

#[test]
fn decoding_in_any_steps_gives_the_scores_of_the_whole_sequence() {
    let device = Device::flex();
    let all = [1, 2, 3, 4, 5, 6, 7, 8];
    for (architecture, tied) in [("AAKMAF", false), ("MA", true), ("KK", false), ("CC", false), ("M", false)] {
        let mut spec = spec(architecture);
        (spec.tied_embeddings, spec.head_bias) = (tied, !tied);
        let model = lm(&spec, 1, &device);
        let whole = vector(model.forward(tokens(&all, &device)));
        for steps in [&[8][..], &[1; 8], &[3, 1, 4]] {
            let mut cache = Cache::default();
            let mut rest = &all[..];
            let mut scores = Vec::new();
            for &step in steps {
                scores.extend(vector(model.decode(tokens(&rest[..step], &device), &mut cache)));
                rest = &rest[step..];
            }
            assert_eq!(scores.len(), whole.len());
            for (stepped, whole) in scores.iter().zip(&whole) {
                assert!((stepped - whole).abs() < 2e-5, "{architecture} {steps:?}: {stepped} {whole}");
            }
        }
    }
}

#[test]
fn a_cache_holds_what_the_costs_say_and_clones_go_on_alone() {
    let device = Device::flex();
    let spec = spec("AAMFA");
    let model = lm(&spec, 1, &device);
    let mut cache = Cache::default();
    model.decode(tokens(&[1, 2, 3], &device), &mut cache);
    let mut other = cache.clone();
    let a = tokens(&[4], &device);
    let b = tokens(&[5], &device);
    model.decode(b, &mut other);
    let whole = vector(model.forward(tokens(&[1, 2, 3, 4], &device)));
    for (stepped, whole) in vector(model.decode(a, &mut cache)).iter().zip(&whole[3 * 11..]) {
        assert!((stepped - whole).abs() < 2e-5, "{stepped} {whole}");
    }
    // Keys and values of 2 KV heads of width 4, three attention layers, four tokens.
    assert_eq!((cache.elements(), other.elements()), (2 * 2 * 4 * 3 * 4, 2 * 2 * 4 * 3 * 4));
}

#[test]
fn continuations_are_those_of_the_whole_forward_pass() {
    let device = Device::flex();
    let model = lm(&spec("AMCAF"), 1, &device);
    let rng = || Seed(5).rng("test", 0);
    let drawn: Vec<u32> =
        model.generate(&[1, 2, 3], Sampling::GREEDY, rng()).unwrap().take(6).map(Result::unwrap).collect();
    let mut text = vec![1, 2, 3];
    for &token in &drawn {
        let scores = vector(model.forward(tokens(&text, &device)));
        let last = &scores[scores.len() - 11..];
        let best = (0..11).max_by(|&a, &b| last[a].total_cmp(&last[b])).unwrap();
        assert_eq!(token as usize, best, "after {text:?}");
        text.push(token as i32);
    }
    let sampled = |rng| -> Vec<_> { model.generate(&[4], Sampling::PLAIN, rng).unwrap().take(20).collect() };
    assert_eq!(sampled(rng()), sampled(rng()));
    assert_ne!(sampled(rng()), sampled(Seed(6).rng("test", 0)));
    assert_eq!(model.generate(&[], Sampling::PLAIN, rng()).unwrap_err(), GenerateError::EmptyPrompt);
    let unknown = GenerateError::UnknownToken { token: 11, vocab_size: 11 };
    assert_eq!(model.generate(&[3, 11], Sampling::PLAIN, rng()).unwrap_err(), unknown);
}

/// The same draws at another scale; the layers are those of `FanIn`.
#[test]
fn embeddings_have_a_scale_of_their_own() {
    let with = |init| {
        let spec = ModelSpec { init, ..spec("AM") };
        HybridLm::new(&spec, &Primitives::standard(), Seed(3), &Device::flex()).unwrap()
    };
    let usual = with(InitScheme::FanIn);
    let wide = with(InitScheme::FanInEmbedding(0.1));
    let values = |model: &HybridLm| vector(model.backbone.embedding.val());
    for (usual, wide) in values(&usual).into_iter().zip(values(&wide)) {
        assert!((wide - 5.0 * usual).abs() < 1e-6, "{usual} {wide}");
    }
    assert_eq!(serde_json::to_string(&InitScheme::FanInEmbedding(0.1)).unwrap(), r#"{"fan_in_embedding":0.1}"#);
}
