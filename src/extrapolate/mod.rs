//! Extrapolators: from a small architecture to a model of pre-training size.
//!
//! A search finds a sequence of a few layers. An [`Extrapolator`] turns it into a model with the widths and
//! approximately the parameters of a [`Target`]. [`Stack`], [`Stretch`] and [`Auto`] are the rules of Composer (arXiv
//! 2510.00379, HNAS Extrapolator): `Stack` repeats the sequence, `Stretch` lengthens its runs, and `Auto` chooses
//! between them as the paper recommends. [`Cycle`] and [`EqualSize`] are additions of this crate: `Cycle` comes nearest
//! to the target's size with whole layers, `EqualSize` also adjusts a width.
//!
//! Notation: `M` is the number of non-embedding parameters of the target, `m` that of the small architecture at the
//! widths of the target, both without norms; `h_g` is the length of run `g`. The arithmetic is exact, on integers: at
//! 3B an MLP layer is exactly as large as three attention layers, and a rounding error would add two layers.

mod auto;
mod body;
mod costs;
mod cycle;
mod equal_size;
mod stack;
mod stretch;
mod target;

pub use auto::Auto;
pub use costs::TargetCosts;
pub(crate) use costs::is_target_costs;
pub use cycle::Cycle;
pub use equal_size::EqualSize;
pub(crate) use equal_size::size_notice;
pub use stack::Stack;
pub use stretch::Stretch;
pub use target::{Target, TargetError};

use auto_impl::auto_impl;
use thiserror::Error;

use crate::{
    model::ModelSpec,
    primitive::{Primitives, RegistryError},
    space::Architecture,
};

/// Builds a model of the target's size from a small architecture.
///
/// Laws, checked by `testkit::extrapolator`: the parameters of the result differ from the target's by at most one layer
/// per run of the small architecture; an architecture that already has the target's size is unchanged; widths and
/// vocabulary are those of the target, unless an extrapolator adjusts `d_ff` like [`EqualSize`]; an empty architecture
/// is an error.
///
/// ```
/// use composer_nas::{extrapolate::{ExtrapolateError, Stack, Stretch}, prelude::*};
///
/// /// Stacks sequences that start with attention, and stretches all others.
/// struct AttentionFirst;
///
/// impl Extrapolator for AttentionFirst {
///     fn fingerprint(&self) -> String {
///         "attention_first".into()
///     }
///
///     fn extrapolate(
///         &self,
///         small: &Architecture,
///         target: &Target,
///         primitives: &Primitives,
///     ) -> Result<ModelSpec, ExtrapolateError> {
///         match small.layers().first() {
///             Some(&Symbol::ATTENTION) => Stack.extrapolate(small, target, primitives),
///             _ => Stretch.extrapolate(small, target, primitives),
///         }
///     }
/// }
/// ```
#[auto_impl(&, Box)]
pub trait Extrapolator {
    /// Returns the name and settings, such as `stretch`.
    fn fingerprint(&self) -> String;

    /// Builds the model.
    ///
    /// # Errors
    /// Returns [`ExtrapolateError`] if the target or the architecture is invalid.
    fn extrapolate(
        &self,
        small: &Architecture,
        target: &Target,
        primitives: &Primitives,
    ) -> Result<ModelSpec, ExtrapolateError>;
}

/// The error of an extrapolation.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExtrapolateError {
    /// The architecture has no layers.
    #[error("an architecture without layers cannot be extrapolated")]
    Empty,
    /// The architecture contains an unknown primitive.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The target is invalid.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// All layers together have no parameters.
    #[error("the layers of {0} have no parameters at the target's widths: no number of layers reaches its size")]
    NoParameters(Architecture),
    /// The target is smaller than any layer.
    #[error(
        "target {target} has {parameters} non-embedding parameters, fewer than the smallest layer of {architecture} ({layer}): \
         use a larger target or smaller widths"
    )]
    TargetTooSmall {
        /// Name of the target.
        target: String,
        /// Non-embedding parameters of the target.
        parameters: u64,
        /// The small architecture.
        architecture: Architecture,
        /// Parameters of its smallest layer at the target's widths.
        layer: u64,
    },
    /// The result would have more than [`Architecture::MAX_LAYERS`] layers.
    #[error(
        "{architecture} needs {layers} layers to reach target {target}, more than {}: use a smaller target",
        Architecture::MAX_LAYERS
    )]
    TooManyLayers {
        /// Name of the target.
        target: String,
        /// The small architecture.
        architecture: Architecture,
        /// The number of layers that would be needed.
        layers: u128,
    },
    /// An error specific to an extrapolator.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

