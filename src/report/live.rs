//! A page that is written while the search runs.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use super::Page;
use crate::{
    pipeline::Observer,
    study::{Event, Study},
};

/// Writes the [`Page`] of a search to a file whenever a trial has ended, but not more often than once in a while, and at the
/// end: open it in a browser and reload.
///
/// A page that cannot be written is left out; the search goes on.
#[derive(Debug)]
pub struct LivePage {
    path: PathBuf,
    title: String,
    pause: Duration,
    written: Option<Instant>,
}

impl LivePage {
    /// Writes to `path`, at most every ten seconds.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let title = "An architecture search".into();
        Self { path: path.into(), title, pause: Duration::from_secs(10), written: None }
    }

    /// Waits at least so long between two pages.
    #[must_use]
    pub fn pause(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// Under another title.
    #[must_use]
    pub fn title(self, title: impl Into<String>) -> Self {
        Self { title: title.into(), ..self }
    }

    fn write(&mut self, study: &Study) {
        // What shows a search must not end it.
        let _ = Page::new(study).title(self.title.as_str()).write(&self.path);
        self.written = Some(Instant::now());
    }
}

impl Observer for LivePage {
    fn started(&mut self, study: &Study, _budget: usize) {
        self.write(study);
    }

    fn event(&mut self, event: &Event, study: &Study) {
        let ended = matches!(event, Event::Completed { .. } | Event::Failed { .. } | Event::Invalidated { .. });
        if ended && self.written.is_none_or(|at| at.elapsed() >= self.pause) {
            self.write(study);
        }
    }

    fn finished(&mut self, study: &Study) {
        self.write(study);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::study, *};
    use crate::study::TrialId;

    #[test]
    fn the_page_follows_the_search() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("live.html");
        let (early, late) = (study(&[]), study(&[Some(0.5), Some(0.75)]));
        let ended = Event::Invalidated { id: TrialId(0), reason: String::new() };
        let mut live = LivePage::new(&path).title("Now").pause(Duration::from_secs(3600));
        let read = || std::fs::read_to_string(&path).unwrap();
        live.started(&early, 4);
        assert!(read().contains("<h1>Now</h1>") && !read().contains("0.7500"));
        live.event(&ended, &late);
        assert!(!read().contains("0.7500"), "too early");
        live.pause = Duration::ZERO;
        live.event(&ended, &late);
        assert!(read().contains("0.7500"));
        live.finished(&early);
        assert!(!read().contains("0.7500"));
        LivePage::new(folder.path().join("no/such/folder.html")).finished(&late);
    }
}
