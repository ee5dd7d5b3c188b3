//! Longer runs.

use super::{ExtrapolateError, Extrapolator, Target, body::Body};
use crate::{model::ModelSpec, primitive::Primitives, space::Architecture};

/// Lengthens every run of `h_g` equal layers to `ceil(M h_g / m)` layers.
///
/// The paper recommends this rule for searches over 16 layers or more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stretch;

impl Extrapolator for Stretch {
    fn fingerprint(&self) -> String {
        "stretch".into()
    }

    fn extrapolate(
        &self,
        small: &Architecture,
        target: &Target,
        primitives: &Primitives,
    ) -> Result<ModelSpec, ExtrapolateError> {
        let body = Body::new(small, target, primitives)?;
        body.assemble(0, body.wanted)
    }
}
