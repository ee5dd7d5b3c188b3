//! The page of a conversion: which method is best for each budget, quality over cost for each method, and the damage
//! per layer.

use std::{io, path::Path};

use plotters::{
    chart::ChartBuilder,
    prelude::{Circle, PathElement},
    series::LineSeries,
    style::{Color, RGBColor, WHITE, text_anchor::HPos},
};
use thiserror::Error;

use super::{
    axis::{Axis, LABELS},
    figure::{
        self, Area, COLOURS, Drawn, Figure, GREY, Hints, INK, Key, Mark, PlotError, Room, csv, fill, legend,
        legend_height, write,
    },
    shell::{self, Cell},
    summary, units,
};
use crate::{
    convert::{Choice, Damages},
    durable,
    primitive::{Primitives, Symbol},
    text::{exact, html as escape, number, quantity},
};

const DAMAGES: &str = "damages";
const QUALITY: &str = "quality";

/// The error of a page that cannot be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConversionPageError {
    /// A figure cannot be drawn.
    #[error(transparent)]
    Plot(#[from] PlotError),
    /// The file cannot be written.
    #[error("the page cannot be written")]
    Io(#[from] io::Error),
}

/// Writes a page with the best choice for each budget, quality over cost for each method, the damage of each
/// replacement, and a table of all choices. `primitives` names the letters. `cost` names what the costs count, such as
/// `bytes of cache at 4096 tokens`. Bytes are shown in larger units.
///
/// # Errors
/// [`ConversionPageError`] if there is nothing to draw or the file cannot be written.
pub fn write_conversion(
    path: &Path,
    parent: &str,
    damages: &Damages,
    choices: &[Choice],
    cost: &str,
    primitives: &Primitives,
) -> Result<(), ConversionPageError> {
    let narrow = picture(choices, cost, Room::narrow(360))?;
    let map = heat_map(damages, Room::narrow(0))?;
    let figures = shell::adaptive(&quality(choices, cost)?, &narrow) + &shell::adaptive(&self::damages(damages)?, &map);
    let title = format!("{parent} as a hybrid");
    let body = format!(
        "<h1>{}</h1>\n<p>Which layers of {} to replace, by each method and budget. KL is the divergence of a hybrid's \
         next-token distributions from those of the parent, on text that was kept apart from the choosing: 0 is the \
         parent, and lower is better.</p>\n{}<h2>The best choices</h2>\n{}{figures}<h2>All choices</h2>\n{}",
        escape(&title),
        escape(parent),
        letters(damages, choices, primitives),
        best_choices(choices, cost),
        table(choices, cost)
    );
    Ok(durable::write_in(path, shell::page(&title, &body, None).as_bytes())?)
}

/// Returns what the letters of all choices and replacements stand for.
fn letters(damages: &Damages, choices: &[Choice], primitives: &Primitives) -> String {
    let used = |symbol| {
        let replaces = damages.keys().any(|&(_, other)| other == symbol);
        replaces || choices.iter().any(|choice| choice.architecture.count(symbol) > 0)
    };
    let known = primitives.iter().filter(|primitive| used(primitive.symbol()));
    summary::legend("Letters:", known.map(|primitive| (primitive.symbol(), primitive.id().as_str().to_owned())))
}

/// The maximum number of budgets about which the page has a sentence.
const BUDGETS: usize = 8;

/// Says for each budget which method is best, and by how much. Empty if there are too many budgets.
fn best_choices(choices: &[Choice], cost: &str) -> String {
    let mut budgets: Vec<u64> = choices.iter().map(|choice| choice.budget).collect();
    budgets.sort_unstable();
    budgets.dedup();
    if budgets.len() > BUDGETS {
        return String::new();
    }
    let point = |&budget: &u64| {
        let own: Vec<_> = choices.iter().filter(|choice| choice.budget == budget && choice.kl.is_finite()).collect();
        let words = best_choice(&own)?;
        Some(format!("<li><b>Budget {}.</b> {}</li>\n", count(budget, cost), escape(&words)))
    };
    let points: String = budgets.iter().filter_map(point).collect();
    let measured = choices.iter().any(|choice| choice.standard_error.is_some());
    let errors = if measured {
        "<p class=\"soft\">After ± stands one standard error over the windows of text. All choices are measured on the \
         same windows, so differences are usually more certain than their errors here, which take them as \
         independent.</p>\n"
    } else {
        ""
    };
    format!("<ul class=\"why\">\n{points}</ul>\n{errors}")
}

/// Compares the best of these choices with the best one of another method. `None` without choices.
fn best_choice(choices: &[&Choice]) -> Option<String> {
    let least =
        |choices: &mut dyn Iterator<Item = &Choice>| choices.min_by(|one, other| one.kl.total_cmp(&other.kl)).cloned();
    let best = least(&mut choices.iter().copied())?;
    let mut rivals = choices.iter().copied().filter(|rival| kind(&rival.method) != kind(&best.method));
    let first = format!("{} has the smallest KL, {}", best.method, measured(best.kl, best.standard_error));
    let Some(next) = least(&mut rivals) else { return Some(first + ".") };
    if next.architecture == best.architecture {
        return Some(format!("{first}; {} chose the same layers.", next.method));
    }
    let error = best.standard_error.zip(next.standard_error).map(|(one, other)| one.hypot(other));
    let gap = next.kl - best.kl;
    let judged = match error {
        Some(error) if gap > 2.0 * error => ", more than two standard errors",
        Some(_) => ", within two standard errors: no clear difference",
        None => "",
    };
    Some(format!("{first}. The next method is {}, with {} more{judged}.", next.method, measured(gap, error)))
}

/// `0.5000 ± 0.0200`.
fn measured(value: f64, error: Option<f64>) -> String {
    number(value, 4) + &error.map(|error| format!(" ± {}", number(error, 4))).unwrap_or_default()
}

/// A cost or budget in the unit that suits it.
fn count(count: u64, cost: &str) -> String {
    if of_bytes(cost).is_some() { units::bytes(count) } else { units::count(count) }
}

fn table(choices: &[Choice], cost: &str) -> String {
    let axis = Axis::new(choices.iter().map(|choice| choice.kl));
    let shown = |value: u64| Cell::number(value as f64, count(value, cost));
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
    let mut sorted: Vec<_> = choices.iter().collect();
    sorted.sort_by(|one, other| one.budget.cmp(&other.budget).then(one.kl.total_cmp(&other.kl)));
    let rows: Vec<_> = sorted.into_iter().map(row).collect();
    let cost = of_bytes(cost).unwrap_or(cost);
    let heads = ["method", "budget", cost, "KL, nats per token", "loss, nats per token", "layers"];
    shell::table_with_scale("choices", &heads, &rows, shell::SHOWN, Some((3, &axis)))
}

/// Draws a heat map of the divergence of the parent with one layer replaced, by layer and replacement. Darker is worse,
/// on a logarithmic scale.
///
/// # Errors
/// [`PlotError`] if the drawing library returns an error.
pub(crate) fn damages(damages: &Damages) -> Result<Figure, PlotError> {
    let rows = damages
        .iter()
        .map(|(&(layer, symbol), &damage)| vec![(layer + 1).to_string(), symbol.to_string(), exact(damage)]);
    Ok(Figure {
        name: DAMAGES,
        title: "Damage of every replacement alone".into(),
        caption: format!(
            "KL of the parent with this layer replaced{}; darker is worse, on a logarithmic scale",
            range(damages)
        ),
        csv: csv(&["layer", "primitive", "kl"], rows),
        svg: heat_map(damages, Room::wide(0))?,
    })
}

/// Returns the smallest and the largest finite damage as text, or an empty text if there is none.
fn range(damages: &Damages) -> String {
    let finite = || damages.values().copied().filter(|damage| damage.is_finite());
    match (finite().reduce(f64::min), finite().reduce(f64::max)) {
        (Some(low), Some(high)) => format!(", {} nats per token", units::range(quantity(low), quantity(high))),
        _ => String::new(),
    }
}

/// Draws the heat map in the width of `room`. Its height depends on the numbers of layers and symbols.
fn heat_map(damages: &Damages, room: Room) -> Result<String, PlotError> {
    let map = HeatMap::new(damages, room);
    let height = map.blocks() as i32 * map.block_height();
    figure::draw(DAMAGES, (room.width as u32, height as u32), |area, hints| map.paint(area, hints))
}

/// Space left of the cells for the letters, and right of them, in pixels.
const LEFT: i32 = 44;
const RIGHT: i32 = 12;
/// Space above the cells for the numbers of the layers, and below them, in pixels.
const TOP: i32 = 26;
const BELOW: i32 = 12;
/// Height of a cell and its smallest width, in pixels.
const HEIGHT: i32 = 40;
const NARROWEST: i32 = 18;

/// A heat map. Layers that do not fit side by side continue in another block below.
struct HeatMap<'a> {
    damages: &'a Damages,
    symbols: Vec<Symbol>,
    layers: Vec<usize>,
    /// Layers per block.
    columns: usize,
    /// Width of a cell, in pixels.
    width: i32,
    /// The logarithms of the smallest and the largest damage.
    low: f64,
    high: f64,
}

