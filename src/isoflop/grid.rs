//! What is trained: architectures, sizes, budgets.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    cost::CostError,
    evaluate::corpus::{Budget, CorpusProtocol},
    extrapolate::{ExtrapolateError, Extrapolator, Target},
    limits::{self, LimitError},
    primitive::Primitives,
    space::Architecture,
};

/// Makes a sequence for a size.
pub type Grow<'a> = Box<dyn Fn(&Target) -> Result<Architecture, ExtrapolateError> + 'a>;

/// A way to make a sequence for any size.
pub struct Family<'a> {
    /// What it is called in tables and pictures.
    pub name: String,
    /// The sequence at a size.
    pub grow: Grow<'a>,
}

impl<'a> Family<'a> {
    /// What `extrapolator` makes of a small architecture.
    pub fn extrapolated(
        name: impl Into<String>,
        small: Architecture,
        extrapolator: impl Extrapolator + 'a,
        primitives: &'a Primitives,
    ) -> Self {
        let grow = move |target: &Target| Ok(extrapolator.extrapolate(&small, target, primitives)?.architecture);
        Self { name: name.into(), grow: Box::new(grow) }
    }

    /// A sequence of so many blocks of attention and MLP, as the baselines are.
    pub fn of_blocks(name: impl Into<String>, blocks: impl Fn(usize) -> Architecture + 'a) -> Self {
        Self { name: name.into(), grow: Box::new(move |target| Ok(blocks(target.baseline.len() / 2))) }
    }
}

/// Architectures, sizes and budgets, each with each.
pub struct Grid<'a> {
    /// The ways to make sequences.
    pub families: Vec<Family<'a>>,
    /// The sizes: widths and amount of layers.
    pub sizes: Vec<Target>,
    /// Training work per model, in floating-point operations.
    pub budgets: Vec<f64>,
    /// How models train; widths and budget are those of the cell.
    pub protocol: CorpusProtocol,
    /// Trainings of every cell, each with draws of its own.
    pub seeds: u64,
}

/// One training of a grid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Name of the family.
    pub family: String,
    /// The sequence.
    pub architecture: Architecture,
    /// How it trains, widths and budget included.
    pub protocol: CorpusProtocol,
    /// The draw.
    pub seed: u64,
}

/// A grid that cannot be planned.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GridError {
    /// Nothing to train.
    #[error("the grid has no {0}")]
    Empty(&'static str),
    /// Budgets that buy next to nothing.
    #[error("no budget buys {0} steps at any size: choose larger budgets, smaller sizes or smaller batches")]
    TooShort(usize),
    /// A family makes no sequence for a size.
    #[error("{family} has no sequence at {size}")]
    Grow {
        /// The family.
        family: String,
        /// The size.
        size: String,
        /// Why.
        source: Box<ExtrapolateError>,
    },
    /// A budget that is none, or more trainings than anyone has time for.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The cost of a model cannot be stated.
    #[error(transparent)]
    Cost(#[from] CostError),
}

impl Grid<'_> {
    /// The trainings, budgets outermost, so that a study that is stopped early has whole budgets. Cells whose budget
    /// buys no more steps than `least_steps` are left out: they would not get beyond the warm-up.
    ///
    /// # Errors
    /// [`GridError`] when there is nothing to train or more than can be, or a family or the cost of a model fails.
    pub fn plan(&self, vocab_size: usize, primitives: &Primitives, least_steps: usize) -> Result<Vec<Cell>, GridError> {
        let counts = [
            ("families", self.families.len()),
            ("sizes", self.sizes.len()),
            ("budgets", self.budgets.len()),
            ("seeds", self.seeds.min(1) as usize),
        ];
        if let Some((name, _)) = counts.into_iter().find(|&(_, count)| count == 0) {
            return Err(GridError::Empty(name));
        }
        let sizes = [self.families.len() as u64, self.sizes.len() as u64, self.budgets.len() as u64, self.seeds];
        limits::product_at_most("the number of trainings", &sizes, limits::MAX_TRAININGS as u64)?;
        self.budgets.iter().try_for_each(|&budget| limits::check_flops("a budget", budget))?;
        let least_steps = least_steps.max(1);
        let mut cells = Vec::new();
        for &budget in &self.budgets {
            for target in &self.sizes {
                for family in &self.families {
                    let grown = (family.grow)(target);
                    let architecture = grown.map_err(|source| GridError::Grow {
                        family: family.name.clone(),
                        size: target.name.clone(),
                        source: Box::new(source),
                    })?;
                    let dims = target.dims.clone();
                    let budget = Budget::Flops(budget);
                    let protocol = CorpusProtocol { dims, budget, ..self.protocol.clone() };
                    let model = protocol.model(architecture.clone(), vocab_size);
                    if protocol.training(&model, primitives)?.steps < least_steps {
                        continue;
                    }
                    cells.extend((0..self.seeds).map(|seed| Cell {
                        family: family.name.clone(),
                        architecture: architecture.clone(),
                        protocol: protocol.clone(),
                        seed,
                    }));
                }
            }
        }
        if cells.is_empty() { Err(GridError::TooShort(least_steps)) } else { Ok(cells) }
    }
}
