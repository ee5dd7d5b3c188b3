//! What users, files and crashes can cause.

use std::fs;

use burn::module::Module;
use composer_nas::{
    layer::{Block, Mixer, WeightInit},
    primitive::{BuildError, LayerCost, PrimitiveId, Role},
    space::Constraint as Rule,
};

use super::*;

#[test]
fn a_library_of_another_parent_text_or_setting_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let own = parent("AMAM");
    let alternatives = Alternatives::of(&own.spec().architecture, Symbol::ATTENTION, symbols("S"));
    library(&own, &alternatives, folder).unwrap();
    let refused = |result: Result<BlockLibrary, ConvertError>, part: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("library.json") && error.contains(&format!("{part} was")), "{error}");
    };
    let spec = spec("AMAM");
    let model = HybridLm::new(&spec, &primitives(), Seed(6), &Device::flex()).unwrap();
    refused(library(&Parent::new(spec, model).unwrap(), &alternatives, folder), "parent");
    let settings = LocalDistillation { steps: 31, ..settings() };
    refused(build(&own, &alternatives, &settings, folder, &|_| {}), "settings");
    let [_, text] = windows(folder);
    let primitives = primitives();
    let recipe = LibraryRecipe {
        parent: &own,
        primitives: &primitives,
        alternatives: &alternatives,
        text: &text,
        settings: &super::settings(),
    };
    refused(BlockLibrary::build(&recipe, folder.join("library"), 1, &|_| {}), "text");
    let none = LocalDistillation { steps: 0, ..super::settings() };
    assert!(build(&own, &alternatives, &none, folder, &|_| {}).unwrap_err().to_string().contains("steps"));
    // Text with more token ids than the parent has.
    let corpus = corpus(folder);
    let [text, _] = Windows::split(corpus.tokens.clone(), VOCABULARY + 1, 24, 0.2).unwrap();
    let error = BlockLibrary::build(&LibraryRecipe { text: &text, ..recipe }, folder.join("other"), 1, &|_| {});
    assert!(error.unwrap_err().to_string().contains("tokenizer.json"));
    // Text shorter than a window.
    let error = Windows::split(corpus.tokens, VOCABULARY, 5000, 0.2).unwrap_err().to_string();
    assert!(error.contains("5000"), "{error}");
}

#[test]
fn blocks_that_are_damaged_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let parent = parent("AM");
    let alternatives = Alternatives::of(&parent.spec().architecture, Symbol::ATTENTION, symbols("B"));
    library(&parent, &alternatives, folder).unwrap();
    let record = json_of(folder, "layer-000-mamba2");
    let weights = record.with_extension("safetensors");
    let text = fs::read(&record).unwrap();
    let whole = fs::read(&weights).unwrap();
    let error = || composer_nas::text::causes(&library(&parent, &alternatives, folder).unwrap_err());

    let mut poisoned = whole.clone();
    let end = poisoned.len();
    poisoned[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&weights, &poisoned).unwrap();
    assert!(error().contains("not finite") && error().contains("mamba2"), "{}", error());
    fs::write(&weights, &whole[..end / 2]).unwrap();
    assert!(error().contains("is not a valid safetensors file"), "{}", error());
    fs::write(&weights, &whole).unwrap();
    fs::write(&record, &text[..text.len() / 2]).unwrap();
    assert!(error().contains("is damaged"), "{}", error());
    fs::write(&record, &text).unwrap();
    library(&parent, &alternatives, folder).unwrap();
    // A record whose weights are gone is made again.
    fs::remove_file(&weights).unwrap();
    library(&parent, &alternatives, folder).unwrap();
    assert_eq!(fs::read(&weights).unwrap(), whole);
}

#[test]
fn parents_and_trainings_without_numbers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let spec = spec("AM");
    let mut model = HybridLm::new(&spec, &primitives(), Seed(5), &Device::flex()).unwrap();
    let good = model.clone();
    model.norm.gamma = model.norm.gamma.map(|gamma| gamma * f32::NAN);
    assert!(Parent::new(spec.clone(), model).unwrap_err().to_string().contains("not finite"));
    let parent = Parent::new(spec, good).unwrap();
    let alternatives = Alternatives::of(&parent.spec().architecture, Symbol::ATTENTION, symbols("B"));
    let wild = LocalDistillation { learning_rate: 1e30, ..settings() };
    let error = build(&parent, &alternatives, &wild, folder, &|_| {}).unwrap_err().to_string();
    assert!(error.contains("layer 0 diverged"), "{error}");
    assert!(
        Distillation::new(
            Arc::new(
                library(&parent, &Alternatives::of(&"AM".parse().unwrap(), Symbol::MLP, []), &folder.join("none"))
                    .unwrap()
            ),
            &alternatives,
            Vec::new()
        )
        .is_err()
    );
    let least = Rule::Budget {
        what: "bytes".into(),
        costs: [(Symbol::ATTENTION, 9), (Symbol::try_from('B').unwrap(), 4)].into(),
        max: 3,
    };
    assert!(alternatives.space([least]).unwrap_err().to_string().contains("the least is 4"));
}

