//! The head of a page: what was searched, what the letters mean, and the answer in a few numbers.

use std::collections::BTreeMap;

use super::{
    Page,
    gap::Gap,
    shell::{self, Card},
    units,
};
use crate::{
    primitive::Symbol,
    space::Architecture,
    study::{Goal, Observation, TrialState},
    text::{self, html as escape, number},
};

/// Characters of an aggregator's name on a card.
const LONGEST_NAME: usize = 60;

/// What the layers of this crate are, for those who do not know their names.
const MEANINGS: [(&str, &str); 9] = [
    ("attention", "over all earlier tokens"),
    ("sliding_window", "attention over the latest tokens"),
    ("mamba2", "state-space layer"),
    ("gated_delta_net", "linear attention with the delta rule"),
    ("gated_conv", "gated short convolution"),
    ("swiglu", "gated MLP"),
    ("mlp", "MLP"),
    ("relu2", "MLP with squared ReLU"),
    ("moe", "mixture of experts"),
];

/// A letter and what it stands for.
fn letter(symbol: Symbol, name: &str) -> String {
    let meaning = MEANINGS.iter().find(|(known, _)| *known == name);
    let meaning = meaning.map(|(_, meaning)| format!(" <span class=\"soft\">({meaning})</span>"));
    let letter = shell::strip(&Architecture::new([symbol]));
    format!("<li>{letter} {}{}</li>", escape(name), meaning.unwrap_or_default())
}

/// Returns a line of letters with what they stand for. Empty without letters.
pub(super) fn legend(title: &str, letters: impl IntoIterator<Item = (Symbol, String)>) -> String {
    let entries: String = letters.into_iter().map(|(symbol, name)| letter(symbol, &name)).collect();
    match entries.is_empty() {
        true => String::new(),
        false => format!("<ul class=\"letters\"><li class=\"soft\">{title}</li>{entries}</ul>\n"),
    }
}

/// Returns the card with the difference between the result and the best trial.
fn difference(own: Option<&Observation<'_>>, best: &Observation<'_>, goal: &Goal) -> Card {
    const NAME: &str = "result minus best trial";
    let Some(own) = own else { return Card::new(NAME, "not known", "the result was not evaluated") };
    if own.trial.architecture == best.trial.architecture {
        return Card::new(NAME, "none", "the result is the best trial");
    }
    let gap = Gap::new(own, best, goal);
    let note = match gap.is_clear() {
        None => "not both measured more than once: the error is not known",
        Some(true) => "more than two standard errors",
        Some(false) => "within two standard errors: no clear difference",
    };
    Card::new(NAME, gap.text(), note)
}

