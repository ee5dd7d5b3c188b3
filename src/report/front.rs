//! The front of a search with several objectives.

use plotters::{
    chart::{ChartBuilder, ChartContext},
    coord::types::RangedCoordf64,
    prelude::{Cartesian2d, Circle, Cross, PathElement, Rectangle, SVGBackend, TriangleMarker},
    series::LineSeries,
    style::{Color, RGBColor, WHITE},
};

use super::{
    axis::{Axis, LABELS},
    figure::{
        Area, BLUE, Drawn, Figure, GREEN, GREY, Hints, INK, Key, Mark, ORANGE, PlotError, Room, csv, draw, label,
        legend, legend_height, steps,
    },
    references::{Names, references},
    shell::{self, Cell, SHOWN},
    units,
};
use crate::{
    aggregate::{BANDS, Band, NcClustering, along_front},
    space::Architecture,
    study::{Measure, Objective, Observation, Origin, Study},
    text::{exact, number, quantity},
};

const NAME: &str = "front";
/// Margins around the plots and left of them, in pixels.
const MARGIN: i32 = 12;
const LEFT: i32 = MARGIN + 60;
/// The colour of a band.
const SHADE: RGBColor = RGBColor(242, 244, 248);

/// Draws the goal's score of each trial against the second objective, with bars of one standard error. The front is a
/// line, the bands of the second objective are shaded, aggregated architectures are rings, and the result has a green
/// ring. Baselines and published hybrids are lines at their known costs, with a cross if they were evaluated. Trials
/// that were added by hand, such as published layouts, are triangles. Returns `None` for a goal with one objective.
///
/// # Errors
/// [`PlotError`] if the drawing library returns an error.
pub(crate) fn front(shown: &Shown) -> Result<Option<Figure>, PlotError> {
    Ok(fronts(shown)?.map(|(figure, _)| figure))
}

/// Draws the front in both widths, because its bands take time.
pub(super) fn fronts(shown: &Shown) -> Result<Option<(Figure, String)>, PlotError> {
    let Some(content) = Content::new(shown) else { return Ok(None) };
    let study = shown.study;
    let pooled = &content.pooled;
    let count = pooled.front().len();
    let others = study.goal().objectives().count() - 2;
    let rest = if others > 0 { format!("; {others} more objectives decide about the front") } else { String::new() };
    let figure = Figure {
        name: NAME,
        title: "The front".into(),
        caption: format!(
            "{count} of {} sequences are on the front: no other one is better in one objective without being worse in \
             another{rest}",
            pooled.observations().count()
        ),
        svg: picture(&content, Room::wide(380))?,
        csv: numbers(pooled),
    };
    Ok(Some((figure, picture(&content, Room::narrow(360))?)))
}

/// A search with several objectives, as a page shows it.
#[derive(Clone, Debug)]
pub(crate) struct Shown<'a> {
    pub(super) study: &'a Study,
    /// The result of the search.
    pub(super) result: Option<Architecture>,
    /// Whether costs are those of a target, which have units.
    pub(super) target: bool,
}

impl Shown<'_> {
    /// The value of a measure with its unit, if that is known.
    fn in_units(&self, measure: &Measure, value: f64) -> String {
        match measure {
            Measure::Cost(name) if self.target => units::target_cost(name, value),
            _ => quantity(value),
        }
    }

    /// All objectives of an observation: `accuracy 0.7908, cache 58.2 MiB`.
    fn values(&self, seen: &Observation<'_>) -> String {
        let value = |objective: Objective| {
            let value = value(seen, &objective).map_or("?".into(), |value| self.in_units(&objective.of, value));
            format!("{} {value}", objective.of.name())
        };
        self.study.goal().objectives().map(value).collect::<Vec<_>>().join(", ")
    }

    fn is_result(&self, seen: &Observation<'_>) -> bool {
        Some(&seen.trial.architecture) == self.result.as_ref()
    }

    /// Says whether the result is on the front. `None` if it was not evaluated, is not within the bounds, or there is
    /// no result.
    pub(super) fn standing(&self) -> Option<String> {
        let pooled = self.study.pooled();
        let goal = self.study.goal();
        let own = pooled.observations().find(|seen| self.is_result(seen))?;
        let own = Some(own).filter(|own| own.report.excess(goal) <= 0.0)?;
        let front = pooled.front();
        if front.iter().any(|seen| seen.trial.id == own.trial.id) {
            return Some(format!("The result is on the front, with {}.", self.values(&own)));
        }
        let values = own.report.values(goal).ok()?;
        let no_worse = |seen: &&Observation<'_>| {
            seen.report.values(goal).is_ok_and(|other| other.iter().zip(&values).all(|(other, own)| other >= own))
        };
        let better = front.iter().find(no_worse)?;
        Some(format!(
            "The result is not on the front: it has {}, and {} has {}. A small difference in {} may be chance.",
            self.values(&own),
            better.trial.architecture,
            self.values(better),
            goal.score
        ))
    }
}

