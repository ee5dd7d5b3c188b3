//! Names, sequences and search spaces.

use anyhow::{Context as _, ensure};
use composer_nas::{
    downstream::Benchmark,
    evaluate::mad::Protocol,
    extrapolate::Target as Size,
    prelude::*,
    primitive::PrimitiveId,
    space::{Constraint, SpaceConfig},
};

use super::{Seen, Target, json, round_trip};

pub const NAMES: Target = Target {
    name: "names",
    what: "symbols, ids of primitives, names of targets, protocols and layouts",
    seeds: |_| Ok(["A", "attention", "mamba2_n64", "llama_1b", "quick", "arc"].map(Into::into).into()),
    run: |input, _| {
        let Ok(text) = std::str::from_utf8(input) else { return Seen::refused_as("no text") };
        if let Ok(symbol) = text.parse::<Symbol>() {
            ensure!(symbol.to_string() == text, "a symbol shows as another");
        }
        if let Ok(target) = Size::named(text) {
            ensure!(target.name == text, "a target is found under another name");
        }
        if let Ok(layout) = text.parse::<Benchmark>() {
            ensure!(layout.name() == text, "a layout is found under another name");
        }
        let known = Protocol::preset(text).is_some() || Primitives::standard().symbols([text]).is_ok();
        match PrimitiveId::new(text) {
            Ok(id) => {
                ensure!(id.as_str() == text && id.to_string() == text, "an id shows as another");
                round_trip::<PrimitiveId>(&serde_json::to_vec(text)?, |_| Seen::read(format!("{known}")))
            }
            Err(error) => Seen::refused(error),
        }
    },
};

pub const ARCHITECTURE: Target = Target {
    name: "architecture",
    what: "sequences in run-length notation",
    seeds: |_| Ok(["2A+4M", "AAMMMM", "A", "12M+1A+1B+1G+1C", "65536A"].map(Into::into).into()),
    run: |input, _| {
        let Ok(text) = std::str::from_utf8(input) else { return Seen::refused_as("no text") };
        let architecture: Architecture = match text.parse() {
            Ok(architecture) => architecture,
            Err(error) => return Seen::refused(error),
        };
        ensure!(!architecture.is_empty() && architecture.len() <= Architecture::MAX_LAYERS, "a length out of bounds");
        for form in [architecture.to_string(), architecture.letters()] {
            ensure!(form.parse::<Architecture>()? == architecture, "a form reads back as another sequence");
        }
        ensure!(Architecture::from_runs(architecture.runs()) == architecture, "the runs are those of another sequence");
        round_trip::<Architecture>(&serde_json::to_vec(text)?, |_| Seen::read("sequence"))
    },
};

pub const SPACE: Target = Target {
    name: "space",
    what: "search spaces: size, numbering, sampling",
    seeds: |_| {
        let a = Symbol::ATTENTION;
        let m = Symbol::SWIGLU;
        let plain = SearchSpace::uniform([a, m, Symbol::MLP], 6)?;
        let rules = plain.clone().pin(0, a)?.count(a, 1..=3)?.max_run(m, 2)?;
        let costs = [(a, 5), (m, 3), (Symbol::MLP, 1)].into();
        let budget = plain.clone().with(Constraint::Budget { what: "units".into(), costs, max: 17 })?;
        json([plain, rules, budget, SearchSpace::uniform([a, m], 64)?])
    },
    run: |input, _| {
        round_trip::<SearchSpace>(input, |space| {
            let last = space.size().checked_sub(1).context("a space without sequences")?;
            for number in [0, last / 2, last] {
                let sequence = space.nth(number).context("a number without a sequence")?;
                ensure!(space.contains(&sequence), "a numbered sequence lies outside");
                ensure!(space.index_of(&sequence) == Some(number), "a sequence has another number");
            }
            ensure!(space.nth(last.saturating_add(1)).is_none() || last == u128::MAX, "more sequences than the size");
            let drawn = space.sample(&mut Seed(0).rng("fuzz/space", 0));
            ensure!(space.contains(&drawn), "a drawn sequence lies outside");
            // The number of neighbours is quadratic in the number of layers.
            if space.layers() <= 32 {
                ensure!(space.neighbors(&drawn).iter().all(|near| space.contains(near)), "a neighbour lies outside");
                let next = space.next_choices(&drawn.layers()[..space.layers() - 1]);
                ensure!(next.contains(&drawn.layers()[space.layers() - 1]), "a sequence cannot be completed");
            }
            Seen::read(if space.config().constraints.is_empty() { "plain" } else { "constrained" })
        })
    },
};

const LAYERS: usize = 5;
const CHOICES: [Symbol; 3] = [Symbol::ATTENTION, Symbol::SWIGLU, Symbol::MLP];

pub const CONSTRAINTS: Target = Target {
    name: "constraints",
    what: "rules about sequences, against counting them one by one",
    seeds: |_| {
        let a = Symbol::ATTENTION;
        let m = Symbol::SWIGLU;
        let costs = [(a, 5), (m, 3), (Symbol::MLP, 1)].into();
        json([
            vec![],
            vec![Constraint::Count { symbol: a, min: 1, max: 2 }, Constraint::MaxRun { symbol: m, max: 1 }],
            vec![Constraint::Budget { what: "units".into(), costs, max: 12 }],
        ])
    },
    run: |input, _| {
        round_trip::<Vec<Constraint>>(input, |constraints| {
            let all = SearchSpace::uniform(CHOICES, LAYERS)?;
            let right: Vec<_> = all.iter().filter(|a| constraints.iter().all(|rule| keeps(rule, a))).collect();
            match SearchSpace::new(SpaceConfig { constraints, ..all.config().clone() }) {
                Ok(space) => {
                    ensure!(space.size() == right.len() as u128, "the size is not the number of right sequences");
                    ensure!(space.iter().eq(right), "other sequences than the right ones");
                    Seen::read(format!("{}", space.size() < all.size()))
                }
                // A budget that lacks a symbol is rejected.
                Err(error) => Seen::refused(error),
            }
        })
    },
};

/// Applies the documented rule to a whole sequence.
fn keeps(rule: &Constraint, architecture: &Architecture) -> bool {
    match rule {
        &Constraint::Count { symbol, min, max } => (min..=max).contains(&architecture.count(symbol)),
        &Constraint::MaxRun { symbol, max } => {
            architecture.runs().all(|(found, length)| found != symbol || length <= max)
        }
        Constraint::Budget { costs, max, .. } => {
            let cost = |layer| costs.get(layer).map(|&cost| u128::from(cost));
            let sum: Option<u128> = architecture.layers().iter().map(cost).sum();
            sum.is_some_and(|sum| sum <= u128::from(*max))
        }
    }
}