#[cfg(test)]
mod tests {
    use std::mem::discriminant;

    use proptest::prelude::*;

    use super::*;
    use crate::primitive::Symbol;

    const SIX: &str = "2A+4M";
    const SIXTEEN: &str = "2A+5M+2A+3M+1A+3M";

    fn grown(rule: impl Extrapolator, small: &str, target: &Target) -> Architecture {
        rule.extrapolate(&small.parse().unwrap(), target, &Primitives::standard()).unwrap().architecture
    }

    /// The tables of the paper, and what follows from its rules at 3B and 8B.
    #[test]
    fn published_composites_come_out() {
        let stacked = [
            (Target::llama_1b(), "2A+4M+2A+4M+2A+4M+2A+4M+1A+2M".to_owned(), 27, 9),
            (Target::llama_3b(), ["2A+4M"; 8].join("+"), 48, 16),
            (Target::llama_8b(), ["2A+4M"; 9].join("+"), 54, 18),
        ];
        let stretched = [
            (Target::llama_1b(), "4A+9M+4A+5M+2A+5M".to_owned(), 29, 10),
            (Target::llama_3b(), "6A+15M+6A+9M+3A+9M".to_owned(), 48, 15),
            (Target::llama_8b(), "7A+17M+7A+10M+4A+10M".to_owned(), 55, 18),
        ];
        let check = |rule: &dyn Extrapolator, small, table: [(Target, String, usize, usize); 3]| {
            for (target, text, layers, attention) in table {
                let found = grown(rule, small, &target);
                assert_eq!(found.to_string(), text, "{} {}", rule.fingerprint(), target.name);
                assert_eq!((found.len(), found.count(Symbol::ATTENTION)), (layers, attention), "{}", target.name);
                assert_eq!(grown(Auto, small, &target), found);
            }
        };
        check(&Stack, SIX, stacked);
        check(&Stretch, SIXTEEN, stretched);
    }

    #[test]
    fn a_cycle_is_cut_where_the_size_is_nearest() {
        // At 1B an MLP has 4.8 times the parameters of attention, and the 16 blocks as much as 92.8 of it.
        for (small, text) in [("AM", "1A+1M"), ("2A+4M", "2A+4M"), ("1M+1A", "1M+1A"), ("3M", "3M"), ("2A", "2A")] {
            let found = grown(Cycle, small, &Target::llama_1b());
            let layers = text.parse::<Architecture>().unwrap();
            assert!(found.layers().iter().eq(layers.layers().iter().cycle().take(found.len())), "{found}");
        }
        let lengths = ["AM", "2A+4M", "1M+1A", "3M", "2A"].map(|small| grown(Cycle, small, &Target::llama_1b()).len());
        assert_eq!(lengths, [32, 27, 32, 19, 93]);
    }

    #[test]
    fn widths_and_vocabulary_are_the_targets() {
        let target = Target::llama_8b();
        let spec = Auto.extrapolate(&SIX.parse().unwrap(), &target, &Primitives::standard()).unwrap();
        assert_eq!(spec, target.model(spec.architecture.clone()));
        assert_eq!((spec.dims, spec.vocab_size, spec.tied_embeddings), (target.dims, 128_256, false));
    }

