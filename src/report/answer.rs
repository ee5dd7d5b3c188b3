//! The aggregated architecture, as a page shows it.

use super::{
    Page,
    figure::{Figure, PlotError},
    gap::Gap,
    shell::{self, Cell, SHOWN},
    used::Known,
    votes::{self, clusters, votes},
};
use crate::{aggregate::Clustering, space::Architecture, study::Study, text::number};

impl Page<'_> {
    /// Returns the fingerprint of the search's aggregator, if it is known.
    fn aggregator(&self) -> Option<&str> {
        self.setup.and_then(|setup| setup.aggregator.as_deref())
    }

    /// Returns the search's aggregator, or the default if it is not known. `None` if it is not one of this crate.
    pub(super) fn known_aggregator(&self) -> Option<Known> {
        self.aggregator().map_or(Some(Known::DEFAULT), Known::named)
    }

    /// Returns the name of the search's aggregator.
    pub(super) fn aggregator_name(&self) -> String {
        match (self.aggregator(), self.known_aggregator()) {
            (None, _) if self.aggregated.is_some() => "the aggregator of the search".into(),
            (_, Some(known)) => known.name(),
            (fingerprint, None) => fingerprint.unwrap_or_default().into(),
        }
    }

    /// Returns the aggregated architecture: the one given, or the result of the search's aggregator.
    pub(super) fn answer(&self) -> Option<Architecture> {
        self.aggregated.cloned().or_else(|| self.known_aggregator()?.aggregate(&self.voting()).ok())
    }

    /// Returns the trials that are aggregated.
    pub(super) fn voting(&self) -> Study {
        self.study.searched().within_bounds()
    }

    /// Returns the clusters and votes that led to the aggregated architecture, or `None` if there was no vote.
    pub(super) fn explained(&self) -> Option<Clustering> {
        let clustering = self.known_aggregator()?.explain(&self.voting())?;
        (self.answer().as_ref() == Some(&clustering.architecture)).then_some(clustering)
    }

    /// Returns the figures of the aggregation. Empty if there was no vote.
    pub(super) fn voted(&self) -> Result<Vec<Figure>, PlotError> {
        match self.explained() {
            Some(clustering) => Ok(vec![clusters(self.study, &clustering)?, votes(&clustering)?]),
            None => Ok(Vec::new()),
        }
    }

    /// Returns whether votes depend on the preceding layers.
    pub(super) fn conditioned(&self) -> bool {
        self.known_aggregator().is_some_and(Known::conditioned)
    }

    /// Returns the explanation of the result: sentences, clusters and votes, and the results of other aggregators.
    pub(super) fn why(&self) -> Result<String, PlotError> {
        Ok(self.reasons() + &self.vote_figures()? + &self.aggregators())
    }

    fn vote_figures(&self) -> Result<String, PlotError> {
        let Some(found) = self.explained() else { return Ok(String::new()) };
        let clusters = shell::adaptive(&clusters(self.study, &found)?, &votes::narrow_clusters(self.study, &found)?);
        let votes = shell::adaptive(&votes(&found)?, &votes::narrow_votes(&found)?);
        let class = if votes::beside_each_other(&found) { "pair" } else { "stack" };
        Ok(format!("<div class=\"{class}\">{clusters}{votes}</div>\n"))
    }

    /// Returns the table of the results of this and other aggregators.
    fn aggregators(&self) -> String {
        let used = self.aggregator_name();
        let mut answers: Vec<_> =
            self.answer().map(|aggregated| (format!("{used} (this search)"), aggregated)).into_iter().collect();
        for other in Known::COMPARED.into_iter().filter(|other| other.name() != used) {
            answers.extend(other.aggregate(&self.voting()).ok().map(|aggregated| (other.name(), aggregated)));
        }
        if answers.is_empty() {
            return String::new();
        }
        let pooled = self.study.pooled();
        let goal = self.study.goal();
        let best = pooled.best();
        let row = |(name, aggregated): &(String, Architecture)| {
            let seen = pooled.observations().find(|seen| seen.trial.architecture == *aggregated);
            let score = seen.map_or(Cell::text("not evaluated"), |seen| {
                let score = goal.orient(seen.value);
                let error = seen.report.standard_error.map(|error| format!(" ± {}", number(error, 4)));
                Cell::number(score, number(score, 4) + &error.unwrap_or_default())
            });
            let gap = seen.zip(best).filter(|(_, best)| best.trial.architecture != *aggregated);
            let gap = gap.map(|(seen, best)| Gap::new(&seen, &best, goal));
            let none = || if seen.is_some() { Cell::number(0.0, "none".into()) } else { Cell::blank() };
            let gap = gap.map_or_else(none, |gap| Cell::number(gap.score, gap.text()));
            vec![Cell::text(name), Cell::layers(aggregated), score, gap]
        };
        let rows: Vec<_> = answers.iter().map(row).collect();
        let heads = ["aggregated by", "architecture", &goal.score, "difference to the best"];
        let table = shell::table("aggregators", &heads, &rows, SHOWN);
        format!(
            "<h3>Other ways to aggregate the same trials</h3>\n<p class=\"soft\">N_c is the vote of the best cluster in which \
             each layer is decided given the c layers before it; N_full, given all of them.</p>\n{table}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::study, *};
    use crate::{
        aggregate::{Aggregator, Best, NcClustering},
        journal::Setup,
        search::{GpBo, Searcher},
    };

    /// The best trial is AAAM, and N_0 gives AAMM.
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
        // Letters, score, aggregator.
        let card = |html: &str, architecture: &Architecture, by: &str| {
            let architecture = architecture.to_string().replace('+', "+<wbr>");
            let card = html.split("<span>result</span>").nth(1).unwrap().split("</div>").next().unwrap();
            card.starts_with(&format!("<b>{architecture} <span"))
                && card.contains(&format!("; aggregated by {by}</span>"))
        };

        // One that is not ours: its answer where it is told, none where not, and never the votes of another.
        let custom = setup("by <gut> feeling");
        let html = Page::new(&study).setup(&custom).aggregated(&mine).html().unwrap();
        assert!(card(&html, &mine, "by &lt;gut&gt; feeling"), "{html}");
        assert!(html.contains("by &lt;gut&gt; feeling (this search)") && html.contains("N_0, 5 clusters"));
        assert!(!html.contains("id=\"votes\"") && !html.contains("id=\"clusters\""));
        let html = Page::new(&study).setup(&custom).html().unwrap();
        assert!(
            !html.contains("<span>result</span>") && !html.contains("(this search)") && !html.contains("id=\"votes\"")
        );

        // Ours are asked, and their votes shown.
        let fingerprint = setup(&NcClustering::n0().fingerprint());
        let html = Page::new(&study).setup(&fingerprint).html().unwrap();
        assert!(card(&html, &n0, "N_0, 5 clusters") && html.contains("id=\"votes\""));
        assert_eq!(html.matches("N_0, 5 clusters").count(), 3);
        let fingerprint = setup(&Best.fingerprint());
        let html = Page::new(&study).setup(&fingerprint).html().unwrap();
        assert!(card(&html, &best, "best trial") && !html.contains("id=\"votes\""));
    }

    #[test]
    fn the_surrogate_is_the_searchers_or_none() {
        let study = disagreeing();
        let page = |searcher: &str| {
            let setup = Setup { searcher: searcher.into(), ..Setup::of(&study) };
            Page::new(&study).setup(&setup).html().unwrap()
        };
        let random = page("random");
        assert!(
            random.contains("The searcher, random, has no model of the score")
                && !random.contains("id=\"predictions\"")
        );
        let composer = page(&GpBo::composer().fingerprint());
        let words = "Bayesian optimisation with a Gaussian process, as in Composer";
        let fact = format!("<dt>searcher</dt><dd>{words} <span class=\"soft\">gp_bo_composer(");
        assert!(composer.contains(&format!("Searcher: {words}.")) && composer.contains(&fact), "{composer}");
        assert!(composer.contains("id=\"predictions\""));
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
