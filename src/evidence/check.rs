//! Validation of groups, and the pairs that follow from the gap.

use std::collections::BTreeSet;

use super::{Group, Layout};
use crate::{space::Architecture, text};

/// The maximum number of layers of a layout.
pub(super) const MAX_LAYERS: usize = 512;
/// The maximum number of pairs in all groups.
pub(super) const MAX_PAIRS: usize = 1 << 16;
/// The maximum length of the name of a layout, in bytes.
pub(super) const MAX_NAME: usize = 256;

impl Group {
    pub(super) fn check_layouts(&self) -> Result<(), String> {
        if self.layouts.len() < 2 {
            return Err("a comparison needs at least two layouts".into());
        }
        let mut names = BTreeSet::new();
        for layout in &self.layouts {
            self.check_layout(layout)?;
            if !names.insert(&layout.name) {
                return Err(format!("two layouts are named {:?}: rename one", layout.name));
            }
        }
        if self.gap.is_some_and(|gap| !gap.is_finite() || gap < 0.0) {
            return Err("the gap must be finite and at least 0".into());
        }
        Ok(())
    }

    fn check_layout(&self, layout: &Layout) -> Result<(), String> {
        let name = &layout.name;
        if name.len() > MAX_NAME {
            let name = text::shortened(name, 40);
            return Err(format!("the name {name:?} is too long: use at most {} bytes", MAX_NAME));
        }
        if layout.value.is_some_and(|value| !value.is_finite()) {
            return Err(format!("the value of {name:?} is not finite: remove it"));
        }
        let layers = layout.layers.as_ref().map_or(0, Architecture::len);
        if layers > MAX_LAYERS {
            return Err(format!("{name:?} has {layers} layers: at most {} are supported", MAX_LAYERS));
        }
        Ok(())
    }

    /// Returns all pairs that differ by at least the gap, up to rounding; at most one more than the limit.
    pub(super) fn pairs_by_gap(&self) -> Vec<[String; 2]> {
        let Some(gap) = self.gap else { return Vec::new() };
        let further = |better: &Layout, worse: &Layout| {
            let difference = self.merit(better).zip(self.merit(worse)).map(|(better, worse)| better - worse);
            difference.is_some_and(|difference| difference > 0.0 && difference >= gap * (1.0 - 1e-9))
        };
        let pairs = self.layouts.iter().flat_map(|better| {
            let worse = self.layouts.iter().filter(move |worse| further(better, worse));
            worse.map(move |worse| [better.name.clone(), worse.name.clone()])
        });
        pairs.take(MAX_PAIRS + 1).collect()
    }

    pub(super) fn check_pairs(&self) -> Result<(), String> {
        let places = self.places();
        let place = |name: &String| {
            let known = places.get(name.as_str()).copied();
            known.ok_or_else(|| format!("a pair names {:?}, which is not a layout", text::shortened(name, 40)))
        };
        let merit = |place: usize| self.merit(&self.layouts[place]);
        let mut seen = BTreeSet::new();
        for [better, worse] in &self.pairs {
            let places = (place(better)?, place(worse)?);
            let against = merit(places.0).zip(merit(places.1)).is_some_and(|(better, worse)| better <= worse);
            if places.0 == places.1 || seen.contains(&(places.1, places.0)) || against {
                return Err(format!("the pair {better:?} before {worse:?} contradicts a number or another pair"));
            }
            if !seen.insert(places) {
                return Err(format!("the pair {better:?} before {worse:?} occurs twice"));
            }
        }
        if circular(self.layouts.len(), &seen) {
            return Err("its pairs form a cycle, so a layout would be better than itself".into());
        }
        Ok(())
    }
}

/// Whether the pairs form a cycle.
fn circular(layouts: usize, pairs: &BTreeSet<(usize, usize)>) -> bool {
    // For every layout, the number of remaining layouts that are better.
    let mut better_ones = vec![0; layouts];
    pairs.iter().for_each(|&(_, worse)| better_ones[worse] += 1);
    // Layouts without a better one can be removed.
    let mut free: Vec<usize> = (0..layouts).filter(|&place| better_ones[place] == 0).collect();
    let mut taken = 0;
    while let Some(place) = free.pop() {
        taken += 1;
        for &(_, worse) in pairs.range((place, 0)..(place + 1, 0)) {
            better_ones[worse] -= 1;
            if better_ones[worse] == 0 {
                free.push(worse);
            }
        }
    }
    taken < layouts
}
