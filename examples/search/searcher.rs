//! The flags for the searcher.

use anyhow::ensure;
use clap::ValueEnum;
use composer_nas::{
    prelude::*,
    search::{Exhaustive, Incremental, LocalSearch, RegularizedEvolution, Side},
};

/// The default number of layers of a stage.
const STAGE_LAYERS: usize = 4;

/// The default number of trials of a stage.
const STAGE_TRIALS: usize = 15;

/// How the next architecture is chosen.
#[derive(Debug, clap::Args)]
pub struct SearcherArgs {
    /// How the next architecture is chosen.
    #[arg(long, value_enum, default_value_t = SearcherKind::Gp)]
    searcher: SearcherKind,
    /// Number of layers that each stage of end-layer or middle-layer adds; 4 by default.
    #[arg(long, value_name = "LAYERS")]
    stage_layers: Option<usize>,
    /// Number of trials of each stage of end-layer or middle-layer; 15 by default.
    #[arg(long, value_name = "TRIALS")]
    stage_trials: Option<usize>,
}

/// A searcher by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum SearcherKind {
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
    /// Sequences that grow at their end, stage by stage, each searched as by gp.
    EndLayer,
    /// Sequences that grow in their middle.
    MiddleLayer,
}

impl SearcherArgs {
    /// Returns the searcher for sequences of this length. `trials` is the budget, if it is known.
    pub fn searcher(&self, layers: usize, trials: Option<usize>) -> anyhow::Result<Box<dyn Searcher>> {
        let in_stages = matches!(self.searcher, SearcherKind::EndLayer | SearcherKind::MiddleLayer);
        ensure!(
            in_stages || (self.stage_layers, self.stage_trials) == (None, None),
            "--stage-layers and --stage-trials are for --searcher end-layer and middle-layer"
        );
        Ok(match self.searcher {
            SearcherKind::Gp => Box::new(GpBo::default()),
            SearcherKind::Composer => Box::new(GpBo::composer()),
            SearcherKind::LocalSearch => Box::new(LocalSearch::default()),
            SearcherKind::Evolution => Box::new(RegularizedEvolution::default()),
            SearcherKind::Random => Box::new(RandomSearch),
            SearcherKind::Exhaustive => Box::new(Exhaustive),
            SearcherKind::EndLayer => Box::new(self.incremental(Side::End, layers, trials)?),
            SearcherKind::MiddleLayer => Box::new(self.incremental(Side::Middle, layers, trials)?),
        })
    }

    fn incremental(&self, side: Side, layers: usize, trials: Option<usize>) -> anyhow::Result<Incremental<GpBo>> {
        let stage_layers = self.stage_layers.unwrap_or(STAGE_LAYERS);
        let stage_trials = self.stage_trials.unwrap_or(STAGE_TRIALS);
        let searcher = Incremental::new(GpBo::default(), side, stage_layers, stage_trials)?;
        let earlier = layers.div_ceil(stage_layers) - 1;
        let needed = earlier.saturating_mul(stage_trials);
        ensure!(
            trials.is_none_or(|trials| trials > needed),
            "the {earlier} stages before the last need up to {needed} trials: raise --trials, or lower --stage-trials"
        );
        Ok(searcher)
    }
}
