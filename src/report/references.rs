//! Baselines and published hybrids in the picture of a front, with their costs, and their scores if they were
//! evaluated.

use plotters::{
    prelude::PathElement,
    style::{Color, text_anchor::HPos},
};

use super::figure::{Area, Drawn, GREY, INK, write};
use crate::{
    primitive::Symbol,
    space::{Architecture, baseline},
    study::{Measure, Objective, Study},
};

/// A known layout.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reference {
    /// The name. Layouts of equal cost and score share a mark, which has all their names.
    pub(super) name: String,
    /// The second objective, which is known exactly.
    pub(super) cost: f64,
    /// The goal's score, if the sequence was evaluated.
    pub(super) score: Option<f64>,
}

/// Returns the repeating parts of published hybrids, which are scaled to the size of the target for comparison.
pub(super) fn published_hybrids() -> [(&'static str, Architecture); 4] {
    [
        ("Nemotron-H", baseline::nemotron_h(6, 1)),
        ("Jamba", baseline::jamba(1)),
        ("Qwen3-Next", baseline::qwen3_next(1)),
        ("Samba", baseline::samba(2)),
    ]
}

/// The sequence mixers of published hybrids besides attention.
const MIXERS: [Symbol; 3] = [Symbol::MAMBA2, Symbol::GATED_DELTA_NET, Symbol::SLIDING_WINDOW];

/// Returns the baselines of the space's length and, if costs are those of a target, published hybrids, by ascending
/// cost. Layouts without a known cost are left out. Empty if the second objective is a score.
pub(super) fn references(study: &Study, second: &Objective) -> Vec<Reference> {
    let Measure::Cost(cost) = &second.of else { return Vec::new() };
    let reference = |(name, architecture): (&str, Architecture)| {
        let seen = study.observations().find(|seen| seen.trial.architecture == architecture);
        let known = || study.costs(&architecture).ok()?.get(cost).copied();
        let measured = seen.as_ref().and_then(|seen| seen.report.costs.get(cost).copied());
        let score = seen.map(|seen| study.goal().orient(seen.value));
        Some(Reference { name: name.into(), cost: measured.or_else(known)?, score })
    };
    let mut all: Vec<_> = layouts(study).into_iter().filter_map(reference).collect();
    all.sort_by(|a, b| a.cost.total_cmp(&b.cost));
    let mut merged: Vec<Reference> = Vec::new();
    for next in all {
        match merged.last_mut().filter(|last| last.cost == next.cost && last.score.is_none() && next.score.is_none()) {
            Some(last) => last.name += &format!(", {}", next.name),
            None => merged.push(next),
        }
    }
    merged
}

/// The layouts by name, as small sequences.
fn layouts(study: &Study) -> Vec<(&'static str, Architecture)> {
    let space = study.space();
    let layers = space.layers();
    let blocks = layers / 2;
    let mut layouts = Vec::new();
    if layers.is_multiple_of(2) {
        layouts.push(("Llama-like", baseline::llama(blocks)));
        layouts.push(("sandwich", baseline::sandwich(blocks, (blocks / 3).max(1))));
    }
    if layers.is_multiple_of(3) {
        layouts.push(("striped 1:2", baseline::striped(layers / 3, 2)));
    }
    let mixers = space.symbols();
    let akin =
        |layers: &Architecture| layers.layers().iter().any(|symbol| MIXERS.contains(symbol) && mixers.contains(symbol));
    let hybrids = published_hybrids().into_iter().filter(|(_, layers)| study.compares_lengths() && akin(layers));
    layouts.extend(hybrids);
    layouts.dedup_by(|a, b| a.1 == b.1);
    layouts
}

/// Height of a row of names.
const ROW: i32 = 15;
/// Size of the letters of a name, and the pixels that one takes.
const LETTERS: (u32, f64) = (14, 6.4);

/// A name above a plot.
struct Name<'a> {
    text: &'a str,
    /// The pixel of its cost.
    x: i32,
    /// The middle of the text.
    middle: i32,
    row: i32,
}

/// Names above a plot, in rows so that none covers another.
pub(super) struct Names<'a> {
    names: Vec<Name<'a>>,
    rows: i32,
}

impl<'a> Names<'a> {
    /// Creates the names of references, sorted by cost, for a picture of this width. `pixel` returns the position of a
    /// cost.
    pub(super) fn new(references: &'a [Reference], width: i32, pixel: impl Fn(f64) -> i32) -> Self {
        let mut ends: Vec<i32> = Vec::new();
        let mut names = Vec::new();
        for reference in references {
            let x = pixel(reference.cost);
            let half = (reference.name.chars().count() as f64 * LETTERS.1 / 2.0) as i32 + 5;
            let middle = x.min(width - half).max(half);
            let row = ends.iter().position(|&end| end <= middle - half).unwrap_or(ends.len());
            ends.resize(ends.len().max(row + 1), 0);
            ends[row] = middle + half;
            names.push(Name { text: &reference.name, x, middle, row: row as i32 });
        }
        Self { names, rows: ends.len() as i32 }
    }

