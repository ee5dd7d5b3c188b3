//! The MAD tasks and metrics against the reference implementation; `fixtures/mad/README.md` tells where it comes from.
#![cfg(feature = "flex")]

#[path = "mad_golden/rules.rs"]
mod rules;
#[path = "mad_golden/statistics.rs"]
mod statistics;

use std::collections::{BTreeMap, BTreeSet};

use composer_nas::evaluate::mad::Metric;
use composer_nas::evaluate::mad::task::{
    Compression, FuzzyInContextRecall, InContextRecall, Instance, MAX_SIZE, Memorization, NoisyInContextRecall,
    SelectiveCopying, Split, Task, TaskError, difficulty_settings,
};
use composer_nas::seed::Seed;
use rules::{PROBE_SHOWN, Roles, check};
use serde::Deserialize;
use statistics::{Golden, Own, Report};

/// As many as the stored statistics come from.
const INSTANCES: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Setting {
    task: Task,
    token_roles: Roles,
    expected_closed_form: BTreeMap<String, f64>,
    test_instances: Vec<StoredInstance>,
    #[serde(default)]
    train_instances: Vec<StoredInstance>,
    #[serde(default)]
    facts: BTreeMap<u32, u32>,
    test_statistics: Golden,
    train_statistics: Option<Golden>,
}

#[derive(Clone, Deserialize)]
struct StoredInstance {
    inputs: Vec<u32>,
    targets: Vec<Option<u32>>,
}

impl From<StoredInstance> for Instance {
    fn from(StoredInstance { inputs, targets }: StoredInstance) -> Self {
        Instance { inputs, targets }
    }
}

/// All stored settings, the baseline of each task first.
fn settings() -> Vec<Setting> {
    [
        include_str!("fixtures/mad/in-context-recall.json"),
        include_str!("fixtures/mad/noisy-in-context-recall.json"),
        include_str!("fixtures/mad/fuzzy-in-context-recall.json"),
        include_str!("fixtures/mad/memorization.json"),
        include_str!("fixtures/mad/compression.json"),
        include_str!("fixtures/mad/selective-copying.json"),
    ]
    .into_iter()
    .flat_map(|text| serde_json::from_str::<Vec<Setting>>(text).unwrap())
    .collect()
}

/// Instances from a stream that belongs to the task with these settings.
fn instances(task: &Task, split: Split) -> impl Iterator<Item = Instance> {
    let sampler = task.sampler(Seed(12345)).unwrap();
    let mut rng = Seed(777).rng(&text(task), 0);
    std::iter::repeat_with(move || sampler.sample(split, &mut rng))
}

fn text(task: &Task) -> String {
    serde_json::to_string(task).unwrap()
}

#[test]
fn the_reference_keeps_the_rules_but_for_its_unshown_probes() {
    let mut unshown = 0;
    for setting in settings() {
        assert_eq!(Roles::of(&setting.task), setting.token_roles, "{:?}", setting.task);
        let mut facts = setting.facts.clone();
        let test = setting.test_instances.iter().cloned().map(|instance| (Split::Test, instance));
        let train = setting.train_instances.iter().cloned().map(|instance| (Split::Train, instance));
        for (split, instance) in test.chain(train) {
            match check(&setting.task, split, &instance.into(), &mut facts) {
                Err(PROBE_SHOWN) => unshown += 1,
                result => assert_eq!(result, Ok(()), "{:?}", setting.task),
            }
        }
        assert_eq!(facts, setting.facts, "the stored map has all facts of {:?}", setting.task);
    }
    // Two were stored for each setting of the fuzzy task.
    assert_eq!(unshown, 4);
}

#[test]
fn the_rules_notice_every_change_of_an_instance() {
    for setting in settings() {
        let pristine: Instance = setting.test_instances[0].clone().into();
        for position in 0..pristine.targets.len() {
            let mut instance = pristine.clone();
            instance.targets[position] = match instance.targets[position] {
                Some(_) => None,
                None => Some(0),
            };
            let result = check(&setting.task, Split::Test, &instance, &mut setting.facts.clone());
            assert!(result.is_err(), "{:?}: target {position} changed", setting.task);
        }
    }
}

#[test]
fn every_own_instance_keeps_the_rules() {
    for setting in settings() {
        let mut facts = BTreeMap::new();
        for split in [Split::Train, Split::Test] {
            for instance in instances(&setting.task, split).take(INSTANCES) {
                let result = check(&setting.task, split, &instance, &mut facts);
                assert_eq!(result, Ok(()), "{:?}: {instance:?}", setting.task);
            }
        }
        let values: BTreeSet<_> = facts.values().collect();
        assert_eq!((facts.len(), values.len()), (setting.facts.len(), facts.len()), "facts are complete and injective");
    }
}

