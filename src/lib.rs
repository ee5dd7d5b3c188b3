//! Automated design of hybrid LLM architectures.
//!
//! How should attention, MLP, recurrent and other layers be interleaved? This crate answers the question by a search,
//! as Composer does (Acun, Sinha et al., ICLR 2026, arXiv 2510.00379):
//!
//! 1. a [`Searcher`](search::Searcher) proposes short layer sequences, such as `2A+4M`;
//! 2. an [`Evaluator`](evaluate::Evaluator) trains each of them at small scale, for example on the [MAD
//!    tasks](evaluate::mad);
//! 3. an [`Aggregator`](aggregate::Aggregator) turns the best of them into one robust sequence;
//! 4. an [`Extrapolator`](extrapolate::Extrapolator) scales that sequence up about a thousandfold, to the widths of
//!    Llama.
//!
//! A [`Pipeline`](pipeline::Pipeline) runs the four stages. You can replace every stage, and add your own layers.
//!
//! # A search in five steps
//!
//! **1. Define the search space.** A primitive is a kind of layer, with a name and a one-letter symbol. A search space
//! states which sequences of layers are allowed, and knows how many there are.
//!
//! ```
//! use composer_nas::prelude::*;
//!
//! let primitives = Primitives::standard();
//! let space = SearchSpace::uniform(primitives.symbols(["attention", "swiglu"])?, 6)?;
//! assert_eq!(space.size(), 64);
//! let few = space.count(Symbol::ATTENTION, 1..=2)?; // one or two layers of attention
//! assert_eq!(few.size(), 6 + 15);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **2. Choose an evaluator.** An evaluator turns a trial into a report. [`Mad`](evaluate::mad::Mad) trains a small
//! model on synthetic tasks. A closure can be an evaluator too, and so can your own training code.
//!
//! ```
//! use composer_nas::prelude::*;
//!
//! let evaluator = from_fn("attention early", |trial: &Trial, _: &Context| {
//!     let early = trial.architecture.layers()[..2].iter().filter(|&&layer| layer == Symbol::ATTENTION).count();
//!     Ok(Report::score("accuracy", early as f64 / 2.0))
//! });
//! # let _ = evaluator.fingerprint();
//! ```
//!
//! **3. Run the search.** Unset options use their defaults. With a journal, an interrupted search resumes when you run
//! the same program again.
//!
//! ```no_run
//! # use composer_nas::prelude::*;
//! # let primitives = Primitives::standard();
//! # let space = SearchSpace::uniform(primitives.symbols(["attention", "swiglu"])?, 6)?;
//! let found = Pipeline::new(&primitives, space, Mad::quick(&primitives, &device::best()?.device))
//!     .searcher(GpBo::default())
//!     .aggregator(NcClustering::n0())
//!     .extrapolator(Auto)
//!     .trials(24)
//!     .workers(2)
//!     .seed(7)
//!     .journal("runs/hello/journal.jsonl")
//!     .observer(ProgressBar::new())
//!     .run(&Target::llama_1b())?;
//! println!("{} -> {}", found.aggregated, found.target.architecture);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **4. Inspect the result.** [`report::Page`] shows the whole search on one page, even while the search is running.
//! [`Comparison`](cost::Comparison) compares the result with other models.
//!
//! ```
//! # use composer_nas::{cost::{Comparison, Workload}, prelude::*};
//! use composer_nas::report::Page;
//!
//! # let primitives = Primitives::standard();
//! # let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 4)?;
//! # let score = |trial: &Trial, _: &Context| Ok(Report::score("accuracy", trial.architecture.runs().count() as f64));
//! # let target = Target::llama_1b();
//! # let folder = tempfile::tempdir()?;
//! # let found = Pipeline::new(&primitives, space, from_fn("runs", score)).trials(8).run(&target)?;
//! Page::new(&found.study).target(&target, &found.target, &primitives).write(folder.path().join("report.html"))?;
//! let models = [("llama", &target.baseline_model()), ("found", &found.target)];
//! println!("{}", Comparison::new(models, &primitives, Workload::bf16(4096))?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **5. Use the result.** [`Found::target`](pipeline::Found::target) is a plain value. [`HybridLm`](model::HybridLm)
//! builds it as a Burn module, [`pretrain`] trains it, and [`export`] writes it in the formats of other tools.
//!
//! ```
//! use composer_nas::prelude::*;
//!
//! let spec = Target::custom("tiny", Dims::new(32, 96, 4)?, 100, true, 2)?.model("2A+2M".parse()?);
//! let model = HybridLm::new(&spec, &Primitives::standard(), Seed(0), &Device::flex())?;
//! # let _ = model;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A custom layer takes about thirty lines: see [`primitive::FnPrimitive`]. To write your own search loop, use
//! [`pipeline::Session`]: ask for a trial, evaluate it wherever you like, tell the result.
//!
//! # Where to find what
//!
//! | to | use |
//! |---|---|
//! | define the available layers | [`primitive::Primitives`], [`primitive::Primitive`] |
//! | allow and forbid sequences | [`space::SearchSpace`], [`space::Constraint`], [`cost::Budget`] |
//! | change the search strategy | [`search`], or your own [`search::Searcher`] |
//! | change the score | [`evaluate`], or your own [`evaluate::Evaluator`] |
//! | run your own training code, in any language | [`evaluate::Program`] |
//! | waste less training time | [`stopping::MedianPruner`], [`stopping::Racing`], [`evaluate::Cached`] |
//! | learn what a score predicts | [`evidence::Evidence`] |
//! | reduce noise | [`evaluate::Repeated`], [`search::Replicate`], [`aggregate::Pooled`] |
//! | use many machines | [`execute::Process`], [`execute::Slurm`] |
//! | read a search from another program | [`journal::read`], then [`study::Study`] |
//! | watch it | [`pipeline::ProgressBar`], [`report::LivePage`], [`pipeline::MetricsFile`], [`pipeline::Observer`] |
//! | compute sizes, FLOPs, cache and run times | [`cost::ModelCost`], [`cost::Comparison`], [`cost::LayerTimes`] |
//! | train the architecture you found | [`pretrain`], [`data`], [`downstream`] |
//! | study how families of models scale | [`isoflop`] |
//! | exchange models with other tools | [`export`], [`import`] |
//! | turn a trained model into a hybrid | [`convert`] |
//! | test your own implementation of a trait | `testkit` |
//!
//! # Modules, in the order in which data flows
//!
//! 1. [`seed`], [`limits`], [`text`], [`statistics`], `retry`, [`durable`], `line_file`, [`dims`], [`device`]: named
//!    random streams, size limits, escaping of text, statistics of noisy numbers, retries, atomic file writes,
//!    append-only files, layer dimensions, named devices
//! 2. `kernels`, [`layer`], [`primitive`]: what layers compute, and the kinds of layers
//! 3. [`space`]: which sequences are allowed
//! 4. [`study`]: the trials of a search and their results
//! 5. [`aggregate`]: study → one architecture
//! 6. [`search`]: study → next architecture; [`stopping`]: study → values that a trial must reach to continue
//! 7. [`model`], [`weights`], [`cost`], [`train`]: specification → network, its weight files, its size and FLOPs, its
//!    training; [`extrapolate`]: small architecture → model at the target's size; [`data`], [`pretrain`],
//!    [`downstream`]: token files, pre-training on them, multiple-choice benchmarks
//! 8. [`evaluate`]: trial → report; [`evidence`]: published comparisons against which proxy scores are checked
//! 9. [`execute`]: where trials run; [`isoflop`]: how architectures scale
//! 10. [`journal`], [`pipeline`]: the log of a search, and the composition of all stages
//! 11. [`export`], [`import`]: models in the file formats of other tools; [`convert`]: trained models → hybrids
//! 12. [`report`]: HTML pages and figures of searches and studies
//! 13. `testkit` (feature of the same name): the laws of the traits, as test functions for your own implementations
//!
//! # Features
//!
//! Without default features, the crate contains only the search: spaces, searchers, aggregators, journals, sessions,
//! tables and reports. You bring your own evaluator. It then compiles in about a minute and does not depend on Burn.
//! The feature `model` adds layers, training, the MAD tasks, pre-training, export and import. Every backend feature
//! enables it.
//!
//! | feature | Burn backend |
//! |---|---|
//! | `flex` (default) | CPU, pure Rust, with SIMD and threads |
//! | `cuda` | NVIDIA GPUs; Burn's build script downloads LLVM |
//! | `rocm` | AMD GPUs |
//! | `wgpu` | any GPU through Vulkan, Metal or DirectX |
//! | `ndarray` | the older CPU backend, deprecated by Burn |
//!
//! `tokenizers` (default) adds the import of text into token files, see [`data`]. `testkit` adds the tests of the
//! traits' laws. Custom layers must use the same version of Burn as this crate: `use composer_nas::burn;`.
//!
//! You choose the device at run time, with [`device::best`] or [`device::named`].
#![forbid(unsafe_code)]
#![deny(missing_docs)]
// Some items in the shared modules are used only by layers.
#![cfg_attr(not(feature = "model"), allow(dead_code))]
// The documentation covers the whole crate, so links into `model` code break without that feature.
#![cfg_attr(not(feature = "model"), allow(rustdoc::broken_intra_doc_links))]

