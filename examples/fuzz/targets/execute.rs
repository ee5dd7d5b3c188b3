//! Files exchanged by a driver and its workers.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::ensure;
use composer_nas::{
    execute::{self, Engine, EngineError, Executor, Job, JobState, Message, Remote, WorkerExit},
    prelude::*,
    study::{Origin, TrialId},
};

use super::{Seen, Target};

const EVALUATOR: &str = "fuzz";

fn trial() -> anyhow::Result<Trial> {
    Ok(Trial::new(TrialId(0), "AM".parse()?, Seed(1), Origin::Searcher))
}

/// An engine whose jobs write these bytes to a file of their task and end.
struct Leaves {
    file: &'static str,
    bytes: Vec<u8>,
}

impl Engine for Leaves {
    fn submit(&mut self, job: &Job) -> Result<(), EngineError> {
        let probe = job.name.contains("probe");
        let (file, bytes) =
            if probe { ("result.json", &b"{\"outcome\":\"ready\"}"[..]) } else { (self.file, &self.bytes[..]) };
        fs::create_dir_all(job.folder.join("attempts/1"))
            .and_then(|()| fs::write(job.folder.join(file), bytes))
            .map_err(|source| EngineError::Missing { program: "the engine of the target".into(), source })
    }

    fn live(&mut self, _: &[&Job]) -> Result<BTreeMap<String, JobState>, EngineError> {
        Ok(BTreeMap::new())
    }

    fn cancel(&mut self, _: &[&Job]) -> Result<(), EngineError> {
        Ok(())
    }

    fn exit_diagnostics(&mut self, _: &Job) -> Option<String> {
        None
    }
}

/// Runs the remote executor with a job that writes these bytes: the trial must come back, or the executor must fail.
fn remote(folder: PathBuf, file: &'static str, bytes: &[u8]) -> anyhow::Result<Seen> {
    const ENOUGH: Duration = Duration::from_secs(5);
    let _ = fs::remove_dir_all(&folder);
    let engine = Leaves { file, bytes: bytes.into() };
    let remote = Remote::with_engine(engine, 1, &folder)?.command(["true"]).attempts(2);
    let mut remote =
        remote.poll(Duration::from_millis(1)).grace(Duration::ZERO).write_timeout(Duration::from_millis(10));
    remote.begin(EVALUATOR)?;
    remote.submit(trial()?)?;
    let begun = Instant::now();
    while begun.elapsed() < ENOUGH {
        match remote.recv(Duration::from_millis(100)) {
            Ok(Some(Message::Done(_, Ok(_)))) => return Seen::read("report"),
            Ok(Some(Message::Done(_, Err(error)))) => return Seen::refused(error),
            Ok(_) => {}
            Err(error) => return Seen::refused(error),
        }
    }
    anyhow::bail!("the trial does not come back")
}

pub const RESULT: Target = Target {
    name: "task_result",
    what: "the result that a worker leaves, read by the driver",
    seeds: |_| {
        Ok([
            r#"{"outcome":"ready"}"#,
            r#"{"outcome":"completed","report":{"scores":{"accuracy":0.5},"standard_error":0.1,"curve":[[1,0.5]],"tasks":[],
                "parameters":3,"train_flops":1.0,"wall_seconds":2.0},"not_finite":{"loss":"NaN"}}"#,
            r#"{"outcome":"infeasible","reason":"too large"}"#,
            r#"{"outcome":"transient","reason":"node lost"}"#,
            r#"{"outcome":"fatal","reason":"no device"}"#,
            r#"{"outcome":"stopped","reason":"below the bar"}"#,
            r#"{"outcome":"panicked","reason":"out of luck"}"#,
        ]
        .map(Into::into)
        .into())
    },
    run: |input, folder| remote(folder.join("remote"), "result.json", input),
};

pub const TASK: Target = Target {
    name: "task_spec",
    what: "what a worker is asked for, carried out by one",
    seeds: |folder| {
        // As written by the driver.
        let folder = folder.join("asked");
        let engine = Leaves { file: "result.json", bytes: b"{\"outcome\":\"ready\"}".into() };
        let mut remote = Remote::with_engine(engine, 1, &folder)?.command(["true"]).poll(Duration::from_millis(1));
        remote.begin(EVALUATOR)?;
        remote.submit(trial()?)?;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(5)
            && !matches!(remote.recv(Duration::from_millis(100))?, Some(Message::Done(..)))
        {}
        drop(remote);
        let tasks = fs::read_dir(folder.join("tasks"))?.map(|task| Ok(task?.path().join("spec.json")));
        tasks.map(|path: std::io::Result<_>| Ok(fs::read(path?)?)).collect()
    },
    run: |input, folder| {
        let task = folder.join("task");
        let _ = fs::remove_dir_all(&task);
        fs::create_dir_all(&task)?;
        fs::write(task.join("spec.json"), input)?;
        let evaluator = from_fn(EVALUATOR, |trial: &Trial, context: &Context| {
            let value = trial.architecture.runs().count() as f64;
            if context.cancelled() { Err(EvalError::Cancelled) } else { Ok(Report::score("accuracy", value)) }
        });
        let exit = execute::work(&task, &[&evaluator]);
        let left = task.join("result.json").exists();
        ensure!(left || !matches!(exit, WorkerExit::Finished | WorkerExit::Refused), "an end without a result");
        match exit {
            WorkerExit::Finished => Seen::read("finished"),
            exit => Seen::refused_as(format!("{exit:?}")),
        }
    },
};
