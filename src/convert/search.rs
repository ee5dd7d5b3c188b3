//! A search over what replaces a parent's layers.

use super::{BlockLibrary, ConvertError};
use crate::{
    aggregate::Best,
    evaluate::Evaluator,
    extrapolate::{ExtrapolateError, Extrapolator, Target},
    model::ModelSpec,
    pipeline::{Found, Pipeline},
    primitive::Primitives,
    search::Searcher,
    space::Architecture,
    study::Study,
};

/// Keeps the size of a parent: the model of an architecture is the parent's with other layers.
#[derive(Clone, Debug)]
pub struct ParentSized(
    /// What the parent is.
    pub ModelSpec,
);

impl Extrapolator for ParentSized {
    fn fingerprint(&self) -> String {
        "parent_sized".into()
    }

    fn extrapolate(&self, small: &Architecture, _: &Target, _: &Primitives) -> Result<ModelSpec, ExtrapolateError> {
        if small.is_empty() {
            return Err(ExtrapolateError::Empty);
        }
        Ok(ModelSpec { architecture: small.clone(), ..self.0.clone() })
    }
}

/// The architectures of so many of the best trials of a study, the best first.
pub fn leaders(study: &Study, count: usize) -> Vec<Architecture> {
    let mut known: Vec<_> = study.observations().collect();
    known.sort_by(|one, other| other.value.total_cmp(&one.value));
    known.into_iter().take(count).map(|observation| observation.trial.architecture.clone()).collect()
}

/// Carries out a search over candidates of `library` and puts the best one together: [`Found::weights`] has its
/// weights. The pipeline's own aggregator and extrapolator are not asked.
///
/// # Errors
/// [`ConvertError`] when the search stops, or a block is missing. What was evaluated is in the journal, if there is
/// one.
pub fn search<E, S, A, X>(library: &BlockLibrary, pipeline: Pipeline<E, S, A, X>) -> Result<Found, ConvertError>
where
    E: Evaluator + 'static,
    S: Searcher,
{
    let spec = library.parent().spec();
    let target = Target {
        name: "parent".into(),
        dims: spec.dims.clone(),
        vocab_size: spec.vocab_size,
        tied_embeddings: spec.tied_embeddings,
        non_embedding_parameters: 1,
        baseline: spec.architecture.clone(),
    };
    let mut found = pipeline.aggregator(Best).extrapolator(ParentSized(spec.clone())).run(&target)?;
    found.weights = Some(library.assemble(&found.aggregated)?);
    Ok(found)
}
