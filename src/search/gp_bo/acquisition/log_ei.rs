//! The logarithm of the expected improvement of one point, in closed form.
//!
//! Ament, Daulton, Eriksson, Balandat and Bakshy 2023, "Unexpected Improvements to Expected Improvement for Bayesian
//! Optimization", arXiv 2310.20708.
//!
//! | here | meaning |
//! |---|---|
//! | `mu`, `sigma` | mean and standard deviation of the posterior of `f` at the point |
//! | `u` | `(mu - best) / sigma` |
//! | `phi`, `Phi` | density and distribution function of the standard normal |
//! | `h(u)` | `phi(u) + u Phi(u)`, so that the expected improvement is `sigma h(u)` |
//! | `erfcx(x)` | `exp(x^2) erfc(x)` |

use std::f64::consts::{FRAC_1_SQRT_2, LN_2, PI};

use super::AnalyticAcquisition;

/// `ln(2 pi) / 2`.
const HALF_LN_2_PI: f64 = 0.918_938_533_204_672_8;

/// Smaller variances are raised to this value, as in BoTorch, to keep `u` finite.
const MIN_VARIANCE: f64 = 1e-12;

/// [`log_ei`] as an [`AnalyticAcquisition`].
#[derive(Debug)]
pub(crate) struct LogEi;

impl AnalyticAcquisition for LogEi {
    fn fingerprint(&self) -> String {
        "log_ei".into()
    }

    fn value(&self, mean: f64, variance: f64, best: f64) -> f64 {
        log_ei(mean, variance, best)
    }
}

/// Returns the logarithm of `E max(0, f - best)` for `f ~ N(mean, variance)`: equation 9 of the paper.
pub(crate) fn log_ei(mean: f64, variance: f64, best: f64) -> f64 {
    let sigma = variance.max(MIN_VARIANCE).sqrt();
    log_h((mean - best) / sigma) + sigma.ln()
}

/// Returns `ln h(u)` by equations 9 and 14 of the paper, without cancellation for any `u`.
///
/// With `r = |u| Phi(u) / phi(u)`, `h(u) = phi(u) (1 - r)` for negative `u`. Because `Phi(u) = erfc(-u / sqrt 2) / 2`,
/// the ratio is `r = |u| sqrt(pi / 2) erfcx(|u| / sqrt 2)`, which has no factor that underflows. It tends to `1 - 1 /
/// u^2`.
fn log_h(u: f64) -> f64 {
    if u > -1.0 {
        let density = (-0.5 * u * u - HALF_LN_2_PI).exp();
        (density + u * normal_cdf(u)).ln()
    } else if u > -1e6 {
        let ratio = -u * (PI / 2.0).sqrt() * erfcx(-u * FRAC_1_SQRT_2);
        log_density(u) + log1mexp(ratio.ln())
    } else {
        log_density(u) - 2.0 * (-u).ln()
    }
}

fn log_density(u: f64) -> f64 {
    -0.5 * u * u - HALF_LN_2_PI
}

fn normal_cdf(u: f64) -> f64 {
    0.5 * libm::erfc(-u * FRAC_1_SQRT_2)
}

/// Returns `ln(1 - exp(x))` for negative `x` (Mächler 2012, "Accurately computing log(1 - exp(-|a|))", equation 7).
fn log1mexp(x: f64) -> f64 {
    if x > -LN_2 { (-x.exp_m1()).ln() } else { (-x.exp()).ln_1p() }
}

/// Returns `exp(x^2) erfc(x)` for positive `x`, accurate to a few units in the last place.
///
/// Up to `x = 20`, both factors are normal numbers. The rounding error of `x^2`, which the exponential would magnify,
/// is recovered by a fused multiply-add. Beyond, the asymptotic series (DLMF 7.12.1) `1 / (x sqrt pi) sum_k (-1)^k (2k
/// - 1)!! / (2 x^2)^k` has terms below 1e-17 from `k = 9` on.
fn erfcx(x: f64) -> f64 {
    if x < 20.0 {
        let square = x * x;
        let lost = x.mul_add(x, -square);
        return square.exp() * libm::erfc(x) * (1.0 + lost);
    }
    let step = 0.5 / (x * x);
    let series = (1..=9).rev().fold(1.0, |tail, k| 1.0 - f64::from(2 * k - 1) * step * tail);
    series / (x * PI.sqrt())
}