impl<'a> HeatMap<'a> {
    fn new(damages: &'a Damages, room: Room) -> Self {
        let mut symbols: Vec<Symbol> = damages.keys().map(|&(_, symbol)| symbol).collect();
        symbols.sort_unstable();
        symbols.dedup();
        let mut layers: Vec<usize> = damages.keys().map(|&(layer, _)| layer).collect();
        layers.dedup();
        let within = room.width - LEFT - RIGHT;
        let most = (within / NARROWEST).max(1) as usize;
        let blocks = layers.len().div_ceil(most).max(1);
        let columns = layers.len().div_ceil(blocks).max(1);
        let values = || damages.values().filter(|damage| damage.is_finite()).map(|&damage| log(damage));
        Self {
            damages,
            symbols,
            columns,
            width: within / columns as i32,
            low: values().fold(f64::INFINITY, f64::min),
            high: values().fold(f64::NEG_INFINITY, f64::max),
            layers,
        }
    }

    fn blocks(&self) -> usize {
        self.layers.len().div_ceil(self.columns).max(1)
    }

    fn block_height(&self) -> i32 {
        TOP + HEIGHT * self.symbols.len() as i32 + BELOW
    }

    fn paint(&self, area: &Area, hints: &mut Hints) -> Drawn {
        for (block, layers) in self.layers.chunks(self.columns).enumerate() {
            let top = block as i32 * self.block_height();
            for (column, &layer) in layers.iter().enumerate() {
                let left = LEFT + self.width * column as i32;
                let number = (layer + 1).to_string();
                write(area, &number, (left + self.width / 2, top + TOP / 2), 14, GREY, HPos::Center)?;
                self.paint_column(layer, (left, top + TOP), area, hints)?;
            }
            for (row, symbol) in self.symbols.iter().enumerate() {
                let middle = top + TOP + HEIGHT * row as i32 + HEIGHT / 2;
                write(area, &symbol.to_string(), (LEFT / 2, middle), 15, INK, HPos::Center)?;
            }
        }
        Ok(())
    }

