//! Models at full size, layer by layer.

use plotters::style::text_anchor::HPos;

use super::{
    figure::{Figure, GREY, INK, Key, Mark, PlotError, Room, color, csv, draw, legend, legend_height, strip, write},
    units,
};
use crate::{
    model::ModelSpec,
    primitive::{Primitives, Symbol},
    space::Architecture,
};

const NAME: &str = "models";

/// The layout of a picture of strips, in pixels.
struct Layout {
    room: Room,
    /// The left end of the strips.
    left: i32,
    /// The distance between strips.
    row: i32,
    /// The distance of a strip from the top of its row.
    top: i32,
}

/// Names beside the strips.
const WIDE: Layout = Layout { room: Room::wide(0), left: 150, row: 46, top: 6 };
/// Names above the strips.
const NARROW: Layout = Layout { room: Room::narrow(0), left: 0, row: 62, top: 22 };
/// Height of a strip.
const HEIGHT: i32 = 32;

/// Draws models as strips, from the first layer to the last. The width of a layer is its number of parameters, on one
/// scale for all models. Layers of unknown primitives have no width.
///
/// # Errors
/// [`PlotError`] if the drawing library returns an error.
pub fn models(models: &[(String, &ModelSpec)], primitives: &Primitives) -> Result<Figure, PlotError> {
    let rows = models.iter().flat_map(|(name, spec)| {
        spec.architecture.layers().iter().enumerate().map(move |(layer, &symbol)| {
            let parameters = parameters(primitives, spec, symbol).to_string();
            vec![name.clone(), (layer + 1).to_string(), symbol.to_string(), parameters]
        })
    });
    Ok(Figure {
        name: NAME,
        title: "Layer by layer".into(),
        caption: "From the first layer on the left to the last; the wider a layer, the more parameters it has".into(),
        csv: csv(&["model", "layer", "primitive", "parameters"], rows),
        svg: picture(models, primitives, &WIDE)?,
    })
}

/// Draws the same for a phone.
pub(super) fn narrow(models: &[(String, &ModelSpec)], primitives: &Primitives) -> Result<String, PlotError> {
    picture(models, primitives, &NARROW)
}

/// Returns the number of parameters of one layer of this kind.
fn parameters(primitives: &Primitives, spec: &ModelSpec, symbol: Symbol) -> u64 {
    primitives.get(symbol).map_or(0, |primitive| primitive.cost(&spec.dims, 1).parameters)
}

fn picture(models: &[(String, &ModelSpec)], primitives: &Primitives, layout: &Layout) -> Result<String, PlotError> {
    let &Layout { room, left, row: height, top } = layout;
    let own = |spec: &ModelSpec, layer| parameters(primitives, spec, layer);
    let body = |spec: &ModelSpec| spec.architecture.layers().iter().map(|&layer| own(spec, layer)).sum::<u64>();
    let largest = models.iter().map(|(_, spec)| body(spec)).max().unwrap_or(0).max(1) as f64;
    let known: Vec<_> = primitives.iter().map(|primitive| (primitive.symbol(), primitive.id())).collect();
    let used = known.iter().filter(|(symbol, _)| models.iter().any(|(_, spec)| spec.architecture.count(*symbol) > 0));
    let keys: Vec<Key> = used.map(|(symbol, id)| (Mark::Area, color(*symbol), id.as_str())).collect();
    let end = height * models.len() as i32 + 10;
    let across = room.width - left - 4;
    let size = (room.width as u32, (end + legend_height(&keys, across)) as u32);
    draw(NAME, size, |area, hints| {
        for (row, (name, spec)) in models.iter().enumerate() {
            let above = height * row as i32;
            let layers = format!("{} layers", spec.architecture.len());
            if room.is_narrow() {
                write(area, &format!("{name}, {layers}"), (0, above + 10), 14, INK, HPos::Left)?;
            } else {
                write(area, name, (left - 12, above + top + 9), 14, INK, HPos::Right)?;
                write(area, &layers, (left - 12, above + top + 25), 14, GREY, HPos::Right)?;
            }
            // Ends of layers are rounded rather than widths, so that the whole is as wide as it has parameters.
            let mut before = 0;
            let mut right = 0;
            let place = |parameters: u64| (f64::from(across) * parameters as f64 / largest).round() as i32;
            for &symbol in spec.architecture.layers() {
                let from = place(before);
                before += own(spec, symbol);
                right = place(before);
                let layer = Architecture::new([symbol]);
                strip(area, &layer, (left + from, above + top), HEIGHT, |_| right - from)?;
            }
            let text = format!("{name}: {}, {} parameters in layers", spec.architecture, units::count(body(spec)));
            hints.area([(left, above + top), (left + right, above + top + HEIGHT)], &text);
        }
        legend(area, &keys, (left, end), across)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extrapolate::Target;

    #[test]
    fn every_layer_is_in_the_table() {
        let target = Target::llama_1b();
        let llama = target.baseline_model();
        let odd = target.model("AZ".parse().unwrap());
        let figure = models(&[("llama".into(), &llama), ("odd".into(), &odd)], &Primitives::standard()).unwrap();
        assert_eq!(figure.csv.lines().count(), 1 + 32 + 2);
        assert!(figure.csv.contains("llama,1,A,10485760\nllama,2,M,50331648\n") && figure.csv.ends_with("odd,2,Z,0\n"));
        assert_eq!(figure.svg.matches("<title>").count(), 2);
        assert!(models(&[], &Primitives::standard()).is_ok() && narrow(&[], &Primitives::standard()).is_ok());
    }
}
