//! Preferences for single layers, adjacent pairs and next-but-one pairs, with penalties for long runs and uneven
//! counts.

use super::{hash::c11, runs};

/// `S = Σ P[i][a_i] + Σ PA[i][a_i][a_{i+1}] + Σ C[a_i][a_{i+2}] − R − B`, with `R = 1/2 Σ_runs max(0, length − 2)` and
/// `B = 16 (count_0/n − 1/2)²`, added to one accumulator in this order. `P` and `PA` are partly shared by all layers.
pub(super) fn score(tag: u64, a: &[usize]) -> f64 {
    let n = a.len();
    let at = |i: usize| a[i] as u64;
    let mut s = 0.0;
    for i in 0..n {
        let depth = 2.0 * i as f64 / (n - 1) as f64 - 1.0;
        s += 1.0 * c11(tag, [1, at(i)]) * depth + 0.5 * c11(tag, [2, i as u64, at(i)]);
    }
    for i in 0..n - 1 {
        s += 1.0 * c11(tag, [3, at(i), at(i + 1)]) + 0.5 * c11(tag, [4, i as u64, at(i), at(i + 1)]);
    }
    for i in 0..n - 2 {
        s += 0.5 * c11(tag, [5, at(i), at(i + 2)]);
    }
    let excess: usize = runs(a).map(|run| run.saturating_sub(2)).sum();
    s -= 0.5 * excess as f64;
    let share = a.iter().filter(|&&z| z == 0).count() as f64 / n as f64 - 0.5;
    s - 16.0 * (share * share)
}