    /// Draws the cells of one layer from this corner down.
    fn paint_column(&self, layer: usize, (left, top): (i32, i32), area: &Area, hints: &mut Hints) -> Drawn {
        for (row, &symbol) in self.symbols.iter().enumerate() {
            let Some(&damage) = self.damages.get(&(layer, symbol)) else { continue };
            let top = top + HEIGHT * row as i32;
            let corners = [(left, top), (left + self.width - 2, top + HEIGHT - 2)];
            fill(area, corners, self.colour(damage))?;
            hints.area(corners, &format!("{symbol} at layer {}: KL {}", layer + 1, number(damage, 5)));
        }
        Ok(())
    }

    fn colour(&self, damage: f64) -> RGBColor {
        let share = (log(damage) - self.low) / (self.high - self.low);
        let place = if self.high > self.low { share.clamp(0.0, 1.0) } else { 0.5 };
        let mix = |from: f64, to: f64| (from + (to - from) * place) as u8;
        RGBColor(mix(250.0, 158.0), mix(236.0, 42.0), mix(228.0, 43.0))
    }
}

/// Returns the logarithm of a damage, which may be 0.
fn log(damage: f64) -> f64 {
    const LEAST: f64 = 1e-6;
    damage.max(LEAST).ln()
}

/// Draws divergence over cost, with one line per method.
///
/// # Errors
/// [`PlotError`] if there is nothing to draw or the drawing library returns an error.
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
        caption: caption(choices),
        svg: picture(choices, cost, Room::wide(460))?,
        csv: csv(&["method", "budget", "cost", "kl", "standard_error", "loss", "layers"], choices.iter().map(row)),
    })
}

fn caption(choices: &[Choice]) -> String {
    let bars = choices.iter().any(|choice| choice.standard_error.is_some());
    let bars = if bars { ", ± one standard error" } else { "" };
    let seeds = choices.iter().any(|choice| kind(&choice.method) != choice.method);
    let seeds = if seeds { "; lines of one colour differ in their seeds" } else { "" };
    format!("KL from the parent{bars}; lower is better{seeds}")
}

fn picture(choices: &[Choice], cost: &str, room: Room) -> Result<String, PlotError> {
    let size = (room.width as u32, room.height as u32);
    figure::draw(QUALITY, size, |area, hints| lines(area, hints, choices, cost, room))
}

/// Returns what the bytes measure, if `cost` counts bytes.
fn of_bytes(cost: &str) -> Option<&str> {
    cost.strip_prefix("bytes of ")
}

