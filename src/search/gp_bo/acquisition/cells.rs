//! Decomposition of the non-dominated region of a front into boxes.
//!
//! The boxes are those of BoTorch's `FastNondominatedPartitioning`, because the smoothed acquisition function depends
//! on them. Two objectives need one sweep. For more, the local bounds of Lacour, Klamroth and Fonseca 2017 ("A box
//! decomposition algorithm to compute the hypervolume indicator", Computers and Operations Research 79, algorithm 1 and
//! equation 2) are computed twice (Yang et al. 2019, "Efficient computation of expected hypervolume improvement").

use crate::study::non_dominated;

/// A box between two corners, each with one coordinate per objective. The upper corner may be infinite.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cell {
    pub(super) lower: Vec<f64>,
    pub(super) upper: Vec<f64>,
}

/// A local upper bound and the points that define it, one for each coordinate.
#[derive(Clone)]
struct Zone {
    bound: Vec<f64>,
    points: Vec<Vec<f64>>,
}

/// Returns disjoint boxes that cover what is above `reference` and not dominated by `points`. Larger is better.
///
/// # Shapes
/// With K objectives: every point and `reference` have K values.
pub(super) fn cells(points: &[Vec<f64>], reference: &[f64]) -> Vec<Cell> {
    let above = |point: &&Vec<f64>| point.iter().zip(reference).all(|(value, least)| value > least);
    let above: Vec<Vec<f64>> = points.iter().filter(above).cloned().collect();
    let mut front: Vec<_> = non_dominated(&above).into_iter().map(|at| above[at].clone()).collect();
    if front.is_empty() {
        return vec![Cell { lower: reference.to_vec(), upper: vec![f64::INFINITY; reference.len()] }];
    }
    if reference.len() == 2 {
        front.sort_by(|a, b| a[0].total_cmp(&b[0]));
        return strips(&front, reference);
    }
    // First the local lower bounds of the non-dominated region, then the boxes above them.
    let inner = -f64::INFINITY;
    let negated = |point: &[f64]| point.iter().map(|value| -value).collect::<Vec<_>>();
    let below: Vec<_> = front.iter().map(|point| negated(point)).collect();
    let bounds = zones(&below, &negated(reference), &vec![inner; reference.len()]);
    let corners: Vec<_> = bounds.iter().map(|zone| negated(&zone.bound)).collect();
    let outer = vec![f64::INFINITY; reference.len()];
    zones(&corners, &outer, reference).iter().filter_map(|zone| zone.cell(&outer)).collect()
}

/// Returns the boxes for two objectives. `front` is sorted by the first objective.
fn strips(front: &[Vec<f64>], reference: &[f64]) -> Vec<Cell> {
    let first = |at: usize| front.get(at).map_or(f64::INFINITY, |point| point[0]);
    let left = |at: usize| if at == 0 { reference[0] } else { first(at - 1) };
    let bottom = |at: usize| front.get(at).map_or(reference[1], |point| point[1]);
    let strip = |at| Cell { lower: vec![left(at), bottom(at)], upper: vec![first(at), f64::INFINITY] };
    (0..=front.len()).map(strip).filter(|cell| cell.lower[0] < cell.upper[0]).collect()
}

/// Returns the zones below `outer` that `points` leave, for minimisation. `inner` is a lower bound on everything.
fn zones(points: &[Vec<f64>], outer: &[f64], inner: &[f64]) -> Vec<Zone> {
    let size = outer.len();
    let own = |at: usize| (0..size).map(|k| if k == at { outer[k] } else { inner[k] }).collect();
    let mut zones = vec![Zone { bound: outer.to_vec(), points: (0..size).map(own).collect() }];
    for point in points {
        let (inside, mut kept): (Vec<_>, Vec<_>) = zones.into_iter().partition(|zone| zone.holds(point));
        kept.extend((0..size).flat_map(|at| inside.iter().filter_map(move |zone| zone.cut(point, at))));
        zones = kept;
    }
    zones
}

impl Zone {
    /// Returns whether the point is below the bound in every coordinate.
    fn holds(&self, point: &[f64]) -> bool {
        self.bound.iter().zip(point).all(|(bound, value)| bound > value)
    }

    /// Returns the part of the zone that remains when coordinate `at` is bounded by the point, or `None` if there is
    /// none.
    fn cut(&self, point: &[f64], at: usize) -> Option<Zone> {
        let others = self.points.iter().enumerate().filter(|&(other, _)| other != at);
        let most = others.map(|(_, other)| other[at]).fold(f64::NEG_INFINITY, f64::max);
        (point[at] >= most).then(|| {
            let mut cut = self.clone();
            cut.bound[at] = point[at];
            cut.points[at] = point.to_vec();
            cut
        })
    }

    /// Returns the box of the zone, or `None` if it is empty.
    fn cell(&self, outer: &[f64]) -> Option<Cell> {
        let lower = |at: usize| match at {
            0 => self.points[0][0],
            _ => self.points[..at].iter().map(|point| point[at]).fold(f64::NEG_INFINITY, f64::max),
        };
        let lower: Vec<_> = (0..outer.len()).map(lower).collect();
        let upper: Vec<_> = std::iter::once(outer[0]).chain(self.bound[1..].iter().copied()).collect();
        // In the first coordinate, the lower end is the defining point itself.
        let solid = lower.iter().zip(&upper).all(|(lower, upper)| lower < upper);
        solid.then_some(Cell { lower, upper })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::gp_bo::acquisition::golden;

    fn sorted(mut cells: Vec<Cell>) -> Vec<Cell> {
        cells.sort_by(|a, b| {
            let key = |cell: &Cell| [cell.lower.clone(), cell.upper.clone()].concat();
            key(a)
                .iter()
                .zip(key(b))
                .map(|(a, b)| a.total_cmp(&b))
                .find(|o| o.is_ne())
                .unwrap_or(std::cmp::Ordering::Equal)
        });
        cells
    }

    #[test]
    fn boxes_are_botorchs() {
        let mut boxes = 0;
        for case in golden::multi_objective().fronts {
            let infinite =
                |upper: &Vec<f64>| upper.iter().map(|&u| if u >= 1e300 { f64::INFINITY } else { u }).collect();
            let theirs = case
                .lower
                .iter()
                .zip(&case.upper)
                .map(|(lower, upper)| Cell { lower: lower.clone(), upper: infinite(upper) });
            // BoTorch keeps boxes without width in two dimensions.
            let solid = |cell: &Cell| cell.lower.iter().zip(&cell.upper).all(|(l, u)| l < u);
            let theirs = sorted(theirs.filter(solid).collect());
            let ours = sorted(cells(&case.points, &case.reference));
            assert_eq!(ours, theirs);
            boxes += ours.len();
        }
        assert!(boxes > 200, "{boxes}");
    }
}
