//! The architecture with the largest score, among those that may still be proposed.
//!
//! Small spaces are enumerated. Larger ones are searched by local search from many starting points, as in BoTorch's
//! `optimize_acqf_discrete_local_search`. All chains advance together, so that a Gaussian process scores them in large
//! batches. Moving to the best neighbour in one layer is also what COMBO (Oh et al. 2019, arXiv 1902.00448, section
//! 2.3) does for categorical variables.

use std::collections::{HashMap, HashSet};

use crate::{
    search::unknown::Unknown,
    seed::Rng,
    space::{Architecture, SearchSpace},
};

/// Number of candidates per call of the score while a space is enumerated. It bounds the memory of the score.
const ENUMERATION_BATCH: usize = 1024;

/// Settings of a maximisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MaximiseOptions {
    /// Spaces of at most this many sequences are enumerated, whatever the other settings are.
    pub(crate) enumerate: u128,
    /// Number of distinct random sequences that are scored first.
    pub(crate) pool: usize,
    /// Number of sequences of the pool from which chains start, in addition to the incumbents. The best are taken.
    pub(crate) starts: usize,
    /// The maximum number of moves of a chain.
    pub(crate) steps: usize,
    /// The maximum number of candidates that local search scores, including the pool.
    pub(crate) budget: usize,
}

impl Default for MaximiseOptions {
    /// Enumerates up to 10,000 sequences. In larger spaces, 20 chains start from a pool of 512, with at most 64 moves
    /// each and 20,000 candidates in total.
    fn default() -> Self {
        Self { enumerate: 10_000, pool: 512, starts: 20, steps: 64, budget: 20_000 }
    }
}

/// A maximisation over a space.
///
/// For a batch of `q`, call [`run`](Maximiser::run) `q` times. After each call, add the result to `avoid`, to the
/// pending points of the score, and to the incumbents.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Maximiser<'a> {
    /// The space to search.
    pub(crate) space: &'a SearchSpace,
    /// Sequences that are neither scored nor returned: evaluated and pending ones. Sequences outside the space are
    /// ignored.
    pub(crate) avoid: &'a HashSet<Architecture>,
    /// Sequences near which good ones are likely, best first. They may be in `avoid`.
    pub(crate) incumbents: &'a [Architecture],
    /// The settings.
    pub(crate) options: MaximiseOptions,
}

/// The result of a maximisation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Maximum {
    /// The sequence: in the space and not in `avoid`.
    pub(crate) architecture: Architecture,
    /// How it was found.
    pub(crate) found: Found,
    /// The number of candidates that were scored.
    pub(crate) scored: usize,
}

/// How a maximum was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Found {
    /// By enumeration: the best of the whole space.
    Enumeration {
        /// Its score.
        score: f64,
    },
    /// By local search: the best candidate that was scored.
    LocalSearch {
        /// Its score.
        score: f64,
    },
    /// By a uniform draw, because no candidate had a finite score.
    Random,
}

