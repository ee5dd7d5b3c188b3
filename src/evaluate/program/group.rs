//! The processes of an attempt: a process group that ends as a whole, whichever process dies first.

use std::{
    fs::File,
    io,
    path::Path,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    time::Duration,
};

/// Waits for the end of its standard input, which happens when the driver dies, then ends its own process group: sends
/// SIGTERM, waits for a few tenths of a second while other processes of the group are running, and kills all. It leads
/// the group, so no other group can get the same number until the guard has been waited for. Fields 3 and 5 of `stat`
/// are the state and the group.
const GUARD: &str = r#"
trap '' TERM HUP INT
read -r _
others_run() {
    for stat in /proc/[0-9]*/stat; do
        { read -r line < "$stat"; } 2> /dev/null || continue
        pid=${line%% *}
        set -- ${line##*) }
        if [ "$3" = $$ ] && [ "$1" != Z ] && [ "$pid" != $$ ]; then return 0; fi
    done
    return 1
}
kill -s TERM 0
if [ -r /proc/self/stat ]; then
    tenths=$1
    while [ "$tenths" -gt 0 ] && others_run; do
        sleep 0.1 || sleep 1
        tenths=$((tenths - 1))
    done
else
    sleep $(($1 / 10 + 1))
fi
kill -s KILL 0
"#;
/// Sends a signal to a group.
const SIGNAL: &str = r#"kill -s "$1" -- "-$2""#;

/// A running program and its children.
///
/// All of them hold the lock: the guard on its standard output, the program and its children on their standard input.
/// It is released when none of them is left.
#[derive(Debug)]
pub(super) struct Group {
    guard: Child,
    program: Child,
    over: bool,
}

impl Group {
    /// Starts the program, with the path of its specification as the last argument and its standard error in the log.
    ///
    /// # Errors
    /// The I/O error.
    pub(super) fn start(command: &[String], spec: &Path, lock: &File, log: File, grace: Duration) -> io::Result<Self> {
        let [name, arguments @ ..] = command else { return Err(io::ErrorKind::NotFound.into()) };
        let tenths = (grace.as_millis() / 100 + 1).to_string();
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD, "composer-nas-guard", &tenths]);
        guard.stdin(Stdio::piped()).stdout(lock.try_clone()?).stderr(Stdio::null());
        let mut guard = in_group(&mut guard, 0).spawn()?;
        let mut program = Command::new(name);
        program.args(arguments).arg(spec).stdin(lock.try_clone()?);
        program.stdout(Stdio::piped()).stderr(log);
        match in_group(&mut program, guard.id()).spawn() {
            Ok(program) => Ok(Self { guard, program, over: false }),
            Err(error) => {
                // The guard has nothing to guard, and may have ended already.
                let _ = guard.kill();
                let _ = guard.wait();
                Err(error)
            }
        }
    }

    /// Returns the standard output of the program, the first time.
    pub(super) fn output(&mut self) -> Option<ChildStdout> {
        self.program.stdout.take()
    }

    /// Returns the exit status of the program if it has ended.
    pub(super) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.program.try_wait()
    }

    /// Asks all processes to end.
    pub(super) fn ask_to_end(&self) {
        self.signal("TERM");
    }

    /// Kills all processes.
    pub(super) fn end(&mut self) {
        if self.over {
            return;
        }
        self.over = true;
        if !self.signal("KILL") {
            // If no process can be started to send the signal, the guard does it, as if the driver had died.
            let _ = self.program.kill();
            self.guard.stdin = None;
        }
    }

    /// Whether all processes were killed.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    fn signal(&self, name: &str) -> bool {
        let group = self.guard.id().to_string();
        let mut kill = Command::new("sh");
        kill.args(["-c", SIGNAL, "composer-nas-signal", name, &group]);
        kill.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        kill.status().is_ok_and(|status| status.success())
    }
}

impl Drop for Group {
    /// Kills what is still running.
    fn drop(&mut self) {
        self.end();
        if self.guard.stdin.is_some() {
            let _ = self.guard.kill();
        }
        let _ = self.program.wait();
        let _ = self.guard.wait();
    }
}

/// Starts the command in the group of this leader; 0 makes it the leader of a new group.
#[cfg(unix)]
fn in_group(command: &mut Command, leader: u32) -> &mut Command {
    use std::os::unix::process::CommandExt;
    command.process_group(leader.cast_signed())
}

#[cfg(not(unix))]
fn in_group(command: &mut Command, _: u32) -> &mut Command {
    command
}