/// The content of the picture of a front.
struct Content<'a> {
    shown: &'a Shown<'a>,
    /// The study, with one observation per architecture.
    pooled: Study,
    second: Objective,
    bands: Vec<Band>,
}

impl<'a> Content<'a> {
    /// Returns the content for a search, or `None` for a goal with one objective.
    fn new(shown: &'a Shown<'a>) -> Option<Self> {
        let second = shown.study.goal().objectives().nth(1)?;
        let bands = bands(shown.study, &second.of);
        Some(Self { shown, pooled: shown.study.pooled(), second, bands })
    }

    /// The unit of the second objective for values up to `largest`: its size, and the title of the axis.
    fn unit(&self, largest: f64) -> (f64, String) {
        let name = self.second.of.name();
        let (size, unit) = match &self.second.of {
            Measure::Cost(_) if self.shown.target => units::unit_of_target_cost(name, largest),
            _ => (1.0, ""),
        };
        (size, if unit.is_empty() { name.into() } else { format!("{name}, {unit}") })
    }
}

fn picture(content: &Content, room: Room) -> Result<String, PlotError> {
    draw(NAME, (room.width as u32, room.height as u32), |area, hints| paint(content, room, area, hints))
}

/// Returns the value of an objective of an observation.
fn value(seen: &Observation<'_>, objective: &Objective) -> Option<f64> {
    seen.report.measured(&objective.of).ok()
}

fn first(study: &Study) -> Objective {
    Objective { of: Measure::Score(study.goal().score.clone()), direction: study.goal().direction }
}

fn paint(content: &Content, room: Room, area: &Area, hints: &mut Hints) -> Drawn {
    let Content { shown, pooled: study, second, bands } = content;
    let first = first(study);
    let known = references(study, second);
    let xs = study.observations().filter_map(|seen| value(&seen, second));
    let xs: Vec<_> = xs.chain(known.iter().map(|reference| reference.cost)).collect();
    let (unit, title) = content.unit(xs.iter().copied().fold(0.0, f64::max));
    let ys: Vec<_> =
        study.observations().filter_map(|seen| Some((value(&seen, &first)?, seen.report.standard_error))).collect();
    let across = Axis::new(xs.into_iter().map(|x| x / unit));
    let up = Axis::with_bars(&ys);
    let within = room.width - LEFT - MARGIN;
    let names = Names::new(&known, room.width, |cost| LEFT + (across.share(cost / unit) * f64::from(within)) as i32);
    let keys = keys(study, !known.is_empty(), study.observations().any(|seen| shown.is_result(&seen)));
    let top = legend_height(&keys, within) + 8;
    let mut chart = ChartBuilder::on(area)
        .margin(MARGIN)
        .margin_top(top + names.height())
        .x_label_area_size(40)
        .y_label_area_size(LEFT - MARGIN)
        .build_cartesian_2d(across.range(), up.range())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .x_desc(label(&title))
        .y_desc(label(first.of.name()))
        .x_label_formatter(&|x| across.label(*x, room.labels()))
        .x_labels(room.labels())
        .y_label_formatter(&|y| up.label(*y, LABELS))
        .label_style(("sans-serif", room.letters()))
        .draw()?;
    for band in bands.iter().step_by(2) {
        let [left, right] = [band.low, band.high].map(|edge| across.at(edge / unit));
        chart.draw_series([Rectangle::new([(left, up.range().start), (right, up.range().end)], SHADE.filled())])?;
    }
    names.draw(area, top, chart.backend_coord(&(across.range().start, up.range().start)).1)?;
    for (cost, score) in known.iter().filter_map(|reference| Some((reference.cost, reference.score?))) {
        chart.draw_series([Cross::new((across.at(cost / unit), up.at(score)), 8, INK.stroke_width(1))])?;
    }
    let at = |seen: &Observation<'_>| Some((across.at(value(seen, second)? / unit), up.at(value(seen, &first)?)));
    paint_trials(content, &up, at, &mut chart, hints)?;
    legend(area, &keys, (LEFT, 0), within)
}

