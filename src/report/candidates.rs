//! The best sequences of a search, layer by layer.

use plotters::style::text_anchor::HPos;

use super::{
    axis::Axis,
    figure::{BLUE, Figure, GREY, INK, PlotError, Room, csv, draw, scale, strip, whisker, write},
    gap::Gap,
    shell::{self, Cell, LISTED, SHOWN},
    units,
};
use crate::{
    study::{Goal, Observation, Raced, Study},
    text::{exact, number},
};

const NAME: &str = "candidates";
/// Height of a row, in pixels.
const ROW: i32 = 26;
/// Left end of the layers, in pixels.
const LEFT: i32 = 190;

/// Draws the `count` best architectures of a study as strips of layers, best first, with their scores on a common
/// scale. Bars show one standard error, if it is known. Repeated evaluations of an architecture are pooled.
///
/// # Errors
/// [`PlotError`] if the drawing library returns an error.
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
    let [from, to] = [right + 24, Room::wide(0).width.max(right + 200) - 24];
    let below = 8 + ROW * leaders.len().max(1) as i32;
    let size = ((to + 24) as u32, (below + 48) as u32);
    let axis = extent(&leaders, score);
    let place = |share: f64| from + (f64::from(to - from) * share) as i32;
    let svg = draw(NAME, size, |area, hints| {
        scale(area, &axis, [from, to], below + 2)?;
        write(area, &goal.score, (i32::midpoint(from, to), below + 36), 13, INK, HPos::Center)?;
        for (row, seen) in leaders.iter().enumerate() {
            let architecture = &seen.trial.architecture;
            let score = score(seen);
            let error = seen.report.standard_error;
            let label = number(score, 4) + &error.map(|error| format!(" ± {}", number(error, 3))).unwrap_or_default();
            let top = 8 + ROW * row as i32;
            write(area, &format!("{}", row + 1), (26, top + 10), 13, GREY, HPos::Right)?;
            write(area, &label, (40, top + 10), 13, INK, HPos::Left)?;
            strip(area, architecture, (LEFT, top), ROW - 6, |_| cell)?;
            let [low, high] = axis.bar(score, error.unwrap_or(0.0)).map(|end| axis.share_of_tick(end));
            whisker(area, [low, axis.share(score), high].map(place), top + 10, BLUE)?;
            hints.area([(LEFT, top), (place(1.0), top + ROW - 6)], &format!("{architecture}, {label}"));
        }
        Ok(())
    })?;
    Ok(Figure {
        name: NAME,
        title: "The best architectures".into(),
        caption: format!(
            "The {} best of {}, first layer on the left, scores ± one standard error",
            leaders.len(),
            pooled.observations().count()
        ),
        svg,
        csv,
    })
}

/// Returns the number of pixels per layer.
fn cell(layers: usize) -> i32 {
    (560 / layers.max(1) as i32).clamp(6, 28)
}

/// Returns the axis of the scores, including their errors.
fn extent(leaders: &[Observation], score: impl Fn(&Observation) -> f64) -> Axis {
    Axis::with_bars(&leaders.iter().map(|seen| (score(seen), seen.report.standard_error)).collect::<Vec<_>>())
}

/// Describes how many repetitions a trial has that lost its race.
fn in_words(raced: Raced) -> String {
    format!("{} of {} repetitions", raced.done, raced.planned)
}

/// Returns the table of the evaluated architectures, best first, with all scores. If there are many, only the best are
/// listed. Empty if nothing was evaluated.
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
    // An evaluator need not state the size.
    let sized = leaders.iter().any(|seen| seen.report.parameters > 0);
    let last = if sized { &["parameters", "time"][..] } else { &["time"] };
    let heads = [&["rank", "architecture", &goal.score, DIFFERENCE][..], &tasks, last].concat();
    // The scale covers the rows that are shown at first, so that one bad trial does not flatten it.
    let axis = extent(&leaders[..leaders.len().min(SHOWN)], |seen| goal.orient(seen.value));
    let wide = tasks.len() > WIDEST;
    let row = |(rank, seen): (usize, &Observation)| {
        let report = seen.report;
        let measured = |value: Option<f64>| value.map_or(Cell::blank(), |value| Cell::number(value, number(value, 4)));
        let gap = Gap::new(seen, &leaders[0], goal);
        let layers = if wide { Cell::strip(&seen.trial.architecture) } else { Cell::layers(&seen.trial.architecture) };
        let mut cells = vec![
            Cell::number(rank as f64 + 1.0, (rank + 1).to_string()),
            layers.noted(&report.raced.map(in_words).unwrap_or_default()),
            Cell::measured(goal.orient(seen.value), report.standard_error, &axis),
            if rank == 0 { Cell::blank() } else { Cell::number(gap.score, gap.text()) },
        ];
        cells.extend(tasks.iter().map(|&task| measured(report.scores.get(task).copied())));
        cells.extend(sized.then(|| Cell::number(report.parameters as f64, units::count(report.parameters))));
        cells.push(Cell::number(report.wall_seconds, units::duration(report.wall_seconds)));
        cells
    };
    let rows: Vec<_> = leaders.iter().take(LISTED).enumerate().map(row).collect();
    let table = shell::table_with_scale("leaders", &heads, &rows, SHOWN, Some((2, &axis)));
    shell::note_of_rest("best", rows.len(), leaders.len()) + &explanation(&leaders, goal) + &table
}

/// The largest number of task scores beside which a sequence has room for letters and runs.
const WIDEST: usize = 2;
/// The heading of the column of differences.
const DIFFERENCE: &str = "difference to the best";

/// Explains the table, and says how many architectures cannot be told from the best.
fn explanation(leaders: &[Observation], goal: &Goal) -> String {
    let gaps = leaders.iter().skip(1).map(|seen| Gap::new(seen, &leaders[0], goal).is_clear());
    let known: Vec<bool> = gaps.flatten().collect();
    if known.is_empty() {
        return String::new();
    }
    let close = match known.iter().filter(|&&clear| !clear).count() {
        0 => "All others differ from the best by more than two standard errors".into(),
        1 => "One other is within two standard errors of the best: the two cannot be told apart".into(),
        close => {
            format!("{close} others are within two standard errors of the best: they cannot be told apart from it")
        }
    };
    format!(
        "<p>{close}. The best of many noisy scores is also partly lucky.</p>\n<p class=\"soft\">After ± stands one \
         standard error. Several evaluations of one architecture count as one, by their mean.</p>\n"
    )
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
        assert!(html.contains(">1.0000 <svg") && !html.contains('±') && html.contains("-1.0000"), "{html}");
        assert_eq!(table(&study(&[None])), "");
    }
}
