//! Comparison of several searches.

use std::path::Path;

use plotters::{
    chart::ChartBuilder,
    prelude::Polygon,
    series::LineSeries,
    style::{Color, WHITE},
};

use super::{
    PageError,
    axis::{Axis, LABELS},
    figure::{
        Area, COLOURS, Drawn, Figure, Hints, Key, Mark, PlotError, Room, csv, draw, label, legend, legend_height,
        steps, whole,
    },
    shell::{self, Cell},
    units,
};
use crate::{
    aggregate::{Aggregator, NcClustering},
    durable,
    seed::Seed,
    statistics::{Estimate, bootstrap_mean, mean, standard_error},
    study::Study,
    text::{self, exact, html as escape, number},
};

const NAME: &str = "compare";

/// Number of bootstrap draws for an interval.
const RESAMPLES: u64 = 2000;

/// Returns the best score so far after each evaluation of a whole sequence.
fn best_so_far(study: &Study) -> Vec<f64> {
    let goal = study.goal();
    let best = |best: &mut f64, value: f64| {
        *best = best.max(value);
        Some(goal.orient(*best))
    };
    study.observations().map(|o| o.value).scan(f64::NEG_INFINITY, best).collect()
}

/// Returns the mean over searches of the best score so far, up to the number of evaluations that all searches of the
/// group have.
fn curve(studies: &[Study]) -> Vec<Estimate> {
    let curves: Vec<_> = studies.iter().map(best_so_far).collect();
    let length = curves.iter().map(Vec::len).min().unwrap_or(0);
    let at = |index: usize| {
        let values: Vec<_> = curves.iter().map(|curve| curve[index]).collect();
        bootstrap_mean(&values, RESAMPLES, Seed(0))
    };
    (0..length).filter_map(at).collect()
}

/// Draws the best score so far of several groups of searches: the mean over the searches of a group, with its 95 %
/// bootstrap interval, up to the number of evaluations that all of them have.
///
/// # Errors
/// [`PlotError`] if the drawing library returns an error.
pub fn compare(groups: &[(String, Vec<Study>)]) -> Result<Figure, PlotError> {
    let curves: Vec<_> = groups.iter().map(|(name, studies)| (name, curve(studies))).collect();
    let rows = curves.iter().flat_map(|(name, curve)| {
        curve.iter().enumerate().map(move |(at, mean)| {
            vec![(*name).clone(), (at + 1).to_string(), exact(mean.value), exact(mean.low), exact(mean.high)]
        })
    });
    Ok(Figure {
        name: NAME,
        title: "Best so far".into(),
        caption: "The best score so far, as the mean over the searches of a group with its 95 % bootstrap interval"
            .into(),
        csv: csv(&["group", "evaluations", "mean", "low", "high"], rows),
        svg: picture(&curves, score(groups), Room::wide(460))?,
    })
}

/// Draws the same for a phone.
fn narrow(groups: &[(String, Vec<Study>)]) -> Result<String, PlotError> {
    let curves: Vec<_> = groups.iter().map(|(name, studies)| (name, curve(studies))).collect();
    picture(&curves, score(groups), Room::narrow(320))
}

fn picture(curves: &[(&String, Vec<Estimate>)], score: &str, room: Room) -> Result<String, PlotError> {
    let size = (room.width as u32, room.height as u32);
    draw(NAME, size, |area, hints| paint(curves, score, room, area, hints))
}

/// Says what was searched. `None` without searches.
fn lead(groups: &[(String, Vec<Study>)]) -> Option<String> {
    let study = groups.iter().flat_map(|(_, studies)| studies).next()?;
    let space = study.space();
    Some(format!(
        "Searched: sequences of {} layers, {} in all. Goal: {}.",
        space.layers(),
        units::many(space.size()),
        study.goal()
    ))
}

/// Fewer searches than this give intervals that are too narrow.
const FEW: usize = 5;

