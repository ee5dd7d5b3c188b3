//! Published comparisons of layer layouts, and how far a score orders them as their trainings did.
//!
//! A proxy is worth what it predicts. [`Evidence`] holds groups of models that their authors pre-trained under equal
//! conditions and that differ in the order, the ratio or the kind of their layers; [`Evidence::published`] are those
//! that come with the crate. Any score of an architecture can be judged by them, such as the scores of a
//! [`Table`](crate::evaluate::Table) that the example `calibrate --published` has measured:
//!
//! ```
//! use composer_nas::evidence::{Evidence, rules};
//!
//! let evidence = Evidence::published();
//! let judgement = evidence.judge(|layout| vec![rules::attention_layers(layout)])?;
//! println!("{judgement}");
//! assert_eq!(judgement.groups[0].pairs, 103);
//! # Ok::<(), composer_nas::evidence::EvidenceError>(())
//! ```
//!
//! # How pairs are counted
//!
//! A group names pairs of its layouts, the better one first: those further apart than its error. A score is right on a
//! pair when it is higher for the better layout; an equal score counts half and is shown apart. A pair whose score is
//! missing is counted as such. The agreement of a paper is that of all its pairs together, and the macro mean has one
//! vote per paper. Chance is 0.5.
//!
//! Comparisons of your own are a JSON file of the same form, see [`Group`].

mod check;
mod collection;
mod group;
mod judgement;
pub mod rules;

pub use collection::{Evidence, EvidenceError};
pub use group::{Group, Layout};
pub use judgement::{GroupJudgement, Judgement, PaperJudgement};
