//! Checks the contract of [`Extrapolator`].

use rand::{RngExt, seq::IndexedRandom};

use super::{LawBroken, holds};
use crate::{
    extrapolate::{Extrapolator, Target},
    model::ModelSpec,
    primitive::{Primitives, Symbol},
    seed::Seed,
    space::Architecture,
    text::causes,
};

/// There is a result if the target has room for a layer.
pub(crate) const ANSWERS: &str = "if the target has room for a layer, an extrapolator returns a model";
/// The result has about the target's size.
pub const SIZE: &str = "the size is within one layer per run of the target's";
/// An architecture of the right size stays.
pub(crate) const IDENTITY: &str = "an architecture that already has the target's size is kept";
/// The result has the target's widths.
pub const WIDTHS: &str = "widths, vocabulary and head are the target's";
/// There is nothing to extrapolate.
pub(crate) const EMPTY: &str = "an architecture without layers is an error";
/// Stacking repeats the architecture.
pub(crate) const PERIODIC: &str =
    "whole copies of the small architecture, then a shorter one with the same order of runs";
/// Stretching lengthens the runs.
pub(crate) const RUNS: &str = "the order of runs is kept";

/// The number of small architectures per check.
const CASES: u64 = 60;
/// The size of the target relative to the small architecture.
const FACTORS: [(u128, u128); 7] = [(1, 1), (2, 1), (3, 1), (7, 3), (33, 4), (101, 100), (5, 7)];

/// Extrapolates small architectures of the given primitives to targets of many sizes.
///
/// # Errors
/// [`LawBroken`] for the first law that does not hold.
pub fn check(extrapolator: &(impl Extrapolator + ?Sized), primitives: &Primitives) -> Result<(), LawBroken> {
    let empty = extrapolator.extrapolate(&Architecture::default(), &Target::llama_1b(), primitives);
    holds(empty.is_err(), EMPTY, || format!("{:?}", empty.map(|spec| spec.architecture)))?;
    for case in cases(primitives) {
        let large = case.extrapolated(extrapolator, primitives)?;
        let wanted = u128::from(case.target.non_embedding_parameters);
        let found = case.size(&large, primitives)?;
        let slack = case.size(&Architecture::new(case.small.runs().map(|(symbol, _)| symbol)), primitives)?;
        holds(found.abs_diff(wanted) <= slack, SIZE, || {
            format!("{} has {found} parameters instead of {wanted}, with a tolerance of {slack}", case.describe(&large))
        })?;
        holds(!case.equal || large == case.small, IDENTITY, || case.describe(&large))?;
    }
    Ok(())
}

/// Checks an extrapolator that scales `d_ff`: all other widths and the vocabulary are the target's, an architecture of
/// the target's size stays as it is, and the size differs from the target's by at most `share` of it or half the
/// largest layer.
///
/// # Errors
/// [`LawBroken`] for the first law that does not hold.
pub fn check_scaling(
    extrapolator: &(impl Extrapolator + ?Sized),
    primitives: &Primitives,
    share: f64,
) -> Result<(), LawBroken> {
    let empty = extrapolator.extrapolate(&Architecture::default(), &Target::llama_1b(), primitives);
    holds(empty.is_err(), EMPTY, || format!("{:?}", empty.map(|spec| spec.architecture)))?;
    for case in cases(primitives) {
        let spec = case.answer(extrapolator, primitives)?;
        let mut dims = spec.dims.clone();
        dims.d_ff = case.target.dims.d_ff;
        let same = dims == case.target.dims && spec.vocab_size == case.target.vocab_size;
        holds(same, WIDTHS, || format!("{spec:?} for {:?}", case.target))?;
        let target = Target { dims: spec.dims.clone(), ..case.target.clone() };
        let found = sizes(&spec.architecture, &target, primitives)?.into_iter().sum::<u128>();
        let wanted = u128::from(case.target.non_embedding_parameters);
        let largest = sizes(&case.small, &case.target, primitives)?.into_iter().max().unwrap_or(0);
        let slack = ((share * wanted as f64) as u128).max(largest.div_ceil(2));
        holds(found.abs_diff(wanted) <= slack, SIZE, || {
            format!("{} has {found} parameters, {wanted} are wanted", case.describe(&spec.architecture))
        })?;
        holds(!case.equal || spec.architecture == case.small, IDENTITY, || case.describe(&spec.architecture))?;
    }
    Ok(())
}

