//! The front of a search for several objectives.

use plotters::{
    chart::ChartBuilder,
    prelude::{Circle, Cross, PathElement, Rectangle, TriangleMarker},
    series::LineSeries,
    style::{Color, RGBColor, WHITE, text_anchor::HPos},
};

use super::{
    axis::Axis,
    figure::{Area, BLUE, Drawn, Figure, GREY, Hints, INK, ORANGE, PlotError, csv, draw, label, steps, whole, write},
    references::{Names, references},
    shell::{self, Cell, SHOWN},
};
use crate::{
    aggregate::{BANDS, Band, NcClustering, along_front},
    study::{Measure, Objective, Observation, Origin, Study, Volume},
    text::{exact, number, quantity},
};

const NAME: &str = "front";
/// Pixels of the picture of the front: its width, around it, and left of the plot.
const WIDTH: i32 = 930;
const MARGIN: i32 = 12;
const LEFT: i32 = MARGIN + 64;
/// The colour of a band.
const SHADE: RGBColor = RGBColor(242, 244, 248);

/// The goal's score of every trial against the second objective, with bars of one standard error: the front as a line,
/// bands of the second objective as shades, baselines and published hybrids as lines at their known costs, with a cross
/// where they were evaluated, trials that were added by hand, such as published layouts, as triangles,
/// and what was merged as squares. `None` for a goal of one objective.
///
/// # Errors
/// [`PlotError`] when the drawing library refuses.
pub fn front(study: &Study) -> Result<Option<Figure>, PlotError> {
    let Some(second) = study.goal().objectives().nth(1) else { return Ok(None) };
    let pooled = study.pooled();
    let count = pooled.front().len();
    let others = study.goal().objectives().count() - 2;
    let rest = if others > 0 { format!("; {others} more objectives decide about the front") } else { String::new() };
    Ok(Some(Figure {
        name: NAME,
        title: "The front".into(),
        caption: format!("{count} of {} sequences are beaten by no other{rest}", pooled.observations().count()),
        svg: draw(NAME, (WIDTH as u32, 380), |area, hints| paint(&pooled, &second, area, hints))?,
        csv: numbers(&pooled),
    }))
}

/// The hypervolume after every trial, above the [reference](Study::reference) of all; `None` for a goal of one
/// objective.
///
/// # Errors
/// [`PlotError`] when the drawing library refuses.
pub fn hypervolume(study: &Study) -> Result<Option<Figure>, PlotError> {
    const NAME: &str = "hypervolume";
    if !study.goal().has_several() {
        return Ok(None);
    }
    let reference = study.reference().unwrap_or_default();
    let seen: Vec<_> = study.observations().map(|seen| seen.trial.id).collect();
    // Of very many trials every so many: each point is a hypervolume of its own.
    let step = seen.len().div_ceil(200).max(1);
    let at = |end: usize| {
        let last = seen[end];
        let value = study.filtered(|trial| trial.id <= last && !trial.is_pending()).hypervolume_value(&reference);
        (last.0, value)
    };
    let mut points: Vec<_> = (0..seen.len()).step_by(step).map(at).collect();
    points.extend((!seen.is_empty()).then(|| at(seen.len() - 1)));
    points.dedup();
    let best = points.last().map_or(1.0, |&(_, value)| value).max(f64::MIN_POSITIVE);
    let Volume { interval, .. } = study.pooled().hypervolume(&reference);
    let interval = interval.map(|[low, high]| {
        format!(
            "; at the end the scores allow {} to {} %",
            number(100.0 * low / best, 1),
            number(100.0 * high / best, 1)
        )
    });
    let axis = Axis::upward([100.0]);
    let line: Vec<_> = points.iter().map(|&(trial, value)| (trial as f64, axis.at(100.0 * value / best))).collect();
    let last = study.next_id().0.max(1) as f64;
    let paint = |area: &Area| -> Drawn {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(64)
            .build_cartesian_2d(-0.5..last - 0.5, axis.range())?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(WHITE)
            .x_desc("trial")
            .y_desc("% of the last")
            .x_labels(12)
            .x_label_formatter(&|&x| whole(x))
            .y_label_formatter(&|y| axis.label(*y, 3))
            .label_style(("sans-serif", 13))
            .draw()?;
        chart.draw_series(LineSeries::new(steps(&line), ORANGE.stroke_width(2)))?;
        Ok(())
    };
    Ok(Some(Figure {
        name: NAME,
        title: "Hypervolume".into(),
        caption: format!("What the front dominates, in percent of the last{}", interval.unwrap_or_default()),
        svg: draw(NAME, (930, 240), |area, _| paint(area))?,
        csv: csv(&["trial", "hypervolume"], points.iter().map(|&(trial, value)| vec![trial.to_string(), exact(value)])),
    }))
}

