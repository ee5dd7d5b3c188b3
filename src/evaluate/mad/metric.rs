//! The accuracy of a model on a MAD task, computed from its predictions at the scored positions.
//!
//! The MAD reference (Poli et al. 2024, arXiv 2403.17844) reports torchmetrics' `MulticlassAccuracy` with its default
//! macro average: the mean, over classes, of the fraction of a class's positions that are predicted correctly. It is
//! computed for each batch and averaged over batches. It differs from the fraction of correct tokens; both are
//! available here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How predictions become one number.
///
/// ```
/// use composer_nas::evaluate::mad::Metric;
/// // Token 1 occurs four times and is always predicted; token 2 occurs once and is missed.
/// let scored = [(1, 1), (1, 1), (1, 1), (1, 1), (1, 2)];
/// assert_eq!(Metric::Micro.accuracy(scored), Some(0.8));
/// assert_eq!(Metric::Macro.accuracy(scored), Some(0.5));
/// assert_eq!(Metric::Macro.accuracy([]), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// The mean recall over the classes that occur among targets or predictions. A class that is predicted but never
    /// occurs as a target counts 0, so a wrong prediction can cost more than its own position.
    Macro,
    /// The fraction of scored positions that are predicted correctly. All positions have the same weight.
    Micro,
}

impl Metric {
    /// Returns the accuracy in [0, 1] over `(prediction, target)` pairs, one per scored position; `None` if there are
    /// none.
    ///
    /// The result does not depend on the size of the vocabulary: classes that do not occur have no weight.
    pub fn accuracy(self, scored: impl IntoIterator<Item = (u32, u32)>) -> Option<f64> {
        match self {
            Metric::Macro => macro_accuracy(scored),
            Metric::Micro => micro_accuracy(scored),
        }
    }
}

fn micro_accuracy(scored: impl IntoIterator<Item = (u32, u32)>) -> Option<f64> {
    let mut right = 0u64;
    let mut asked = 0u64;
    for (prediction, target) in scored {
        asked += 1;
        right += u64::from(prediction == target);
    }
    (asked > 0).then(|| right as f64 / asked as f64)
}

fn macro_accuracy(scored: impl IntoIterator<Item = (u32, u32)>) -> Option<f64> {
    #[derive(Default)]
    struct Class {
        right: u64,
        asked: u64,
    }
    // Ordered, so that the sum below is always rounded in the same way.
    let mut classes = BTreeMap::<u32, Class>::new();
    for (prediction, target) in scored {
        let class = classes.entry(target).or_default();
        class.asked += 1;
        class.right += u64::from(prediction == target);
        classes.entry(prediction).or_default();
    }
    // A class without targets has no correct predictions, hence recall 0 with any divisor.
    let recalls = classes.values().map(|class| class.right as f64 / class.asked.max(1) as f64);
    (!classes.is_empty()).then(|| recalls.sum::<f64>() / classes.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_scored_position_has_no_accuracy() {
        assert_eq!(Metric::Macro.accuracy([]), None);
        assert_eq!(Metric::Micro.accuracy([]), None);
    }

    #[test]
    fn a_class_predicted_but_never_asked_for_counts_zero() {
        let scored = [(0, 3), (3, 3), (3, 3), (3, 3)];
        assert_eq!(Metric::Macro.accuracy(scored), Some(0.375));
        assert_eq!(Metric::Micro.accuracy(scored), Some(0.75));
    }

    #[test]
    fn serialises_in_lower_case() -> Result<(), serde_json::Error> {
        assert_eq!(serde_json::to_string(&[Metric::Macro, Metric::Micro])?, r#"["macro","micro"]"#);
        assert_eq!(serde_json::from_str::<Metric>(r#""micro""#)?, Metric::Micro);
        Ok(())
    }

    proptest! {
        #[test]
        fn accuracies_are_shares_and_agree_at_the_ends(scored in prop::collection::vec((0u32..6, 0u32..6), 1..60)) {
            let all_right = scored.iter().all(|(prediction, target)| prediction == target);
            let all_wrong = scored.iter().all(|(prediction, target)| prediction != target);
            for metric in [Metric::Macro, Metric::Micro] {
                let accuracy = metric.accuracy(scored.iter().copied()).unwrap();
                prop_assert!((0.0..=1.0).contains(&accuracy));
                prop_assert_eq!(accuracy == 1.0, all_right);
                prop_assert_eq!(accuracy == 0.0, all_wrong);
            }
        }

        #[test]
        fn balanced_targets_and_no_stray_class_make_both_metrics_equal(
            predictions in prop::collection::vec(0u32..4, 12),
        ) {
            let scored = || predictions.iter().copied().zip((0..12).map(|position| position % 4));
            let macro_ = Metric::Macro.accuracy(scored()).unwrap();
            let micro = Metric::Micro.accuracy(scored()).unwrap();
            prop_assert!((macro_ - micro).abs() < 1e-12);
        }
    }
}