#[cfg(test)]
mod tests {
    use super::{super::golden, *};

    /// The largest relative error, as the tests print and check it.
    fn worst(pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
        pairs.map(|(ours, exact)| ((ours - exact) / exact).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn the_laws_of_an_acquisition_function_hold() {
        assert_eq!(crate::testkit::acquisition::check(&LogEi), Ok(()));
    }

    #[test]
    fn log_h_agrees_with_sixty_digits() {
        let golden = golden::scalars().log_ei_helper;
        let worst = worst(golden.u.iter().zip(&golden.exact).map(|(&u, &exact)| (log_h(u), exact)));
        println!("log_h: {} values, relative error {worst:e}", golden.u.len());
        assert!(golden.u.len() == 48 && worst < 1e-14, "{worst:e}");
    }

    #[test]
    fn log_ei_agrees_with_sixty_digits() {
        let rows = golden::scalars().log_ei.rows;
        // Where sigma h(u) is 1, its logarithm is the difference of two large ones: an absolute error is left.
        let error = |&[mean, variance, best, _, exact]: &[f64; 5]| {
            (log_ei(mean, variance, best) - exact).abs() / exact.abs().max(1e-2)
        };
        let worst = rows.iter().map(error).fold(0.0, f64::max);
        println!("log_ei: {} values, relative error {worst:e}", rows.len());
        assert!(rows.len() == 105 && worst < 1e-12, "{worst:e}");
    }

    #[test]
    fn log_ei_of_posteriors_agrees_with_botorch() {
        let mut worst = 0.0_f64;
        for set in golden::sets() {
            for hyper in &set.hyper {
                let (mean, cov) = set.posterior(hyper, &set.tests);
                for (at, &expected) in hyper.logei.iter().enumerate() {
                    let ours = log_ei(mean[at], cov[(at, at)], hyper.logei_best_f);
                    worst = worst.max(((ours - expected) / expected).abs());
                }
            }
        }
        println!("log_ei of posteriors: relative error {worst:e}");
        assert!(worst < 1e-9, "{worst:e}");
    }

    #[test]
    fn erfcx_is_exact_to_the_last_digits() {
        // mpmath 1.3, 50 digits.
        let exact = ERFCX;
        let worst = worst(exact.iter().map(|&(x, exact)| (erfcx(x), exact)));
        println!("erfcx: relative error {worst:e}");
        assert!(worst < 1e-15, "{worst:e}");
    }

    #[test]
    fn branches_meet() {
        for seam in [-1.0, -1e6, -20.0 * std::f64::consts::SQRT_2] {
            let below = log_h(seam * (1.0 + 1e-9));
            let above = log_h(seam * (1.0 - 1e-9));
            assert!(below < above && (above - below) / above.abs() < 1e-8, "{seam}: {below} {above}");
        }
    }

    #[test]
    fn it_grows_with_the_mean() {
        let values: Vec<_> = (-4000..4000).map(|mean| log_ei(f64::from(mean) * 0.01, 0.25, 0.0)).collect();
        assert!(values.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(log_ei(f64::NAN, 1.0, 0.0).is_nan());
    }

    const ERFCX: [(f64, f64); 20] = [
        (FRAC_1_SQRT_2, 0.5231565837302468),
        (0.75, 0.5069376502931449),
        (1.0, 0.427583576155807),
        (1.3, 0.3576426690860903),
        (1.7, 0.2916632970753435),
        (2.25, 0.23108725873039188),
        (3.1, 0.17371840860540824),
        (4.7, 0.11748964756583025),
        (6.3, 0.08846589935285219),
        (9.9, 0.05670245693883227),
        (13.37, 0.04208111834995162),
        (17.77, 0.031699518676381565),
        (19.999, 0.028175754028507936),
        (20.0, 0.02817434874105132),
        (20.5, 0.02748881515193487),
        (25.0, 0.02254957243264136),
        (37.1, 0.015201748162090533),
        (100.0, 0.005641613782989433),
        (1234.5, 0.00045701854876078156),
        (707106.5, 7.978848780872359e-07),
    ];
}
