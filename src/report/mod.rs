//! Pages and figures of searches and scaling studies. [`Page`] shows one search on one page, and [`write_comparison`]
//! compares several. Every picture is also available as a [`Figure`], with its numbers.

mod again;
mod answer;
mod axis;
mod blocks;
mod candidates;
mod comparable;
mod compare;
#[cfg(feature = "model")]
mod conversion;
mod costs;
mod curves;
mod evidence;
mod figure;
mod front;
mod full_size;
mod gap;
mod hypervolume;
mod references;
#[cfg(feature = "model")]
mod isoflop;
mod latency;
mod layers;
mod live;
mod models;
mod page;
mod running;
mod shell;
mod summary;
mod surrogate;
#[cfg(test)]
mod testing;
mod trials;
mod units;
mod used;
mod votes;
mod why;

pub(crate) use candidates::candidates;
pub use comparable::{CompareError, check_comparable};
pub use compare::{compare, write_comparison};
#[cfg(feature = "model")]
pub use conversion::{ConversionPageError, write_conversion};
pub use evidence::evidence;
pub use figure::{Figure, PlotError};
pub(crate) use front::front;
#[cfg(feature = "model")]
pub use isoflop::isoflop;
pub use latency::Latency;
pub(crate) use layers::layers;
pub use live::LivePage;
pub use page::{Page, PageError};
pub(crate) use surrogate::{importance, predictions};
pub(crate) use trials::trials;
