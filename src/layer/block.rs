//! Type-erased layers, so that a model can hold layers defined in any crate.

use std::{any::Any, fmt::Debug};

use burn::{
    module::{Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor},
    tensor::{Device, Tensor},
};

use super::{
    LayerCache,
    erase::{DynMapper, DynVisitor, FromDynMapper, FromDynVisitor, ToDynMapper, ToDynVisitor},
};

/// The computation of a layer. Implement it for a struct that derives Burn's `Module` and `Debug`.
///
/// Shapes: `x` is `[B, S, D]` (batch, sequence, channels), and so is the output. Layers are causal: output `s` depends
/// on inputs `0..=s` only.
///
/// ```
/// use burn::{module::{Module, Param}, tensor::Tensor};
/// use composer_nas::layer::{LayerCache, Mixer};
///
/// /// Scales every channel by a learned factor.
/// #[derive(Module, Debug)]
/// struct Scale {
///     /// `[D]`.
///     factor: Param<Tensor<1>>,
/// }
///
/// impl Mixer for Scale {
///     fn forward(&self, x: Tensor<3>) -> Tensor<3> {
///         x * self.factor.val().unsqueeze::<3>()
///     }
///
///     // Tokens are independent of each other, so there is nothing to cache.
///     fn step(&self, x: Tensor<3>, _cache: &mut LayerCache) -> Tensor<3> {
///         self.forward(x)
///     }
/// }
/// ```
///
/// [`FnPrimitive`](crate::primitive::FnPrimitive) turns a mixer into a primitive that a search can use.
pub trait Mixer: Module + Sync + 'static {
    /// Applies the layer. `x`: `[B, S, D]` to `[B, S, D]`. The model adds the norm before the layer and the residual
    /// connection around it.
    fn forward(&self, x: Tensor<3>) -> Tensor<3>;

    /// Applies the layer to the next tokens of the sequences in `memory`, and appends them to it.
    ///
    /// The outputs must equal those of [`forward`](Self::forward) on the whole sequence, up to rounding, however the
    /// sequence is divided into steps.
    ///
    /// The default caches the inputs and recomputes the whole sequence in every step. A layer that
    /// does not mix tokens should call `forward` and leave `memory` empty.
    ///
    /// # Shapes
    /// `x`: `[B, S, D]`, the next `S >= 1` tokens, to `[B, S, D]`.
    fn step(&self, x: Tensor<3>, memory: &mut LayerCache) -> Tensor<3> {
        memory.replay(x, |x| self.forward(x))
    }

    /// Returns whether the layer can compute the members of an ensemble at once: several equal layers, each with its
    /// own part of the batch. The default is `false`.
    ///
    /// If it returns `true`, `forward` must also accept parameters that hold those of `R` equal layers one after the
    /// other along their first axis, with `x` of `[R B, S, D]`: layer `r` is applied to sequences `r B` to `(r + 1) B`.
    /// Such a layer has no auxiliary loss. Attention, SwiGLU, MLPs, squared ReLU, sliding windows and linear maps of
    /// this crate can; `testkit::primitive` (feature `testkit`) checks those of other crates.
    fn can_ensemble(&self) -> bool {
        false
    }

    /// Returns an auxiliary loss (one element) that is added to the training loss, or `None` (the default).
    ///
    /// Layers that route tokens use it to balance the load of the experts.
    ///
    /// # Shapes
    /// `x`: `[B, S, D]`, the input of [`forward`](Self::forward).
    fn aux_loss(&self, x: &Tensor<3>) -> Option<Tensor<1>> {
        let _ = x;
        None
    }

    /// Returns [`forward`](Self::forward) and [`aux_loss`](Self::aux_loss) together.
    ///
    /// The default calls both. A layer whose work for both is the same can do it once.
    ///
    /// # Shapes
    /// `x`: `[B, S, D]`, to `[B, S, D]` and one element.
    fn forward_with_aux_loss(&self, x: Tensor<3>) -> (Tensor<3>, Option<Tensor<1>>) {
        let aux_loss = self.aux_loss(&x);
        (self.forward(x), aux_loss)
    }
}

/// A type-erased, owned [`Mixer`]. It is itself a Burn module, so it can be trained, moved between devices, saved and
/// loaded like the layer inside.
#[derive(Debug)]
pub struct Block(Box<dyn DynMixer>);

impl Block {
    /// Erases the type of `mixer`. Its parameters can have at most 8 axes; this is checked at compile time.
    pub fn new(mixer: impl Mixer) -> Self {
        Self(Box::new(mixer))
    }

