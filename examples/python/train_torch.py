"""Trains one candidate on a token file with PyTorch, as the evaluator of a search:

    search --primitives attention,swiglu,mamba2 --score loss --minimize --workers 2 \\
        --evaluator "python examples/python/train_torch.py --corpus runs/corpus/tokens --steps 500"

The score `loss` is that on validation windows, in nats per token. The layers are plain modules that compute what those
of composer-nas compute; their parameters are counted and compared with the specification. Checkpoints are written
every minute and when the search asks to end; the next attempt goes on from them and ends with the same loss, bit for
bit on one kind of CPU. On a GPU products are computed in bfloat16. Needs torch and numpy.
"""

import argparse
import json
import math
import os
import signal
import time

import numpy
import torch
import torch.nn.functional as F
from torch import nn

import composer_nas
from torch_layers import LAYERS, Norm, start_weights

VALIDATION_SHARE = 0.05


class Model(nn.Module):
    """A language model with one residual block per layer, each with a norm in front."""

    def __init__(self, layers, model):
        super().__init__()
        dims = model["dims"]
        if dims.get("rope_scaling"):
            raise composer_nas.Fatal("rotary frequencies are not scaled here: leave out rope_scaling")
        self.embed = nn.Embedding(model["vocab_size"], dims["d_model"])
        self.norms = nn.ModuleList(Norm(dims["d_model"], dims["norm_eps"]) for _ in layers)
        self.layers = nn.ModuleList(self.build(layer, dims) for layer in layers)
        self.norm = Norm(dims["d_model"], dims["norm_eps"])
        self.head = nn.Linear(dims["d_model"], model["vocab_size"], bias=model["head_bias"])
        start_weights(self, model["init"])
        if model["tied_embeddings"]:
            self.head.weight = self.embed.weight

    @staticmethod
    def build(layer, dims):
        if layer.get("kind") not in LAYERS:
            raise composer_nas.Fatal(f"there is no module here for the layer {layer['id']}")
        built = LAYERS[layer["kind"]](dims, layer.get("options", {}))
        count = sum(parameter.numel() for parameter in built.parameters())
        if count != layer["parameters"]:
            raise composer_nas.Fatal(f"{layer['id']} has {count} parameters here, {layer['parameters']} in the search")
        return built

    def forward(self, tokens):
        x = self.embed(tokens)
        for norm, layer in zip(self.norms, self.layers):
            x = x + layer(norm(x))
        return self.head(self.norm(x))


def tokens_of(corpus, vocabulary):
    """The tokens of a corpus, not read into memory. The folder of an import (corpus.json and tokens.bin) or a .bin file:
    Megatron's with its .idx, llm.c's, or a plain one with 16 bits for up to 65,536 ids and 32 above."""
    path = corpus
    if os.path.isdir(corpus):
        with open(os.path.join(corpus, "corpus.json"), encoding="utf-8") as file:
            known = json.load(file)["vocab_size"]
        if known > vocabulary:
            raise composer_nas.Fatal(f"{corpus} has {known} token ids, candidates have {vocabulary}: give --candidates "
                                     "with a vocab_size of at least that")
        path = os.path.join(corpus, "tokens.bin")
        return numpy.memmap(path, "<u2" if known <= 1 << 16 else "<u4", "r")
    index = os.path.splitext(path)[0] + ".idx"
    if os.path.exists(index):
        with open(index, "rb") as file:
            header = file.read(18)
        if len(header) < 18 or header[:9] != b"MMIDIDX\0\0":
            raise composer_nas.Fatal(f"{index} is no index of Megatron-LM")
        kinds = {1: "u1", 8: "<u2", 4: "<i4", 5: "<i8"}
        if header[17] not in kinds:
            raise composer_nas.Fatal(f"{index} names the type {header[17]}, which is none of tokens")
        return numpy.memmap(path, kinds[header[17]], "r")
    magic = numpy.fromfile(path, "<i4", 1)
    if len(magic) and magic[0] in (20240520, 20240801):
        return numpy.memmap(path, "<u2" if magic[0] == 20240520 else "<u4", "r", offset=1024)
    return numpy.memmap(path, "<u2" if vocabulary <= 1 << 16 else "<u4", "r")


