//! The preset protocols.

use super::{
    Hyperparameters, Metric, Protocol, Scoring, Selection, Task, TrainData, Training,
    task::{InContextRecall, Memorization, SelectiveCopying, Setting, baseline_settings, difficulty_settings},
};
use crate::{
    dims::{Dims, InitScheme},
    seed::Seed,
    train::{AdamWConfig, LrSchedule, Precision, TrainConfig},
};

impl Protocol {
    /// Two tasks that show the effect of the order of attention and MLP layers within seconds on one CPU core.
    ///
    /// In-context recall (vocabulary 6, length 16, 500 steps) is trained 17 times and selective copying (vocabulary 8,
    /// length 24, 4 tokens, 160 steps) 13 times, at width 32 with 4 heads. Batches have 16 fresh sequences; the
    /// optimizer is AdamW with a constant learning rate of 4e-3 after warm-up and gradients clipped to norm 1.
    ///
    /// When a model solves a task is mostly a matter of chance, so many short trainings rank candidates better than a
    /// long one of the same cost. `docs/notes/quick_measured.md` has the measurements behind all settings.
    pub fn quick() -> Self {
        let recall = Task::InContextRecall(InContextRecall { vocab_size: 6, seq_len: 16, multi_query: true });
        let copying = Task::SelectiveCopying(SelectiveCopying { vocab_size: 8, seq_len: 24, num_tokens_to_copy: 4 });
        Self {
            name: "quick".into(),
            dims: dims(32, 96, 4, false),
            init: InitScheme::FanIn,
            trainings: vec![quick_training(recall, 500, 17), quick_training(copying, 160, 13)],
            metric: Metric::Micro,
            selection: Selection::Last,
            scoring: Scoring::CurveMean,
            data_seed: Seed(12_345),
        }
    }

    /// [`quick`](Self::quick) plus memorization (vocabulary 256, length 16, 60 steps, 6 times), for spaces with other
    /// layers than attention and MLPs. Copying has twice the weight of recall, memorization half.
    ///
    /// Use it with candidates of equal size, as trained by [`Mad::of_blocks`](super::Mad::of_blocks).
    pub fn hybrid() -> Self {
        let Self { mut trainings, .. } = Self::quick();
        trainings[1].weight = 2.0;
        let memorization = Task::Memorization(Memorization { vocab_size: 256, seq_len: 16 });
        trainings.push(Training { weight: 0.5, ..quick_training(memorization, 60, 6) });
        Self { name: "hybrid".into(), trainings, ..Self::quick() }
    }

    /// The published benchmark at its baseline settings.
    ///
    /// Six tasks are trained at width 128 with 16 heads and SwiGLU of width 352, for 200 epochs over fixed sets (12,800
    /// sequences; 256 for memorization) in batches of 128. Each training takes the best of six combinations of learning
    /// rate and weight decay. The learning rate follows a cosine and changes once per epoch. The score is the macro
    /// accuracy at the lowest test loss.
    ///
    /// `docs/mad.md` lists the differences from the published code: corrected flaws in the data, and single precision.
    pub fn reference() -> Self {
        Self::of_settings("reference", baseline_settings())
    }

    /// The benchmark at all 66 difficulty settings, each trained as in [`reference`](Self::reference).
    pub fn full() -> Self {
        Self::of_settings("full", difficulty_settings())
    }

    /// Returns the preset with this name, if there is one.
    pub fn preset(name: &str) -> Option<Self> {
        [Self::quick, Self::hybrid, Self::reference, Self::full]
            .into_iter()
            .map(|preset| preset())
            .find(|preset| preset.name == name)
    }

    fn of_settings(name: &str, settings: Vec<Setting>) -> Self {
        Self {
            name: name.into(),
            dims: dims(128, 352, 16, true),
            init: InitScheme::FanIn,
            trainings: settings.into_iter().map(reference_training).collect(),
            metric: Metric::Macro,
            selection: Selection::LowestLoss,
            scoring: Scoring::Accuracy,
            data_seed: Seed(12_345),
        }
    }
}

/// Returns widths given by constants of this file.
fn dims(d_model: usize, d_ff: usize, heads: usize, attention_bias: bool) -> Dims {
    Dims {
        d_model,
        d_ff,
        heads,
        kv_heads: heads,
        head_dim: d_model / heads,
        rope_theta: 10_000.0,
        rope_scaling: None,
        norm_eps: 1e-5,
        attention_bias,
    }
}