    /// The pixels that the rows take.
    pub(super) fn height(&self) -> i32 {
        self.rows * ROW
    }

    /// Draws the rows from `top` on, with a line from every name to the bottom of the plot.
    pub(super) fn draw(&self, area: &Area, top: i32, bottom: i32) -> Drawn {
        for &Name { text, x, middle, row } in &self.names {
            let y = top + row * ROW + ROW / 2 - 3;
            for dash in (y + ROW / 2..bottom).step_by(6) {
                area.draw(&PathElement::new([(x, dash), (x, (dash + 3).min(bottom))], GREY.mix(0.7)))?;
            }
            write(area, text, (middle, y), LETTERS.0, INK, HPos::Center)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        cost::Workload,
        extrapolate::{Auto, Target, TargetCosts},
        primitive::Primitives,
        seed::Seed,
        space::SearchSpace,
        study::{Event, FnCost, Goal, Origin, Report},
    };

    fn cache() -> Objective {
        Objective::minimize(Measure::cost("cache"))
    }

    fn study(symbols: &[Symbol]) -> Study {
        let space = SearchSpace::uniform(symbols.to_vec(), 6).unwrap();
        Study::new(space, Goal::default().and(cache()).unwrap())
    }

    fn names(study: &Study) -> Vec<String> {
        references(study, &cache()).into_iter().map(|reference| reference.name).collect()
    }

    #[test]
    fn costs_are_known_and_scores_where_they_were_measured() {
        let [a, m] = [Symbol::ATTENTION, Symbol::SWIGLU];
        let attention = |architecture: &Architecture| architecture.count(Symbol::ATTENTION) as f64;
        let mut study = study(&[a, m]).with_costs(Arc::new(FnCost::new("cache", "", attention))).unwrap();
        let two = Reference { name: "striped 1:2".into(), cost: 2.0, score: None };
        let three = Reference { name: "Llama-like, sandwich".into(), cost: 3.0, score: None };
        assert_eq!(references(&study, &cache()), [two.clone(), three]);
        let architecture: Architecture = "AMAMAM".parse().unwrap();
        let report = study.priced(&architecture, Report::score("accuracy", 0.5)).unwrap();
        let id = study.next_id();
        study.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Manual }).unwrap();
        study.apply(Event::Completed { id, report }).unwrap();
        let llama = Reference { name: "Llama-like".into(), cost: 3.0, score: Some(0.5) };
        let sandwich = Reference { name: "sandwich".into(), cost: 3.0, score: None };
        assert_eq!(references(&study, &cache()), [two, llama, sandwich]);
        assert!(references(&study, &Objective::minimize(Measure::score("loss"))).is_empty());
        // Without costs those alone that were evaluated.
        assert_eq!(names(&self::study(&[a, m])), Vec::<String>::new());
    }

    #[test]
    fn published_hybrids_of_other_lengths_need_costs_of_a_target() {
        let symbols = [Symbol::ATTENTION, Symbol::SWIGLU, Symbol::MAMBA2];
        let primitives = Primitives::standard();
        let costs = || TargetCosts::new(Auto, &Target::llama_1b(), &primitives, Workload::bf16(4096)).unwrap();
        let of_target = |symbols: &[Symbol]| names(&study(symbols).with_costs(Arc::new(costs())).unwrap()).join(", ");
        let all = of_target(&symbols);
        assert!(["Jamba", "Nemotron-H", "Samba", "Llama-like"].iter().all(|name| all.contains(name)), "{all}");
        assert!(!all.contains("Qwen3-Next") && !of_target(&symbols[..2]).contains("Jamba"), "{all}");
        let small = study(&symbols).with_costs(Arc::new(FnCost::new("cache", "", |_: &Architecture| 1.0))).unwrap();
        assert_eq!(names(&small), ["Llama-like, sandwich, striped 1:2"]);
    }

    #[test]
    fn names_do_not_cover_each_other() {
        let of = |name: &str, cost| Reference { name: name.into(), cost, score: None };
        let references = [of("Llama-like", 100.0), of("sandwich", 120.0), of("striped 1:2", 300.0)];
        let names = Names::new(&references, 330, |cost| cost as i32);
        assert!(names.names[2].middle < 300 && names.names[0].middle == 100);
        assert_eq!(names.names.iter().map(|name| name.row).collect::<Vec<_>>(), [0, 1, 0]);
        assert_eq!(names.height(), 2 * ROW);
    }
}
