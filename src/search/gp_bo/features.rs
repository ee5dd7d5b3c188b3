//! Features of a sequence of layers: one block of numbers for each way in which layers may matter. The terms of the
//! structured kernel are linear in these blocks, except for the last term, which has no features.
//!
//! | symbol | meaning |
//! |---|---|
//! | n, Z | number of layers, of symbols |
//! | a_i, t_i | code of layer i, its position 2i/(n-1) - 1 in [-1, 1] |
//! | c_z | number of layers of symbol z |
//! | d | number of features of a block |
//!
//! Blocks with one feature per layer can express any effect of any position. Blocks that layers share have few numbers
//! and are therefore learnt from few observations, if the effect of a layer depends only on its neighbours or its
//! position. Every feature is centred and scaled over the space, and every block is divided by sqrt(d), so a linear
//! kernel on any block has a mean variance of 1.

use nalgebra::DMatrix;

use super::{GpError, encoding::Encoder};
use crate::{
    seed::Seed,
    space::{Architecture, SearchSpace},
};

/// A term of the structured kernel: one way in which layers may matter. See
/// [`GpBo::structured`](super::GpBo::structured).
///
/// Symbols: `a_i` is layer `i` of `n`, at position `t_i = 2i/(n-1) - 1`; `c_z` is the number of layers of symbol `z`;
/// `Z` is the number of symbols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Term {
    /// `[a_i = z]`: the symbol at each position.
    Layers,
    /// `c_z`: the number of layers of each symbol.
    Counts,
    /// `sum_i [a_i = z] t_i`: whether a symbol comes early or late.
    Slopes,
    /// `sum_i [a_i = z] (3 t_i^2 - 1)/2`: whether a symbol is at the ends or in the middle.
    Bends,
    /// `[a_i = x, a_{i+1} = y]`: the pair of symbols at each position.
    Pairs,
    /// `sum_i [a_i = x, a_{i+1} = y]`: how often one symbol follows another.
    Successions,
    /// `sum_i [a_i = x, a_{i+2} = y]`: the same at distance two.
    Skips,
    /// For each symbol: the number of runs, the number of layers beyond the second of a run, and the longest run.
    Runs,
    /// `(c_x/n - 1/Z)(c_y/n - 1/Z)`: quadratic effects of the ratios.
    Ratios,
    /// An exponential of the share of layers that differ: everything else. Without this term, some functions cannot be
    /// learnt from any number of observations.
    Distance,
}

impl Term {
    /// All terms, in a fixed order.
    pub const ALL: [Term; 10] = [
        Term::Layers,
        Term::Counts,
        Term::Slopes,
        Term::Bends,
        Term::Pairs,
        Term::Successions,
        Term::Skips,
        Term::Runs,
        Term::Ratios,
        Term::Distance,
    ];

