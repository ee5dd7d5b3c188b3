//! The page of a search.

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
    front, hypervolume, importance, layers, predictions,
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

/// A page about one search, finished or running: one HTML file without external resources.
///
/// It shows the trials, the best sequences, what the surrogate of the searcher has learnt, how the trials were
/// aggregated, and the result at full size beside Llama, other baselines, and published hybrids that share a kind of
/// mixer with the space. It also shows how to run the search again. Sections without data are left out. The searcher
/// and the aggregator are those of the [setup](Self::setup); without one, they are the defaults.
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
    /// Why there is no result at full size, if the search has a result.
    pub(super) unsized_because: Option<String>,
    pub(super) aggregated: Option<&'a Architecture>,
    command: Option<String>,
    pub(super) latency: Option<&'a Latency>,
    pub(super) live: Option<&'a Running>,
    title: String,
}

/// The error of a page that cannot be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PageError {
    /// A figure cannot be drawn.
    #[error(transparent)]
    Plot(#[from] PlotError),
    /// The file cannot be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// The path of the page.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
}

/// With fewer observations, no surrogate is fitted.
const FEWEST_FITTED: usize = 4;
/// The maximum number of observations to which the surrogate of a page is fitted, to limit the time per page.
const LEARNT: usize = 256;
/// The maximum length of a sentence above a figure, in characters.
const LONGEST_NOTE: usize = 300;

impl<'a> Page<'a> {
    /// Creates a page about these trials.
    pub fn new(study: &'a Study) -> Self {
        let title = "An architecture search".into();
        Self {
            study,
            setup: None,
            result: None,
            unsized_because: None,
            aggregated: None,
            command: None,
            latency: None,
            live: None,
            title,
        }
    }

    /// Creates a page about the folder of a run, with its result if there is one. The result is shown at full size if
    /// `primitives` contains its layers.
    pub fn of(run: &'a RunFolder, primitives: &'a Primitives) -> Self {
        let page = Self {
            aggregated: run.summary.as_ref().map(|summary| &summary.architecture),
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

    /// Sets the setup of the search, as the journal has it.
    #[must_use]
    pub fn setup(self, setup: &'a Setup) -> Self {
        Self { setup: Some(setup), ..self }
    }

    /// Sets the architecture that the aggregator returned. Without it, the page uses the aggregator of the setup if it
    /// is one of this crate, and N_0 clustering with five clusters if there is no setup.
    #[must_use]
    pub fn aggregated(self, aggregated: &'a Architecture) -> Self {
        Self { aggregated: Some(aggregated), ..self }
    }

    /// Sets the result at full size.
    #[must_use]
    pub fn target(self, target: &'a Target, model: &'a ModelSpec, primitives: &'a Primitives) -> Self {
        Self { result: Some((Cow::Borrowed(target), model, primitives)), ..self }
    }

    /// Sets the command that runs the search again.
    #[must_use]
    pub fn command(self, command: impl Into<String>) -> Self {
        Self { command: Some(command.into()), ..self }
    }

    /// Sets the times of layers on a device. They are left out if they were measured at other widths than those of the
    /// result.
    #[must_use]
    pub fn latency(self, latency: &'a Latency) -> Self {
        Self { latency: Some(latency), ..self }
    }

    /// Sets the title.
    #[must_use]
    pub fn title(self, title: impl Into<String>) -> Self {
        Self { title: title.into(), ..self }
    }

    /// Marks the page as that of a running search.
    pub(super) fn live(self, running: &'a Running) -> Self {
        Self { live: Some(running), ..self }
    }

    /// Writes the page to `path`, replacing an older one atomically.
    ///
    /// # Errors
    /// [`PageError`] if a figure cannot be drawn or the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), PageError> {
        let path = path.as_ref();
        durable::write_in(path, self.html()?.as_bytes())
            .map_err(|source| PageError::Write { path: path.into(), source })
    }

    /// Writes every figure of the page as SVG, and its numbers as CSV, into an existing folder.
    ///
    /// # Errors
    /// [`PageError`] if a figure cannot be drawn or a file cannot be written.
    pub fn write_figures(&self, folder: impl AsRef<Path>) -> Result<(), PageError> {
        let folder = folder.as_ref();
        let write = |figure: Figure| {
            figure.write(folder).map_err(|source| PageError::Write { path: folder.join(figure.name), source })
        };
        self.figures()?.into_iter().try_for_each(write)
    }

    /// Returns the figures of the page, in order.
    ///
    /// # Errors
    /// [`PlotError`] if the drawing library returns an error.
    pub fn figures(&self) -> Result<Vec<Figure>, PlotError> {
        let mut figures = vec![trials(self.study, self.answer().as_ref())?, candidates::candidates(self.study, SHOWN)?];
        figures.extend(curves(self.study)?);
        figures.extend(front::front(&self.several())?);
        figures.extend(hypervolume::hypervolume(self.study)?);
        figures.extend(self.learnt()?.into_iter().map(|(figure, _)| figure));
        figures.push(layers(self.study)?);
        figures.extend(self.voted()?);
        figures.extend(self.sized()?);
        Ok(figures)
    }

    /// Returns the page as HTML.
    ///
    /// # Errors
    /// [`PlotError`] if the drawing library returns an error.
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
            // While the search runs, its progress comes first.
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

    /// Returns the front as figures and tables, or an empty text for one objective.
    fn compromises(&self) -> Result<String, PlotError> {
        let several = self.several();
        let Some((front, narrow)) = front::fronts(&several)? else { return Ok(String::new()) };
        let standing = several.standing().map(|words| format!("<p>{}</p>\n", escape(&words)));
        let volume = hypervolume::hypervolumes(self.study)?.map(|(figure, narrow)| shell::adaptive(&figure, &narrow));
        let figure = shell::adaptive(&front, &narrow);
        Ok(standing.unwrap_or_default() + &figure + &front::tables(&several) + &volume.unwrap_or_default())
    }

    fn several(&self) -> front::Shown<'a> {
        let costs = self.setup.and_then(|setup| setup.costs.as_deref());
        front::Shown { study: self.study, result: self.answer(), target: costs.is_some_and(is_target_costs) }
    }

