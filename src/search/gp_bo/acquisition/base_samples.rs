//! Base samples for Monte-Carlo acquisition values: standard normals from a scrambled Sobol sequence.
//!
//! For a smooth integrand, the error of quasi-random base samples decreases almost as `1 / M` instead of `1 / sqrt M`
//! (Balandat et al. 2020, arXiv 1910.06403, section 3.2). Fixed base samples also make the acquisition function
//! deterministic. The scrambling is Owen's, by hashing (Burley 2020, "Practical Hash-based Owen Scrambling", JCGT
//! 9(4)).

use nalgebra::DMatrix;
use rand::{RngExt, SeedableRng};
use rand_distr::StandardNormal;
use sobol_burley::NUM_DIMENSIONS;

use crate::seed::Rng;

/// The maximum number of points of the Sobol generator.
const MAX_SAMPLES: usize = 1 << 16;

/// Returns a matrix of standard normals of shape `samples` x `dims`, one joint draw per row. It depends only on one
/// number drawn from `rng`.
///
/// Each row is a point of the scrambled Sobol sequence, mapped by the inverse of the normal distribution function. Use
/// a power of two for `samples`. Beyond the generator's 256 dimensions or 65,536 points, the numbers are independent
/// normals.
pub(crate) fn base_samples(samples: usize, dims: usize, rng: &mut Rng) -> DMatrix<f64> {
    let seed = rng.random::<u32>();
    if dims > NUM_DIMENSIONS as usize || samples > MAX_SAMPLES {
        let mut rng = Rng::seed_from_u64(u64::from(seed));
        return DMatrix::from_fn(samples, dims, |_, _| rng.sample(StandardNormal));
    }
    let mut z = DMatrix::zeros(samples, dims);
    // The generator computes four dimensions of a point at the cost of one.
    for four in 0..dims.div_ceil(4) {
        for row in 0..samples {
            // Both numbers are below 2^16.
            let point = sobol_burley::sample_4d(row as u32, four as u32, seed);
            (4 * four..dims).zip(point).for_each(|(dim, u)| z[(row, dim)] = normal(u));
        }
    }
    z
}

/// Returns the normal quantile at the middle of the cell of the 24-bit grid that contains `u`, so never at 0 or 1.
fn normal(u: f32) -> f64 {
    let p = f64::from(u) + 0.5 / f64::from(1 << 24);
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180_625 - q * q;
        return q * horner(&CENTRE.0, r) / horner(&CENTRE.1, r);
    }
    // The smaller tail keeps all its digits.
    let r = (-p.min(1.0 - p).ln()).sqrt() - 1.6;
    q.signum() * horner(&TAIL.0, r) / horner(&TAIL.1, r)
}

/// Evaluates the polynomial with these coefficients, lowest order first.
fn horner(coefficients: &[f64; 8], x: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, coefficient| sum * x + coefficient)
}

/// Coefficients of numerator and denominator.
type Rational = ([f64; 8], [f64; 8]);

/// The quantile for probabilities between 0.075 and 0.925: PPND16 of Wichura (1988), algorithm AS 241, Applied
/// Statistics 37(3), accurate to 16 digits.
const CENTRE: Rational = (
    [
        3.387_132_872_796_366_5,
        133.141_667_891_784_38,
        1_971.590_950_306_551_3,
        13_731.693_765_509_46,
        45_921.953_931_549_87,
        67_265.770_927_008_7,
        33_430.575_583_588_13,
        2_509.080_928_730_122_7,
    ],
    [
        1.0,
        42.313_330_701_600_91,
        687.187_007_492_057_9,
        5_394.196_021_424_751,
        21_213.794_301_586_597,
        39_307.895_800_092_71,
        28_729.085_735_721_943,
        5_226.495_278_852_854,
    ],
);

/// The quantile in the tails, down to a probability of e^-25.
const TAIL: Rational = (
    [
        1.423_437_110_749_683_5,
        4.630_337_846_156_546,
        5.769_497_221_460_691,
        3.647_848_324_763_204_5,
        1.270_458_252_452_368_4,
        0.241_780_725_177_450_6,
        0.022_723_844_989_269_184,
        7.745_450_142_783_414e-4,
    ],
    [
        1.0,
        2.053_191_626_637_759,
        1.676_384_830_183_803_8,
        0.689_767_334_985_1,
        0.148_103_976_427_480_08,
        0.015_198_666_563_616_457,
        5.475_938_084_995_345e-4,
        1.050_750_071_644_416_9e-9,
    ],
);

