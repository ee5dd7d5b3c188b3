//! Costs of several models side by side.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{CostError, ModelCost, Workload};
use crate::{model::ModelSpec, primitive::Primitives};

/// Costs of several models; the first is the one that the others are compared with.
///
/// Its [`Display`](fmt::Display) is an aligned table, one column per model, that states its conventions:
/// ```
/// use composer_nas::prelude::*;
/// let (target, primitives) = (Target::llama_1b(), Primitives::standard());
/// let found = Auto.extrapolate(&"2A+4M".parse()?, &target, &primitives)?;
/// let models = [("llama_1b", &target.baseline_model()), ("composite", &found)];
/// let comparison = Comparison::new(models, &primitives, Workload::bf16(4096))?;
/// assert!(comparison.to_string().contains("1.78x"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// What the costs hold for.
    pub workload: Workload,
    /// One row per model.
    pub rows: Vec<ComparisonRow>,
}

/// One model of a [`Comparison`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComparisonRow {
    /// What the model is called.
    pub name: String,
    /// What it costs.
    pub cost: ModelCost,
}

impl Comparison {
    /// Compares named models at one workload.
    ///
    /// # Errors
    /// [`CostError`] of the first model whose cost cannot be stated.
    pub fn new<'a>(
        models: impl IntoIterator<Item = (impl Into<String>, &'a ModelSpec)>,
        primitives: &Primitives,
        workload: Workload,
    ) -> Result<Self, CostError> {
        let row = |(name, spec): (_, &ModelSpec)| {
            let cost = ModelCost::new(spec, primitives, workload)?;
            Ok(ComparisonRow { name: Into::into(name), cost })
        };
        let rows = models.into_iter().map(row).collect::<Result<_, CostError>>()?;
        Ok(Self { workload, rows })
    }

    /// How many times smaller than the first row's the cache per sequence is; `None` where there is no cache, or no
    /// row.
    pub fn cache_reduction(&self, row: &ComparisonRow) -> Option<f64> {
        let first = self.rows.first()?.cost.cache_bytes_per_sequence;
        ratio(first, row.cost.cache_bytes_per_sequence)
    }

    /// Training work per token as a multiple of the first row's; `None` where there is no row.
    pub fn relative_work(&self, row: &ComparisonRow) -> Option<f64> {
        ratio(row.cost.train_flops_per_token, self.rows.first()?.cost.train_flops_per_token)
    }

    /// Parameters as a multiple of the first row's; `None` where there is no row.
    pub fn relative_parameters(&self, row: &ComparisonRow) -> Option<f64> {
        ratio(row.cost.total_parameters, self.rows.first()?.cost.total_parameters)
    }

    /// The column of one model: as many cells as [`ROWS`].
    fn cells(&self, row: &ComparisonRow) -> [String; ROWS.len()] {
        let cost = &row.cost;
        let times = |ratio: Option<f64>| ratio.map_or("-".into(), |ratio| format!("{ratio:.2}x"));
        let mix: Vec<_> = cost.symbols.iter().map(|(symbol, count)| format!("{count}{symbol}")).collect();
        [
            row.name.clone(),
            cost.layers.to_string(),
            mix.join(" "),
            cost.sequence_layers.to_string(),
            grouped(cost.total_parameters),
            times(self.relative_parameters(row)),
            grouped(cost.cache_bytes_per_token),
            grouped(cost.cache_bytes_per_sequence),
            times(self.cache_reduction(row)),
            format!("{:.2}", cost.train_flops_per_token as f64 / 1e9),
            times(self.relative_work(row)),
        ]
    }
}

const ROWS: [&str; 11] = [
    "",
    "layers",
    "  of each kind",
    "  mixing the sequence",
    "parameters",
    "  relative",
    "cache bytes per token",
    "cache bytes per sequence",
    "  times smaller",
    "training GFLOPs per token",
    "  relative",
];

/// `part / whole`, where the whole is something.
fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Digits in groups of three: `1,235,814,400`.
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
        let columns: Vec<_> =
            [ROWS.map(str::to_owned)].into_iter().chain(self.rows.iter().map(|row| self.cells(row))).collect();
        let width = |column: &[String]| column.iter().map(|cell| cell.chars().count()).max().unwrap_or(0);
        for line in 0..ROWS.len() {
            write!(f, "{:<1$}", columns[0][line], width(&columns[0]))?;
            for column in &columns[1..] {
                write!(f, "  {:>1$}", column[line], width(column))?;
            }
            writeln!(f)?;
        }
        let Workload { seq_len, bytes_per_element } = self.workload;
        writeln!(
            f,
            "at {seq_len} tokens, {bytes_per_element} bytes per cached number; relative to the first model\n\
             FLOPs by Megatron's convention: causal half of attention, logits 2 d V, training = 3 x forward"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extrapolate::{Auto, Extrapolator, Target};

    fn comparison() -> Comparison {
        let (target, primitives) = (Target::llama_1b(), Primitives::standard());
        let grow = |small: &str| Auto.extrapolate(&small.parse().unwrap(), &target, &primitives).unwrap();
        let (six, sixteen) = (grow("2A+4M"), grow("2A+5M+2A+3M+1A+3M"));
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

    #[test]
    fn the_table_is_aligned_and_states_its_conventions() {
        let text = comparison().to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), ROWS.len() + 2);
        let table = &lines[..ROWS.len()];
        assert!(table.iter().all(|line| line.chars().count() == lines[0].chars().count()), "{text}");
        let row = |name: &str| {
            let line = table.iter().find(|line| line.trim_start().starts_with(name)).unwrap();
            line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).skip(1).collect::<Vec<_>>()
        };
        assert_eq!(row("of each kind"), ["16A 16M", "9A 18M", "10A 19M"]);
        assert_eq!(row("parameters")[0], "1,235,814,400");
        assert_eq!(row("cache bytes per token"), ["32,768", "18,432", "20,480"]);
        assert_eq!(row("times smaller"), ["1.00x", "1.78x", "1.60x"]);
        assert_eq!(row("training GFLOPs")[0], "8.22");
        assert!(text.contains("at 4096 tokens, 2 bytes"));
    }

    #[test]
    fn models_without_a_cache_have_no_reduction() {
        let target = Target::llama_1b();
        let mlps = target.model("4M".parse().unwrap());
        let none: [(&str, &ModelSpec); 0] = [];
        let primitives = Primitives::standard();
        let comparison = Comparison::new([("mlps", &mlps)], &primitives, Workload::bf16(8)).unwrap();
        assert_eq!(comparison.cache_reduction(&comparison.rows[0]), None);
        assert!(comparison.to_string().lines().any(|line| line.contains("times smaller") && line.ends_with("-")));
        assert!(Comparison::new(none, &primitives, Workload::bf16(8)).unwrap().rows.is_empty());
    }
}
