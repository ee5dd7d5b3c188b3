//! The models along a front: one per band of cost.

use crate::{
    aggregate::{Aggregator, BANDS, Band, along_front},
    extrapolate::{ExtrapolateError, Extrapolator, Target},
    model::ModelSpec,
    primitive::Primitives,
    study::Study,
};

/// What a band of the second objective speaks for, as a model.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FrontModel {
    /// The band and its small architecture.
    pub band: Band,
    /// The architecture at the target's size, ready to be built.
    pub model: ModelSpec,
}

/// The models along the front of a study of several objectives, by bands of the second one; none for one objective,
/// and where the aggregator refuses a band.
///
/// # Errors
/// [`ExtrapolateError`] where an architecture cannot be scaled.
pub(super) fn models(
    study: &Study,
    aggregator: &impl Aggregator,
    extrapolator: &impl Extrapolator,
    target: &Target,
    primitives: &Primitives,
) -> Result<Vec<FrontModel>, ExtrapolateError> {
    let Some(second) = study.goal().objectives().nth(1) else { return Ok(Vec::new()) };
    let bands = along_front(&study.pooled().searched(), &second.of, BANDS, aggregator).unwrap_or_default();
    let model = |band: Band| {
        let model = extrapolator.extrapolate(&band.architecture, target, primitives)?;
        Ok(FrontModel { band, model })
    };
    bands.into_iter().map(model).collect()
}