    #[test]
    fn what_cannot_be_extrapolated_is_refused() {
        let primitives = Primitives::standard();
        let good = Target::llama_1b();
        let error = |small: &str, target: &Target| {
            let small = if small.is_empty() { Architecture::default() } else { small.parse().unwrap() };
            let errors = [&Stack as &dyn Extrapolator, &Stretch, &Auto, &Cycle]
                .map(|rule| rule.extrapolate(&small, target, &primitives).unwrap_err());
            let same = |other: &ExtrapolateError| discriminant(other) == discriminant(&errors[0]);
            assert!(errors.iter().all(same), "{errors:?}");
            let [error, ..] = errors;
            error
        };
        let sized = |non_embedding_parameters| Target { non_embedding_parameters, ..good.clone() };
        let attention = 2 * 2048 * (2048 + 512);
        assert!(matches!(error("", &good), ExtrapolateError::Empty));
        assert!(matches!(error("2A+4Z", &good), ExtrapolateError::Registry(_)));
        assert!(matches!(error(SIX, &sized(0)), ExtrapolateError::TargetTooSmall { .. }));
        assert!(matches!(error(SIX, &sized(attention - 1)), ExtrapolateError::TargetTooSmall { .. }));
        assert!(matches!(error(SIX, &sized(u64::MAX)), ExtrapolateError::TooManyLayers { .. }));
        let crooked = Target { vocab_size: 0, ..good.clone() };
        assert!(matches!(error(SIX, &crooked), ExtrapolateError::Target(TargetError::NoVocabulary)));
    }

    proptest! {
        /// The laws for sizes of every kind, down to one layer and up to more than fits.
        #[test]
        fn size_identity_period_and_order(letters in "[AMF]{1,24}", body in 1u64..1 << 36, widths in 0usize..3) {
            let small = letters.parse::<Architecture>().unwrap();
            let primitives = Primitives::standard();
            let base = [Target::llama_1b(), Target::llama_3b(), Target::llama_8b()][widths].clone();
            let size = |a: &Architecture| {
                a.layers().iter().map(|&s| primitives.get(s).unwrap().cost(&base.dims, 0).parameters).sum::<u64>()
            };
            let per_run = size(&Architecture::new(small.runs().map(|(symbol, _)| symbol)));
            for wanted in [body, size(&small)] {
                let target = Target { non_embedding_parameters: wanted, ..base.clone() };
                let rules: [&dyn Extrapolator; 2] = [&Stack, &Stretch];
                let Ok([stacked, stretched]) = rules
                    .map(|rule| rule.extrapolate(&small, &target, &primitives).map(|spec| spec.architecture))
                    .into_iter()
                    .collect::<Result<Vec<_>, _>>()
                    .map(|both| [both[0].clone(), both[1].clone()])
                else {
                    let smallest = small.layers().iter().map(|&s| size(&Architecture::new([s]))).min();
                    prop_assert!(Some(wanted) < smallest);
                    continue;
                };
                for large in [&stacked, &stretched] {
                    prop_assert!((wanted..wanted + per_run).contains(&size(large)), "{large}");
                    prop_assert!(wanted != size(&small) || *large == small);
                }
                let cycled = Cycle.extrapolate(&small, &target, &primitives).unwrap().architecture;
                let off = |layers: usize| {
                    let layers = small.layers().iter().copied().cycle().take(layers);
                    size(&Architecture::new(layers)).abs_diff(wanted)
                };
                prop_assert_eq!(&off(cycled.len()), &size(&cycled).abs_diff(wanted), "{} is no cycle", cycled);
                prop_assert!(off(cycled.len()) <= off(cycled.len() + 1));
                prop_assert!(cycled.len() == 1 || off(cycled.len()) <= off(cycled.len() - 1));
                prop_assert!(wanted != size(&small) || cycled == small);
                let symbols = |a: &Architecture| a.runs().map(|(symbol, _)| symbol).collect::<Vec<_>>();
                prop_assert_eq!(symbols(&stretched), symbols(&small));
                let copied = (wanted / size(&small)) as usize * small.len();
                prop_assert!(stacked.layers()[..copied].chunks(small.len()).all(|copy| copy == small.layers()));
                prop_assert!(stacked.len() < copied + small.len() + small.runs().count());
            }
        }
    }
}
