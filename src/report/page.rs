//! One search on one page.

use std::{
    borrow::Cow,
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::{
    Latency,
    again::{again, without_result},
    blocks::FEW,
    candidates,
    figure::{Figure, PlotError},
    front, importance, layers, models, predictions,
    references::published_hybrids,
    running::Running,
    shell::{self, SHOWN},
    trials, used,
};
use crate::{
    cost::{Comparison, Workload},
    durable,
    extrapolate::{Cycle, Extrapolator, Target, size_notice},
    journal::Setup,
    model::ModelSpec,
    pipeline::RunFolder,
    primitive::{Primitives, Role, Symbol},
    search::GpBo,
    seed::Seed,
    space::{Architecture, baseline},
    study::{Study, TrialState},
    text::{self, html as escape, number},
};

/// A page about one search, finished or running: one HTML file that needs nothing else.
///
/// It shows every trial, the best sequences, what the searcher's surrogate learnt, how the trials were merged, the
/// result at full size beside Llama, other baselines and published hybrids that share a kind of mixer with the space,
/// and everything needed to run the search again. What it is not told it leaves out. What the search used it knows from
/// its [setup](Self::setup): without it, the surrogate and the aggregator are those that a search has by default.
///
/// ```no_run
/// use composer_nas::{journal, report::Page};
/// let (setup, study) = journal::read("runs/hello.jsonl")?;
/// Page::new(&study).setup(&setup).write("runs/hello.html")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Page<'a> {
    pub(super) study: &'a Study,
    pub(super) setup: Option<&'a Setup>,
    result: Option<(Cow<'a, Target>, &'a ModelSpec, &'a Primitives)>,
    /// Why there is no result at full size although the search has one.
    unsized_because: Option<String>,
    pub(super) merged: Option<&'a Architecture>,
    command: Option<String>,
    latency: Option<&'a Latency>,
    live: Option<&'a Running>,
    title: String,
}

/// A page that cannot be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PageError {
    /// A figure refuses.
    #[error(transparent)]
    Plot(#[from] PlotError),
    /// The file cannot be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// The page.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
}

/// Below this many observations a fit says nothing.
const FEWEST_FITTED: usize = 4;
/// Observations from which the surrogate of a page about many trials learns: its time is spent per page.
const LEARNT: usize = 256;
/// Characters of an aggregator's name on a card.
const LONGEST_NAME: usize = 60;
/// Characters of a sentence above a figure.
const LONGEST_NOTE: usize = 300;

impl<'a> Page<'a> {
    /// A page about these trials.
    pub fn new(study: &'a Study) -> Self {
        let title = "An architecture search".into();
        Self {
            study,
            setup: None,
            result: None,
            unsized_because: None,
            merged: None,
            command: None,
            latency: None,
            live: None,
            title,
        }
    }

    /// A page about what a search left in its folder, with its result where it has one. The result is drawn at full
    /// size where `primitives` are those that it is made of.
    pub fn of(run: &'a RunFolder, primitives: &'a Primitives) -> Self {
        let page = Self {
            merged: run.summary.as_ref().map(|summary| &summary.architecture),
            title: run.folder.file_name().map_or("Search".into(), |name| format!("Search {}", name.to_string_lossy())),
            ..Self::new(&run.study).setup(&run.setup)
        };
        match (&run.model, run.target(), run.check(primitives)) {
            (Some(_), _, Err(error)) => Self { unsized_because: Some(text::causes(&error)), ..page },
            (Some(model), Some(target), Ok(())) => {
                Self { result: Some((Cow::Owned(target), model, primitives)), ..page }
            }
            (None, ..) | (_, None, _) => page,
        }
    }

    /// With what the search was, as the journal has it.
    #[must_use]
    pub fn setup(self, setup: &'a Setup) -> Self {
        Self { setup: Some(setup), ..self }
    }

    /// With the architecture that the aggregator gave. Otherwise the aggregator that the setup names is asked where it
    /// is one of this crate, and N_0 clustering with five clusters where nothing is known of it.
    #[must_use]
    pub fn merged(self, merged: &'a Architecture) -> Self {
        Self { merged: Some(merged), ..self }
    }

    /// With the result at full size.
    #[must_use]
    pub fn target(self, target: &'a Target, model: &'a ModelSpec, primitives: &'a Primitives) -> Self {
        Self { result: Some((Cow::Borrowed(target), model, primitives)), ..self }
    }

    /// With the command that runs the search again.
    #[must_use]
    pub fn command(self, command: impl Into<String>) -> Self {
        Self { command: Some(command.into()), ..self }
    }

    /// With the times of layers on a device; left out where they were taken at other widths than the result's.
    #[must_use]
    pub fn latency(self, latency: &'a Latency) -> Self {
        Self { latency: Some(latency), ..self }
    }

    /// Under another title.
    #[must_use]
    pub fn title(self, title: impl Into<String>) -> Self {
        Self { title: title.into(), ..self }
    }

    /// As a page about a search that runs now.
    pub(super) fn live(self, running: &'a Running) -> Self {
        Self { live: Some(running), ..self }
    }

    /// Writes the page to `path`, replacing an older one in one step.
    ///
    /// # Errors
    /// [`PageError`] when a figure cannot be drawn or the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), PageError> {
        let path = path.as_ref();
        durable::write_in(path, self.html()?.as_bytes())
            .map_err(|source| PageError::Write { path: path.into(), source })
    }

    /// Writes every figure of the page as SVG, and its numbers as CSV, into a folder that exists.
    ///
    /// # Errors
    /// [`PageError`] when a figure cannot be drawn or a file cannot be written.
    pub fn write_figures(&self, folder: impl AsRef<Path>) -> Result<(), PageError> {
        let folder = folder.as_ref();
        let write = |figure: Figure| {
            figure.write(folder).map_err(|source| PageError::Write { path: folder.join(figure.name), source })
        };
        self.figures()?.into_iter().try_for_each(write)
    }

    /// The figures of the page, in its order.
    ///
    /// # Errors
    /// [`PlotError`] when the drawing library refuses.
    pub fn figures(&self) -> Result<Vec<Figure>, PlotError> {
        let mut figures = vec![trials(self.study)?, candidates::candidates(self.study, SHOWN)?];
        figures.extend(front::front(self.study)?);
        figures.extend(front::hypervolume(self.study)?);
        figures.extend(self.learnt()?);
        figures.push(layers(self.study)?);
        figures.extend(self.voted()?);
        figures.extend(self.sized()?);
        Ok(figures)
    }

    /// The page as text.
    ///
    /// # Errors
    /// [`PlotError`] when the drawing library refuses.
    pub fn html(&self) -> Result<String, PlotError> {
        let target = self.result.as_ref().map(|(target, ..)| &**target);
        let sections = [
            ("progress", "Progress", self.progress()?),
            ("compromises", "Compromises", self.compromises()?),
            ("best", "Best architectures", candidates::table(self.study)),
            ("learnt", "What was learnt", self.surrogate()?),
            ("merged", "From trials to one architecture", self.aggregation()?),
            ("result", "At full size", self.at_full_size()?),
            ("again", "Run it again", again(self.study, self.setup, target, self.command.as_deref())),
        ];
        let present = || sections.iter().filter(|(_, _, text)| !text.is_empty());
        let links: String = present().map(|(id, title, _)| format!("<a href=\"#section-{id}\">{title}</a>")).collect();
        let texts: String =
            present().map(|(id, title, text)| format!("<h2 id=\"section-{id}\">{title}</h2>\n{text}")).collect();
        let head = format!("<h1>{}</h1>\n{}<nav>{links}</nav>\n", escape(&self.title), self.summary());
        Ok(shell::page(&self.title, &(head + &texts), self.live.map(|running| running.reload)))
    }

    /// The answer in a few numbers.
    fn summary(&self) -> String {
        let study = self.study;
        let done = study.observations().count();
        let pending = study.pending().count();
        let mut cards = Vec::new();
        if let Some(merged) = self.answer() {
            let by = text::shortened(&self.aggregator_name(), LONGEST_NAME);
            cards.push((merged.to_string(), format!("merged by {by}")));
        }
        if let Some(best) = study.best() {
            let score = study.goal().orient(best.value);
            let error = best.report.standard_error.map(|error| format!(" ± {}", number(error, 4)));
            let score = number(score, 4) + &error.unwrap_or_default();
            cards.push((format!("{} at {score}", best.trial.architecture), "best trial".into()));
        }
        if let Some((target, model, primitives)) = &self.result {
            cards.push((model.architecture.len().to_string(), "layers at full size".into()));
            if let Ok(costs) =
                comparison(&[(target.name.clone(), &target.baseline_model()), ("found".into(), model)], primitives)
                && let Some(smaller) = costs.rows.last().and_then(|row| costs.cache_reduction(row))
            {
                cards.push((format!("{smaller:.2}x"), "smaller cache than the baseline".into()));
            }
        }
        let (waiting, budget) = match self.live {
            Some(running) => (format!(", {pending} running or waiting"), format!(" of {}", running.budget)),
            None if pending > 0 => (format!(", {pending} pending"), String::new()),
            None => Default::default(),
        };
        let failed = study.trials().iter().filter(|trial| matches!(trial.state, TrialState::Failed(_))).count();
        let failed = if failed > 0 { format!(", {failed} failed") } else { String::new() };
        cards.push((format!("{done} of {}", study.space().size()), "evaluations, of all sequences".into()));
        let ended = study.trials().len() - pending;
        let text = format!("<p class=\"soft\">{ended}{budget} trials{failed}{waiting}.</p>");
        text + &shell::cards(&cards)
    }

    fn progress(&self) -> Result<String, PlotError> {
        let running = self.live.map_or_else(String::new, |running| running.table(self.study));
        Ok(shell::figure(&trials(self.study)?) + &running + &without_result(self.study))
    }

    /// The front, as figures and tables; empty with one objective.
    fn compromises(&self) -> Result<String, PlotError> {
        let figures = [front::front(self.study)?, front::hypervolume(self.study)?];
        let [front, volume] = figures.map(|figure| figure.as_ref().map(shell::figure).unwrap_or_default());
        Ok(front + &front::tables(self.study) + &volume)
    }

    /// The searcher's surrogate; `None` where it has none that is known here.
    fn searcher(&self) -> Option<GpBo> {
        self.setup.map_or_else(|| Some(GpBo::default()), |setup| used::surrogate(&setup.searcher))
    }

    /// Figures of the surrogate; none where there is none or too little to fit, or the fit fails.
    fn learnt(&self) -> Result<Vec<Figure>, PlotError> {
        let observations = self.study.observations().count();
        let Some(searcher) = self.searcher().filter(|_| observations >= FEWEST_FITTED) else { return Ok(Vec::new()) };
        let searcher = match observations > FEW {
            true => searcher.with_observations(LEARNT),
            false => Ok(searcher),
        };
        // What a journal tells has no costs of sequences that were not evaluated.
        let simple = self.study.simplified();
        let study = if self.study.goal().is_simple() { self.study } else { &simple };
        let seen = searcher.and_then(|searcher| searcher.inspect(study, &mut Seed(0).rng("report/inspect", 0)));
        let Ok(seen) = seen else { return Ok(Vec::new()) };
        let mut figures = vec![predictions(self.study, &seen)?, importance(&seen)?];
        if observations > FEW {
            let some =
                format!(". Learnt from {} of {observations} trials, the best and the latest", seen.predictions.len());
            figures.iter_mut().for_each(|figure| figure.caption += &some);
        }
        Ok(figures)
    }

    fn surrogate(&self) -> Result<String, PlotError> {
        if self.study.observations().next().is_none() {
            return Ok(String::new());
        }
        let figures: String = self.learnt()?.iter().map(shell::figure).collect();
        let which = match (self.setup, self.searcher()) {
            (None, _) => "The surrogate is that of the default searcher; the page was not told of another.".into(),
            (Some(setup), Some(_)) => format!("The surrogate is that of the search, {}.", setup.searcher),
            (Some(setup), None) => format!("The searcher, {}, has no surrogate that is known here.", setup.searcher),
        };
        let which = format!("<p class=\"soft\">{}</p>\n", escape(&text::shortened(&which, LONGEST_NOTE)));
        Ok(format!("{which}<div class=\"pair\">{figures}</div>\n{}", shell::figure(&layers(self.study)?)))
    }

    /// The result and the baselines at the target's size.
    fn full_size(&self) -> Vec<(String, ModelSpec)> {
        let Some((target, model, primitives)) = &self.result else { return Vec::new() };
        let blocks = target.baseline.len() / 2;
        let parameters =
            |symbol| primitives.get(symbol).map_or(0, |primitive| primitive.cost(&target.dims, 1).parameters);
        let stripe = (parameters(Symbol::ATTENTION) + 2 * parameters(Symbol::SWIGLU)).max(1);
        let stripes = (target.non_embedding_parameters as f64 / stripe as f64).round().clamp(1.0, 1000.0) as usize;
        let mut models = vec![
            (target.name.clone(), target.baseline_model()),
            ("found".into(), (*model).clone()),
            ("sandwich".into(), target.model(baseline::sandwich(blocks, blocks / 3))),
            ("striped 1:2".into(), target.model(baseline::striped(stripes, 2))),
        ];
        let mut mixers = self.study.space().symbols();
        mixers.retain(|&symbol| primitives.get(symbol).is_ok_and(|layer| layer.role() == Role::Sequence));
        let akin = |layers: &Architecture| {
            layers.layers().iter().any(|symbol| *symbol != Symbol::ATTENTION && mixers.contains(symbol))
        };
        let hybrids = published_hybrids().into_iter().filter(|(_, layers)| akin(layers));
        models.extend(hybrids.filter_map(|(name, layers)| {
            let grown = Cycle.extrapolate(&layers, target, primitives).ok()?;
            Some((format!("like {name}"), grown))
        }));
        models
    }

    fn sized(&self) -> Result<Option<Figure>, PlotError> {
        let Some((_, _, primitives)) = &self.result else { return Ok(None) };
        let rows = self.full_size();
        let rows: Vec<_> = rows.iter().map(|(name, spec)| (name.clone(), spec)).collect();
        models(&rows, primitives).map(Some)
    }

    fn at_full_size(&self) -> Result<String, PlotError> {
        let (Some(figure), Some((_, _, primitives))) = (self.sized()?, &self.result) else {
            let why = self.unsized_because.as_ref();
            return Ok(why.map_or_else(String::new, |why| format!("<p>Not drawn: {}.</p>\n", escape(why))));
        };
        let rows = self.full_size();
        let rows: Vec<_> = rows.iter().map(|(name, spec)| (name.clone(), spec)).collect();
        let costs = match comparison(&rows, primitives) {
            Ok(costs) => costs_table(&costs),
            Err(error) => format!("<p>No costs: {}.</p>\n", escape(&text::causes(&error))),
        };
        let latency = self.latency.map_or_else(String::new, |latency| latency.section(&rows));
        let notice =
            self.result.as_ref().and_then(|(target, model, primitives)| size_notice(model, target, primitives));
        let notice = notice.map(|words| format!("<p><b>Of the model found, {}.</b></p>\n", escape(&words)));
        Ok(notice.unwrap_or_default() + &shell::figure(&figure) + &costs + &latency)
    }
}

