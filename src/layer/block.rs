//! A layer whose type is erased, so that a model holds layers from any crate.

use std::{any::Any, fmt::Debug};

use burn::{
    module::{Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor},
    tensor::{Device, Tensor},
};

use super::{
    LayerCache,
    erase::{DynMapper, DynVisitor, FromDynMapper, FromDynVisitor, ToDynMapper, ToDynVisitor},
};

/// The forward pass of a layer; its struct is an ordinary `#[derive(Module, Debug)]` of Burn.
///
/// # Shapes
/// `x`: `[B, S, D]` (batch, sequence, channels) to `[B, S, D]`. Output `s` depends on inputs `0..=s` only.
pub trait Mixer: Module + Sync + 'static {
    /// Applies the layer. The norm in front and the residual around it belong to the model.
    fn forward(&self, x: Tensor<3>) -> Tensor<3>;

    /// Decodes: applies the layer to the tokens that follow those in `memory`, which then holds them too. The outputs
    /// are those of [`forward`](Self::forward) on the whole sequence, however it is cut into steps.
    ///
    /// Without an implementation of its own a layer remembers its inputs and computes the whole sequence again
    /// ([`LayerCache::replay`]); a channel mixer forwards and leaves the memory empty.
    ///
    /// # Shapes
    /// `x`: `[B, S, D]`, the next `S >= 1` tokens, to `[B, S, D]`.
    fn step(&self, x: Tensor<3>, memory: &mut LayerCache) -> Tensor<3> {
        memory.replay(x, |x| self.forward(x))
    }

    /// What training adds to the loss for this layer at input `x`, one element; none for most layers. A layer that
    /// routes asks for balance this way.
    ///
    /// # Shapes
    /// `x`: `[B, S, D]`, what [`forward`](Self::forward) gets.
    fn aux_loss(&self, x: &Tensor<3>) -> Option<Tensor<1>> {
        let _ = x;
        None
    }
}

/// An owned, type-erased [`Mixer`], itself a Burn module: it trains, moves between devices, saves and loads like the
/// layer inside.
#[derive(Debug)]
pub struct Block(Box<dyn DynMixer>);

impl Block {
    /// Erases the type of `mixer`. Its parameters may have up to eight axes, checked at compile time.
    pub fn new(mixer: impl Mixer) -> Self {
        Self(Box::new(mixer))
    }

    /// Applies the layer. `x`: `[B, S, D]` to `[B, S, D]`.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.0.forward(x)
    }

    /// Applies the layer to the tokens that follow those in `memory`; see [`Mixer::step`].
    pub fn step(&self, x: Tensor<3>, memory: &mut LayerCache) -> Tensor<3> {
        self.0.step(x, memory)
    }

    /// What training adds to the loss for this layer at input `x`; see [`Mixer::aux_loss`].
    pub fn aux_loss(&self, x: &Tensor<3>) -> Option<Tensor<1>> {
        self.0.aux_loss(x)
    }

    /// The layer inside, where it is an `M`.
    pub fn downcast_ref<M: Mixer>(&self) -> Option<&M> {
        // Through the box: `Box<dyn DynMixer>` itself could match the blanket implementation.
        (*self.0).as_any().downcast_ref()
    }
}

/// Object-safe twin of [`Mixer`], implemented for every mixer below.
trait DynMixer: Send + Sync + Debug {
    fn forward(&self, x: Tensor<3>) -> Tensor<3>;
    fn step(&self, x: Tensor<3>, memory: &mut LayerCache) -> Tensor<3>;
    fn aux_loss(&self, x: &Tensor<3>) -> Option<Tensor<1>>;
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
    fn aux_loss(&self, x: &Tensor<3>) -> Option<Tensor<1>> {
        Mixer::aux_loss(self, x)
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
