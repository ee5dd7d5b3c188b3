//! Work in progress.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod seed;
pub mod device;
pub mod primitive;
pub mod space;
pub mod study;
pub mod search;
pub mod model;
pub mod cost;
pub mod train;
pub mod evaluate;
pub mod aggregate;
pub mod extrapolate;
pub mod execute;
pub mod journal;
pub mod pipeline;
pub mod report;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;

pub use seed::{Rng, Seed};
pub use space::Architecture;

/// The names most programs import.
pub mod prelude {
    pub use burn::tensor::Device;

    pub use crate::{
        aggregate::{Aggregator, Best, NcClustering},
        cost::{Comparison, ModelCost, Workload},
        device,
        evaluate::{CancelToken, Context, EvalError, Evaluator, from_fn, mad::Mad},
        extrapolate::{Auto, Extrapolator, Stack, Stretch, Target},
        model::ModelSpec,
        pipeline::{Ask, Found, Pipeline, ProgressBar, Session},
        primitive::{
            Block, BuildError, Dims, FnPrimitive, LayerCost, Mixer, Primitive, PrimitiveId, Primitives, Role, Symbol,
            WeightInit,
        },
        search::{Exhaustive, Proposal, RandomSearch, RegularizedEvolution, SearchError, Searcher},
        seed::{Rng, Seed},
        space::{Architecture, Constraint, SearchSpace},
        study::{
            Event, Failure, FailureKind, Goal, Origin, Report, Study, StudyError, TaskReport, Trial, TrialId,
            TrialState,
        },
    };
}