/// A comparison as a table that stays in its order, and what its numbers stand for.
fn costs_table(costs: &Comparison) -> String {
    let mut lines = costs.lines().into_iter().map(|cells| {
        let cells = cells.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect::<String>();
        format!("<tr>{}</tr>\n", cells.replacen("<td>", "<td class=\"text\">", 1))
    });
    let heads = lines.next().unwrap_or_default().replace("<td", "<th scope=\"col\"").replace("</td>", "</th>");
    let notes: String = costs.notes().iter().map(|note| format!("<p class=\"soft\">{}</p>\n", escape(note))).collect();
    format!(
        "<div class=\"scroll\" id=\"costs\"><table><thead>{heads}</thead>\n<tbody>{}</tbody></table></div>\n{notes}",
        lines.collect::<String>()
    )
}

/// Costs at 4096 tokens with a cache of 16-bit numbers.
fn comparison(models: &[(String, &ModelSpec)], primitives: &Primitives) -> Result<Comparison, crate::cost::CostError> {
    Comparison::new(models.iter().map(|(name, spec)| (name.clone(), *spec)), primitives, Workload::bf16(4096))
}

#[cfg(test)]
mod tests {
    use super::{super::testing::study, *};

    #[test]
    fn a_page_has_all_that_it_was_told_and_nothing_from_elsewhere() {
        let study = study(&[Some(0.2), None, Some(0.9), Some(0.5), Some(0.4)]);
        let target = Target::llama_1b();
        let primitives = Primitives::standard();
        let model = target.model("2A+4M".parse().unwrap());
        let page = Page::new(&study).target(&target, &model, &primitives).command("cargo run <x>").title("A & B");
        let html = page.html().unwrap();
        for part in [
            "<title>A &amp; B</title>",
            "id=\"trials\"",
            "id=\"leaders\"",
            "id=\"predictions\"",
            "id=\"importance\"",
            "id=\"layers\"",
            "id=\"clusters\"",
            "id=\"votes\"",
            "id=\"models\"",
            "cargo run &lt;x&gt;",
            "N_full",
            "id=\"unfinished\"",
            "failed: &lt;no&gt;",
        ] {
            assert!(html.contains(part), "{part}");
        }
        for outside in ["src=", "@import", "url(", "<link"] {
            assert!(!html.contains(outside), "{outside}");
        }
        assert!(!html.replace("http://www.w3.org/2000/svg", "").contains("http"));
        assert_eq!(page.figures().unwrap().len(), 8);
    }

    #[test]
    fn a_search_that_has_just_begun_has_a_page() {
        for scores in [&[][..], &[None], &[Some(0.5)]] {
            let html = Page::new(&study(scores)).html().unwrap();
            assert!(html.contains("id=\"trials\"") && !html.contains("id=\"models\""));
        }
    }

    #[test]
    fn pages_and_figures_are_files() {
        let folder = tempfile::tempdir().unwrap();
        let study = study(&[Some(0.2), Some(0.9)]);
        let page = Page::new(&study);
        page.write(folder.path().join("report.html")).unwrap();
        page.write_figures(folder.path()).unwrap();
        for file in ["report.html", "trials.svg", "trials.csv", "votes.csv", "layers.svg"] {
            assert!(folder.path().join(file).metadata().unwrap().len() > 20, "{file}");
        }
        let error = page.write(folder.path().join("none/report.html")).unwrap_err();
        assert!(error.to_string().contains("report.html"));
    }
}
