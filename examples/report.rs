//! One page about a search, finished or running; several searches on one page.
//!
//! `cargo run --release --example report -- runs/NAME` writes `report.html` and every figure as SVG and CSV into the
//! run's folder; with `--output PAGE` it writes the page there and nothing into the run's folder, which then may be one
//! that cannot be written. `--pictures FOLDER` writes three figures there, those of the book.
//! With groups of runs, as in `gp=runs/a,runs/b random=runs/c,runs/d`, it compares them: `--output compare.html`. The
//! runs of a group differ in their seeds alone; groups may differ in how they search, not in what they measure.
//!
//! A result that is made of layers of your own is drawn at full size by your own program, which knows them:
//! `plug_in_primitive` shows how.

#[macro_use]
mod shared;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use clap::Parser;
use composer_nas::{
    journal,
    pipeline::RunFolder,
    prelude::*,
    report,
    text::{causes, line},
};

/// The pictures of the book.
const PICTURES: [&str; 3] = ["trials", "votes", "models"];

/// Writes the page of a search, or a page that compares searches.
#[derive(Debug, Parser)]
struct Args {
    /// Folder or journal of a run; to compare searches, groups of runs: NAME=RUN,RUN,...
    #[arg(required = true)]
    runs: Vec<String>,
    /// File for the page; by default report.html in the run's folder, or compare.html.
    #[arg(long, value_name = "PAGE")]
    output: Option<PathBuf>,
    /// Folder for all figures of the run; by default the run's folder, or none with --output.
    #[arg(long, value_name = "FOLDER")]
    figures: Option<PathBuf>,
    /// Folder with latency.json, the times measured by the example `latency`; by default the run's folder.
    #[arg(long, value_name = "FOLDER")]
    latency: Option<PathBuf>,
    /// Folder for the pictures of the book: trials, the vote on each layer, the result at full size.
    #[arg(long, value_name = "FOLDER")]
    pictures: Option<PathBuf>,
}

fn main() -> ExitCode {
    shared::carry_out(|| run(&Args::parse()))
}

fn run(args: &Args) -> anyhow::Result<()> {
    if let [run] = &args.runs[..]
        && !run.contains('=')
    {
        return page(Path::new(run), args);
    }
    let flags = [("figures", &args.figures), ("latency", &args.latency), ("pictures", &args.pictures)];
    if let Some((flag, _)) = flags.iter().find(|(_, value)| value.is_some()) {
        bail!("--{flag} is for the page of one run, not for a comparison");
    }
    let output = args.output.clone().unwrap_or_else(|| "compare.html".into());
    let group = |text: &String| {
        let Some((name, runs)) = text.split_once('=') else { bail!("{text:?} is not a group: write NAME=RUN,RUN,...") };
        let read = |run: &str| {
            let (setup, study) = journal::read(journal_of(Path::new(run)))?;
            Ok(((run.to_owned(), setup), study))
        };
        let runs = runs.split(',').map(read).collect::<anyhow::Result<Vec<_>>>()?;
        let (setups, studies) = runs.into_iter().unzip();
        Ok(((name.to_owned(), setups), (name.to_owned(), studies)))
    };
    let groups = args.runs.iter().map(group).collect::<anyhow::Result<Vec<_>>>()?;
    let (setups, groups): (Vec<_>, Vec<_>) = groups.into_iter().unzip();
    report::check_comparable(&setups)?;
    report::write_comparison(&groups, &output)?;
    println!("{}", shared::shown(&output));
    Ok(())
}

/// The page of one run, with its result where it has one.
fn page(run: &Path, args: &Args) -> anyhow::Result<()> {
    let run = RunFolder::read(run)?;
    let primitives = Primitives::standard();
    if let Err(error) = run.check(&primitives) {
        eprintln!("the page does not show the result at full size: {}", line(&causes(&error)));
    }
    let mut page = report::Page::of(&run, &primitives);
    let latency = shared::latency(args.latency.as_deref().unwrap_or(&run.folder));
    if let Some(latency) = &latency {
        page = page.latency(latency);
    }
    let inside = args.output.is_none().then_some(&run.folder);
    if let Some(figures) = args.figures.as_ref().or(inside) {
        page.write_figures(made(figures)?).context(ELSEWHERE)?;
    }
    if let Some(pictures) = &args.pictures {
        let pictures = made(pictures)?;
        for figure in page.figures()?.iter().filter(|figure| PICTURES.contains(&figure.name)) {
            let picture = pictures.join(figure.name).with_extension("svg");
            fs::write(&picture, &figure.svg).with_context(|| format!("cannot write {}", picture.display()))?;
        }
    }
    let output = args.output.clone().unwrap_or_else(|| run.folder.join("report.html"));
    page.write(&output).context(ELSEWHERE)?;
    println!("{}", shared::shown(&output));
    Ok(())
}

/// What helps where a folder cannot be written.
const ELSEWHERE: &str = "the page cannot be written: choose another place with --output PAGE";

/// A folder, which is made where it is not there.
fn made(folder: &Path) -> anyhow::Result<&Path> {
    shared::check_folder(folder)?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    Ok(folder)
}

/// The journal of a run that is named by its folder or by the journal itself.
fn journal_of(run: &Path) -> PathBuf {
    if run.is_dir() { run.join("journal.jsonl") } else { run.into() }
}
