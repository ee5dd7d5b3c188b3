//! The flags for the execution of trials.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum, value_parser};
use composer_nas::{
    execute::{Executor, Process, Resources, Slurm, SlurmOptions, Threads},
    prelude::*,
};

/// A year.
pub const MOST_MINUTES: u64 = 365 * 24 * 60;

/// The flags for the execution.
#[derive(Debug, Args)]
pub struct ExecutorArgs {
    /// Number of trials at the same time; on a CPU each trains on one core. With Slurm, the number of jobs.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Where trials run: on threads of this process, in processes on this machine, or as Slurm jobs.
    #[arg(long, value_enum, default_value_t = ExecutorKind::Threads)]
    executor: ExecutorKind,
    /// Option to pass to Slurm's sbatch for every job, such as --sbatch=--partition=gpu. Can be repeated.
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    sbatch: Vec<String>,
    /// GPUs per Slurm job.
    #[arg(long, default_value_t = 0)]
    gpus: u32,
    /// GPUs for --executor process, such as cuda:0,cuda:1. Each running trial has exclusive use of one of them, as
    /// cuda:0.
    #[arg(long, value_name = "DEVICE,...", value_delimiter = ',', value_parser = cuda_number)]
    devices: Vec<String>,
    /// Time limit of a trial in minutes, for processes, jobs and the command of --evaluator; a trial that needs longer
    /// continues from its checkpoint.
    #[arg(long, value_parser = value_parser!(u64).range(1..=MOST_MINUTES))]
    trial_minutes: Option<u64>,
    /// For internal use: the folder of the task of a process or job.
    #[arg(long, hide = true)]
    worker: Option<PathBuf>,
    /// Device to train on: auto, flex, cuda:0, ... Devices other than flex need their cargo feature.
    #[arg(long, default_value = "auto")]
    pub device: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ExecutorKind {
    Threads,
    Process,
    Slurm,
}

/// Returns the number of a CUDA device, for `CUDA_VISIBLE_DEVICES`.
fn cuda_number(name: &str) -> Result<String, String> {
    let number = name.strip_prefix("cuda:").filter(|number| number.parse::<u16>().is_ok());
    number.map(Into::into).ok_or_else(|| "give CUDA devices with their numbers, such as cuda:0,cuda:1".into())
}

impl ExecutorArgs {
    /// Refuses flags that the executor would ignore. `program`: whether a command evaluates.
    pub fn check(&self, program: bool) -> anyhow::Result<()> {
        let threads = matches!(self.executor, ExecutorKind::Threads);
        let processes = matches!(self.executor, ExecutorKind::Process);
        let slurm = matches!(self.executor, ExecutorKind::Slurm);
        ensure!(
            processes || self.devices.is_empty(),
            "--devices is for --executor process; use --device with other executors"
        );
        ensure!(slurm || self.sbatch.is_empty(), "--sbatch is for --executor slurm");
        ensure!(slurm || self.gpus == 0, "--gpus is for --executor slurm");
        let timed = !threads || program;
        ensure!(
            timed || self.trial_minutes.is_none(),
            "--trial-minutes is for --evaluator, --executor process or slurm"
        );
        Ok(())
    }

    /// Returns the time limit of a trial.
    fn trial_time(&self) -> Option<Duration> {
        self.trial_minutes.map(|minutes| Duration::from_secs(60 * minutes))
    }

    /// Returns the time limit of the evaluator's command for a trial. Processes and jobs have their own.
    pub fn command_time(&self) -> Option<Duration> {
        self.trial_time().filter(|_| matches!(self.executor, ExecutorKind::Threads))
    }

    /// Returns the executor.
    pub fn executor(&self, folder: &Path, evaluator: &Arc<dyn Evaluator>) -> anyhow::Result<Box<dyn Executor>> {
        let resources = Resources { time: self.trial_time(), gpus: self.gpus, ..Resources::default() };
        Ok(match self.executor {
            ExecutorKind::Threads => Box::new(Threads::new(evaluator.clone(), self.workers)?),
            ExecutorKind::Process => {
                let process = Process::new(self.workers, folder)?.resources(resources);
                Box::new(if self.devices.is_empty() { process } else { process.devices(self.visible_devices()?) })
            }
            ExecutorKind::Slurm => {
                let jobs = self.workers;
                let extra = self.sbatch.clone();
                let options = SlurmOptions { jobs, extra, resources, ..SlurmOptions::default() };
                Box::new(Slurm::new(options, folder)?)
            }
        })
    }

    /// Returns the devices for `CUDA_VISIBLE_DEVICES`: `cuda:1` is the second of those that this process may use.
    fn visible_devices(&self) -> anyhow::Result<Vec<String>> {
        let Some(visible) = std::env::var("CUDA_VISIBLE_DEVICES").ok().filter(|visible| !visible.is_empty()) else {
            return Ok(self.devices.clone());
        };
        let visible: Vec<_> = visible.split(',').map(str::trim).collect();
        let nth = |number: &String| {
            let name = visible.get(number.parse::<usize>()?).copied();
            let few = || format!("--devices cuda:{number}: CUDA_VISIBLE_DEVICES has {} devices", visible.len());
            name.map(Into::into).with_context(few)
        };
        self.devices.iter().map(nth).collect()
    }
}