class Windows:
    """Windows of equal length. The last share is for validation; which of the others a step sees is a function of seed
    and step, so that a checkpoint need not hold any state of the data."""

    def __init__(self, tokens, length, seed):
        self.tokens, self.length, self.seed = tokens, length, seed
        count = (len(tokens) - 1) // length
        self.validation = max(1, int(count * VALIDATION_SHARE))
        self.training = count - self.validation
        if self.training < 1:
            raise composer_nas.Fatal(f"{len(tokens)} tokens are too few for windows of {length}")
        self.epoch = None

    def batch(self, step, size):
        return self.read(self.place(step * size + at) for at in range(size))

    def validations(self, size, most):
        windows = range(self.training, self.training + min(self.validation, most))
        return [self.read(windows[at : at + size]) for at in range(0, len(windows), size)]

    def place(self, index):
        epoch, place = divmod(index, self.training)
        if self.epoch != epoch:
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % (1 << 63))
            self.epoch, self.order = epoch, torch.randperm(self.training, generator=generator)
        return int(self.order[place])

    def read(self, windows):
        starts = [window * self.length for window in windows]
        rows = [self.tokens[start : start + self.length + 1].astype(numpy.int64) for start in starts]
        return torch.from_numpy(numpy.stack(rows))


def learning_rate(step, arguments):
    """Warm-up over a twentieth of the steps, then a cosine to a tenth of the highest rate."""
    warm_up = max(1, arguments.steps // 20)
    if step < warm_up:
        return arguments.learning_rate * (step + 1) / warm_up
    done = (step - warm_up) / max(1, arguments.steps - warm_up)
    return arguments.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


class Trainer:
    def __init__(self, trial, arguments):
        self.trial, self.arguments = trial, arguments
        self.device = torch.device(arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.set_num_threads(trial.threads)
        torch.manual_seed(trial.seed)
        self.model = Model(trial.layers, trial.model).to(self.device)
        vocabulary = trial.model["vocab_size"]
        self.windows = Windows(tokens_of(arguments.corpus, vocabulary), arguments.seq_len, trial.seed)
        matrices = [p for p in self.model.parameters() if p.dim() >= 2]
        vectors = [p for p in self.model.parameters() if p.dim() < 2]
        groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=arguments.learning_rate, betas=(0.9, 0.95))
        self.step = 0
        self.file = trial.file("checkpoint.pt")
        if os.path.exists(self.file):
            kept = torch.load(self.file, map_location=self.device, weights_only=True)
            self.model.load_state_dict(kept["model"])
            self.optimizer.load_state_dict(kept["optimizer"])
            self.step = kept["step"]
            print(f"goes on after step {self.step}")

    def keep(self):
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self.step}
        composer_nas.keep(self.file, lambda part: torch.save(state, part))

    def loss(self, windows):
        windows = windows.to(self.device)
        with torch.autocast("cuda", torch.bfloat16, enabled=self.device.type == "cuda"):
            logits = self.model(windows[:, :-1])
        return F.cross_entropy(logits.float().flatten(0, 1), windows[:, 1:].flatten())

    @torch.no_grad()
    def validate(self):
        batches = self.windows.validations(self.arguments.batch_size, self.arguments.validation_windows)
        weighed = [(float(self.loss(windows)) * len(windows), len(windows)) for windows in batches]
        return sum(loss for loss, _ in weighed) / sum(count for _, count in weighed)

    def train_a_step(self):
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.arguments)
        loss = self.loss(self.windows.batch(self.step, self.arguments.batch_size))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        return float(loss.detach())

    def run(self):
        arguments, trial = self.arguments, self.trial
        asked_to_end = []
        signal.signal(signal.SIGTERM, lambda *_: asked_to_end.append(True))
        kept = time.monotonic()
        every = max(1, arguments.steps // 10)
        while self.step < arguments.steps:
            loss = self.train_a_step()
            if not math.isfinite(loss):
                return {"loss": math.nan}, {}
            if self.step % every == 0 or self.step == arguments.steps:
                trial.progress(self.step, arguments.steps, self.validate(), "training")
            if asked_to_end or time.monotonic() - kept > arguments.keep_seconds:
                self.keep()
                kept = time.monotonic()
            if asked_to_end:
                raise composer_nas.Transient(f"asked to end after step {self.step}")
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        tokens = arguments.steps * arguments.batch_size * arguments.seq_len
        loss = self.validate()
        if os.path.exists(self.file):
            os.remove(self.file)  # thousands of trials fill a disk otherwise
        return {"loss": loss}, {"parameters": parameters, "train_flops": 6.0 * parameters * tokens}


def main():
    parser = argparse.ArgumentParser(description="Trains one candidate of a search on a token file.")
    parser.add_argument("--corpus", required=True, help="folder of an imported corpus, or a .bin file")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seq-len", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="the highest, after the warm-up")
    parser.add_argument("--validation-windows", type=int, default=64)
    parser.add_argument("--keep-seconds", type=float, default=60, help="time between two checkpoints")
    parser.add_argument("--device", help="cuda where there is one, otherwise cpu")
    parser.add_argument("spec", help="written by the search")
    arguments = parser.parse_args()
    composer_nas.run(lambda trial: Trainer(trial, arguments).run())


if __name__ == "__main__":
    main()
