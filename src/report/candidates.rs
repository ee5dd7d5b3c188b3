//! The best sequences, layer by layer.

use plotters::style::text_anchor::HPos;

use super::figure::{Area, Drawn, Figure, GREY, Hints, INK, PlotError, color, csv, draw, fill, strip, write};
use crate::{
    space::Architecture,
    study::{Observation, Study},
};

const NAME: &str = "candidates";
/// Height of a row in pixels.
const ROW: i32 = 26;
/// Where the layers begin.
const LEFT: i32 = 190;

/// The `count` best architectures of a study as strips of layers, best first; evaluations of one architecture are merged.
///
/// # Errors
/// [`PlotError`] when the drawing library refuses.
pub fn candidates(study: &Study, count: usize) -> Result<Figure, PlotError> {
    let pooled = study.pooled();
    let goal = study.goal();
    let mut leaders: Vec<Observation> = pooled.observations().collect();
    leaders.sort_by(|a, b| b.value.total_cmp(&a.value));
    leaders.truncate(count);
    let score = |seen: &Observation| goal.orient(seen.value);
    let rows = leaders.iter().map(|seen| {
        let error = seen.report.standard_error.map(|error| error.to_string()).unwrap_or_default();
        vec![seen.trial.architecture.letters(), score(seen).to_string(), error, seen.trial.id.0.to_string()]
    });
    let csv = csv(&["architecture", "score", "standard_error", "first_trial"], rows);
    let cell = cell(study.space().layers());
    let width = (LEFT + cell * study.space().layers() as i32 + 16).max(360);
    let size = (width as u32, (ROW * leaders.len().max(1) as i32 + 16) as u32);
    let svg = draw(NAME, size, |area, hints| {
        for (row, seen) in leaders.iter().enumerate() {
            let error = seen.report.standard_error.map(|error| format!(" ± {error:.3}")).unwrap_or_default();
            let label = format!("{:.4}{error}", score(seen));
            row_of(area, hints, row, &seen.trial.architecture, &label, cell)?;
        }
        Ok(())
    })?;
    Ok(Figure {
        name: NAME,
        title: "The best architectures".into(),
        caption: format!("The {} best of {}, first layer on the left", leaders.len(), pooled.observations().count()),
        svg,
        csv,
    })
}

/// Pixels per layer.
fn cell(layers: usize) -> i32 {
    (560 / layers.max(1) as i32).clamp(6, 28)
}

fn row_of(area: &Area, hints: &mut Hints, row: usize, architecture: &Architecture, label: &str, cell: i32) -> Drawn {
    let top = 8 + ROW * row as i32;
    write(area, &format!("{}", row + 1), (26, top + 10), 13, GREY, HPos::Right)?;
    write(area, label, (40, top + 10), 13, INK, HPos::Left)?;
    strip(area, architecture, (LEFT, top), ROW - 6, |_| cell)?;
    let right = LEFT + cell * architecture.len() as i32;
    hints.area([(LEFT, top), (right, top + ROW - 6)], &format!("{architecture}, {label}"));
    Ok(())
}

/// A legend of these symbols with their names, from `at` to the right.
pub(super) fn legend<'a>(
    area: &Area,
    entries: impl IntoIterator<Item = (crate::primitive::Symbol, &'a str)>,
    (mut x, y): (i32, i32),
) -> Drawn {
    for (symbol, name) in entries {
        fill(area, [(x, y - 6), (x + 12, y + 6)], color(symbol))?;
        write(area, name, (x + 18, y), 13, INK, HPos::Left)?;
        x += 34 + 8 * name.chars().count() as i32;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{super::testing::study, *};

    #[test]
    fn the_best_come_first() {
        let figure = candidates(&study(&[Some(0.2), None, Some(0.9), Some(0.5)]), 2).unwrap();
        assert_eq!(figure.csv, "architecture,score,standard_error,first_trial\nAAMA,0.9,,2\nAAMM,0.5,,3\n");
        assert_eq!(figure.svg.matches("<title>").count(), 2);
        assert!(candidates(&study(&[]), 5).is_ok());
    }
}
