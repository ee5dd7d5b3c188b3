//! The score of every trial and the best so far.

use plotters::{
    chart::ChartBuilder,
    prelude::{Circle, Cross, IntoDrawingArea, PathElement, SVGBackend, SeriesLabelPosition},
    series::LineSeries,
    style::{Color, RGBColor, WHITE},
};
use thiserror::Error;

use crate::study::{Study, TrialState};

/// A picture that cannot be drawn.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the plot cannot be drawn: {0}")]
pub struct PlotError(String);

const SIZE: (u32, u32) = (760, 420);
const TRIAL: RGBColor = RGBColor(66, 133, 244);
const BEST: RGBColor = RGBColor(217, 95, 2);
const FAILED: RGBColor = RGBColor(150, 150, 150);

/// An SVG document: one dot per completed trial over its number, a line for the best so far, a grey cross on the lower
/// edge for every failed trial; a bar of one standard error to both sides where it is known. Trials of parts of sequences, whose scores do not compare, leave a gap. A study without
/// trials gives empty axes.
///
/// # Errors
/// [`PlotError`] when the drawing library refuses.
pub fn trials_svg(study: &Study) -> Result<String, PlotError> {
    let mut svg = String::new();
    draw(study, &mut svg).map_err(|error| PlotError(error.to_string()))?;
    Ok(svg)
}

fn draw(study: &Study, svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let goal = study.goal();
    let points: Vec<(f64, f64)> = study.observations().map(|o| (o.trial.id.0 as f64, goal.orient(o.value))).collect();
    let mut best: Vec<(f64, f64)> = Vec::with_capacity(points.len());
    for &(trial, score) in &points {
        let so_far = best.last().map_or(score, |&(_, best)| goal.orient(goal.orient(best).max(goal.orient(score))));
        best.push((trial, so_far));
    }
    let failed = study.candidates().filter(|trial| matches!(trial.state, TrialState::Failed(_)));
    let failed: Vec<_> = failed.map(|trial| trial.id.0 as f64).collect();
    let errors: Vec<_> = study
        .observations()
        .filter_map(|o| Some((o.trial.id.0 as f64, goal.orient(o.value), o.report.standard_error?)))
        .collect();
    let ends = errors.iter().flat_map(|&(_, score, error)| [score - error, score + error]);
    let (low, high) = range(points.iter().map(|&(_, score)| score).chain(ends));

    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let last = study.next_id().0.max(1) as f64;
    let mut chart = ChartBuilder::on(&root)
        .margin(16)
        .caption(caption(study), ("sans-serif", 18))
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
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.3}"))
        .label_style(("sans-serif", 13))
        .draw()?;
    chart
        .draw_series(LineSeries::new(steps(&best), BEST.stroke_width(2)))?
        .label("best so far")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], BEST.stroke_width(2)));
    let bars = errors.iter().map(|&(x, y, error)| PathElement::new([(x, y - error), (x, y + error)], TRIAL));
    chart.draw_series(bars)?;
    chart
        .draw_series(points.iter().map(|&point| Circle::new(point, 3, TRIAL.filled())))?
        .label("trial")
        .legend(|(x, y)| Circle::new((x + 8, y), 3, TRIAL.filled()));
    if !failed.is_empty() {
        chart
            .draw_series(failed.iter().map(|&trial| Cross::new((trial, low), 4, FAILED.stroke_width(2))))?
            .label("failed")
            .legend(|(x, y)| Cross::new((x + 8, y), 4, FAILED.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .label_font(("sans-serif", 13))
        .draw()?;
    root.present()?;
    Ok(())
}

fn caption(study: &Study) -> String {
    let what = format!("{} of {} trials", study.goal().score, study.trials().len());
    let best =
        study.best().map(|best| format!(", best {} {:.4}", best.trial.architecture, study.goal().orient(best.value)));
    what + &best.unwrap_or_default()
}

/// A little more than the range of the scores, never empty.
fn range(scores: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = scores.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), s| (low.min(s), high.max(s)));
    if low > high {
        return (0.0, 1.0);
    }
    let margin = if high > low { 0.06 * (high - low) } else { 0.05 * high.abs().max(1.0) };
    (low - margin, high + margin)
}

/// The corners of a line that keeps each value until the next.
fn steps(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let corners = points.windows(2).flat_map(|pair| [pair[0], (pair[1].0, pair[0].1)]);
    corners.chain(points.last().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        primitive::Symbol,
        seed::Seed,
        space::SearchSpace,
        study::{Event, Failure, FailureKind, Goal, Origin, Report},
    };

    fn study(scores: &[Option<f64>]) -> Study {
        let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 4).unwrap();
        let mut study = Study::new(space, Goal::default());
        for (index, score) in scores.iter().enumerate() {
            let (id, architecture) = (study.next_id(), study.space().nth(index as u128).unwrap());
            study.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Searcher }).unwrap();
            let failure = Failure { kind: FailureKind::Infeasible, reason: String::new() };
            let outcome = score.map_or(Event::Failed { id, failure }, |score| Event::Completed {
                id,
                report: Report::score("accuracy", score),
            });
            study.apply(outcome).unwrap();
        }
        study
    }

    #[test]
    fn every_trial_is_in_the_picture() {
        let svg = trials_svg(&study(&[Some(0.2), None, Some(0.9), Some(0.5)])).unwrap();
        // One dot per completed trial and one in the legend.
        assert_eq!(svg.matches("<circle").count(), 3 + 1);
        assert!(
            svg.starts_with("<svg")
                && svg.contains("best so far")
                && svg.contains("accuracy of 4 trials, best 2A+1M+1A 0.9000")
        );
    }

    #[test]
    fn standard_errors_are_bars() {
        let mut study = study(&[Some(0.2), Some(0.4)]);
        let without = trials_svg(&study).unwrap();
        let (id, architecture) = (study.next_id(), study.space().nth(9).unwrap());
        study.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Searcher }).unwrap();
        let report = Report { standard_error: Some(0.1), ..Report::score("accuracy", 0.3) };
        study.apply(Event::Completed { id, report }).unwrap();
        let count = |svg: &str| svg.matches("#4285F4").count() - svg.matches("<circle").count();
        assert_eq!(count(&trials_svg(&study).unwrap()), count(&without) + 1);
    }

    #[test]
    fn studies_without_spread_can_be_drawn() {
        for scores in [&[][..], &[Some(0.5)], &[None], &[Some(0.0), Some(0.0)], &[Some(1e300), Some(-1e300)]] {
            assert!(trials_svg(&study(scores)).is_ok(), "{scores:?}");
        }
    }
}