fn lines(area: &Area, hints: &mut Hints, choices: &[Choice], cost: &str, room: Room) -> Drawn {
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
    // No bar makes the axis more than twice as long.
    let y = Axis::upward(choices.iter().map(|choice| choice.kl + choice.standard_error.unwrap_or(0.0).min(choice.kl)));
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
        .x_label_formatter(&|tick| x.label(*tick, room.labels()))
        .y_label_formatter(&|tick| y.label(*tick, LABELS))
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
    for choice in choices {
        let colour = colour(kinds.iter().position(|known| *known == kind(&choice.method)).unwrap_or_default());
        let at = (x.at(choice.cost as f64 * unit), y.at(choice.kl));
        if let Some(error) = choice.standard_error {
            let [low, high] = y.bar(choice.kl, error);
            chart.draw_series([PathElement::new([(at.0, low), (at.0, high)], colour)])?;
        }
        let kl = measured(choice.kl, choice.standard_error);
        let text = format!("{}, {}: KL {kl}, {}", choice.method, count(choice.cost, cost), choice.architecture);
        hints.point(chart.backend_coord(&at), &text);
    }
    legend(area, &keys, (BESIDE, 0), within)
}

/// Returns the method without the number of its seed, so that searches with different seeds share a colour.
fn kind(method: &str) -> &str {
    method.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end()
}

/// Margins around the plot and left of it, in pixels.
const MARGIN: i32 = 14;
const BESIDE: i32 = MARGIN + 58;

/// The unit of costs in bytes.
const MIB: f64 = 1_048_576.0;
const MILLION: f64 = 1e6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_that_do_not_fit_continue_below() {
        let known: Damages = (0..30).map(|layer| ((layer, Symbol::SLIDING_WINDOW), 0.1 * layer as f64)).collect();
        let blocks = |room| HeatMap::new(&known, room).blocks();
        assert_eq!([blocks(Room::wide(0)), blocks(Room::narrow(0))], [1, 2]);
        let svg = heat_map(&known, Room::narrow(0)).unwrap();
        assert_eq!(svg.matches("<title>").count(), 30);
    }

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
        let primitives = Primitives::standard();
        let write = |path: &Path, parent, damages, choices: &[Choice]| {
            write_conversion(path, parent, damages, choices, "bytes", &primitives).unwrap();
            std::fs::read_to_string(path).unwrap()
        };
        let choices = [choice("search 0", 0.1), choice("uniform", 0.4), choice("first", f64::NAN)];
        let page = write(&path, "a <parent>", &known, &choices);
        let infinite = Damages::from([((0, Symbol::SLIDING_WINDOW), f64::INFINITY)]);
        write(&folder.path().join("infinite.html"), "", &infinite, &choices[2..]);
        for part in [
            "a &lt;parent&gt;",
            "S at layer 3: KL 0.001",
            "</i></span> sliding_window <span",
            "search 0, 90: KL 0.1000 ± 0.1000, 1A+1S+1M",
            "differ in their seeds",
            "<b>Budget 100.</b> search 0 has the smallest KL, 0.1000 ± 0.1000; uniform chose the same layers.</li>",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
        let figure = damages(&known).unwrap();
        assert_eq!(figure.csv.lines().nth(1).unwrap(), "1,S,0.5");
        assert!(figure.caption.contains("0.0010 to 0.5000 nats"), "{}", figure.caption);
        assert!(quality(&[], "bytes").is_err());
    }

    #[test]
    fn the_best_choice_is_compared_with_the_next_method() {
        let choice = |method: &str, kl, layers: &str, standard_error| Choice {
            method: method.into(),
            budget: 1,
            architecture: layers.parse().unwrap(),
            cost: 1,
            kl,
            standard_error,
            loss: 3.0,
        };
        let words = |choices: &[Choice]| best_choice(&choices.iter().collect::<Vec<_>>());
        assert_eq!(words(&[]), None);
        let own = choice("search 0", 0.1, "AS", Some(0.1));
        let seed = choice("search 1", 0.11, "SA", Some(0.1));
        assert_eq!(words(&[seed.clone(), own.clone()]).unwrap(), "search 0 has the smallest KL, 0.1000 ± 0.1000.");
        let close = choice("greedy", 0.15, "SA", Some(0.1));
        let said = words(&[own.clone(), seed, close]).unwrap();
        assert!(said.ends_with("greedy, with 0.0500 ± 0.1414 more, within two standard errors: no clear difference."));
        let same = choice("greedy", 0.1, "AS", None);
        assert!(words(&[own.clone(), same]).unwrap().ends_with("; greedy chose the same layers."));
        let unknown = choice("greedy", 0.2, "SA", None);
        assert!(words(&[own, unknown]).unwrap().ends_with("greedy, with 0.1000 more."));
    }
}