/// The chart of a front.
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Draws the trials at their places, `at`, and the front.
fn paint_trials(
    content: &Content,
    up: &Axis,
    at: impl Fn(&Observation<'_>) -> Option<(f64, f64)>,
    chart: &mut Chart,
    hints: &mut Hints,
) -> Drawn {
    let Content { shown, pooled: study, .. } = content;
    let first = first(study);
    let mut best: Vec<_> = study.front().iter().filter_map(&at).collect();
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
            Origin::Aggregated => drop(chart.draw_series([Circle::new(place, 6, color.stroke_width(2))])?),
        }
        if shown.is_result(&seen) {
            chart.draw_series([Circle::new(place, 8, GREEN.stroke_width(2))])?;
        }
        let pixel = chart.backend_coord(&place);
        hints.point(pixel, &format!("{}, {}: {}", seen.trial.id, seen.trial.architecture, shown.values(&seen)));
    }
    Ok(())
}

/// Returns the legend.
fn keys(study: &Study, references: bool, result: bool) -> Vec<Key<'static>> {
    let has = |origin: Origin| study.observations().any(|seen| seen.trial.origin == origin);
    let mut keys = vec![(Mark::Line, ORANGE, "front"), (Mark::Dot, BLUE, "trial")];
    keys.extend(has(Origin::Manual).then_some((Mark::Triangle, BLUE, "added by hand")));
    keys.extend(has(Origin::Aggregated).then_some((Mark::Ring, BLUE, "aggregated")));
    keys.extend(result.then_some((Mark::Ring, GREEN, "result")));
    keys.push((Mark::Area, SHADE, "every other band below"));
    if references {
        keys.push((Mark::Line, GREY, "dashed: cost of a known layout"));
        keys.push((Mark::Cross, INK, "its score"));
    }
    keys
}

/// Returns one line per sequence: objectives, standard error, and whether it is on the front.
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

/// Returns one architecture per band of the second objective, by N_0 clustering of the searched trials.
fn bands(study: &Study, measure: &Measure) -> Vec<Band> {
    along_front(&study.searched().pooled(), measure, BANDS, &NcClustering::n0()).unwrap_or_default()
}

