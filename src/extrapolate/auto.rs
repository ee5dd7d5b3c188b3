//! The rule that the paper recommends.

use super::{ExtrapolateError, Extrapolator, Stack, Stretch, Target};
use crate::{model::ModelSpec, primitive::Primitives, space::Architecture};

/// Uses [`Stack`] for small architectures of fewer than 16 layers, and [`Stretch`] from 16 layers on.
///
/// The paper compares 6 and 16 layers and stacks the former. The threshold between them is a choice of this crate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Auto;

impl Auto {
    /// The minimum number of layers that are stretched.
    pub(crate) const STRETCH_FROM: usize = 16;
}

impl Extrapolator for Auto {
    fn fingerprint(&self) -> String {
        format!("auto(stretch_from={})", Self::STRETCH_FROM)
    }

    fn extrapolate(
        &self,
        small: &Architecture,
        target: &Target,
        primitives: &Primitives,
    ) -> Result<ModelSpec, ExtrapolateError> {
        if small.len() < Self::STRETCH_FROM {
            Stack.extrapolate(small, target, primitives)
        } else {
            Stretch.extrapolate(small, target, primitives)
        }
    }
}
