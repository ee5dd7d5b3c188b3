//! The flags for the evaluation of candidates: by the MAD tasks, or by the user's command.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use clap::{Args, builder::NonEmptyStringValueParser};
use composer_nas::{
    evaluate::{Program, Repeated, SizeMatched, mad::Protocol},
    extrapolate::Cycle,
    prelude::*,
    stopping::Racing,
    study::Measure,
    text::line,
};

use super::{goal::COSTS, shared};

/// The default of --blocks if the space has other layers than attention and SwiGLU.
const MIXED_BLOCKS: usize = 5;

/// The number of layers from which trials race by default and the default number of trials is larger.
pub const LONG: usize = 16;

/// The flags for the evaluation.
#[derive(Debug, Args)]
pub struct EvaluatorArgs {
    /// How candidates are trained and scored: quick, hybrid, reference, full, or a JSON file with a protocol. The
    /// default is quick, or hybrid if kinds of layers other than attention and SwiGLU are searched.
    #[arg(long)]
    protocol: Option<String>,
    /// Evaluate candidates with this command instead of a protocol, for example "python train.py". It receives the path
    /// of a JSON file as its last argument and answers with lines of JSON; docs/protocol.md describes both.
    #[arg(long, value_name = "COMMAND", conflicts_with = "protocol", requires = "score")]
    evaluator: Option<String>,
    /// Anything else that the command's scores depend on, such as the version of your data. A run can be resumed only
    /// with the same text.
    #[arg(long, value_name = "TEXT", requires = "evaluator", default_value = "")]
    evaluator_version: String,
    /// Name of the command's score to optimise.
    #[arg(long, value_name = "NAME", requires = "evaluator", value_parser = NonEmptyStringValueParser::new())]
    score: Option<String>,
    /// Lower scores are better, as with a loss.
    #[arg(long, requires = "evaluator")]
    minimize: bool,
    /// Widths and vocabulary of the candidates that the command trains: the name or JSON file of a target, as for
    /// --target. The default, small, has a width of 256.
    #[arg(long, value_name = "SIZE", requires = "evaluator", default_value = "small")]
    candidates: String,
    /// Scale every candidate to the size of this many blocks of attention and SwiGLU before training; 0 trains it as it
    /// is. The default is 0, or 5 if kinds of layers other than these two are searched, to compare them with equal
    /// numbers of parameters.
    #[arg(long)]
    blocks: Option<usize>,
    /// How many times each trial is trained, with different random draws; its score is the mean.
    #[arg(long, value_name = "TIMES", default_value_t = 1)]
    repeat: usize,
    /// After a third of its steps, stop a trial whose intermediate score is below the median of the finished trials.
    #[arg(long)]
    pub stop_early: bool,
    /// Stop the repetitions of a trial once its score can no longer reach those of the best trials. The trial keeps the
    /// score of the repetitions that were made. Needs a score that is the mean of many trainings, as with the protocol
    /// quick or with --repeat 12. On by default from 16 layers, with such a score and one objective;
    /// --race=false turns it off.
    #[arg(long, num_args = 0..=1, value_name = "BOOL", require_equals = true, default_missing_value = "true")]
    race: Option<bool>,
    /// Step from which --stop-early compares trials; required for a command, whose number of steps is not known.
    #[arg(long, value_name = "STEP", requires = "stop_early")]
    stop_from: Option<usize>,
}

/// The evaluator, and how it is described.
pub struct Chosen {
    pub evaluator: Arc<dyn Evaluator>,
    /// The step from which intermediate scores are compared.
    pub stop_from: usize,
    /// FLOPs of a trial, if known.
    pub trial_flops: Option<f64>,
    /// A description of the evaluator.
    pub words: String,
    /// A description of the size to which candidates are scaled.
    pub size: Option<String>,
}

/// What evaluators are created from.
pub struct Setting<'a> {
    pub space: &'a SearchSpace,
    pub primitives: &'a Primitives,
    /// Whether the space has layers other than attention and SwiGLU.
    pub mixed: bool,
    /// The device on which protocols train.
    pub device: &'a str,
    /// The folder of the run.
    pub folder: &'a Path,
    /// The time limit of the command for a trial.
    pub limit: Option<Duration>,
}

impl EvaluatorArgs {
    /// Returns the protocol that is used without a command.
    fn protocol(&self, mixed: bool) -> &str {
        self.protocol.as_deref().unwrap_or(if mixed { "hybrid" } else { "quick" })
    }