#[test]
fn every_benchmark_setting_and_single_queries_keep_the_rules() {
    let single = [
        Task::InContextRecall(InContextRecall { multi_query: false, ..Default::default() }),
        Task::NoisyInContextRecall(NoisyInContextRecall { multi_query: false, frac_noise: 1.0, ..Default::default() }),
        Task::FuzzyInContextRecall(FuzzyInContextRecall { multi_query: false, ..Default::default() }),
    ];
    for task in difficulty_settings().into_iter().map(|setting| setting.task).chain(single) {
        let mut facts = BTreeMap::new();
        for split in [Split::Train, Split::Test] {
            for instance in instances(&task, split).take(100) {
                assert_eq!(check(&task, split, &instance, &mut facts), Ok(()), "{task:?}: {instance:?}");
            }
        }
    }
}

#[test]
fn statistics_agree_with_the_reference_and_with_closed_forms() {
    for setting in settings() {
        let task = &setting.task;
        let roles = Roles::of(&setting.task);
        let golden = [(Split::Test, Some(&setting.test_statistics)), (Split::Train, setting.train_statistics.as_ref())];
        for (split, golden) in golden.into_iter().filter_map(|(split, golden)| Some((split, golden?))) {
            let mut own = Own::default();
            let mut report = Report::default();
            instances(task, split).take(INSTANCES).for_each(|instance| own.add(task, &roles, &instance));
            own.compare(golden, &mut report);
            if split == Split::Test {
                compare_with_closed_forms(&setting, &own, &mut report);
            }
            report.conclude(&format!("{split:?} of {}", text(task)));
        }
    }
}

fn compare_with_closed_forms(setting: &Setting, own: &Own, report: &mut Report) {
    let golden = |name: &str| setting.expected_closed_form[name];
    let keys = f64::from(setting.token_roles.keys[1]);
    match &setting.task {
        Task::InContextRecall(_) => {
            own.expect("distinct_keys", golden("distinct_keys_mean"), report);
            own.expect("scored", golden("scored_mean_test"), report);
        }
        Task::NoisyInContextRecall(config) => {
            let [noise, distinct, scored] = noisy_closed_forms(config, keys, &golden);
            own.expect("noise_slots", noise, report);
            own.expect("distinct_keys", distinct, report);
            own.expect("scored", scored, report);
        }
        Task::FuzzyInContextRecall(_) => own.expect("final_probe_unanswerable", 0.0, report),
        Task::Memorization(_) => {
            own.expect("distinct_keys", golden("distinct_keys_mean"), report);
            own.expect("scored", golden("scored_mean"), report);
            own.expect_uniform("scored_target_token_freq", 1.0 / keys, report);
        }
        Task::Compression(config) => {
            let content = f64::from(setting.token_roles.content[1]);
            let distinct = content * (1.0 - (1.0 - 1.0 / content).powi(config.seq_len as i32 - 1));
            own.expect("distinct_tokens", distinct, report);
            own.expect("scored", golden("scored_mean"), report);
        }
        Task::SelectiveCopying(_) => {
            own.expect("scored", golden("scored_mean"), report);
            own.expect_rare("zero_gaps", golden("zero_gap_count_mean"), report);
            own.expect_gaps(golden("gap_mean"), golden("gap_sd"), golden("gap_pair_correlation"), report);
        }
    }
}

/// Expected noise slots, distinct keys and scored positions of a test when this many slots, none or one, are never
/// noise. With many queries every repeated key is scored, and the last one; with a single query the last alone.
fn noisy_forms(config: &NoisyInContextRecall, keys: f64, protected: i32) -> [f64; 3] {
    let f = config.frac_noise;
    let slots = config.seq_len as i32 / 2 - 1;
    let missed = (1.0 - 1.0 / keys).powi(protected) * (1.0 - (1.0 - f) / keys).powi(slots - protected);
    let noise = f * f64::from(slots - protected);
    let distinct = keys * (1.0 - missed);
    let scored = if config.multi_query { f64::from(slots) - noise - distinct + 1.0 } else { 1.0 };
    [noise, distinct, scored]
}

