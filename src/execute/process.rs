//! Trials in processes of this machine.

use std::{
    collections::BTreeMap,
    fs, io,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{
    Engine, EngineError, ExecuteError, Job, JobState, Remote, at_most, command::not_started, remote::Settings,
    task::Task,
};
use crate::durable;

/// Runs each trial in its own process, so a candidate that crashes, leaks or runs out of memory does not affect others.
///
/// The processes outlive a driver that is killed; the next driver with the same folder takes them over. Ctrl-C in a
/// terminal also reaches the processes and ends them. Each trial costs the start of a process. Limits on memory and
/// GPUs in [`Resources`](super::Resources) are ignored.
pub type Process = Remote<Processes>;

impl Remote<Processes> {
    /// Runs up to `workers` processes at once, with their tasks in `folder`.
    ///
    /// # Errors
    /// [`ExecuteError`] if `workers` is 0 or above [`Processes::MOST`], if the folder cannot be used, or if another
    /// driver uses it.
    pub fn new(workers: usize, folder: impl AsRef<Path>) -> Result<Self, ExecuteError> {
        at_most(workers, Processes::MOST, "processes on one machine")?;
        let settings = Settings { capacity: workers, poll: POLL, grace: Duration::ZERO, ..Settings::default() };
        Self::with_settings(Processes::default(), settings, folder.as_ref())
    }

    /// Assigns each running trial one of these devices exclusively, through `CUDA_VISIBLE_DEVICES`.
    ///
    /// `["0", "1"]` runs one trial on GPU 0 and one on GPU 1 at a time; `["0,1", "2,3"]` runs two trials with two GPUs
    /// each. At most as many trials run as there are devices.
    #[must_use]
    pub fn devices(mut self, devices: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let devices: Vec<String> = devices.into_iter().map(Into::into).collect();
        self.limit_capacity(devices.len());
        self.engine_mut(|engine| engine.devices = devices);
        self
    }
}

/// The time after its limit at which a child that has not ended is killed.
const SLACK: Duration = Duration::from_secs(10);

/// The interval at which children are polled.
const POLL: Duration = Duration::from_millis(50);

/// Starts jobs as child processes.
#[derive(Debug, Default)]
pub struct Processes {
    devices: Vec<String>,
    children: BTreeMap<String, Running>,
    /// How the finished children ended.
    ended: BTreeMap<String, Ended>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    device: Option<String>,
    deadline: Option<Instant>,
}

/// How a child ended.
#[derive(Debug)]
struct Ended {
    words: String,
    code: Option<i32>,
}

/// The file of a task that names its device.
const DEVICE: &str = "device";

impl Processes {
    /// The maximum number of processes at once.
    pub const MOST: usize = 1024;

    /// Returns a device that is not in use, also not by the workers of an earlier driver.
    fn free_device(&self, tasks: Option<&Path>) -> Option<&String> {
        if self.devices.is_empty() {
            return None;
        }
        let entries = tasks.and_then(|tasks| fs::read_dir(tasks).ok()).into_iter().flatten().flatten();
        let alive = entries.map(|entry| Task::at(entry.path())).filter(Task::is_alive);
        let mut used: Vec<String> = alive
            .filter_map(|task| durable::read(&task.file(DEVICE)).ok().and_then(|name| String::from_utf8(name).ok()))
            .collect();
        used.extend(self.children.values().filter_map(|running| running.device.clone()));
        self.devices.iter().find(|device| !used.contains(device))
    }
}

impl Engine for Processes {
    fn submit(&mut self, job: &Job) -> Result<(), EngineError> {
        let program = job.command.first().cloned().unwrap_or_default();
        let task = Task::at(&job.folder);
        let device_file = job.folder.join(DEVICE);
        let refused = |path: &Path| {
            let act = format!("write to {}", path.display());
            move |source: io::Error| EngineError::System { act, source }
        };
        let log = task.log().map_err(refused(&job.folder.join("log")))?;
        let mut command = Command::new(&program);
        command.args(job.command.get(1..).unwrap_or_default()).current_dir(&job.directory);
        command.stdin(Stdio::null()).stdout(log.try_clone().map_err(refused(&job.folder.join("log")))?).stderr(log);
        let device = self.free_device(job.folder.parent()).cloned();
        if let Some(device) = &device {
            durable::write_in(&device_file, device.as_bytes()).map_err(refused(&device_file))?;
            command.env("CUDA_VISIBLE_DEVICES", device);
        } else if !self.devices.is_empty() {
            let words = "all devices are in use by workers of an earlier driver".into();
            return Err(EngineError::Unreachable { program, words });
        }
        let child = command.spawn().map_err(|source| {
            // A missing directory gives the same error as a missing program.
            let directory = job.directory.display();
            match job.directory.is_dir() {
                true => not_started(&program, source),
                false => {
                    EngineError::System { act: format!("start {program} in {directory}, which does not exist"), source }
                }
            }
        })?;
        let deadline = job.resources.time.and_then(|time| Instant::now().checked_add(time.saturating_add(SLACK)));
        self.children.insert(job.name.clone(), Running { child, device, deadline });
        Ok(())
    }

    fn live(&mut self, jobs: &[&Job]) -> Result<BTreeMap<String, JobState>, EngineError> {
        let ended = &mut self.ended;
        self.children.retain(|name, running| {
            if running.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                // The child may just have ended.
                let _ = running.child.kill();
                ended.insert(name.clone(), Ended { words: "killed at its time limit".into(), code: None });
            }
            match running.child.try_wait() {
                Ok(None) => true,
                Ok(Some(status)) => {
                    let end = || Ended { words: status.to_string(), code: status.code() };
                    ended.entry(name.clone()).or_insert_with(end);
                    false
                }
                Err(error) => {
                    ended.insert(name.clone(), Ended { words: error.to_string(), code: None });
                    false
                }
            }
        });
        let live = jobs.iter().filter(|job| self.children.contains_key(&job.name) || Task::at(&job.folder).is_alive());
        Ok(live.map(|job| (job.name.clone(), JobState::Running("this machine".into()))).collect())
    }

    /// Kills children. The workers of an earlier driver only see the cancellation in their task folder.
    fn cancel(&mut self, jobs: &[&Job]) -> Result<(), EngineError> {
        for job in jobs {
            if let Some(mut running) = self.children.remove(&job.name) {
                // The child may have ended already, but must be waited for in either case.
                let _ = running.child.kill();
                let _ = running.child.wait();
            }
        }
        Ok(())
    }

    fn exit_code(&mut self, job: &Job) -> Option<i32> {
        self.ended.get(&job.name)?.code
    }

    fn exit_diagnostics(&mut self, job: &Job) -> Option<String> {
        self.ended.remove(&job.name).map(|ended| ended.words)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::execute::Resources;

    #[test]
    fn a_directory_that_is_gone_is_told_from_a_program_that_is() {
        let folder = tempfile::tempdir().unwrap();
        let mut processes = Processes::default();
        let mut refused = |program: &str, directory: &str| {
            let job = Job {
                name: "job".into(),
                command: vec![program.into()],
                folder: folder.path().into(),
                directory: folder.path().join(directory),
                resources: Resources::default(),
            };
            processes.submit(&job).unwrap_err().to_string()
        };
        let error = refused("sh", "gone");
        assert!(error.contains("gone, which does not exist"), "{error}");
        let error = refused("no-such-program", "");
        assert!(error.contains("cannot run no-such-program"), "{error}");
    }
}
