//! Trials as Slurm jobs.

mod queue;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use super::{
    Engine, EngineError, ExecuteError, Job, JobState, MOST_JOBS, Remote, Resources, at_most,
    command::{Output, run},
    remote::Settings,
};

/// Runs each trial as a Slurm job.
///
/// ```no_run
/// use std::time::Duration;
/// use composer_nas::execute::{Resources, Slurm, SlurmOptions};
/// let options = SlurmOptions {
///     jobs: 64,
///     partition: Some("gpu".into()),
///     resources: Resources { gpus: 1, cpus: 4, time: Some(Duration::from_secs(4 * 3600)), ..Resources::default() },
///     ..SlurmOptions::default()
/// };
/// let executor = Slurm::new(options, "runs/big")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type Slurm = Remote<SlurmEngine>;

/// Options for Slurm jobs. Options that are `None` use Slurm's defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlurmOptions {
    /// The maximum number of jobs that wait or run at the same time.
    pub jobs: usize,
    /// The partition in which the jobs run.
    pub partition: Option<String>,
    /// The account that is charged.
    pub account: Option<String>,
    /// The features that nodes must have.
    pub constraint: Option<String>,
    /// The resources of each job. Use [`Remote::resources_by`] if they depend on the trial.
    pub resources: Resources,
    /// Additional options of `sbatch`, such as `--qos=long`.
    pub extra: Vec<String>,
    /// The interval at which Slurm and the tasks are polled. A result is noticed with at most this delay.
    pub poll: Duration,
    /// The number of jobs per trial that may die without a result before the trial is recorded as failed.
    pub attempts: u32,
}

impl Default for SlurmOptions {
    /// 8 jobs with one core each, polled every 10 s, 3 attempts.
    fn default() -> Self {
        Self {
            jobs: 8,
            partition: None,
            account: None,
            constraint: None,
            resources: Resources::default(),
            extra: Vec::new(),
            poll: Duration::from_secs(10),
            attempts: 3,
        }
    }
}

impl Remote<SlurmEngine> {
    /// Runs jobs with their tasks in `folder`, which must have the same path on all nodes. A short probe job checks
    /// this before the first trial.
    ///
    /// # Errors
    /// [`ExecuteError`] if the number of jobs is 0 or above 100,000, if Slurm is not installed, if the folder
    /// cannot be used, or if another driver uses it.
    pub fn new(options: SlurmOptions, folder: impl AsRef<Path>) -> Result<Self, ExecuteError> {
        let SlurmOptions { jobs, resources, poll, attempts, .. } = options;
        at_most(jobs, MOST_JOBS, "jobs")?;
        // Check that Slurm is installed before anything is started.
        run("sbatch", &["--version".into()], "", LIMIT)?;
        let settings = Settings { capacity: jobs, poll, ..Settings::default() };
        let engine = SlurmEngine { options, ids: BTreeMap::new(), json: true };
        Ok(Self::with_settings(engine, settings, folder.as_ref())?.resources(resources).attempts(attempts))
    }
}

/// The time limit for a Slurm command. While the controller is down, some take 18 s to report it.
const LIMIT: Duration = Duration::from_secs(60);

/// Starts jobs with the commands of Slurm.
#[derive(Debug)]
pub struct SlurmEngine {
    options: SlurmOptions,
    /// The Slurm id of each job that was seen.
    ids: BTreeMap<String, String>,
    /// Whether `squeue` supports JSON.
    json: bool,
}

impl SlurmEngine {
    fn arguments(&self, job: &Job) -> Vec<String> {
        let SlurmOptions { partition, account, constraint, extra, .. } = &self.options;
        let Resources { time, gpus, cpus, memory } = job.resources;
        let text = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("--{name}={value}"));
        let time = time.map(|time| {
            let seconds = time.as_secs().max(1);
            format!("--time={}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
        });
        let fixed = [
            "--parsable".into(),
            // The worker writes to the log of its task. An output file that a node cannot open would fail the job.
            "--output=/dev/null".into(),
            format!("--job-name={}", job.name),
            format!("--chdir={}", job.directory.display()),
            "--nodes=1".into(),
            "--ntasks=1".into(),
            format!("--cpus-per-task={}", cpus.max(1)),
        ];
        let chosen = [
            text("partition", partition),
            text("account", account),
            text("constraint", constraint),
            time,
            (gpus > 0).then(|| format!("--gpus-per-node={gpus}")),
            memory.map(|mebibytes| format!("--mem={mebibytes}M")),
        ];
        fixed.into_iter().chain(chosen.into_iter().flatten()).chain(extra.iter().cloned()).collect()
    }
}

