//! Figures of what the surrogate has learnt.

use plotters::{
    chart::ChartBuilder,
    prelude::{Circle, PathElement, Rectangle},
    style::{Color, WHITE},
};

use super::{
    axis::{Axis, LABELS},
    figure::{Area, BLUE, Drawn, Figure, GREY, Hints, PlotError, Room, csv, draw, label, whole},
};
use crate::{
    search::{Inspection, LeaveOneOut},
    statistics::{pearson, spearman},
    study::{Goal, Study},
    text::{exact, number},
};

/// The room of a figure beside another one, and on a phone.
const ROOMS: [Room; 2] = [Room::half(400), Room::narrow(320)];

/// Draws a picture for each of the [`ROOMS`].
fn pictures(name: &'static str, paint: impl Fn(Room, &Area, &mut Hints) -> Drawn) -> Result<[String; 2], PlotError> {
    let picture =
        |room: Room| draw(name, (room.width as u32, room.height as u32), |area, hints| paint(room, area, hints));
    Ok([picture(ROOMS[0])?, picture(ROOMS[1])?])
}

/// Draws each observation against its prediction from all others, with the standard deviation of the prediction. Points
/// on the diagonal were predicted well. The text is the picture for a phone.
///
/// # Errors
/// [`PlotError`] if the drawing library returns an error.
pub fn predictions(study: &Study, seen: &Inspection) -> Result<(Figure, String), PlotError> {
    const NAME: &str = "predictions";
    let goal = study.goal();
    let (observed, predicted): (Vec<_>, Vec<_>) = seen.predictions.iter().map(|p| (p.observed, p.mean)).unzip();
    let correlation = |value: Option<f64>| value.map_or("-".into(), |value| number(value, 2));
    let row = |p: &LeaveOneOut| {
        vec![p.trial.0.to_string(), exact(goal.orient(p.observed)), exact(goal.orient(p.mean)), exact(p.sd)]
    };
    let [svg, narrow] = pictures(NAME, |room, area, hints| paint_predictions(study, seen, room, area, hints))?;
    let figure = Figure {
        name: NAME,
        title: "How well it predicts".into(),
        caption: format!(
            "Each trial, predicted from all others: on the line, the prediction is right. Correlation {}, of the ranks {}; \
             estimated noise of one trial ± {}",
            correlation(pearson(&observed, &predicted)),
            correlation(spearman(&observed, &predicted)),
            number(seen.noise, 3)
        ),
        svg,
        csv: csv(&["trial", "observed", "predicted", "standard_deviation"], seen.predictions.iter().map(row)),
    };
    Ok((figure, narrow))
}

fn paint_predictions(study: &Study, seen: &Inspection, room: Room, area: &Area, hints: &mut Hints) -> Drawn {
    let goal: &Goal = study.goal();
    let point = |p: &LeaveOneOut| (goal.orient(p.mean), goal.orient(p.observed));
    let axis = Axis::new(seen.predictions.iter().map(point).flat_map(|(x, y)| [x, y]));
    let mut chart = ChartBuilder::on(area)
        .margin(4)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d(axis.range(), axis.range())?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc(label(&format!("predicted {}", goal.score)))
        .y_desc(label(&format!("measured {}", goal.score)))
        .x_labels(6)
        .y_labels(6)
        .x_label_formatter(&|x| axis.label(*x, 6))
        .y_label_formatter(&|y| axis.label(*y, 6))
        .label_style(("sans-serif", room.letters()))
        .draw()?;
    let low = axis.range().start;
    let high = axis.range().end;
    let place = |p: &LeaveOneOut| (axis.at(point(p).0), axis.at(point(p).1));
    chart.draw_series([PathElement::new([(low, low), (high, high)], GREY)])?;
    let bar = |p: &LeaveOneOut| {
        let [from, to] = axis.bar(point(p).0, p.sd);
        let y = axis.at(point(p).1);
        PathElement::new([(from, y), (to, y)], BLUE.mix(0.35))
    };
    chart.draw_series(seen.predictions.iter().map(bar))?;
    chart.draw_series(seen.predictions.iter().map(|p| Circle::new(place(p), 3, BLUE.filled())))?;
    for p in &seen.predictions {
        let (mean, observed) = point(p);
        let architecture = study.trial(p.trial).map(|trial| trial.architecture.to_string()).unwrap_or_default();
        let [observed, mean, sd] = [observed, mean, p.sd].map(|value| number(value, 4));
        let text = format!("{}, {architecture}: measured {observed}, predicted {mean} ± {sd}", p.trial);
        hints.point(chart.backend_coord(&place(p)), &text);
    }
    Ok(())
}

