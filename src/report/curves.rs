//! The learning curves of the best and of the median trial.

use plotters::{
    chart::ChartBuilder,
    prelude::Circle,
    series::LineSeries,
    style::{Color, RGBColor, WHITE, text_anchor::HPos},
};

use super::{
    axis::Axis,
    figure::{
        Area, BLUE, Drawn, Figure, Hints, INK, Key, Mark, ORANGE, PlotError, Room, csv, draw, legend, whole, write,
    },
};
use crate::{
    study::{Observation, Report, Study},
    text::{exact, number},
};

const NAME: &str = "curves";
/// The maximum number of tasks that are drawn. The numbers have all.
const PANELS: usize = 6;
/// The maximum number of points of a line with a tooltip.
const HINTS: usize = 40;
/// The maximum number of points of a line.
const POINTS: usize = 300;
/// The lines of every panel.
const LINES: [(&str, RGBColor); 2] = [("best", ORANGE), ("median", BLUE)];

/// A value by step.
type Line = Vec<(usize, f64)>;

/// One task: the lines of the best and of the median trial.
struct Panel {
    name: String,
    lines: [Line; 2],
}

/// Draws the validation accuracy of the best and of the median trial during their training, one panel per task. For
/// evaluators without tasks, it draws the intermediate values that they reported. Returns `None` if no trial has
/// either, or if there is only one trial.
///
/// # Errors
/// [`PlotError`] if the drawing library returns an error.
pub(crate) fn curves(study: &Study) -> Result<Option<Figure>, PlotError> {
    let Some((chosen, panels)) = panels(study) else { return Ok(None) };
    let rows = panels.iter().flat_map(|panel| {
        panel.lines.iter().zip(LINES).zip(&chosen).flat_map(move |((line, (which, _)), seen)| {
            let trial = seen.trial.id.0.to_string();
            let row = move |&(step, value): &(usize, f64)| {
                vec![panel.name.clone(), which.into(), trial.clone(), step.to_string(), exact(value)]
            };
            line.iter().map(row)
        })
    });
    let csv = csv(&["task", "which", "trial", "step", "value"], rows);
    let [best, median] = chosen.map(|seen| format!("{}, {}", seen.trial.architecture, seen.trial.id));
    let what = if has_tasks(&chosen) { "Validation accuracy" } else { "Intermediate value (more is better)" };
    let rest = match panels.len() > PANELS {
        true => format!("; the first {PANELS} of {} tasks, the numbers have all", panels.len()),
        false => String::new(),
    };
    Ok(Some(Figure {
        name: NAME,
        title: "Learning curves".into(),
        caption: format!("{what} during training, of the best trial ({best}) and of the median trial ({median}){rest}"),
        svg: picture(&panels, Room::wide(300))?,
        csv,
    }))
}

/// Draws the same for a phone.
pub(super) fn narrow(study: &Study) -> Result<Option<String>, PlotError> {
    panels(study).map(|(_, panels)| picture(&panels, Room::narrow(250))).transpose()
}

/// Returns the best and the median trial. For an even number of trials, the median is the lower one of the two in the
/// middle.
fn chosen(study: &Study) -> Option<[Observation<'_>; 2]> {
    let best = study.best()?;
    let mut all: Vec<_> = study.observations().collect();
    all.sort_by(|a, b| a.value.total_cmp(&b.value).then(a.trial.id.cmp(&b.trial.id)));
    let median = all[(all.len() - 1) / 2];
    (median.trial.id != best.trial.id).then_some([best, median])
}

