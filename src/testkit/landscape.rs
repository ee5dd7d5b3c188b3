//! Test functions for comparing searchers: the regret benchmark.
//!
//! A [`Landscape`] assigns a synthetic accuracy to every sequence of its space. The mean is near 0.60, the standard
//! deviation over the space is 0.03 and that of the evaluation noise is 0.01, as measured on small proxies. All values
//! are closed forms of integer hashes and are identical on every machine: they use binary64 without fused operations,
//! and no functions but `+ − × ÷`.
//!
//! | family | names | what it demands of a searcher |
//! |---|---|---|
//! | order | `L16Z2` `L16Z3` `L32Z3` | preferences of layers and adjacent pairs, partly shared by all layers |
//! | epistasis | `E16Z2` `E16Z3` `E32Z3` | interactions of random triples of layers (NK model, K = 2): rugged |
//! | mechanism | `M16Z2` `M16Z3` `M32Z3` | saturating counts, a circuit to assemble, distances, thresholds |
//!
//! `L16Z2` has 16 layers with 2 choices each. [`Landscape::shuffled`] permutes the labels of every layer independently.
//! This keeps all values but destroys the structure that layers share, so a searcher that depends on this structure
//! gets worse, as Bounce (Papenmeier et al. 2023, arXiv 2307.00618) found for several methods.
//!
//! `L16Z2-cliff`, `E16Z2-cliff` and `M16Z2-cliff` stand for searches in which a few sequences are far worse than all
//! others: fewer attention layers are better, but one alone costs 0.12, and none 0.42, as in the measured sequences of
//! six layers (`docs/data/quick.csv`). The best ones have two to five of them, so that searchers come near the cliff.
//!
//! All methods start from the same ten [first points](Landscape::first_point). They are compared by the
//! [regret](Landscape::regret) of the best point that they evaluate. `benches/regret.rs` runs the comparison.

mod epistasis;
mod hash;
mod mechanism;
mod order;

use crate::{
    primitive::Symbol,
    space::{Architecture, SearchSpace},
};
use hash::{below, u01};

/// A synthetic accuracy of every sequence of a space, with a known optimum.
///
/// ```
/// use composer_nas::testkit::landscape::Landscape;
/// let landscape = Landscape::named("L16Z2").ok_or("no such landscape")?;
/// let first = landscape.first_point(3, 0);
/// assert_eq!(first.letters(), "AAMAMMAMAAAMAAAM");
/// assert_eq!(landscape.value(&first), 0.5989043242759559);
/// assert!(landscape.regret(&first) > 0.11);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Landscape {
    name: String,
    space: SearchSpace,
    family: Family,
    tag: u64,
    /// The mean and the standard deviation of the raw score over the space, to about 1 %.
    mean: f64,
    spread: f64,
    /// The choices of the best sequence, before labels are permuted.
    best: Vec<usize>,
    proven: bool,
    /// Whether few attention layers are better, and fewer than two far worse.
    cliff: bool,
    /// For every layer: what its choices stand for. Empty: for themselves.
    labels: Vec<Vec<usize>>,
}

#[derive(Clone, Copy, Debug)]
enum Family {
    Order,
    Epistasis,
    Mechanism,
}

/// One row of the table below: name, family, tag, choices, mean, spread, best sequence, whether it is proven the best.
type Row = (&'static str, Family, u64, usize, f64, f64, &'static str, bool);

/// The best sequences are written as digits. Those with 16 layers were found by enumeration and that of `L32Z3` by
/// dynamic programming, so they are proven optima. Those of `E32Z3` and `M32Z3` are the best of 48 independent chains
/// of 400 perturbed local searches; 40 and 48 of the chains reached them (`heavy_search` below).
#[rustfmt::skip]
const TABLE: [Row; 9] = [
    ("L16Z2", Family::Order, 0x2402, 2, 0.890625, 1.8125, "1100111011010011", true),
    ("L16Z3", Family::Order, 0x1603, 3, -7.078125, 2.5625, "1112200202002200", true),
    ("L32Z3", Family::Order, 0x3203, 3, -5.328125, 5.421875, "11100110021100221100222222222222", true),
    ("E16Z2", Family::Epistasis, 0xE162, 2, -0.75, 1.859375, "0010010010100100", true),
    ("E16Z3", Family::Epistasis, 0xE163, 3, 0.046875, 2.15625, "0211010120021002", true),
    ("E32Z3", Family::Epistasis, 0xE323, 3, -0.0625, 3.265625, "21000200000221111102200000210220", false),
    ("M16Z2", Family::Mechanism, 0x4162, 2, 11.15625, 3.203125, "0110101110101101", true),
    ("M16Z3", Family::Mechanism, 0x4163, 3, 14.703125, 2.359375, "2021210121101101", true),
    ("M32Z3", Family::Mechanism, 0x4323, 3, 15.875, 1.6875, "21012110110111202110211210201211", false),
];

