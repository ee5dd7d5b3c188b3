//! The score of every trial and the best so far.

use plotters::{
    chart::ChartBuilder,
    prelude::{Circle, Cross, PathElement},
    series::LineSeries,
    style::{Color, WHITE, text_anchor::HPos},
};

use super::figure::{
    Area, BLUE, Drawn, Figure, GREY, Hints, INK, ORANGE, PlotError, csv, draw, range, steps, whole, write,
};
use crate::study::{Observation, Study, Trial, TrialState};

const NAME: &str = "trials";

/// Every trial by its number: a dot per completed one with a bar of one standard error to both sides where it is known, a
/// line for the best so far, a grey cross on the lower edge per failed one. Trials of parts of sequences, whose scores do
/// not compare, leave a gap. A study without trials gives empty axes.
///
/// # Errors
/// [`PlotError`] when the drawing library refuses.
pub fn trials(study: &Study) -> Result<Figure, PlotError> {
    Ok(Figure {
        name: NAME,
        title: "Every trial and the best so far".into(),
        caption: caption(study),
        svg: draw(NAME, (930, 380), |area, hints| paint(study, area, hints))?,
        csv: table(study),
    })
}

/// One line per trial of a whole sequence.
fn table(study: &Study) -> String {
    let row = |trial: &Trial| {
        let (state, report) = match &trial.state {
            TrialState::Pending => ("pending", None),
            TrialState::Completed(report) => ("completed", Some(report)),
            TrialState::Failed(_) => ("failed", None),
            TrialState::Invalid { .. } => ("invalid", None),
        };
        let score = report.and_then(|report| report.scores.get(&study.goal().score));
        let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
        let error = report.and_then(|report| report.standard_error);
        let seconds = report.map(|report| report.wall_seconds);
        let architecture = trial.architecture.letters();
        vec![trial.id.0.to_string(), architecture, state.into(), number(score.copied()), number(error), number(seconds)]
    };
    csv(&["trial", "architecture", "state", "score", "standard_error", "seconds"], study.candidates().map(row))
}

fn paint(study: &Study, area: &Area, hints: &mut Hints) -> Drawn {
    let goal = study.goal();
    let at = |o: &Observation| (o.trial.id.0 as f64, goal.orient(o.value));
    let points: Vec<_> = study.observations().map(|o| at(&o)).collect();
    let mut best: Vec<(f64, f64)> = Vec::with_capacity(points.len());
    for &(trial, score) in &points {
        let so_far = best.last().map_or(score, |&(_, best)| goal.orient(goal.orient(best).max(goal.orient(score))));
        best.push((trial, so_far));
    }
    let bars: Vec<_> = study.observations().filter_map(|o| Some((at(&o), o.report.standard_error?))).collect();
    let ends = bars.iter().flat_map(|&((_, score), error)| [score - error, score + error]);
    let (low, high) = range(points.iter().map(|&(_, score)| score).chain(ends));

    let last = study.next_id().0.max(1) as f64;
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .margin_top(36)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d(-0.5..last - 0.5, low..high)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .x_desc("trial")
        .y_desc(goal.score.as_str())
        .x_labels(12)
        .x_label_formatter(&|&x| whole(x))
        .y_label_formatter(&|y| format!("{y:.3}"))
        .label_style(("sans-serif", 13))
        .draw()?;
    chart.draw_series(LineSeries::new(steps(&best), ORANGE.stroke_width(2)))?;
    chart.draw_series(bars.iter().map(|&((x, y), error)| PathElement::new([(x, y - error), (x, y + error)], BLUE)))?;
    chart.draw_series(points.iter().map(|&point| Circle::new(point, 3, BLUE.filled())))?;
    let failed: Vec<_> = study
        .candidates()
        .filter_map(|trial| match &trial.state {
            TrialState::Failed(failure) => {
                Some(((trial.id.0 as f64, low), format!("{}, {}: {}", trial.id, trial.architecture, failure.reason)))
            }
            _ => None,
        })
        .collect();
    chart.draw_series(failed.iter().map(|&(point, _)| Cross::new(point, 4, GREY.stroke_width(2))))?;
    legend(area, !failed.is_empty())?;
    for seen in study.observations() {
        let error = seen.report.standard_error.map(|error| format!(" ± {error:.4}")).unwrap_or_default();
        let (_, score) = at(&seen);
        let text = format!("{}, {}: {score:.4}{error}", seen.trial.id, seen.trial.architecture);
        hints.point(chart.backend_coord(&at(&seen)), &text);
    }
    for (point, text) in failed {
        hints.point(chart.backend_coord(&point), &text);
    }
    Ok(())
}

/// What the marks mean, above the plot, where no trial is.
fn legend(area: &Area, failed: bool) -> Drawn {
    const Y: i32 = 18;
    area.draw(&PathElement::new([(76, Y), (92, Y)], ORANGE.stroke_width(2)))?;
    write(area, "best so far", (98, Y), 13, INK, HPos::Left)?;
    area.draw(&Circle::new((192, Y), 3, BLUE.filled()))?;
    write(area, "trial", (202, Y), 13, INK, HPos::Left)?;
    if failed {
        area.draw(&Cross::new((256, Y), 4, GREY.stroke_width(2)))?;
        write(area, "failed", (266, Y), 13, INK, HPos::Left)?;
    }
    Ok(())
}

fn caption(study: &Study) -> String {
    let what = format!("{} of {} trials", study.goal().score, study.trials().len());
    let best =
        study.best().map(|best| format!(", best {} {:.4}", best.trial.architecture, study.goal().orient(best.value)));
    what + &best.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{super::testing::study, *};
    use crate::{
        seed::Seed,
        study::{Event, Origin, Report},
    };

    #[test]
    fn every_trial_is_in_the_picture_and_in_the_table() {
        let figure = trials(&study(&[Some(0.2), None, Some(0.9), Some(0.5)])).unwrap();
        // One dot per completed trial, one in the legend, and one hint per trial.
        assert_eq!(figure.svg.matches("<circle").count(), 3 + 1 + 4);
        assert_eq!(figure.svg.matches("<title>").count(), 4);
        assert_eq!(figure.caption, "accuracy of 4 trials, best 2A+1M+1A 0.9000");
        let lines: Vec<_> = figure.csv.lines().collect();
        assert_eq!(lines.len(), 5);
        assert_eq!((lines[1], lines[2]), ("0,AAAA,completed,0.2,,0", "1,AAAM,failed,,,"));
    }

    #[test]
    fn standard_errors_are_bars() {
        let mut study = study(&[Some(0.2), Some(0.4)]);
        let without = trials(&study).unwrap().svg;
        let (id, architecture) = (study.next_id(), study.space().nth(9).unwrap());
        study.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Searcher }).unwrap();
        let report = Report { standard_error: Some(0.1), ..Report::score("accuracy", 0.3) };
        study.apply(Event::Completed { id, report }).unwrap();
        // A dot and a bar.
        let count = |svg: &str| svg.matches("#4285F4").count();
        assert_eq!(count(&trials(&study).unwrap().svg), count(&without) + 2);
    }

    #[test]
    fn studies_without_spread_can_be_drawn() {
        for scores in [&[][..], &[Some(0.5)], &[None], &[Some(0.0), Some(0.0)], &[Some(1e300), Some(-1e300)]] {
            assert!(trials(&study(scores)).is_ok(), "{scores:?}");
        }
    }
}
