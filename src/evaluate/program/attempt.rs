//! One attempt to evaluate a trial, from the start of its program to its end.

use std::{
    io,
    process::ExitStatus,
    sync::mpsc::RecvTimeoutError,
    thread,
    time::{Duration, Instant},
};

use super::{
    Program,
    folder::{NotLocked, TrialFolder},
    group::Group,
    hearing::Hearing,
    output::{self, Log},
    spec::{Setting, Spec},
};
use crate::{
    durable,
    evaluate::{Context, EvalError},
    study::{Report, Trial},
    text::causes,
};

/// Exit codes with a special meaning, from BSD's `sysexits.h` (75 is transient like all others), and those of a shell
/// that cannot run a command.
const INFEASIBLE: i32 = 65;
const FATAL: i32 = 78;
const NOT_RUN: [i32; 2] = [126, 127];

/// How long to wait for processes that an earlier attempt has left running, in addition to the grace period.
const LOCK_MARGIN: Duration = Duration::from_secs(30);
/// How long to read output that a process outside the group holds open.
const LEFT_OPEN: Duration = Duration::from_secs(1);
/// The polling interval for a program that prints nothing.
const POLL: Duration = Duration::from_millis(50);

/// Why a program is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Cancelled,
    TimeLimit,
    Breach,
    /// It has answered but does not end.
    Lingers,
}

/// One attempt to evaluate a trial.
pub(super) struct Attempt<'a> {
    pub program: &'a Program,
    pub trial: &'a Trial,
    pub context: &'a Context,
    pub folder: TrialFolder,
}