/// The landscapes that have a variant with a cliff, and its best sequences, found by enumeration.
const CLIFFS: [(&str, &str); 3] =
    [("L16Z2", "1100111011110011"), ("E16Z2", "1111011110111111"), ("M16Z2", "0111101110110111")];

/// The standard deviation of the values over a space.
const SPREAD: f64 = 0.03;

impl Landscape {
    /// The number of points from which every method starts.
    pub const FIRST_POINTS: u64 = 10;
    /// The standard deviation of the noise.
    pub const NOISE: f64 = 0.01;

    /// Returns the names of all landscapes, without the shuffled ones.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TABLE.iter().map(|row| row.0)
    }

    /// Returns the landscape with this name. The suffix `-shuffled` selects [`shuffled`](Self::shuffled) with seed 1,
    /// the suffix `-cliff` a variant with a cliff where there is one.
    pub fn named(name: &str) -> Option<Self> {
        if let Some(name) = name.strip_suffix("-shuffled") {
            return Self::named(name).map(|landscape| landscape.shuffled(1));
        }
        if let Some(name) = name.strip_suffix("-cliff") {
            let &(_, best) = CLIFFS.iter().find(|row| row.0 == name)?;
            return Self::named(name).map(|landscape| landscape.with_cliff(best));
        }
        let &(name, family, tag, choices, mean, spread, best, proven) = TABLE.iter().find(|row| row.0 == name)?;
        let symbols = [Symbol::ATTENTION, Symbol::SWIGLU, Symbol::MLP].into_iter().take(choices);
        let best: Vec<_> = best.bytes().map(|digit| usize::from(digit - b'0')).collect();
        let space = SearchSpace::uniform(symbols, best.len()).ok()?;
        Some(Self {
            name: name.into(),
            space,
            family,
            tag,
            mean,
            spread,
            best,
            proven,
            cliff: false,
            labels: Vec::new(),
        })
    }

    /// Returns the landscape of the same rules for sequences of another length, whose values have the same mean and
    /// spread (without the cliff). All its sequences are visited once: `None` if there are more than 2^20 of them, and
    /// for shuffled landscapes, whose labels are those of one length.
    pub fn of_length(&self, layers: usize) -> Option<Self> {
        let space = SearchSpace::uniform(self.space.choices(0).iter().copied(), layers).ok()?;
        if !self.labels.is_empty() || space.size() > 1 << 20 {
            return None;
        }
        let mut other = Self { name: format!("{}-{layers}", self.name), space, proven: true, ..self.clone() };
        let all: Vec<_> = other.space.iter().filter_map(|architecture| other.choices(&architecture)).collect();
        let scores: Vec<_> = all.iter().map(|choices| other.score(choices)).collect();
        let count = scores.len() as f64;
        other.mean = scores.iter().sum::<f64>() / count;
        other.spread = (scores.iter().map(|score| (score - other.mean).powi(2)).sum::<f64>() / count).sqrt();
        let best = all.iter().max_by(|a, b| other.value_of(a).total_cmp(&other.value_of(b)));
        other.best = best.cloned()?;
        Some(other)
    }

    /// Adds the cliff.
    fn with_cliff(self, best: &str) -> Self {
        let best = best.bytes().map(|digit| usize::from(digit - b'0')).collect();
        Self { name: self.name + "-cliff", best, cliff: true, ..self }
    }

    /// Permutes the labels of every layer independently. The values stay the same.
    #[must_use]
    pub fn shuffled(mut self, seed: u64) -> Self {
        const TAG: u64 = 0x5AFF;
        let permutation = |layer: usize| {
            let mut labels: Vec<_> = (0..self.space.choices(layer).len()).collect();
            for last in (1..labels.len()).rev() {
                labels.swap(last, below(TAG, [seed, layer as u64, last as u64], last + 1));
            }
            labels
        };
        self.labels = (0..self.space.layers()).map(permutation).collect();
        self.name += "-shuffled";
        self
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the space.
    pub fn space(&self) -> &SearchSpace {
        &self.space
    }

    /// Returns the value without noise; NaN outside the space.
    pub fn value(&self, architecture: &Architecture) -> f64 {
        self.choices(architecture).map_or(f64::NAN, |choices| self.value_of(&choices))
    }

    /// Returns the value with the noise of evaluation number `evaluation` in a search with this seed.
    pub fn noisy(&self, seed: u64, evaluation: u64, architecture: &Architecture) -> f64 {
        self.value(architecture) + Self::noise(seed, evaluation)
    }

    /// Returns the noise of one evaluation: a sum of twelve uniform numbers, approximately normal with standard
    /// deviation 0.01.
    pub fn noise(seed: u64, evaluation: u64) -> f64 {
        let sum = (0..12).fold(0.0, |sum, k| sum + u01(0x4E01, [seed, evaluation, k]));
        Self::NOISE * (sum - 6.0)
    }

    /// Returns one of the points from which every method starts.
    pub fn first_point(&self, seed: u64, index: u64) -> Architecture {
        let layer = |layer| {
            let choices = self.space.choices(layer);
            choices.get(below(0x1417, [seed, index, layer as u64], choices.len())).copied()
        };
        Architecture::new((0..self.space.layers()).filter_map(layer))
    }

    /// Returns the best sequence.
    pub fn best(&self) -> Architecture {
        let choice = |(layer, &wanted): (usize, &usize)| {
            let at = self.labels.get(layer).map_or(Some(wanted), |labels| labels.iter().position(|&l| l == wanted))?;
            self.space.choices(layer).get(at).copied()
        };
        Architecture::new(self.best.iter().enumerate().filter_map(choice))
    }

    /// Returns the value of the best sequence.
    pub fn optimum(&self) -> f64 {
        self.value_of(&self.best)
    }

    /// Whether the optimum is proven. Otherwise it is the best of a much heavier search than any that is compared.
    pub fn is_proven(&self) -> bool {
        self.proven
    }

    /// Returns the difference between the optimum and the value without noise; NaN outside the space.
    pub fn regret(&self, architecture: &Architecture) -> f64 {
        self.optimum() - self.value(architecture)
    }

    /// Returns the index of the choice of every layer.
    fn choices(&self, architecture: &Architecture) -> Option<Vec<usize>> {
        let choice = |(layer, symbol): (usize, &Symbol)| {
            let at = self.space.choices(layer).iter().position(|choice| choice == symbol)?;
            self.labels.get(layer).map_or(Some(at), |labels| labels.get(at).copied())
        };
        let choices: Vec<_> = architecture.layers().iter().enumerate().map(choice).collect::<Option<_>>()?;
        (choices.len() == self.space.layers()).then_some(choices)
    }

    fn value_of(&self, choices: &[usize]) -> f64 {
        let value = 0.60 + SPREAD * ((self.score(choices) - self.mean) / self.spread);
        if self.cliff { value + cliff(choices) } else { value }
    }

    fn score(&self, choices: &[usize]) -> f64 {
        match self.family {
            Family::Order => order::score(self.tag, choices),
            Family::Epistasis => epistasis::score(self.tag, choices),
            Family::Mechanism => mechanism::score(self.tag, choices),
        }
    }
}

