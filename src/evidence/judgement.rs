//! The agreement of scores with comparisons.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::{Evidence, EvidenceError, Group};
use crate::{
    seed::Seed,
    space::Architecture,
    statistics::{Estimate, mean, spearman},
    text,
};

/// The number of bootstrap resamples.
const RESAMPLES: u64 = 1000;

/// The agreement of scores with [`Evidence`]. Its `Display` implementation writes a Markdown table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The groups that have pairs.
    pub groups: Vec<GroupJudgement>,
    /// The papers, in the order of their first group.
    pub papers: Vec<PaperJudgement>,
    /// The mean agreement of the papers; `None` if no pair could be judged.
    pub macro_mean: Option<Estimate>,
}

/// The agreement of scores with one group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupJudgement {
    /// The name of the group.
    pub name: String,
    /// Its paper.
    pub paper: String,
    /// The number of pairs: the sum of `right`, `tied`, `unjudged` and the length of `wrong`.
    pub pairs: usize,
    /// The number of pairs whose better layout has the higher score.
    pub right: usize,
    /// The number of pairs with equal scores.
    pub tied: usize,
    /// The pairs whose better layout has the lower score, as names of layouts.
    pub wrong: Vec<[String; 2]>,
    /// The number of pairs with a missing score.
    pub unjudged: usize,
    /// The layouts in pairs that have no score, or whose layers were not published.
    pub unscored: Vec<String>,
    /// The fraction of judged pairs that are right, where a tie counts half, with a 95 % bootstrap interval over
    /// layouts and seeds.
    pub agreement: Option<Estimate>,
    /// Spearman's rank correlation between the scores and the published numbers, for the layouts that have both.
    pub spearman: Option<f64>,
}

/// The agreement of scores with one paper.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PaperJudgement {
    /// The paper.
    pub paper: String,
    /// The agreement over all pairs of its groups, with a 95 % interval.
    pub agreement: Option<Estimate>,
}

/// A group with its names resolved to indices.
struct Compared<'a> {
    group: &'a Group,
    /// The index of its paper.
    paper: usize,
    /// The index of every layout among the measured ones.
    measured: Vec<Option<usize>>,
    /// The indices of the better and the worse layout of every pair.
    pairs: Vec<(usize, usize)>,
}

/// A bootstrap resample.
struct Draw {
    /// A score for every measured layout.
    scores: Vec<f64>,
    /// The weight of each layout of each group.
    weights: Vec<Vec<f64>>,
}

/// The number of right and judged pairs of every group in one resample.
type Counts = Vec<Count>;

/// Weighted counts of pairs.
#[derive(Clone, Copy, Default)]
struct Count {
    /// A tie counts half.
    right: f64,
    judged: f64,
}

impl Count {
    fn share(self) -> Option<f64> {
        (self.judged > 0.0).then(|| self.right / self.judged)
    }
}

impl std::iter::Sum for Count {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        let add = |sum: Self, next: Self| Self { right: sum.right + next.right, judged: sum.judged + next.judged };
        counts.fold(Self::default(), add)
    }
}

impl Evidence {
    /// Judges scores by the comparisons.
    ///
    /// `scores` returns the scores of a layout, one per seed, where higher is better; none if it was not measured. The
    /// intervals resample the layouts of every group and the seeds of every layout.
    ///
    /// # Errors
    /// [`EvidenceError::Score`] if a score is not finite.
    pub fn judge(&self, scores: impl Fn(&Architecture) -> Vec<f64>) -> Result<Judgement, EvidenceError> {
        let mut places = BTreeMap::new();
        let mut measured = Vec::new();
        for layout in self.architectures() {
            let scores = scores(&layout);
            if let Some(&score) = scores.iter().find(|score| !score.is_finite()) {
                return Err(EvidenceError::Score { layout, score });
            }
            if !scores.is_empty() {
                places.insert(layout, measured.len());
                measured.push(scores);
            }
        }
        let paired = self.groups().iter().filter(|group| !group.pairs.is_empty());
        let mut papers = Papers::default();
        let compared: Vec<_> = paired.map(|group| Compared::new(group, papers.place(&group.paper), &places)).collect();
        Ok(judge(&compared, &papers.names, &measured))
    }
}

