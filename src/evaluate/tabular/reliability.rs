//! The reliability of the ranking of a table.

use rand::seq::SliceRandom;

use super::Table;
use crate::{
    seed::Seed,
    statistics::{Estimate, bootstrap, mean, spearman, spearman_brown},
};

/// Number of bootstrap draws.
const RESAMPLES: u64 = 200;

impl Table {
    /// Returns the split-half reliability of mean scores over `seeds` seeds: how well they rank the architectures as
    /// another `seeds` seeds would. 1 is perfect, 0 is chance.
    ///
    /// The [seeds](Self::seeds) of the table are divided into two random halves of `h` each, `splits` times. The
    /// reliability of `h` seeds is the mean Spearman correlation of the two mean scores. If the table has at least
    /// twice `seeds` seeds, `h` is `seeds`. Otherwise `h` is half of what it has, and the result is extrapolated by the
    /// formula of Spearman and Brown. The 95 % interval is a bootstrap over architectures.
    ///
    /// All architectures are split in the same way. If a seed means different random draws in each architecture, as in
    /// a search, the result is the reliability of a search. If it means the same draws in all of them, the noise that
    /// they share cancels. First select sequences of [one length](Self::of_length). Returns `None` if there are fewer
    /// than two seeds, if `seeds` or `splits` is 0, or if all scores are equal.
    pub fn reliability(&self, seeds: usize, splits: u64, seed: Seed) -> Option<Estimate> {
        let mut numbers = self.seeds();
        let half = seeds.min(numbers.len() / 2);
        if half == 0 || splits == 0 {
            return None;
        }
        let split = |index| {
            numbers.shuffle(&mut seed.rng("reliability", index));
            let over = |architecture, seeds: &[u64]| {
                mean(&seeds.iter().filter_map(|&seed| self.score(architecture, seed)).collect::<Vec<_>>())
            };
            self.architectures().map(|a| (over(a, &numbers[..half]), over(a, &numbers[half..2 * half]))).unzip()
        };
        let splits: Vec<(Vec<f64>, Vec<f64>)> = (0..splits).map(split).collect();
        bootstrap(self.architectures().count(), RESAMPLES, seed, |drawn| {
            let of = |values: &[f64]| drawn.iter().map(|&at| values[at]).collect::<Vec<_>>();
            let correlations: Option<Vec<f64>> = splits.iter().map(|(a, b)| spearman(&of(a), &of(b))).collect();
            Some(spearman_brown(mean(&correlations?), seeds as f64 / half as f64))
        })
    }
}

#[cfg(test)]
mod tests {
    use rand_distr::{Distribution, StandardNormal};

    use super::*;
    use crate::{evaluate::tabular::Row, primitive::Symbol, space::SearchSpace};

    /// 64 architectures whose true scores spread with standard deviation 1, measured with noise of this size.
    fn noisy(seeds: u64, noise: f64) -> Table {
        let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 6).unwrap();
        let mut table = Table::new([""; 0]).unwrap();
        for (number, architecture) in space.iter().enumerate() {
            let mut rng = Seed(7).rng("noisy", number as u64);
            let truth: f64 = StandardNormal.sample(&mut rng);
            for seed in 0..seeds {
                let error: f64 = StandardNormal.sample(&mut rng);
                let row = Row { architecture: architecture.clone(), seed, values: vec![truth + noise * error] };
                table.insert(row).unwrap();
            }
        }
        table
    }

    #[test]
    fn reliability_is_what_the_noise_makes_it() {
        // The intraclass correlation of k seeds is 1 / (1 + noise² / k), for normal scores.
        let table = noisy(8, 1.0);
        for (seeds, expected) in [(1, 0.5), (2, 2.0 / 3.0), (4, 0.8), (16, 16.0 / 17.0)] {
            let found = table.reliability(seeds, 40, Seed(1)).unwrap();
            // Spearman is a little below Pearson; 64 architectures leave an error of about 0.1 at one half.
            assert!((found.value - expected).abs() < 0.12, "{seeds}: {found:?}");
            assert!(found.low < found.value && found.value < found.high && found.high <= 1.0, "{found:?}");
        }
        let again = table.reliability(2, 40, Seed(1));
        assert_eq!(again, table.reliability(2, 40, Seed(1)));
        assert!(noisy(4, 0.0).reliability(2, 5, Seed(1)).is_some_and(|r| r.value > 1.0 - 1e-12));
        assert!(noisy(8, 30.0).reliability(1, 40, Seed(1)).is_some_and(|r| r.value.abs() < 0.2));
    }

    #[test]
    fn what_a_seed_does_to_all_cancels() {
        let table = noisy(4, 1.0);
        let mut shifted = Table::new([""; 0]).unwrap();
        for mut row in table.rows() {
            row.values[0] += [3.0, -5.0, 0.5, 9.0][row.seed as usize];
            shifted.insert(row).unwrap();
        }
        let a = table.reliability(2, 9, Seed(1)).unwrap();
        let b = shifted.reliability(2, 9, Seed(1)).unwrap();
        assert!((a.value - b.value).abs() < 1e-9, "{a:?} {b:?}");
    }

    #[test]
    fn without_enough_there_is_none() {
        assert_eq!(noisy(1, 1.0).reliability(1, 9, Seed(0)), None);
        assert_eq!(noisy(4, 1.0).reliability(0, 9, Seed(0)), None);
        assert_eq!(noisy(4, 1.0).reliability(1, 0, Seed(0)), None);
        assert_eq!(Table::new([""; 0]).unwrap().reliability(1, 9, Seed(0)), None);
        let constant: Table = "architecture,seed,score\nA,0,1\nA,1,1\nM,0,1\nM,1,1\n".parse().unwrap();
        assert_eq!(constant.reliability(1, 9, Seed(0)), None);
    }
}
