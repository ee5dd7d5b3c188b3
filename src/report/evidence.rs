//! Scores compared with published results.

use plotters::{
    chart::ChartBuilder,
    prelude::{Circle, EmptyElement, PathElement, Text},
    style::{
        Color, IntoTextStyle, WHITE,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{
    axis::{Axis, LABELS},
    figure::{self, Area, BLUE, Drawn, Figure, GREY, Hints, PlotError, csv, label},
};
use crate::{
    evidence::{Evidence, Group},
    space::Architecture,
    statistics::{mean, standard_error},
};

const NAME: &str = "evidence";
/// Width and height of a panel, in pixels.
const PANEL: (u32, u32) = (540, 380);

/// One layout of a panel.
struct Point<'a> {
    group: &'a Group,
    name: &'a str,
    layout: Architecture,
    value: f64,
    score: f64,
    /// Standard error of the score over its seeds, or 0 for a single seed.
    error: f64,
    seeds: usize,
}

/// Draws one panel for each group of the evidence that has pairs and at least two layouts with scores: the score over
/// the published result, oriented so that the better is on the right. `scores` returns the scores of a layout, one per
/// seed.
///
/// # Errors
/// [`PlotError`] if there is nothing to draw or the drawing library returns an error.
pub fn evidence(evidence: &Evidence, scores: impl Fn(&Architecture) -> Vec<f64>) -> Result<Figure, PlotError> {
    let groups: Vec<&Group> = evidence.groups().iter().filter(|group| !group.pairs.is_empty()).collect();
    if groups.is_empty() {
        return Err(PlotError { name: NAME, reason: Evidence::NO_PAIRS.into() });
    }
    let panels: Vec<Vec<Point>> = groups.into_iter().map(|group| points(group, &scores)).collect();
    let panels: Vec<_> = panels.into_iter().filter(|panel| panel.len() > 1).collect();
    if panels.is_empty() {
        return Err(PlotError { name: NAME, reason: "no group has two layouts with a score".into() });
    }
    let columns = panels.len().min(2) as u32;
    let rows = (panels.len() as u32).div_ceil(columns);
    let row = |point: &Point| {
        let texts = [point.group.name.as_str(), point.name].map(str::to_owned);
        let numbers = [point.value, point.score, point.error].map(|number| number.to_string());
        texts.into_iter().chain([point.layout.letters()]).chain(numbers).chain([point.seeds.to_string()]).collect()
    };
    Ok(Figure {
        name: NAME,
        title: "Scores beside published results".into(),
        caption:
            "Each point is a layout that was pre-trained elsewhere; further right is better, higher is a better score; \
                  the bars are standard errors over seeds; a name without room is only in the CSV"
                .into(),
        svg: figure::draw(NAME, (columns * PANEL.0, rows * PANEL.1), |area, hints| {
            draw(area, hints, &panels, columns)
        })?,
        csv: csv(
            &["group", "name", "layers", "published", "score", "standard_error", "seeds"],
            panels.iter().flatten().map(row),
        ),
    })
}

fn points<'a>(group: &'a Group, scores: &impl Fn(&Architecture) -> Vec<f64>) -> Vec<Point<'a>> {
    let point = |layout: &'a crate::evidence::Layout| {
        let architecture = group.architecture(layout)?;
        let value = layout.value?;
        let scores: Vec<f64> = scores(&architecture).into_iter().filter(|score| score.is_finite()).collect();
        let error = standard_error(&scores).unwrap_or(0.0);
        let seeds = scores.len();
        let score = (seeds > 0).then(|| mean(&scores))?;
        Some(Point { group, name: &layout.name, layout: architecture, value, score, error, seeds })
    };
    group.layouts.iter().filter_map(point).collect()
}

fn draw(root: &Area, hints: &mut Hints, panels: &[Vec<Point>], columns: u32) -> Drawn {
    let rows = panels.len().div_ceil(columns as usize);
    let areas = root.split_evenly((rows, columns as usize));
    for (area, points) in areas.iter().zip(panels) {
        panel(area, hints, points)?;
    }
    Ok(())
}

