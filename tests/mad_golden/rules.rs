//! The form that every instance of a task has, written down without use of the generators.

use std::collections::BTreeMap;
use std::ops::Range;

use composer_nas::evaluate::mad::task::{Instance, Split, Task};
use serde::Deserialize;

/// What the token ids of a task mean; a task uses only some of the fields.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Roles {
    pub keys: [u32; 2],
    pub values: [u32; 2],
    pub noise: [u32; 2],
    pub content: [u32; 2],
    pub copy_prefix: Option<u32>,
    pub pad: Option<u32>,
    pub insert: Option<u32>,
    pub compression_token: Option<u32>,
    pub blank: Option<u32>,
    pub copy: Option<u32>,
}

impl Roles {
    pub fn of(task: &Task) -> Roles {
        let size = task.vocab_size() as u32;
        let halves = |content: u32| ([0, content / 2], [content / 2, content]);
        let recall = |noise: u32, multi_query: bool| {
            let content = size - noise - u32::from(!multi_query);
            let (keys, values) = halves(content);
            let copy_prefix = (!multi_query).then_some(size - 1);
            Roles { keys, values, noise: [content, content + noise], copy_prefix, ..Roles::default() }
        };
        match task {
            Task::InContextRecall(task) => recall(0, task.multi_query),
            Task::NoisyInContextRecall(task) => recall(task.noise_vocab_size as u32, task.multi_query),
            Task::FuzzyInContextRecall(task) => {
                let pad = size - if task.multi_query { 1 } else { 2 };
                let (keys, values) = halves(pad);
                let copy_prefix = (!task.multi_query).then_some(size - 1);
                Roles { keys, values, noise: [pad; 2], pad: Some(pad), copy_prefix, ..Roles::default() }
            }
            Task::Memorization(_) => {
                let (keys, values) = halves(size - 1);
                Roles { keys, values, insert: Some(size - 1), ..Roles::default() }
            }
            Task::Compression(_) => {
                Roles { content: [0, size - 1], compression_token: Some(size - 1), ..Roles::default() }
            }
            Task::SelectiveCopying(_) => {
                Roles { content: [0, size - 2], blank: Some(size - 2), copy: Some(size - 1), ..Roles::default() }
            }
        }
    }

    pub fn is_key(&self, token: u32) -> bool {
        range(self.keys).contains(&token)
    }

    pub fn is_value(&self, token: u32) -> bool {
        range(self.values).contains(&token)
    }

    fn is_noise(&self, token: u32) -> bool {
        range(self.noise).contains(&token)
    }

    fn is_content(&self, token: u32) -> bool {
        range(self.content).contains(&token)
    }
}

fn range([start, end]: [u32; 2]) -> Range<u32> {
    start..end
}

/// The inputs followed by the last target: the whole sequence of a recall task.
pub fn whole(instance: &Instance) -> Vec<u32> {
    instance.inputs.iter().copied().chain(instance.targets.last().copied().flatten()).collect()
}

/// The keys and values of a fuzzy sequence, each a run of tokens, in pairs; the last pair is the question.
pub fn fuzzy_pairs(roles: &Roles, sequence: &[u32]) -> Vec<(Vec<u32>, Vec<u32>)> {
    let content: Vec<_> =
        sequence.iter().copied().filter(|&token| roles.is_key(token) || roles.is_value(token)).collect();
    let runs: Vec<_> = content.chunk_by(|&a, &b| roles.is_key(a) == roles.is_key(b)).collect();
    runs.chunks(2).map(|pair| (pair[0].to_vec(), pair.get(1).map_or(vec![], |value| value.to_vec()))).collect()
}

/// Fails the enclosing check with `rule` unless `condition` holds.
macro_rules! rule {
    ($condition:expr, $rule:expr) => {
        let holds: bool = $condition;
        if !holds {
            return Err($rule);
        }
    };
}

type Check = Result<(), &'static str>;

/// Checks one instance against the rules of its task; `facts` collects what memorization instances claim.
pub fn check(task: &Task, split: Split, instance: &Instance, facts: &mut BTreeMap<u32, u32>) -> Check {
    rule!(instance.inputs.len() == task.input_len(), "the inputs have the task's length");
    rule!(instance.targets.len() == task.input_len(), "the targets have the task's length");
    let roles = &Roles::of(task);
    match task {
        Task::InContextRecall(config) => recall(roles, config.seq_len, 0.0, split, instance),
        Task::NoisyInContextRecall(config) => recall(roles, config.seq_len, config.frac_noise, split, instance),
        Task::FuzzyInContextRecall(config) => fuzzy(roles, config.k_motif, config.v_motif, split, instance),
        Task::Memorization(_) => memorization(roles, instance, facts),
        Task::Compression(_) => compression(roles, instance),
        Task::SelectiveCopying(config) => selective_copying(roles, config.num_tokens_to_copy, instance),
    }
}

/// Targets are the next tokens: all of them in training, those at `asked` (places in the whole sequence) in a test.
fn next_tokens(split: Split, instance: &Instance, asked: &[usize]) -> Check {
    let sequence = whole(instance);
    let mut scored = vec![split == Split::Train; sequence.len()];
    for &place in asked {
        scored[place] = true;
    }
    for ((&token, &scored), &target) in sequence.iter().zip(&scored).skip(1).zip(&instance.targets) {
        rule!(
            target == scored.then_some(token),
            "targets are the next tokens where, and only where, they are asked for"
        );
    }
    Ok(())
}