fn has_tasks(chosen: &[Observation<'_>; 2]) -> bool {
    chosen.iter().any(|seen| seen.report.tasks.iter().any(|task| !task.curve.is_empty()))
}

fn panels(study: &Study) -> Option<([Observation<'_>; 2], Vec<Panel>)> {
    let chosen = chosen(study)?;
    let finite = |line: &Line| line.iter().copied().filter(|(_, value)| value.is_finite()).collect::<Line>();
    if !has_tasks(&chosen) {
        let lines = chosen.map(|seen| finite(&seen.report.curve));
        let panel = Panel { name: study.goal().score.clone(), lines };
        return panel.lines.iter().any(|line| line.len() > 1).then_some((chosen, vec![panel]));
    }
    let mut names: Vec<&str> = chosen.iter().flat_map(|seen| &seen.report.tasks).map(|task| &*task.name).collect();
    let mut known = std::collections::BTreeSet::new();
    names.retain(|name| known.insert(*name));
    let of = |report: &Report, name: &str| {
        report.tasks.iter().find(|task| task.name == name).map(|task| finite(&task.curve)).unwrap_or_default()
    };
    let panel = |name: &str| Panel { name: name.into(), lines: chosen.map(|seen| of(seen.report, name)) };
    let panels: Vec<_> =
        names.into_iter().map(panel).filter(|panel| panel.lines.iter().any(|l| !l.is_empty())).collect();
    Some((chosen, panels))
}

/// Draws the panels side by side, or one below the other if there is little room. Each has the height of the room.
fn picture(panels: &[Panel], room: Room) -> Result<String, PlotError> {
    const LEGEND: i32 = 26;
    let panels = &panels[..panels.len().min(PANELS)];
    let across = if room.is_narrow() { 1 } else { panels.len().clamp(1, 3) };
    let down = panels.len().div_ceil(across).max(1);
    let size = (room.width as u32, (LEGEND + room.height * down as i32) as u32);
    draw(NAME, size, |area, hints| {
        let keys: [Key; 2] = LINES.map(|(name, color)| {
            let text = if name == "best" { "best trial" } else { "median trial" };
            (Mark::Line, color, text)
        });
        legend(area, &keys, (8, 0), room.width)?;
        let (_, below) = area.split_vertically(LEGEND);
        for (panel, area) in panels.iter().zip(below.split_evenly((down, across))) {
            paint(panel, &area, room, hints)?;
        }
        Ok(())
    })
}

/// Returns the first word of a task's name, before its settings.
fn short(name: &str) -> &str {
    name.split_whitespace().next().unwrap_or(name)
}

fn paint(panel: &Panel, area: &Area, room: Room, hints: &mut Hints) -> Drawn {
    let steps = panel.lines.iter().flatten().map(|&(step, _)| step).max().unwrap_or(1).max(1) as f64;
    let axis = Axis::new(panel.lines.iter().flatten().map(|&(_, value)| value));
    let width = area.dim_in_pixel().0 as i32;
    let labels = if room.is_narrow() { 5 } else { 7 };
    write(area, short(&panel.name), (width / 2 + 20, 14), 15, INK, HPos::Center)?;
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_top(26)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..1.02 * steps, axis.range())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .x_desc("training step")
        .x_labels((width / 85) as usize)
        .y_labels(labels)
        .x_label_formatter(&|&x| whole(x))
        .y_label_formatter(&|y| axis.label(*y, labels))
        .label_style(("sans-serif", room.letters()))
        .draw()?;
    // The best in front.
    for ((which, color), line) in LINES.iter().zip(&panel.lines).rev() {
        let thinned = |most: usize| line.iter().step_by(line.len().div_ceil(most).max(1)).chain(line.last());
        let place = |&(step, value): &(usize, f64)| (step as f64, axis.at(value));
        chart.draw_series(LineSeries::new(thinned(POINTS).map(place), color.stroke_width(2)))?;
        for point in thinned(HINTS) {
            let text = format!("{} of the {which} trial at step {}: {}", panel.name, point.0, number(point.1, 4));
            // Where the panel stands in the picture.
            hints.point(chart.backend_coord(&place(point)), &text);
        }
        if let [only] = line[..] {
            chart.draw_series([Circle::new(place(&only), 3, color.filled())])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        report::testing,
        seed::Seed,
        study::{Event, Origin, TaskReport},
    };

    fn study(reports: impl IntoIterator<Item = Report>) -> Study {
        let mut study = testing::study(&[]);
        for (index, report) in reports.into_iter().enumerate() {
            let id = study.next_id();
            let architecture = study.space().nth(index as u128).unwrap();
            study.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Searcher }).unwrap();
            study.apply(Event::Completed { id, report }).unwrap();
        }
        study
    }

    fn report(score: f64, tasks: &[(&str, &[(usize, f64)])]) -> Report {
        let task = |&(name, curve): &(&str, &[(usize, f64)])| TaskReport {
            name: name.into(),
            curve: curve.to_vec(),
            ..TaskReport::default()
        };
        Report { tasks: tasks.iter().map(task).collect(), ..Report::score("accuracy", score) }
    }

    #[test]
    fn the_best_and_the_median_trial_are_compared_task_by_task() {
        let curve: &[(usize, f64)] = &[(20, 0.25), (40, 0.5)];
        let found = study([
            report(0.5, &[("recall size=4", curve), ("copying", &[(20, 0.125)])]),
            report(0.1, &[]),
            report(0.9, &[("recall size=4", curve), ("late", &[(20, f64::NAN), (40, 0.75)])]),
        ]);
        let figure = curves(&found).unwrap().unwrap();
        assert_eq!(
            figure.csv,
            "task,which,trial,step,value\nrecall size=4,best,2,20,0.25\nrecall size=4,best,2,40,0.5\n\
             recall size=4,median,0,20,0.25\nrecall size=4,median,0,40,0.5\nlate,best,2,40,0.75\ncopying,median,0,20,0.125\n"
        );
        assert!(figure.caption.contains("best trial (2A+1M+1A, trial 2)"), "{}", figure.caption);
        assert!(narrow(&found).unwrap().unwrap().contains("copying"));
    }

    #[test]
    fn without_tasks_the_reported_values_are_drawn_and_without_any_nothing() {
        let told = |score: f64| Report { curve: vec![(1, 0.5), (2, score)], ..Report::score("accuracy", score) };
        let figure = curves(&study([told(0.25), told(0.75)])).unwrap().unwrap();
        assert!(figure.csv.ends_with("accuracy,median,0,2,0.25\n") && figure.caption.starts_with("Intermediate value"));
        assert!(curves(&study([told(0.25)])).unwrap().is_none());
        assert!(curves(&testing::study(&[Some(0.2), Some(0.9)])).unwrap().is_none());
    }
}