    /// Applies the layer. `x`: `[B, S, D]` to `[B, S, D]`.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.0.forward(x)
    }

    /// Applies the layer to the next tokens of the sequences in `memory`; see [`Mixer::step`].
    pub fn step(&self, x: Tensor<3>, memory: &mut LayerCache) -> Tensor<3> {
        self.0.step(x, memory)
    }

    /// Returns whether the layer can compute the members of an ensemble at once; see [`Mixer::can_ensemble`].
    pub fn can_ensemble(&self) -> bool {
        self.0.can_ensemble()
    }

    /// Returns the auxiliary loss of the layer at input `x`; see [`Mixer::aux_loss`].
    pub fn aux_loss(&self, x: &Tensor<3>) -> Option<Tensor<1>> {
        self.0.aux_loss(x)
    }

    /// Returns the output and the auxiliary loss of the layer; see [`Mixer::forward_with_aux_loss`].
    pub fn forward_with_aux_loss(&self, x: Tensor<3>) -> (Tensor<3>, Option<Tensor<1>>) {
        self.0.forward_with_aux_loss(x)
    }

    /// Returns the inner layer if its type is `M`.
    pub(crate) fn downcast_ref<M: Mixer>(&self) -> Option<&M> {
        // Dereference the box: `Box<dyn DynMixer>` itself could match the blanket implementation.
        (*self.0).as_any().downcast_ref()
    }
}

/// Object-safe counterpart of [`Mixer`], implemented for every mixer below.
trait DynMixer: Send + Sync + Debug {
    fn forward(&self, x: Tensor<3>) -> Tensor<3>;
    fn step(&self, x: Tensor<3>, memory: &mut LayerCache) -> Tensor<3>;
    fn can_ensemble(&self) -> bool;
    fn aux_loss(&self, x: &Tensor<3>) -> Option<Tensor<1>>;
    fn forward_with_aux_loss(&self, x: Tensor<3>) -> (Tensor<3>, Option<Tensor<1>>);
    fn visit(&self, visitor: &mut dyn DynVisitor);
    fn map(self: Box<Self>, mapper: &mut dyn DynMapper) -> Box<dyn DynMixer>;
    fn collect_devices(&self, devices: Devices) -> Devices;
    fn to_device(self: Box<Self>, device: &Device) -> Box<dyn DynMixer>;
    fn fork(self: Box<Self>, device: &Device) -> Box<dyn DynMixer>;
    fn train(self: Box<Self>) -> Box<dyn DynMixer>;
    fn valid(&self) -> Box<dyn DynMixer>;
    fn materialize(self: Box<Self>) -> Box<dyn DynMixer>;
    fn boxed_clone(&self) -> Box<dyn DynMixer>;
    fn as_any(&self) -> &dyn Any;
}

impl<M: Mixer> DynMixer for M {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        Mixer::forward(self, x)
    }
    fn step(&self, x: Tensor<3>, memory: &mut LayerCache) -> Tensor<3> {
        Mixer::step(self, x, memory)
    }
    fn can_ensemble(&self) -> bool {
        Mixer::can_ensemble(self)
    }
    fn aux_loss(&self, x: &Tensor<3>) -> Option<Tensor<1>> {
        Mixer::aux_loss(self, x)
    }
    fn forward_with_aux_loss(&self, x: Tensor<3>) -> (Tensor<3>, Option<Tensor<1>>) {
        Mixer::forward_with_aux_loss(self, x)
    }
    fn visit(&self, visitor: &mut dyn DynVisitor) {
        Module::visit(self, &mut ToDynVisitor(visitor));
    }
    fn map(self: Box<Self>, mapper: &mut dyn DynMapper) -> Box<dyn DynMixer> {
        Box::new(Module::map(*self, &mut ToDynMapper(mapper)))
    }
    fn collect_devices(&self, devices: Devices) -> Devices {
        Module::collect_devices(self, devices)
    }
    fn to_device(self: Box<Self>, device: &Device) -> Box<dyn DynMixer> {
        Box::new(Module::to_device(*self, device))
    }
    fn fork(self: Box<Self>, device: &Device) -> Box<dyn DynMixer> {
        Box::new(Module::fork(*self, device))
    }
    fn train(self: Box<Self>) -> Box<dyn DynMixer> {
        Box::new(Module::train(*self))
    }
    fn valid(&self) -> Box<dyn DynMixer> {
        Box::new(Module::valid(self))
    }
    fn materialize(self: Box<Self>) -> Box<dyn DynMixer> {
        Box::new(Module::materialize(*self))
    }
    fn boxed_clone(&self) -> Box<dyn DynMixer> {
        Box::new(self.clone())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Clone for Block {
    fn clone(&self) -> Self {
        Self((*self.0).boxed_clone())
    }
}

impl Module for Block {
    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        (*self.0).visit(&mut FromDynVisitor(visitor));
    }
    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        Self(self.0.map(&mut FromDynMapper(mapper)))
    }
    fn collect_devices(&self, devices: Devices) -> Devices {
        (*self.0).collect_devices(devices)
    }
    fn to_device(self, device: &Device) -> Self {
        Self(self.0.to_device(device))
    }
    fn fork(self, device: &Device) -> Self {
        Self(self.0.fork(device))
    }
    fn train(self) -> Self {
        Self(self.0.train())
    }
    fn valid(&self) -> Self {
        Self((*self.0).valid())
    }
    fn materialize(self) -> Self {
        Self(self.0.materialize())
    }
}

impl ModuleDisplayDefault for Block {
    fn content(&self, content: Content) -> Option<Content> {
        content.add_debug_attribute("layer", &self.0).optional()
    }
    fn num_params(&self) -> usize {
        Module::num_params(self)
    }
}

impl ModuleDisplay for Block {}
