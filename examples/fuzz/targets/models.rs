//! Model specifications, sizes, times and launch scripts.

use anyhow::ensure;
use composer_nas::{
    cost::{Budget, Comparison, CostMetric, LayerTimes, ModelCost, Seconds, Timing, Workload},
    export::{self, MegatronTraining},
    extrapolate::{Stack, Stretch, Target as Size},
    import,
    prelude::*,
    report::{Latency, Page},
    text::causes,
};
use std::fs;

use super::{Seen, Target, json, round_trip};

/// Returns the widths of a model that takes no time.
pub fn tiny() -> anyhow::Result<Dims> {
    Ok(Dims::new(16, 32, 2)?)
}

/// Returns a model with one layer of each kind at these widths.
pub fn spec() -> anyhow::Result<ModelSpec> {
    Ok(Size::custom("tiny", tiny()?, 40, true, 1)?.model("1A+1M".parse()?))
}

pub const DIMS: Target = Target {
    name: "dims",
    what: "widths, and what every layer costs at them",
    seeds: |_| json([tiny()?, Size::llama_1b().dims, Size::llama_8b().dims]),
    run: |input, _| {
        round_trip::<Dims>(input, |dims| {
            if let Err(error) = dims.validate() {
                return Seen::refused(error);
            }
            for primitive in Primitives::standard().iter() {
                let [short, long] = [1, 1 << 20].map(|length| primitive.cost(&dims, length));
                ensure!(short.parameters == long.parameters, "parameters depend on the length of a sequence");
                let _ = primitive.hf_mapping(&dims);
            }
            Seen::read("widths")
        })
    },
};

pub const BUDGET: Target = Target {
    name: "budget",
    what: "budgets of a space: widths, workload, bound",
    seeds: |_| {
        let budget = |metric| -> anyhow::Result<_> {
            Ok(Budget { metric, max: 1 << 24, dims: tiny()?, workload: Workload::bf16(64) })
        };
        json([
            budget(CostMetric::NonEmbeddingParameters)?,
            budget(CostMetric::ForwardFlopsPerToken)?,
            budget(CostMetric::CacheBytesPerSequence)?,
        ])
    },
    run: |input, _| {
        round_trip::<Budget>(input, |budget| {
            let symbols: Vec<Symbol> = "ASBGCMFRE".chars().map(Symbol::try_from).collect::<Result<_, _>>()?;
            let constraint = match budget.constraint(&symbols, &Primitives::standard()) {
                Ok(constraint) => constraint,
                Err(error) => return Seen::refused(error),
            };
            match SearchSpace::uniform(symbols, 4)?.with(constraint) {
                Ok(space) => Seen::read(if space.size() == 9u128.pow(4) { "all" } else { "some" }),
                Err(error) => Seen::refused(error),
            }
        })
    },
};

pub const SPEC: Target = Target {
    name: "spec",
    what: "specifications of models: cost, comparison, and the config.json of its export, read again",
    seeds: |_| {
        let big = Size::llama_1b().model("2A+1S+1B+1G+1C+3M+1F+1R+1E".parse()?);
        json([spec()?, big, Size::llama_8b().baseline_model()])
    },
    run: |input, folder| {
        round_trip::<ModelSpec>(input, |spec| {
            if let Err(error) = spec.validate() {
                return Seen::refused(error);
            }
            let primitives = Primitives::standard();
            let cost = match ModelCost::new(&spec, &primitives, Workload::bf16(4096)) {
                Ok(cost) => cost,
                Err(error) => return Seen::refused(error),
            };
            ensure!(cost.total_parameters >= cost.active_parameters, "more active parameters than there are");
            let llama = Size::llama_350m().baseline_model();
            let workload = Workload::bf16(4096);
            let comparison = Comparison::new([("one", &spec), ("two", &llama)], &primitives, workload)?;
            let _ = (comparison.to_string(), comparison.notes());
            let folder = folder.join("exported");
            let options = export::Options { overwrite: true, ..Default::default() };
            if let Err(error) = export::hugging_face(&spec, None, &primitives, &folder, &options) {
                return Seen::read(causes(&error));
            }
            let again = import::spec(&folder, &primitives)?;
            ensure!(again.architecture == spec.architecture, "the export reads back as another sequence");
            Seen::read("exported")
        })
    },
};

pub const TARGET: Target = Target {
    name: "target",
    what: "sizes to be built, and what is extrapolated to them",
    seeds: |_| json([Size::llama_350m(), Size::llama_8b(), Size::custom("tiny", tiny()?, 40, true, 3)?]),
    run: |input, _| {
        round_trip::<Size>(input, |target| {
            if let Err(error) = target.validate() {
                return Seen::refused(error);
            }
            let primitives = Primitives::standard();
            let small = "2A+1B+3M".parse()?;
            for extrapolator in [&Stack as &dyn Extrapolator, &Stretch, &Auto] {
                let model = match extrapolator.extrapolate(&small, &target, &primitives) {
                    Ok(model) => model,
                    Err(error) => return Seen::refused(error),
                };
                ensure!(model.dims == target.dims && model.vocab_size == target.vocab_size, "other widths than asked");
            }
            match target.compare([("small", &small)], &primitives, Workload::bf16(64)) {
                Ok(comparison) => Seen::read(format!("{}", comparison.notes().len())),
                Err(error) => Seen::read(causes(&error)),
            }
        })
    },
};

pub const LATENCY: Target = Target {
    name: "latency",
    what: "measured times of layers, and the page that shows them",
    seeds: |_| {
        let size = Size::llama_1b();
        let seconds = Seconds { prefill: 0.002, decode: 0.001 };
        let layers = [(Symbol::ATTENTION, seconds), (Symbol::SWIGLU, seconds)].into();
        let times = LayerTimes { timing: Timing { batch: 1, seq_len: 64, repeats: 3 }, layers, ends: seconds };
        json([Latency { device: "CPU".into(), dims: size.dims, times }])
    },
    run: |input, folder| {
        fs::copy(folder.join(crate::INPUT), folder.join(Latency::FILE))?;
        let latency = match Latency::read(folder) {
            Ok(Some(latency)) => latency,
            Ok(None) => anyhow::bail!("the file is not seen"),
            Err(error) => return Seen::refused(error),
        };
        latency.write(folder)?;
        ensure!(Latency::read(folder)?.as_ref() == Some(&latency), "written times read back as others");
        let primitives = Primitives::standard();
        let mut target = Size::llama_1b();
        target.dims = latency.dims.clone();
        let model = target.baseline_model();
        let study = Study::new(SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 2)?, Goal::default());
        let _ = (latency.times.to_string(), input);
        match Page::new(&study).target(&target, &model, &primitives).latency(&latency).html() {
            Ok(page) => Seen::read(if page.contains("Measured on") { "shown" } else { "left out" }),
            Err(error) => Seen::read(causes(&error)),
        }
    },
};

pub const MEGATRON: Target = Target {
    name: "megatron",
    what: "settings of a pre-training with Megatron-LM, and its launch script",
    seeds: |_| json([MegatronTraining::default()]),
    run: |input, _| {
        round_trip::<MegatronTraining>(input, |training| {
            match export::megatron(&Size::llama_1b().model("2A+1B+1M".parse()?), &Primitives::standard(), &training) {
                Ok(script) => {
                    ensure!(script.to_string().contains(&script.pattern), "the script has not the pattern");
                    Seen::read("script")
                }
                Err(error) => Seen::refused(error),
            }
        })
    },
};
