//! Smooth approximations of the ramp and of the maximum, in logarithms.
//!
//! Ament et al. 2023, arXiv 2310.20708, section 4 and appendix A.4. The tails of the ramp decrease like a power instead
//! of exponentially. Logarithms therefore stay finite and comparable even for points that cannot improve.
//!
//! | symbol | meaning |
//! |---|---|
//! | `tau` | temperature: the width over which a corner is rounded |
//! | `t` | argument of the ramp, divided by its temperature |

/// Temperature of the ramp, in units of the objective: `tau_relu` of BoTorch.
pub(super) const TAU_RAMP: f64 = 1e-6;

/// Temperature of the maximum over the points of a batch, in logarithms of the improvement: `tau_max` of BoTorch.
pub(super) const TAU_MAX: f64 = 1e-2;

/// Weight of the Cauchy tail of the ramp.
const TAIL: f64 = 0.1;

/// Beyond this `|t|`, the rounded ramp equals `max(t, 0) + TAIL / (1 + t^2)` in double precision: the omitted term is
/// below `exp(-50) < 2e-22`, and the value above 4e-5.
pub(super) const FAR: f64 = 50.0;

/// Returns the rounded ramp for `tau = 1`: softplus plus a Cauchy tail. It is positive for finite `t`.
pub(super) fn fatplus(t: f64) -> f64 {
    t.max(0.0) + (-t.abs()).exp().ln_1p() + tail(t)
}

/// Returns [`fatplus`] for `|t| >= FAR`, without a transcendental function.
pub(super) fn far_fatplus(t: f64) -> f64 {
    t.max(0.0) + tail(t)
}

fn tail(t: f64) -> f64 {
    TAIL / (1.0 + t * t)
}

/// Returns `ln(tau fatplus(x / tau))`, the logarithm of a rounded `max(x, 0)`.
pub(super) fn log_fatplus(x: f64, tau: f64) -> f64 {
    tau.ln() + fatplus(x / tau).ln()
}

/// Returns a rounded maximum with power tails, `max + tau ln sum_i 2 / (2 + 2 x_i + x_i^2)` with `x_i = (max - v_i) /
/// tau`: the fat maximum of appendix A.4 with exponent 2. For one value, it is that value; for none, `-inf`.
pub(super) fn fatmax(values: &[f64], tau: f64) -> f64 {
    let max = maximum(values);
    if !max.is_finite() {
        return max;
    }
    let weight = |value: &f64| {
        let x = (max - value) / tau;
        2.0 / (2.0 + x * (2.0 + x))
    };
    max + tau * values.iter().map(weight).sum::<f64>().ln()
}

/// Returns the rounded minimum, minus the [`fatmax`] of the negated values. For one value, it is that value; for none,
/// `inf`.
pub(super) fn fatmin(values: &[f64], tau: f64) -> f64 {
    -fatmax(&values.iter().map(|value| -value).collect::<Vec<_>>(), tau)
}

/// Returns the logarithm of the normal distribution function, accurate also for large negative `z`.
pub(crate) fn ln_normal(z: f64) -> f64 {
    if z > -30.0 {
        return (0.5 * libm::erfc(-z * std::f64::consts::FRAC_1_SQRT_2)).ln();
    }
    // Mills' ratio up to its second term.
    -0.5 * z * z - (-z).ln() - 0.5 * std::f64::consts::TAU.ln() + (-(z * z).recip()).ln_1p()
}

/// Returns [`fatplus`], with an exponential only if `|t| < FAR`.
pub(super) fn ramp(t: f64) -> f64 {
    if t.abs() < FAR { fatplus(t) } else { far_fatplus(t) }
}

/// Returns `ln sum_i exp(v_i)`, or `-inf` for no values.
pub(super) fn log_sum_exp(values: &[f64]) -> f64 {
    if values.is_empty() { f64::NEG_INFINITY } else { log_mean_exp(values) + (values.len() as f64).ln() }
}