fn panel(area: &Area, hints: &mut Hints, points: &[Point]) -> Drawn {
    let Some(Point { group, .. }) = points.first() else { return Ok(()) };
    // Oriented so that the better is on the right.
    let turn = |value: f64| if group.lower_is_better { -value } else { value };
    let across = Axis::new(points.iter().map(|point| turn(point.value)));
    let bars: Vec<_> = points.iter().map(|point| (point.score, Some(point.error))).collect();
    let up = Axis::with_bars(&bars);
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .caption(label(&group.name), ("sans-serif", 16))
        .x_label_area_size(38)
        .y_label_area_size(56)
        .build_cartesian_2d(across.range(), up.range())?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_labels(6)
        .x_desc(label(&group.metric))
        .y_desc("score")
        .x_label_formatter(&|x| across.label(turn(*x), 6))
        .y_label_formatter(&|y| up.label(*y, LABELS))
        .label_style(("sans-serif", 14))
        .draw()?;
    let at = |point: &Point| (across.at(turn(point.value)), up.at(point.score));
    let dot = |point: &Point| {
        let (x, y) = chart.backend_coord(&at(point));
        [(x - 3, y - 3), (x + 3, y + 3)]
    };
    let mut covered: Vec<[(i32, i32); 2]> = points.iter().map(dot).collect();
    for point in points {
        let at = at(point);
        let [low, high] = up.bar(point.score, point.error);
        chart.draw_series([PathElement::new([(at.0, low), (at.0, high)], GREY)])?;
        chart.draw_series([Circle::new(at, 3, BLUE.filled())])?;
        let place = chart.backend_coord(&at);
        // Names stay inside the panel: for points on the right, they are written to the left. One that would cover
        // another or a point is left out, and is in the hint of its point.
        let left = across.share(turn(point.value)) > 0.6;
        if let Some(down) = room_for(&label(point.name), place, left, &mut covered) {
            let (side, away) = if left { (HPos::Right, -6) } else { (HPos::Left, 6) };
            let style = ("sans-serif", 12).into_text_style(area).color(&GREY).pos(Pos::new(side, VPos::Center));
            chart.draw_series([EmptyElement::at(at) + Text::new(label(point.name), (away, down), style)])?;
        }
        let text = format!("{}: {}; published {}, score {:.4}", point.name, point.layout, point.value, point.score);
        hints.point(place, &text);
    }
    Ok(())
}

/// Returns how far below the point its name fits, and adds its corners to what is `covered`. `None` if it would cover
/// something both above and below the point.
fn room_for(name: &str, (x, y): (i32, i32), left: bool, covered: &mut Vec<[(i32, i32); 2]>) -> Option<i32> {
    let width = 6 * name.chars().count() as i32;
    let from = if left { x - 6 - width } else { x + 6 };
    let corners = |down: i32| [(from, y + down - 6), (from + width, y + down + 6)];
    let apart = |[one, two]: [(i32, i32); 2], [three, four]: [(i32, i32); 2]| {
        two.0 < three.0 || four.0 < one.0 || two.1 < three.1 || four.1 < one.1
    };
    let down = [-6, 6].into_iter().find(|&down| covered.iter().all(|&other| apart(corners(down), other)))?;
    covered.push(corners(down));
    Some(down)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::rules;

    #[test]
    fn every_group_with_scores_has_a_panel() {
        let published = Evidence::published();
        let figure = evidence(&published, |layout| vec![rules::attention_layers(layout), 1.0]).unwrap();
        for group in published.groups().iter().filter(|group| !group.pairs.is_empty()) {
            assert!(figure.svg.contains(&group.name), "{}", group.name);
        }
        assert!(figure.svg.contains("Llama 14: ") && figure.csv.starts_with("group,name,layers,published,score,"));
        let error = evidence(&published, |_| Vec::new()).unwrap_err().to_string();
        assert!(error.contains("two layouts with a score"), "{error}");
        let mut equal = published.groups()[0].clone();
        equal.pairs = Vec::new();
        equal.gap = None;
        let error = evidence(&Evidence::new(vec![equal]).unwrap(), |_| vec![1.0]).unwrap_err().to_string();
        assert!(error.contains("no group has a pair"), "{error}");
    }

    #[test]
    fn names_do_not_cover_each_other() {
        let mut covered = vec![[(130, 140), (136, 146)]];
        let mut down = |y| room_for("a name", (100, y), false, &mut covered);
        assert_eq!([50, 52, 54, 80, 149].map(&mut down), [Some(-6), Some(6), None, Some(-6), Some(6)]);
    }
}