/// A value of an objective of an observation.
fn value(seen: &Observation<'_>, objective: &Objective) -> Option<f64> {
    seen.report.measured(&objective.of).ok()
}

fn first(study: &Study) -> Objective {
    Objective { of: Measure::Score(study.goal().score.clone()), direction: study.goal().direction }
}

fn paint(study: &Study, second: &Objective, area: &Area, hints: &mut Hints) -> Drawn {
    let first = first(study);
    let known = references(study, second);
    let xs = study.observations().filter_map(|seen| value(&seen, second));
    let xs: Vec<_> = xs.chain(known.iter().map(|reference| reference.cost)).collect();
    let ys: Vec<_> =
        study.observations().filter_map(|seen| Some((value(&seen, &first)?, seen.report.standard_error))).collect();
    let across = Axis::new(xs);
    let up = Axis::with_bars(&ys);
    let names = Names::new(&known, WIDTH, |cost| LEFT + (across.share(cost) * f64::from(WIDTH - LEFT - MARGIN)) as i32);
    let mut chart = ChartBuilder::on(area)
        .margin(MARGIN)
        .margin_top(36 + names.height())
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d(across.range(), up.range())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .x_desc(label(second.of.name()))
        .y_desc(label(first.of.name()))
        .x_label_formatter(&|x| across.label(*x, 3))
        .y_label_formatter(&|y| up.label(*y, 3))
        .label_style(("sans-serif", 13))
        .draw()?;
    for band in bands(study, &second.of).iter().step_by(2) {
        let [left, right] = [band.low, band.high].map(|edge| across.at(edge));
        chart.draw_series([Rectangle::new([(left, up.range().start), (right, up.range().end)], SHADE.filled())])?;
    }
    names.draw(area, 36, chart.backend_coord(&(across.range().start, up.range().start)).1)?;
    for reference in &known {
        let Some(score) = reference.score else { continue };
        chart.draw_series([Cross::new((across.at(reference.cost), up.at(score)), 8, INK.stroke_width(1))])?;
    }
    let at = |seen: &Observation<'_>| Some((across.at(value(seen, second)?), up.at(value(seen, &first)?)));
    let mut best: Vec<_> = study.front().iter().filter_map(at).collect();
    best.sort_by(|a, b| a.0.total_cmp(&b.0));
    chart.draw_series(LineSeries::new(steps(&best), ORANGE.stroke_width(2)))?;
    for seen in study.observations() {
        let Some(place) = at(&seen) else { continue };
        if let (Some(error), Some(score)) = (seen.report.standard_error, value(&seen, &first)) {
            let [from, to] = up.bar(score, error);
            chart.draw_series([PathElement::new([(place.0, from), (place.0, to)], BLUE)])?;
        }
        let color = if best.contains(&place) { ORANGE } else { BLUE };
        match seen.trial.origin {
            Origin::Searcher => drop(chart.draw_series([Circle::new(place, 3, color.filled())])?),
            Origin::Manual => drop(chart.draw_series([TriangleMarker::new(place, 6, color.filled())])?),
            Origin::Merged => drop(chart.draw_series([Circle::new(place, 6, color.stroke_width(2))])?),
        }
        let pixel = chart.backend_coord(&place);
        hints.point(pixel, &hint(&seen, [&first, second]));
    }
    legend(area, !known.is_empty())
}

