//! One attempt at a trial: from the start of its program to its end.

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

/// Exit codes with a meaning, after BSD's `sysexits.h` (75 is transient, as any other), and those of a shell that
/// cannot run a command.
const INFEASIBLE: i32 = 65;
const FATAL: i32 = 78;
const NOT_RUN: [i32; 2] = [126, 127];

/// How long what an earlier attempt has left running is waited for, beyond the grace that it has.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long output is read that somebody holds open who has left the process group.
const LEFT_OPEN: Duration = Duration::from_secs(1);
/// How often a program that prints nothing is looked at.
const POLL: Duration = Duration::from_millis(50);

/// Why a program is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Cancelled,
    TimeLimit,
    Breach,
    /// It has answered and does not end.
    Lingers,
}

/// One attempt.
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
            folder.lock(context, program.grace.saturating_add(PATIENCE)).map_err(|error| self.not_locked(error))?;
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
        // Whoever has left the process group may still hold it.
        let _ = lock.unlock();
        let went_on = folder.kept() != before;
        if went_on {
            self.show_progress(attempt);
        }
        let (hearing, stop, status) = outcome.map_err(|error| self.cannot("watch the program", &error))?;
        self.verdict(hearing, stop, status, went_on)
    }

    /// Listens until the program has ended.
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
            // What it has started ends with it. Where all were asked to end, they have the grace that it had.
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

    /// Why the program has to end now, if it has to.
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

    /// What follows from all that was seen.
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
            format!("{what}; {words}; all of it is in {}", self.folder.path().display())
        };
        if let Some(breach) = hearing.breach() {
            return Err(EvalError::Fatal(seen(&format!(
                "the program breaks the protocol of docs/program.md: {breach}"
            ))));
        }
        if let Some(answer) = hearing.answered() {
            return answer;
        }
        match stop {
            Some(Stop::Cancelled) => return Err(EvalError::Cancelled),
            Some(Stop::TimeLimit) if went_on => {
                return Err(EvalError::Transient(seen(
                    "the program ran into its time limit, and can go on from its checkpoint",
                )));
            }
            Some(Stop::TimeLimit) => {
                return Err(EvalError::Infeasible(seen("the program ran into its time limit and kept no checkpoint")));
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

    /// Shows the executor that the program has kept something: it is in our folder, not in the executor's.
    fn show_progress(&self, attempt: u32) {
        if let Some(folder) = self.context.checkpoint() {
            // Without it an attempt that ends at the executor's time limit counts as one that came to nothing.
            let _ = durable::make_folder(folder)
                .and_then(|()| durable::write_in(&folder.join("program"), attempt.to_string().as_bytes()));
        }
    }

    fn not_locked(&self, error: NotLocked) -> EvalError {
        match error {
            NotLocked::Cancelled => EvalError::Cancelled,
            NotLocked::Busy => EvalError::Transient(format!(
                "something that an earlier attempt started still runs and holds the lock in {}: end it",
                self.folder.path().display()
            )),
            NotLocked::System(error) => self.cannot("lock it", &error),
        }
    }

    fn not_started(&self, error: &io::Error) -> EvalError {
        let name = self.program.command.first().map_or("", String::as_str);
        EvalError::Fatal(format!("cannot start {name}: {error}; correct the command {:?}", self.program.command))
    }

    fn cannot(&self, act: &str, error: &io::Error) -> EvalError {
        cannot(&self.folder.path().display().to_string(), act, error)
    }
}

/// A folder that cannot be used.
pub(super) fn cannot(folder: &str, act: &str, error: &io::Error) -> EvalError {
    EvalError::Fatal(format!("cannot use the folder {folder}, {act}: {error}; free some space or correct its rights"))
}

/// How a program ended, with what that usually means.
fn described(status: ExitStatus) -> String {
    let words = status.to_string();
    let killed = words.contains("SIGKILL") || status.code() == Some(128 + 9);
    if killed { format!("{words}, as the kernel ends what takes too much memory") } else { words }
}
