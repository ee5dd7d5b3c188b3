//! Copies of the small architecture, one on the other.

use super::{ExtrapolateError, Extrapolator, Target, body::Body};
use crate::{model::ModelSpec, primitive::Primitives, space::Architecture};

/// `floor(M / m)` copies of the small architecture, and for the remainder `r = M mod m` one more copy in which every
/// run has `ceil(r h_g / m)` layers. A target smaller than the small architecture gets that last copy alone.
///
/// The paper advises it for searches over 6 layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stack;

impl Extrapolator for Stack {
    fn fingerprint(&self) -> String {
        "stack".into()
    }

    fn extrapolate(
        &self,
        small: &Architecture,
        target: &Target,
        primitives: &Primitives,
    ) -> Result<ModelSpec, ExtrapolateError> {
        let body = Body::new(small, target, primitives)?;
        body.assemble(body.wanted / body.parameters, body.wanted % body.parameters)
    }
}
