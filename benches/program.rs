//! What a trial costs that a program evaluates: processor time of the search, and of the shells beside it.
//!
//! `cargo bench --bench program` runs a thousand trials of a shell script that answers at once. Needs Linux, whose
//! `/proc/self/stat` counts in ticks of a hundredth of a second.

use std::{fs, time::Instant};

use composer_nas::{aggregate::Best, evaluate::Program, prelude::*};

const TRIALS: usize = 1000;
const WORKERS: usize = 8;

/// Seconds of processor time so far: of this process, and of its children that have ended.
fn processor() -> Result<[f64; 2], Box<dyn std::error::Error>> {
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    // Fields 14 to 17 of proc(5), of which the first two are cut off.
    let ticks: Vec<f64> = fields.skip(11).take(4).map(str::parse).collect::<Result<_, _>>()?;
    Ok([ticks[..2].iter().sum::<f64>() / TICKS, ticks[2..].iter().sum::<f64>() / TICKS])
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let script = folder.path().join("script.sh");
    fs::write(&script, r#"echo '{"result": {"scores": {"loss": 1}}}'"#)?;
    let goal = Goal::minimize("loss");
    let program = Program::shell(&format!("sh {}", script.display()), folder.path().join("trials"), goal.clone())?;
    let primitives = Primitives::standard();
    let space = SearchSpace::uniform(primitives.symbols(["attention", "swiglu"])?, 16)?;
    let before = processor()?;
    let start = Instant::now();
    Pipeline::new(&primitives, space, program)
        .goal(goal)
        .searcher(RandomSearch)
        .aggregator(Best)
        .trials(TRIALS)
        .workers(WORKERS)
        .journal(folder.path().join("journal.jsonl"))
        .run(&Target::llama_1b())?;
    let seconds = start.elapsed().as_secs_f64();
    let after = processor()?;
    let per_trial = |at: usize| 1000.0 * (after[at] - before[at]) / TRIALS as f64;
    println!("{TRIALS} trials with {WORKERS} workers in {seconds:.1} s; processor time per trial:");
    println!("the search       {:>6.2} ms", per_trial(0));
    println!("script and guard {:>6.2} ms", per_trial(1));
    Ok(())
}