    /// Returns the name used in reports and fingerprints.
    pub fn name(self) -> &'static str {
        match self {
            Term::Layers => "layers",
            Term::Counts => "counts",
            Term::Slopes => "slopes",
            Term::Bends => "bends",
            Term::Pairs => "pairs",
            Term::Successions => "successions",
            Term::Skips => "skips",
            Term::Runs => "runs",
            Term::Ratios => "ratios",
            Term::Distance => "distance",
        }
    }

    /// Returns the features (d) of one sequence of codes (n), before centring.
    fn raw(self, codes: &[usize], symbols: usize) -> Vec<f64> {
        let n = codes.len();
        let place = |i: usize| if n > 1 { 2.0 * i as f64 / (n - 1) as f64 - 1.0 } else { 0.0 };
        let per_symbol = |weight: &dyn Fn(usize) -> f64| {
            let mut sums = vec![0.0; symbols];
            codes.iter().enumerate().for_each(|(i, &code)| sums[code] += weight(i));
            sums
        };
        let at_distance = |distance: usize| {
            let mut sums = vec![0.0; symbols * symbols];
            let later = codes.iter().skip(distance);
            codes.iter().zip(later).for_each(|(&x, &y)| sums[x * symbols + y] += 1.0);
            sums
        };
        match self {
            Term::Layers => one_hot(codes.iter().copied(), symbols),
            Term::Counts => per_symbol(&|_| 1.0),
            Term::Slopes => per_symbol(&place),
            Term::Bends => per_symbol(&|i| 1.5 * place(i) * place(i) - 0.5),
            Term::Pairs => one_hot(codes.windows(2).map(|pair| pair[0] * symbols + pair[1]), symbols * symbols),
            Term::Successions => at_distance(1),
            Term::Skips => at_distance(2),
            Term::Runs => {
                let mut features = vec![0.0; 3 * symbols];
                for run in codes.chunk_by(|a, b| a == b) {
                    let own = &mut features[3 * run[0]..][..3];
                    own[0] += 1.0;
                    own[1] += run.len().saturating_sub(2) as f64;
                    own[2] = own[2].max(run.len() as f64);
                }
                features
            }
            Term::Ratios => {
                let excess: Vec<_> = per_symbol(&|_| 1.0).iter().map(|c| c / n as f64 - 1.0 / symbols as f64).collect();
                let pairs = (0..symbols).flat_map(|x| (x..symbols).map(move |y| (x, y)));
                pairs.map(|(x, y)| excess[x] * excess[y]).collect()
            }
            Term::Distance => Vec::new(),
        }
    }
}

fn one_hot(codes: impl Iterator<Item = usize>, size: usize) -> Vec<f64> {
    codes.flat_map(|code| (0..size).map(move |value| f64::from(u8::from(value == code)))).collect()
}

/// Computes the features of the architectures of one space.
#[derive(Clone, Debug)]
pub(super) struct FeatureMap {
    encoder: Encoder,
    blocks: Vec<Scaled>,
}

/// The features and codes of N sequences.
#[derive(Clone, Debug)]
pub(super) struct Described {
    /// One d x N matrix per term that has features, with one column per sequence.
    pub(super) features: Vec<DMatrix<f64>>,
    /// The codes of each sequence, N lists of n.
    pub(super) codes: Vec<Vec<usize>>,
}

/// A block with the means and scales of its features.
#[derive(Clone, Debug)]
struct Scaled {
    term: Term,
    centre: Vec<f64>,
    scale: Vec<f64>,
}

/// Returns those of `terms` that have features, in order.
pub(super) fn linear(terms: &[Term]) -> impl Iterator<Item = Term> {
    terms.iter().copied().filter(|&term| term != Term::Distance)
}

/// The number of sequences from which means and scales are computed.
const SAMPLES: u64 = 512;

impl FeatureMap {
    /// Creates the blocks of `terms`, scaled over a fixed set of sequences drawn from the space.
    ///
    /// # Errors
    /// Never, because only sequences of the space are encoded; the error type is that of [`describe`](Self::describe).
    pub(super) fn new(space: &SearchSpace, terms: &[Term]) -> Result<Self, GpError> {
        let encoder = Encoder::new(space);
        let sample = |index| encoder.codes(&space.sample(&mut Seed(0).rng("gp_bo/features", index)));
        let samples = (0..SAMPLES).map(sample).collect::<Result<Vec<_>, _>>()?;
        let blocks = linear(terms).map(|term| Scaled::new(term, &samples, encoder.symbols())).collect();
        Ok(Self { encoder, blocks })
    }

    /// Returns the features and codes of architectures.
    ///
    /// # Errors
    /// [`GpError::OutsideSpace`] for the first architecture that does not lie in the space.
    pub(super) fn features<'a>(
        &self,
        architectures: impl IntoIterator<Item = &'a Architecture>,
    ) -> Result<Described, GpError> {
        let codes: Vec<_> = architectures.into_iter().map(|one| self.encoder.codes(one)).collect::<Result<_, _>>()?;
        let features = self.blocks.iter().map(|block| block.columns(&codes, self.encoder.symbols())).collect();
        Ok(Described { features, codes })
    }
}

