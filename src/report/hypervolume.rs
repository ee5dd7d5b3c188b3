//! The hypervolume of the front after each trial.

use plotters::{
    chart::ChartBuilder,
    series::LineSeries,
    style::{Color, WHITE},
};

use super::{
    axis::{Axis, LABELS},
    figure::{Area, Drawn, Figure, ORANGE, PlotError, Room, csv, draw, steps, whole},
};
use crate::{
    study::{Study, Volume},
    text::{exact, number},
};

const NAME: &str = "hypervolume";
/// Margins around the plot and the room for labels left of it, in pixels.
const MARGIN: u32 = 12;
const LEFT: u32 = 60;

/// Draws the hypervolume after each trial, above the [reference](Study::reference) of all. Returns `None` for a goal
/// with one objective.
///
/// # Errors
/// [`PlotError`] if the drawing library returns an error.
pub(crate) fn hypervolume(study: &Study) -> Result<Option<Figure>, PlotError> {
    Ok(hypervolumes(study)?.map(|(figure, _)| figure))
}

/// Draws the hypervolume after each trial, in both widths, because the hypervolumes take time.
pub(super) fn hypervolumes(study: &Study) -> Result<Option<(Figure, String)>, PlotError> {
    if !study.goal().has_several() {
        return Ok(None);
    }
    let reference = study.reference().unwrap_or_default();
    let seen: Vec<_> = study.observations().map(|seen| seen.trial.id).collect();
    // For very many trials, only every n-th: each point is a hypervolume of its own.
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
            "; within the standard errors of the scores, the final value is {} to {} %",
            number(100.0 * low / best, 1),
            number(100.0 * high / best, 1)
        )
    });
    let shares: Vec<_> = points.iter().map(|&(trial, value)| (trial as f64, 100.0 * value / best)).collect();
    let last = study.next_id().0.max(1) as f64;
    let picture = |room: Room| {
        let size = (room.width as u32, room.height as u32);
        draw(NAME, size, |area, _| paint(&shares, last, room, area))
    };
    let figure = Figure {
        name: NAME,
        title: "Hypervolume".into(),
        caption: format!(
            "How much of the space of objectives is worse than the front, in percent of the final value{}",
            interval.unwrap_or_default()
        ),
        svg: picture(Room::wide(240))?,
        csv: csv(&["trial", "hypervolume"], points.iter().map(|&(trial, value)| vec![trial.to_string(), exact(value)])),
    };
    Ok(Some((figure, picture(Room::narrow(240))?)))
}

/// Draws percentages of the last hypervolume, by trial.
fn paint(shares: &[(f64, f64)], last: f64, room: Room, area: &Area) -> Drawn {
    let axis = Axis::upward([100.0]);
    let line: Vec<_> = shares.iter().map(|&(trial, share)| (trial, axis.at(share))).collect();
    let mut chart = ChartBuilder::on(area)
        .margin(MARGIN)
        .x_label_area_size(40)
        .y_label_area_size(LEFT)
        .build_cartesian_2d(-0.5..last - 0.5, axis.range())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .x_desc("trial")
        .y_desc("% of the final value")
        .x_labels(room.labels().min(last as usize + 1))
        .x_label_formatter(&|&x| whole(x))
        .y_label_formatter(&|y| axis.label(*y, LABELS))
        .label_style(("sans-serif", room.letters()))
        .draw()?;
    chart.draw_series(LineSeries::new(steps(&line), ORANGE.stroke_width(2)))?;
    Ok(())
}