fn hint(seen: &Observation<'_>, objectives: [&Objective; 2]) -> String {
    let values = objectives.map(|objective| {
        let value = value(seen, objective).map_or("?".into(), quantity);
        format!("{} {value}", objective.of.name())
    });
    format!("{}, {}: {}", seen.trial.id, seen.trial.architecture, values.join(", "))
}

/// What the marks mean, above the plot.
fn legend(area: &Area, references: bool) -> Drawn {
    const Y: i32 = 18;
    area.draw(&PathElement::new([(76, Y), (92, Y)], ORANGE.stroke_width(2)))?;
    write(area, "front", (98, Y), 13, INK, HPos::Left)?;
    area.draw(&Circle::new((152, Y), 3, BLUE.filled()))?;
    write(area, "trial", (162, Y), 13, INK, HPos::Left)?;
    area.draw(&TriangleMarker::new((212, Y), 6, BLUE.filled()))?;
    write(area, "added by hand", (222, Y), 13, INK, HPos::Left)?;
    area.draw(&Circle::new((332, Y), 6, BLUE.stroke_width(2)))?;
    write(area, "merged", (344, Y), 13, INK, HPos::Left)?;
    write(area, "shaded: every other band below", (404, Y), 13, GREY, HPos::Left)?;
    let known = "dashed: cost of a known layout, cross: its score";
    if references { write(area, known, (604, Y), 13, GREY, HPos::Left) } else { Ok(()) }
}

/// One line per sequence: objectives, standard error, whether it is on the front.
fn numbers(study: &Study) -> String {
    let objectives: Vec<_> = study.goal().objectives().collect();
    let best: Vec<_> = study.front().iter().map(|seen| seen.trial.id).collect();
    let names = objectives.iter().map(|objective| objective.of.name());
    let heads: Vec<_> = ["trial", "architecture", "front", "standard_error"].into_iter().chain(names).collect();
    let rows = study.observations().map(|seen| {
        let error = seen.report.standard_error.map(exact).unwrap_or_default();
        let on = if best.contains(&seen.trial.id) { "1" } else { "0" };
        let mut row = vec![seen.trial.id.0.to_string(), seen.trial.architecture.letters(), on.into(), error];
        row.extend(objectives.iter().map(|objective| value(&seen, objective).map(exact).unwrap_or_default()));
        row
    });
    csv(&heads, rows)
}

/// An architecture per band of the second objective, by N_0 clustering.
fn bands(study: &Study, measure: &Measure) -> Vec<Band> {
    along_front(study, measure, BANDS, &NcClustering::n0()).unwrap_or_default()
}

