//! Models with exactly the target's size, by adjusting `d_ff`.

use super::{Auto, Cycle, ExtrapolateError, Extrapolator, Target};
use crate::{cost::body_without_norms, model::ModelSpec, primitive::Primitives, space::Architecture};

/// The layers of [`Auto`], with `d_ff` adjusted until all layers together have the target's parameters.
///
/// `d_ff` changes in steps of 16, between half and twice the target's value. If the layers of [`Cycle`] at the target's
/// widths come at least as close to the size, the result is that of `Cycle`.
///
/// This rule is not from the paper. Use it to compare models at equal size: AM three times becomes 36 layers at 1B,
/// with 1.125 times Llama's parameters by `Auto` and exactly as many by this rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EqualSize;

/// `d_ff` is a multiple of this.
const STEP: usize = 16;

impl Extrapolator for EqualSize {
    fn fingerprint(&self) -> String {
        "equal_size".into()
    }

    fn extrapolate(
        &self,
        small: &Architecture,
        target: &Target,
        primitives: &Primitives,
    ) -> Result<ModelSpec, ExtrapolateError> {
        let wanted = u128::from(target.non_embedding_parameters);
        let off = |spec: &ModelSpec| body_without_norms(spec, primitives).map(|size| size.abs_diff(wanted));
        let plain = Auto.extrapolate(small, target, primitives)?;
        if off(&plain)? == 0 {
            return Ok(plain);
        }
        let at = |steps: usize| {
            let mut spec = plain.clone();
            spec.dims.d_ff = steps * STEP;
            spec
        };
        // Parameters grow with the width: find the first width that is too large, and the one before it.
        let mut low = (target.dims.d_ff / 2 / STEP).max(1);
        let mut high = (2 * target.dims.d_ff / STEP).max(low);
        while low < high {
            let middle = low + (high - low) / 2;
            if body_without_norms(&at(middle), primitives)? < wanted { low = middle + 1 } else { high = middle }
        }
        let mut candidates = vec![Cycle.extrapolate(small, target, primitives)?, plain.clone()];
        candidates.extend([at(low), at(low.saturating_sub(1).max(1))]);
        let mut best: Option<(u128, ModelSpec)> = None;
        for spec in candidates {
            let off = off(&spec)?;
            if best.as_ref().is_none_or(|(least, _)| off < *least) {
                best = Some((off, spec));
            }
        }
        Ok(best.map_or(plain, |(_, spec)| spec))
    }
}

/// Returns by which fraction a model's layers are larger than the target's, without norms: 0.125 for one eighth more.
///
/// # Errors
/// Returns [`ExtrapolateError::Registry`] if a layer is unknown.
pub(crate) fn size_excess(spec: &ModelSpec, target: &Target, primitives: &Primitives) -> Result<f64, ExtrapolateError> {
    Ok(body_without_norms(spec, primitives)? as f64 / target.non_embedding_parameters as f64 - 1.0)
}

/// Returns a notice if the size of a model differs from the target's by more than 3 %.
pub(crate) fn size_notice(spec: &ModelSpec, target: &Target, primitives: &Primitives) -> Option<String> {
    const SHARE: f64 = 0.03;
    let excess = size_excess(spec, target, primitives).ok().filter(|excess| excess.abs() > SHARE)?;
    let word = if excess > 0.0 { "more" } else { "fewer" };
    let percent = 100.0 * excess.abs();
    Some(format!(
        "its layers have {percent:.1} % {word} parameters than those of {}: this is not a comparison at equal size; \
         to keep the size, use the extrapolator EqualSize or Cycle (search --extrapolator equal-size)",
        target.name
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitive::Symbol;

    fn grown(rule: impl Extrapolator, small: &str, target: &Target) -> ModelSpec {
        rule.extrapolate(&small.parse().unwrap(), target, &Primitives::standard()).unwrap()
    }

    #[test]
    fn the_size_is_held_where_auto_adds() {
        let primitives = Primitives::standard();
        let target = Target::llama_1b();
        for (small, auto) in [("AMAMAM", 0.125), ("AMAMAMAMAMAMAM", 0.3125), ("2A+4M", 0.01), ("AMMMAM", 0.03)] {
            let added = grown(Auto, small, &target);
            let excess = size_excess(&added, &target, &primitives).unwrap();
            assert!(excess > auto - 0.01, "{small}: {excess}");
            let notice = size_notice(&added, &target, &primitives);
            assert_eq!(
                notice.is_some_and(|words| words.contains("more parameters than those of llama_1b")),
                excess > 0.03
            );
            let held = grown(EqualSize, small, &target);
            let excess = size_excess(&held, &target, &primitives).unwrap();
            assert!(excess.abs() < 0.002, "{small}: {excess}");
            assert!(size_notice(&held, &target, &primitives).is_none());
        }
        // Whole layers reach the size of AM, a width that of the paper's composite; attention alone does not depend on
        // d_ff.
        assert_eq!(grown(EqualSize, "AMAMAM", &target), target.baseline_model());
        let composite = grown(EqualSize, "2A+4M", &target);
        assert_eq!(composite.architecture, grown(Auto, "2A+4M", &target).architecture);
        assert!(composite.dims.d_ff < target.dims.d_ff);
        assert_eq!(grown(EqualSize, "6A", &target).architecture.count(Symbol::ATTENTION), 93);
    }
}