impl SlurmEngine {
    /// Returns the Slurm id of a job and the output of `scontrol` for it.
    fn shown(&self, job: &Job) -> Option<(&str, String)> {
        let id = self.ids.get(&job.name)?;
        let shown = slurm("scontrol", &["--oneliner".into(), "show".into(), "job".into(), id.clone()], "").ok()?;
        Some((id, shown))
    }
}

/// Returns the batch script. It waits for the task, because shared file systems show new files late, and does not log
/// through a link.
fn script(job: &Job) -> String {
    let file = |name: &str| quoted(&job.folder.join(name).display().to_string());
    let spec = file("spec.json");
    let log = file("log");
    let command: Vec<_> = job.command.iter().map(|word| quoted(word)).collect();
    format!(
        "#!/bin/sh\n[ -L {log} ] && exit 65\nfor wait in 1 1 2 3 5 0; do\n  [ -e {spec} ] && exec {} >>{log} 2>&1\n  \
            sleep $wait\ndone\nexit 66\n",
        command.join(" "),
    )
}

/// Quotes a text for the shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Whether an error of Slurm is temporary.
fn passes(words: &str) -> bool {
    const PASSING: &[&str] = &[
        "Unable to contact slurm controller",
        "Socket timed out",
        "Connection refused",
        // A controller that dies while it answers, and an unreachable network.
        "Unexpected missing socket",
        "Unexpected message received",
        "Message send failure",
        "Message receive failure",
        "Header lengths are longer than data received",
        "Insane message length",
        "Connection reset by peer",
        "Connection aborted",
        "Broken pipe",
        "Connection timed out",
        "No route to host",
        "Network is unreachable",
        "Communication",
        "Transport endpoint",
        "Zero Bytes were transmitted",
        // A busy controller.
        "temporarily",
        "Rate limit exceeded",
        "try again",
        "in standby mode",
        "I/O error writing script",
        "MaxSubmitJob",
        "submit limit",
    ];
    PASSING.iter().any(|passing| words.contains(passing))
}

/// Runs a Slurm command.
fn slurm(program: &str, arguments: &[String], input: &str) -> Result<String, EngineError> {
    let Output { success, stdout, stderr } = run(program, arguments, input, LIMIT)?;
    if success {
        return Ok(stdout);
    }
    let program = program.into();
    let words =
        if stderr.is_empty() { "it gave no reason".into() } else { stderr.lines().collect::<Vec<_>>().join(" ") };
    Err(if passes(&words) {
        EngineError::Unreachable { program, words }
    } else {
        EngineError::Refused { program, words }
    })
}

impl Engine for SlurmEngine {
    fn submit(&mut self, job: &Job) -> Result<(), EngineError> {
        let printed = slurm("sbatch", &self.arguments(job), &script(job))?;
        // JOB or JOB;CLUSTER
        let id = printed.lines().last().unwrap_or_default().split(';').next().unwrap_or_default();
        self.ids.insert(job.name.clone(), id.into());
        Ok(())
    }

    fn live(&mut self, jobs: &[&Job]) -> Result<BTreeMap<String, JobState>, EngineError> {
        if jobs.is_empty() {
            return Ok(BTreeMap::new());
        }
        let entries = if self.json { queue::read_json(|arguments| slurm("squeue", arguments, ""))? } else { None };
        let entries = match entries {
            Some(entries) => entries,
            None => {
                self.json = false;
                queue::read_text(|arguments| slurm("squeue", arguments, ""))?
            }
        };
        let names: BTreeSet<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
        let mut live = BTreeMap::new();
        for entry in entries {
            let Some(state) = entry.state() else { continue };
            if names.contains(entry.name.as_str()) {
                self.ids.insert(entry.name.clone(), entry.id);
                live.insert(entry.name, state);
            }
        }
        Ok(live)
    }