fn quick_training(task: Task, steps: usize, repeats: usize) -> Training {
    const RATE: f64 = 4e-3;
    Training {
        task,
        data: TrainData::Fresh,
        test_examples: 64,
        train: TrainConfig {
            steps,
            batch_size: 16,
            schedule: LrSchedule { warmup_steps: 30, ..LrSchedule::cosine(RATE, RATE, steps) },
            optimizer: AdamWConfig::default(),
            clip_norm: Some(1.0),
            evaluate_every: 20,
            log_every: 5,
            stop_above: Some(0.999),
            precision: Precision::Single,
            recompute: false,
        },
        grid: Vec::new(),
        repeats,
        weight: 1.0,
    }
}

fn reference_training(setting: Setting) -> Training {
    const EPOCHS: usize = 200;
    const BATCH: usize = 128;
    let epoch = setting.train_examples.div_ceil(BATCH);
    let steps = EPOCHS * epoch;
    let grid = [1e-4, 5e-4, 1e-3]
        .into_iter()
        .flat_map(|learning_rate| [0.0, 0.1].map(|weight_decay| Hyperparameters { learning_rate, weight_decay }));
    Training {
        task: setting.task,
        data: TrainData::Fixed(setting.train_examples),
        test_examples: setting.test_examples,
        train: TrainConfig {
            steps,
            batch_size: BATCH,
            schedule: LrSchedule { interval: epoch, ..LrSchedule::cosine(1e-3, 1e-6, steps) },
            optimizer: AdamWConfig::default(),
            clip_norm: None,
            evaluate_every: epoch,
            log_every: 10,
            stop_above: Some(0.999),
            precision: Precision::Single,
            recompute: false,
        },
        grid: grid.collect(),
        repeats: 1,
        weight: 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_valid_and_survive_json() {
        for name in ["quick", "reference", "full"] {
            let preset = Protocol::preset(name).unwrap();
            preset.validate().unwrap();
            let text = serde_json::to_string(&preset).unwrap();
            assert_eq!(serde_json::from_str::<Protocol>(&text).unwrap(), preset);
        }
        assert!(Protocol::preset("slow").is_none());
    }

    #[test]
    fn the_reference_is_as_large_as_published() {
        let reference = Protocol::reference();
        let full = Protocol::full();
        assert_eq!((reference.trainings.len(), full.trainings.len()), (6, 66));
        let runs = |protocol: &Protocol| protocol.trainings.iter().map(|t| t.runs().len()).sum::<usize>();
        assert_eq!((runs(&reference), runs(&full)), (36, 396));
        let steps = |training: &Training| training.runs().iter().map(|run| run.steps).sum::<usize>();
        let all: usize = full.trainings.iter().map(steps).sum();
        // The specification gives a total of 5.38 million optimizer steps.
        assert_eq!((all as f64 / 1e4).round() / 100.0, 5.38);
        let memorization = reference.trainings.iter().find(|t| t.task.name() == "memorization").unwrap();
        assert_eq!(memorization.train.steps, 400);
        assert_eq!(full.trainings[1].label(), "in-context-recall vocab_size=32");
        assert_eq!(full.trainings[7].label(), "in-context-recall train_examples=6400");
    }

    #[test]
    fn quick_is_what_its_documentation_says() {
        let quick = Protocol::quick();
        assert_eq!((quick.dims.d_model, quick.dims.heads), (32, 4));
        let described: Vec<_> = quick.trainings.iter().map(|t| (t.label(), t.train.steps, t.repeats)).collect();
        assert_eq!(described[0], ("in-context-recall seq_len=16 vocab_size=6".into(), 500, 17));
        assert_eq!(described[1], ("selective-copying num_tokens_to_copy=4 seq_len=24 vocab_size=8".into(), 160, 13));
        assert_eq!(quick.steps(), 17 * 500 + 13 * 160);
        for Training { data, train, .. } in &quick.trainings {
            assert_eq!((*data, train.batch_size, train.clip_norm), (TrainData::Fresh, 16, Some(1.0)));
            assert_eq!([train.schedule.at(30), train.schedule.at(train.steps - 1)], [4e-3; 2]);
        }
    }
}
