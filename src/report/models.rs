//! Models at full size, layer by layer.

use plotters::style::text_anchor::HPos;

use super::{
    candidates::legend,
    figure::{Figure, GREY, INK, PlotError, csv, draw, strip, write},
};
use crate::{model::ModelSpec, primitive::Primitives};

const NAME: &str = "models";
const LEFT: i32 = 130;
const WIDTH: f64 = 800.0;
const ROW: i32 = 46;

/// Models as strips from the first layer to the last: a layer is as wide as it has parameters, on one scale for all
/// models. Layers of unknown primitives have no width.
///
/// # Errors
/// [`PlotError`] when the drawing library refuses.
pub fn models(models: &[(String, &ModelSpec)], primitives: &Primitives) -> Result<Figure, PlotError> {
    let parameters = |spec: &ModelSpec, symbol| {
        primitives.get(symbol).map_or(0, |primitive| primitive.cost(&spec.dims, 1).parameters)
    };
    let body = |spec: &ModelSpec| spec.architecture.layers().iter().map(|&layer| parameters(spec, layer)).sum::<u64>();
    let largest = models.iter().map(|(_, spec)| body(spec)).max().unwrap_or(0).max(1) as f64;
    let rows = models.iter().flat_map(|(name, spec)| {
        spec.architecture.layers().iter().enumerate().map(move |(layer, &symbol)| {
            vec![name.clone(), (layer + 1).to_string(), symbol.to_string(), parameters(spec, symbol).to_string()]
        })
    });
    let csv = csv(&["model", "layer", "primitive", "parameters"], rows);
    let known: Vec<_> = primitives.iter().map(|primitive| (primitive.symbol(), primitive.id())).collect();
    let used = known.iter().filter(|(symbol, _)| models.iter().any(|(_, spec)| spec.architecture.count(*symbol) > 0));
    let size = ((LEFT as f64 + WIDTH) as u32 + 16, (ROW * models.len() as i32 + 40) as u32);
    let svg = draw(NAME, size, |area, hints| {
        for (row, (name, spec)) in models.iter().enumerate() {
            let top = 8 + ROW * row as i32;
            write(area, name, (LEFT - 12, top + 9), 14, INK, HPos::Right)?;
            let layers = format!("{} layers", spec.architecture.len());
            write(area, &layers, (LEFT - 12, top + 25), 12, GREY, HPos::Right)?;
            let scale = |symbol| (WIDTH * parameters(spec, symbol) as f64 / largest).round() as i32;
            strip(area, &spec.architecture, (LEFT, top), ROW - 14, scale)?;
            let right = LEFT + spec.architecture.layers().iter().map(|&layer| scale(layer)).sum::<i32>();
            let text = format!("{name}: {}, {:.0} M parameters in layers", spec.architecture, body(spec) as f64 / 1e6);
            hints.area([(LEFT, top), (right, top + ROW - 14)], &text);
        }
        let entries = used.map(|(symbol, id)| (*symbol, id.as_str()));
        legend(area, entries, (LEFT, ROW * models.len() as i32 + 22))
    })?;
    Ok(Figure {
        name: NAME,
        title: "The result at full size".into(),
        caption: "First layer on the left; the width of a layer is its number of parameters".into(),
        svg,
        csv,
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
        assert!(models(&[], &Primitives::standard()).is_ok());
    }
}