/// Checks an extrapolator that stacks: the result consists of as many complete copies as fit, followed by a part with
/// the same runs as the small architecture, none of them longer.
///
/// # Errors
/// [`LawBroken`] for the first law that does not hold.
pub fn check_periodic(extrapolator: &(impl Extrapolator + ?Sized), primitives: &Primitives) -> Result<(), LawBroken> {
    for case in cases(primitives) {
        let large = case.extrapolated(extrapolator, primitives)?;
        let size = case.size(&case.small, primitives)?;
        // At most 33 copies, with the factors above.
        let copied = (u128::from(case.target.non_embedding_parameters) / size) as usize * case.small.len();
        let (copies, rest) = large.layers().split_at_checked(copied).unwrap_or((large.layers(), &[]));
        let whole = copies.len() == copied && copies.chunks(case.small.len()).all(|copy| copy == case.small.layers());
        let rest: Vec<_> = Architecture::new(rest.iter().copied()).runs().collect();
        let shorter = rest.len() == case.small.runs().count()
            && rest.iter().zip(case.small.runs()).all(|(rest, run)| rest.0 == run.0 && rest.1 <= run.1);
        holds(whole && (rest.is_empty() || shorter), PERIODIC, || case.describe(&large))?;
    }
    Ok(())
}

/// Checks an extrapolator that stretches: the result has the runs of the small architecture, in the same order.
///
/// # Errors
/// [`LawBroken`] for the first law that does not hold.
pub fn check_keeps_runs(extrapolator: &(impl Extrapolator + ?Sized), primitives: &Primitives) -> Result<(), LawBroken> {
    for case in cases(primitives) {
        let large = case.extrapolated(extrapolator, primitives)?;
        let symbols = |architecture: &Architecture| architecture.runs().map(|(symbol, _)| symbol).collect::<Vec<_>>();
        holds(symbols(&large) == symbols(&case.small), RUNS, || case.describe(&large))?;
    }
    Ok(())
}

/// A small architecture and a target.
struct Case {
    small: Architecture,
    target: Target,
    /// Whether the small architecture has the target's size.
    equal: bool,
}

/// Returns cases in which the target has room for the largest layer, at widths with and without integer ratios between
/// the sizes of layers.
fn cases(primitives: &Primitives) -> Vec<Case> {
    let symbols: Vec<_> = primitives.iter().map(|primitive| primitive.symbol()).collect();
    let mut cases = Vec::new();
    for (index, base) in (0..CASES).zip([Target::llama_1b(), Target::llama_3b()].into_iter().cycle()) {
        let mut rng = Seed(0).rng("testkit/extrapolator", index);
        let layers = rng.random_range(1..=20);
        let small = Architecture::new((0..layers).filter_map(|_| symbols.choose(&mut rng).copied()));
        let Ok(sizes) = sizes(&small, &base, primitives) else { continue };
        let total = sizes.iter().sum::<u128>();
        let largest = sizes.into_iter().max().unwrap_or(0);
        for (numerator, denominator) in FACTORS {
            let wanted = total * numerator / denominator;
            let Ok(non_embedding_parameters) = u64::try_from(wanted) else { continue };
            if wanted > 0 && wanted >= largest {
                let target =
                    Target { name: format!("{numerator}/{denominator}"), non_embedding_parameters, ..base.clone() };
                cases.push(Case { small: small.clone(), target, equal: wanted == total });
            }
        }
    }
    cases
}

/// Returns the number of parameters of each layer at the target's widths.
fn sizes(architecture: &Architecture, target: &Target, primitives: &Primitives) -> Result<Vec<u128>, LawBroken> {
    let size = |&symbol: &Symbol| match primitives.get(symbol) {
        Ok(primitive) => Ok(primitive.cost(&target.dims, 0).parameters.into()),
        Err(error) => Err(LawBroken::new(ANSWERS, format!("{architecture}: {}", causes(&error)))),
    };
    architecture.layers().iter().map(size).collect()
}

impl Case {
    fn size(&self, architecture: &Architecture, primitives: &Primitives) -> Result<u128, LawBroken> {
        Ok(sizes(architecture, &self.target, primitives)?.into_iter().sum())
    }

