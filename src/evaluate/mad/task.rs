//! The six synthetic tasks of MAD (Poli et al. 2024, "Mechanistic Design and Scaling of Hybrid Architectures", arXiv
//! 2403.17844). This is a new implementation of the distributions of the reference implementation.
//!
//! A [`Task`] is the configuration. [`Task::sampler`] validates it and returns a [`Sampler`], which draws one
//! [`Instance`] after another from a random stream and cannot fail.
//!
//! | task | what the model has to do |
//! |---|---|
//! | [`InContextRecall`] | look up the value of a key in the sequence itself |
//! | [`NoisyInContextRecall`] | the same among meaningless tokens |
//! | [`FuzzyInContextRecall`] | the same where keys and values consist of several tokens |
//! | [`Memorization`] | memorise facts that no sequence shows |
//! | [`Compression`] | compress a sequence into the state at its last position |
//! | [`SelectiveCopying`] | repeat, in order, the tokens that are scattered among blanks |
//!
//! # Differences from the reference
//!
//! Three flaws of the reference are corrected: a fuzzy probe is always shown before its value is asked for, noise can
//! never fill all slots of noisy recall, and the blanks of selective copying are drawn from the given stream like
//! everything else. The modules of the tasks define the distributions in full, with closed forms, and state the effect
//! of the corrections.

pub mod compression;
mod error;
pub mod fuzzy_recall;
pub mod in_context_recall;
pub mod memorization;
mod next_token;
pub mod selective_copying;
mod settings;

use std::fmt::Debug;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use compression::Compression;
pub use error::{MAX_SIZE, TaskError};
pub use fuzzy_recall::FuzzyInContextRecall;
pub use in_context_recall::{InContextRecall, NoisyInContextRecall};
pub use memorization::Memorization;
pub use selective_copying::SelectiveCopying;
pub(crate) use settings::baseline_settings;
pub use settings::{Setting, difficulty_settings};

use crate::seed::{Rng, Seed};

/// One sequence of a task, with the target at each position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The token ids, each below the vocabulary size of the task.
    pub inputs: Vec<u32>,
    /// The correct answer at each position of `inputs`; `None` if the position is not scored.
    pub targets: Vec<Option<u32>>,
}

/// The use of an instance. It only matters for the three recall tasks: in training, every next token is a target; in a
/// test, only those that can be known. In a test, the keys of fuzzy recall have full length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// Training.
    Train,
    /// Testing.
    Test,
}

/// A task with its configuration.
///
/// Serialised as a tagged object. Omitted fields have the values of the benchmark; unknown fields are an error.
///
/// ```
/// use composer_nas::seed::Seed;
/// use composer_nas::evaluate::mad::task::{Split, Task};
/// let task: Task = serde_json::from_str(r#"{"task": "in-context-recall", "seq_len": 64}"#)?;
/// let sampler = task.sampler(Seed(7))?;
/// let instance = sampler.sample(Split::Test, &mut Seed(7).rng("example", 0));
/// assert_eq!(instance.inputs.len(), task.input_len());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "kebab-case")]
pub enum Task {
    /// Look up the value of a key in the sequence.
    InContextRecall(InContextRecall),
    /// The same among noise.
    NoisyInContextRecall(NoisyInContextRecall),
    /// The same with keys and values that consist of several tokens.
    FuzzyInContextRecall(FuzzyInContextRecall),
    /// Memorise facts.
    Memorization(Memorization),
    /// Reconstruct a sequence from one state.
    Compression(Compression),
    /// Repeat the tokens among blanks.
    SelectiveCopying(SelectiveCopying),
}

impl Task {
    /// Returns the six tasks at the baseline settings of the benchmark, in its order.
    pub fn all() -> [Task; 6] {
        [
            Task::InContextRecall(Default::default()),
            Task::NoisyInContextRecall(Default::default()),
            Task::FuzzyInContextRecall(Default::default()),
            Task::Memorization(Default::default()),
            Task::Compression(Default::default()),
            Task::SelectiveCopying(Default::default()),
        ]
    }

