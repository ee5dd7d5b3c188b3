//! The six synthetic tasks of MAD (Poli et al. 2024, "Mechanistic Design and Scaling of Hybrid Architectures", arXiv
//! 2403.17844), written anew from the laws that the reference implementation follows.
//!
//! A [`Task`] is plain configuration. [`Task::sampler`] checks it once and returns a [`Sampler`], which then cannot
//! fail: it draws one [`Instance`] after another from a stream of the caller's.
//!
//! | task | what the model has to do |
//! |---|---|
//! | [`InContextRecall`] | look up, in the sequence itself, the value that goes with a key |
//! | [`NoisyInContextRecall`] | the same among meaningless tokens |
//! | [`FuzzyInContextRecall`] | the same where keys and values are runs of several tokens |
//! | [`Memorization`] | learn by heart facts that no sequence shows |
//! | [`Compression`] | gather a sequence into the state at its last position |
//! | [`SelectiveCopying`] | repeat, in order, the tokens that stand among blanks |
//!
//! # Differences from the reference
//!
//! Three flaws of the reference are corrected: a fuzzy probe is always shown before it is asked for, noise can never
//! fill all slots of noisy recall, and the blanks of selective copying come from the given stream like everything else.
//! The modules say what that changes in the law of the data, which they give in full, with closed forms.

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
pub use settings::{Setting, baseline_settings, difficulty_settings};

use crate::seed::{Rng, Seed};

/// One sequence of a task, with what is asked for at each position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Token ids, each below the task's vocabulary size.
    pub inputs: Vec<u32>,
    /// What the model should answer at each position of `inputs`; `None` where nothing is scored.
    pub targets: Vec<Option<u32>>,
}

/// What an instance is for. Only the three recall tasks tell the difference: training asks for every next token, a test
/// only for what can be known; and the keys of fuzzy recall have full length in a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// To learn from.
    Train,
    /// To be scored on.
    Test,
}

/// A task with its configuration.
///
/// In text it is a tagged object. Fields left out have the benchmark's value; unknown ones are refused.
///
/// ```
/// use composer_nas::Seed;
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
    /// The same with keys and values of several tokens.
    FuzzyInContextRecall(FuzzyInContextRecall),
    /// Learn facts by heart.
    Memorization(Memorization),
    /// Rebuild a sequence from one state.
    Compression(Compression),
    /// Repeat the tokens among blanks.
    SelectiveCopying(SelectiveCopying),
}

impl Task {
    /// The six tasks at the benchmark's baseline, in the benchmark's order.
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

    /// The name used in configuration and reports, such as `"in-context-recall"`.
    pub fn name(&self) -> &'static str {
        self.configuration().name()
    }

    /// Number of token ids, special tokens included: the width a model's embedding and output need.
    pub fn vocab_size(&self) -> usize {
        self.configuration().vocab_size()
    }

    /// Length of the inputs, and of the targets, of every instance.
    pub fn input_len(&self) -> usize {
        self.configuration().input_len()
    }

    /// Whether the whole sequence is to be rebuilt from the state at its last position, instead of each target from the
    /// state at its own.
    pub(crate) fn is_auto_encoding(&self) -> bool {
        matches!(self, Task::Compression(_))
    }

    /// Expected share of right answers of a test, if each is guessed uniformly among the tokens that the task's form
    /// allows at its position: the values for recall and memorization, the content tokens for copying and compression
    /// (whose last position allows one token only). It is a floor to compare micro accuracies with, not what a poor
    /// model scores: on recall, the most frequent value seen so far is a better guess, without any look-up.
    ///
    /// Finite for every task, but meaningful for valid ones only.
    pub fn chance(&self) -> f64 {
        self.configuration().chance()
    }

    /// Whether the task can be sampled: exactly if [`Task::sampler`] succeeds.
    ///
    /// # Errors
    ///
    /// [`TaskError`] names the setting to change.
    pub fn validate(&self) -> Result<(), TaskError> {
        self.sampler(Seed::default()).map(drop)
    }

    /// A sampler of this task. `seed` fixes the facts of memorization; the other tasks ignore it. Samplers of equal
    /// tasks and seeds are alike.
    ///
    /// # Errors
    ///
    /// [`TaskError`] if the task's settings contradict each other; it names the one to change.
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

/// A source of instances of one valid task. Clones are cheap and draw alike; threads may share it.
#[derive(Clone, Debug)]
pub struct Sampler {
    generator: Arc<dyn Generator>,
}

impl Sampler {
    /// Draws one instance from the stream `rng`; the same state of the stream gives the same instance. At least one
    /// position is scored.
    pub fn sample(&self, split: Split, rng: &mut Rng) -> Instance {
        self.generator.generate(split, rng)
    }
}

/// What each task's configuration answers; see the methods of [`Task`].
trait Configuration {
    fn name(&self) -> &'static str;
    fn vocab_size(&self) -> usize;
    fn input_len(&self) -> usize;
    fn chance(&self) -> f64;
    /// Checks the configuration and turns it into a form that cannot fail.
    fn generator(&self, seed: Seed) -> Result<Arc<dyn Generator>, TaskError>;
}

/// A checked configuration.
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
        // A field of another task is as unknown as any.
        assert!(serde_json::from_str::<Task>(r#"{"task": "compression", "multi_query": true}"#).is_err());
        assert!(serde_json::from_str::<Task>(r#"{"task": "in-context-recall", "frac_noise": 0.1}"#).is_err());
        assert!(serde_json::from_str::<Task>(r#"{"task": "copying"}"#).is_err());
        assert!(serde_json::from_str::<Task>(r#"{"vocab_size": 16}"#).is_err());
    }

    /// Instances of the baselines are fixed for ever: recorded experiments name them by their seed.
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

    /// Configurations of every task, valid and not, many of them on the edge.
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

    /// Whether a token belongs to a key, or else to a value; none for tokens that belong to neither. None for tasks
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

        /// In no recall task is a question asked whose answer was overwritten: a key stands before one value alone,
        /// every token of it, from the beginning to the question, and what a test asks for was shown before.
        #[test]
        fn no_answer_of_a_recall_task_was_overwritten(task in tasks(), seed in any::<u64>(), index in any::<u64>()) {
            let Ok(sampler) = task.sampler(Seed(seed)) else { return Ok(()) };
            let Some(is_key) = keys_of(&task) else { return Ok(()) };
            for split in [Split::Train, Split::Test] {
                let instance = sampler.sample(split, &mut Seed(seed).rng("instance", index));
                let last = instance.targets.last().copied().flatten();
                let asked = |place: usize| place > 0 && instance.targets[place - 1].is_some();
                let tokens = instance.inputs.iter().copied().chain(last).enumerate();
                // Noise, padding and announcements have no side.
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
