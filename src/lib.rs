//! Automated design of hybrid LLM architectures.
//!
//! How should attention, MLP, recurrent, ... layers be interleaved? This crate turns the question into a search, as
//! Composer does (Acun, Sinha et al., ICLR 2026, arXiv 2510.00379):
//!
//! 1. a [`Searcher`](search::Searcher) proposes small layer sequences, such as `2A+4M`;
//! 2. an [`Evaluator`](evaluate::Evaluator) trains each at small scale, on the [MAD tasks](evaluate::mad) for example;
//! 3. an [`Aggregator`](aggregate::Aggregator) merges the best into one robust sequence;
//! 4. an [`Extrapolator`](extrapolate::Extrapolator) scales it about a thousand times, to the widths of Llama.
//!
//! A [`Pipeline`](pipeline::Pipeline) composes the four. Every stage can be replaced, and layers of your own take part
//! like ours.
//!
//! # A search in five steps
//!
//! **What is searched.** A primitive is what a layer can be; each has a name and a letter. A space says which sequences
//! are allowed, and knows how many there are.
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
//! **What is good.** An evaluator turns a trial into a report. [`Mad`](evaluate::mad::Mad) trains a small model on
//! synthetic tasks; a closure does as well, and so does a training of your own.
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
//! **The search.** What is not said has a default. With a journal the search survives whatever stops it: the same
//! program again goes on.
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
//! **A look at it.** [`report::Page`] shows the whole search on one page, also while it runs;
//! [`Comparison`](cost::Comparison) puts what was found beside other models.
//!
//! ```
//! # use composer_nas::{cost::{Comparison, Workload}, prelude::*};
//! use composer_nas::report::Page;
//!
//! # let primitives = Primitives::standard();
//! # let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 4)?;
//! # let score = |trial: &Trial, _: &Context| Ok(Report::score("accuracy", trial.architecture.runs().count() as f64));
//! # let (target, folder) = (Target::llama_1b(), tempfile::tempdir()?);
//! # let found = Pipeline::new(&primitives, space, from_fn("runs", score)).trials(8).run(&target)?;
//! Page::new(&found.study).target(&target, &found.target, &primitives).write(folder.path().join("report.html"))?;
//! let models = [("llama", &target.baseline_model()), ("found", &found.target)];
//! println!("{}", Comparison::new(models, &primitives, Workload::bf16(4096))?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **What to do with it.** [`Found::target`](pipeline::Found::target) is a plain value; [`HybridLm`](model::HybridLm)
//! builds it as a Burn module, [`pretrain`] trains it, [`export`] hands it to other tools.
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
//! A layer of your own is some thirty lines: [`primitive::FnPrimitive`]. Your own loop around a search is
//! [`pipeline::Session`]: ask, evaluate wherever you like, tell.
//!
//! # Where to find what
//!
//! | you want | it is |
//! |---|---|
//! | to say what layers there are | [`primitive::Primitives`], [`primitive::Primitive`] |
//! | to allow and forbid sequences | [`space::SearchSpace`], [`space::Constraint`], [`cost::Budget`] |
//! | another strategy of search | [`search`], or your [`search::Searcher`] |
//! | another score | [`evaluate`], or your [`evaluate::Evaluator`] |
//! | your own training, in any language | [`evaluate::Program`] |
//! | fewer wasted trainings | [`stopping::MedianPruner`], [`stopping::Racing`], [`evaluate::Cached`] |
//! | to know what a score predicts | [`evidence::Evidence`] |
//! | less noise | [`evaluate::Repeated`], [`search::Replicate`], [`aggregate::Pooled`] |
//! | many machines | [`execute::Process`], [`execute::Slurm`] |
//! | to read a search from another program | [`journal::read`], then [`study::Study`] |
//! | to watch it | [`pipeline::ProgressBar`], [`report::LivePage`], [`pipeline::MetricsFile`], [`pipeline::Observer`] |
//! | sizes, work, cache, times | [`cost::ModelCost`], [`cost::Comparison`], [`cost::LayerTimes`] |
//! | to train what was found | [`pretrain`], [`data`], [`downstream`] |
//! | how families of models scale | [`isoflop`] |
//! | to take it elsewhere | [`export`], [`import`] |
//! | to make a hybrid of a trained model | [`convert`] |
//! | to test what you plugged in | `testkit` |
//!
//! # The modules, in the order in which data flows
//!
//! 1. [`seed`], [`limits`], [`text`], [`statistics`], `retry`, [`durable`], `line_file`, [`dims`], [`device`]: named
//!    random
//!    streams, bounds on sizes, texts made safe to show, judging noisy numbers, files that are whole or absent,
//!    append-only files, sizes of layers, named devices
//! 2. `kernels`, [`layer`], [`primitive`]: what layers compute, what a layer can be
//! 3. [`space`]: which sequences are allowed
//! 4. [`study`]: what is known
//! 5. [`aggregate`]: study → one architecture
//! 6. [`search`]: study → next architecture; [`stopping`]: study → what a trial must reach
//! 7. [`model`], [`weights`], [`cost`], [`train`]: specification → network, its files, size and work, its training;
//!    [`extrapolate`]: small architecture → model at the target's size;
//!    [`data`], [`pretrain`], [`downstream`]: token files, pre-training on them, answers to questions
//! 8. [`evaluate`]: trial → report; [`evidence`]: published comparisons, by which a proxy is judged
//! 9. [`execute`]: where trials run; [`isoflop`]: how architectures scale
//! 10. [`journal`], [`pipeline`]: how a search is remembered, the composition
//! 11. models in the files of other tools, and back: [`export`], [`import`]; trained models to hybrids: [`convert`]
//! 12. pictures of searches and studies: [`report`]
//! 13. `testkit` (feature of that name): the laws of the traits, for the tests of a plug-in
//!
//! # Features
//!
//! Without default features the crate is the search alone: spaces, searchers, aggregators, journals, sessions, tables
//! and reports, for an evaluator of your own. It then compiles in a minute and has no tensor. `model` adds layers,
//! training, the MAD tasks, pre-training, export and import; every backend of Burn implies it.
//!
//! | feature | backend of Burn |
//! |---|---|
//! | `flex` (default) | CPU, pure Rust, with SIMD and threads |
//! | `cuda` | NVIDIA GPUs; Burn's build script downloads an LLVM |
//! | `rocm` | AMD GPUs |
//! | `wgpu` | any GPU through Vulkan, Metal or WebGPU |
//! | `ndarray` | the older CPU backend, deprecated by Burn |
//!
//! `tokenizers` (default) adds the import of text, [`data`]. `testkit` adds the laws of the traits, for tests of a
//! plug-in. Layers of your own are written against the same Burn: `use composer_nas::burn;`.
//!
//! The device is a value, chosen at run time: [`device::best`] or [`device::named`].
#![forbid(unsafe_code)]
#![deny(missing_docs)]
// What only layers need of the sizes and tables that the search shares with them.
#![cfg_attr(not(feature = "model"), allow(dead_code))]
// The documentation speaks of the whole crate.
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

/// The version of Burn that the layers are made of, for those of your own: `use composer_nas::burn;`.
#[cfg(feature = "model")]
pub use burn;
/// The version of rand behind [`Rng`].
pub use rand;

pub use seed::{Rng, Seed};
pub use space::Architecture;

/// The programs in the documents run as tests.
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
    #[doc = include_str!("../docs/searchers.md")]
    struct Searchers;
}

#[cfg(all(doctest, feature = "tokenizers"))]
#[doc = include_str!("../docs/data.md")]
struct DataGuide;

/// The names most programs import: the traits, the default of each stage, and the values between them.
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