impl Maximiser<'_> {
    /// Returns the sequence with the largest `score`, or `None` if every sequence of the space is in `avoid`. `score`
    /// maps a batch of sequences to one score for each.
    ///
    /// No sequence is scored twice. Scores that are missing or not finite count as worse than every finite one. On
    /// ties, the first scored sequence wins, so the result depends on the arguments alone.
    pub(crate) fn run(&self, rng: &mut Rng, score: impl FnMut(&[Architecture]) -> Vec<f64>) -> Option<Maximum> {
        let unknown = Unknown::except(self.space, self.avoid);
        if unknown.count() == 0 {
            return None;
        }
        let enumerate = self.space.size() <= self.options.enumerate;
        let budget = if enumerate { usize::MAX } else { self.options.budget };
        let mut scores = Scores { score, known: HashMap::new(), best: None, left: budget };
        if enumerate {
            self.enumerate(&mut scores);
        } else {
            self.climb(&unknown, rng, &mut scores);
        }
        let scored = scores.known.len();
        let best = scores.best;
        let (architecture, found) = match best {
            Some((best, score)) if enumerate => (best, Found::Enumeration { score }),
            Some((best, score)) => (best, Found::LocalSearch { score }),
            None => (unknown.draw(rng)?, Found::Random),
        };
        Some(Maximum { architecture, found, scored })
    }

    /// Like [`run`](Self::run), with a score that can fail.
    ///
    /// # Errors
    /// The last error of `score`, if any call failed.
    pub(crate) fn try_run<E>(
        &self,
        rng: &mut Rng,
        mut score: impl FnMut(&[Architecture]) -> Result<Vec<f64>, E>,
    ) -> Result<Option<Maximum>, E> {
        let mut failure = None;
        let found = self.run(rng, |batch| {
            score(batch).unwrap_or_else(|error| {
                failure = Some(error);
                Vec::new()
            })
        });
        failure.map_or(Ok(found), Err)
    }

    fn enumerate<F: FnMut(&[Architecture]) -> Vec<f64>>(&self, scores: &mut Scores<F>) {
        let mut candidates = self.space.iter().filter(|candidate| !self.avoid.contains(candidate));
        loop {
            let batch: Vec<_> = candidates.by_ref().take(ENUMERATION_BATCH).collect();
            if batch.is_empty() {
                return;
            }
            scores.add(batch);
        }
    }

    /// Best-improvement local search. A chain ends at a sequence without a better neighbour, or at one that a chain has
    /// visited before.
    fn climb<F: FnMut(&[Architecture]) -> Vec<f64>>(
        &self,
        unknown: &Unknown<'_>,
        rng: &mut Rng,
        scores: &mut Scores<F>,
    ) {
        let mut chains = self.starts(unknown, rng, scores);
        let mut met: HashSet<_> = chains.iter().cloned().collect();
        for _ in 0..self.options.steps {
            let near: Vec<_> = chains.iter().map(|at| self.neighbors(at)).collect();
            scores.add(near.iter().flatten().cloned().collect());
            let moves = chains.iter().zip(near).filter_map(|(at, near)| scores.best_move(at, near));
            chains = moves.filter(|to| met.insert(to.clone())).collect();
            if chains.is_empty() || scores.left == 0 {
                return;
            }
        }
    }

    /// Returns the starting points: the incumbents, then the best of a pool of random sequences.
    fn starts<F: FnMut(&[Architecture]) -> Vec<f64>>(
        &self,
        unknown: &Unknown<'_>,
        rng: &mut Rng,
        scores: &mut Scores<F>,
    ) -> Vec<Architecture> {
        let mut chosen = HashSet::new();
        let incumbents = self.incumbents.iter().filter(|incumbent| self.space.contains(incumbent)).cloned();
        let mut starts: Vec<_> = incumbents.filter(|incumbent| chosen.insert(incumbent.clone())).collect();
        scores.add(starts.iter().filter(|start| !self.avoid.contains(start)).cloned().collect());
        // If nearly all of the space is avoided, draws repeat, and the pool stays smaller.
        let draws = (0..self.options.pool.saturating_mul(2)).map_while(|_| unknown.draw(rng));
        let mut pool: Vec<_> =
            draws.filter(|draw| chosen.insert(draw.clone())).take(self.options.pool.min(scores.left)).collect();
        scores.add(pool.clone());
        pool.sort_by(|a, b| scores.of(b).total_cmp(&scores.of(a)));
        pool.truncate(self.options.starts);
        starts.append(&mut pool);
        starts
    }

    fn neighbors(&self, at: &Architecture) -> Vec<Architecture> {
        let mut near = self.space.neighbors(at);
        near.retain(|near| !self.avoid.contains(near));
        near
    }
}

/// The scores of all sequences scored so far.
struct Scores<F> {
    score: F,
    known: HashMap<Architecture, f64>,
    best: Option<(Architecture, f64)>,
    /// The number of candidates that may still be scored.
    left: usize,
}

impl<F: FnMut(&[Architecture]) -> Vec<f64>> Scores<F> {
    /// Scores the sequences of the batch that have no score yet, in order, until the budget is spent.
    fn add(&mut self, mut batch: Vec<Architecture>) {
        batch.retain(|new| {
            let wanted = self.left > 0 && !self.known.contains_key(new);
            if wanted {
                self.known.insert(new.clone(), f64::NEG_INFINITY);
                self.left -= 1;
            }
            wanted
        });
        if batch.is_empty() {
            return;
        }
        let scores = (self.score)(&batch);
        for (architecture, score) in batch.into_iter().zip(scores).filter(|(_, score)| score.is_finite()) {
            if self.best.as_ref().is_none_or(|(_, best)| score > *best) {
                self.best = Some((architecture.clone(), score));
            }
            self.known.insert(architecture, score);
        }
    }

