//! The flags.

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

/// Turns a trained model into a hybrid with a smaller cache.
#[derive(Clone, Debug, Parser)]
pub struct Args {
    /// The trained model: a GGUF file, or a folder of transformers with its tokenizer.json.
    #[arg(long, value_name = "PATH", default_value = "runs/models/SmolLM2-135M-Instruct.Q4_1.gguf")]
    pub parent: PathBuf,
    /// Text: a file, or a folder with .txt and .jsonl files.
    #[arg(long, default_value = "runs/corpus/text")]
    pub text: PathBuf,
    /// Tokens that a window sees; 0 allows no windows.
    #[arg(long, default_value_t = 64)]
    pub window: usize,
    /// Recurrent layers that attention may become as well.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub recurrent: Vec<Recurrent>,
    /// Attention may also be left out.
    #[arg(long)]
    pub leave_out: bool,
    /// Shares of the parent's cache that are kept, in percent.
    #[arg(long, value_name = "PERCENT,...", value_delimiter = ',', default_value = "25,50,75")]
    pub keep: Vec<u32>,
    /// Length of a sequence, in tokens, at which the cache is counted.
    #[arg(long, default_value_t = 4096)]
    pub length: u64,
    /// Tokens of a window of text.
    #[arg(long, default_value_t = 512)]
    pub seq_len: usize,
    /// Windows of text on which is chosen.
    #[arg(long, default_value_t = 6)]
    pub choose_windows: u64,
    /// Further windows of text, on which the best trials of a search are judged once more.
    #[arg(long, default_value_t = 6)]
    pub decide_windows: u64,
    /// Trials that are.
    #[arg(long, default_value_t = 4)]
    pub finalists: usize,
    /// Windows of text on which choices are compared.
    #[arg(long, default_value_t = 8)]
    pub test_windows: u64,
    /// Trials of a search.
    #[arg(long, default_value_t = 40)]
    pub trials: usize,
    /// Trials near the KL-guided choice with which a search starts.
    #[arg(long, default_value_t = 8)]
    pub starts: usize,
    /// Searches per budget, with seeds from 0 on.
    #[arg(long, default_value_t = 1)]
    pub searches: u64,
    /// Leave the greedy choice out, which takes the most evaluations.
    #[arg(long)]
    pub no_greedy: bool,
    /// Steps of training gates beside all layers, to choose by them; 0 leaves that out.
    #[arg(long, default_value_t = 0)]
    pub gate_steps: usize,
    /// Windows of text on which recurrent blocks learn.
    #[arg(long, default_value_t = 48)]
    pub block_windows: u64,
    /// Steps of training per recurrent block.
    #[arg(long, default_value_t = 100)]
    pub block_steps: usize,
    /// The highest learning rate of recurrent blocks.
    #[arg(long, default_value_t = 2e-3)]
    pub block_rate: f64,
    /// Steps of healing of the best choice at the smallest budget; 0 leaves that out.
    #[arg(long, default_value_t = 0)]
    pub heal_steps: usize,
    /// The highest learning rate of the healing.
    #[arg(long, default_value_t = 1e-4)]
    pub heal_rate: f64,
    /// Heal all weights, not those of replaced layers alone.
    #[arg(long)]
    pub heal_everything: bool,
    /// Evaluations and trainings of blocks beside each other.
    #[arg(long, default_value_t = 2)]
    pub threads: usize,
    /// Name of the run: its folder inside --runs.
    #[arg(long, value_name = "NAME", default_value = "convert", value_parser = shared::folder_name)]
    pub run: String,
    /// Folder that holds the runs.
    #[arg(long, value_name = "FOLDER", default_value = "runs")]
    pub runs: PathBuf,
}

/// Recurrent layers that start from attention's projections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Recurrent {
    Mamba2,
    GatedDeltaNet,
}

/// The share of the text, at its end, on which nothing learns.
pub const HELD_OUT: f64 = 0.1;

impl Args {
    /// Where the run lies.
    pub fn folder(&self) -> PathBuf {
        self.runs.join(&self.run)
    }

    /// Refuses what no stage could use, before anything is made.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(!self.keep.is_empty() && self.keep.iter().all(|&percent| percent <= 100), "--keep is 0 to 100 percent");
        ensure!(self.threads >= 1, "--threads is 0: use at least 1");
        ensure!(self.seq_len >= 2, "--seq-len is {}: use at least 2", self.seq_len);
        let windows = [self.choose_windows, self.decide_windows, self.test_windows];
        ensure!(!windows.contains(&0), "windows of text are 0: use at least 1");
        ensure!(self.trials >= 1, "--trials is 0: use at least 1");
        ensure!(self.finalists >= 1, "--finalists is 0: use at least 1");
        let nothing = self.window == 0 && self.recurrent.is_empty() && !self.leave_out;
        ensure!(!nothing, "attention may become nothing else: use --window, --recurrent or --leave-out");
        Ok(())
    }

    /// How the cache is counted.
    pub fn workload(&self) -> Workload {
        Workload::bf16(self.length)
    }

    /// How recurrent blocks learn.
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

    /// How the result is healed.
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