    /// Returns the searcher with its surrogate, or `None` if it has none or is not one of this crate.
    fn searcher(&self) -> Option<GpBo> {
        self.setup.map_or_else(|| Some(GpBo::default()), |setup| used::surrogate(&setup.searcher))
    }

    /// Returns the figures of the surrogate, each with its picture for a phone. Empty if there is no surrogate, too few
    /// observations, or the fit fails.
    fn learnt(&self) -> Result<Vec<(Figure, String)>, PlotError> {
        let observations = self.study.observations().count();
        let Some(searcher) = self.searcher().filter(|_| observations >= FEWEST_FITTED) else { return Ok(Vec::new()) };
        let searcher = match observations > FEW {
            true => searcher.with_observations(LEARNT),
            false => Ok(searcher),
        };
        // A study from a journal has no costs of sequences that were not evaluated.
        let simple = self.study.simplified();
        let study = if self.study.goal().is_simple() { self.study } else { &simple };
        let seen = searcher.and_then(|searcher| searcher.inspect(study, &mut Seed(0).rng("report/inspect", 0)));
        let Ok(seen) = seen else { return Ok(Vec::new()) };
        let mut figures = vec![predictions(self.study, &seen)?, importance(&seen)?];
        if observations > FEW {
            let some =
                format!(". Fitted to {} of {observations} trials, the best and the latest", seen.predictions.len());
            figures.iter_mut().for_each(|(figure, _)| figure.caption += &some);
        }
        Ok(figures)
    }

    fn surrogate(&self) -> Result<String, PlotError> {
        if self.study.observations().next().is_none() {
            return Ok(String::new());
        }
        let figures = self.learnt()?;
        let figures: String = figures.iter().map(|(figure, narrow)| shell::adaptive(figure, narrow)).collect();
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