    fn answer(
        &self,
        extrapolator: &(impl Extrapolator + ?Sized),
        primitives: &Primitives,
    ) -> Result<ModelSpec, LawBroken> {
        extrapolator.extrapolate(&self.small, &self.target, primitives).map_err(|error| {
            LawBroken::new(
                ANSWERS,
                format!("{} at {} times its size: {}", self.small, self.target.name, causes(&error)),
            )
        })
    }

    fn extrapolated(
        &self,
        extrapolator: &(impl Extrapolator + ?Sized),
        primitives: &Primitives,
    ) -> Result<Architecture, LawBroken> {
        let spec = self.answer(extrapolator, primitives)?;
        let target = &self.target;
        let same = (&spec.dims, spec.vocab_size, spec.tied_embeddings)
            == (&target.dims, target.vocab_size, target.tied_embeddings);
        holds(same, WIDTHS, || format!("{spec:?} for {target:?}"))?;
        Ok(spec.architecture)
    }

    fn describe(&self, large: &Architecture) -> String {
        format!("{} at {} times its size becomes {large}", self.small, self.target.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extrapolate::{Auto, Cycle, EqualSize, ExtrapolateError, Stack, Stretch};

    #[test]
    fn our_extrapolators_keep_the_laws() {
        let primitives = Primitives::standard();
        assert!(cases(&primitives).len() > 300);
        for rule in [&Stack as &dyn Extrapolator, &Stretch, &Auto, &Cycle] {
            assert_eq!(check(rule, &primitives), Ok(()), "{}", rule.fingerprint());
        }
        assert_eq!(check_scaling(&EqualSize, &primitives, 0.002), Ok(()));
        assert_eq!(check_scaling(&Cycle, &primitives, 0.0), Ok(()));
        assert_eq!(check_scaling(&Stack, &primitives, 0.002).unwrap_err().law, SIZE);
        assert_eq!(check_periodic(&Stack, &primitives), Ok(()));
        assert_eq!(check_keeps_runs(&Stretch, &primitives), Ok(()));
    }

    struct Answering<F>(F);

    impl<F: Fn(&Architecture, &Target) -> Result<ModelSpec, ExtrapolateError>> Extrapolator for Answering<F> {
        fn fingerprint(&self) -> String {
            "test".into()
        }

        fn extrapolate(
            &self,
            small: &Architecture,
            target: &Target,
            _: &Primitives,
        ) -> Result<ModelSpec, ExtrapolateError> {
            (self.0)(small, target)
        }
    }

    #[test]
    fn every_breach_is_caught() {
        let primitives = Primitives::standard();
        let broken = |answer: &dyn Fn(&Architecture, &Target) -> Result<ModelSpec, ExtrapolateError>| {
            check(&Answering(answer), &primitives).expect_err("a law is broken").law
        };
        let stack = |small: &Architecture, target: &Target| Stack.extrapolate(small, target, &primitives);
        let nonempty = |small: &Architecture| if small.is_empty() { Err(ExtrapolateError::Empty) } else { Ok(()) };

        assert_eq!(broken(&|small, target| Ok(target.model(small.clone()))), EMPTY);
        assert_eq!(broken(&|small, target| nonempty(small).map(|()| target.model(small.clone()))), SIZE);
        let reversed = |small: &Architecture, target: &Target| {
            let spec = stack(small, target)?;
            Ok(target.model(Architecture::new(spec.architecture.layers().iter().rev().copied())))
        };
        assert_eq!(broken(&reversed), IDENTITY);
        let narrow = |small: &Architecture, target: &Target| {
            Ok(ModelSpec { vocab_size: target.vocab_size + 1, ..stack(small, target)? })
        };
        assert_eq!(broken(&narrow), WIDTHS);
        assert_eq!(broken(&|_, _| Err(ExtrapolateError::Other("no".into()))), ANSWERS);
        assert_eq!(check_periodic(&Stretch, &primitives).unwrap_err().law, PERIODIC);
        assert_eq!(check_periodic(&Answering(reversed), &primitives).unwrap_err().law, PERIODIC);
        assert_eq!(check_keeps_runs(&Stack, &primitives).unwrap_err().law, RUNS);
    }
}