/// Draws the importance of each layer to the surrogate: one bar per layer, on the scale of the score. The text is the
/// picture for a phone.
///
/// # Errors
/// [`PlotError`] if the drawing library returns an error.
pub fn importance(seen: &Inspection) -> Result<(Figure, String), PlotError> {
    const NAME: &str = "importance";
    let row = |(layer, value): (usize, &f64)| vec![(layer + 1).to_string(), exact(*value)];
    let [svg, narrow] = pictures(NAME, |room, area, hints| paint_importance(seen, room, area, hints))?;
    let figure = Figure {
        name: NAME,
        title: "Which layers matter".into(),
        caption: "How much the predicted score changes, on average, when only this layer is changed".into(),
        svg,
        csv: csv(&["layer", "importance"], seen.layers.iter().enumerate().map(row)),
    };
    Ok((figure, narrow))
}

fn paint_importance(seen: &Inspection, room: Room, area: &Area, hints: &mut Hints) -> Drawn {
    let axis = Axis::upward(seen.layers.iter().copied());
    let layers = seen.layers.len().max(1) as f64;
    let mut chart = ChartBuilder::on(area)
        .margin(4)
        .margin_top(10)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d(0.5..layers + 0.5, axis.range())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .x_desc("layer")
        .y_desc("change of the score")
        .x_labels(seen.layers.len().clamp(2, room.width as usize / 28))
        .x_label_formatter(&|&x| whole(x))
        .y_label_formatter(&|y| axis.label(*y, LABELS))
        .label_style(("sans-serif", room.letters()))
        .draw()?;
    let bars = seen
        .layers
        .iter()
        .enumerate()
        .map(|(layer, &value)| [(layer as f64 + 0.6, 0.0), (layer as f64 + 1.4, axis.at(value))]);
    chart.draw_series(bars.clone().map(|corners| Rectangle::new(corners, BLUE.filled())))?;
    for ((layer, [from, to]), &value) in bars.enumerate().zip(&seen.layers) {
        let (left, bottom) = chart.backend_coord(&from);
        let (right, top) = chart.backend_coord(&to);
        hints.area(
            [(left, top.min(bottom - 6)), (right, bottom)],
            &format!("layer {}: {}", layer + 1, number(value, 4)),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{super::testing::study, *};
    use crate::{search::GpBo, seed::Seed};

    #[test]
    fn every_prediction_and_layer_is_drawn() {
        let study = study(&[Some(0.2), Some(0.25), Some(0.9), Some(0.5), Some(0.4)]);
        let seen = GpBo::default().inspect(&study, &mut Seed(0).rng("test", 0)).unwrap();
        let (figure, narrow) = predictions(&study, &seen).unwrap();
        assert_eq!(narrow.matches("<title>").count(), 5);
        assert_eq!((figure.csv.lines().count(), figure.svg.matches("<title>").count()), (6, 5));
        let (figure, narrow) = importance(&seen).unwrap();
        assert_eq!(narrow.matches("<title>").count(), 4);
        assert_eq!((figure.csv.lines().count(), figure.svg.matches("<title>").count()), (5, 4));
    }
}
