//! The small architecture again and again, cut where the size is met.

use super::{ExtrapolateError, Extrapolator, Target, body::Body};
use crate::{model::ModelSpec, primitive::Primitives, space::Architecture};

/// The layers of the small architecture in their order, from the start again after the last, as many as come nearest to
/// the target's parameters: within half a layer of them, where [`Stack`](super::Stack) may add a layer for every run.
///
/// Not from the paper. Use it where models are to be compared at equal size, small ones above all, and where the order
/// within the last copy need not be complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cycle;

impl Extrapolator for Cycle {
    fn fingerprint(&self) -> String {
        "cycle".into()
    }

    fn extrapolate(
        &self,
        small: &Architecture,
        target: &Target,
        primitives: &Primitives,
    ) -> Result<ModelSpec, ExtrapolateError> {
        Body::new(small, target, primitives)?.cycle()
    }
}
