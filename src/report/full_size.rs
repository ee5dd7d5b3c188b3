//! The result at the target's size, beside what it is compared with.

use super::{
    Page, costs,
    figure::{Figure, PlotError},
    models::{self, models},
    references::published_hybrids,
    shell,
};
use crate::{
    cost::{Comparison, CostError, Workload},
    extrapolate::{Cycle, Extrapolator, size_notice},
    model::ModelSpec,
    primitive::{Primitives, Role, Symbol},
    space::{Architecture, baseline},
    text::{self, html as escape},
};

impl Page<'_> {
    /// The result and the baselines at the target's size.
    pub(super) fn full_size(&self) -> Vec<(String, ModelSpec)> {
        let Some((target, model, primitives)) = &self.result else { return Vec::new() };
        let blocks = target.baseline.len() / 2;
        let parameters =
            |symbol| primitives.get(symbol).map_or(0, |primitive| primitive.cost(&target.dims, 1).parameters);
        let stripe = (parameters(Symbol::ATTENTION) + 2 * parameters(Symbol::SWIGLU)).max(1);
        let stripes = (target.non_embedding_parameters as f64 / stripe as f64).round().clamp(1.0, 1000.0) as usize;
        let mut models = vec![
            (target.name.clone(), target.baseline_model()),
            ("result".into(), (*model).clone()),
            ("sandwich".into(), target.model(baseline::sandwich(blocks, blocks / 3))),
            ("striped 1:2".into(), target.model(baseline::striped(stripes, 2))),
        ];
        let mut mixers = self.study.space().symbols();
        mixers.retain(|&symbol| primitives.get(symbol).is_ok_and(|layer| layer.role() == Role::Sequence));
        let akin = |layers: &Architecture| {
            layers.layers().iter().any(|symbol| *symbol != Symbol::ATTENTION && mixers.contains(symbol))
        };
        let hybrids = published_hybrids().into_iter().filter(|(_, layers)| akin(layers));
        models.extend(hybrids.filter_map(|(name, layers)| {
            let grown = Cycle.extrapolate(&layers, target, primitives).ok()?;
            Some((format!("like {name}"), grown))
        }));
        models
    }

    pub(super) fn sized(&self) -> Result<Option<Figure>, PlotError> {
        let Some((_, _, primitives)) = &self.result else { return Ok(None) };
        let rows = self.full_size();
        models(&named(&rows), primitives).map(Some)
    }

    pub(super) fn at_full_size(&self) -> Result<String, PlotError> {
        let Some((target, model, primitives)) = &self.result else {
            let why = self.unsized_because.as_ref();
            return Ok(why.map_or_else(String::new, |why| format!("<p>Not drawn: {}.</p>\n", escape(why))));
        };
        let rows = self.full_size();
        let rows = named(&rows);
        let figure = shell::adaptive(&models(&rows, primitives)?, &models::narrow(&rows, primitives)?);
        let costs = match comparison(&rows, primitives) {
            Ok(costs) => costs::table(&costs),
            Err(error) => format!("<p>No costs: {}.</p>\n", escape(&text::causes(&error))),
        };
        let latency = self.latency.map_or_else(String::new, |latency| latency.section(&rows));
        let notice = size_notice(model, target, primitives);
        let notice = notice.map(|words| format!("<p><b>Note on the result: {}.</b></p>\n", escape(&words)));
        let name = escape(&target.name);
        let beside = if rows.len() > 4 { ", and published hybrids scaled to the same size" } else { "" };
        let words = format!(
            "<p class=\"soft\">The result scaled to the widths and size of {name}, beside {name} itself, two fixed \
             layouts of attention and MLPs (the Sandwich Transformer, and one attention layer before every two \
             MLPs){beside}.</p>\n"
        );
        Ok(notice.unwrap_or_default() + &words + &figure + &costs + &latency)
    }
}

/// The models with their names.
fn named(rows: &[(String, ModelSpec)]) -> Vec<(String, &ModelSpec)> {
    rows.iter().map(|(name, spec)| (name.clone(), spec)).collect()
}

/// Costs at 4096 tokens with a cache of 16-bit numbers.
pub(super) fn comparison(models: &[(String, &ModelSpec)], primitives: &Primitives) -> Result<Comparison, CostError> {
    Comparison::new(models.iter().map(|(name, spec)| (name.clone(), *spec)), primitives, Workload::bf16(4096))
}
