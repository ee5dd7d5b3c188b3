//! Exact hypervolumes.

/// Returns the hypervolume: the volume that `points` dominate above `reference`. Larger is better in every coordinate.
///
/// Points that are not better than the reference in every coordinate do not count, nor do points with a value that is
/// not finite.
///
/// Two coordinates use a sweep, more use the WFG algorithm (While, Bradstreet and Barone 2012, "A Fast Way of
/// Calculating Exact Hypervolumes"), which suits fronts of some hundred points.
pub fn hypervolume(points: &[Vec<f64>], reference: &[f64]) -> f64 {
    let inside = |point: &&Vec<f64>| {
        point.len() == reference.len()
            && point.iter().zip(reference).all(|(value, least)| value.is_finite() && value > least)
    };
    let above = |point: &Vec<f64>| point.iter().zip(reference).map(|(value, least)| value - least).collect();
    let mut above: Vec<Vec<f64>> = points.iter().filter(inside).map(above).collect();
    if reference.len() > 2 {
        // Dominated points add nothing, and the algorithm is slow in the number of points.
        above = non_dominated(&above).into_iter().map(|at| std::mem::take(&mut above[at])).collect();
    }
    // The largest points first, because they dominate most of the others' volume.
    above.sort_by(|a, b| compare(b, a));
    volume(&above)
}

/// Returns whether `a` dominates `b`: at least as good everywhere and better somewhere.
pub(crate) fn dominates(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(a, b)| a >= b) && a.iter().zip(b).any(|(a, b)| a > b)
}

/// Returns the indices of the points that no other point dominates. Equal points are all included or all excluded.
pub(crate) fn non_dominated(points: &[Vec<f64>]) -> Vec<usize> {
    let best = |&at: &usize| !points.iter().any(|other| dominates(other, &points[at]));
    (0..points.len()).filter(best).collect()
}

fn compare(a: &[f64], b: &[f64]) -> std::cmp::Ordering {
    let differing = a.iter().zip(b).map(|(a, b)| a.total_cmp(b)).find(|order| order.is_ne());
    differing.unwrap_or(std::cmp::Ordering::Equal)
}

/// Returns the volume above the origin. Points are sorted by descending first coordinate.
fn volume(points: &[Vec<f64>]) -> f64 {
    match points.first().map_or(0, Vec::len) {
        0 => 0.0,
        1 => points[0][0],
        2 => area(points),
        _ => (0..points.len()).map(|at| exclusive(points, at)).sum(),
    }
}

/// Sweeps two coordinates: horizontal strips, starting with the widest.
fn area(points: &[Vec<f64>]) -> f64 {
    let mut height = 0.0;
    let mut area = 0.0;
    for point in points {
        if point[1] > height {
            area += point[0] * (point[1] - height);
            height = point[1];
        }
    }
    area
}

/// Returns the volume that a point dominates and the points after it do not.
fn exclusive(points: &[Vec<f64>], at: usize) -> f64 {
    let own = &points[at];
    let cut = |other: &Vec<f64>| other.iter().zip(own).map(|(other, own)| other.min(*own)).collect();
    let limited: Vec<Vec<f64>> = points[at + 1..].iter().map(cut).collect();
    let mut front: Vec<Vec<f64>> = Vec::new();
    for point in limited {
        if front.iter().any(|better| better.iter().zip(&point).all(|(better, value)| better >= value)) {
            continue;
        }
        front.retain(|worse| !dominates(&point, worse));
        front.push(point);
    }
    front.sort_by(|a, b| compare(b, a));
    own.iter().product::<f64>() - volume(&front)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        fronts: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        points: Vec<Vec<f64>>,
        reference: Vec<f64>,
        front: Vec<usize>,
        hypervolume: f64,
    }

    #[test]
    fn fronts_and_volumes_are_botorchs() {
        let golden: Golden =
            serde_json::from_str(include_str!("../../tests/fixtures/bo/multi_objective.json")).unwrap();
        assert_eq!(golden.fronts.len(), 27);
        for case in golden.fronts {
            assert_eq!(non_dominated(&case.points), case.front);
            let found = hypervolume(&case.points, &case.reference);
            assert!((found - case.hypervolume).abs() < 1e-14, "{found} {}", case.hypervolume);
        }
    }

    #[test]
    fn duplicates_and_points_below_the_reference_add_nothing() {
        let points = vec![vec![1.0, 2.0, 3.0], vec![2.0, 1.0, 1.0]];
        let volume = hypervolume(&points, &[0.0; 3]);
        assert_eq!(volume, 6.0 + 2.0 - 1.0);
        let more = [points, vec![vec![1.0, 2.0, 3.0], vec![-1.0, 9.0, 9.0], vec![f64::NAN, 9.0, 9.0]]].concat();
        assert_eq!(hypervolume(&more, &[0.0; 3]), volume);
        assert_eq!(hypervolume(&[], &[0.0; 3]), 0.0);
        assert_eq!(hypervolume(&[vec![3.0], vec![5.0]], &[1.0]), 4.0);
    }

    #[test]
    fn four_coordinates_agree_with_counting() {
        // Corners on an integer grid: the volume is the number of unit cells.
        let points: Vec<Vec<f64>> =
            (0..12u32).map(|i| (0..4).map(|k| f64::from((i * (7 + 3 * k) + k) % 5)).collect()).collect();
        let cell = |mut at: u32| -> Vec<f64> {
            (0..4)
                .map(|_| {
                    let digit = at % 5;
                    at /= 5;
                    f64::from(digit) + 0.5
                })
                .collect()
        };
        let inside = |cell: &Vec<f64>| points.iter().any(|point| point.iter().zip(cell).all(|(p, c)| p > c));
        let counted = (0..625).map(cell).filter(inside).count() as f64;
        assert!((hypervolume(&points, &[0.0; 4]) - counted).abs() < 1e-9);
    }
}
