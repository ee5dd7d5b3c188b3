//! Comparison of the costs of several models.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{CostError, FlopConvention, LayerTimes, ModelCost, Seconds, Timing, Workload};
use crate::{model::ModelSpec, primitive::Primitives, space::Architecture, text};

/// The costs of several models, relative to the first one.
///
/// Its [`Display`](fmt::Display) is an aligned Markdown table with one column per model, followed by its conventions.
/// [`Target::compare`](crate::extrapolate::Target::compare) creates one that includes a target's baseline:
/// ```
/// use composer_nas::{cost::Workload, prelude::*};
/// let target = Target::llama_1b();
/// let primitives = Primitives::standard();
/// let found = Auto.extrapolate(&"2A+4M".parse()?, &target, &primitives)?;
/// let comparison = target.compare([("composite", &found.architecture)], &primitives, Workload::bf16(4096))?;
/// assert!(comparison.to_string().contains("1.78x"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The workload for which the costs hold.
    pub(crate) workload: Workload,
    /// The setup of the time measurement, if there are times.
    pub(crate) timing: Option<Timing>,
    /// One row per model.
    pub(crate) rows: Vec<ComparisonRow>,
}

/// One model of a [`Comparison`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ComparisonRow {
    /// The name of the model.
    pub name: String,
    /// The layers of the model.
    pub architecture: Architecture,
    /// The costs of the model.
    pub cost: ModelCost,
    /// The measured times of the model, if all its layers were timed.
    pub seconds: Option<Seconds>,
}

impl Comparison {
    /// Compares named models at one workload.
    ///
    /// # Errors
    /// Returns [`CostError`] for the first model whose cost cannot be computed.
    pub fn new<'a>(
        models: impl IntoIterator<Item = (impl Into<String>, &'a ModelSpec)>,
        primitives: &Primitives,
        workload: Workload,
    ) -> Result<Self, CostError> {
        let row = |(name, spec): (_, &ModelSpec)| {
            let cost = ModelCost::new(spec, primitives, workload)?;
            Ok(ComparisonRow { name: Into::into(name), architecture: spec.architecture.clone(), cost, seconds: None })
        };
        let rows = models.into_iter().map(row).collect::<Result<_, CostError>>()?;
        Ok(Self { workload, timing: None, rows })
    }

    /// Adds measured times, which must be those of layers at the widths of these models.
    #[must_use]
    pub fn with_times(mut self, times: &LayerTimes) -> Self {
        self.timing = Some(times.timing);
        self.rows.iter_mut().for_each(|row| row.seconds = times.of(&row.architecture));
        self
    }

    /// Returns the cache size per sequence of the first row divided by that of `row`, or `None` if there is no cache or
    /// no row.
    pub(crate) fn cache_reduction(&self, row: &ComparisonRow) -> Option<f64> {
        let first = self.rows.first()?.cost.cache_bytes_per_sequence;
        ratio(first, row.cost.cache_bytes_per_sequence)
    }

    /// Returns the cache size per sequence relative to the first row, or `None` if that has no cache or there is no
    /// row.
    pub(crate) fn relative_cache(&self, row: &ComparisonRow) -> Option<f64> {
        ratio(row.cost.cache_bytes_per_sequence, self.rows.first()?.cost.cache_bytes_per_sequence)
    }

    /// Returns the training FLOPs per token relative to the first row, or `None` if there is no row.
    pub(crate) fn relative_work(&self, row: &ComparisonRow) -> Option<f64> {
        ratio(row.cost.train_flops_per_token, self.rows.first()?.cost.train_flops_per_token)
    }

    /// Returns the number of parameters relative to the first row, or `None` if there is no row.
    pub(crate) fn relative_parameters(&self, row: &ComparisonRow) -> Option<f64> {
        ratio(row.cost.total_parameters, self.rows.first()?.cost.total_parameters)
    }

