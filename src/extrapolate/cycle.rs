//! Repetition of the small architecture, truncated at the target's size.

use super::{ExtrapolateError, Extrapolator, Target, body::Body};
use crate::{model::ModelSpec, primitive::Primitives, space::Architecture};

/// Repeats the layers of the small architecture and truncates the last copy where the size is nearest to the target's.
///
/// The result is within half a layer of the target's parameters, while [`Stack`](super::Stack) may add a layer for
/// every run. This rule is not from the paper. Use it to compare models at equal size, especially small ones, if the
/// last copy need not be complete.
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
