//! A caricature of mechanisms reported for real hybrids: saturation, circuits, distances, thresholds.

use super::{hash::c11, runs};

const ATTENTION: usize = 0;
const MLP: usize = 1;
const RECURRENT: usize = 2;

/// Choice 0 acts as attention, 1 as an MLP, and 2 (if there is one) as a recurrent layer. The score sums these terms,
/// in this order:
///
/// 1. Counts have diminishing returns: `w c/(c + h)` for each kind.
/// 2. An MLP processes the output of the last mixer before it: `1/distance` each, `−1/2` if there is no mixer before
///    it, all times `8/n`.
/// 3. Attention layers up to 4 apart are redundant: `−0.8/distance²` per pair. Each adjacent pair of attention and
///    recurrence adds `0.3`. Both are multiplied by `16/n`.
/// 4. Recall needs a circuit: attention, an MLP, attention again, in this order with anything between. The first
///    circuit adds 2, a second disjoint one adds 1, an incomplete one nothing.
/// 5. A mixer as the first layer adds 0.5; an MLP as the last layer adds 0.7.
/// 6. A run of more than `n/4` equal layers costs 1, whatever its length.
/// 7. Every layer has small individual preferences, up to 0.2.
pub(super) fn score(tag: u64, a: &[usize]) -> f64 {
    let n = a.len();
    let mut s = counts(a) + digestion(a) * (8.0 / n as f64) + distances(a) * (16.0 / n as f64);
    s += [0.0, 2.0, 3.0][circuits(a).min(2)];
    s += if a.first().is_some_and(|&z| z != MLP) { 0.5 } else { 0.0 };
    s += if a.last() == Some(&MLP) { 0.7 } else { 0.0 };
    s -= if runs(a).any(|run| 4 * run > n) { 1.0 } else { 0.0 };
    for (i, &z) in a.iter().enumerate() {
        s += 0.2 * c11(tag, [1, i as u64, z as u64]);
    }
    s
}

/// Diminishing returns. Half of the maximum is reached at `h` layers.
fn counts(a: &[usize]) -> f64 {
    let n = a.len() as f64;
    [(ATTENTION, 6.0, n / 8.0), (MLP, 8.0, n / 4.0), (RECURRENT, 3.0, n / 8.0)].iter().fold(0.0, |s, &(kind, w, h)| {
        let count = a.iter().filter(|&&z| z == kind).count() as f64;
        s + w * count / (count + h)
    })
}

fn digestion(a: &[usize]) -> f64 {
    let mut s = 0.0;
    let mut mixer = None;
    for (i, &z) in a.iter().enumerate() {
        match mixer {
            _ if z != MLP => mixer = Some(i),
            Some(mixer) => s += 1.0 / (i - mixer) as f64,
            None => s -= 0.5,
        }
    }
    s
}

fn distances(a: &[usize]) -> f64 {
    let mut s = 0.0;
    for (i, &z) in a.iter().enumerate() {
        for (d, &before) in (1..=4).zip(a[..i].iter().rev()) {
            if (z, before) == (ATTENTION, ATTENTION) {
                s -= 0.8 / f64::from(d * d);
            } else if d == 1 && z != MLP && before != MLP && z != before {
                s += 0.3;
            }
        }
    }
    s
}

/// Counts disjoint circuits from left to right.
fn circuits(a: &[usize]) -> usize {
    let steps =
        a.iter().fold(0, |found, &z| if z == [ATTENTION, MLP, ATTENTION][found % 3] { found + 1 } else { found });
    steps / 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_what_their_descriptions_say() {
        // A M M R M A A M
        let a = [0, 1, 1, 2, 1, 0, 0, 1];
        assert_eq!(counts(&a), 6.0 * 3.0 / 4.0 + 8.0 * 4.0 / 6.0 + 3.0 * 1.0 / 2.0);
        assert_eq!(digestion(&a), 1.0 + 0.5 + 1.0 + 1.0);
        assert_eq!(digestion(&[1, 0, 1]), 0.5);
        assert_eq!(distances(&a), -0.8);
        assert_eq!(distances(&[0, 2, 0]), 0.3 + 0.3 - 0.8 / 4.0);
        assert_eq!(circuits(&a), 1);
        assert_eq!(circuits(&[0, 1, 0, 0, 2, 1, 0]), 2);
        assert_eq!(circuits(&[0, 1, 0, 1, 0]), 1);
    }
}