    /// Returns the part of a run's name for the evaluator, which differs by command, version and size.
    pub fn name(&self, mixed: bool) -> String {
        let Some(command) = &self.evaluator else {
            let file = Path::new(self.protocol(mixed)).file_stem().unwrap_or_default();
            return file.to_string_lossy().into_owned();
        };
        let candidates = Path::new(&self.candidates).file_stem().unwrap_or_default().to_string_lossy();
        let candidates = if candidates == "small" { "" } else { &candidates };
        let words = [command, &self.evaluator_version, candidates].into_iter().filter(|words| !words.is_empty());
        let name = words.map(plain).collect::<Vec<_>>().join("-");
        // Without this, `./train.sh` would give a hidden folder.
        name.trim_start_matches(['.', '-']).into()
    }

    /// Returns whether a command evaluates.
    pub fn is_program(&self) -> bool {
        self.evaluator.is_some()
    }

    /// Returns the part of a run's name for the other flags.
    pub fn run_name(&self) -> String {
        let blocks = self.blocks.map(|blocks| format!("-blocks{blocks}")).unwrap_or_default();
        let repeat = if self.repeat == 1 { String::new() } else { format!("-repeat{}", self.repeat) };
        let stop = if self.stop_early { "-stop" } else { "" };
        format!("{blocks}{repeat}{stop}")
    }

    /// Returns the goal for the evaluator's score.
    pub fn goal(&self) -> anyhow::Result<Goal> {
        // Clap cannot require a flag that conflicts with another one.
        let alone = self.evaluator.is_none() && (self.score.is_some() || self.minimize);
        ensure!(!alone, "--score and --minimize need --evaluator");
        let Some(score) = &self.score else { return Ok(Goal::default()) };
        Ok(if self.minimize { Goal::minimize(score) } else { Goal::maximize(score) })
    }

    /// Refuses a goal with scores that the protocol does not report. Those of a command are not known.
    pub fn check(&self, goal: &Goal, mixed: bool) -> anyhow::Result<()> {
        if self.evaluator.is_some() {
            return Ok(());
        }
        let protocol: Protocol = shared::protocol(self.protocol(mixed))?;
        let mut known = vec![Goal::default().score];
        for name in protocol.trainings.iter().map(|training| training.task.name()) {
            if !known.iter().any(|known| known == name) {
                known.push(name.to_owned());
            }
        }
        let words = format!("the scores of this protocol are {}; the costs are {}", known.join(", "), COSTS.join(", "));
        for objective in goal.objectives() {
            let Measure::Score(name) = objective.of else { continue };
            ensure!(known.contains(&name), "--objective {name}: {words}");
        }
        Ok(())
    }

    /// Returns whether trials race in a space with this number of layers.
    pub fn races(&self, layers: usize, several: bool) -> anyhow::Result<bool> {
        let needed = Racing::default().repetitions() + 1;
        let repetitions = if self.repeat == 1 { self.repetitions()? } else { self.repeat };
        let possible = repetitions >= needed && !several;
        match self.race {
            None => Ok(possible && layers >= LONG),
            Some(false) => Ok(false),
            Some(true) => {
                ensure!(!several, "--race is for one objective: leave it out");
                ensure!(
                    possible,
                    "--race ends repetitions of a trial, of which it leaves at least {}: there are {repetitions}; ask for \
                     more with --repeat, or leave --race out",
                    needed - 1
                );
                Ok(true)
            }
        }
    }

    /// Returns the smallest number of repetitions of a training within a trial.
    fn repetitions(&self) -> anyhow::Result<usize> {
        // It is unknown for a command. Both default protocols have the same number.
        if self.evaluator.is_some() {
            return Ok(1);
        }
        let protocol: Protocol = shared::protocol(self.protocol(false))?;
        Ok(protocol.trainings.iter().map(|training| training.repeats).min().unwrap_or(1))
    }

    /// Returns the evaluator.
    pub fn choose(&self, setting: &Setting) -> anyhow::Result<Chosen> {
        let chosen = match &self.evaluator {
            Some(command) => self.program(command, setting)?,
            None => self.mad(setting)?,
        };
        if self.repeat == 1 {
            return Ok(chosen);
        }
        let stop_from = chosen.stop_from.saturating_mul(self.repeat);
        let trial_flops = chosen.trial_flops.map(|flops| flops * self.repeat as f64);
        let evaluator = Arc::new(Repeated::new(chosen.evaluator, self.repeat)?.goal(self.goal()?));
        Ok(Chosen { evaluator, stop_from, trial_flops, ..chosen })
    }

