//! The best sequences, layer by layer.

use plotters::style::text_anchor::HPos;

use super::{
    axis::Axis,
    figure::{Area, BLUE, Drawn, Figure, GREY, INK, PlotError, color, csv, draw, fill, strip, whisker, write},
    shell::{self, Cell, LISTED, SHOWN},
};
use crate::{
    study::{Observation, Raced, Study},
    text::{exact, number},
};

const NAME: &str = "candidates";
/// Height of a row in pixels.
const ROW: i32 = 26;
/// Where the layers begin.
const LEFT: i32 = 190;

/// Width of the scale on which scores stand.
const SCALE: i32 = 180;

/// The `count` best architectures of a study as strips of layers, best first, with their scores on a common scale,
/// which have a bar of one standard error to both sides where it is known; evaluations of one architecture are merged.
///
/// # Errors
/// [`PlotError`] when the drawing library refuses.
pub fn candidates(study: &Study, count: usize) -> Result<Figure, PlotError> {
    let pooled = study.pooled();
    let goal = study.goal();
    let mut leaders: Vec<Observation> = pooled.observations().collect();
    leaders.sort_by(Observation::best_first);
    leaders.truncate(count);
    let score = |seen: &Observation| goal.orient(seen.value);
    let rows = leaders.iter().map(|seen| {
        let error = seen.report.standard_error.map(exact).unwrap_or_default();
        vec![seen.trial.architecture.letters(), exact(score(seen)), error, seen.trial.id.0.to_string()]
    });
    let csv = csv(&["architecture", "score", "standard_error", "first_trial"], rows);
    let cell = cell(study.space().layers());
    let right = LEFT + cell * study.space().layers() as i32;
    let size = ((right + SCALE + 40) as u32, (ROW * leaders.len().max(1) as i32 + 16) as u32);
    let axis = extent(&leaders, score);
    let place = |share: f64| right + 24 + (f64::from(SCALE) * share) as i32;
    let svg = draw(NAME, size, |area, hints| {
        for (row, seen) in leaders.iter().enumerate() {
            let architecture = &seen.trial.architecture;
            let score = score(seen);
            let error = seen.report.standard_error;
            let label = number(score, 4) + &error.map(|error| format!(" ± {}", number(error, 3))).unwrap_or_default();
            let top = 8 + ROW * row as i32;
            write(area, &format!("{}", row + 1), (26, top + 10), 13, GREY, HPos::Right)?;
            write(area, &label, (40, top + 10), 13, INK, HPos::Left)?;
            strip(area, architecture, (LEFT, top), ROW - 6, |_| cell)?;
            let [from, to] = axis.bar(score, error.unwrap_or(0.0)).map(|end| axis.share_of_tick(end));
            whisker(area, [from, axis.share(score), to].map(place), top + 10, BLUE)?;
            hints.area([(LEFT, top), (place(1.0), top + ROW - 6)], &format!("{architecture}, {label}"));
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

/// The range of the scores with their errors.
fn extent(leaders: &[Observation], score: impl Fn(&Observation) -> f64) -> Axis {
    Axis::with_bars(&leaders.iter().map(|seen| (score(seen), seen.report.standard_error)).collect::<Vec<_>>())
}

/// That a trial did not run to its end.
fn in_words(raced: Raced) -> String {
    format!(" ({} of {} repetitions)", raced.done, raced.planned)
}

/// The architectures that were evaluated, best first, with every score; of many the best alone. Empty without any.
pub(super) fn table(study: &Study) -> String {
    let pooled = study.pooled();
    let goal = pooled.goal();
    let mut leaders: Vec<Observation> = pooled.observations().collect();
    if leaders.is_empty() {
        return String::new();
    }
    leaders.sort_by(Observation::best_first);
    let mut tasks: Vec<&str> = leaders.iter().flat_map(|o| o.report.scores.keys()).map(String::as_str).collect();
    tasks.sort_unstable();
    tasks.dedup();
    tasks.retain(|&task| task != goal.score);
    let heads = [&["rank", "layers", "architecture", &goal.score][..], &tasks, &["parameters", "seconds"]].concat();
    let axis = extent(&leaders, |seen| goal.orient(seen.value));
    let row = |(rank, seen): (usize, &Observation)| {
        let report = seen.report;
        let measured = |value: Option<f64>| value.map_or(Cell::blank(), |value| Cell::number(value, number(value, 4)));
        let mut cells = vec![
            Cell::number(rank as f64 + 1.0, (rank + 1).to_string()),
            Cell::strip(&seen.trial.architecture),
            Cell::text(&(seen.trial.architecture.to_string() + &seen.report.raced.map(in_words).unwrap_or_default())),
            Cell::measured(goal.orient(seen.value), report.standard_error, &axis),
        ];
        cells.extend(tasks.iter().map(|&task| measured(report.scores.get(task).copied())));
        cells.push(Cell::number(report.parameters as f64, report.parameters.to_string()));
        cells.push(Cell::number(report.wall_seconds, number(report.wall_seconds, 1)));
        cells
    };
    let rows: Vec<_> = leaders.iter().take(LISTED).enumerate().map(row).collect();
    shell::note_of_rest("best", rows.len(), leaders.len()) + &shell::table("leaders", &heads, &rows, SHOWN)
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

    #[test]
    fn errors_are_bars_on_the_scale_of_all_scores() {
        assert_eq!(extent(&[], |seen| seen.value), Axis::new([]));
        let html = table(&study(&[Some(0.0), Some(1.0)]));
        assert!(html.contains(">1.0000 <svg") && !html.contains('±'), "{html}");
        assert_eq!(table(&study(&[None])), "");
    }
}