/// Compares the best group with the next one where all searches can be compared. `None` with fewer than two groups.
fn verdict(groups: &[(String, Vec<Study>)]) -> Option<String> {
    let goal = groups.iter().flat_map(|(_, studies)| studies).next()?.goal();
    let mut curves: Vec<_> = groups.iter().map(|(name, studies)| (name, studies.len(), curve(studies))).collect();
    curves.retain(|(.., curve)| !curve.is_empty());
    let common = curves.iter().map(|(.., curve)| curve.len()).min()?;
    let value = |curve: &[Estimate]| goal.orient(curve[common - 1].value);
    curves.sort_by(|(.., one), (.., other)| value(other).total_cmp(&value(one)));
    let [(best, searches, first), (next, others, second), ..] = &curves[..] else { return None };
    let [first, second] = [first[common - 1], second[common - 1]];
    let shown = |mean: Estimate| {
        let [value, low, high] = [mean.value, mean.low, mean.high].map(|value| number(value, 4));
        format!("{value} ({low} to {high})")
    };
    let apart = match (searches.min(others), first.low > second.high || second.low > first.high) {
        (1, _) => "A group of one search does not show how much is chance: repeat it with other seeds.",
        (2..FEW, true) => {
            "The intervals do not overlap, but with fewer than five searches in a group, they are too narrow."
        }
        (_, true) => "The intervals do not overlap.",
        (_, false) => "The intervals overlap: this is no clear difference.",
    };
    Some(format!(
        "After {common} evaluations, which all searches have, \"{best}\" has the best mean {}, {}; the next is \"{next}\" with \
         {}. {apart}",
        goal.score,
        shown(first),
        shown(second)
    ))
}

/// Returns the name of the score that the searches optimise.
fn score(groups: &[(String, Vec<Study>)]) -> &str {
    groups.iter().flat_map(|(_, studies)| studies).next().map_or("score", |study| &study.goal().score)
}

/// Writes a page that compares groups of searches, such as one searcher with several seeds: the curves of [`compare`]
/// and a table of the final results. Check with [`check_comparable`](super::check_comparable) first whether the
/// searches can be compared.
///
/// # Errors
/// [`PageError`] if the figure cannot be drawn or the file cannot be written.
pub fn write_comparison(groups: &[(String, Vec<Study>)], path: impl AsRef<Path>) -> Result<(), PageError> {
    let path = path.as_ref();
    let row = |(name, studies): &(String, Vec<Study>)| {
        let evaluations: usize = studies.iter().map(|study| study.observations().count()).sum();
        let finals: Vec<_> = studies.iter().filter_map(|study| best_so_far(study).last().copied()).collect();
        let measured = |value: Option<f64>| value.map_or(Cell::blank(), |value| Cell::number(value, number(value, 4)));
        let aggregated = studies.iter().filter_map(|study| NcClustering::n0().aggregate(study).ok());
        let mut aggregated: Vec<_> = aggregated.map(|aggregated| aggregated.to_string()).collect();
        aggregated.sort();
        aggregated.dedup();
        vec![
            Cell::text(name),
            Cell::number(studies.len() as f64, studies.len().to_string()),
            Cell::number(evaluations as f64, evaluations.to_string()),
            measured((!finals.is_empty()).then(|| mean(&finals))),
            measured(standard_error(&finals)),
            Cell::text(&aggregated.join(", ")),
        ]
    };
    let rows: Vec<_> = groups.iter().map(row).collect();
    let heads = ["group", "searches", "evaluations", "mean of the best", "standard error", "aggregated by N_0"];
    let said = [lead(groups), verdict(groups)].into_iter().flatten();
    let said: String = said.map(|words| format!("<p>{}</p>\n", escape(&words))).collect();
    let body = format!(
        "<h1>Searches compared</h1>\n{said}{}<h2>Final results</h2>\n<p class=\"soft\">Each search at its own end.</p>\n{}",
        shell::adaptive(&compare(groups)?, &narrow(groups)?),
        shell::table("groups", &heads, &rows, rows.len())
    );
    durable::write_in(path, shell::page("Searches compared", &body, None).as_bytes())
        .map_err(|source| PageError::Write { path: path.into(), source })
}

/// Returns at most `most` letters of a name.
fn cut(name: &str, most: usize) -> String {
    match name.chars().count() > most {
        true => name.chars().take(most - 1).chain(['…']).collect(),
        false => name.into(),
    }
}

/// Space left of the plot, in pixels.
const LEFT: i32 = 68;

