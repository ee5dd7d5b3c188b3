//! Fits a parabola per budget and power laws across budgets.

use nalgebra::{DMatrix, DVector};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Measurement;
use crate::{
    seed::Seed,
    statistics::{Estimate, mean},
};

/// The optimal size at one budget: the minimum of `L = a + b x + c x^2` with `x = ln N`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Optimum {
    /// `C`, the training work in floating-point operations.
    pub budget: f64,
    /// The coefficients `a`, `b`, `c`.
    pub parabola: [f64; 3],
    /// `N` at the minimum: the number of parameters of the layers.
    pub parameters: f64,
    /// `L` at the minimum, in nats.
    pub loss: f64,
    /// Whether the minimum is within the range of measured sizes. If not, it is an extrapolation: measure larger or
    /// smaller models.
    pub within: bool,
}

/// `y = factor * C^slope`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PowerLaw {
    /// The factor.
    pub factor: f64,
    /// The slope of `ln y` over `ln C`. Its interval is estimated from the residuals of the parabolas. If there are no
    /// residuals, the interval has zero width.
    pub slope: Estimate,
}

/// The scaling behavior of one family of architectures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    /// The name of the family.
    pub family: String,
    /// The optimal size at each budget, in increasing order of the budget.
    pub optima: Vec<Optimum>,
    /// The power law of the optimal size.
    pub parameters: PowerLaw,
    /// The power law of the optimal loss. The more negative its slope, the more the family gains from more compute.
    pub loss: PowerLaw,
}

/// Measurements that do not allow a fit.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum FitError {
    /// A budget has too few sizes.
    #[error("{family} has {sizes} sizes at {budget:e} FLOPs: a parabola needs at least 3")]
    Sizes {
        /// The family.
        family: String,
        /// The budget.
        budget: f64,
        /// The number of sizes.
        sizes: usize,
    },
    /// The parabola through the losses at a budget has no minimum.
    #[error(
        "the losses of {family} at {budget:e} FLOPs do not curve upwards: measure more sizes, or repeat with more seeds"
    )]
    NoOptimum {
        /// The family.
        family: String,
        /// The budget.
        budget: f64,
    },
    /// There are too few budgets.
    #[error("{family} was measured at {budgets} budgets: a power law needs at least 2")]
    Budgets {
        /// The family.
        family: String,
        /// The number of budgets.
        budgets: usize,
    },
}

/// The points `(ln N, L)` at one budget.
struct Slice {
    budget: f64,
    x: Vec<f64>,
    losses: Vec<f64>,
}

impl Scaling {
    /// Fits the measurements of one family. The 95 % intervals of the slopes are from a bootstrap: `resamples` times,
    /// the residuals of all parabolas are drawn with replacement.
    ///
    /// # Errors
    /// Returns a [`FitError`] if there are too few sizes or budgets, or if the losses at a budget have no minimum.
    pub fn fit(family: &str, measurements: &[Measurement], resamples: u64, seed: Seed) -> Result<Self, FitError> {
        let slices = slices(family, measurements);
        let wrong_budgets = || FitError::Budgets { family: family.into(), budgets: slices.len() };
        for slice in &slices {
            let mut sizes = slice.x.clone();
            sizes.sort_by(f64::total_cmp);
            sizes.dedup();
            if sizes.len() < 3 {
                return Err(FitError::Sizes { family: family.into(), budget: slice.budget, sizes: sizes.len() });
            }
        }
        let fitted = |slice: &Slice| {
            optimum(slice).ok_or_else(|| FitError::NoOptimum { family: family.into(), budget: slice.budget })
        };
        let optima = slices.iter().map(fitted).collect::<Result<Vec<_>, _>>()?;
        let [parameters, loss] = laws(&optima).ok_or_else(wrong_budgets)?;
        let draws = redraw(&slices, &optima, resamples, seed);
        let law = |(factor, slope): (f64, f64), which: usize| {
            let slopes = draws.iter().map(|laws: &[(f64, f64); 2]| laws[which].1).collect();
            PowerLaw { factor, slope: Estimate::from_draws(slope, slopes) }
        };
        Ok(Self { family: family.into(), parameters: law(parameters, 0), loss: law(loss, 1), optima })
    }
}