    fn program(&self, command: &str, setting: &Setting) -> anyhow::Result<Chosen> {
        let needed = self.stop_from.is_some() || !self.stop_early;
        ensure!(
            needed,
            "--stop-early with --evaluator needs --stop-from STEP, the step from which trials are compared"
        );
        let candidates = shared::target(&self.candidates, "--candidates")?;
        let size = self.size(&candidates.dims, setting.mixed)?;
        let trials = setting.folder.join("trials");
        let words =
            format!("{} trains candidates at the widths of {} (--candidates)", line(command), line(&candidates.name));
        let program = Program::shell(command, &trials, self.goal()?).context("--evaluator")?;
        let mut program = program.version(&self.evaluator_version).target(candidates, setting.primitives)?;
        if let Some(limit) = setting.limit {
            program = program.time_limit(limit);
        }
        let stop_from = self.stop_from.unwrap_or_default();
        let (evaluator, size) = matched(Arc::new(program), size, setting.primitives)?;
        Ok(Chosen { evaluator, stop_from, trial_flops: None, words, size })
    }

    fn mad(&self, setting: &Setting) -> anyhow::Result<Chosen> {
        let device = device::named(setting.device)?;
        let name = self.protocol(setting.mixed);
        let mad = Mad::new(shared::protocol(name)?, setting.primitives, &device.device)?;
        mad.check(setting.space.symbols())?;
        let protocol = mad.protocol();
        let stop_from = self.stop_from.unwrap_or(protocol.steps() / 3);
        let size = self.size(&protocol.dims, setting.mixed)?;
        let trial_flops = Some(trial_flops(protocol, size.as_ref(), setting)?);
        let (evaluator, size) = matched(Arc::new(mad), size, setting.primitives)?;
        let words = format!("training by the protocol {} on {device}", line(name));
        Ok(Chosen { evaluator, stop_from, trial_flops, words, size })
    }

    /// Returns the size to which candidates are scaled, if any.
    fn size(&self, dims: &Dims, mixed: bool) -> anyhow::Result<Option<Target>> {
        let blocks = self.blocks.unwrap_or(if mixed { MIXED_BLOCKS } else { 0 });
        if blocks == 0 {
            return Ok(None);
        }
        let target = Target::custom("candidates", dims.clone(), 1, false, blocks);
        Ok(Some(target.with_context(|| format!("--blocks {blocks}"))?))
    }
}

/// Returns a text as part of a folder's name.
fn plain(text: &str) -> String {
    const MOST: usize = 48;
    let kept = text.chars().map(|c| if c.is_ascii_alphanumeric() || "._=".contains(c) { c } else { '-' });
    let kept: String = kept.collect();
    let words: Vec<_> = kept.split('-').filter(|word| !word.is_empty()).collect();
    words.join("-").chars().take(MOST).collect()
}

/// Returns the approximate FLOPs of a trial by a protocol: those of the architecture in the middle of the space.
fn trial_flops(protocol: &Protocol, size: Option<&Target>, setting: &Setting) -> anyhow::Result<f64> {
    let Setting { space, primitives, .. } = setting;
    let mut middle = space.nth(space.size() / 2).context("the search space is empty")?;
    if let Some(size) = size {
        middle = Cycle.extrapolate(&middle, size, primitives)?.architecture;
    }
    Ok(protocol.train_flops(&middle, primitives)?)
}

/// Returns an evaluator that scales candidates to a size first, with a description of the size.
fn matched(
    evaluator: Arc<dyn Evaluator>,
    size: Option<Target>,
    primitives: &Primitives,
) -> anyhow::Result<(Arc<dyn Evaluator>, Option<String>)> {
    let Some(size) = size else { return Ok((evaluator, None)) };
    let blocks = size.baseline.len() / 2;
    let parameters = size.non_embedding_parameters;
    let words = format!(
        "candidates are scaled to {parameters} parameters, the size of {blocks} blocks of attention and SwiGLU"
    );
    Ok((Arc::new(SizeMatched::new(evaluator, Cycle, size, primitives)?), Some(words)))
}
