//! The score of each trial and the best so far.

use plotters::{
    chart::{ChartBuilder, ChartContext},
    coord::types::RangedCoordf64,
    prelude::{Cartesian2d, Circle, Cross, PathElement, Polygon, SVGBackend},
    series::LineSeries,
    style::{Color, RGBColor, WHITE},
};

use super::{
    axis::Axis,
    blocks::{FEW, bins, blocks},
    figure::{
        Area, BLUE, Drawn, Figure, GREEN, GREY, Hints, Key, Mark, ORANGE, PlotError, Room, csv, draw, label, legend,
        legend_height, steps, whole,
    },
};
use crate::{
    space::Architecture,
    study::{Observation, Raced, Study, Trial, TrialState},
    text::{exact, number},
};

const NAME: &str = "trials";

/// Draws the score of each trial over its number: a dot per completed trial, with a bar of one standard error if it is
/// known; a line for the best so far; and a grey cross at the lower edge per failed trial. Trials of parts of
/// sequences, whose scores cannot be compared, leave a gap. The trials of `result` have a ring. A study without trials
/// gives empty axes.
///
/// For more than 500 trials, blocks of consecutive trials are drawn: bands for the middle 50 % and 80 % of their
/// scores, and a line for the median. The numbers are still those of every trial.
///
/// # Errors
/// [`PlotError`] if the drawing library returns an error.
pub fn trials(study: &Study, result: Option<&Architecture>) -> Result<Figure, PlotError> {
    Ok(Figure {
        name: NAME,
        title: "Every trial".into(),
        caption: caption(study),
        svg: picture(study, result, Room::wide(380))?,
        csv: table(study),
    })
}

/// Draws the same for a phone.
pub(super) fn narrow(study: &Study, result: Option<&Architecture>) -> Result<String, PlotError> {
    picture(study, result, Room::narrow(320))
}

fn picture(study: &Study, result: Option<&Architecture>, room: Room) -> Result<String, PlotError> {
    let size = (room.width as u32, room.height as u32);
    draw(NAME, size, |area, hints| paint(study, result, room, area, hints))
}

/// Returns one line per trial of a whole sequence.
fn table(study: &Study) -> String {
    let row = |trial: &Trial| {
        let (state, report) = match &trial.state {
            TrialState::Pending => ("pending", None),
            TrialState::Completed(report) if report.raced.is_some() => ("raced", Some(report)),
            TrialState::Completed(report) => ("completed", Some(report)),
            TrialState::Failed(_) => ("failed", None),
            TrialState::Invalid { .. } => ("invalid", None),
        };
        let score = report.and_then(|report| report.scores.get(&study.goal().score));
        let number = |value: Option<f64>| value.map(exact).unwrap_or_default();
        let error = report.and_then(|report| report.standard_error);
        let seconds = report.map(|report| report.wall_seconds);
        let architecture = trial.architecture.letters();
        vec![trial.id.0.to_string(), architecture, state.into(), number(score.copied()), number(error), number(seconds)]
    };
    csv(&["trial", "architecture", "state", "score", "standard_error", "seconds"], study.full_length_trials().map(row))
}

/// The chart of a study.
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Space left of the plot, in pixels.
const LEFT: i32 = 72;

fn paint(study: &Study, result: Option<&Architecture>, room: Room, area: &Area, hints: &mut Hints) -> Drawn {
    let goal = study.goal();
    let scores: Vec<_> =
        study.observations().map(|seen| (goal.orient(seen.value), seen.report.standard_error)).collect();
    let many = scores.len() > FEW;
    let axis = match many {
        true => Axis::new(scores.iter().map(|&(score, _)| score)),
        false => Axis::with_bars(&scores),
    };
    let keys = keys(study, result, many);
    let within = room.width - LEFT - 12;
    let last = study.next_id().0.max(1) as f64;
    let labels = if room.is_narrow() { 7 } else { 12 };
    let mut chart = ChartBuilder::on(area)
        .margin(4)
        .margin_top(legend_height(&keys, within) + 8)
        .x_label_area_size(44)
        .y_label_area_size(LEFT - 4)
        .build_cartesian_2d(-0.5..last - 0.5, axis.range())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .x_desc("trial")
        .y_desc(label(&goal.score))
        .x_labels(room.labels().min(last as usize + 1))
        .y_labels(labels)
        .x_label_formatter(&|&x| whole(x))
        .y_label_formatter(&|y| axis.label(*y, labels))
        .label_style(("sans-serif", room.letters()))
        .draw()?;
    if many {
        paint_blocks(study, axis, &mut chart, hints)?;
    }
    chart.draw_series(LineSeries::new(steps(&best_so_far(study, axis)), ORANGE.stroke_width(2)))?;
    if !many {
        paint_trials(study, axis, &mut chart, hints)?;
    }
    let own = study.observations().filter(|seen| Some(&seen.trial.architecture) == result);
    let places = own.map(|seen| (seen.trial.id.0 as f64, axis.at(goal.orient(seen.value))));
    chart.draw_series(places.map(|at| Circle::new(at, 7, GREEN.stroke_width(2))))?;
    paint_failed(study, axis, &mut chart, hints)?;
    legend(area, &keys, (LEFT, 0), within)
}

