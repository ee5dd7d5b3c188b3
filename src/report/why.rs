//! Explanation of the result, in sentences made from the data.

use rand_distr::{Distribution as _, StandardNormal};

use super::{Page, gap::Gap, used::Known};
use crate::{
    aggregate::{Clustering, LayerVote},
    pipeline::{few_voters, verdict},
    seed::Seed,
    space::Architecture,
    study::Study,
    text::{html as escape, number},
};

/// The number of times that scores are drawn again.
const REDRAWS: usize = 200;
/// The maximum number of trials for which this is done, because it takes time for every page.
const REDRAWN: usize = 500;
/// The maximum number of layers that a sentence lists.
const LISTED: usize = 8;

impl Page<'_> {
    /// Returns three points: which trials decided, how they voted, and how sure the result is. Empty without a result.
    pub(super) fn reasons(&self) -> String {
        let Some(answer) = self.answer() else { return String::new() };
        let explained = self.explained();
        let clustering = explained.as_ref();
        let score = &self.study.goal().score;
        let points = [
            ("Which trials decided", clustering.map(|found| deciding(self.study, found))),
            ("How they voted", clustering.map(|found| voting(found, self.conditioned()))),
            ("How sure it is", Some(self.certainty(&answer, clustering))),
        ];
        let point = |(name, words): &(&str, Option<String>)| {
            let words = words.as_ref()?;
            Some(format!("<li><b>{name}.</b> {}</li>\n", escape(words)))
        };
        let points: String = points.iter().filter_map(point).collect();
        let aggregator = escape(&self.aggregator_name());
        let first = match clustering {
            Some(_) => format!("The result is a vote of the best trials by {}.", escape(score)),
            None => format!("The result was aggregated by {aggregator}."),
        };
        format!("<p>{first}</p>\n<ul class=\"why\">\n{points}</ul>\n")
    }

    /// Returns the comparison of the result with the best trial, and how much of it may be luck.
    fn certainty(&self, answer: &Architecture, clustering: Option<&Clustering>) -> String {
        let words = [
            against_best(self.study, answer),
            self.known_aggregator().and_then(|known| stability(&self.voting(), known, answer)),
            clustering.and_then(|found| few_voters(found.clusters.get(found.chosen)?.trials.len())),
        ];
        let words = words.into_iter().flatten().map(|words| sentence(&words) + ".");
        words.collect::<Vec<_>>().join(" ")
    }
}

/// Says which cluster votes, and how far it is from the next one.
fn deciding(study: &Study, found: &Clustering) -> String {
    let goal = study.goal();
    let all: usize = found.clusters.iter().map(|cluster| cluster.trials.len()).sum();
    let Some(best) = found.clusters.get(found.chosen) else { return String::new() };
    let mean = number(goal.orient(best.mean), 4);
    let voters = match best.trials.len() {
        1 => format!("a single trial with {mean}"),
        count => {
            let ends = [goal.orient(best.low), goal.orient(best.high)];
            let low = number(ends[0].min(ends[1]), 4);
            let high = number(ends[0].max(ends[1]), 4);
            format!("{count} trials from {low} to {high}, mean {mean}")
        }
    };
    let next = found.chosen.checked_sub(1).and_then(|next| found.clusters.get(next));
    let next = next.map(|next| format!("; the mean of the next one is {}", number(goal.orient(next.mean), 4)));
    let clusters = found.clusters.len();
    let clusters = if clusters == 1 { "one cluster".into() } else { format!("{clusters} clusters") };
    let next = next.unwrap_or_default();
    format!("By {}, the {all} trials form {clusters}. Only the best cluster votes: {voters}{next}.", goal.score)
}

