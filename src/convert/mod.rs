//! Converting a trained model to a hybrid: a search over which of its layers to keep.
//!
//! The [`Parent`] is the trained model. [`Alternatives`] list what can replace each of its layers: its own attention
//! restricted to a window, a recurrent layer that starts from its projections, a layer of yours, or [no
//! layer](NoLayer). A [`BlockLibrary`] holds every alternative of every layer, trained to imitate the output of the
//! parent's layer (local distillation, as in Puzzle, Bercovich et al. 2024, arXiv 2411.19146). [`Distillation`] is the
//! evaluator: it assembles a candidate from the library, without training, and measures the divergence of its
//! next-token distributions from those of the parent. Any [`Searcher`](crate::search::Searcher) can then choose the
//! layers under a budget. [`uniform`], [`first`], [`last`], [`ranked`] and [`greedy`] are baselines for comparison.
//! [`heal`] trains the chosen model on the distributions of the parent.
//!
//! The example `convert` runs all these steps. `docs/conversion.md` reports the results.
//!
//! ```
//! use std::sync::Arc;
//! use composer_nas::{convert::*, data::{TokenFile, TokenWidth, Windows}, prelude::*};
//!
//! # let folder = tempfile::tempdir()?;
//! # let text = folder.path().join("text.bin");
//! # std::fs::write(&text, (0..2000_u32).map(|at| (at * at % 11) as u8).collect::<Vec<_>>())?;
//! let primitives = Primitives::standard();
//! let device = Device::flex();
//! // Usually a trained model from `Parent::open`.
//! let spec = Target::custom("tiny", Dims::new(16, 32, 2)?, 11, true, 3)?.model("AMAMAM".parse()?);
//! let parent = Parent::new(spec.clone(), HybridLm::new(&spec, &primitives, Seed(0), &device)?)?;
//!
//! let alternatives = Alternatives::of(&spec.architecture, Symbol::ATTENTION, [Symbol::SLIDING_WINDOW]);
//! let [text, held_out] = Windows::split(Arc::new(TokenFile::open(&text, TokenWidth::U8)?), 11, 80, 0.3)?;
//! let settings = LocalDistillation { windows: 2, held_out: 1, ..LocalDistillation::default() };
//! let recipe = LibraryRecipe {
//!     parent: &parent, primitives: &primitives, alternatives: &alternatives, text: &text, settings: &settings,
//! };
//! let library = Arc::new(BlockLibrary::build(&recipe, folder.path().join("library"), 2, &|_| {})?);
//! let evaluator = OneSeed(Distillation::new(library.clone(), &alternatives, held_out.sample(2, 1)?)?);
//! let damages = single_damages(&evaluator, &alternatives, 2)?;
//!
//! // Keep at most one attention layer.
//! let space = alternatives.space([Constraint::Count { symbol: Symbol::ATTENTION, min: 0, max: 1 }])?;
//! let pipeline = Pipeline::new(&primitives, space.clone(), evaluator).goal(Goal::minimize(KL));
//! let pipeline = pipeline.enqueue(starts(&alternatives, &damages, &space, 2)).trials(4);
//! let found = search(&library, pipeline)?;
//! assert!(found.weights.is_some() && found.aggregated.count(Symbol::ATTENTION) == 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod activations;
mod alternatives;
mod choice;
mod choose;
mod distillation;
mod error;
mod gates;
mod heal;
mod inherit;
mod library;
mod local;
mod no_layer;
mod parent;
mod search;

pub use alternatives::Alternatives;
pub use choice::Choice;
pub use choose::{
    Damages, OneSeed, best_of, evaluate_all, first, greedy, last, ranked, single_damages, starts, uniform,
};
pub use distillation::{Distillation, KL, LOSS};
pub use error::ConvertError;
pub use gates::{Gates, gates};
pub use heal::{Healing, heal};
pub use inherit::{gated_delta_net_like, inherit, mamba2_like};
pub use library::{BlockLibrary, BlockRecord, LibraryRecipe};
pub use local::LocalDistillation;
pub use no_layer::{NoLayer, without_empty_layers};
pub use parent::Parent;
pub use search::{ParentSized, leaders, search};