/// Returns the legend.
fn keys(study: &Study, result: Option<&Architecture>, many: bool) -> Vec<Key<'static>> {
    let mut keys = vec![(Mark::Line, ORANGE, "best so far")];
    if many {
        keys.push((Mark::Line, BLUE, "median of a block of trials"));
        keys.push((Mark::Area, RGBColor(176, 204, 250), "middle 50 %"));
        keys.push((Mark::Area, RGBColor(229, 238, 254), "middle 80 %"));
    } else if study.observations().any(|seen| seen.report.standard_error.is_some()) {
        keys.push((Mark::Dot, BLUE, "trial, ± one standard error"));
    } else {
        keys.push((Mark::Dot, BLUE, "trial"));
    }
    if study.observations().any(|seen| Some(&seen.trial.architecture) == result) {
        keys.push((Mark::Ring, GREEN, "result"));
    }
    if study.full_length_trials().any(|trial| failure(trial).is_some()) {
        keys.push((Mark::Cross, GREY, "failed"));
    }
    keys
}

/// Returns the corners of the line of the best score so far.
fn best_so_far(study: &Study, axis: Axis) -> Vec<(f64, f64)> {
    let better = |best: &mut f64, seen: Observation| {
        *best = if seen.is_whole() { best.max(seen.value) } else { *best };
        Some((seen.trial.id.0 as f64, axis.at(study.goal().orient(*best))))
    };
    let mut line: Vec<_> =
        study.observations().scan(f64::NEG_INFINITY, better).filter(|(_, best)| best.is_finite()).collect();
    if line.len() > FEW {
        // Only the points where it changes, and its end.
        let last = line.last().copied();
        line.dedup_by_key(|&mut (_, best)| best);
        line.extend(last);
    }
    line
}

/// Draws one dot per trial, with its bar and its tooltip.
fn paint_trials(study: &Study, axis: Axis, chart: &mut Chart, hints: &mut Hints) -> Drawn {
    let goal = study.goal();
    let at = |seen: &Observation| (seen.trial.id.0 as f64, axis.at(goal.orient(seen.value)));
    let bar = |seen: Observation| {
        let (x, _) = at(&seen);
        let [from, to] = axis.bar(goal.orient(seen.value), seen.report.standard_error?);
        Some(PathElement::new([(x, from), (x, to)], BLUE))
    };
    chart.draw_series(study.observations().filter_map(bar))?;
    chart.draw_series(study.observations().map(|seen| Circle::new(at(&seen), 3, BLUE.filled())))?;
    for seen in study.observations() {
        let error = seen.report.standard_error.map(|error| format!(" ± {}", number(error, 4))).unwrap_or_default();
        let score = number(goal.orient(seen.value), 4);
        let raced = |Raced { done, planned }: Raced| format!(", {done} of {planned} repetitions");
        let raced = seen.report.raced.map(raced).unwrap_or_default();
        let text = format!("{}, {}: {score}{error}{raced}", seen.trial.id, seen.trial.architecture);
        hints.point(chart.backend_coord(&at(&seen)), &text);
    }
    Ok(())
}

/// Draws bands and the median for blocks of trials, with one tooltip per block.
fn paint_blocks(study: &Study, axis: Axis, chart: &mut Chart, hints: &mut Hints) -> Drawn {
    let values: Vec<_> = study.observations().map(|seen| (seen.trial.id.0, study.goal().orient(seen.value))).collect();
    let blocks = blocks(study.next_id().0, &values);
    let x = |trials: &std::ops::Range<u64>| (trials.start + trials.end - 1) as f64 / 2.0;
    let line = |quantile: usize| -> Vec<_> {
        blocks.iter().map(|block| (x(&block.trials), axis.at(block.quantiles[quantile]))).collect()
    };
    for (low, high, strength) in [(0, 4, 0.14), (1, 3, 0.28)] {
        let band: Vec<_> = line(low).into_iter().chain(line(high).into_iter().rev()).collect();
        chart.draw_series([Polygon::new(band, BLUE.mix(strength))])?;
    }
    chart.draw_series(LineSeries::new(line(2), BLUE.stroke_width(2)))?;
    for block in &blocks {
        let [low, _, middle, _, high] = block.quantiles;
        let from = block.trials.start;
        let to = block.trials.end - 1;
        let spread = format!("80 % from {} to {}", number(low, 4), number(high, 4));
        let text = format!("trials {from} to {to}: median of {} scores {}, {spread}", block.count, number(middle, 4));
        let at = |trial: u64, score: f64| chart.backend_coord(&(trial as f64, axis.at(score)));
        let (left, bottom) = at(from, low);
        let (right, top) = at(to, high);
        hints.area([(left, top), (right, bottom)], &text);
    }
    Ok(())
}

