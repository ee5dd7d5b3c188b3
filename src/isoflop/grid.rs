//! The grid of a scaling study: architectures, sizes and budgets.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    cost::CostError,
    evaluate::corpus::{CorpusProtocol, TrainBudget},
    extrapolate::{ExtrapolateError, Extrapolator, Target},
    limits::{self, LimitError},
    primitive::Primitives,
    space::Architecture,
};

/// A function that returns the layer sequence for a size.
pub(crate) type Grow<'a> = Box<dyn Fn(&Target) -> Result<Architecture, ExtrapolateError> + 'a>;

/// A family of architectures: a way to make a layer sequence for any size.
pub struct Family<'a> {
    /// The name in tables and plots.
    pub name: String,
    /// Returns the sequence for a size.
    pub grow: Grow<'a>,
}

impl<'a> Family<'a> {
    /// Creates the family of an extrapolated small architecture.
    pub fn extrapolated(
        name: impl Into<String>,
        small: Architecture,
        extrapolator: impl Extrapolator + 'a,
        primitives: &'a Primitives,
    ) -> Self {
        let grow = move |target: &Target| Ok(extrapolator.extrapolate(&small, target, primitives)?.architecture);
        Self { name: name.into(), grow: Box::new(grow) }
    }

    /// Creates a family from a function of the number of attention-MLP blocks. The argument is the number of blocks of
    /// the baseline at this size.
    pub fn of_blocks(name: impl Into<String>, blocks: impl Fn(usize) -> Architecture + 'a) -> Self {
        Self { name: name.into(), grow: Box::new(move |target| Ok(blocks(target.baseline.len() / 2))) }
    }
}

/// All combinations of families, sizes and budgets.
pub struct Grid<'a> {
    /// The families of architectures.
    pub families: Vec<Family<'a>>,
    /// The sizes: dimensions and number of layers.
    pub sizes: Vec<Target>,
    /// The training work per model, in floating-point operations.
    pub budgets: Vec<f64>,
    /// The training protocol. Dimensions and budget are replaced by those of the cell.
    pub protocol: CorpusProtocol,
    /// The number of trainings of every cell, each with a different seed.
    pub seeds: u64,
}

/// One training of a grid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The name of the family.
    pub family: String,
    /// The layer sequence.
    pub architecture: Architecture,
    /// The training protocol, including dimensions and budget.
    pub protocol: CorpusProtocol,
    /// The seed.
    pub seed: u64,
}

/// A grid that cannot be planned.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GridError {
    /// There is nothing to train.
    #[error("the grid has no {0}")]
    Empty(&'static str),
    /// The budgets are too small for the sizes.
    #[error("no budget allows {0} steps at any size: choose larger budgets, smaller sizes or smaller batches")]
    TooShort(usize),
    /// A family has no sequence for a size.
    #[error("{family} has no sequence at {size}")]
    Grow {
        /// The family.
        family: String,
        /// The size.
        size: String,
        /// The error of the extrapolator.
        source: Box<ExtrapolateError>,
    },
    /// A budget is invalid, or there are too many trainings.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The cost of a model cannot be computed.
    #[error(transparent)]
    Cost(#[from] CostError),
}

impl Grid<'_> {
    /// Plans the trainings. The budgets are the outermost loop, so that a study that is stopped early has complete
    /// budgets. Cells whose budget allows fewer than `least_steps` steps are left out, since they would not get beyond
    /// the warm-up.
    ///
    /// # Errors
    /// Returns a [`GridError`] if there is nothing to train, if there are too many trainings, or if a family or the
    /// cost of a model fails.
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
                    let budget = TrainBudget::Flops(budget);
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