impl Scaled {
    fn new(term: Term, samples: &[Vec<usize>], symbols: usize) -> Self {
        let rows: Vec<_> = samples.iter().map(|codes| term.raw(codes, symbols)).collect();
        let count = rows.len().max(1) as f64;
        let features = rows.first().map_or(0, Vec::len);
        let mean = |of: &dyn Fn(&Vec<f64>) -> f64| rows.iter().map(of).sum::<f64>() / count;
        let centre: Vec<_> = (0..features).map(|k| mean(&|row| row[k])).collect();
        let spread = |k: usize| mean(&|row| (row[k] - centre[k]).powi(2)).sqrt();
        // A feature that never varies carries no information.
        let unit = |sd: f64| if sd > 1e-9 { 1.0 / (sd * (features as f64).sqrt()) } else { 0.0 };
        Self { term, scale: (0..features).map(|k| unit(spread(k))).collect(), centre }
    }

    fn columns(&self, codes: &[Vec<usize>], symbols: usize) -> DMatrix<f64> {
        let mut columns = DMatrix::zeros(self.centre.len(), codes.len());
        for (mut column, codes) in columns.column_iter_mut().zip(codes) {
            let raw = self.term.raw(codes, symbols);
            for (k, out) in column.iter_mut().enumerate() {
                *out = (raw[k] - self.centre[k]) * self.scale[k];
            }
        }
        columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitive::Symbol;

    fn codes(text: &str) -> Vec<usize> {
        text.bytes().map(|letter| usize::from(letter - b'a')).collect()
    }

    #[test]
    fn blocks_are_what_their_definitions_say() {
        let raw = |term: Term, text| term.raw(&codes(text), 2);
        assert_eq!(raw(Term::Layers, "ab"), [1.0, 0.0, 0.0, 1.0]);
        assert_eq!(raw(Term::Counts, "aab"), [2.0, 1.0]);
        assert_eq!(raw(Term::Slopes, "aab"), [-1.0, 1.0]);
        assert_eq!(raw(Term::Bends, "aab"), [0.5, 1.0]);
        assert_eq!(raw(Term::Pairs, "aab"), [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
        assert_eq!(raw(Term::Successions, "aabb"), [1.0, 1.0, 0.0, 1.0]);
        assert_eq!(raw(Term::Skips, "aabb"), [0.0, 2.0, 0.0, 0.0]);
        assert_eq!(raw(Term::Runs, "aaabaa"), [2.0, 1.0, 3.0, 1.0, 0.0, 1.0]);
        assert_eq!(raw(Term::Ratios, "aaab"), [0.0625, -0.0625, 0.0625]);
        assert_eq!(raw(Term::Slopes, "a"), [0.0, 0.0]);
    }

    #[test]
    fn every_block_has_a_mean_variance_of_one() {
        let symbols = [Symbol::ATTENTION, Symbol::SWIGLU, Symbol::MLP];
        for layers in [1, 2, 6, 16] {
            let space = SearchSpace::uniform(symbols, layers).unwrap();
            let feature_map = FeatureMap::new(&space, &Term::ALL).unwrap();
            let mut rng = Seed(1).rng("test", 0);
            let sample: Vec<_> = (0..2000).map(|_| space.sample(&mut rng)).collect();
            let blocks = feature_map.features(&sample).unwrap().features;
            for (block, columns) in linear(&Term::ALL).zip(&blocks) {
                let variance = columns.column_iter().map(|column| column.norm_squared()).sum::<f64>() / 2000.0;
                // With few layers some features cannot vary.
                let varies = columns.iter().any(|value| *value != 0.0);
                assert!(!varies || (0.3..1.4).contains(&variance), "{block:?} at {layers}: {variance}");
                assert!(layers < 6 || (0.9..1.1).contains(&variance), "{block:?} at {layers}: {variance}");
            }
        }
    }
}