/// Draws crosses at the lower edge: one per failed trial or, for many, one per position where some failed.
fn paint_failed(study: &Study, axis: Axis, chart: &mut Chart, hints: &mut Hints) -> Drawn {
    const WIDTH: i32 = 10;
    let low = axis.range().start;
    let failed: Vec<_> =
        study.full_length_trials().filter_map(|trial| failure(trial).map(|reason| (trial, reason))).collect();
    if failed.len() <= FEW {
        let point = |trial: &Trial| (trial.id.0 as f64, low);
        chart.draw_series(failed.iter().map(|(trial, _)| Cross::new(point(trial), 4, GREY.stroke_width(2))))?;
        for (trial, reason) in &failed {
            let text = format!("{}, {}: {reason}", trial.id, trial.architecture);
            hints.point(chart.backend_coord(&point(trial)), &text);
        }
        return Ok(());
    }
    let places = failed.iter().map(|(trial, _)| chart.backend_coord(&(trial.id.0 as f64, low)).0);
    let bins = bins(places, WIDTH);
    let bottom = chart.backend_coord(&(0.0, low)).1;
    for (left, count) in bins {
        let at = (left + WIDTH / 2, bottom);
        chart.plotting_area().strip_coord_spec().draw(&Cross::new(relative(chart, at), 4, GREY.stroke_width(2)))?;
        hints.point(at, &format!("{count} trials failed"));
    }
    Ok(())
}

/// Converts pixels of the picture to pixels of the plot.
fn relative(chart: &Chart, (x, y): (i32, i32)) -> (i32, i32) {
    let (across, down) = chart.plotting_area().get_pixel_range();
    (x - across.start, y - down.start)
}

/// Returns why the trial failed, if it did.
fn failure(trial: &Trial) -> Option<&str> {
    match &trial.state {
        TrialState::Failed(failure) => Some(&failure.reason),
        TrialState::Pending | TrialState::Completed(_) | TrialState::Invalid { .. } => None,
    }
}

/// Returns the caption: the number of scores, the best, and what is off the scale.
fn caption(study: &Study) -> String {
    let what = format!("{} trials, in the order in which they began", study.trials().len());
    let best =
        study.best().map(|best| (best.trial.architecture.to_string(), number(study.goal().orient(best.value), 4)));
    let best = best.map(|(architecture, score)| format!("; best {}: {score}, {architecture}", study.goal().score));
    let best = best.unwrap_or_default();
    let scores = || study.observations().map(|seen| study.goal().orient(seen.value));
    let axis = Axis::new(scores());
    let outside = match scores().filter(|&score| axis.leaves_out(score)).count() {
        0 => String::new(),
        outside => format!("; {outside} beyond the scale, drawn at its edge"),
    };
    what + &best + &outside
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
        let figure = trials(&study(&[Some(0.2), None, Some(0.9), Some(0.5)]), None).unwrap();
        // One dot per completed trial, one in the legend, and one hint per trial.
        assert_eq!(figure.svg.matches("<circle").count(), 3 + 1 + 4);
        assert_eq!(figure.svg.matches("<title>").count(), 4);
        assert_eq!(figure.caption, "4 trials, in the order in which they began; best accuracy: 0.9000, 2A+1M+1A");
        let lines: Vec<_> = figure.csv.lines().collect();
        assert_eq!(lines.len(), 5);
        assert_eq!((lines[1], lines[2]), ("0,AAAA,completed,0.2,,0", "1,AAAM,failed,,,"));
    }

    #[test]
    fn standard_errors_are_bars() {
        let mut study = study(&[Some(0.2), Some(0.4)]);
        let without = trials(&study, None).unwrap().svg;
        let id = study.next_id();
        let architecture = study.space().nth(9).unwrap();
        study.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Searcher }).unwrap();
        let report = Report { standard_error: Some(0.1), ..Report::score("accuracy", 0.3) };
        study.apply(Event::Completed { id, report }).unwrap();
        // A dot and a bar.
        let count = |svg: &str, color: &str| svg.matches(color).count();
        let with = trials(&study, None).unwrap().svg;
        assert_eq!(count(&with, "#4285F4"), count(&without, "#4285F4") + 2);
        // A ring around the result and one in the legend.
        let ringed = trials(&study, Some(&study.space().nth(9).unwrap())).unwrap().svg;
        assert_eq!([count(&with, "#009E73"), count(&ringed, "#009E73")], [0, 2]);
    }

    #[test]
    fn studies_without_spread_can_be_drawn() {
        for scores in [&[][..], &[Some(0.5)], &[None], &[Some(0.0), Some(0.0)], &[Some(1e300), Some(-1e300)]] {
            assert!(trials(&study(scores), None).is_ok() && narrow(&study(scores), None).is_ok(), "{scores:?}");
        }
    }
}