    /// Returns the name for configuration and reports, such as `"in-context-recall"`.
    pub fn name(&self) -> &'static str {
        self.configuration().name()
    }

    /// Returns the number of token ids, including special tokens: the vocabulary size of the model.
    pub fn vocab_size(&self) -> usize {
        self.configuration().vocab_size()
    }

    /// Returns the length of the inputs, which is also that of the targets, of every instance.
    pub fn input_len(&self) -> usize {
        self.configuration().input_len()
    }

    /// Whether the whole sequence is reconstructed from the state at its last position, instead of each target from the
    /// state at its own position.
    pub(crate) fn is_auto_encoding(&self) -> bool {
        matches!(self, Task::Compression(_))
    }

    /// Returns the expected accuracy in a test if each answer is guessed uniformly among the tokens that can occur at
    /// its position: the values for recall and memorization, the content tokens for copying and compression (whose last
    /// position has a single possible token).
    ///
    /// Use it as a lower reference for micro accuracies. Poor models can score more: on recall, the most frequent value
    /// so far is a better guess and needs no look-up. The result is finite for every task, but only meaningful for
    /// valid ones.
    pub fn chance(&self) -> f64 {
        self.configuration().chance()
    }

    /// Checks the settings of the task.
    ///
    /// # Errors
    /// [`TaskError`], which names the setting to change, exactly if [`Task::sampler`] fails.
    pub fn validate(&self) -> Result<(), TaskError> {
        self.sampler(Seed::default()).map(drop)
    }

    /// Returns a sampler of this task. `seed` determines the facts of memorization; other tasks ignore it. Samplers of
    /// equal tasks and seeds are identical.
    ///
    /// # Errors
    /// [`TaskError`], which names the setting to change, if the settings are inconsistent.
    pub fn sampler(&self, seed: Seed) -> Result<Sampler, TaskError> {
        Ok(Sampler { generator: self.configuration().generator(seed)? })
    }

    fn configuration(&self) -> &dyn Configuration {
        match self {
            Task::InContextRecall(task) => task,
            Task::NoisyInContextRecall(task) => task,
            Task::FuzzyInContextRecall(task) => task,
            Task::Memorization(task) => task,
            Task::Compression(task) => task,
            Task::SelectiveCopying(task) => task,
        }
    }
}

/// A source of instances of one valid task. Clones are cheap and draw the same instances. Threads can share it.
#[derive(Clone, Debug)]
pub struct Sampler {
    generator: Arc<dyn Generator>,
}

impl Sampler {
    /// Draws one instance from the stream `rng`. The same state of the stream gives the same instance. At least one
    /// position is scored.
    pub fn sample(&self, split: Split, rng: &mut Rng) -> Instance {
        self.generator.generate(split, rng)
    }
}

/// The properties of a task's configuration; see the methods of [`Task`].
trait Configuration {
    fn name(&self) -> &'static str;
    fn vocab_size(&self) -> usize;
    fn input_len(&self) -> usize;
    fn chance(&self) -> f64;
    /// Validates the configuration and converts it to a form that cannot fail.
    fn generator(&self, seed: Seed) -> Result<Arc<dyn Generator>, TaskError>;
}

/// A validated configuration.
trait Generator: Debug + Send + Sync {
    fn generate(&self, split: Split, rng: &mut Rng) -> Instance;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn baselines_are_valid_and_their_defaults_are_the_benchmarks() {
        let summary = Task::all().map(|task| (task.name(), task.vocab_size(), task.input_len(), task.validate()));
        let expected = [
            ("in-context-recall", 16, 127, Ok(())),
            ("noisy-in-context-recall", 32, 127, Ok(())),
            ("fuzzy-in-context-recall", 16, 128, Ok(())),
            ("memorization", 256, 32, Ok(())),
            ("compression", 16, 32, Ok(())),
            ("selective-copying", 16, 256, Ok(())),
        ];
        assert_eq!(summary, expected);
        let encoders = Task::all().map(|task| task.is_auto_encoding());
        assert_eq!(encoders, [false, false, false, false, true, false]);
    }