impl<'a> Compared<'a> {
    fn new(group: &'a Group, paper: usize, places: &BTreeMap<Architecture, usize>) -> Self {
        let named = group.places();
        let place = |name: &String| named.get(name.as_str()).copied();
        let measured = group.layouts.iter().map(|layout| places.get(&group.architecture(layout)?).copied());
        let pairs = group.pairs.iter().filter_map(|[better, worse]| Some((place(better)?, place(worse)?)));
        Self { group, paper, measured: measured.collect(), pairs: pairs.collect() }
    }

    /// Returns the scores of its layouts.
    fn scores(&self, draw: &Draw) -> Vec<Option<f64>> {
        self.measured.iter().map(|place| place.map(|place| draw.scores[place])).collect()
    }

    /// Counts right and judged pairs, each weighted by the product of the weights of its layouts.
    fn count(&self, draw: &Draw, weights: &[f64]) -> Count {
        let scores = self.scores(draw);
        let pairs = self.pairs.iter().filter_map(|&(better, worse)| {
            let judged = weights[better] * weights[worse];
            let share = match scores[better]?.total_cmp(&scores[worse]?) {
                Ordering::Greater => 1.0,
                Ordering::Equal => 0.5,
                Ordering::Less => 0.0,
            };
            Some(Count { right: judged * share, judged })
        });
        pairs.sum()
    }

    fn judge(&self, draw: &Draw, agreement: Option<Estimate>) -> GroupJudgement {
        let group = self.group;
        let scores = self.scores(draw);
        let mut judged = GroupJudgement {
            name: group.name.clone(),
            paper: group.paper.clone(),
            pairs: group.pairs.len(),
            right: 0,
            tied: 0,
            wrong: Vec::new(),
            unjudged: 0,
            unscored: Vec::new(),
            agreement,
            spearman: None,
        };
        for (&(better, worse), names) in self.pairs.iter().zip(&group.pairs) {
            match scores[better].zip(scores[worse]).map(|(better, worse)| better.total_cmp(&worse)) {
                None => judged.unjudged += 1,
                Some(Ordering::Greater) => judged.right += 1,
                Some(Ordering::Equal) => judged.tied += 1,
                Some(Ordering::Less) => judged.wrong.push(names.clone()),
            }
        }
        let paired: BTreeSet<usize> = self.pairs.iter().flat_map(|&(better, worse)| [better, worse]).collect();
        let without = paired.into_iter().filter(|&place| scores[place].is_none());
        judged.unscored = without.map(|place| group.layouts[place].name.clone()).collect();
        let both =
            group.layouts.iter().zip(&scores).filter_map(|(layout, &score)| Some((score?, group.merit(layout)?)));
        let (ours, theirs): (Vec<f64>, Vec<f64>) = both.unzip();
        judged.spearman = spearman(&ours, &theirs);
        judged
    }
}

/// The distinct papers of the groups.
#[derive(Default)]
struct Papers<'a> {
    names: Vec<&'a str>,
    places: BTreeMap<&'a str, usize>,
}

impl<'a> Papers<'a> {
    fn place(&mut self, paper: &'a str) -> usize {
        *self.places.entry(paper).or_insert_with(|| {
            self.names.push(paper);
            self.names.len() - 1
        })
    }
}

