//! Random interactions of random triples of layers (Kauffman's NK model with K = 2, 1989).

use super::hash::{below, c11};

/// `S = Σ_i W_i[a_i][a_p(i)][a_q(i)]`: the contribution of a layer depends on two partners anywhere in the sequence.
/// Adjacent layers have no special role, and no two layers share a rule.
pub(super) fn score(tag: u64, a: &[usize]) -> f64 {
    let mut s = 0.0;
    for i in 0..a.len() {
        let (p, q) = partners(tag, i, a.len());
        s += c11(tag, [2, i as u64, a[i] as u64, a[p] as u64, a[q] as u64]);
    }
    s
}

/// Returns two distinct layers other than `i`.
fn partners(tag: u64, i: usize, n: usize) -> (usize, usize) {
    let p = (i + 1 + below(tag, [1, i as u64, 0], n - 1)) % n;
    let mut others = (0..n).filter(|&layer| layer != i && layer != p);
    (p, others.nth(below(tag, [1, i as u64, 1], n - 2)).unwrap_or(i))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partners_are_others_and_differ() {
        for (tag, n) in (0..50).flat_map(|tag| [3, 16, 32].map(|n| (tag, n))) {
            for i in 0..n {
                let (p, q) = partners(tag, i, n);
                assert!(p < n && q < n && p != i && q != i && p != q, "{tag} {n} {i}: {p} {q}");
            }
        }
    }
}