/// Fewer attention layers (choice 0) are better by up to 0.12 on either side of one half, but with one of them 0.12 is
/// lost, and without any 0.42.
fn cliff(a: &[usize]) -> f64 {
    let attention = a.iter().filter(|&&z| z == 0).count();
    let lost = [0.42, 0.12].get(attention).copied().unwrap_or(0.0);
    0.24 * (0.5 - attention as f64 / a.len() as f64) - lost
}

/// Returns the lengths of the maximal runs of equal choices.
fn runs(a: &[usize]) -> impl Iterator<Item = usize> {
    a.chunk_by(|x, y| x == y).map(<[usize]>::len)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde::Deserialize;

    use super::{hash::c11, *};

    #[derive(Deserialize)]
    struct Vectors {
        #[serde(flatten)]
        landscapes: HashMap<String, Expected>,
        noise_seed3: [String; 10],
        mix: HashMap<String, String>,
    }

    #[derive(Deserialize)]
    struct Expected {
        #[serde(rename = "n")]
        layers: usize,
        #[serde(rename = "Z")]
        choices: usize,
        optimum: Vec<usize>,
        f_opt_hex: String,
        points: Vec<Point>,
    }

    #[derive(Deserialize)]
    struct Point {
        a: Vec<usize>,
        f: f64,
        f_hex: String,
        #[serde(rename = "S_hex")]
        score_hex: String,
    }

    /// Parses a number such as `0x1.8p-1`.
    fn hexadecimal(text: &str) -> f64 {
        let (sign, text) = text.strip_prefix('-').map_or((1.0, text), |text| (-1.0, text));
        let (digits, exponent) = text.strip_prefix("0x1.").unwrap().split_once('p').unwrap();
        let fraction = u64::from_str_radix(digits, 16).unwrap() as f64 / 16f64.powi(digits.len() as i32);
        sign * (1.0 + fraction) * 2f64.powi(exponent.parse().unwrap())
    }

    fn vectors() -> Vectors {
        serde_json::from_str(include_str!("../../tests/fixtures/bo/regret_vectors.json")).unwrap()
    }

    #[test]
    fn the_published_landscapes_agree_with_their_vectors_to_the_last_bit() {
        let vectors = vectors();
        assert_eq!(vectors.landscapes.len(), 3);
        for (name, expected) in &vectors.landscapes {
            let landscape = Landscape::named(name).unwrap();
            assert_eq!(landscape.space().layers(), expected.layers);
            assert!((0..expected.layers).all(|layer| landscape.space().choices(layer).len() == expected.choices));
            assert_eq!((&landscape.best, landscape.optimum()), (&expected.optimum, hexadecimal(&expected.f_opt_hex)));
            assert_eq!(expected.points.len() as u64, Landscape::FIRST_POINTS);
            for (index, point) in (0..).zip(&expected.points) {
                let architecture = landscape.first_point(3, index);
                assert_eq!(landscape.choices(&architecture).unwrap(), point.a, "{name} {index}");
                assert_eq!(landscape.score(&point.a), hexadecimal(&point.score_hex), "{name} {index}");
                assert_eq!(landscape.value(&architecture), hexadecimal(&point.f_hex), "{name} {index}");
                assert_eq!(landscape.value(&architecture), point.f);
            }
        }
        for (evaluation, noise) in (0..).zip(&vectors.noise_seed3) {
            assert_eq!(Landscape::noise(3, evaluation), hexadecimal(noise));
        }
        for (state, mixed) in &vectors.mix {
            assert_eq!(hash::mix(state.parse().unwrap()).to_string(), *mixed);
        }
    }

    fn all() -> impl Iterator<Item = Landscape> {
        Landscape::names().map(|name| Landscape::named(name).unwrap())
    }

    #[test]
    fn every_landscape_has_the_spread_that_it_says() {
        for landscape in all() {
            let mut rng = crate::seed::Seed(1).rng("landscape", 0);
            let values: Vec<_> = (0..20_000).map(|_| landscape.value(&landscape.space.sample(&mut rng))).collect();
            let mean = values.iter().sum::<f64>() / 2e4;
            let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 2e4).sqrt();
            assert!(
                (mean - 0.60).abs() < 0.002 && (deviation - SPREAD).abs() < 0.002,
                "{}: {mean} {deviation}",
                landscape.name
            );
            assert_eq!(landscape.value(&landscape.best()), landscape.optimum());
            assert!(values.iter().all(|&value| value <= landscape.optimum()), "{}", landscape.name);
        }
    }

    #[test]
    fn shuffling_renames_and_changes_nothing_else() {
        for landscape in all() {
            let shuffled = landscape.clone().shuffled(1);
            assert_eq!(Landscape::named(shuffled.name()).unwrap().labels, shuffled.labels);
            assert_ne!(shuffled.best(), landscape.best());
            assert_eq!(shuffled.value(&shuffled.best()), landscape.optimum());
            assert_ne!(landscape.clone().shuffled(2).labels, shuffled.labels);
        }
        let sorted = |landscape: &Landscape| {
            let mut values: Vec<_> = landscape.space.iter().map(|a| landscape.value(&a)).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let landscape = Landscape::named("M16Z2").unwrap();
        assert_eq!(sorted(&landscape), sorted(&landscape.clone().shuffled(1)));
    }

    #[test]
    fn a_cliff_is_near_the_best_and_nothing_else_changes() {
        for (name, _) in CLIFFS {
            let landscape = Landscape::named(&format!("{name}-cliff")).unwrap();
            let flat = Landscape::named(name).unwrap();
            let mut best = f64::NEG_INFINITY;
            enumerate(16, 2, |a| best = best.max(landscape.value_of(a)));
            assert_eq!(best, landscape.optimum(), "{name}");
            assert!((2..=5).contains(&landscape.best().count(Symbol::ATTENTION)), "{name}");
            for text in ["16M", "1M+1A+14M", "2A+14M", "4A+8M+4A", "16A"] {
                let architecture: Architecture = text.parse().unwrap();
                let attention = architecture.count(Symbol::ATTENTION);
                let tilt = 0.24 * (0.5 - attention as f64 / 16.0);
                let lost = flat.value(&architecture) + tilt - landscape.value(&architecture);
                let expected = [0.42, 0.12].get(attention).copied().unwrap_or(0.0);
                assert!((lost - expected).abs() < 1e-12, "{name} {text}");
            }
        }
        assert!(Landscape::named("L16Z3-cliff").is_none());
    }

    #[test]
    fn other_lengths_have_the_same_rules_and_spread() {
        for (name, layers) in [("L16Z2", 8), ("E16Z2", 6), ("M16Z2", 10), ("L16Z3", 6), ("M16Z2-cliff", 6)] {
            let landscape = Landscape::named(name).unwrap();
            let part = landscape.of_length(layers).unwrap();
            let values: Vec<_> = part.space.iter().map(|architecture| part.value(&architecture)).collect();
            assert_eq!(part.optimum(), values.iter().copied().fold(f64::MIN, f64::max), "{name}");
            if !landscape.cliff {
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
                let spread = (squares / values.len() as f64).sqrt();
                assert!((mean - 0.60).abs() < 1e-9 && (spread - SPREAD).abs() < 1e-9, "{name}: {mean} {spread}");
            }
        }
        let landscape = Landscape::named("L16Z2").unwrap();
        let same = landscape.of_length(16).unwrap();
        let first = landscape.first_point(1, 0);
        assert_eq!(same.best, landscape.best);
        assert!((same.value(&first) - landscape.value(&first)).abs() < 3e-3);
        assert!(landscape.of_length(21).is_none() && landscape.shuffled(1).of_length(6).is_none());
    }

    #[test]
    fn outside_the_space_there_is_no_value() {
        let landscape = Landscape::named("L16Z2").unwrap();
        for text in ["A", "16F", "17A"] {
            assert!(landscape.value(&text.parse().unwrap()).is_nan());
        }
        assert!(Landscape::named("L16Z9").is_none() && Landscape::named("").is_none());
    }

    /// Computes the best score of an order landscape by dynamic programming over the last two choices and the number of
    /// layers with choice 0.
    fn best_order(tag: u64, n: usize, choices: usize) -> f64 {
        let layer = |i: usize, z: usize| {
            let depth = 2.0 * i as f64 / (n - 1) as f64 - 1.0;
            c11(tag, [1, z as u64]) * depth + 0.5 * c11(tag, [2, i as u64, z as u64])
        };
        let pair = |i: usize, x: usize, y: usize| {
            c11(tag, [3, x as u64, y as u64]) + 0.5 * c11(tag, [4, i as u64, x as u64, y as u64])
        };
        let raise = |to: &mut HashMap<_, f64>, state: (usize, usize, usize), score: f64| {
            let best = to.entry(state).or_insert(f64::NEG_INFINITY);
            *best = best.max(score);
        };
        let mut states = HashMap::new();
        for (x, y) in (0..choices).flat_map(|x| (0..choices).map(move |y| (x, y))) {
            let zeros = usize::from(x == 0) + usize::from(y == 0);
            raise(&mut states, (x, y, zeros), layer(0, x) + layer(1, y) + pair(0, x, y));
        }
        for i in 2..n {
            let mut next = HashMap::new();
            for (&(x, y, zeros), score) in &states {
                for z in 0..choices {
                    let run = if x == y && y == z { 0.5 } else { 0.0 };
                    let gain = layer(i, z) + pair(i - 1, y, z) + 0.5 * c11(tag, [5, x as u64, z as u64]) - run;
                    raise(&mut next, (y, z, zeros + usize::from(z == 0)), score + gain);
                }
            }
            states = next;
        }
        let balance = |zeros: usize| 16.0 * (zeros as f64 / n as f64 - 0.5).powi(2);
        states.iter().map(|(&(_, _, zeros), score)| score - balance(zeros)).fold(f64::NEG_INFINITY, f64::max)
    }

    #[test]
    fn the_optima_of_order_are_proven_by_dynamic_programming() {
        for (landscape, _) in all().zip(0..3) {
            let n = landscape.space.layers();
            let choices = landscape.space.choices(0).len();
            let proven = best_order(landscape.tag, n, choices);
            assert!((proven - landscape.score(&landscape.best)).abs() < 1e-9, "{}: {proven}", landscape.name);
        }
    }

    /// Visits all sequences of choices.
    fn enumerate(layers: usize, choices: usize, mut visit: impl FnMut(&[usize])) {
        let mut a = vec![0; layers];
        loop {
            visit(&a);
            let Some(at) = a.iter().rposition(|&z| z + 1 < choices) else { return };
            a[at] += 1;
            a[at + 1..].fill(0);
        }
    }

    /// Improves single layers and pairs of layers until nothing helps.
    fn climb(landscape: &Landscape, a: &mut [usize], score: &mut f64) {
        let choices = landscape.space.choices(0).len();
        'again: loop {
            for i in 0..a.len() {
                for j in i..(i + 4).min(a.len()) {
                    let old = (a[i], a[j]);
                    for pair in 0..choices * choices {
                        (a[i], a[j]) = (pair / choices, pair % choices);
                        let next = landscape.score(a);
                        if next > *score {
                            *score = next;
                            continue 'again;
                        }
                    }
                    (a[i], a[j]) = old;
                }
            }
            return;
        }
    }

    /// Returns the best of many perturbed local searches, and the number of chains that reached it.
    fn search(landscape: &Landscape, chains: u64, rounds: u64) -> (f64, Vec<usize>, u64) {
        let layers = landscape.space.layers();
        let choices = landscape.space.choices(0).len();
        let mut best = (f64::NEG_INFINITY, Vec::new(), 0);
        for chain in 0..chains {
            let mut a: Vec<_> = (0..layers).map(|i| below(1, [chain, i as u64], choices)).collect();
            let mut score = landscape.score(&a);
            climb(landscape, &mut a, &mut score);
            for round in 0..rounds {
                let mut b = a.clone();
                for k in 0..3 + below(2, [chain, round], 5) as u64 {
                    b[below(3, [chain, round, k], layers)] = below(4, [chain, round, k], choices);
                }
                let mut other = landscape.score(&b);
                climb(landscape, &mut b, &mut other);
                if other >= score {
                    a = b;
                    score = other;
                }
            }
            if score > best.0 {
                best = (score, a, 1);
            } else if score == best.0 {
                best.2 += 1;
            }
        }
        best
    }

    fn digits(a: &[usize]) -> String {
        a.iter().map(ToString::to_string).collect()
    }

    #[test]
    #[ignore = "minutes: how the means, spreads and the best of 16 layers were found"]
    fn calibration() {
        for landscape in all() {
            let layers = landscape.space.layers();
            let choices = landscape.space.choices(0).len();
            let mut count = 0.0;
            let mut sum = 0.0;
            let mut squares = 0.0;
            let mut best = (f64::NEG_INFINITY, Vec::new());
            let mut add = |a: &[usize]| {
                let score = landscape.score(a);
                count += 1.0;
                sum += score;
                squares += score * score;
                if score > best.0 {
                    best = (score, a.to_vec());
                }
            };
            if layers == 16 {
                enumerate(layers, choices, &mut add);
                assert_eq!(best.1, landscape.best, "{}", landscape.name);
            } else {
                let choice = |t, i| below(5, [t, i as u64], choices);
                (0..400_000).for_each(|t| add(&(0..layers).map(|i| choice(t, i)).collect::<Vec<_>>()));
            }
            let mean = sum / count;
            println!("{} {mean} {}", landscape.name, (squares / count - mean * mean).sqrt());
        }
    }

    #[test]
    #[ignore = "minutes: how the best of 32 layers were found"]
    fn heavy_search() {
        for landscape in all().filter(|landscape| landscape.space.layers() == 32) {
            let (score, best, chains) = search(&landscape, 48, 400);
            println!("{} {} {score} from {chains} of 48 chains", landscape.name, digits(&best));
            assert!(score <= landscape.score(&landscape.best), "{}", landscape.name);
        }
    }
}