    fn cancel(&mut self, jobs: &[&Job]) -> Result<(), EngineError> {
        let ids: Vec<String> = jobs.iter().filter_map(|job| self.ids.get(&job.name).cloned()).collect();
        if ids.is_empty() {
            return Ok(());
        }
        // Jobs that have already ended are not an error.
        slurm("scancel", &[vec!["--quiet".into()], ids].concat(), "").map(drop)
    }

    fn exit_code(&mut self, job: &Job) -> Option<i32> {
        let (_, shown) = self.shown(job)?;
        // CODE:SIGNAL
        shown.split_whitespace().find_map(|word| word.strip_prefix("ExitCode=")?.split(':').next()?.parse().ok())
    }

    /// Returns state, reason, exit code and node, if the controller still knows them.
    fn exit_diagnostics(&mut self, job: &Job) -> Option<String> {
        let (id, shown) = self.shown(job)?;
        let told = ["JobState=", "Reason=", "ExitCode=", "NodeList="];
        let words = shown.split_whitespace().filter(|word| told.iter().any(|key| word.starts_with(key)));
        Some(format!("Slurm's job {id}: {}", words.collect::<Vec<_>>().join(" ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(resources: Resources) -> Job {
        let command = ["/bin/it's", "--worker", "/run/tasks/one two"].map(String::from).to_vec();
        Job {
            name: "cn-1-trial".into(),
            command,
            folder: "/run/tasks/one two".into(),
            directory: "/home".into(),
            resources,
        }
    }

    #[test]
    fn options_become_arguments() {
        let words = |options: SlurmOptions, resources| {
            SlurmEngine { options, ids: BTreeMap::new(), json: true }.arguments(&job(resources)).join(" ")
        };
        let fixed =
            "--parsable --output=/dev/null --job-name=cn-1-trial --chdir=/home --nodes=1 --ntasks=1 --cpus-per-task=";
        assert_eq!(words(SlurmOptions::default(), Resources::default()), format!("{fixed}1"));
        let options = SlurmOptions {
            partition: Some("gpu".into()),
            account: Some("nas".into()),
            constraint: Some("h100".into()),
            extra: vec!["--qos=long".into()],
            ..SlurmOptions::default()
        };
        let resources = Resources { time: Some(Duration::from_secs(90_061)), gpus: 2, cpus: 4, memory: Some(512) };
        let chosen =
            "--partition=gpu --account=nas --constraint=h100 --time=25:01:01 --gpus-per-node=2 --mem=512M --qos=long";
        assert_eq!(words(options, resources), format!("{fixed}4 {chosen}"));
    }

    #[test]
    fn the_script_waits_for_its_task_and_keeps_words_whole() {
        let script = script(&job(Resources::default()));
        let run = r"[ -e '/run/tasks/one two/spec.json' ] && exec '/bin/it'\''s' '--worker' '/run/tasks/one two' >>'/run/tasks/one two/log' 2>&1";
        let start = "#!/bin/sh\n[ -L '/run/tasks/one two/log' ] && exit 65\n";
        assert!(script.starts_with(start) && script.contains(run) && script.ends_with("exit 66\n"), "{script}");
    }

    #[test]
    fn what_passes_is_told_from_what_stays() {
        // The messages of Slurm 22.05.
        assert!(passes("slurm_load_jobs error: Unable to contact slurm controller (connect failure)"));
        assert!(passes("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"));
        assert!(passes("sbatch: error: Batch job submission failed: Connection reset by peer"));
        assert!(passes("sbatch: error: Batch job submission failed: Unexpected missing socket error"));
        assert!(passes("sbatch: error: Batch job submission failed: Message receive failure"));
        assert!(passes("sbatch: error: Batch job submission failed: Unable to create job record, try again"));
        assert!(!passes("sbatch: error: Batch job submission failed: Invalid partition name specified"));
        assert!(!passes("sbatch: error: Batch job submission failed: Requested node configuration is not available"));
        assert!(!passes("sbatch: error: Batch job submission failed: Access/permission denied"));
    }
}