/// Returns the measurements of a family by budget. Diverged measurements and those that have no place in a parabola are
/// left out.
fn slices(family: &str, measurements: &[Measurement]) -> Vec<Slice> {
    let mut slices: Vec<Slice> = Vec::new();
    // The logarithm needs at least one parameter, and the decomposition does not terminate on infinite values.
    let placed = |m: &&Measurement| m.parameters > 0 && m.loss.is_finite() && m.diverged.is_none();
    for measured in measurements.iter().filter(|m| m.cell.family == family).filter(placed) {
        let x = (measured.parameters as f64).ln();
        let budget = measured.budget();
        match slices.iter_mut().find(|slice| slice.budget == budget) {
            Some(slice) => {
                slice.x.push(x);
                slice.losses.push(measured.loss);
            }
            None => slices.push(Slice { budget, x: vec![x], losses: vec![measured.loss] }),
        }
    }
    slices.sort_by(|a, b| a.budget.total_cmp(&b.budget));
    slices
}

/// Returns the minimum of the least-squares parabola through a slice, or `None` if it opens downwards.
fn optimum(slice: &Slice) -> Option<Optimum> {
    // Centering keeps the least-squares problem well conditioned.
    let centre = mean(&slice.x);
    let columns = |row: usize, column: usize| (slice.x[row] - centre).powi(column as i32);
    let design = DMatrix::from_fn(slice.x.len(), 3, columns);
    let solved = design.svd(true, true).solve(&DVector::from_column_slice(&slice.losses), 1e-12).ok()?;
    let [a, b, c] = [solved[0], solved[1], solved[2]];
    if c.is_nan() || c <= 0.0 {
        return None;
    }
    let lowest = -b / (2.0 * c);
    let x = centre + lowest;
    let within = slice.x.iter().any(|&other| other <= x) && slice.x.iter().any(|&other| other >= x);
    let parabola = [a - b * centre + c * centre * centre, b - 2.0 * c * centre, c];
    Some(Optimum { budget: slice.budget, parabola, parameters: x.exp(), loss: a - b * b / (4.0 * c), within })
}

/// Fits the power laws of sizes and of losses. Returns factor and slope of each.
fn laws(optima: &[Optimum]) -> Option<[(f64, f64); 2]> {
    let law = |value: fn(&Optimum) -> f64| {
        let points: Vec<_> = optima.iter().map(|optimum| (optimum.budget.ln(), value(optimum).ln())).collect();
        let (x, y): (Vec<_>, Vec<_>) = points.into_iter().unzip();
        let mean_x = mean(&x);
        let mean_y = mean(&y);
        let xx: f64 = x.iter().map(|x| (x - mean_x).powi(2)).sum();
        let xy: f64 = x.iter().zip(&y).map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
        let slope = xy / xx;
        slope.is_finite().then(|| ((mean_y - slope * mean_x).exp(), slope))
    };
    Some([law(|optimum| optimum.parameters)?, law(|optimum| optimum.loss)?])
}

