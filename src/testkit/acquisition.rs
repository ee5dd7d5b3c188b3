//! Checks the contract of [`AnalyticAcquisition`].

use super::{LawBroken, holds};
use crate::search::AnalyticAcquisition;

const FUNCTION: &str = "an acquisition function is a function of its arguments, with a name, and never NaN";
const RISES: &str = "an acquisition function does not fall as the mean rises";

/// Standardised means, in ascending order.
const MEANS: [f64; 9] = [-8.0, -3.0, -1.0, -0.1, 0.0, 0.1, 1.0, 3.0, 8.0];
/// Variances of the posterior.
const VARIANCES: [f64; 6] = [0.0, 1e-12, 1e-4, 0.1, 1.0, 4.0];

/// Evaluates the function on a grid of means, variances and best means.
///
/// # Errors
/// [`LawBroken`] for the first law that does not hold.
pub fn check(function: &(impl AnalyticAcquisition + ?Sized)) -> Result<(), LawBroken> {
    let name = function.fingerprint();
    holds(!name.is_empty() && name == function.fingerprint(), FUNCTION, || format!("its name is {name:?}"))?;
    for variance in VARIANCES {
        for best in MEANS {
            let mut before = f64::NEG_INFINITY;
            for mean in MEANS {
                let value = function.value(mean, variance, best);
                let case = || format!("{value} at mean {mean}, variance {variance}, best {best}");
                let again = function.value(mean, variance, best);
                holds(!value.is_nan() && value.to_bits() == again.to_bits(), FUNCTION, case)?;
                holds(value >= before, RISES, case)?;
                before = value;
            }
        }
    }
    Ok(())
}
