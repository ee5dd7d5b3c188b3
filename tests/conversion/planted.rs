//! A parent whose useless layers are known.

use burn::module::{Module, ModuleMapper, Param};

use super::*;

/// Sets the output projections of these layers to zero.
struct ZeroOutputs<'a> {
    path: Vec<String>,
    layers: &'a [usize],
}

impl ModuleMapper for ZeroOutputs<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.join(".");
        let output = |layer: &usize| path == format!("backbone.layers.{layer}.mixer.output.weight");
        if self.layers.iter().any(output) { param.map(|weight| weight.zeros_like()) } else { param }
    }

    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
}

/// A parent of eight attentions, of which those in `idle` add nothing.
fn with_idle_layers(idle: &[usize]) -> Parent {
    let spec = spec("AMAMAMAMAMAMAMAM");
    let model = HybridLm::new(&spec, &primitives(), Seed(5), &Device::flex()).unwrap();
    let mut zero = ZeroOutputs { path: Vec::new(), layers: idle };
    Parent::new(spec, model.map(&mut zero)).unwrap()
}

#[test]
fn layers_that_do_nothing_are_found_within_30_trials() {
    let idle = [2, 4, 10, 14];
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let parent = with_idle_layers(&idle);
    let alternatives = Alternatives::of(&parent.spec().architecture, Symbol::ATTENTION, symbols("N"));
    let library = Arc::new(library(&parent, &alternatives, folder).unwrap());
    let evaluator =
        Arc::new(OneSeed(Cached::new(Distillation::new(library.clone(), &alternatives, held_out(folder, 2)).unwrap())));
    let space = alternatives.space([Constraint::Count { symbol: Symbol::ATTENTION, min: 0, max: 4 }]).unwrap();
    // Not told where to look.
    let pipeline = Pipeline::new(&primitives(), space.clone(), evaluator.clone()).goal(Goal::minimize(KL)).trials(30);
    let found = search(&library, pipeline.workers(2).seed(1)).unwrap();
    let gone: Vec<usize> = (0..16).filter(|&at| found.aggregated.layers()[at] == NoLayer::SYMBOL).collect();
    assert_eq!(gone, idle);
    assert_eq!(found.study.best().unwrap().trial.report().unwrap().scores[KL], 0.0);
    assert_eq!(logits(&found.weights.unwrap(), 12), logits(parent.model(), 12));
    assert_eq!(found.target.architecture, found.aggregated);
    // Told by the damages, it is the first trial.
    let damages = single_damages(&evaluator, &alternatives, 2).unwrap();
    assert_eq!(starts(&alternatives, &damages, &space, 3)[0], found.aggregated);
    assert_eq!(greedy(&evaluator, &alternatives, &damages, &space, 2).unwrap().unwrap(), found.aggregated);
}

#[test]
fn gates_close_where_layers_do_nothing() {
    let idle = [0, 6];
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let parent = with_idle_layers(&idle);
    let alternatives = Alternatives::of(&parent.spec().architecture, Symbol::ATTENTION, symbols("N"));
    let library = library(&parent, &alternatives, folder).unwrap();
    let settings = Gates { steps: 25, learning_rate: 0.2, price: 1e-4 };
    assert!(gates(&library, &alternatives, NoLayer::SYMBOL, &[], &settings).is_err());
    let found = gates(&library, &alternatives, NoLayer::SYMBOL, &held_out(folder, 4), &settings).unwrap();
    assert_eq!(found.len(), 8);
    let gate = |layer: usize| found[&(layer, NoLayer::SYMBOL)];
    let open: Vec<f64> = (0..8).map(|at| 2 * at).filter(|layer| !idle.contains(layer)).map(gate).collect();
    let least = open.iter().copied().fold(1.0, f64::min);
    assert!(idle.iter().all(|&layer| gate(layer) < 0.5 && gate(layer) < least), "{found:?}");
    assert!(least > 0.5, "{found:?}");
}
