//! Trials that are evaluated by a program of one's own, and what such a program may do wrong.
#![cfg(unix)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use composer_nas::{
    aggregate::Best,
    evaluate::{CancelToken, Program, ProgramError},
    execute::{AttemptError, evaluate},
    prelude::*,
    search::Exhaustive,
    study::{Origin, Threshold, TrialId},
    testkit,
};
use serde_json::Value;

/// The answer of a program that is content.
const RESULT: &str = r#"echo '{"result": {"scores": {"loss": 2.5}}}'"#;

fn loss() -> Goal {
    Goal::minimize("loss")
}

/// A script for the shell as an evaluator, in a folder of its own.
struct Script {
    folder: tempfile::TempDir,
}

impl Script {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("script.sh"), text).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn program(&self) -> Program {
        let script = self.path("script.sh");
        let program = Program::new(["sh", script.to_str().unwrap()], self.path("trials"), loss()).unwrap();
        program.grace(Duration::from_millis(300))
    }

    /// The folder of the only trial.
    fn trial(&self) -> PathBuf {
        fs::read_dir(self.path("trials")).unwrap().next().unwrap().unwrap().path()
    }

    fn log(&self, attempt: u32) -> String {
        fs::read_to_string(self.trial().join(format!("attempt-{attempt}.log"))).unwrap()
    }
}

fn trial(id: u64) -> Trial {
    Trial::new(TrialId(id), "2A+4M".parse().unwrap(), Seed(id + 7), Origin::Searcher)
}