pub mod seed;
pub mod limits;
pub mod text;
pub mod statistics;
pub(crate) mod retry;
pub mod durable;
pub(crate) mod line_file;
pub mod dims;
#[cfg(feature = "model")]
pub mod device;
#[cfg(feature = "model")]
pub(crate) mod kernels;
#[cfg(feature = "model")]
pub mod layer;
pub mod primitive;
pub mod space;
pub mod study;
pub mod aggregate;
pub mod search;
pub mod stopping;
pub mod model;
#[cfg(feature = "model")]
pub mod weights;
pub mod cost;
pub mod extrapolate;
#[cfg(feature = "model")]
pub mod train;
#[cfg(feature = "model")]
pub mod data;
#[cfg(feature = "model")]
pub mod pretrain;
#[cfg(feature = "model")]
pub mod downstream;
pub mod evaluate;
pub mod evidence;
pub mod execute;
#[cfg(feature = "model")]
pub mod isoflop;
pub mod journal;
pub mod pipeline;
#[cfg(feature = "model")]
pub mod export;
#[cfg(feature = "model")]
pub mod import;
#[cfg(feature = "model")]
pub mod convert;
pub mod report;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;

/// The version of Burn that the layers use. Write custom layers against it: `use composer_nas::burn;`.
#[cfg(feature = "model")]
pub use burn;
/// The version of rand that provides [`seed::Rng`].
pub use rand;

