//! The losses of a scaling study over model size and over compute.

use plotters::{
    chart::ChartBuilder,
    prelude::{BindKeyPoints, Circle, IntoLogRange, PathElement, SeriesLabelPosition},
    series::LineSeries,
    style::{Color, RGBColor, ShapeStyle, WHITE},
};

use super::{
    axis::{Axis, LABELS},
    figure::{self, Area, COLOURS, Drawn, Figure, PlotError, csv, label},
};
use crate::{
    isoflop::{Measurement, Scaling},
    text::exact,
};

const NAME: &str = "isoflop";
const SIZE: (u32, u32) = (1080, 460);

/// Draws two plots. Left: the loss of each training over the size of its model, with the parabola of each family and
/// budget; larger budgets are darker. Right: the best loss over the compute, with the power law of each family.
/// Families that could not be fitted show their trainings only, and trainings that diverged are left out.
///
/// # Errors
/// [`PlotError`] if there is nothing to draw or the drawing library returns an error.
pub fn isoflop(measurements: &[Measurement], scalings: &[Scaling]) -> Result<Figure, PlotError> {
    let good: Vec<_> = measurements.iter().filter(|measured| measured.diverged.is_none()).collect();
    if good.is_empty() {
        return Err(PlotError { name: NAME, reason: "no training came to its end".into() });
    }
    let row = |measured: &Measurement| {
        let Measurement { cell, parameters, flops, loss, accuracy, .. } = measured;
        let numbers = [*parameters as f64, measured.budget(), *flops, *loss, *accuracy].map(exact);
        let texts = [cell.family.clone(), cell.architecture.letters(), cell.seed.to_string()];
        let diverged = measured.diverged.clone().unwrap_or_default();
        texts.into_iter().chain(numbers).chain([diverged]).collect()
    };
    let names = ["family", "layers", "seed", "parameters", "budget", "flops", "loss", "accuracy", "diverged"];
    Ok(Figure {
        name: NAME,
        title: "Loss over size and over work".into(),
        caption: match scalings.is_empty() {
            true => "Each training; no family has enough sizes or budgets for a fit".into(),
            false => "Left: each training, with the parabola of its budget, darker for larger budgets; right: the loss of the \
                      best size for each budget, hollow if that size is outside the measured ones"
                .into(),
        },
        svg: figure::draw(NAME, SIZE, |area, _| draw(area, &good, scalings))?,
        csv: csv(&names, measurements.iter().map(row)),
    })
}

fn draw(root: &Area, measurements: &[&Measurement], scalings: &[Scaling]) -> Drawn {
    let (left, right) = root.split_horizontally(if scalings.is_empty() { SIZE.0 } else { SIZE.0 * 3 / 5 });
    let mut families: Vec<&str> = Vec::new();
    for measured in measurements {
        if !families.contains(&measured.cell.family.as_str()) {
            families.push(&measured.cell.family);
        }
    }
    let colour = |family: &str| {
        let at = families.iter().position(|known| *known == family).unwrap_or(0);
        COLOURS[at % COLOURS.len()]
    };
    sizes(&left, measurements, scalings, &families, &colour)?;
    if scalings.is_empty() {
        return Ok(());
    }
    work(&right, measurements, scalings, &colour)
}

/// The largest range of a logarithmic axis.
const LOG_ENDS: (f64, f64) = (1e-100, 1e100);

/// Returns the position on a logarithmic axis.
fn log_place(value: f64) -> f64 {
    value.clamp(LOG_ENDS.0, LOG_ENDS.1)
}

/// Returns the smallest and the largest value, with a margin on a logarithmic axis.
fn log_range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let values = values.map(|value| log_place(value).ln());
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    let margin = 0.05 + if high > low { 0.08 * (high - low) } else { 0.05 * high.abs().max(1e-6) };
    ((low - margin).exp(), (high + margin).exp())
}

/// Returns the budgets, in ascending order.
fn budgets(measurements: &[&Measurement]) -> Vec<f64> {
    let mut budgets: Vec<f64> = measurements.iter().map(|measured| measured.budget()).collect();
    budgets.sort_by(f64::total_cmp);
    budgets.dedup();
    budgets
}

/// Returns the round numbers between `low` and `high`: 1, 2 and 5 times powers of ten.
fn round_numbers(low: f64, high: f64) -> Vec<f64> {
    let powers = (low.log10().floor() as i32..=high.log10().ceil() as i32).map(|power| 10f64.powi(power));
    let numbers = powers.flat_map(|power| [power, 2.0 * power, 5.0 * power]);
    numbers.filter(|number| (low..=high).contains(number)).collect()
}