fn paint(curves: &[(&String, Vec<Estimate>)], score: &str, room: Room, area: &Area, hints: &mut Hints) -> Drawn {
    let within = room.width - LEFT - 14;
    // A line of the legend has room for so many letters.
    let longest = (within as usize - 22) / 8;
    let names: Vec<_> = curves.iter().map(|(name, _)| cut(&text::line(name), longest)).collect();
    let tone = |index: usize| COLOURS[index % COLOURS.len()];
    let keys: Vec<Key> =
        names.iter().enumerate().map(|(index, name)| (Mark::Line, tone(index), name.as_str())).collect();
    let axis = Axis::new(curves.iter().flat_map(|(_, curve)| curve).flat_map(|mean| [mean.low, mean.high]));
    let longest = curves.iter().map(|(_, curve)| curve.len()).max().unwrap_or(0).max(2) as f64;
    let mut chart = ChartBuilder::on(area)
        .margin(4)
        .margin_top(legend_height(&keys, within) + 8)
        // The last label is wider than its tick.
        .margin_right(14)
        .x_label_area_size(40)
        .y_label_area_size(LEFT - 4)
        .build_cartesian_2d(1.0..longest, axis.range())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .x_desc("evaluations")
        .y_desc(label(score))
        .x_labels(room.labels())
        .x_label_formatter(&|&x| whole(x))
        .y_label_formatter(&|y| axis.label(*y, LABELS))
        .label_style(("sans-serif", room.letters()))
        .draw()?;
    for (index, (name, curve)) in curves.iter().enumerate() {
        let tone = tone(index);
        let points = |pick: fn(&Estimate) -> f64| -> Vec<_> {
            curve.iter().enumerate().map(|(at, mean)| (at as f64 + 1.0, axis.at(pick(mean)))).collect()
        };
        let low = steps(&points(|mean| mean.low));
        let high = steps(&points(|mean| mean.high));
        let band: Vec<_> = low.into_iter().chain(high.into_iter().rev()).collect();
        chart.draw_series([Polygon::new(band, tone.mix(0.15))])?;
        chart.draw_series(LineSeries::new(steps(&points(|mean| mean.value)), tone.stroke_width(2)))?;
        for (point, mean) in points(|mean| mean.value).into_iter().zip(curve) {
            let [value, low, high] = [mean.value, mean.low, mean.high].map(|value| number(value, 4));
            let text = format!("{name}, {} evaluations: {value} ({low} to {high})", point.0);
            hints.point(chart.backend_coord(&point), &text);
        }
    }
    legend(area, &keys, (LEFT, 0), within)
}

#[cfg(test)]
mod tests {
    use super::{super::testing::study, *};

    #[test]
    fn curves_are_means_of_the_best_so_far() {
        let group = vec![study(&[Some(0.2), None, Some(0.9), Some(0.5)]), study(&[Some(0.4), Some(0.3)])];
        let figure = compare(&[("a, b".into(), group), ("none".into(), vec![study(&[])])]).unwrap();
        let lines: Vec<_> = figure.csv.lines().collect();
        assert_eq!(lines.len(), 3);
        let mean = |line: &str| line.rsplit(',').nth(2).unwrap().parse::<f64>().unwrap();
        assert!((mean(lines[1]) - 0.3).abs() < 1e-12 && (mean(lines[2]) - 0.65).abs() < 1e-12);
        assert!(compare(&[]).is_ok());
    }

    #[test]
    fn the_page_has_a_line_per_group() {
        let folder = tempfile::tempdir().unwrap();
        let groups = [("gp".into(), vec![study(&[Some(0.2), Some(0.9)])]), ("random".into(), vec![])];
        let path = folder.path().join("compare.html");
        write_comparison(&groups, &path).unwrap();
        let html = std::fs::read_to_string(path).unwrap();
        assert!(html.contains("sequences of 4 layers, 16 in all. Goal: maximize accuracy."));
        assert!(html.contains("id=\"compare\"") && html.contains("0.9000") && html.contains("random"));
    }

    #[test]
    fn the_best_group_is_compared_with_the_next() {
        let group = |name: &str, scores: &[f64]| {
            (name.to_owned(), scores.iter().map(|&score| study(&[Some(score), Some(score)])).collect::<Vec<_>>())
        };
        let said = |groups: &[(String, Vec<Study>)]| verdict(groups).unwrap_or_default();
        assert_eq!(said(&[]), "");
        assert_eq!(said(&[group("a", &[0.5, 0.6]), group("none", &[])]), "");
        let words = said(&[group("a", &[0.5, 0.5, 0.5]), group("b", &[0.75, 0.75]), group("c", &[0.1])]);
        let expected = "After 2 evaluations, which all searches have, \"b\" has the best mean accuracy, 0.7500 (0.7500 to \
                        0.7500); the next is \"a\" with 0.5000 (0.5000 to 0.5000). The intervals do not overlap, but";
        assert!(words.starts_with(expected), "{words}");
        let words = said(&[group("a", &[0.1, 0.9]), group("b", &[0.2, 0.8])]);
        assert!(words.ends_with("The intervals overlap: this is no clear difference."), "{words}");
        let words = said(&[group("a", &[0.1]), group("b", &[0.2, 0.8])]);
        assert!(words.contains("repeat it with other seeds"), "{words}");
        let words = said(&[group("a", &[0.1; 5]), group("b", &[0.2; 5])]);
        assert!(words.ends_with("The intervals do not overlap."), "{words}");
    }
}
