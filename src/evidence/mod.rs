//! Published comparisons of layer layouts, and how well a score agrees with them.
//!
//! A proxy is only as good as its predictions. [`Evidence`] holds groups of models that their authors pre-trained under
//! equal conditions and that differ in the order, the ratio or the type of their layers. [`Evidence::published`]
//! contains those that come with the crate. Use them to judge any score of an architecture, such as the scores of a
//! [`Table`](crate::evaluate::Table) that the example `calibrate --published` has measured:
//!
//! ```
//! use composer_nas::{evidence::Evidence, primitive::Symbol};
//!
//! let evidence = Evidence::published();
//! let judgement = evidence.judge(|layout| vec![layout.count(Symbol::ATTENTION) as f64])?;
//! println!("{judgement}");
//! assert_eq!(judgement.groups[0].pairs, 103);
//! # Ok::<(), composer_nas::evidence::EvidenceError>(())
//! ```
//!
//! # How pairs are counted
//!
//! A group lists pairs of its layouts, with the better one first: those that differ by more than the error. A score is
//! right on a pair if it is higher for the better layout. Equal scores count half and are also reported separately, and
//! so are pairs with a missing score, which do not count. The agreement of a paper is that of all its pairs together.
//! The macro mean weights all papers equally. Chance level is 0.5.
//!
//! You can write your own comparisons to a JSON file of the same format; see [`Group`].

mod check;
mod collection;
mod group;
mod judgement;
pub mod rules;

pub use collection::{Evidence, EvidenceError};
pub use group::{Group, Layout};
pub use judgement::{GroupJudgement, Judgement, PaperJudgement};
