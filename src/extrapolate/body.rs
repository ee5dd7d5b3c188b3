//! The layers of a small architecture, measured at the widths of a target.

use super::{ExtrapolateError, Target};
use crate::{
    model::ModelSpec,
    primitive::{Primitives, Symbol},
    space::Architecture,
};

/// A small architecture beside the target that it grows to.
pub(super) struct Body<'a> {
    small: &'a Architecture,
    target: &'a Target,
    /// `m`: parameters of the small architecture at the target's widths, without norms; positive.
    pub(super) parameters: u128,
    /// `M`: body parameters of the target.
    pub(super) wanted: u128,
}

impl<'a> Body<'a> {
    pub(super) fn new(
        small: &'a Architecture,
        target: &'a Target,
        primitives: &Primitives,
    ) -> Result<Self, ExtrapolateError> {
        if small.is_empty() {
            return Err(ExtrapolateError::Empty);
        }
        target.validate()?;
        let size = |&layer: &Symbol| Ok(primitives.get(layer)?.cost(&target.dims, 0).parameters);
        let sizes = small.layers().iter().map(size).collect::<Result<Vec<_>, ExtrapolateError>>()?;
        let smallest = sizes.iter().copied().filter(|&size| size > 0).min();
        let Some(layer) = smallest else { return Err(ExtrapolateError::NoParameters(small.clone())) };
        if target.body_parameters < layer {
            return Err(ExtrapolateError::TargetTooSmall {
                target: target.name.clone(),
                parameters: target.body_parameters,
                architecture: small.clone(),
                layer,
            });
        }
        let parameters = sizes.into_iter().map(u128::from).sum();
        Ok(Self { small, target, parameters, wanted: target.body_parameters.into() })
    }

    /// The model of `copies` copies of the small architecture, and one more in which every run has its length times
    /// `size / m`, rounded up.
    pub(super) fn assemble(&self, copies: u128, size: u128) -> Result<ModelSpec, ExtrapolateError> {
        // Below 2^64 * 2^64: a count of parameters times a count of layers.
        let stretched = |(symbol, length)| (symbol, (size * length as u128).div_ceil(self.parameters));
        let rest: Vec<_> = self.small.runs().map(stretched).collect();
        let layers = copies * self.small.len() as u128 + rest.iter().map(|(_, length)| length).sum::<u128>();
        if layers > Architecture::MAX_LAYERS as u128 {
            return Err(ExtrapolateError::TooManyLayers {
                target: self.target.name.clone(),
                architecture: self.small.clone(),
                layers,
            });
        }
        // Both casts are of numbers below the bound just checked.
        let copied = self.small.layers().repeat(copies as usize);
        let rest = Architecture::from_runs(rest.into_iter().map(|(symbol, length)| (symbol, length as usize)));
        Ok(self.target.model(Architecture::new([&copied, rest.layers()].concat())))
    }
}