    /// Returns the score of a sequence, or minus infinity if it has no finite score.
    fn of(&self, architecture: &Architecture) -> f64 {
        self.known.get(architecture).copied().unwrap_or(f64::NEG_INFINITY)
    }

    /// Returns the best of `near` if it is better than `at`. If `at` has no score, any score is better.
    fn best_move(&self, at: &Architecture, near: Vec<Architecture>) -> Option<Architecture> {
        let scored = near.into_iter().map(|near| (self.of(&near), near));
        let best = scored.reduce(|best, next| if next.0 > best.0 { next } else { best })?;
        (best.0 > self.of(at)).then_some(best.1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{primitive::Symbol, seed::Seed, space::SpaceConfig};

    const A: Symbol = Symbol::ATTENTION;
    const M: Symbol = Symbol::SWIGLU;
    const F: Symbol = Symbol::MLP;

    fn space(choices: &[Symbol], layers: usize) -> SearchSpace {
        SearchSpace::uniform(choices.iter().copied(), layers).unwrap()
    }

    /// Weights in -1..1, a function of the seed and the place.
    fn weight(seed: u64, place: usize) -> f64 {
        (Seed(seed).derive("weight", place as u64).0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    fn position(symbol: Symbol) -> usize {
        [A, M, F].iter().position(|&known| known == symbol).unwrap()
    }

    /// A sum over layers, and over adjacent pairs with weight `pairs`.
    struct Landscape {
        layers: Vec<[f64; 3]>,
        pairs: Vec<[[f64; 3]; 3]>,
    }

    impl Landscape {
        fn new(layers: usize, seed: u64, pairs: f64) -> Self {
            let of_pair = |layer: usize, a: usize, b: usize| pairs * weight(seed, 1000 + 9 * layer + 3 * a + b);
            Self {
                layers: (0..layers).map(|layer| std::array::from_fn(|a| weight(seed, 3 * layer + a))).collect(),
                pairs: (0..layers - 1)
                    .map(|layer| std::array::from_fn(|a| std::array::from_fn(|b| of_pair(layer, a, b))))
                    .collect(),
            }
        }

        fn value(&self, architecture: &Architecture) -> f64 {
            let at: Vec<_> = architecture.layers().iter().map(|&symbol| position(symbol)).collect();
            let single: f64 = at.iter().zip(&self.layers).map(|(&a, weights)| weights[a]).sum();
            single + at.windows(2).zip(&self.pairs).map(|(pair, weights)| weights[pair[0]][pair[1]]).sum::<f64>()
        }

        fn values(&self, batch: &[Architecture]) -> Vec<f64> {
            batch.iter().map(|architecture| self.value(architecture)).collect()
        }

        /// The exact maximum over all sequences of `choices` choices, by dynamic programming.
        fn optimum(&self, choices: usize) -> f64 {
            let mut best: Vec<f64> = self.layers[0][..choices].to_vec();
            for (weights, pairs) in self.layers[1..].iter().zip(&self.pairs) {
                let through = |b: usize| (0..choices).map(|a| best[a] + pairs[a][b]).fold(f64::NEG_INFINITY, f64::max);
                best = (0..choices).map(|b| through(b) + weights[b]).collect();
            }
            best.into_iter().fold(f64::NEG_INFINITY, f64::max)
        }
    }

    /// In how many of 40 landscapes the maximum is found, and the mean number of candidates scored.
    fn found(choices: &[Symbol], layers: usize, pairs: f64) -> (usize, usize) {
        let space = space(choices, layers);
        let avoid = HashSet::new();
        let mut hits = 0;
        let mut scored = 0;
        for seed in 0..40 {
            let landscape = Landscape::new(layers, seed, pairs);
            let maximiser = Maximiser { space: &space, avoid: &avoid, incumbents: &[], options: Default::default() };
            let maximum = maximiser.run(&mut Seed(seed).rng("test", 0), |batch| landscape.values(batch)).unwrap();
            let Found::LocalSearch { score } = maximum.found else { panic!("{maximum:?}") };
            assert!((score - landscape.value(&maximum.architecture)).abs() < 1e-12);
            hits += usize::from(score > landscape.optimum(choices.len()) - 1e-9);
            scored += maximum.scored;
        }
        (hits, scored / 40)
    }

    #[test]
    fn the_maximum_of_separable_functions_is_always_found() {
        for (choices, layers) in [(vec![A, M], 16), (vec![A, M, F], 16), (vec![A, M, F], 32)] {
            let (hits, scored) = found(&choices, layers, 0.0);
            println!("separable, {} choices, {layers} layers: {hits} of 40, {scored} scored", choices.len());
            assert_eq!(hits, 40);
        }
    }

    #[test]
    fn the_maximum_of_pairwise_functions_is_nearly_always_found() {
        for (choices, layers, at_least) in [(vec![A, M], 16, 39), (vec![A, M, F], 16, 38)] {
            let (hits, scored) = found(&choices, layers, 0.5);
            println!("pairwise, {} choices, {layers} layers: {hits} of 40, {scored} scored", choices.len());
            assert!(hits >= at_least, "{hits}");
        }
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let documented = MaximiseOptions { enumerate: 10_000, pool: 512, starts: 20, steps: 64, budget: 20_000 };
        assert_eq!(MaximiseOptions::default(), documented);
    }

    #[test]
    fn small_spaces_are_enumerated_exactly() {
        let space = space(&[A, M], 13);
        let landscape = Landscape::new(13, 1, 1.0);
        let mut maximiser =
            Maximiser { space: &space, avoid: &HashSet::new(), incumbents: &[], options: Default::default() };
        let mut batches = Vec::new();
        let mut rng = Seed(0).rng("test", 0);
        let first = maximiser.run(&mut rng, |batch| {
            batches.push(batch.len());
            landscape.values(batch)
        });
        let first = first.unwrap();
        assert_eq!((first.scored, batches), (8192, vec![ENUMERATION_BATCH; 8]));
        assert!(matches!(first.found, Found::Enumeration { score } if (score - landscape.optimum(2)).abs() < 1e-12));
        let avoid = HashSet::from([first.architecture.clone()]);
        maximiser.avoid = &avoid;
        let second = maximiser.run(&mut rng, |batch| landscape.values(batch)).unwrap();
        assert!(second.architecture != first.architecture && second.scored == 8191);
    }

    #[test]
    fn constraints_are_kept_and_exact_counts_are_searched_by_exchange() {
        let space = space(&[A, M], 24).count(A, 8..=8).unwrap().max_run(A, 2).unwrap();
        let landscape = Landscape::new(24, 4, 0.2);
        let options = MaximiseOptions { enumerate: 0, ..Default::default() };
        let maximiser = Maximiser { space: &space, avoid: &HashSet::new(), incumbents: &[], options };
        let maximum = maximiser.run(&mut Seed(0).rng("test", 0), |batch| {
            assert!(batch.iter().all(|candidate| space.contains(candidate)));
            landscape.values(batch)
        });
        let maximum = maximum.unwrap();
        let better = space.neighbors(&maximum.architecture);
        assert!(better.iter().all(|near| landscape.value(near) <= landscape.value(&maximum.architecture)));
    }

    #[test]
    fn what_is_left_of_a_space_is_found_and_then_nothing() {
        let space = space(&[A, M], 10);
        let mut avoid: HashSet<_> = space.iter().filter(|a| a.count(A) != 5).collect();
        let incumbents: Vec<_> = ["10A", "10M"].iter().map(|text| text.parse().unwrap()).collect();
        let options = MaximiseOptions { enumerate: 0, ..Default::default() };
        for _ in 0..252 {
            let maximiser = Maximiser { space: &space, avoid: &avoid, incumbents: &incumbents, options };
            let maximum = maximiser.run(&mut Seed(0).rng("test", 0), |batch| vec![1.0; batch.len()]).unwrap();
            assert!(matches!(maximum.found, Found::LocalSearch { .. }));
            assert!(avoid.insert(maximum.architecture));
        }
        let maximiser = Maximiser { space: &space, avoid: &avoid, incumbents: &incumbents, options };
        assert_eq!(maximiser.run(&mut Seed(0).rng("test", 0), |batch| vec![1.0; batch.len()]), None);
    }

    #[test]
    fn incumbents_are_starts_even_where_they_are_avoided() {
        // A needle beside the incumbent, which random starts do not see.
        let space = space(&[A, M, F], 24);
        let incumbent = space.nth(123_456_789).unwrap();
        let needle = space.neighbors(&incumbent)[17].clone();
        let avoid = HashSet::from([incumbent.clone()]);
        let incumbents = [incumbent];
        let maximiser =
            Maximiser { space: &space, avoid: &avoid, incumbents: &incumbents, options: Default::default() };
        let score = |batch: &[Architecture]| batch.iter().map(|a| f64::from(*a == needle)).collect();
        assert_eq!(maximiser.run(&mut Seed(0).rng("test", 0), score).unwrap().architecture, needle);
    }

    #[test]
    fn scores_that_are_not_finite_never_win() {
        for layers in [6, 16] {
            let space = space(&[A, M], layers);
            let maximiser =
                Maximiser { space: &space, avoid: &HashSet::new(), incumbents: &[], options: Default::default() };
            let mut rng = Seed(2).rng("test", 0);
            let bad = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
            let mixed = |batch: &[Architecture]| {
                let score = |a: &Architecture| if a.layers()[0] == A { -1.0 } else { bad[a.count(A) % 3] };
                batch.iter().map(score).collect()
            };
            let maximum = maximiser.run(&mut rng, mixed).unwrap();
            assert!(maximum.architecture.layers()[0] == A, "{maximum:?}");
            for bad in bad {
                let maximum = maximiser.run(&mut rng, |batch| vec![bad; batch.len()]).unwrap();
                assert!(maximum.found == Found::Random && space.contains(&maximum.architecture));
            }
            assert_eq!(maximiser.run(&mut rng, |_| Vec::new()).unwrap().found, Found::Random);
        }
    }

    #[test]
    fn the_budget_is_kept_and_answers_repeat() {
        let space = space(&[A, M, F], 32);
        let landscape = Landscape::new(32, 9, 1.0);
        for budget in [0, 1, 100, 700, 3000] {
            let options = MaximiseOptions { budget, ..Default::default() };
            let incumbents = [space.nth(5).unwrap(), "2A".parse().unwrap()];
            let maximiser = Maximiser { space: &space, avoid: &HashSet::new(), incumbents: &incumbents, options };
            let run = || {
                let mut seen = HashSet::new();
                let maximum = maximiser.run(&mut Seed(3).rng("test", 0), |batch| {
                    assert!(batch.iter().all(|candidate| seen.insert(candidate.clone())), "scored twice");
                    landscape.values(batch)
                });
                assert!(seen.len() <= budget);
                maximum
            };
            let maximum = run().unwrap();
            assert_eq!(maximum.scored, budget.min(maximum.scored));
            assert_eq!(maximum.found == Found::Random, budget == 0);
            assert_eq!(run().unwrap(), maximum);
        }
    }

    fn spaces() -> impl Strategy<Value = Option<SearchSpace>> {
        (1usize..7, 0usize..4, 0usize..4, 1usize..4).prop_map(|(layers, min, width, run)| {
            let config = SpaceConfig { layers: vec![vec![A, M, F]; layers], constraints: Vec::new() };
            let space = SearchSpace::new(config).and_then(|space| space.count(A, min..=min + width));
            space.and_then(|space| space.max_run(M, run)).ok()
        })
    }

    proptest! {
        #[test]
        fn maxima_lie_in_the_space_and_are_not_avoided(
            space in spaces(), seed: u64, share in 0u64..=10, enumerate: bool, (pool, starts, steps) in (0usize..9, 0usize..9, 0usize..9),
        ) {
            let Some(space) = space else { return Ok(()) };
            let avoid: HashSet<_> = space.iter().filter(|a| Seed(seed).derive(&a.letters(), 0).0 % 10 < share).collect();
            let incumbents: Vec<_> = avoid.iter().min().into_iter().cloned().collect();
            let options = MaximiseOptions { enumerate: if enumerate { 10_000 } else { 0 }, pool, starts, steps, budget: 50 };
            let maximiser = Maximiser { space: &space, avoid: &avoid, incumbents: &incumbents, options };
            let landscape = Landscape::new(space.layers(), seed, 1.0);
            let maximum = maximiser.run(&mut Seed(seed).rng("test", 0), |batch| {
                assert!(batch.iter().all(|a| space.contains(a) && !avoid.contains(a)));
                landscape.values(batch)
            });
            prop_assert_eq!(maximum.is_none(), avoid.len() as u128 == space.size());
            if let Some(Maximum { architecture, found, .. }) = maximum {
                prop_assert!(space.contains(&architecture) && !avoid.contains(&architecture));
                if enumerate {
                    let open = space.iter().filter(|a| !avoid.contains(a));
                    let best = open.map(|a| landscape.value(&a)).fold(f64::NEG_INFINITY, f64::max);
                    prop_assert_eq!(found, Found::Enumeration { score: best });
                }
            }
        }
    }
}