/// Draws the loss over the model size.
fn sizes(
    area: &Area,
    measurements: &[&Measurement],
    scalings: &[Scaling],
    families: &[&str],
    colour: &dyn Fn(&str) -> RGBColor,
) -> Drawn {
    let (low, high) = log_range(measurements.iter().map(|measured| measured.parameters as f64));
    let axis = Axis::new(measurements.iter().map(|measured| measured.loss));
    let budgets = budgets(measurements);
    let strength = |budget: f64| {
        let place = budgets.iter().position(|&known| known == budget).unwrap_or(0);
        0.35 + 0.65 * (place + 1) as f64 / budgets.len().max(1) as f64
    };
    let caption = format!("{} budgets, {:.1e} to {:.1e} FLOPs", budgets.len(), budgets[0], budgets[budgets.len() - 1]);
    let mut chart = ChartBuilder::on(area)
        .margin(14)
        .caption(caption, ("sans-serif", 16))
        .x_label_area_size(40)
        .y_label_area_size(58)
        .build_cartesian_2d((low..high).log_scale().with_key_points(round_numbers(low, high)), axis.range())?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_labels(9)
        .x_desc("parameters of the layers")
        .y_desc("validation loss, nats per token")
        .x_label_formatter(&|x| parameters(*x))
        .y_label_formatter(&|y| axis.label(*y, LABELS))
        .label_style(("sans-serif", 13))
        .draw()?;
    for scaling in scalings {
        for optimum in &scaling.optima {
            let [a, b, c] = optimum.parabola;
            let own = measurements.iter().filter(|m| m.cell.family == scaling.family && m.budget() == optimum.budget);
            let places = places((low, high), own.map(|m| m.parameters as f64));
            let curve = places.map(|x| (x.exp(), axis.at(a + b * x + c * x * x)));
            let style = colour(&scaling.family).mix(strength(optimum.budget)).stroke_width(2);
            chart.draw_series(LineSeries::new(curve, style))?;
        }
    }
    for family in families {
        let colour = colour(family);
        let own = measurements.iter().filter(|measured| measured.cell.family == *family);
        let dots = own.map(|measured| {
            let at = (log_place(measured.parameters as f64), axis.at(measured.loss));
            Circle::new(at, 3, colour.mix(strength(measured.budget())).filled())
        });
        chart.draw_series(dots)?.label(label(family)).legend(move |(x, y)| Circle::new((x + 8, y), 4, colour.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .label_font(("sans-serif", 13))
        .draw()?;
    Ok(())
}

/// Returns logarithmic axis positions of the numbers in the range.
fn places((low, high): (f64, f64), numbers: impl Iterator<Item = f64>) -> impl Iterator<Item = f64> {
    let (from, to) = numbers.fold((high, low), |(from, to), n| (from.min(n), to.max(n)));
    (0..=40).map(move |step| from.ln() + (to / from).ln() * f64::from(step) / 40.0)
}

/// Draws the best loss over the compute.
fn work(area: &Area, measurements: &[&Measurement], scalings: &[Scaling], colour: &dyn Fn(&str) -> RGBColor) -> Drawn {
    let (low, high) = log_range(measurements.iter().map(|measured| measured.budget()));
    let axis = Axis::new(scalings.iter().flat_map(|scaling| &scaling.optima).map(|optimum| optimum.loss));
    let mut chart = ChartBuilder::on(area)
        .margin(14)
        .caption("loss of the best size", ("sans-serif", 16))
        .x_label_area_size(40)
        .y_label_area_size(58)
        .build_cartesian_2d(
            (low..high).log_scale().with_key_points(budgets(measurements).into_iter().map(log_place).collect()),
            axis.range(),
        )?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_labels(6)
        .x_desc("training work, FLOPs")
        .y_desc("validation loss, nats per token")
        .x_label_formatter(&|x| format!("{x:.1e}"))
        .y_label_formatter(&|y| axis.label(*y, LABELS))
        .label_style(("sans-serif", 13))
        .draw()?;
    for scaling in scalings {
        let colour = colour(&scaling.family);
        let law = |budget: f64| scaling.loss.factor * budget.powf(scaling.loss.slope.value);
        let style = ShapeStyle::from(colour).stroke_width(2);
        let line = (0..=20).map(|step| low * (high / low).powf(f64::from(step) / 20.0)).map(|c| (c, axis.at(law(c))));
        chart
            .draw_series(LineSeries::new(line, style))?
            .label(label(&format!("{}: C^{:.3}", scaling.family, scaling.loss.slope.value)))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
        chart.draw_series(scaling.optima.iter().map(|optimum| {
            // Hollow if the best size is outside the measured ones.
            let style = if optimum.within { colour.filled() } else { colour.stroke_width(2) };
            Circle::new((log_place(optimum.budget), axis.at(optimum.loss)), 4, style)
        }))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerLeft)
        .background_style(WHITE.mix(0.8))
        .label_font(("sans-serif", 13))
        .draw()?;
    Ok(())
}

/// Formats a number of parameters, such as `350k` or `1.2M`.
fn parameters(count: f64) -> String {
    match count {
        small if small < 1e3 => format!("{small:.0}"),
        small if small < 1e6 => format!("{:.0}k", small / 1e3),
        large if large < 1e9 => format!("{:.1}M", large / 1e6),
        large => format!("{:.1}B", large / 1e9),
    }
}
