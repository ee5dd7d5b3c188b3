//! What a conversion found: the damage per layer, and quality over cost by method.

use std::{io, path::Path};

use plotters::{
    chart::ChartBuilder,
    prelude::Circle,
    series::LineSeries,
    style::{Color, RGBColor, WHITE, text_anchor::HPos},
};
use thiserror::Error;

use super::{
    axis::Axis,
    figure::{
        self, Area, COLOURS, Drawn, Figure, GREY, Hints, INK, Key, Mark, PlotError, Room, csv, fill, legend,
        legend_height, write,
    },
    shell::{self, Cell},
    units,
};
use crate::{
    convert::{Choice, Damages},
    durable,
    primitive::Symbol,
    text::{exact, number},
};

const DAMAGES: &str = "damages";
const QUALITY: &str = "quality";

/// A page that cannot be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConversionPageError {
    /// A picture.
    #[error(transparent)]
    Plot(#[from] PlotError),
    /// The file.
    #[error("the page cannot be written")]
    Io(#[from] io::Error),
}

/// Writes a page with the damage of every replacement, quality over cost by method, and a table of all choices.
/// `cost` says what the choices' costs count, such as `bytes of cache at 4096 tokens`; bytes are shown in larger units.
///
/// # Errors
/// [`ConversionPageError`] when there is nothing to draw or the file cannot be written.
pub fn write_conversion(
    path: &Path,
    parent: &str,
    damages: &Damages,
    choices: &[Choice],
    cost: &str,
) -> Result<(), ConversionPageError> {
    let narrow = picture(choices, cost, Room::narrow(360))?;
    let figures = shell::adaptive(&quality(choices, cost)?, &narrow) + &shell::figure(&self::damages(damages)?);
    let title = format!("{parent} as a hybrid");
    let body = format!(
        "<h1>{}</h1>\n<p class=\"soft\">Divergence from the parent's next-token distributions, on text that was kept apart \
         from the choosing.</p>\n{figures}{}",
        crate::text::html(&title),
        table(choices, cost)
    );
    Ok(durable::write_in(path, shell::page(&title, &body, None).as_bytes())?)
}

fn table(choices: &[Choice], cost: &str) -> String {
    let axis = Axis::new(choices.iter().map(|choice| choice.kl));
    let bytes = of_bytes(cost);
    let shown = |count: u64| {
        Cell::number(count as f64, if bytes.is_some() { units::bytes(count) } else { units::count(count) })
    };
    let row = |choice: &Choice| {
        vec![
            Cell::text(&choice.method),
            shown(choice.budget),
            shown(choice.cost),
            Cell::measured(choice.kl, choice.standard_error, &axis),
            Cell::number(choice.loss, number(choice.loss, 4)),
            Cell::strip(&choice.architecture),
        ]
    };
    let rows: Vec<_> = choices.iter().map(row).collect();
    let heads = ["method", "budget", bytes.unwrap_or(cost), "KL, nats per token", "loss", "layers"];
    shell::table_with_scale("choices", &heads, &rows, shell::SHOWN, Some((3, &axis)))
}

/// A heat map: the divergence of the parent with one layer replaced, by layer and what stands there. Darker is worse,
/// on a logarithmic scale.
///
/// # Errors
/// [`PlotError`] when the drawing library refuses.
pub(crate) fn damages(damages: &Damages) -> Result<Figure, PlotError> {
    let mut symbols: Vec<Symbol> = damages.keys().map(|&(_, symbol)| symbol).collect();
    symbols.sort_unstable();
    symbols.dedup();
    let mut layers: Vec<usize> = damages.keys().map(|&(layer, _)| layer).collect();
    layers.dedup();
    let rows = damages
        .iter()
        .map(|(&(layer, symbol), &damage)| vec![(layer + 1).to_string(), symbol.to_string(), exact(damage)]);
    let width = (900 / layers.len().max(1) as i32).clamp(18, 64);
    let size = (LEFT + width * layers.len() as i32 + 12, TOP + HEIGHT * symbols.len() as i32 + 12);
    Ok(Figure {
        name: DAMAGES,
        title: "Damage of every replacement alone".into(),
        caption: "KL of the parent with this layer replaced; darker is worse".into(),
        csv: csv(&["layer", "primitive", "kl"], rows),
        svg: figure::draw(DAMAGES, (size.0 as u32, size.1 as u32), |area, hints| {
            paint(damages, &symbols, &layers, width, area, hints)
        })?,
    })
}

/// Left of the cells, for the letters.
const LEFT: i32 = 44;
/// Above the cells, for the numbers of the layers.
const TOP: i32 = 26;
/// Height of a cell in pixels.
const HEIGHT: i32 = 40;

fn paint(damages: &Damages, symbols: &[Symbol], layers: &[usize], width: i32, area: &Area, hints: &mut Hints) -> Drawn {
    const LEAST: f64 = 1e-6;
    let log = |damage: f64| damage.max(LEAST).ln();
    let values = damages.values().filter(|damage| damage.is_finite()).map(|&damage| log(damage));
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    for (column, &layer) in layers.iter().enumerate() {
        let left = LEFT + width * column as i32;
        write(area, &(layer + 1).to_string(), (left + width / 2, TOP / 2), 12, GREY, HPos::Center)?;
        for (row, &symbol) in symbols.iter().enumerate() {
            let Some(&damage) = damages.get(&(layer, symbol)) else { continue };
            let top = TOP + HEIGHT * row as i32;
            let corners = [(left, top), (left + width - 2, top + HEIGHT - 2)];
            let place = if high > low { ((log(damage) - low) / (high - low)).clamp(0.0, 1.0) } else { 0.5 };
            let mix = |from: f64, to: f64| (from + (to - from) * place) as u8;
            fill(area, corners, RGBColor(mix(250.0, 158.0), mix(236.0, 42.0), mix(228.0, 43.0)))?;
            hints.area(corners, &format!("{symbol} at layer {}: KL {}", layer + 1, number(damage, 5)));
        }
    }
    for (row, symbol) in symbols.iter().enumerate() {
        let middle = TOP + HEIGHT * row as i32 + HEIGHT / 2;
        write(area, &symbol.to_string(), (LEFT / 2, middle), 15, INK, HPos::Center)?;
    }
    Ok(())
}

/// Divergence over cost, a line per method.
///
/// # Errors
/// [`PlotError`] when there is nothing to draw or the drawing library refuses.
pub(crate) fn quality(choices: &[Choice], cost: &str) -> Result<Figure, PlotError> {
    if choices.is_empty() {
        return Err(PlotError { name: QUALITY, reason: "nothing was chosen".into() });
    }
    let row = |choice: &Choice| {
        let error = choice.standard_error.map(exact).unwrap_or_default();
        let numbers = [choice.budget.to_string(), choice.cost.to_string(), exact(choice.kl), error, exact(choice.loss)];
        [choice.method.clone()].into_iter().chain(numbers).chain([choice.architecture.letters()]).collect()
    };
    Ok(Figure {
        name: QUALITY,
        title: "Quality over cost, by method".into(),
        caption: "KL from the parent; lower is better".into(),
        svg: picture(choices, cost, Room::wide(460))?,
        csv: csv(&["method", "budget", "cost", "kl", "standard_error", "loss", "layers"], choices.iter().map(row)),
    })
}

fn picture(choices: &[Choice], cost: &str, room: Room) -> Result<String, PlotError> {
    figure::draw(QUALITY, (room.width as u32, room.height as u32), |area, _| lines(area, choices, cost, room))
}

/// What the bytes are of, where `cost` counts bytes.
fn of_bytes(cost: &str) -> Option<&str> {
    cost.strip_prefix("bytes of ")
}

fn lines(area: &Area, choices: &[Choice], cost: &str, room: Room) -> Drawn {
    let (unit, title) = match of_bytes(cost) {
        Some(what) => (1.0 / MIB, format!("{what}, MiB")),
        None => (1.0 / MILLION, format!("millions of {cost}")),
    };
    let mut methods: Vec<&str> = Vec::new();
    for choice in choices {
        if !methods.contains(&choice.method.as_str()) {
            methods.push(&choice.method);
        }
    }
    let mut kinds: Vec<&str> = methods.iter().map(|method| kind(method)).collect();
    kinds.dedup();
    let colour = |at: usize| COLOURS[at % COLOURS.len()];
    let keys: Vec<Key> = kinds.iter().enumerate().map(|(at, kind)| (Mark::Line, colour(at), *kind)).collect();
    let within = room.width - BESIDE - MARGIN;
    let y = Axis::upward(choices.iter().map(|choice| choice.kl));
    let x = Axis::upward(choices.iter().map(|choice| choice.cost as f64 * unit));
    let mut chart = ChartBuilder::on(area)
        .margin(MARGIN)
        .margin_top(legend_height(&keys, within) + 8)
        .x_label_area_size(40)
        .y_label_area_size(BESIDE - MARGIN)
        .build_cartesian_2d(x.range(), y.range())?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc(title)
        .x_labels(room.labels())
        .y_desc("KL, nats per token")
        .x_label_formatter(&|tick| x.label(*tick, 1))
        .y_label_formatter(&|tick| y.label(*tick, 2))
        .label_style(("sans-serif", room.letters()))
        .draw()?;
    for method in &methods {
        let colour = colour(kinds.iter().position(|known| *known == kind(method)).unwrap_or_default());
        let own = choices.iter().filter(|choice| choice.method == *method);
        let mut points: Vec<_> = own.map(|choice| (x.at(choice.cost as f64 * unit), y.at(choice.kl))).collect();
        points.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.total_cmp(&other.1)));
        chart.draw_series(points.iter().map(|&point| Circle::new(point, 4, colour.filled())))?;
        chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
    }
    legend(area, &keys, (BESIDE, 0), within)
}

