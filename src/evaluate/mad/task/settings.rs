//! The settings of the benchmark: the baseline of every task, and variations of one setting at a time.

use serde::{Deserialize, Serialize};

use super::{
    Compression, FuzzyInContextRecall, InContextRecall, Memorization, NoisyInContextRecall, SelectiveCopying, Task,
};

/// A task with the sizes of its training and test sets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// The task.
    pub task: Task,
    /// The number of training instances.
    pub train_examples: usize,
    /// The number of test instances.
    pub test_examples: usize,
}

impl Setting {
    fn baseline(task: Task) -> Self {
        let train_examples = match task {
            Task::Memorization(_) => 256,
            Task::InContextRecall(_)
            | Task::NoisyInContextRecall(_)
            | Task::FuzzyInContextRecall(_)
            | Task::Compression(_)
            | Task::SelectiveCopying(_) => 12_800,
        };
        Setting { task, train_examples, test_examples: 1_280 }
    }
}

/// Returns the six tasks at their baselines, in the order of [`Task::all`].
pub(crate) fn baseline_settings() -> Vec<Setting> {
    Task::all().into_iter().map(Setting::baseline).collect()
}

/// Returns the 66 settings of the full benchmark: for each task, the baseline followed by variations of one setting,
/// which are the vocabulary, the length, any other setting of its difficulty, and the number of training instances.
pub fn difficulty_settings() -> Vec<Setting> {
    baseline_settings().into_iter().flat_map(with_variations).collect()
}

fn with_variations(baseline: Setting) -> Vec<Setting> {
    let tasks = variations(&baseline.task).into_iter().map(|task| Setting { task, ..baseline.clone() });
    let train_sizes: &[usize] = match baseline.task {
        // Its training set is the list of facts, so its size is fixed.
        Task::Memorization(_) => &[],
        Task::InContextRecall(_)
        | Task::NoisyInContextRecall(_)
        | Task::FuzzyInContextRecall(_)
        | Task::Compression(_)
        | Task::SelectiveCopying(_) => &[6_400, 3_200, 1_600, 800],
    };
    let train = train_sizes.iter().map(|&train_examples| Setting { train_examples, ..baseline.clone() });
    [baseline.clone()].into_iter().chain(tasks).chain(train).collect()
}

/// Returns the task with one of its own settings changed.
fn variations(task: &Task) -> Vec<Task> {
    match task {
        Task::InContextRecall(base) => {
            let wider = [32, 64, 128].map(|vocab_size| InContextRecall { vocab_size, ..base.clone() });
            let longer = [256, 512, 1024].map(|seq_len| InContextRecall { seq_len, ..base.clone() });
            wider.into_iter().chain(longer).map(Task::InContextRecall).collect()
        }
        Task::NoisyInContextRecall(base) => {
            let wider = [48, 80, 144].map(|vocab_size| NoisyInContextRecall { vocab_size, ..base.clone() });
            let longer = [256, 512, 1024].map(|seq_len| NoisyInContextRecall { seq_len, ..base.clone() });
            let noisier = [0.4, 0.6, 0.8].map(|frac_noise| NoisyInContextRecall { frac_noise, ..base.clone() });
            wider.into_iter().chain(longer).chain(noisier).map(Task::NoisyInContextRecall).collect()
        }
        Task::FuzzyInContextRecall(base) => {
            let wider = [32, 64, 128].map(|vocab_size| FuzzyInContextRecall { vocab_size, ..base.clone() });
            let longer = [256, 512, 1024].map(|seq_len| FuzzyInContextRecall { seq_len, ..base.clone() });
            wider.into_iter().chain(longer).map(Task::FuzzyInContextRecall).collect()
        }
        Task::Memorization(base) => {
            let wider = [512, 1024, 2048, 4096, 8192].map(|vocab_size| Memorization { vocab_size, ..base.clone() });
            wider.into_iter().map(Task::Memorization).collect()
        }
        Task::Compression(base) => {
            let wider = [32, 64, 128].map(|vocab_size| Compression { vocab_size, ..base.clone() });
            let longer = [64, 128, 256].map(|seq_len| Compression { seq_len, ..base.clone() });
            wider.into_iter().chain(longer).map(Task::Compression).collect()
        }
        Task::SelectiveCopying(base) => {
            let wider = [32, 64, 128].map(|vocab_size| SelectiveCopying { vocab_size, ..base.clone() });
            let longer = [512, 1024].map(|seq_len| SelectiveCopying { seq_len, ..base.clone() });
            let fuller = [32, 64, 96].map(|num_tokens_to_copy| SelectiveCopying { num_tokens_to_copy, ..base.clone() });
            wider.into_iter().chain(longer).chain(fuller).map(Task::SelectiveCopying).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_66_distinct_valid_settings() {
        let settings = difficulty_settings();
        let counts = Task::all().map(|task| settings.iter().filter(|s| s.task.name() == task.name()).count());
        assert_eq!(counts, [11, 14, 11, 6, 11, 13]);
        for (index, setting) in settings.iter().enumerate() {
            assert_eq!(setting.task.validate(), Ok(()), "{setting:?}");
            assert!(!settings[..index].contains(setting), "{setting:?}");
            assert_eq!(setting.test_examples, 1_280);
        }
    }

    #[test]
    fn every_setting_changes_at_most_one_thing_of_the_baseline() -> Result<(), serde_json::Error> {
        let baselines = baseline_settings();
        for setting in difficulty_settings() {
            let baseline = baselines.iter().find(|baseline| baseline.task.name() == setting.task.name()).unwrap();
            let changed = serde_json::to_value(&setting.task)?;
            let base = serde_json::to_value(&baseline.task)?;
            let fields = changed.as_object().unwrap();
            let changes = fields.iter().filter(|(field, value)| base[field.as_str()] != **value).count();
            let changes = changes + usize::from(setting.train_examples != baseline.train_examples);
            assert_eq!(changes, usize::from(setting != *baseline), "{setting:?}");
        }
        Ok(())
    }

    #[test]
    fn text_form_round_trips_and_refuses_unknown_fields() -> Result<(), serde_json::Error> {
        for setting in difficulty_settings() {
            assert_eq!(serde_json::from_str::<Setting>(&serde_json::to_string(&setting)?)?, setting);
        }
        let text = r#"{"task": {"task": "compression"}, "train_examples": 1, "test_examples": 1, "epochs": 2}"#;
        assert!(serde_json::from_str::<Setting>(text).is_err());
        Ok(())
    }
}