/// Says on which layers the voters agree, and where the vote was closest.
fn voting(found: &Clustering, conditioned: bool) -> String {
    if found.clusters.get(found.chosen).is_some_and(|cluster| cluster.trials.len() == 1) {
        return "There is a single voter: the result has its layers.".into();
    }
    let rule = match conditioned {
        true => "Layer by layer, the letter wins that most voters have, of those that agree on the layers before it.",
        false => "Layer by layer, the letter wins that most voters have.",
    };
    let agreed = |vote: &LayerVote| vote.votes.iter().filter(|choice| choice.supporters > 0).count() == 1;
    let layers: Vec<usize> = (0..found.layers.len()).filter(|&layer| agreed(&found.layers[layer])).collect();
    let all = found.layers.len();
    if layers.len() == all {
        return format!("{rule} They agree on every layer.");
    }
    let agreement = match layers.len() {
        0 => "On no layer do all agree".into(),
        count if count > LISTED => format!("All voters agree on {count} of {all} layers"),
        1 => format!("All voters agree on layer {} alone", layers[0] + 1),
        _ => format!("All voters agree on layers {}", list(&layers)),
    };
    let closest = (0..all)
        .filter(|layer| !layers.contains(layer))
        .min_by(|&a, &b| margin(&found.layers[a]).total_cmp(&margin(&found.layers[b])));
    let closest = closest.map(|layer| {
        let vote = &found.layers[layer];
        let mut choices: Vec<_> = vote.votes.iter().filter(|choice| choice.supporters > 0).collect();
        choices.sort_by_key(|choice| (choice.symbol != vote.chosen, std::cmp::Reverse(choice.supporters)));
        let counts = choices.iter().map(|choice| format!("{} for {}", choice.supporters, choice.symbol));
        let tie = if margin(vote) == 0.0 { ", decided by the mean score" } else { "" };
        format!("; the closest vote is on layer {}: {}{tie}", layer + 1, counts.collect::<Vec<_>>().join(", "))
    });
    format!("{rule} {agreement}{}.", closest.unwrap_or_default())
}

/// Returns the share of votes by which the winner leads.
fn margin(vote: &LayerVote) -> f64 {
    let of = |won: bool| vote.votes.iter().filter(move |choice| (choice.symbol == vote.chosen) == won);
    let own = of(true).map(|choice| choice.supporters).sum::<usize>() as f64;
    let next = of(false).map(|choice| choice.supporters).max().unwrap_or(0) as f64;
    let all: usize = vote.votes.iter().map(|choice| choice.supporters).sum();
    (own - next) / all.max(1) as f64
}

/// Numbers of layers from one on: `2, 4 and 5`.
fn list(layers: &[usize]) -> String {
    let numbers: Vec<_> = layers.iter().map(|layer| (layer + 1).to_string()).collect();
    match numbers.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => numbers.concat(),
    }
}

/// Compares the result with the best trial, by the means of all evaluations of each. For a result without a score, it
/// returns the verdict of the search.
fn against_best(study: &Study, answer: &Architecture) -> Option<String> {
    let goal = study.goal();
    let pooled = study.pooled();
    let best = pooled.best()?;
    let own = pooled.observations().find(|seen| seen.trial.architecture == *answer);
    let Some(own) = own.filter(|seen| seen.report.excess(goal) <= 0.0) else { return verdict(study, answer) };
    let name = &best.trial.architecture;
    if own.trial.architecture == *name {
        return Some("the result is also the best trial".into());
    }
    let gap = Gap::new(&own, &best, goal);
    let word = if gap.value >= 0.0 { "better" } else { "worse" };
    let error = gap.error.map(|error| format!(" ± {}", number(error, 4))).unwrap_or_default();
    let judged = match gap.is_clear() {
        None => "not both were measured more than once, so the error of this difference is not known",
        Some(false) => "within two standard errors, so this search cannot tell which of them is better",
        Some(true) => "more than two standard errors, so the difference is unlikely to be chance",
    };
    let by = number(gap.value.abs(), 4);
    Some(format!("the result scored {by}{error} {word} than the best trial, {name}: {judged}"))
}