fn recall(roles: &Roles, seq_len: usize, frac_noise: f64, split: Split, instance: &Instance) -> Check {
    let sequence = whole(instance);
    let multi_query = roles.copy_prefix.is_none();
    let (body, tail) = sequence.split_at(seq_len - 2);
    let mut value_of = BTreeMap::new();
    let mut asked = vec![];
    for (slot, pair) in body.chunks(2).enumerate() {
        if pair.iter().all(|&token| roles.is_noise(token)) {
            rule!(frac_noise > 0.0, "without a noise share there is no noise");
            continue;
        }
        rule!(roles.is_key(pair[0]) && roles.is_value(pair[1]), "slots are key and value, or two noise tokens");
        if let Some(known) = value_of.insert(pair[0], pair[1]) {
            rule!(known == pair[1], "a key keeps its value");
            asked.extend(multi_query.then_some(2 * slot + 1));
        }
    }
    let probe = match (roles.copy_prefix, tail) {
        (None, &[key, value]) => (key, value),
        (Some(prefix), &[announced, key, value]) if announced == prefix => (key, value),
        _ => return Err("the sequence ends with one question, announced by the copy prefix of a single query"),
    };
    rule!(value_of.get(&probe.0) == Some(&probe.1), "the last question is about a pair that has been shown");
    asked.push(sequence.len() - 1);
    next_tokens(split, instance, &asked)
}

/// The rule that the reference breaks now and then.
pub const PROBE_SHOWN: &str = "the key of the last question has been shown";

fn fuzzy(roles: &Roles, k_motif: usize, v_motif: usize, split: Split, instance: &Instance) -> Check {
    let sequence = whole(instance);
    let multi_query = roles.copy_prefix.is_none();
    let pads = sequence.iter().take_while(|&&token| Some(token) == roles.pad).count();
    let least = if multi_query { 2 } else { 1 };
    rule!((least..least + k_motif + v_motif).contains(&pads), "padding fills what the pairs leave");
    let pairs = fuzzy_pairs(roles, &sequence);
    let (last, shown) = pairs.split_last().ok_or("there is a question")?;
    let form: Vec<u32> = std::iter::repeat_n(roles.pad, pads)
        .flatten()
        .chain(shown.iter().flat_map(|(key, value)| [key, value]).flatten().copied())
        .chain(roles.copy_prefix)
        .chain([&last.0, &last.1].into_iter().flatten().copied())
        .collect();
    rule!(form == sequence, "a sequence is padding, pairs, the copy prefix of a single query, and the question");

    let mut value_of = BTreeMap::new();
    let mut asked = vec![];
    let mut place = pads;
    for (index, (key, value)) in pairs.iter().enumerate() {
        let question = index + 1 == pairs.len();
        place += key.len() + if question { roles.copy_prefix.iter().count() } else { 0 };
        let sizes = if split == Split::Test { k_motif..k_motif + 1 } else { 1..k_motif + 1 };
        rule!(sizes.contains(&key.len()), "keys have 1 to k_motif tokens in training and k_motif in a test");
        rule!((1..=v_motif).contains(&value.len()), "values have 1 to v_motif tokens");
        rule!(all_distinct(key) && all_distinct(value), "the tokens of a motif are distinct");
        let known = value_of.insert(key.clone(), value.clone());
        rule!(known.is_none() || known.as_ref() == Some(value), "a key keeps its value");
        if question || (known.is_some() && multi_query) {
            asked.extend(place..place + value.len());
        }
        place += value.len();
    }
    next_tokens(split, instance, &asked)?;
    rule!(shown.iter().any(|(key, _)| *key == last.0), PROBE_SHOWN);
    Ok(())
}

fn all_distinct(tokens: &[u32]) -> bool {
    tokens.iter().enumerate().all(|(index, token)| !tokens[..index].contains(token))
}

fn memorization(roles: &Roles, instance: &Instance, facts: &mut BTreeMap<u32, u32>) -> Check {
    for (slot, targets) in instance.inputs.chunks(2).zip(instance.targets.chunks(2)) {
        rule!(roles.is_key(slot[0]) && Some(slot[1]) == roles.insert, "slots are a key and the insert token");
        let (None, Some(value)) = (targets[0], targets[1]) else {
            return Err("the insert token is scored, the key is not");
        };
        rule!(roles.is_value(value), "answers are values");
        rule!(*facts.entry(slot[0]).or_insert(value) == value, "a key has one value in all instances");
    }
    Ok(())
}

fn compression(roles: &Roles, instance: &Instance) -> Check {
    let (last, content) = instance.inputs.split_last().ok_or("there is a sequence")?;
    rule!(Some(*last) == roles.compression_token, "the compression token closes the sequence");
    rule!(content.iter().all(|&token| roles.is_content(token)), "all else is content");
    rule!(instance.targets.iter().copied().eq(instance.inputs.iter().copied().map(Some)), "targets are the inputs");
    Ok(())
}

fn selective_copying(roles: &Roles, tokens: usize, instance: &Instance) -> Check {
    let (head, tail) = instance.inputs.split_at(instance.inputs.len() - tokens - 1);
    let content: Vec<_> = head.iter().copied().filter(|&token| roles.is_content(token)).collect();
    let blanks = head.iter().filter(|&&token| Some(token) == roles.blank).count();
    rule!(content.len() == tokens && blanks == head.len() - tokens, "the head is content among blanks");
    rule!(head.last().copied() != roles.blank, "no blank stands right before the copy token");
    rule!(Some(tail[0]) == roles.copy, "the copy token follows the head");
    rule!(tail[1..].iter().all(|&token| Some(token) == roles.blank), "blanks take the place of the answers");
    let answers = std::iter::repeat_n(None, head.len() + 1).chain(content.into_iter().map(Some));
    rule!(answers.eq(instance.targets.iter().copied()), "the trailing blanks ask for the content in order");
    Ok(())
}