/// Returns `ln mean_i exp(v_i)`, or `-inf` for no values.
pub(super) fn log_mean_exp(values: &[f64]) -> f64 {
    let max = maximum(values);
    if !max.is_finite() {
        return max;
    }
    max + (values.iter().map(|value| (value - max).exp()).sum::<f64>() / values.len() as f64).ln()
}

/// Returns the largest value, or NaN if any value is NaN.
fn maximum(values: &[f64]) -> f64 {
    values.iter().fold(f64::NEG_INFINITY, |max, &value| if value > max || value.is_nan() { value } else { max })
}

#[cfg(test)]
mod tests {
    use super::{super::golden, *};

    fn worst(pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
        pairs.map(|(ours, exact)| (ours - exact).abs() / exact.abs().max(1e-3)).fold(0.0, f64::max)
    }

    #[test]
    fn log_fatplus_agrees_with_botorch() {
        let golden = golden::scalars().log_fatplus;
        let sharp = golden.x.iter().zip(&golden.botorch).map(|(&x, &value)| (log_fatplus(x, golden.tau), value));
        let blunt = golden.x.iter().zip(&golden.botorch_tau1).map(|(&x, &value)| (log_fatplus(x, 1.0), value));
        let sharp = worst(sharp);
        let blunt = worst(blunt);
        println!("log_fatplus: relative error {sharp:e} (tau 1e-6), {blunt:e} (tau 1)");
        assert!(golden.tau == TAU_RAMP && golden.x.len() == 22);
        assert!(sharp < 1e-14 && blunt < 1e-14, "{sharp:e} {blunt:e}");
    }

    #[test]
    fn fatmax_and_log_mean_exp_agree_with_botorch() {
        let fat = golden::scalars().fatmax;
        let mean = golden::scalars().logmeanexp;
        let fat_error = worst(fat.x.iter().zip(&fat.botorch).map(|(x, &value)| (fatmax(x, TAU_MAX), value)));
        let mean_error = worst(mean.x.iter().zip(&mean.botorch).map(|(x, &value)| (log_mean_exp(x), value)));
        println!("fatmax: relative error {fat_error:e}; log_mean_exp: {mean_error:e}");
        assert!(fat.x.len() == 8 && mean.x.len() == 8);
        assert!(fat_error < 1e-14 && mean_error < 1e-14, "{fat_error:e} {mean_error:e}");
    }

    #[test]
    fn far_from_the_corner_the_ramp_needs_no_exponential() {
        for t in [FAR, FAR + 1.0, 300.0, 1e5, 1e12] {
            for t in [t, -t] {
                assert!((far_fatplus(t) / fatplus(t) - 1.0).abs() < 1e-15, "{t}");
            }
        }
    }

    #[test]
    fn the_logarithm_of_a_probability_has_no_seam() {
        assert!((ln_normal(0.0) - 0.5f64.ln()).abs() < 1e-15 && ln_normal(9.0) == 0.0);
        assert!((ln_normal(-29.999_999) - ln_normal(-30.000_001)).abs() < 1e-4);
        assert!(ln_normal(-1e6).is_finite() && ln_normal(-40.0) < ln_normal(-39.0));
    }

    #[test]
    fn nothing_and_values_that_are_not_finite_do_not_panic() {
        assert_eq!(fatmax(&[], 1.0), f64::NEG_INFINITY);
        assert_eq!(log_mean_exp(&[]), f64::NEG_INFINITY);
        assert_eq!(log_mean_exp(&[f64::NEG_INFINITY; 3]), f64::NEG_INFINITY);
        assert!(fatmax(&[1.0, f64::NAN, 2.0], 1.0).is_nan());
        assert!(log_mean_exp(&[f64::NAN, 2.0]).is_nan());
        assert!((fatmax(&[3.0, f64::NEG_INFINITY], 1.0) - 3.0).abs() < 1e-15);
    }
}
