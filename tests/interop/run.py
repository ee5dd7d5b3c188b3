"""Loads the models of cases.rs in transformers and compares what they compute with what the crate computes.

    python tests/interop/run.py                  # from the root of the repository; needs requirements.txt and cargo
    python tests/interop/run.py --write-fixtures # also renews tests/fixtures/interop/logits.safetensors
    python tests/interop/run.py --only stacked flat_mix --no-eval

For every model: logits against ours, generation with a cache against generation without one, batches with left padding
against single texts, a gradient, saving and loading again, and reading what transformers saved with the crate. Then
lm-evaluation-harness, offline, on a task of this folder.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, logging

logging.set_verbosity_error()
logging.disable_progress_bar()
HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TOLERANCE, RECURRENT = 2e-5, 5e-4
KEPT = 8  # positions in the fixtures, as in cases.rs
# Classes bound the steps of Mamba-2 while they read a text, and not while they decode one token (transformers 5.23).
UNBOUNDED_DECODING = {"nemotron_h_steps", "mamba2_alone_steps"}


def cargo(test, **env):
    command = ["cargo", "test", "--release", "--test", "interop", test, "--", "--ignored", "--exact", "--nocapture"]
    subprocess.run(command, cwd=ROOT, env={**os.environ, **{key: str(value) for key, value in env.items()}}, check=True)


def write_tokenizer(folder):
    """One token per printable ASCII character: 128 ids, as the models have."""
    characters = [chr(code) for code in range(32, 127)]
    names = ["<s>", "</s>", "<unk>", *characters]
    names += [f"<unused{at}>" for at in range(128 - len(names))]
    tokenizer = Tokenizer(models.WordLevel({name: at for at, name in enumerate(names)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(["<s>", "</s>", "<unk>"])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def generate(model, ids, **options):
    torch.manual_seed(0)
    return model.generate(ids, max_new_tokens=24, do_sample=False, eos_token_id=None, **options)[0].tolist()


def check(folder):
    """The largest differences; raises where something is not as it must be."""
    load = dict(trust_remote_code=True, dtype=torch.float32)
    model = AutoModelForCausalLM.from_pretrained(folder, **load).eval()
    expected = load_file(f"{folder}.logits.safetensors")
    ids, ours = expected["tokens"], expected["logits"]
    with torch.no_grad():
        logits = model(ids).logits[0]
        found = {"logits": (logits - ours).abs().max().item()}

        # With a cache, token by token, and from the middle.
        if folder.name not in UNBOUNDED_DECODING:
            cache, steps = None, []
            mamba = model.config.model_type == "mamba2"
            name = "cache_params" if mamba else "past_key_values"
            for at in range(ids.shape[1]):
                # Bamba counts positions from the start of each call where it is not told them.
                place = {} if mamba else {"position_ids": torch.tensor([[at]])}
                out = model(ids[:, at : at + 1], use_cache=True, **{name: cache}, **place)
                cache = out[name]
                steps.append(out.logits[0])
            found["cached"] = (torch.cat(steps) - logits).abs().max().item()
            prompt = ids[:, :20]
            assert generate(model, prompt) == generate(model, prompt, use_cache=False), "cached generation differs"

        # Texts of different lengths in one batch.
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
        tokenizer.padding_side = "left"
        texts = ["ab", "a longer text beside it"]
        batch = tokenizer(texts, return_tensors="pt", padding=True)
        batch.pop("token_type_ids", None)
        together = model.generate(**batch, max_new_tokens=8, do_sample=False, eos_token_id=None)
        for text, row in zip(texts, together if folder.name not in UNBOUNDED_DECODING else ()):
            alone = tokenizer([text], return_tensors="pt").input_ids
            alone = model.generate(alone, max_new_tokens=8, do_sample=False, eos_token_id=None)[0]
            assert row[-8:].tolist() == alone[-8:].tolist(), "left padding changes the text"

    model.zero_grad()
    model(ids, labels=ids).loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters() if p.abs().sum() > 0)

    saved = folder.with_name(folder.name + ".resaved")
    shutil.rmtree(saved, ignore_errors=True)
    model.save_pretrained(saved)
    again = AutoModelForCausalLM.from_pretrained(saved, **load).eval()
    with torch.no_grad():
        found["resaved"] = (again(ids).logits[0] - logits).abs().max().item()
    save_file({"logits": logits.contiguous()}, f"{saved}.logits.safetensors")

    fresh = AutoModelForCausalLM.from_config(
        AutoConfig.from_pretrained(folder, trust_remote_code=True), trust_remote_code=True, dtype=torch.float32
    )
    with torch.no_grad():
        assert torch.isfinite(fresh(ids).logits).all(), "a model from the configuration alone is not finite"
    return logits, found


def evaluate(folder):
    """Runs lm-evaluation-harness; its scores."""
    arguments = f"pretrained={folder},trust_remote_code=True,dtype=float32,max_length=512"
    command = [sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", arguments, "--tasks", "letters"]
    command += ["--include_path", str(HERE / "task"), "--device", "cpu", "--batch_size", "2"]
    command += ["--output_path", str(folder.parent / "eval" / folder.name)]
    done = subprocess.run(command, cwd=HERE / "task", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    result = max((folder.parent / "eval" / folder.name).rglob("results_*.json"), key=os.path.getmtime)
    scores = json.loads(result.read_text())["results"]["letters"]
    return {key.split(",")[0]: value for key, value in scores.items() if key.startswith("acc") and "stderr" not in key}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / "target" / "interop")
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--write-fixtures", action="store_true")
    parser.add_argument("--no-eval", action="store_true")
    parser.add_argument("--no-export", action="store_true", help="take the models that are there")
    args = parser.parse_args()
    root = args.folder
    if not args.no_export:
        shutil.rmtree(root, ignore_errors=True)
        write_tokenizer(root / "tokenizer")
        cargo("write_models", INTEROP=root.resolve(), TOKENIZER=root.resolve() / "tokenizer")
    names = sorted(file.name.removesuffix(".logits.safetensors") for file in root.glob("*.logits.safetensors"))
    names = [name for name in names if not name.endswith(".resaved")]
    fixtures = {}
    print("| model | logits | cached | resaved | lm-eval acc |\n|---|---|---|---|---|")
    for name in names:
        if args.only and name not in args.only:
            continue
        folder = root / name
        logits, found = check(folder)
        config = json.loads((folder / "config.json").read_text())
        native = config["model_type"] in ("nemotron_h", "mamba2", "bamba", "granitemoehybrid", "qwen3_next")
        recurrent = native or "linear_attention" in (config.get("layers_cache_type") or [])
        tolerance = RECURRENT if recurrent else TOLERANCE
        fixtures[name] = logits[-KEPT:].contiguous()
        score = "" if args.no_eval else evaluate(folder)["acc"]
        cached = f"{found['cached']:.1e}" if "cached" in found else "-"
        print(f"| {name} | {found['logits']:.1e} | {cached} | {found['resaved']:.1e} | {score} |", flush=True)
        assert max(found.values()) <= tolerance, f"{name}: {found}"
    if args.write_fixtures:
        target = ROOT / "tests" / "fixtures" / "interop" / "logits.safetensors"
        target.parent.mkdir(parents=True, exist_ok=True)
        save_file(fixtures, target)
        target.chmod(0o644)
    for name in fixtures if not args.no_export else []:
        cargo("resaved_models_are_read", RESAVED=root / f"{name}.resaved", LOGITS=root / f"{name}.resaved.logits.safetensors")


if __name__ == "__main__":
    main()
