//! The processes of one attempt: a process group that ends as a whole, whoever dies first.

use std::{
    fs::File,
    io,
    path::Path,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    time::Duration,
};

/// Waits until its standard input ends, which happens when the driver dies, and then ends its own process group: asks
/// it to, waits for some tenths of a second as long as anything else in it runs, and ends all. It leads the group, so
/// that no other group can have the same number as long as it is not waited for. Fields 3 and 5 of a `stat` are the
/// state and the group.
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

/// A program that runs, with its children.
///
/// Of all of them the lock is held: by the guard on its standard output, by the program and what it starts on their
/// standard input. It is free when none of them is left.
#[derive(Debug)]
pub(super) struct Group {
    guard: Child,
    program: Child,
    over: bool,
}

impl Group {
    /// Starts the program, with the path of its specification behind its other arguments and its standard error in the
    /// log.
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
                // It has nothing to guard, and may have ended already.
                let _ = guard.kill();
                let _ = guard.wait();
                Err(error)
            }
        }
    }

    /// What the program prints to its standard output; once.
    pub(super) fn output(&mut self) -> Option<ChildStdout> {
        self.program.stdout.take()
    }

    /// How the program has ended, where it has.
    pub(super) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.program.try_wait()
    }

    /// Asks all processes to end.
    pub(super) fn ask_to_end(&self) {
        self.signal("TERM");
    }

    /// Ends all processes.
    pub(super) fn end(&mut self) {
        if self.over {
            return;
        }
        self.over = true;
        if !self.signal("KILL") {
            // Without a place for one more process the guard does it, as if the driver had died.
            let _ = self.program.kill();
            self.guard.stdin = None;
        }
    }

    /// Whether all were told to end at once.
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
    /// Ends what still runs.
    fn drop(&mut self) {
        self.end();
        if self.guard.stdin.is_some() {
            let _ = self.guard.kill();
        }
        let _ = self.program.wait();
        let _ = self.guard.wait();
    }
}

/// Starts in the group of this leader, or as the leader of a new one.
#[cfg(unix)]
fn in_group(command: &mut Command, leader: u32) -> &mut Command {
    use std::os::unix::process::CommandExt;
    command.process_group(leader.cast_signed())
}

#[cfg(not(unix))]
fn in_group(command: &mut Command, _: u32) -> &mut Command {
    command
}
