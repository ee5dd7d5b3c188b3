//! Repetition of the small architecture.

use super::{ExtrapolateError, Extrapolator, Target, body::Body};
use crate::{model::ModelSpec, primitive::Primitives, space::Architecture};

/// Stacks `floor(M / m)` copies of the small architecture.
///
/// For the remainder `r = M mod m`, it adds one more copy in which every run has `ceil(r h_g / m)` layers. If the
/// target is smaller than the small architecture, the result is only this copy. The paper recommends this rule for
/// searches over 6 layers.
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
