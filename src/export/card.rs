//! The model card: what the model is, how it was found, and how to load it.

use std::fmt::Write;

use super::{DECI, FLAT, Options, Provenance, SpecialTokens, Warning, config::Chosen};
use crate::{
    cost::{ModelCost, Workload},
    dims::RopeScaling,
    model::ModelSpec,
    primitive::Primitives,
    text::line,
};

/// Returns the README.md of the folder.
pub(super) fn card(
    folder: &str,
    spec: &ModelSpec,
    primitives: &Primitives,
    chosen: &Chosen,
    options: &Options,
    warnings: &[Warning],
) -> String {
    let mut text = format!(
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags:\n- composer-nas\n- hybrid-architecture\n---\n\n\
         # {}\n\n",
        options.name.as_deref().unwrap_or(folder)
    );
    text += &model(spec, primitives, options.max_positions);
    text += &found(options.provenance.as_ref());
    text += &loading(folder, chosen, options.tokens);
    if !warnings.is_empty() {
        let lines = warnings.iter().map(|warning| format!("- {warning}\n"));
        text += &format!("\n## To know\n\n{}", lines.collect::<String>());
    }
    text
}

fn model(spec: &ModelSpec, primitives: &Primitives, positions: usize) -> String {
    let dims = &spec.dims;
    let mut text = format!(
        "A causal language model of {} layers: `{}`. Each letter is one residual block with an RMS norm in front.\n\n",
        spec.architecture.len(),
        spec.architecture
    );
    text += "| letter | layer | count |\n|---|---|---|\n";
    for primitive in primitives.iter().filter(|primitive| spec.architecture.count(primitive.symbol()) > 0) {
        let symbol = primitive.symbol();
        let _ = writeln!(text, "| {symbol} | {} | {} |", primitive.id(), spec.architecture.count(symbol));
    }
    let scaled = dims.rope_scaling.map_or(String::new(), |scaling| {
        let RopeScaling { factor, original_max_position_embeddings: positions, .. } = scaling;
        format!(" (frequencies scaled as in Llama 3, {factor} times beyond {positions} positions)")
    });
    let _ = write!(
        text,
        "\nWidth {}, inner width {}, {} query and {} KV heads of {}, RoPE theta {}{}, {} tokens, {} embeddings.\n",
        dims.d_model,
        dims.d_ff,
        dims.heads,
        dims.kv_heads,
        dims.head_dim,
        dims.rope_theta,
        scaled,
        spec.vocab_size,
        if spec.tied_embeddings { "tied" } else { "untied" },
    );
    if let Ok(cost) = ModelCost::new(spec, primitives, Workload::bf16(positions.max(1) as u64)) {
        let _ = writeln!(
            text,
            "{} parameters, of them {} in the layers; {} bytes of 16-bit cache per token.",
            cost.total_parameters, cost.non_embedding_parameters, cost.cache_bytes_per_token
        );
    }
    text
}

fn found(provenance: Option<&Provenance>) -> String {
    let exporter = env!("CARGO_PKG_VERSION");
    let Some(Provenance { setup, trials, best, small, aggregator, version }) = provenance else {
        return format!("\n## How it was found\n\nNot recorded. Exported by composer-nas {exporter}.\n");
    };
    let space = &setup.space;
    let letters: Vec<_> = setup.primitives.iter().map(|(symbol, id)| format!("{symbol} ({id})")).collect();
    let constraints = match space.config().constraints.len() {
        0 => String::new(),
        count => format!(", {count} constraints"),
    };
    let mut rows = vec![
        ("search space", format!("{} layers of {}{constraints}: {}", space.layers(), letters.join(", "), space.size())),
        ("trials", trials.to_string()),
        ("goal", format!("{:?} {}", setup.goal.direction, setup.goal.score).to_lowercase()),
        ("seed", setup.seed.0.to_string()),
        ("searcher", format!("`{}`", setup.searcher)),
    ];
    if let Some((architecture, score)) = best {
        rows.push(("best trial", format!("`{architecture}` with {score:.4}")));
    }
    rows.extend(aggregator.iter().map(|aggregator| ("aggregated by", format!("`{aggregator}`"))));
    rows.extend(small.iter().map(|small| ("small architecture", format!("`{small}`"))));
    rows.extend(version.iter().map(|version| ("searched by", format!("composer-nas {version}"))));
    rows.push(("exported by", format!("composer-nas {exporter}")));
    let rows: String =
        rows.iter().map(|(what, value)| format!("| {what} | {} |\n", line(value).replace('|', "\\|"))).collect();
    // The evaluator's protocol is long, so it gets its own block.
    format!("\n## How it was found\n\n| | |\n|---|---|\n{rows}\nEvaluated by:\n\n```\n{}\n```\n", setup.evaluator)
}

fn loading(name: &str, chosen: &Chosen, tokens: SpecialTokens) -> String {
    let custom = [DECI, FLAT].contains(&chosen.model_type);
    let trust = if custom { ", trust_remote_code=True" } else { "" };
    let mut text = format!(
        "\n## Use\n\n```python\nfrom transformers import AutoModelForCausalLM\n\n\
         model = AutoModelForCausalLM.from_pretrained(\"{name}\"{trust})\n```\n\n\
         Without weights in the folder, `AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(\"{name}\"{trust}){trust})`\n\
         makes the model with random ones.\n"
    );
    if custom {
        text += "The two Python modules in the folder are the model class; transformers asks before it runs them.\n";
    }
    if tokens.eos.is_none() {
        text += "No end-of-text token is set: pass `eos_token_id` or `max_new_tokens` when generating.\n";
    }
    text
}
