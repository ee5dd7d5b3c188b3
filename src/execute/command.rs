//! Runs the commands of an engine with a time limit.

use std::{
    io::{self, Read, Write},
    ops::ControlFlow,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use super::EngineError;
use crate::retry::retry;

/// The output of a program and whether it succeeded.
#[derive(Debug)]
pub(super) struct Output {
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a program with `input` on its standard input, for at most `limit`.
///
/// # Errors
/// [`EngineError::Missing`] if it cannot be started, [`EngineError::Unreachable`] if it takes too long.
pub(super) fn run(program: &str, arguments: &[String], input: &str, limit: Duration) -> Result<Output, EngineError> {
    let failed = |source| not_started(program, source);
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input explains why on standard error.
        let _ = stdin.write_all(input.as_bytes());
    }
    let stdout = reader(child.stdout.take());
    let stderr = reader(child.stderr.take());
    let success = wait(&mut child, limit).map_err(failed)?;
    let text = |reader: io::Result<thread::JoinHandle<String>>| reader.map(|reader| reader.join().unwrap_or_default());
    let stdout = text(stdout).map_err(failed)?;
    let stderr = text(stderr).map_err(failed)?;
    let words = || format!("no answer within {} s", limit.as_secs());
    let success = success.ok_or_else(|| EngineError::Unreachable { program: program.into(), words: words() })?;
    Ok(Output { success, stdout, stderr })
}

/// The error of a program that could not be started: it does not exist, or the system has no resources for it now.
pub(super) fn not_started(program: &str, source: io::Error) -> EngineError {
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
            EngineError::Missing { program: program.into(), source }
        }
        _ => EngineError::System { act: format!("start {program}"), source },
    }
}

/// Reads a pipe on another thread, since the program would block on a full pipe.
fn reader(pipe: Option<impl Read + Send + 'static>) -> io::Result<thread::JoinHandle<String>> {
    thread::Builder::new().spawn(move || {
        let mut bytes = Vec::new();
        // After an error, use what was read so far.
        let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).trim().to_owned()
    })
}

/// Waits for the program and returns whether it succeeded; `None` if it had to be killed.
fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<bool>> {
    const PAUSE: Duration = Duration::from_millis(5);
    let ended = retry(limit, PAUSE, || match child.try_wait().transpose() {
        Some(status) => ControlFlow::Break(status),
        None => ControlFlow::Continue(()),
    });
    match ended {
        Ok(status) => Ok(Some(status?.success())),
        Err(_) => {
            child.kill()?;
            child.wait()?;
            Ok(None)
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str, limit: u64) -> Result<Output, EngineError> {
        run("sh", &["-c".into(), script.into()], "in", Duration::from_millis(limit))
    }

    #[test]
    fn programs_are_heard_and_ended() {
        let output = shell("cat; echo err >&2; exit 3", 60_000).unwrap();
        assert_eq!((output.success, output.stdout.as_str(), output.stderr.as_str()), (false, "in", "err"));
        // More than a pipe holds.
        assert_eq!(shell("head -c 300000 /dev/zero", 60_000).unwrap().stdout.len(), 300_000);
        assert!(matches!(shell("exec sleep 60", 50), Err(EngineError::Unreachable { .. })));
        let missing = run("no-such-program", &[], "", Duration::from_secs(1)).unwrap_err();
        assert!(missing.to_string().contains("cannot run no-such-program"), "{missing}");
    }
}