/// The front as a table, and an architecture per band.
pub(super) fn tables(study: &Study) -> String {
    let Some(second) = study.goal().objectives().nth(1) else { return String::new() };
    let pooled = study.pooled();
    let objectives: Vec<_> = study.goal().objectives().collect();
    let mut best = pooled.front();
    let key = |seen: &Observation<'_>| value(seen, &second).unwrap_or(f64::NAN);
    best.sort_by(|a, b| key(a).total_cmp(&key(b)));
    if best.is_empty() {
        let nearest = study.nearest().map(|seen| format!("; the nearest is {}", seen.trial.architecture));
        let none = "No trial is within the bounds of the goal";
        return format!("<p>{none}{}.</p>\n", nearest.unwrap_or_default());
    }
    let row = |seen: &Observation<'_>| {
        let mut cells = vec![Cell::strip(&seen.trial.architecture), Cell::text(&seen.trial.architecture.to_string())];
        cells.extend(objectives.iter().enumerate().map(|(at, objective)| {
            let shown = value(seen, objective).unwrap_or(f64::NAN);
            let error = seen.report.standard_error.filter(|_| at == 0);
            let error = error.map(|error| format!(" ± {}", number(error, 4))).unwrap_or_default();
            Cell::number(shown, quantity(shown) + &error)
        }));
        cells
    };
    let heads: Vec<_> =
        ["layers", "architecture"].into_iter().chain(objectives.iter().map(|objective| objective.of.name())).collect();
    let rows: Vec<_> = best.iter().map(row).collect();
    let table = shell::table("front-table", &heads, &rows, SHOWN);
    let rows: Vec<_> = bands(&study.searched().pooled(), &second.of)
        .iter()
        .map(|band| {
            let range = format!("{} to {}", quantity(band.low), quantity(band.high));
            vec![
                Cell::number(band.low, range),
                Cell::number(band.observations as f64, band.observations.to_string()),
                Cell::strip(&band.architecture),
                Cell::text(&band.architecture.to_string()),
            ]
        })
        .collect();
    let heads = [second.of.name(), "sequences", "layers", "merged by N_0"];
    format!(
        "{table}<p class=\"soft\">An architecture for every band, merged from the sequences in it; the best of \
         them where that one has no place in the band.</p>\n{}",
        shell::table("bands", &heads, &rows, SHOWN)
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        primitive::Symbol,
        report::Page,
        seed::Seed,
        space::{Architecture, SearchSpace},
        study::{Event, FnCost, Goal, Report},
    };

    fn study(seen: &[(&str, f64, Origin)]) -> Study {
        let attention = |architecture: &Architecture| architecture.count(Symbol::ATTENTION) as f64;
        let goal = Goal::default().and(Objective::minimize(Measure::cost("cache"))).unwrap();
        let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 3).unwrap();
        let mut study = Study::new(space, goal).with_costs(Arc::new(FnCost::new("cache", "", attention))).unwrap();
        for &(text, accuracy, origin) in seen {
            let id = study.next_id();
            let architecture: Architecture = text.parse().unwrap();
            let report = Report { standard_error: Some(0.01), ..Report::score("accuracy", accuracy) };
            let report = study.priced(&architecture, report).unwrap();
            study.apply(Event::Proposed { id, architecture, seed: Seed(0), origin }).unwrap();
            study.apply(Event::Completed { id, report }).unwrap();
        }
        study
    }

    const SEEN: [(&str, f64, Origin); 5] = [
        ("AAA", 0.9, Origin::Searcher),
        ("AMM", 0.5, Origin::Manual),
        ("MMM", 0.2, Origin::Searcher),
        ("AAM", 0.4, Origin::Searcher),
        ("MAM", 0.45, Origin::Merged),
    ];

    #[test]
    fn the_page_shows_front_table_and_hypervolume() {
        let study = study(&SEEN);
        let figure = front(&study).unwrap().unwrap();
        assert!(figure.caption.starts_with("3 of 5"), "{}", figure.caption);
        assert!(
            figure.csv.contains("1,AMM,1,0.01,0.5,1\n") && figure.csv.contains("3,AAM,0,0.01,0.4,2\n"),
            "{}",
            figure.csv
        );
        assert_eq!(figure.svg.matches("<title>").count(), 5);
        let volume = hypervolume(&study).unwrap().unwrap();
        assert_eq!(volume.csv.lines().count(), 6);
        assert!(volume.caption.contains("allow"), "{}", volume.caption);
        let html = Page::new(&study).html().unwrap();
        for part in ["id=\"front\"", "id=\"front-table\"", "id=\"bands\"", "id=\"hypervolume\"", " ± 0.01"] {
            assert!(html.contains(part), "{part}");
        }
    }

    #[test]
    fn searches_that_have_just_begun_or_are_simple_have_pages() {
        for seen in [&SEEN[..0], &SEEN[..1], &SEEN[..2]] {
            assert!(Page::new(&study(seen)).html().is_ok());
        }
        let simple = crate::report::testing::study(&[Some(0.2), Some(0.9)]);
        assert!(front(&simple).unwrap().is_none() && hypervolume(&simple).unwrap().is_none());
        assert!(!Page::new(&simple).html().unwrap().contains("front"));
    }
}
