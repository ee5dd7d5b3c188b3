//! The specification that a program receives.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    dims::Dims,
    extrapolate::Target,
    model::ModelSpec,
    primitive::{PrimitiveId, Primitives, RegistryError, Role, Symbol},
    space::Architecture,
    study::{Direction, Goal, Trial},
};

/// The version of the format. It changes when programs for the previous version would misread the specification.
pub(super) const FORMAT: u32 = 1;
/// Seeds are below this value, which every JSON parser reads exactly.
const SEEDS: u64 = 1 << 53;

/// The specification of one attempt, written as JSON to `spec.json`. `docs/protocol.md` describes it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Spec<'a> {
    pub format: u32,
    pub composer_nas: &'static str,
    pub trial: u64,
    pub attempt: u32,
    pub seed: u64,
    pub architecture: &'a Architecture,
    pub letters: String,
    pub layers: Vec<Layer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelSpec>,
    pub score: &'a str,
    pub direction: Direction,
    pub checkpoint: &'a str,
    pub threads: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_limit: Option<f64>,
}

/// A layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Layer {
    letter: Symbol,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    described: Option<Described>,
}

/// The description of a layer, if primitives and widths are known.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Described {
    id: PrimitiveId,
    role: Role,
    parameters: u64,
    /// Its name in Hugging Face transformers, with the settings that it needs there.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    options: Map<String, Value>,
}

/// The target that turns candidates into models.
#[derive(Clone, Debug)]
pub(super) struct Candidates {
    pub target: Target,
    pub primitives: Primitives,
}

impl Candidates {
    /// Returns everything that the specification depends on, as text.
    pub(super) fn fingerprint(&self) -> String {
        let Target { dims, vocab_size, tied_embeddings, .. } = &self.target;
        let dims = serde_json::to_string(dims).unwrap_or_else(|error| error.to_string());
        let head = if *tied_embeddings { "tied" } else { "untied" };
        format!(", candidates of {vocab_size} tokens ({head}) at {dims}")
    }

    fn layer(&self, symbol: Symbol) -> Result<Described, RegistryError> {
        let dims: &Dims = &self.target.dims;
        let primitive = self.primitives.get(symbol)?;
        let parameters = primitive.cost(dims, 1).parameters;
        let mapping = primitive.hf_mapping(dims);
        let kind = mapping.as_ref().map(|mapping| mapping.kind.clone());
        let options = mapping.map(|mapping| mapping.settings).unwrap_or_default();
        Ok(Described { id: primitive.id(), role: primitive.role(), parameters, kind, options })
    }
}

/// The parts of a specification apart from the trial.
pub(super) struct Setting<'a> {
    pub goal: &'a Goal,
    pub candidates: Option<&'a Candidates>,
    pub attempt: u32,
    pub checkpoint: &'a str,
    pub threads: usize,
    pub time_limit: Option<f64>,
}

impl<'a> Spec<'a> {
    /// # Errors
    /// [`RegistryError`] if the primitives of the candidates lack a layer.
    pub(super) fn new(trial: &'a Trial, setting: &Setting<'a>) -> Result<Self, RegistryError> {
        let architecture = &trial.architecture;
        let candidates = setting.candidates;
        let layer = |&letter: &Symbol| {
            let described = candidates.map(|candidates| candidates.layer(letter)).transpose()?;
            Ok(Layer { letter, described })
        };
        Ok(Self {
            format: FORMAT,
            composer_nas: env!("CARGO_PKG_VERSION"),
            trial: trial.id.0,
            attempt: setting.attempt,
            seed: trial.seed.0 % SEEDS,
            architecture,
            letters: architecture.letters(),
            layers: architecture.layers().iter().map(layer).collect::<Result<_, _>>()?,
            model: candidates.map(|candidates| candidates.target.model(architecture.clone())),
            score: &setting.goal.score,
            direction: setting.goal.direction,
            checkpoint: setting.checkpoint,
            threads: setting.threads,
            time_limit: setting.time_limit,
        })
    }
}
