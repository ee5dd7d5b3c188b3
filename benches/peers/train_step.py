"""Tokens per second of the models of benches/train_step.rs in PyTorch on one thread, beside ours.

    cargo bench --bench train_step --no-run      # prints the path of the program
    python3 benches/peers/train_step.py PROGRAM [--rounds 5] [--workload decoder recall copying]

Needs torch. Every round runs our program, PyTorch with its fused attention and PyTorch with plain attention, one after the
other; printed are the medians over the rounds of tokens per second of wall and of CPU time, and of the ratios within a round.
"""

import argparse
import statistics
import subprocess
import time

import torch
from torch import nn
from torch.nn import functional as F

torch.set_num_threads(1)

# name: layers, width, inner width, heads, steps of a run
WORKLOADS = {
    "decoder": ("AMAM", 128, 256, 8, 10),
    "recall": ("AAMMMM", 32, 96, 4, 200),
    "copying": ("AAMMMM", 32, 96, 4, 200),
}


class Attention(nn.Module):
    def __init__(self, width, heads, seq, fused):
        super().__init__()
        self.heads, self.fused = heads, fused
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        c = width // heads
        angles = torch.arange(seq)[:, None] * 10_000.0 ** (-2 * torch.arange(c // 2)[None] / c)
        self.cos, self.sin = (f(angles).repeat(1, 2) for f in (torch.cos, torch.sin))
        self.mask = torch.full((seq, seq), float("-inf")).triu(1)

    def rotate(self, x):
        low, high = x.chunk(2, -1)
        return x * self.cos + torch.cat((-high, low), -1) * self.sin

    def forward(self, x):
        b, s, d = x.shape
        split = lambda y: y.view(b, s, self.heads, d // self.heads).transpose(1, 2)
        q, k, v = self.rotate(split(self.q(x))), self.rotate(split(self.k(x))), split(self.v(x))
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            y = (q @ k.transpose(-1, -2) / (d // self.heads) ** 0.5 + self.mask).softmax(-1) @ v
        return self.o(y.transpose(1, 2).reshape(b, s, d))


class SwiGlu(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.gate, self.up = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Decoder(nn.Module):
    def __init__(self, layers, width, inner, heads, vocab, seq, fused):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        mixer = lambda symbol: Attention(width, heads, seq, fused) if symbol == "A" else SwiGlu(width, inner)
        self.layers = nn.ModuleList(mixer(symbol) for symbol in layers)
        self.norms = nn.ModuleList(nn.RMSNorm(width, eps=1e-5) for _ in layers)
        self.norm, self.head = nn.RMSNorm(width, eps=1e-5), nn.Linear(width, vocab)

    def forward(self, tokens):
        x = self.embedding(tokens)
        for norm, layer in zip(self.norms, self.layers):
            x = x + layer(norm(x))
        return self.head(self.norm(x))


class Torch:
    def __init__(self, workload, fused):
        layers, width, inner, heads, self.vocab, self.batch, self.seq, self.steps = workload
        torch.manual_seed(1)
        self.model = Decoder(layers, width, inner, heads, self.vocab, self.seq, fused)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)

    def run(self):
        """Tokens per second of wall and of CPU time."""
        wall, cpu = time.perf_counter(), time.process_time()
        for step in range(self.steps):
            tokens, targets = torch.randint(self.vocab, (2, self.batch, self.seq))
            loss = F.cross_entropy(self.model(tokens).flatten(0, 1), targets.flatten())
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            if step % 5 == 4:
                loss.item()
        tokens = self.batch * self.seq * self.steps
        return tokens / (time.perf_counter() - wall), tokens / (time.process_time() - cpu)


def ours(program, name, steps):
    line = subprocess.run([program, name, "--brief", str(steps)], check=True, capture_output=True, text=True).stdout
    return tuple(map(float, line.split()[1:]))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workload", nargs="*", default=list(WORKLOADS))
    options = parser.parse_args()
    shapes = subprocess.run([options.program, "--shapes"], check=True, capture_output=True, text=True).stdout.split("\n")
    shapes = {line.split()[0]: tuple(map(int, line.split()[1:])) for line in shapes if line}
    for name in options.workload:
        *model, steps = WORKLOADS[name]
        workload = (*model, *shapes[name], steps)
        peers = {"torch, SDPA": Torch(workload, True), "torch, plain": Torch(workload, False)}
        for peer in peers.values():
            peer.run()
        rounds = [(ours(options.program, name, steps), [peer.run() for peer in peers.values()]) for _ in range(options.rounds)]
        median = lambda values: statistics.median(list(values))
        print(f"{name}: ours {median(o[0] for o, _ in rounds):,.0f} tokens/s, {median(o[1] for o, _ in rounds):,.0f} per CPU second")
        for at, peer in enumerate(peers):
            speed = [median(p[at][kind] for _, p in rounds) for kind in (0, 1)]
            ratio = [median(o[kind] / p[at][kind] for o, p in rounds) for kind in (0, 1)]
            print(f"  {peer}: {speed[0]:,.0f}, {speed[1]:,.0f}; ours is {ratio[0]:.2f}, {ratio[1]:.2f} times as fast")


if __name__ == "__main__":
    main()