fn run(text: &str) -> (Script, Result<Report, EvalError>) {
    let script = Script::new(text);
    let outcome = script.program().evaluate(&trial(3), &Context::default());
    (script, outcome)
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process runs.
fn is_alive(pid: &str) -> bool {
    let state = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    !state.is_empty() && !state.contains(") Z ")
}

fn pid(path: &Path) -> String {
    until("a process has written its number", || fs::read_to_string(path).is_ok_and(|pid| pid.ends_with('\n')));
    fs::read_to_string(path).unwrap()
}

#[test]
fn a_program_is_asked_and_answers() {
    let script = Script::new(
        r#"cp "$1" "$(dirname "$0")/seen.json"
        echo "begins"; echo "warns" >&2
        echo '{"progress": {"step": 1, "steps": 4, "value": 3.5, "stage": "warm up"}}'
        echo '{"progress": {"step": 2, "steps": 4}}'
        echo '{"metrics": {"tokens": 100, "loss": 9, "odd": NaN}}'
        echo '{"metrics": {"tokens": 200}}'
        echo '{"progress": {"step": 4, "steps": 4, "value": 2.5}}'
        echo '{"result": {"scores": {"loss": 2.5, "accuracy": 0.25}, "standard_error": 0.1, "parameters": 7, "train_flops": 1e9}}'"#,
    );
    let target = Target::custom("small", Dims::new(32, 96, 4).unwrap(), 300, true, 3).unwrap();
    let program = script.program().target(target.clone(), &Primitives::standard()).unwrap().version("2");
    let trial = Trial { architecture: "A+G+B+S+M".parse().unwrap(), ..trial(3) };
    let report = evaluate(&program, &trial, &Context::default()).unwrap();
    let scores: Vec<_> = report.scores.iter().map(|(name, &value)| (name.as_str(), value)).collect();
    assert_eq!(scores, [("accuracy", 0.25), ("loss", 2.5), ("tokens", 200.0)]);
    assert_eq!((report.standard_error, report.parameters, report.train_flops), (Some(0.1), 7, Some(1e9)));
    assert_eq!(report.curve, [(1, -3.5), (4, -2.5)]);
    assert!(script.log(1).contains("begins") && script.log(1).contains("warns"));

    let seen: Value = serde_json::from_slice(&fs::read(script.path("seen.json")).unwrap()).unwrap();
    assert_eq!(
        (&seen["format"], &seen["trial"], &seen["attempt"], &seen["seed"]),
        (&1.into(), &3.into(), &1.into(), &10.into())
    );
    assert_eq!(
        (&seen["letters"], &seen["score"], &seen["direction"]),
        (&"AGBSM".into(), &"loss".into(), &"minimize".into())
    );
    assert_eq!(seen["architecture"].as_str().unwrap().parse::<Architecture>().unwrap(), trial.architecture);
    let ids: Vec<_> = seen["layers"].as_array().unwrap().iter().map(|layer| layer["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["attention", "gated_delta_net", "mamba2", "sliding_window", "swiglu"]);
    assert_eq!(seen["layers"][3]["options"]["sliding_window"], 64);
    assert_eq!(
        seen["layers"][4],
        serde_json::json!({"letter": "M", "id": "swiglu", "role": "channel", "kind": "swiglu", "parameters": 3 * 32 * 96})
    );
    let spec: composer_nas::model::ModelSpec = serde_json::from_value(seen["model"].clone()).unwrap();
    assert_eq!(spec, target.model(trial.architecture.clone()));
    assert!(Path::new(seen["checkpoint"].as_str().unwrap()).is_dir());
    assert!(program.fingerprint().contains("script.sh") && program.fingerprint().contains("\"2\""));
}

#[test]
fn a_script_keeps_the_laws() {
    let script = Script::new(
        r#"seed=$(sed -n 's/.*"seed": \([0-9]*\),/\1/p' "$1")
        for step in 1 2 3; do echo "{\"progress\": {\"step\": $step, \"steps\": 3, \"value\": $((9 - step))}}"; done
        case $seed in 9) echo '{"error": {"kind": "infeasible", "reason": "too wide"}}'; exit;; esac
        echo "{\"result\": {\"scores\": {\"loss\": $seed}}}""#,
    );
    let trials: Vec<_> = (0..4).map(trial).collect();
    assert_eq!(testkit::evaluator::check(&script.program(), &trials, &loss()), Ok(()));
}

#[test]
fn a_searcher_minimizes_what_a_script_measures() {
    let script = Script::new(
        r#"letters=$(sed -n 's/.*"letters": "\(.*\)".*/\1/p' "$1")
        rest=$(printf %s "$letters" | tr -d A)
        echo "{\"result\": {\"scores\": {\"loss\": ${#rest}}}}""#,
    );
    let primitives = Primitives::standard();
    let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 3).unwrap();
    let pipeline = Pipeline::new(&primitives, space, script.program()).goal(loss()).searcher(Exhaustive);
    let found = pipeline.aggregator(Best).trials(8).workers(3).run(&Target::llama_1b()).unwrap();
    assert_eq!(found.aggregated.letters(), "AAA");
    assert_eq!(found.study.observations().count(), 8);
}

#[test]
fn ends_have_documented_meanings() {
    type Kind = fn(String) -> EvalError;
    let cases: [(&str, Kind, &str); 13] = [
        ("exit 65", EvalError::Infeasible, "exit status: 65"),
        ("exit 75", EvalError::Transient, "exit status: 75"),
        ("exit 78", EvalError::Fatal, "exit status: 78"),
        ("exit 1", EvalError::Transient, "exit status: 1"),
        ("exit 0", EvalError::Fatal, "without a result"),
        ("no-such-command; exit", EvalError::Fatal, "no-such-command"),
        ("kill -s SEGV $$", EvalError::Transient, "SIGSEGV"),
        ("kill -s KILL $$", EvalError::Transient, "too much memory"),
        ("sh -c 'kill -s KILL $$'; exit", EvalError::Transient, "too much memory"),
        ("echo 1 >&2; echo 2; echo last words; exit 1", EvalError::Transient, "last words"),
        (
            r#"echo '{"error": {"kind": "infeasible", "reason": "too wide"}}'; exit 1"#,
            EvalError::Infeasible,
            "too wide",
        ),
        (r#"echo '{"error": {"kind": "transient", "reason": "lost"}}'"#, EvalError::Transient, "lost"),
        (r#"echo '{"error": {"kind": "fatal", "reason": "no data"}}'"#, EvalError::Fatal, "no data"),
    ];
    for (text, kind, words) in cases {
        let error = run(text).1.unwrap_err();
        let reason = error.to_string();
        assert!(std::mem::discriminant(&error) == std::mem::discriminant(&kind(String::new())), "{text}: {reason}");
        assert!(reason.contains(words), "{text}: {reason}");
    }
    // What was found counts, however the program ends.
    let scored = |text: &str| run(text).1.unwrap().scores["loss"];
    assert_eq!(scored(&format!("{RESULT}; kill -s SEGV $$")), 2.5);
    assert_eq!(scored(&format!("{RESULT}; exit 1")), 2.5);
    assert_eq!(scored(&format!("{RESULT}; sleep 600")), 2.5);
    assert!(scored(r#"echo '{"result": {"scores": {"loss": NaN}}}'"#).is_nan());
    assert!(scored(r#"echo '{"result": {"scores": {"loss": -Infinity}}}'"#).is_nan());
}

#[test]
fn commands_that_cannot_be_run_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Program::shell("  ", folder.path(), loss()), Err(ProgramError::NoCommand)));
    assert!(matches!(Program::new([""; 0], folder.path(), loss()), Err(ProgramError::NoCommand)));
    let outcome = |program: Result<Program, ProgramError>| {
        let error = program.unwrap().evaluate(&trial(0), &Context::default()).unwrap_err();
        assert!(matches!(error, EvalError::Fatal(_)), "{error}");
        error.to_string()
    };
    let missing = outcome(Program::new(["/no/such/program"], folder.path(), loss()));
    assert!(missing.contains("/no/such/program") && missing.contains("No such file"), "{missing}");
    let missing = outcome(Program::shell("no-such-program --flag", folder.path(), loss()));
    assert!(missing.contains("no-such-program"), "{missing}");
    fs::write(folder.path().join("file"), "").unwrap();
    let taken = outcome(Program::shell("true", folder.path().join("file"), loss()));
    assert!(taken.contains("file") && taken.contains("correct the permissions"), "{taken}");
}

#[test]
fn a_line_for_the_shell_gets_the_specification() {
    let script = Script::new(&format!("test -s \"$3\" && echo $1-$2 && {RESULT}"));
    let line = format!("NAME='of mine' sh '{}' 'two words' \"$NAME\"b", script.path("script.sh").display());
    let program = Program::shell(&line, script.path("trials"), loss()).unwrap();
    program.evaluate(&trial(0), &Context::default()).unwrap();
    assert!(script.log(1).contains("two words-b"), "{}", script.log(1));
}

#[test]
fn wrong_answers_stop_the_search() {
    let cases = [
        (format!("{RESULT}; {RESULT}"), "more than one result"),
        (r#"echo '{"result": {"scores": {"los": 1}}}'"#.into(), "does not have the score \"loss\", only [los]"),
        (r#"echo '{"result": {"scores": {"loss": "low"}}}'"#.into(), "invalid line"),
        (r#"echo '{"result": {"scores": {"loss": 1}'"#.into(), "invalid line"),
        (r#"echo '{"progress": {"stp": 1}}'; sleep 600"#.into(), "stp"),
        ("head -c 100000 /dev/urandom".into(), "without a result"),
        (r#"i=0; while [ $i -lt 300 ]; do echo "{\"metrics\": {\"m$i\": 1}}"; i=$((i + 1)); done"#.into(), "256"),
        (r#"printf '{"result": "'; head -c 100000000 /dev/zero | tr '\0' x"#.into(), "invalid line"),
    ];
    for (text, words) in cases {
        let error = run(&text).1.unwrap_err();
        let reason = error.to_string();
        assert!(matches!(error, EvalError::Fatal(_)) && reason.contains(words), "{text}: {reason}");
        assert!(reason.len() < 5000, "{}", reason.len());
    }
}

#[test]
fn noise_is_borne_and_its_log_bounded() {
    let (script, outcome) =
        run(&format!("head -c 100000000 /dev/zero | tr '\\0' x; echo; head -c 3000000 /dev/urandom >&2; {RESULT}"));
    assert_eq!(outcome.unwrap().scores["loss"], 2.5);
    let length = fs::metadata(script.trial().join("attempt-1.log")).unwrap().len();
    assert!((50_000..1_200_000).contains(&length), "{length}");
}

#[test]
fn progress_may_come_as_often_as_it_likes() {
    let text = r#"seq 1 20000 | sed 's/.*/{"progress": {"step": &, "steps": 20000, "value": &}}/'
        seq 1 20000 | sed 's/.*/{"progress": {"step": 5, "steps": 20000, "value": &}}/'"#;
    let script = Script::new(&format!("{text}\n{RESULT}"));
    let (sender, told) = mpsc::channel();
    let context = Context::new(CancelToken::default(), move |progress| sender.send(progress).unwrap());
    script.program().evaluate(&trial(0), &context).unwrap();
    let curve = context.curve();
    assert!(curve.len() <= 1001 && curve.last() == Some(&(20_000, -20_000.0)), "{}", curve.len());
    drop(context);
    assert!(told.iter().count() < 3000);
}

#[test]
fn what_a_program_leaves_running_ends_with_it() {
    let (script, outcome) = run(&format!("sleep 600 & echo $! > \"$(dirname \"$0\")/child\"; {RESULT}"));
    assert_eq!(outcome.unwrap().scores["loss"], 2.5);
    let child = pid(&script.path("child"));
    until("it has ended", || !is_alive(&child));
    // One that has left the process group and holds the output open is not waited for.
    let (script, outcome) = run(&format!("setsid sleep 600 & echo $! > \"$(dirname \"$0\")/child\"; {RESULT}"));
    assert_eq!(outcome.unwrap().scores["loss"], 2.5);
    let child = pid(&script.path("child"));
    assert!(is_alive(&child));
    assert!(Command::new("kill").arg(child.trim()).status().unwrap().success());
}

#[test]
fn a_cancelled_program_may_keep_what_it_has_done() {
    let script = Script::new(
        r#"folder=$(dirname "$0")
        trap 'echo kept > "$folder/kept"; exit 1' TERM
        echo $$ > "$folder/pid"
        while :; do sleep 0.01; done"#,
    );
    let cancel = CancelToken::default();
    let program = script.program().grace(Duration::from_secs(30));
    let outcome = thread::scope(|scope| {
        let running = scope.spawn(|| program.evaluate(&trial(0), &Context::new(cancel.clone(), |_| ())));
        pid(&script.path("pid"));
        cancel.cancel();
        running.join().unwrap()
    });
    assert_eq!(outcome, Err(EvalError::Cancelled));
    assert_eq!(fs::read_to_string(script.path("kept")).unwrap(), "kept\n");
}

#[test]
fn one_that_ignores_the_request_is_ended() {
    let script = Script::new(
        r#"trap '' TERM
        echo $$ > "$(dirname "$0")/pid"
        while :; do sleep 0.01; done"#,
    );
    let outcome = script.program().time_limit(Duration::from_millis(200)).evaluate(&trial(0), &Context::default());
    let reason = outcome.unwrap_err().to_string();
    assert!(reason.starts_with("infeasible: the program reached its time limit without a checkpoint"), "{reason}");
    assert!(!is_alive(&pid(&script.path("pid"))));
}

#[test]
fn another_attempt_goes_on_from_the_checkpoint() {
    // Two steps per attempt.
    let script = Script::new(
        r#"kept=$(sed -n 's/.*"checkpoint": "\(.*\)".*/\1/p' "$1")/step
        step=$(cat "$kept" 2> /dev/null || echo 0)
        end=$((step + 2))
        while [ $step -lt $end ] && [ $step -lt 5 ]; do
            step=$((step + 1)); echo $step > "$kept.part"; mv "$kept.part" "$kept"
            echo "{\"progress\": {\"step\": $step, \"steps\": 5, \"value\": $((9 - step))}}"
        done
        [ $step -lt 5 ] && sleep 600
        echo '{"result": {"scores": {"loss": 4}}}'"#,
    );
    let program = script.program().time_limit(Duration::from_millis(400));
    for attempt in 1..=3 {
        let outcome = evaluate(&program, &trial(0), &Context::default());
        match attempt {
            3 => assert_eq!(outcome.unwrap().curve, [(1, -8.0), (2, -7.0), (3, -6.0), (4, -5.0), (5, -4.0)]),
            _ => {
                let error = outcome.unwrap_err();
                let expected = matches!(&error, AttemptError::Evaluator(EvalError::Transient(_)));
                assert!(expected && error.to_string().contains("checkpoint"), "{error}");
            }
        }
    }
    let spec: Value = serde_json::from_slice(&fs::read(script.trial().join("spec.json")).unwrap()).unwrap();
    assert_eq!((&spec["attempt"], &spec["time_limit"]), (&3.into(), &0.4.into()));
}

#[test]
fn a_program_below_its_threshold_is_stopped() {
    let script = Script::new(
        r#"echo '{"progress": {"step": 5, "steps": 10, "value": 4}}'
        echo '{"progress": {"step": 6, "steps": 10, "value": 1}}'; sleep 600"#,
    );
    let stopped = |loss: f64| {
        let context = Context::default().threshold(Threshold::new([(5, -loss)]));
        evaluate(&script.program().time_limit(Duration::from_secs(1)), &trial(0), &context)
    };
    assert!(matches!(stopped(3.0), Err(AttemptError::Stopped(_))));
    assert!(matches!(stopped(5.0), Err(AttemptError::Evaluator(EvalError::Infeasible(_)))));
}

#[test]
fn a_full_disk_is_told() {
    // The limit on file sizes stands for the disk: only the program has it.
    let (_, outcome) = run("ulimit -f 8; head -c 100000 /dev/zero > \"$(dirname \"$0\")/large\" || exit 1");
    let reason = outcome.unwrap_err().to_string();
    assert!(reason.starts_with("transient: the program ended without a result"), "{reason}");
}

/// Executors with a time limit of their own ask whether an attempt has kept anything, in a folder of theirs.
#[test]
fn what_is_kept_shows_in_the_executors_folder() {
    let keeps = r#"touch "$(sed -n 's/.*"checkpoint": "\(.*\)".*/\1/p' "$1")/state-$$""#;
    for (text, shows) in [(keeps, true), ("true", false)] {
        let script = Script::new(&format!("{text}\n{RESULT}"));
        let folder = script.path("theirs");
        let context = Context::default().keep_in(folder.clone());
        script.program().evaluate(&trial(0), &context).unwrap();
        assert_eq!(folder.join("program").exists(), shows);
    }
}