#[test]
fn a_library_says_what_its_letters_stand_for_and_leaves_no_activations() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let own = parent("AMAM");
    let alternatives = Alternatives::of(&own.spec().architecture, Symbol::ATTENTION, symbols("S"));
    let known = library(&own, &alternatives, folder).unwrap();
    let [text, _] = windows(folder);
    let settings = settings();
    // A window of other length has the same letter.
    let other = primitives().replacing(SlidingWindow::new(3).unwrap());
    let recipe = LibraryRecipe {
        parent: &own,
        primitives: &other,
        alternatives: &alternatives,
        text: &text,
        settings: &settings,
    };
    let changed = BlockLibrary::build(&recipe, folder.join("library"), 1, &|_| {}).unwrap();
    let fingerprint = |library: &BlockLibrary| {
        let library = Arc::new(library.clone());
        Distillation::new(library, &alternatives, held_out(folder, 2)).unwrap().fingerprint()
    };
    assert_ne!(fingerprint(&known), fingerprint(&changed));
    let again = library(&own, &alternatives, folder).unwrap();
    assert_eq!(fingerprint(&known), fingerprint(&again));
    // Those of a run that was killed after its last block.
    let activations = folder.join("library/activations");
    fs::create_dir(&activations).unwrap();
    library(&own, &alternatives, folder).unwrap();
    assert!(!activations.exists());
}

/// Adds what is no number.
#[derive(Debug)]
struct Broken;

impl Primitive for Broken {
    fn id(&self) -> PrimitiveId {
        PrimitiveId::new("broken").unwrap()
    }

    fn symbol(&self) -> Symbol {
        'X'.try_into().unwrap()
    }

    fn role(&self) -> Role {
        Role::Channel
    }

    fn cost(&self, _: &Dims, _: u64) -> LayerCost {
        LayerCost::default()
    }

    fn build(&self, _: &Dims, _: &mut WeightInit, _: &Device) -> Result<Block, BuildError> {
        Ok(Block::new(BrokenLayer))
    }
}

#[derive(Module, Debug)]
struct BrokenLayer;

impl Mixer for BrokenLayer {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        x * f32::NAN
    }
}

#[test]
fn settings_and_layers_that_no_library_can_have_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let own = parent("AM");
    let alternatives = |letters| Alternatives::of(&own.spec().architecture, Symbol::ATTENTION, symbols(letters));
    let refused = |letters, settings: LocalDistillation, words: &str| {
        let error = build(&own, &alternatives(letters), &settings, folder, &|_| {}).unwrap_err();
        let text = composer_nas::text::causes(&error);
        assert!(text.contains(words), "{text}");
        fs::remove_dir_all(folder.join("library")).unwrap();
    };
    // More windows than the text has: those held out would be learned from.
    let many = LocalDistillation { windows: 1000, ..settings() };
    refused("B", many.clone(), "windows + held_out is 1002");
    build(&own, &alternatives("S"), &many, folder, &|_| {}).unwrap();
    fs::remove_dir_all(folder.join("library")).unwrap();

    let [text, _] = windows(folder);
    let primitives = primitives().with(Broken).unwrap();
    let settings = settings();
    let broken = alternatives("X");
    let recipe = LibraryRecipe {
        parent: &own,
        primitives: &primitives,
        alternatives: &broken,
        text: &text,
        settings: &settings,
    };
    for _ in 0..2 {
        let error = BlockLibrary::build(&recipe, folder.join("library"), 1, &|_| {}).unwrap_err().to_string();
        assert!(error.contains("the output of broken at layer 0 is not finite"), "{error}");
    }
    let vast = LocalDistillation { batch_size: usize::MAX, ..settings.clone() };
    let error = BlockLibrary::build(&LibraryRecipe { settings: &vast, ..recipe }, folder.join("vast"), 1, &|_| {});
    assert!(error.unwrap_err().to_string().contains("batch_size"));
}
