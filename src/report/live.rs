//! A page that is written while the search runs.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{Page, running::Running};
use crate::{
    evaluate::Progress,
    journal::Setup,
    pipeline::Observer,
    study::{Event, Study, TrialId},
};

/// Writes the [`Page`] of a search to a file while it runs, at limited intervals, and at the end. While the search
/// runs, a browser reloads the page automatically.
///
/// If a page cannot be written, the search continues.
#[derive(Debug)]
pub struct LivePage {
    path: PathBuf,
    title: String,
    command: Option<String>,
    setup: Option<Setup>,
    pause: Duration,
    next: Option<Instant>,
    running: Running,
    /// The study as of the last event.
    study: Option<Study>,
}

impl LivePage {
    /// Creates an observer that writes to `path`, at most every ten seconds.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            title: "An architecture search".into(),
            command: None,
            setup: None,
            pause: Duration::from_secs(10),
            next: None,
            running: Running { budget: 0, reload: 10, progress: BTreeMap::new() },
            study: None,
        }
    }

    /// Sets the minimum time between two pages. It is at least twenty times the time that a page takes to be made.
    #[must_use]
    pub fn pause(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// Sets the title.
    #[must_use]
    pub fn title(self, title: impl Into<String>) -> Self {
        Self { title: title.into(), ..self }
    }

    /// Sets the command that runs the search again.
    #[must_use]
    pub fn command(self, command: impl Into<String>) -> Self {
        Self { command: Some(command.into()), ..self }
    }

    /// Writes the page; `live` says whether the search is still running.
    fn write(&mut self, study: &Study, live: bool) {
        let start = Instant::now();
        let mut page = Page::new(study).title(self.title.as_str());
        if let Some(setup) = &self.setup {
            page = page.setup(setup);
        }
        if let Some(command) = &self.command {
            page = page.command(command.as_str());
        }
        if live {
            self.running.reload = self.pause.as_secs().max(1);
            page = page.live(&self.running);
        }
        // An observer must not end the search.
        let _ = page.write(&self.path);
        self.next = Some(Instant::now() + self.pause.max(20 * start.elapsed()));
    }

    fn write_when_due(&mut self) {
        if self.next.is_none_or(|next| Instant::now() >= next)
            && let Some(study) = self.study.take()
        {
            self.write(&study, true);
            self.study = Some(study);
        }
    }
}

impl Observer for LivePage {
    fn started(&mut self, setup: &Setup, study: &Study, budget: usize) {
        self.running.budget = budget;
        self.setup = Some(setup.clone());
        self.write(study, true);
    }

    fn event(&mut self, event: &Event, study: &Study) {
        if !matches!(event, Event::Proposed { .. }) {
            self.running.progress.remove(&event.id());
        }
        self.study = Some(study.clone());
        self.write_when_due();
    }

    fn progress(&mut self, id: TrialId, progress: &Progress) {
        self.running.progress.insert(id, progress.clone());
        self.write_when_due();
    }

    fn finished(&mut self, study: &Study) {
        self.write(study, false);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::study, *};
    use crate::{seed::Seed, study::Origin};

    #[test]
    fn the_page_follows_the_search() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("live.html");
        let early = study(&[]);
        let mut late = study(&[Some(0.5), Some(0.75)]);
        let mut live = LivePage::new(&path).title("Now").command("go on").pause(Duration::from_secs(3600));
        let read = || std::fs::read_to_string(&path).unwrap();
        live.started(&Setup::of(&early), &early, 4);
        assert!(read().contains("<h1>Now</h1>") && read().contains("0 of 4 trials") && read().contains("go on"));
        assert!(read().contains("http-equiv=\"refresh\" content=\"3600\""));

        let id = late.next_id();
        let architecture = late.space().nth(9).unwrap();
        let event = Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Searcher };
        late.apply(event.clone()).unwrap();
        live.event(&event, &late);
        assert!(!read().contains("0.7500"), "too early");
        live.next = None;
        let progress = Progress { stage: "a <task>".into(), step: 3, steps: 8, value: None };
        live.progress(id, &progress);
        let html = read();
        assert!(html.contains("0.7500") && html.contains("a &lt;task&gt;") && html.contains("3 of 8"));

        live.finished(&late);
        assert!(!read().contains("refresh") && read().contains("1 pending"));
        LivePage::new(folder.path().join("no/such/folder.html")).finished(&late);
    }

    #[test]
    fn the_page_says_what_is_searched() {
        let folder = tempfile::tempdir().unwrap();
        let page = folder.path().join("live.html");
        let mut live = LivePage::new(&page);
        let study = study(&[]);
        live.started(&Setup::of(&study), &study, 1);
        let html = std::fs::read_to_string(page).unwrap();
        assert!(html.contains("<dt>seed</dt><dd>77</dd>"), "{html}");
    }
}
