//! From trials to one architecture, as a page shows it.

use super::{
    Page, clusters,
    figure::{Figure, PlotError},
    shell::{self, Cell, SHOWN},
    used::Known,
    votes,
};
use crate::{
    aggregate::Clustering,
    pipeline::{few_voters, verdict},
    space::Architecture,
    study::Study,
    text::{html as escape, number},
};

impl Page<'_> {
    /// The fingerprint of the search's aggregator, where it is known.
    fn aggregator(&self) -> Option<&str> {
        self.setup.and_then(|setup| setup.aggregator.as_deref())
    }

    /// The search's aggregator, or the default where nothing is known of it; `None` for one that is not ours.
    fn known_aggregator(&self) -> Option<Known> {
        self.aggregator().map_or(Some(Known::DEFAULT), Known::named)
    }

    /// What the search's aggregator is called.
    pub(super) fn aggregator_name(&self) -> String {
        match (self.aggregator(), self.known_aggregator()) {
            (None, _) if self.merged.is_some() => "the aggregator of the search".into(),
            (_, Some(known)) => known.name(),
            (fingerprint, None) => fingerprint.unwrap_or_default().into(),
        }
    }

    /// The merged architecture, as told or as the search's aggregator says.
    pub(super) fn answer(&self) -> Option<Architecture> {
        self.merged.cloned().or_else(|| self.known_aggregator()?.aggregate(&self.voting()).ok())
    }

    /// The trials that an aggregator is asked about.
    fn voting(&self) -> Study {
        self.study.searched().within_bounds()
    }

    /// The votes that led to the merged architecture; `None` where it came about otherwise.
    fn explained(&self) -> Option<Clustering> {
        let clustering = self.known_aggregator()?.explain(&self.voting())?;
        (self.answer().as_ref() == Some(&clustering.architecture)).then_some(clustering)
    }

    /// Figures of the aggregation; none where no votes led to the merged architecture.
    pub(super) fn voted(&self) -> Result<Vec<Figure>, PlotError> {
        match self.explained() {
            Some(clustering) => Ok(vec![clusters(self.study, &clustering)?, votes(&clustering)?]),
            None => Ok(Vec::new()),
        }
    }

    pub(super) fn aggregation(&self) -> Result<String, PlotError> {
        let used = self.aggregator_name();
        let mut answers: Vec<_> =
            self.answer().map(|merged| (format!("{used} (this search)"), merged)).into_iter().collect();
        for other in Known::COMPARED.into_iter().filter(|other| other.name() != used) {
            answers.extend(other.aggregate(&self.voting()).ok().map(|merged| (other.name(), merged)));
        }
        let pooled = self.study.pooled();
        let row = |(name, merged): &(String, Architecture)| {
            let seen = pooled.observations().find(|seen| seen.trial.architecture == *merged);
            let score = seen.map_or(Cell::text("not evaluated"), |seen| {
                let score = self.study.goal().orient(seen.value);
                let error = seen.report.standard_error.map(|error| format!(" ± {}", number(error, 4)));
                Cell::number(score, number(score, 4) + &error.unwrap_or_default())
            });
            vec![Cell::text(name), Cell::strip(merged), Cell::text(&merged.to_string()), score]
        };
        let rows: Vec<_> = answers.iter().map(row).collect();
        if rows.is_empty() {
            return Ok(String::new());
        }
        let figures: String = self.voted()?.iter().map(shell::figure).collect();
        let heads = ["aggregator", "layers", "architecture", &self.study.goal().score];
        let few = self.explained().and_then(|found| few_voters(found.clusters.get(found.chosen)?.trials.len()));
        let words = self.answer().and_then(|merged| verdict(self.study, &merged)).into_iter().chain(few);
        let words: String = words.map(|words| format!("<p>{}.</p>\n", escape(&sentence(&words)))).collect();
        Ok(format!("{words}{figures}{}", shell::table("aggregators", &heads, &rows, SHOWN)))
    }
}

