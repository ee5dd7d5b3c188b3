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
    curves::{self, curves},
    figure::{Figure, PlotError},
    front, importance, layers, predictions,
    running::Running,
    shell::{self, SHOWN},
    trials, used,
};
use crate::{
    durable,
    extrapolate::{Target, is_target_costs},
    journal::Setup,
    model::ModelSpec,
    pipeline::RunFolder,
    primitive::Primitives,
    search::GpBo,
    seed::Seed,
    space::Architecture,
    study::Study,
    text::{self, html as escape},
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
    pub(super) result: Option<(Cow<'a, Target>, &'a ModelSpec, &'a Primitives)>,
    /// Why there is no result at full size although the search has one.
    pub(super) unsized_because: Option<String>,
    pub(super) merged: Option<&'a Architecture>,
    command: Option<String>,
    pub(super) latency: Option<&'a Latency>,
    pub(super) live: Option<&'a Running>,
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
        let mut figures = vec![trials(self.study, self.answer().as_ref())?, candidates::candidates(self.study, SHOWN)?];
        figures.extend(curves(self.study)?);
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
        let mut sections = [
            ("why", "Why this result", self.why()?),
            ("compromises", "Trade-offs", self.compromises()?),
            ("result", "The result at full size", self.at_full_size()?),
            ("progress", "Progress of the search", self.progress()?),
            ("best", "The best architectures", candidates::table(self.study)),
            ("learnt", "What the search learned", self.surrogate()?),
            ("again", "How to repeat it", again(self.study, self.setup, target, self.command.as_deref())),
        ];
        if self.live.is_some() {
            // Whoever watches a search wants to see that first.
            let at = sections.iter().position(|(id, ..)| *id == "progress").unwrap_or(0);
            sections[..=at].rotate_right(1);
        }
        let present = || sections.iter().filter(|(_, _, text)| !text.is_empty());
        let links: String = present().map(|(id, title, _)| format!("<a href=\"#section-{id}\">{title}</a>")).collect();
        let texts: String =
            present().map(|(id, title, text)| format!("<h2 id=\"section-{id}\">{title}</h2>\n{text}")).collect();
        let head = format!("<h1>{}</h1>\n{}<nav>{links}</nav>\n", escape(&self.title), self.head());
        Ok(shell::page(&self.title, &(head + &texts), self.live.map(|running| running.reload)))
    }

    fn progress(&self) -> Result<String, PlotError> {
        let running = self.live.map_or_else(String::new, |running| running.table(self.study));
        let answer = self.answer();
        let narrow = super::trials::narrow(self.study, answer.as_ref())?;
        let trials = shell::adaptive(&trials(self.study, answer.as_ref())?, &narrow);
        let curves = match (curves(self.study)?, curves::narrow(self.study)?) {
            (Some(figure), Some(narrow)) => shell::adaptive(&figure, &narrow),
            _ => String::new(),
        };
        Ok(trials + &running + &curves + &without_result(self.study))
    }

    /// The front, as figures and tables; empty with one objective.
    fn compromises(&self) -> Result<String, PlotError> {
        let study = self.study;
        let (Some(front), Some(narrow)) = (front::front(study)?, front::narrow_front(study)?) else {
            return Ok(String::new());
        };
        let costs = self.setup.and_then(|setup| setup.costs.as_deref());
        let tables = front::tables(study, costs.is_some_and(is_target_costs));
        let volume = front::hypervolumes(study)?.map(|(figure, narrow)| shell::adaptive(&figure, &narrow));
        Ok(shell::adaptive(&front, &narrow) + &tables + &volume.unwrap_or_default())
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
                format!(". Fitted to {} of {observations} trials, the best and the latest", seen.predictions.len());
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
            (None, _) => {
                "The searcher is not known to this page: the model shown is that of the default searcher.".into()
            }
            (Some(setup), Some(_)) => {
                let searcher = used::words(&setup.searcher).unwrap_or(&setup.searcher);
                format!("The searcher models the score as a function of the layers. Searcher: {searcher}.")
            }
            (Some(setup), None) => {
                format!("The searcher, {}, has no model of the score that is known here.", setup.searcher)
            }
        };
        let which = format!("<p class=\"soft\">{}</p>\n", escape(&text::shortened(&which, LONGEST_NOTE)));
        let layers = shell::adaptive(&layers(self.study)?, &super::layers::narrow(self.study)?);
        Ok(format!("{which}<div class=\"pair\">{figures}</div>\n{layers}"))
    }
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
