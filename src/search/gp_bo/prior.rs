//! The log-normal density.

use std::f64::consts::TAU;

/// A log-normal distribution: ln x is normal with mean `loc` and standard deviation `scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LogNormal {
    pub(super) loc: f64,
    pub(super) scale: f64,
}

impl LogNormal {
    /// Returns ln p(x) = -ln x - ln scale - ln(2 pi)/2 - z^2/2 with z = (ln x - loc)/scale.
    pub(super) fn log_density(self, x: f64) -> f64 {
        let z = (x.ln() - self.loc) / self.scale;
        -x.ln() - self.scale.ln() - 0.5 * (TAU.ln() + z * z)
    }

    /// Returns d ln p(x) / dx.
    pub(super) fn slope(self, x: f64) -> f64 {
        -(1.0 + (x.ln() - self.loc) / (self.scale * self.scale)) / x
    }

    /// Returns the x with the largest density.
    pub(super) fn mode(self) -> f64 {
        (self.loc - self.scale * self.scale).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::gp_bo::golden::{self, close};

    #[test]
    fn densities_and_modes_agree_with_torch() {
        for row in golden::log_normal() {
            let prior = LogNormal { loc: row.loc, scale: row.scale };
            close("mode", prior.mode(), row.mode, 1e-14);
            for (&x, &expected) in row.x.iter().zip(&row.logpdf) {
                close("log density", prior.log_density(x), expected, 1e-13);
            }
        }
    }

    #[test]
    fn the_slope_is_the_derivative() {
        let prior = LogNormal { loc: -4.0, scale: 1.0 };
        for x in [1e-4, 0.3, 7.0] {
            let h = 1e-5 * x;
            let difference = (prior.log_density(x + h) - prior.log_density(x - h)) / (2.0 * h);
            close("slope", prior.slope(x), difference, 1e-8);
        }
        assert!(prior.slope(prior.mode()).abs() < 1e-12);
    }
}