    #[test]
    fn text_form_is_tagged_with_the_name_and_round_trips() -> Result<(), serde_json::Error> {
        for task in Task::all() {
            let value = serde_json::to_value(&task)?;
            assert_eq!(value["task"], task.name());
            assert_eq!(serde_json::from_value::<Task>(value)?, task);
            let bare = format!(r#"{{"task": "{}"}}"#, task.name());
            assert_eq!(serde_json::from_str::<Task>(&bare)?, task);
        }
        Ok(())
    }

    #[test]
    fn unknown_fields_tags_and_repetitions_are_refused() {
        for task in Task::all() {
            let name = task.name();
            for rest in
                [r#""vocab": 16"#, r#""vocab_size": 16, "seq_len": 64, "lr": 1"#, r#""seq_len": 8, "seq_len": 8"#]
            {
                let text = format!(r#"{{"task": "{name}", {rest}}}"#);
                assert!(serde_json::from_str::<Task>(&text).is_err(), "{text}");
                let text = format!(r#"{{{rest}, "task": "{name}"}}"#);
                assert!(serde_json::from_str::<Task>(&text).is_err(), "{text}");
            }
        }
        // A field of another task is unknown, too.
        assert!(serde_json::from_str::<Task>(r#"{"task": "compression", "multi_query": true}"#).is_err());
        assert!(serde_json::from_str::<Task>(r#"{"task": "in-context-recall", "frac_noise": 0.1}"#).is_err());
        assert!(serde_json::from_str::<Task>(r#"{"task": "copying"}"#).is_err());
        assert!(serde_json::from_str::<Task>(r#"{"vocab_size": 16}"#).is_err());
    }

    /// The instances of the baselines must never change: recorded experiments identify them by their seed.
    #[test]
    fn streams_are_fixed_for_ever() -> Result<(), TaskError> {
        let digest = |instance: Instance| {
            let answers = instance.targets.into_iter().map(|target| target.map_or(u32::MAX, |token| token));
            instance.inputs.into_iter().chain(answers).fold(0xcbf2_9ce4_8422_2325u64, |hash, token| {
                (hash ^ u64::from(token)).wrapping_mul(0x0000_0100_0000_01b3)
            })
        };
        let digests = Task::all()
            .map(|task| Ok(digest(task.sampler(Seed(7))?.sample(Split::Test, &mut Seed(7).rng("pinned", 0)))));
        let digests = digests.into_iter().collect::<Result<Vec<_>, TaskError>>()?;
        assert_eq!(
            digests,
            [
                8657748980343673407,
                2222764747527255578,
                13313481513202124528,
                10517981312369546310,
                1255796097281578117,
                7694699970262538900
            ]
        );
        Ok(())
    }

    #[test]
    fn the_largest_sizes_can_be_sampled() -> Result<(), TaskError> {
        let vocab_size = MAX_SIZE;
        let seq_len = MAX_SIZE;
        let multi_query = true;
        let noise_vocab_size = MAX_SIZE - 2;
        let frac_noise = 0.5;
        let k_motif = MAX_SIZE / 4 - 1;
        let v_motif = MAX_SIZE / 4;
        for task in [
            Task::InContextRecall(InContextRecall { vocab_size, seq_len, multi_query }),
            Task::NoisyInContextRecall(NoisyInContextRecall {
                vocab_size,
                noise_vocab_size,
                frac_noise,
                seq_len,
                multi_query,
            }),
            Task::FuzzyInContextRecall(FuzzyInContextRecall { vocab_size, seq_len, k_motif, v_motif, multi_query }),
            Task::Memorization(Memorization { vocab_size, seq_len }),
            Task::Compression(Compression { vocab_size, seq_len }),
            Task::SelectiveCopying(SelectiveCopying { vocab_size, seq_len, num_tokens_to_copy: MAX_SIZE / 2 - 1 }),
        ] {
            let instance = task.sampler(Seed(1))?.sample(Split::Test, &mut Seed(1).rng("largest", 0));
            assert_eq!(instance.inputs.len(), task.input_len());
        }
        Ok(())
    }

    /// Configurations of all tasks, valid and invalid, including many borderline cases.
    fn tasks() -> impl Strategy<Value = Task> {
        let noise = prop_oneof![Just(0.0), Just(1.0), 0.0..1.0f64, -0.1..1.1f64];
        let recall = (0usize..24, 0usize..48, any::<bool>());
        prop_oneof![
            recall.clone().prop_map(|(vocab_size, seq_len, multi_query)| {
                Task::InContextRecall(InContextRecall { vocab_size, seq_len, multi_query })
            }),
            (recall.clone(), 0usize..12, noise).prop_map(|((vocab_size, seq_len, multi_query), noise, frac_noise)| {
                let noise_vocab_size = noise;
                let task = NoisyInContextRecall { vocab_size, noise_vocab_size, frac_noise, seq_len, multi_query };
                Task::NoisyInContextRecall(task)
            }),
            (recall, 0usize..5, 0usize..5).prop_map(|((vocab_size, seq_len, multi_query), k_motif, v_motif)| {
                Task::FuzzyInContextRecall(FuzzyInContextRecall { vocab_size, seq_len, k_motif, v_motif, multi_query })
            }),
            (0usize..24, 0usize..24)
                .prop_map(|(vocab_size, seq_len)| Task::Memorization(Memorization { vocab_size, seq_len })),
            (0usize..8, 0usize..24)
                .prop_map(|(vocab_size, seq_len)| Task::Compression(Compression { vocab_size, seq_len })),
            (0usize..8, 0usize..24, 0usize..12).prop_map(|(vocab_size, seq_len, num_tokens_to_copy)| {
                Task::SelectiveCopying(SelectiveCopying { vocab_size, seq_len, num_tokens_to_copy })
            }),
        ]
    }

    /// Returns a function that says whether a token belongs to a key or to a value, or neither; `None` for tasks
    /// without keys.
    fn keys_of(task: &Task) -> Option<impl Fn(u32) -> Option<bool>> {
        let special = |multi_query: bool| usize::from(!multi_query);
        let content = match task {
            Task::InContextRecall(task) => task.vocab_size - special(task.multi_query),
            Task::NoisyInContextRecall(task) => task.vocab_size - special(task.multi_query) - task.noise_vocab_size,
            Task::FuzzyInContextRecall(task) => task.vocab_size - special(task.multi_query) - 1,
            Task::Memorization(_) | Task::Compression(_) | Task::SelectiveCopying(_) => return None,
        };
        Some(move |token: u32| ((token as usize) < content).then_some((token as usize) < content / 2))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn whatever_validates_can_be_sampled(task in tasks(), seed in any::<u64>(), index in any::<u64>()) {
            let sampler = match task.sampler(Seed(seed)) {
                Ok(sampler) => sampler,
                Err(error) => {
                    prop_assert_eq!(task.validate(), Err(error));
                    return Ok(());
                }
            };
            prop_assert_eq!(task.validate(), Ok(()));
            prop_assert!(task.chance() > 0.0 && task.chance() <= 1.0);
            for split in [Split::Train, Split::Test] {
                let mut rng = Seed(seed).rng("instance", index);
                let instance = sampler.sample(split, &mut rng);
                prop_assert_eq!(&instance, &sampler.clone().sample(split, &mut Seed(seed).rng("instance", index)));
                prop_assert_eq!(instance.inputs.len(), task.input_len());
                prop_assert_eq!(instance.targets.len(), task.input_len());
                let scored = || instance.targets.iter().flatten();
                prop_assert!(scored().count() > 0);
                prop_assert!(instance.inputs.iter().chain(scored()).all(|&token| (token as usize) < task.vocab_size()));
            }
        }

        /// In recall tasks, no question has an answer that was overwritten: every token of a key precedes only one
        /// value, from the beginning to the question, and a test asks only for what was shown before.
        #[test]
        fn no_answer_of_a_recall_task_was_overwritten(task in tasks(), seed in any::<u64>(), index in any::<u64>()) {
            let Ok(sampler) = task.sampler(Seed(seed)) else { return Ok(()) };
            let Some(is_key) = keys_of(&task) else { return Ok(()) };
            for split in [Split::Train, Split::Test] {
                let instance = sampler.sample(split, &mut Seed(seed).rng("instance", index));
                let last = instance.targets.last().copied().flatten();
                let asked = |place: usize| place > 0 && instance.targets[place - 1].is_some();
                let tokens = instance.inputs.iter().copied().chain(last).enumerate();
                // Noise, padding and the copy prefix are neither.
                let sides: Vec<_> = tokens.filter_map(|(place, token)| Some((is_key(token)?, token, place))).collect();
                let runs: Vec<_> = sides.chunk_by(|one, next| one.0 == next.0).collect();
                prop_assert!(runs.len() >= 4 && runs.len() % 2 == 0, "{instance:?}");
                let mut value_of = BTreeMap::new();
                for pair in runs.chunks(2) {
                    let [key, value] = [0, 1].map(|half| pair[half].iter().map(|run| run.1).collect::<Vec<_>>());
                    prop_assert!(pair[0][0].0 && !pair[1][0].0, "{instance:?}");
                    let was = value_of.insert(key, value.clone());
                    prop_assert!(was.as_ref().is_none_or(|was| *was == value), "{was:?} before {value:?}: {instance:?}");
                    let is_asked = pair[1].iter().any(|&(.., place)| asked(place));
                    prop_assert!(split == Split::Train || !is_asked || was.is_some(), "{instance:?}");
                }
            }
        }

        /// Facts that are never shown are the same in every question.
        #[test]
        fn no_fact_of_memorization_changes(vocab_size in 3usize..24, pairs in 1usize..12, seed in any::<u64>()) {
            let sampler = Task::Memorization(Memorization { vocab_size, seq_len: 2 * pairs }).sampler(Seed(seed))?;
            let mut value_of = BTreeMap::new();
            for index in 0..20 {
                for split in [Split::Train, Split::Test] {
                    let instance = sampler.sample(split, &mut Seed(seed).rng("instance", index));
                    for (slot, answer) in instance.inputs.chunks(2).zip(instance.targets.iter().flatten()) {
                        prop_assert_eq!(*value_of.entry(slot[0]).or_insert(*answer), *answer);
                    }
                }
            }
        }

        #[test]
        fn no_configuration_of_any_size_panics(
            vocab_size in any::<usize>(),
            seq_len in any::<usize>(),
            size in any::<usize>(),
            frac_noise in any::<f64>(),
            multi_query in any::<bool>(),
        ) {
            let noise_vocab_size = size;
            for task in [
                Task::InContextRecall(InContextRecall { vocab_size, seq_len, multi_query }),
                Task::NoisyInContextRecall(NoisyInContextRecall {
                    vocab_size, noise_vocab_size, frac_noise, seq_len, multi_query,
                }),
                Task::FuzzyInContextRecall(FuzzyInContextRecall {
                    vocab_size, seq_len, k_motif: size, v_motif: size, multi_query,
                }),
                Task::Memorization(Memorization { vocab_size, seq_len }),
                Task::Compression(Compression { vocab_size, seq_len }),
                Task::SelectiveCopying(SelectiveCopying { vocab_size, seq_len, num_tokens_to_copy: size }),
            ] {
                prop_assert_eq!(task.validate().is_ok(), task.sampler(Seed(1)).is_ok());
                prop_assert!(task.chance().is_finite());
                prop_assert!(task.input_len() <= seq_len);
            }
        }
    }
}
