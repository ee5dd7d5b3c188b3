//! Layer by layer: outputs and gradients against the processor's kernels.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::{Device, Tensor},
};
use composer_nas::{
    device,
    dims::{Dims, InitScheme, Routing},
    layer::{Block, WeightInit},
    primitive::{CustomAttention, GatedDeltaNet, LatentAttention, Mamba2, Moe, Primitive, Primitives, SlidingWindow},
    seed::Seed,
    testkit,
    train::{AdamWConfig, IGNORE, TokenBatch, clip_global_norm, cross_entropy},
};

use crate::{Other, assert_near, host, others, tensor, turn};

/// Of outputs and gradients, relative to the largest.
const TOLERANCE: f32 = 1e-4;
/// The same of layers that pass a state from token to token.
const RECURRENT: f32 = 5e-4;

/// The gradient of every parameter, in order.
struct Slopes<'a> {
    gradients: &'a GradientsParams,
    found: Vec<Vec<f32>>,
}

impl ModuleVisitor for Slopes<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let shape = param.val().dims();
        let zeros = || vec![0.0; shape.iter().product()];
        self.found.push(self.gradients.get::<D>(param.id).map(host).unwrap_or_else(zeros));
    }
}

fn slopes(module: &impl Module, gradients: &GradientsParams) -> Vec<Vec<f32>> {
    let mut slopes = Slopes { gradients, found: Vec::new() };
    module.visit(&mut slopes);
    slopes.found
}

fn layer(primitive: &dyn Primitive, dims: &Dims, device: &Device) -> Block {
    let mut init = WeightInit::new(InitScheme::FanIn, Seed(1).rng("test", 0));
    primitive.build(dims, &mut init, device).unwrap()
}

/// The output, and the gradients of the input and of every parameter.
fn computed(primitive: &dyn Primitive, dims: &Dims, [batch, seq]: [usize; 2], device: &Device) -> Vec<Vec<f32>> {
    let layer = layer(primitive, dims, device);
    let shape = [batch, seq, dims.d_model];
    let x = tensor(shape, 0.0, device).require_grad();
    let (y, aux_loss) = layer.forward_with_aux_loss(x.clone());
    let loss = (y.clone() * tensor(shape, 0.5, device)).sum();
    let loss = aux_loss.map_or(loss.clone(), |aux_loss| loss + aux_loss);
    let gradients = loss.backward();
    let slope = host(x.grad(&gradients).unwrap());
    let gradients = GradientsParams::from_grads(gradients, &layer);
    [vec![host(y.inner()), slope], slopes(&layer, &gradients)].concat()
}

fn compare(primitive: &dyn Primitive, dims: &Dims, sizes: [usize; 2], others: &[Other]) {
    let start = Instant::now();
    let processor = computed(primitive, dims, sizes, &Device::flex().autodiff());
    let recurrent = ["mamba2", "gated_delta_net"].iter().any(|name| primitive.id().as_str().starts_with(name));
    for Other { name, device } in others {
        for (at, (got, want)) in computed(primitive, dims, sizes, device).iter().zip(&processor).enumerate() {
            let part = ["output".into(), "input".into()].into_iter().nth(at).unwrap_or(format!("parameter {}", at - 2));
            let what = format!("{} on {name}, width {}, {sizes:?}: {part}", primitive.id(), dims.d_model);
            assert_near(got, want, if recurrent { RECURRENT } else { TOLERANCE }, &what);
        }
    }
    // Shown by `--nocapture`: shaders may take minutes.
    println!("{} at width {} and {sizes:?}: {:.1?}", primitive.id(), dims.d_model, start.elapsed());
}

/// The layers that are compared in every run. Those with a state from token to token compile most shaders.
const CHOSEN: [&str; 3] = ["A", "M", "E"];

/// One width and one odd length; more in the test of the whole.
#[test]
fn chosen_layers_agree_with_the_processor() {
    let _turn = turn();
    let others = others();
    let dims = Dims::new(24, 40, 3).unwrap();
    let primitives = Primitives::standard();
    for letter in CHOSEN {
        compare(primitives.get(letter.parse().unwrap()).unwrap(), &dims, [4, 11], &others);
    }
}