fn judge(groups: &[Compared], papers: &[&str], measured: &[Vec<f64>]) -> Judgement {
    let count = |draw: &Draw| -> Counts {
        groups.iter().zip(&draw.weights).map(|(group, weights)| group.count(draw, weights)).collect()
    };
    let once = groups.iter().map(|group| vec![1.0; group.measured.len()]).collect();
    let whole = Draw { scores: measured.iter().map(|scores| mean(scores)).collect(), weights: once };
    let counted = count(&whole);
    let draws: Vec<Counts> = (0..RESAMPLES).map(|index| count(&resample(groups, measured, index))).collect();
    let estimate = |statistic: &dyn Fn(&Counts) -> Option<f64>| {
        Some(Estimate::from_draws(statistic(&counted)?, draws.iter().filter_map(statistic).collect()))
    };
    let mut groups_of = vec![Vec::new(); papers.len()];
    groups.iter().enumerate().for_each(|(at, group)| groups_of[group.paper].push(at));
    let of_paper = |own: &[usize], counts: &Counts| own.iter().map(|&at| counts[at]).sum::<Count>().share();
    let of_all = |counts: &Counts| {
        let shares: Vec<f64> = groups_of.iter().filter_map(|own| of_paper(own, counts)).collect();
        (!shares.is_empty()).then(|| mean(&shares))
    };
    let group = |(at, group): (usize, &Compared)| group.judge(&whole, estimate(&|counts| counts[at].share()));
    let paper = |(&paper, own): (&&str, &Vec<usize>)| PaperJudgement {
        paper: paper.into(),
        agreement: estimate(&|counts| of_paper(own, counts)),
    };
    Judgement {
        groups: groups.iter().enumerate().map(group).collect(),
        papers: papers.iter().zip(&groups_of).map(paper).collect(),
        macro_mean: estimate(&of_all),
    }
}