/// With a capital letter.
fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{super::testing::study, *};
    use crate::{
        aggregate::{Aggregator, Best, NcClustering},
        journal::Setup,
        search::{GpBo, Searcher},
    };

    /// The best trial is AAAM, and N_0 merges to AAMM.
    fn disagreeing() -> crate::study::Study {
        study(&[0.2, 0.9, 0.89, 0.89, 0.1, 0.15, 0.3, 0.4].map(Some))
    }

    #[test]
    fn the_page_has_one_answer_that_of_the_aggregator_used() {
        let study = disagreeing();
        let mine: Architecture = "MMMM".parse().unwrap();
        let n0 = NcClustering::n0().aggregate(&study).unwrap();
        let best = Best.aggregate(&study).unwrap();
        assert_ne!(n0, best);
        let setup = |aggregator: &str| Setup { aggregator: Some(aggregator.into()), ..Setup::of(&study) };
        let card = |architecture: &Architecture, by: &str| {
            let architecture = architecture.to_string().replace('+', "+<wbr>");
            format!("<b>{architecture}</b><span>merged by {by}</span>")
        };

        // One that is not ours: its answer where it is told, none where not, and never the votes of another.
        let custom = setup("by <gut> feeling");
        let html = Page::new(&study).setup(&custom).merged(&mine).html().unwrap();
        assert!(html.contains(&card(&mine, "by &lt;gut&gt; feeling")), "{html}");
        assert!(html.contains("by &lt;gut&gt; feeling (this search)") && html.contains("N_0, 5 clusters"));
        assert!(!html.contains("id=\"votes\"") && !html.contains("id=\"clusters\""));
        let html = Page::new(&study).setup(&custom).html().unwrap();
        assert!(!html.contains("merged by") && !html.contains("(this search)") && !html.contains("id=\"votes\""));

        // Ours are asked, and their votes shown.
        let fingerprint = setup(&NcClustering::n0().fingerprint());
        let html = Page::new(&study).setup(&fingerprint).html().unwrap();
        assert!(html.contains(&card(&n0, "N_0, 5 clusters")) && html.contains("id=\"votes\""));
        assert_eq!(html.matches("N_0, 5 clusters").count(), 2);
        let fingerprint = setup(&Best.fingerprint());
        let html = Page::new(&study).setup(&fingerprint).html().unwrap();
        assert!(html.contains(&card(&best, "best trial")) && !html.contains("id=\"votes\""));
    }

    #[test]
    fn the_surrogate_is_the_searchers_or_none() {
        let study = disagreeing();
        let page = |searcher: &str| {
            let setup = Setup { searcher: searcher.into(), ..Setup::of(&study) };
            Page::new(&study).setup(&setup).html().unwrap()
        };
        let random = page("random");
        assert!(random.contains("The searcher, random, has no surrogate") && !random.contains("id=\"predictions\""));
        let composer = page(&GpBo::composer().fingerprint());
        assert!(composer.contains("that of the search, gp_bo_composer(") && composer.contains("id=\"predictions\""));
        let default = page(&GpBo::default().fingerprint());
        let figure =
            |html: &str| html.split("id=\"predictions\"").nth(1).unwrap().split("</figure>").next().unwrap().to_owned();
        assert_ne!(figure(&composer), figure(&default));
        assert_eq!(figure(&default), figure(&Page::new(&study).html().unwrap()));
    }

    #[test]
    fn what_decides_the_search_is_on_the_page() {
        let study = disagreeing();
        let facts = |setup: &Setup| Page::new(&study).setup(setup).html().unwrap();
        let setup = Setup { extrapolator: Some("stretch".into()), ..Setup::of(&study) };
        let html = facts(&setup);
        for fact in ["<dt>workers</dt><dd>2</dd>", "<dt>extrapolator</dt><dd>stretch</dd>", "<dt>trials</dt><dd>8</dd>"]
        {
            assert!(html.contains(fact), "{fact}: {html}");
        }
        assert!(facts(&Setup { eager: true, ..setup.clone() }).contains("<dd>2, each outcome used at once"));
        assert!(facts(&Setup { workers: None, ..setup }).contains("<dt>workers</dt><dd>not recorded</dd>"));
    }
}
