//! The mean score by layer and primitive.

use plotters::style::{RGBColor, text_anchor::HPos};

use super::figure::{Area, Drawn, Figure, GREY, Hints, INK, PlotError, Room, csv, draw, fill, ink_on, write};
use crate::{
    primitive::Symbol,
    statistics::mean,
    study::Study,
    text::{exact, number},
};

const NAME: &str = "layers";
/// Space left of the cells for the letters, in pixels.
const LEFT: i32 = 44;
/// Space above the cells for the numbers of the layers, in pixels.
const TOP: i32 = 26;
/// Height of a cell, in pixels.
const HEIGHT: i32 = 40;

/// Draws a heat map: the mean score of the trials that have a primitive at a layer, and their number.
///
/// # Errors
/// [`PlotError`] if the drawing library returns an error.
pub fn layers(study: &Study) -> Result<Figure, PlotError> {
    let rows = rows(study);
    let lines = rows.iter().flat_map(|(symbol, cells)| {
        cells.iter().enumerate().map(move |(layer, cell)| {
            let mean = cell.mean.map(exact).unwrap_or_default();
            vec![symbol.to_string(), (layer + 1).to_string(), cell.trials.to_string(), mean]
        })
    });
    let score = &study.goal().score;
    Ok(Figure {
        name: NAME,
        title: "Mean score by layer and letter".into(),
        caption: format!("Mean {score} of all trials with this letter (row) at this layer (column); darker is better"),
        csv: csv(&["primitive", "layer", "trials", "mean"], lines),
        svg: picture(study, &rows, Room::wide(0))?,
    })
}

/// Draws the same for a phone.
pub(super) fn narrow(study: &Study) -> Result<String, PlotError> {
    picture(study, &rows(study), Room::narrow(0))
}

/// Draws the heat map. Its height depends on the number of letters.
fn picture(study: &Study, rows: &[Row], room: Room) -> Result<String, PlotError> {
    let width = (room.width - LEFT - 4) / study.space().layers().max(1) as i32;
    let size = (room.width as u32, (TOP + HEIGHT * rows.len() as i32) as u32);
    draw(NAME, size, |area, hints| paint(study, rows, width.max(4), area, hints))
}

/// A letter and its cell for each layer.
type Row = (Symbol, Vec<Cell>);

fn rows(study: &Study) -> Vec<Row> {
    let layers = study.space().layers();
    let mut symbols = study.space().symbols();
    symbols.sort_unstable();
    let cells = |symbol| (0..layers).map(|layer| Cell::new(study, layer, symbol)).collect();
    symbols.into_iter().map(|symbol| (symbol, cells(symbol))).collect()
}

/// The trials with one primitive at one layer.
struct Cell {
    trials: usize,
    mean: Option<f64>,
}

impl Cell {
    fn new(study: &Study, layer: usize, symbol: Symbol) -> Self {
        let with = study.observations().filter(|o| o.trial.architecture.layers().get(layer) == Some(&symbol));
        let scores: Vec<_> = with.map(|o| study.goal().orient(o.value)).collect();
        Self { trials: scores.len(), mean: (!scores.is_empty()).then(|| mean(&scores)) }
    }
}

fn paint(study: &Study, rows: &[Row], width: i32, area: &Area, hints: &mut Hints) -> Drawn {
    let means =
        rows.iter().flat_map(|(_, cells)| cells).filter_map(|cell| cell.mean.map(|mean| study.goal().orient(mean)));
    let (low, high) =
        means.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), mean| (low.min(mean), high.max(mean)));
    let every = (space_for_label() / width).max(0) + 1;
    for layer in 0..study.space().layers() as i32 {
        if layer % every == 0 {
            write(area, &(layer + 1).to_string(), (LEFT + width * layer + width / 2, TOP / 2), 14, GREY, HPos::Center)?;
        }
    }
    for (row, (symbol, cells)) in rows.iter().enumerate() {
        let top = TOP + HEIGHT * row as i32;
        write(area, &symbol.to_string(), (LEFT / 2, top + HEIGHT / 2), 15, INK, HPos::Center)?;
        for (layer, cell) in cells.iter().enumerate() {
            let left = LEFT + width * layer as i32;
            let corners = [(left, top), (left + width - 2, top + HEIGHT - 2)];
            let place = |mean: f64| if high > low { share(study.goal().orient(mean), low, high) } else { 0.5 };
            let background = cell.mean.map_or(RGBColor(235, 235, 235), |mean| shade(place(mean)));
            fill(area, corners, background)?;
            let text = cell
                .mean
                .map_or("no trial".into(), |mean| format!("mean {} of {} trials", number(mean, 4), cell.trials));
            if let Some(mean) = cell.mean.filter(|_| width >= 44) {
                let middle = (left + width / 2 - 1, top + HEIGHT / 2 - 1);
                write(area, &number(mean, 3), middle, 14, ink_on(background), HPos::Center)?;
            }
            hints.area(corners, &format!("{symbol} at layer {}: {text}", layer + 1));
        }
    }
    Ok(())
}

/// Returns the position of `value` between `low` and `high`, from 0 to 1. Halves are subtracted, so that nothing
/// overflows.
fn share(value: f64, low: f64, high: f64) -> f64 {
    (0.5 * value - 0.5 * low) / (0.5 * high - 0.5 * low)
}

/// Returns the number of pixels by which a label of two digits is wider than a cell.
const fn space_for_label() -> i32 {
    17
}

/// Returns a colour from pale to blue.
fn shade(place: f64) -> RGBColor {
    let mix = |from: f64, to: f64| (from + (to - from) * place.clamp(0.0, 1.0)) as u8;
    RGBColor(mix(228.0, 33.0), mix(236.0, 84.0), mix(246.0, 166.0))
}

#[cfg(test)]
mod tests {
    use super::{super::testing::study, *};

    #[test]
    fn means_are_over_the_trials_with_the_primitive_there() {
        let figure = layers(&study(&[Some(0.25), None, Some(0.75), Some(0.5)])).unwrap();
        // AAAA .25, AAMA .75, AAMM .5.
        let lines: Vec<_> = figure.csv.lines().collect();
        assert_eq!(lines.len(), 1 + 2 * 4);
        assert_eq!((lines[1], lines[3], lines[4]), ("A,1,3,0.5", "A,3,1,0.25", "A,4,2,0.5"));
        assert_eq!((lines[5], lines[7]), ("M,1,0,", "M,3,2,0.625"));
        assert_eq!(figure.svg.matches("<title>").count(), 8);
        assert!(layers(&study(&[])).is_ok() && narrow(&study(&[])).is_ok());
    }
}