    /// Returns the lines of the table. Each line has a label and a cell per model; the first line has the names of the
    /// models.
    pub(crate) fn lines(&self) -> Vec<Vec<String>> {
        let line = |label: &str, cell: &dyn Fn(&ComparisonRow) -> String| {
            [label.to_owned()].into_iter().chain(self.rows.iter().map(cell)).collect::<Vec<_>>()
        };
        let count = |label, of: fn(&ModelCost) -> u64| line(label, &|row| grouped(of(&row.cost)));
        let gflops =
            |what, flops: fn(&ModelCost) -> u64| line(what, &|row| format!("{:.2}", flops(&row.cost) as f64 / 1e9));
        let of_each = |row: &ComparisonRow| {
            let mix: Vec<_> = row.cost.symbols.iter().map(|(symbol, count)| format!("{count}{symbol}")).collect();
            mix.join(" ")
        };
        let mut lines = vec![
            line("", &|row| row.name.clone()),
            line("layers", &|row| row.cost.layers.to_string()),
            line("layers by kind", &of_each),
            line("sequence mixers", &|row| row.cost.sequence_layers.to_string()),
            count("non-embedding parameters", |cost| cost.non_embedding_parameters),
            count("embedding and head parameters", |cost| {
                cost.embedding_parameters.saturating_add(cost.head_parameters)
            }),
            count("total parameters", |cost| cost.total_parameters),
            line("relative parameters", &|row| times(self.relative_parameters(row))),
        ];
        if self.rows.iter().any(|row| row.cost.active_parameters < row.cost.total_parameters) {
            lines.push(count("active parameters", |cost| cost.active_parameters));
        }
        lines.extend([
            count("cache bytes per token", |cost| cost.cache_bytes_per_token),
            count("cache bytes per sequence", |cost| cost.cache_bytes_per_sequence),
            line("cache reduction", &|row| times(self.cache_reduction(row))),
            gflops("forward GFLOPs per token", |cost| cost.forward_flops_per_token),
            gflops("training GFLOPs per token", |cost| cost.train_flops_per_token),
            line("relative FLOPs", &|row| times(self.relative_work(row))),
            count("activation bytes per sequence", |cost| cost.activation_bytes_per_sequence),
            count("with gradient checkpointing", |cost| cost.recomputed_activation_bytes_per_sequence),
        ]);
        if self.timing.is_some() {
            let first = self.rows.first().and_then(|row| row.seconds);
            type Part = fn(Seconds) -> f64;
            let parts: [(_, Part); 2] =
                [("prefill, ms", |time| time.prefill), ("decode per token, ms", |time| time.decode)];
            for (label, part) in parts {
                let milliseconds = |time| format!("{:.2}", 1e3 * part(time));
                let faster = |time| Some(part(first?) / part(time));
                lines.push(line(label, &|row| row.seconds.map_or("-".into(), milliseconds)));
                lines.push(line("speedup", &|row| times(row.seconds.and_then(faster))));
            }
        }
        lines
    }

    /// Returns notes on the conventions, one per line.
    pub fn notes(&self) -> Vec<String> {
        let Workload { seq_len, bytes_per_element, flops } = self.workload;
        let counted = match flops {
            FlopConvention::Megatron => "the causal half of attention, logits 2 d V",
            FlopConvention::TorchTitan => "6 N + 12 L H C s, attention not halved",
        };
        let costs = format!(
            "At {seq_len} tokens, {bytes_per_element} bytes per number; relative to the first model. FLOPs by {flops}'s \
             convention: {counted}, training = 3 x forward."
        );
        let times = self.timing.map(|Timing { batch, seq_len, .. }| {
            format!(
                "Times: sums of layers, measured at batch {batch}; prefill reads {seq_len} tokens, decoding has them cached."
            )
        });
        [costs, "Activations in training: an estimate for fused layers.".into()].into_iter().chain(times).collect()
    }
}

/// Returns `part / whole`, or `None` if `whole` is zero.
fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn times(ratio: Option<f64>) -> String {
    ratio.map_or("-".into(), |ratio| format!("{ratio:.2}x"))
}