#[cfg(test)]
mod tests {
    use std::f64::consts::FRAC_1_SQRT_2;

    use super::*;
    use crate::seed::Seed;

    fn draw(samples: usize, dims: usize, seed: u64) -> DMatrix<f64> {
        base_samples(samples, dims, &mut Seed(seed).rng("test", 0))
    }

    #[test]
    fn the_same_stream_gives_the_same_samples() {
        assert_eq!(draw(64, 5, 1), draw(64, 5, 1));
        assert_ne!(draw(64, 5, 1), draw(64, 5, 2));
        // The columns of fewer dimensions are a part of the columns of more.
        assert_eq!(draw(64, 5, 1), draw(64, 9, 1).columns(0, 5));
    }

    #[test]
    fn moments_are_those_of_independent_normals() {
        let z = draw(512, 45, 3);
        let mut correlations = Vec::new();
        for i in 0..z.ncols() {
            assert!(z.column(i).mean().abs() < 5e-3, "mean {i}: {}", z.column(i).mean());
            assert!((z.column(i).norm_squared() / 512.0 - 1.0).abs() < 0.02, "variance {i}");
            correlations.extend((0..i).map(|j| z.column(i).dot(&z.column(j)) / 512.0));
        }
        // A few pairs of dimensions of a Sobol sequence are filled badly by this few points; on the whole correlations
        // are no larger than those of independent normals, 1 / sqrt 512.
        let square: f64 = correlations.iter().map(|r| r * r).sum::<f64>() / correlations.len() as f64;
        let largest = correlations.iter().fold(0.0_f64, |largest, r| largest.max(r.abs()));
        println!("correlations of 45 dimensions: root mean square {:.4}, largest {largest:.3}", square.sqrt());
        assert!(square < 1.0 / 512.0 && largest < 0.35, "{square} {largest}");
    }

    #[test]
    fn every_stratum_of_every_dimension_is_hit_once() {
        let z = draw(256, 40, 4);
        for column in z.column_iter() {
            let mut strata: Vec<_> = column.iter().map(|z| (128.0 * libm::erfc(-z * FRAC_1_SQRT_2)) as usize).collect();
            strata.sort_unstable();
            assert_eq!(strata, (0..256).collect::<Vec<_>>());
        }
    }

    /// Root mean square error of the mean of `max_j z_j`, whose expectation over 5 independent normals is known.
    fn integration_error(samples: impl Fn(u64) -> DMatrix<f64>) -> f64 {
        let exact = 1.162_964_473_640_52; // Teichroew 1956, expected largest of 5 normals
        let error = |seed| {
            let z = samples(seed);
            let sum: f64 = z.row_iter().map(|row| row.max()).sum();
            (sum / z.nrows() as f64 - exact).powi(2)
        };
        ((0..40).map(error).sum::<f64>() / 40.0).sqrt()
    }

    #[test]
    fn they_integrate_better_than_independent_draws() {
        let quasi = integration_error(|seed| draw(512, 5, seed));
        let plain = integration_error(|seed| {
            let mut rng = Seed(seed).rng("plain", 0);
            DMatrix::from_fn(512, 5, |_, _| rng.sample(StandardNormal))
        });
        println!("integration error: {quasi:.2e} quasi-random, {plain:.2e} independent");
        assert!(quasi < plain / 5.0, "{quasi} {plain}");
    }

    #[test]
    fn beyond_the_generator_they_are_plain_normals() {
        let z = draw(2000, 257, 5);
        assert_eq!(z, draw(2000, 257, 5));
        assert!(z.mean().abs() < 0.01 && (z.variance() - 1.0).abs() < 0.02);
        assert_eq!(draw(MAX_SAMPLES + 1, 1, 5).nrows(), MAX_SAMPLES + 1);
    }

    #[test]
    fn the_grid_has_no_end_that_is_infinite() {
        let last = 1.0 - f32::EPSILON / 2.0;
        assert!((normal(0.0) + normal(last)).abs() < 1e-6 && normal(0.0) > -5.6 && normal(0.0) < -5.3);
        for u in [1e-6_f32, 0.01, 0.3, 0.5, 0.77, 0.999] {
            let v = f64::from(u) + 0.5 / f64::from(1 << 24);
            let back = 0.5 * libm::erfc(-normal(u) * FRAC_1_SQRT_2);
            assert!((back / v - 1.0).abs() < 1e-13, "{u}: {back} {v}");
        }
    }
}
