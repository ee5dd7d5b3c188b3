//! Who proposes the next architecture, as a flag.

use clap::ValueEnum;
use composer_nas::{
    prelude::*,
    search::{Exhaustive, LocalSearch, RegularizedEvolution},
};

/// A searcher by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SearcherKind {
    Gp,
    Composer,
    Evolution,
    LocalSearch,
    Random,
    Exhaustive,
}

impl SearcherKind {
    pub fn searcher(self) -> Box<dyn Searcher> {
        match self {
            SearcherKind::Gp => Box::new(GpBo::default()),
            SearcherKind::Composer => Box::new(GpBo::composer()),
            SearcherKind::LocalSearch => Box::new(LocalSearch::default()),
            SearcherKind::Evolution => Box::new(RegularizedEvolution::default()),
            SearcherKind::Random => Box::new(RandomSearch),
            SearcherKind::Exhaustive => Box::new(Exhaustive),
        }
    }
}