/// The forms with one protected slot, as ours has. The reference's own expectations follow by mixing in, with weight
/// 1/P, the case that it protects none.
fn noisy_closed_forms(config: &NoisyInContextRecall, keys: f64, golden: &dyn Fn(&str) -> f64) -> [f64; 3] {
    let [own, unprotected] = [1, 0].map(|protected| noisy_forms(config, keys, protected));
    let f = config.frac_noise;
    let weight = 2.0 / config.seq_len as f64;
    let names = ["noise_slots_mean", "distinct_keys_mean", "scored_mean_test"];
    for ((name, own), unprotected) in names.into_iter().zip(own).zip(unprotected) {
        let mixed = (1.0 - weight) * own + weight * unprotected;
        assert!((mixed - golden(name)).abs() < 1e-6, "{name}: {mixed} is not {}", golden(name));
        assert!((own - golden(name)).abs() <= f * weight, "{name} differs by f/P at most");
    }
    own
}

#[test]
fn noisy_recall_keeps_its_closed_forms_with_many_queries_and_with_one() {
    for multi_query in [true, false] {
        for (vocab_size, noise_vocab_size, frac_noise, seq_len) in
            [(32, 16, 0.2, 128), (12, 3, 0.5, 20), (9, 0, 0.0, 16), (10, 4, 0.9, 6), (8, 2, 1.0, 12)]
        {
            let config = NoisyInContextRecall { vocab_size, noise_vocab_size, frac_noise, seq_len, multi_query };
            let task = Task::NoisyInContextRecall(config.clone());
            let roles = Roles::of(&task);
            let mut own = Own::default();
            let mut report = Report::default();
            instances(&task, Split::Test).take(INSTANCES).for_each(|instance| own.add(&task, &roles, &instance));
            let forms = noisy_forms(&config, f64::from(roles.keys[1]), 1);
            for (name, expected) in ["noise_slots", "distinct_keys", "scored"].into_iter().zip(forms) {
                own.expect(name, expected, &mut report);
            }
            report.conclude(&text(&task));
        }
    }
}

#[test]
fn chance_agrees_with_the_reference() {
    for setting in settings() {
        let golden = |name: &str| setting.expected_closed_form[name];
        let chance = setting.task.chance();
        let length = setting.task.input_len() as f64;
        let (chance, expected) = match setting.task {
            Task::InContextRecall(_) | Task::NoisyInContextRecall(_) | Task::SelectiveCopying(_) => {
                (chance, golden("chance_accuracy"))
            }
            Task::FuzzyInContextRecall(_) => (chance, golden("chance_accuracy_value_token")),
            Task::Memorization(_) => (chance, 1.0 / golden("n_value_tokens")),
            // Ours counts the last position, whose token is known.
            Task::Compression(_) => ((chance * length - 1.0) / (length - 1.0), golden("chance_accuracy_content")),
        };
        assert!((chance - expected).abs() < 1e-6, "{:?}: {chance}", setting.task);
    }
}

#[test]
fn a_stream_determines_its_instances() {
    for task in difficulty_settings().into_iter().map(|setting| setting.task) {
        let draw = |seed, index| task.sampler(seed).unwrap().sample(Split::Train, &mut seed.rng("draw", index));
        assert_eq!(draw(Seed(1), 0), draw(Seed(1), 0), "{task:?}");
        assert_ne!(draw(Seed(1), 0), draw(Seed(1), 1), "{task:?}");
    }
}

