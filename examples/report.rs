//! One page about a search, finished or running; several searches on one page.
//!
//! `cargo run --release --example report -- runs/NAME` writes `report.html` and every figure as SVG and CSV into the
//! run's folder. `--pictures FOLDER` writes three of them there, those of the README.
//! With groups of runs, as in `gp=runs/a,runs/b random=runs/c,runs/d`, it compares them: `--output compare.html`.

#[macro_use]
mod shared;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use clap::Parser;
use composer_nas::{durable, journal, model::ModelSpec, prelude::*, report};

/// Those of the README.
const PICTURES: [&str; 3] = ["trials", "votes", "models"];

/// Writes pages about searches.
#[derive(Debug, Parser)]
struct Args {
    /// A run's folder or journal; or groups to compare, NAME=RUN,RUN,...
    #[arg(required = true)]
    runs: Vec<String>,
    /// Where a comparison goes.
    #[arg(long, default_value = "compare.html")]
    output: PathBuf,
    /// Writes the pictures of the README into this folder: trials, the vote, the result at full size.
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
        return page(Path::new(run), args.pictures.as_deref());
    }
    let group = |text: &String| {
        let Some((name, runs)) = text.split_once('=') else { bail!("{text:?} is no group: write NAME=RUN,RUN,...") };
        let studies = runs.split(',').map(|run| Ok(journal::read(journal_of(Path::new(run)))?.1));
        Ok((name.to_owned(), studies.collect::<anyhow::Result<Vec<_>>>()?))
    };
    let groups = args.runs.iter().map(group).collect::<anyhow::Result<Vec<_>>>()?;
    report::write_comparison(&groups, &args.output)?;
    println!("{}", shared::shown(&args.output));
    Ok(())
}

/// The page of one run, with its result where it has one.
fn page(run: &Path, pictures: Option<&Path>) -> anyhow::Result<()> {
    let journal = journal_of(run);
    let folder = journal.parent().context("a journal lies in a folder")?;
    let (setup, study) = journal::read(&journal)?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let mut page = report::Page::new(&study).setup(&setup).title(format!("Search {name}"));
    let primitives = Primitives::standard();
    let model = folder.join("target.json");
    let model: Option<ModelSpec> = if model.exists() { Some(shared::read(&model, "model")?) } else { None };
    // The target of these widths.
    let mut targets = Target::names().filter_map(|name| Target::named(name).ok());
    let target = targets.find(|target| model.as_ref().is_some_and(|model| model.dims == target.dims));
    if let (Some(model), Some(target)) = (&model, &target) {
        page = page.target(target, model, &primitives);
    }
    let latency = shared::latency(folder);
    if let Some(latency) = &latency {
        page = page.latency(latency);
    }
    page.write_figures(folder)?;
    if let Some(pictures) = pictures {
        shared::check_folder(pictures)?;
        fs::create_dir_all(pictures).with_context(|| format!("cannot make the folder {}", pictures.display()))?;
        for figure in page.figures()?.iter().filter(|figure| PICTURES.contains(&figure.name)) {
            let picture = pictures.join(figure.name).with_extension("svg");
            durable::write_in(&picture, figure.svg.as_bytes())
                .with_context(|| format!("cannot write {}", picture.display()))?;
        }
    }
    page.write(folder.join("report.html"))?;
    println!("{}", shared::shown(&folder.join("report.html")));
    Ok(())
}

/// The journal of a run that is named by its folder or by the journal itself.
fn journal_of(run: &Path) -> PathBuf {
    if run.is_dir() { run.join("journal.jsonl") } else { run.into() }
}