/// Returns the front as a table, and one architecture per band.
pub(super) fn tables(shown: &Shown) -> String {
    let study = shown.study;
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
        let mut cells = vec![Cell::layers(&seen.trial.architecture)];
        cells.extend(objectives.iter().enumerate().map(|(at, objective)| {
            let own = value(seen, objective).unwrap_or(f64::NAN);
            let error = seen.report.standard_error.filter(|_| at == 0);
            let error = error.map(|error| format!(" ±\u{a0}{}", number(error, 4))).unwrap_or_default();
            Cell::number(own, shown.in_units(&objective.of, own) + &error)
        }));
        cells
    };
    let heads: Vec<_> =
        ["architecture"].into_iter().chain(objectives.iter().map(|objective| objective.of.name())).collect();
    let rows: Vec<_> = best.iter().map(row).collect();
    let table = shell::table("front-table", &heads, &rows, SHOWN);
    let rows: Vec<_> = bands(study, &second.of)
        .iter()
        .map(|band| {
            let [low, high] = [band.low, band.high].map(|end| shown.in_units(&second.of, end));
            let range = units::range(low, high);
            vec![
                Cell::number(band.low, range),
                Cell::number(band.observations as f64, band.observations.to_string()),
                Cell::layers(&band.architecture),
            ]
        })
        .collect();
    let heads = [second.of.name(), "sequences", "aggregated by N_0"];
    format!(
        "{table}<p class=\"soft\">One architecture per band, aggregated from the sequences in it, or the best of them if \
         the aggregated one lies outside the band.</p>\n{}",
        shell::table("bands", &heads, &rows, SHOWN)
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        primitive::Symbol,
        report::{Page, hypervolume},
        seed::Seed,
        space::SearchSpace,
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
        ("MAM", 0.45, Origin::Aggregated),
    ];

    #[test]
    fn the_page_shows_front_table_and_hypervolume() {
        let study = study(&SEEN);
        let shown = Shown { study: &study, result: Some("AAM".parse().unwrap()), target: true };
        let figure = front(&shown).unwrap().unwrap();
        assert!(figure.svg.contains("cache, bytes") && figure.svg.contains("cache 2\u{a0}bytes"), "{}", figure.svg);
        assert_eq!(figure.svg.matches("#009E73").count(), 2);
        let standing = shown.standing().unwrap().replace('\u{a0}', " ");
        assert_eq!(
            standing,
            "The result is not on the front: it has accuracy 0.4000, cache 2 bytes, and 1A+2M has accuracy 0.5000, \
             cache 1 bytes. A small difference in accuracy may be chance."
        );
        let best = Shown { result: Some("AAA".parse().unwrap()), ..shown.clone() };
        assert!(best.standing().unwrap().starts_with("The result is on the front, with accuracy 0.9000"));
        assert!(figure.caption.starts_with("3 of 5"), "{}", figure.caption);
        assert!(
            figure.csv.contains("1,AMM,1,0.01,0.5,1\n") && figure.csv.contains("3,AAM,0,0.01,0.4,2\n"),
            "{}",
            figure.csv
        );
        assert_eq!(figure.svg.matches("<title>").count(), 5);
        let volume = hypervolume::hypervolume(&study).unwrap().unwrap();
        assert_eq!(volume.csv.lines().count(), 6);
        assert!(volume.caption.contains("the final value is "), "{}", volume.caption);
        let html = Page::new(&study).html().unwrap();
        for part in ["id=\"front\"", "id=\"front-table\"", "id=\"bands\"", "id=\"hypervolume\"", " ±\u{a0}0.01"] {
            assert!(html.contains(part), "{part}");
        }
    }

    #[test]
    fn aggregated_architectures_make_no_bands() {
        let edges = |seen: &[(&str, f64, Origin)]| {
            let study = study(seen);
            let shown = Shown { study: &study, result: None, target: false };
            let bands = Content::new(&shown).unwrap().bands;
            bands.iter().map(|band| (band.low, band.high, band.observations)).collect::<Vec<_>>()
        };
        let searched = [("AAA", 0.9, Origin::Searcher), ("AAM", 0.4, Origin::Searcher)];
        let aggregated = ("MMM", 0.5, Origin::Aggregated);
        assert_eq!(edges(&searched), [(2.0, 2.0, 1), (3.0, 3.0, 1)]);
        assert_eq!(edges(&[searched[0], searched[1], aggregated]), edges(&searched));
    }

    #[test]
    fn searches_that_have_just_begun_or_are_simple_have_pages() {
        for seen in [&SEEN[..0], &SEEN[..1], &SEEN[..2]] {
            assert!(Page::new(&study(seen)).html().is_ok());
        }
        let simple = crate::report::testing::study(&[Some(0.2), Some(0.9)]);
        let shown = Shown { study: &simple, result: None, target: false };
        assert!(front(&shown).unwrap().is_none() && hypervolume::hypervolume(&simple).unwrap().is_none());
        assert!(!Page::new(&simple).html().unwrap().contains("front"));
    }
}
