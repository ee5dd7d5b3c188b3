//! The flag for the searcher.

use clap::ValueEnum;
use composer_nas::{
    prelude::*,
    search::{Exhaustive, LocalSearch, RegularizedEvolution},
};

/// A searcher by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SearcherKind {
    /// Bayesian optimisation with a Gaussian process.
    Gp,
    /// The searcher of the Composer paper, with the default surrogate of BoTorch.
    Composer,
    /// Regularised evolution.
    Evolution,
    /// Local search: architectures one change away from the best so far.
    LocalSearch,
    /// Random architectures.
    Random,
    /// All architectures in order.
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