/// The method without the number of its seed: searches share a colour.
fn kind(method: &str) -> &str {
    method.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end()
}

/// Pixels around the plot, and left of it.
const MARGIN: i32 = 14;
const BESIDE: i32 = MARGIN + 58;

/// Costs are drawn in these units.
const MIB: f64 = 1_048_576.0;
const MILLION: f64 = 1e6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_shows_every_method_and_layer() {
        let choice = |method: &str, kl| Choice {
            method: method.into(),
            budget: 100,
            architecture: "ASM".parse().unwrap(),
            cost: 90,
            kl,
            standard_error: Some(0.1),
            loss: 3.0,
        };
        let known = Damages::from([((0, Symbol::SLIDING_WINDOW), 0.5), ((2, Symbol::SLIDING_WINDOW), 0.001)]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("convert.html");
        let choices = [choice("search", 0.1), choice("uniform", 0.4), choice("first", f64::NAN)];
        write_conversion(&path, "a <parent>", &known, &choices, "bytes").unwrap();
        let infinite = Damages::from([((0, Symbol::SLIDING_WINDOW), f64::INFINITY)]);
        write_conversion(&folder.path().join("infinite.html"), "", &infinite, &choices[2..], "bytes").unwrap();
        let page = std::fs::read_to_string(path).unwrap();
        assert!(
            page.contains("a &lt;parent&gt;") && page.contains("uniform") && page.contains("S at layer 3: KL 0.001")
        );
        assert_eq!(damages(&known).unwrap().csv.lines().nth(1).unwrap(), "1,S,0.5");
        assert!(quality(&[], "bytes").is_err());
    }
}
