//! The parameters of a small architecture's layers at the widths of a target.

use super::{ExtrapolateError, Target};
use crate::{
    model::ModelSpec,
    primitive::{Primitives, Symbol},
    space::Architecture,
};

/// A small architecture and its target.
pub(super) struct Body<'a> {
    small: &'a Architecture,
    target: &'a Target,
    /// Parameters of each layer at the target's widths, without norms.
    sizes: Vec<u64>,
    /// `m`: parameters of the small architecture at the target's widths, without norms. Positive.
    pub(super) parameters: u128,
    /// `M`: non-embedding parameters of the target.
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
        if target.non_embedding_parameters < layer {
            return Err(ExtrapolateError::TargetTooSmall {
                target: target.name.clone(),
                parameters: target.non_embedding_parameters,
                architecture: small.clone(),
                layer,
            });
        }
        let parameters = sizes.iter().copied().map(u128::from).sum();
        Ok(Self { small, target, sizes, parameters, wanted: target.non_embedding_parameters.into() })
    }

    /// Returns the model that repeats the small architecture, with the last copy truncated where the size is nearest to
    /// the target's.
    pub(super) fn cycle(&self) -> Result<ModelSpec, ExtrapolateError> {
        let copies = self.wanted / self.parameters;
        let rest = self.wanted % self.parameters;
        // Sizes of the truncated copy, by its number of layers.
        let cuts = self.sizes.iter().scan(0, |sum, &size| {
            *sum += u128::from(size);
            Some(*sum)
        });
        // A model has at least one layer.
        let cuts = [0].into_iter().chain(cuts).enumerate().filter(|&(layers, _)| copies > 0 || layers > 0);
        let nearest = cuts.min_by_key(|&(_, size)| size.abs_diff(rest)).map_or(0, |(layers, _)| layers);
        self.check_layers(copies * self.small.len() as u128 + nearest as u128)?;
        let mut layers = self.small.layers().repeat(copies as usize);
        layers.extend(&self.small.layers()[..nearest]);
        Ok(self.target.model(Architecture::new(layers)))
    }

    fn check_layers(&self, layers: u128) -> Result<(), ExtrapolateError> {
        if layers <= Architecture::MAX_LAYERS as u128 {
            return Ok(());
        }
        let target = self.target.name.clone();
        Err(ExtrapolateError::TooManyLayers { target, architecture: self.small.clone(), layers })
    }

    /// Returns the model of `copies` copies of the small architecture, followed by one copy in which the length of
    /// every run is multiplied by `size / m` and rounded up.
    pub(super) fn assemble(&self, copies: u128, size: u128) -> Result<ModelSpec, ExtrapolateError> {
        // Below 2^64 * 2^64: a number of parameters times a number of layers.
        let stretched = |(symbol, length)| (symbol, (size * length as u128).div_ceil(self.parameters));
        let rest: Vec<_> = self.small.runs().map(stretched).collect();
        let layers = copies * self.small.len() as u128 + rest.iter().map(|(_, length)| length).sum::<u128>();
        self.check_layers(layers)?;
        // Both casts are of numbers below the limit that was just checked.
        let copied = self.small.layers().repeat(copies as usize);
        let rest = Architecture::from_runs(rest.into_iter().map(|(symbol, length)| (symbol, length as usize)));
        Ok(self.target.model(Architecture::new([&copied, rest.layers()].concat())))
    }
}