/// Draws seeds with replacement for every layout, and layouts with replacement for every group.
fn resample(groups: &[Compared], measured: &[Vec<f64>], index: u64) -> Draw {
    let mut rng = Seed(0).rng("evidence/bootstrap", index);
    let mut scores = Vec::with_capacity(measured.len());
    for own in measured {
        let seeds: Vec<f64> = own.iter().map(|_| own[rng.random_range(0..own.len())]).collect();
        scores.push(mean(&seeds));
    }
    let mut weights = Vec::with_capacity(groups.len());
    for group in groups {
        let layouts = group.measured.len();
        let mut often = vec![0.0; layouts];
        (0..layouts).for_each(|_| often[rng.random_range(0..layouts)] += 1.0);
        weights.push(often);
    }
    Draw { scores, weights }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |estimate: &Option<Estimate>| match estimate {
            Some(Estimate { value, low, high }) => format!("{value:.2} ({low:.2} to {high:.2})"),
            None => "none".into(),
        };
        writeln!(f, "| group | pairs | right | tied | not judged | agreement | Spearman |")?;
        writeln!(f, "|---|--:|--:|--:|--:|--:|--:|")?;
        for group in &self.groups {
            let correlation = group.spearman.map_or_else(|| "none".into(), |r| format!("{r:.2}"));
            writeln!(
                f,
                "| {} | {} | {} | {} | {} | {} | {correlation} |",
                text::markdown(&group.name),
                group.pairs,
                group.right,
                group.tied,
                group.unjudged,
                shown(&group.agreement)
            )?;
        }
        for PaperJudgement { paper, agreement } in &self.papers {
            writeln!(f, "| **{}** | | | | | {} | |", text::markdown(paper), shown(agreement))?;
        }
        write!(f, "| **mean of the papers** | | | | | {} | |", shown(&self.macro_mean))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        evidence::{Layout, rules},
        primitive::Symbol,
    };

    fn agreement(scores: impl Fn(&Architecture) -> Vec<f64>) -> Judgement {
        Evidence::published().judge(scores).unwrap()
    }

    #[test]
    fn rules_are_counted_as_elsewhere() {
        // Counts of right and tied pairs by a short Python script on the same file.
        let counted = |rule: fn(&Architecture) -> f64, group: usize| {
            let judged = &agreement(|layout| vec![rule(layout)]).groups[group];
            assert_eq!(judged.right + judged.tied + judged.wrong.len() + judged.unjudged, judged.pairs);
            (judged.right, judged.tied)
        };
        assert_eq!([0, 1].map(|group| counted(rules::attention_layers, group)), [(54, 20), (75, 24)]);
        assert_eq!([0, 1].map(|group| counted(rules::first_attention, group)), [(62, 13), (57, 12)]);
        assert_eq!([0, 1].map(|group| counted(rules::depth, group)), [(19, 66), (29, 81)]);
        assert_eq!([0, 1].map(|group| counted(rules::hindsight, group)), [(88, 9), (95, 12)]);
    }

    #[test]
    fn the_published_numbers_agree_with_themselves() {
        for group in Evidence::published().groups().iter().filter(|group| !group.pairs.is_empty()) {
            let own = Evidence::new(vec![group.clone()]).unwrap();
            let merit = |layout: &Architecture| {
                let found = group.layouts.iter().find(|item| group.architecture(item).as_ref() == Some(layout));
                vec![group.merit(found.unwrap()).unwrap()]
            };
            let judged = &own.judge(merit).unwrap().groups[0];
            assert_eq!(judged.right + judged.unjudged, judged.pairs, "{}", group.name);
            assert_eq!(judged.agreement.unwrap().value, 1.0);
            assert!((judged.spearman.unwrap() - 1.0).abs() < 1e-12);
            let opposite = own.judge(|layout| vec![-merit(layout)[0]]).unwrap();
            assert_eq!(opposite.macro_mean.unwrap().value, 0.0);
        }
    }

    #[test]
    fn missing_scores_are_counted_and_odd_ones_refused() {
        let none = agreement(|_| Vec::new());
        assert!(none.macro_mean.is_none() && none.groups[0].unjudged == 103 && none.groups[0].unscored.len() == 17);
        let some = agreement(|layout| if layout.len() == 22 { vec![rules::hindsight(layout)] } else { Vec::new() });
        let judged = &some.groups[0];
        assert!(judged.unjudged > 0 && judged.unscored.contains(&"Llama 14".to_owned()));
        assert_eq!(judged.right + judged.tied + judged.wrong.len() + judged.unjudged, 103);
        let refused = Evidence::published().judge(|_| vec![0.5, f64::NAN]);
        assert!(matches!(refused, Err(EvidenceError::Score { .. })));
        assert_eq!(agreement(|_| vec![1.0]).macro_mean.unwrap().value, 0.5);
    }

    #[test]
    fn names_from_files_cannot_break_the_table() {
        let mut groups = Evidence::published().groups()[..1].to_vec();
        groups[0].name = "a\n\u{1b}[2J|<b>".into();
        groups[0].paper = "p\r|\u{202e}".into();
        let table = Evidence::new(groups).unwrap().judge(|_| vec![1.0]).unwrap().to_string();
        assert!(table.contains(r"| a\n\u{1b}\[2J\|\<b> | 103 |"), "{table}");
        assert!(table.contains(r"| **p\r\|\u{202e}** |"), "{table}");
        assert_eq!(table.lines().count(), 5);
    }

    /// The work grows linearly with the number of pairs, even if there are many groups, papers and layouts.
    #[test]
    fn the_largest_evidence_is_judged() {
        let layout = |at: usize| Layout {
            name: at.to_string(),
            layers: Some(Architecture::from_runs([(Symbol::ATTENTION, 1 + at % 500), (Symbol::SWIGLU, 1 + at / 500)])),
            value: Some(at as f64),
            note: String::new(),
        };
        let group = |name: usize, layouts: std::ops::Range<usize>| Group {
            name: name.to_string(),
            paper: format!("{name}{}", "x".repeat(1000)),
            gap: Some(0.5),
            layouts: layouts.map(layout).collect(),
            ..Group::default()
        };
        let small = (0..1500).map(|at| group(at, 2 * at..2 * at + 2));
        let evidence = Evidence::new(small.chain([group(1500, 0..100)]).collect()).unwrap();
        let judged = evidence.judge(|layout| vec![rules::attention_layers(layout)]).unwrap();
        assert_eq!((judged.papers.len(), judged.groups[1500].right), (1501, 100 * 99 / 2));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn any_increasing_change_of_scale_leaves_the_counts(scale in 0.1f64..10.0, shift in -5.0f64..5.0) {
            let score = |layout: &Architecture| 0.37 * rules::attention_layers(layout) + rules::first_attention(layout);
            let plain = agreement(|layout| vec![score(layout)]);
            let changed = agreement(|layout| vec![(score(layout) * scale + shift).exp()]);
            for (a, b) in plain.groups.iter().zip(&changed.groups) {
                prop_assert_eq!((a.right, &a.wrong, a.unjudged), (b.right, &b.wrong, b.unjudged));
            }
        }
    }
}
