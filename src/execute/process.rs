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

/// Runs each trial in a process of its own: a candidate that crashes, leaks or runs out of memory takes nothing with
/// it.
///
/// The processes outlive a driver that is killed; the next one with the same folder takes them over. Ctrl-C in a
/// terminal reaches them too, and ends all. Costs the start of a process per trial. Memory and GPUs that trials ask for
/// mean nothing here.
pub type Process = Remote<Processes>;

impl Remote<Processes> {
    /// Runs `workers` processes at once, with their tasks in `folder`.
    ///
    /// # Errors
    /// [`ExecuteError`] for zero workers or more than [`Processes::MOST`], or when the folder cannot be used or another
    /// driver uses it.
    pub fn new(workers: usize, folder: impl AsRef<Path>) -> Result<Self, ExecuteError> {
        at_most(workers, Processes::MOST, "processes of one machine")?;
        let settings = Settings { capacity: workers, poll: POLL, grace: Duration::ZERO, ..Settings::default() };
        Self::with_settings(Processes::default(), settings, folder.as_ref())
    }

    /// Gives each running trial one of these devices for itself: `["0", "1"]` runs one trial on GPU 0 and one on GPU 1
    /// at a time, `["0,1", "2,3"]` two on each pair. The workers see theirs as `CUDA_VISIBLE_DEVICES`; no more trials
    /// run than there are devices.
    #[must_use]
    pub fn devices(mut self, devices: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let devices: Vec<String> = devices.into_iter().map(Into::into).collect();
        self.limit_capacity(devices.len());
        self.engine_mut(|engine| engine.devices = devices);
        self
    }
}

/// How long after its time limit a child is ended that does not end by itself.
const SLACK: Duration = Duration::from_secs(10);

/// How often the children are looked at.
const POLL: Duration = Duration::from_millis(50);

/// Starts jobs as child processes.
#[derive(Debug, Default)]
pub struct Processes {
    devices: Vec<String>,
    children: BTreeMap<String, Running>,
    /// How those that have ended did so.
    ended: BTreeMap<String, Ended>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    device: Option<String>,
    deadline: Option<Instant>,
}

/// How a child has ended.
#[derive(Debug)]
struct Ended {
    words: String,
    code: Option<i32>,
}

/// The file of a task that says which device it uses.
const DEVICE: &str = "device";

impl Processes {
    /// Processes at once, at most.
    pub const MOST: usize = 1024;

    /// A device that nobody uses, workers of an earlier driver included.
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
            let words = "workers of an earlier driver use all devices".into();
            return Err(EngineError::Unreachable { program, words });
        }
        let child = command.spawn().map_err(|source| {
            // The system says the same of a program that is not there.
            let directory = job.directory.display();
            match job.directory.is_dir() {
                true => not_started(&program, source),
                false => {
                    EngineError::System { act: format!("start {program} in {directory}, which is not there"), source }
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
                // It may have ended by itself just now.
                let _ = running.child.kill();
                ended.insert(name.clone(), Ended { words: "ended at its time limit".into(), code: None });
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

    /// Ends children. Workers of an earlier driver hear of it from their task alone.
    fn cancel(&mut self, jobs: &[&Job]) -> Result<(), EngineError> {
        for job in jobs {
            if let Some(mut running) = self.children.remove(&job.name) {
                // Ended already, perhaps; either way it has to be waited for.
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
        assert!(error.contains("gone, which is not there"), "{error}");
        let error = refused("no-such-program", "");
        assert!(error.contains("cannot run no-such-program"), "{error}");
    }
}
