//! What models cost, in the units that people read.

use super::units;
use crate::{
    cost::{Comparison, ComparisonRow},
    text::{html as escape, number},
};

/// A label and a cell per model.
type Line = (String, Vec<String>);

/// The comparison as a table, which stays in its order, and what its numbers stand for.
pub(super) fn table(costs: &Comparison) -> String {
    let head = |name: &String| format!("<th scope=\"col\">{}</th>", escape(name));
    let heads: String = costs.rows.iter().map(|row| head(&row.name)).collect();
    let row = |(label, cells): &Line| {
        let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
        format!("<tr><th scope=\"row\" class=\"text\">{}</th>{cells}</tr>\n", escape(label))
    };
    let rows: String = lines(costs).iter().map(row).collect();
    let notes: String = costs.notes().iter().map(|note| format!("<p class=\"soft\">{}</p>\n", escape(note))).collect();
    format!(
        "<div class=\"scroll\" id=\"costs\"><table><thead><tr><th></th>{heads}</tr></thead>\n<tbody>{rows}</tbody>\
         </table></div>\n{notes}"
    )
}

fn lines(costs: &Comparison) -> Vec<Line> {
    let first = costs.rows.first().map(|row| row.name.clone()).unwrap_or_default();
    let line = |label: String, cell: &dyn Fn(&ComparisonRow) -> String| (label, costs.rows.iter().map(cell).collect());
    let times = |ratio: Option<f64>| ratio.map_or("-".into(), |ratio| number(ratio, 2) + "x");
    let kinds = |row: &ComparisonRow| {
        let kinds = row.cost.symbols.iter().map(|(symbol, count)| format!("{count} {symbol}"));
        kinds.collect::<Vec<_>>().join(", ")
    };
    let seq_len = costs.workload.seq_len;
    let mut lines: Vec<Line> = vec![
        line("layers".into(), &|row| format!("{}: {}", row.cost.layers, kinds(row))),
        line("parameters".into(), &|row| units::count(row.cost.total_parameters)),
        line("of these, in layers".into(), &|row| units::count(row.cost.non_embedding_parameters)),
        line(format!("parameters relative to {first}"), &|row| times(costs.relative_parameters(row))),
    ];
    if costs.rows.iter().any(|row| row.cost.active_parameters < row.cost.total_parameters) {
        lines.push(line("parameters active per token".into(), &|row| units::count(row.cost.active_parameters)));
    }
    lines.extend([
        line(format!("cache for {seq_len} tokens"), &|row| units::bytes(row.cost.cache_bytes_per_sequence)),
        line(format!("cache relative to {first}"), &|row| times(costs.relative_cache(row))),
        line("forward pass per token".into(), &|row| units::flops(row.cost.forward_flops_per_token as f64)),
        line("training per token".into(), &|row| units::flops(row.cost.train_flops_per_token as f64)),
        line(format!("training relative to {first}"), &|row| times(costs.relative_work(row))),
        line(format!("activations in training, {seq_len} tokens"), &|row| {
            units::bytes(row.cost.activation_bytes_per_sequence)
        }),
        line("with gradient checkpointing".into(), &|row| {
            units::bytes(row.cost.recomputed_activation_bytes_per_sequence)
        }),
    ]);
    lines
}