#[test]
#[ignore = "compiles many shaders"]
fn whole_layers_agree_with_the_processor_at_every_size() {
    let _turn = turn();
    let others = others();
    let variants: [Box<dyn Primitive>; 7] = [
        Box::new(SlidingWindow::new(4).unwrap()),
        Box::new(LatentAttention::default()),
        Box::new(CustomAttention::default()),
        Box::new(Mamba2 { groups: 2, chunk: 8, ..Mamba2::default() }),
        Box::new(GatedDeltaNet { value_heads: 1, ..GatedDeltaNet::default() }),
        Box::new(Moe { routing: Routing::Chosen, shared_gate: true, ..Moe::default() }),
        Box::new(Moe { routing: Routing::Sigmoid(250), shared: 0, ..Moe::default() }),
    ];
    let odd = Dims::new(24, 40, 3).unwrap();
    let narrow = Dims::new(8, 12, 2).unwrap();
    let grouped = Dims { kv_heads: 2, attention_bias: true, ..Dims::new(40, 72, 4).unwrap() };
    let wide = Dims::new(96, 200, 6).unwrap();
    let mut wrong = Vec::new();
    for primitive in Primitives::standard().iter().chain(variants.iter().map(|variant| &**variant)) {
        for (dims, sizes) in
            [(&odd, [4, 11]), (&narrow, [1, 1]), (&narrow, [3, 7]), (&grouped, [2, 33]), (&wide, [5, 65])]
        {
            // A layer that fails does not hide the others.
            let compared = catch_unwind(AssertUnwindSafe(|| compare(primitive, dims, sizes, &others)));
            wrong.extend(compared.err().map(|_| format!("{} at width {}, {sizes:?}", primitive.id(), dims.d_model)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// A mixture of experts that is too large to apply every expert to every token.
#[test]
#[ignore = "takes a second of a fast device"]
fn whole_mixtures_that_are_large_read_their_choices_and_agree() {
    let _turn = turn();
    let dims = Dims::new(512, 2048, 8).unwrap();
    let moe = Moe { experts: 64, top_k: 2, shared: 0, expert_width: Some(512), ..Moe::default() };
    compare(&moe, &dims, [2, 50], &others());
}

#[test]
fn the_laws_of_some_layers_hold_on_every_device() {
    let _turn = turn();
    for found in device::available() {
        for letter in ["A", "M"] {
            laws(letter, &found);
        }
    }
}

#[test]
#[ignore = "compiles many shaders"]
fn whole_laws_of_every_layer_hold_on_every_device() {
    let _turn = turn();
    for found in device::available() {
        for primitive in Primitives::standard().iter() {
            laws(&primitive.symbol().to_string(), &found);
        }
    }
}

fn laws(letter: &str, found: &device::NamedDevice) {
    let primitives = Primitives::standard();
    let primitive = primitives.get(letter.parse().unwrap()).unwrap();
    let checked = testkit::primitive::check(primitive, &found.device);
    assert!(checked.is_ok(), "{} on {found}: {checked:?}", primitive.id());
}

#[test]
fn the_cross_entropy_and_its_gradient_agree_with_the_processor() {
    let _turn = turn();
    for (batch, seq, vocab) in [(1, 1, 3), (3, 7, 16), (2, 11, 37)] {
        let target = |at: usize| if at % 3 == 2 { IGNORE } else { (5 * at % vocab) as i32 };
        let targets = (0..batch * seq).map(target).collect();
        let examples = TokenBatch { batch, seq, inputs: vec![0; batch * seq], targets };
        let run = |device: &Device| {
            let logits = tensor([batch, seq, vocab], 0.0, device).mul_scalar(5.0).detach().require_grad();
            let loss = cross_entropy(logits.clone(), &examples);
            let gradients = loss.backward();
            [host(loss.inner()), host(logits.grad(&gradients).unwrap())]
        };
        let processor = run(&Device::flex().autodiff());
        for Other { name, device } in others() {
            for (got, want) in run(&device).iter().zip(&processor) {
                assert_near(got, want, TOLERANCE, &format!("{batch} x {seq} x {vocab} on {name}"));
            }
        }
    }
}

/// Clips gradients and applies them, three times. Returns the norms, the clipped gradients and the weights.
fn updated(device: &Device, max_norm: Option<f64>) -> Vec<Vec<f32>> {
    let primitives = Primitives::standard();
    let dims = Dims::new(24, 40, 3).unwrap();
    let mut module = layer(primitives.get("M".parse().unwrap()).unwrap(), &dims, device);
    let mut optimizer = AdamWConfig { weight_decay: 0.1, ..AdamWConfig::default() }.init();
    let mut all = Vec::new();
    for step in 0..3 {
        let mut gradients = GradientsParams::new();
        module.visit(&mut Given { gradients: &mut gradients, phase: step as f32 });
        let norm = clip_global_norm(&module, &mut gradients, max_norm).unwrap();
        all.push(host(norm));
        all.extend(slopes(&module, &gradients));
        module = optimizer.step(1e-2, module, gradients);
        let mut weights = Weights(Vec::new());
        module.visit(&mut weights);
        all.extend(weights.0);
    }
    all
}

/// Gives every parameter a gradient.
struct Given<'a> {
    gradients: &'a mut GradientsParams,
    phase: f32,
}

impl ModuleVisitor for Given<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let weights = param.val();
        let gradient = tensor(weights.dims(), self.phase, &weights.device().without_autodiff());
        self.gradients.register(param.id, gradient);
    }
}

struct Weights(Vec<Vec<f32>>);

impl ModuleVisitor for Weights {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push(host(param.val().inner()));
    }
}

#[test]
fn clipping_and_adamw_agree_with_the_processor() {
    let _turn = turn();
    for max_norm in [None, Some(1.0), Some(1e6)] {
        let processor = updated(&Device::flex().autodiff(), max_norm);
        for Other { name, device } in others() {
            for (got, want) in updated(&device, max_norm).iter().zip(&processor) {
                assert_near(got, want, TOLERANCE, &format!("at most {max_norm:?} on {name}"));
            }
        }
    }
}