/// Returns the power laws of resampled losses: the parabolas plus drawn residuals. The residuals are scaled up for the
/// three degrees of freedom that each fit uses. Empty if no degrees of freedom are left.
fn redraw(slices: &[Slice], optima: &[Optimum], resamples: u64, seed: Seed) -> Vec<[(f64, f64); 2]> {
    let height = |[a, b, c]: [f64; 3], x: f64| a + b * x + c * x * x;
    let mut residuals = Vec::new();
    let mut freedom = 0;
    for (slice, optimum) in slices.iter().zip(optima) {
        residuals.extend(slice.x.iter().zip(&slice.losses).map(|(&x, loss)| loss - height(optimum.parabola, x)));
        freedom += slice.x.len() - 3;
    }
    if freedom == 0 {
        return Vec::new();
    }
    let widening = (residuals.len() as f64 / freedom as f64).sqrt();
    let draw = |index| {
        let mut rng = seed.rng("isoflop/residuals", index);
        let drawn = slices.iter().zip(optima).map(|(slice, fitted)| {
            let mut anew =
                |&x: &f64| height(fitted.parabola, x) + widening * residuals[rng.random_range(0..residuals.len())];
            let losses = slice.x.iter().map(&mut anew).collect();
            optimum(&Slice { budget: slice.budget, x: slice.x.clone(), losses })
        });
        laws(&drawn.collect::<Option<Vec<_>>>()?)
    };
    (0..resamples).filter_map(draw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        evaluate::corpus::{CorpusProtocol, TrainBudget},
        isoflop::Cell,
    };

    /// Losses of a family with known laws: optimal size `0.1 C^0.5`, optimal loss `20 C^-0.05`, curvature 0.1.
    fn measured(budgets: &[f64], offsets: &[f64], noise: impl Fn(usize) -> f64) -> Vec<Measurement> {
        let cells = budgets.iter().flat_map(|&budget| offsets.iter().map(move |&offset| (budget, offset)));
        let measurement = |(at, (budget, offset)): (usize, (f64, f64))| {
            let x = (0.1 * budget.powf(0.5)).ln() + offset;
            let parameters = x.exp().round();
            let bend = 0.1 * (parameters.ln() - (0.1 * budget.powf(0.5)).ln()).powi(2);
            let protocol = CorpusProtocol { budget: TrainBudget::Flops(budget), ..CorpusProtocol::stories(1) };
            Measurement {
                cell: Cell { family: "f".into(), architecture: "AM".parse().unwrap(), protocol, seed: 0 },
                corpus: String::new(),
                parameters: parameters as u64,
                flops: budget,
                loss: 20.0 * budget.powf(-0.05) + bend + noise(at),
                accuracy: 0.0,
                diverged: None,
            }
        };
        cells.enumerate().map(measurement).collect()
    }

    const BUDGETS: [f64; 3] = [1e13, 4e13, 2e14];

    #[test]
    fn known_laws_are_found_again() {
        let all = measured(&BUDGETS, &[-1.0, -0.3, 0.2, 0.9], |_| 0.0);
        let scaling = Scaling::fit("f", &all, 100, Seed(0)).unwrap();
        assert!((scaling.parameters.slope.value - 0.5).abs() < 1e-6, "{scaling:?}");
        assert!((scaling.loss.slope.value + 0.05).abs() < 1e-8);
        assert!(
            (scaling.loss.factor / 20.0 - 1.0).abs() < 1e-6 && (scaling.parameters.factor / 0.1 - 1.0).abs() < 1e-4
        );
        for (optimum, budget) in scaling.optima.iter().zip(BUDGETS) {
            assert_eq!((optimum.budget, optimum.within), (budget, true));
            assert!((optimum.parabola[2] - 0.1).abs() < 1e-8);
        }
        // All sizes are too small, so the minimum is beyond them.
        let beside = Scaling::fit("f", &measured(&BUDGETS, &[-3.0, -2.0, -1.0], |_| 0.0), 10, Seed(0)).unwrap();
        assert!(beside.optima.iter().all(|optimum| !optimum.within));
        assert_eq!(beside.loss.slope.low, beside.loss.slope.high, "three sizes leave no residuals");
    }

    #[test]
    fn measurements_without_a_place_in_a_parabola_are_left_out() {
        let good = measured(&BUDGETS, &[-1.0, -0.3, 0.2, 0.9], |_| 0.0);
        let without = Measurement { parameters: 0, ..good[1].clone() };
        let infinite = Measurement { loss: f64::INFINITY, ..good[5].clone() };
        let all: Vec<_> = good.iter().cloned().chain([without, infinite]).collect();
        let [all, good] = [all, good].map(|measurements| Scaling::fit("f", &measurements, 10, Seed(0)).unwrap());
        assert_eq!(all, good);
    }

    #[test]
    fn intervals_of_slopes_cover_them_as_often_as_they_say() {
        use rand_distr::{Distribution, StandardNormal};
        let covers = |sample: u64| {
            let mut rng = Seed(7).rng("noise", sample);
            let noise: Vec<f64> = (0..18).map(|_| StandardNormal.sample(&mut rng)).collect();
            let all = measured(&BUDGETS, &[-1.5, -0.9, -0.3, 0.3, 0.9, 1.5], |at| 0.01 * noise[at]);
            let slope = Scaling::fit("f", &all, 200, Seed(sample)).unwrap().loss.slope;
            slope.low <= -0.05 && -0.05 <= slope.high
        };
        let share = (0..200).filter(|&sample| covers(sample)).count() as f64 / 200.0;
        // With nine degrees of freedom, the bootstrap intervals cover a little less than 95 %. Four binomial standard
        // errors are 0.06.
        assert!((0.86..=1.0).contains(&share), "{share}");
    }

    #[test]
    fn too_little_is_refused_with_its_reason() {
        let refused = |all: &[Measurement]| Scaling::fit("f", all, 10, Seed(0)).unwrap_err();
        assert!(matches!(refused(&[]), FitError::Budgets { budgets: 0, .. }));
        assert!(matches!(
            refused(&measured(&BUDGETS[..1], &[-1.0, 0.0, 1.0], |_| 0.0)),
            FitError::Budgets { budgets: 1, .. }
        ));
        assert!(matches!(refused(&measured(&BUDGETS, &[0.0, 1.0], |_| 0.0)), FitError::Sizes { sizes: 2, .. }));
        let downwards = measured(&BUDGETS, &[-1.0, 0.0, 1.0], |at| if at % 3 == 1 { 1.0 } else { 0.0 });
        assert!(matches!(refused(&downwards), FitError::NoOptimum { .. }));
        let mut diverged = measured(&BUDGETS, &[-1.0, 0.0, 1.0], |_| 0.0);
        diverged[0].diverged = Some("the loss".into());
        assert!(matches!(refused(&diverged), FitError::Sizes { .. }));
    }
}
