//! The paper's advice.

use super::{ExtrapolateError, Extrapolator, Stack, Stretch, Target};
use crate::{model::ModelSpec, primitive::Primitives, space::Architecture};

/// [`Stack`] for a small architecture of fewer than 16 layers, [`Stretch`] from 16 layers on.
///
/// The paper compares 6 and 16 layers and stacks the former; where between them the advice changes is our choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Auto;

impl Auto {
    /// The fewest layers that are stretched.
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