/// Says how often the same sequence results if all scores are drawn again within their standard errors. `None` if a
/// standard error is missing, or if there are too few or too many trials.
fn stability(study: &Study, known: Known, answer: &Architecture) -> Option<String> {
    let simple = study.simplified();
    let measured: Vec<_> = simple.observations().collect();
    if !(3..=REDRAWN).contains(&measured.len()) {
        return None;
    }
    let scores = measured.iter().map(|seen| {
        let error = seen.report.standard_error.filter(|error| error.is_finite() && *error >= 0.0)?;
        Some((seen.trial.id, (simple.goal().orient(seen.value), error)))
    });
    let scores: std::collections::BTreeMap<_, _> = scores.collect::<Option<_>>()?;
    let mut redrawn = simple.clone();
    let mut same = 0;
    for draw in 0..REDRAWS {
        let mut rng = Seed(0).rng("report/redraw", draw as u64);
        redrawn.rescore(|id| {
            let &(score, error) = scores.get(&id)?;
            let noise: f64 = StandardNormal.sample(&mut rng);
            Some(score + error * noise)
        });
        same += usize::from(known.aggregate(&redrawn).ok().as_ref() == Some(answer));
    }
    let percent = number(100.0 * same as f64 / REDRAWS as f64, 0);
    Some(format!(
        "if all scores are drawn again within their standard errors, {percent} % of {REDRAWS} draws give the same result"
    ))
}

/// Returns the text with a capital first letter.
fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        aggregate::NcClustering,
        report::testing,
        study::{Event, Origin, Report},
    };

    /// The sequences of [`testing::study`], with these scores and this standard error.
    fn measured(scores: &[f64], error: f64) -> Study {
        let mut study = testing::study(&[]);
        for (index, &score) in scores.iter().enumerate() {
            let id = study.next_id();
            let architecture = study.space().nth(index as u128).unwrap();
            study.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Searcher }).unwrap();
            let report = Report { standard_error: Some(error), ..Report::score("accuracy", score) };
            study.apply(Event::Completed { id, report }).unwrap();
        }
        study
    }

    const SCORES: [f64; 8] = [0.2, 0.9, 0.89, 0.89, 0.1, 0.15, 0.3, 0.4];

    #[test]
    fn the_sentences_say_cluster_votes_and_certainty() {
        let study = measured(&SCORES, 0.001);
        let html = Page::new(&study).reasons();
        for part in [
            "the 8 trials form 5 clusters. Only the best cluster votes: 3 trials from 0.8900 to 0.9000, mean 0.8933",
            "All voters agree on layers 1 and 2",
            "the closest vote is on layer 3: 2 for M, 1 for A",
            "The result scored 0.0100 ± 0.0014 worse than the best trial, 3A+1M",
            "more than two standard errors",
            "100 % of 200 draws give the same result",
        ] {
            assert!(html.contains(part), "{part}: {html}");
        }
    }

    #[test]
    fn noise_makes_the_result_less_sure() {
        let exact = Page::new(&measured(&SCORES, 0.3)).reasons();
        let percent: f64 = exact.split(" % of 200 draws").next().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
        assert!((1.0..60.0).contains(&percent), "{percent}");
        assert!(exact.contains("cannot tell which"), "{exact}");
        assert!(!Page::new(&testing::study(&SCORES.map(Some))).reasons().contains("draws"));
        assert_eq!(Page::new(&testing::study(&[None])).reasons(), "");
    }

    #[test]
    fn agreement_and_single_voters_are_said() {
        let one = NcClustering::n0().explain(&testing::study(&[Some(0.2), Some(0.9)])).unwrap();
        assert!(deciding(&testing::study(&[]), &one).contains("votes: a single trial with 0.9000"));
        assert!(voting(&one, true).contains("a single voter"), "{}", voting(&one, true));
        let equal = NcClustering::full_prefix().explain(&testing::study(&[Some(0.5), Some(0.5)])).unwrap();
        let words = voting(&equal, true);
        assert!(
            words.contains("before it")
                && words.contains("layers 1, 2 and 3; the closest vote is on layer 4: 1 for A, 1 for M"),
            "{words}"
        );
        assert_eq!([&[0][..], &[0, 2], &[0, 2, 4]].map(list), ["1", "1 and 3", "1, 3 and 5"]);
    }
}