/// Runs the programs in the documentation as tests.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/quick_start.md")]
    struct QuickStart;
    #[doc = include_str!("../docs/concepts.md")]
    struct Concepts;
    #[doc = include_str!("../docs/embedding.md")]
    struct Embedding;
    #[doc = include_str!("../docs/plug_in.md")]
    struct PlugIn;
    #[doc = include_str!("../docs/cluster.md")]
    struct Cluster;
    #[doc = include_str!("../docs/several_goals.md")]
    struct SeveralGoals;
}

#[cfg(all(doctest, feature = "tokenizers"))]
#[doc = include_str!("../docs/data.md")]
struct DataGuide;

/// The most commonly used names: the traits, the default implementation of each stage, and the values they exchange.
pub mod prelude {
    pub use crate::{
        aggregate::{Aggregator, NcClustering},
        dims::Dims,
        evaluate::{Context, EvalError, Evaluator, from_fn},
        extrapolate::{Auto, Extrapolator, Target},
        model::ModelSpec,
        pipeline::{Found, Pipeline, ProgressBar, Session},
        primitive::{Primitive, Primitives, Symbol},
        search::{GpBo, Proposal, RandomSearch, Searcher},
        seed::{Rng, Seed},
        space::{Architecture, Constraint, SearchSpace},
        study::{Goal, Report, Study, Trial},
    };
    #[cfg(feature = "model")]
    pub use crate::{
        device::{self, Device},
        evaluate::mad::Mad,
        model::HybridLm,
    };
}