impl Attempt<'_> {
    pub(super) fn carry_out(&self) -> Result<Report, EvalError> {
        let Self { program, trial, context, folder } = self;
        let lock =
            folder.lock(context, program.grace.saturating_add(LOCK_MARGIN)).map_err(|error| self.not_locked(error))?;
        let written = |error| self.cannot("write to it", &error);
        let (attempt, log) = folder.next_log().map_err(written)?;
        let values = folder.values().map_err(written)?;
        let checkpoint = folder.checkpoint();
        let setting = Setting {
            goal: &program.goal,
            candidates: program.candidates.as_ref(),
            attempt,
            checkpoint: &checkpoint.to_string_lossy(),
            threads: rayon::current_num_threads(),
            time_limit: program.time_limit.map(|limit| limit.as_secs_f64()),
        };
        let spec = Spec::new(trial, &setting).map_err(|error| EvalError::Infeasible(causes(&error)))?;
        let spec = serde_json::to_vec_pretty(&spec).map_err(|error| written(error.into()))?;
        durable::write_in(&folder.spec(), &spec).map_err(written)?;
        let before = folder.kept();

        let log = Log::new(log);
        let for_program = log.for_program().map_err(written)?;
        let hearing = Hearing::new(context, &program.goal, log, values);
        if context.cancelled() {
            return Err(EvalError::Cancelled);
        }
        let group = Group::start(&program.command, &folder.spec(), &lock, for_program, program.grace);
        let group = group.map_err(|error| self.not_started(&error))?;
        let outcome = self.watch(group, hearing);
        // Processes that have left the group may still hold the lock.
        let _ = lock.unlock();
        let went_on = folder.kept() != before;
        if went_on {
            self.show_progress(attempt);
        }
        let (hearing, stop, status) = outcome.map_err(|error| self.cannot("watch the program", &error))?;
        self.verdict(hearing, stop, status, went_on)
    }

    /// Listens to the program until it ends.
    fn watch<'h>(
        &self,
        mut group: Group,
        mut hearing: Hearing<'h>,
    ) -> io::Result<(Hearing<'h>, Option<Stop>, ExitStatus)> {
        let lines = output::lines(group.output().ok_or_else(|| io::Error::other("the program has no output"))?)?;
        let start = Instant::now();
        let mut looked = start;
        let mut pause = Duration::from_millis(1);
        let mut open = true;
        let mut answered: Option<Instant> = None;
        let mut asked: Option<(Stop, Instant)> = None;
        let mut ended: Option<(ExitStatus, Instant)> = None;
        loop {
            match lines.recv_timeout(POLL) {
                Ok(line) => hearing.line(&line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    open = false;
                    if ended.is_none() {
                        thread::sleep(pause);
                        pause = (2 * pause).min(POLL);
                    }
                }
            }
            if answered.is_none() && hearing.is_answered() {
                answered = Some(Instant::now());
            }
            if looked.elapsed() >= POLL {
                hearing.log().bound();
                looked = Instant::now();
            }
            if asked.is_none()
                && ended.is_none()
                && let Some(stop) = self.stop(&hearing, start, answered)
            {
                group.ask_to_end();
                asked = Some((stop, Instant::now()));
            }
            if asked.is_some_and(|(_, since)| since.elapsed() >= self.program.grace) {
                group.end();
            }
            if ended.is_none()
                && let Some(status) = group.ended()?
            {
                ended = Some((status, Instant::now()));
            }
            // The processes that it started end with it. If all were asked to end, they have the same grace period.
            if ended.is_some() && (asked.is_none() || !open) {
                group.end();
            }
            if let Some((status, since)) = ended
                && (!open || group.is_over() && since.elapsed() >= LEFT_OPEN)
            {
                return Ok((hearing, asked.map(|(stop, _)| stop), status));
            }
        }
    }

    /// Returns the reason to end the program now, if any.
    fn stop(&self, hearing: &Hearing, start: Instant, answered: Option<Instant>) -> Option<Stop> {
        let program = self.program;
        if hearing.breach().is_some() {
            Some(Stop::Breach)
        } else if self.context.cancelled() {
            Some(Stop::Cancelled)
        } else if program.time_limit.is_some_and(|limit| start.elapsed() >= limit) {
            Some(Stop::TimeLimit)
        } else {
            answered.filter(|since| since.elapsed() >= program.grace).map(|_| Stop::Lingers)
        }
    }

    /// Derives the result from everything that was seen.
    fn verdict(
        &self,
        mut hearing: Hearing,
        stop: Option<Stop>,
        status: ExitStatus,
        went_on: bool,
    ) -> Result<Report, EvalError> {
        if self.context.stopped().is_some() {
            return Err(EvalError::Cancelled);
        }
        hearing.log().bound();
        let words = hearing.log().last_lines();
        let seen = |what: &str| {
            let words =
                if words.is_empty() { "it printed nothing else".into() } else { format!("its last lines: {words}") };
            format!("{what}; {words}; the complete output is in {}", self.folder.path().display())
        };
        if let Some(breach) = hearing.breach() {
            return Err(EvalError::Fatal(seen(&format!(
                "the program violates the protocol of docs/protocol.md: {breach}"
            ))));
        }
        if let Some(answer) = hearing.answered() {
            return answer;
        }
        match stop {
            Some(Stop::Cancelled) => return Err(EvalError::Cancelled),
            Some(Stop::TimeLimit) if went_on => {
                return Err(EvalError::Transient(seen(
                    "the program reached its time limit and can continue from its checkpoint",
                )));
            }
            Some(Stop::TimeLimit) => {
                return Err(EvalError::Infeasible(seen("the program reached its time limit without a checkpoint")));
            }
            Some(Stop::Breach | Stop::Lingers) | None => {}
        }
        let ended = seen(&format!("the program ended without a result ({})", described(status)));
        Err(match status.code() {
            Some(INFEASIBLE) => EvalError::Infeasible(ended),
            Some(0 | FATAL) => EvalError::Fatal(ended),
            Some(code) if NOT_RUN.contains(&code) => EvalError::Fatal(ended),
            Some(_) | None => EvalError::Transient(ended),
        })
    }

    /// Tells the executor that the program has saved a checkpoint, which is in its own folder instead of the
    /// executor's.
    fn show_progress(&self, attempt: u32) {
        if let Some(folder) = self.context.checkpoint() {
            // Without this, an attempt that ends at the executor's time limit would count as one without progress.
            let _ = durable::make_folder(folder)
                .and_then(|()| durable::write_in(&folder.join("program"), attempt.to_string().as_bytes()));
        }
    }

    fn not_locked(&self, error: NotLocked) -> EvalError {
        match error {
            NotLocked::Cancelled => EvalError::Cancelled,
            NotLocked::Busy => EvalError::Transient(format!(
                "a process of an earlier attempt is still running and holds the lock in {}: end it",
                self.folder.path().display()
            )),
            NotLocked::System(error) => self.cannot("lock it", &error),
        }
    }

    fn not_started(&self, error: &io::Error) -> EvalError {
        let name = self.program.command.first().map_or("", String::as_str);
        EvalError::Fatal(format!("cannot start {name}: {error}; fix the command {:?}", self.program.command))
    }

    fn cannot(&self, act: &str, error: &io::Error) -> EvalError {
        cannot(&self.folder.path().display().to_string(), act, error)
    }
}

/// The error of a folder that cannot be used.
pub(super) fn cannot(folder: &str, act: &str, error: &io::Error) -> EvalError {
    EvalError::Fatal(format!(
        "cannot use the folder {folder}, {act}: {error}; free some disk space or correct the permissions"
    ))
}

/// Describes how a program ended, with the usual cause.
fn described(status: ExitStatus) -> String {
    let words = status.to_string();
    let killed = words.contains("SIGKILL") || status.code() == Some(128 + 9);
    if killed { format!("{words}, usually by the kernel because it used too much memory") } else { words }
}