#[test]
fn accuracies_agree_with_torchmetrics() {
    #[derive(Deserialize)]
    struct Case {
        name: String,
        pred: Vec<u32>,
        target: Vec<Option<u32>>,
        r#macro: f64,
        micro: f64,
    }
    let cases: Vec<Case> = serde_json::from_str(include_str!("fixtures/mad/metric.json")).unwrap();
    assert_eq!(cases.len(), 18);
    for case in cases {
        let scored = || case.pred.iter().zip(&case.target).filter_map(|(&pred, target)| Some((pred, (*target)?)));
        for (metric, expected) in [(Metric::Macro, case.r#macro), (Metric::Micro, case.micro)] {
            let accuracy = metric.accuracy(scored()).unwrap();
            assert!((accuracy - expected).abs() < 1e-6, "{}, {metric:?}: {accuracy} is not {expected}", case.name);
        }
    }
}

/// A setting that a user may well write down has an error of its own.
mod errors {
    use super::*;

    fn error(task: Task) -> TaskError {
        let error = task.validate().unwrap_err();
        assert_eq!(error.to_string(), task.sampler(Seed(0)).unwrap_err().to_string());
        error
    }

    #[test]
    fn sequence_too_short() {
        let cases = [
            (Task::InContextRecall(InContextRecall { seq_len: 2, ..Default::default() }), 4),
            (Task::NoisyInContextRecall(NoisyInContextRecall { seq_len: 0, ..Default::default() }), 4),
            (Task::FuzzyInContextRecall(FuzzyInContextRecall { seq_len: 12, ..Default::default() }), 13),
            (Task::Memorization(Memorization { seq_len: 0, ..Default::default() }), 2),
            (Task::Compression(Compression { seq_len: 1, ..Default::default() }), 2),
            (Task::SelectiveCopying(SelectiveCopying { seq_len: 33, ..Default::default() }), 34),
        ];
        for (task, least) in cases {
            let name = task.name();
            let error = error(task);
            assert!(
                matches!(error, TaskError::SequenceTooShort { task, minimum, .. } if task == name && minimum == least),
                "{error}"
            );
        }
    }

    #[test]
    fn odd_length() {
        for task in [
            Task::InContextRecall(InContextRecall { seq_len: 127, ..Default::default() }),
            Task::NoisyInContextRecall(NoisyInContextRecall { seq_len: 127, ..Default::default() }),
            Task::Memorization(Memorization { seq_len: 127, ..Default::default() }),
        ] {
            let name = task.name();
            assert_eq!(error(task), TaskError::OddLength { task: name, seq_len: 127 });
        }
    }

    #[test]
    fn vocabulary_too_small() {
        let multi_query = false;
        let cases = [
            (Task::InContextRecall(InContextRecall { vocab_size: 2, multi_query, ..Default::default() }), 3),
            (Task::NoisyInContextRecall(NoisyInContextRecall { vocab_size: 16, ..Default::default() }), 18),
            (Task::FuzzyInContextRecall(FuzzyInContextRecall { vocab_size: 2, ..Default::default() }), 3),
            (Task::Memorization(Memorization { vocab_size: 2, ..Default::default() }), 3),
            (Task::Compression(Compression { vocab_size: 1, ..Default::default() }), 2),
            (Task::SelectiveCopying(SelectiveCopying { vocab_size: 2, ..Default::default() }), 3),
        ];
        for (task, minimum) in cases {
            let name = task.name();
            let vocab_size = task.vocab_size();
            assert_eq!(error(task), TaskError::VocabularyTooSmall { task: name, vocab_size, minimum });
        }
    }

    #[test]
    fn noise_fraction() {
        for frac_noise in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            let task = Task::NoisyInContextRecall(NoisyInContextRecall { frac_noise, ..Default::default() });
            assert!(matches!(error(task), TaskError::NoiseFraction { .. }));
        }
    }

    #[test]
    fn no_noise_tokens() {
        let config = NoisyInContextRecall { noise_vocab_size: 0, frac_noise: 0.5, ..Default::default() };
        assert_eq!(error(Task::NoisyInContextRecall(config)), TaskError::NoNoiseTokens { frac_noise: 0.5 });
    }

    #[test]
    fn empty_motif() {
        let config = FuzzyInContextRecall { k_motif: 0, ..Default::default() };
        assert_eq!(error(Task::FuzzyInContextRecall(config)), TaskError::EmptyMotif { field: "k_motif" });
        let config = FuzzyInContextRecall { v_motif: 0, ..Default::default() };
        assert_eq!(error(Task::FuzzyInContextRecall(config)), TaskError::EmptyMotif { field: "v_motif" });
    }

    #[test]
    fn motif_too_long() {
        let config = FuzzyInContextRecall { k_motif: 8, ..Default::default() };
        let expected = TaskError::MotifTooLong { field: "k_motif", size: 8, tokens: 7 };
        assert_eq!(error(Task::FuzzyInContextRecall(config)), expected);
        let config = FuzzyInContextRecall { v_motif: 9, ..Default::default() };
        let expected = TaskError::MotifTooLong { field: "v_motif", size: 9, tokens: 8 };
        assert_eq!(error(Task::FuzzyInContextRecall(config)), expected);
    }

    #[test]
    fn nothing_to_copy() {
        let config = SelectiveCopying { num_tokens_to_copy: 0, ..Default::default() };
        assert_eq!(error(Task::SelectiveCopying(config)), TaskError::NothingToCopy);
    }

    #[test]
    fn too_large() {
        let config = SelectiveCopying { num_tokens_to_copy: usize::MAX, ..Default::default() };
        let expected = TaskError::TooLarge { field: "num_tokens_to_copy", value: usize::MAX };
        assert_eq!(error(Task::SelectiveCopying(config)), expected);
        let config = Compression { vocab_size: MAX_SIZE + 1, ..Default::default() };
        let expected = TaskError::TooLarge { field: "vocab_size", value: MAX_SIZE + 1 };
        assert_eq!(error(Task::Compression(config)), expected);
    }
}