/// Formats digits in groups of three: `1,235,814,400`.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A vertical bar would end its cell.
        let mut lines = self.lines();
        lines.iter_mut().flatten().for_each(|cell| *cell = text::line(cell).replace('|', "/"));
        let longest = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0).max(2);
        let widths: Vec<_> = (0..=self.rows.len()).map(longest).collect();
        for (at, line) in lines.iter().enumerate() {
            write!(f, "| {:<1$} |", line[0], widths[0])?;
            for (cell, width) in line.iter().zip(&widths).skip(1) {
                write!(f, " {cell:>width$} |")?;
            }
            writeln!(f)?;
            if at == 0 {
                write!(f, "|{:-<1$}|", "", widths[0] + 2)?;
                widths[1..].iter().try_for_each(|width| write!(f, "{:->1$}|", ":", width + 2))?;
                writeln!(f)?;
            }
        }
        writeln!(f)?;
        self.notes().iter().try_for_each(|note| writeln!(f, "{note}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        extrapolate::{Auto, Extrapolator, Target},
        primitive::Symbol,
    };

    fn comparison() -> Comparison {
        let target = Target::llama_1b();
        let primitives = Primitives::standard();
        let grow = |small: &str| Auto.extrapolate(&small.parse().unwrap(), &target, &primitives).unwrap();
        let six = grow("2A+4M");
        let sixteen = grow("2A+5M+2A+3M+1A+3M");
        let models = [("Llama 3.2", &target.baseline_model()), ("stacked", &six), ("stretched", &sixteen)];
        Comparison::new(models, &primitives, Workload::bf16(4096)).unwrap()
    }

    #[test]
    fn cache_reductions_are_the_papers() {
        let comparison = comparison();
        let reductions: Vec<_> = comparison.rows.iter().map(|row| comparison.cache_reduction(row).unwrap()).collect();
        assert_eq!(reductions, [1.0, 16.0 / 9.0, 16.0 / 10.0]);
        // The paper states 1.69x: the mean of its two composites.
        assert_eq!(format!("{:.2}", (reductions[1] + reductions[2]) / 2.0), "1.69");
    }

    /// The cells after a label.
    fn cells(text: &str, label: &str) -> Vec<String> {
        let line = text.lines().find(|line| line.starts_with(&format!("| {label} "))).unwrap();
        line.split('|').map(|cell| cell.trim().to_owned()).filter(|cell| !cell.is_empty()).skip(1).collect()
    }

    #[test]
    fn the_table_is_aligned_markdown_and_states_its_conventions() {
        let text = comparison().to_string();
        let table: Vec<_> = text.lines().take_while(|line| line.starts_with('|')).collect();
        assert!(table.iter().all(|line| line.chars().count() == table[0].chars().count()), "{text}");
        assert!(table.iter().all(|line| line.matches('|').count() == 5), "{text}");
        assert!(table[1].chars().all(|c| "|-:".contains(c)), "{text}");
        assert_eq!(cells(&text, "layers by kind"), ["16A 16M", "9A 18M", "10A 19M"]);
        assert_eq!(cells(&text, "non-embedding parameters")[0], "973,144,064");
        assert_eq!(cells(&text, "embedding and head parameters")[0], "262,668,288");
        assert_eq!(cells(&text, "total parameters")[0], "1,235,814,400");
        assert_eq!(cells(&text, "cache bytes per token"), ["32,768", "18,432", "20,480"]);
        assert_eq!(cells(&text, "cache reduction"), ["1.00x", "1.78x", "1.60x"]);
        assert_eq!(cells(&text, "training GFLOPs per token")[0], "8.22");
        assert!(text.contains("At 4096 tokens, 2 bytes") && text.contains("Megatron's convention"), "{text}");
        assert!(!text.contains("speedup") && !text.contains("active parameters"), "{text}");
        let target = Target::llama_1b();
        let workload = Workload { flops: FlopConvention::TorchTitan, ..Workload::bf16(4096) };
        let experts: Architecture = "AE".parse().unwrap();
        let text = target.compare([("a|b", &experts)], &Primitives::standard(), workload).unwrap().to_string();
        assert!(text.contains("TorchTitan's convention") && text.contains(" a/b |"), "{text}");
        assert_eq!(cells(&text, "active parameters")[0], "1,235,814,400");
    }

    #[test]
    fn times_stand_beside_the_costs_where_all_layers_were_timed() {
        let seconds = |prefill, decode| Seconds { prefill, decode };
        let times = LayerTimes {
            timing: Timing { batch: 2, seq_len: 64, repeats: 1 },
            layers: [(Symbol::ATTENTION, seconds(0.3, 0.003)), (Symbol::SWIGLU, seconds(0.2, 0.001))].into(),
            ends: seconds(0.0, 0.0),
        };
        let mut plain = comparison();
        plain.rows[2].architecture = "AF".parse().unwrap();
        let comparison = plain.with_times(&times);
        let text = comparison.to_string();
        assert_eq!(cells(&text, "prefill, ms"), ["8000.00", "6300.00", "-"]);
        assert_eq!(cells(&text, "decode per token, ms"), ["64.00", "45.00", "-"]);
        // 8 / 6.3, 64 / 45.
        assert_eq!(cells(&text, "speedup"), ["1.00x", "1.27x", "-"]);
        assert!(text.contains("1.42x") && text.contains("at batch 2; prefill reads 64 tokens"), "{text}");
        let read: Comparison = serde_json::from_str(&serde_json::to_string(&comparison).unwrap()).unwrap();
        assert_eq!(read, comparison);
    }

    #[test]
    fn models_without_a_cache_have_no_reduction() {
        let target = Target::llama_1b();
        let mlps = target.model("4M".parse().unwrap());
        let none: [(&str, &ModelSpec); 0] = [];
        let primitives = Primitives::standard();
        let comparison = Comparison::new([("mlps", &mlps)], &primitives, Workload::bf16(8)).unwrap();
        assert_eq!(comparison.cache_reduction(&comparison.rows[0]), None);
        assert!(comparison.to_string().lines().any(|line| line.contains("cache reduction") && line.ends_with("- |")));
        assert!(Comparison::new(none, &primitives, Workload::bf16(8)).unwrap().rows.is_empty());
    }
}
