//! The command line options.

use std::path::PathBuf;

use anyhow::ensure;
use clap::{Parser, ValueEnum};
use composer_nas::{
    convert::LocalDistillation,
    cost::Workload,
    prelude::*,
    pretrain::PretrainConfig,
    train::{AdamWConfig, LrSchedule, Precision, TrainConfig},
};

use crate::shared;

/// Converts a trained model to a hybrid with a smaller cache.
#[derive(Clone, Debug, Parser)]
pub struct Args {
    /// Trained model: a GGUF file, or a Hugging Face transformers folder with its tokenizer.json.
    #[arg(long, value_name = "PATH", default_value = "runs/models/SmolLM2-135M-Instruct.Q4_1.gguf")]
    pub parent: PathBuf,
    /// Text: a file, or a folder with .txt and .jsonl files.
    #[arg(long, default_value = "runs/corpus/text")]
    pub text: PathBuf,
    /// Size of the sliding window in tokens; 0 to use no windows.
    #[arg(long, default_value_t = 64)]
    pub window: usize,
    /// Recurrent layers that can also replace attention.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub recurrent: Vec<Recurrent>,
    /// Also allow removing attention layers.
    #[arg(long)]
    pub leave_out: bool,
    /// Fractions of the parent's cache to keep, in percent.
    #[arg(long, value_name = "PERCENT,...", value_delimiter = ',', default_value = "25,50,75")]
    pub keep: Vec<u32>,
    /// Sequence length at which the cache is counted, in tokens.
    #[arg(long, default_value_t = 4096)]
    pub length: u64,
    /// Length of a window of text, in tokens.
    #[arg(long, default_value_t = 512)]
    pub seq_len: usize,
    /// Number of windows of text for choosing layers.
    #[arg(long, default_value_t = 6)]
    pub choose_windows: u64,
    /// Number of other windows of text, on which the best trials of a search are evaluated again.
    #[arg(long, default_value_t = 6)]
    pub decide_windows: u64,
    /// Number of trials that are evaluated again.
    #[arg(long, default_value_t = 4)]
    pub finalists: usize,
    /// Number of windows of text for comparing the methods.
    #[arg(long, default_value_t = 8)]
    pub test_windows: u64,
    /// Number of trials per search.
    #[arg(long, default_value_t = 40)]
    pub trials: usize,
    /// Number of trials near the KL-guided choice with which a search starts.
    #[arg(long, default_value_t = 8)]
    pub starts: usize,
    /// Number of searches per budget, with seeds from 0.
    #[arg(long, default_value_t = 1)]
    pub searches: u64,
    /// Skip the greedy choice, which needs the most evaluations.
    #[arg(long)]
    pub no_greedy: bool,
    /// Number of steps for training gates, a further method to choose layers; 0 to skip.
    #[arg(long, default_value_t = 0)]
    pub gate_steps: usize,
    /// Number of windows of text for training recurrent blocks.
    #[arg(long, default_value_t = 48)]
    pub block_windows: u64,
    /// Number of training steps per recurrent block.
    #[arg(long, default_value_t = 100)]
    pub block_steps: usize,
    /// Peak learning rate for recurrent blocks.
    #[arg(long, default_value_t = 2e-3)]
    pub block_rate: f64,
    /// Number of steps for healing the best choice at the smallest budget; 0 to skip.
    #[arg(long, default_value_t = 0)]
    pub heal_steps: usize,
    /// Peak learning rate for healing.
    #[arg(long, default_value_t = 1e-4)]
    pub heal_rate: f64,
    /// Heal all weights instead of only those of replaced layers.
    #[arg(long)]
    pub heal_everything: bool,
    /// Number of evaluations and block trainings in parallel.
    #[arg(long, default_value_t = 2)]
    pub threads: usize,
    /// Name of the run, which is its folder in --runs.
    #[arg(long, value_name = "NAME", default_value = "convert", value_parser = shared::folder_name)]
    pub run: String,
    /// Folder that contains the runs.
    #[arg(long, value_name = "FOLDER", default_value = "runs")]
    pub runs: PathBuf,
}

/// Recurrent layers that start from the projections of attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Recurrent {
    Mamba2,
    GatedDeltaNet,
}

/// The fraction of the text, at its end, that is not used for training.
pub const HELD_OUT: f64 = 0.1;

impl Args {
    /// Returns the folder of the run.
    pub fn folder(&self) -> PathBuf {
        self.runs.join(&self.run)
    }

    /// Checks the options before anything is created.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(
            !self.keep.is_empty() && self.keep.iter().all(|&percent| percent <= 100),
            "--keep must be from 0 to 100 percent"
        );
        ensure!(self.threads >= 1, "--threads is 0: use at least 1");
        ensure!(self.seq_len >= 2, "--seq-len is {}: use at least 2", self.seq_len);
        let windows = [self.choose_windows, self.decide_windows, self.test_windows];
        ensure!(!windows.contains(&0), "a number of windows of text is 0: use at least 1");
        ensure!(self.trials >= 1, "--trials is 0: use at least 1");
        ensure!(self.finalists >= 1, "--finalists is 0: use at least 1");
        let nothing = self.window == 0 && self.recurrent.is_empty() && !self.leave_out;
        ensure!(!nothing, "nothing can replace attention: use --window, --recurrent or --leave-out");
        Ok(())
    }

    /// Returns the workload for counting the cache.
    pub fn workload(&self) -> Workload {
        Workload::bf16(self.length)
    }

    /// Returns the training settings of recurrent blocks.
    pub fn blocks(&self) -> LocalDistillation {
        LocalDistillation {
            windows: self.block_windows,
            held_out: 2,
            batch_size: 2,
            steps: self.block_steps,
            learning_rate: self.block_rate,
            seed: Seed(0),
        }
    }

    /// Returns the settings for healing.
    pub fn healing(&self) -> PretrainConfig {
        let steps = self.heal_steps;
        let schedule =
            LrSchedule { warmup_steps: steps / 10, ..LrSchedule::cosine(self.heal_rate, self.heal_rate / 10.0, steps) };
        PretrainConfig {
            seq_len: self.seq_len,
            train: TrainConfig {
                steps,
                batch_size: 1,
                schedule,
                optimizer: AdamWConfig { weight_decay: 0.0, ..AdamWConfig::default() },
                clip_norm: Some(1.0),
                evaluate_every: steps,
                log_every: 1,
                stop_above: None,
                precision: Precision::Single,
                recompute: false,
            },
            micro_batch: 1,
            validation_share: HELD_OUT,
            validation_windows: 2,
            checkpoint_every: 20,
            keep: 1,
            seed: Seed(0),
        }
    }
}
