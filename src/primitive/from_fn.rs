//! Primitives from closures.

use std::fmt;

use super::{BuildError, LayerCost, NameError, Primitive, PrimitiveId, Role, Symbol};
use crate::{
    device::Device,
    dims::Dims,
    layer::{Block, WeightInit},
};

/// A primitive made of two closures: one returns the cost, the other builds the layer. This is the shortest way to add
/// a layer.
///
/// ```
/// use burn::{module::Module, nn::Linear, tensor::Tensor};
/// use composer_nas::{layer::{Block, Mixer}, prelude::*, primitive::{FnPrimitive, LayerCost, Role}};
///
/// #[derive(Module, Debug)]
/// struct Square {
///     linear: Linear,
/// }
///
/// impl Mixer for Square {
///     fn forward(&self, x: Tensor<3>) -> Tensor<3> {
///         self.linear.forward(x)
///     }
/// }
///
/// let cost = |dims: &Dims, _| LayerCost { parameters: dims.width().pow(2), ..LayerCost::default() };
/// let square = FnPrimitive::new("square", 'Q', Role::Channel, cost, |dims, init, device| {
///     Ok(Block::new(Square { linear: init.linear(dims.d_model, dims.d_model, device) }))
/// })?;
/// let primitives = Primitives::standard().with(square)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct FnPrimitive<C, B> {
    id: PrimitiveId,
    symbol: Symbol,
    role: Role,
    cost: C,
    build: B,
}

impl<C, B> FnPrimitive<C, B>
where
    C: Fn(&Dims, u64) -> LayerCost + Send + Sync,
    B: Fn(&Dims, &mut WeightInit, &Device) -> Result<Block, BuildError> + Send + Sync,
{
    /// Creates a primitive. See [`Primitive::cost`] and [`Primitive::build`] for the closures.
    ///
    /// # Errors
    /// Returns [`NameError`] if `id` or `symbol` is invalid.
    pub fn new(id: &str, symbol: char, role: Role, cost: C, build: B) -> Result<Self, NameError> {
        Ok(Self { id: PrimitiveId::new(id)?, symbol: Symbol::try_from(symbol)?, role, cost, build })
    }
}

impl<C, B> Primitive for FnPrimitive<C, B>
where
    C: Fn(&Dims, u64) -> LayerCost + Send + Sync,
    B: Fn(&Dims, &mut WeightInit, &Device) -> Result<Block, BuildError> + Send + Sync,
{
    fn id(&self) -> PrimitiveId {
        self.id.clone()
    }

    fn symbol(&self) -> Symbol {
        self.symbol
    }

    fn role(&self) -> Role {
        self.role
    }

    fn cost(&self, dims: &Dims, seq_len: u64) -> LayerCost {
        (self.cost)(dims, seq_len)
    }

    fn build(&self, dims: &Dims, init: &mut WeightInit, device: &Device) -> Result<Block, BuildError> {
        dims.validate()?;
        (self.build)(dims, init, device)
    }
}

impl<C, B> fmt::Debug for FnPrimitive<C, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, symbol, role, .. } = self;
        f.debug_struct("FnPrimitive").field("id", id).field("symbol", symbol).field("role", role).finish()
    }
}