impl Page<'_> {
    /// Returns everything above the first section.
    pub(super) fn head(&self) -> String {
        self.lead() + &self.letters() + &shell::cards(&self.cards())
    }

    /// Returns the sentence about the trials, the space and the goal.
    fn lead(&self) -> String {
        let study = self.study;
        let pending = study.pending().count();
        let (waiting, budget) = match self.live {
            Some(running) => (format!(", {pending} running or waiting"), format!(" of {}", running.budget)),
            None if pending > 0 => (format!(", {pending} pending"), String::new()),
            None => Default::default(),
        };
        let failed = study.trials().iter().filter(|trial| matches!(trial.state, TrialState::Failed(_))).count();
        let failed = if failed > 0 { format!(", {failed} failed") } else { String::new() };
        let ended = study.trials().len() - pending;
        let space = study.space();
        let goal = escape(&study.goal().to_string());
        let sequences = format!("sequences of {} layers, {} in all", space.layers(), units::many(space.size()));
        format!("<p>{ended}{budget} trials{failed}{waiting}. Searched: {sequences}. Goal: {goal}.</p>\n")
    }

    /// Returns the legend of letters, and how sequences are written.
    fn letters(&self) -> String {
        let mut names: BTreeMap<Symbol, String> = BTreeMap::new();
        if let Some((_, _, primitives)) = &self.result {
            let models = self.full_size();
            let used = |symbol| models.iter().any(|(_, spec)| spec.architecture.count(symbol) > 0);
            let known = primitives.iter().filter(|primitive| used(primitive.symbol()));
            names.extend(known.map(|primitive| (primitive.symbol(), primitive.id().as_str().to_owned())));
        }
        if let Some(setup) = self.setup {
            names.extend(setup.primitives.iter().map(|(&symbol, id)| (symbol, id.as_str().to_owned())));
        }
        let space = self.study.space().symbols();
        let (searched, others): (Vec<_>, Vec<_>) = names.iter().partition(|(symbol, _)| space.contains(symbol));
        let lists = [("Letters:", searched), ("Only in published hybrids, shown for comparison:", others)];
        let list = |(title, entries): (&str, Vec<(&Symbol, &String)>)| {
            legend(title, entries.into_iter().map(|(symbol, name)| (*symbol, name.clone())))
        };
        let lists: String = lists.into_iter().map(list).collect();
        let example = self.answer().or_else(|| self.study.best().map(|best| best.trial.architecture.clone()));
        let example = example.map(|architecture| {
            let strip = shell::strip(&architecture);
            format!("<p class=\"soft\">{architecture} stands for {strip}, from the first layer to the last.</p>\n")
        });
        lists + &example.unwrap_or_default()
    }

    /// Returns the cards with the answer.
    fn cards(&self) -> Vec<Card> {
        let study = self.study;
        let goal = study.goal();
        let pooled = study.pooled();
        let best = pooled.best();
        let score = |seen: &Observation<'_>| {
            let error = seen.report.standard_error.map(|error| format!(" ± {}", number(error, 4)));
            number(goal.orient(seen.value), 4) + &error.unwrap_or_default()
        };
        let mut cards = Vec::new();
        if let Some(aggregated) = self.answer() {
            let by = text::shortened(&self.aggregator_name(), LONGEST_NAME);
            let own = pooled.observations().find(|seen| seen.trial.architecture == aggregated);
            let own_score = own.map_or("not evaluated".into(), |seen| format!("{} {}", goal.score, score(&seen)));
            cards.push(Card::of("result", &aggregated, format!("{own_score}; aggregated by {by}")));
            cards.extend(best.map(|best| difference(own.as_ref(), &best, goal)));
        }
        if let Some(best) = best {
            let at = cards.len().min(1);
            let note = format!("{} {}, trial {}", goal.score, score(&best), best.trial.id.0);
            cards.insert(at, Card::of("best trial", &best.trial.architecture, note));
        }
        cards.extend(self.size_cards());
        let done = study.observations().count();
        cards.push(Card::new(
            "evaluated",
            format!("{done} of {}", units::many(study.space().size())),
            "trials with a score, of all sequences",
        ));
        cards
    }

    /// Returns the cards with layers and cache at full size.
    fn size_cards(&self) -> Vec<Card> {
        let Some((target, model, primitives)) = &self.result else { return Vec::new() };
        let baseline = target.baseline_model();
        let models = [(target.name.clone(), &baseline), ("result".into(), *model)];
        let layers = format!("{} layers", model.architecture.len());
        let Ok(costs) = super::full_size::comparison(&models, primitives) else {
            return vec![Card::new("at full size", layers, target.name.clone())];
        };
        let [first, own] = &costs.rows[..] else { return Vec::new() };
        let parameters = units::count(own.cost.total_parameters);
        let other = format!(
            "{}: {} layers, {} parameters",
            target.name,
            first.cost.layers,
            units::count(first.cost.total_parameters)
        );
        let cache = units::bytes(own.cost.cache_bytes_per_sequence);
        let other_cache = units::bytes(first.cost.cache_bytes_per_sequence);
        let other_cache = match costs.relative_cache(own) {
            Some(times) => format!("{}x the cache of {} ({other_cache})", number(times, 2), target.name),
            None => format!("{}: {other_cache}", target.name),
        };
        vec![
            Card::new("at full size", format!("{layers}, {parameters} parameters"), other),
            Card::new(&format!("cache for {} tokens", costs.workload.seq_len), cache, other_cache),
        ]
    }
}
