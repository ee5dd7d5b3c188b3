//! Searching for the best conversion of a parent.

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

/// An extrapolator that keeps the size of the parent: it returns the parent's specification with other layers.
#[derive(Clone, Debug)]
pub struct ParentSized(
    /// The specification of the parent.
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

/// Returns the architectures of the `count` best trials of a study, best first.
pub fn leaders(study: &Study, count: usize) -> Vec<Architecture> {
    let mut known: Vec<_> = study.observations().collect();
    known.sort_by(|one, other| other.value.total_cmp(&one.value));
    known.into_iter().take(count).map(|observation| observation.trial.architecture.clone()).collect()
}

/// Runs a search over candidates of `library` and assembles the best one, with its weights in [`Found::weights`].
///
/// The aggregator and the extrapolator of the pipeline are not used; [`Best`] and [`ParentSized`] replace them.
///
/// # Errors
/// [`ConvertError`] if the search stops or a block is missing. Finished evaluations are in the journal, if there is
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
