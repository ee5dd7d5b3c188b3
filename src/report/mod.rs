//! Searches and scaling studies as a person sees them: [`Page`] puts one search on one page, [`write_comparison`]
//! several; every picture is also a [`Figure`] of its own, with its numbers.

mod again;
mod answer;
mod axis;
mod blocks;
mod candidates;
mod comparable;
mod compare;
mod evidence;
mod figure;
mod front;
#[cfg(feature = "model")]
mod isoflop;
mod latency;
mod layers;
mod live;
mod models;
mod page;
mod running;
mod shell;
mod surrogate;
#[cfg(test)]
mod testing;
mod trials;
mod used;
mod votes;

pub use candidates::candidates;
pub use comparable::{CompareError, check_comparable};
pub use compare::{compare, write_comparison};
pub use evidence::evidence;
pub use figure::{Figure, PlotError};
pub use front::{front, hypervolume};
#[cfg(feature = "model")]
pub use isoflop::isoflop;
pub use latency::Latency;
pub use layers::layers;
pub use live::LivePage;
pub use models::models;
pub use page::{Page, PageError};
pub use surrogate::{importance, predictions};
pub use trials::trials;
pub use votes::{clusters, votes};
